"""Sums of Gaussian kernels as differentiable scores."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.spatial.distance import cdist

from smoothlearn.theory.lipschitz import rbf_curvature, rbf_slope
from smoothlearn.theory.norms import euclidean_stretch, row_norms
from smoothlearn.views.affine import Affine, FloatArray
from smoothlearn.views.expansion import Columns, Expansion

_EPS = float(np.finfo(float).eps)
_TINY = float(np.finfo(float).tiny)
_UP = 1 + 8 * _EPS


@dataclass(frozen=True, eq=False)
class Radial:
    r"""Scores :math:`g_k(x) = \sum_i C_{ki} \exp(-\gamma \|Ax + a - z_i\|_2^2) + b_k`.

    Parameters
    ----------
    gamma : float
    vectors : ndarray of shape (m, k)
        The z.
    coefficients : ndarray of shape (n_classes, m)
        The C; of two classes the first row is 0.
    offsets : ndarray of shape (n_classes,)
    front : Affine
        The map :math:`x \mapsto Ax + a`.
    """

    gamma: float
    vectors: FloatArray
    coefficients: FloatArray
    offsets: FloatArray
    front: Affine

    def at(self, X: FloatArray, norm: float) -> Expansion:
        """The expansion around the rows of X, float64, for a threat in the p-norm."""
        block = _Block(self, X, norm)
        return Expansion(block.scores, block.gradient, block.curvature, block.slope, block.rounding)

    @property
    def error(self) -> float:
        """A bound of the relative rounding error of sums over the centres, and of distances."""
        return (sum(self.vectors.shape) + sum(self.front.linear.shape) + 40) * _EPS

    @cached_property
    def _stretches(self) -> dict[float, float]:
        return {}

    def stretch(self, norm: float) -> float:
        r"""At least :math:`\max \|Ax\|_2 / \|x\|_p`, whatever the rounding errors of A."""
        if norm not in self._stretches:
            sizes = euclidean_stretch(self.front.absolute().linear, norm)
            slack = (sum(self.front.linear.shape) + 16) * _EPS * sizes
            known = 0.0 if _is_identity(self.front) else slack
            self._stretches[norm] = euclidean_stretch(self.front.linear, norm) + known
        return self._stretches[norm]


class _Block:
    """What is known around some rows; ``errors`` are Euclidean bounds of those of the features."""

    def __init__(self, machine: Radial, X: FloatArray, norm: float) -> None:
        self.machine, self.norm = machine, norm
        centre = machine.vectors.mean(axis=0)
        features = machine.front(X)
        self.rows, self.vectors = features - centre, machine.vectors - centre
        self.errors = _feature_errors(machine.front, X)
        self.distances = cdist(features, machine.vectors)
        with np.errstate(over="ignore", under="ignore"):
            self.exponents = np.minimum(machine.gamma * np.square(self.distances), 1e3)
            self.kernel = np.exp(-self.exponents)
        self.scores = self.kernel @ machine.coefficients.T + machine.offsets

    def gradient(self, first: Columns, second: Columns) -> FloatArray:
        weights = -2 * self.machine.gamma * self._between(first, second) * self.kernel
        gradient = weights.sum(axis=1, keepdims=True) * self.rows - weights @ self.vectors
        return self.machine.front.pull_back(gradient)

    def curvature(self, first: Columns, second: Columns, radius: FloatArray) -> FloatArray:
        stretch, error = self.machine.stretch(self.norm), self.machine.error
        reach = (stretch * radius * _UP + self.errors)[:, np.newaxis]
        with np.errstate(invalid="ignore"):
            nearest = np.fmax(self.distances * (1 - error) - reach * _UP, 0)
        farthest = (self.distances * (1 + error) + reach) * _UP
        coefficients = self._between(first, second)
        spectral = rbf_curvature(coefficients, self.machine.gamma, nearest, farthest)
        return np.asarray(stretch**2 * spectral * _UP)

    def slope(self, first: Columns, second: Columns) -> FloatArray:
        steepest = rbf_slope(self._between(first, second), self.machine.gamma)
        return np.asarray(self.machine.stretch(self.norm) * steepest * _UP)

    def rounding(self) -> tuple[FloatArray, FloatArray]:
        """Of the sums and the exponents, and what the errors of the features can do."""
        machine, sizes = self.machine, np.abs(self.machine.coefficients)
        stretch = machine.stretch(self.norm)
        stretch_of_sizes = euclidean_stretch(machine.front.absolute().linear, self.norm)
        kernel = self.kernel * (1 + self.exponents) + _TINY
        terms = kernel @ sizes.T
        lengths = row_norms(self.rows, 2)[:, np.newaxis] * terms
        lengths += kernel @ (sizes * row_norms(self.vectors, 2)).T
        total = sizes.sum(axis=1).max(keepdims=True)
        scores = machine.error * (terms + np.abs(machine.offsets)).max(axis=1)
        scores += rbf_slope(total, machine.gamma) * self.errors
        gradient = machine.error * lengths.max(axis=1) * (stretch + stretch_of_sizes)
        gradient += total * stretch * self.errors
        return 2 * scores, 4 * machine.gamma * gradient

    def _between(self, first: Columns, second: Columns) -> FloatArray:
        return self.machine.coefficients[first] - self.machine.coefficients[second]


def _is_identity(front: Affine) -> bool:
    return front.linear.ndim == 1 and bool((front.linear == 1).all()) and not front.shift.any()


def _feature_errors(front: Affine, X: FloatArray) -> FloatArray:
    if _is_identity(front):
        return np.zeros(len(X))
    n_terms = 1 if front.linear.ndim == 1 else X.shape[1]
    return (n_terms + 16) * _EPS * row_norms(front.absolute()(np.abs(X)), 2)
