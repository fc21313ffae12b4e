"""Any classifier as a function on batches: its own ``predict``, on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch

from smoothlearn.views.affine import FloatArray


def frame_library(X: Any) -> str | None:
    """The library ("pandas" or "polars") of a data frame, None for anything else."""
    library = type(X).__module__.partition(".")[0]
    return library if library in ("pandas", "polars") and hasattr(X, "columns") else None


def rebuild_frame(X: FloatArray, columns: Any, library: str | None) -> Any:
    """The rows of X as a frame of the library with these columns, or X itself without one."""
    if library is None:
        return X
    names = {"pandas": "columns", "polars": "schema"}[library]
    return import_module(library).DataFrame(X, **{names: list(columns)})


def predictor_votes(
    predict: Callable[[Any], Any], classes: Any, as_input: Callable[[FloatArray], Any]
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function from a batch to class indices, the sorted ``classes`` first to last.

    ``as_input`` turns the batch, as a float64 array, into what ``predict`` takes.
    """

    def vote(batch: torch.Tensor) -> torch.Tensor:
        labels = np.asarray(predict(as_input(batch.cpu().numpy().astype(np.float64))))
        return torch.from_numpy(np.searchsorted(classes, labels)).to(batch.device)

    return vote
