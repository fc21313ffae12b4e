r"""Scores and certified radii of locally biased smoothing, for two classes and more.

Throughout, f is the difference of two scores of the base, G the dual norm of its gradient at x, and
L a bound of how fast its gradient changes: :math:`\|\nabla f(u) - \nabla f(v)\|_* \le L \|u - v\|`.
The bias :math:`\beta` is what the oracle adds to f: :math:`\alpha G` for the link "logit" and
:math:`\sinh^{-1}(\alpha G)` for "probability". The latter is Eq. 5 for the saturating score
:math:`g = \psi(f)`, the sigmoid less one half, seen in the logit's domain: as
:math:`\psi / \psi' = \sinh`, the sign of :math:`g \pm \alpha \|\nabla g\|_*` is that of
:math:`f \pm \sinh^{-1}(\alpha \|\nabla f\|_*)`.

On a segment of length t to a point where the gradient has dual norm :math:`\gamma`, it has at most
:math:`\min(G + L\tau, \gamma + L(t - \tau))` at :math:`\tau`, and the integral of that bounds how
much f falls. All radii are the largest that follow from :math:`(f(x), G, L, \alpha)` in this way.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

FloatArray = NDArray[np.float64]

LINKS = ("logit", "probability")

_ROUNDED_DOWN = 1 - 1e-12
_CELLS = 64
_BISECTIONS = 60
_BALLS = 16
_CLOSE = 1e-4


def bias(gradient_norm: FloatArray, alpha: float, link: str) -> FloatArray:
    r"""What the oracle adds to f: :math:`\alpha G`, or its inverse hyperbolic sine.

    Parameters
    ----------
    gradient_norm : ndarray
    alpha : float
    link : {"logit", "probability"}
    """
    linear = alpha * gradient_norm
    return np.asarray(np.arcsinh(linear) if link == "probability" else linear)


def smoothed_score(
    score: FloatArray, gradient_norm: FloatArray, oracle: FloatArray, alpha: float, link: str
) -> FloatArray:
    r"""The smoothed score :math:`g + \alpha\,\hat y\,\|\nabla g\|_*`.

    Parameters
    ----------
    score, gradient_norm : ndarray of shape (n,)
        f and the dual norm of its gradient. For the link "logit" g is f; for "probability" it is
        :math:`1/(1 + e^{-f}) - 1/2`.
    oracle : ndarray of shape (n,)
        The sign of the oracle, -1 or 1.
    alpha : float
    link : {"logit", "probability"}

    References
    ----------
    Anderson & Sojoudi 2022, Eq. 4 and 5.

    Examples
    --------
    >>> import numpy as np
    >>> from smoothlearn.theory.locally_biased import smoothed_score
    >>> smoothed_score(np.array([-1.0]), np.array([2.0]), np.array([1.0]), 3.0, "logit")
    array([5.])
    """
    if link == "probability":
        gradient_norm = sigmoid_slope(score) * gradient_norm
        score = np.tanh(score / 2) / 2
    return np.asarray(score + alpha * oracle * gradient_norm)


def sigmoid_slope(score: FloatArray) -> FloatArray:
    r"""The derivative of the sigmoid, :math:`\psi'(f) = 1 / (4 \cosh^2(f / 2))`."""
    return np.asarray(expit(score) * expit(-score))


def radius_against(
    margin: FloatArray, gradient_norm: FloatArray, curvature: FloatArray, alpha: float, link: str
) -> FloatArray:
    r"""The radius :math:`R_-` within which :math:`f - \beta > 0`: no oracle can turn f's sign.

    The first root of :math:`f - Gt - Lt^2/2 - \beta(G + Lt)`; for the link "logit"
    :math:`2M / (B + \sqrt{B^2 + 2LM})` with :math:`M = f - \alpha G` and :math:`B = G + \alpha L`.
    With ``alpha`` 0 it is the radius :math:`R_0` of the base itself.

    Parameters
    ----------
    margin, gradient_norm, curvature : ndarray of shape (n,)
        f, at least G and at least L.
    alpha : float
    link : {"logit", "probability"}

    Returns
    -------
    ndarray of shape (n,)
        0 where :math:`f - \beta \le 0`, inf where f is constant.

    Examples
    --------
    >>> import numpy as np
    >>> from smoothlearn.theory.locally_biased import radius_against
    >>> one = np.ones(1)
    >>> radius_against(5 * one, 2 * one, 0 * one, 1.0, "logit").round(6)
    array([1.5])
    """
    if link == "logit" or alpha == 0:
        M, B = margin - alpha * gradient_norm, gradient_norm + _times(alpha, curvature)
        return _positive(M, curvature, _falling_root(M, B, curvature))

    L = np.where(curvature < np.inf, curvature, 0.0)

    def value(t: FloatArray) -> FloatArray:
        fallen = margin - _fall(gradient_norm, L, t, 1.0)
        return np.asarray(fallen - np.arcsinh(alpha * (gradient_norm + L * t)))

    M = margin - np.arcsinh(alpha * gradient_norm)
    flat = (gradient_norm == 0) & (curvature == 0)
    beyond = _falling_root(margin, gradient_norm, curvature)
    return _positive(M, curvature, np.where(flat, np.inf, _bisect(value, beyond)))


def radius_with(
    margin: FloatArray, gradient_norm: FloatArray, curvature: FloatArray, alpha: float, link: str
) -> FloatArray:
    r"""The radius :math:`R_+` within which :math:`f + \beta > 0`, while the oracle speaks for f.

    The first t at which the least of :math:`f - \int_0^t \min(G + L\tau, \gamma + L(t-\tau)) d\tau
    + \beta(\gamma)`, over all :math:`\gamma` within Lt of G, is 0. For the link "logit" this is a
    quadratic on each of three intervals of t; for "probability" the concave :math:`\sinh^{-1}` is
    replaced by chords below it, which costs less than 1 % of a unit of f.

    Parameters
    ----------
    margin, gradient_norm, curvature : ndarray of shape (n,)
        f, G and at least L.
    alpha : float
    link : {"logit", "probability"}

    Returns
    -------
    ndarray of shape (n,)
        0 where :math:`f + \beta \le 0`, inf where f is constant.

    Examples
    --------
    >>> import numpy as np
    >>> from smoothlearn.theory.locally_biased import radius_with
    >>> one = np.ones(1)
    >>> radius_with(5 * one, 2 * one, 0 * one, 1.0, "logit").round(6)
    array([3.5])
    """
    M = margin + bias(gradient_norm, alpha, link)
    if link == "logit" or alpha == 0:
        return _positive(M, curvature, _three_branches(margin, gradient_norm, curvature, alpha))

    L = np.where(curvature < np.inf, curvature, 0.0)

    def value(t: FloatArray) -> FloatArray:
        return _least_with(margin, gradient_norm, L, t, alpha)

    flat = (gradient_norm == 0) & (curvature == 0)
    # a path along which the gradient does not change is one of those that can be taken
    beyond = _falling_root(M, gradient_norm, curvature / 2)
    return _positive(M, curvature, np.where(flat, np.inf, _bisect(value, beyond)))


def radius_on_balls(
    radius: Callable[[FloatArray], FloatArray],
    curvature: Callable[[FloatArray], FloatArray],
    n: int,
) -> FloatArray:
    r"""The largest :math:`\min(R, r(L(R)))` found among balls of radius R.

    A bound L(R) that holds on the ball of radius R certifies no more than R.

    Parameters
    ----------
    radius : callable
        From curvatures (n,) to radii (n,), not increasing.
    curvature : callable
        From radii of balls (n,), inf for all of space, to curvatures, not decreasing.
    n : int

    References
    ----------
    Anderson & Sojoudi 2022, the remark before Theorem 8.
    """
    lower = radius(curvature(np.full(n, np.inf)))
    upper = radius(curvature(lower))
    for _ in range(_BALLS):
        open_ = upper > lower * (1 + _CLOSE)
        if not open_.any():
            break
        ball = np.where(open_, _between(lower, upper), lower)
        found = radius(curvature(ball))
        holds = found >= ball
        lower = np.where(open_, np.where(holds, ball, np.maximum(lower, found)), lower)
        upper = np.where(open_, np.where(holds, np.minimum(upper, found), ball), upper)
    return lower


def published_radius(
    smoothed: FloatArray, gradient_norm: FloatArray, curvature: FloatArray, alpha: float
) -> FloatArray:
    r"""The published :math:`(\sqrt{B^2 + 4L|g^\mu|} - B) / 2L` with :math:`B = \alpha L + G`.

    Parameters
    ----------
    smoothed, gradient_norm, curvature : ndarray of shape (n,)
        :math:`|g^\mu|`, and G and L of g.
    alpha : float

    References
    ----------
    Anderson & Sojoudi 2022, Theorem 8; for L = 0 Theorem 6. Radii of ``radius_against`` and
    ``radius_with`` are never smaller.
    """
    B = gradient_norm + _times(alpha, curvature)
    root = _falling_root(smoothed, B, 2 * curvature)
    return _positive(smoothed, curvature, root)


def combine(
    label: NDArray[np.intp],
    oracle: NDArray[np.intp],
    avoid: FloatArray,
    *,
    against: FloatArray,
    plain: FloatArray,
    favoured: FloatArray,
    rival_plain: FloatArray,
) -> FloatArray:
    r"""The certified radius from those of all pairs of classes.

    With c the label, :math:`\hat y` the oracle and b the base's best rival of it,

    .. math::

        P = \min_{k \ne c} \max(R_-^{c,k}, \min(\mathrm{avoid}_k, R_0^{c,k})), \qquad
        r = \max\bigl(P, \min_{k \ne c} \mathrm{avoid}_k,
            \max(R_+^{c,k}, R_0^{b,k})\bigr) \text{ where } c = \hat y,

    and :math:`r = P` elsewhere. Within P, class c beats every k: without the oracle's help where
    the oracle cannot name k, else against it. Where the oracle names c and goes on to, c need only
    beat with its help those k that the base does not put behind b. For two classes
    this is :math:`\max(R_-, [c = \hat y] \min(R_+, \mathrm{avoid}))`.

    Parameters
    ----------
    label, oracle : ndarray of shape (n,)
        Columns.
    avoid : ndarray of shape (n, n_classes)
        The radius within which the oracle does not name class k; not read in the oracle's column.
    against, plain, favoured : ndarray of shape (n, n_classes)
        :math:`R_-`, :math:`R_0` and :math:`R_+` of the label's score less that of class k.
    rival_plain : ndarray of shape (n, n_classes)
        :math:`R_0` of b's score less that of class k; 0 in b's column.
    """
    columns = np.arange(avoid.shape[1])
    own = columns == label[:, np.newaxis]
    named = columns == oracle[:, np.newaxis]
    avoid = np.where(named, 0.0, avoid)
    alone = np.maximum(against, np.minimum(avoid, plain))
    alone = np.where(own, np.inf, alone).min(axis=1)
    keep = np.where(named, np.inf, avoid).min(axis=1)
    helped = np.where(own, np.inf, np.maximum(favoured, rival_plain)).min(axis=1)
    return np.where(label == oracle, np.maximum(alone, np.minimum(keep, helped)), alone)


def _three_branches(
    margin: FloatArray, gradient_norm: FloatArray, curvature: FloatArray, alpha: float
) -> FloatArray:
    G, L = gradient_norm, curvature
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        M, B = margin + alpha * G, G + _times(alpha, L)
        turn = np.where(G > 0, G / L, 0.0)  # where the gradient can have vanished
        first_end = np.minimum(alpha, turn)
        first = 2 * (M / B) / (1 + np.sqrt(np.maximum(1 - 2 * (L / B) * (M / B), 0)))
        in_first = M - B * first_end + L * first_end**2 / 2 <= 0
        middle_end = 2 * alpha - turn
        rest = margin + G * turn / 4
        middle = _falling_root(rest, G / 2, L / 2)
        in_middle = rest - G * middle_end / 2 - L * middle_end**2 / 4 <= 0
        last = alpha + _falling_root(margin - L * alpha * alpha / 2, G, L)
    curved = np.where(in_first, first, np.where((turn < alpha) & in_middle, middle, last))
    return np.where(L == 0, _falling_root(M, G, L), curved)


def _least_with(
    margin: FloatArray, G: FloatArray, L: FloatArray, t: FloatArray, alpha: float
) -> FloatArray:
    """A lower bound of f + asinh(alpha |grad f|) at a distance t, by chords."""
    reach = L * t
    ends = np.arcsinh(alpha * np.stack([np.maximum(G - reach, 0), G + reach]))
    knots = np.linspace(ends[0], ends[1], _CELLS + 1)
    norms = np.sinh(knots) / alpha
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        z = np.where(reach > 0, np.clip((norms - G) / reach, -1, 1), 0.0)
        steep = np.nan_to_num(np.diff(knots, axis=0) / np.diff(norms, axis=0), posinf=0.0)
        best = np.clip(1 - 2 * steep / t, z[:-1], z[1:])
    added = knots[:-1] + steep * reach * (best - z[:-1])
    return np.asarray(margin + (added - _fall(G, L, t, best)).min(axis=0))


def _fall(G: FloatArray, L: FloatArray, t: FloatArray, z: FloatArray | float) -> FloatArray:
    """The most that f can fall over a length t that ends where its gradient has norm G + z L t."""
    return np.asarray(t * (G + L * t * (1 + 2 * z - z * z) / 4))


def _falling_root(M: FloatArray, B: FloatArray, L: FloatArray) -> FloatArray:
    """The root t > 0 of M - B t - L t^2 / 2, for M > 0; inf where there is none."""
    M = np.maximum(M, 0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        root = 2 * M / (B + np.hypot(B, np.sqrt(2 * L) * np.sqrt(M)))
    return np.where((B == 0) & (L == 0), np.inf, root)


def _bisect(value: Callable[[FloatArray], FloatArray], upper: FloatArray) -> FloatArray:
    """From below, where a decreasing function that is positive at 0 is so no longer."""
    upper = np.where(np.isfinite(upper), upper, 0.0)
    lower = np.zeros_like(upper)
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(_BISECTIONS):
            middle = (lower + upper) / 2
            positive = value(np.where(middle > 0, middle, 1.0)) > 0
            lower, upper = np.where(positive, middle, lower), np.where(positive, upper, middle)
    return lower


def _positive(start: FloatArray, curvature: FloatArray, radius: FloatArray) -> FloatArray:
    """The radius rounded down; 0 where the value at x is not positive or nothing bounds L."""
    known = (start > 0) & (curvature < np.inf)
    return np.where(known & ~np.isnan(radius), np.maximum(radius, 0) * _ROUNDED_DOWN, 0.0)


def _between(lower: FloatArray, upper: FloatArray) -> FloatArray:
    """A middle of two radii: the geometric one where they are far apart."""
    beyond = np.where(lower > 0, 16 * lower, 1.0)
    apart = (lower > 0) & (upper > 4 * lower)
    with np.errstate(invalid="ignore"):
        middle = np.where(apart, np.sqrt(lower) * np.sqrt(upper), lower / 2 + upper / 2)
    middle = np.where(lower > 0, middle, upper / 16)
    return np.clip(np.where(np.isinf(upper), beyond, middle), lower, upper)


def _times(alpha: float, curvature: FloatArray) -> FloatArray:
    """0 times infinity is 0: without a bias, its change does not matter."""
    return alpha * curvature if alpha else np.zeros_like(curvature)
