"""Balls around rows: steps, projections and draws that an attack is made of."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from smoothlearn.theory.norms import check_norm


class Ball:
    r"""For every row x of a batch the points of the box with :math:`\|x' - x\|_p \le \epsilon`.

    Points are batches (n, d), one a row.

    Parameters
    ----------
    X : Tensor of shape (n, ...)
        The centers, finite floats within the bounds.
    epsilon : float or Tensor of shape (n,)
        The radius, or one for every row.
    norm : 1, 2 or inf
        p.
    bounds : pair of float, optional
        The least and the largest value of an entry; by default there is no box.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range.
    """

    def __init__(
        self,
        X: torch.Tensor,
        epsilon: float | torch.Tensor,
        norm: float,
        bounds: tuple[float, float] | None = None,
    ) -> None:
        if not X.is_floating_point():
            raise TypeError(f"X must hold floats, got {X.dtype}; cast with X.float()")
        if X.ndim < 2 or not X.isfinite().all():
            raise ValueError(
                f"X must be finite, of shape (n, ...), got shape {tuple(X.shape)}, or NaN or inf"
            )
        self.center = X.detach().flatten(1)
        self.norm = check_norm(norm)
        self.radius = _column(epsilon, self.center)
        if bounds is not None and ((bounds[0] > X) | (bounds[1] < X)).any():
            raise ValueError(f"X must lie within bounds={bounds}; clip it, or give no bounds")
        self.bounds = bounds

    def steepest(self, slope: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
        """The direction of length 1 in the p-norm that gains most, and 0 where nothing does."""
        if self.bounds is not None:
            low, high = self.bounds
            stuck = ((point >= high) & (slope > 0)) | ((point <= low) & (slope < 0))
            slope = slope.masked_fill(stuck, 0)
        if self.norm == torch.inf:
            return slope.sign()
        size, largest = slope.abs().max(dim=1, keepdim=True)
        if self.norm == 1:
            return torch.zeros_like(slope).scatter(1, largest, slope.gather(1, largest).sign())
        return normalize(slope / torch.where(size > 0, size, 1), dim=1)

    def project(self, point: torch.Tensor) -> torch.Tensor:
        """The nearest point of the ball, then of the box; offsets shrink by what rounding adds.

        A point of the result is in the ball as computed in float64, and in the box.
        """
        offset = _onto_ball(point - self.center, self.radius.to(point.dtype), self.norm)
        shrink = torch.finfo(point.dtype).eps
        while True:
            inside = self.center + offset
            if self.bounds is not None:
                inside = inside.clamp(*self.bounds)  # towards the center, which is in the box
            moved = inside.double() - self.center.double()
            over = torch.linalg.vector_norm(moved, self.norm, dim=1, keepdim=True) > self.radius
            if shrink > 1 or not over.any():
                return inside
            offset = torch.where(over, offset * (1 - shrink), offset)
            shrink *= 2

    def draw(self, generator: torch.Generator) -> torch.Tensor:
        """A point of every ball, uniform before the box clips it."""
        draws = torch.empty_like(self.center)
        if self.norm == torch.inf:
            draws.uniform_(-1, 1, generator=generator)
        else:
            draws.normal_(generator=generator)
            if self.norm == 1:
                draws = torch.empty_like(draws).exponential_(generator=generator) * draws.sign()
            depth = torch.empty_like(draws[:, :1]).uniform_(generator=generator)
            draws = normalize(draws, p=self.norm, dim=1) * depth ** (1 / draws.shape[1])
        return self.project(self.center + self.radius.to(draws.dtype) * draws)


def _column(epsilon: float | torch.Tensor, center: torch.Tensor) -> torch.Tensor:
    """The radii in float64, (n, 1)."""
    radius = torch.as_tensor(epsilon, dtype=torch.float64, device=center.device)
    if radius.shape not in ((), center.shape[:1]):
        raise ValueError(
            f"epsilon must be a number, or one for each of {len(center)} rows, got shape "
            f"{tuple(radius.shape)}"
        )
    if not (radius.isfinite() & (radius >= 0)).all():
        raise ValueError(f"epsilon must be finite and >= 0, got {epsilon}")
    return radius.expand(len(center))[:, None]


def _onto_ball(offset: torch.Tensor, radius: torch.Tensor, norm: float) -> torch.Tensor:
    """The nearest point, in the Euclidean distance, of the ball around 0.

    For p = 1: Duchi et al. 2008, *Efficient projections onto the l1-ball*, Figure 1.
    """
    if norm == torch.inf:
        return offset.clamp(-radius, radius)
    size = torch.linalg.vector_norm(offset, norm, dim=1, keepdim=True)
    if norm == 2:
        return torch.where(size > radius, offset * (radius / size), offset)
    largest = offset.abs().sort(dim=1, descending=True).values
    ranks = torch.arange(1, offset.shape[1] + 1, device=offset.device)
    excess = (largest.cumsum(dim=1) - radius) / ranks
    threshold = excess.gather(1, (largest > excess).sum(dim=1, keepdim=True).clamp(min=1) - 1)
    shrunk = offset.sign() * (offset.abs() - threshold).clamp(min=0)
    return torch.where(size > radius, shrunk, offset)
