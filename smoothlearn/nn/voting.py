"""The Monte-Carlo engine: noise keyed to the row, votes in fixed chunks, counts on the device."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from smoothlearn.nn.memory import keep_freed_memory
from smoothlearn.nn.noise import noisy_batches
from smoothlearn.nn.randomness import generator_on
from smoothlearn.nn.threads import n_threads_of, one_torch_thread, side_by_side

Vote = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
#: Whether row i needs no more votes than these.
Stop = Callable[[int, NDArray[Any]], bool]

#: Numbers in a batch of noisy rows: a few layers of so many are held by the cache of a CPU core.
_ENTRIES = {"cpu": 2**18, "cuda": 2**26}
#: Draws in a batch: fewer leave the device idle, more make it wait.
_LEAST, _MOST = 100, {"cpu": 2000, "cuda": 10_000}
#: Numbers in a batch of very wide rows, which may be less than the least number of draws.
_MOST_ENTRIES = 2**22
#: Draws before the first look at a row that may stop early; they double from look to look.
FIRST_LOOK = 100
_ROWS_A_TASK = 16


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
        From a batch of shape (chunk, d), on the device, and a generator (for votes that are random
        themselves) to class indices of shape (chunk,), or to probabilities of shape (chunk,
        n_classes). May take gradients inside and write to its batch; called by all row threads.
    X : ndarray of shape (n, d)
        float32 or float64, the dtype of the batches unless ``noise`` is a matrix.
    seeds : list of int
        One for each row.
    noise : float or ndarray of shape (d, r)
        sigma, or a matrix, which also gives the dtype of the batches; see
        :func:`~smoothlearn.nn.noise.noisy_batches`.
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
    keep_freed_memory()
    rows = torch.tensor(np.ascontiguousarray(X), device=device)
    chunk = _even_chunk(n_draws, chunk_size(X.shape[1], device))
    my_batches = noisy_batches(noise, rows, chunk)
    shape = (2, n_classes) if soft else (n_classes,)
    kind = torch.float64 if soft else torch.int64
    n_threads = n_threads_of(n_jobs)
    n_rows = max(1, min(_ROWS_A_TASK, len(rows) // (4 * n_threads)))

    def task(start: int, given_up: Callable[[], bool]) -> torch.Tensor:
        with one_torch_thread():
            stop_at = min(start + n_rows, len(rows))
            tallies = torch.zeros((stop_at - start, *shape), dtype=kind, device=device)
            batches = my_batches()
            for i, tally in zip(range(start, stop_at), tallies, strict=True):
                if given_up():
                    break
                enough = partial(stop, i) if stop else None
                fresh = partial(batches, rows[i])
                generator = generator_on(device, seeds[i])
                _tally_row(vote, fresh, generator, n_draws, chunk, tally, enough)
            return tallies

    blocks = []
    with (
        tqdm(total=len(rows), unit="row", disable=verbose <= 0) as progress,
        side_by_side(n_threads) as (each, over),
    ):
        for block in each(partial(task, given_up=over), range(0, len(rows), n_rows)):
            blocks.append(block)
            progress.update(len(block))
    if not blocks:
        return np.zeros((0, *shape), dtype=np.float64 if soft else np.int64)
    return np.asarray(torch.cat(blocks).cpu().numpy())


def chunk_size(n_features: int, device: torch.device) -> int:
    """The most draws that are forwarded at once.

    Part of the algorithm: other chunks mean other noise, hence other votes.
    """
    kind = device.type if device.type in _MOST else "cpu"
    least = min(_LEAST, _MOST_ENTRIES // n_features)
    return min(_MOST[kind], max(_ENTRIES[kind] // n_features, least, 1))


def _even_chunk(n_draws: int, most: int) -> int:
    """The size of as few equal chunks as hold all draws."""
    n_chunks = max(1, math.ceil(n_draws / most))
    return math.ceil(n_draws / n_chunks)


def _tally_row(
    vote: Vote,
    fresh: Callable[[torch.Generator, int], torch.Tensor],
    generator: torch.Generator,
    n_draws: int,
    chunk: int,
    tally: torch.Tensor,
    enough: Callable[[NDArray[Any]], bool] | None,
) -> None:
    done = 0
    while done < n_draws:
        size = chunk if enough is None else min(chunk, max(FIRST_LOOK, done))
        counted = min(size, n_draws - done)
        _add(tally, vote(fresh(generator, size), generator)[:counted])
        done += counted
        if enough is not None and enough(tally.cpu().numpy()):
            return


def _add(tally: torch.Tensor, votes: torch.Tensor) -> None:
    """Count class indices, or sum probabilities and their squares."""
    if tally.ndim == 1:
        tally.scatter_add_(0, votes, torch.ones_like(votes))
        return
    p = votes.double()
    p = p / p.sum(dim=1, keepdim=True)
    tally[0] += p.sum(dim=0)
    tally[1] += p.square().sum(dim=0)
