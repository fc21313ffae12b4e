"""Hashes of fitted estimators and of rows, equal in every process that has the same."""

from __future__ import annotations

import dis
import hashlib
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.metrics import DistanceMetric
from sklearn.neighbors import BallTree, KDTree
from skorch import NeuralNet

#: Attributes of estimators that say how something was or will be computed, not what.
_NO_MATTER = frozenset(
    {
        "n_jobs", "verbose", "device", "memory", "pre_dispatch",
        "history_", "cv_results_", "refit_time_", "_sklearn_version",
    }
)  # fmt: skip

#: The same of nets, and what they do not predict with.
_OF_TRAINING = frozenset(
    {
        "device", "verbose",
        "callbacks", "history", "iterator_train", "optimizer", "train_split",
    }
)  # fmt: skip

#: What Python writes about a class, besides what was written in it.
_ABOUT_CLASSES = frozenset(
    {
        "__annotate__", "__annotate_func__", "__annotations__", "__annotations_cache__",
        "__dict__", "__doc__", "__firstlineno__", "__module__", "__static_attributes__",
        "__weakref__",
    }
)  # fmt: skip

#: Packages that are not the user's code wherever they lie.
_KNOWN = frozenset({"smoothlearn", "joblib", "numpy", "scipy", "sklearn", "skorch", "torch"})

_STDLIB = Path(sysconfig.get_path("stdlib"))

_ENTRIES = 2**21


def hash_object(thing: Any) -> str:
    """A hash of what a fitted estimator has learned and was told, and of the user's code in it.

    Not of ``n_jobs``, ``verbose`` and ``device``, nor of how long anything took. Equal objects have
    one hash whether they are one object or copies. The user's functions and classes count with
    their bytecode and the globals they name; those of installed packages with their names.

    Raises
    ------
    TypeError
        If some part of it cannot be read.
    """
    walk = _Walk()
    return _joined("whole", [walk.digest(thing), *walk.code()]).hex()


def hash_rows(X: Any) -> str:
    """A hash of the rows of an array, a sparse matrix or a frame, read a few at a time."""
    digest = _new(type(X).__module__.partition(".")[0] if hasattr(X, "columns") else "array")
    digest.update(repr(X.shape).encode())
    walk = _Walk()
    if hasattr(X, "columns"):
        digest.update(walk.digest([str(name) for name in X.columns]))
    step = max(1, _ENTRIES // max(1, *X.shape[1:]))
    for start in range(0, X.shape[0], step):
        rows = X.iloc[start : start + step] if hasattr(X, "iloc") else X[start : start + step]
        for part in _columns(rows):
            digest.update(walk.digest(part))
    return digest.hexdigest()


def _columns(rows: Any) -> Iterable[NDArray[Any]]:
    if hasattr(rows, "columns"):
        return (rows[name].to_numpy() for name in rows.columns)
    return (rows.data, rows.indices, rows.indptr) if issparse(rows) else (np.asarray(rows),)


def _new(kind: str) -> Any:
    """A hash that begins with what kind of thing it is of."""
    digest = hashlib.blake2b(digest_size=32)
    digest.update(f"{kind}\n".encode())
    return digest


def _joined(kind: str, parts: Iterable[bytes]) -> bytes:
    digest = _new(kind)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return bytes(digest.digest())


def _is_users(module: object) -> bool:
    """Whether a module is not of Python, nor of an installed package."""
    name = str(module)
    if name == "__main__":
        return True
    if name.partition(".")[0] in _KNOWN:
        return False
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:
        return name not in sys.stdlib_module_names
    installed = {"site-packages", "dist-packages"} & set(Path(file).parts)
    return not installed and not Path(file).is_relative_to(_STDLIB)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code of a function and of those written in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _from_outside(function: FunctionType) -> dict[str, Any]:
    """The globals a function names, and what it may take from those that are modules."""
    codes = list(_codes(function.__code__))
    used = {
        step.argval
        for code in codes
        for step in dis.get_instructions(code)
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
    }
    found = {name: function.__globals__[name] for name in used & function.__globals__.keys()}
    names = {name for code in codes for name in code.co_names}
    modules = [value for value in found.values() if isinstance(value, ModuleType)]
    for module in modules:  # which grows
        if not _is_users(module.__name__):
            continue
        inside = {name: vars(module)[name] for name in names & vars(module).keys()}
        found |= {f"{module.__name__}.{name}": value for name, value in inside.items()}
        others = (value for value in inside.values() if isinstance(value, ModuleType))
        modules += [other for other in others if other not in modules]
    return found


def _inside(function: FunctionType) -> list[Any]:
    """What is in the closure of a function, where it has been put there yet."""
    empty = CellType()
    return [cell.cell_contents for cell in function.__closure__ or () if cell != empty]


def _name(thing: Any) -> str:
    parts = (getattr(thing, part, None) for part in ("__module__", "__qualname__", "__name__"))
    return ".".join(part for part in parts if isinstance(part, str))


def _not_of_results(thing: Any) -> frozenset[str]:
    """Attributes that say how something is computed: those of others' classes may say what."""
    ours = type(thing).__module__.partition(".")[0] in ("sklearn", "smoothlearn")
    names = _NO_MATTER if ours else frozenset()
    return names | {"training"} if isinstance(thing, torch.nn.Module) else names


def _state_of_net(net: NeuralNet) -> dict[str, Any]:
    """All that a net may predict with, its module and criterion only as initialized."""
    twice = {name for name in ("module", "criterion") if f"{name}_" in vars(net)}
    return {
        name: value
        for name, value in vars(net).items()
        if name not in twice and name.partition("__")[0].removesuffix("_") not in _OF_TRAINING
    }


class _Walk:
    """Digests of things and of what they are made of, each once on every path."""

    def __init__(self) -> None:
        self._above: list[int] = []
        self._written: list[Any] = []
        self._seen: dict[int, Any] = {}
        self._mentions: dict[int, bytes] = {}

    def digest(self, thing: Any) -> bytes:
        if id(thing) in self._above:
            return _joined("above", [str(self._above.index(id(thing))).encode()])
        self._above.append(id(thing))
        try:
            return self._digest(thing)
        finally:
            self._above.pop()

    def code(self) -> list[bytes]:
        """Digests of all of the user's functions and classes that were met, in one order."""
        return sorted([self._code_of(thing) for thing in self._written])  # which grows

    def _meet(self, thing: Any, module: object) -> None:
        """Note a function or class, if it is the user's, to be digested later and once."""
        if id(thing) not in self._seen:
            self._seen[id(thing)] = thing
            if _is_users(module):
                self._written.append(thing)

    def _meet_class(self, thing: type) -> None:
        if id(thing) not in self._seen:
            for kind in thing.__mro__:
                self._meet(kind, kind.__module__)

    def _code_of(self, thing: Any) -> bytes:
        if isinstance(thing, FunctionType):
            inside, first = _from_outside(thing), self._code(thing.__code__)
        else:
            inside, first = dict(vars(thing)), self.digest(thing.__bases__)
        values = (
            self.digest(name) + self._mentioned(value)
            for name, value in inside.items()
            if name not in _ABOUT_CLASSES
        )
        return _joined(_name(thing), [first, *sorted(values)])

    def _mentioned(self, value: Any) -> bytes:
        """The digest of what code refers to; of what does not let itself be read, its class."""
        if id(value) not in self._mentions:
            try:
                self._mentions[id(value)] = self.digest(value)
            except Exception:
                self._mentions[id(value)] = self.digest(type(value))
        return self._mentions[id(value)]

    def _digest(self, thing: Any) -> bytes:
        kind = type(thing).__name__
        self._meet_class(type(thing))
        if isinstance(thing, np.ndarray | np.generic):
            return self._array(np.asarray(thing))
        if isinstance(thing, torch.Tensor):
            flat = thing.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            return _joined(f"{thing.dtype} {tuple(thing.shape)}", [self._array(flat)])
        if thing is None or isinstance(thing, bool | int | float | complex | str | bytes):
            return _joined(kind, [repr(thing).encode("utf-8", "surrogatepass")])
        if isinstance(thing, list | tuple):
            return _joined(kind, map(self.digest, thing))
        if isinstance(thing, set | frozenset):
            return _joined(kind, sorted(map(self.digest, thing)))
        if isinstance(thing, dict):
            items = (self.digest(key) + self.digest(value) for key, value in thing.items())
            return _joined(kind, sorted(items))
        if isinstance(thing, type | FunctionType | np.ufunc | ModuleType):
            return self._named(thing)
        return self._object(thing)

    def _array(self, array: NDArray[Any]) -> bytes:
        if array.dtype.hasobject:
            return _joined(f"array {array.shape}", map(self.digest, array.ravel().tolist()))
        digest = _new(f"{array.dtype.descr} {array.shape}")
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        return bytes(digest.digest())

    def _named(self, thing: Any) -> bytes:
        if isinstance(thing, type):
            self._meet_class(thing)
        if not isinstance(thing, FunctionType):
            return _joined(_name(thing), [])
        self._meet(thing, thing.__globals__.get("__name__"))
        given = self.digest([thing.__defaults__, thing.__kwdefaults__, _inside(thing)])
        return _joined(_name(thing), [self._code(thing.__code__), given])

    def _code(self, code: CodeType) -> bytes:
        constants = [
            self._code(constant) if isinstance(constant, CodeType) else self.digest(constant)
            for constant in code.co_consts
        ]
        arguments = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)
        told = self.digest((code.co_names, code.co_varnames, arguments, code.co_exceptiontable))
        return _joined("code", [code.co_code, told, *constants])

    def _object(self, thing: Any) -> bytes:
        """By its class and what it would be pickled as."""
        if issparse(thing):
            thing = thing.tocoo()
            return self.digest((thing.shape, thing.data, *thing.coords))
        if isinstance(thing, NeuralNet):
            return self.digest((type(thing), _state_of_net(thing)))
        if isinstance(thing, KDTree | BallTree):  # which count their queries
            metric = [part for part in thing.__getstate__() if isinstance(part, DistanceMetric)]
            return self.digest((type(thing), np.asarray(thing.data), metric))
        if isinstance(thing, torch.device):
            return _joined("device", [])
        if isinstance(thing, MethodType):
            return self.digest((thing.__func__, thing.__self__))
        if isinstance(thing, staticmethod | classmethod):
            return self.digest((type(thing), thing.__func__))
        if isinstance(thing, property):
            return self.digest((type(thing), thing.fget))
        try:
            reduced = thing.__reduce_ex__(4)
        except Exception as error:
            raise TypeError(
                f"checkpoint needs a hash of the fitted estimator, and a {type(thing).__name__} in "
                "it does not let itself be read; certify without checkpoint"
            ) from error
        if isinstance(reduced, str):
            name = f"{getattr(thing, '__module__', '')}.{reduced}"
            return _joined(name, [self.digest(getattr(thing, "__wrapped__", None))])
        make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        if isinstance(state, dict):
            left_out = _not_of_results(thing)
            state = {name: value for name, value in state.items() if name not in left_out}
        parts = [make, arguments, state, list(items or ()), list(pairs or ())]
        if isinstance(thing, torch.nn.Module):
            parts.append([name for name, _ in thing.named_children()])  # their order counts
        return _joined("object", map(self.digest, parts))
