r"""Gradient-Lipschitz constants of kernel machines and of compositions, rounded up.

A kernel machine is :math:`f(x) = \sum_i c_i k(x, z_i) + b`. Its constant is the largest
:math:`\|H\|_{p \to q} = \max u^T H v` over :math:`\|u\|_p, \|v\|_p \le 1` of its Hessians, q the
dual of p. Coefficients have shape (..., m): one machine for every leading index. They are taken as
exact; what is returned is an upper bound in spite of rounding.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smoothlearn.theory.norms import check_norm, dual, euclidean_stretch, form_norm, row_norms

FloatArray = NDArray[np.float64]

_EPS = float(np.finfo(float).eps)
_TINY = float(np.finfo(float).tiny)  # more than any sum of exponentials that underflowed

#: Upper bounds of the first and second derivative of the logistic function: 1/4 and 1/(6√3).
SIGMOID_SLOPE, SIGMOID_BEND = 0.25, 0.0962251


def rbf_curvature(
    coefficients: FloatArray, gamma: float, nearest: ArrayLike = 0.0, farthest: ArrayLike = np.inf
) -> FloatArray:
    r""":math:`2\gamma \max(\sum_i c_i^+ h_i + c_i^- e_i, \sum_i c_i^+ e_i + c_i^- h_i)`, spectral.

    For :math:`k(x, z) = e^{-s}`, :math:`s = \gamma \|x - z\|_2^2`, on the points at a distance
    between ``nearest`` and ``farthest`` from each centre; :math:`e_i` and :math:`h_i` are the
    largest :math:`e^{-s}` and :math:`e^{-s}(2s - 1)` there. The Hessian of one term has the
    eigenvalues :math:`2\gamma e^{-s}(2s - 1)` along :math:`x - z` and, not above it,
    :math:`-2\gamma e^{-s}` across. The two sums bound the eigenvalues of the whole from above and,
    negated, from below, as those of a sum lie between the sums of the terms' extremes.
    :math:`e^{-s}(2s - 1)` grows up to :math:`s = 3/2`, where it is :math:`2e^{-3/2}`, and falls
    from there. With P and N the sums of the coefficients of either sign, the constant of all of
    space is thus :math:`2\gamma \max(P + .4463 N, N + .4463 P)`.

    Parameters
    ----------
    coefficients : ndarray of shape (..., m)
    gamma : float
    nearest, farthest : array_like that broadcasts against coefficients
        Euclidean; the caller rounds them outward. The defaults stand for all of space.

    Examples
    --------
    >>> import numpy as np
    >>> from smoothlearn.theory.lipschitz import rbf_curvature
    >>> rbf_curvature(np.array([1.0, -1.0]), gamma=0.5).round(4)
    np.float64(1.4463)

    References
    ----------
    Anderson & Sojoudi 2022, "Certified robustness via locally biased randomized smoothing",
    Theorem 8, which asks for such a constant.
    """
    coefficients, nearest, farthest = np.broadcast_arrays(coefficients, nearest, farthest)
    if gamma == 0:
        return np.zeros(coefficients.shape[:-1])
    with np.errstate(over="ignore", under="ignore"):
        least = gamma * np.square(nearest) * (1 - 8 * _EPS)
        most = gamma * np.square(farthest) * (1 + 8 * _EPS)
        peak = np.minimum(np.clip(1.5, least, most), 1e3)  # e^{-s} is 0 before that
        decay, bump = np.exp(-least), np.exp(-peak) * (2 * peak - 1)
        size = np.abs(coefficients)
        both = _dot(size, bump + decay)
        apart = np.abs(_dot(coefficients, bump - decay))
        slack = 4 * (coefficients.shape[-1] + 16) * _EPS * (both + 4 * _dot(size, decay))
        bound = gamma * (both + apart + slack) * (1 + 8 * _EPS)
    return np.asarray(bound + _TINY * (size.any(axis=-1)))


def rbf_slope(coefficients: FloatArray, gamma: float) -> FloatArray:
    r""":math:`\sqrt{2\gamma/e} \sum_i |c_i|`, a bound of :math:`\|\nabla f\|_2` in all of space.

    The gradient of one term is :math:`2\gamma r e^{-\gamma r^2}` long at the distance r, at most
    what it is at :math:`r = 1/\sqrt{2\gamma}`.

    Parameters
    ----------
    coefficients : ndarray of shape (..., m)
    gamma : float
    """
    steepest = np.sqrt(2 * gamma / np.e)
    return np.asarray(steepest * np.abs(coefficients).sum(axis=-1) * _slack(coefficients.shape[-1]))


def tanh_bend(least: ArrayLike, most: ArrayLike = np.inf) -> FloatArray:
    r"""The largest :math:`|\tanh''(u)|` over :math:`\text{least} \le |u| \le \text{most}`.

    :math:`|\tanh''| = 2 \tanh |u| / \cosh^2 u` grows up to :math:`\tanh |u| = 1/\sqrt 3`, where it
    is :math:`4/(3\sqrt 3)`, and falls from there.

    Parameters
    ----------
    least, most : array_like of float
        Not negative.

    Examples
    --------
    >>> from smoothlearn.theory.lipschitz import tanh_bend
    >>> tanh_bend(0.0).round(4), tanh_bend(2.0).round(4)
    (np.float64(0.7698), np.float64(0.1362))
    """
    peak = np.clip(np.arctanh(1 / np.sqrt(3)), least, most)
    return np.asarray(2 * np.tanh(peak) * tanh_slope(peak) * (1 + 32 * _EPS) + _TINY)


def tanh_slope(least: ArrayLike) -> FloatArray:
    r"""The largest :math:`\tanh'(u) = 1/\cosh^2 u` over :math:`|u| \ge \text{least}`."""
    with np.errstate(under="ignore"):
        decay = np.exp(-2 * np.asarray(least))
        return np.asarray(4 * decay / np.square(1 + decay))


def power_slope(most: ArrayLike, degree: int) -> FloatArray:
    r"""The largest :math:`|\frac{d}{du} u^m|` over :math:`|u| \le \text{most}`."""
    return _power(most, degree - 1, degree)


def power_bend(most: ArrayLike, degree: int) -> FloatArray:
    r"""The largest :math:`|\frac{d^2}{du^2} u^m|` over :math:`|u| \le \text{most}`."""
    return _power(most, degree - 2, degree * (degree - 1))


def _power(most: ArrayLike, exponent: int, factor: int) -> FloatArray:
    with np.errstate(over="ignore", under="ignore"):
        power = np.power(most, max(exponent, 0), dtype=float)
        return np.asarray(factor * power * (1 + 8 * _EPS) + _TINY) if factor else 0 * power


def ridge_spread(coefficients: FloatArray, weights: FloatArray, norm: float) -> float:
    r""":math:`\max_{\|u\|_p \le 1} \sum_i |c_i| (w_i^T u)^2`, bounded for p = inf.

    It is the norm of the quadratic form :math:`\sum_i |c_i| w_i w_i^T`.

    Parameters
    ----------
    coefficients : ndarray of shape (m,)
    weights : ndarray of shape (m, d)
    norm : 1, 2 or inf
        The p.
    """
    used = coefficients != 0
    scaled = np.sqrt(np.abs(coefficients[used]))[:, np.newaxis] * weights[used]
    m, d = scaled.shape
    if m <= d:
        return euclidean_stretch(scaled, norm) ** 2 * _slack(1) + _TINY
    # the errors of its entries are at most m eps d times the norm, in each of the norms
    return form_norm(scaled.T @ scaled, norm) * _slack(m * (d + 1)) + _TINY


def ridge_curvature(
    coefficients: FloatArray, bends: FloatArray, lengths: FloatArray, spread: ArrayLike
) -> FloatArray:
    r""":math:`\min(\max_i \beta_i \cdot S, \sum_i |c_i| \beta_i \|w_i\|_q^2)`.

    For :math:`f(x) = \sum_i c_i \psi(w_i^T x + a_i)`, where :math:`\beta_i` is the largest
    :math:`|\psi''(w_i^T x + a_i)|` and :math:`S = \max \sum_i |c_i| (w_i^T u)^2`. The Hessian is
    :math:`\sum_i c_i \psi''_i w_i w_i^T`, so :math:`|u^T H v|` is at most
    :math:`\sum_i |c_i| \beta_i |w_i^T u| |w_i^T v|`: by Cauchy and Schwarz not above the first,
    by Hölder in each term not above the second.

    Parameters
    ----------
    coefficients : ndarray of shape (..., m)
    bends : ndarray that broadcasts against coefficients
        The β, which may be inf.
    lengths : ndarray of shape (m,)
        The q-norms of the w.
    spread : array_like of shape (...)
        S, from `ridge_spread`.
    """
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        used = (coefficients != 0) & (lengths > 0)  # others add nothing, however large their β
        sizes = np.abs(coefficients) * np.square(lengths) + _TINY
        highest = np.max(np.where(used, bends, 0.0), axis=-1, initial=0.0)
        together = np.where(highest > 0, highest * spread, 0.0)
        alone = np.where(used, sizes * bends, 0.0).sum(axis=-1)
        return np.asarray(np.minimum(together, alone) * _slack(coefficients.shape[-1]))


def quadratic_curvature(coefficients: FloatArray, weights: FloatArray, norm: float) -> float:
    r""":math:`\|H\|_{p \to q}` of :math:`H = 2 \sum_i c_i w_i w_i^T`, the Hessian of degree 2.

    Exact but for rounding where p is 1 or 2: the largest :math:`|H_{jk}|` and the spectral norm.
    For p = inf the least of :math:`\sum_{jk} |H_{jk}|` and d times the spectral norm.

    Parameters
    ----------
    coefficients : ndarray of shape (m,)
    weights : ndarray of shape (m, d)
        Of :math:`f(x) = \sum_i c_i (w_i^T x + a_i)^2`.
    norm : 1, 2 or inf
        The p.

    Examples
    --------
    >>> import numpy as np
    >>> from smoothlearn.theory.lipschitz import quadratic_curvature
    >>> round(quadratic_curvature(np.array([1.0, -1.0]), np.eye(2), np.inf), 6)
    4.0
    """
    check_norm(norm)
    hessian = 2 * (coefficients[:, np.newaxis] * weights).T @ weights
    bound = float(np.max(np.abs(hessian), initial=0.0)) if norm == 1 else form_norm(hessian, norm)
    size = 2 * _dot(np.abs(coefficients), np.square(np.abs(weights).sum(axis=1)))
    return float((bound + 2 * (len(weights) + 8) * _EPS * size) * _slack(weights.shape[1]))


def ridge_slope(coefficients: FloatArray, lengths: FloatArray, steepest: float = 1.0) -> FloatArray:
    r""":math:`\sup |\psi'| \sum_i |c_i| \|w_i\|_q`, a bound of the gradient's q-norm.

    For :math:`f(x) = \sum_i c_i \psi(w_i^T x + a_i)`; for a sigmoid kernel :math:`|\tanh'| \le 1`.

    Parameters
    ----------
    coefficients : ndarray of shape (..., m)
    lengths : ndarray of shape (m,)
        The q-norms of the w.
    steepest : float
        The largest :math:`|\psi'|`, which may be inf.
    """
    bound = _dot(np.abs(coefficients), lengths) * _slack(coefficients.shape[-1])
    with np.errstate(invalid="ignore"):
        return np.where(bound > 0, bound * steepest, 0.0)


def composed(slope: ArrayLike, curvature: ArrayLike) -> FloatArray:
    r""":math:`\sup|\psi''| K^2 + \sup|\psi'| L`, the constant of :math:`\psi(h)`, ψ the sigmoid.

    K bounds the q-norm of the gradient of h and L is the constant of that gradient, both where the
    result is to hold. The Hessian is :math:`\psi'' \nabla h \nabla h^T + \psi' \nabla^2 h`; of the
    logistic function :math:`|\psi'| \le 1/4` and :math:`|\psi''| \le 1/(6\sqrt 3)`.

    Parameters
    ----------
    slope, curvature : array_like of float
        K and L; either may be inf.

    Examples
    --------
    >>> from smoothlearn.theory.lipschitz import composed
    >>> composed(2.0, 1.0).round(3)
    np.float64(0.635)
    """
    with np.errstate(over="ignore"):
        bent = SIGMOID_BEND * np.square(slope) + SIGMOID_SLOPE * np.asarray(curvature, float)
    return np.asarray(bent * (1 + 8 * _EPS))


def weight_lengths(weights: FloatArray, norm: float) -> FloatArray:
    r"""The dual norms :math:`\|w_i\|_q` of the rows, rounded up, for a threat in the p-norm."""
    return row_norms(weights, dual(norm)) * _slack(weights.shape[-1])


def _dot(left: FloatArray, right: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("...i,...i->...", left, right))


def _slack(n_terms: int) -> float:
    return 1 + 4 * (n_terms + 8) * _EPS
