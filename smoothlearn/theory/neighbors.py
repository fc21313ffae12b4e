"""The nearest bias point, and how far its label holds: fast, and sound in floating point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

from smoothlearn.theory.arguments import as_reals
from smoothlearn.theory.norms import check_norm, dual

FloatArray = NDArray[np.float64]
FloatBounds = NDArray[np.floating]
Indices = NDArray[np.intp]

#: Points of the nearest one's label that an opponent is compared with.
SAME_CLASS = 8

_BLOCK = 2**24  # entries of a matrix of bounds
_CHUNK = 2**20  # entries of a gathering of differences
_CANDIDATES = 32  # points compared with a row at once
_EPS = float(np.finfo(float).eps)
_TINY = 1e-200  # of the scaled data: what underflow may take, and far more
_ROUND = 1 + 1e-6  # rounding of a few steps in single precision
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
    screen = _screen(rows, points, np.zeros(len(points), dtype=np.intp), 1)
    index = np.empty(len(rows), dtype=np.intp)
    for block in _blocks(len(rows), len(points)):
        index[block] = _closest(screen, rows[block], _lower(screen, rows[block]), 0, 1)[:, 0]
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
    screen = _with_upper(_screen(rows, points, classes, n_classes), q)
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
        if (size := _largest(array)) > 1e300:
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


def _largest(array: FloatArray) -> float:
    return float(max(array.max(initial=0.0), -array.min(initial=0.0)))


def _blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Rows in blocks of which a matrix with this many columns has at most _BLOCK entries."""
    step = max(_BLOCK // n_columns, 1)
    return (slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step))


@dataclass(frozen=True, eq=False)
class _Screen:
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


def _screen(rows: FloatArray, points: FloatArray, classes: Indices, n_classes: int) -> _Screen:
    m, d = points.shape
    centre = np.full(m, 1 / m) @ points
    spread = max(
        (_largest(np.stack([array.max(axis=0), array.min(axis=0)]) - centre))
        for array in (points, rows)
        if len(array)
    )
    scale = 2.0 ** -int(np.frexp(spread)[1]) if spread > 2.0**-1000 else 1.0
    order = np.argsort(classes, kind="stable")
    dtype = np.float32 if d < 2**18 else np.float64
    screen = _Screen(
        points,
        order,
        np.searchsorted(classes[order], np.arange(n_classes + 1)),
        centre,
        scale,
        np.zeros((m, d + 3), dtype=dtype),
        np.empty(m),
        np.ones(d),
    )
    for chunk in _chunks(m, d):
        part = screen.centred(points[order[chunk]])
        screen.matrix[chunk, :d] = part
        screen.squares[chunk] = _squares(part)
    screen.matrix[:, d] = (1 - screen.kappa) * screen.squares
    screen.matrix[:, d + 2] = 1
    return screen


def _with_upper(screen: _Screen, q: float) -> _Screen:
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
    for chunk in _chunks(len(screen.order), d):
        part = screen.centred(screen.points[screen.order[chunk]])
        quarter = typical[~ranged].sum() / 4
        inside = ((part - low) * (high - part))[:, ranged] @ weights[ranged]
        total = np.square(part) @ weights + inside + quarter
        screen.matrix[chunk, d + 1] = (1 + screen.kappa) * total + d * 1e-15
    return replace(screen, weights=weights)


def _chunks(n_rows: int, n_columns: int) -> Iterator[slice]:
    step = max(_CHUNK // n_columns, 1)
    return (slice(start, start + step) for start in range(0, n_rows, step))


def _squares(rows: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("ij,ij->i", rows, rows))


def _lower(screen: _Screen, rows: FloatArray) -> FloatBounds:
    """A lower bound of every squared distance, below it by at most _slack."""
    d = screen.n_features
    part = screen.centred(rows)
    factors = np.zeros((len(rows), d + 3), dtype=screen.matrix.dtype)
    factors[:, :d] = -2 * part
    factors[:, d] = 1
    factors[:, d + 2] = (1 - screen.kappa) * _squares(part) - screen.tiny
    return factors @ screen.matrix.T


def _slack(screen: _Screen, rows: FloatArray, columns: Indices) -> FloatArray:
    """At least what a squared distance exceeds its lower bound by."""
    squares = _squares(screen.centred(rows))[:, np.newaxis] + screen.squares[columns]
    return np.asarray(2 * screen.kappa * squares * _ROUND + 4 * screen.tiny)


def _upper(screen: _Screen, columns: Indices, k: int) -> FloatBounds:
    """Upper bounds of what _with_upper says, of these points to those of class k."""
    d = screen.n_features
    factors = np.zeros((len(columns), d + 3), dtype=screen.matrix.dtype)
    factors[:, :d] = -2 * screen.weights * screen.matrix[columns, :d]
    factors[:, d + 1] = 1
    factors[:, d + 2] = screen.matrix[columns, d + 1]
    return factors @ screen.matrix[screen.columns(k)].T


def _closest(screen: _Screen, rows: FloatArray, lower: FloatBounds, start: int, k: int) -> Indices:
    """The k nearest columns, in order, of those from ``start`` that have these lower bounds."""
    n, m = lower.shape
    n_groups = min(8 * k, m) if k > 1 else 1
    width = m // n_groups
    groups = lower[:, : n_groups * width].reshape(n, n_groups, width)
    first = groups.argmin(axis=2) + width * np.arange(n_groups)
    upper = np.take_along_axis(lower, first, axis=1) + _slack(screen, rows, start + first)
    reach = (np.partition(upper, k - 1, axis=1)[:, k - 1 : k] * _ROUND).astype(lower.dtype)
    row, column = np.divmod(np.flatnonzero(lower <= reach), m)
    column += start
    distance = np.empty(len(row))
    for chunk in _chunks(len(row), screen.n_features):
        gap = screen.scaled(column[chunk]) - rows[row[chunk]] * screen.scale
        distance[chunk] = _squares(gap)
    ranked = np.lexsort((screen.order[column], distance, row))
    begin = np.searchsorted(row, np.arange(n))
    return np.asarray(column[ranked][begin[:, np.newaxis] + np.arange(k)])


def _radii(
    screen: _Screen, rows: FloatArray, q: float, same_class: int
) -> tuple[Indices, FloatArray]:
    """The nearest column of every row of a block, and avoid_k for every class k."""
    n_classes = len(screen.starts) - 1
    bounds = _lower(screen, rows)
    winner = _closest(screen, rows, bounds, 0, 1)[:, 0]
    reached = _squares(screen.scaled(winner) - rows * screen.scale)
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
    screen: _Screen, lower: FloatBounds, winner: Indices, reached: FloatArray, k: int, q: float
) -> FloatBounds:
    r"""Lower bounds of :math:`(\rho_j^2 - \rho_i^2)/\|x_i - x_j\|_q` for class k, i the nearest.

    Where the denominator has no tight bound, :math:`\|x_i - x_j\|_2 \le \rho_i + \rho_j` helps.
    """
    kind = lower.dtype
    if q == 2:
        span = np.sqrt(np.maximum(_upper(screen, winner, k), kind.type(screen.tiny)))
    elif q == 1:
        span = np.maximum(_upper(screen, winner, k), kind.type(screen.n_features * 1e-15))
    else:
        span = _reach(screen, winner, k)
    terms = (lower - (reached * _ROUND).astype(kind)[:, np.newaxis]) / span
    if q == 2:
        return terms
    stretch = kind.type(np.sqrt(screen.n_features) if q == 1 else 1)
    np.sqrt(np.maximum(lower, 0, out=lower) * kind.type(1 / _ROUND), out=lower)
    lower -= (np.sqrt(reached) * _ROUND).astype(kind)[:, np.newaxis]
    lower /= stretch
    return np.maximum(terms, lower, out=terms)


def _reach(screen: _Screen, columns: Indices, k: int) -> FloatBounds:
    r"""Upper bounds of :math:`\|x_i - x_j\|_\infty` of these points to all of class k."""
    d = screen.n_features
    members, rows = screen.matrix[screen.columns(k), :d], screen.matrix[columns, :d]
    above, below = members.max(axis=0) - rows, rows - members.min(axis=0)
    return np.maximum(above, below).max(axis=1, keepdims=True) + rows.dtype.type(1e-6)


def _avoid(
    screen: _Screen, x: FloatArray, near: Indices, leads: Indices, terms: FloatBounds, q: float
) -> FloatArray:
    """avoid_k of one row for every class k with a lead; the others are infinite.

    After the leads come, in ascending order, all whose term is below the best of their class.
    """
    same = screen.scaled(near)
    avoid = np.full(len(leads), np.inf)
    chosen = leads[leads >= 0]
    _improve(avoid, screen, x, same, chosen, q)
    sizes = np.diff(screen.starts)
    limits = np.where(leads >= 0, 2 * _ROUND**3 * avoid, -1).astype(terms.dtype)
    terms[chosen] = np.inf
    left = np.flatnonzero(terms <= np.repeat(limits, sizes))
    left = left[np.argsort(terms[left])]
    while len(left):
        _improve(avoid, screen, x, same, left[:_CANDIDATES], q)
        left = left[_CANDIDATES:]
        left = left[terms[left] <= 2 * _ROUND**3 * avoid[screen.owner(left)]]
    return avoid


def _improve(
    avoid: FloatArray, screen: _Screen, x: FloatArray, same: FloatArray, columns: Indices, q: float
) -> None:
    """Lower avoid_k to what these columns allow."""
    values = _beaten(x, same, screen.scaled(columns), q)
    np.minimum.at(avoid, screen.owner(columns), values)


def _beaten(x: FloatArray, same: FloatArray, others: FloatArray, q: float) -> FloatArray:
    r"""The maximum over i of :math:`(\rho_j^2 - \rho_i^2) / 2 \|x_i - x_j\|_q`, rounded down."""
    error = (len(x) + 16) * _EPS
    near, far = _squares(same - x)[:, np.newaxis], _squares(others - x)
    lead = np.maximum(far - near - error * (far + near) - _TINY, 0)
    gap = cdist(same, others, _METRICS[q]) * (2 + 2 * error)
    return np.asarray(np.divide(lead, gap, out=np.zeros_like(gap), where=lead > 0).max(axis=0))
