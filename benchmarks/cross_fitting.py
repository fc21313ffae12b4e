"""Must the copies of a row be denoised by an energy that was not trained on it?

Fits bases on noisy copies of the 8 x 8 digits, denoised by the energy of the smoothed classifier or
by five energies, each for the rows that it has not seen. Either base is smoothed with the same
energy. `python benchmarks/cross_fitting.py`: about ten minutes on two cores, half of it with
`--splits 2`.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from joblib import Parallel, delayed
from provenance import provenance
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, train_test_split
from sklearn.svm import SVC

from smoothlearn import DEENDenoiser, EmpiricalBayesSmoothedClassifier

SIGMA = 0.5
N_COPIES = 4
N_FOLDS = 5
RADII = (0.0, 0.25, 0.5, 0.75, 1.0)
BASES = {
    "logistic regression": LogisticRegression(max_iter=2000),
    "random forest": RandomForestClassifier(100, random_state=0),
    "SVM": SVC(),
}


def energy(X: np.ndarray) -> DEENDenoiser:
    return DEENDenoiser(SIGMA, random_state=0).fit(X)


def one_split(seed: int) -> list[dict]:
    """Certified accuracy in percent of every base on the copies of three kinds."""
    torch.set_num_threads(1)
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X / 16, y, test_size=500, stratify=y, random_state=seed)
    own = energy(X)
    owner = np.tile(np.arange(len(X)), N_COPIES)
    noise = np.random.default_rng(seed).standard_normal((len(owner), X.shape[1]))
    noisy = X[owner] + SIGMA * noise
    crossed = np.empty_like(noisy)
    for train, rest in KFold(N_FOLDS, shuffle=True, random_state=seed).split(X):
        held_out = np.isin(owner, rest)
        crossed[held_out] = energy(X[train]).transform(noisy[held_out])
    copies = {"own": (own.transform(noisy), y[owner]), "crossed": (crossed, y[owner])}
    found = []
    for kind, (rows, labels) in {"clean": (X, y), **copies}.items():
        for name, base in BASES.items():
            smoother = EmpiricalBayesSmoothedClassifier(
                FrozenEstimator(base.fit(rows, labels)),
                denoiser=FrozenEstimator(own),
                sigma=SIGMA,
                n_certify_draws=1000,
                random_state=seed,
            )
            certificate = smoother.fit(X, y).certify(X_test)
            found.append(
                {
                    "seed": seed,
                    "base": name,
                    "copies": kind,
                    "accuracy": [100 * certificate.accuracy(y_test, r) for r in RADII],
                    "squared_error": float(np.square(rows - X[owner]).sum(axis=1).mean())
                    if kind != "clean"
                    else None,
                }
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--splits", type=int, default=4)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    start = time.perf_counter()
    splits = Parallel(n_jobs=-1)(delayed(one_split)(s) for s in range(args.splits))
    rows = [row for split in splits for row in split]
    means = {}
    print(f"sigma {SIGMA}, {args.splits} splits; certified accuracy in percent at radius")
    print(" " * 30 + "".join(f"{radius:>8}" for radius in RADII))
    for base in BASES:
        for kind in ("clean", "own", "crossed"):
            chosen = [r["accuracy"] for r in rows if (r["base"], r["copies"]) == (base, kind)]
            means[f"{base}, {kind}"] = np.mean(chosen, axis=0).round(2).tolist()
            print(f"{base + ', ' + kind:<30}" + "".join(f"{a:8.1f}" for a in np.mean(chosen, 0)))
    errors = {
        kind: float(np.mean([r["squared_error"] for r in rows if r["copies"] == kind]))
        for kind in ("own", "crossed")
    }
    print("squared error of the copies:", {k: round(v, 2) for k, v in errors.items()})
    report = {
        "provenance": provenance(0),
        "seconds": time.perf_counter() - start,
        "radii": RADII,
        "mean_accuracy": means,
        "squared_error": errors,
        "rows": rows,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "cross_fitting.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
