"""Random numbers that leave no trace on the global torch generator."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import numpy as np
import torch

_GLOBAL_RNG = threading.RLock()


@contextmanager
def private_torch_rng(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Run a block with the global torch generators seeded, and restore them afterwards.

    One thread at a time: initialisers and dropout know no other generator than the global one.
    """
    devices = [device] if device is not None and device.type == "cuda" else []
    with _GLOBAL_RNG, torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed % 2**64)  # torch.manual_seed seeds CUDA as well
        for cuda in devices:
            with torch.cuda.device(cuda):
                torch.cuda.manual_seed(seed % 2**64)
        yield


def generator_on(device: torch.device, seed: int) -> torch.Generator:
    """A private generator."""
    return torch.Generator(device).manual_seed(seed % 2**64)


def torch_device(device: str | torch.device) -> torch.device:
    """The device of this name; ``"auto"`` is the first CUDA device where there is one."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(
            f"device={device!r} is not one that torch finds here; use 'auto', 'cpu' or 'cuda'"
        ) from error
    return found


def spawn_seeds(random_state: Any, names: tuple[str, ...]) -> dict[str, int]:
    """Independent 128-bit seeds, one for each name.

    None draws fresh entropy from the operating system, whatever NumPy's global seed.
    """
    if random_state is None:
        entropy = np.random.SeedSequence()
    elif isinstance(random_state, np.random.RandomState):
        entropy = np.random.SeedSequence(
            random_state.randint(2**32, size=4, dtype=np.uint64).tolist()
        )
    elif isinstance(random_state, Integral) and int(random_state) >= 0:
        entropy = np.random.SeedSequence(int(random_state))
    else:
        raise ValueError(
            f"random_state must be None, an int >= 0 or a RandomState, got {random_state!r}"
        )
    words = (child.generate_state(4, np.uint32).tobytes() for child in entropy.spawn(len(names)))
    return {name: int.from_bytes(word, "little") for name, word in zip(names, words, strict=True)}


def seed_nested(estimator: Any, seed: int) -> None:
    """Set every ``random_state`` inside an estimator that is None."""
    unset = sorted(
        name
        for name, value in estimator.get_params(deep=True).items()
        if (name == "random_state" or name.endswith("__random_state")) and value is None
    )
    words = np.random.SeedSequence(seed).generate_state(len(unset), np.uint32)
    estimator.set_params(**dict(zip(unset, (words >> 1).tolist(), strict=True)))
