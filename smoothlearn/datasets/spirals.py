"""Points in the plane that no line tells apart."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from smoothlearn.theory.arguments import as_finite


def make_spirals(
    n_samples: int = 1000,
    *,
    noise: float | None = 0.6,
    n_classes: int = 2,
    n_turns: float = 2.0,
    random_state: Any = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    r"""Interleaved spirals in the plane, one a class, from the origin to the radius 10.

    .. math:: x = 10 s \, (\cos \theta, \sin \theta) + \text{noise} \cdot \varepsilon, \quad
        \theta = 2\pi \, (\text{n\_turns} \cdot s + k / \text{n\_classes}), \quad s^2 \sim U(0, 1)

    for class k. No line tells the classes apart, while neighbors mostly agree: with the defaults a
    linear classifier is right in 6 of 10 rows, and the nearest neighbor in 9.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of rows, in random order. The classes share them evenly.
    noise : float or None, default=0.6
        Standard deviation of the Gaussian noise; None means none.
    n_classes : int, default=2
        Number of spirals.
    n_turns : float, default=2.0
        How many times a spiral winds around the origin.
    random_state : int, RandomState or None
        Seed of the draws; an int gives the same rows every time.

    Returns
    -------
    X : ndarray of shape (n_samples, 2)
    y : ndarray of shape (n_samples,)
        The classes, from 0.

    Raises
    ------
    ValueError, TypeError
        If a number is out of range, or is none.

    References
    ----------
    In the manner of Anderson & Sojoudi 2022, *Certified robustness via locally biased randomized
    smoothing*, Figure 1, which does not say how its spirals were drawn.

    Examples
    --------
    >>> from smoothlearn.datasets import make_spirals
    >>> X, y = make_spirals(100, random_state=0)
    >>> X.shape, y[:5]
    ((100, 2), array([0, 0, 0, 1, 1]))
    """
    for name, number in (("n_samples", n_samples), ("n_classes", n_classes)):
        if not isinstance(number, Integral) or isinstance(number, bool) or number < 1:
            raise ValueError(f"{name} must be an int >= 1, got {number!r}")
    spread = 0.0 if noise is None else as_finite("noise", noise, zero=True)
    turns = as_finite("n_turns", n_turns)
    rng = check_random_state(random_state)
    y = rng.permutation(np.arange(n_samples, dtype=np.int64) % n_classes)
    s = np.sqrt(rng.uniform(size=n_samples))
    angle = 2 * np.pi * (turns * s + y / n_classes)
    X = 10 * s[:, np.newaxis] * np.column_stack([np.cos(angle), np.sin(angle)])
    return X + spread * rng.normal(size=X.shape), y
