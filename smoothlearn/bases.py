"""The base classifier of a smoother: fitted, then seen as votes on a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from smoothlearn.nn.randomness import private_torch_rng, seed_nested
from smoothlearn.views.affine import FloatArray
from smoothlearn.views.linear import as_linear
from smoothlearn.views.network import as_network, is_network, target_dtype
from smoothlearn.views.predictor import predictor_votes

Votes = Callable[[torch.Tensor], torch.Tensor]


def check_base(estimator: Any) -> None:
    """Raise a TypeError unless the estimator can be a base."""
    usable = not isinstance(estimator, type) and hasattr(estimator, "predict")
    if not usable or not is_classifier(estimator):
        raise TypeError(
            f"estimator must be a classifier, got {estimator!r}; wrap a torch module in skorch's "
            "NeuralNetClassifier"
        )


def fit_base(
    estimator: Any,
    X: FloatArray,
    y: NDArray[Any],
    *,
    as_given: Callable[[FloatArray], Any],
    device: torch.device,
    seed: int,
    fit_params: dict[str, Any],
) -> tuple[Any, NDArray[Any]]:
    """The fitted clone of a base and its classes, or a frozen base as it is.

    A net sees float32 rows and class indices, anything else rows ``as_given`` and y unchanged.
    """
    if isinstance(estimator, FrozenEstimator):
        return estimator, _frozen_classes(estimator, X, y)
    base = clone(estimator)
    seed_nested(base, seed)
    classes, indices = np.unique(y, return_inverse=True)
    if not is_network(base):
        base.fit(as_given(X), y, **fit_params)
        return base, np.asarray(getattr(base, "classes_", classes))
    if target_dtype(base) is np.float32 and len(classes) > 2:
        raise ValueError(f"a NeuralNetBinaryClassifier has two classes, y {len(classes)}")
    with private_torch_rng(seed, device):
        base.fit(X.astype(np.float32), indices.astype(target_dtype(base)), **fit_params)
    return base, classes


def base_votes(
    base: Any,
    classes: NDArray[Any],
    n_features: int,
    device: torch.device,
    as_given: Callable[[FloatArray], Any],
) -> tuple[Votes, type]:
    """The function from a batch to class indices, and the dtype it wants rows in.

    On the device where the structure of the base is known, else its own ``predict`` on the CPU.
    """
    view = as_linear(base, n_features) or as_network(base, n_features)
    if view is not None:
        return view.votes(device), np.float32
    if is_network(base):
        indices = np.arange(len(classes))
        return predictor_votes(base.predict, indices, lambda X: X.astype(np.float32)), np.float64
    as_input = as_given if hasattr(base, "feature_names_in_") else np.asarray
    return predictor_votes(base.predict, classes, as_input), np.float64


def _frozen_classes(estimator: FrozenEstimator, X: FloatArray, y: NDArray[Any]) -> NDArray[Any]:
    check_is_fitted(estimator, "classes_")
    n_features = getattr(estimator, "n_features_in_", X.shape[1])
    if n_features != X.shape[1]:
        raise ValueError(
            f"the frozen estimator was fitted on {n_features} features, X has {X.shape[1]}"
        )
    classes = np.asarray(estimator.classes_)
    unknown = np.setdiff1d(y, classes)
    if unknown.size:
        raise ValueError(
            f"y has labels that the frozen estimator does not know: {unknown[:5].tolist()}; it "
            f"knows {classes[:10].tolist()}"
        )
    return classes
