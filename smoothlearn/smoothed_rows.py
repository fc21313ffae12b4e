"""Rows with their locally biased scores, and the radii that pairs of classes certify."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from smoothlearn.nn.layers import KinkedError, NoBoundError
from smoothlearn.theory import locally_biased as theory
from smoothlearn.theory.lipschitz import SIGMOID_BEND, composed
from smoothlearn.theory.norms import dual, row_norms
from smoothlearn.views.affine import FloatArray
from smoothlearn.views.expansion import Columns, Expansion, difference

_UNKNOWN_ROUNDING = 1e-9  # relative, of scores computed in double precision in a way we cannot see


@dataclass(frozen=True, eq=False)
class SmoothedRows:
    """Rows with an expansion of the base's scores, smoothed.

    Parameters
    ----------
    expansion : Expansion
    alpha, norm, link
        As in ``LocallyBiasedSmoother``.
    given : float or None
        A gradient-Lipschitz constant of any difference of two scores; None computes them.
    """

    expansion: Expansion
    alpha: float
    norm: float
    link: str
    given: float | None

    def decide(self, oracle: Columns) -> tuple[FloatArray, Columns]:
        """The smoothed scores, one column for two classes, and the best rival of the oracle."""
        scores, rows = self.expansion.scores, np.arange(len(oracle))
        others = scores.copy()
        others[rows, oracle] = -np.inf
        rival = others.argmax(axis=1)
        lead = theory.smoothed_score(
            difference(scores, oracle, rival),
            row_norms(self.expansion.gradient(oracle, rival), dual(self.norm)),
            np.ones(len(oracle)),
            self.alpha,
            self.link,
        )
        if scores.shape[1] == 2:
            return np.where(oracle == 1, lead, -lead), rival
        columns = scores.copy()
        if self.link == "probability":
            columns = np.tanh((scores - scores[rows, rival][:, np.newaxis]) / 2) / 2
        columns[rows, oracle] = columns[rows, rival] + lead
        return columns, rival

    def tight(
        self, label: Columns, oracle: Columns, rival: Columns, avoid: FloatArray
    ) -> FloatArray:
        """The certified radius; ``avoid`` is that within which the oracle names no class k."""
        shape, rows = self.expansion.scores.shape, np.arange(len(label))
        against, plain, favoured, rival_plain = (np.zeros(shape) for _ in range(4))
        for step in range(1, shape[1]):
            other = (label + step) % shape[1]
            pair = self._pair(label, other)
            against[rows, other] = pair.against(self.alpha, self.link)
            favoured[rows, other] = pair.favoured(self.alpha, self.link)
            if shape[1] > 2:
                plain[rows, other] = pair.against(0.0, self.link)
                other = (rival + step) % shape[1]
                rival_plain[rows, other] = self._pair(rival, other).against(0.0, self.link)
        return theory.combine(
            label,
            oracle,
            avoid,
            against=against,
            plain=plain,
            favoured=favoured,
            rival_plain=rival_plain,
        )

    def published(
        self, label: Columns, oracle: Columns, rival: Columns, avoid: FloatArray
    ) -> FloatArray:
        """The published radius for two classes."""
        other = 1 - label
        pair = self._pair(label, other)
        everywhere = pair.curvature(np.full(len(label), np.inf))
        score, norm = difference(self.expansion.scores, label, other), pair.gradient_norm
        error, _ = self._rounding
        sign = np.where(oracle == label, 1.0, -1.0)
        smoothed = theory.smoothed_score(score, norm, sign, self.alpha, self.link)
        smoothed = smoothed - 2 * self.alpha * pair.gradient_error
        smoothed = smoothed - error * (1 + self.alpha * norm * SIGMOID_BEND)
        if self.link == "probability":
            everywhere = composed(self.expansion.slope(label, other), everywhere)
            norm = norm * (theory.sigmoid_slope(score) + SIGMOID_BEND * error) * (1 + 1e-12)
        base = theory.published_radius(smoothed, norm, everywhere, self.alpha)
        return np.minimum(base, avoid[np.arange(len(label)), 1 - oracle])

    @cached_property
    def _rounding(self) -> tuple[FloatArray, FloatArray]:
        try:
            return self.expansion.rounding()
        except NoBoundError as error:
            if isinstance(error, KinkedError):
                raise
            if self.given is None:
                error.add_note("If you know a constant that holds, give it as gradient_lipschitz.")
                raise
        size = np.abs(self.expansion.scores).max(axis=1)
        return _UNKNOWN_ROUNDING * size, np.zeros(len(size))

    def _pair(self, first: Columns, second: Columns) -> _Pair:
        error, gradient_error = self._rounding
        norm = row_norms(self.expansion.gradient(first, second), dual(self.norm))
        gradient_error = gradient_error + 1e-12 * norm

        def curvature(ball: FloatArray) -> FloatArray:
            if self.given is not None:
                return np.full(len(first), self.given)
            return self.expansion.curvature(first, second, ball)

        return _Pair(
            difference(self.expansion.scores, first, second) - error,
            norm + gradient_error,
            gradient_error,
            curvature,
        )


@dataclass(frozen=True, eq=False)
class _Pair:
    """The difference of two scores at rows, with rounding errors on the safe side.

    ``margin`` is at most the difference, ``gradient_norm`` at least the dual norm of its gradient,
    by at most ``2 * gradient_error``.
    """

    margin: FloatArray
    gradient_norm: FloatArray
    gradient_error: FloatArray
    curvature: Callable[[FloatArray], FloatArray]

    def against(self, alpha: float, link: str) -> FloatArray:
        return self._on_balls(theory.radius_against, self.margin, alpha, link)

    def favoured(self, alpha: float, link: str) -> FloatArray:
        margin = self.margin - theory.bias(2 * self.gradient_error, alpha, link)
        return self._on_balls(theory.radius_with, margin, alpha, link)

    def _on_balls(
        self, radius: Callable[..., FloatArray], margin: FloatArray, alpha: float, link: str
    ) -> FloatArray:
        return theory.radius_on_balls(
            lambda curvature: radius(margin, self.gradient_norm, curvature, alpha, link),
            self.curvature,
            len(margin),
        )
