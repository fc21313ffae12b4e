r"""Stopping rules: is p above a threshold? Sound however often one looks, or at planned looks.

k of n draws voted for a class of unknown probability p, and more draws can be had. Comparing
p with the threshold τ by a Clopper-Pearson bound after every batch errs several times as often as
one comparison. Two rules here do not: betting (:func:`decide`), at any looks, and a union bound
over looks planned beforehand (:func:`decide_by_looks`).
"""

import math
from bisect import bisect_left

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from smoothlearn.theory.arguments import as_counts, as_probability

Numbers = NDArray[np.float64] | float

FUTILITY = 0.1
"""Level at which p < τ ends the draws. No certificate rests on it: it costs power, and little."""


def _as_draws(k: ArrayLike, n: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    votes, draws = np.broadcast_arrays(as_counts("k", k), as_counts("n", n))
    excess = votes > draws
    if np.any(excess):
        given = f"k = {votes[excess][0]:.0f} of n = {draws[excess][0]:.0f}"
        raise ValueError(f"k must be <= n, got {given}")
    return votes, draws


def _as_positive(name: str, value: int) -> int:
    if as_counts(name, value) < 1:
        raise ValueError(f"{name} must be >= 1, got {value}")
    return int(value)


def _log_wealth(k: Numbers, n: Numbers, p: Numbers, q: Numbers) -> NDArray[np.float64]:
    """log of the integral over (p, 1), q = 1 - p, rounded down.

    The integral is P(Beta(k + 1, n - k + 1) > p) B(k + 1, n - k + 1) / (p^k q^(n-k+1)). Its
    computation loses about 1e-16 n log n. Written over s = (x - p)/q it is that of
    (1 + s q/p)^k (1 - s)^(n-k) over (0, 1), hence at least 1/(n - k + 1).
    """
    beyond = special.betainc(n - k + 1.0, k + 1.0, q) - 1e-300  # which only underflow notices
    scale = special.betaln(k + 1.0, n - k + 1.0)
    power = special.xlogy(k, p) + special.xlogy(n - k + 1.0, q)
    lost = 1e-9 + 1e-15 * special.xlogy(n, n)
    wealth = special.xlogy(1.0, beyond) + scale - power - lost
    return np.fmax(wealth, -special.log1p(n - k))  # passes over NaN


def log_wealth(k: ArrayLike, n: ArrayLike, threshold: ArrayLike) -> NDArray[np.float64]:
    r"""log W, W = ∫ p^k (1 − p)^{n−k} dp / ((1 − τ) τ^k (1 − τ)^{n−k}) over p in (τ, 1).

    The wealth of one who starts with 1 and bets on every draw at odds that are fair for τ, with a
    uniform mixture of the alternatives p > τ ([2]_, [3]_). Its expected value after another draw
    is W where the true probability is τ, less below τ: (1 + s (1 − τ)/τ) and (1 − s) are what a
    vote and its absence multiply the stake on s by. Being nonnegative, it reaches 1/α at any time
    with at most the probability α [1]_. Against p >= τ instead: log_wealth(n - k, n, 1 - τ).

    Parameters
    ----------
    k : array_like of int
        Votes, 0 <= k <= n.
    n : array_like of int
        Independent draws so far.
    threshold : array_like of float
        τ, in [0, 1]. All three broadcast.

    Returns
    -------
    ndarray of float64
        Rounded down, a NumPy scalar for scalar arguments; never NaN, and inf only where τ = 0 < k.

    Raises
    ------
    ValueError
        If k < 0, k > n, or threshold is outside [0, 1].
    TypeError
        If k or n are not integers.

    References
    ----------
    .. [1] Ville 1939, "Étude critique de la notion de collectif".
    .. [2] Robbins 1970, "Statistical methods related to the law of the iterated logarithm",
       Ann. Math. Stat. 41(5).
    .. [3] Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting",
       JRSS B 86(1).

    Examples
    --------
    >>> from smoothlearn.theory.stopping import log_wealth
    >>> log_wealth([0, 50, 90, 100], 100, 0.5).round(2)
    array([-4.62, -2.08, 34.91, 65.39])
    """
    votes, draws = _as_draws(k, n)
    tau = as_probability("threshold", threshold)
    return _log_wealth(votes, draws, tau, 1.0 - tau)[()]


def decide(
    k: ArrayLike,
    n: ArrayLike,
    threshold: ArrayLike,
    failure_probability: ArrayLike,
    futility: ArrayLike = FUTILITY,
) -> NDArray[np.int8]:
    r"""1 where W >= 1/α shows that p > τ, -1 where more draws are futile, 0 where to go on.

    May be asked after every draw, and the draws may end for any reason: the probability that it
    *ever* says 1 where p <= τ is at most α (:func:`log_wealth`). It says -1 where the mirrored
    wealth against p >= τ reaches 1/futility. To stop without a 1 is sound for any reason, so that
    `futility` is a matter of power alone: it ends the draws of at most this share of the points
    with p > τ.

    Parameters
    ----------
    k : array_like of int
        Votes, 0 <= k <= n.
    n : array_like of int
        Independent draws so far.
    threshold : array_like of float
        τ, in [0, 1].
    failure_probability : array_like of float
        α, in (0, 1).
    futility : array_like of float
        In [0, 1]; 0 never gives up. All five broadcast.

    Returns
    -------
    ndarray of int8
        A NumPy scalar for scalar arguments.

    Raises
    ------
    ValueError, TypeError
        As in :func:`log_wealth`, or if a probability is outside its interval.

    See Also
    --------
    decide_one : The same for one point, for loops.

    Examples
    --------
    >>> from smoothlearn.theory.stopping import decide
    >>> decide([100, 95, 80, 60], 100, 0.84, 0.001)
    array([ 1,  0,  0, -1], dtype=int8)
    """
    votes, draws = _as_draws(k, n)
    tau = as_probability("threshold", threshold)
    alpha = as_probability("failure_probability", failure_probability, ends=False)
    needed = -special.xlogy(1.0, as_probability("futility", futility))
    shown = _log_wealth(votes, draws, tau, 1.0 - tau) >= -np.log(alpha)
    futile = _log_wealth(draws - votes, draws, 1.0 - tau, tau) >= needed
    return np.subtract(shown, futile, dtype=np.int8)


def decide_one(
    k: float, n: float, threshold: float, failure_probability: float, futility: float = FUTILITY
) -> int:
    """:func:`decide` for one point and arguments known to be right, for loops: nothing is checked.

    Only the wealth of the side of τ where k/n lies is computed; the other does not exceed 1.
    """
    if k > n * threshold:
        wealth = _log_wealth(k, n, threshold, 1.0 - threshold)
        return int(wealth >= -math.log(failure_probability))
    wealth = _log_wealth(n - k, n, 1.0 - threshold, threshold)
    return -int(wealth + special.xlogy(1.0, futility) >= 0)


def draws_needed(threshold: float, failure_probability: float) -> int:
    r"""The least n with W = (τ^{−n} − τ)/((n + 1)(1 − τ)) >= 1/α: n votes of n make it so.

    No fewer draws can make :func:`decide` say 1.

    Parameters
    ----------
    threshold : float
        τ, in [0, 1 - 1e-13].
    failure_probability : float
        α, in (0, 1).

    Returns
    -------
    int
        >= 1.

    Raises
    ------
    ValueError
        If threshold is outside [0, 1 - 1e-13], or failure_probability outside (0, 1).

    Examples
    --------
    >>> from smoothlearn.theory.stopping import draws_needed
    >>> [draws_needed(tau, 0.001) for tau in (0.5, 0.84, 0.977, 0.999)]
    [13, 52, 392, 9114]
    """
    tau = float(as_probability("threshold", threshold))
    alpha = float(as_probability("failure_probability", failure_probability, ends=False))
    if tau > 1 - 1e-13:
        raise ValueError(f"threshold must be at most 1 - 1e-13, got {tau!r}")
    return bisect_left(range(2**53), True, lo=1, key=lambda n: decide_one(n, n, tau, alpha) > 0)


def largest_threshold(n: ArrayLike, failure_probability: ArrayLike) -> NDArray[np.float64]:
    r"""The largest τ with W >= 1/α for n votes of n: what n draws can show at best.

    The inverse of :func:`draws_needed`, by bisection to 2^-64.

    Parameters
    ----------
    n : array_like of int
        Independent draws.
    failure_probability : array_like of float
        α, in (0, 1). Both broadcast.

    Returns
    -------
    ndarray of float64
        In [0, 1), a NumPy scalar for scalar arguments; 0 for no draws. :func:`decide` says 1 there.

    Raises
    ------
    ValueError, TypeError
        If n is not an integer >= 0 or failure_probability is outside (0, 1).

    Examples
    --------
    >>> from smoothlearn.theory.stopping import largest_threshold
    >>> largest_threshold([0, 14, 1000, 10_000], 0.001).round(4)
    array([0.    , 0.5311, 0.9909, 0.9991])
    """
    draws, alpha = np.broadcast_arrays(
        as_counts("n", n), as_probability("failure_probability", failure_probability, ends=False)
    )
    low, high = np.zeros(draws.shape), np.ones(draws.shape)
    for _ in range(64):
        middle = (low + high) / 2
        shown = _log_wealth(draws, draws, middle, 1.0 - middle) >= -np.log(alpha)
        low, high = np.where(shown, middle, low), np.where(shown, high, middle)
    return low[()]


def doubling_looks(n_draws: int, first: int) -> tuple[int, ...]:
    """..., n_draws/4, n_draws/2, n_draws, rounded down and none below `first` but n_draws itself.

    Parameters
    ----------
    n_draws, first : int
        >= 1; a ValueError or TypeError otherwise.

    Returns
    -------
    tuple of int
        Increasing.

    Examples
    --------
    >>> from smoothlearn.theory.stopping import doubling_looks
    >>> doubling_looks(10_000, 100)
    (156, 312, 625, 1250, 2500, 5000, 10000)
    """
    looks = [_as_positive("n_draws", n_draws)]
    while looks[0] // 2 >= _as_positive("first", first):
        looks.insert(0, looks[0] // 2)
    return tuple(looks)


def spend(failure_probability: ArrayLike, n_looks: int) -> NDArray[np.float64]:
    """α/n_looks, what every look may spend for all of them together to err with at most α.

    By the union bound, whatever the looks have in common: the probability that any of them errs
    is at most the sum of theirs (Bonferroni). The looks must be planned before the first.

    Parameters
    ----------
    failure_probability : array_like of float
        α, in (0, 1).
    n_looks : int
        >= 1.

    Returns
    -------
    ndarray of float64

    Raises
    ------
    ValueError, TypeError
        If failure_probability is outside (0, 1) or n_looks is not an integer >= 1.

    Examples
    --------
    >>> from smoothlearn.theory.stopping import spend
    >>> print(spend(0.001, 8))
    0.000125
    """
    alpha = as_probability("failure_probability", failure_probability, ends=False)
    return (alpha / _as_positive("n_looks", n_looks))[()]


def _tail(hits: Numbers, misses: Numbers, p: Numbers) -> NDArray[np.float64]:
    """P(Bin(hits + misses, p) >= hits)."""
    return np.where(hits > 0, special.betainc(np.fmax(hits, 1.0), misses + 1.0, p), 1.0)


def decide_by_looks(
    k: ArrayLike,
    n: ArrayLike,
    threshold: ArrayLike,
    failure_probability: ArrayLike,
    n_looks: int,
    futility: ArrayLike = FUTILITY,
) -> NDArray[np.int8]:
    r"""1 where P(Bin(n, τ) >= k) <= α/n_looks, -1 where P(Bin(n, τ) <= k) <= futility/n_looks.

    At one of `n_looks` looks planned before the first: the Clopper-Pearson test of p <= τ at the
    share that :func:`spend` gives a look. It errs at a look with at most that share, and at any
    with at most their sum, α. Nothing else may be asked in between. Elsewhere 0: go on.

    Parameters
    ----------
    k, n, threshold, failure_probability, futility : array_like
        As in :func:`decide`; α is that of all looks together.
    n_looks : int
        >= 1.

    Returns
    -------
    ndarray of int8

    Raises
    ------
    ValueError, TypeError
        As in :func:`decide`, or if n_looks is not an integer >= 1.

    Examples
    --------
    >>> from smoothlearn.theory.stopping import decide_by_looks
    >>> decide_by_looks([100, 95, 80, 60], 100, 0.84, 0.001, n_looks=8)
    array([ 1,  0,  0, -1], dtype=int8)
    """
    votes, draws = _as_draws(k, n)
    tau, share = as_probability("threshold", threshold), spend(failure_probability, n_looks)
    missing = draws - votes
    shown = _tail(votes, missing, tau) * (1 + 1e-9) <= share
    few = _tail(missing, votes, 1.0 - tau) <= as_probability("futility", futility) / n_looks
    futile = few & ~shown
    return np.subtract(shown, futile, dtype=np.int8)
