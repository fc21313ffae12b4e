"""Figures of locally biased smoothing of networks, from the numbers of a results file."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

BLUE, ORANGE, RED, GREEN = "#0072B2", "#E69F00", "#D55E00", "#009E73"
GREY = "#555555"
LINES = {"base": "-", "adaptive": "--"}
METHODS = {
    "base": (GREY, "the network itself"),
    "normal smoothing": (ORANGE, "normal smoothing"),
    "locally biased, logit": (BLUE, "locally biased"),
    "1-NN": (GREEN, "1-NN of the bias points"),
}
#: Thick lines, for others to be seen on top of them.
UNDER = {
    "base": {"linewidth": 5, "alpha": 0.4, "zorder": 1},
    "1-NN": {"linewidth": 4, "alpha": 0.5, "zorder": 1},
}


def draw(results: dict, folder: Path, stem: str) -> None:
    figures = {f"levels_{name.lower()}": draw_levels(results, name) for name in results["nets"]}
    figures["reach"] = draw_reach(results)
    figures["certified"] = draw_certified(results)
    for name, figure in figures.items():
        figure.savefig(folder / f"{stem}_{name}.png", dpi=110)
        plt.close(figure)


def select(curves: list[dict], **wanted: Any) -> list[dict]:
    return [curve for curve in curves if wanted.items() <= curve.items()]


def percent(shares: list[float]) -> np.ndarray:
    return 100 * np.asarray(shares)


def draw_levels(results: dict, name: str) -> plt.Figure:
    """Figure 3: accuracy against sigma or alpha, for one network."""
    sweep = results["nets"][name]["sweep"]
    numbers = sorted({curve["n_bias"] for curve in sweep if curve["n_bias"]})
    figure, axes = plt.subplots(2, 3, figsize=(11, 6.4), sharey=True, layout="constrained")
    key = axes[1, 0]
    draw_panel(axes[0, 0], select(sweep, method="normal smoothing"), [])
    axes[0, 0].set_title("Normal smoothing", fontsize="medium")
    axes[0, 0].set_xlabel("σ (pixels in [0, 1])")
    for row, link in zip(axes, ("logit", "probability"), strict=True):
        for ax, n in zip(row[1:], numbers, strict=True):
            nearest = select(sweep, method="1-NN", n_bias=n)
            draw_panel(ax, select(sweep, method=f"locally biased, {link}", n_bias=n), nearest)
            ax.set_title(f"Locally biased ({link}), N = {n:,}", fontsize="medium")
            ax.set_xlabel("α (pixels in [0, 1])" if link == "logit" else "α")
    for ax in (axes[0, 0], axes[1, 1]):
        ax.set_ylabel("accuracy (%)")
    axes[1, 1].tick_params(labelleft=True)
    handles, labels = axes[0, 1].get_legend_handles_labels()
    key.axis("off")
    key.legend(handles, labels, loc="center", frameon=False)
    figure.suptitle(f"{results['data']}: CNN with {name}, ℓ2 attacks")
    return figure


def draw_panel(ax: Any, curves: list[dict], nearest: list[dict]) -> None:
    """Accuracy without and with attacks, and as horizontal lines that of 1-NN."""
    radii = sorted({curve["radius"] for curve in curves})
    for radius, colour, size in zip(radii, (BLUE, ORANGE, RED), (10, 7.5, 5), strict=True):
        for attack, line in LINES.items():
            if not radius and attack == "adaptive":
                continue
            about = {"radius": radius, "attack": attack}
            label = f"ε = {radius:g}, " + ("base attacked" if attack == "base" else "adaptive")
            style = {"color": colour, "linestyle": line}
            label = label if radius else "clean"
            for curve in select(curves, **about):
                level = curve["level"]
                ax.plot(level, percent(curve["accuracy"]), **style, label=label, marker=".")
                if level[-1] > 1:
                    ax.set_xscale("symlog", linthresh=level[1], linscale=0.5)
            for curve in select(nearest, **about):
                ax.plot(
                    1.0,
                    percent(curve["accuracy"])[0],
                    color=colour,
                    marker="o" if attack == "base" else "s",
                    markerfacecolor=colour if attack == "base" else "white",
                    markersize=size,
                    linestyle="none",
                    clip_on=False,
                    transform=ax.get_yaxis_transform(),
                    label=f"1-NN, {label}",
                    zorder=3,
                )
    ax.set_ylim(0, 100)
    ax.grid(alpha=0.3)


def draw_reach(results: dict) -> plt.Figure:
    """Figure 4: accuracy against the radius of the attack."""
    curves = results["nets"]["ReLU"]["reach"]
    numbers = sorted({curve["n_bias"] for curve in curves if curve["n_bias"]})
    figure, axes = plt.subplots(2, 2, figsize=(9, 6.8), sharey=True, layout="constrained")
    for row, (norm, symbol) in zip(axes, {"2": "ℓ2", "inf": "ℓ∞"}.items(), strict=True):
        for ax, n in zip(row, numbers, strict=True):
            shown = [c for c in select(curves, norm=norm) if c["n_bias"] in (None, n)]
            draw_methods(ax, results["reach_radii"][norm], shown)
            ax.set(title=f"{symbol} attacks, N = {n:,}", xlabel=f"{symbol} radius ε of the attack")
        row[0].set_ylabel("accuracy (%)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    chosen = "levels of smoothing chosen on validation images under attacks of the same kind"
    figure.suptitle(f"{results['data']}: CNN with ReLU,\n{chosen}", fontsize="medium")
    return figure


def draw_methods(ax: Any, radii: list[float], curves: list[dict]) -> None:
    for curve in curves:
        colour, label = METHODS[curve["method"]]
        adaptive = curve["attack"] == "adaptive"
        style = {"color": colour, "linestyle": LINES[curve["attack"]]}
        style |= UNDER.get(curve["method"], {})
        label += ", adaptive attack" if adaptive else ""
        ax.plot(radii, percent(curve["accuracy"]), label=label, **style)
    ax.set_ylim(0, 100)
    ax.grid(alpha=0.3)


def draw_certified(results: dict) -> plt.Figure:
    """Certified accuracy against the radius, of bases with little and much curvature."""
    figure, ax = plt.subplots(figsize=(9.5, 4.6), layout="constrained")
    bases = list(dict.fromkeys(row["base"] for row in results["certificates"]))
    for base, colour in zip(bases, (BLUE, RED, GREEN), strict=True):
        rows = select(results["certificates"], base=base)
        best = max(row["alpha"] for row in rows)
        for row in rows:
            if row["radius"] == "paper" and row["alpha"] != best:
                continue
            line = {"paper": ":"}.get(row["radius"], "-" if row["alpha"] == best else "--")
            what = f"α = {row['alpha']:g}" + (", paper's radius" if line == ":" else "")
            ax.plot(
                results["certified_radii"],
                percent(row["accuracy"]),
                color=colour,
                linestyle=line,
                label=f"{base}, {what}",
            )
    ax.set(xscale="log", xlim=(1e-3, 5), ylim=(0, 100), xlabel="ℓ2 radius (pixels in [0, 1])")
    ax.set_ylabel("certified accuracy (%)")
    ax.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    n = results["certificates"][0]["n_bias"]
    ax.set_title(f"{results['data']}: certificates, N = {n:,}", fontsize="medium")
    return figure
