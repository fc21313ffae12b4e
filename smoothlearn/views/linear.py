"""Classifiers with ``coef_`` and ``intercept_`` as the linear function they compute."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from smoothlearn.theory.norms import dual, row_norms
from smoothlearn.views.affine import Affine, FloatArray, split_affine
from smoothlearn.views.expansion import Columns, Expansion


@dataclass(frozen=True, eq=False)
class Linear:
    r"""Scores :math:`W x + b`; the label is the largest, or the sign where W has one row.

    Parameters
    ----------
    weights : ndarray of shape (n_classes, d), or (1, d) for two classes
    offsets : ndarray of shape (n_classes,) or (1,)
    weight_sizes, offset_sizes : ndarray of the shapes of weights and offsets
        Sum of the absolute values of the terms of each entry, which bounds its rounding error.
    """

    weights: FloatArray
    offsets: FloatArray
    weight_sizes: FloatArray
    offset_sizes: FloatArray

    @classmethod
    def plain(cls, weights: FloatArray, offsets: FloatArray) -> Linear:
        """The function whose every entry is one number, not a sum of several."""
        return cls(weights, offsets, np.abs(weights), np.abs(offsets))

    def behind(self, front: Affine) -> Linear:
        """The same function seen from before an affine map."""
        sizes = front.absolute()
        return Linear(
            front.pull_back(self.weights),
            self.scores(front.shift[np.newaxis])[0],
            sizes.pull_back(self.weight_sizes),
            self.weight_sizes @ sizes.shift + self.offset_sizes,
        )

    @property
    def two_class(self) -> bool:
        return len(self.weights) == 1

    @property
    def reader(self) -> Linear:
        """What decides by outputs, which are the scores."""
        return self

    def scores(self, X: FloatArray) -> FloatArray:
        return np.asarray(X @ self.weights.T + self.offsets)

    def labels(self, X: FloatArray) -> NDArray[np.intp]:
        """Column index of the winning class of every row."""
        scores = self.scores(X)
        return (scores[:, 0] > 0).astype(np.intp) if self.two_class else scores.argmax(axis=1)

    def margin(self, X: FloatArray) -> FloatArray:
        r"""The signed distance :math:`(\langle w, x \rangle + b) / \|w\|` to a two-class boundary.

        Shape (n,), in the units of X. Its absolute value is lowered by a bound on the rounding
        error, so that it never exceeds the distance of the classifier these floats describe;
        infinite where w = 0, as no perturbation changes that classifier.
        """
        weights = self.weights[0]
        size = np.max(np.abs(weights), initial=0.0)
        score = self.scores(X)[:, 0]
        sign = np.where(score > 0, 1.0, -1.0)
        if size == 0:
            return np.asarray(sign * np.inf)
        length = size * np.linalg.norm(weights / size)  # squares of small weights would be 0
        rounding = (len(weights) + 16) * np.finfo(float).eps
        error = rounding * (np.abs(X) @ self.weight_sizes[0] + self.offset_sizes[0])
        longest = length + rounding * size * np.linalg.norm(self.weight_sizes[0] / size)
        distance = np.maximum(np.abs(score) - error, 0) / longest
        return np.asarray(sign * distance)

    def centred(self) -> Linear:
        """The same decisions by scores less their mean: what rows of W share decides nothing."""
        if self.two_class:
            return self
        weights, offsets = self.weights - self.weights.mean(axis=0), self.offsets
        return Linear.plain(weights, offsets - offsets.mean())

    def at(self, X: FloatArray, norm: float) -> Expansion:
        """The expansion around the rows of X, float64, for a threat in the p-norm."""
        table = self._two_columns() if self.two_class else self
        q, n_rows = dual(norm), len(X)
        error = (X.shape[1] + 16) * np.finfo(float).eps
        sizes = row_norms(table.weight_sizes, q)

        def gradient(first: Columns, second: Columns) -> FloatArray:
            return table.weights[first] - table.weights[second]

        def slope(first: Columns, second: Columns) -> FloatArray:
            length = row_norms(gradient(first, second), q)
            return np.asarray((1 + error) * length + error * (sizes[first] + sizes[second]))

        def rounding() -> tuple[FloatArray, FloatArray]:
            terms = np.abs(X) @ table.weight_sizes.T + table.offset_sizes
            return 2 * error * terms.max(axis=1), np.full(n_rows, 2 * error * sizes.max())

        return Expansion(table.scores(X), gradient, lambda *_: np.zeros(n_rows), slope, rounding)

    def _two_columns(self) -> Linear:
        """The scores 0 and f of two classes."""
        parts = (self.weights, self.offsets, self.weight_sizes, self.offset_sizes)
        return Linear(*(np.concatenate([np.zeros_like(part), part]) for part in parts))

    def votes(self, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
        """The function from a float32 batch of inputs to class indices on the device."""
        scores = self.outputs(device)
        return lambda batch: self.decide(scores(batch))

    def logits(self, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
        """The function from a float32 batch of inputs to one score a class, differentiable.

        The class with the largest has the vote.
        """
        return self._two_columns().outputs(device) if self.two_class else self.outputs(device)

    def outputs(self, device: torch.device) -> Callable[[torch.Tensor], torch.Tensor]:
        """The function from a float32 batch of inputs to scores on the device."""
        weights = torch.tensor(self.weights.T, dtype=torch.float32, device=device)
        offsets = torch.tensor(self.offsets, dtype=torch.float32, device=device)
        return lambda batch: torch.addmm(offsets, batch, weights)

    def decide(self, scores: torch.Tensor) -> torch.Tensor:
        """Class indices of a batch of scores."""
        return (scores[:, 0] > 0).long() if self.two_class else scores.argmax(dim=1)

    def columns(self, scores: torch.Tensor) -> torch.Tensor:
        """One score a class of a batch of scores; the largest has the vote."""
        return torch.cat([torch.zeros_like(scores), scores], dim=1) if self.two_class else scores


def noise_factor(weights: FloatArray) -> FloatArray:
    r"""The lower triangular L with :math:`L L^T = W W^T`, (k, min(k, d)) for W of shape (k, d).

    The law of :math:`W(x + \sigma\varepsilon)` is that of :math:`Wx + \sigma L z` with z standard
    normal. From the orthogonal decomposition :math:`W^T = Q L^T`, which loses no digits of short
    rows beside long ones, and needs no rank.
    """
    return np.asarray(np.linalg.qr(weights.T, mode="r")).T


def as_linear(model: Any, n_features: int) -> Linear | None:
    """The fitted classifier as a linear function of raw inputs, or None if it is not one.

    Affine steps in front are folded in. ``coef_`` alone does not make a classifier linear (a
    one-against-one SVC has it too), so what was read off is compared with what the model says at
    random points and on both sides of its boundary.
    """
    split = split_affine(model, n_features)
    if split is None:
        return None
    front, final = split
    raw = _read_coefficients(final, front.shift.size)
    if raw is None or not _agrees(raw, final):
        return None
    return raw.behind(front)


def _read_coefficients(model: Any, n_features: int) -> Linear | None:
    coef, intercept = getattr(model, "coef_", None), getattr(model, "intercept_", None)
    if coef is None or intercept is None or not hasattr(model, "decision_function"):
        return None
    coef = np.atleast_2d(np.asarray(coef.toarray() if hasattr(coef, "toarray") else coef, float))
    intercept = np.ravel(np.asarray(intercept, float))
    n_classes = len(model.classes_)
    n_rows = 1 if n_classes == 2 else n_classes
    if coef.shape != (n_rows, n_features) or len(intercept) not in (1, n_rows):
        return None
    offsets = np.broadcast_to(intercept, n_rows).copy()
    return Linear.plain(coef, offsets)


def _agrees(view: Linear, model: Any) -> bool:
    model = copy(model)
    if hasattr(model, "feature_names_in_"):
        del model.feature_names_in_
    size = max(float(np.abs(view.offsets).max()), 1.0)  # the scores are of this order
    length = float(np.linalg.norm(view.weights, axis=1).max()) or 1.0
    rng = np.random.default_rng(0)
    probes = rng.standard_normal((32, view.weights.shape[1])) * np.logspace(-2, 2, 32)[:, None]
    probes *= size / length
    if view.two_class and view.weights.any():
        normal = view.weights[0] / length
        foot = probes - np.outer(view.margin(probes), normal)
        steps = np.outer(size / length * np.logspace(-5, 1, 32), normal)
        probes = np.concatenate([probes, foot + steps, foot - steps])
    scores = view.scores(probes)
    said = np.asarray(model.decision_function(probes)).reshape(len(probes), -1)
    if said.shape != scores.shape or not np.allclose(said, scores, rtol=1e-6, atol=1e-9 * size):
        return False
    return np.array_equal(model.predict(probes), model.classes_[view.labels(probes)])
