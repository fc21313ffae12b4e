"""Attacks on smoothed classifiers of two classes, and who is right at the points that they find."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from locally_biased_tasks import SEED, Rows
from sklearn.frozen import FrozenEstimator
from skorch import NeuralNetClassifier
from torch.nn.functional import logsigmoid

from smoothlearn import LocallyBiasedSmoother, RandomizedSmoothingClassifier
from smoothlearn.nn.attacks import Rowwise, bias_lead, locally_biased_losses, projected_gradient

N_STEPS, N_RESTARTS, N_NOISE = 10, 2, 16

Points = list[np.ndarray]
Level = tuple[str, float]


def margin(net: NeuralNetClassifier, y: np.ndarray, link: str = "logit") -> Rowwise:
    """The score of a row's class less that of the other, or half the difference of probability."""
    module = net.module_.eval()
    sign = torch.from_numpy(2.0 * y - 1).float()

    def logit(x: torch.Tensor) -> torch.Tensor:
        scores = module(x)
        return sign * (scores[:, 1] - scores[:, 0])

    return logit if link == "logit" else lambda x: torch.tanh(logit(x) / 2) / 2


def base_attack(net: NeuralNetClassifier, rows: Rows, epsilon: float, norm: float) -> np.ndarray:
    """As in the paper: steps from the image itself, against the net alone."""
    score = margin(net, rows.y)
    return _attack(lambda x: -score(x), rows.X, epsilon, norm, n_restarts=1)


def adaptive_losses(
    net: NeuralNetClassifier, bias: Rows, rows: Rows, norm: float, link: str, alpha: float
) -> dict[str, Rowwise]:
    """Against the base, the oracle, the smoothed score, and base and oracle at once."""
    lead = bias_lead(torch.from_numpy(bias.X), torch.from_numpy(rows.y[:, None] == bias.y))
    return locally_biased_losses(margin(net, rows.y, link), lead, alpha=alpha, norm=norm)


def adaptive_points(
    net: NeuralNetClassifier,
    bias: Rows,
    rows: Rows,
    epsilon: float,
    norm: float,
    levels: Iterable[Level],
) -> Points:
    """What every one of the losses finds: any classifier may be tried on all of them."""
    losses = {}
    for link, alpha in levels:
        named = adaptive_losses(net, bias, rows, norm, link, alpha)
        losses |= {name: named[name] for name in ("base", "oracle") if name not in losses}
        losses |= {(name, link, alpha): named[name] for name in ("smoothed", "combined")}
    return [_attack(loss, rows.X, epsilon, norm) for loss in losses.values()]


def adaptive_point(
    net: NeuralNetClassifier,
    bias: Rows,
    rows: Rows,
    epsilon: float,
    norm: float,
    name: str,
    level: float | None,
) -> np.ndarray:
    """What one loss finds, by its name; the level of smoothing is alpha or sigma."""
    if name == "noisy":
        return noisy_points(net, rows, epsilon, norm, level or 0.0)
    losses = adaptive_losses(net, bias, rows, norm, "logit", level or 0.0)
    return _attack(losses[name], rows.X, epsilon, norm)


def noisy_points(
    net: NeuralNetClassifier, rows: Rows, epsilon: float, norm: float, sigma: float
) -> np.ndarray:
    """Against normal smoothing: up the logarithm of the mean probability of an error."""
    generator = torch.Generator().manual_seed(SEED)
    noise = sigma * torch.randn(N_NOISE, 1, rows.X.shape[1], generator=generator)
    score = margin(net, np.tile(rows.y, N_NOISE))

    def loss(x: torch.Tensor) -> torch.Tensor:
        wrong = logsigmoid(-score((x + noise).flatten(0, 1))).reshape(N_NOISE, -1)
        return wrong.logsumexp(dim=0)

    return _attack(loss, rows.X, epsilon, norm, n_restarts=1)


def _attack(
    loss: Rowwise, X: np.ndarray, epsilon: float, norm: float, n_restarts: int = N_RESTARTS
) -> np.ndarray:
    found = projected_gradient(
        loss,
        torch.from_numpy(X),
        epsilon=float(epsilon),
        norm=norm,
        n_steps=N_STEPS,
        n_restarts=n_restarts,
        generator=torch.Generator().manual_seed(SEED),
    )
    return found.numpy()


def locally_biased(net: Any, bias: Rows, norm: float, link: str = "logit") -> LocallyBiasedSmoother:
    smoother = LocallyBiasedSmoother(FrozenEstimator(net), alpha=0.0, norm=norm, link=link)
    return smoother.fit(*bias)


def right_by_alpha(
    smoother: LocallyBiasedSmoother, X: np.ndarray, y: np.ndarray, alphas: Iterable[float]
) -> np.ndarray:
    """Which rows have the right label, (n_alphas, n): the score is linear in alpha."""
    start = smoother.set_params(alpha=0.0).decision_function(X)
    slope = smoother.set_params(alpha=1.0).decision_function(X) - start
    return (start + np.outer(list(alphas), slope) > 0) == y


def right_by_sigma(
    net: NeuralNetClassifier, bias: Rows, rows: Rows, sigma: float, n_draws: int
) -> np.ndarray:
    if sigma == 0:
        return net.predict(rows.X) == rows.y
    smoother = RandomizedSmoothingClassifier(
        FrozenEstimator(net), sigma=sigma, n_draws=n_draws, random_state=SEED
    )
    return smoother.fit(*bias).predict(rows.X) == rows.y
