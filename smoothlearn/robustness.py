"""Robust accuracy from both sides: certified from below, attacked from above."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_scalar
from tqdm.auto import tqdm

from smoothlearn.denoisers.base import Denoise
from smoothlearn.nn.attacks import Rowwise, projected_gradient, smoothed_loss
from smoothlearn.nn.randomness import generator_on, spawn_seeds, torch_device
from smoothlearn.nn.voting import chunk_size, row_seeds
from smoothlearn.theory.arguments import as_finite
from smoothlearn.views.affine import FloatArray
from smoothlearn.views.network import Tensors
from smoothlearn.voted import VotedSmoother

#: From the least to the largest score of a row, on average, after they are scaled: steep, as votes
#: are, and not so steep that the gradient of a softmax vanishes.
_RANGE = 20.0


@dataclass(frozen=True, eq=False, kw_only=True)
class RobustAccuracy:
    """Bounds of robust accuracy, and the points that an attack found.

    Attributes
    ----------
    radius : float
        Euclidean, in the units of X.
    certified : float
        Share of rows that are certified to keep the right label within the radius.
    attacked : float
        Share of rows that are not ``broken``.
    points : ndarray of shape (n, d), float64
        Where the attack arrived, within the radius of every row; the row itself where its label is
        wrong already.
    broken : ndarray of shape (n,), bool
        Whether the label at the point is wrong, significantly.

    See Also
    --------
    robust_accuracy : how they are found.
    """

    radius: float
    certified: float
    attacked: float
    points: FloatArray
    broken: NDArray[np.bool_]


@torch.inference_mode(False)
def robust_accuracy(
    classifier: VotedSmoother,
    X: Any,
    y: ArrayLike,
    *,
    radius: float,
    n_steps: int = 20,
    n_noise: int = 100,
    n_restarts: int = 1,
    bounds: tuple[float, float] | None = None,
    random_state: Any = None,
) -> RobustAccuracy:
    r"""Bounds of the share of rows with :math:`g(x') = y` for all :math:`\|x' - x\|_2 < r`.

    From below: rows whose certificate has the right label and reaches the radius r. From above:
    rows whose label stays right at the one point where projected gradient steps arrive that
    increase

    .. math:: -\log \frac1m \sum_{j=1}^m \mathrm{softmax}\bigl(s(x' + \varepsilon_j)\bigr)_y,
        \quad \varepsilon_j \sim N(0, \sigma^2 I)

    with the scores s of the base behind its denoiser, scaled, and noise that a row keeps [1]_. A
    second attack takes the denoiser's gradient for the identity, as that of one that hardly moves
    leads nowhere [2]_; the point with the larger loss counts. What lies between the two bounds is
    robust to these attacks and not certified.

    Parameters
    ----------
    classifier : RandomizedSmoothingClassifier, EmpiricalBayesSmoothedClassifier or XHATClassifier
        Fitted. A base must be linear or a skorch net, alone or behind scalers.
    X : array_like or data frame of shape (n, d)
    y : array_like of shape (n,)
        True labels.
    radius : float
        In the units of X.
    n_steps : int
        Gradient steps, each of length 2.5 radius / n_steps.
    n_noise : int
        Draws of the noise for every row: m.
    n_restarts : int
        Attacks on every row: the first starts at the row, others at random points within the
        radius.
    bounds : (float, float) or None
        The least and the largest value of a feature, as (0, 1) for pixels, that points keep to. The
        certificate does not know of them.
    random_state : int, RandomState or None
        Seeds the noise of the attack, other noise than that of the votes, and its random starts.

    Returns
    -------
    RobustAccuracy

    Raises
    ------
    TypeError
        If the classifier is of another kind, or its base has no gradient.
    ValueError
        If it is not fitted, a parameter is out of range, X is not within the bounds, or y has
        another length or labels that the classifier never saw.

    Notes
    -----
    A label is wrong where ``predict`` has another and ``abstains`` does not doubt it, at the row
    itself or at the point. Of a row that g has right everywhere within the radius this happens with
    probability at most 2 (1 - ``confidence_level``). More ``n_draws`` leave fewer labels in doubt,
    hence ``attacked`` nearer to the truth, and need no refit:
    ``classifier.set_params(n_draws=1000)``.

    References
    ----------
    .. [1] Salman et al. 2019, "Provably robust deep learning via adversarially trained smoothed
       classifiers", NeurIPS, Eq. 5; with a denoiser, Saremi & Srivastava 2020, "Provable robust
       classification via learned smoothed densities", arXiv:2005.04504, Eq. 13 and 14.
    .. [2] Athalye, Carlini & Wagner 2018, "Obfuscated gradients give a false sense of security",
       ICML, section 4.1: the backward pass of a differentiable approximation.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from smoothlearn import RandomizedSmoothingClassifier, robust_accuracy
    >>> X, y = load_iris(return_X_y=True)
    >>> smoother = RandomizedSmoothingClassifier(
    ...     LogisticRegression(max_iter=1000), n_draws=1000, random_state=0
    ... )
    >>> found = robust_accuracy(smoother.fit(X, y), X, y, radius=0.3, random_state=0)
    >>> round(found.certified, 2), round(found.attacked, 2)
    (0.87, 0.92)
    """
    radius = as_finite("radius", radius)
    for name, count in (("n_steps", n_steps), ("n_noise", n_noise), ("n_restarts", n_restarts)):
        check_scalar(count, name, Integral, min_val=1)
    seeds = spawn_seeds(random_state, ("noise", "starts"))
    _check_kind(classifier)
    rows = classifier._check_rows(X)
    labels = _as_indices(y, classifier.classes_, len(rows))
    bounds = _as_bounds(bounds, rows)
    device = torch_device(classifier.device)
    parts = classifier._parts_on(device)
    certified = classifier.certify(X).accuracy(y, radius)
    points, broken = rows.copy(), _is_wrong(classifier, rows, labels)
    right = np.flatnonzero(~broken)
    points[right] = _attack(
        classifier,
        parts,
        rows[right],
        labels[right],
        n_noise=int(n_noise),
        noise_seed=seeds["noise"],
        device=device,
        epsilon=radius,
        n_steps=int(n_steps),
        n_restarts=int(n_restarts),
        bounds=bounds,
        generator=generator_on(device, seeds["starts"]),
    )
    broken[right] = _is_wrong(classifier, points[right], labels[right])
    return RobustAccuracy(
        radius=radius,
        certified=certified,
        attacked=float(np.mean(~broken)) if len(rows) else float("nan"),
        points=points,
        broken=broken,
    )


def _attack(
    classifier: VotedSmoother,
    parts: tuple[Denoise | None, Tensors],
    rows: FloatArray,
    labels: NDArray[np.intp],
    *,
    n_noise: int,
    noise_seed: int,
    device: torch.device,
    **settings: Any,
) -> FloatArray:
    """Where projected gradient arrives from every row, in float64, some rows at once."""
    sigma, shape = classifier.sigma_, (n_noise, rows.shape[1])
    seeds = row_seeds(rows, sigma=sigma, noise_seed=noise_seed, purpose="attack")
    points, size = np.empty_like(rows), _rows_at_once(*shape, device)
    for start in tqdm(range(0, len(rows), size), unit="batch", disable=classifier.verbose <= 0):
        some = slice(start, start + size)
        draws = [
            torch.randn(shape, generator=generator_on(device, seed), device=device)
            for seed in seeds[some]
        ]
        x = torch.tensor(rows[some], device=device)
        y = torch.tensor(labels[some], device=device)
        soft = classifier.vote == "soft"
        losses = _losses(*parts, x, y, sigma * torch.stack(draws), soft)
        found = [projected_gradient(loss, x, norm=2, **settings) for loss in losses]
        points[some] = _largest(losses[0], found).cpu().numpy()
    return points


def _largest(loss: Rowwise, found: list[torch.Tensor]) -> torch.Tensor:
    """Of several points for every row the one with the largest loss."""
    with torch.no_grad():
        winner = torch.stack([loss(points) for points in found]).argmax(dim=0)
    return torch.stack(found)[winner, torch.arange(len(winner), device=winner.device)]


def _rows_at_once(n_noise: int, n_features: int, device: torch.device) -> int:
    """As many rows as have together about as many noisy copies as votes are cast at once."""
    return max(1, chunk_size(n_features, device) // n_noise)


def _losses(
    denoise: Denoise | None,
    scores: Tensors,
    x: torch.Tensor,
    y: torch.Tensor,
    noise: torch.Tensor,
    soft: bool,
) -> list[Rowwise]:
    """The smoothed loss; behind a denoiser also with the gradient that goes past it.

    The scores of every row get a scale, on which no hard vote depends.
    """

    def denoised(noisy: torch.Tensor) -> torch.Tensor:
        return noisy if denoise is None else denoise(noisy, generator_on(noisy.device, 0))

    def past(noisy: torch.Tensor) -> torch.Tensor:
        return noisy + (denoised(noisy.detach()) - noisy).detach()

    with torch.no_grad():
        at_rows = scores(denoised((x[:, None] + noise).flatten(0, 1).float()))
    least, most = at_rows.aminmax(dim=1)
    width = (most - least).reshape(len(x), -1).mean(dim=1)
    hard = width.isfinite() & (width > 0) & (not soft)
    scale = torch.where(hard, _RANGE / width, 1.0)
    scale = scale.repeat_interleave(noise.shape[1])[:, None]

    def loss(seen: Tensors) -> Rowwise:
        return smoothed_loss(lambda noisy: scale * scores(seen(noisy.float())).double(), y, noise)

    return [loss(denoised)] if denoise is None else [loss(denoised), loss(past)]


def _is_wrong(
    classifier: VotedSmoother, rows: FloatArray, labels: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Where the vote is for another class, and significant."""
    given = classifier._as_given(rows)
    wrong = classifier.predict(given) != classifier.classes_[labels]
    return np.asarray(wrong & ~classifier.abstains(given))


def _check_kind(classifier: Any) -> None:
    if not isinstance(classifier, VotedSmoother):
        raise TypeError(
            "classifier must be a RandomizedSmoothingClassifier, an "
            f"EmpiricalBayesSmoothedClassifier or an XHATClassifier, got {classifier!r}; of a "
            "pipeline pass the last step, with an X that the steps before have transformed and a "
            "radius in its units; of a search, best_estimator_. Attacks on a LocallyBiasedSmoother "
            "are in smoothlearn.nn.attacks"
        )


def _as_indices(y: ArrayLike, classes: NDArray[Any], n_rows: int) -> NDArray[np.intp]:
    """The position of every label among the classes."""
    y = np.asarray(y)
    if y.shape != (n_rows,):
        raise ValueError(f"y must have shape ({n_rows},), one label a row of X, got {y.shape}")
    unknown = np.setdiff1d(y, classes)
    if unknown.size:
        raise ValueError(
            f"y has labels that the classifier never saw: {unknown[:5].tolist()}; it knows "
            f"{classes[:10].tolist()}"
        )
    return np.asarray((y[:, np.newaxis] == classes).argmax(axis=1))


def _as_bounds(bounds: Any, rows: FloatArray) -> tuple[float, float] | None:
    if bounds is None:
        return None
    pair = tuple(bounds) if isinstance(bounds, tuple | list | np.ndarray) else ()
    numbers = all(isinstance(value, Real) and not isinstance(value, bool) for value in pair)
    if len(pair) != 2 or not numbers or not pair[0] < pair[1]:
        raise ValueError(f"bounds must be a pair of numbers (low, high) or None, got {bounds!r}")
    low, high = float(pair[0]), float(pair[1])
    if (rows < low).any() or (rows > high).any():
        raise ValueError(f"X must lie within bounds=({low}, {high}); clip it, or give no bounds")
    return low, high
