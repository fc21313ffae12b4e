"""The stages of the study of XHAT: energies, networks and votes, each kept in a file."""

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from joblib import Parallel, delayed
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

from smoothlearn import DEENDenoiser, XHATClassifier
from smoothlearn.datasets import load_mnist
from smoothlearn.nn.attacks import last_step, smoothed_loss
from smoothlearn.nn.classifiers import load_classifier

SEED = 0
#: Whether there is a denoiser, and whether attacks in training.
CORNERS = {
    "Gaussian augmentation": (False, False),
    "SmoothAdv": (False, True),
    "XHAT₀": (True, False),
    "XHAT_ε": (True, True),
}
_TITLE = "XHAT_ε"


@dataclass(frozen=True)
class Study:
    """What is trained and certified, and with which means.

    Parameters
    ----------
    corners : dict of float to tuple of str
        The methods of every sigma.
    draws : dict of float to (int, int)
        Draws of the two stages of certification for every sigma.
    images, images_of_others : int
        Test images, evenly spaced, for XHAT_ε; and how many of these for the other corners.
    block : int
        Images that are certified in one stage of the study.
    minutes : dict of str to float
        How long a stage of a kind may take: none is started with less time left.
    """

    data: str
    pixels: tuple[int, ...]
    radii: tuple[float, ...]
    corners: dict[float, tuple[str, ...]]
    draws: dict[float, tuple[int, int]]
    energy: dict[str, Any]
    training: dict[str, Any]
    epochs: dict[float, int]
    images: int
    images_of_others: int
    block: int
    n_jobs: int
    device: str = "cpu"
    folder: str | None = None
    minutes: dict[str, float] = field(default_factory=dict)

    def images_for(self, corner: str) -> np.ndarray:
        """Positions among the test images of the study; those of the others are spread, too."""
        if corner == _TITLE or self.images_of_others >= self.images:
            return np.arange(self.images)
        return np.linspace(0, self.images - 1, self.images_of_others).round().astype(int)

    def training_for(self, sigma: float, corner: str) -> dict[str, Any]:
        """Settings of XHATClassifier: those of all corners are the same but for epsilon."""
        settings = self.training | {"max_epochs": self.epochs[sigma]}
        return settings if CORNERS[corner][1] else settings | {"epsilon": 0.0}

    def name(self, kind: str, sigma: float, corner: str = "", block: int = 0) -> str:
        """The file of a stage, with a digest of the settings that it depends on."""
        settings: list[Any] = [self.data, self.energy]
        words = [kind, str(sigma)]
        if kind != "energy":
            settings.append(self.training_for(sigma, corner))
            words.append(corner)
        if kind == "votes":
            settings += [self.draws[sigma], self.images, self.images_of_others, self.block]
            words.append(str(block))
        text = json.dumps(settings, sort_keys=True)
        return " ".join([*words, hashlib.blake2b(text.encode(), digest_size=4).hexdigest()])

    def blocks_for(self, corner: str) -> range:
        """Which blocks of test images there are."""
        return range(-(-len(self.images_for(corner)) // self.block))


@lru_cache(maxsize=1)
def load(study_data: str, folder: str | None, images: int) -> tuple[np.ndarray, ...]:
    """Training rows and labels, the test rows of the study and theirs."""
    if study_data == "digits":
        X, y = load_digits(return_X_y=True)
        X, X_test, y, y_test = train_test_split(
            X / 16, y, test_size=images, stratify=y, random_state=SEED
        )
        return X, y, X_test, y_test
    X, y = load_mnist(folder, return_X_y=True)
    X_test, y_test = load_mnist(folder, subset="test", return_X_y=True)
    step = len(X_test) // images
    return X, y, X_test[::step][:images], y_test[::step][:images]


def rows_of(study: Study) -> tuple[np.ndarray, ...]:
    return load(study.data, study.folder, study.images)


def train_energy(study: Study, kept: Path, sigma: float) -> dict:
    X, _, X_test, _ = rows_of(study)
    denoiser = DEENDenoiser(sigma, device=study.device, random_state=SEED, **study.energy).fit(X)
    error = -denoiser.score(X_test) * X.shape[1]
    return {
        "denoiser": denoiser,
        "squared_error_test": error,
        "squared_error_identity": sigma**2 * X.shape[1],
        "epochs": len(denoiser.history_),
    }


def train_corner(study: Study, kept: Path, sigma: float, corner: str) -> dict:
    X, y, _, _ = rows_of(study)
    denoiser: Any = "passthrough"
    if CORNERS[corner][0]:
        denoiser = FrozenEstimator(joblib.load(kept / study.name("energy", sigma))["denoiser"])
    classifier = XHATClassifier(
        denoiser=denoiser,
        sigma=sigma,
        image_shape=study.pixels,
        n_draws=100,
        n_certify_draws=study.draws[sigma],
        confidence_level=0.999,
        device=study.device,
        random_state=SEED,
        **study.training_for(sigma, corner),
    )
    return {"classifier": classifier.fit(X, y)}


def count_votes(study: Study, kept: Path, sigma: float, corner: str, block: int) -> dict:
    """Votes of a block of images: of a fixed number of draws, and of two stages."""
    _, _, X_test, _ = rows_of(study)
    images = study.images_for(corner)[block * study.block : (block + 1) * study.block]
    classifier = joblib.load(kept / study.name("network", sigma, corner))["classifier"]
    stages = study.draws[sigma]
    fixed = classifier.set_params(n_certify_draws=stages[0]).certify(X_test[images])
    both = classifier.set_params(n_certify_draws=stages).certify(X_test[images])
    return {
        "images": images,
        "label": both.label,
        "fixed": fixed.counts,
        "two_stage": both.counts,
    }


def time_steps(study: Study, kept: Path, sigma: float) -> dict:
    """One attack step against one input gradient of the same batch, in turns."""
    X, y, _, _ = rows_of(study)
    classifier = joblib.load(kept / study.name("network", sigma, _TITLE))["classifier"]
    device, n_steps = torch.device(study.device), 8
    rows = torch.tensor(X[:128], dtype=torch.float32, device=device)
    classes = torch.tensor(np.searchsorted(classifier.classes_, y[:128]), device=device)
    noise = sigma * torch.randn(128, 1, X.shape[1], device=device)
    network = load_classifier(
        classifier.module_, X.shape[1], len(classifier.classes_), classifier.weights_,
        classifier.image_shape_,
    ).to(device)  # fmt: skip
    denoise = classifier.denoiser_.denoise_training_on(X[:0], device)

    def scores(noisy: torch.Tensor) -> torch.Tensor:
        return network(denoise(noisy, torch.zeros(len(noisy), dtype=torch.long)))

    loss = smoothed_loss(scores, classes, noise)
    noisy = rows + noise[:, 0]

    def gradient() -> None:
        point = noisy.clone().requires_grad_()
        value = torch.nn.functional.cross_entropy(scores(point), classes, reduction="sum")
        torch.autograd.grad(value, point)

    def attack() -> None:
        last_step(loss, rows, epsilon=1.0, n_steps=n_steps)

    seconds: dict[str, list[float]] = {"gradient": [], "step": []}
    for _ in range(15):
        for name, work, repeats in (("gradient", gradient, n_steps), ("step", attack, 1)):
            start = time.perf_counter()
            for _ in range(repeats):
                work()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append((time.perf_counter() - start) / n_steps)
    medians = {name: float(np.median(times)) for name, times in seconds.items()}
    return {
        "sigma": sigma,
        "batch": 128,
        "seconds_gradient": medians["gradient"],
        "seconds_attack_step": medians["step"],
        "ratio": medians["step"] / medians["gradient"],
    }


@dataclass(frozen=True)
class Stage:
    """Work whose result is kept under a name, and the names of results that it needs."""

    work: Callable[..., dict]
    name: str
    args: tuple[Any, ...]
    needs: tuple[str, ...] = ()


def run_stage(stage: Stage, study: Study, kept: Path, end: float) -> str:
    """Make what the stage makes unless it is there; "done", "made", or "late" if there is no time.

    What it needs may be in the making in another process. ``end`` is when the study must have
    stopped, in seconds since the epoch.
    """
    if (kept / stage.name).exists():
        return "done"
    while not all((kept / need).exists() for need in stage.needs):
        if study.n_jobs == 1 or time.time() > end:
            return "late"
        time.sleep(1)
    if time.time() + 60 * study.minutes.get(stage.work.__name__, 0) > end:
        return "late"
    if study.device == "cpu":
        torch.set_num_threads(1)
    start = time.perf_counter()
    made = stage.work(study, kept, *stage.args)
    made["seconds"] = time.perf_counter() - start
    part = kept / f"{stage.name}.{os.getpid()}.part"
    joblib.dump(made, part, compress=1)
    part.replace(kept / stage.name)
    return "made"


def stages_of(study: Study) -> list[Stage]:
    """All stages, the longest ones first, but none before what it needs."""
    sigmas = sorted(study.corners, key=lambda sigma: -study.epochs[sigma])
    pairs = [(sigma, corner) for sigma in sigmas for corner in study.corners[sigma]]
    pairs.sort(key=lambda pair: (-study.epochs[pair[0]], -sum(CORNERS[pair[1]])))
    stages = [Stage(train_energy, study.name("energy", sigma), (sigma,)) for sigma in sigmas]
    for sigma, corner in pairs:
        needs = (study.name("energy", sigma),) if CORNERS[corner][0] else ()
        name = study.name("network", sigma, corner)
        stages.append(Stage(train_corner, name, (sigma, corner), needs))
    for sigma, corner in pairs:
        needs = (study.name("network", sigma, corner),)
        stages += [
            Stage(
                count_votes,
                study.name("votes", sigma, corner, block),
                (sigma, corner, block),
                needs,
            )
            for block in study.blocks_for(corner)
        ]
    return stages


def run_stages(study: Study, kept: Path, end: float, say: Callable[..., None]) -> bool:
    """Make all that is not there yet; whether all is there in the end."""
    kept.mkdir(parents=True, exist_ok=True)
    stages = stages_of(study)
    outcomes = Parallel(n_jobs=study.n_jobs, return_as="generator", pre_dispatch=study.n_jobs)(
        delayed(run_stage)(stage, study, kept, end) for stage in stages
    )
    late = False
    for stage, outcome in zip(stages, outcomes, strict=True):
        late |= outcome == "late"
        if outcome == "made":
            say(f"{stage.name}: {joblib.load(kept / stage.name)['seconds']:.0f} s")
    sigma = min(study.corners)
    steps = Stage(time_steps, study.name("steps", sigma, _TITLE), (sigma,))
    return not late and run_stage(steps, study, kept, end) != "late"
