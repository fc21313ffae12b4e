"""Hashes of fitted estimators and of rows, equal in every process that has the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.neighbors import BallTree, KDTree
from skorch import NeuralNet

#: Attributes of estimators and modules that say how something was or will be computed, not what.
_NO_MATTER = frozenset(
    {
        "n_jobs", "verbose", "device", "memory", "pre_dispatch", "training",
        "history_", "cv_results_", "refit_time_", "_sklearn_version",
    }
)  # fmt: skip

_ENTRIES = 2**21

#: What else than its module makes the predictions of a net.
_OF_NETS = "criterion", "predict_nonlinearity", "threshold"


def hash_object(thing: Any) -> str:
    """A hash of what a fitted estimator has learned and was told.

    Not of ``n_jobs``, ``verbose`` and ``device``, nor of how long anything took. Equal objects have
    one hash whether they are one object or copies; of a net the module counts.

    Raises
    ------
    TypeError
        If some part of it cannot be read.
    """
    return _Walk().digest(thing).hex()


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


class _Walk:
    """Digests of things and of what they are made of, each once on every path."""

    def __init__(self) -> None:
        self._above: list[int] = []

    def digest(self, thing: Any) -> bytes:
        if id(thing) in self._above:
            return self._joined("above", [str(self._above.index(id(thing))).encode()])
        self._above.append(id(thing))
        try:
            return self._digest(thing)
        finally:
            self._above.pop()

    def _digest(self, thing: Any) -> bytes:
        kind = type(thing).__name__
        if isinstance(thing, np.ndarray | np.generic):
            return self._array(np.asarray(thing))
        if isinstance(thing, torch.Tensor):
            flat = thing.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
            return self._joined(f"{thing.dtype} {tuple(thing.shape)}", [self._array(flat)])
        if thing is None or isinstance(thing, bool | int | float | complex | str | bytes):
            return self._joined(kind, [repr(thing).encode("utf-8", "surrogatepass")])
        if isinstance(thing, list | tuple):
            return self._joined(kind, map(self.digest, thing))
        if isinstance(thing, set | frozenset):
            return self._joined(kind, sorted(map(self.digest, thing)))
        if isinstance(thing, dict):
            items = (self.digest(key) + self.digest(value) for key, value in thing.items())
            return self._joined(kind, sorted(items))
        if isinstance(thing, type | FunctionType | np.ufunc | ModuleType):
            return self._named(thing)
        return self._object(thing)

    def _joined(self, kind: str, parts: Iterable[bytes]) -> bytes:
        digest = _new(kind)
        for part in parts:
            digest.update(len(part).to_bytes(8, "little") + part)
        return bytes(digest.digest())

    def _array(self, array: NDArray[Any]) -> bytes:
        if array.dtype.hasobject:
            return self._joined(f"array {array.shape}", map(self.digest, array.ravel().tolist()))
        digest = _new(f"{array.dtype.descr} {array.shape}")
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        return bytes(digest.digest())

    def _named(self, thing: Any) -> bytes:
        name = ".".join(str(getattr(thing, part, None)) for part in ("__module__", "__qualname__"))
        if not isinstance(thing, FunctionType):
            return self._joined(name, [])
        cells = [cell.cell_contents for cell in thing.__closure__ or ()]
        given = self.digest([thing.__defaults__, thing.__kwdefaults__, cells])
        return self._joined(name, [self._code(thing.__code__), given])

    def _code(self, code: CodeType) -> bytes:
        constants = [
            self._code(constant) if isinstance(constant, CodeType) else self.digest(constant)
            for constant in code.co_consts
        ]
        return self._joined("code", [code.co_code, self.digest(code.co_names), *constants])

    def _object(self, thing: Any) -> bytes:
        """By its class and what it would be pickled as."""
        if issparse(thing):
            thing = thing.tocoo()
            return self.digest((thing.shape, thing.data, *thing.coords))
        if isinstance(thing, NeuralNet):
            told = (getattr(thing, name, None) for name in _OF_NETS)
            return self.digest((type(thing), getattr(thing, "module_", thing.module), *told))
        if isinstance(thing, KDTree | BallTree):  # which count their queries
            return self.digest((type(thing), np.asarray(thing.data)))
        if isinstance(thing, torch.device):
            return self._joined("device", [])
        if isinstance(thing, MethodType):
            return self.digest((thing.__func__, thing.__self__))
        try:
            reduced = thing.__reduce_ex__(4)
        except Exception as error:
            raise TypeError(
                f"checkpoint needs a hash of the fitted estimator, and a {type(thing).__name__} in "
                "it does not let itself be read; certify without checkpoint"
            ) from error
        if isinstance(reduced, str):
            return self._joined(f"{getattr(thing, '__module__', '')}.{reduced}", [])
        make, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        if isinstance(state, dict):
            state = {name: value for name, value in state.items() if name not in _NO_MATTER}
        parts = [make, arguments, state, list(items or ()), list(pairs or ())]
        if isinstance(thing, torch.nn.Module):
            parts.append([name for name, _ in thing.named_children()])  # their order counts
        return self._joined("object", map(self.digest, parts))
