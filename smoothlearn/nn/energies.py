r"""Energies :math:`\phi` of noisy data and the denoisers they give.

With :math:`Y = X + N(0, \sigma^2 I)` and :math:`\phi = -\log f_Y` up to a constant, the Bayes
estimator of X is :math:`\hat x(y) = y - \sigma^2 \nabla \phi(y)` (Saremi & Srivastava 2020, Eq. 1).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
import torch
from torch import nn

from smoothlearn.nn.networks import (
    ConvScalar,
    ImageShape,
    UNet,
    load_weights,
    mlp,
    of_images,
    users_network,
)
from smoothlearn.nn.randomness import private_torch_rng

#: Layers whose gradient is piecewise constant: x̂ of such an energy is not a denoiser.
_KINKED = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.Threshold, nn.Hardtanh, nn.Hardshrink,
    nn.Hardsigmoid, nn.Hardswish, nn.Softshrink, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip


class Energy(nn.Module):
    r"""An energy of noisy inputs; calling the module gives :math:`y - \sigma^2\nabla\phi(y)`.

    Subclasses define ``energy(y)``, from shape (n, d) to (n,). The gradient is taken whatever mode
    the caller is in; it is itself differentiable exactly where gradients are switched on.

    Parameters
    ----------
    shape : tuple of int
        Shape of the constants that depend on the data's spread: (d,) for one a feature, () for one.
    """

    sigma: torch.Tensor
    mean: torch.Tensor
    skip: torch.Tensor
    scale_in: torch.Tensor

    def __init__(self, n_features: int, shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.register_buffer("sigma", torch.tensor(1.0))
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("skip", torch.full(shape, 0.5))
        self.register_buffer("scale_in", torch.full(shape, math.sqrt(0.5)))

    def energy(self, y: torch.Tensor) -> torch.Tensor:
        raise TypeError(f"{type(self).__name__} does not define energy(y)")

    def forward(self, y: torch.Tensor) -> torch.Tensor:
        return y - self.sigma**2 * self.field(y)[1]

    def field(self, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The energy, of shape (n,), and its gradient, of shape (n, d)."""
        differentiable = torch.is_grad_enabled()
        with torch.inference_mode(False), torch.enable_grad():
            point = y if differentiable and y.requires_grad else leaf(y)
            energy = self.energy(point)
            slope = torch.autograd.grad(energy.sum(), point, create_graph=differentiable)[0]
        return (energy, slope) if differentiable else (energy.detach(), slope.detach())

    def precondition(self, X: np.ndarray, sigma: float) -> None:
        r"""Set the constants of Karras et al. (2022) for these data and this noise.

        :math:`c_{skip} = s^2/(s^2 + \sigma^2)` and :math:`c_{in} = 1/\sqrt{s^2 + \sigma^2}`, with s
        the standard deviation of each feature, or their root mean square.
        """
        mean, variance = X.mean(axis=0), X.var(axis=0)
        if self.skip.ndim == 0:
            variance = variance.mean()
        self.sigma.fill_(sigma)
        self.mean.copy_(torch.as_tensor(mean))
        self.skip.copy_(torch.as_tensor(variance / (variance + sigma**2)))
        self.scale_in.copy_(torch.as_tensor(1 / np.sqrt(variance + sigma**2)))

    @property
    def scale_out(self) -> torch.Tensor:
        r""":math:`c_{out} = \sigma s / \sqrt{s^2 + \sigma^2} = \sigma \sqrt{c_{skip}}`."""
        return self.sigma * self.skip.sqrt()


class CalibratedEnergy(Energy):
    r""":math:`\frac{1 - c_{skip}}{2\sigma^2}\|y-\mu\|^2 + k\,\frac{c_{out}}{\sigma^2 c_{in}} f(u)`.

    Here :math:`u = c_{in}(y - \mu)`, and f is any smooth network from (n, d) to (n,) or (n, 1). The
    gain k, set once, makes the root mean square of :math:`k\nabla f` one half before training.
    """

    gain: torch.Tensor

    def __init__(self, n_features: int, network: nn.Module) -> None:
        super().__init__(n_features)
        self.network = network
        self.register_buffer("gain", torch.tensor(1.0))

    def energy(self, y: torch.Tensor) -> torch.Tensor:
        centred = y - self.mean
        value = self.network(self.scale_in * centred)
        if value.numel() != len(y):
            raise ValueError(
                "module must map (n, d) inputs to one scalar a row, of shape (n,) or (n, 1), or to "
                f"(n, d); it gave {tuple(value.shape)} for {len(y)} rows of {y.shape[1]} features"
            )
        bowl = (1 - self.skip) / 2 * centred.square().sum(dim=1)
        learned = self.gain * self.scale_out / self.scale_in * value.reshape(len(y))
        return (bowl + learned) / self.sigma**2

    def calibrate(self, noisy: torch.Tensor) -> None:
        u = leaf(self.scale_in * (noisy - self.mean))
        slope = torch.autograd.grad(self.network(u).sum(), u)[0]
        size = slope.square().mean().sqrt()
        if size > 0:
            self.gain.fill_(0.5 / float(size))


class GradientStepEnergy(Energy):
    r""":math:`\|r - N(r)\|^2 / (2\sigma^2)` with :math:`r = y - \mu`.

    :math:`N(r) = c\,r + c_{out}\,f(c_{in} r)`, :math:`c = 1 - \sqrt{1 - c_{skip}}`, where f maps
    (n, d) to as many numbers; with f = 0 the denoiser is the linear one. Every feature has its own
    constants, so that columns may differ in scale, unless they have ``one_scale``. After Hurault et
    al. (2022).

    With ``spread``, training starts from a first layer whose units bend near the data; the network
    is then an nn.Sequential that starts with nn.Linear.
    """

    def __init__(
        self, n_features: int, network: nn.Module, one_scale: bool = False, spread: bool = False
    ) -> None:
        super().__init__(n_features, shape=() if one_scale else (n_features,))
        self.network = network
        self.spread = spread

    def energy(self, y: torch.Tensor) -> torch.Tensor:
        r = y - self.mean
        pull = 1 - (1 - self.skip).sqrt()
        output = self.network(self.scale_in * r).reshape(r.shape)
        residual = (1 - pull) * r - self.scale_out * output
        return residual.square().sum(dim=1) / (2 * self.sigma**2)


#: Energies of tables by name, as functions of the number of features.
TABLE_ENERGIES: dict[str, Callable[[int], Energy]] = {
    "gradient-step-mlp": lambda d: GradientStepEnergy(d, mlp(d, 256, 128, d), spread=True),
    "mlp": lambda d: CalibratedEnergy(d, mlp(d, 1024, 512, 1)),
    "tied": lambda d: CalibratedEnergy(
        d, nn.Sequential(nn.Linear(d, 512), nn.GELU(), nn.Linear(512, 1))
    ),
}
#: Energies of images by name, as functions of channels, height and width.
IMAGE_ENERGIES: dict[str, Callable[[ImageShape], Energy]] = {
    "conv": lambda shape: CalibratedEnergy(prod(shape), of_images(ConvScalar(shape), shape)),
    "gradient-step-unet": lambda shape: GradientStepEnergy(
        prod(shape), of_images(UNet(shape[0]), shape), one_scale=True
    ),
}

#: Up to so many features ``module="auto"`` is the gradient-step MLP, above it the MLP energy.
FEW_FEATURES = 64


def make_energy(module: Any, n_features: int, image_shape: ImageShape | None = None) -> Energy:
    """An energy by name, or around a user's network (a class, a function, an instance).

    A class or function is called with the number of features; an instance is copied. With an
    ``image_shape`` (channels, height, width), the network sees images of it.
    """
    if isinstance(module, str):
        return _energy_by_name(module, n_features, image_shape)
    network = users_network(module, n_features)
    _refuse_kinks(network)
    flat = network if image_shape is None else of_images(network, image_shape)
    if _keeps_shape(flat, n_features):
        return GradientStepEnergy(n_features, flat, one_scale=image_shape is not None)
    return CalibratedEnergy(n_features, flat)


def _energy_by_name(name: str, n_features: int, image_shape: ImageShape | None) -> Energy:
    if name == "auto":
        name = "gradient-step-mlp" if n_features <= FEW_FEATURES else "mlp"
    if name in TABLE_ENERGIES:
        return TABLE_ENERGIES[name](n_features)
    if name not in IMAGE_ENERGIES:
        names = ", ".join(map(repr, [*TABLE_ENERGIES, *IMAGE_ENERGIES]))
        raise ValueError(
            f"module={name!r} is not known; use 'auto', {names} or an nn.Module class that maps "
            "(n, d) to one scalar a row, or to (n, d)"
        )
    if image_shape is None:
        raise ValueError(
            f"module={name!r} is an energy of images and needs image_shape, (height, width) or "
            "(channels, height, width)"
        )
    return IMAGE_ENERGIES[name](image_shape)


def _keeps_shape(network: nn.Module, n_features: int) -> bool:
    """Whether a network gives as many numbers as it gets, and not one a row."""
    mode = network.training
    with torch.no_grad():
        output = network.eval()(torch.zeros(2, n_features))
    network.train(mode)
    return n_features > 1 and output.numel() == 2 * n_features


def initialise(energy: Energy, X: np.ndarray, sigma: float, generator: torch.Generator) -> None:
    """Set an energy's constants, first layer and gain from the training data, before training."""
    energy.precondition(X, sigma)
    rows = torch.from_numpy(X.astype(np.float32))
    picks = torch.randint(len(rows), (512,), generator=generator)
    noise = torch.randn((512, rows.shape[1]), generator=generator)
    noisy = rows[picks] + sigma * noise
    if isinstance(energy, CalibratedEnergy):
        energy.calibrate(noisy)
        _refuse_flat(energy.network, energy.scale_in * (noisy[:16] - energy.mean))
    elif isinstance(energy, GradientStepEnergy) and energy.spread:
        _spread_first_layer(energy, noisy, generator)


def _spread_first_layer(
    energy: GradientStepEnergy, noisy: torch.Tensor, generator: torch.Generator
) -> None:
    """Let the units of the first layer bend near the data, on the scale of the noise."""
    layer = energy.network[0]  # type: ignore[index]
    n_units = len(layer.weight)
    directions = torch.randn(layer.weight.shape, generator=generator)
    directions = nn.functional.normalize(directions, dim=1) / (energy.sigma * energy.scale_in)
    lengths = 0.25 + 0.5 * torch.rand((n_units, 1), generator=generator)
    picks = torch.randint(len(noisy), (n_units,), generator=generator)
    centres = energy.scale_in * (noisy[picks] - energy.mean)
    with torch.no_grad():
        layer.weight.copy_(lengths * directions)
        layer.bias.copy_(-(layer.weight * centres).sum(dim=1))


def load_energy(
    module: Any,
    n_features: int,
    weights: dict[str, np.ndarray],
    image_shape: ImageShape | None = None,
) -> Energy:
    """The energy whose parameters and constants are these NumPy arrays, in eval mode."""
    with private_torch_rng(0), torch.inference_mode(False):
        energy = make_energy(module, n_features, image_shape)
        load_weights(energy, weights)
    return energy


def refuse_company(energy: Energy, X: np.ndarray, sigma: float) -> None:
    """Refuse a trained energy that denoises a row differently beside other rows."""
    device = energy.sigma.device
    generator = torch.Generator().manual_seed(0)
    rows = torch.from_numpy(X[:64].astype(np.float32))
    noisy = (rows + sigma * torch.randn(rows.shape, generator=generator)).to(device)
    with torch.no_grad():
        together, apart = energy.eval()(noisy)[:2], energy(noisy[:2])
    if not torch.allclose(together, apart, rtol=1e-3, atol=1e-3 * sigma):
        raise ValueError(
            "module denoises a row differently beside other rows; its statistics must not be those "
            "of the batch"
        )


def leaf(y: torch.Tensor) -> torch.Tensor:
    """The same numbers as a point to take gradients at."""
    return (y.clone() if y.is_inference() else y.detach()).requires_grad_()


def _refuse_kinks(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, _KINKED):
            raise ValueError(
                f"module contains {type(layer).__name__}, whose gradient is piecewise constant, so "
                "that y - sigma^2 grad(energy) cannot be learned; use SiLU, GELU, Softplus or Tanh"
            )


def _refuse_flat(network: nn.Module, u: torch.Tensor) -> None:
    """Refuse kinks that no layer shows: a network that is linear around every point."""
    point = leaf(u)
    slope = torch.autograd.grad(network(point).sum(), point, create_graph=True)[0]
    weights = torch.linspace(1, 2, slope.numel()).reshape(slope.shape)
    bent = slope.requires_grad and any(
        part is not None and bool(part.any())
        for part in torch.autograd.grad((weights * slope).sum(), point, allow_unused=True)
    )
    if not bent:
        raise ValueError(
            "module has a piecewise constant gradient (a linear or ReLU network), so that "
            "y - sigma^2 grad(energy) cannot be learned; use SiLU, GELU, Softplus or Tanh"
        )
