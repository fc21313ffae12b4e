"""What the paper says about denoisers and dimension, measured.

Saremi & Srivastava 2020, "Provable robust classification via learned smoothed densities",
arXiv:2005.04504, describes in Sections 2.2 and 4.1 what the Bayes estimator does to a ball of noise
and what that is worth in many dimensions. One function here measures one of its remarks, one draws
it::

    python benchmarks/remarks.py --data FOLDER_OF_MNIST

prints tables, writes the numbers to ``benchmarks/results/remarks.json`` and the figures to
``docs/images``. ``--quick --out FOLDER`` does the same with few draws and scikit-learn's 8 x 8
digits in place of MNIST.
"""

import argparse
import json
import math
import re
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from provenance import provenance
from scipy.special import log_ndtr
from sklearn.base import clone
from sklearn.datasets import load_digits, make_moons
from sklearn.frozen import FrozenEstimator
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC

from smoothlearn import (
    DEENDenoiser,
    EmpiricalBayesSmoothedClassifier,
    ParzenDenoiser,
    RandomizedSmoothingClassifier,
)
from smoothlearn.datasets import load_mnist
from smoothlearn.theory.bayes import gaussian_denoiser, mixture_denoiser, mixture_energy
from smoothlearn.theory.gaussian import max_radius

FloatArray = NDArray[np.float64]
Denoise = Callable[[FloatArray], FloatArray]
Results = dict[str, Any]

SEED = 0
REPOSITORY = Path(__file__).resolve().parents[1]
BLUE, RED, GREEN, ORANGE, GREY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#555555"


class Size(NamedTuple):
    """How much is computed."""

    n_rows: int  #: rows that low-dimensional energies are trained on
    n_epochs: int  #: passes over them
    n_draws: int  #: noisy copies of a point
    n_images: int  #: test images
    n_image_epochs: int  #: passes over the training images
    dimensions: tuple[int, ...]  #: of the space that a plane lies in
    n_repeats: int  #: planes, data sets and base classifiers in each
    n_certified: int  #: test rows of each


FULL = Size(4000, 40, 200, 100, 3, (2, 16, 64, 256, 1024), 3, 50)
QUICK = Size(500, 5, 50, 10, 3, (2, 16), 1, 10)


# The measure of a cloud ---------------------------------------------------------------------------


class Cloud(NamedTuple):
    """Moments of x̂(x + ε) over ε at every row x, with C its covariance.

    tr C² and the slide are unbiased: products of what two halves of the draws give.
    """

    centre: FloatArray  #: E x̂, of shape (n, d)
    variance: FloatArray  #: tr C, of shape (n,)
    purity: FloatArray  #: tr C², of shape (n,)
    slide: FloatArray  #: ‖E x̂ - x‖², of shape (n,)

    def contraction(self, sigma: float) -> float:
        """Root mean square of ‖x̂ - E x̂‖ over that of the noise, σ√d."""
        return math.sqrt(self.variance.mean() / self.centre.shape[1]) / sigma

    def dimension(self) -> float:
        """Participation ratio (tr C)²/tr C²: d for a ball, 1 for a line."""
        return float((self.variance**2).mean() / self.purity.mean())


def cloud(denoise: Denoise, X: FloatArray, sigma: float, n_draws: int) -> Cloud:
    """The cloud that a denoiser makes of the noise around every row; the same noise every time."""
    rng = np.random.default_rng(SEED)
    centres, deviations = [], []
    for _ in range(2):
        noisy = X + sigma * rng.standard_normal((n_draws // 2, *X.shape))
        denoised = denoise(noisy.reshape(-1, X.shape[1])).reshape(noisy.shape)
        centres.append(denoised.mean(axis=0))
        deviations.append((denoised - centres[-1]).transpose(1, 0, 2))
    degrees = n_draws // 2 - 1
    variances = [np.square(part).sum(axis=(1, 2)) / degrees for part in deviations]
    products = deviations[0] @ deviations[1].transpose(0, 2, 1)
    return Cloud(
        centre=(centres[0] + centres[1]) / 2,
        variance=(variances[0] + variances[1]) / 2,
        purity=np.square(products).sum(axis=(1, 2)) / degrees**2,
        slide=((centres[0] - X) * (centres[1] - X)).sum(axis=1),
    )


def shrinkage(points: FloatArray, X: FloatArray, mean: FloatArray | float) -> float:
    """How much of the rows' distance from the mean the points keep, by least squares."""
    return float(((points - mean) * (X - mean)).sum() / np.square(X - mean).sum())


def rms(rows: FloatArray) -> float:
    """Root mean square of the rows' norms."""
    return math.sqrt(np.square(rows).sum(axis=1).mean())


# Section 2.2, Remark 2.1: one Gaussian ------------------------------------------------------------


def one_gaussian(size: Size) -> Results:
    """X = N(0, I): the ball of noise shrinks by β, its centre slides from x to βx (Eq. 7)."""
    rng = np.random.default_rng(SEED)
    rows = []
    for d in (2, 16, 64):
        train, X = rng.standard_normal((size.n_rows, d)), rng.standard_normal((100, d))
        for sigma in (0.25, 0.5, 1.0, 2.0):
            learned = learn(train, sigma, size).transform
            seen = cloud(learned, X, sigma, size.n_draws)
            noisy = math.hypot(1, sigma) * rng.standard_normal((2000, d))
            exact = gaussian_denoiser(noisy, sigma, mean=0.0, scale=1.0)
            rows.append(
                {
                    "d": d,
                    "sigma": sigma,
                    "beta": 1 / (1 + sigma**2),
                    "contraction": seen.contraction(sigma),
                    "centre": shrinkage(seen.centre, X, 0.0),
                    "dimension": seen.dimension(),
                    "difference": rms(learned(noisy) - exact) / rms(exact),
                }
            )
    return {"rows": rows}


def learn(X: FloatArray, sigma: float, size: Size) -> DEENDenoiser:
    """A learned energy of a few features."""
    return DEENDenoiser(sigma=sigma, max_epochs=size.n_epochs, random_state=SEED).fit(X)


# Section 2.2.1, Remark 2.2: two Gaussians ---------------------------------------------------------

MODES = {"means": np.array([[2.0, 0.0], [-2.0, 0.0]]), "scales": 0.5}
PLACES = {"mode": [2.0, 0.0], "halfway": [1.0, 0.0], "middle": [0.0, 0.0]}


def two_gaussians(size: Size) -> Results:
    """Means ±μ, ‖μ‖ = 2, and σ0 = 1/2, in the plane: x̂ of Eq. 8 at a mode and between the modes."""
    rng = np.random.default_rng(SEED)
    train, X = sample_modes(size.n_rows, rng), sample_modes(1000, rng)
    learned = {sigma: learn(train, sigma, size) for sigma in (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)}
    rows = []
    for sigma, denoiser in learned.items():
        for name, denoise in (("closed form", bayes(sigma)), ("learned", denoiser.transform)):
            rows += [
                {"sigma": sigma, "denoiser": name} | at_place(denoise, place, sigma)
                for place in PLACES
            ]
    sigmas = np.geomspace(0.1, 16, 34)
    curves = {}
    for place in PLACES:
        points = [at_place(bayes(sigma), place, sigma) for sigma in sigmas]
        curves[place] = {name: [point[name] for point in points] for name in ("centre", "along")}
    return {
        "rows": rows,
        "energies": [energies(X, sigma, learned[sigma].transform) for sigma in learned],
        "curves": {"sigma": sigmas.tolist()} | curves,
        "circles": circles(learned[1.0].transform, sigma=1.0),
    }


def sample_modes(n_rows: int, rng: np.random.Generator) -> FloatArray:
    means = MODES["means"][rng.integers(2, size=n_rows)]
    return means + MODES["scales"] * rng.standard_normal(means.shape)


def bayes(sigma: float) -> Denoise:
    """x̂ of the two Gaussians, in closed form."""
    return lambda Y: mixture_denoiser(Y, sigma, **MODES)


def at_place(denoise: Denoise, place: str, sigma: float) -> Results:
    """Where x̂(x + ε) is along μ, in units of ‖μ‖, and how wide, in units of the noise."""
    noise = sigma * np.random.default_rng(SEED).standard_normal((10_000, 2))
    denoised = denoise(np.array(PLACES[place]) + noise)
    along, across = denoised.std(axis=0) / sigma
    return {"place": place, "centre": denoised[:, 0].mean() / 2, "along": along, "across": across}


def energies(X: FloatArray, sigma: float, learned: Denoise) -> Results:
    """Share of rows whose E x̂(x + ε) has less energy than x: that of Y, and that of X itself."""
    centre = cloud(bayes(sigma), X, sigma, 100).centre
    own = {"sigma": MODES["scales"], "means": MODES["means"], "scales": 0.0}
    noisy = X + sigma * np.random.default_rng(SEED).standard_normal(X.shape)
    exact = bayes(sigma)(noisy)
    return {
        "sigma": sigma,
        "downhill for Y": (
            mixture_energy(centre, sigma, **MODES) < mixture_energy(X, sigma, **MODES)
        ).mean(),
        "downhill for X": (mixture_energy(centre, **own) < mixture_energy(X, **own)).mean(),
        "difference": rms(learned(noisy) - exact) / rms(exact),
    }


def circles(learned: Denoise, sigma: float) -> Results:
    """The circle of radius σ√2, where noise in the plane lies on average, and its images."""
    angles = np.linspace(0, 2 * np.pi, 97)
    circle = sigma * math.sqrt(2) * np.column_stack([np.cos(angles), np.sin(angles)])
    shapes = {}
    for place in ("mode", "middle"):
        noise = np.array(PLACES[place]) + circle
        images = {"noise": noise, "closed form": bayes(sigma)(noise), "learned": learned(noise)}
        shapes[place] = {name: image.T.tolist() for name, image in images.items()}
    return {"sigma": sigma} | shapes


# Sections 2.2 and 2.4: images ---------------------------------------------------------------------


def images(size: Size, data: str | None, quick: bool) -> Results:
    """Both effects on images that no denoiser has seen."""
    name, train, X = digits(size) if quick else mnist(data, size)
    mean = train.mean(axis=0)
    rows = []
    for sigma in (0.3, 0.6, 1.0):
        energy = DEENDenoiser(
            sigma, module="mlp", max_epochs=size.n_image_epochs, random_state=SEED
        )
        denoisers = {
            "learned": energy.fit(train),
            "Parzen": ParzenDenoiser(sigma).fit(train[:10_000]),
        }
        for kind, denoiser in denoisers.items():
            seen = cloud(denoiser.transform, X, sigma, size.n_draws)
            climb = denoiser.energy(seen.centre) - denoiser.energy(X)
            rows.append(
                {
                    "sigma": sigma,
                    "denoiser": kind,
                    "noise": sigma * math.sqrt(X.shape[1]),
                    "spread": math.sqrt(seen.variance.mean()),
                    "contraction": seen.contraction(sigma),
                    "slide": math.sqrt(max(seen.slide.mean(), 0.0)),
                    "centre": shrinkage(seen.centre, X, mean),
                    "dimension": seen.dimension(),
                    "energy change": float(np.median(climb)),
                    "downhill": (climb < 0).mean(),
                }
            )
    spread = {
        "norm": rms(X),
        "from mean": rms(X - mean),
        "scale": math.sqrt(train.var(axis=0).mean()),
    }
    return {"data": name, "n_features": X.shape[1], **spread, "rows": rows}


def mnist(data: str | None, size: Size) -> tuple[str, FloatArray, FloatArray]:
    train = load_mnist(data).data
    test = load_mnist(data, subset="test").data
    return "MNIST", train.astype(np.float64), test[: size.n_images].astype(np.float64)


def digits(size: Size) -> tuple[str, FloatArray, FloatArray]:
    X = load_digits().data / 16
    return "8 x 8 digits", X[: -size.n_images], X[-size.n_images :]


# Section 4.1: what n draws can certify, and the length of the noise -------------------------------

SPACES = {
    "two features": 2,
    "8 × 8 digits": 64,
    "MNIST": 784,
    "CIFAR-10": 3072,
    "ImageNet": 150_528,
}
ALPHAS = (0.1, 1e-3, 1e-6)


def draws() -> Results:
    """Φ⁻¹(α^{1/n}), the largest radius from n draws, beside √d, the noise's; both in units of σ."""
    n = np.logspace(1, 12, 89).round().astype(np.int64)
    curves = {str(alpha): max_radius(n, 1 - alpha, sigma=1.0).tolist() for alpha in ALPHAS}
    paper = [
        {"n_draws": n_draws, "alpha": alpha, "largest radius": max_radius(n_draws, 1 - alpha, 1.0)}
        for n_draws, alpha in ((10**5, 1e-3), (10**10, 0.1))
    ]
    rows = [
        {
            "space": space,
            "d": d,
            "noise": math.sqrt(d),
            "share at 1e5": max_radius(10**5, 0.999, 1.0) / math.sqrt(d),
            "log10 draws for noise": math.log10(-math.log(1e-3)) - log10_tail(math.sqrt(d)),
        }
        for space, d in SPACES.items()
    ]
    return {"paper": paper, "rows": rows, "curves": {"n_draws": n.tolist()} | curves}


def log10_tail(radius: float) -> float:
    """log10 of -log Φ(radius), about that of 1 - Φ(radius)."""
    log_p = log_ndtr(radius)
    return math.log10(-log_p) if log_p < 0 else log_ndtr(-radius) / math.log(10)


# Section 4.1: certified radius against dimension --------------------------------------------------

SIGMA, RADIUS, THICKNESS = 0.3, 0.25, 0.05
BASES = {
    "neural network": MLPClassifier((64, 64), max_iter=1000, random_state=SEED),
    "RBF SVC": SVC(),
    "nearest neighbour": KNeighborsClassifier(1, algorithm="brute"),
}


KINDS = ("plain", "EB, Parzen", "plain, noisy copies", "EB, learned", "EB, posterior mean")


class Problem(NamedTuple):
    """Two moons in a plane in d dimensions, and what is known about them."""

    X: FloatArray
    y: NDArray[np.int64]
    X_test: FloatArray
    y_test: NDArray[np.int64]
    posterior_mean: Denoise  #: x̂ for the law that the rows were drawn from


def dimension(size: Size) -> Results:
    """Two moons in a random plane in d dimensions, exactly in it or spread around it."""
    rows = []
    for d in size.dimensions:
        flat = [problem(d, 0.0, size, seed) for seed in range(size.n_repeats)]
        thick = [problem(d, THICKNESS, size, seed) for seed in range(size.n_repeats)]
        for base in BASES:
            kinds = KINDS[:3] if base == "neural network" else KINDS[:2]
            rows += certified(flat, base, kinds, {"d": d, "data": "flat"})
        rows += certified(thick, "neural network", KINDS, {"d": d, "data": "thick"})
    return {"sigma": SIGMA, "radius": RADIUS, "thickness": THICKNESS, "rows": rows}


def problem(d: int, thickness: float, size: Size, seed: int) -> Problem:
    """The same moons for every d; `thickness` is their spread in directions off the plane."""
    rng = np.random.default_rng(seed)
    plane = np.linalg.qr(rng.standard_normal((d, 2)))[0].T
    curve, _ = make_moons(400)

    def place(n_rows: int, state: int) -> tuple[FloatArray, NDArray[np.int64]]:
        flat, y = make_moons(n_rows, noise=THICKNESS, random_state=state)
        off = thickness * rng.standard_normal((n_rows, d))
        return flat @ plane + off - off @ plane.T @ plane, y

    def posterior_mean(Y: FloatArray) -> FloatArray:
        flat = Y @ plane.T
        off = gaussian_denoiser(Y - flat @ plane, SIGMA, mean=0.0, scale=thickness)
        return mixture_denoiser(flat, SIGMA, means=curve, scales=THICKNESS) @ plane + off

    X, y = place(500, 2 * seed)
    return Problem(X, y, *place(size.n_certified, 2 * seed + 1), posterior_mean)


def certified(
    problems: list[Problem], name: str, kinds: tuple[str, ...], about: Results
) -> list[Results]:
    """Certified accuracy and radii, 0 where the label is wrong, over the test rows of all."""
    bases = [FrozenEstimator(clone(BASES[name]).fit(given.X, given.y)) for given in problems]
    clean = np.mean([b.score(g.X_test, g.y_test) for b, g in zip(bases, problems, strict=True)])
    rows = []
    for kind in kinds:
        radii = []
        for base, given in zip(bases, problems, strict=True):
            smoother = smoothed(base, given, kind).fit(given.X, given.y)
            certificate = smoother.certify(given.X_test)
            radii += np.where(certificate.certified(given.y_test), certificate.radius, 0).tolist()
        found = {
            "clean base accuracy": clean,
            "certified": np.mean(np.array(radii) >= RADIUS),
            "median radius": np.median(radii),
            "mean radius": np.mean(radii),
        }
        rows.append(about | {"base": name, "smoothing": kind} | found)
    return rows


def smoothed(base: FrozenEstimator, given: Problem, kind: str) -> RandomizedSmoothingClassifier:
    """A smoother of the fitted base, or of one that is fitted on noisy copies instead."""
    settings = {"sigma": SIGMA, "n_certify_draws": 1000, "n_jobs": -1, "random_state": SEED}
    if kind == "plain":
        return RandomizedSmoothingClassifier(base, **settings)
    if kind == "plain, noisy copies":
        return RandomizedSmoothingClassifier(base.estimator, n_augment=5, **settings)
    if kind == "EB, posterior mean":
        behind = make_pipeline(FunctionTransformer(given.posterior_mean), base)
        return RandomizedSmoothingClassifier(behind, **settings)
    denoiser = ParzenDenoiser() if kind == "EB, Parzen" else DEENDenoiser(max_epochs=100)
    return EmpiricalBayesSmoothedClassifier(base, denoiser=denoiser, **settings)


# Figures ------------------------------------------------------------------------------------------


def draw_gaussians(one: Results, two: Results, path: Path) -> None:
    """Remarks 2.1 and 2.2, in four panels."""
    figure, axes = panels(2, 2, (7.2, 5.4))
    draw_shrinkage(axes[0, 0], one["rows"])
    draw_circles(axes[0, 1], two["circles"])
    draw_places(axes[1, 0], two, "centre")
    axes[1, 0].set(ylabel="E x̂ along μ (units of ‖μ‖)", title="Two Gaussians, centre of x̂")
    draw_places(axes[1, 1], two, "along")
    axes[1, 1].axhline(1, color=GREY, linewidth=0.8, linestyle=":")
    axes[1, 1].set(ylabel="spread along μ (units of σ)", title="Two Gaussians, spread of x̂")
    axes[1, 0].legend(frameon=False)
    axes[1, 1].legend([], [], frameon=False, title="lines: closed form\npoints: learned")
    write(figure, path)


def draw_shrinkage(ax: Any, rows: list[Results]) -> None:
    sigma = np.geomspace(0.2, 2.5, 60)
    ax.plot(sigma, 1 / (1 + sigma**2), color="black", label="β (Eq. 7)")
    for d, colour, marker in ((2, BLUE, "o"), (64, RED, "s")):
        mine = [row for row in rows if row["d"] == d]
        style = {"linestyle": "none", "marker": marker, "color": colour}
        hollow = style | {"markerfacecolor": "none", "markersize": 11}
        at = column(mine, "sigma")
        ax.plot(at, column(mine, "contraction"), **style, label=f"spread, d = {d}")
        ax.plot(at, column(mine, "centre"), **hollow, label=f"centre, d = {d}")
    ax.set_xscale("log")
    ax.set_xticks([0.25, 0.5, 1, 2], labels=["¼", "½", "1", "2"])
    ax.minorticks_off()
    ax.set(xlabel="σ / σ₀", ylabel="factor (1: unchanged)", title="One Gaussian, kept by learned x̂")
    ax.legend(frameon=False, fontsize="small")


def draw_circles(ax: Any, shapes: Results) -> None:
    styles = {
        "noise": {"color": GREY, "linestyle": ":"},
        "closed form": {"color": BLUE},
        "learned": {"color": ORANGE, "linestyle": "--"},
    }
    labels = {
        "noise": "radius σ√2",
        "closed form": "x̂, closed form",
        "learned": "x̂, learned",
    }
    for place in ("mode", "middle"):
        for name, style in styles.items():
            ax.plot(*shapes[place][name], **style, label=labels[name] if place == "mode" else None)
    ax.plot(*MODES["means"].T, "k+", markersize=10, label="modes ±μ")
    ax.set_aspect("equal")
    ax.set(xlim=(-3, 4), ylim=(-1.8, 3), xlabel="along μ (σ = 1, ‖μ‖ = 2)", ylabel="across μ")
    ax.set_title("Two Gaussians, x̂ of two circles")
    ax.legend(frameon=False, fontsize="small", ncols=2, loc="upper center")


def draw_places(ax: Any, two: Results, what: str) -> None:
    names = {"mode": "x = μ", "halfway": "x = μ/2", "middle": "x = 0"}
    styles = ((BLUE, "-", "o"), (RED, "--", "s"), (GREEN, "-.", "^"))
    for (place, name), (colour, line, marker) in zip(names.items(), styles, strict=True):
        mine = [r for r in two["rows"] if r["place"] == place and r["denoiser"] == "learned"]
        curve = np.array(two["curves"]["sigma"]) / 2, two["curves"][place][what]
        ax.plot(*curve, color=colour, linestyle=line, label=name)
        at = np.array(column(mine, "sigma")) / 2
        ax.plot(at, column(mine, what), marker, color=colour)
    ax.set_xscale("log")
    ax.set_xlabel("σ / ‖μ‖")


def draw_images(results: Results, path: Path) -> None:
    """Sections 2.2 and 2.4 on images."""
    figure, (left, right) = panels(1, 2, (8, 3.6))
    styles = {"learned": (BLUE, "-", "o"), "Parzen": (RED, "--", "s")}
    for kind, (colour, line, marker) in styles.items():
        mine = [row for row in results["rows"] if row["denoiser"] == kind]
        sigma = column(mine, "sigma")
        style = {"color": colour, "linestyle": line, "marker": marker}
        hollow = style | {"markerfacecolor": "white"}
        left.plot(sigma, column(mine, "centre"), **hollow, label=f"centre, {kind}")
        left.plot(sigma, column(mine, "contraction"), **style, label=f"spread, {kind}")
        right.plot(sigma, column(mine, "dimension"), **style, label=kind)
    grid, d = np.linspace(0.3, 1, 30), results["n_features"]
    beta = 1 / (1 + (grid / results["scale"]) ** 2)
    left.plot(grid, beta, color=GREY, linestyle=":", label="both, if it were Gaussian")
    left.set(ylim=(0, 1), ylabel="factor (1: unchanged)", title=f"{results['data']}, kept by x̂")
    right.axhline(d, color=GREY, linestyle=":", label=f"noise: {d}")
    right.set(ylim=(1, 2 * d), yscale="log", ylabel="effective dimension")
    right.set_title(f"{results['data']}, shape of x̂(x + ε)")
    for ax, place in ((left, "best"), (right, "lower right")):
        ax.set_xlabel("σ (pixels in [0, 1])")
        ax.legend(frameon=False, fontsize="small", loc=place, handlelength=3.5)
    write(figure, path)


def draw_draws(results: Results, path: Path) -> None:
    """Section 4.1, the largest radius."""
    figure, ax = panels(1, 1, (6.5, 4))
    for alpha, colour, line in zip(ALPHAS, (BLUE, RED, GREEN), ("-", "--", "-."), strict=True):
        n, limit = (np.array(results["curves"][name]) for name in ("n_draws", str(alpha)))
        kept, exponent = limit > 0, round(math.log10(alpha))
        ax.plot(
            n[kept],
            limit[kept],
            color=colour,
            linestyle=line,
            label=f"radius, α = $10^{{{exponent}}}$",
        )
    for row in results["rows"]:
        ax.axhline(row["noise"], color=GREY, linestyle=":", linewidth=1)
        label = f"{row['space']}, d = {row['d']:,}"
        ax.text(1.3e12, row["noise"], label, va="bottom", ha="right", fontsize="small")
    ax.set(xscale="log", yscale="log", xlim=(10, 1.5e12), ylim=(0.2, 900))
    ax.set(xlabel="draws n", ylabel="length (units of σ)")
    ax.set_title("The largest radius from n draws, and the length σ√d of the noise")
    ax.legend(frameon=False, fontsize="small", loc="lower right", handlelength=3.5)
    write(figure, path)


def draw_dimension(results: Results, path: Path) -> None:
    """Section 4.1, certified accuracy against dimension."""
    figure, (left, right) = panels(1, 2, (8.5, 4), sharey=True)
    lines = {"plain": "--", "plain, noisy copies": ":", "EB, Parzen": "-"}
    for base, colour, marker in zip(BASES, (BLUE, RED, GREEN), "os^", strict=True):
        for kind, line in lines.items():
            chosen = {"data": "flat", "base": base, "smoothing": kind}
            style = {"color": colour, "marker": marker, "linestyle": line}
            draw_accuracy(left, results, chosen, style | {"label": f"{base}: {kind}"})
    networks = {kind: (BLUE, "o", line) for kind, line in lines.items()}
    others = {"EB, learned": (ORANGE, "D", "-."), "EB, posterior mean": ("black", "x", "-")}
    for kind, (colour, marker, line) in (networks | others).items():
        chosen = {"data": "thick", "base": "neural network", "smoothing": kind}
        style = {"color": colour, "marker": marker, "linestyle": line}
        draw_accuracy(right, results, chosen, style | {"label": kind})
    left.set(ylabel=f"certified accuracy at {RADIUS} (%)", title="In a plane")
    right.set_title(f"Spread by {THICKNESS} off the plane, neural network")
    for ax in (left, right):
        ax.set(xlabel="dimension d", ylim=(0, 100))
        ax.legend(frameon=False, fontsize="small", loc="lower left", handlelength=3.5)
    write(figure, path)


def draw_accuracy(ax: Any, results: Results, chosen: Results, style: Results) -> None:
    mine = [row for row in results["rows"] if chosen.items() <= row.items()]
    if mine:
        d = column(mine, "d")
        ax.plot(d, 100 * np.array(column(mine, "certified")), **style)
        ax.set_xscale("log", base=2)
        ax.set_xticks(d, labels=d)


def column(rows: list[Results], name: str) -> list[Any]:
    return [row[name] for row in rows]


def panels(n_rows: int, n_columns: int, size: tuple[float, float], **settings: Any) -> Any:
    """A figure and its axes."""
    import matplotlib.pyplot as plt

    return plt.subplots(n_rows, n_columns, figsize=size, layout="constrained", **settings)


def write(figure: Any, path: Path) -> None:
    """The figure as a small file, with a palette."""
    from PIL import Image

    pixels = BytesIO()
    figure.savefig(pixels, dpi=150)
    Image.open(pixels).convert("RGB").quantize(128).save(path, optimize=True)


# The program --------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("--data", help="folder of MNIST; default: $SMOOTHLEARN_DATA, or download")
    parser.add_argument("--out", type=Path, help="folder for numbers and figures")
    parser.add_argument("--quick", action="store_true", help="little of everything, no MNIST")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # more make these small networks slower on a busy machine
    if arguments.quick and arguments.out is None:
        parser.error("--quick needs --out, or it would replace the numbers of the full run")
    size = QUICK if arguments.quick else FULL
    parts: dict[str, Callable[[], Results]] = {
        "one gaussian": lambda: one_gaussian(size),
        "two gaussians": lambda: two_gaussians(size),
        "images": lambda: images(size, arguments.data, arguments.quick),
        "draws": draws,
        "dimension": lambda: dimension(size),
    }
    results: Results = {
        "provenance": provenance(SEED) | {"seconds": {}},
        "size": size._asdict(),
    }
    for name, measure in parts.items():
        start = time.perf_counter()
        results[name] = tidy(measure())
        results["provenance"]["seconds"][name] = round(time.perf_counter() - start, 1)
        report(name, results[name], results["provenance"]["seconds"][name])
    save(results, arguments.out)


def save(results: Results, out: Path | None) -> None:
    """Numbers and figures into one folder, or each to its place in the repository."""
    numbers = out or REPOSITORY / "benchmarks" / "results"
    pictures = out or REPOSITORY / "docs" / "images"
    for folder in (numbers, pictures):
        folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=1, ensure_ascii=False)
    text = re.sub(r"[\[{][^\[\]{}]*[\]}]", lambda found: " ".join(found[0].split()), text)
    (numbers / "remarks.json").write_text(text + "\n", encoding="utf-8")
    one, two = results["one gaussian"], results["two gaussians"]
    draw_gaussians(one, two, pictures / "remark_gaussians.png")
    draw_images(results["images"], pictures / "remark_images.png")
    draw_draws(results["draws"], pictures / "remark_draws.png")
    draw_dimension(results["dimension"], pictures / "remark_dimension.png")


def tidy(value: Any) -> Any:
    """The same with four digits, in types that JSON knows."""
    if isinstance(value, dict):
        return {name: tidy(item) for name, item in value.items()}
    if isinstance(value, list):
        return [tidy(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def report(name: str, part: Results, seconds: float) -> None:
    """The tables of a part, on the console."""
    print(f"\n{name}, {seconds:.0f} s")
    for rows in part.values():
        if isinstance(rows, list) and rows and isinstance(rows[0], dict):
            lines = [list(rows[0]), *(map(str, row.values()) for row in rows)]
            columns = [list(cells) for cells in zip(*lines, strict=True)]
            widths = [max(map(len, cells)) for cells in columns]
            for line in zip(*columns, strict=True):
                print("  ".join(cell.rjust(n) for cell, n in zip(line, widths, strict=True)))


if __name__ == "__main__":
    main()
