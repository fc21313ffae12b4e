"""Bayes estimators x̂(y) = E[X | Y = y] in closed form, Y = X + N(0, σ²I); rows are points.

Wherever an energy φ(y) = −log f_Y(y) stands beside an estimator, x̂(y) = y − σ²∇φ(y).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from smoothlearn.theory.arguments import as_finite, as_reals, as_vector

BLOCK_ENTRIES = 2**22
"""Entries of the largest (rows of y, components) array held at a time: 32 MiB."""


def _shrinkage(sigma: float, scale: ArrayLike) -> NDArray[np.float64]:
    """β with β⁻¹ = 1 + (σ/scale)², which is 0 for a point mass."""
    return np.square(np.divide(scale, np.hypot(scale, sigma)))


def _squared_norms(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Without a temporary of the size of the rows, which may be all of a training set."""
    return np.asarray(np.einsum("ij,ij->i", rows, rows))


class _SmoothedMixture:
    """The law of Y for X a mixture of isotropic Gaussians, in coordinates centred on E[X].

    Squared distances come from matrix products, without the term ‖y‖²/2τ² of the widest
    component: common to all of them, far away it would drown their differences. Only the energy
    adds it.
    """

    def __init__(
        self, sigma: float, means: ArrayLike, scales: ArrayLike, weights: ArrayLike | None
    ) -> None:
        sigma = as_finite("sigma", sigma)
        means = as_reals("means", means, ("n_components", "d"))
        n_components, self.d = means.shape
        scales = as_vector("scales", scales, n_components)
        if np.any(scales < 0):
            raise ValueError(f"scales must be >= 0, got {scales.min()}")
        weights = np.ones(n_components) if weights is None else weights
        weights = as_reals("weights", weights, (n_components,))
        if np.any(weights < 0) or not np.any(weights > 0):
            raise ValueError("weights must be >= 0 and not all 0")
        self.weights = weights / weights.sum()
        self.centre = self.weights @ means
        self.means = means - self.centre
        self.beta = _shrinkage(sigma, scales)
        self.variances = np.square(scales) + sigma**2
        self.widest = self.variances.max()
        with np.errstate(divide="ignore"):
            self.offsets = np.log(self.weights) - 0.5 * (
                self.d * np.log(2.0 * np.pi * self.variances)
                + _squared_norms(self.means) / self.variances
            )

    def points(self, y: ArrayLike) -> NDArray[np.float64]:
        return as_reals("y", y, ("n", self.d))

    def blocks(
        self, y: NDArray[np.float64], left_out: NDArray[np.intp] | None
    ) -> Iterator[tuple[slice, NDArray[np.float64], NDArray[np.float64]]]:
        """Rows, their y − E[X], their log(weight · density) of each component + ‖y‖²/2τ²."""
        narrowness = 0.5 / self.variances - 0.5 / self.widest
        step = max(1, BLOCK_ENTRIES // len(self.means))
        for start in range(0, len(y), step):
            rows = slice(start, start + step)
            centred = y[rows] - self.centre
            logits = centred @ self.means.T
            logits /= self.variances
            logits += self.offsets
            if narrowness.any():
                logits -= _squared_norms(centred)[:, None] * narrowness
            if left_out is not None:
                logits[np.arange(len(centred)), left_out[rows]] = -np.inf
            yield rows, centred, logits

    def denoise(
        self, y: NDArray[np.float64], left_out: NDArray[np.intp] | None = None
    ) -> NDArray[np.float64]:
        x_hat = np.empty_like(y)
        for rows, centred, logits in self.blocks(y, left_out):
            logits -= logits.max(axis=1, keepdims=True)
            np.exp(logits, out=logits)
            logits /= logits.sum(axis=1, keepdims=True)
            contracted = (logits @ self.beta)[:, None] * centred
            logits *= 1.0 - self.beta
            x_hat[rows] = contracted + logits @ self.means + self.centre
        return x_hat

    def energy(
        self, y: NDArray[np.float64], left_out: NDArray[np.intp] | None = None
    ) -> NDArray[np.float64]:
        energy = np.empty(len(y))
        for rows, centred, logits in self.blocks(y, left_out):
            common = _squared_norms(centred) / (2.0 * self.widest)
            energy[rows] = common - special.logsumexp(logits, axis=1)
        if left_out is not None:
            energy += np.log1p(-self.weights[left_out])
        return energy


def gaussian_denoiser(
    y: ArrayLike, sigma: float, mean: ArrayLike, scale: float
) -> NDArray[np.float64]:
    r"""mean + β(y − mean), β⁻¹ = 1 + (σ/scale)²: x̂ where X = N(mean, scale² I).

    Parameters
    ----------
    y : array_like of float, shape (n, d)
        Noisy points.
    sigma : float
        Standard deviation of the noise, in the units of y.
    mean : array_like of float, shape (d,) or ()
        E[X].
    scale : float
        Standard deviation of each coordinate of X, >= 0.

    Returns
    -------
    ndarray of float64, shape (n, d)

    Raises
    ------
    ValueError, TypeError
        If sigma is not > 0, scale is negative, or an argument is not finite, real and of its
        shape.

    References
    ----------
    .. [1] Saremi & Srivastava 2020, Eq. 7 (with mean 0), arXiv:2005.04504.

    Examples
    --------
    >>> from smoothlearn.theory.bayes import gaussian_denoiser
    >>> gaussian_denoiser([[3.0, 0.0]], sigma=1.0, mean=1.0, scale=1.0)
    array([[2. , 0.5]])
    """
    points = as_reals("y", y, ("n", "d"))
    centre = as_vector("mean", mean, points.shape[1])
    beta = _shrinkage(as_finite("sigma", sigma), as_finite("scale", scale, zero=True))
    return centre + beta * (points - centre)


def mixture_denoiser(
    y: ArrayLike,
    sigma: float,
    means: ArrayLike,
    scales: ArrayLike,
    weights: ArrayLike | None = None,
) -> NDArray[np.float64]:
    r"""Σ_k r_k(y)(μ_k + β_k(y − μ_k)): x̂ where X = Σ_k w_k N(μ_k, s_k² I).

    r_k(y) ∝ w_k N(y; μ_k, (s_k² + σ²) I) is the probability that y came from component k, and
    β_k⁻¹ = 1 + (σ/s_k)². With two components of equal weight and scale at ±μ it is Eq. 8 of
    [1]_: βy + (1 − β) tanh(⟨βy, μ⟩/s²) μ.

    Parameters
    ----------
    y : array_like of float, shape (n, d)
        Noisy points.
    sigma : float
        Standard deviation of the noise, in the units of y.
    means : array_like of float, shape (n_components, d)
        The μ_k.
    scales : array_like of float, shape (n_components,) or ()
        The s_k >= 0; 0 is a point mass.
    weights : array_like of float, shape (n_components,), optional
        The w_k >= 0, divided by their sum. None means equal.

    Returns
    -------
    ndarray of float64, shape (n, d)

    Raises
    ------
    ValueError, TypeError
        If sigma is not > 0, a scale or weight is negative, all weights are 0, or an argument is
        not finite, real and of its shape.

    References
    ----------
    .. [1] Saremi & Srivastava 2020, Section 2.2.1, arXiv:2005.04504.

    Examples
    --------
    >>> from smoothlearn.theory.bayes import mixture_denoiser
    >>> mixture_denoiser([[0.5, 1.0]], sigma=1.0, means=[[2.0, 0.0], [-2.0, 0.0]], scales=1.0)
    array([[0.71211716, 0.5       ]])
    """
    mixture = _SmoothedMixture(sigma, means, scales, weights)
    return mixture.denoise(mixture.points(y))


def mixture_energy(
    y: ArrayLike,
    sigma: float,
    means: ArrayLike,
    scales: ArrayLike,
    weights: ArrayLike | None = None,
) -> NDArray[np.float64]:
    r"""−log Σ_k w_k N(y; μ_k, (s_k² + σ²) I), the energy φ(y) of the noisy mixture, normalised.

    Parameters
    ----------
    y, sigma, means, scales, weights
        As in :func:`mixture_denoiser`.

    Returns
    -------
    ndarray of float64, shape (n,)
        In nats.

    Raises
    ------
    ValueError, TypeError
        As in :func:`mixture_denoiser`.

    References
    ----------
    .. [1] Saremi & Srivastava 2020, Section 2.2.1, arXiv:2005.04504.

    Examples
    --------
    >>> from smoothlearn.theory.bayes import mixture_energy
    >>> mixture_energy([[0.0]], sigma=1.0, means=[[0.0]], scales=0.0).round(4)
    array([0.9189])
    """
    mixture = _SmoothedMixture(sigma, means, scales, weights)
    return mixture.energy(mixture.points(y))


def _parzen(
    y: ArrayLike, sigma: float, X: ArrayLike, leave_out: ArrayLike | None
) -> tuple[_SmoothedMixture, NDArray[np.float64], NDArray[np.intp] | None]:
    centres = as_reals("X", X, ("n_rows", "d"))
    mixture = _SmoothedMixture(sigma, centres, 0.0, None)
    points = mixture.points(y)
    if leave_out is None:
        return mixture, points, None
    left_out = np.asarray(leave_out)
    if left_out.size and left_out.dtype.kind not in "iu":
        raise TypeError(f"leave_out must hold integers, got dtype {left_out.dtype}")
    if left_out.shape != (len(points),):
        wanted = f"({len(points)},), one row of X for each y"
        raise ValueError(f"leave_out must have shape {wanted}, got {left_out.shape}")
    if len(centres) == 1:
        raise ValueError("leave_out needs at least two rows of X, got one")
    outside = (left_out < 0) | (left_out >= len(centres))
    if np.any(outside):
        raise ValueError(f"leave_out must lie in [0, {len(centres)}), got {left_out[outside][0]}")
    return mixture, points, left_out.astype(np.intp)


def parzen_denoiser(
    y: ArrayLike, sigma: float, X: ArrayLike, *, leave_out: ArrayLike | None = None
) -> NDArray[np.float64]:
    r"""Σ_i r_i(y) X_i, r_i(y) ∝ exp(−‖y − X_i‖²/2σ²): x̂ where X is a uniformly drawn row.

    A point that is itself a noisy row of X is drawn to that row: its weight r_i is close to 1
    wherever rows are further apart than the noise reaches. `leave_out` takes the row away.

    Parameters
    ----------
    y : array_like of float, shape (n, d)
        Noisy points.
    sigma : float
        Standard deviation of the noise, in the units of y.
    X : array_like of float, shape (n_rows, d)
        Points to denoise to.
    leave_out : array_like of int, shape (n,), optional
        For each y the row of X to leave out. Copies of that row elsewhere in X stay.

    Returns
    -------
    ndarray of float64, shape (n, d)
        Computed in blocks of `BLOCK_ENTRIES` weights, so that memory does not grow with
        n × n_rows.

    Raises
    ------
    ValueError, TypeError
        If sigma is not > 0, an argument is not finite, real and of its shape, an index is not
        that of a row of X, or the only row of X is to be left out.

    References
    ----------
    .. [1] Parzen 1962, "On estimation of a probability density function and mode", Ann. Math.
       Stat. 33(3).
    .. [2] Saremi & Srivastava 2020, Section 2.2, arXiv:2005.04504: x̂(y) = y + σ²∇log f_Y(y).

    Examples
    --------
    >>> from smoothlearn.theory.bayes import parzen_denoiser
    >>> X = [[0.0], [1.0], [3.0]]
    >>> parzen_denoiser([[0.1]], 0.5, X).round(3)
    array([[0.168]])
    >>> parzen_denoiser([[0.1]], 0.5, X, leave_out=[0]).round(3)
    array([[1.]])
    """
    mixture, points, left_out = _parzen(y, sigma, X, leave_out)
    return mixture.denoise(points, left_out)


def parzen_energy(
    y: ArrayLike, sigma: float, X: ArrayLike, *, leave_out: ArrayLike | None = None
) -> NDArray[np.float64]:
    r"""−log mean_i N(y; X_i, σ² I), the energy φ(y) of a uniformly drawn row of X plus noise.

    Parameters
    ----------
    y, sigma, X, leave_out
        As in :func:`parzen_denoiser`; the mean is over the rows that are not left out.

    Returns
    -------
    ndarray of float64, shape (n,)
        In nats.

    Raises
    ------
    ValueError, TypeError
        As in :func:`parzen_denoiser`.

    References
    ----------
    .. [1] Parzen 1962, "On estimation of a probability density function and mode", Ann. Math.
       Stat. 33(3).

    Examples
    --------
    >>> from smoothlearn.theory.bayes import parzen_energy
    >>> parzen_energy([[0.0], [1.0]], 1.0, [[0.0], [1.0]]).round(4)
    array([1.138, 1.138])
    """
    mixture, points, left_out = _parzen(y, sigma, X, leave_out)
    return mixture.energy(points, left_out)


def _linear_gaussian(
    x: ArrayLike, w: ArrayLike, b: float, sigma: float, scale: float
) -> tuple[NDArray[np.float64], float, float, float]:
    """⟨w, x⟩, b, β and ‖w‖."""
    points = as_reals("x", x, ("n", "d"))
    normal = as_reals("w", w, (points.shape[1],))
    norm = float(np.linalg.norm(normal))
    if norm == 0:
        raise ValueError("w must not be 0: the classifier would be constant")
    beta = float(_shrinkage(as_finite("sigma", sigma), as_finite("scale", scale)))
    return points @ normal, float(as_reals("b", b, ())), beta, norm


def linear_gaussian_score(
    x: ArrayLike, w: ArrayLike, b: float, sigma: float, scale: float
) -> NDArray[np.float64]:
    r"""⟨w, βx⟩ + b, β⁻¹ = 1 + (σ/scale)², whose sign is the smoothed label of sign(⟨w, x̂(y)⟩ + b).

    The majority vote of h(x̂(x + N(0, σ² I))), h(x) = sign(⟨w, x⟩ + b), where x̂ is the Bayes
    estimator of X = N(0, scale² I): the vote for +1 has probability
    Φ((⟨w, βx⟩ + b)/(βσ‖w‖)). For b ≠ 0 the label differs from h(x) at the points for which the
    boundary lies between x and βx.

    Parameters
    ----------
    x : array_like of float, shape (n, d)
        Points.
    w : array_like of float, shape (d,)
        Normal of the boundary, not 0.
    b : float
        Intercept.
    sigma : float
        Standard deviation of the noise, in the units of x.
    scale : float
        Standard deviation of each coordinate of X, > 0.

    Returns
    -------
    ndarray of float64, shape (n,)

    Raises
    ------
    ValueError, TypeError
        If w is 0, sigma or scale is not > 0, or an argument is not finite, real and of its
        shape.

    References
    ----------
    .. [1] Saremi & Srivastava 2020, Proposition 2.3 (i), Eq. 9, arXiv:2005.04504.

    Examples
    --------
    >>> from smoothlearn.theory.bayes import linear_gaussian_score
    >>> linear_gaussian_score([[1.5, 0.0], [3.0, 0.0]], [1.0, 0.0], -1.0, sigma=1.0, scale=1.0)
    array([-0.25,  0.5 ])
    """
    projection, intercept, beta, _ = _linear_gaussian(x, w, b, sigma, scale)
    return beta * projection + intercept


def linear_gaussian_radius(
    x: ArrayLike, w: ArrayLike, b: float, sigma: float, scale: float
) -> NDArray[np.float64]:
    r"""``|⟨w, x⟩ + b/β|/‖w‖``, the distance to the boundary of :func:`linear_gaussian_score`.

    The exact ℓ2 radius of that smoothed classifier: the label holds at every shorter distance
    and flips just beyond it along w. It is the radius ``(1/β) |⟨w, βx⟩ + b|/‖w‖`` of [1]_ with the
    factor multiplied out. With b = 0 it is the margin of h, and denoising has gained
    nothing; with b ≠ 0 the boundary has moved away from the origin, so the side of the origin
    gains (1/β − 1)|b|/‖w‖, the other side loses as much, and the points between the two
    boundaries change their label.

    Parameters
    ----------
    x, w, b, sigma, scale
        As in :func:`linear_gaussian_score`.

    Returns
    -------
    ndarray of float64, shape (n,)
        In the units of x.

    Raises
    ------
    ValueError, TypeError
        As in :func:`linear_gaussian_score`.

    References
    ----------
    .. [1] Saremi & Srivastava 2020, Proposition 2.3 (ii), Eq. 11, arXiv:2005.04504.

    Examples
    --------
    >>> from smoothlearn.theory.bayes import linear_gaussian_radius
    >>> linear_gaussian_radius([[1.5, 0.0], [3.0, 0.0]], [1.0, 0.0], -1.0, sigma=1.0, scale=1.0)
    array([0.5, 1. ])
    """
    projection, intercept, beta, norm = _linear_gaussian(x, w, b, sigma, scale)
    return np.abs(projection + intercept / beta) / norm
