"""How far walks go on an energy of less noise, and when they change class."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from scipy.special import ndtri
from sklearn.neighbors import KNeighborsClassifier

from smoothlearn.nn.dynamics import Field, gradient_flow, langevin_walk
from smoothlearn.theory.bayes import mixture_denoiser, mixture_energy

SEED = 0
CPU = torch.device("cpu")
#: Steps to a walk of length hτ/σ'² = 1, as with ``step_size="auto"``.
STEPS_PER_LENGTH = 5
DIGITS_LENGTHS = (0, 2, 10, 40, 200)


def follow(
    field: Field,
    start: torch.Tensor,
    sigma: float,
    steps: list[int],
    h: float | None = None,
    metropolis: bool = False,
) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
    """Where walks from the start are after so many steps, and their jumps from there."""
    generator = torch.Generator().manual_seed(SEED)

    def normal(width: int) -> torch.Tensor:
        return torch.randn((len(start), width), generator=generator, dtype=start.dtype)

    h = sigma**2 / STEPS_PER_LENGTH if h is None else h
    done, y = 0, start
    for n in steps:
        y, slope = langevin_walk(
            field, y, step_size=h, n_steps=n - done, normal=normal, metropolis=metropolis
        )
        done = n
        yield n, y, y - sigma**2 * slope


# A mixture in closed form -------------------------------------------------------------------------

#: Two classes in one dimension, one Gaussian each.
MODES: dict[str, Any] = {"means": np.array([[1.0], [-1.0]]), "scales": 0.25}
SIGMA = 1.0


def mixture(n_rows: int, max_steps: int) -> dict[str, Any]:
    """Squared error and class of jumps, by the length of the walk; σ = 1, classes at ±1."""
    rng = np.random.default_rng(SEED)
    label = rng.integers(2, size=n_rows)
    x = MODES["means"][label] + MODES["scales"] * rng.standard_normal((n_rows, 1))
    noise = SIGMA * rng.standard_normal(x.shape)
    starts = {"data": _bayes(x + noise), "mode": _bayes(MODES["means"][:1] + noise)}
    steps = [n for n in (0, 1, 3, 10, 30, 100, 300, 1000, 3000) if n <= max_steps]
    variance = 1 + MODES["scales"] ** 2
    error = _bayes_error(SIGMA)
    rows = []
    for sigma in (0.1, 0.2, 0.3, 0.5):
        jumps = {
            place: [j.numpy() for *_, j in follow(_field(sigma), start, sigma, steps)]
            for place, start in starts.items()
        }
        recalled = {place: _attractor(start, sigma) for place, start in starts.items()}
        ends = [(n, n / STEPS_PER_LENGTH) for n in steps] + [("attractor", None)]
        for k, (n, length) in enumerate(ends):
            jump, at_mode = (
                jumps[place][k] if length is not None else recalled[place]
                for place in ("data", "mode")
            )
            rows.append(
                {
                    "walk_sigma": sigma,
                    "steps": n,
                    "length": length,
                    "error": float(np.square(jump - x).mean()),
                    "changed": float(((jump > 0) != (starts["data"].numpy() > 0)).mean()),
                    "right": float(((jump > 0)[:, 0] == (label == 0)).mean()),
                    "radius_at_mode": SIGMA * float(ndtri((at_mode > 0).mean())),
                    "spread_at_mode": float(at_mode.std()),
                    "error_mixed": 2 * variance - _bayes_error(sigma),
                }
            )
    return {
        "sigma": SIGMA,
        "modes": [1.0, -1.0],
        "scale": MODES["scales"],
        "rows_drawn": n_rows,
        "bayes_error": error,
        "posterior_draw_error": 2 * error,
        "bayes_right": float(((starts["data"].numpy() > 0)[:, 0] == (label == 0)).mean()),
        "bayes_radius_at_mode": SIGMA * float(ndtri((starts["mode"].numpy() > 0).mean())),
        "bayes_spread_at_mode": float(starts["mode"].numpy().std()),
        "rows": rows,
    }


def _bayes(y: np.ndarray) -> torch.Tensor:
    return torch.tensor(mixture_denoiser(y, SIGMA, **MODES))


def _bayes_error(sigma: float) -> float:
    """E Var(X | Y) = E‖X‖² - E‖x̂(Y)‖², by quadrature."""
    y = np.linspace(-8, 8, 20_001)[:, None]
    density = np.exp(-mixture_energy(y, sigma, **MODES))
    x_hat = mixture_denoiser(y, sigma, **MODES)[:, 0]
    return 1 + MODES["scales"] ** 2 - float((density * x_hat**2).sum() / density.sum())


def _field(sigma: float) -> Field:
    def field(y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x_hat = torch.from_numpy(mixture_denoiser(y.numpy(), sigma, **MODES))
        return y.new_zeros(len(y)), (y - x_hat) / sigma**2  # no step is judged by its energy

    return field


def _attractor(start: torch.Tensor, sigma: float) -> np.ndarray:
    settings = {"step_size": sigma**2, "tolerance": 1e-3 * sigma, "max_steps": 1000}
    return np.asarray(gradient_flow(_field(sigma), start, **settings)[0].numpy())


# Images -------------------------------------------------------------------------------------------


class _Walkers:
    """The last 300 test rows, denoised, and how rows differ from that."""

    def __init__(self, task: Any, jump: Any) -> None:
        self.X, self.y = task.X_test[-300:], task.y_test[-300:]
        noise = np.random.default_rng(SEED).standard_normal(self.X.shape)
        noisy = torch.tensor(self.X + task.sigma * noise, dtype=torch.float32)
        self.start = jump.denoise_on(CPU)(noisy, torch.Generator())
        self.nearest = KNeighborsClassifier(1, algorithm="brute").fit(task.X, task.y)
        self.said = self.nearest.predict(self.start.numpy())

    def about(self, points: torch.Tensor) -> dict[str, float]:
        """How far they moved, the squared error, the class of the nearest clean row."""
        rows = points.numpy()
        said = self.nearest.predict(rows)
        return {
            "moved": _rms(rows - self.start.numpy()),
            "error": float(np.square(rows - self.X).sum(axis=1).mean()),
            "changed": 100 * float(np.mean(said != self.said)),
            "right": 100 * float(np.mean(said == self.y)),
        }


def walks(task: Any, kind: str, fitted: dict[float, Any]) -> list[dict[str, Any]]:
    """Jumps from walks of many lengths on every energy."""
    walkers = _Walkers(task, fitted[task.sigma])
    other = _to_other_class(task)
    rows = [{"energy": kind, "walk_sigma": None} | walkers.about(walkers.start)]
    for sigma in sorted(set(fitted) - {task.sigma}):
        steps = [STEPS_PER_LENGTH * length for length in task.lengths]
        for n, _, jump in follow(fitted[sigma].field_on(CPU), walkers.start, sigma, steps):
            about = {
                "energy": kind,
                "walk_sigma": sigma,
                "other_class_in_sigmas": other / sigma,
                "steps": n,
                "length": n / STEPS_PER_LENGTH,
            }
            rows.append(about | walkers.about(jump))
    return rows


def step_sizes(task: Any, fitted: dict[float, Any], sigma: float) -> list[dict[str, Any]]:
    """Walks of the same lengths in more steps, and with Metropolis' test."""
    walkers = _Walkers(task, fitted[task.sigma])
    field = fitted[sigma].field_on(CPU)
    rows = []
    for per_length, metropolis in ((5, False), (20, False), (5, True), (20, True)):
        steps, h = [per_length * length for length in (2, 10)], sigma**2 / per_length
        for n, _, jump in follow(field, walkers.start, sigma, steps, h, metropolis):
            about = {"walk_sigma": sigma, "steps": n, "length": n / per_length}
            rows.append(about | {"metropolis": metropolis} | walkers.about(jump))
    return rows


def eq_16(task: Any, fitted: dict[float, Any]) -> list[dict[str, Any]]:
    """The paper's δ = 0.001 and τ = 100 at σ' = 0.05, with δ² and with δ for the step."""
    delta, n_steps, sigma = 0.001, 100, 0.05
    walkers = _Walkers(task, fitted[task.sigma])
    field = fitted[sigma].field_on(CPU)
    rows = []
    for name, h in (("δ²", delta**2), ("δ", delta)):
        (_, _, first), (_, walked, jump) = follow(field, walkers.start, sigma, [0, n_steps], h)
        rows.append(
            {
                "h": name,
                "length": h * n_steps / sigma**2,
                "walked": _rms((walked - walkers.start).numpy()),
                "jumped_from_first_jump": _rms((jump - first).numpy()),
                "x_hat_error": _rms(walkers.start.numpy() - walkers.X),
            }
            | walkers.about(jump)
        )
    return rows


def strip(task: Any, fitted: dict[float, Any], found: dict[str, dict]) -> dict[str, np.ndarray]:
    """A digit, eight times with noise, and what the denoisers make of it."""
    x = np.repeat(task.X_test[3:4].astype(np.float64), 8, axis=0)
    y = x + task.sigma * np.random.default_rng(SEED).standard_normal(x.shape)
    rows = {"x": x, "y = x + ε": y, "x̂(y)": fitted[task.sigma].transform(y)}
    for sigma in (0.05, 0.2):
        rows[f"walk, σ' = {sigma}"] = found[f"walk 50, σ' {sigma}"]["denoiser"].transform(y)
        rows[f"flow, σ' = {sigma}"] = found[f"attractor, σ' {sigma}"]["denoiser"].transform(y)
    return rows


def _to_other_class(task: Any) -> float:
    """Median distance from a test row to the nearest training row of another class."""
    distances = [
        np.linalg.norm(task.X[task.y != label] - row, axis=1).min()
        for row, label in zip(task.X_test[-100:], task.y_test[-100:], strict=True)
    ]
    return float(np.median(distances))


def _rms(rows: np.ndarray) -> float:
    """Root mean square of the rows' norms."""
    return math.sqrt(np.square(rows).sum(axis=1).mean())
