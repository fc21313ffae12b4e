"""Time and memory of the nearest bias point and its radii, beside a search for the neighbor alone.

The 60,000 training images of MNIST as bias points, the 10,000 test images as rows, 8 against the
rest and ten digits. `python benchmarks/nearest_bias_points.py`: some minutes on two cores;
`--quick` takes seconds, with a part of the images or, without MNIST, random numbers.
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from provenance import provenance
from sklearn.neighbors import NearestNeighbors

from smoothlearn.datasets import load_mnist
from smoothlearn.theory.neighbors import keep_radii, nearest

NORMS = {"1": 1, "2": 2, "inf": np.inf}
LABELS = {"8 against the rest": 2, "ten digits": 10}


def load(home: Path | None, quick: bool) -> tuple[np.ndarray, ...]:
    """Points, their digits and rows, in double precision."""
    if quick and home is None and not os.environ.get("SMOOTHLEARN_DATA"):
        rng = np.random.default_rng(0)
        shapes = ((3000, 784), (300, 784))
        points, X = (np.maximum(rng.normal(-1, 1, shape), 0) for shape in shapes)
        return points, rng.integers(0, 10, len(points)), X
    points, digits = load_mnist(home, return_X_y=True)
    X, _ = load_mnist(home, subset="test", return_X_y=True)
    m, n = (3000, 300) if quick else (len(points), len(X))
    return points[:m].astype(float), digits[:m], X[:n].astype(float)


def scikit_learn(points: np.ndarray, X: np.ndarray) -> np.ndarray:
    search = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(points)
    return search.kneighbors(X, return_distance=False)[:, 0]


def cases(points: np.ndarray, digits: np.ndarray, X: np.ndarray) -> dict:
    """What is timed, by name."""
    named = {
        "scikit-learn, neighbor alone": lambda: scikit_learn(points, X),
        "nearest": lambda: nearest(X, points),
    }
    for kind, n_classes in LABELS.items():
        labels = (digits == 8).astype(int) if n_classes == 2 else digits
        for name, norm in NORMS.items():
            named[f"keep_radii, {kind}, {name}-norm"] = (
                lambda labels=labels, n=n_classes, norm=norm: keep_radii(X, points, labels, n, norm)
            )
    return named


def measured(run: Callable[[], Any], before: int | None) -> tuple[Any, float, float | None]:
    """The result, the seconds, and by how many MiB memory rose above what it was before."""
    if before is not None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    start = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - start
    return result, seconds, None if before is None else (kibibytes("VmHWM") - before) / 1024


def kibibytes(entry: str) -> int | None:
    """VmRSS or VmHWM, the memory held now or at the peak; None where it is not Linux."""
    status = Path("/proc/self/status")
    return int(status.read_text().split(f"{entry}:")[1].split()[0]) if status.exists() else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of MNIST")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()

    points, digits, X = load(args.data, args.quick)
    before = kibibytes("VmRSS")
    named = cases(points, digits, X)
    found: dict[str, list] = {name: [] for name in named}
    for _ in range(args.repeats):  # interleaved: a busy minute slows all of them
        for name, run in named.items():
            found[name].append(measured(run, before))
    reference = next(iter(named))
    alone = [seconds for _, seconds, _ in found[reference]]
    print(f"{len(points)} bias points, {len(X)} rows, {X.shape[1]} features")
    print(f"{'':<44}{'seconds':>9}{'ratio':>8}{'MiB':>8}{'median radius':>16}")
    rows = []
    for name, runs in found.items():
        results, seconds, rises = zip(*runs, strict=True)
        row = {
            "case": name,
            "seconds": [round(s, 3) for s in seconds],
            "ratio": float(np.median(np.divide(seconds, alone))),
            "mib_above_data": None if None in rises else round(max(rises)),
        }
        radius = ""
        if isinstance(results[0], tuple):
            row["median_radius"] = float(np.median(results[0][1]))
            radius = f"{row['median_radius']:.4f}"
        rows.append(row)
        memory = f"{row['mib_above_data']}"
        print(f"{name:<44}{np.median(seconds):9.2f}{row['ratio']:8.2f}{memory:>8}{radius:>16}")
    same = found["nearest"][0][0] == found[reference][0][0]
    report = {
        "provenance": provenance(0),
        "shape": {"points": len(points), "rows": len(X), "features": X.shape[1]},
        "other_neighbor_than_scikit_learn": int(np.sum(~same)),
        "rows": rows,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "nearest_bias_points.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
