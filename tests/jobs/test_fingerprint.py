"""Hashes of estimators and rows: equal where nothing that matters differs, and only there."""

import cmath
import math
import os
import pickle
import subprocess
import sys
import types
from collections import OrderedDict

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import BaseEstimator, clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import BallTree, KDTree, KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from skorch import NeuralNetClassifier
from skorch.dataset import Dataset

from smoothlearn import (
    DEENDenoiser,
    EmpiricalBayesSmoothedClassifier,
    LocallyBiasedSmoother,
    ParzenDenoiser,
    RandomizedSmoothingClassifier,
)
from smoothlearn.jobs.fingerprint import hash_object, hash_rows


def net(**params):
    module = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    return NeuralNetClassifier(module, max_epochs=1, verbose=0, **params)


def smoother(base, **params):
    return RandomizedSmoothingClassifier(base, random_state=0, **params)


SCRIPT = """
import functools, threading
import torch
import other

SCALE = 1.0
KINDS = {"a", "b", "c"}
WEIGHTS = torch.ones(2)
LOCK = threading.Lock()

def twice(x):
    return 2 * (x if x is None else again(x))

def again(x):
    return x if SCALE else twice(x)

@functools.lru_cache
def cached(n):
    return n + 3

def unused(x):
    return x + 4

class Base(torch.nn.Module):
    def start(self, x):
        with LOCK:
            return x - 5

class Module(Base):
    cutoff = 6
    keyed = lambda left, right: left - right

    @functools.cached_property
    def depth(self):
        return 11

    @property
    def slope(self):
        return 7

    @staticmethod
    def fixed(x, /, by=8):
        return [x for kind in KINDS if kind in {"d", "e", "f"}], by

    def forward(self, x):
        try:
            return max(twice(x), self.start(x), key=lambda y: WEIGHTS) + other.shift(cached(x))
        except ValueError:
            return None

net = Module()
"""


NAMES = "script", "other"
OTHER = """
CONSTANT = 9
UNUSED = 10

def shift(x):
    return x + CONSTANT
"""


def script(old="", new=""):
    """What a script makes, run from a file of another name in every process."""
    assert (SCRIPT + OTHER).count(old) == 1 or not old
    made, other = (sys.modules.setdefault(name, types.ModuleType(name)) for name in NAMES)
    try:
        for module, source in ((other, OTHER), (made, SCRIPT)):
            edited = source.replace(old, new) if old else source
            exec(compile(edited, __name__, "exec"), vars(module))
    finally:
        for name in NAMES:
            del sys.modules[name]
    return made.net


def make_models():
    torch.manual_seed(0)  # weights of the module that is given to the net
    return {
        "linear": make_pipeline(StandardScaler(), smoother(LogisticRegression())),
        "net": smoother(net()),
        "forest": smoother(RandomForestClassifier(5)),
        "neighbours": smoother(KNeighborsClassifier(algorithm="kd_tree")),
        "search": smoother(GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]})),
        "deen": EmpiricalBayesSmoothedClassifier(
            LogisticRegression(), denoiser=DEENDenoiser(max_epochs=1), random_state=0
        ),
        "parzen": EmpiricalBayesSmoothedClassifier(
            LogisticRegression(), denoiser=ParzenDenoiser(), random_state=0
        ),
        "biased": LocallyBiasedSmoother(net(), random_state=0),
    }


def fitted(name):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 2)).astype(np.float32), np.arange(60) % 2
    return make_models()[name].fit(X, y)


def hashes():
    words = {"script": hash_object(script())}
    words |= {"set": hash_object(set("abcdefgh")), "dict": hash_object(dict.fromkeys(set("abcd")))}
    return {name: hash_object(fitted(name)) for name in make_models()} | words


def test_fits_in_another_process_have_the_same_hash():
    code = f"""
import importlib.util, sys, torch
torch.set_num_threads(1)
spec = importlib.util.spec_from_file_location("there", {__file__!r})
there = importlib.util.module_from_spec(spec)
sys.modules["there"] = there
spec.loader.exec_module(there)
print(there.hashes())
"""
    env = os.environ | {"PYTHONHASHSEED": "7"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True
    )
    here = hashes()
    assert done.stdout.strip() == repr(here)
    assert len(set(here.values())) == len(here)


@pytest.mark.parametrize("name", sorted(make_models()))
def test_copies_and_settings_that_do_not_matter(name):
    model = fitted(name)
    before = hash_object(model)
    assert hash_object(pickle.loads(pickle.dumps(model))) == before
    final = model[-1] if hasattr(model, "steps") else model
    given = final.get_params()
    quiet = {key: 3 for key in ("n_jobs", "verbose") if key in given}
    final.set_params(**quiet, **({"device": "cuda"} if "device" in given else {}))
    assert hash_object(model) == before
    rows = np.zeros((2, 2), dtype=np.float32)
    final.set_params(**{key: given[key] for key in ("n_jobs", "verbose", "device") if key in given})
    model.predict(rows)
    final.certify(rows)
    assert hash_object(model) == before


@pytest.mark.parametrize("name", sorted(make_models()))
def test_what_matters_changes_the_hash(name):
    model = fitted(name)
    before = hash_object(model)
    final = model[-1] if hasattr(model, "steps") else model
    changed = "alpha" if name == "biased" else "n_certify_draws"
    given = getattr(final, changed)
    setattr(final, changed, given + 1)
    assert hash_object(model) != before
    setattr(final, changed, given)
    assert hash_object(model) == before
    if name == "biased":
        final.bias_points_[0, 0] += 1
    else:
        final.noise_seed_ += 1
    assert hash_object(model) != before


def test_weights_of_nets_and_energies_count():
    model = fitted("net")
    before = hash_object(model)
    with torch.no_grad():
        model.estimator_.module_[2].bias += 1e-6
    assert hash_object(model) != before
    assert hash_object(clone(model)) != before
    layers = {"a": torch.nn.Tanh(), "b": torch.nn.ReLU()}
    one, other = OrderedDict(layers), OrderedDict(reversed(layers.items()))
    assert hash_object(torch.nn.Sequential(one)) != hash_object(torch.nn.Sequential(other))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("max(", "min("), ("SCALE = 1.0", "SCALE = -1.0"), ('"c"', '"g"'), ("ones(2)", "zeros(2)"),
        ("2 * (", "3 * ("), ("is None", "is not None"), ("n + 3", "n + 2"), ("x - 5", "x + 5"),
        ("cutoff = 6", "cutoff = 5"), ("return 7", "return 6"), ("return 11", "return 12"),
        ("by=8", "by=9"), ('"f"', '"g"'),
        ("CONSTANT = 9", "CONSTANT = 8"), ("x + CONSTANT", "x - CONSTANT"),
        ("left, right: left - right", "right, left: right - left"), ("x, /", "x"),
        ("(Base)", "(Base, object)"), ("key=lambda y", "key=lambda *y"),
        ("except ValueError", "except TypeError"),
    ],
)  # fmt: skip
def test_code_of_the_user_that_is_called_counts(old, new):
    assert hash_object(script(old, new)) != hash_object(script())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x + 4", "x - 4"), ("UNUSED = 10", "UNUSED = 11"), ("SCALE =", "\n\n# one\nSCALE ="),
        ("LOCK = threading.Lock()", "LOCK = threading.Lock(); LOCK.acquire()"),
    ],
)  # fmt: skip
def test_code_that_is_not_called_and_lines_do_not(old, new):
    assert hash_object(script(old, new)) == hash_object(script())


def test_classes_of_the_user_count_behind_those_made_by_packages():
    def made(net):
        return type("Made", (type(net),), {"__module__": "torch"})()

    assert hash_object(made(script("cutoff = 6", "cutoff = 5"))) != hash_object(made(script()))


def test_code_of_the_program_counts_whatever_runs_it(monkeypatch):
    monkeypatch.setattr(sys.modules["__main__"], "__file__", torch.__file__, raising=False)
    code = (lambda: SCALE).__code__  # noqa: F821
    one, two = (types.FunctionType(code, {"__name__": "__main__", "SCALE": n}) for n in (1, 2))
    assert hash_object(one) != hash_object(two)


class Cut(NeuralNetClassifier):
    cutoff = 0.5

    def predict(self, X):
        return (self.predict_proba(X)[:, 1] > self.cutoff).astype(int)

    def initialize_module(self):
        super().initialize_module()
        self.encoder_ = torch.nn.Linear(2, 2)
        return self


@pytest.mark.parametrize(
    "change",
    [
        lambda net: setattr(net, "cutoff", 0.9),
        lambda net: net.encoder_.bias.data.add_(1),
        lambda net: setattr(net, "dataset", type("Shifted", (Dataset,), {})),
        lambda net: setattr(net, "dataset__length", 3),
        lambda net: setattr(net, "iterator_valid__collate_fn", np.negative),
        lambda net: setattr(net, "predict_nonlinearity", np.negative),
        lambda net: setattr(net, "classes", [1, 0]),
        lambda net: setattr(net, "criterion_", torch.nn.CrossEntropyLoss()),
    ],
)
def test_all_that_a_net_may_predict_with_counts(change):
    model = Cut(torch.nn.Linear(2, 2), verbose=0).initialize()
    before = hash_object(model)
    model.verbose, model.device, model.callbacks__print_log = 1, "cuda", None
    model.train_split, model.history_, model.optimizer_ = None, [{"dur": 2}], None
    assert hash_object(model) == before
    change(model)
    assert hash_object(model) != before


class Remembers(torch.nn.Module):
    def __init__(self, memory):
        super().__init__()
        self.memory = memory


class RemembersToo(BaseEstimator):
    def __init__(self, memory):
        self.memory = memory


@pytest.mark.parametrize("kind", [Remembers, RemembersToo])
def test_attributes_of_the_user_count_whatever_their_names(kind):
    assert hash_object(kind(torch.ones(2))) != hash_object(kind(-torch.ones(2)))
    assert hash_object(kind(Remembers(1).train())) == hash_object(kind(Remembers(1).eval()))


@pytest.mark.parametrize("kind", [KDTree, BallTree])
def test_the_metric_of_a_tree_counts(kind):
    X = np.random.default_rng(0).standard_normal((50, 2))
    metrics = [{}, {"metric": "chebyshev"}, *({"metric": "minkowski", "p": p} for p in (3, 4))]
    assert len({hash_object(kind(X, **metric)) for metric in metrics}) == len(metrics)
    asked = kind(X)
    asked.query(X)
    assert hash_object(asked) == hash_object(kind(X))


def test_things_of_many_kinds():
    def named(shift):
        return lambda X: X + shift

    def emptied():
        x = 1
        inner = lambda: x  # noqa: E731, F821
        del x
        return inner

    loop = [1]
    loop.append(loop)
    other = [2]
    other.append(other)
    things = [
        None, True, 1, 1.0, "1", b"1", (1,), [1], {1}, {1: 2}, {2: 1}, loop, other,
        emptied(), named(1), named(2), lambda X: X * 2, lambda X: X * 3, np.sum, np.log,
        math.sin, cmath.sin, int, np, "abc".upper, "abd".upper, slice(2), range(3),
        np.dtype("f4"), torch.float32, torch.ones(2), torch.ones(2, dtype=torch.bfloat16),
        torch.ones(1, 2), np.float32(1), np.ones(2), np.ones((1, 2)),
        np.array(["a", "b"], object), np.array(["b", "a"], object),
        sp.csr_array([[0, 1]]), sp.csr_array([[1, 0]]), FunctionTransformer(np.log),
        FunctionTransformer(np.exp), FrozenEstimator(StandardScaler()), StandardScaler(),
        np.random.RandomState(0), np.random.RandomState(1),
    ]  # fmt: skip
    assert len({hash_object(thing) for thing in things}) == len(things)
    shared = np.ones(3)
    assert hash_object([shared, shared]) == hash_object([np.ones(3), np.ones(3)])
    assert hash_object({"a": 1, "b": 2}) == hash_object({"b": 2, "a": 1})
    assert hash_object(np.asfortranarray(np.eye(2, 3))) == hash_object(np.eye(2, 3))
    assert hash_object(torch.device("cpu")) == hash_object(torch.device("cuda"))


def test_what_cannot_be_read_is_named():
    def generator():
        yield 1

    with pytest.raises(TypeError, match="a generator in it does not let itself be read"):
        hash_object([generator()])


def test_rows_by_their_content(tmp_path):
    X = np.random.default_rng(0).standard_normal((50, 3))
    same = hash_rows(X)
    X.tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", dtype=float, shape=X.shape, mode="r")
    assert hash_rows(mapped) == hash_rows(np.asfortranarray(X)) == same
    other = X.copy()
    other[49, 2] += 1e-9
    names = ["a", "b", "c"]
    frame = pd.DataFrame(X, columns=names)
    kinds = [
        X, other, X[:49], X.astype(np.float32), X.reshape(-1, 5), sp.csr_array(X),
        sp.csr_array(other), frame, frame[["b", "a", "c"]], frame.rename(columns={"a": "d"}),
        frame.assign(c=other[:, 2]), frame.astype({"a": np.float32}), frame.astype(str),
        pl.DataFrame(X, schema=names),
    ]  # fmt: skip
    assert len({hash_rows(kind) for kind in kinds}) == len(kinds)
    assert hash_rows(frame.copy()) == hash_rows(frame)
