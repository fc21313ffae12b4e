r"""Soft classifiers :math:`H_\theta`: networks from rows to one logit a class."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from smoothlearn.nn.networks import (
    ConvClassifier,
    ImageShape,
    load_weights,
    mlp,
    of_images,
    users_network,
)
from smoothlearn.nn.randomness import private_torch_rng
from smoothlearn.views.affine import Affine


class SoftClassifier(nn.Module):
    r"""Logits :math:`f(c_{in}(x - \mu))` of rows x of shape (n, d), for a network f.

    :math:`c_{in} = 1/\sqrt{s^2 + \sigma^2}` with s the standard deviation of each feature of the
    training rows, or the root mean square of all of them where rows are images.
    """

    mean: torch.Tensor
    scale_in: torch.Tensor

    def __init__(self, n_features: int, n_classes: int, network: nn.Module, shape: tuple[int, ...]):
        super().__init__()
        self.n_classes = n_classes
        self.network = network
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("scale_in", torch.ones(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.network(self.scale_in * (x - self.mean))
        if not isinstance(logits, torch.Tensor) or logits.shape != (len(x), self.n_classes):
            gave = tuple(getattr(logits, "shape", ())) or type(logits).__name__
            raise ValueError(
                f"module must map rows to logits of shape (n, n_classes); it gave {gave} for "
                f"{len(x)} rows and {self.n_classes} classes"
            )
        return logits

    def front(self) -> Affine:
        r"""The map :math:`c_{in}(x - \mu)` of rows to what f sees, in float64."""
        mean, scale = self.mean.double().numpy(), self.scale_in.double().numpy()
        return Affine(np.broadcast_to(scale, mean.shape), -scale * mean)

    def precondition(self, X: np.ndarray, sigma: float) -> None:
        """Set the constants for these data and this noise."""
        variance = X.var(axis=0)
        if self.scale_in.ndim == 0:
            variance = variance.mean()
        self.mean.copy_(torch.as_tensor(X.mean(axis=0)))
        self.scale_in.copy_(torch.as_tensor(1 / np.sqrt(variance + sigma**2)))


def make_classifier(
    module: Any, n_features: int, n_classes: int, image_shape: ImageShape | None = None
) -> SoftClassifier:
    """A soft classifier by name, or around a user's network (a class, a function, an instance).

    A class or function is called with the number of features, or with an ``image_shape`` with the
    number of channels, and the number of classes; an instance is copied. With an ``image_shape``
    (channels, height, width), the network sees images of it.
    """
    if isinstance(module, str):
        network = _network_by_name(module, n_features, n_classes, image_shape)
    else:
        n_inputs = n_features if image_shape is None else image_shape[0]
        network = users_network(module, n_inputs, n_classes)
        dtypes = {p.dtype for p in network.parameters() if p.is_floating_point()}
        if dtypes != {torch.float32}:
            raise TypeError(f"module must have weights of torch.float32, it has {dtypes}")
        if image_shape is not None:
            network = of_images(network, image_shape)
    constants = (n_features,) if image_shape is None else ()
    return SoftClassifier(n_features, n_classes, network, constants)


def _network_by_name(
    name: str, n_features: int, n_classes: int, image_shape: ImageShape | None
) -> nn.Module:
    if name == "auto":
        name = "mlp" if image_shape is None else "conv"
    if name == "mlp":
        return mlp(n_features, 512, 256, n_classes)
    if name != "conv":
        raise ValueError(
            f"module={name!r} is not known; use 'auto', 'mlp', 'conv' or an nn.Module class that "
            "maps rows, or images, to (n, n_classes) logits"
        )
    if image_shape is None:
        raise ValueError(
            "module='conv' is a network of images and needs image_shape, (height, width) or "
            "(channels, height, width)"
        )
    return of_images(ConvClassifier(image_shape, n_classes), image_shape)


def load_classifier(
    module: Any,
    n_features: int,
    n_classes: int,
    weights: dict[str, np.ndarray],
    image_shape: ImageShape | None = None,
) -> SoftClassifier:
    """The classifier whose parameters and constants are these NumPy arrays, in eval mode."""
    with private_torch_rng(0), torch.inference_mode(False):
        classifier = make_classifier(module, n_features, n_classes, image_shape)
        load_weights(classifier, weights)
    return classifier


def refuse_moods(
    classifier: SoftClassifier, X: np.ndarray, sigma: float, reloaded: SoftClassifier | None = None
) -> None:
    """Refuse a classifier whose logits of a noisy row depend on the other rows or on chance.

    Votes would not be independent. With ``reloaded``, what its saved weights give, refuse one that
    keeps something elsewhere.
    """
    classifier.eval()
    noise = np.random.default_rng(0).standard_normal((64, X.shape[1]))
    noisy = X[np.arange(64) % len(X)] + sigma * noise
    rows = torch.from_numpy(noisy.astype(np.float32)).to(classifier.mean.device)
    with torch.no_grad():
        together = classifier(rows)
        tolerance = 1e-3 * max(1.0, float(together.detach().abs().max()))
        for again, some in ((classifier(rows), slice(None)), (classifier(rows[:2]), slice(2))):
            if (again - together[some]).abs().max() > tolerance:
                raise ValueError(
                    "module gives a row other logits beside other rows, or at another time, in "
                    "eval mode; its output must be a function of the row"
                )
        if reloaded is not None:
            again = reloaded.to(rows.device)(rows)
            if (again - together).abs().max() > tolerance:
                raise ValueError(
                    "module gives other logits after its weights are saved and loaded; keep all "
                    "that its output depends on in parameters or in persistent buffers"
                )
