"""Beyond the Bayes estimator: do walk-jump sampling and attractors certify more?

Saremi & Srivastava 2020, "Provable robust classification via learned smoothed densities",
arXiv:2005.04504, propose in Section 4.2 to go on from x̂ on an energy of less noise. This measures
what that gains and costs at equal sigma::

    python benchmarks/walk_jump.py
    python benchmarks/walk_jump.py --data-set mnist --data FOLDER

The first is about a mixture in closed form and scikit-learn's 8 x 8 digits and writes
``benchmarks/results/walk_jump.json``, the second writes ``walk_jump_mnist.json``; both draw into
``docs/images``. ``--keep FOLDER`` keeps what was fitted and counted, and finds it there the next
time. ``--quick --out FOLDER`` does very little of the digits, in seconds.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import torch
from mnist_linear import linear_classifier
from numpy.typing import NDArray
from provenance import as_text, provenance
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC
from walk_jump_figures import draw_all
from walk_jump_mixing import DIGITS_LENGTHS, eq_16, mixture, step_sizes, strip, walks
from walk_jump_reading import certified

from smoothlearn import AttractorDenoiser, DEENDenoiser, ParzenDenoiser, WalkJumpDenoiser
from smoothlearn.datasets import load_mnist

SEED = 0
HERE = Path(__file__).parent
CPU = torch.device("cpu")
#: Copies that are denoised at once, as by the smoothed classifiers.
CHUNK = 500


class Task(NamedTuple):
    """The data, and what is done with them."""

    name: str
    X: NDArray[np.float64]
    y: NDArray[np.int64]
    X_test: NDArray[np.float64]
    y_test: NDArray[np.int64]
    bases: dict[str, Any]  #: by name, not yet fitted
    sigma: float
    walks: dict[str, tuple[float, ...]]  #: the noise σ' of walks that are certified, by energy
    more_walks: tuple[float, ...]  #: and of walks that are only followed, on every energy
    steps: tuple[int, ...]
    lengths: tuple[float, ...]  #: hτ/σ'² where walks are looked at
    energy: dict[str, Any]  #: how energies are learned
    draws: tuple[int, int]  #: that choose the label, and that certify
    images: int  #: test rows that are certified
    recalled: int  #: training rows whose attractors are looked for
    max_steps: int  #: to an attractor
    more_noise: float | None = None  #: a larger sigma, to see what that does instead
    radii: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)


def digits(quick: bool) -> Task:
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X / 16, y, test_size=500, stratify=y, random_state=SEED)
    task = Task(
        "digits",
        *(X, y, X_test, y_test),
        bases={"linear": LogisticRegression(max_iter=2000), "SVC": SVC()},
        sigma=0.5,
        walks={"DEEN": (0.05, 0.1, 0.2), "Parzen": (0.1, 0.2)},
        more_walks=(0.05, 0.3),
        steps=(0, 10, 50),
        lengths=DIGITS_LENGTHS,
        energy={},
        draws=(100, 500),
        images=150,
        recalled=len(X),
        max_steps=200,
        more_noise=0.75,
    )
    if not quick:
        return task
    return task._replace(
        walks={"DEEN": (0.1,), "Parzen": (0.1,)},
        more_walks=(),
        lengths=DIGITS_LENGTHS[:3],
        energy={"max_epochs": 3},
        images=3,
        recalled=50,
        max_steps=20,
        more_noise=None,
    )


def mnist(folder: str | None) -> Task:
    X, y = load_mnist(folder, return_X_y=True)
    X_test, y_test = load_mnist(folder, subset="test", return_X_y=True)
    shape = {"module__in_features": 784, "module__out_features": 10}
    return Task(
        "MNIST",
        *(X, y, X_test[::20], y_test[::20]),
        bases={
            "linear": linear_classifier(5).set_params(**shape),
            "network": MLPClassifier(256, max_iter=10, random_state=SEED),
        },
        sigma=0.6,
        walks={"DEEN": (0.05, 0.2)},
        more_walks=(),
        steps=(0, 10, 50),
        lengths=(0, 2, 10, 40, 200),
        energy={"module": "mlp", "max_epochs": 3, "validation_fraction": 0.02},
        draws=(100, 400),
        images=60,
        recalled=2000,
        max_steps=40,
    )


# Fitting, and what is kept of it ------------------------------------------------------------------


def say(*words: object) -> None:
    print(f"[{time.perf_counter() - START:5.0f} s]", *words, flush=True)


class Kept:
    """What was made, now or in an earlier run, and the seconds that all of it took."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.seconds = 0.0

    def __call__(self, name: str, make: Callable[..., Any], *arguments: Any) -> Any:
        file = None if self.folder is None else self.folder / f"{name}.joblib"
        if file is not None and file.exists():
            made, seconds = joblib.load(file)
        else:
            start = time.perf_counter()
            made = make(*arguments)
            seconds = time.perf_counter() - start
            say(f"{name}: {seconds:.0f} s")
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                joblib.dump((made, seconds), file)
        self.seconds += seconds
        return made


def fit_denoiser(task: Task, kind: str, sigma: float) -> Any:
    if kind == "Parzen":
        return ParzenDenoiser(sigma).fit(task.X)
    return DEENDenoiser(sigma, random_state=SEED, **task.energy).fit(task.X)


def fit_bases(task: Task) -> dict[str, Any]:
    torch.manual_seed(SEED)
    X = task.X.astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # ten epochs are enough
        return {name: base.fit(X, task.y) for name, base in task.bases.items()}


def methods(task: Task, kind: str, fitted: dict[float, Any]) -> dict[str, dict[str, Any]]:
    """Bayes, and what goes beyond it: the denoiser of each, and its settings."""
    jump = fitted[task.sigma]
    found: dict[str, dict[str, Any]] = {"Bayes": {"denoiser": jump}}
    for sigma in task.walks[kind]:
        parts = FrozenEstimator(jump), FrozenEstimator(fitted[sigma])
        settings = {"sigma": task.sigma, "random_state": SEED}
        for n_steps in task.steps:
            walk = WalkJumpDenoiser(*parts, n_steps=n_steps, **settings).fit(task.X[:1000])
            about = {"walk_sigma": sigma, "steps": n_steps, "length": walk.walk_length_}
            found[f"walk {n_steps}, σ' {sigma}"] = {"denoiser": walk} | about
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the report has the share
            flow = AttractorDenoiser(*parts, max_steps=task.max_steps, **settings)
            flow.fit(task.X[: task.recalled])
        found[f"attractor, σ' {sigma}"] = {
            "denoiser": flow,
            "walk_sigma": sigma,
            "attractors": len(flow.attractors_),
            **recall(flow, task.y[: task.recalled]),
        }
    return found


def recall(flow: AttractorDenoiser, y: NDArray[np.int64]) -> dict[str, float]:
    """How many rows arrive at an attractor, and the share of them in the class it has most of."""
    arrived = flow.assignment_ >= 0
    table = np.zeros((len(flow.attractors_), y.max() + 1))
    np.add.at(table, (flow.assignment_[arrived], y[arrived]), 1)
    return {
        "rows": len(y),
        "rows_not_arrived": int((~arrived).sum()),
        "purity": float(100 * table.max(axis=1, initial=0).sum() / max(1, arrived.sum())),
    }


# Votes --------------------------------------------------------------------------------------------


def count_votes(task: Task, found: dict[str, dict[str, Any]], bases: dict[str, Any]) -> dict:
    """Votes of every method and base, from the same noise, and seconds of denoising 1,000 draws.

    The counts have an axis of rows, one of the draws that choose and that certify, and one of the
    classes. All methods take their turn at every row. A walk has random numbers of its own.
    """
    denoise = {name: one["denoiser"].denoise_on(CPU) for name, one in found.items()}
    n_classes, n_draws = len(np.unique(task.y)), sum(task.draws)
    shape = (task.images, 2, n_classes)
    counts = {name: {base: np.zeros(shape, dtype=int) for base in bases} for name in found}
    seconds = {name: np.zeros(task.images) for name in found}
    for i in range(task.images):
        x = torch.tensor(task.X_test[i], dtype=torch.float32)
        noise = torch.randn((n_draws, len(x)), generator=torch.Generator().manual_seed(i))
        copies = (x + task.sigma * noise).split(CHUNK)
        for name, one in denoise.items():
            own = torch.Generator().manual_seed(10**6 + i)
            start = time.perf_counter()
            denoised = torch.cat([one(block, own) for block in copies]).numpy()
            seconds[name][i] = (time.perf_counter() - start) * 1000 / n_draws
            for base, classifier in bases.items():
                parts = np.split(classifier.predict(denoised), [task.draws[0]])
                counts[name][base][i] = [np.bincount(p, minlength=n_classes) for p in parts]
    return {"counts": counts, "seconds": seconds}


# The program --------------------------------------------------------------------------------------


def study(task: Task, kept: Kept) -> tuple[dict[str, Any], dict[str, Any]]:
    """What goes into the report, and pictures."""
    bases = kept("bases", fit_bases, task)
    report: dict[str, Any] = {"walks": [], "certified": []}
    pictures: dict[str, Any] = {}
    for kind, sigmas in task.walks.items():
        fitted = {
            sigma: kept(f"{kind}_{sigma}", fit_denoiser, task, kind, sigma)
            for sigma in sorted({task.sigma, *sigmas, *task.more_walks})
        }
        report["walks"] += kept(f"{kind}_walks", walks, task, kind, fitted)
        found = kept(f"{kind}_methods", methods, task, kind, fitted)
        votes = kept(f"{kind}_votes", count_votes, task, found, bases)
        report["certified"] += certified(task, kind, found, votes)
        if kind == "DEEN" and task.name == "digits":
            report["step_sizes"] = kept("step_sizes", step_sizes, task, fitted, 0.1)
        if kind == "DEEN" and task.name == "MNIST":
            report["eq_16"] = kept("eq_16", eq_16, task, fitted)
            pictures["strip"] = kept("strip", strip, task, fitted, found)
    if task.more_noise:
        more = task._replace(sigma=task.more_noise, walks={"DEEN": ()})
        fitted = {more.sigma: kept(f"DEEN_{more.sigma}", fit_denoiser, more, "DEEN", more.sigma)}
        found = methods(more, "DEEN", fitted)
        votes = kept("more_noise_votes", count_votes, more, found, bases)
        report["more_noise"] = certified(more, "DEEN", found, votes)
    report["base_accuracy"] = {
        name: 100 * float(np.mean(base.predict(task.X_test.astype(np.float32)) == task.y_test))
        for name, base in bases.items()
    }
    return report, pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--data-set", choices=("digits", "mnist"), default="digits")
    parser.add_argument("--data", help="folder of MNIST; SMOOTHLEARN_DATA otherwise")
    parser.add_argument("--keep", type=Path, help="folder for what was fitted and counted")
    parser.add_argument("--out", type=Path, help="folder of the results and the figures")
    parser.add_argument("--quick", action="store_true", help="very little of the digits")
    args = parser.parse_args()
    if args.quick and (args.out is None or args.data_set == "mnist"):
        parser.error("--quick is for the digits, and needs --out, to leave the results alone")
    torch.set_num_threads(1)
    task = digits(args.quick) if args.data_set == "digits" else mnist(args.data)
    about = {
        "data": task.name,
        "provenance": provenance(SEED),
        "sigma": task.sigma,
        "training_rows": len(task.X),
        "test_rows": task.images,
        "draws": list(task.draws),
        "confidence_level": 0.999,
        "radii": list(task.radii),
        "energy": task.energy,
        "max_steps": task.max_steps,
    }
    kept = Kept(args.keep and args.keep / f"walk_jump_{task.name.lower()}")
    found, pictures = study(task, kept)
    stem = "walk_jump" if task.name == "digits" else "walk_jump_mnist"
    if task.name == "digits":
        found["mixture"] = kept(
            "mixture", mixture, *((2_000, 100) if args.quick else (20_000, 3_000))
        )
    about["seconds"] = kept.seconds
    results = args.out or HERE / "results"
    results.mkdir(parents=True, exist_ok=True)
    (results / f"{stem}.json").write_text(as_text(about | found), encoding="utf-8")
    draw_all(results, pictures, args.out or HERE.parent / "docs" / "images")
    say(f"wrote {stem}.json; all parts took {kept.seconds:.0f} s")


START = time.perf_counter()

if __name__ == "__main__":
    main()
