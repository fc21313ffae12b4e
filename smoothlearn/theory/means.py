r"""Bounds on the mean of numbers in [0, 1] from their sum and the sum of their squares, by betting.

The capital of one who stakes the share c at odds that are fair for the mean m,
K = ∏ (1 + (c/m)(Xᵢ − m)), does not grow in expectation where the true mean is at most m. So it
ever reaches 1/α with at most the probability α (Ville 1939; Waudby-Smith & Ramdas 2024), and so
does the average over a fixed grid of c. Two sums are enough for a lower bound of it. With S₁ and
S₂ the sums of the numbers and of their squares, t = S₂/S₁ and N = S₁²/S₂,

    log K >= N log(1 − c + c t/m) + (n − N) log(1 − c),

which N numbers t and n − N zeros would give, with the same sums. For log K is the sum of f(Xᵢ),
f(x) = log(1 − c + c x/m). The parabola that meets f at 0 and touches it at t is nowhere above f
for x >= 0, as the third derivative of f is positive, and S₁ and S₂ determine its sum. The bound
is exact for zeros and ones, and for numbers that are all alike.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from smoothlearn.theory.arguments import as_counts, as_probability
from smoothlearn.theory.binomial import winner_failure_probability
from smoothlearn.theory.stopping import FUTILITY

STAKES = special.expit(np.linspace(-6.0, 4.0, 16))
"""The grid of c: near 0 for many numbers, near 1 for few of them or means near 1."""

_ROUNDING = 1e-14
"""What a sum may be off by for every number in it."""

Floats = NDArray[np.float64]
Sums = tuple[Floats, Floats, Floats]


def _as_sums(total: ArrayLike, squares: ArrayLike, n: ArrayLike) -> Sums:
    S1, S2, draws = np.broadcast_arrays(total, squares, as_counts("n", n))
    for name, sums, most in (("total", S1, draws), ("squares", S2, S1)):
        if sums.size and sums.dtype.kind not in "iuf":
            raise TypeError(f"{name} must hold real numbers, got dtype {sums.dtype}")
        wrong = ~((sums >= 0) & (sums <= most * (1 + 1e-6)))  # probabilities in float32
        if np.any(wrong):
            above = "n" if name == "total" else "total"
            raise ValueError(
                f"{name} must lie in [0, {above}], as for numbers in [0, 1], "
                f"got {sums[wrong][0]} where {above} = {most[wrong][0]}"
            )
    return np.minimum(S1, draws), S2.astype(np.float64), draws


def _mirrored(S1: Floats, S2: Floats, n: Floats) -> Sums:
    """The sums of 1 - X."""
    return n - S1, n - 2 * S1 + S2, n


def _log_wealth(S1: Floats, S2: Floats, n: Floats, mean: Floats) -> Floats:
    slack = _ROUNDING * np.fmax(n, 1.0)
    squares = np.fmax(S2, S1 * S1 / np.fmax(n, 1.0)) + slack  # at least that by Cauchy-Schwarz
    total = np.fmax(S1 - slack, 0.0)
    N = total * total / squares
    gain = squares / np.fmax(total, 1e-100) / np.fmax(mean, 1e-100) - 1.0
    log_capital = N[..., np.newaxis] * np.log1p(np.multiply.outer(gain, STAKES))
    log_capital += np.multiply.outer(n - N, np.log1p(-STAKES))
    best = log_capital.max(axis=-1)
    lost = 1e-9 + 1e-14 * n
    return best + np.log(np.exp(log_capital - best[..., np.newaxis]).mean(axis=-1)) - lost


def log_wealth(total: ArrayLike, squares: ArrayLike, n: ArrayLike, mean: ArrayLike) -> Floats:
    r"""log of the average over c of (1 − c + c t/m)^N (1 − c)^{n−N}, t = S₂/S₁, N = S₁²/S₂.

    At most the capital of a bettor against "the mean is at most m", averaged over c in `STAKES`.
    If it is, this exceeds log(1/α) after *any* number of draws with at most the probability α
    [1]_. It falls as m or S₂ grow, and rises with S₁.

    Parameters
    ----------
    total, squares : array_like of float
        S₁ and S₂, sums of independent numbers in [0, 1] and of their squares.
    n : array_like of int
        How many.
    mean : array_like of float
        m, in [0, 1]. All four broadcast.

    Returns
    -------
    ndarray of float64
        Rounded down, a NumPy scalar for scalar arguments.

    Raises
    ------
    ValueError
        Unless 0 <= squares <= total <= n (up to one part in 10^6) and mean is in [0, 1].
    TypeError
        If n is not an integer or a sum not a real number.

    References
    ----------
    .. [1] Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting",
       JRSS B 86(1).

    Examples
    --------
    >>> from smoothlearn.theory.means import log_wealth
    >>> log_wealth(90.0, 85.0, 100, [0.5, 0.8, 0.95]).round(2)
    array([43.05,  3.88, -0.93])
    """
    S1, S2, draws = _as_sums(total, squares, n)
    return _log_wealth(S1, S2, draws, as_probability("mean", mean))[()]


def _lower(S1: Floats, S2: Floats, n: Floats, alpha: Floats) -> Floats:
    """The largest m that is refuted, by bisection: `low` is refuted at every step, or 0."""
    needed = -np.log(alpha)
    low = np.zeros(np.broadcast_shapes(S1.shape, needed.shape))
    high = np.ones_like(low)
    for _ in range(53):
        middle = (low + high) / 2
        refuted = _log_wealth(S1, S2, n, middle) >= needed
        low, high = np.where(refuted, middle, low), np.where(refuted, high, middle)
    return low


def lower_bound(
    total: ArrayLike, squares: ArrayLike, n: ArrayLike, failure_probability: ArrayLike
) -> Floats:
    r"""The largest m with :func:`log_wealth` >= log(1/α), a lower bound on the mean; 0 for none.

    It exceeds the mean with at most the probability α, at any n and however n is chosen: were it
    larger than the mean, the wealth against the mean itself would have reached 1/α.

    Parameters
    ----------
    total, squares, n
        As in :func:`log_wealth`.
    failure_probability : array_like of float
        α, in (0, 1). All four broadcast.

    Returns
    -------
    ndarray of float64
        In [0, 1], a NumPy scalar for scalar arguments.

    Raises
    ------
    ValueError, TypeError
        As in :func:`log_wealth`, or if failure_probability is outside (0, 1).

    Examples
    --------
    >>> from smoothlearn.theory.means import lower_bound
    >>> lower_bound([0.0, 90.0, 90.0], [0.0, 90.0, 82.0], 100, 0.001).round(3)
    array([0.   , 0.728, 0.804])
    """
    alpha = as_probability("failure_probability", failure_probability, ends=False)
    return _lower(*_as_sums(total, squares, n), alpha)[()]


def upper_bound(
    total: ArrayLike, squares: ArrayLike, n: ArrayLike, failure_probability: ArrayLike
) -> Floats:
    """One minus the lower bound on the mean of 1 - X, whose sums are n - S₁ and n - 2 S₁ + S₂.

    Parameters, returns and errors are those of :func:`lower_bound`.

    Examples
    --------
    >>> from smoothlearn.theory.means import upper_bound
    >>> upper_bound([10.0, 10.0, 100.0], [10.0, 2.0, 100.0], 100, 0.001).round(3)
    array([0.272, 0.196, 1.   ])
    """
    alpha = as_probability("failure_probability", failure_probability, ends=False)
    return 1.0 - _lower(*_mirrored(*_as_sums(total, squares, n)), alpha)[()]


def largest_mean(n: ArrayLike, failure_probability: ArrayLike) -> Floats:
    """The lower bound from n ones, which no other n numbers exceed.

    Of n numbers with a given sum those that are all alike have the least squares, hence the
    largest wealth, and it grows with them.

    Parameters
    ----------
    n : array_like of int
    failure_probability : array_like of float
        α, in (0, 1). Both broadcast.

    Returns
    -------
    ndarray of float64
        In [0, 1), a NumPy scalar for scalar arguments.

    Raises
    ------
    ValueError, TypeError
        If n is not an integer >= 0 or failure_probability is outside (0, 1).

    Examples
    --------
    >>> from smoothlearn.theory.means import largest_mean
    >>> largest_mean([0, 100, 10_000], 0.001).round(4)
    array([0.    , 0.9172, 0.9991])
    """
    draws = as_counts("n", n)
    return lower_bound(draws, draws, n, failure_probability)


def winner_and_rival_bounds(
    sums: ArrayLike, n_draws: ArrayLike, winner: ArrayLike, failure_probability: float
) -> tuple[Floats, Floats]:
    r"""p_lower <= E[p_A] and p_upper >= max over the other classes of E[p_B], both at once.

    Both hold with probability at least 1 - `failure_probability`, for each row, provided that
    `winner` was chosen on other draws. One or two classes: everything is spent on p_lower, and
    p_upper = 1 - p_lower. More: the winner's share on p_lower
    (:func:`~smoothlearn.theory.binomial.winner_failure_probability`), and p_upper is the smaller
    of 1 - p_lower and the *largest of the upper bounds* of the other classes at the remaining
    share, undivided: it is at least the bound of B, the class, fixed before any draw, with the
    largest mean among them, which fails with no more than that share. (The bound of the class
    with the largest sum is not enough: B may have a smaller sum that varies more.)

    Parameters
    ----------
    sums : array_like of float, shape (n, 2, n_classes)
        For each row the sums over its draws of the classes' probabilities, and of their squares.
    n_draws : array_like of int, shape (n,)
        Draws of each row.
    winner : array_like of int, shape (n,)
        Column of the class to certify, chosen on other draws.
    failure_probability : float
        In (0, 1), for each row.

    Returns
    -------
    p_lower, p_upper : ndarray of float64, shape (n,)
        Nothing is certified where p_lower <= p_upper.

    Raises
    ------
    ValueError, TypeError
        If the shapes disagree, a winner is not a class, or as in :func:`lower_bound`.

    Examples
    --------
    >>> from smoothlearn.theory.means import winner_and_rival_bounds
    >>> sums = [[[70.0, 20.0, 10.0], [51.0, 6.0, 3.0]]]
    >>> p_lower, p_upper = winner_and_rival_bounds(sums, [100], [0], 0.001)
    >>> p_lower.round(3), p_upper.round(3)
    (array([0.6]), array([0.325]))
    """
    table = np.asarray(sums)
    if table.ndim != 3 or table.shape[1] != 2 or table.shape[2] == 0:
        raise ValueError(f"sums must have shape (n, 2, n_classes), got {table.shape}")
    n_rows, _, n_classes = table.shape
    chosen, draws = as_counts("winner", winner), as_counts("n_draws", n_draws)
    for name, given in (("winner", chosen), ("n_draws", draws)):
        if given.shape != (n_rows,):
            raise ValueError(f"{name} must have shape ({n_rows},), one a row, got {given.shape}")
    if np.any(chosen >= n_classes):
        raise ValueError(
            f"winner must lie in [0, {n_classes}), the classes of sums, got {chosen.max():.0f}"
        )
    S1, S2, counted = _as_sums(table[:, 0], table[:, 1], np.asarray(n_draws)[:, np.newaxis])
    won = np.arange(n_rows), chosen.astype(np.int64)
    winner_share = winner_failure_probability(failure_probability, n_classes)
    p_lower = _lower(S1[won], S2[won], draws, winner_share)
    p_upper = 1.0 - p_lower
    if n_classes > 2:
        S1[won] = S2[won] = 0.0  # which no bound is smaller than
        rival_share = failure_probability - winner_share
        p_upper = np.minimum(p_upper, _largest_upper((S1, S2, counted), rival_share))
    return p_lower, p_upper


def _largest_upper(sums: Sums, alpha: Floats) -> Floats:
    """The largest upper bound in each row, computed for the classes that may exceed it so far."""
    order = np.argsort(-sums[0], axis=1)
    S1, S2, n = _mirrored(*(np.take_along_axis(part, order, axis=1) for part in sums))
    lower = np.ones(len(n))
    for j in range(n.shape[1]):
        refuted = _log_wealth(S1[:, j], S2[:, j], n[:, j], lower) >= -np.log(alpha)
        rows = np.flatnonzero(~refuted)
        lower[rows] = _lower(S1[rows, j], S2[rows, j], n[rows, j], alpha)
    return 1.0 - lower


def decide(
    total: ArrayLike,
    squares: ArrayLike,
    n: ArrayLike,
    threshold: ArrayLike,
    failure_probability: ArrayLike,
    futility: ArrayLike = FUTILITY,
) -> NDArray[np.int8]:
    r"""1 where the wealth shows that the mean exceeds τ, -1 where more draws are futile, else 0.

    As :func:`smoothlearn.theory.stopping.decide`, which has the meaning of 1, 0, -1 and
    `futility`, but for sums of numbers in [0, 1]: it may be asked after every draw.

    Parameters
    ----------
    total, squares, n
        As in :func:`log_wealth`.
    threshold, failure_probability, futility
        As in :func:`smoothlearn.theory.stopping.decide`.

    Returns
    -------
    ndarray of int8

    Raises
    ------
    ValueError, TypeError
        As in :func:`log_wealth`, or if a probability is outside its interval.

    Examples
    --------
    >>> from smoothlearn.theory.means import decide
    >>> decide([98.0, 90.0, 60.0], [97.0, 82.0, 40.0], 100, 0.84, 0.001)
    array([ 1,  0, -1], dtype=int8)
    """
    tau = as_probability("threshold", threshold)
    alpha = as_probability("failure_probability", failure_probability, ends=False)
    needed = -special.xlogy(1.0, as_probability("futility", futility))
    sums = _as_sums(total, squares, n)
    shown = _log_wealth(*sums, tau) >= -np.log(alpha)
    futile = _log_wealth(*_mirrored(*sums), 1.0 - tau) >= needed
    return np.subtract(shown, futile, dtype=np.int8)


def decide_one(
    total: float,
    squares: float,
    n: int,
    threshold: float,
    failure_probability: float,
    futility: float = FUTILITY,
) -> int:
    """:func:`decide` for one point and arguments known to be right, for loops: nothing is checked.

    Only the wealth of the side of τ where S₁/n lies is computed; the other does not exceed 1.
    """
    S1, S2, draws, tau = map(np.asarray, (total, squares, n, threshold))
    if total > n * threshold:
        return int(_log_wealth(S1, S2, draws, tau) >= -np.log(failure_probability))
    needed = -special.xlogy(1.0, futility)
    return -int(_log_wealth(*_mirrored(S1, S2, draws), 1.0 - tau) >= needed)
