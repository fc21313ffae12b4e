"""Layers of torch as linear maps, sums and smooth elementwise functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from smoothlearn.nn.convolution import convolution_norm
from smoothlearn.theory import activations
from smoothlearn.theory.activations import Activation


class NoBoundError(TypeError):
    """A module has a part of which no gradient-Lipschitz constant is known."""


class KinkedError(NoBoundError):
    """A module has a part whose gradient jumps: it has no gradient-Lipschitz constant."""


@dataclass(frozen=True, eq=False)
class LinearMap:
    r"""Rows :math:`x \mapsto W x + b`, given as a function of x and of the numbers W is made of.

    Parameters
    ----------
    function : callable (rows, weight) -> rows
        Linear in the rows. With ``weight`` replaced by its absolute values it computes
        :math:`|W| x`, and with their squares at least the squared entries of W times x.
    weight : Tensor
    shift : Tensor
        The vector b, broadcast against rows.
    n_terms : int
        How many rounded terms an entry of the output is the sum of, at most.
    symbol : callable or None
        A bound of :math:`\|W\|_2` that the kind of map gives.
    weight_sizes, shift_sizes : Tensor or None
        What bounds the rounding errors of weight and shift, times a unit of rounding; their
        absolute values where None.
    """

    function: Callable[[Tensor, Tensor], Tensor]
    weight: Tensor
    shift: Tensor
    n_terms: int
    symbol: Callable[[], float] | None = None
    weight_sizes: Tensor | None = None
    shift_sizes: Tensor | None = None

    def __call__(self, rows: Tensor) -> Tensor:
        return self.weigh(rows) + self.shift

    def weigh(self, rows: Tensor) -> Tensor:
        return self.function(rows, self.weight)

    def absolute(self, rows: Tensor) -> Tensor:
        return self.function(rows, self.weight.abs())

    def squared(self, rows: Tensor) -> Tensor:
        return self.function(rows, self.weight**2)

    def sizes(self, rows: Tensor) -> Tensor:
        sizes = self.weight.abs() if self.weight_sizes is None else self.weight_sizes
        return self.function(rows, sizes)


@dataclass(frozen=True, eq=False)
class Curve:
    """An activation function: its values in torch, and the bounds of its derivatives.

    ``unit`` is the length on which it bends.
    """

    value: Callable[[Tensor], Tensor]
    activation: Activation
    unit: float = 1.0

    def __call__(self, rows: Tensor) -> Tensor:
        return self.value(rows)


@dataclass(frozen=True)
class Sum:
    """A sum of rows, each with its sign."""

    signs: tuple[float, ...]

    def __call__(self, *rows: Tensor) -> Tensor:
        total = self.signs[0] * rows[0]
        for sign, term in zip(self.signs[1:], rows[1:], strict=True):
            total = total + sign * term
        return total


def dense(weight: Tensor, shift: Tensor) -> LinearMap:
    """A linear map of the last direction of rows, by a matrix."""
    return LinearMap(F.linear, weight, shift, weight.shape[1] + 1)


def diagonal(scale: Tensor, shift: Tensor) -> LinearMap:
    """Numbers times the entries of rows, which broadcast to the shape of a row."""
    return LinearMap(torch.mul, scale, shift, 8)


def reshape(shape: tuple[int, ...]) -> LinearMap:
    """Rows in another shape."""
    return LinearMap(
        lambda rows, w: w * rows.reshape(len(rows), *shape), number(1.0), number(0.0), 1
    )


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def softplus(beta: float, threshold: float) -> Curve:
    """Softplus without the jump of 2e-9 that torch's has at its usual threshold."""
    if threshold < 20:
        raise KinkedError(f"softplus jumps at its threshold={threshold}; use 20 or more")
    if not 0 < beta < float("inf"):
        raise NoBoundError(f"softplus with beta={beta} has no known bound; use a positive beta")
    # log(1 + e^40) is 40 in float64
    return Curve(lambda z: F.softplus(z, beta, 40.0), activations.softplus(beta), 1 / beta)


def gelu(approximate: str) -> Curve:
    bounds = activations.GELU if approximate == "none" else activations.GELU_TANH
    return Curve(lambda z: F.gelu(z, approximate=approximate), bounds)


def elu(alpha: float) -> Curve:
    if alpha != 1:
        raise KinkedError(f"the gradient of ELU jumps at 0 for alpha={alpha}; use alpha=1")
    return Curve(F.elu, activations.ELU)


TANH = Curve(torch.tanh, activations.TANH)
SIGMOID = Curve(torch.sigmoid, activations.SIGMOID)
SILU = Curve(F.silu, activations.SILU)


def _linear(layer: nn.Linear, shape: tuple[int, ...]) -> LinearMap:
    return dense(layer.weight, number(0.0) if layer.bias is None else layer.bias)


def _convolution(layer: nn.Conv1d | nn.Conv2d, shape: tuple[int, ...]) -> LinearMap:
    if layer.padding_mode != "zeros":
        raise NoBoundError(f"padding_mode={layer.padding_mode!r} has no known bound; use 'zeros'")
    convolve: Any = F.conv1d if isinstance(layer, nn.Conv1d) else F.conv2d
    settings = layer.stride, layer.padding, layer.dilation, layer.groups
    bias = number(0.0) if layer.bias is None else layer.bias.reshape(-1, *[1] * (len(shape) - 1))
    return LinearMap(
        lambda rows, w: convolve(rows, w, None, *settings),
        layer.weight,
        bias,
        prod(layer.weight.shape[1:]) + 1,
        partial(convolution_norm, layer.weight, layer.groups),
    )


def _batch_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d, shape: tuple[int, ...]) -> LinearMap:
    mean, variance = layer.running_mean, layer.running_var
    if mean is None or variance is None:
        raise NoBoundError("without running statistics it mixes rows; use track_running_stats=True")
    scale = 1 / torch.sqrt(variance + layer.eps)
    scale = scale if layer.weight is None else scale * layer.weight
    offset = torch.zeros_like(mean) if layer.bias is None else layer.bias
    shift, sizes = offset - mean * scale, offset.abs() + (mean * scale).abs()
    scale, shift, sizes = (t.reshape(-1, *[1] * (len(shape) - 1)) for t in (scale, shift, sizes))
    return replace(diagonal(scale, shift), shift_sizes=sizes)


def _average(layer: nn.Module, shape: tuple[int, ...]) -> LinearMap:
    if getattr(layer, "divisor_override", None) is not None:
        raise NoBoundError("divisor_override has no known bound; scale in another layer")
    return LinearMap(lambda rows, w: w * layer(rows), number(1.0), number(0.0), prod(shape) + 1)


#: From a layer and the shape of the rows it reads to what it does.
LAYERS: dict[type, Callable[[Any, tuple[int, ...]], LinearMap | Curve]] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.AvgPool1d: _average,
    nn.AvgPool2d: _average,
    nn.AdaptiveAvgPool1d: _average,
    nn.AdaptiveAvgPool2d: _average,
    nn.Tanh: lambda layer, shape: TANH,
    nn.Sigmoid: lambda layer, shape: SIGMOID,
    nn.SiLU: lambda layer, shape: SILU,
    nn.Softplus: lambda layer, shape: softplus(layer.beta, layer.threshold),
    nn.GELU: lambda layer, shape: gelu(layer.approximate),
    nn.ELU: lambda layer, shape: elu(layer.alpha),
}
#: Layers that leave rows as they are; dropout does outside training.
IDLE = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)
RESHAPING = (nn.Flatten, nn.Unflatten)
#: Layers whose gradient jumps.
KINKED = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.SELU, nn.Threshold, nn.Hardtanh,
    nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Softshrink, nn.MaxPool1d, nn.MaxPool2d,
    nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip
