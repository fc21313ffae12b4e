"""Preprocessing steps as affine maps, with operator norms that are rounded up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    RobustScaler,
    StandardScaler,
)

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Affine:
    r"""The map :math:`x \mapsto A x + c`.

    Parameters
    ----------
    linear : ndarray of shape (d,) or (k, d)
        The diagonal of A where A is diagonal, else A.
    shift : ndarray of shape (d,) or (k,)
        The vector c.
    sizes : Affine or None
        The sum of the absolute values of the terms of each entry of A and c, which bounds its
        rounding error. None where every entry is one term.

    Examples
    --------
    >>> import numpy as np
    >>> from smoothlearn.views.affine import Affine
    >>> halve = Affine(np.array([0.5, 0.25]), np.zeros(2))
    >>> halve(np.array([[2.0, 4.0]]))
    array([[1., 1.]])
    >>> round(halve.operator_norm(2), 6)
    0.5
    """

    linear: FloatArray
    shift: FloatArray
    sizes: Affine | None = None

    @classmethod
    def identity(cls, n_features: int) -> Affine:
        return cls(np.ones(n_features), np.zeros(n_features))

    def __call__(self, X: FloatArray) -> FloatArray:
        return self.apply_linear(X) + self.shift

    def apply_linear(self, X: FloatArray) -> FloatArray:
        """A x for every row x."""
        return X * self.linear if self.linear.ndim == 1 else X @ self.linear.T

    def pull_back(self, weights: FloatArray) -> FloatArray:
        """W A, the rows of W seen from before the map."""
        return weights * self.linear if self.linear.ndim == 1 else weights @ self.linear

    def absolute(self) -> Affine:
        r"""The map of :math:`|x|` to a sum that bounds the rounding errors of Ax + c, times eps."""
        return self.sizes or Affine(np.abs(self.linear), np.abs(self.shift))

    def then(self, outer: Affine) -> Affine:
        """The composition ``outer(self(x))``."""
        sizes = self.absolute()._then(outer.absolute())
        return replace(self._then(outer), sizes=sizes)

    def _then(self, outer: Affine) -> Affine:
        shift = outer(self.shift[np.newaxis])[0]
        if self.linear.ndim == 1 and outer.linear.ndim == 1:
            return Affine(outer.linear * self.linear, shift)
        matrix = np.diag(outer.linear) if outer.linear.ndim == 1 else outer.linear
        return Affine(self.pull_back(matrix), shift)

    def operator_norm(self, norm: float) -> float:
        r"""An upper bound of :math:`\max_{x \neq 0} \|Ax\|_p / \|x\|_p` for p = 1, 2 or inf.

        The bound exceeds the norm by rounding errors alone.
        """
        if self.linear.ndim == 1:
            return float(np.max(np.abs(self.linear), initial=0.0)) * (1 + 1e-14)
        slack = 8 * sum(self.linear.shape) * np.finfo(float).eps
        error = slack * np.linalg.norm(self.absolute().linear)
        return float(np.linalg.norm(self.linear, norm) + error)


def as_affine(transformer: Any, n_features: int) -> Affine | None:
    """The fitted transformer as an affine map of ``n_features`` columns, or None if it is not one.

    Known are StandardScaler, RobustScaler, MaxAbsScaler, MinMaxScaler (without clipping), PCA, an
    identity FunctionTransformer, ``"passthrough"`` and pipelines of these.
    """
    identity = Affine.identity(n_features)
    if transformer is None or transformer == "passthrough":
        return identity
    if isinstance(transformer, FrozenEstimator):
        return as_affine(transformer.estimator, n_features)
    kind = type(transformer)  # a subclass may transform otherwise
    if kind is Pipeline:
        return compose((step for _, step in transformer.steps), n_features)
    if kind is FunctionTransformer and transformer.func is None:
        return identity
    if getattr(transformer, "clip", False):
        return None
    if kind is StandardScaler:
        return _centred(
            n_features,
            transformer.mean_ if transformer.with_mean else None,
            transformer.scale_ if transformer.with_std else None,
        )
    if kind is RobustScaler:
        return _centred(
            n_features,
            transformer.center_ if transformer.with_centering else None,
            transformer.scale_ if transformer.with_scaling else None,
        )
    if kind is MaxAbsScaler:
        return _centred(n_features, None, transformer.scale_)
    if kind is MinMaxScaler:
        return Affine(np.asarray(transformer.scale_, float), np.asarray(transformer.min_, float))
    if kind is PCA:
        components = np.asarray(transformer.components_, float)
        if transformer.whiten:
            spread = np.sqrt(transformer.explained_variance_)
            floor = np.finfo(spread.dtype).eps  # as in PCA.transform
            components = components / np.maximum(spread, floor)[:, np.newaxis]
        mean = np.asarray(transformer.mean_, float)
        sizes = Affine(np.abs(components), np.abs(components) @ np.abs(mean))
        return Affine(components, -components @ mean, sizes)
    return None


def compose(transformers: Any, n_features: int) -> Affine | None:
    """The composition of fitted transformers, first one first, or None if one is not affine."""
    composed = Affine.identity(n_features)
    for transformer in transformers:
        step = as_affine(transformer, composed.shift.size)
        if step is None:
            return None
        composed = composed.then(step)
    return composed


def split_affine(model: Any, n_features: int) -> tuple[Affine, Any] | None:
    """The affine steps in front of a fitted model and the estimator behind them.

    None where a leading step is not affine. scikit-learn's own pipelines, searches and frozen
    estimators are opened; subclasses are not, as they may predict otherwise.
    """
    if isinstance(model, FrozenEstimator):
        return split_affine(model.estimator, n_features)
    own = type(model).__module__.startswith("sklearn.")
    if own and hasattr(model, "best_estimator_"):
        return split_affine(model.best_estimator_, n_features)
    if type(model) is not Pipeline:
        return Affine.identity(n_features), model
    front = compose((step for _, step in model.steps[:-1]), n_features)
    if front is None:
        return None
    rest = split_affine(model.steps[-1][1], front.shift.size)
    return None if rest is None else (front.then(rest[0]), rest[1])


def _centred(n_features: int, centre: Any, scale: Any) -> Affine:
    linear = np.ones(n_features) if scale is None else 1 / np.asarray(scale, float)
    shift = np.zeros(n_features) if centre is None else -np.asarray(centre, float) * linear
    return Affine(linear, shift)
