"""One thread of torch and of BLAS, for results that do not depend on their number."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

import torch
from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_users = 0
_limits = ExitStack()


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch and BLAS compute with one thread; the process's own numbers return with the last user.

    For Python threads that run side by side, and around them. Where the first user leaves before
    another thread does, BLAS may stay with one.
    """
    global _users
    with _lock:
        if _users == 0:
            _limits.callback(torch.set_num_threads, torch.get_num_threads())
            _limits.enter_context(_controller().limit(limits=1, user_api="blas"))
        _users += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _limits.close()


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
