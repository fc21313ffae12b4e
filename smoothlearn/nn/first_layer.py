r"""Networks as functions of what their first linear layer gives.

Where a network starts with :math:`t = W x + b`, it depends on a noisy row through t alone, whose
noise :math:`\sigma W\varepsilon` has the dimension of t.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from smoothlearn.views.affine import Affine
from smoothlearn.views.network import Tensors, layer_arrays, module_outputs

_PROBES = 64
#: What leaves rows as they are, in eval mode.
_IDLE = (nn.Identity, nn.Flatten, nn.Dropout, nn.AlphaDropout)


def project_network(
    front: Affine, module: nn.Module, device: torch.device
) -> tuple[Affine, Tensors] | None:
    r"""The narrowest projection t of rows that starts a network, and its outputs as those of t.

    The projection is the front, or the front and the module's first layer :math:`W x + b`. The
    layer is taken of an nn.Sequential alone, whose structure shows that nothing else sees the rows;
    what a ``forward`` does with them could be told by trying, on some rows and not for others.

    Parameters
    ----------
    front : Affine
        The map in front of the module.
    module : nn.Module
        In single precision and eval mode, on the CPU.
    device : torch.device
        Where outputs are computed.

    Returns
    -------
    (Affine, callable) or None
        From (n, d) to (n, r) in float64, and from batches (n, r) of any float to outputs. None
        where no r is less than d.
    """
    projection, rest = front, module
    split = _split(module)
    if split is not None and split[0].out_features < len(front.shift):
        projection, rest = front.then(Affine(*layer_arrays(split[0]))), split[1]
    if len(projection.shift) >= front.linear.shape[-1]:
        return None
    outputs = module_outputs(deepcopy(rest), device)
    return projection, lambda batch: outputs(batch.to(torch.float32, copy=True))


def _split(module: nn.Module) -> tuple[nn.Linear, nn.Sequential] | None:
    """The linear layer that comes first, and the layers behind it; None where there is none."""
    layers: list[nn.Module] = [module]
    while layers and type(layers[0]) in (nn.Sequential, *_IDLE):
        first = layers.pop(0)
        layers = [*first, *layers] if isinstance(first, nn.Sequential) else layers
    if not layers or type(layers[0]) is not nn.Linear:
        return None
    linear, rest = layers[0], nn.Sequential(*layers[1:])
    return (linear, rest) if _is_all(linear, rest, module) else None


def _is_all(linear: nn.Linear, rest: nn.Module, module: nn.Module) -> bool:
    """Whether the two compute what the module does: it may have hooks."""
    scales = torch.logspace(-3, 12, _PROBES)[:, None]
    normal = torch.randn((_PROBES, linear.in_features), generator=torch.Generator().manual_seed(0))
    probes = scales * normal
    with torch.no_grad():
        said = module(probes.clone())
        again = rest(nn.functional.linear(probes, linear.weight, linear.bias))
    return isinstance(said, torch.Tensor) and torch.equal(said.nan_to_num(), again.nan_to_num())
