"""What the votes behind denoisers say: certified accuracy, paired tests, cost."""

from typing import Any

import numpy as np
from scipy.stats import binomtest

from smoothlearn import Certificate
from smoothlearn.theory.binomial import lower_bound, upper_bound


def certified(task: Any, kind: str, found: dict[str, dict], votes: dict[str, dict]) -> list[dict]:
    """One row for every method and base, beside the Bayes estimator on the same noise.

    The p-values are those of exact McNemar tests, two-sided and not corrected for their number.
    """
    y = task.y_test[: task.images]
    bayes_seconds = np.median(votes["seconds"]["Bayes"])
    rows = []
    for name, about in found.items():
        settings = {key: value for key, value in about.items() if key != "denoiser"}
        seconds = np.median(votes["seconds"][name])
        for base, counts in votes["counts"][name].items():
            mine = _certificate(task, counts)
            bayes = _certificate(task, votes["counts"]["Bayes"][base])
            rows.append(
                {
                    "energy": kind,
                    "base": base,
                    "method": name,
                    **settings,
                    "seconds_per_1000_draws": seconds,
                    "cost": seconds / bayes_seconds,
                    "average_radius": mine.average_radius(y),
                    "at": [_at(mine, bayes, y, radius) for radius in (0.0, *task.radii)],
                    "radius": np.where(mine.certified(y), mine.radius, -1).tolist(),
                }
            )
    return rows


def _certificate(task: Any, counts: np.ndarray) -> Certificate:
    return Certificate.from_votes(
        counts[:, 1],
        winner=counts[:, 0].argmax(axis=1),
        classes=np.arange(counts.shape[2]),
        sigma=task.sigma,
        confidence_level=0.999,
        n_features=task.X.shape[1],
    )


def _at(mine: Certificate, bayes: Certificate, y: np.ndarray, radius: float) -> dict[str, Any]:
    """Certified accuracy in percent at a radius, and whom it is right on that Bayes is not."""
    ours, theirs = (one.certified(y) & (one.radius >= radius) for one in (mine, bayes))
    k, n = int(ours.sum()), len(y)
    gained, lost = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return {
        "radius": radius,
        "accuracy": 100 * k / n,
        "interval": [100 * float(bound(k, n, 0.025)) for bound in (lower_bound, upper_bound)],
        "gained": gained,
        "lost": lost,
        "p_value": float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0,
    }
