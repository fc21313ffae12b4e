"""Certification through pipelines and searches, in the units of the X passed in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from smoothlearn.certificates import Certificate
from smoothlearn.views.affine import Affine, FloatArray, as_affine
from smoothlearn.views.predictor import rebuild_frame


def certify(estimator: Any, X: Any, *, units: str = "input") -> Certificate:
    r"""Certify X through the steps in front of a smoothed classifier.

    Behind an affine preprocessing :math:`x \mapsto Ax + c`, a radius r of the smoother becomes
    :math:`r / \|A\|` in the units of X, with the operator norm of the certificate's norm.

    Parameters
    ----------
    estimator : estimator
        A fitted smoothed classifier, or a pipeline or search that ends in one.
    X : array_like or data frame of shape (n, d)
        What the estimator's ``predict`` takes.
    units : {"input", "smoother"}
        "input": radii are in the units of X. "smoother": in the units of what the smoother sees,
        behind a StandardScaler these are standard deviations.

    Returns
    -------
    Certificate

    Raises
    ------
    ValueError
        If a step in front is not affine and units is "input", or units is something else.
    TypeError
        If the final estimator has no ``certify``.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from smoothlearn import RandomizedSmoothingClassifier, certify
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> smoother = RandomizedSmoothingClassifier(LogisticRegression(), sigma=0.5)
    >>> pipeline = make_pipeline(StandardScaler(), smoother).fit(X, y)
    >>> round(certify(pipeline, X, units="smoother").accuracy(y, radius=0.5), 2)
    0.92
    >>> certify(pipeline, X).units
    'input'
    """
    if units not in ("input", "smoother"):
        raise ValueError(f"units must be 'input' or 'smoother', got {units!r}")
    steps, smoother = _steps_and_smoother(estimator)
    check_is_fitted(smoother)
    n_rows, n_features = np.shape(X) if np.ndim(X) == 2 else (len(X), 0)
    expected = getattr(estimator, "n_features_in_", n_features)
    if steps and not n_rows and expected != n_features:
        raise ValueError(f"X has {n_features} features, but {expected} were seen in fit")
    composed = Affine.identity(n_features)
    rows, eps = X, _resolution(X)
    for name, step in steps:
        if n_rows and step is not None and step != "passthrough":
            X = step.transform(X)
            eps = max(eps, _resolution(X))
        if units == "input":
            composed = composed.then(_affine_or_error(name, step, composed.shift.size))
    if steps and not n_rows:
        names = getattr(smoother, "feature_names_in_", None)
        library = getattr(smoother, "_frame_library", None)
        X = rebuild_frame(np.empty((0, smoother.n_features_in_)), names, library)
    certificate: Certificate = smoother.certify(X)
    if units == "smoother":
        return replace(certificate, units="smoother")
    if not steps:
        return certificate
    names = getattr(estimator, "feature_names_in_", None)
    if names is not None and hasattr(rows, "columns"):
        rows = rows[list(names)]  # a ColumnTransformer takes them in any order
    return _in_units_before(composed, certificate, _as_floats(rows), _as_floats(X), eps)


def _in_units_before(
    affine: Affine, certificate: Certificate, rows: FloatArray, behind: FloatArray, eps: float
) -> Certificate:
    """A certificate of the rows behind an affine map, for the rows in front of it.

    ``eps`` is the relative rounding error of the steps that computed the map. It is paid for at
    every row and, in proportion to the perturbation, around it.
    """
    norm, n_terms = certificate.norm, 8 * (rows.shape[1] + 16)
    sizes = affine.absolute()
    rounding = eps * n_terms * np.linalg.norm(sizes(np.abs(rows)), norm, axis=1)
    moved = np.linalg.norm(affine(rows) - behind, norm, axis=1)
    if np.any(moved > rounding):
        raise ValueError(
            f"the steps in front of the smoother put a row {moved.max():.3g} from where the affine "
            "map that they describe would, more than rounding does; use units='smoother'"
        )
    stretch = affine.operator_norm(norm) + eps * n_terms * sizes.operator_norm(norm)
    certificate = certificate.displaced(moved + rounding)
    return certificate.scaled(1 / stretch if stretch else np.inf, n_features=rows.shape[1])


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
