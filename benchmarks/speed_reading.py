"""What the seconds and the radii of the rounds say."""

import numpy as np
from scipy.stats import hypergeom, norm
from speed_peers import Certified

Seconds = dict[int, list[float]]
#: How improbable a difference in votes must be, were the probabilities the same, to stop the run.
TOO_IMPROBABLE = 1e-9
#: Shares of votes that no selection on 100 draws misses.
CLEARLY_SELECTED = 0.85
OTHERS = ("toolbox", "reference", "unprojected")


def best(seconds: Seconds) -> tuple[int, list[float]]:
    """The number of threads with the smallest median, and its rounds."""
    threads = min(seconds, key=lambda n: np.median(seconds[n]))
    return threads, seconds[threads]


def spread(values: list[float] | np.ndarray) -> dict[str, float]:
    return {
        "median": float(np.median(values)),
        "least": float(np.min(values)),
        "most": float(np.max(values)),
    }


def read_times(seconds: dict[str, Seconds], n_rows: int) -> dict:
    """Seconds of an input of everyone at their best, and how many times those of ours they are."""
    chosen = {name: best(one) for name, one in seconds.items()}
    mine = np.array(chosen["smoothlearn"][1])
    return {
        name: {
            "threads": threads,
            "seconds_per_input": spread(np.array(rounds) / n_rows),
            "ratio": spread(np.array(rounds) / mine),
            "seconds_of_all": {str(n): rounds for n, rounds in seconds[name].items()},
        }
        for name, (threads, rounds) in chosen.items()
    }


def share_of_limit(times: dict) -> dict[str, float]:
    """Samples a second of our engine without projection, in percent of what could be."""
    limit, plain = (times[name] for name in ("limit", "unprojected"))
    of_all = (one["seconds_of_all"][str(one["threads"])] for one in (limit, plain))
    return spread(100 * np.divide(*of_all))


def agreement(name: str, mine: Certified, other: Certified, n_draws: int) -> dict:
    """Whether the votes of another are such as the probabilities behind ours give.

    Given the sum of two numbers of votes for one label, the first is hypergeometric if the
    probabilities are the same. Where the other abstains, ours must not be far more than its bound,
    unless its selection may have named another label than ours.

    Raises
    ------
    RuntimeError
        If they are not, or two labels differ.
    """
    both = mine.votes + other.votes
    law = hypergeom(2 * n_draws, both, n_draws)
    above, below = law.sf(mine.votes - 1), law.cdf(mine.votes)
    p_value = np.where(other.abstained, above, np.minimum(1, 2 * np.minimum(above, below)))
    p_value[other.abstained & (mine.votes < CLEARLY_SELECTED * n_draws)] = 1.0
    seen = ~(other.abstained | mine.abstained)
    variance = (both * (1 - both / (2 * n_draws)))[seen].sum()
    shift = (mine.votes - other.votes)[seen].sum() / np.sqrt(max(variance, 1.0))
    for row in np.flatnonzero((p_value < TOO_IMPROBABLE) | (seen & (mine.label != other.label))):
        raise RuntimeError(
            f"{name} does not certify the same classifier: row {row} has label {mine.label[row]} "
            f"with {mine.votes[row]} of {n_draws} votes here and {other.label[row]} with "
            f"{other.votes[row]} there (p = {p_value[row]:.1g})"
        )
    if abs(shift) > norm.isf(TOO_IMPROBABLE / 2):
        raise RuntimeError(f"{name}: the votes of all rows are {shift:.1f} deviations from ours")
    return {
        "rows": len(both),
        "abstained_here_there": [int(mine.abstained.sum()), int(other.abstained.sum())],
        "least_p_value": float(p_value.min()),
        "deviations_of_all_votes": float(shift),
        "mean_radius_here_there": [float(mine.radius.mean()), float(other.radius.mean())],
    }


def tables(report: dict) -> str:
    """Two tables of reStructuredText: how many times our seconds others take, and decisions."""
    lines = _row("", "seconds of an input", *(f"times, {name}" for name in OTHERS), "limit")
    for model, found in report["models"].items():
        times = found["times"]
        ours = f"{1000 * times['smoothlearn']['seconds_per_input']['median']:.3g} ms"
        others = [_times(times[name]["ratio"]) if name in times else "" for name in OTHERS]
        lines += _row(model, ours, *others, f"{found['percent_of_limit']['median']:.0f} %")
    lines += ["", *_row("a decision", "draws on average", "percent of all", "certified, percent")]
    for one in report["decisions"]:
        share = 100 * one["mean_draws"] / one["fixed_draws"]
        certified = f"{100 * one['certified_accuracy']:.1f}"
        if "certified_accuracy_fixed" in one:
            certified += f" (with all draws {100 * one['certified_accuracy_fixed']:.1f})"
        lines += _row(one["model"], f"{one['mean_draws']:,.0f}", f"{share:.2g}", certified)
    return "\n".join([*lines, "", *report["notes"]])


def _times(ratio: dict[str, float]) -> str:
    return "{:.3g} ({:.3g} to {:.3g})".format(*(ratio[key] for key in ("median", "least", "most")))


def _row(*cells: str) -> list[str]:
    return [f"   {' ' if i else '*'} - {cell}".rstrip() for i, cell in enumerate(cells)]
