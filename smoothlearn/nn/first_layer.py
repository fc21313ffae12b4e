r"""Networks as functions of what their first linear layer gives.

Where a network starts with :math:`t = W x + b`, it depends on a noisy row through t alone, whose
noise :math:`\sigma W\varepsilon` has the dimension of t.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from torch import nn

from smoothlearn.views.affine import Affine
from smoothlearn.views.network import Tensors, first_output, layer_arrays, module_outputs

_PROBES = 64


def project_network(
    front: Affine, module: nn.Module, device: torch.device
) -> tuple[Affine, Tensors] | None:
    r"""The narrowest projection t of rows that starts a network, and its outputs as those of t.

    The projection is the front, or the front and the module's first layer :math:`W x + b`. The
    layer is taken where the module's input goes there, as it is, and nowhere else: given
    :math:`W x + b` in place of what the layer computes, and NaN in place of x, the module must have
    the outputs of x, at random x of all sizes.

    Parameters
    ----------
    front : Affine
        The map in front of the module.
    module : nn.Module
        In single precision and eval mode, on the CPU. It is taken over, and may be changed.
    device : torch.device
        Where outputs are computed.

    Returns
    -------
    (Affine, callable) or None
        From (n, d) to (n, r) in float64, and from batches (n, r) of any float to outputs. None
        where no r is less than d.
    """
    projection, rest = front, module
    behind = _cut(deepcopy(module), front.shift.size)
    if behind is not None:
        projection, rest = front.then(Affine(*layer_arrays(behind.layer))), behind
    if len(projection.shift) >= front.linear.shape[-1]:
        return None
    outputs = module_outputs(rest, device)
    return projection, lambda batch: outputs(batch.to(torch.float32, copy=True))


class _Given(nn.Linear):
    """A layer that gives once what it was given, whatever its input."""

    given: torch.Tensor | None = None

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        if self.given is None:
            return super().forward(input)
        output, self.given = self.given, None
        return output


class _Behind(nn.Module):
    """The part of a module that comes behind a layer of it."""

    blank: torch.Tensor

    def __init__(self, module: nn.Module, layer: nn.Linear) -> None:
        super().__init__()
        layer.__class__ = _Given  # it keeps its weights, its hooks and its places in the module
        self.module, self.layer = module, layer
        self.register_buffer("blank", torch.full((1, layer.in_features), torch.nan))

    def forward(self, given: torch.Tensor) -> Any:
        self.layer.given = given
        return self.module(self.blank.expand(len(given), -1))


def _cut(module: nn.Module, width: int) -> _Behind | None:
    """What comes behind the linear layer that alone sees a module's input, or None.

    None also where the layer has ``width`` units or more.
    """
    scales = torch.logspace(-3, 12, _PROBES)[:, None]  # a clamp anywhere shows
    probes = scales * torch.randn((_PROBES, width), generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            layers, said = _run(module, probes)
            if not layers or layers[0].out_features >= width:
                return None
            given = nn.functional.linear(probes, layers[0].weight, layers[0].bias)
            behind = _Behind(module, layers[0])
            trusted = _same(first_output(behind(given)), said)
    except Exception:  # the module's own, on rows that it was not made for
        return None
    return behind if trusted else None


def _run(module: nn.Module, rows: torch.Tensor) -> tuple[list[Any], torch.Tensor]:
    """The linear layers that a module calls, in order, and its output."""
    called: list[Any] = []

    def note(layer: nn.Module, inputs: Any, output: Any) -> None:
        called.append(layer)

    layers = [layer for layer in module.modules() if type(layer) is nn.Linear]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        return called, first_output(module(rows.clone()))
    finally:
        for hook in hooks:
            hook.remove()


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, 0, 0, equal_nan=True)
