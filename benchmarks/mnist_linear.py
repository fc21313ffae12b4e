"""Table 1 and Figures 2-4 of Saremi & Srivastava (2020): a linear classifier of MNIST, smoothed.

    SMOOTHLEARN_DATA=folder-of-mnist python benchmarks/mnist_linear.py

trains one energy for every sigma, certifies every 20th test image with four smoothed classifiers,
and writes `benchmarks/results/mnist_linear.json` and the figures in `docs/images`, in under 45
minutes on two cores. `--quick` does the same with scikit-learn's 8 x 8 digits in a few minutes.
`--more` certifies every fifth test image at one sigma with 10,000 draws, for the smaller radii.
"""

import argparse
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from joblib import Parallel, delayed
from provenance import as_text, provenance
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from skorch import NeuralNetClassifier

from smoothlearn import (
    Certificate,
    CertifiedAccuracyDisplay,
    DEENDenoiser,
    EmpiricalBayesSmoothedClassifier,
    RandomizedSmoothingClassifier,
)
from smoothlearn.datasets import load_mnist
from smoothlearn.theory.binomial import lower_bound, upper_bound

HERE = Path(__file__).parent
SEED = 0
#: Percent at radii 0.5, 1, 1.5 and 2, over noise levels 0.3 and 0.6 and all 10,000 test images.
PAPER = {"vanilla": (71, 30, 7, 1), "empirical Bayes": (88, 77, 56, 28)}
STYLES = {
    "vanilla": ("#D55E00", "--"),
    "vanilla, augmented": ("#E69F00", ":"),
    "empirical Bayes": ("#0072B2", "-"),
    "empirical Bayes, augmented": ("#009E73", "-."),
}


@dataclass(frozen=True)
class Task:
    """The data, and what is done with them."""

    name: str
    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    side: int
    radii: tuple[float, ...]
    #: Draws of certification, in one stage or two, for every sigma.
    draws: dict[float, int | tuple[int, int]]
    energy: dict
    sgd_epochs: int
    #: The sigma of Figures 3 and 4.
    shown: float
    methods: tuple[str, ...] = tuple(STYLES)


def mnist(folder: str | None) -> Task:
    X, y = load_mnist(folder, return_X_y=True)
    X_test, y_test = load_mnist(folder, subset="test", return_X_y=True)
    return Task(
        "MNIST",
        X,
        y,
        X_test[::20],
        y_test[::20],
        side=28,
        radii=(0.5, 1.0, 1.5, 2.0),
        draws={0.3: (2_000, 10_000), 0.6: (2_000, 30_000), 0.75: (2_000, 20_000)},
        energy={"module": "mlp", "max_epochs": 24, "validation_fraction": 0.02},
        sgd_epochs=5,
        shown=0.6,
    )


def more_images(folder: str | None) -> Task:
    X_test, y_test = load_mnist(folder, subset="test", return_X_y=True)
    return replace(
        mnist(folder),
        X_test=X_test[::5],
        y_test=y_test[::5],
        draws={0.75: 10_000},
        shown=0.75,
        methods=("vanilla", "empirical Bayes"),
    )


def digits() -> Task:
    X, y = load_digits(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X / 16, y, test_size=120, stratify=y, random_state=SEED)
    return Task(
        "digits",
        X,
        y,
        X_test,
        y_test,
        side=8,
        radii=(0.25, 0.5, 0.75, 1.0),
        draws={0.3: (500, 2_500), 0.5: (500, 2_500)},
        energy={"module": "mlp", "max_epochs": 25},
        sgd_epochs=30,
        shown=0.5,
    )


def say(*words: object) -> None:
    print(f"[{time.perf_counter() - START:5.0f} s]", *words, flush=True)


def linear_classifier(epochs: int) -> NeuralNetClassifier:
    """One layer and the cross entropy, by plain stochastic gradient descent."""
    return NeuralNetClassifier(
        torch.nn.Linear,
        criterion=torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        lr=0.1,
        batch_size=128,
        max_epochs=epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )


def train_energy(task: Task, sigma: float) -> tuple[DEENDenoiser, dict]:
    torch.set_num_threads(1)
    start = time.perf_counter()
    denoiser = DEENDenoiser(sigma, random_state=SEED, **task.energy).fit(task.X)
    d = task.X.shape[1]
    return denoiser, {
        "sigma": sigma,
        **task.energy,
        "epochs": len(denoiser.history_),
        "squared_error_test": -denoiser.score(task.X_test) * d,
        "squared_error_train": -denoiser.score(task.X[: 4 * len(task.X_test)]) * d,
        "squared_error_identity": sigma**2 * d,
        "seconds": time.perf_counter() - start,
    }


def smoothers(task: Task, sigma: float, denoiser: DEENDenoiser) -> dict:
    """Augmented ones see as many rows in training, each of them once, with its own noise."""
    shape = {"module__in_features": task.X.shape[1], "module__out_features": 10}
    clean = linear_classifier(task.sgd_epochs).set_params(**shape)
    noisy = linear_classifier(1).set_params(**shape)
    settings = {
        "sigma": sigma,
        "n_certify_draws": task.draws[sigma],
        "n_jobs": -1,
        "random_state": SEED,
    }
    frozen = FrozenEstimator(denoiser)
    return {
        "vanilla": RandomizedSmoothingClassifier(clean, **settings),
        "vanilla, augmented": RandomizedSmoothingClassifier(
            noisy, n_augment=task.sgd_epochs, **settings
        ),
        "empirical Bayes": EmpiricalBayesSmoothedClassifier(clean, denoiser=frozen, **settings),
        "empirical Bayes, augmented": EmpiricalBayesSmoothedClassifier(
            noisy, denoiser=frozen, n_augment=task.sgd_epochs, **settings
        ),
    }


def certify_all(task: Task, sigma: float, denoiser: DEENDenoiser) -> dict[str, dict]:
    """The certificate of every method, the accuracy of its base and the seconds it took."""
    found = {}
    of_name = smoothers(task, sigma, denoiser)
    for name in task.methods:
        smoother = of_name[name]
        start = time.perf_counter()
        smoother.fit(task.X, task.y)
        fitted = time.perf_counter()
        certificate = smoother.certify(task.X_test)
        base = smoother.estimator_.predict(task.X_test.astype(np.float32))
        found[name] = {
            "certificate": certificate,
            "base_accuracy": float(np.mean(base == task.y_test)),
            "seconds_fit": fitted - start,
            "seconds_certify": time.perf_counter() - fitted,
        }
        percents = [f"{100 * certificate.accuracy(task.y_test, r):.1f}" for r in task.radii]
        say(f"sigma {sigma}, {name}:", " / ".join(percents))
    return found


def interval(share: float, n: int) -> tuple[float, float]:
    """Clopper-Pearson, 95 %, in percent."""
    k = round(share * n)
    return 100 * float(lower_bound(k, n, 0.025)), 100 * float(upper_bound(k, n, 0.025))


def row(task: Task, sigma: float, name: str, found: dict) -> dict:
    certificate: Certificate = found["certificate"]
    right = certificate.certified(task.y_test)
    return {
        "method": name,
        "sigma": sigma,
        "draws": task.draws[sigma],
        "rows_in_second_stage": int((certificate.n_draws > certificate.n_draws.min()).sum()),
        "largest_radius": certificate.largest_radius,
        "accuracy": {str(r): 100 * certificate.accuracy(task.y_test, r) for r in (0, *task.radii)},
        **{key: value for key, value in found.items() if key != "certificate"},
        "radius": [
            math.floor(1e4 * r) / 1e4 if ok else None
            for r, ok in zip(certificate.radius, right, strict=True)
        ],
    }


def best_over_sigma(task: Task, rows: list[dict]) -> dict[str, dict]:
    """For every method and radius the largest accuracy, as the paper reports it."""
    best: dict[str, dict] = {}
    for name in task.methods:
        for radius in map(str, task.radii):
            one = max((r for r in rows if r["method"] == name), key=lambda r: r["accuracy"][radius])
            low, high = interval(one["accuracy"][radius] / 100, len(task.y_test))
            best.setdefault(name, {})[radius] = {
                "accuracy": one["accuracy"][radius],
                "interval": [low, high],
                "sigma": one["sigma"],
            }
    return best


def print_table(task: Task, best: dict[str, dict]) -> None:
    print(f"\n{task.name}, {len(task.y_test)} test images, best over sigma, percent [95 %]")
    print(f"{'radius':<28}" + "".join(f"{r:>27}" for r in task.radii))
    for name, cells in best.items():
        texts = (
            f"{c['accuracy']:.1f} [{c['interval'][0]:.1f}, {c['interval'][1]:.1f}] σ {c['sigma']}"
            for c in cells.values()
        )
        print(f"{name:<28}" + "".join(f"{text:>27}" for text in texts))
    if task.name == "MNIST":
        for name, percents in PAPER.items():
            print(f"{'the paper, ' + name:<28}" + "".join(f"{p:>27}" for p in percents))


def draw_curves(task: Task, found: dict[float, dict]) -> plt.Figure:
    figure, axes = plt.subplots(
        1, len(found), figsize=(4 * len(found), 3.6), sharey=True, layout="constrained"
    )
    for ax, (sigma, methods) in zip(axes, found.items(), strict=True):
        for name, (colour, style) in STYLES.items():
            CertifiedAccuracyDisplay.from_certificate(
                methods[name]["certificate"],
                task.y_test,
                name=name,
                ax=ax,
                color=colour,
                linestyle=style,
            )
        ax.set_title(f"σ = {sigma}")
        ax.set_xlabel("ℓ2 radius (pixels in [0, 1])")
        if ax is not axes[0]:
            ax.set_ylabel("")
            ax.get_legend().remove()
    axes[0].legend(loc="lower left", fontsize="small")
    return figure


def draw_hood(task: Task, image: int, radius: dict[str, float], denoiser: DEENDenoiser):
    """An image, eight times with noise, and what the denoiser makes of it."""
    x = np.repeat(task.X_test[image : image + 1].astype(float), 8, axis=0)
    noisy = x + task.shown * np.random.default_rng(SEED).standard_normal(x.shape)
    figure, axes = plt.subplots(3, 8, figsize=(8, 3.5), layout="constrained")
    for line, rows, label in zip(
        axes, (x, noisy, denoiser.transform(noisy)), ("x", "y = x + ε", "x̂(y)"), strict=True
    ):
        for ax, pixels in zip(line, rows, strict=True):
            ax.imshow(pixels.reshape(task.side, task.side), cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(label)
    texts = (f"{name} {r:.2f}" for name, r in radius.items())
    figure.suptitle(f"certified radius at σ = {task.shown}: " + ", ".join(texts))
    return figure


def under_the_hood(task: Task, methods: dict[str, dict]) -> dict:
    """Which images Figures 3 and 4 are about, where both classifiers are right."""
    without, with_denoiser = (
        methods[name]["certificate"] for name in ("vanilla", "empirical Bayes")
    )
    right = without.certified(task.y_test) & with_denoiser.certified(task.y_test)
    gain = np.where(right, with_denoiser.radius - without.radius, np.nan)
    more = np.flatnonzero(
        np.where(without.certified(task.y_test), without.radius, 0)
        > np.where(with_denoiser.certified(task.y_test), with_denoiser.radius, 0)
    )
    gained, failed = int(np.nanargmax(gain)), int(np.nanargmin(gain))
    pair = {
        image: {"vanilla": float(without.radius[image]),
                "empirical Bayes": float(with_denoiser.radius[image])}
        for image in (gained, failed)
    }  # fmt: skip
    return {
        "sigma": task.shown,
        "images": len(gain),
        "more_without_denoiser": len(more),
        "of_these_the_denoiser_certifies_none": int(np.isnan(gain[more]).sum()),
        "paper": "26 of 10000",
        "figure_3": {"image": gained, "radius": pair[gained]},
        "figure_4": {"image": failed, "radius": pair[failed]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="folder of MNIST's IDX files; SMOOTHLEARN_DATA otherwise")
    parser.add_argument("--quick", action="store_true", help="scikit-learn's digits, a few minutes")
    parser.add_argument("--more", action="store_true", help="more test images, the smaller radii")
    parser.add_argument("--out", type=Path, help="folder of the results and the figures")
    args = parser.parse_args()
    task = digits() if args.quick else (more_images if args.more else mnist)(args.data)
    results, images = (args.out or HERE / "results", args.out or HERE.parent / "docs" / "images")

    sigmas = list(task.draws)
    say(f"training {len(sigmas)} energies of {task.name}")
    trained = Parallel(n_jobs=-1)(delayed(train_energy)(task, sigma) for sigma in sigmas)
    energies = dict(zip(sigmas, trained, strict=True))
    for _, about in trained:
        say(f"sigma {about['sigma']}: squared error {about['squared_error_test']:.2f}")
    found = {sigma: certify_all(task, sigma, energies[sigma][0]) for sigma in sigmas}

    rows = [row(task, s, name, one) for s in sigmas for name, one in found[s].items()]
    best = best_over_sigma(task, rows)
    print_table(task, best)
    hood = under_the_hood(task, found[task.shown])
    say(
        f"certified further without the denoiser: {hood['more_without_denoiser']} of "
        f"{hood['images']} images at sigma {task.shown} (the paper: {hood['paper']})"
    )
    stem = f"{task.name.lower()}_linear" + ("_more" if args.more else "")
    results.mkdir(parents=True, exist_ok=True)
    if not args.more:
        figures = {"curves": draw_curves(task, found)}
        for name in ("figure_3", "figure_4"):
            figures[name] = draw_hood(task, **hood[name], denoiser=energies[task.shown][0])
        images.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            figure.savefig(images / f"{stem}_{name}.png", dpi=110)
    report = {
        "data": task.name,
        "test_images": len(task.y_test),
        "confidence_level": 0.999,
        "provenance": provenance(SEED),
        "seconds": time.perf_counter() - START,
        "paper": {name: list(values) for name, values in PAPER.items()},
        "best_over_sigma": best,
        "denoiser_or_not": hood,
        "energies": [about for _, about in trained],
        "rows": rows,
    }
    (results / f"{stem}.json").write_text(as_text(report))
    say(f"wrote {stem}.json")


START = time.perf_counter()

if __name__ == "__main__":
    main()
