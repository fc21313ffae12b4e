"""Rows in chunks, each certified by itself, here or by joblib's workers."""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.sparse import issparse
from sklearn.utils.parallel import Parallel, delayed

from smoothlearn.certificates import Certificate
from smoothlearn.jobs.units import Question
from smoothlearn.nn.threads import one_thread
from smoothlearn.views.copies import per_thread

#: Numbers of a chunk of rows, at most; 16 MB in double precision.
CHUNK_ENTRIES = 2**21
_VOTED_ROWS = 16, 64
_DECIDED = 8  # times as many rows where most take few draws
_EXACT_ROWS = 128
#: Larger arrays of an estimator go to worker processes in a file, once.
_MAX_PICKLED = "64M"
_KILLED = ("KilledWorker", "WorkerCrashedError")  # dask's and ray's, which may not be installed

Caught = tuple[type[Warning], str, str, int]


def as_rows(X: Any) -> Any:
    """X as something that a slice of rows can be taken from: frames and arrays stay what they are.

    A memory map is not read.
    """
    if isinstance(X, np.ndarray) or hasattr(X, "columns"):
        return X
    return X.tocsr() if issparse(X) else np.asarray(X)


def rows_of(X: Any, start: int, stop: int) -> Any:
    """The rows of X from start to stop."""
    return X.iloc[start:stop] if hasattr(X, "iloc") else X[start:stop]


def chunk_rows(shape: tuple[int, ...], *, voted: bool, decided: bool = False) -> int:
    """Rows in a chunk: few where every row takes many draws, more where it takes few or none.

    A function of what is certified alone. Products of matrices depend in their last bits on the
    number of rows, so other chunks could mean other last bits.
    """
    n_rows = shape[0]
    if voted:
        wanted = min(max(_VOTED_ROWS[0], n_rows // 1000), _VOTED_ROWS[1])
        wanted *= _DECIDED if decided else 1
    else:
        wanted = _EXACT_ROWS * max(1, n_rows // (64 * _EXACT_ROWS))
    return max(1, min(wanted, CHUNK_ENTRIES // max(1, *shape[1:])))


def certify_chunks(
    question: Question, X: Any, starts: Iterable[int], size: int, n_jobs: int | None
) -> Iterator[tuple[int, Certificate]]:
    """Where a chunk starts and its certificate, in the order in which they are done."""
    parallel = Parallel(n_jobs=n_jobs, return_as="generator_unordered", max_nbytes=_MAX_PICKLED)
    told: set[tuple[type[Warning], str, int]] = set()
    if parallel.n_jobs in (None, 1):
        for start in starts:
            certificate, caught = _with_warnings(question, rows_of(X, start, start + size))
            _tell(caught, told)
            yield start, certificate
        return
    shared = _Shared(question.to(n_jobs=1))
    tasks = (
        delayed(_certify_chunk)(shared, rows_of(X, start, start + size), start, start // size)
        for start in starts
    )
    for start, certificate, caught in parallel(tasks):
        _tell(caught, told)
        yield start, certificate


def is_killed_worker(error: Exception) -> bool:
    """Whether an error says that a worker is gone."""
    return isinstance(error, BrokenExecutor) or type(error).__name__ in _KILLED


def _certify_chunk(
    shared: _Shared, rows: Any, start: int, index: int
) -> tuple[int, Certificate, list[Caught]]:
    question = shared.mine()
    with one_thread(), _own_gpu(question.smoother, index):
        if shared.is_home():  # here the filters are the caller's, and shared by all threads
            return start, question.answer(_in_order(rows)), []
        return start, *_with_warnings(question, rows)


def _with_warnings(question: Question, rows: Any) -> tuple[Certificate, list[Caught]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        certificate = question.answer(_in_order(rows))
    return certificate, [(w.category, str(w.message), w.filename, w.lineno) for w in caught]


class _Shared:
    """A question for tasks: every thread of this process and every other process has its copy."""

    def __init__(self, question: Question, home: tuple[str, int] | None = None) -> None:
        self.question = question
        self.home = home or _here()
        self.mine: Callable[[], Question] = lambda: question
        if self.is_home():
            self.mine = per_thread(question)

    def is_home(self) -> bool:
        return self.home == _here()

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(_Shared, home=self.home), (self.question,)


def _here() -> tuple[str, int]:
    return socket.gethostname(), os.getpid()


def _tell(caught: list[Caught], told: set[tuple[type[Warning], str, int]]) -> None:
    """Issue what a worker was warned of, once for every line that warns."""
    for category, message, filename, line in caught:
        if (category, filename, line) not in told:
            told.add((category, filename, line))
            warnings.warn(message, category, stacklevel=5)  # where certify was called


def _in_order(rows: Any) -> Any:
    """The rows in a memory layout that does not depend on where they come from."""
    if isinstance(rows, np.ndarray):
        return np.ascontiguousarray(rows) if rows.ndim else rows
    return rows.copy() if hasattr(rows, "iloc") else rows


def _own_gpu(smoother: Any, index: int) -> AbstractContextManager[Any]:
    """Chunks take turns where there are several GPUs and the smoother names none of them."""
    named = str(getattr(smoother, "device", "cpu"))
    n_gpus = torch.cuda.device_count() if named in ("auto", "cuda") else 0
    return torch.cuda.device(index % n_gpus) if n_gpus > 1 else nullcontext()
