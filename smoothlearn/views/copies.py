"""A copy for every thread of what may change itself when it is called."""

from __future__ import annotations

import threading
from collections.abc import Callable
from copy import deepcopy
from typing import TypeVar

import torch

T = TypeVar("T")


def per_thread(model: T) -> Callable[[], T]:
    """A function that gives every thread a deep copy of the model, always the same one."""
    local = threading.local()

    def mine() -> T:
        if not hasattr(local, "model"):
            with torch.inference_mode(False):
                local.model = deepcopy(model)
        return local.model

    return mine
