"""Training with skorch: noisy batches, schedules, and energies by least squares denoising."""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_scalar
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping, LRScheduler
from skorch.helper import predefined_split
from torch.utils.data import TensorDataset

from smoothlearn.nn.energies import Energy
from smoothlearn.nn.randomness import generator_on
from smoothlearn.theory.arguments import as_finite, as_probability

#: ``max_epochs="auto"`` is as many epochs as make about so many steps, and at least ten.
AUTO_STEPS = 4000
_WARM_UP_STEPS = 50
#: Validation rows are repeated, each time with other noise, to make at least so many draws.
_VALIDATION_DRAWS = 512


class NoisyBatches:
    """Batches (x + sigma * noise, x) of a tensor data set, from a private generator.

    Training batches are shuffled and see fresh noise in every pass; without shuffling, every pass
    sees the same noise, so that validation losses can be compared. Subclasses make other batches
    of the same draws.
    """

    #: Draws of the noise for every row.
    n_noise = 1

    def __init__(
        self, dataset: TensorDataset, batch_size: int, sigma: float, seed: int, shuffle: bool
    ) -> None:
        self.tensors = dataset.tensors
        self.rows = dataset.tensors[0]
        self.batch_size = batch_size
        self.sigma = sigma
        self.seed = seed
        self.shuffle = shuffle
        self.generator = generator_on(self.rows.device, seed)

    def __len__(self) -> int:
        return n_batches(len(self.rows), self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        for batch, noise in self.draws():
            x = self.rows[batch]
            yield x + noise[:, 0], x

    def draws(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Positions (n,) of the rows of every batch, and their noise (n, n_noise, d)."""
        rows, generator = self.rows, self.generator
        if self.shuffle:
            order = torch.randperm(len(rows), generator=generator, device=rows.device)
        else:
            order = torch.arange(len(rows), device=rows.device)
            generator.manual_seed(self.seed % 2**64)
        batches = list(order.split(self.batch_size))
        if len(batches) > len(self):
            batches[-2:] = [torch.cat(batches[-2:])]
        for batch in batches:
            noise = rows.new_empty((len(batch), self.n_noise, rows.shape[1]))
            yield batch, noise.normal_(generator=generator).mul_(self.sigma)


def train_denoiser(
    energy: Energy,
    X: np.ndarray,
    *,
    sigma: float,
    max_epochs: int | str,
    lr: float,
    batch_size: int,
    validation_fraction: float,
    patience: int | None,
    device: torch.device,
    seed: int,
    verbose: int,
) -> list[dict[str, Any]]:
    r"""Minimise :math:`E\|X - \hat x(X + \sigma\varepsilon)\|^2` over an energy, in place.

    Adam with a warm-up and a cosine schedule. Where rows are held out (``validation_fraction``),
    the weights of the epoch with the least validation loss are kept, and training stops after
    ``patience`` epochs without a better one. Returns the history, one dict an epoch.
    """
    held_out, kept = split(len(X), validation_fraction, seed)
    rows = torch.from_numpy(X.astype(np.float32)).to(device)
    n_epochs, n_steps = length(max_epochs, len(kept), batch_size)
    callbacks: list[Any] = [
        ("schedule", LRScheduler("LambdaLR", lr_lambda=Schedule(n_steps), step_every="batch"))
    ]
    if len(held_out):
        callbacks.append(("stopping", keep_best(patience or n_epochs)))
    net = NeuralNet(
        energy,
        criterion=torch.nn.MSELoss,
        optimizer=torch.optim.Adam,
        optimizer__betas=(0.9, 0.99),
        lr=lr,
        max_epochs=n_epochs,
        batch_size=batch_size,
        iterator_train=NoisyBatches,
        iterator_train__sigma=sigma,
        iterator_train__seed=seed + 1,
        iterator_train__shuffle=True,
        iterator_valid=NoisyBatches,
        iterator_valid__batch_size=1024,
        iterator_valid__sigma=sigma,
        iterator_valid__seed=seed + 2,
        iterator_valid__shuffle=False,
        train_split=predefined_split(TensorDataset(rows[held_out])) if len(held_out) else None,
        callbacks=callbacks,
        device=device,
        verbose=verbose,
    )
    run(net.initialize(), TensorDataset(rows[kept]))
    return read_history(net, ("epoch", "train_loss", "valid_loss", "dur"))


def check_training(estimator: Any) -> None:
    """Check ``max_epochs``, ``lr``, ``batch_size`` and ``validation_fraction`` of an estimator."""
    if estimator.max_epochs != "auto":
        check_scalar(estimator.max_epochs, "max_epochs", Integral, min_val=1)
    as_finite("lr", estimator.lr)
    check_scalar(estimator.batch_size, "batch_size", Integral, min_val=1)
    check_scalar(estimator.validation_fraction, "validation_fraction", Real)
    as_probability("validation_fraction", estimator.validation_fraction)
    if estimator.validation_fraction == 1:
        raise ValueError("validation_fraction must be less than 1 to leave rows to train on")


def split(n_rows: int, validation_fraction: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions of rows held out and of rows kept, by chance.

    Those held out are repeated, each time for other noise, where they are few.
    """
    order = torch.randperm(n_rows, generator=generator_on(torch.device("cpu"), seed))
    n_valid = n_held_out(n_rows, validation_fraction)
    held_out, kept = order[:n_valid], order[n_valid:]
    return held_out.repeat(math.ceil(_VALIDATION_DRAWS / n_valid) if n_valid else 1), kept


def n_held_out(n_rows: int, validation_fraction: float) -> int:
    """How many rows are held out; at least one is trained on."""
    return min(round(validation_fraction * n_rows), n_rows - 1)


def n_batches(n_rows: int, batch_size: int) -> int:
    """How many batches there are; one row that is left over goes to the last of them."""
    return max(1, math.ceil((n_rows - 1) / batch_size))


def length(max_epochs: int | str, n_rows: int, batch_size: int) -> tuple[int, int]:
    """How many epochs and steps there will be at most."""
    n_steps = n_batches(n_rows, batch_size)
    n_epochs = max(10, math.ceil(AUTO_STEPS / n_steps)) if max_epochs == "auto" else int(max_epochs)
    return n_epochs, n_epochs * n_steps


def keep_best(patience: int) -> EarlyStopping:
    """Keep the weights with the least validation loss, stop after so many epochs without better."""
    return EarlyStopping(patience=patience, threshold=0, threshold_mode="abs", load_best=True)


def read_history(net: NeuralNet, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """What was recorded under these names, one dict an epoch that was finished."""
    rows = [row for row in net.history if "dur" in row]
    return [
        {name: row[name] if name == "epoch" else float(row[name]) for name in names if name in row}
        for row in rows
    ]


def run(net: NeuralNet, train: TensorDataset) -> None:
    """skorch's fit, but an interrupt is not swallowed, unless early stopping raised it."""
    net.notify("on_train_begin", X=train, y=None)
    try:
        net.fit_loop(train)
    except KeyboardInterrupt:
        stopping = dict(net.callbacks_).get("stopping")
        if stopping is None or stopping.misses_ < stopping.patience:
            raise
    net.notify("on_train_end", X=train, y=None)


class Schedule:
    """Linear warm-up to one, then a cosine to zero."""

    def __init__(self, total: int) -> None:
        self.total = total

    def __call__(self, step: int) -> float:
        warm_up = min(1.0, (step + 1) / _WARM_UP_STEPS)
        return warm_up * 0.5 * (1 + math.cos(math.pi * min(step / self.total, 1.0)))
