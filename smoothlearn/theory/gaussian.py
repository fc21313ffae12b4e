"""Certified radii of Gaussian smoothing, the largest one n draws can give, the draws one needs."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from smoothlearn.theory import binomial, means
from smoothlearn.theory.arguments import as_counts, as_finite, as_probability
from smoothlearn.theory.binomial import winner_failure_probability

#: More draws pay where they promise at least this share of what they add to a unanimous vote.
WORTHWHILE_GAIN = 1 / 3


def radius(
    p_lower: ArrayLike, p_upper: ArrayLike | None = None, sigma: float = 1.0
) -> NDArray[np.float64]:
    r"""(σ/2)(Φ⁻¹(p_lower) − Φ⁻¹(p_upper)), or σΦ⁻¹(p_lower) without p_upper; never negative.

    The ℓ2 radius within which the σ-smoothed classifier keeps a class of probability at least
    `p_lower` when every other class has at most `p_upper` ([1]_, Theorem 1; [2]_, Eq. 5 and 6).
    The radius is strict: it speaks of perturbations shorter than it.

    Parameters
    ----------
    p_lower : array_like of float
        Lower bound on the probability of the winner, in [0, 1].
    p_upper : array_like of float, optional
        Upper bound on the probability of any other class, in [0, 1]; broadcasts against
        `p_lower`. None means 1 - p_lower, which is Eq. 6.
    sigma : float
        Standard deviation of the noise, in the units of the input.

    Returns
    -------
    ndarray of float64
        In the units of `sigma`, a NumPy scalar for scalar arguments. 0 where
        p_lower <= p_upper, inf where p_lower = 1 > p_upper or p_upper = 0 < p_lower.

    Raises
    ------
    ValueError
        If a probability is outside [0, 1] or sigma is not finite and > 0.
    TypeError
        If sigma is not one real number.

    References
    ----------
    .. [1] Cohen et al. 2019, "Certified adversarial robustness via randomized smoothing", ICML.
    .. [2] Saremi & Srivastava 2020, "Provable robust classification via learned smoothed
       densities", arXiv:2005.04504.

    Examples
    --------
    >>> from smoothlearn.theory.gaussian import radius
    >>> radius([0.9, 0.9, 0.4], [0.1, 0.05, 0.6], sigma=0.5).round(3)
    array([0.641, 0.732, 0.   ])
    """
    sigma = as_finite("sigma", sigma)
    above = special.ndtri(as_probability("p_lower", p_lower))
    below = -above if p_upper is None else special.ndtri(as_probability("p_upper", p_upper))
    with np.errstate(invalid="ignore"):
        gap = above - below
    return np.where(gap > 0, 0.5 * sigma * gap, 0.0)[()]


def _max_standard_radius(n_draws: ArrayLike, alpha: ArrayLike) -> NDArray[np.float64]:
    """Φ⁻¹(α^{1/n}) = −Φ⁻¹(1 − α^{1/n}), which keeps its digits as α^{1/n} approaches 1."""
    with np.errstate(divide="ignore"):
        missing = -np.expm1(np.divide(np.log(alpha), n_draws))
    return np.where(missing < 0.5, -special.ndtri(missing), 0.0)


def max_radius(
    n_draws: ArrayLike,
    confidence_level: ArrayLike,
    sigma: float,
    *,
    n_classes: int = 2,
    soft: bool = False,
) -> NDArray[np.float64]:
    r"""σΦ⁻¹(α^{1/n}): the largest radius that n draws can certify, all of them for one class.

    α is the winner's share of 1 - `confidence_level` and α^{1/n} its lower bound from n votes
    of n. ([2]_ prints α^{-n}, which is not a probability.) With more than two classes the
    rival's own bound never binds here: from no vote at a share s < α it is 1 − s^{1/n}, above
    the 1 − α^{1/n} that the winner's bound leaves. Fewer votes lower the winner's bound and
    raise the rival's, so no other outcome reaches further.

    Parameters
    ----------
    n_draws : array_like of int
        Draws the bounds are computed from, >= 0.
    confidence_level : array_like of float
        In (0, 1); broadcasts against `n_draws`.
    sigma : float
        Standard deviation of the noise, in the units of the input.
    n_classes : int
        Classes the base classifier may vote for; see
        :func:`~smoothlearn.theory.binomial.winner_failure_probability`.
    soft : bool
        Whether votes are probabilities: then α^{1/n} is the bound that n ones give,
        :func:`~smoothlearn.theory.means.largest_mean`.

    Returns
    -------
    ndarray of float64
        In the units of `sigma`, a NumPy scalar for scalar arguments; 0 where
        α^{1/n} <= 1/2, which certifies nothing.

    Raises
    ------
    ValueError
        If n_draws < 0, confidence_level is outside (0, 1), sigma is not finite and > 0, or
        n_classes < 1.
    TypeError
        If n_draws or n_classes are not integers or sigma is not one real number.

    References
    ----------
    .. [1] Cohen et al. 2019, "Certified adversarial robustness via randomized smoothing", ICML.
    .. [2] Saremi & Srivastava 2020, "Provable robust classification via learned smoothed
       densities", arXiv:2005.04504, Section 4.

    Examples
    --------
    >>> from smoothlearn.theory.gaussian import max_radius
    >>> max_radius([9, 100, 100_000], 0.999, sigma=1.0).round(3)
    array([0.   , 1.5  , 3.811])
    """
    sigma = as_finite("sigma", sigma)
    draws = as_counts("n_draws", n_draws)
    level = as_probability("confidence_level", confidence_level, ends=False)
    alpha = winner_failure_probability(1.0 - level, n_classes)
    if soft:
        return radius(means.largest_mean(n_draws, alpha), sigma=sigma)
    return sigma * _max_standard_radius(draws, alpha)[()]


def draws_needed(
    radius: float, confidence_level: float, sigma: float, *, n_classes: int = 2
) -> int:
    r"""The smallest n with σΦ⁻¹(α^{1/n}) >= radius, about log α / log Φ(radius/σ).

    The inverse of :func:`max_radius` [1]_: no fewer draws can certify `radius`, and these do
    if every one of them votes for the same class.

    Parameters
    ----------
    radius : float
        In the units of `sigma`, >= 0. 0 asks for the smallest n with a radius above 0.
    confidence_level : float
        In (0, 1).
    sigma : float
        Standard deviation of the noise, in the units of the input.
    n_classes : int
        Classes the base classifier may vote for.

    Returns
    -------
    int
        n with max_radius(n) >= radius > max_radius(n - 1), as computed in float64.

    Raises
    ------
    ValueError
        If radius is not finite and >= 0 or beyond 37 sigma (over 10^300 draws),
        confidence_level is outside (0, 1), sigma is not finite and > 0, or n_classes < 1.
    TypeError
        If radius or sigma is not one real number or n_classes is not an integer.

    References
    ----------
    .. [1] Cohen et al. 2019, "Certified adversarial robustness via randomized smoothing", ICML.

    Examples
    --------
    >>> from smoothlearn.theory.gaussian import draws_needed
    >>> [draws_needed(r, 0.999, sigma=0.5) for r in (0.0, 0.5, 1.0, 2.0)]
    [10, 40, 301, 218105]
    """
    radius = as_finite("radius", radius, zero=True)
    sigma = as_finite("sigma", sigma)
    level = float(as_probability("confidence_level", confidence_level, ends=False))
    alpha = float(winner_failure_probability(1.0 - level, n_classes))

    def enough(n: int) -> bool:
        reached = sigma * float(_max_standard_radius(float(n), alpha))
        return reached > 0 and reached >= radius

    log_p = float(special.log_ndtr(radius / sigma))
    if log_p > -1e-300:
        raise ValueError(
            f"radius must be at most 37 sigma, got {radius / sigma:.3g} sigma; use a larger sigma"
        )
    high = max(1, math.ceil(math.log(alpha) / log_p))
    while not enough(high):
        high *= 2
    low = high // 2
    while enough(low):
        low //= 2
    while high - low > 1:
        middle = (low + high) // 2
        if enough(middle):
            high = middle
        else:
            low = middle
    return high


def draws_of(votes: NDArray[np.number]) -> NDArray[np.int64]:
    """The number of draws behind each row of `votes`, as in :func:`vote_bounds`."""
    probabilities = votes if votes.ndim == 2 else votes[:, 0]
    return np.asarray(np.rint(probabilities.sum(axis=1)).astype(np.int64))


def vote_bounds(
    votes: NDArray[np.number], winner: ArrayLike, failure_probability: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""p_lower <= p_A and p_upper >= max over the other classes of p_B, from hard or soft votes.

    Parameters
    ----------
    votes : ndarray of shape (n, n_classes), int, or (n, 2, n_classes), float
        Counts of votes, or sums of probabilities and of their squares.
    winner : array_like of int, shape (n,)
        Column of the class to certify, chosen on other draws.
    failure_probability : float
        In (0, 1), for each row.

    Returns
    -------
    p_lower, p_upper : ndarray of float64, shape (n,)

    Raises
    ------
    ValueError, TypeError
        As in :func:`~smoothlearn.theory.binomial.winner_and_rival_bounds` and
        :func:`~smoothlearn.theory.means.winner_and_rival_bounds`, which this calls.
    """
    if votes.ndim != 3:
        return binomial.winner_and_rival_bounds(votes, winner, failure_probability)
    return means.winner_and_rival_bounds(votes, draws_of(votes), winner, failure_probability)


def hopeless(
    votes: NDArray[np.number], winner: NDArray[np.integer], failure_probability: float
) -> NDArray[np.bool_]:
    """Where the winner's upper bound is at most the lower bound of another class.

    Such a row will hardly get a radius, however many draws are added. Nothing sound rests on it.

    Parameters
    ----------
    votes, winner, failure_probability
        As in :func:`vote_bounds`.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    n_draws, rows = draws_of(votes), np.arange(len(votes))
    others = votes.copy()
    others[rows, ..., winner] = 0
    best = others if votes.ndim == 2 else others[:, 0]
    rival = best.argmax(axis=1)
    if votes.ndim == 2:
        high = binomial.upper_bound(votes[rows, winner], n_draws, failure_probability)
        low = binomial.lower_bound(votes[rows, rival], n_draws, failure_probability)
    else:
        total, squares = votes[rows, :, winner].T
        high = means.upper_bound(total, squares, n_draws, failure_probability)
        total, squares = votes[rows, :, rival].T
        low = means.lower_bound(total, squares, n_draws, failure_probability)
    return np.asarray(high <= low)


def more_draws_pay(
    votes: ArrayLike, winner: ArrayLike, n_draws: int, failure_probability: float
) -> NDArray[np.bool_]:
    r"""Where r(n_draws) − r(n) ≥ γ (r₁(n_draws) − r₁(n)): `n_draws` in all would pay.

    Here r(n_draws) is the radius if the votes kept their frequencies, r₁ that of a unanimous vote,
    and γ is `WORTHWHILE_GAIN`. Radii are limited by the number of draws where the votes are
    nearly unanimous, and there alone: those are the rows.

    Parameters
    ----------
    votes : array_like of int, shape (n, n_classes), or of float, shape (n, 2, n_classes)
        Votes of the first draws, one row a point, as in :func:`vote_bounds`.
    winner : array_like of int, shape (n,)
        Column of the class to certify.
    n_draws : int
        Draws in all, with those that were counted.
    failure_probability : float
        In (0, 1), of the bounds before and after.

    Returns
    -------
    ndarray of bool, shape (n,)

    Raises
    ------
    ValueError, TypeError
        As in :func:`~smoothlearn.theory.binomial.winner_and_rival_bounds`.

    Examples
    --------
    >>> from smoothlearn.theory.gaussian import more_draws_pay
    >>> counts = [[1000, 0, 0], [998, 1, 1], [950, 30, 20], [400, 300, 300]]
    >>> more_draws_pay(counts, [0, 0, 0, 0], 20_000, 0.0005)
    array([ True,  True, False, False])
    """
    votes = np.asarray(votes)

    def reached(table: NDArray[np.number]) -> NDArray[np.float64]:
        return radius(*vote_bounds(table, winner, failure_probability))

    here = reached(votes)  # which checks the arguments
    total = draws_of(votes).reshape(-1, *[1] * (votes.ndim - 1))
    won = np.arange(votes.shape[-1]) == np.asarray(winner)[:, np.newaxis]
    unanimous = total * (won if votes.ndim == 2 else np.stack([won, won], axis=1))
    stretch = as_counts("n_draws", n_draws) / np.maximum(total, 1)

    def later(table: NDArray[np.number]) -> NDArray[np.float64]:
        more = table * stretch
        return reached(more if table.ndim == 3 else np.rint(more).astype(np.int64))

    wanted = later(unanimous) - reached(unanimous)
    return np.asarray((wanted > 0) & (later(votes) - here >= WORTHWHILE_GAIN * wanted))
