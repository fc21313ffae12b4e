"""The kernel width of a fitted machine, read off its decision function."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

#: (gamma, some of the probes) -> scores there, and sizes of the terms that they are sums of.
Scores = Callable[[float, slice], tuple[FloatArray, FloatArray]]

_GRID = np.arange(-200, 201) / 10  # of the logarithm, around the guess
_N_STARTS = 4
_TINY = float(np.finfo(float).tiny)
_FEW, _ALL = slice(None, None, 5), slice(None)


def find_gamma(scores: Scores, said: FloatArray, guess: float) -> float:
    r"""The γ > 0 whose scores are nearest to those the model gives, relative to their terms' sizes.

    A search over a grid of :math:`\log \gamma` some nine orders of magnitude to either side of the
    guess, and Gauss-Newton steps from its best local minima, all at few of the probes; last steps
    at all of them. Whether the scores agree is for the caller to check.

    Parameters
    ----------
    scores : callable
    said : ndarray of shape (n_probes, n_scores)
        What the model gives at all the probes.
    guess : float
        Greater than 0.

    Examples
    --------
    >>> import numpy as np
    >>> from smoothlearn.views.gamma import find_gamma
    >>> x = np.linspace(0, 3, 31)
    >>> def scores(gamma, some):
    ...     return np.exp(-gamma * x[some]), np.ones_like(x[some])
    >>> round(find_gamma(scores, np.exp(-0.125 * x), 1.0), 9)
    0.125
    """

    def ratios(log_gamma: float, some: slice) -> FloatArray:
        values, sizes = scores(guess * np.exp(log_gamma), some)
        return np.asarray((values - said[some]) / (sizes + np.abs(said[some]) + _TINY))

    def misfit(log_gamma: float) -> float:
        gaps = ratios(log_gamma, _FEW)
        return float(np.mean(np.square(np.where(np.isfinite(gaps), gaps, 2.0))))

    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        misfits = np.array([misfit(log_gamma) for log_gamma in _GRID])
        padded = np.concatenate([[np.inf], misfits, [np.inf]])
        lowest = np.flatnonzero((misfits <= padded[:-2]) & (misfits <= padded[2:]))
        starts = lowest[np.argsort(misfits[lowest], kind="stable")][:_N_STARTS]
        nearest = min((_polished(ratios, _GRID[start], _FEW) for start in starts), key=misfit)
        return guess * float(np.exp(_polished(ratios, nearest, _ALL)))


def _polished(ratios: Callable[[float, slice], FloatArray], log_gamma: float, some: slice) -> float:
    """Gauss-Newton steps, no longer than the grid's, with central differences."""
    h = 1e-6
    for _ in range(30):
        gaps = ratios(log_gamma, some)
        slopes = (ratios(log_gamma + h, some) - ratios(log_gamma - h, some)) / (2 * h)
        usable = np.isfinite(slopes) & np.isfinite(gaps)
        square = np.square(slopes[usable]).sum()
        step = float(-slopes[usable] @ gaps[usable] / square) if square > 0 else 0.0
        log_gamma += float(np.clip(step, -0.1, 0.1))
        if abs(step) < 1e-12:
            break
    return log_gamma
