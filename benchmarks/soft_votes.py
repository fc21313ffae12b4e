"""Hard votes beside soft ones: what the same noise certifies with either.

    python benchmarks/soft_votes.py --data FOLDER_OF_MNIST

smooths a linear classifier and an MLP of images of digits, both fitted on noisy copies, at two
noise levels, and certifies the same test images on the same draws with ``vote="hard"`` and
``vote="soft"``, from 100, 1,000 and 10,000 draws; and with hard votes that are given the bound of
soft ones, to tell what the bound costs from what soft votes do. Writes
``benchmarks/results/soft_votes.json``, in a few minutes. Without ``--data`` or
``SMOOTHLEARN_DATA``, and with ``--quick``, the images are scikit-learn's 8 x 8 digits.
"""

import argparse
import os
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from provenance import as_text, provenance
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier
from torch import nn

from smoothlearn import Certificate, RandomizedSmoothingClassifier
from smoothlearn.datasets import load_mnist
from smoothlearn.nn.networks import mlp

HERE = Path(__file__).parent
SEED = 0
SIGMAS = (0.25, 0.5)
DRAWS = (100, 1_000, 10_000)
RADII = {0.25: (0.0, 0.125, 0.25, 0.5), 0.5: (0.0, 0.25, 0.5, 1.0)}
N_TEST = 500


def images(folder: Path | None) -> tuple[str, tuple[np.ndarray, ...]]:
    """Rows to fit on and rows to certify, and their labels."""
    if folder is None:
        X, y = load_digits(return_X_y=True)
        return "digits", train_test_split(X / 16, y, test_size=N_TEST, random_state=SEED)
    X, y = load_mnist(folder, return_X_y=True)
    X_test, y_test = load_mnist(folder, subset="test", return_X_y=True)
    some = slice(None, None, len(X_test) // N_TEST)
    return "MNIST", (X[::3], X_test[some], y[::3], y_test[some])


def bases(n_features: int, quick: bool) -> dict[str, Any]:
    torch.manual_seed(SEED)
    net = NeuralNetClassifier(
        mlp(n_features, 256, 10),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.AdamW,
        lr=2e-3,
        max_epochs=3 if quick else 15,
        train_split=None,
        verbose=0,
    )
    return {"linear": LogisticRegression(max_iter=100), "MLP": net}


def by_the_bound_of_soft_votes(hard: Certificate, winner: np.ndarray) -> Certificate:
    """Hard votes as probabilities 0 and 1."""
    return Certificate.from_votes(
        np.stack([hard.counts, hard.counts], axis=1).astype(float),
        winner=winner,
        classes=hard.classes,
        sigma=hard.sigma,
        confidence_level=hard.confidence_level,
        n_features=hard.n_features,
    )


def compare(hard: Certificate, soft: Certificate, y: np.ndarray, radii: tuple) -> dict[str, Any]:
    """Shares in percent, and the difference with its standard error, image by image."""
    winner = np.searchsorted(hard.classes, hard.label)
    three = {"hard": hard, "hard_by_the_soft_bound": by_the_bound_of_soft_votes(hard, winner)}
    three["soft"] = soft
    report: dict[str, Any] = {name: [] for name in three} | {"soft_minus_hard": []}
    for radius in radii:
        shares = {
            name: 100.0 * (c.certified(y) & (c.radius >= radius)) for name, c in three.items()
        }
        for name, share in shares.items():
            report[name].append(share.mean())
        difference = shares["soft"] - shares["hard"]
        error = difference.std() / np.sqrt(len(y))
        report["soft_minus_hard"].append([difference.mean(), error])
    between = three["hard_by_the_soft_bound"].radius
    report["soft_radius_larger_by_the_same_bound"] = 100 * np.mean(soft.radius > between)
    report["mean_radius"] = [c.average_radius(y) for c in (hard, soft)]
    report["abstained"] = [100 * c.abstained.mean() for c in (hard, soft)]
    report["soft_radius_larger"] = 100 * np.mean(soft.radius > hard.radius)
    report["same_label"] = 100 * np.mean(soft.label == hard.label)
    return report


def certify(smoother: RandomizedSmoothingClassifier, X: np.ndarray, vote: str, n: int) -> Any:
    return smoother.set_params(vote=vote, n_certify_draws=n).certify(X)


def measure(base: Any, sigma: float, data: tuple[np.ndarray, ...]) -> dict[str, Any]:
    X, X_test, y, y_test = data
    smoother = RandomizedSmoothingClassifier(
        base, sigma=sigma, n_augment=1, device="cpu", n_jobs=1, random_state=SEED
    ).fit(X, y)
    report: dict[str, Any] = {"draws": {}}
    for n in DRAWS:
        pair = [certify(smoother, X_test, vote, n) for vote in ("hard", "soft")]
        report["draws"][n] = compare(*pair, y_test, RADII[sigma])
    hard, soft = pair
    report["estimated_p_A"] = {  # of the last, largest number of draws
        "hard": np.quantile(hard.counts.max(axis=1) / n, (0.1, 0.5, 0.9)).tolist(),
        "soft": np.quantile(soft.sums[:, 0].max(axis=1) / n, (0.1, 0.5, 0.9)).tolist(),
    }
    return report


def print_report(report: dict) -> None:
    for task in report["tasks"]:
        print(f"\n{task['base']}, sigma {task['sigma']}: certified accuracy in percent")
        print("hard votes / hard votes by the bound of soft ones / soft votes")
        print("   draws" + "".join(f"        radius {r:<5}" for r in task["radii"]))
        for n, row in task["draws"].items():
            columns = (row[name] for name in ("hard", "hard_by_the_soft_bound", "soft"))
            cells = [
                "{:6.1f} /{:5.1f} /{:5.1f}".format(*cell) for cell in zip(*columns, strict=True)
            ]
            print(f"{n:8}" + " ".join(cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("SMOOTHLEARN_DATA"))
    parser.add_argument("--quick", action="store_true", help="digits, seconds")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ConvergenceWarning)
    start = time.perf_counter()
    name, data = images(None if args.quick else args.data)
    tasks = []
    for sigma in SIGMAS[1:] if args.quick else SIGMAS:
        for kind, base in bases(data[0].shape[1], args.quick).items():
            task = {"base": kind, "sigma": sigma, "radii": RADII[sigma]}
            tasks.append(task | measure(base, sigma, data))
    report = {"provenance": provenance(SEED), "data": name, "images": len(data[3]), "tasks": tasks}
    report["seconds"] = time.perf_counter() - start
    print_report(report)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "soft_votes.json").write_text(as_text(report))


if __name__ == "__main__":
    main()
