"""Bounds of the rounding errors of a graph's results and gradients, by running analysis."""

from __future__ import annotations

from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smoothlearn.nn.graph import Step
from smoothlearn.nn.layers import Curve, LinearMap
from smoothlearn.nn.wiring import UNIT, transpose
from smoothlearn.theory.norms import dual, row_norms

FloatArray = NDArray[np.float64]

#: More than the units of rounding in torch's activations and their derivatives.
_CURVE = 32


def forward_errors(steps: list[Step], values: list[Tensor]) -> list[Tensor]:
    """How far every computed result can be from that of exact arithmetic."""
    errors = [torch.zeros_like(values[0])]
    for step, value in zip(steps[1:], values[1:], strict=True):
        before = [errors[parent] for parent in step.parents]
        sizes = [values[p].abs() + errors[p] for p in step.parents]
        work = step.work
        if isinstance(work, LinearMap):
            shift = work.shift.abs() if work.shift_sizes is None else work.shift_sizes
            new = (work.n_terms + 8) * UNIT * (work.sizes(sizes[0]) + shift)
            errors.append(work.absolute(before[0]) + new)
        elif isinstance(work, Curve):
            low, high = (values[step.parents[0]] + way * before[0] for way in (-1, 1))
            least, most = work.activation.slopes(low.numpy(), high.numpy())
            steepest = torch.from_numpy(np.maximum(-least, most))
            errors.append(
                steepest * before[0] + _CURVE * UNIT * (sizes[0] + value.abs() + work.unit)
            )
        else:
            errors.append(torch.stack(before).sum(0) + 4 * UNIT * torch.stack(sizes).sum(0))
    return errors


def rounding_errors(
    steps: list[Step], values: list[Tensor], norm: float
) -> tuple[FloatArray, FloatArray]:
    r"""How far differences of scores and their gradients, computed in float64, can be from exact.

    Parameters
    ----------
    steps : list of Step
    values : list of Tensor
        The results at n rows.
    norm : 1, 2 or inf
        Gradients are measured in its dual norm.

    Returns
    -------
    two ndarrays of shape (n,)
        They hold for the difference of any two scores.
    """
    errors = forward_errors(steps, values)
    scores = 2 * errors[-1].amax(1) + 4 * UNIT * values[-1].abs().amax(1)
    sizes = [torch.zeros_like(value) for value in values]
    wrong = [torch.zeros_like(value) for value in values]
    sizes[-1] += 1
    for i in range(len(steps) - 1, 0, -1):
        step = steps[i]
        size, error = sizes[i], wrong[i]
        for parent in set(step.parents):
            more_size, more_error = _back(steps, i, size, error, values[parent], errors[parent])
            times = step.parents.count(parent)
            sizes[parent] += times * more_size
            wrong[parent] += times * (more_error + 4 * UNIT * more_size)
    gradients = row_norms(wrong[0].numpy(), dual(norm))
    return scores.numpy() * (1 + 1e-6), gradients * (1 + 1e-6)


def _back(
    steps: list[Step], i: int, size: Tensor, error: Tensor, value: Tensor, moved: Tensor
) -> tuple[Tensor, Tensor]:
    """Sizes and errors of derivatives, carried from a step to its parent."""
    work = steps[i].work
    if isinstance(work, LinearMap):
        shape = value.shape[1:]
        terms = 4 * UNIT * (prod(steps[i].shape) + work.n_terms + 8)
        return (
            transpose(work.absolute, shape, size),
            transpose(work.absolute, shape, error)
            + terms * transpose(work.sizes, shape, size + error),
        )
    if isinstance(work, Curve):
        ends = (value - moved).numpy(), (value + moved).numpy()
        least, most = work.activation.slopes(*ends)
        steepest = torch.from_numpy(np.maximum(-least, most))
        turned = torch.from_numpy(work.activation.bend(*ends)) * moved
        turned += _CURVE * UNIT * (1 + value.abs() / work.unit)
        return size * steepest, error * steepest + (size + error) * turned
    return size, error
