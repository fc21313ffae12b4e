"""Hashes of estimators and rows: equal where nothing that matters differs, and only there."""

import cmath
import math
import os
import pickle
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from skorch import NeuralNetClassifier

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
    words = {"set": hash_object(set("abcdefgh")), "dict": hash_object(dict.fromkeys(set("abcd")))}
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


def test_things_of_many_kinds():
    def named(shift):
        return lambda X: X + shift

    loop = [1]
    loop.append(loop)
    other = [2]
    other.append(other)
    things = [
        None, True, 1, 1.0, "1", b"1", (1,), [1], {1}, {1: 2}, {2: 1}, loop, other,
        named(1), named(2), lambda X: X * 2, lambda X: X * 3, np.sum, np.log, math.sin, cmath.sin,
        int, np, "abc".upper, "abd".upper, slice(2), range(3), np.dtype("f4"), torch.float32,
        torch.ones(2), torch.ones(2, dtype=torch.bfloat16), torch.ones(1, 2), np.float32(1),
        np.ones(2), np.ones((1, 2)), np.array(["a", "b"], object), np.array(["b", "a"], object),
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
