"""Accuracy of smoothed classifiers against the level of smoothing and the radius of attacks."""

from itertools import product
from typing import Any

import locally_biased_attacks as attacks
import numpy as np
from locally_biased_tasks import Rows, Task
from sklearn.neighbors import KNeighborsClassifier

SIGMAS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
ALPHAS = {
    "logit": (0.0, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0),
    "probability": (0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0),
}
NS, LBRS, NEAREST = "normal smoothing", "locally biased, {}", "1-NN"

Curves = list[dict[str, Any]]


def name_of(norm: float) -> str:
    return "inf" if norm == np.inf else str(norm)


def sweep(task: Task, net: Any, rows: Rows, norm: float) -> Curves:
    """Accuracy against the level of smoothing, without and with attacks of few radii."""
    attacked = {r: attacks.base_attack(net, rows, r, norm) for r in task.radii[norm]}
    clean = {0.0: rows.X}
    curves = sweep_normal(task, net, rows, norm, clean | attacked)
    for n in task.n_bias:
        bias = task.bias.of(slice(n))
        curves += sweep_biased(bias, net, rows, norm, clean | attacked, task.aims[norm])
    return [{"norm": name_of(norm)} | curve for curve in curves]


def sweep_normal(task: Task, net: Any, rows: Rows, norm: float, points: dict) -> Curves:
    curves = []
    for radius, X in points.items():
        right = np.empty((2, len(SIGMAS), len(rows.y)), dtype=bool)
        for i, sigma in enumerate(SIGMAS):
            settings = sigma, task.n_draws
            right[:, i] = attacks.right_by_sigma(net, task.bias, Rows(X, rows.y), *settings)
            if radius:
                noisy = attacks.noisy_points(net, rows, radius, norm, sigma)
                right[1, i] &= attacks.right_by_sigma(
                    net, task.bias, Rows(noisy, rows.y), *settings
                )
        curves += both_attacks(NS, None, radius, SIGMAS, right)
    return curves


def sweep_biased(bias: Rows, net: Any, rows: Rows, norm: float, points: dict, aims: Any) -> Curves:
    n, curves = len(bias.y), []
    smoothers = {link: attacks.locally_biased(net, bias, norm, link) for link in ALPHAS}
    nearest = KNeighborsClassifier(1).fit(*bias)
    for radius, X in points.items():
        tried = [X]
        if radius:
            tried += attacks.adaptive_points(net, bias, rows, radius, norm, aims)
        for link, smoother in smoothers.items():
            right = [attacks.right_by_alpha(smoother, X, rows.y, ALPHAS[link]) for X in tried]
            both = np.stack([right[0], np.all(right, axis=0)])
            curves += both_attacks(LBRS.format(link), n, radius, ALPHAS[link], both)
        right = [nearest.predict(X)[np.newaxis] == rows.y for X in tried]
        both = np.stack([right[0], np.all(right, axis=0)])
        curves += both_attacks(NEAREST, n, radius, [None], both)
    return curves


def both_attacks(
    method: str, n_bias: int | None, radius: float, levels: Any, right: np.ndarray
) -> Curves:
    """Curves under the attack on the base alone and under the adaptive one."""
    about = {"method": method, "n_bias": n_bias, "radius": radius, "level": list(levels)}
    return [
        about | {"attack": attack, "accuracy": one.mean(axis=1).tolist()}
        for attack, one in zip(("base", "adaptive"), right, strict=True)
    ]


def corner(curves: Curves, **wanted: Any) -> float:
    """The least level with the largest sum of clean and robust accuracies."""
    chosen = [curve for curve in curves if wanted.items() <= curve.items()]
    total = np.sum([curve["accuracy"] for curve in chosen], axis=0)
    return chosen[0]["level"][int(np.argmax(total))]


def corners(task: Task, curves: Curves) -> Curves:
    methods = [(NS, None), *product((LBRS.format(link) for link in ALPHAS), task.n_bias)]
    norms = sorted({curve["norm"] for curve in curves})
    found = []
    for norm, (method, n), attack in product(norms, methods, ("base", "adaptive")):
        wanted = {"norm": norm, "method": method, "n_bias": n, "attack": attack}
        found.append(wanted | {"level": corner(curves, **wanted)})
    return found


def reach(task: Task, net: Any, norm: float, chosen: Curves) -> Curves:
    """Accuracy against the radius of attacks, at levels chosen under attacks of the same kind."""
    levels = {
        (one["method"], one["n_bias"], one["attack"]): one["level"]
        for one in chosen
        if one["norm"] == name_of(norm)
    }
    curves = []
    for method, n, attack in [
        ("base", None, "base"),
        *product((NS,), (None,), ("base", "adaptive")),
        *product((LBRS.format("logit"), NEAREST), task.n_bias, ("base", "adaptive")),
    ]:
        level = levels.get((method, n, attack))
        about = {"norm": name_of(norm), "method": method, "n_bias": n, "attack": attack}
        accuracy = accuracy_by_radius(task, net, norm, level, method, n, attack)
        curves.append(about | {"level": level, "accuracy": accuracy})
    return curves


def accuracy_by_radius(
    task: Task, net: Any, norm: float, level: Any, method: str, n_bias: int | None, attack: str
) -> list[float]:
    bias, rows = task.bias.of(slice(n_bias)), task.test
    right, names = decider(task, net, bias, norm, method, level)
    alive, accuracy = right(rows.X, rows.y), []
    accuracy.append(float(alive.mean()))
    for radius in task.reach[norm][1:]:
        if attack == "base":
            points = attacks.base_attack(net, rows, radius, norm)
            accuracy.append(float(right(points, rows.y).mean()))
            continue
        for name in names:  # who falls within a ball also does within a larger one
            left = np.flatnonzero(alive)
            some = rows.of(left)
            if left.size:
                points = attacks.adaptive_point(net, bias, some, radius, norm, name, level)
                alive[left] = right(points, some.y)
        accuracy.append(float(alive.mean()))
    return accuracy


def decider(task: Task, net: Any, bias: Rows, norm: float, method: str, level: Any) -> Any:
    """Who is right, and the names of the adaptive attacks on the method."""
    if method == "base":
        return (lambda X, y: net.predict(X) == y), ("base",)
    if method == NS:
        draws = task.n_draws
        return (lambda X, y: attacks.right_by_sigma(net, bias, Rows(X, y), level, draws)), (
            "base",
            "noisy",
        )
    if method == NEAREST:
        nearest = KNeighborsClassifier(1).fit(*bias)
        return (lambda X, y: nearest.predict(X) == y), ("oracle",)
    smoother = attacks.locally_biased(net, bias, norm)
    names = ("base", "oracle", "smoothed", "combined")
    return (lambda X, y: attacks.right_by_alpha(smoother, X, y, [level])[0]), names
