"""Confidence bounds on the vote probabilities of a smoothed classifier."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from smoothlearn.theory.arguments import as_counts, as_probability

WINNER_SHARE = 0.9
"""Share of the failure probability spent on the winner's bound where there is a rival to bound."""


def _as_failure_probability(value: ArrayLike) -> NDArray[np.float64]:
    hint = "; 0.001 is usual (a confidence level of 0.999)"
    return as_probability("failure_probability", value, ends=False, hint=hint)


def _as_trials(
    k: ArrayLike, n: ArrayLike, failure_probability: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    successes, trials, alpha = np.broadcast_arrays(
        as_counts("k", k), as_counts("n", n), _as_failure_probability(failure_probability)
    )
    excess = successes > trials
    if np.any(excess):
        given = f"k = {successes[excess][0]:.0f} of n = {trials[excess][0]:.0f}"
        raise ValueError(f"k must be <= n, got {given}")
    return successes, trials, alpha


def _beta_quantile(
    successes: NDArray[np.float64], trials: NDArray[np.float64], alpha: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The alpha quantile of Beta(k, n - k + 1); its limits 0 at k = 0 and alpha^(1/n) at k = n."""
    inside = (successes > 0) & (successes < trials)
    a = np.where(inside, successes, 1.0)
    b = np.where(inside, trials - successes + 1.0, 1.0)
    unanimous = alpha ** (1.0 / np.maximum(trials, 1.0))
    quantile = np.where(inside, special.betaincinv(a, b, alpha), unanimous)
    return np.where(successes > 0, quantile, 0.0)[()]


def _as_vote_table(value: ArrayLike) -> NDArray[np.float64]:
    counts = as_counts("counts", value)
    if counts.ndim != 2 or counts.shape[1] == 0:
        raise ValueError(
            f"counts must have shape (n, n_classes), one row a point, got {counts.shape}"
        )
    return counts


def lower_bound(k: ArrayLike, n: ArrayLike, failure_probability: ArrayLike) -> NDArray[np.float64]:
    r"""The p with P(Bin(n, p) >= k) = failure_probability: a lower bound on p from k of n.

    One-sided Clopper-Pearson [1]_, the `failure_probability` quantile of Beta(k, n - k + 1):
    whatever the true p, at most a fraction `failure_probability` of repetitions give a bound
    above it.

    Parameters
    ----------
    k : array_like of int
        Successes, 0 <= k <= n.
    n : array_like of int
        Independent trials, their number fixed before looking.
    failure_probability : array_like of float
        In (0, 1). All three broadcast.

    Returns
    -------
    ndarray of float64
        In [0, 1], a NumPy scalar for scalar arguments. Exactly 0 at k = 0, and
        failure_probability^(1/n) at k = n > 0.

    Raises
    ------
    ValueError
        If k < 0, k > n, or failure_probability is outside (0, 1).
    TypeError
        If k or n are not integers.

    References
    ----------
    .. [1] Clopper & Pearson 1934, "The use of confidence or fiducial limits illustrated in the
       case of the binomial", Biometrika 26(4).

    Examples
    --------
    >>> from smoothlearn.theory.binomial import lower_bound
    >>> lower_bound([0, 99, 100], 100, 0.001).round(4)
    array([0.    , 0.9114, 0.9333])
    """
    return _beta_quantile(*_as_trials(k, n, failure_probability))


def upper_bound(k: ArrayLike, n: ArrayLike, failure_probability: ArrayLike) -> NDArray[np.float64]:
    r"""The p with P(Bin(n, p) <= k) = failure_probability: an upper bound on p from k of n.

    One-sided Clopper-Pearson [1]_: one minus the lower bound on the probability of the n - k
    failures. Whatever the true p, at most a fraction `failure_probability` of repetitions give
    a bound below it. It grows with k.

    Parameters
    ----------
    k : array_like of int
        Successes, 0 <= k <= n.
    n : array_like of int
        Independent trials, their number fixed before looking.
    failure_probability : array_like of float
        In (0, 1). All three broadcast.

    Returns
    -------
    ndarray of float64
        In [0, 1], a NumPy scalar for scalar arguments. Exactly 1 at k = n, and
        1 - failure_probability^(1/n) at k = 0 < n.

    Raises
    ------
    ValueError
        If k < 0, k > n, or failure_probability is outside (0, 1).
    TypeError
        If k or n are not integers.

    References
    ----------
    .. [1] Clopper & Pearson 1934, "The use of confidence or fiducial limits illustrated in the
       case of the binomial", Biometrika 26(4).

    Examples
    --------
    >>> from smoothlearn.theory.binomial import upper_bound
    >>> upper_bound([0, 1, 100], 100, 0.001).round(4)
    array([0.0667, 0.0886, 1.    ])
    """
    successes, trials, alpha = _as_trials(k, n, failure_probability)
    return 1.0 - _beta_quantile(trials - successes, trials, alpha)


def winner_failure_probability(
    failure_probability: ArrayLike, n_classes: int
) -> NDArray[np.float64]:
    """The failure probability of the winner's bound: all of it, or 0.9 of it beyond two classes.

    With two classes the rival's probability is one minus the winner's and needs no bound of its
    own. With more, the rival is bounded at what remains.

    Parameters
    ----------
    failure_probability : array_like of float
        Of the whole certificate, in (0, 1).
    n_classes : int
        Classes the base classifier may vote for, >= 1.

    Returns
    -------
    ndarray of float64
        The shape of `failure_probability`, a NumPy scalar for a scalar.

    Raises
    ------
    ValueError
        If failure_probability is outside (0, 1) or n_classes < 1.
    TypeError
        If n_classes is not an integer.

    Examples
    --------
    >>> from smoothlearn.theory.binomial import winner_failure_probability
    >>> print(winner_failure_probability(0.001, 2), winner_failure_probability(0.001, 10))
    0.001 0.0009
    """
    alpha = _as_failure_probability(failure_probability)
    if as_counts("n_classes", n_classes) < 1:
        raise ValueError(f"n_classes must be >= 1, got {n_classes}")
    return (alpha if n_classes <= 2 else WINNER_SHARE * alpha)[()]


def winner_and_rival_bounds(
    counts: ArrayLike, winner: ArrayLike, failure_probability: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""p_lower <= p_A and p_upper >= max over the other classes of p_B, both at once.

    Both hold with probability at least 1 - `failure_probability`, for each row, provided that
    `winner` was *chosen on other draws* than the ones counted here [1]_; chosen on the same draws
    the bounds fail more often than promised.

    One or two classes: p_lower is the Clopper-Pearson bound at the whole failure probability,
    p_upper = 1 - p_lower. More: p_lower is the bound at the winner's share
    (:func:`winner_failure_probability`), p_upper the smaller of 1 - p_lower and the upper bound
    of the largest other count at the remaining share. That share is not divided by the number
    of classes: let B be the class, fixed before any draw, with the largest probability among the
    others. Its count is at most the largest other count, and the upper bound grows with the
    count, so it is at least B's own bound, which fails with no more than the remaining share.
    1 - p_lower bounds p_B wherever p_lower bounds p_A, at no further cost.

    Parameters
    ----------
    counts : array_like of int, shape (n, n_classes)
        Votes of independent draws, one row a point; the row's sum is its number of draws.
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
    ValueError
        If the shapes disagree, a count is negative, a winner is not a column of `counts`, or
        failure_probability is outside (0, 1).
    TypeError
        If counts or winner are not integers.

    References
    ----------
    .. [1] Cohen et al. 2019, "Certified adversarial robustness via randomized
       smoothing", procedure CERTIFY.

    Examples
    --------
    >>> from smoothlearn.theory.binomial import winner_and_rival_bounds
    >>> p_lower, p_upper = winner_and_rival_bounds([[70, 20, 10]], [0], 0.001)
    >>> p_lower.round(3), p_upper.round(3)
    (array([0.542]), array([0.378]))
    """
    votes = _as_vote_table(counts)
    n_rows, n_classes = votes.shape
    chosen = as_counts("winner", winner)
    if chosen.shape != (n_rows,):
        raise ValueError(
            f"winner must have shape ({n_rows},), one column of counts a row, got {chosen.shape}"
        )
    if np.any(chosen >= n_classes):
        raise ValueError(
            f"winner must lie in [0, {n_classes}), the columns of counts, got {chosen.max():.0f}"
        )
    others = votes.astype(np.int64)
    n_draws = others.sum(axis=1)
    rows, columns = np.arange(n_rows), chosen.astype(np.int64)
    winner_share = winner_failure_probability(failure_probability, n_classes)
    p_lower = lower_bound(others[rows, columns], n_draws, winner_share)
    p_upper = 1.0 - p_lower
    if n_classes > 2:
        others[rows, columns] = 0
        rival_share = failure_probability - winner_share
        p_upper = np.minimum(p_upper, upper_bound(others.max(axis=1), n_draws, rival_share))
    return p_lower, p_upper


def top_two_p_value(counts: ArrayLike) -> NDArray[np.float64]:
    r"""min(1, 2 P(Bin(n_A + n_B, 1/2) >= n_A)), n_A >= n_B the two largest counts of each row.

    The two-sided p-value of "the two most voted classes are equally likely". Hung and Fithian
    [1]_ show that it may be read as if the two classes had not been chosen by their counts: a
    prediction that abstains above `failure_probability` returns a class other than the most
    likely one with at most that probability [2]_.

    Parameters
    ----------
    counts : array_like of int, shape (n, n_classes)
        Votes of independent draws, one row a point.

    Returns
    -------
    ndarray of float64, shape (n,)
        In (0, 1]; 1 for a row without votes.

    Raises
    ------
    ValueError
        If counts is not a table or a count is negative.
    TypeError
        If counts are not integers.

    References
    ----------
    .. [1] Hung & Fithian 2019, "Rank verification for exponential families", Ann. Stat. 47(2).
    .. [2] Cohen et al. 2019, "Certified adversarial robustness via randomized
       smoothing", procedure PREDICT.

    Examples
    --------
    >>> from smoothlearn.theory.binomial import top_two_p_value
    >>> top_two_p_value([[11, 0, 0], [6, 5, 0], [0, 0, 0]]).round(6)
    array([9.77e-04, 1.00e+00, 1.00e+00])
    """
    votes = np.sort(_as_vote_table(counts), axis=1)
    first = votes[:, -1]
    second = votes[:, -2] if votes.shape[1] > 1 else np.zeros_like(first)
    tail = special.betainc(np.maximum(first, 1.0), second + 1.0, 0.5)
    return np.where(first > 0, np.minimum(1.0, 2.0 * tail), 1.0)
