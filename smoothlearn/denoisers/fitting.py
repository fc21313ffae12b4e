"""Fit what an estimator denoises with."""

from __future__ import annotations

import warnings
from typing import Any

from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from smoothlearn.denoisers.base import Denoiser, EnergyDenoiser, FloatArray
from smoothlearn.denoisers.deen import DEENDenoiser
from smoothlearn.nn.randomness import seed_nested
from smoothlearn.theory.arguments import as_finite, warn_raw_pixels
from smoothlearn.views.predictor import check_same_columns

#: A walk's sigma where it has none of its own, in units of the jump's.
_WALK_SIGMA = 0.25


def fit_denoiser(denoiser: Any, X: FloatArray, columns: Any, sigma: float, seed: int) -> Any:
    """The clone of a classifier's denoiser fitted for its noise, or a frozen one that was.

    None means ``DEENDenoiser()``; "passthrough" means none, and gives None. ``columns`` are the
    names of the columns of X, or None.

    Raises
    ------
    TypeError
        If it is not a denoiser.
    ValueError
        If it was given, or fitted for, another sigma, or was fitted on other columns.
    """
    if isinstance(denoiser, str) and denoiser == "passthrough":
        return None
    if denoiser is None:
        denoiser = DEENDenoiser()
    if isinstance(denoiser, type) or not hasattr(denoiser, "denoise_on"):
        raise TypeError(
            f"denoiser={denoiser!r} is not a denoiser; use DEENDenoiser(), ParzenDenoiser(), "
            "'passthrough' or None, or make other preprocessing a part of the estimator"
        )
    own = own_sigma(denoiser)
    if own is not None and as_finite("denoiser__sigma", own) != sigma:
        raise ValueError(
            f"the denoiser has sigma={own}, the classifier sigma={sigma}: the noise must be the "
            "same; leave the denoiser's at None and set, or search over, the classifier's"
        )
    refuse_other_columns({"denoiser": denoiser}, X, columns)
    if isinstance(denoiser, FrozenEstimator):
        warn_raw_pixels(X, sigma, stacklevel=4)
    return _fit_clone(denoiser, X, sigma, seed)


def fit_jump(jump: Any, X: FloatArray, sigma: float, seed: int) -> Denoiser:
    """The first denoiser of two, fitted for this noise; None means ``DEENDenoiser()``.

    Raises
    ------
    TypeError, ValueError
        As :func:`fit_denoiser`.
    """
    jump = DEENDenoiser() if jump is None else jump
    if not isinstance(_unfrozen(jump), Denoiser):
        raise TypeError(f"jump={jump!r} must be a denoiser, as DEENDenoiser(), or None")
    own = own_sigma(jump)
    if own is not None and as_finite("jump__sigma", own) != sigma:
        raise ValueError(
            f"jump has sigma={own}, and is to start from noise of sigma={sigma}, which must be the "
            f"same: give sigma={own} to what it is a part of, or leave that of an unfitted jump at "
            "None"
        )
    fitted: Denoiser = _fit_clone(jump, X, sigma, seed)
    return fitted


def walk_sigma(walk: Any, sigma: float) -> float:
    """The noise of the second denoiser of two: its own, or a quarter of that of the first.

    Raises
    ------
    TypeError
        If it is not a denoiser that has an energy, nor None.
    ValueError
        If its sigma is not finite and positive.

    Warns
    -----
    UserWarning
        If its noise is not smaller.
    """
    if walk is not None and not isinstance(_unfrozen(walk), EnergyDenoiser):
        raise TypeError(
            f"walk={walk!r} must be a denoiser with an energy to walk on, DEENDenoiser() or "
            "ParzenDenoiser(), or None"
        )
    own = None if walk is None else own_sigma(walk)
    if own is None:
        return _WALK_SIGMA * sigma
    smaller = as_finite("walk__sigma", own)
    if smaller >= sigma:
        warnings.warn(
            f"walk has sigma={smaller}, no less than the noise of sigma={sigma} that it is to go "
            f"beyond; choose a smaller one, or None for {_WALK_SIGMA * sigma:.3g}",
            UserWarning,
            stacklevel=3,
        )
    return smaller


def fit_walk(walk: Any, X: FloatArray, sigma: float, seed: int) -> EnergyDenoiser:
    """The second denoiser of two, fitted for the noise that :func:`walk_sigma` gives."""
    walk = DEENDenoiser() if walk is None else walk
    fitted: EnergyDenoiser = _fit_clone(walk, X, sigma, seed)
    return fitted


def own_sigma(denoiser: Any) -> Any:
    """The noise that a denoiser was given, or a frozen one was fitted for; None for neither."""
    if isinstance(denoiser, FrozenEstimator):
        check_is_fitted(denoiser)
        return denoiser.sigma_
    return denoiser.sigma


def refuse_other_columns(denoisers: dict[str, Any], X: FloatArray, columns: Any) -> None:
    """Raise a ValueError, by name, for a frozen denoiser that was fitted on other columns."""
    for name, denoiser in denoisers.items():
        if isinstance(denoiser, FrozenEstimator):
            check_same_columns(name, denoiser, X, columns)


def _unfrozen(denoiser: Any) -> Any:
    return denoiser.estimator if isinstance(denoiser, FrozenEstimator) else denoiser


def _fit_clone(denoiser: Any, X: FloatArray, sigma: float, seed: int) -> Any:
    if isinstance(denoiser, FrozenEstimator):
        return denoiser
    denoiser = clone(denoiser)
    seed_nested(denoiser, seed)
    return denoiser.set_params(sigma=sigma).fit(X)
