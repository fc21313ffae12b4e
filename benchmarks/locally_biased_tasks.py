"""Two classes of images, and the classifiers that are smoothed, for locally biased smoothing."""

from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier
from torch import nn

from smoothlearn.datasets import load_cifar10, load_mnist

SEED = 0
ACTIVATIONS = {"ReLU": nn.ReLU, "SiLU": nn.SiLU}


AIMS = {
    2: (("logit", 0.3), ("logit", 1.0), ("probability", 10.0)),
    np.inf: (("logit", 0.03), ("logit", 0.1), ("probability", 1.0)),
}


class Rows(NamedTuple):
    """Images as rows and their classes, 0 and 1, in turn: an even part has as many of both."""

    X: np.ndarray
    y: np.ndarray

    def of(self, some: Any) -> "Rows":
        return Rows(self.X[some], self.y[some])


@dataclass(frozen=True)
class Task:
    """The data, and what is done with them."""

    name: str
    title: str
    pixels: str
    shape: tuple[int, int, int]
    bias: Rows
    validation: Rows
    train: Rows
    test: Rows
    #: Numbers of bias points.
    n_bias: tuple[int, ...]
    #: By norm, the radii of attacks at every level of smoothing, and at the chosen one.
    radii: dict[float, tuple[float, ...]]
    reach: dict[float, np.ndarray]
    #: By norm, the links and alphas whose scores are attacked, for all alphas to be tried on.
    aims: dict[float, tuple[tuple[str, float], ...]]
    widths: tuple[int, int, int]
    epochs: int
    n_draws: int


def balanced(X: np.ndarray, y: np.ndarray, n: int | None = None) -> Rows:
    """As many random rows of both classes, in turn."""
    rng = np.random.default_rng(SEED)
    ones, zeros = (rng.permutation(np.flatnonzero(y == k)) for k in (1, 0))
    size = min(len(ones), len(zeros))
    order = np.stack([ones[:size], zeros[:size]], axis=1).ravel()[:n]
    return Rows(X[order].astype(np.float32), y[order].astype(np.int64))


def parts(rows: Rows, n_bias: int, n_validation: int, n_train: int | None = None) -> dict:
    ends = np.cumsum([0, n_bias, n_validation])
    cuts = {"bias": slice(*ends[:2]), "validation": slice(*ends[1:]), "train": slice(ends[2], None)}
    named = {name: rows.of(cut) for name, cut in cuts.items()}
    return named | {"train": named["train"].of(slice(n_train))}


def mnist(folder: str | None) -> Task:
    X, y = load_mnist(folder, return_X_y=True)
    X_test, y_test = load_mnist(folder, subset="test", return_X_y=True)
    return Task(
        "mnist",
        "MNIST, 8 against the rest",
        "as published",
        (1, 28, 28),
        **parts(balanced(X, y == 8), 1000, 200),
        test=balanced(X_test, y_test == 8, 400),
        n_bias=(10, 1000),
        radii={2: (0.5, 1.0), np.inf: (0.05, 0.1)},
        reach={2: np.linspace(0, 3, 7), np.inf: np.linspace(0, 0.3, 7)},
        aims=AIMS,
        widths=(8, 16, 32),
        epochs=8,
        n_draws=100,
    )


def cifar10(folder: str | None) -> Task:
    classes = ("automobile", "truck")
    train = load_cifar10(folder, classes=classes)
    test = load_cifar10(folder, subset="test", classes=classes)
    lossy = "JPEG files" in train.DESCR
    return Task(
        "cifar10",
        "CIFAR-10, trucks against automobiles" + (" (lossy JPEG)" if lossy else ""),
        "read from JPEG, which is lossy: not quite those of CIFAR-10" if lossy else "as published",
        train.image_shape,
        **parts(balanced(train.data, train.target), 1000, 200),
        test=balanced(test.data, test.target, 300),
        n_bias=(10, 1000),
        radii={2: (0.25, 0.5), np.inf: (0.01, 0.02)},
        reach={2: np.linspace(0, 1.5, 7), np.inf: np.linspace(0, 0.03, 7)},
        aims=AIMS,
        widths=(8, 16, 32),
        epochs=10,
        n_draws=100,
    )


def digits() -> Task:
    X, y = load_digits(return_X_y=True)
    rows = balanced(X / 16, y == 8)
    return Task(
        "digits",
        "Digits of 8 x 8 pixels, 8 against the rest",
        "as published",
        (1, 8, 8),
        **parts(rows.of(slice(60, None)), 40, 40),
        test=rows.of(slice(60)),
        n_bias=(10, 40),
        radii={2: (0.25, 0.5), np.inf: (0.05, 0.1)},
        reach={2: np.linspace(0, 1.5, 4), np.inf: np.linspace(0, 0.3, 4)},
        aims={norm: aims[:1] for norm, aims in AIMS.items()},
        widths=(8, 8, 8),
        epochs=15,
        n_draws=10,
    )


def cnn(activation: type[nn.Module], task: Task) -> nn.Module:
    """Three convolutions, which halve the sides, and one full layer."""
    channels, side, _ = task.shape
    first, second, third = task.widths
    return nn.Sequential(
        nn.Unflatten(1, task.shape),
        nn.Conv2d(channels, first, 4, stride=2, padding=1),
        activation(),
        nn.Conv2d(first, second, 4, stride=2, padding=1),
        activation(),
        nn.Conv2d(second, third, 3, stride=2, padding=1),
        activation(),
        nn.Flatten(),
        nn.Linear(third * ceil(side / 8) ** 2, 2),
    )


def trained(activation: str, task: Task) -> NeuralNetClassifier:
    torch.manual_seed(SEED)
    net = NeuralNetClassifier(
        cnn(ACTIVATIONS[activation], task),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=2e-3,
        batch_size=64,
        max_epochs=task.epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    return net.fit(*task.train)
