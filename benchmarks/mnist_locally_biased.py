"""Figures 3 and 4 of Anderson & Sojoudi (2022): smoothed networks for two classes of images.

    SMOOTHLEARN_DATA=folder-of-mnist python benchmarks/mnist_locally_biased.py
    SMOOTHLEARN_DATA=folder-of-cifar10 python benchmarks/mnist_locally_biased.py --data-set cifar10

trains a ReLU network, as in the paper, and a smooth one, attacks what locally biased and normal
smoothing make of them, certifies, and writes `benchmarks/results/*_locally_biased.json` and the
figures in `docs/images`, in about 20 minutes on two cores. Attacks are on the base alone, as in
the paper, or adaptive: they also move the oracle, or have the mean over noise in view. Levels of
smoothing are chosen on validation images. `--quick` does the same with scikit-learn's 8 x 8 digits
in less than a minute; `--draw` draws the figures of results that are there.
"""

import argparse
import json
import time
from itertools import product
from pathlib import Path
from typing import Any

import locally_biased_attacks as attacks
import locally_biased_tasks as tasks
import numpy as np
import torch
from joblib import Parallel, delayed
from locally_biased_figures import draw
from locally_biased_sweeps import NS, Curves, corners, name_of, reach, sweep
from locally_biased_tasks import SEED, Rows, Task
from provenance import as_text, provenance
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from smoothlearn import LocallyBiasedSmoother

HERE = Path(__file__).parent
CERTIFIED_ALPHAS = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0)
CERTIFIED_RADII = np.geomspace(1e-3, 10, 61)


def say(*words: object) -> None:
    print(f"[{time.perf_counter() - START:5.0f} s]", *words, flush=True)


def certificates(task: Task, net: Any) -> Curves:
    """Certified accuracy of the smooth network, and of bases with less curvature."""
    few = task.train.of(slice(4000))  # for the time that an SVC takes
    bases = {
        "CNN with SiLU": net,
        "RBF SVC": SVC(C=5, gamma=0.02 if task.shape[0] == 1 else 0.005).fit(*few),
        "logistic regression": LogisticRegression(C=0.1, max_iter=1000).fit(*task.train),
    }
    rows = []
    for name, base in bases.items():
        smoother = attacks.locally_biased(base, task.bias, 2)
        best = most_certified(smoother, task.validation.of(slice(100)))
        for alpha, radius in product(sorted({0.0, best}), ("tight", "paper")):
            start = time.perf_counter()
            smoother.set_params(alpha=alpha, radius=radius)
            certificate = smoother.certify(task.test.X)
            y = task.test.y
            rows.append(
                {
                    "base": name,
                    "train": len((few if name == "RBF SVC" else task.train).y),
                    "n_bias": len(task.bias.y),
                    "alpha": alpha,
                    "radius": radius,
                    "clean": certificate.accuracy(y),
                    "average_radius": certificate.average_radius(y),
                    "largest": float(certificate.radius.max()),
                    "accuracy": [certificate.accuracy(y, r) for r in CERTIFIED_RADII],
                    "seconds": time.perf_counter() - start,
                }
            )
        say(f"certified {name}")
    return rows


def most_certified(smoother: LocallyBiasedSmoother, rows: Rows) -> float:
    """The alpha with the largest average radius."""
    smoother.set_params(radius="tight")
    averages = [
        smoother.set_params(alpha=alpha).certify(rows.X).average_radius(rows.y)
        for alpha in CERTIFIED_ALPHAS
    ]
    return CERTIFIED_ALPHAS[int(np.argmax(averages))]


def measure_net(task: Task, activation: str) -> dict:
    """Attacks at all levels; at all radii on the ReLU network; certificates of the smooth one."""
    torch.set_num_threads(1)
    net = tasks.trained(activation, task)
    full = activation == "ReLU"
    norms = (2, np.inf) if full else (2,)
    say(f"trained the network with {activation}: {accuracy(net, task.test):.3f}")
    validation = [curve for norm in norms for curve in sweep(task, net, task.validation, norm)]
    chosen = corners(task, validation)
    say("chose the levels on validation images")
    found = {
        "train_accuracy": accuracy(net, task.train),
        "test_accuracy": accuracy(net, task.test),
        "corners": chosen,
        "sweep": sweep(task, net, task.test, 2),
    }
    say("attacked at all levels")
    if full:
        found["reach"] = [curve for norm in norms for curve in reach(task, net, norm, chosen)]
        say("attacked at all radii")
    else:
        found["certificates"] = certificates(task, net)
    return found


def accuracy(net: Any, rows: Rows) -> float:
    return float(np.mean(net.predict(rows.X) == rows.y))


def nearest_draws(task: Task) -> dict:
    """How much the accuracy of 1-NN depends on which few points there are."""
    n, rng = task.n_bias[0], np.random.default_rng(SEED)
    found = []
    for _ in range(50):
        order = rng.permutation(len(task.bias.y) // 2)[: n // 2]
        bias = task.bias.of(np.concatenate([2 * order, 2 * order + 1]))
        found.append(accuracy(KNeighborsClassifier(1).fit(*bias), task.test))
    return {"n_bias": n, "draws": len(found), "mean": np.mean(found), "sd": np.std(found)}


def print_table(task: Task, results: dict) -> None:
    """Accuracies at the chosen levels: under the attack on the base, and under the adaptive one."""
    radii = (0.0, *task.radii[2])
    print(f"\n{task.title}; {len(task.test.y)} test images, pixels {task.pixels}; percent right")
    print("under l2 attacks on the base | adaptive ones, each at the level chosen under its kind")
    for activation, found in results["nets"].items():
        heads = "".join(f"{f'radius {r:g}':>14}" for r in radii)
        print(f"\n{activation:<8}{'method':<29}{'N':>5}{heads}{'level':>18}")
        chosen = {
            (c["method"], c["n_bias"], c["attack"]): c["level"]
            for c in found["corners"]
            if c["norm"] == "2"
        }
        cells: dict = {}
        for c in found["sweep"]:
            key = c["method"], c["n_bias"]
            level = chosen.get((*key, c["attack"]))
            cells.setdefault(key, {})[c["attack"], c["radius"]] = c["accuracy"][
                c["level"].index(level)
            ]
            if c["method"] == NS:
                at_base = cells.setdefault(("base", None), {})
                at_base[c["attack"], c["radius"]] = c["accuracy"][0]
        for (method, n), values in cells.items():
            texts = (
                f"{100 * values['base', r]:.1f} | {100 * values['adaptive', r]:.1f}" for r in radii
            )
            levels = [chosen.get((method, n, attack), "") for attack in ("base", "adaptive")]
            line = f"{'':8}{method:<29}{n or '':>5}" + "".join(f"{text:>14}" for text in texts)
            print(line + f"{' | '.join(map(str, levels)):>18}")
    print(f"\n{'certified base':<20}{'alpha':>6}{'radius':>8}{'clean':>7}{'average radius':>16}")
    for row in results["certificates"]:
        print(
            f"{row['base']:<20}{row['alpha']:>6}{row['radius']:>8}{100 * row['clean']:>7.1f}"
            f"{row['average_radius']:>16.5f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of the images; SMOOTHLEARN_DATA otherwise")
    parser.add_argument("--data-set", choices=("mnist", "cifar10"), default="mnist")
    parser.add_argument("--quick", action="store_true", help="scikit-learn's digits, a minute")
    parser.add_argument("--draw", action="store_true", help="only draw the results that are there")
    parser.add_argument("--out", type=Path, help="folder of the results and the figures")
    args = parser.parse_args()
    results, images = (args.out or HERE / "results", args.out or HERE.parent / "docs" / "images")
    stem = f"{'digits' if args.quick else args.data_set}_locally_biased"
    if not args.draw:
        torch.set_num_threads(1)
        load = {"mnist": tasks.mnist, "cifar10": tasks.cifar10}[args.data_set]
        task = tasks.digits() if args.quick else load(args.data)
        report = measure(task)
        print_table(task, report)
        results.mkdir(parents=True, exist_ok=True)
        (results / f"{stem}.json").write_text(as_text(report))
        say(f"wrote {stem}.json")
    images.mkdir(parents=True, exist_ok=True)
    draw(json.loads((results / f"{stem}.json").read_text()), images, stem)


def measure(task: Task) -> dict:
    say(f"{task.title}: {len(task.train.y)} images for training")
    found = Parallel(n_jobs=2, max_nbytes=None)(
        delayed(measure_net)(task, name) for name in tasks.ACTIVATIONS
    )
    nets = dict(zip(tasks.ACTIVATIONS, found, strict=True))
    return {
        "data": task.title,
        "pixels": task.pixels,
        "images": {
            name: len(getattr(task, name).y) for name in ("train", "validation", "bias", "test")
        },
        "attack": {
            "steps": attacks.N_STEPS,
            "restarts": {"base": 1, "adaptive": attacks.N_RESTARTS, "normal smoothing": 1},
            "noise_draws": attacks.N_NOISE,
            "pixels_clipped": False,
            "aims": {name_of(norm): list(aims) for norm, aims in task.aims.items()},
        },
        "n_draws": task.n_draws,
        "provenance": provenance(SEED),
        "nearest_of_other_points": nearest_draws(task),
        "reach_radii": {name_of(norm): radii.tolist() for norm, radii in task.reach.items()},
        "certified_radii": CERTIFIED_RADII.tolist(),
        "certificates": nets["SiLU"].pop("certificates"),
        "nets": nets,
        "seconds": time.perf_counter() - START,
    }


START = time.perf_counter()

if __name__ == "__main__":
    main()
