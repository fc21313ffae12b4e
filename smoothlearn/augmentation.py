"""Noisy copies of the training rows for a base to be fitted on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import get_routing_for_object
from skorch import NeuralNet
from torch.utils.data import Subset

from smoothlearn.views.affine import FloatArray

#: Up to so many rows HistGradientBoosting's ``early_stopping="auto"`` holds none out.
_AUTO_STOPPING_ROWS = 10_000


def noisy_copies(
    X: FloatArray, n_copies: int, *, denoiser: Any, sigma: float, seed: int
) -> FloatArray:
    """``n_copies`` noisy copies of X, one below the other, behind a fitted denoiser or None.

    They are denoised as rows that the denoiser has not seen, where it can do that.
    """
    copies = np.random.default_rng(seed).standard_normal((n_copies, *X.shape))
    copies *= sigma
    copies += X
    copies = copies.reshape(-1, X.shape[1])
    if denoiser is None:
        return copies
    if not hasattr(denoiser, "denoise_copies"):
        return np.asarray(denoiser.transform(copies))
    return np.asarray(denoiser.denoise_copies(copies, np.tile(X, (n_copies, 1))))


def copy_fit_params(fit_params: dict[str, Any], n_rows: int, n_copies: int) -> dict[str, Any]:
    """Parameters of ``fit`` that have one entry a row, with one entry a copy."""
    if n_copies == 1:
        return fit_params

    def copied(value: Any) -> Any:
        per_row = _has_entries(value, n_rows)
        return np.concatenate([np.asarray(value)] * n_copies) if per_row else value

    return {name: copied(value) for name, value in fit_params.items()}


def pick_fit_params(fit_params: dict[str, Any], picked: NDArray[np.bool_]) -> dict[str, Any]:
    """Parameters of ``fit`` that have one entry a row, with those of the picked rows alone."""
    return {
        name: np.asarray(value)[picked] if _has_entries(value, len(picked)) else value
        for name, value in fit_params.items()
    }


def keep_copies_together(base: Any, y: NDArray[Any], n_copies: int) -> None:
    """Let an unfitted base that holds rows out hold out all copies of a row, or none.

    Set are the validation split of a skorch net, and the ``cv`` of an estimator, where they see
    all rows.

    Parameters
    ----------
    base : estimator
        Changed in place.
    y : ndarray of shape (n,)
        Labels of the rows that were copied.
    n_copies : int

    Raises
    ------
    ValueError
        If the base holds rows out in a way that cannot be set: copies of a row would be on both
        sides.
    """
    if n_copies == 1:
        return
    copies = _Copies(len(y), n_copies)
    prefix, last = "", base
    while isinstance(last, Pipeline):
        prefix, last = f"{prefix}{last.steps[-1][0]}__", last.steps[-1][1]
    ours = last.get_params(deep=False)
    done = set()
    if isinstance(last, NeuralNet) and last.train_split:
        last.set_params(train_split=_TogetherSplit(last.train_split, copies))
        done.add(f"{prefix}train_split")
    elif "cv" in ours and not isinstance(ours["cv"], str | float):
        last.set_params(cv=_TogetherFolds(check_cv(ours["cv"], y, classifier=True), copies))
        done.add(f"{prefix}cv")
    _refuse_other_splits(base, done, len(y) * n_copies)


def _refuse_other_splits(base: Any, done: set[str], n_rows: int) -> None:
    params = base.get_params(deep=True)
    for path, value in params.items():
        owner, separator, name = path.rpartition("__")
        if path not in done and _holds_out(name, value, params, owner + separator, n_rows):
            raise ValueError(
                f"n_augment: the estimator's {path}={value!r} makes it hold out rows in its fit, "
                "and noisy copies of one row would be on both sides; use n_augment=1, or switch "
                "it off"
            )


def _holds_out(name: str, value: Any, params: dict[str, Any], prefix: str, n_rows: int) -> bool:
    """Whether a parameter, beside the ones with the same prefix, makes its estimator do so."""
    match name:
        case "early_stopping":
            always = isinstance(value, bool | np.bool_) and bool(value)
            auto = isinstance(value, str) and value == "auto" and n_rows > _AUTO_STOPPING_ROWS
            return (always or auto) and params.get(f"{prefix}validation_fraction", 0) is not None
        case "n_iter_no_change":
            return value is not None and f"{prefix}early_stopping" not in params
        case "train_split":
            return bool(value)
        case "cv":
            return not isinstance(value, str)
    return False


def _has_entries(value: Any, n: int) -> bool:
    """Whether this is a list, an array or a series of n entries."""
    listed = isinstance(value, Sized) and not isinstance(value, str | bytes | Mapping | Set)
    return listed and getattr(value, "ndim", 1) > 0 and len(value) == n


@dataclass(frozen=True)
class _Copies:
    """Copies of rows: the first ones of all rows, below them the second ones, and so on."""

    n_rows: int
    n_copies: int

    def check(self, n: int) -> None:
        if n != self.n_rows * self.n_copies:
            raise ValueError(
                f"n_augment: {self.n_rows * self.n_copies} noisy copies were made, and the "
                f"estimator splits {n}; use n_augment=1, or no step that adds or drops rows"
            )

    def first(self, values: Any) -> Any:
        """Of what has an entry for every copy, the entries of the first copies."""
        return None if values is None else values[: self.n_rows]

    def of(self, rows: Any) -> NDArray[np.intp]:
        """Positions of all copies of some rows, which come as positions or as a mask."""
        chosen = np.arange(self.n_rows)[list(rows)]
        return (chosen + self.n_rows * np.arange(self.n_copies)[:, np.newaxis]).ravel()


class _TogetherFolds:
    """Cross-validation that splits the first copies, with the other copies of a row on its side."""

    def __init__(self, cv: Any, copies: _Copies) -> None:
        self.cv = cv
        self.copies = copies

    def split(self, X: Any, y: Any, groups: Any = None) -> Iterator[tuple[Any, ...]]:
        self.copies.check(len(y))
        for rows in self.cv.split(*map(self.copies.first, (X, y, groups))):
            yield tuple(map(self.copies.of, rows))

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        return int(self.cv.get_n_splits(*map(self.copies.first, (X, y, groups))))

    def get_metadata_routing(self) -> Any:
        return get_routing_for_object(self.cv)


class _TogetherSplit:
    """A skorch split of the first copies, with the other copies of a row on its side."""

    def __init__(self, split: Any, copies: _Copies) -> None:
        self.split = split
        self.copies = copies
        if hasattr(split, "cv"):
            self.cv = split.cv  # skorch asks it which parameters of fit it takes

    def __call__(self, dataset: Any, y: Any = None, **params: Any) -> tuple[Any, Any]:
        copies, n = self.copies, len(dataset)
        copies.check(n)
        first = Subset(dataset, range(copies.n_rows))
        of_first = {
            name: copies.first(value) if _has_entries(value, n) else value
            for name, value in params.items()
        }

        def rows_of(part: Any) -> Any:
            """The rows in a part of the first copies; None for a data set of its own."""
            if part is first:
                return np.arange(copies.n_rows)
            rows = rows_of(part.dataset) if isinstance(part, Subset) else None
            return None if rows is None else rows[list(part.indices)]

        def with_copies(part: Any) -> Any:
            if part is first:
                return dataset
            rows = rows_of(part)
            return part if rows is None else Subset(dataset, copies.of(rows).tolist())

        train, valid = self.split(first, copies.first(y), **of_first)
        return with_copies(train), with_copies(valid)
