"""What is known of a differentiable score around rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Columns = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Expansion:
    r"""Scores :math:`g_k` at n rows, their gradients, and how fast gradients can change.

    ``first`` and ``second`` are columns of ``scores``, one for every row; they name the difference
    :math:`g_{\text{first}} - g_{\text{second}}` at that row. Of two classes with one score f, the
    columns are 0 and f. Norms are those of the threat, p, and its dual, q.

    Parameters
    ----------
    scores : ndarray of shape (n, n_classes), float64
        The label is the largest.
    gradient : callable (first, second) -> ndarray of shape (n, d)
        The gradient of the difference.
    curvature : callable (first, second, radius) -> ndarray of shape (n,)
        An upper bound of the Lipschitz constant of the difference's gradient, from the p-norm to
        the q-norm, on the ball of ``radius`` (n,) in the p-norm around the row; radius inf asks
        for all of space. It does not decrease with the radius and may be inf.
    slope : callable (first, second) -> ndarray of shape (n,)
        An upper bound of the q-norm of the difference's gradient in all of space, which may be inf.
    rounding : callable () -> two ndarrays of shape (n,)
        How far the computed difference of any two scores, and, in the q-norm, its computed
        gradient, can be from those of the function that the fitted numbers describe.
    """

    scores: FloatArray
    gradient: Callable[[Columns, Columns], FloatArray]
    curvature: Callable[[Columns, Columns, FloatArray], FloatArray]
    slope: Callable[[Columns, Columns], FloatArray]
    rounding: Callable[[], tuple[FloatArray, FloatArray]]


class Differentiable(Protocol):
    """A classifier whose scores can be expanded around rows."""

    def at(self, X: FloatArray, norm: float) -> Expansion:
        """The expansion around the rows of X, float64, for a threat in the p-norm."""
        ...


def difference(columns: FloatArray, first: Columns, second: Columns) -> FloatArray:
    """For every row the entry of one column less that of another, of an array (n, n_columns)."""
    rows = np.arange(len(columns))
    return np.asarray(columns[rows, first] - columns[rows, second])
