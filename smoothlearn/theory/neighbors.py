"""The nearest bias point, and how far its label holds: fast, and sound in floating point."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from smoothlearn.theory.arguments import as_reals
from smoothlearn.theory.norms import check_norm, dual
from smoothlearn.theory.screens import (
    ROUND,
    FloatArray,
    FloatBounds,
    Indices,
    Screen,
    chunks,
    largest_of,
    lower_bounds,
    make_screen,
    reach_of,
    slack_of,
    squares_of,
    upper_bounds,
    with_upper,
)

#: Points of the nearest one's label that an opponent is compared with.
SAME_CLASS = 8

_BLOCK = 2**24  # entries of a matrix of bounds
_CANDIDATES = 32  # points compared with a row at once
_EPS = float(np.finfo(float).eps)
_TINY = 1e-200  # of the scaled data: what underflow may take, and far more
_METRICS = {1: "cityblock", 2: "euclidean", np.inf: "chebyshev"}


def nearest(X: ArrayLike, points: ArrayLike) -> Indices:
    r"""The index :math:`\arg\min_i \|x - x_i\|_2` of the nearest point, for every row x.

    A product of matrices in single precision leaves the points that can be nearest within its own
    error bound; squared differences in double precision decide between them, in favor of the
    lowest index where they are equal. A common offset of the data costs no accuracy.

    Parameters
    ----------
    X : array_like of float, shape (n, d)
    points : array_like of float, shape (m, d)
        At least one.

    Returns
    -------
    ndarray of int, shape (n,)

    Raises
    ------
    ValueError, TypeError
        If an argument is not finite, real and of its shape, or above 1e300.

    Examples
    --------
    >>> from smoothlearn.theory.neighbors import nearest
    >>> nearest([[0.0], [0.6], [0.5]], [[0.0], [1.0]])
    array([0, 1, 0])
    """
    rows, points = _check_points(X, points)
    screen = make_screen(rows, points, np.zeros(len(points), dtype=np.intp), 1)
    index = np.empty(len(rows), dtype=np.intp)
    for block in _blocks(len(rows), len(points)):
        index[block] = _closest(screen, rows[block], lower_bounds(screen, rows[block]), 0, 1)[:, 0]
    return screen.order[index]


def keep_radii(
    X: ArrayLike,
    points: ArrayLike,
    labels: ArrayLike,
    n_classes: int,
    norm: float,
    *,
    same_class: int = SAME_CLASS,
) -> tuple[Indices, FloatArray, FloatArray]:
    r"""The nearest point, and the radii within which its label stays, or is not a given one.

    .. math:: \mathrm{avoid}_k = \min_{j:\, y_j = k} \, \max_{i \in I}
              \frac{\rho_j^2 - \rho_i^2}{2 \|x_i - x_j\|_q},
              \qquad \rho_i = \|x - x_i\|_2, \quad 1/p + 1/q = 1,

    with I the nearest points of the nearest point's label. Within :math:`\|\delta\|_p <
    \mathrm{avoid}_k` each j of label k is farther from x + δ than some i in I. One point in I is
    Theorem 6 of [1]_; more of them give radii at least as large. Numerators are rounded down and
    denominators up; a radius is 0 where rounding hides which of two labels is nearer.

    Parameters
    ----------
    X : array_like of float, shape (n, d)
    points : array_like of float, shape (m, d)
        At least one.
    labels : array_like of int, shape (m,)
        The class of each point, from 0 to n_classes - 1.
    n_classes : int
    norm : 1, 2 or inf
        The p of the perturbation's norm. The distance ρ is Euclidean for each of them.
    same_class : int
        The number of points in I, where there are as many.

    Returns
    -------
    index : ndarray of int, shape (n,)
        That of :func:`nearest`.
    keep : ndarray of float, shape (n,)
        The radius within which the nearest point has the label it has at x: the least of
        ``avoid`` over all others.
    avoid : ndarray of float, shape (n, n_classes)
        The radius within which the nearest point does not have this label: 0 for the label it has
        at x, infinity for a label without points.

    Raises
    ------
    ValueError, TypeError
        If an argument is not finite, real and of its shape, or above 1e300, a label is not from 0
        to n_classes - 1, or norm is not 1, 2 or inf.

    References
    ----------
    .. [1] Anderson & Sojoudi 2022, "Certified robustness via locally biased randomized
       smoothing", L4DC, Theorem 6.

    Examples
    --------
    >>> from smoothlearn.theory.neighbors import keep_radii
    >>> index, keep, avoid = keep_radii([[0.0, 0.0]], [[1.0, 0.0], [3.0, 0.0]], [0, 1], 2, norm=2)
    >>> index, keep.round(6), avoid.round(6)
    (array([0]), array([2.]), array([[0., 2.]]))
    """
    rows, points = _check_points(X, points)
    classes = _check_labels(labels, len(points), n_classes)
    q = dual(check_norm(norm))
    if same_class < 1:
        raise ValueError(f"same_class must be >= 1, got {same_class}")
    screen = with_upper(make_screen(rows, points, classes, n_classes), q)
    index = np.empty(len(rows), dtype=np.intp)
    avoid = np.empty((len(rows), n_classes))
    for block in _blocks(len(rows), len(points)):
        winner, avoid[block] = _radii(screen, rows[block], q, same_class)
        index[block] = screen.order[winner]
    own = classes[index]
    others = np.arange(n_classes) != own[:, np.newaxis]
    return index, np.min(avoid, axis=1, where=others, initial=np.inf), avoid


def _check_points(X: ArrayLike, points: ArrayLike) -> tuple[FloatArray, FloatArray]:
    bias = as_reals("points", points, ("m", "d"))
    rows = as_reals("X", X, ("n", bias.shape[1]))
    for name, array in (("points", bias), ("X", rows)):
        if (size := largest_of(array)) > 1e300:
            raise ValueError(f"{name} must not exceed 1e300, got {size}; divide it by a constant")
    return rows, bias


def _check_labels(labels: ArrayLike, n_points: int, n_classes: int) -> Indices:
    classes = np.asarray(labels)
    if classes.dtype.kind not in "iu":
        raise TypeError(f"labels must be integers from 0 on, got dtype {classes.dtype}")
    if classes.shape != (n_points,):
        raise ValueError(f"labels must have shape ({n_points},), got {classes.shape}")
    if classes.min() < 0 or classes.max() >= n_classes:
        raise ValueError(
            f"labels must lie between 0 and n_classes - 1 = {n_classes - 1}, "
            f"got {classes.min()} to {classes.max()}"
        )
    return classes.astype(np.intp)


def _blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Rows in blocks of which a matrix with this many columns has at most _BLOCK entries."""
    step = max(_BLOCK // n_columns, 1)
    return (slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step))


def _closest(screen: Screen, rows: FloatArray, lower: FloatBounds, start: int, k: int) -> Indices:
    """The k nearest columns, in order, of those from ``start`` that have these lower bounds."""
    n, m = lower.shape
    n_groups = min(8 * k, m) if k > 1 else 1
    width = m // n_groups
    groups = lower[:, : n_groups * width].reshape(n, n_groups, width)
    first = groups.argmin(axis=2) + width * np.arange(n_groups)
    upper = np.take_along_axis(lower, first, axis=1) + slack_of(screen, rows, start + first)
    reach = (np.partition(upper, k - 1, axis=1)[:, k - 1 : k] * ROUND).astype(lower.dtype)
    row, column = np.divmod(np.flatnonzero(lower <= reach), m)
    column += start
    distance = np.empty(len(row))
    for chunk in chunks(len(row), screen.n_features):
        gap = screen.scaled(column[chunk]) - rows[row[chunk]] * screen.scale
        distance[chunk] = squares_of(gap)
    ranked = np.lexsort((screen.order[column], distance, row))
    begin = np.searchsorted(row, np.arange(n))
    return np.asarray(column[ranked][begin[:, np.newaxis] + np.arange(k)])


def _radii(
    screen: Screen, rows: FloatArray, q: float, same_class: int
) -> tuple[Indices, FloatArray]:
    """The nearest column of every row of a block, and avoid_k for every class k."""
    n_classes = len(screen.starts) - 1
    bounds = lower_bounds(screen, rows)
    winner = _closest(screen, rows, bounds, 0, 1)[:, 0]
    reached = squares_of(screen.scaled(winner) - rows * screen.scale)
    own = screen.owner(winner)
    same: list[Indices] = [winner] * len(rows)
    leads = np.full((len(rows), n_classes), -1)
    for k in range(n_classes):
        columns = screen.columns(k)
        if columns.start == columns.stop:
            continue
        inside, outside = np.flatnonzero(own == k), np.flatnonzero(own != k)
        if len(inside):
            count = min(same_class, columns.stop - columns.start)
            near = bounds[inside, columns]
            for row, found in zip(
                inside, _closest(screen, rows[inside], near, columns.start, count), strict=True
            ):
                same[row] = found
        terms = _terms(screen, bounds[outside, columns], winner[outside], reached[outside], k, q)
        bounds[inside, columns] = np.inf
        bounds[outside, columns] = terms
        leads[outside, k] = columns.start + terms.argmin(axis=1)
    avoid = [
        _avoid(screen, row * screen.scale, near, lead, low, q)
        for row, near, lead, low in zip(rows, same, leads, bounds, strict=True)
    ]
    radii = np.array(avoid).reshape(len(rows), n_classes) / screen.scale
    radii[np.arange(len(rows)), own] = 0
    return winner, radii


def _terms(
    screen: Screen, lower: FloatBounds, winner: Indices, reached: FloatArray, k: int, q: float
) -> FloatBounds:
    r"""Lower bounds of :math:`(\rho_j^2 - \rho_i^2)/\|x_i - x_j\|_q` for class k, i the nearest.

    Where the denominator has no tight bound, :math:`\|x_i - x_j\|_2 \le \rho_i + \rho_j` helps.
    """
    kind = lower.dtype
    if q == 2:
        span = np.sqrt(np.maximum(upper_bounds(screen, winner, k), kind.type(screen.tiny)))
    elif q == 1:
        span = np.maximum(upper_bounds(screen, winner, k), kind.type(screen.n_features * 1e-15))
    else:
        span = reach_of(screen, winner, k)
    terms = (lower - (reached * ROUND).astype(kind)[:, np.newaxis]) / span
    if q == 2:
        return terms
    stretch = kind.type(np.sqrt(screen.n_features) if q == 1 else 1)
    np.sqrt(np.maximum(lower, 0, out=lower) * kind.type(1 / ROUND), out=lower)
    lower -= (np.sqrt(reached) * ROUND).astype(kind)[:, np.newaxis]
    lower /= stretch
    return np.maximum(terms, lower, out=terms)


def _avoid(
    screen: Screen, x: FloatArray, near: Indices, leads: Indices, terms: FloatBounds, q: float
) -> FloatArray:
    """avoid_k of one row for every class k with a lead; the others are infinite.

    After the leads come, in ascending order, all whose term is below the best of their class.
    """
    same = screen.scaled(near)
    avoid = np.full(len(leads), np.inf)
    chosen = leads[leads >= 0]
    _improve(avoid, screen, x, same, chosen, q)
    sizes = np.diff(screen.starts)
    limits = np.where(leads >= 0, 2 * ROUND**3 * avoid, -1).astype(terms.dtype)
    terms[chosen] = np.inf
    left = np.flatnonzero(terms <= np.repeat(limits, sizes))
    left = left[np.argsort(terms[left])]
    while len(left):
        _improve(avoid, screen, x, same, left[:_CANDIDATES], q)
        left = left[_CANDIDATES:]
        left = left[terms[left] <= 2 * ROUND**3 * avoid[screen.owner(left)]]
    return avoid


def _improve(
    avoid: FloatArray, screen: Screen, x: FloatArray, same: FloatArray, columns: Indices, q: float
) -> None:
    """Lower avoid_k to what these columns allow."""
    values = _beaten(x, same, screen.scaled(columns), q)
    np.minimum.at(avoid, screen.owner(columns), values)


def _beaten(x: FloatArray, same: FloatArray, others: FloatArray, q: float) -> FloatArray:
    r"""The maximum over i of :math:`(\rho_j^2 - \rho_i^2) / 2 \|x_i - x_j\|_q`, rounded down."""
    error = (len(x) + 16) * _EPS
    near, far = squares_of(same - x)[:, np.newaxis], squares_of(others - x)
    lead = np.maximum(far - near - error * (far + near) - _TINY, 0)
    gap = cdist(same, others, _METRICS[q]) * (2 + 2 * error)
    return np.asarray(np.divide(lead, gap, out=np.zeros_like(gap), where=lead > 0).max(axis=0))
