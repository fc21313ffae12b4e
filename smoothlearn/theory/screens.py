"""Bounds of squared distances to many points by one product of matrices in single precision."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
FloatBounds = NDArray[np.floating]
Indices = NDArray[np.intp]

ROUND = 1 + 1e-6  # rounding of a few steps in single precision

_CHUNK = 2**20  # entries of a gathering of differences


@dataclass(frozen=True, eq=False)
class Screen:
    r"""Points in order of their class, ready for bounds by one product of matrices.

    A row of ``matrix`` holds the p of a point, centred and scaled, and three constants:
    :math:`(1 - κ)\|p\|^2`, one for upper bounds, and 1. From rounded factors, in any order of
    summation, :math:`\|x\|^2 + \|p\|^2 - 2 x \cdot p` errs by less than κ times
    :math:`\|x\|^2 + \|p\|^2` (Higham 2002, *Accuracy and Stability of Numerical Algorithms*,
    Eq. 3.5).
    """

    points: FloatArray
    order: Indices
    starts: Indices
    centre: FloatArray
    scale: float
    matrix: FloatBounds
    squares: FloatArray
    weights: FloatArray

    @property
    def n_features(self) -> int:
        return self.points.shape[1]

    @property
    def kappa(self) -> float:
        error = (self.n_features + 16) * float(np.finfo(self.matrix.dtype).eps)
        return error / (1 - error)

    @property
    def tiny(self) -> float:
        """More than underflow takes from a sum."""
        return (self.n_features + 16) * 1e-36

    def columns(self, k: int) -> slice:
        """The points of class k."""
        return slice(self.starts[k], self.starts[k + 1])

    def owner(self, columns: Indices) -> Indices:
        """The classes of these points."""
        return np.searchsorted(self.starts, columns, side="right") - 1

    def centred(self, rows: FloatArray) -> FloatArray:
        return (rows - self.centre) * self.scale

    def scaled(self, columns: Indices) -> FloatArray:
        return np.asarray(self.points[self.order[columns]] * self.scale)


def make_screen(rows: FloatArray, points: FloatArray, classes: Indices, n_classes: int) -> Screen:
    m, d = points.shape
    centre = np.full(m, 1 / m) @ points
    spread = max(
        (largest_of(np.stack([array.max(axis=0), array.min(axis=0)]) - centre))
        for array in (points, rows)
        if len(array)
    )
    scale = 2.0 ** -int(np.frexp(spread)[1]) if spread > 2.0**-1000 else 1.0
    order = np.argsort(classes, kind="stable")
    dtype = np.float32 if d < 2**18 else np.float64
    screen = Screen(
        points,
        order,
        np.searchsorted(classes[order], np.arange(n_classes + 1)),
        centre,
        scale,
        np.zeros((m, d + 3), dtype=dtype),
        np.empty(m),
        np.ones(d),
    )
    for chunk in chunks(m, d):
        part = screen.centred(points[order[chunk]])
        screen.matrix[chunk, :d] = part
        screen.squares[chunk] = squares_of(part)
    screen.matrix[:, d] = (1 - screen.kappa) * screen.squares
    screen.matrix[:, d + 2] = 1
    return screen


def with_upper(screen: Screen, q: float) -> Screen:
    r"""The screen with what bounds :math:`\|x_i - x_j\|_2^2` or :math:`\|x_i - x_j\|_1`.

    For the 1-norm, :math:`|a - b| \le (a - b)^2 / 2t + t/2` for each t > 0, best for differences of
    equal size, or :math:`(a - b)^2/w + (a - l)(l + w - a)/w + (b - l)(l + w - b)/w` for a and b
    from l to l + w, best at the ends of the range: whichever is less on average.
    """
    if q == np.inf:
        return screen
    d = screen.n_features
    if q == 2:
        screen.matrix[:, d + 1] = (1 + screen.kappa) * screen.squares + screen.tiny
        return screen
    low, high = (screen.centred(ends(screen.points, axis=0)) for ends in (np.min, np.max))
    width = high - low
    variances = np.einsum("ij,ij->j", *2 * (screen.matrix[:, :d],)) / len(screen.order)
    typical = np.sqrt(2.0 * variances)
    typical = np.maximum(typical, 1e-6)
    ranged = (width > 1e-6) & (-2 * low * high < typical * width)
    weights = np.where(ranged, 1 / np.maximum(width, 1e-6), 1 / (2 * typical))
    for chunk in chunks(len(screen.order), d):
        part = screen.centred(screen.points[screen.order[chunk]])
        quarter = typical[~ranged].sum() / 4
        inside = ((part - low) * (high - part))[:, ranged] @ weights[ranged]
        total = np.square(part) @ weights + inside + quarter
        screen.matrix[chunk, d + 1] = (1 + screen.kappa) * total + d * 1e-15
    return replace(screen, weights=weights)


def chunks(n_rows: int, n_columns: int) -> Iterator[slice]:
    step = max(_CHUNK // n_columns, 1)
    return (slice(start, start + step) for start in range(0, n_rows, step))


def squares_of(rows: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("ij,ij->i", rows, rows))


def lower_bounds(screen: Screen, rows: FloatArray) -> FloatBounds:
    """A lower bound of every squared distance, below it by at most slack_of."""
    d = screen.n_features
    part = screen.centred(rows)
    factors = np.zeros((len(rows), d + 3), dtype=screen.matrix.dtype)
    factors[:, :d] = -2 * part
    factors[:, d] = 1
    factors[:, d + 2] = (1 - screen.kappa) * squares_of(part) - screen.tiny
    return factors @ screen.matrix.T


def slack_of(screen: Screen, rows: FloatArray, columns: Indices) -> FloatArray:
    """At least what a squared distance exceeds its lower bound by."""
    squares = squares_of(screen.centred(rows))[:, np.newaxis] + screen.squares[columns]
    return np.asarray(2 * screen.kappa * squares * ROUND + 4 * screen.tiny)


def upper_bounds(screen: Screen, columns: Indices, k: int) -> FloatBounds:
    """Upper bounds of what with_upper says, of these points to those of class k."""
    d = screen.n_features
    factors = np.zeros((len(columns), d + 3), dtype=screen.matrix.dtype)
    factors[:, :d] = -2 * screen.weights * screen.matrix[columns, :d]
    factors[:, d + 1] = 1
    factors[:, d + 2] = screen.matrix[columns, d + 1]
    return factors @ screen.matrix[screen.columns(k)].T


def reach_of(screen: Screen, columns: Indices, k: int) -> FloatBounds:
    r"""Upper bounds of :math:`\|x_i - x_j\|_\infty` of these points to all of class k."""
    d = screen.n_features
    members, rows = screen.matrix[screen.columns(k), :d], screen.matrix[columns, :d]
    above, below = members.max(axis=0) - rows, rows - members.min(axis=0)
    return np.maximum(above, below).max(axis=1, keepdims=True) + rows.dtype.type(1e-6)


def largest_of(array: FloatArray) -> float:
    return float(max(array.max(initial=0.0), -array.min(initial=0.0)))
