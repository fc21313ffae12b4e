"""One thread of torch and of BLAS, for results that do not depend on their number."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

import torch
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


def _limit_torch(before: ExitStack) -> None:
    before.callback(torch.set_num_threads, torch.get_num_threads())


def _limit_blas(before: ExitStack) -> None:
    before.enter_context(_controller().limit(limits=1, user_api="blas"))


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


_torch, _blas = _Shared(_limit_torch), _Shared(_limit_blas)
