r"""Linear classifiers of denoised rows, from a projection of the noisy row.

Where the network of an energy starts with a linear layer V, and the classifier is linear with
weights C, the scores :math:`C\hat x(y) + d` depend on y through :math:`(Vy, Cy)` alone. Its noise
has the dimension of that projection, and neither y nor :math:`\hat x(y)` is ever formed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from smoothlearn.nn.energies import CalibratedEnergy, Energy, leaf
from smoothlearn.views.affine import Affine
from smoothlearn.views.copies import per_thread
from smoothlearn.views.linear import Linear


def starts_linear(energy: Energy) -> bool:
    """Whether the energy is a network behind a linear layer, plus a bowl."""
    if not isinstance(energy, CalibratedEnergy) or type(energy.network) is not nn.Sequential:
        return False
    return len(energy.network) > 1 and type(energy.network[0]) is nn.Linear


def project(
    energy: Energy, classifier: Linear, device: torch.device
) -> tuple[Affine, Callable[[torch.Tensor], torch.Tensor]]:
    r"""The projection t of rows, and the scores C x̂(y) + d as a function of t.

    With :math:`\hat x(y) = c\,y + (1 - c)\mu - k V^T \nabla F(h)`, :math:`h = V c_{in}(y-\mu) + b`,
    the projection is :math:`t = (h,\; C(c\,y + (1 - c)\mu) + d)` and the scores are
    :math:`t_2 - k\,C V^T \nabla F(t_1)`.

    Parameters
    ----------
    energy : Energy
        In eval mode, on the CPU. Scores are computed in its dtype.
    classifier : Linear
        With weights C and offsets d.
    device : torch.device
        Where the scores are computed.

    Returns
    -------
    Affine, callable
        From (n, d) to (n, r) in float64, and from batches (n, r) of any float to scores.

    Raises
    ------
    ValueError
        If the energy does not start with a linear layer.
    """
    if not isinstance(energy, CalibratedEnergy) or not starts_linear(energy):
        raise ValueError(
            f"{type(energy).__name__} has no linear first layer, so its noise cannot be projected; "
            "an energy is projected if its network is an nn.Sequential that starts with nn.Linear"
        )
    layers: Any = energy.network
    first = layers[0]
    mean, skip, scale_in = (
        value.double().numpy() for value in (energy.mean, energy.skip, energy.scale_in)
    )
    V = first.weight.double().numpy()
    b = np.zeros(len(V)) if first.bias is None else first.bias.double().numpy()
    C, d = classifier.weights, classifier.offsets
    projection = Affine(
        np.concatenate([scale_in * V, skip * C]),
        np.concatenate([b - scale_in * V @ mean, (1 - skip) * C @ mean + d]),
    )
    k = float(energy.gain * energy.scale_out)
    back = torch.tensor(-k * V @ C.T, dtype=first.weight.dtype, device=device)
    my_rest = per_thread(layers[1:].to(device))

    def scores(projected: torch.Tensor) -> torch.Tensor:
        batch = projected.to(back.dtype)
        with torch.inference_mode(False), torch.enable_grad():
            h = leaf(batch[:, : len(V)])
            slope = torch.autograd.grad(my_rest()(h.clone()).sum(), h)[0]  # it may work in place
        return torch.addmm(batch[:, len(V) :], slope, back)

    return projection, scores
