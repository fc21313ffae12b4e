"""A search over sigma whose scores stop drawing when they know, beside one that draws on.

    python benchmarks/grid_search.py

makes the search of ``examples/plot_grid_search_sigma.py``, same data, grid and folds, with 10,000
draws at most: with ``CertifiedAccuracyScorer``, which asks whether the radius is reached and stops
a row as soon as that is decided, and with a scorer that certifies every row with all draws and
reads the radius off. They take turns, with one worker each. Writes
``benchmarks/results/grid_search.json``, in a few minutes. ``--quick`` takes seconds, with fewer
values of sigma and draws.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from provenance import as_text, provenance
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from speed_reading import spread

from smoothlearn import (
    CertifiedAccuracyScorer,
    EmpiricalBayesSmoothedClassifier,
    ParzenDenoiser,
    certify,
)

HERE = Path(__file__).parent
SEED = 0
RADIUS = 1.0
SIGMAS = (0.25, 0.5, 1.0, 2.0)


def draw_on(estimator: Any, X: Any, y: Any) -> float:
    """Certified accuracy from certificates with a fixed number of draws."""
    return certify(estimator, X, units="smoother").accuracy(y, RADIUS)


SCORERS = {"stops": CertifiedAccuracyScorer(RADIUS, units="smoother"), "draws on": draw_on}


def search(scorer: Any, sigmas: tuple[float, ...], n_draws: int) -> dict[str, Any]:
    X, y = load_breast_cancer(return_X_y=True)
    X, _, y, _ = train_test_split(X, y, test_size=0.4, stratify=y, random_state=SEED)
    smoother = EmpiricalBayesSmoothedClassifier(
        LogisticRegression(),
        denoiser=ParzenDenoiser(),
        n_certify_draws=n_draws,
        device="cpu",
        random_state=SEED,
    )
    pipeline = Pipeline([("scale", StandardScaler()), ("smooth", smoother)])
    grid = {"smooth__sigma": list(sigmas)}
    found = GridSearchCV(pipeline, grid, scoring=scorer, cv=3, error_score="raise")
    start = time.perf_counter()
    found.fit(X, y)
    return {
        "seconds": time.perf_counter() - start,
        "seconds_of_scores": float(3 * found.cv_results_["mean_score_time"].sum()),
        "scores": found.cv_results_["mean_test_score"].tolist(),
        "chosen": found.best_params_["smooth__sigma"],
    }


def read(runs: dict[str, list[dict]]) -> dict[str, Any]:
    stopping, fixed = (runs[name] for name in SCORERS)
    ratios = {
        key: spread([f[key] / s[key] for s, f in zip(stopping, fixed, strict=True)])
        for key in ("seconds", "seconds_of_scores")
    }
    difference = np.subtract(stopping[0]["scores"], fixed[0]["scores"])
    return {
        "times_faster": {"search": ratios["seconds"], "scores": ratios["seconds_of_scores"]},
        "chosen": {name: some[0]["chosen"] for name, some in runs.items()},
        "scores": {name: some[0]["scores"] for name, some in runs.items()},
        "points_more_where_it_stops": (100 * difference).tolist(),
        "seconds": {name: [one["seconds"] for one in some] for name, some in runs.items()},
    }


def print_report(report: dict) -> None:
    print(f"certified accuracy at radius {RADIUS}, percent")
    print(f"{'sigma':<12}" + "".join(f"{sigma:>8}" for sigma in report["sigmas"]) + "  chosen")
    for name, scores in report["scores"].items():
        cells = "".join(f"{100 * score:8.1f}" for score in scores)
        print(f"{name:<12}{cells}{report['chosen'][name]:>8}")
    for what, ratio in report["times_faster"].items():
        print("{}: {median:.1f} times faster ({least:.1f} to {most:.1f})".format(what, **ratio))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="seconds")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    args = parser.parse_args()
    sigmas, n_draws = (SIGMAS[1:3], 1_000) if args.quick else (SIGMAS, 10_000)
    runs: dict[str, list[dict]] = {name: [] for name in SCORERS}
    for _ in range(1 if args.quick else args.rounds):
        for name, scorer in SCORERS.items():
            runs[name].append(search(scorer, sigmas, n_draws))
    report = {"provenance": provenance(SEED), "radius": RADIUS, "draws": n_draws, "sigmas": sigmas}
    report |= read(runs)
    print_report(report)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "grid_search.json").write_text(as_text(report))


if __name__ == "__main__":
    main()
