"""What the votes of the study of XHAT say: certificates, tables, tests."""

from pathlib import Path
from typing import Any

import joblib
import numpy as np
from scipy.stats import binomtest
from xhat_stages import CORNERS, SEED, Study, rows_of

from smoothlearn import Certificate
from smoothlearn.theory.binomial import lower_bound, upper_bound

CONFIDENCE_LEVEL = 0.999
#: More than rounding to single precision moves an image of pixels in [0, 1].
_ROUNDING = 1e-5


def collect(study: Study, kept: Path) -> dict:
    """All that the stages kept but weights, as lists and numbers."""
    X, _, _, y = rows_of(study)
    votes, trained = [], []
    for sigma, corners in sorted(study.corners.items()):
        for corner in corners:
            network = joblib.load(kept / study.name("network", sigma, corner))
            last = network["classifier"].history_[-1]
            trained.append({"method": corner, "sigma": sigma, **last, "fit": network["seconds"]})
            blocks = [
                joblib.load(kept / study.name("votes", sigma, corner, block))
                for block in study.blocks_for(corner)
            ]
            parts = {
                name: np.concatenate([block[name] for block in blocks])
                for name in ("images", "label", "fixed", "two_stage")
            }
            votes.append(
                {
                    "method": corner,
                    "sigma": sigma,
                    "seconds": sum(block["seconds"] for block in blocks),
                    **{name: part.tolist() for name, part in parts.items()},
                }
            )
    energies = []
    for sigma in sorted(study.corners):
        energy = joblib.load(kept / study.name("energy", sigma))
        energies.append({"sigma": sigma} | {k: v for k, v in energy.items() if k != "denoiser"})
    return {
        "n_features": X.shape[1],
        "y": y.tolist(),
        "votes": votes,
        "trained": trained,
        "energies": energies,
        "steps": joblib.load(kept / study.name("steps", min(study.corners), "XHAT_ε")),
    }


def certificate(found: dict, votes: dict, draws: dict[str, list[int]], n: int = 0) -> Certificate:
    """The certificate of two stages, or of n draws, thinned from those of a fixed number."""
    labels = np.asarray(votes["label"])
    classes = np.arange(len(votes["fixed"][0]))
    stages: tuple[int, ...] | None = tuple(draws[str(votes["sigma"])])
    counts = np.asarray(votes["two_stage"])
    if n:
        rng = np.random.default_rng(SEED)
        fixed = np.asarray(votes["fixed"])
        counts, stages = np.array([rng.multivariate_hypergeometric(row, n) for row in fixed]), None
    made = Certificate.from_votes(
        counts,
        winner=np.searchsorted(classes, labels),
        classes=classes,
        sigma=votes["sigma"],
        confidence_level=CONFIDENCE_LEVEL,
        n_features=found["n_features"],
        stages=stages,
    )
    return made.displaced(np.full(len(labels), _ROUNDING))


def labels_of(found: dict, votes: dict) -> np.ndarray:
    return np.asarray(found["y"])[votes["images"]]


def accuracies(found: dict, draws: dict, radii: tuple[float, ...]) -> list[dict]:
    """Certified accuracy of every method and sigma, in percent, with the interval."""
    table = []
    for votes in found["votes"]:
        made, y = certificate(found, votes, draws), labels_of(found, votes)
        cells = {}
        for radius in (0.0, *radii):
            share, n = made.accuracy(y, radius), len(y)
            k = round(share * n)
            ends = lower_bound(k, n, 0.025), upper_bound(k, n, 0.025)
            cells[str(radius)] = [100 * share, *(100 * float(end) for end in ends)]
        table.append(
            {
                "method": votes["method"],
                "sigma": votes["sigma"],
                "images": len(y),
                "largest_radius": made.largest_radius,
                "average_radius": made.average_radius(y),
                "accuracy_lower_upper": cells,
            }
        )
    return table


def best_over_sigma(
    table: list[dict], radii: tuple[float, ...], sigmas: list[float]
) -> dict[str, dict]:
    """For every method and radius the largest accuracy over sigmas, as the paper reports it.

    It is chosen on the images that it is reported on, which flatters a little.
    """
    best: dict[str, dict] = {}
    for method in CORNERS:
        rows = [row for row in table if row["method"] == method and row["sigma"] in sigmas]
        for radius in map(str, radii if rows else ()):
            one = max(rows, key=lambda row: row["accuracy_lower_upper"][radius][0])
            best.setdefault(method, {})[radius] = {
                "accuracy_lower_upper": one["accuracy_lower_upper"][radius],
                "sigma": one["sigma"],
            }
    return best


def paired_verdicts(
    found: dict, draws: dict, radii: tuple[float, ...], table: list[dict]
) -> list[dict]:
    """XHAT_ε against every other corner on the images of both: exact McNemar tests, two-sided.

    At every sigma of both, and at the best of these for each.
    """
    certified: dict[tuple[str, float], tuple[list[int], Any, np.ndarray]] = {
        (votes["method"], votes["sigma"]): (
            votes["images"],
            certificate(found, votes, draws),
            labels_of(found, votes),
        )
        for votes in found["votes"]
    }

    def compare(radius: float, sigma: float | None, other: str, best: dict[str, dict]) -> dict:
        methods = ("XHAT_ε", other)
        sigmas = [best[m][str(radius)]["sigma"] if sigma is None else sigma for m in methods]
        right = []
        for key in zip(methods, sigmas, strict=True):
            images, made, y = certified[key]
            reached = made.certified(y) & (made.radius >= radius)
            right.append(dict(zip(images, reached, strict=True)))
        common = sorted(right[0].keys() & right[1].keys())
        ours, theirs = (np.array([one[i] for i in common]) for one in right)
        only = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
        p = binomtest(only[0], sum(only)).pvalue if sum(only) else 1.0
        return {
            "radius": radius,
            "against": other,
            "sigma": "best of each" if sigma is None else sigma,
            "images": len(common),
            "xhat": 100 * float(ours.mean()),
            "other": 100 * float(theirs.mean()),
            "only_xhat": only[0],
            "only_other": only[1],
            "p_value": float(p),
        }

    others = [method for method in CORNERS if method != "XHAT_ε"]
    verdicts = []
    for other in others:
        both = [s for m, s in certified if m == other and ("XHAT_ε", s) in certified]
        best = best_over_sigma(table, radii, both)
        sigmas = [*sorted(both), None] if both else []
        verdicts += [compare(r, s, other, best) for s in sigmas for r in radii]
    return verdicts
