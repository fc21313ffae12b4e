"""Bounds of the derivatives of a graph's results, forward and backward, on balls."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smoothlearn.nn.graph import Step
from smoothlearn.nn.layers import Curve, LinearMap, Sum
from smoothlearn.nn.wiring import UNIT, bases, operator_norm, row_lengths, stage, transpose
from smoothlearn.theory.norms import dual, row_norms

Columns = NDArray[np.intp]
#: Of activations' arguments, by step: values at centres of balls, and their rounding errors.
Centres = dict[int, tuple[Tensor, Tensor]]

#: More than the relative rounding error of sums of positive numbers.
UP = 1 + 1e-9


@dataclass(frozen=True, eq=False)
class Reach:
    r"""How far results can move on a ball, as lists over steps, and what that means for slopes.

    Parameters
    ----------
    total : list of Tensor (n,)
        Lipschitz constants from the threat norm to the Euclidean norm.
    each : list of Tensor (n, *shape)
        Lipschitz constants of every entry.
    middle, spread, bend : dict of Tensor (n, *shape)
        Of activations: :math:`\sigma'` is within ``spread`` of ``middle``,
        :math:`|\sigma''|` is at most ``bend``.
    """

    total: list[Tensor]
    each: list[Tensor]
    middle: dict[int, Tensor]
    spread: dict[int, Tensor]
    bend: dict[int, Tensor]


@dataclass(frozen=True, eq=False)
class Pull:
    r"""Bounds of derivatives :math:`\partial g / \partial h` on a ball, as lists over steps.

    Parameters
    ----------
    each : list of Tensor (n, *shape)
        Of their absolute values.
    total : list of Tensor (n,)
        Of their Euclidean norms.
    """

    each: list[Tensor]
    total: list[Tensor]


class Bounds:
    """Bounds of derivatives of differences of a graph's outputs, for a threat in the p-norm.

    Parameters
    ----------
    steps : list of Step
        The last gives the scores, of shape (n_classes,) a row.
    norm : 1, 2 or inf
    """

    def __init__(self, steps: list[Step], norm: float) -> None:
        self.steps = steps
        self.norm = norm
        self.curves = [i for i, step in enumerate(steps) if isinstance(step.work, Curve)]
        found = bases(steps)
        inner = {steps[curve].parents[0] for curve in self.curves}
        stages = {i: stage(steps, found[i], i) for i in {*inner, len(steps) - 1}}
        self.stages = {i: known for i, known in stages.items() if known is not None}
        self.stretches = {i: s.stretch(self.norm_at(s.base)) for i, s in self.stages.items()}
        self.norms: dict[int, float] = {}
        self.lengths: dict[int, Tensor] = {}
        for i, step in enumerate(steps):
            if isinstance(step.work, LinearMap):
                shape = steps[step.parents[0]].shape
                self.norms[i] = operator_norm(step.work, shape)
                self.lengths[i] = row_lengths(step.work, shape, self.norms[i])
        self.everywhere = self.reach(None, None)

    def norm_at(self, base: int) -> float:
        """The norm that a base is measured in: the threat's at the input."""
        return self.norm if base == 0 else 2

    def reach(self, centres: Centres | None, radius: Tensor | None) -> Reach:
        """How far results can move on balls, or in all of space where there are no centres."""
        d = prod(self.steps[0].shape)
        root = UP * d**0.5 if self.norm == np.inf else 1.0
        reach = Reach(
            [torch.tensor([root], dtype=torch.float64)],
            [torch.ones(1, d, dtype=torch.float64)],
            {},
            {},
            {},
        )
        for i, step in enumerate(self.steps[1:], 1):
            below = [(reach.each[j], reach.total[j]) for j in step.parents]
            if isinstance(step.work, Curve):
                each, total = self._through_curve(i, step.work, reach, centres, radius)
            elif isinstance(step.work, LinearMap):
                ((each, total),) = below
                length = self.lengths[i] * _spread_out(total, self.lengths[i])
                each = torch.minimum(step.work.absolute(each) * UP, length)
                total = total * self.norms[i]
            else:
                each = torch.stack(torch.broadcast_tensors(*(k for k, _ in below))).sum(0)
                total = torch.stack(torch.broadcast_tensors(*(K for _, K in below))).sum(0)
            if i in self.stages:
                each, total = self._from_base(i, each, total, reach)
            total = torch.minimum(total, each.flatten(1).norm(dim=1) * UP)
            reach.each.append(each)
            reach.total.append(total)
        return reach

    def _from_base(
        self, i: int, each: Tensor, total: Tensor, reach: Reach
    ) -> tuple[Tensor, Tensor]:
        """Constants that are no larger than those of the base times norms of the matrix."""
        known = self.stages[i]
        factor = reach.total[known.base] if known.base else torch.ones(1, dtype=torch.float64)
        lengths = row_norms(known.matrix, dual(self.norm_at(known.base))) + known.errors
        rows = torch.from_numpy(lengths * UP).reshape(1, *self.steps[i].shape)
        each = torch.minimum(each, rows * _spread_out(factor, rows))
        return each, torch.minimum(total, factor * self.stretches[i])

    def _through_curve(
        self,
        i: int,
        curve: Curve,
        reach: Reach,
        centres: Centres | None,
        radius: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        parent = self.steps[i].parents[0]
        each, total = reach.each[parent], reach.total[parent]
        if centres is None or radius is None:
            low, high = torch.full_like(each, -np.inf), torch.full_like(each, np.inf)
        else:
            centre, error = centres[parent]
            half = each * _spread_out(radius, each) * UP + error
            low, high = centre - half, centre + half
        least, most = curve.activation.slopes(low.numpy(), high.numpy())
        middle, spread = (torch.from_numpy(t) for t in ((least + most) / 2, (most - least) / 2))
        reach.middle[i], reach.spread[i] = middle, spread * UP + UNIT
        reach.bend[i] = torch.from_numpy(curve.activation.bend(low.numpy(), high.numpy()))
        steepest = torch.from_numpy(np.maximum(-least, most))
        return each * steepest, total * steepest.flatten(1).amax(1)

    def pull(self, first: Columns, second: Columns, reach: Reach) -> Pull:
        r"""Bounds of the derivatives of a difference of scores.

        Derivatives are carried backward as intervals, by their middles and half their widths.
        """
        eye = torch.eye(prod(self.steps[-1].shape), dtype=torch.float64)
        seed = eye[torch.from_numpy(first)] - eye[torch.from_numpy(second)]
        last = len(self.steps) - 1
        carried = {last: (seed, torch.zeros_like(seed), seed.norm(dim=1) * UP)}
        each, lengths = [seed] * len(self.steps), [seed] * len(self.steps)
        for i in range(last, -1, -1):
            m, s, t = carried.pop(i)
            t = torch.minimum(t, (m.abs() + s).flatten(1).norm(dim=1) * UP)
            lengths[i] = t
            each[i] = torch.minimum(m.abs() + s, _spread_out(t, m)) * UP
            for parent, (dm, ds, dt) in self._pull_step(i, m, s, t, reach):
                before = carried.get(parent, (0.0, 0.0, 0.0))
                carried[parent] = (before[0] + dm, before[1] + ds, before[2] + dt)
        return Pull(each, lengths)

    def _pull_step(
        self, i: int, m: Tensor, s: Tensor, t: Tensor, reach: Reach
    ) -> list[tuple[int, tuple[Tensor, Tensor, Tensor]]]:
        """What a step adds to the derivatives of its parents."""
        work, parents = self.steps[i].work, self.steps[i].parents
        if isinstance(work, Sum):
            return [(j, (sign * m, s, t)) for j, sign in zip(parents, work.signs, strict=True)]
        if isinstance(work, Curve):
            slope, around = reach.middle[i], reach.spread[i]
            steepest = slope.abs() + around
            spread = around * m.abs() + steepest * s + UNIT * (slope * m).abs()
            return [(parents[0], (slope * m, spread, t * steepest.flatten(1).amax(1)))]
        if isinstance(work, LinearMap):
            shape = self.steps[parents[0]].shape
            rounded = s + 4 * UNIT * (prod(self.steps[i].shape) + work.n_terms) * m.abs()
            back = transpose(work.weigh, shape, m), transpose(work.absolute, shape, rounded) * UP
            return [(parents[0], (*back, t * self.norms[i]))]
        return []


def _spread_out(numbers: Tensor, rows: Tensor) -> Tensor:
    """One number a row, in the shape that broadcasts against rows."""
    return numbers.reshape(-1, *[1] * (rows.ndim - 1))
