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
    """The rows of X as a frame of the library with these columns, or X itself without either."""
    if library is None or columns is None:
        return X
    names = list(columns)
    if library == "polars":  # which would take a square array by columns
        return import_module(library).DataFrame(X, schema=names, orient="row")
    return import_module(library).DataFrame(X, columns=names)


def check_same_columns(name: str, frozen: Any, X: FloatArray, columns: Any) -> None:
    """Raise a ValueError unless a frozen model was fitted on columns as many and named as these."""
    n_features = getattr(frozen, "n_features_in_", X.shape[1])
    if n_features != X.shape[1]:
        raise ValueError(
            f"the frozen {name} was fitted on {n_features} features, X has {X.shape[1]}"
        )
    seen = getattr(frozen, "feature_names_in_", None)
    if seen is not None and columns is not None and list(seen) != list(columns):
        raise ValueError(
            f"the frozen {name} was fitted on the columns {list(seen)[:5]}, X has "
            f"{list(columns)[:5]}; give both the same columns in the same order"
        )


def predictor_votes(
    predict: Callable[[Any], Any], classes: Any, as_input: Callable[[FloatArray], Any]
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function from a batch to class indices, positions in the array ``classes``.

    ``as_input`` turns the batch, as a float64 array, into what ``predict`` takes.
    """

    order = np.argsort(classes)

    def vote(batch: torch.Tensor) -> torch.Tensor:
        labels = np.asarray(predict(as_input(batch.cpu().numpy().astype(np.float64))))
        indices = order[np.searchsorted(classes, labels, sorter=order).clip(max=len(order) - 1)]
        if not np.array_equal(classes[indices], labels):
            unknown = labels[classes[indices] != labels][:3].tolist()
            raise ValueError(f"the base predicts {unknown}, which is not among {classes.tolist()}")
        return torch.from_numpy(indices).to(batch.device)

    return vote
