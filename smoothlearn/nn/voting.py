"""The Monte-Carlo engine: noise keyed to the row, votes in fixed chunks, counts on the device."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from joblib import effective_n_jobs
from numpy.typing import NDArray
from sklearn.utils.parallel import Parallel, delayed
from tqdm.auto import tqdm

from smoothlearn.nn.randomness import generator_on

Vote = Callable[[torch.Tensor, torch.Generator], torch.Tensor]

#: Draws forwarded at once. Part of the algorithm: other chunks mean other noise, hence other votes.
CHUNK = {"cpu": 500, "cuda": 10_000}
#: Wide rows are forwarded fewer at once, to hold so many numbers at most.
CHUNK_ENTRIES = {"cpu": 2**22, "cuda": 2**26}
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
    n_jobs: int | None = None,
    verbose: int = 0,
) -> NDArray[np.int64]:
    r"""How often each class wins at :math:`x + \sigma\varepsilon`, for every row x.

    Every row has a generator of its own and is forwarded in chunks of a fixed size, so that its
    counts do not depend on the other rows, their order or ``n_jobs``. Each row thread computes with
    one torch thread.

    Parameters
    ----------
    vote : callable
        From a batch of shape (chunk, d), of the dtype of X and on the device, and a generator (for
        votes that are random themselves) to class indices of shape (chunk,). May take gradients
        inside; called by all row threads.
    X : ndarray of shape (n, d)
        float32 or float64, the dtype of the batches.
    seeds : list of int
        One for each row.
    noise : float or ndarray of shape (d, r)
        sigma, or a matrix S: then the noise is S z with z standard normal of dimension r, made in
        the dtype of S and added in that of X.
    n_draws, n_classes : int
    device : torch.device
    n_jobs : int or None
        Row threads, as in joblib.
    verbose : int
        Show a progress bar over rows where positive.

    Returns
    -------
    ndarray of shape (n, n_classes), int64
        Rows sum to ``n_draws``.
    """
    rows = torch.tensor(np.ascontiguousarray(X), device=device)
    spread = torch.tensor(noise, dtype=None if np.ndim(noise) else rows.dtype, device=device)

    n_rows = max(1, min(_ROWS_A_TASK, len(rows) // (4 * effective_n_jobs(n_jobs))))

    def task(start: int) -> torch.Tensor:
        with _one_torch_thread():
            stop = min(start + n_rows, len(rows))
            counts = torch.zeros((stop - start, n_classes), dtype=torch.int64, device=device)
            for i in range(start, stop):
                generator = generator_on(device, seeds[i])
                _count_row(vote, rows[i], generator, spread, n_draws, counts[i - start])
            return counts

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
        return np.zeros((0, n_classes), dtype=np.int64)
    return np.asarray(torch.cat(blocks).cpu().numpy())


def _count_row(
    vote: Vote,
    x: torch.Tensor,
    generator: torch.Generator,
    spread: torch.Tensor,
    n_draws: int,
    counts: torch.Tensor,
) -> None:
    size = min(_chunk(x), n_draws)
    width = spread.shape[1] if spread.ndim == 2 else len(x)
    buffer = torch.empty((size, width), dtype=spread.dtype, device=x.device)
    ones = torch.ones(size, dtype=torch.int64, device=x.device)
    for done in range(0, n_draws, size):
        buffer.normal_(generator=generator)
        noise = buffer @ spread.T if spread.ndim == 2 else buffer.mul_(spread)
        batch = x + noise
        counted = min(size, n_draws - done)
        counts.scatter_add_(0, vote(batch.detach(), generator)[:counted], ones[:counted])


def _chunk(x: torch.Tensor) -> int:
    kind = x.device.type if x.device.type in CHUNK else "cpu"
    return max(1, min(CHUNK[kind], CHUNK_ENTRIES[kind] // len(x)))


_threads_lock = threading.Lock()
_threads_users = 0
_threads_before = 1


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """One torch thread in this Python thread; the process's own number returns with the last."""
    global _threads_users, _threads_before
    with _threads_lock:
        if _threads_users == 0:
            _threads_before = torch.get_num_threads()
        _threads_users += 1
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _threads_lock:
            _threads_users -= 1
            if _threads_users == 0:
                torch.set_num_threads(_threads_before)
