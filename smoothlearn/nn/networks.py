"""Networks for tables and images: built in, and a user's own."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from math import ceil, prod
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import nn

ImageShape = tuple[int, int, int]


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers of these sizes with SiLU between them."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


class ConvScalar(nn.Sequential):
    """From images (n, channels, height, width) to one scalar each: three convolutions, an MLP."""

    def __init__(self, image_shape: ImageShape, width: int = 32) -> None:
        channels, *size = image_shape
        height, breadth = (ceil(pixels / 4) for pixels in size)
        super().__init__(
            _conv(channels, width),
            nn.SiLU(),
            _conv(width, 2 * width, stride=2),
            nn.SiLU(),
            _conv(2 * width, 2 * width, stride=2),
            nn.SiLU(),
            nn.Flatten(),
            mlp(2 * width * height * breadth, 8 * width, 1),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scalars: torch.Tensor = super().forward(_channels_last(images))
        return scalars


class ConvClassifier(nn.Module):
    """From images (n, channels, height, width) to logits: two convolutions and an MLP.

    Blocks of 2 x 2 pixels become channels first: faster on a CPU than a stride.
    """

    def __init__(self, image_shape: ImageShape, n_classes: int, width: int = 32) -> None:
        super().__init__()
        channels, height, breadth = image_shape
        self.pad = nn.ZeroPad2d((0, breadth % 2, 0, height % 2))
        self.body = nn.Sequential(
            _conv(4 * channels, width),
            nn.ReLU(inplace=True),
            _conv(width, 2 * width, stride=2),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(2 * width * ceil(height / 4) * ceil(breadth / 4), 8 * width),
            nn.ReLU(inplace=True),
            nn.Linear(8 * width, n_classes),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        blocks = nn.functional.pixel_unshuffle(self.pad(images), 2)
        logits: torch.Tensor = self.body(_channels_last(blocks))
        return logits


class UNet(nn.Module):
    """From images (n, channels, height, width) to images, by way of a half and a quarter of them.

    Little happens at full resolution, where convolutions cost most.
    """

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        wide = 2 * width
        self.enter = _conv(channels, width)
        self.to_half = nn.Sequential(nn.SiLU(), _conv(width, wide, stride=2))
        self.by_quarter = nn.Sequential(
            nn.SiLU(), _conv(wide, wide, stride=2), nn.SiLU(), _conv(wide, wide)
        )
        self.to_full = nn.Sequential(nn.SiLU(), _conv(wide, width))
        self.leave = nn.Sequential(nn.SiLU(), _conv(width, channels))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        full = self.enter(_channels_last(images))
        half = self.to_half(full)
        half = half + nn.functional.interpolate(self.by_quarter(half), size=half.shape[2:])
        full = full + nn.functional.interpolate(self.to_full(half), size=full.shape[2:])
        out: torch.Tensor = self.leave(full)
        return out


def _conv(n_in: int, n_out: int, stride: int = 1) -> nn.Module:
    layer: nn.Module = nn.Conv2d(n_in, n_out, 3, stride=stride, padding=1)
    return layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _channels_last(images: torch.Tensor) -> torch.Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def of_images(network: nn.Module, shape: tuple[int, ...]) -> nn.Sequential:
    """A network of images as one of flat rows, with the same output."""
    return nn.Sequential(nn.Unflatten(1, shape), network)


def as_image_shape(image_shape: Any, n_features: int) -> ImageShape | None:
    """(channels, height, width), checked against the number of features."""
    if image_shape is None:
        return None
    shape = tuple(image_shape) if isinstance(image_shape, tuple | list) else ()
    whole = all(
        isinstance(size, Integral) and not isinstance(size, bool) and int(size) > 0
        for size in shape
    )
    if len(shape) not in (2, 3) or not whole:
        raise ValueError(
            "image_shape must be (height, width) or (channels, height, width), in whole pixels, "
            f"got {image_shape!r}"
        )
    if prod(shape) != n_features:
        raise ValueError(
            f"image_shape={image_shape!r} has {prod(shape)} pixels, X has {n_features} features"
        )
    channels, height, width = (1, *shape) if len(shape) == 2 else shape
    return int(channels), int(height), int(width)


def users_network(module: Any, *sizes: int) -> nn.Module:
    """What a class or function gives that is called with these sizes, or the copy of an instance.

    Raises
    ------
    TypeError
        If that is not a torch module.
    ValueError
        If it has no parameters to train.
    """
    if not callable(module):
        raise TypeError(f"module must be a name, or an nn.Module class or instance, got {module!r}")
    network = deepcopy(module) if isinstance(module, nn.Module) else module(*sizes)
    if not isinstance(network, nn.Module):
        raise TypeError(f"module={module!r} gave {type(network).__name__}, not a torch nn.Module")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise ValueError(f"module={module!r} has no parameters to train")
    return network


def keep_module(module: Any) -> Any:
    """What to make the network of again: a copy of an instance, anything else as it is."""
    return deepcopy(module) if isinstance(module, nn.Module) else module


def save_weights(network: nn.Module) -> dict[str, np.ndarray]:
    """The parameters and constants of a network as NumPy arrays."""
    return {name: value.cpu().numpy().copy() for name, value in network.state_dict().items()}


def load_weights(network: nn.Module, weights: dict[str, np.ndarray]) -> None:
    """Give a network the parameters and constants that :func:`save_weights` gave, for good."""
    network.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
    network.eval().requires_grad_(False)
