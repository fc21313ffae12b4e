"""What smoothed classifiers share: rows of X, certified radii, a base."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from smoothlearn.bases import check_base
from smoothlearn.certificates import Certificate
from smoothlearn.views.affine import FloatArray
from smoothlearn.views.predictor import frame_library, rebuild_frame


class Smoother(ClassifierMixin, BaseEstimator):
    """A classifier that certifies what it predicts."""

    @abstractmethod
    def certify(
        self, X: Any, *, radius: ArrayLike | None = None, max_radius: ArrayLike | None = None
    ) -> Certificate:
        """Labels, and radii within which no perturbation changes them.

        Who asks for a ``radius``, or none above ``max_radius``, may get no more than that.
        """

    def certified_radius(self, X: Any) -> FloatArray:
        """The radius of ``certify``, of shape (n,); 0 where it abstains.

        Serves as ``response_method`` of scikit-learn's DecisionBoundaryDisplay; its older versions
        want a ``class_of_interest``, any, where there are more than two classes.

        Parameters
        ----------
        X : array_like or data frame of shape (n, d)

        Returns
        -------
        ndarray of shape (n,), float64
        """
        return self.certify(X).radius.copy()

    def _check_training(self, X: Any, y: Any) -> tuple[FloatArray, NDArray[Any]]:
        """Rows, and labels of at least two classes."""
        library = frame_library(X)
        X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        if len(np.unique(y)) < 2:
            raise ValueError(f"y has one class, {y[0]!r}; a classifier needs at least two")
        self._frame_library = library
        return X, y

    def _check_rows(self, X: Any) -> FloatArray:
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=np.float64, reset=False, ensure_min_samples=0)
        return np.asarray(rows)

    def _as_given(self, X: FloatArray) -> Any:
        """The rows as a frame of the kind that ``fit`` got, for bases that select by name."""
        return rebuild_frame(X, self._columns(), self._frame_library)

    def _columns(self) -> Any:
        return getattr(self, "feature_names_in_", None)


class MetaSmoother(MetaEstimatorMixin, Smoother):
    """A smoother made of another classifier, its base ``estimator``."""

    estimator: Any

    def get_metadata_routing(self) -> MetadataRouter:
        """What ``fit`` passes on to the base."""
        mapping = MethodMapping().add(caller="fit", callee="fit")
        router = MetadataRouter(owner=type(self).__name__)
        return router.add(estimator=self.estimator, method_mapping=mapping)

    def _route(self, fit_params: dict[str, Any]) -> dict[str, Any]:
        """What of this is for the ``fit`` of the base, which must be a classifier."""
        check_base(self.estimator)
        return dict(process_routing(self, "fit", **fit_params).estimator.fit)
