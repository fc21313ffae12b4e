"""How the cost of certificates grows: with draws, rows, features; and what a second worker gains.

    python benchmarks/scaling.py --data FOLDER_OF_MNIST

times certificates of MNIST against the number of draws and rows, of random rows against the number
of features, and of a convolutional network with one worker and two: row threads, processes of
joblib, and, on a job of about two minutes, a dask cluster of two processes, which has to give the
same certificate. Everything takes turns in every round. Writes ``benchmarks/results/scaling.json``
and a figure, in five minutes a round on two cores. ``--quick`` takes seconds for scikit-learn's
8 x 8 digits; without ``dask[distributed]`` that part is left out; ``--draw`` draws the figure of
results that are there.
"""

import argparse
import copy
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from provenance import as_text, provenance
from sklearn.linear_model import LogisticRegression
from speed_figures import draw_scaling
from speed_models import SEED, SIGMA, Images, Smoother, fit, images, net
from speed_reading import spread
from torch import nn

from smoothlearn import Certificate, RandomizedSmoothingClassifier, certify

HERE = Path(__file__).parent
DRAWS = (100, 1_000, 10_000, 100_000)
ROWS = (1, 4, 16, 64, 256)
FEATURES = (16, 64, 256, 1024, 3072)
DASK_SECONDS = 120
Cases = dict[str, Callable[[], Any]]


def say(*words: object) -> None:
    print(f"[{time.perf_counter() - START:5.0f} s]", *words, flush=True)


def timed(cases: Cases, rounds: int) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Seconds of every case in every round, one after the other, and what it gave last."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    given = {}
    for _ in range(rounds):
        for name, run in cases.items():
            start = time.perf_counter()
            given[name] = run()
            seconds[name].append(time.perf_counter() - start)
    return seconds, given


def certifying(smoother: Any, X: np.ndarray, **params: Any) -> Callable[[], Certificate]:
    """The certification of rows with other parameters, which the fit does not depend on."""
    changed = copy.copy(smoother).set_params(**params)
    return lambda: changed.certify(X)


def against_draws(
    models: dict[str, Smoother], data: Images, rounds: int, quick: bool
) -> list[dict]:
    X = data.X_test[:8]
    draws = DRAWS[:3] if quick else DRAWS
    cases = {
        f"{name} {n}": certifying(model, X, n_certify_draws=n, n_jobs=1)
        for name, model in models.items()
        for n in draws
    }
    return _series(timed(cases, rounds)[0], models, "draws", draws, len(X))


def against_rows(models: dict[str, Smoother], data: Images, rounds: int, quick: bool) -> list[dict]:
    sizes = ROWS[:3] if quick else ROWS
    cases = {
        f"{name} {n}": certifying(model, data.X_test[:n], n_certify_draws=1000, n_jobs=1)
        for name, model in models.items()
        for n in sizes
    }
    return _series(timed(cases, rounds)[0], models, "rows", sizes, np.array(sizes))


def against_features(rounds: int, quick: bool) -> list[dict]:
    sizes = FEATURES[:3] if quick else FEATURES
    rng = np.random.default_rng(SEED)
    cases, names = {}, ("linear", "MLP")
    for n in sizes:
        X, y = rng.standard_normal((500, n)), rng.integers(0, 10, 500)
        mlp = nn.Sequential(nn.Linear(n, 256), nn.ReLU(), nn.Linear(256, 10))
        for name, base in zip(names, (LogisticRegression(max_iter=200), net(mlp)), strict=True):
            smoother = RandomizedSmoothingClassifier(
                base, sigma=SIGMA, n_certify_draws=10_000, device="cpu", random_state=SEED
            )
            cases[f"{name} {n}"] = certifying(smoother.fit(X, y), X[:8], n_jobs=1)
    return _series(timed(cases, rounds)[0], names, "features", sizes, 8)


def _series(seconds: dict, names: Any, what: str, sizes: tuple[int, ...], n_rows: Any) -> list:
    per_row = np.broadcast_to(n_rows, len(sizes))
    return [
        {
            "model": name,
            what: size,
            "seconds_per_input": spread(np.array(seconds[f"{name} {size}"]) / n),
        }
        for name in names
        for size, n in zip(sizes, per_row, strict=True)
    ]


def workers(smoother: Any, X: np.ndarray, rounds: int) -> dict:
    """One worker and two of each kind, on the same rows."""
    plain = certifying(smoother, X, n_jobs=1)
    cases: Cases = {
        "one thread": plain,
        "two threads": certifying(smoother, X, n_jobs=2),
        "one process": lambda: by_processes(smoother, X, 1),
        "two processes": lambda: by_processes(smoother, X, 2),
    }
    warm_up(by_processes, smoother, X)
    seconds, given = timed(cases, rounds)
    refuse_differences(given)
    one = np.array(seconds["one thread"])
    return {
        "rows": len(X),
        "draws": smoother.n_certify_draws,
        "seconds": seconds,
        "times_faster": {name: spread(one / np.array(some)) for name, some in seconds.items()},
    }


def warm_up(run: Callable[..., Certificate], smoother: Any, X: np.ndarray) -> None:
    """Start the workers and let each of them import what it needs, by chunks enough for all."""
    for _ in range(2):
        run(copy.copy(smoother).set_params(n_certify_draws=100), X[:64], 2)


def by_processes(smoother: Any, X: np.ndarray, n_jobs: int) -> Certificate:
    with joblib.parallel_config("loky"):
        return certify(smoother, X, n_jobs=n_jobs)


def dask_overhead(smoother: Any, X: np.ndarray, rounds: int) -> dict:
    """Two workers of a dask cluster, beside two of the processes of joblib."""
    start = time.perf_counter()
    with dask_cluster():
        started = time.perf_counter() - start
        cases: Cases = {
            "two processes": lambda: by_processes(smoother, X, 2),
            "dask": lambda: by_dask(smoother, X),
        }
        for run in (by_processes, by_dask):
            warm_up(run, smoother, X)
        seconds, given = timed(cases, rounds)
    refuse_differences(given)
    ratio = np.array(seconds["dask"]) / np.array(seconds["two processes"])
    return {
        "rows": len(X),
        "draws": smoother.n_certify_draws,
        "seconds_to_start_the_cluster": started,
        "seconds": seconds,
        "overhead_percent": spread(100 * (ratio - 1)),
        "same_certificate": True,
    }


@contextmanager
def dask_cluster() -> Iterator[None]:
    """Two processes that keep memory for the next batch; by dask's default they give it back."""
    import dask
    from dask.distributed import Client, LocalCluster

    one_thread = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), 1)
    dask.config.set({"distributed.nanny.pre-spawn-environ": one_thread})
    cluster = LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    )
    with cluster, Client(cluster):
        yield


def by_dask(smoother: Any, X: np.ndarray, n_jobs: int = 2) -> Certificate:
    with joblib.parallel_config("dask"):
        return certify(smoother, X, n_jobs=n_jobs)


def refuse_differences(given: dict[str, Certificate]) -> None:
    first, *others = given.values()
    for name, other in zip(list(given)[1:], others, strict=True):
        if not np.array_equal(first.counts, other.counts):
            raise RuntimeError(f"{name} counts other votes than {next(iter(given))}")


def rows_for(smoother: Any, data: Images, seconds: float) -> np.ndarray:
    """As many test rows as two workers certify in about so long."""
    probe = data.X_test[:8]
    start = time.perf_counter()
    certifying(smoother, probe, n_jobs=2)()
    each = (time.perf_counter() - start) / len(probe)
    return data.X_test[: max(8, round(seconds / each))]


def measure(args: argparse.Namespace) -> dict:
    torch.set_num_threads(1)
    data = images(args.data, args.quick)
    rounds, n_draws = (1, 500) if args.quick else (args.rounds, 10_000)
    models = fit(data, n_draws, ("linear", "MLP", "CNN"))
    report: dict[str, Any] = {"data": data.name, "provenance": provenance(SEED), "rounds": rounds}
    report["draws"] = against_draws(models, data, rounds, args.quick)
    say("draws")
    report["rows"] = against_rows(models, data, rounds, args.quick)
    say("rows")
    report["features"] = against_features(rounds, args.quick)
    say("features")
    smoother = models["CNN"]
    report["workers"] = workers(smoother, data.X_test[: 16 if args.quick else 64], rounds)
    say("workers")
    if find_spec("distributed") is None:
        report["dask"] = None
    else:
        X = rows_for(smoother, data, 1 if args.quick else DASK_SECONDS)
        report["dask"] = dask_overhead(smoother, X, min(rounds, 3))
        say("dask")
    return report


def print_report(report: dict) -> None:
    for what in ("draws", "rows", "features"):
        print(f"\nseconds of an input against {what}")
        for row in report[what]:
            seconds = row["seconds_per_input"]["median"]
            print(f"{row['model']:<8}{row[what]:>9,}{seconds:12.2g}")
    print("\nCNN, times as fast as one thread")
    for name, ratio in report["workers"]["times_faster"].items():
        print("{:<16}{median:6.2f} ({least:.2f} to {most:.2f})".format(name, **ratio))
    if report["dask"] is None:
        print("\ndask[distributed] is not installed and was left out")
    else:
        overhead = report["dask"]["overhead_percent"]
        print("\ndask: {median:.1f} % ({least:.1f} to {most:.1f}) over joblib".format(**overhead))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of MNIST; SMOOTHLEARN_DATA otherwise")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="scikit-learn's digits, seconds")
    parser.add_argument("--draw", action="store_true", help="draw what the results say")
    parser.add_argument("--out", type=Path, help="folder of the results and the figure")
    args = parser.parse_args()
    results, pictures = args.out or HERE / "results", args.out or HERE.parent / "docs" / "images"
    if not args.draw:
        results.mkdir(parents=True, exist_ok=True)
        (results / "scaling.json").write_text(as_text(measure(args)))
    report = json.loads((results / "scaling.json").read_text())
    print_report(report)
    pictures.mkdir(parents=True, exist_ok=True)
    draw_scaling(report).savefig(pictures / "certify_scaling.png", dpi=110)


START = time.perf_counter()

if __name__ == "__main__":
    main()
