"""Operator norms and matrices of the linear parts of a graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smoothlearn.nn.graph import Step
from smoothlearn.nn.layers import Curve, LinearMap, Sum
from smoothlearn.theory.norms import euclidean_stretch

FloatArray = NDArray[np.float64]

UNIT = float(np.finfo(float).eps)
#: Entries of a matrix that is formed, and operations of a singular value decomposition.
_LARGEST, _LONGEST = 2**22, 2**30


@dataclass(frozen=True, eq=False)
class Stage:
    r"""A result as a linear map of an earlier one: :math:`z = M h_{base} + c`.

    Parameters
    ----------
    base : int
        The step of h: the input, an activation or a sum of several.
    matrix : ndarray of shape (m, d)
    errors : ndarray of shape (m,)
        Bounds of the sums over rows of the absolute rounding errors of the matrix.
    """

    base: int
    matrix: FloatArray
    errors: FloatArray

    @property
    def is_small(self) -> bool:
        """Whether singular values of the matrix can be computed for every pair of classes."""
        return prod(self.matrix.shape) * min(self.matrix.shape) <= _LONGEST

    def stretch(self, norm: float, weights: FloatArray | None = None) -> float:
        r"""A bound of :math:`\|\mathrm{diag}(w)^{1/2} M\|_{p \to 2}`."""
        root = np.ones(len(self.matrix)) if weights is None else np.sqrt(weights)
        wrong = float(np.linalg.norm(root * self.errors))
        return euclidean_stretch(root[:, np.newaxis] * self.matrix, norm) + wrong * (1 + 1e-9)


def transpose(function: Callable[[Tensor], Tensor], shape: tuple[int, ...], rows: Tensor) -> Tensor:
    r"""Rows :math:`W^T y`, for the linear map W of rows of a shape that a function computes."""
    zeros = torch.zeros(len(rows), *shape, dtype=torch.float64)
    pull_back: Any = torch.func.vjp(function, zeros)[1]
    return pull_back(rows)[0].detach()


def bases(steps: list[Step]) -> list[int]:
    """For every step the latest that it is a linear map of, besides those it is made of."""
    found = [0]
    for place, step in enumerate(steps[1:], 1):
        below = {found[parent] for parent in step.parents}
        found.append(place if isinstance(step.work, Curve) or len(below) > 1 else below.pop())
    return found


def stage(steps: list[Step], base: int, place: int) -> Stage | None:
    """The step as a linear map of its base; None where that would be a large matrix."""
    d, m = prod(steps[base].shape), prod(steps[place].shape)
    if base == place or d * m > _LARGEST:
        return None
    eye = torch.eye(d, dtype=torch.float64).reshape(d, *steps[base].shape)
    matrix = _push(steps, base, place, eye, LinearMap.weigh)
    total = _push(steps, base, place, eye, LinearMap.sizes, signed=False)
    n_terms = sum(s.work.n_terms for s in steps[base + 1 :] if isinstance(s.work, LinearMap))
    rounding = 4 * UNIT * (n_terms + len(steps))
    return Stage(
        base,
        np.ascontiguousarray(matrix.reshape(d, m).numpy().T),
        rounding * total.reshape(d, m).sum(0).numpy(),
    )


def _push(
    steps: list[Step],
    base: int,
    place: int,
    rows: Tensor,
    apply: Callable[[LinearMap, Tensor], Tensor],
    signed: bool = True,
) -> Tensor:
    """Rows at the base, seen at a later step."""
    values = {base: rows}
    for now in range(base + 1, place + 1):
        work, parents = steps[now].work, steps[now].parents
        if isinstance(work, Curve) or not set(parents) <= set(values):
            continue
        if isinstance(work, LinearMap):
            values[now] = apply(work, values[parents[0]])
        elif isinstance(work, Sum):
            signs = work.signs if signed else (1.0,) * len(parents)
            values[now] = Sum(signs)(*(values[parent] for parent in parents))
    return values[place]


def operator_norm(work: LinearMap, shape: tuple[int, ...]) -> float:
    r"""A bound of :math:`\|W\|_2` for a linear map of rows of a shape.

    The least of :math:`(\|W\|_1 \|W\|_\infty)^{1/2}`, what is known of the kind of map, and the
    largest singular value of the matrix where it is small.
    """
    ones = torch.ones(1, *shape, dtype=torch.float64)
    sums = work.absolute(ones)
    columns = transpose(work.absolute, shape, torch.ones_like(sums))
    bounds = [float((sums.max() * columns.max()).sqrt()) * (1 + 1e-9)]
    if work.symbol is not None:
        bounds.append(work.symbol())
    if work.weight.ndim == 2:
        bounds.append(euclidean_stretch(work.weight.numpy(), 2))
    elif work.weight.ndim > 2 and ones.numel() * sums.numel() <= 2**18:
        eye = torch.eye(ones.numel(), dtype=torch.float64).reshape(-1, *shape)
        bounds.append(euclidean_stretch(work.weigh(eye).flatten(1).numpy(), 2))
    return min(bounds)


def row_lengths(work: LinearMap, shape: tuple[int, ...], norm: float) -> Tensor:
    """Bounds of the Euclidean norms of the rows of W, given its operator norm."""
    ones = torch.ones(1, *shape, dtype=torch.float64)
    return work.squared(ones).sqrt().mul(1 + 1e-9).clamp(max=norm)
