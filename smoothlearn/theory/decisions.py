r"""Whether a Gaussian radius is at least r, decided while the votes come in.

Class A has the radius r against class B where :math:`a > f(b)`,
:math:`f(b) = \Phi(\Phi^{-1}(b) + 2r/\sigma)`, for their probabilities a and b. The function f is
concave. Where A has *not* the radius, :math:`a - s b \le \kappa` therefore holds for the slope s
and the intercept κ of every tangent of f, and one may bet on :math:`Y = 1_A - s 1_B` against a mean
of at most κ: the wealth :math:`\prod_i (1 + \lambda (Y_i - \kappa))` is a nonnegative
supermartingale for every stake λ in [0, 1/(s + κ)), and so is a mixture over stakes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from smoothlearn.theory import means, stopping

#: Shares of the largest stake that the mixture holds, equally weighted.
STAKES = np.concatenate([np.geomspace(0.004, 0.64, 14), 1 - np.geomspace(0.25, 0.004, 7)])
#: Share of the failure probability that is spent on looking; the rest on the bounds of all draws.
LOOKING_SHARE = 0.1
#: Standard errors by which frequencies may improve before further draws count as futile.
OPTIMISM = 2.0
_STEEPEST = 30.0  # log of the largest slope
_LARGEST_RATIO = 38.0  # where normal tails end in double precision

Decision = Callable[[NDArray[Any]], int]


def tilt(votes: NDArray[np.number], winner: NDArray[np.integer]) -> NDArray[np.float64]:
    r"""Where on f to draw the tangent: :math:`t = -(\Phi^{-1}(a) + \Phi^{-1}(b))/2`, at least 0.

    For frequencies a and b of the winner and of its rival among draws that decide nothing; half a
    vote is added to each. Any tangent is sound, and one near (b, a) is decided soonest. Two classes
    that share all votes have t = 0.

    Parameters
    ----------
    votes : ndarray of shape (n, n_classes)
        Counts of votes, or sums of probabilities.
    winner : ndarray of shape (n,), int

    Returns
    -------
    ndarray of shape (n,)
    """
    rows, n_draws = np.arange(len(votes)), votes.sum(axis=1)
    others = votes.copy()
    others[rows, winner] = 0
    a, b = ((k + 0.5) / (n_draws + 1) for k in (votes[rows, winner], others.max(axis=1)))
    return np.maximum(-(special.ndtri(a) + special.ndtri(b)) / 2, 0.0)


def tangent(ratio: float, tilt: float) -> tuple[float, float]:
    r"""Slope, and intercept rounded up, of the tangent of f at :math:`b = \Phi(-r/\sigma - t)`.

    There :math:`f(b) = \Phi(r/\sigma - t)`, and :math:`f'(b) = e^{2tr/\sigma}`.
    """
    if ratio > _LARGEST_RATIO:
        return 1.0, 1.0
    log_slope = min(2 * ratio * tilt, _STEEPEST)
    tilt = log_slope / (2 * ratio) if ratio else 0.0
    slope = math.exp(log_slope)
    intercept = special.ndtr(ratio - tilt) - slope * special.ndtr(-ratio - tilt)
    return slope, min(float(intercept) + 1e-13, 1.0)


def decision(
    winner: int, ratio: float, tilt: float, failure_probability: float, n_draws: int
) -> Decision:
    r"""The function from counts so far to 1 (the radius is shown), -1 (futile) or 0 (go on).

    It may be asked after every draw. It says 1 where the bets against every rival have reached
    1/α. Let B be the class, fixed before any draw, that has the largest probability among the
    rivals: if A has not the radius, the bets against B reach 1/α with at most the probability α
    (Ville), so that no share of α is lost to the number of rivals. With two classes the bets are
    those of :func:`~smoothlearn.theory.stopping.decide` on :math:`\tau = \Phi(r/\sigma)`.

    It says -1 where `n_draws` in all would hardly show the radius, even by bounds that may spend
    what :data:`LOOKING_SHARE` leaves and at frequencies better by :data:`OPTIMISM` standard errors.
    No certificate rests on that.

    Parameters
    ----------
    winner : int
        A, chosen on other draws.
    ratio : float
        r/σ >= 0.
    tilt : float
        t >= 0, chosen on other draws; see :func:`tilt` and :func:`tangent`.
    failure_probability : float
        α, in (0, 1): of looking, however often.
    n_draws : int
        The most that there will be.

    Returns
    -------
    callable
        Of an array of shape (n_classes,) to an int.

    References
    ----------
    Ville 1939; Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by
    betting", JRSS B 86(1); the radius: Cohen et al. 2019, Theorem 1.

    Examples
    --------
    >>> import numpy as np
    >>> from smoothlearn.theory.decisions import decision
    >>> decide = decision(0, ratio=1.0, tilt=0.2, failure_probability=0.001, n_draws=10_000)
    >>> [decide(np.array(votes)) for votes in ([99, 1, 0], [850, 100, 50], [500, 300, 200])]
    [1, 0, -1]
    """
    slope, intercept = tangent(ratio, tilt)
    if intercept >= 1:
        return _never
    tau, enough = float(np.nextafter(special.ndtr(ratio), 2)), -math.log(failure_probability)
    gains = np.array([1.0, -slope, 0.0]) - intercept
    logs = np.log1p(np.outer(gains, STAKES / (slope + intercept)))

    def shown(k: float, rival: float, n: float, n_classes: int) -> bool:
        """With the rival that has the most votes: the wealth falls with them."""
        if n_classes == 2:
            return stopping.decide_one(k, n, tau, failure_probability, 0.0) > 0
        parts = np.array([k, rival, n - k - rival]) @ logs
        best = float(parts.max())
        wealth = best + math.log(np.exp(parts - best).mean())
        return wealth - 1e-9 - 1e-14 * n >= enough

    def decide(counts: NDArray[Any]) -> int:
        others = counts.tolist()
        n, k = sum(others), others[winner]
        others[winner] = 0
        rival = max(others)
        if shown(k, rival, n, len(counts)):
            return 1
        shares = k / n, rival / n
        errors = [math.sqrt(share * (1 - share)) for share in shares]
        return -int(_futile(shares, errors, n, n_draws, ratio, failure_probability))

    return decide


def soft_decision(
    winner: int, ratio: float, tilt: float, failure_probability: float, n_draws: int
) -> Decision:
    r"""The :func:`decision` of soft votes, from sums of probabilities and of their squares.

    The bets on :math:`Y = F_A - s F_B` are those of :func:`~smoothlearn.theory.means.log_wealth`
    on :math:`(Y + s)/(1 + s)`, which lies in [0, 1], with :math:`Y^2 \le F_A^2 + s^2 F_B^2`.

    Parameters
    ----------
    winner, ratio, tilt, failure_probability, n_draws
        As in :func:`decision`.

    Returns
    -------
    callable
        Of an array of shape (2, n_classes) to an int.
    """
    slope, intercept = tangent(ratio, tilt)
    if intercept >= 1:
        return _never
    enough, mean = -math.log(failure_probability), (intercept + slope) / (1 + slope)

    def decide(sums: NDArray[Any]) -> int:
        n = int(np.rint(sums[0].sum()))
        (first, squares), others = sums[:, winner], np.delete(sums, winner, axis=1)
        lead = first - slope * others[0]
        square = squares + slope**2 * others[1] + 2 * slope * lead + n * slope**2
        total = np.maximum(lead + n * slope, 0.0) / (1 + slope)
        square = np.clip(square / (1 + slope) ** 2, 0.0, total)
        if np.min(means.log_wealth(total, square, n, mean)) >= enough:
            return 1
        pair = sums[:, [winner, _ahead(others[0], winner)]] / n
        errors = np.sqrt(np.maximum(pair[1] - pair[0] ** 2, 0.0))
        return -int(
            _futile(pair[0].tolist(), errors.tolist(), n, n_draws, ratio, failure_probability)
        )

    return decide


def _ahead(others: NDArray[np.float64], winner: int) -> int:
    """The column of the class that is largest among the others, in the table of all."""
    rival = int(others.argmax())
    return rival + (rival >= winner)


def _futile(
    shares: Sequence[float],
    errors: Sequence[float],
    n: float,
    n_draws: int,
    ratio: float,
    failure_probability: float,
) -> bool:
    """Whether mean votes of A and B with these standard deviations will hardly show the radius."""
    at_the_end = min(failure_probability * (1 / LOOKING_SHARE - 1), 0.5)
    gain, loss = OPTIMISM / math.sqrt(n), -float(special.ndtri(at_the_end)) / math.sqrt(n_draws)
    most = at_the_end ** (1 / n_draws)  # what unanimous votes show
    best = min(shares[0] + (gain - loss) * errors[0], most)
    least = min(max(shares[1] - (gain - loss) * errors[1], 1 - most), 1 - best)
    return bool(special.ndtri(best) - special.ndtri(least) < 2 * ratio)


def _never(_: NDArray[Any]) -> int:
    return -1
