r"""How fast the gradient of a graph's score can change.

For :math:`g = g_{first} - g_{second}` with activations :math:`h_l = \sigma(z_l)`,

.. math::
    u^T \nabla^2 g\, v = \sum_l \sum_i \frac{\partial g}{\partial h_{l,i}} \sigma''(z_{l,i})
        \langle \nabla z_{l,i}, u \rangle \langle \nabla z_{l,i}, v \rangle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smoothlearn.nn.bounds import UP, Bounds, Centres, Columns, Pull, Reach
from smoothlearn.nn.graph import Step
from smoothlearn.nn.wiring import UNIT, Stage
from smoothlearn.theory.norms import dual, row_norms

FloatArray = NDArray[np.float64]

#: Columns, and products of two entries of a row, of a matrix whose form is bounded at every row.
_NARROW, _PRODUCTS = 32, 2**22


@dataclass(frozen=True)
class Pair:
    r"""Bounds of a difference of two scores in all of space.

    Parameters
    ----------
    slope : float
        Of the dual norm of its gradient.
    weights : dict of ndarray (m,)
        For every activation, of :math:`|\sigma''| |\partial g / \partial h_i|`.
    forms : dict of float
        Of :math:`\|M^T \mathrm{diag}(weights) M\|`, inf where M is not known or large.
    curvature : float
    """

    slope: float
    weights: dict[int, FloatArray]
    forms: dict[int, float]
    curvature: float


class Curvature:
    r"""Lipschitz constants of gradients of differences of scores, rounded up.

    With :math:`q_i = \sup |\sigma''_i| \sup |\partial g / \partial h_i|` a layer adds at most the
    least of :math:`\max_i q_i K^2`, :math:`\sum_i q_i K_i^2` and, where
    :math:`z = M h + c`, :math:`\|M^T \mathrm{diag}(q) M\| K_h^2`, with K the Lipschitz constants of
    z, its entries, and h.

    Parameters
    ----------
    steps : list of Step
        The last gives the scores, of shape (n_classes,) a row.
    norm : 1, 2 or inf
    """

    def __init__(self, steps: list[Step], norm: float) -> None:
        self.bounds = Bounds(steps, norm)
        self._pairs: dict[tuple[int, int], Pair] = {}

    def on_balls(
        self, first: Columns, second: Columns, centres: Centres, radius: FloatArray
    ) -> FloatArray:
        """The constants on balls around rows, for the difference of two scores at every row."""
        pairs = self.pairs(first, second)
        bounds = np.array([pair.curvature for pair in pairs])
        near = np.isfinite(radius) & (bounds > 0)
        if near.any():
            inside = {i: (centre[near], error[near]) for i, (centre, error) in centres.items()}
            reach = self.bounds.reach(inside, torch.from_numpy(radius[near]))
            pull = self.bounds.pull(first[near], second[near], reach)
            chosen = [pair for pair, is_near in zip(pairs, near, strict=True) if is_near]
            bounds[near] = np.fmin(bounds[near], self._local(chosen, reach, pull))
        return bounds

    def pairs(self, first: Columns, second: Columns) -> list[Pair]:
        """What holds in all of space, for the difference of two scores at every row."""
        keys = [(int(min(pair)), int(max(pair))) for pair in zip(first, second, strict=True)]
        new = sorted(set(keys) - set(self._pairs))
        if new:
            low, high = np.array(new, np.intp).T
            pull = self.bounds.pull(low, high, self.bounds.everywhere)
            self._pairs |= {key: self._pair(pull, row) for row, key in enumerate(new)}
        return [self._pairs[key] for key in keys]

    def _pair(self, pull: Pull, row: int) -> Pair:
        everywhere, weights, forms, total = self.bounds.everywhere, {}, {}, 0.0
        for i in self.bounds.curves:
            q = everywhere.bend[i] * pull.each[i][row : row + 1]
            weights[i] = q.flatten().numpy() * UP
            known = self._stage(i)
            forms[i] = np.inf
            if known is not None and known.is_small:
                forms[i] = known.stretch(self.bounds.norm_at(known.base), weights[i]) ** 2
            options = self._options(i, torch.from_numpy(weights[i])[np.newaxis], everywhere)
            options.append(forms[i] * self._at_base(i, everywhere))
            total += float(np.min(options))
        return Pair(self._slope(pull, row), weights, forms, total * UP)

    def _slope(self, pull: Pull, row: int) -> float:
        """The least of bounds at the input and at the step that scores are linear in."""
        norm, reach, input_size = self.bounds.norm, self.bounds.everywhere, pull.each[0].shape[1]
        by_entry = row_norms(pull.each[0][row].numpy(), dual(norm))
        by_length = float(pull.total[0][row]) * (input_size**0.5 if norm == np.inf else 1.0)
        bounds = [float(by_entry), by_length]
        known = self.bounds.stages.get(len(self.bounds.steps) - 1)
        if known is not None:
            base = known.base
            bounds.append(float((pull.each[base][row] * reach.each[base][0]).sum()))
            bounds.append(float(pull.total[base][row] * reach.total[base][0]))
        return min(bounds) * UP

    def _local(self, pairs: list[Pair], reach: Reach, pull: Pull) -> FloatArray:
        total = np.zeros(len(pairs))
        for i in self.bounds.curves:
            weights = (reach.bend[i] * pull.each[i]).flatten(1)
            options = self._options(i, weights, reach)
            forms = np.array([pair.forms[i] for pair in pairs])
            if np.isfinite(forms).all():
                worst = torch.from_numpy(np.stack([pair.weights[i] for pair in pairs]))
                ratio = torch.where(weights > 0, weights / worst, 0.0).amax(1).numpy()
                options.append(ratio * forms * self._at_base(i, reach))
            total += np.min(options, axis=0)
        return np.asarray(total * UP)

    def _options(self, i: int, weights: Tensor, reach: Reach) -> list[FloatArray]:
        """Bounds of what a layer adds, for weights (n, m)."""
        parent = self.bounds.steps[i].parents[0]
        each, total = reach.each[parent].flatten(1), reach.total[parent]
        options = [
            (weights.amax(1) * total**2).numpy(),
            (weights * each**2).sum(1).numpy(),
        ]
        known = self._stage(i)
        if known is not None and _is_narrow(known):
            forms = _form_norms(known, weights, self.bounds.norm_at(known.base))
            options.append(forms * self._at_base(i, reach))
        return options

    def _stage(self, i: int) -> Stage | None:
        """The matrix of an activation's argument."""
        return self.bounds.stages.get(self.bounds.steps[i].parents[0])

    def _at_base(self, i: int, reach: Reach) -> FloatArray:
        known = self._stage(i)
        if known is None or known.base == 0:
            return np.ones(1)
        return np.asarray(reach.total[known.base].numpy() ** 2)


def _is_narrow(known: Stage) -> bool:
    m, d = known.matrix.shape
    return d <= _NARROW and m * d * d <= _PRODUCTS


def _form_norms(known: Stage, weights: Tensor, norm: float) -> FloatArray:
    r"""Bounds of :math:`\|M^T \mathrm{diag}(q) M\|_{p \to p^*}` for every row q of weights."""
    m, d = known.matrix.shape
    products = (known.matrix[:, :, np.newaxis] * known.matrix[:, np.newaxis, :]).reshape(m, d * d)
    forms = (weights.numpy() @ products).reshape(-1, d, d)
    diagonals = np.diagonal(forms, axis1=1, axis2=2)
    slack = 4 * UNIT * (m + 8 * d + 16) * diagonals.sum(1)
    largest = diagonals.max(1) if norm == 1 else np.linalg.eigvalsh(forms)[:, -1]
    bound = largest + slack
    if norm == np.inf:
        bound = np.minimum(d * bound, np.abs(forms).sum((1, 2)) + d * slack)
    wrong = np.sqrt(weights.numpy() @ known.errors**2)
    return np.asarray((np.sqrt(np.maximum(bound, 0)) + wrong) ** 2 * UP)
