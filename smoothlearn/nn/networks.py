"""Smooth networks for tables and images."""

from __future__ import annotations

from itertools import pairwise
from math import ceil

import torch
from torch import nn


def mlp(*sizes: int) -> nn.Sequential:
    """Linear layers of these sizes with SiLU between them."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


class ConvScalar(nn.Sequential):
    """From images (n, channels, height, width) to one scalar each: three convolutions, an MLP."""

    def __init__(self, image_shape: tuple[int, int, int], width: int = 32) -> None:
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
