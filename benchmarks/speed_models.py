"""What is certified: images, and four classifiers of them that are smoothed."""

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from torch import nn

from smoothlearn import (
    DEENDenoiser,
    EmpiricalBayesSmoothedClassifier,
    RandomizedSmoothingClassifier,
)
from smoothlearn.datasets import load_mnist
from smoothlearn.nn.networks import ConvClassifier, mlp, of_images

SEED = 0
SIGMA = 0.5
CONFIDENCE_LEVEL = 0.999
N_SELECT = 100


@dataclass(frozen=True)
class Images:
    """Rows to fit on and, in another order, rows to certify."""

    name: str
    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray

    @property
    def side(self) -> int:
        return round(self.X.shape[1] ** 0.5)

    def every(self, n: int) -> slice:
        """So many test rows from all over them."""
        return slice(None, None, max(1, len(self.X_test) // n))


Smoother = RandomizedSmoothingClassifier


def images(folder: Path | None, quick: bool) -> Images:
    """MNIST; where ``quick``, the digits of scikit-learn."""
    if quick:
        X, y = load_digits(return_X_y=True)
        X, X_test, y, y_test = train_test_split(X / 16, y, test_size=200, random_state=SEED)
        return Images("digits", X, y, X_test, y_test)
    X, y = load_mnist(folder, return_X_y=True)
    return Images("MNIST", X[::3], y[::3], *load_mnist(folder, subset="test", return_X_y=True))


def fit(data: Images, n_draws: int, names: Sequence[str]) -> dict[str, Smoother]:
    """The smoothers of these names, fitted in seconds to a minute each."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a base need not be the best
        how = _how_to_fit(data, n_draws)
        return {name: how[name]() for name in names}


def _how_to_fit(data: Images, n_draws: int) -> dict[str, Callable[[], Smoother]]:
    settings = {
        "sigma": SIGMA,
        "n_draws": N_SELECT,
        "n_certify_draws": n_draws,
        "confidence_level": CONFIDENCE_LEVEL,
        "device": "cpu",
        "random_state": SEED,
    }
    n_features, side = data.X.shape[1], data.side
    shape = (1, side, side)

    def augmented(base: LogisticRegression | NeuralNetClassifier) -> Smoother:
        return RandomizedSmoothingClassifier(base, n_augment=1, **settings).fit(data.X, data.y)

    def energy(module: Any) -> Smoother:
        denoiser = DEENDenoiser(module=module, max_epochs=4, validation_fraction=0.02)
        return EmpiricalBayesSmoothedClassifier(
            LogisticRegression(max_iter=50, tol=0.01), denoiser=denoiser, **settings
        ).fit(data.X, data.y)

    return {
        "linear": lambda: augmented(LogisticRegression(max_iter=50, tol=0.01)),
        "MLP": lambda: augmented(net(perceptron(n_features))),
        "CNN": lambda: augmented(net(small_cnn(side))),
        "wide CNN": lambda: augmented(net(of_images(ConvClassifier(shape, 10), shape))),
        "energy": lambda: energy(narrow_energy),
        "wide energy": lambda: energy("mlp"),
    }


def module_of(smoother: Smoother) -> nn.Module:
    """The module that votes in a smoother, for everyone else."""
    if isinstance(smoother, EmpiricalBayesSmoothedClassifier):
        return Denoised(smoother)
    if isinstance(smoother.estimator_, LogisticRegression):
        return linear_module(smoother.estimator_)
    return copy.deepcopy(smoother.estimator_.module_).eval().requires_grad_(False)


def perceptron(n_features: int) -> nn.Module:
    return nn.Sequential(nn.Linear(n_features, 256), nn.ReLU(), nn.Linear(256, 10))


def small_cnn(side: int) -> nn.Module:
    """Two convolutions with strides and a hidden layer."""
    flat = 32 * (side // 4) ** 2
    return nn.Sequential(
        nn.Unflatten(1, (1, side, side)),
        nn.Conv2d(1, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(flat, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


def narrow_energy(n_features: int) -> nn.Module:
    """As `DEENDenoiser(module="mlp")` has it, with layers of 256."""
    return mlp(n_features, 256, 256, 1)


class Denoised(nn.Module):
    """The scores of a linear classifier of denoised rows."""

    def __init__(self, smoother: EmpiricalBayesSmoothedClassifier):
        super().__init__()
        self.linear = linear_module(smoother.estimator_)
        self.denoise = smoother.denoiser_.denoise_on(torch.device("cpu"))
        self.generator = torch.Generator()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.linear(self.denoise(rows, self.generator))


def linear_module(base: LogisticRegression) -> nn.Module:
    layer = nn.Linear(base.coef_.shape[1], len(base.coef_))
    layer.weight.data = torch.tensor(base.coef_, dtype=torch.float32)
    layer.bias.data = torch.tensor(base.intercept_, dtype=torch.float32)
    return layer.eval().requires_grad_(False)


def net(module: nn.Module) -> NeuralNetClassifier:
    return NeuralNetClassifier(
        module,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=1e-3,
        batch_size=128,
        max_epochs=3,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
