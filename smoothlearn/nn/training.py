"""Training of energies: least squares denoising with skorch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import EarlyStopping, LRScheduler
from skorch.helper import predefined_split
from torch.utils.data import TensorDataset

from smoothlearn.nn.energies import Energy
from smoothlearn.nn.randomness import generator_on

#: ``max_epochs="auto"`` is as many epochs as make about so many steps, and at least ten.
AUTO_STEPS = 4000
_WARM_UP_STEPS = 50
#: Validation rows are repeated, each time with other noise, to make at least so many draws.
_VALIDATION_DRAWS = 512


class NoisyBatches:
    """Batches (x + sigma * noise, x) of a tensor data set, from a private generator.

    Training batches are shuffled and see fresh noise in every pass; without shuffling, every pass
    sees the same noise, so that validation losses can be compared.
    """

    def __init__(
        self, dataset: TensorDataset, batch_size: int, sigma: float, seed: int, shuffle: bool
    ) -> None:
        self.rows = dataset.tensors[0]
        self.batch_size = batch_size
        self.sigma = sigma
        self.seed = seed
        self.shuffle = shuffle
        self.generator = generator_on(self.rows.device, seed)

    def __len__(self) -> int:
        return math.ceil(len(self.rows) / self.batch_size)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        rows, generator = self.rows, self.generator
        if self.shuffle:
            order = torch.randperm(len(rows), generator=generator, device=rows.device)
            rows = rows[order]
        else:
            generator.manual_seed(self.seed % 2**64)
        for x in rows.split(self.batch_size):
            noise = torch.empty_like(x).normal_(generator=generator)
            yield x + self.sigma * noise, x


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
    rows = torch.from_numpy(X.astype(np.float32))
    order = torch.randperm(len(rows), generator=generator_on(torch.device("cpu"), seed))
    n_valid = min(round(validation_fraction * len(rows)), len(rows) - 1)
    held_out, kept = rows[order[:n_valid]].to(device), rows[order[n_valid:]].to(device)
    n_steps = math.ceil(len(kept) / batch_size)
    n_epochs = max(10, math.ceil(AUTO_STEPS / n_steps)) if max_epochs == "auto" else max_epochs
    total = int(n_epochs) * n_steps
    callbacks: list[Any] = [
        ("schedule", LRScheduler("LambdaLR", lr_lambda=_Schedule(total), step_every="batch"))
    ]
    if n_valid:
        held_out = held_out.repeat(math.ceil(_VALIDATION_DRAWS / n_valid), 1)
        stopping = EarlyStopping(
            patience=patience or n_epochs, threshold=0, threshold_mode="abs", load_best=True
        )
        callbacks.append(("stopping", stopping))
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
        train_split=predefined_split(TensorDataset(held_out)) if n_valid else None,
        callbacks=callbacks,
        device=device,
        verbose=verbose,
    )
    _run(net.initialize(), TensorDataset(kept))
    names = [
        name for name in ("epoch", "train_loss", "valid_loss", "dur") if name in net.history[0]
    ]
    return [{name: row[name] for name in names} for row in net.history]


def _run(net: NeuralNet, train: TensorDataset) -> None:
    """skorch's fit, but an interrupt is not swallowed, unless early stopping raised it."""
    net.notify("on_train_begin", X=train, y=None)
    try:
        net.fit_loop(train)
    except KeyboardInterrupt:
        stopping = dict(net.callbacks_).get("stopping")
        if stopping is None or stopping.misses_ < stopping.patience:
            raise
    net.notify("on_train_end", X=train, y=None)


class _Schedule:
    """Linear warm-up to one, then a cosine to zero."""

    def __init__(self, total: int) -> None:
        self.total = total

    def __call__(self, step: int) -> float:
        warm_up = min(1.0, (step + 1) / _WARM_UP_STEPS)
        return warm_up * 0.5 * (1 + math.cos(math.pi * min(step / self.total, 1.0)))
