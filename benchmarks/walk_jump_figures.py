"""Figures of what lies beyond the Bayes estimator, from the results."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

#: One colour for every σ'.
COLOURS = {0.05: "#56B4E9", 0.1: "#0072B2", 0.2: "#009E73", 0.3: "#E69F00", 0.5: "#D55E00"}
GREY = "#555555"
METHODS = {
    "Bayes": ("#0072B2", "-", "Bayes estimator"),
    "walk 10": ("#E69F00", ":", "walk of 10 steps, jump"),
    "walk 50": ("#D55E00", "--", "walk of 50 steps, jump"),
    "attractor": ("#009E73", "-.", "attractor"),
}
#: The panels of certified accuracy: report, energy, base, σ'.
PANELS = (
    ("walk_jump", "DEEN", "linear", 0.1),
    ("walk_jump", "Parzen", "linear", 0.1),
    ("walk_jump_mnist", "DEEN", "linear", 0.2),
)


def draw_all(results: Path, pictures: dict[str, Any], images: Path) -> None:
    """All figures that the reports in a folder are enough for."""
    reports = {
        name: json.loads((results / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("walk_jump", "walk_jump_mnist")
        if (results / f"{name}.json").exists()
    }
    figures = {"accuracy": draw_accuracy(reports)}
    if "walk_jump" in reports:
        figures["mixing"] = draw_mixing(reports)
    if "strip" in pictures:
        figures["images"] = draw_strip(pictures["strip"])
    images.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(images / f"walk_jump_{name}.png", dpi=110)


def draw_mixing(reports: dict[str, Any]) -> plt.Figure:
    """Squared error and change of class, against the length of the walk."""
    figure, axes = plt.subplots(2, 2, figsize=(8.6, 7), layout="constrained")
    axes = axes.ravel()
    _draw_mixture(axes[0], axes[1], reports["walk_jump"]["mixture"])
    for ax, report in zip(axes[2:], reports.values(), strict=False):
        _draw_images(ax, report)
    for ax in axes[2 + len(reports) :]:
        ax.remove()
    for ax in axes[: 2 + len(reports)]:
        ax.set(xscale="log", xlabel="length of the walk hτ/σ'²")
        if ax is not axes[0]:
            ax.set_ylabel("jumps in another class than x̂ (%)")
    return figure


def _draw_mixture(left: plt.Axes, right: plt.Axes, one: dict[str, Any]) -> None:
    walked = [row for row in one["rows"] if row["length"]]
    for sigma, rows in _by_sigma(walked):
        length = [row["length"] for row in rows]
        left.plot(length, [row["error"] for row in rows], ".-", color=COLOURS[sigma])
        changed = [100 * row["changed"] for row in rows]
        label = f"σ' = {sigma}, modes {2 / sigma:.0f} σ' apart"
        right.plot(length, changed, ".-", color=COLOURS[sigma], label=label)
    ends = {row["error_mixed"] for row in walked}
    lines = {
        "a walk that has mixed": (sum(ends) / len(ends), ":", "bottom"),
        "X given y": (one["posterior_draw_error"], "--", "bottom"),
        "the Bayes estimator": (one["bayes_error"], "-", "top"),
    }
    for name, (height, style, side) in lines.items():
        left.axhline(height, color=GREY, linestyle=style, linewidth=1, zorder=0)
        shift = 0.03 if side == "bottom" else -0.03
        left.text(0.17, height + shift, name, color=GREY, fontsize="small", va=side)
    left.set(ylim=(0, 2.35), ylabel="squared error to x", title="Mixture, closed form")
    right.axhline(50, color=GREY, linestyle=":", linewidth=1)
    right.set(ylim=(0, 75), title="Mixture, closed form")
    right.legend(loc="upper left", fontsize="x-small")


def _draw_images(ax: plt.Axes, report: dict[str, Any]) -> None:
    for energy, style in (("DEEN", "-"), ("Parzen", "--")):
        name = "learned" if energy == "DEEN" else energy
        walked = [r for r in report["walks"] if r["energy"] == energy and r.get("length")]
        for sigma, rows in _by_sigma(walked):
            length, changed = ([row[key] for row in rows] for key in ("length", "changed"))
            label = f"{name}, σ' = {sigma}"
            ax.plot(length, changed, "." + style, color=COLOURS[sigma], label=label)
    ax.set(ylim=(0, 135), yticks=range(0, 101, 20), title=f"{_name(report)}, σ = {report['sigma']}")
    ax.legend(loc="upper left", fontsize="x-small", ncols=2, handlelength=3)


def _name(report: dict[str, Any]) -> str:
    return "MNIST" if report["data"] == "MNIST" else "Digits"


def draw_accuracy(reports: dict[str, Any]) -> plt.Figure:
    """Certified accuracy against the radius."""
    panels = [panel for panel in PANELS if panel[0] in reports]
    figure, axes = plt.subplots(
        1, len(panels), figsize=(3.7 * len(panels), 3.7), sharey=True, layout="constrained"
    )
    for ax, (name, energy, base, sigma) in zip(np.atleast_1d(axes), panels, strict=True):
        report = reports[name]
        for row in report["certified"]:
            if (row["energy"], row["base"]) != (energy, base):
                continue
            method = row["method"].split(",")[0]
            if method in METHODS and row.get("walk_sigma", sigma) == sigma:
                colour, style, label = METHODS[method]
                grid = np.linspace(0, max(1.05, max(row["radius"])), 400)
                share = [100 * np.mean(np.array(row["radius"]) >= r) for r in grid]
                ax.plot(grid, share, color=colour, linestyle=style, label=label)
        title = "learned energy" if energy == "DEEN" else energy
        about = f"{_name(report)}, {title}, σ = {report['sigma']}, σ' = {sigma}"
        ax.set_title(about, fontsize=9)
        ax.set(xlabel="ℓ2 radius (pixels in [0, 1])", ylim=(0, 100))
    first = np.atleast_1d(axes)[0]
    first.set_ylabel("certified accuracy (%)")
    first.legend(fontsize="small")
    return figure


def draw_strip(rows: dict[str, np.ndarray]) -> plt.Figure:
    """One image, noisy copies of it, and what becomes of them."""
    figure, axes = plt.subplots(len(rows), 8, figsize=(7, 0.8 * len(rows)), layout="constrained")
    for line, (label, images) in zip(axes, rows.items(), strict=True):
        for ax, pixels in zip(line, images, strict=True):
            side = round(len(pixels) ** 0.5)
            ax.imshow(pixels.reshape(side, side), cmap="gray", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize="small")
    return figure


def _by_sigma(rows: list[dict]) -> Iterator[tuple[float, list[dict]]]:
    for sigma in sorted({row["walk_sigma"] for row in rows}):
        yield sigma, [row for row in rows if row["walk_sigma"] == sigma]
