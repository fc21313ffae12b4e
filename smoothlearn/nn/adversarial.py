r"""Training of soft classifiers for their smoothed use, against attacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, LRScheduler, PassthroughScoring
from skorch.helper import predefined_split
from torch.utils.data import TensorDataset
from tqdm.auto import tqdm

from smoothlearn.nn.attacks import Rowwise, last_step, mixture_loss, smoothed_loss
from smoothlearn.nn.classifiers import SoftClassifier
from smoothlearn.nn.training import (
    NoisyBatches,
    Schedule,
    keep_best,
    length,
    read_history,
    run,
    split,
)

#: x̂ of noisy rows (n, d), differentiable; the second argument holds the positions (n,) in the
#: training set of the rows that they are copies of.
TrainingDenoiser = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Attack:
    """Projected gradient steps in the Euclidean ball around clean rows.

    Parameters
    ----------
    epsilon : float
        Radius of the ball; 0 leaves the rows as they are.
    n_steps : int
    step_size : float or None
        None means 2.5 epsilon / n_steps.
    """

    epsilon: float
    n_steps: int
    step_size: float | None = None

    def __call__(self, loss: Rowwise, x: torch.Tensor, share: float = 1.0) -> torch.Tensor:
        """Attacked rows, with epsilon and the step shrunk to a share of them."""
        if self.epsilon * share == 0:
            return x
        step = None if self.step_size is None else share * self.step_size
        epsilon = share * self.epsilon
        return last_step(loss, x, epsilon=epsilon, n_steps=self.n_steps, step_size=step)


class SmoothingBatches(NoisyBatches):
    """Batches ((x, sigma * noise, place), y): rows, their noise, and where they are in the set.

    The noise has the shape (n, n_noise, d).
    """

    def __init__(self, dataset: TensorDataset, *, n_noise: int, **settings: Any) -> None:
        super().__init__(dataset, **settings)
        self.n_noise = n_noise

    def __iter__(self) -> Iterator[Any]:
        _, y, places = self.tensors
        for batch, noise in self.draws():
            yield (self.rows[batch], noise, places[batch]), y[batch]


class SmoothedNet(NeuralNet):
    """Minimises the smoothed loss at attacked rows: noise is drawn, then held while rows move.

    Parameters
    ----------
    denoise : callable
        See :data:`TrainingDenoiser`.
    attack : Attack
    warm_up : int
        Steps in which epsilon grows from 0.
    """

    def __init__(
        self, *args: Any, denoise: TrainingDenoiser, attack: Attack, warm_up: int, **settings: Any
    ) -> None:
        super().__init__(*args, **settings)
        self.denoise = denoise
        self.attack = attack
        self.warm_up = warm_up

    def initialize(self) -> SmoothedNet:
        """Set up the module and start counting steps."""
        self.steps_ = 0
        super().initialize()
        return self

    def share(self) -> float:
        """How much of epsilon the next step attacks with."""
        return min(1.0, self.steps_ / self.warm_up) if self.warm_up else 1.0

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, torch.Tensor]:
        """The loss of a batch and its gradient."""
        y = batch[1]
        inputs = self.attacked_inputs(batch, self.share())
        self.module_.train()
        logits = self.module_(inputs)
        loss = self.finite(mixture_loss(logits, y).mean())
        loss.backward()
        self.steps_ += 1
        return {"loss": loss.detach(), "y_pred": logits.detach()}

    def validation_step(self, batch: Any, **fit_params: Any) -> dict[str, torch.Tensor]:
        """The loss at attacked rows; the share of noisy ones that is right goes to the history."""
        (x, noise, places), y = batch
        attacked = self.attacked_inputs(batch, share=1.0)
        with torch.no_grad():
            noisy = self.denoise(*_copies(x, noise, places))
            right = self.module_(noisy).argmax(dim=1) == y.repeat_interleave(noise.shape[1])
            logits = self.module_(attacked)
        self.history.record_batch("valid_acc", float(right.double().mean()))
        return {"loss": self.finite(mixture_loss(logits, y).mean()), "y_pred": logits}

    def finite(self, loss: torch.Tensor) -> torch.Tensor:
        """The loss itself; a ValueError where it is NaN or infinite."""
        if loss.isfinite():
            return loss
        raise ValueError(
            f"the loss is {float(loss.detach())} in epoch {len(self.history)}: the module's "
            "output, or the training, is not finite; look for divisions and logarithms in the "
            "module, scale the features, or lower lr"
        )

    def attacked_inputs(self, batch: Any, share: float) -> torch.Tensor:
        """What the module sees after the attack on it, which is made in eval mode."""
        (x, noise, places), y = batch
        copies = places.repeat_interleave(noise.shape[1])

        def scores(noisy: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.module_(self.denoise(noisy, copies))
            return logits

        self.module_.eval()
        attacked = self.attack(smoothed_loss(scores, y, noise), x, share)
        with torch.no_grad():
            return self.denoise(*_copies(attacked, noise, places))


class TrainingBar(Callback):
    """A progress bar over all training batches, with the numbers of the last epoch."""

    def __init__(self, n_epochs: int, n_steps: int) -> None:
        self.n_epochs = n_epochs
        self.bar_ = tqdm(total=n_steps, unit="step")

    def on_epoch_begin(self, net: NeuralNet, **_: Any) -> None:
        self.bar_.set_description(f"epoch {len(net.history)}/{self.n_epochs}")

    def on_batch_end(self, net: NeuralNet, training: bool = False, **_: Any) -> None:
        self.bar_.update(int(training))

    def on_epoch_end(self, net: NeuralNet, **_: Any) -> None:
        names = ("train_loss", "valid_loss", "valid_acc")
        row = net.history[-1]
        self.bar_.set_postfix({name: f"{row[name]:.3f}" for name in names if name in row})

    def on_train_end(self, net: NeuralNet, **_: Any) -> None:
        self.bar_.close()


class _EpsilonInHistory(Callback):
    def on_epoch_end(self, net: Any, **_: Any) -> None:
        net.history.record("epsilon", net.share() * net.attack.epsilon)


def train_classifier(
    classifier: SoftClassifier,
    X: np.ndarray,
    y: np.ndarray,
    *,
    denoise: TrainingDenoiser,
    sigma: float,
    attack: Attack,
    warm_up: float,
    n_noise: int,
    max_epochs: int | str,
    optimizer: Any,
    lr: float,
    batch_size: int,
    validation_fraction: float,
    patience: int | None,
    device: torch.device,
    seed: int,
    verbose: int,
) -> tuple[list[dict[str, Any]], str | None]:
    r"""Minimise :math:`E \max_{\|\delta\| \le \epsilon} -\log \Pi_k(x + \delta)`, in place.

    :math:`\Pi(x)` is the mean of :math:`H(\hat x(x + \varepsilon_j))` over ``n_noise`` draws.
    ``y`` holds class indices. Epsilon grows over the share ``warm_up`` of the steps. Returns the
    history, one dict an epoch, and what an interrupt by the user left, None without one.

    References
    ----------
    Saremi & Srivastava 2020, Eq. 13 and 14.
    """
    held_out, kept = split(len(X), validation_fraction, seed)
    n_epochs, n_steps = length(max_epochs, len(kept), batch_size)
    everything = (
        torch.from_numpy(X.astype(np.float32)).to(device),
        torch.from_numpy(y.astype(np.int64)).to(device),
        torch.arange(len(X), device=device),
    )
    train, valid = (
        TensorDataset(*(part[places.to(device)] for part in everything))
        for places in (kept, held_out)
    )
    callbacks: list[Any] = [
        ("schedule", LRScheduler("LambdaLR", lr_lambda=Schedule(n_steps), step_every="batch")),
        ("epsilon", _EpsilonInHistory()),
    ]
    if len(valid):
        callbacks += [
            ("accuracy", PassthroughScoring("valid_acc", lower_is_better=False)),
            ("stopping", keep_best(patience or n_epochs)),
        ]
    if verbose > 0:
        callbacks.append(("bar", TrainingBar(n_epochs, n_steps)))
    net = SmoothedNet(
        classifier,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=optimizer,
        lr=lr,
        max_epochs=n_epochs,
        batch_size=batch_size,
        iterator_train=SmoothingBatches,
        iterator_train__sigma=sigma,
        iterator_train__n_noise=n_noise,
        iterator_train__seed=seed + 1,
        iterator_train__shuffle=True,
        iterator_valid=SmoothingBatches,
        iterator_valid__batch_size=1024,
        iterator_valid__sigma=sigma,
        iterator_valid__n_noise=n_noise,
        iterator_valid__seed=seed + 2,
        iterator_valid__shuffle=False,
        train_split=predefined_split(valid) if len(valid) else None,
        callbacks=callbacks,
        device=device,
        verbose=0,
        denoise=denoise,
        attack=attack,
        warm_up=round(warm_up * n_steps),
    )
    interrupt = _run_to_the_end(net.initialize(), train)
    names = ("epoch", "train_loss", "valid_loss", "valid_acc", "epsilon", "dur")
    return read_history(net, names), interrupt


def _run_to_the_end(net: NeuralNet, train: TensorDataset) -> str | None:
    """Train; what was kept if the user interrupts after the first epoch."""
    try:
        run(net, train)
    except BaseException as error:
        bar = dict(net.callbacks_).get("bar")
        done = [row for row in net.history if "dur" in row]
        if isinstance(error, KeyboardInterrupt) and done:
            net.notify("on_train_end")
            stopping = dict(net.callbacks_).get("stopping")
            kept = (
                "those after the last step"
                if stopping is None
                else f"those of epoch {stopping.best_epoch_}, with the least validation loss"
            )
            return f"in epoch {len(net.history)} of {net.max_epochs}; the weights are {kept}"
        if bar is not None:
            bar.on_train_end(net)
        raise
    return None


def _copies(
    x: torch.Tensor, noise: torch.Tensor, places: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """All noisy copies of rows, those of one side by side, and the places of their rows."""
    return (x[:, None] + noise).flatten(0, 1), places.repeat_interleave(noise.shape[1])
