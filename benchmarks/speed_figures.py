"""The figure of certification speed, from the results."""

import matplotlib.pyplot as plt

#: Colour, pattern and name of everyone that is drawn.
STYLES = {
    "toolbox": ("#D55E00", "", "Adversarial Robustness Toolbox, default batch"),
    "reference": ("#E69F00", "//", "scripts of Cohen et al., batch 400"),
    "unprojected": ("#009E73", "..", "this package, noise not projected"),
    "limit": ("#555555", "xx", "noise and forward passes alone"),
}


MODELS = {"linear": ("#0072B2", "o-"), "MLP": ("#D55E00", "s--"), "CNN": ("#009E73", "^:")}


def draw(report: dict) -> plt.Figure:
    """Seconds of the others over those of this package: bars of medians, lines of all rounds."""
    models = report["models"]
    shown = [name for name in STYLES if any(name in one["times"] for one in models.values())]
    figure, ax = plt.subplots(figsize=(8, 4.4), layout="constrained")
    width = 0.8 / len(shown)
    for place, name in enumerate(shown):
        colour, hatch, label = STYLES[name]
        ratios = [(i, one["times"].get(name)) for i, one in enumerate(models.values())]
        at = [i + width * (place - (len(shown) - 1) / 2) for i, one in ratios if one]
        found = [one["ratio"] for _, one in ratios if one]
        rises = [ratio["median"] - 1 for ratio in found]
        ax.bar(at, rises, width, 1, color=colour, hatch=hatch, edgecolor="white", label=label)
        for x, ratio in zip(at, found, strict=True):
            _mark(ax, x, **ratio)
    ax.axhline(1, color="#0072B2", linewidth=2, label="this package")
    ax.set(yscale="log", ylabel="seconds, times those of this package")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.margins(y=0.12)
    ax.set_xticks(range(len(models)), models)
    ax.set_title(f"Certificates of {report['data']}, {report['setting']['draws']:,} draws each")
    ax.legend(fontsize="small")
    return figure


def _mark(ax: plt.Axes, x: float, median: float, least: float, most: float) -> None:
    """The range over the rounds, and the median as a number at its far end."""
    ax.plot([x, x], [least, most], color="black", linewidth=1)
    end, shift, side = (most, 3, "bottom") if median >= 1 else (least, -3, "top")
    number = f"{median:.0f}" if median >= 10 else f"{median:.2g}"
    ax.annotate(
        number, (x, end), (0, shift), va=side, ha="center", textcoords="offset points", fontsize=9
    )


def draw_scaling(report: dict) -> plt.Figure:
    """Seconds of an input against draws, rows and features."""
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.4), sharey=True, layout="constrained")
    about = {"draws": "draws", "rows": "rows, 1,000 draws each", "features": "features"}
    for ax, (what, label) in zip(axes, about.items(), strict=True):
        for model, (colour, marker) in MODELS.items():
            rows = [row for row in report[what] if row["model"] == model]
            seconds = [row["seconds_per_input"]["median"] for row in rows]
            if rows:
                ax.plot([row[what] for row in rows], seconds, marker, color=colour, label=model)
        sizes = sorted({row[what] for row in report[what]})
        ax.set(xscale="log", yscale="log", xlabel=label)
        ax.set_xticks(sizes, [f"{size:,}" for size in sizes], fontsize="small")
        ax.set_xticks([], minor=True)
    axes[0].set_ylabel("seconds of an input, one thread")
    axes[0].yaxis.set_major_formatter("{x:g}")
    axes[0].legend(fontsize="small")
    return figure
