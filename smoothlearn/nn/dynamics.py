r"""Motion on an energy: Langevin walks, and gradient flow to its attractors.

Every row of a batch moves on its own: it has noise of its own, accepts, slows down and stops by
itself. Nothing that happens to one row depends on the others, as the votes of a smoothed classifier
have to be independent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from tqdm.auto import tqdm

from smoothlearn.theory.arguments import as_finite

#: The energy (n,) of a batch (n, d), and its gradient (n, d).
Field = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
#: Standard normal draws (n, width) of a width, for every row of a batch its own.
Normal = Callable[[int], torch.Tensor]

#: ``step_size="auto"``, in units of sigma^2.
_AUTO_STEP = 0.2
#: A row stands still when it moves less than so many units in its last place.
_LAST_PLACES = 4


def as_step_size(step_size: Any, sigma: float, *, n_features: int, metropolis: bool) -> float:
    r"""The step h of a walk on an energy of noise sigma.

    "auto" is :math:`\sigma^2/5`, and with ``metropolis`` at most :math:`\sigma^2/\sqrt d`. From a
    point as deep in the energy as x̂ is, longer steps are practically never accepted: the logarithm
    of the probability is about :math:`-d(h/\sigma^2)^2/2`.

    Raises
    ------
    ValueError, TypeError
        If it is not a positive number less than :math:`2\sigma^2`: where there is nothing but
        noise, the energy is :math:`\|y\|^2/2\sigma^2`, and longer steps leave it ever further.
    """
    if isinstance(step_size, str):
        if step_size != "auto":
            raise ValueError(f"step_size must be a positive number or 'auto', got {step_size!r}")
        return min(_AUTO_STEP, n_features**-0.5 if metropolis else _AUTO_STEP) * sigma**2
    step = as_finite("step_size", step_size)
    if step >= 2 * sigma**2:
        raise ValueError(
            f"step_size={step_size} is too long for a walk on an energy of sigma={sigma}: it must "
            f"be less than 2 sigma^2 = {2 * sigma**2:.3g}"
        )
    return step


def langevin_walk(
    field: Field,
    start: torch.Tensor,
    *,
    step_size: float,
    n_steps: int,
    normal: Normal,
    metropolis: bool = False,
    verbose: int = 0,
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Where the walk :math:`y \leftarrow y - h\nabla\phi(y) + \sqrt{2h}\,\varepsilon` arrives.

    Its law tends to the density proportional to :math:`\exp(-\phi)`, but for an error of the order
    of h. With ``metropolis`` every step is a proposal, accepted with the probability that makes
    this density exactly stationary.

    Parameters
    ----------
    field : callable
        The energy and its gradient.
    start : Tensor of shape (n, d)
    step_size : float
        h, in squared units of the rows.
    n_steps : int
    normal : callable
        Gives the noise: d numbers a row and step, with ``metropolis`` d + 1.
    metropolis : bool
    verbose : int
        Positive: a progress bar over steps.

    Returns
    -------
    points : Tensor of shape (n, d)
        Differentiable with respect to the start where gradients are switched on, along the path
        that was taken.
    slopes : Tensor of shape (n, d)
        The gradient of the energy there: what the jump needs.

    Raises
    ------
    ValueError
        If a row that starts finite does not stay so.

    References
    ----------
    Saremi & Srivastava 2020, Eq. 16, with h for the step in the drift and in the noise;
    Roberts & Tweedie 1996, "Exponential convergence of Langevin distributions", Bernoulli 2(4).
    """
    move = _metropolis_step if metropolis else _step
    state = start, *field(start)
    for _ in tqdm(range(n_steps), unit="step", disable=verbose <= 0):
        state = move(field, state, step_size, normal)
    points, _, slopes = state
    if not bool((points.isfinite() | ~start.isfinite()).all()):
        raise ValueError(
            f"a walk of {n_steps} steps did not stay finite; choose a smaller step_size than "
            f"{step_size:.3g}, or metropolis=True"
        )
    return points, slopes


_State = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _step(field: Field, state: _State, h: float, normal: Normal) -> _State:
    y, _, slope = state
    ahead = y - h * slope + math.sqrt(2 * h) * normal(y.shape[1])
    return ahead, *field(ahead)


def _metropolis_step(field: Field, state: _State, h: float, normal: Normal) -> _State:
    """One draw more decides: its normal distribution function is uniform."""
    y, energy, slope = state
    draws = normal(y.shape[1] + 1)
    noise = draws[:, :-1]
    ahead = y - h * slope + math.sqrt(2 * h) * noise
    energy_ahead, slope_ahead = field(ahead)
    back = (y - ahead + h * slope_ahead).square().sum(dim=1) / (4 * h)
    there = noise.square().sum(dim=1) / 2
    accepted = torch.special.log_ndtr(draws[:, -1]) < energy - energy_ahead + there - back
    return (
        torch.where(accepted[:, None], ahead, y),
        torch.where(accepted, energy_ahead, energy),
        torch.where(accepted[:, None], slope_ahead, slope),
    )


def gradient_flow(
    field: Field, start: torch.Tensor, *, step_size: float, tolerance: float, max_steps: int
) -> tuple[torch.Tensor, torch.Tensor]:
    r"""Where the flow :math:`y'(t) = -\nabla\phi(y(t))` arrives, an attractor of the energy.

    Euler steps of at most ``step_size``. A row halves its step where the gradient ahead points
    back, for then the step has crossed a valley. It stops where a whole step would move it by
    ``tolerance`` at most, or within rounding. On the energy of a Parzen density, with
    :math:`\sigma^2` for the step, this is the mean shift, whose steps never cross a valley.

    Parameters
    ----------
    field : callable
        The energy and its gradient.
    start : Tensor of shape (n, d)
    step_size : float
        In squared units of the rows.
    tolerance : float
        In the units of the rows.
    max_steps : int

    Returns
    -------
    points : Tensor of shape (n, d)
        Differentiable with respect to the start where gradients are switched on.
    arrived : Tensor of shape (n,), bool
        Which rows have stopped.

    References
    ----------
    Saremi & Srivastava 2020, section 4.2 (B1); Saremi & Hyvärinen 2019, section 6 (NEBULA);
    Comaniciu & Meer 2002, "Mean shift", IEEE TPAMI 24(5), Theorem 2.
    """
    y, slope = start, field(start)[1]
    step = torch.full_like(start[:, :1], step_size)
    for _ in range(max_steps):
        moving = ~_at_rest(y, slope, step_size, tolerance)
        if not bool(moving.any()):
            break
        ahead = y - step * slope
        slope_ahead = field(ahead)[1]
        same_way = (slope * slope_ahead).sum(dim=1) >= 0
        goes = (moving & same_way)[:, None]
        step = torch.where((moving & ~same_way)[:, None], step / 2, step)
        step = torch.where(goes, (2 * step).clamp(max=step_size), step)
        y, slope = torch.where(goes, ahead, y), torch.where(goes, slope_ahead, slope)
    return y, _at_rest(y, slope, step_size, tolerance)


def _at_rest(
    y: torch.Tensor, slope: torch.Tensor, step_size: float, tolerance: float
) -> torch.Tensor:
    rounding = _LAST_PLACES * torch.finfo(y.dtype).eps * y.detach().norm(dim=1)
    return step_size * slope.detach().norm(dim=1) <= rounding.clamp(min=tolerance)
