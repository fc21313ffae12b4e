"""Python threads side by side, and one thread of torch and of BLAS in each of them.

Results do not depend on the number of any of them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any

import torch
from joblib import parallel_config
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


@contextmanager
def side_by_side(n_threads: int) -> Iterator[Callable[..., Iterator[Any]]]:
    """The function ``map``, over Python threads with scikit-learn's settings of this one.

    Of one thread it is ``map`` itself. What is parallel inside the threads is so no more. Joblib's
    threads do the same, but joblib looks only every 10 ms whether they are done.
    """
    if n_threads == 1:
        yield map
        return
    pool = ThreadPoolExecutor(n_threads, initializer=_enter_thread, initargs=(get_config(),))
    try:
        yield pool.map
    finally:
        pool.shutdown(cancel_futures=True)


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
