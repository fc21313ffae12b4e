"""Noisy copies of a row: spherical noise, or standard normal numbers times a matrix."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

#: From a row, its generator and a size to so many fresh noisy copies, good until the next call.
Batches = Callable[[torch.Tensor, torch.Generator, int], torch.Tensor]
#: From z of shape (size, r), single precision, to z S^T, good until the next call.
Product = Callable[[torch.Tensor], torch.Tensor]

#: A triangular matrix is multiplied in blocks of at least so many rows, and at most so many blocks.
_BLOCK_ROWS, _MOST_BLOCKS = 64, 8


def noisy_batches(
    noise: float | NDArray[np.floating], rows: torch.Tensor, largest: int
) -> Callable[[], Batches]:
    r"""What makes the functions that make noisy copies, one for everybody who works alone.

    Parameters
    ----------
    noise : float or ndarray of shape (d, r)
        sigma, or a matrix S: then the noise is S z with z standard normal of dimension r, in single
        precision, and the product in that of S.
    rows : tensor of shape (n, d)
        What the copies are of. Sums are taken in the wider dtype of rows and S.
    largest : int
        Copies that are made at once, at most.

    Returns
    -------
    callable
        Each call gives a function with memory of its own, from a row, its generator and a size to
        copies of shape (size, d), in the dtype of S if there is one, else in that of the rows.
    """
    if np.ndim(noise) == 0:
        sigma = float(torch.tensor(noise, dtype=rows.dtype))
        return lambda: _spherical(sigma, rows.new_empty((largest, rows.shape[1])))
    matrix = torch.tensor(noise, device=rows.device)
    product = _product(matrix, largest)
    return lambda: _through(product(), matrix, rows, largest)


def _spherical(sigma: float, memory: torch.Tensor) -> Batches:
    def copies(x: torch.Tensor, generator: torch.Generator, size: int) -> torch.Tensor:
        return memory[:size].normal_(0.0, sigma, generator=generator).add_(x).detach()

    return copies


def _through(times: Product, matrix: torch.Tensor, rows: torch.Tensor, largest: int) -> Batches:
    shape = largest, matrix.shape[1]
    normal = torch.empty(shape, dtype=torch.float32, device=rows.device)

    def copies(x: torch.Tensor, generator: torch.Generator, size: int) -> torch.Tensor:
        noise = times(normal[:size].normal_(generator=generator))
        return noise.add_(x).detach()  # summed in the wider dtype, rounded once

    return copies


def _product(matrix: torch.Tensor, largest: int) -> Callable[[], Product]:
    """What makes functions from z to z S^T, in blocks where S is triangular."""
    n_blocks = min(len(matrix) // _BLOCK_ROWS, _MOST_BLOCKS)
    if n_blocks < 2 or matrix.triu(1).any():
        blocks = [(0, len(matrix), matrix.T.contiguous())]
    else:
        edges = [len(matrix) * block // n_blocks for block in range(n_blocks + 1)]
        blocks = [(i, j, matrix[i:j, :j].T.contiguous()) for i, j in pairwise(edges)]
    widen = matrix.dtype != torch.float32

    def mine() -> Product:
        products = matrix.new_empty((largest, len(matrix)))
        wide = matrix.new_empty((largest, matrix.shape[1])) if widen else None

        def times(z: torch.Tensor) -> torch.Tensor:
            z = z if wide is None else wide[: len(z)].copy_(z)
            for i, j, block in blocks:
                torch.mm(z[:, : len(block)], block, out=products[: len(z), i:j])
            return products[: len(z)]

        return times

    return mine
