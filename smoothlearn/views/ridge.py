"""Sums of polynomial or sigmoid kernels as differentiable scores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from smoothlearn.theory.lipschitz import (
    power_bend,
    power_slope,
    quadratic_curvature,
    ridge_curvature,
    ridge_slope,
    ridge_spread,
    tanh_bend,
    tanh_slope,
)
from smoothlearn.theory.norms import dual, row_norms
from smoothlearn.views.affine import FloatArray
from smoothlearn.views.expansion import Columns, Expansion
from smoothlearn.views.linear import Linear

_EPS = float(np.finfo(float).eps)
_UP = 1 + 8 * _EPS


@dataclass(frozen=True, eq=False)
class Ridge:
    r"""Scores :math:`g_k(x) = \sum_i C_{ki} \psi(w_i \cdot x + a_i) + b_k`.

    Parameters
    ----------
    degree : int or None
        :math:`\psi(u) = u^m` of this degree m, at least 2; tanh where None.
    inner : Linear
        The functions :math:`w_i \cdot x + a_i`, m of them.
    coefficients : ndarray of shape (n_classes, m)
        The C; of two classes the first row is 0.
    offsets : ndarray of shape (n_classes,)
    """

    degree: int | None
    inner: Linear
    coefficients: FloatArray
    offsets: FloatArray

    def at(self, X: FloatArray, norm: float) -> Expansion:
        """The expansion around the rows of X, float64, for a threat in the p-norm."""
        block = _Block(self, X, norm)
        return Expansion(block.scores, block.gradient, block.curvature, block.slope, block.rounding)

    @property
    def error(self) -> float:
        """A bound of the relative rounding error of sums over the w and over their entries."""
        return (sum(self.inner.weights.shape) + 40) * _EPS

    def outer(self, arguments: FloatArray) -> FloatArray:
        return np.tanh(arguments) if self.degree is None else arguments**self.degree

    def derivative(self, arguments: FloatArray) -> FloatArray:
        if self.degree is None:
            return tanh_slope(np.abs(arguments))
        return self.degree * arguments ** (self.degree - 1)

    def steepest(self, least: FloatArray, most: FloatArray) -> FloatArray:
        r"""The largest :math:`|\psi'(u)|` over :math:`\text{least} \le |u| \le \text{most}`."""
        return tanh_slope(least) if self.degree is None else power_slope(most, self.degree)

    def bend(self, least: FloatArray, most: FloatArray) -> FloatArray:
        r"""The largest :math:`|\psi''(u)|` over :math:`\text{least} \le |u| \le \text{most}`."""
        return tanh_bend(least, most) if self.degree is None else power_bend(most, self.degree)

    def lengths(self, norm: float) -> FloatArray:
        """The dual norms of the w, whatever their rounding errors."""
        size = row_norms(self.inner.weight_sizes, dual(norm))
        return np.asarray((row_norms(self.inner.weights, dual(norm)) + self.error * size) * _UP)

    def spread(self, first: int, second: int, norm: float) -> float:
        """The norm of the form of the absolute coefficients of a difference of two scores."""
        coefficients = self.coefficients[first] - self.coefficients[second]
        sizes = self.inner.weight_sizes.sum(axis=1)
        error = self.error * np.sqrt(np.abs(coefficients) @ np.square(sizes))
        exact = np.sqrt(ridge_spread(coefficients, self.inner.weights, norm))
        return float(np.square(exact + error) * _UP)

    def quadratic(self, first: int, second: int, norm: float) -> float:
        """The constant of a difference of two scores of degree 2."""
        coefficients = self.coefficients[first] - self.coefficients[second]
        sizes = self.inner.weight_sizes.sum(axis=1)
        error = 4 * self.error * (np.abs(coefficients) @ np.square(sizes))
        return quadratic_curvature(coefficients, self.inner.weights, norm) + error

    @cached_property
    def _constants(self) -> dict[tuple[int, int, float], float]:
        return {}

    def of_pairs(self, first: Columns, second: Columns, norm: float) -> FloatArray:
        """For every row the ``quadratic`` or ``spread`` of its pair, each computed once."""
        constant = self.quadratic if self.degree == 2 else self.spread
        n_classes = len(self.offsets)
        pairs, index = np.unique(first * n_classes + second, return_inverse=True)
        values = []
        for pair in pairs:
            key = (int(pair) // n_classes, int(pair) % n_classes, norm)
            if key not in self._constants:
                self._constants[key] = constant(*key)
            values.append(self._constants[key])
        return np.array(values)[index]


class _Block:
    """What is known around some rows; ``errors`` bound those of the arguments."""

    def __init__(self, machine: Ridge, X: FloatArray, norm: float) -> None:
        self.machine, self.norm = machine, norm
        inner = machine.inner
        self.arguments = inner.scores(X)
        self.errors = machine.error * (np.abs(X) @ inner.weight_sizes.T + inner.offset_sizes)
        self.scores = machine.outer(self.arguments) @ machine.coefficients.T + machine.offsets

    def gradient(self, first: Columns, second: Columns) -> FloatArray:
        weights = self._between(first, second) * self.machine.derivative(self.arguments)
        return np.asarray(weights @ self.machine.inner.weights)

    def curvature(self, first: Columns, second: Columns, radius: FloatArray) -> FloatArray:
        constant = self.machine.of_pairs(first, second, self.norm)
        if self.machine.degree == 2:
            return constant
        lengths = self.machine.lengths(self.norm)
        with np.errstate(invalid="ignore"):
            reach = np.where(lengths > 0, lengths * radius[:, np.newaxis], 0.0)
        bends = self.machine.bend(*self._range(reach * _UP + self.errors))
        return ridge_curvature(self._between(first, second), bends, lengths, constant)

    def slope(self, first: Columns, second: Columns) -> FloatArray:
        steepest = 1.0 if self.machine.degree is None else np.inf
        return ridge_slope(self._between(first, second), self.machine.lengths(self.norm), steepest)

    def rounding(self) -> tuple[FloatArray, FloatArray]:
        """Of the sums and of the arguments, which the function passes on by its slope."""
        machine, sizes = self.machine, np.abs(self.machine.coefficients)
        steepest, bend = (
            bound(*self._range(self.errors)) for bound in (machine.steepest, machine.bend)
        )
        outer = machine.error * np.abs(machine.outer(self.arguments)) + steepest * self.errors
        scores = outer @ sizes.T + machine.error * np.abs(machine.offsets)
        lengths = row_norms(machine.inner.weight_sizes, dual(self.norm))
        inner = machine.error * steepest + bend * self.errors
        gradient = inner @ (sizes * lengths).T
        return 2 * scores.max(axis=1), 4 * gradient.max(axis=1)

    def _range(self, reach: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The least and the largest absolute value that an argument may have."""
        sizes = np.abs(self.arguments)
        with np.errstate(invalid="ignore"):
            return np.fmax((sizes - reach) * (1 - 8 * _EPS), 0), (sizes + reach) * _UP

    def _between(self, first: Columns, second: Columns) -> FloatArray:
        return self.machine.coefficients[first] - self.machine.coefficients[second]
