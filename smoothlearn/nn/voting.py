"""The Monte-Carlo engine: noise keyed to the row, votes in fixed chunks, counts on the device."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.utils.parallel import Parallel, delayed
from tqdm.auto import tqdm

from smoothlearn.nn.randomness import generator_on
from smoothlearn.nn.threads import one_torch_thread

Vote = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
#: Whether row i needs no more votes than these.
Stop = Callable[[int, NDArray[Any]], bool]

#: Draws forwarded at once. Part of the algorithm: other chunks mean other noise, hence other votes.
CHUNK = {"cpu": 500, "cuda": 10_000}
#: Wide rows are forwarded fewer at once, to hold so many numbers at most.
CHUNK_ENTRIES = {"cpu": 2**22, "cuda": 2**26}
#: Draws before the first look at a row that may stop early. Chunks between looks double from there.
FIRST_LOOK = 100
_ROWS_A_TASK = 16
#: A triangular matrix is multiplied in blocks of at least so many rows, and at most so many blocks.
_BLOCK_ROWS, _MOST_BLOCKS = 64, 8


def row_seeds(X: NDArray[np.float64], *, sigma: float, noise_seed: int, purpose: str) -> list[int]:
    """A 64-bit seed for every row, from its values, the seed of the fit and what it serves.

    The values are snapped to a grid of sigma/8, shifted by an offset that depends on the seed, so
    that rounding upstream leaves the seed alone. Rows in one cell share their noise.

    Parameters
    ----------
    X : ndarray of shape (n, d)
    sigma : float
    noise_seed : int
        128 bits.
    purpose : str
        At most 16 bytes; different purposes get independent noise.

    Returns
    -------
    list of int, of length n
    """
    key = noise_seed.to_bytes(16, "little")
    shift = int.from_bytes(hashlib.blake2b(key, digest_size=6).digest(), "little") / 2**48
    with np.errstate(over="ignore"):  # the largest floats share a cell at infinity
        cells = (np.floor(X * (8 / sigma) + shift) + 0.0).astype("<f8")
    person = purpose.encode()
    return [
        int.from_bytes(
            hashlib.blake2b(row.tobytes(), digest_size=8, key=key, person=person).digest(), "little"
        )
        for row in cells
    ]


def count_votes(
    vote: Vote,
    X: NDArray[np.floating],
    seeds: list[int],
    *,
    noise: float | NDArray[np.floating],
    n_draws: int,
    n_classes: int,
    device: torch.device,
    soft: bool = False,
    stop: Stop | None = None,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> NDArray[Any]:
    r"""How often each class wins at :math:`x + \sigma\varepsilon`, for every row x.

    Every row has a generator of its own and is forwarded in chunks of fixed sizes, so that its
    counts do not depend on the other rows, their order or ``n_jobs``. Each row thread computes with
    one torch thread.

    Parameters
    ----------
    vote : callable
        From a batch of shape (chunk, d), of the dtype of X and on the device, and a generator (for
        votes that are random themselves) to class indices of shape (chunk,), or to probabilities of
        shape (chunk, n_classes). May take gradients inside and write to its batch; called by all
        row threads.
    X : ndarray of shape (n, d)
        float32 or float64, the dtype of the batches.
    seeds : list of int
        One for each row.
    noise : float or ndarray of shape (d, r)
        sigma, or a matrix S: then the noise is S z with z standard normal of dimension r, in single
        precision, and the product in that of S.
    n_draws, n_classes : int
    device : torch.device
    soft : bool
        Whether votes are probabilities.
    stop : callable or None
        From the place of a row and its part of what is returned, so far, to whether it needs no
        more draws. Asked first after ``FIRST_LOOK`` draws.
    n_jobs : int or None
        Row threads, as in joblib.
    verbose : int
        Show a progress bar over rows where positive.

    Returns
    -------
    ndarray of shape (n, n_classes), int64
        Rows sum to their draws. For soft votes (n, 2, n_classes), float64: sums of the
        probabilities, and of their squares.
    """
    rows = torch.tensor(np.ascontiguousarray(X), device=device)
    spread = torch.tensor(noise, dtype=None if np.ndim(noise) else rows.dtype, device=device)
    shape = (2, n_classes) if soft else (n_classes,)
    kind = torch.float64 if soft else torch.int64
    n_rows = max(1, min(_ROWS_A_TASK, len(rows) // (4 * effective_n_jobs(n_jobs))))

    def task(start: int) -> torch.Tensor:
        with one_torch_thread():
            stop_at = min(start + n_rows, len(rows))
            tallies = torch.zeros((stop_at - start, *shape), dtype=kind, device=device)
            for i, tally in zip(range(start, stop_at), tallies, strict=True):
                enough = partial(stop, i) if stop else None
                generator = generator_on(device, seeds[i])
                _tally_row(vote, rows[i], generator, spread, n_draws, tally, enough)
            return tallies

    tasks = (delayed(task)(start) for start in range(0, len(rows), n_rows))
    blocks = []
    with (
        tqdm(total=len(rows), unit="row", disable=verbose <= 0) as progress,
        Parallel(n_jobs=n_jobs, require="sharedmem", return_as="generator") as parallel,
    ):
        for block in parallel(tasks):
            blocks.append(block)
            progress.update(len(block))
    if not blocks:
        return np.zeros((0, *shape), dtype=np.float64 if soft else np.int64)
    return np.asarray(torch.cat(blocks).cpu().numpy())


def _tally_row(
    vote: Vote,
    x: torch.Tensor,
    generator: torch.Generator,
    spread: torch.Tensor,
    n_draws: int,
    tally: torch.Tensor,
    enough: Callable[[NDArray[Any]], bool] | None,
) -> None:
    chunk = min(_chunk(x), n_draws)
    noisy = _noisy_batches(x, generator, spread, chunk)
    done = 0
    while done < n_draws:
        size = chunk if enough is None else min(chunk, max(FIRST_LOOK, done))
        counted = min(size, n_draws - done)
        _add(tally, vote(noisy(size), generator)[:counted])
        done += counted
        if enough is not None and enough(tally.cpu().numpy()):
            return


def _noisy_batches(
    x: torch.Tensor, generator: torch.Generator, spread: torch.Tensor, largest: int
) -> Callable[[int], torch.Tensor]:
    """The function from a size to so many fresh noisy copies of a row, good until the next call."""
    width = spread.shape[1] if spread.ndim == 2 else len(x)
    kind = torch.float32 if spread.ndim == 2 else spread.dtype
    buffer = torch.empty((largest, width), dtype=kind, device=x.device)
    if spread.ndim == 2:
        times = _times_transposed(spread, largest)
        return lambda size: x + times(buffer[:size].normal_(generator=generator).to(spread.dtype))
    sigma = float(spread)
    return lambda size: buffer[:size].normal_(0.0, sigma, generator=generator).add_(x).detach()


def _times_transposed(matrix: torch.Tensor, largest: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """The function from z to z S^T, good until the next call, in blocks where S is triangular."""
    n_blocks = min(len(matrix) // _BLOCK_ROWS, _MOST_BLOCKS)
    if n_blocks < 2 or matrix.triu(1).any():
        return lambda z: z @ matrix.T
    product = matrix.new_empty((largest, len(matrix)))
    edges = [len(matrix) * block // n_blocks for block in range(n_blocks + 1)]
    blocks = [(i, j, matrix[i:j, :j].T.contiguous()) for i, j in pairwise(edges)]

    def times(z: torch.Tensor) -> torch.Tensor:
        for i, j, block in blocks:
            torch.mm(z[:, :j], block, out=product[: len(z), i:j])
        return product[: len(z)]

    return times


def _add(tally: torch.Tensor, votes: torch.Tensor) -> None:
    """Count class indices, or sum probabilities and their squares."""
    if tally.ndim == 1:
        tally.scatter_add_(0, votes, torch.ones_like(votes))
        return
    p = votes.double()
    p = p / p.sum(dim=1, keepdim=True)
    tally[0] += p.sum(dim=0)
    tally[1] += p.square().sum(dim=0)


def _chunk(x: torch.Tensor) -> int:
    kind = x.device.type if x.device.type in CHUNK else "cpu"
    return max(1, min(CHUNK[kind], CHUNK_ENTRIES[kind] // len(x)))
