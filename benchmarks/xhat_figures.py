"""Figures of the study of XHAT, from its results: the corners, and fewer draws."""

import matplotlib.pyplot as plt
from xhat_reading import certificate, labels_of

from smoothlearn import CertifiedAccuracyDisplay

STYLES = {
    "Gaussian augmentation": ("#E69F00", ":"),
    "SmoothAdv": ("#D55E00", "--"),
    "XHAT₀": ("#56B4E9", "-."),
    "XHAT_ε": ("#0072B2", "-"),
}
SHADES = ("#9ecae1", "#4a98c9", "#1764ab", "#08306b")


def draw_corners(found: dict, draws: dict[str, list[int]]) -> plt.Figure:
    """Figure 5 (a, b): certified accuracy of the corners, one panel for every sigma."""
    sigmas = sorted({votes["sigma"] for votes in found["votes"]})
    figure, axes = _panels(sigmas)
    for ax, sigma in zip(axes, sigmas, strict=True):
        for votes in found["votes"]:
            if votes["sigma"] == sigma:
                colour, style = STYLES[votes["method"]]
                CertifiedAccuracyDisplay.from_certificate(
                    certificate(found, votes, draws),
                    labels_of(found, votes),
                    name=votes["method"],
                    ax=ax,
                    color=colour,
                    linestyle=style,
                )
        _finish(ax, axes, f"σ = {sigma}")
    return figure


def draw_draws(found: dict, draws: dict[str, list[int]]) -> plt.Figure:
    """Figure 5 (c, d): XHAT_ε with fewer draws, from the same votes."""
    ours = [votes for votes in found["votes"] if votes["method"] == "XHAT_ε"]
    figure, axes = _panels([votes["sigma"] for votes in ours])
    for ax, votes in zip(axes, ours, strict=True):
        first, second = draws[str(votes["sigma"])]
        for n, colour in zip((first // 20, first // 4, first, 0), SHADES, strict=True):
            CertifiedAccuracyDisplay.from_certificate(
                certificate(found, votes, draws, n),
                labels_of(found, votes),
                name=f"{n:,} draws" if n else f"{first:,}, then {second:,} in all",
                ax=ax,
                color=colour,
            )
        _finish(ax, axes, f"XHAT_ε, σ = {votes['sigma']}")
    return figure


def _panels(of: list[float]) -> tuple[plt.Figure, list[plt.Axes]]:
    figure, axes = plt.subplots(
        1, len(of), figsize=(4 * len(of), 3.6), sharey=True, layout="constrained", squeeze=False
    )
    return figure, list(axes[0])


def _finish(ax: plt.Axes, axes: list[plt.Axes], title: str) -> None:
    ax.set_title(title)
    ax.set_xlabel("ℓ2 radius (pixels in [0, 1])")
    ax.legend(loc="lower left", fontsize="small")
    if ax is not axes[0]:
        ax.set_ylabel("")
