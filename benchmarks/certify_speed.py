"""Seconds of a certificate, beside those of others for the same classifier.

    pip install -r benchmarks/certify_speed_requirements.txt
    git clone https://github.com/locuslab/smoothing FOLDER
    python benchmarks/certify_speed.py --data FOLDER_OF_MNIST --reference FOLDER

fits a linear classifier, an MLP, two convolutional networks, the wide one that of
``XHATClassifier``, and a linear classifier behind two energies, the wide one that of
``DEENDenoiser(module="mlp")``; then certifies the same test images of MNIST with this package, with
the Adversarial Robustness Toolbox and with the scripts of Cohen et al. (2019) on the CPU, and
measures what noise and forward passes alone would take. Everyone has a process of its own, one
thread and two, takes turns in every round, and counts at its best; the votes behind the radii have
to agree. Writes ``benchmarks/results/certify_speed.json`` and a figure, in four minutes a round on
two cores; they must be free, or torch's two threads wait for each other without end. Who is not
installed is left out. ``--quick`` takes seconds for scikit-learn's 8 x 8 digits; ``--draw`` draws
the figure of results that are there.
"""

import argparse
import copy
import json
import re
import time
from importlib.metadata import version
from pathlib import Path

import torch
from provenance import as_text, provenance
from speed_figures import draw
from speed_models import CONFIDENCE_LEVEL, N_SELECT, SEED, SIGMA, Images, Smoother, fit, images
from speed_peers import (
    REFERENCE_BATCH,
    TOOLBOX,
    Racer,
    commit_of,
    contenders,
    toolbox_version,
)
from speed_reading import agreement, read_times, share_of_limit, tables

HERE = Path(__file__).parent
THREADS = (1, 2)
#: Test images that everyone certifies, about equal work for the models.
ROWS = {"linear": 100, "MLP": 32, "CNN": 16, "wide CNN": 8, "energy": 12, "wide energy": 6}
RADIUS = 0.5
DECIDED_ROWS = 100
DECIDED_DRAWS = 100_000
#: Those whose radius with all of these draws is known within minutes.
FULLY_DRAWN = ("linear", "MLP")


def say(*words: object) -> None:
    print(f"[{time.perf_counter() - START:5.0f} s]", *words, flush=True)


class Race:
    """Everyone on the same rows of one model: seconds of every round, and whether they agree."""

    def __init__(self, named: dict[str, Racer], n_rows: int, n_draws: int):
        self.named, self.n_rows, self.n_draws = named, n_rows, n_draws
        self.seconds = {name: {n: [] for n in THREADS} for name in named}
        self.agreement: dict[str, dict] = {}

    def run_round(self) -> None:
        for n_threads in THREADS:
            found = {}
            for name, racer in self.named.items():
                seconds, found[name] = racer.run(n_threads)
                self.seconds[name][n_threads].append(seconds)
            ours = found.pop("smoothlearn")
            for name, other in found.items():
                if other is not None:
                    self.agreement[name] = agreement(name, ours, other, self.n_draws)

    def end(self) -> None:
        for racer in self.named.values():
            racer.end()

    def report(self) -> dict:
        times = read_times(self.seconds, self.n_rows)
        return {
            "inputs": self.n_rows,
            "times": times,
            "percent_of_limit": share_of_limit(times),
            "agreement": self.agreement,
        }


def decide(name: str, fitted: Smoother, data: Images, n_rows: int, n_draws: int) -> dict:
    """Draws of a decision whether the radius is at least `RADIUS`, beside a fixed number."""
    rows = data.every(n_rows)
    settings = {"n_jobs": THREADS[-1], "n_certify_draws": n_draws}
    smoother = copy.copy(fitted).set_params(**settings)
    start = time.perf_counter()
    decided = smoother.certify(data.X_test[rows], radius=RADIUS)
    seconds = time.perf_counter() - start
    report = {
        "model": name,
        "rows": len(decided),
        "radius": RADIUS,
        "seconds_per_input": seconds / len(decided),
        "mean_draws": float(decided.n_draws.mean()) + N_SELECT,
        "fixed_draws": n_draws + N_SELECT,
        "certified_accuracy": decided.accuracy(data.y_test[rows], RADIUS),
    }
    if name in FULLY_DRAWN:
        fixed = smoother.certify(data.X_test[rows])
        report["certified_accuracy_fixed"] = fixed.accuracy(data.y_test[rows], RADIUS)
    return report


def made_by(reference: Path | None) -> dict:
    """Provenance, the versions of the others among it."""
    where = provenance(SEED)
    where["command"] = re.sub(r"--reference[= ]\S+", "--reference FOLDER", where["command"])
    toolbox = toolbox_version()
    if toolbox is not None:
        where["versions"] |= {TOOLBOX: toolbox, "statsmodels": version("statsmodels")}
    where["reference_commit"] = reference and commit_of(reference)
    return where


def skipped(reference: Path | None) -> list[str]:
    notes = []
    if toolbox_version() is None:
        notes.append(f"{TOOLBOX} is not installed and was left out")
    if reference is None:
        notes.append("no --reference was given: the scripts of Cohen et al. were left out")
    return notes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of MNIST; SMOOTHLEARN_DATA otherwise")
    parser.add_argument("--reference", type=Path, help="checkout of locuslab/smoothing")
    parser.add_argument("--models", nargs="+", choices=list(ROWS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="scikit-learn's digits, seconds")
    parser.add_argument("--draw", action="store_true", help="draw what the results say")
    parser.add_argument("--out", type=Path, help="folder of the results and the figure")
    args = parser.parse_args()
    results, pictures = args.out or HERE / "results", args.out or HERE.parent / "docs" / "images"
    if not args.draw:
        report = measure(args)
        results.mkdir(parents=True, exist_ok=True)
        (results / "certify_speed.json").write_text(as_text(report))
    report = json.loads((results / "certify_speed.json").read_text())
    print(tables(report))
    pictures.mkdir(parents=True, exist_ok=True)
    draw(report).savefig(pictures / "certify_speed.png", dpi=110)


def measure(args: argparse.Namespace) -> dict:
    data = images(args.data, args.quick)
    rounds, n_draws = (1, 1_000) if args.quick else (args.rounds, 10_000)
    torch.set_num_threads(1 if args.quick else THREADS[-1])
    narrow = [name for name in ROWS if "wide" not in name]
    models = fit(data, n_draws, args.models or (narrow if args.quick else list(ROWS)))
    say("fitted")
    races = {}
    for name, model in models.items():
        n_rows = 4 if args.quick else ROWS[name]
        X = data.X_test[data.every(n_rows)][:n_rows]
        race = Race(contenders(model, X, n_draws, args.reference), len(X), n_draws)
        try:
            for _ in range(rounds):
                race.run_round()
        finally:
            race.end()
        races[name] = race
        say(name)
    decided = (20, 2_000) if args.quick else (DECIDED_ROWS, DECIDED_DRAWS)
    return {
        "data": data.name,
        "provenance": made_by(args.reference),
        "notes": skipped(args.reference),
        "setting": {
            "sigma": SIGMA,
            "confidence_level": CONFIDENCE_LEVEL,
            "selection_draws": N_SELECT,
            "draws": n_draws,
            "reference_batch": REFERENCE_BATCH,
            "rounds": rounds,
        },
        "models": {name: race.report() for name, race in races.items()},
        "decisions": [decide(name, model, data, *decided) for name, model in models.items()],
    }


START = time.perf_counter()

if __name__ == "__main__":
    main()
