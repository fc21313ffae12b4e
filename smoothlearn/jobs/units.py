"""The steps in front of a smoother, and what radii behind them mean in front."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, replace
from inspect import Parameter, signature
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from smoothlearn.certificates import Certificate
from smoothlearn.views.affine import Affine, FloatArray, as_affine
from smoothlearn.views.predictor import rebuild_frame

_MARGIN = 1e-12  # relative: more than rounding takes from a radius on its way there and back


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of every row: its certificate, maybe only at a radius or up to one.

    Parameters
    ----------
    steps : list of (str, transformer)
        In front of the smoother, first one first.
    smoother : estimator
    n_features : int or None
        What the first step, or the smoother, saw in ``fit``.
    names : sequence of str or None
        Columns of X, where it was a frame.
    units : {"input", "smoother"}
    asked : dict
        ``radius`` or ``max_radius`` in these units, or nothing.
    """

    steps: list[tuple[str, Any]]
    smoother: Any
    n_features: int | None
    names: Any
    units: str
    asked: dict[str, float]
    _front: dict[int, Front] = field(default_factory=dict)

    @classmethod
    def about(cls, estimator: Any, units: str, asked: dict[str, float]) -> Question:
        """The question for a fitted smoother, or a pipeline or search that ends in one.

        Raises
        ------
        TypeError
            If no smoother is found, or its ``certify`` does not take what is asked.
        """
        steps, smoother = _steps_and_smoother(estimator)
        check_is_fitted(smoother)
        _check_takes(smoother, asked)
        n_features = getattr(estimator, "n_features_in_", None)
        names = getattr(estimator, "feature_names_in_", None)
        return cls(steps, smoother, n_features, names, units, asked)

    def to(self, **settings: Any) -> Question:
        """The same question for the smoother with other settings, of those that it has."""
        smoother = copy(self.smoother)
        for name, value in settings.items():
            if hasattr(smoother, name):
                setattr(smoother, name, value)
        return replace(self, smoother=smoother)

    def answer(self, X: Any) -> Certificate:
        """The certificate of these rows, in the units asked for."""
        rows, eps = X, _resolution(X)
        n_rows, n_features = np.shape(X) if np.ndim(X) == 2 else (len(X), 0)
        if self.steps and not n_rows and self.n_features not in (None, n_features):
            raise ValueError(f"X has {n_features} features, but {self.n_features} were seen in fit")
        for _, step in self.steps if n_rows else ():
            if step is not None and step != "passthrough":
                X = step.transform(X)
                eps = max(eps, _resolution(X))
        if self.units == "smoother" or not self.steps:
            behind = _no_rows(self.smoother) if self.steps and not n_rows else X
            certificate = self.smoother.certify(behind, **self.asked)
            return self._as_asked(replace(certificate, units=self.units))
        front = self._composed(n_features)
        X = X if n_rows else _no_rows(self.smoother)
        if self.names is not None and hasattr(rows, "columns"):
            rows = rows[list(self.names)]  # a ColumnTransformer takes them in any order
        values, behind, norm = _as_floats(rows), _as_floats(X), _norm(self.smoother)
        asked = {}
        for name, value in self.asked.items():
            asked[name] = _behind(value, *front.costs(values, behind, eps, norm))
        certificate = self.smoother.certify(X, **asked)
        moved, stretch = front.costs(values, behind, eps, certificate.norm)
        factor = 1 / stretch if stretch else np.inf
        certificate = certificate.displaced(moved).scaled(factor, n_features=n_features)
        return self._as_asked(certificate)

    def _composed(self, n_features: int) -> Front:
        """The steps as one affine map, composed once."""
        if n_features not in self._front:
            affine = Affine.identity(n_features)
            for name, step in self.steps:
                affine = affine.then(_affine_or_error(name, step, affine.shift.size))
            self._front[n_features] = Front(affine)
        return self._front[n_features]

    def _as_asked(self, certificate: Certificate) -> Certificate:
        """What a certificate says about the radius asked for: that one, where it has as much."""
        if certificate.procedure == "exact" or not self.asked:
            return certificate
        if "max_radius" in self.asked:
            cap = self.asked["max_radius"]
            return replace(certificate, radius=np.minimum(certificate.radius, cap), max_radius=cap)
        radius = self.asked["radius"]
        passed = ~certificate.abstained & (certificate.radius >= radius)
        return replace(
            certificate,
            radius=np.where(passed, radius, 0.0),
            abstained=~passed,
            tested_radius=radius,
        )


@dataclass(frozen=True, eq=False)
class Front:
    """An affine map in front of a smoother, and what it costs."""

    affine: Affine
    _norms: dict[float, tuple[float, float]] = field(default_factory=dict)

    def costs(
        self, rows: FloatArray, behind: FloatArray, eps: float, norm: float
    ) -> tuple[FloatArray, float]:
        """How far, at most, each row behind the map is from where it belongs, and the stretch.

        ``eps`` is the relative rounding error of the steps that computed the map. It is paid for
        at every row and, in proportion to the perturbation, around it.
        """
        n_terms = 8 * (rows.shape[1] + 16)
        sizes = self.affine.absolute()
        rounding = eps * n_terms * np.linalg.norm(sizes(np.abs(rows)), norm, axis=1)
        moved = np.linalg.norm(self.affine(rows) - behind, norm, axis=1)
        if np.any(moved > rounding):
            raise ValueError(
                f"the steps in front of the smoother put a row {moved.max():.3g} from where the "
                "affine map that they describe would, more than rounding does; use units='smoother'"
            )
        if norm not in self._norms:
            self._norms[norm] = self.affine.operator_norm(norm), sizes.operator_norm(norm)
        length, size = self._norms[norm]
        return moved + rounding, length + eps * n_terms * size


def _behind(radius: float, moved: FloatArray, stretch: float) -> FloatArray:
    """What to ask for behind the map, a little more than is left of it in front."""
    with np.errstate(invalid="ignore", over="ignore"):
        asked = (radius * stretch + moved) * (1 + _MARGIN) + np.finfo(float).tiny
    return np.where(np.isnan(asked), np.inf, asked)


def _norm(smoother: Any) -> float:
    """The norm that a smoother is likely to answer in."""
    norm = getattr(smoother, "norm", 2)
    return norm if norm in (1, 2, np.inf) else 2


def _steps_and_smoother(estimator: Any) -> tuple[list[tuple[str, Any]], Any]:
    """Fitted transformers in front, first one first, and the smoother behind them."""
    if hasattr(estimator, "certify"):
        return [], estimator
    if type(estimator) is Pipeline:
        inner, smoother = _steps_and_smoother(estimator.steps[-1][1])
        return list(estimator.steps[:-1]) + inner, smoother
    if isinstance(estimator, FrozenEstimator):
        return _steps_and_smoother(estimator.estimator)
    if isinstance(getattr(estimator, "estimator", None), BaseEstimator):
        check_is_fitted(estimator)
        if hasattr(estimator, "best_estimator_"):
            return _steps_and_smoother(estimator.best_estimator_)
    raise TypeError(
        f"{type(estimator).__name__} has no certify; pass a smoothed classifier, or a pipeline or "
        "a refitted search that ends in one"
    )


def _check_takes(smoother: Any, asked: dict[str, float]) -> None:
    known = signature(smoother.certify).parameters
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in known.values()):
        return
    for name in asked.keys() - known.keys():
        raise TypeError(
            f"{name} was given, and {type(smoother).__name__}.certify does not take it; certify "
            "without, and read the radii of the certificate"
        )


def _no_rows(smoother: Any) -> Any:
    names = getattr(smoother, "feature_names_in_", None)
    library = getattr(smoother, "_frame_library", None)
    return rebuild_frame(np.empty((0, smoother.n_features_in_)), names, library)


def _resolution(X: Any) -> float:
    """The largest relative rounding error of the floats in X; columns of a frame may differ."""
    columns = [X[name].to_numpy() for name in X.columns] if hasattr(X, "columns") else [X]
    dtypes = [getattr(column, "dtype", np.asarray(column).dtype) for column in columns]
    return max(float(np.finfo(kind if kind.kind == "f" else float).eps) for kind in dtypes)


def _as_floats(X: Any) -> FloatArray:
    return np.asarray(X.toarray() if hasattr(X, "toarray") else X, dtype=float)


def _affine_or_error(name: str, step: Any, n_features: int) -> Affine:
    affine = as_affine(step, n_features)
    if affine is None:
        raise ValueError(
            f"units='input' needs affine steps in front of the smoother, and {name!r} "
            f"({type(step).__name__}) is not known to be affine; move it into the smoother's base, "
            "or use units='smoother' to read radii behind it"
        )
    return affine
