"""Who certifies: this package, others on the same module, and the least that any could take.

Each is a function from a number of threads to what it finds out about the same rows, and works in a
process of its own: what one does to the threads and the memory of its process is nobody else's.
"""

import copy
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

import numpy as np
import scipy.stats
import torch
from scipy.stats import norm
from speed_models import CONFIDENCE_LEVEL, N_SELECT, SEED, SIGMA, Smoother, module_of
from torch import nn

from smoothlearn.nn.memory import keep_freed_memory
from smoothlearn.nn.voting import count_votes, row_seeds
from smoothlearn.theory.binomial import lower_bound

TOOLBOX = "adversarial-robustness-toolbox"
REFERENCE_BATCH = 400
#: Rows forwarded at once where the limit is measured.
_CHUNK = 250


@dataclass(frozen=True)
class Certified:
    """Labels and radii, and the votes for each label; where a peer abstains, at most so many."""

    label: np.ndarray
    radius: np.ndarray
    abstained: np.ndarray
    votes: np.ndarray

    @classmethod
    def from_radii(cls, label: np.ndarray, radius: np.ndarray, n_draws: int) -> "Certified":
        """Of a peer, whose label is -1 where it abstains: the bound tells the votes."""
        bounds = lower_bound(np.arange(n_draws + 1), n_draws, 1 - CONFIDENCE_LEVEL)
        votes = np.searchsorted(bounds, norm.cdf(radius / SIGMA) - 1e-9)
        abstained = label == -1
        votes[abstained] = np.searchsorted(bounds, 0.5) - 1
        return cls(label, radius, abstained, votes)


Contender = Callable[[int], Certified | None]


class Racer:
    """A contender in a process of its own, which is idle while others work."""

    def __init__(self, build: Callable[[], Contender]):
        self._process = ProcessPoolExecutor(1, get_context("spawn"), _enter, (build,))

    def run(self, n_threads: int) -> tuple[float, Certified | None]:
        """The seconds that it took, and what it found."""
        return self._process.submit(_timed, n_threads).result()

    def end(self) -> None:
        self._process.shutdown()


def _enter(build: Callable[[], Contender]) -> None:
    global _certify
    torch.set_num_threads(1)
    _certify = build()


def _timed(n_threads: int) -> tuple[float, Certified | None]:
    start = time.perf_counter()
    found = _certify(n_threads)
    return time.perf_counter() - start, found


def contenders(
    smoother: Smoother, X: np.ndarray, n_draws: int, reference: Path | None
) -> dict[str, Racer]:
    """All that are here to be timed."""
    named: dict[str, Callable[[], Contender]] = {
        "smoothlearn": partial(ours, smoother, X),
        "unprojected": partial(unprojected, smoother, X, n_draws),
        "limit": partial(limit, smoother, X, n_draws),
    }
    if toolbox_version() is not None:
        named["toolbox"] = partial(toolbox, smoother, X, n_draws)
    if reference is not None:
        named["reference"] = partial(scripts, reference, smoother, X, n_draws)
    return {name: Racer(build) for name, build in named.items()}


def ours(smoother: Smoother, X: np.ndarray) -> Contender:
    def certify(n_threads: int) -> Certified:
        found = copy.copy(smoother).set_params(n_jobs=n_threads).certify(X)
        votes = found.counts[found.label[:, np.newaxis] == found.classes]
        return Certified(found.label, found.radius, found.abstained, votes)

    return certify


def unprojected(smoother: Smoother, X: np.ndarray, n_draws: int) -> Contender:
    """Our engine, with noise on every feature and the whole module behind it."""
    module = module_of(smoother)
    rows, everyone = X.astype(np.float32), np.arange(len(X))

    def vote(batch: torch.Tensor, _: torch.Generator) -> torch.Tensor:
        with torch.no_grad():
            return module(batch).argmax(dim=1)

    def certify(n_threads: int) -> Certified:
        def count(purpose: str, n: int) -> np.ndarray:
            seeds = row_seeds(X, sigma=SIGMA, noise_seed=SEED, purpose=purpose)
            return count_votes(
                vote,
                rows,
                seeds,
                noise=SIGMA,
                n_draws=n,
                n_classes=10,
                device=torch.device("cpu"),
                n_jobs=n_threads,
            )

        winner, counts = count("select", N_SELECT).argmax(axis=1), count("estimate", n_draws)
        votes = counts[everyone, winner]
        lower = lower_bound(votes, n_draws, 1 - CONFIDENCE_LEVEL)
        radius = SIGMA * norm.ppf(np.maximum(lower, 0.5))
        return Certified(winner, radius, lower <= 0.5, votes)

    return certify


def toolbox(base: Smoother, X: np.ndarray, n_draws: int) -> Contender:
    """The Adversarial Robustness Toolbox with its default batch."""
    from art.estimators.certification.randomized_smoothing import PyTorchRandomizedSmoothing

    smoother = PyTorchRandomizedSmoothing(
        module_of(base),
        nn.CrossEntropyLoss(),
        input_shape=X.shape[1:],
        nb_classes=10,
        device_type="cpu",
        sample_size=N_SELECT,
        scale=SIGMA,
        alpha=1 - CONFIDENCE_LEVEL,
    )
    rows = X.astype(np.float32)

    def certify(n_threads: int) -> Certified:
        torch.set_num_threads(n_threads)
        return Certified.from_radii(*smoother.certify(rows, n=n_draws), n_draws)

    return certify


def scripts(checkout: Path, base: Smoother, X: np.ndarray, n_draws: int) -> Contender:
    """The scripts of Cohen et al. 2019."""
    module = nn.Sequential(nn.Flatten(), module_of(base))
    smoother = load_reference(checkout).Smooth(module, 10, SIGMA)
    rows = torch.tensor(X, dtype=torch.float32).reshape(len(X), 1, 1, -1)

    def certify(n_threads: int) -> Certified:
        torch.set_num_threads(n_threads)
        failure = 1 - CONFIDENCE_LEVEL
        found = [smoother.certify(x, N_SELECT, n_draws, failure, REFERENCE_BATCH) for x in rows]
        return Certified.from_radii(*map(np.array, zip(*found, strict=True)), n_draws)

    return certify


def limit(smoother: Smoother, X: np.ndarray, n_draws: int) -> Contender:
    """The noise alone, then the forward passes alone, without anything around them."""
    keep_freed_memory()
    module = module_of(smoother)
    chunks = [N_SELECT, *[_CHUNK] * (n_draws // _CHUNK), n_draws % _CHUNK]

    def noise(seed: int) -> None:
        torch.set_num_threads(1)
        generator, buffer = torch.Generator().manual_seed(seed), torch.empty(_CHUNK, X.shape[1])
        for chunk in filter(None, chunks):
            buffer[:chunk].normal_(generator=generator)

    def forward(seed: int) -> None:
        torch.set_num_threads(1)
        batch = torch.randn(_CHUNK, X.shape[1])
        with torch.no_grad():
            for chunk in filter(None, chunks):
                module(batch[:chunk])

    def run(n_threads: int) -> None:
        with ThreadPoolExecutor(n_threads) as pool:
            for work in (noise, forward):
                list(pool.map(work, range(len(X))))

    return run


def toolbox_version() -> str | None:
    try:
        return version(TOOLBOX)
    except PackageNotFoundError:
        return None


def load_reference(checkout: Path) -> ModuleType:
    """Their module as it is, but on the CPU, and without a function that SciPy no longer has."""
    source = (checkout / "code" / "core.py").read_text()
    module = ModuleType("smoothing_core")
    if not hasattr(scipy.stats, "binom_test"):
        source = source.replace("import norm, binom_test", "import norm")  # for predict alone
    exec(compile(source.replace("device='cuda'", "device='cpu'"), "core.py", "exec"), vars(module))
    return module


def commit_of(checkout: Path) -> str | None:
    """The commit of a checkout, None where git does not say."""
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    return said.stdout.strip() or None
