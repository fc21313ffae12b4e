"""Python threads side by side, and one thread of torch and of BLAS in each of them.

Results do not depend on the number of any of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from typing import Any

import torch
from joblib import Parallel, effective_n_jobs, parallel_config
from sklearn import get_config, set_config
from threadpoolctl import ThreadpoolController


class _Shared:
    """A setting that holds while anybody uses it: changed by the first, put back by the last."""

    def __init__(self, change: Callable[[ExitStack], object]) -> None:
        self._change = change
        self._lock = threading.Lock()
        self._users = 0
        self._before = ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._users == 0:
                self._change(self._before)
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._before.close()


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Torch computes with one thread; the process's own number returns with the last user.

    For Python threads that run side by side, and around them.
    """
    with _torch():
        torch.set_num_threads(1)  # in this Python thread, too
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch and BLAS compute with one thread; see :func:`one_torch_thread`."""
    with one_torch_thread(), _blas():
        yield


def n_threads_of(n_jobs: int | None) -> int:
    """Threads of this process that joblib's ``n_jobs`` stands for, whatever its active backend.

    Raises
    ------
    ValueError
        If it is 0.
    """
    asked = Parallel(n_jobs=n_jobs, require="sharedmem").n_jobs
    active = effective_n_jobs(asked)
    with parallel_config("threading"):
        return min(active, effective_n_jobs(asked))


@contextmanager
def side_by_side(
    n_threads: int,
) -> Iterator[tuple[Callable[..., Iterator[Any]], Callable[[], bool]]]:
    """The function ``map``, over Python threads with scikit-learn's settings of this one.

    And a function that says whether some work has failed or the block is being left, so that the
    rest may be given up. Of one thread it is ``map`` itself. What is parallel inside the threads is
    so no more. Joblib's threads do the same, but joblib looks only every 10 ms whether they are
    done.
    """
    if n_threads == 1:
        yield map, lambda: False
        return
    over = threading.Event()
    pool = ThreadPoolExecutor(n_threads, initializer=_enter_thread, initargs=(get_config(),))
    try:
        yield lambda work, items: pool.map(partial(_try, work, over), items), over.is_set
    finally:
        over.set()
        pool.shutdown(cancel_futures=True)


def _try(work: Callable[[Any], Any], over: threading.Event, item: Any) -> Any:
    try:
        return work(item)
    except BaseException:
        over.set()
        raise


def _enter_thread(settings: dict[str, Any]) -> None:
    set_config(**settings)
    parallel_config("sequential")


def _limit_torch(before: ExitStack) -> None:
    before.callback(torch.set_num_threads, torch.get_num_threads())


def _limit_blas(before: ExitStack) -> None:
    before.enter_context(_controller().limit(limits=1, user_api="blas"))


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


_torch, _blas = _Shared(_limit_torch), _Shared(_limit_blas)
