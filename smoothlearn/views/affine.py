"""Preprocessing steps as affine maps, with operator norms that are rounded up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.feature_selection import SelectorMixin
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
        At least the sum of the absolute values of the terms of each entry of A and c, which
        bounds its rounding error. None where every entry is one term.

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
        if outer.linear.ndim == 2:
            return Affine(self.pull_back(outer.linear), shift)
        factors = outer.linear if self.linear.ndim == 1 else outer.linear[:, np.newaxis]
        return Affine(factors * self.linear, shift)

    def operator_norm(self, norm: float) -> float:
        r"""An upper bound of :math:`\max_{x \neq 0} \|Ax\|_p / \|x\|_p` for p = 1, 2 or inf.

        The bound exceeds the norm by rounding errors alone.
        """
        if self.linear.ndim == 1:
            return float(np.max(np.abs(self.linear), initial=0.0)) * (1 + 1e-14)
        sizes = self.absolute().linear
        slack = 8 * sum(sizes.shape) * np.finfo(float).eps
        # one entry a row and a column, as in a selection: exact, and without a decomposition
        if all(np.count_nonzero(sizes, axis).max(initial=0) <= 1 for axis in (0, 1)):
            return float(np.max(np.abs(self.linear) + slack * sizes, initial=0.0))
        return float(np.linalg.norm(self.linear, norm) + slack * np.linalg.norm(sizes))


def as_affine(transformer: Any, n_features: int) -> Affine | None:
    """The fitted transformer as an affine map of ``n_features`` columns, or None if it is not one.

    Known are StandardScaler, RobustScaler, MaxAbsScaler, MinMaxScaler (without clipping), PCA,
    scikit-learn's feature selectors, an identity FunctionTransformer, ``"passthrough"``, and
    pipelines and column transformers of these.
    """
    if transformer is None or transformer == "passthrough":
        return Affine.identity(n_features)
    if isinstance(transformer, FrozenEstimator):
        return as_affine(transformer.estimator, n_features)
    kind = type(transformer)  # a subclass may transform otherwise
    if getattr(transformer, "clip", False):
        return None
    if issubclass(kind, SelectorMixin) and kind.__module__.startswith("sklearn."):
        return _selection(transformer.get_support(indices=True), n_features)
    return _READERS[kind](transformer, n_features) if kind in _READERS else None


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


def _standard(scaler: StandardScaler, n_features: int) -> Affine:
    centre = scaler.mean_ if scaler.with_mean else None
    return _centred(n_features, centre, scaler.scale_ if scaler.with_std else None)


def _robust(scaler: RobustScaler, n_features: int) -> Affine:
    centre = scaler.center_ if scaler.with_centering else None
    return _centred(n_features, centre, scaler.scale_ if scaler.with_scaling else None)


def _min_max(scaler: MinMaxScaler, n_features: int) -> Affine:
    return Affine(np.asarray(scaler.scale_, float), np.asarray(scaler.min_, float))


def _projection(pca: PCA, n_features: int) -> Affine:
    components = np.asarray(pca.components_, float)
    if pca.whiten:
        spread = np.sqrt(pca.explained_variance_)
        floor = np.finfo(spread.dtype).eps  # as in PCA.transform
        components = components / np.maximum(spread, floor)[:, np.newaxis]
    mean = np.asarray(pca.mean_, float)
    sizes = Affine(np.abs(components), np.abs(components) @ np.abs(mean))
    return Affine(components, -components @ mean, sizes)


def _selection(columns: NDArray[np.intp], n_features: int) -> Affine:
    """The map to these columns, one 1 in each row of its matrix."""
    matrix = np.zeros((len(columns), n_features))
    matrix[np.arange(len(columns)), columns] = 1
    return Affine(matrix, np.zeros(len(columns)))


def _column_transformer(transformer: ColumnTransformer, n_features: int) -> Affine | None:
    """Every part on its columns, one under the other."""
    if transformer.n_features_in_ != n_features:
        return None  # it takes columns by name, and may leave others of a frame alone
    blocks, n_read = [_selection(np.arange(0), n_features)], 0
    for step, columns, weight in _parts(transformer, n_features):
        part = as_affine(step, len(columns))
        if part is None:
            return None
        weigh = Affine(np.full(len(part.shift), weight), np.zeros(len(part.shift)))
        blocks.append(_selection(columns, n_features).then(part).then(weigh))
        n_read += len(columns)
    stacked, sizes = _stack(blocks), _stack([block.absolute() for block in blocks])
    # who reads sizes expects sums of n_features terms; columns that are repeated make longer ones
    growth = max(n_read, len(stacked.shift), n_features) / max(n_features, 1)
    return replace(stacked, sizes=Affine(growth * sizes.linear, growth * sizes.shift))


def _stack(blocks: list[Affine]) -> Affine:
    linear = np.concatenate([block.linear for block in blocks])
    return Affine(linear, np.concatenate([block.shift for block in blocks]))


def _parts(transformer: ColumnTransformer, n_features: int) -> Iterator[tuple[Any, Any, float]]:
    """Of every part that gives columns: the fitted step, what it reads by position, its weight."""
    names = list(getattr(transformer, "feature_names_in_", ()))
    weights = transformer.transformer_weights or {}
    outputs = getattr(transformer, "output_indices_", {})  # missing where all is dropped
    rest = np.ones(n_features, dtype=bool)
    for name, step, key in transformer.transformers_:
        last = name == "remainder"  # a name that is reserved; scikit-learn 1.6 has another key
        columns = rest.nonzero()[0] if last else _positions(key, names, n_features)
        rest[columns] = False
        output = outputs.get(name, slice(0, 0))
        if output.start != output.stop:
            weight = weights.get(name)
            yield step, columns, 1.0 if weight is None else float(weight)


def _positions(key: Any, names: list[str], n_features: int) -> NDArray[np.intp]:
    """The columns that a key of a ColumnTransformer stands for."""
    if not isinstance(key, slice):
        labels = np.atleast_1d(key)
        key = [names.index(label) if isinstance(label, str) else label for label in labels]
        return np.arange(n_features)[key]
    start = names.index(key.start) if isinstance(key.start, str) else key.start
    stop = names.index(key.stop) + 1 if isinstance(key.stop, str) else key.stop  # included
    return np.arange(n_features)[start : stop : key.step]


_READERS: dict[type, Callable[[Any, int], Affine | None]] = {
    ColumnTransformer: _column_transformer,
    FunctionTransformer: lambda step, d: Affine.identity(d) if step.func is None else None,
    MaxAbsScaler: lambda scaler, d: _centred(d, None, scaler.scale_),
    MinMaxScaler: _min_max,
    PCA: _projection,
    Pipeline: lambda pipeline, d: compose((step for _, step in pipeline.steps), d),
    RobustScaler: _robust,
    StandardScaler: _standard,
}
