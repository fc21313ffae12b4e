"""Table 2 and Figure 5 of Saremi & Srivastava (2020): networks trained for their smoothed use.

    python benchmarks/mnist_xhat.py --preset cpu --data folder-of-mnist
    python benchmarks/mnist_xhat.py --preset more --data folder-of-mnist
    python benchmarks/mnist_xhat.py --preset gpu --data folder-of-mnist --minutes 9

The four corners of XHATClassifier, a denoiser or none, attacks in training or none, have the same
network, epochs, optimizer and schedule. Every stage is kept in a file, so that a run that was
interrupted, or that ended after ``--minutes``, goes on where it stopped when it is called again;
results are written when all stages are there. The cpu preset takes about 70 minutes on two cores.
``more`` certifies XHAT_ε on more test images with fewer draws, in ten minutes after it. The gpu
preset has the paper's 16 attack steps, all test images and up to a million draws; it has not been
run so far. Stages know the settings that they depend on, not the code: after a change of the
package start with an empty ``--keep``. ``--quick`` does the same with scikit-learn's 8 x 8 digits
in a minute; ``--draw`` draws the figures of results that are there.
"""

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
from provenance import as_text, provenance
from xhat_figures import draw_corners, draw_draws
from xhat_reading import CONFIDENCE_LEVEL, accuracies, best_over_sigma, collect, paired_verdicts
from xhat_stages import CORNERS, SEED, Study, run_stages

HERE = Path(__file__).parent
#: Percent at 0.5, 1, 1.5 and 2, all 10,000 test images: Table 2, over sigma 0.3 and 0.6 and with a
#: million draws; and the attacked accuracy of an empirical defense, "analysis by synthesis".
PAPER = {"XHAT_ε, the paper": (98, 95, 81, 57), "ABS, attacked (the paper)": (92, 85, 80, 67)}
ALL = tuple(CORNERS)

CPU = Study(
    data="mnist",
    pixels=(28, 28),
    radii=(0.5, 1.0, 1.5, 2.0),
    corners={0.3: ALL, 0.6: ALL, 0.75: ("SmoothAdv", "XHAT_ε")},
    draws={0.3: (2_000, 10_000), 0.6: (2_000, 30_000), 0.75: (2_000, 15_000)},
    energy={"module": "mlp", "max_epochs": 16, "validation_fraction": 0.02},
    training={
        "module": "conv",
        "epsilon": 1.0,
        "n_attack_steps": 2,
        "validation_fraction": 0.02,
    },
    epochs={0.3: 6, 0.6: 20, 0.75: 6},
    images=300,
    images_of_others=200,
    block=50,
    n_jobs=2,
    minutes={"train_energy": 8, "train_corner": 20, "count_votes": 4, "time_steps": 1},
)
#: More test images, for the radii that few draws reach.
MORE = replace(
    CPU, corners={0.6: ("XHAT_ε",)}, draws={0.6: (2_000, 3_000)}, images=1_000, images_of_others=0
)
GPU = replace(
    CPU,
    draws={0.3: (10_000, 100_000), 0.6: (10_000, 1_000_000), 0.75: (10_000, 100_000)},
    energy={"module": "mlp", "max_epochs": 60, "batch_size": 512, "validation_fraction": 0.02},
    training=CPU.training | {"n_attack_steps": 16, "batch_size": 512},
    epochs={0.3: 30, 0.6: 30, 0.75: 30},
    images=10_000,
    images_of_others=10_000,
    block=250,
    n_jobs=1,
    device="cuda",
    minutes={"train_energy": 4, "train_corner": 8, "count_votes": 4, "time_steps": 1},
)
QUICK = replace(
    CPU,
    data="digits",
    pixels=(8, 8),
    radii=(0.25, 0.5, 0.75, 1.0),
    corners={0.3: ("SmoothAdv", "XHAT_ε"), 0.5: ALL},
    draws={0.3: (200, 1_000), 0.5: (200, 1_000)},
    energy={"module": "mlp", "max_epochs": 5},
    training=CPU.training | {"epsilon": 0.5, "validation_fraction": 0.1},
    epochs={0.3: 5, 0.5: 5},
    images=120,
    images_of_others=80,
    block=60,
)


def say(*words: object) -> None:
    print(f"[{time.perf_counter() - START:5.0f} s]", *words, flush=True)


def summarise(study: Study, found: dict, preset: str) -> dict:
    draws = {str(sigma): list(stages) for sigma, stages in study.draws.items()}
    table = accuracies(found, draws, study.radii)
    shared = [sigma for sigma, corners in study.corners.items() if len(corners) == len(CORNERS)]
    best = best_over_sigma(table, study.radii, shared)
    return {
        "data": study.data,
        "preset": preset,
        "provenance": provenance(SEED),
        "seconds_of_all_stages": sum(row["fit"] for row in found["trained"])
        + sum(row["seconds"] for row in [*found["energies"], *found["votes"], found["steps"]]),
        "test_images": {method: len(study.images_for(method)) for method in CORNERS},
        "confidence_level": CONFIDENCE_LEVEL,
        "draws": draws,
        "energy": study.energy,
        "training": study.training,
        "epochs": {str(sigma): epochs for sigma, epochs in study.epochs.items()},
        "paper": {name: list(values) for name, values in PAPER.items()},
        "sigmas_of_all": shared,
        "best_over_sigma_of_all": best,
        "best_over_sigma": best_over_sigma(table, study.radii, list(study.corners)),
        "accuracy": table,
        "paired": paired_verdicts(found, draws, study.radii, table),
        "attack_step": found["steps"],
        "networks": found["trained"],
        "energies": found["energies"],
    }


def print_best(study: Study, report: dict) -> None:
    sigmas = ", ".join(map(str, report["sigmas_of_all"]))
    print(f"\n{report['data']}, certified accuracy, percent [95 %], best over sigma {sigmas}")
    print(f"{'radius':<26}" + "".join(f"{r:>27}" for r in study.radii))
    for method, cells in report["best_over_sigma_of_all"].items():
        texts = (
            "{:.1f} [{:.1f}, {:.1f}] σ {}".format(*cell["accuracy_lower_upper"], cell["sigma"])
            for cell in cells.values()
        )
        print(f"{method:<26}" + "".join(f"{text:>27}" for text in texts))
    if report["data"] == "mnist":
        for name, percents in PAPER.items():
            print(f"{name:<26}" + "".join(f"{percent:>27}" for percent in percents))


def print_tables(study: Study, report: dict) -> None:
    if report["best_over_sigma_of_all"]:
        print_best(study, report)
    print("\nEvery sigma:")
    for row in report["accuracy"]:
        cells = " / ".join(f"{cell[0]:.1f}" for cell in row["accuracy_lower_upper"].values())
        print(f"σ {row['sigma']:<5} {row['method']:<24} {row['images']:>6} images  {cells}")
    print(
        "\nXHAT_ε against the others, on the images and over the sigmas of both (exact McNemar, "
        "two-sided, not corrected for their number):"
    )
    for one in report["paired"]:
        print(
            f"radius {one['radius']:<5} σ {one['sigma']!s:<13} {one['against']:<22} "
            f"{one['xhat']:.1f} : {one['other']:.1f}  only XHAT_ε {one['only_xhat']}, "
            f"only the other {one['only_other']}, p = {one['p_value']:.2g}"
        )
    steps = report["attack_step"]
    print(f"\nAn attack step takes {steps['ratio']:.2f} times one input gradient of H(x̂).")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", choices=("cpu", "more", "gpu"), default="cpu")
    parser.add_argument("--data", help="folder of MNIST's IDX files; SMOOTHLEARN_DATA otherwise")
    parser.add_argument("--quick", action="store_true", help="scikit-learn's digits, a minute")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop before so long")
    parser.add_argument("--keep", type=Path, default=Path("build"), help="folder of the stages")
    parser.add_argument("--draw", action="store_true", help="draw what the results say")
    parser.add_argument("--out", type=Path, help="folder of the results and the figures")
    args = parser.parse_args()
    preset = "quick" if args.quick else args.preset
    study = replace(
        {"quick": QUICK, "cpu": CPU, "more": MORE, "gpu": GPU}[preset], folder=args.data
    )
    results, images = (args.out or HERE / "results", args.out or HERE.parent / "docs" / "images")
    stem = f"{study.data}_xhat" + (f"_{preset}" if preset in ("more", "gpu") else "")

    if not args.draw:
        kept = args.keep / f"xhat_{'cpu' if preset == 'more' else preset}"
        if not run_stages(study, kept, time.time() + 60 * args.minutes, say):
            say("out of time; call again to go on")
            return
        found = collect(study, kept)
        report = summarise(study, found, preset)
        print_tables(study, report)
        results.mkdir(parents=True, exist_ok=True)
        (results / f"{stem}.json").write_text(as_text(report))
        votes = {name: found[name] for name in ("n_features", "y", "votes")}
        votes["draws"] = report["draws"]
        (results / f"{stem}_votes.json").write_text(as_text(votes))
        say(f"wrote {stem}.json")
    votes = json.loads((results / f"{stem}_votes.json").read_text())
    if preset == "more":
        return
    images.mkdir(parents=True, exist_ok=True)
    for name, draw in (("corners", draw_corners), ("draws", draw_draws)):
        figure = draw(votes, votes["draws"])
        figure.savefig(images / f"{stem}_{name}.png", dpi=110)
        plt.close(figure)


START = time.perf_counter()

if __name__ == "__main__":
    main()
