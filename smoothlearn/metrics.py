"""Scores of certified robustness for scikit-learn's model selection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from smoothlearn.certificates import Certificate
from smoothlearn.jobs.certify import certify


def certified_accuracy_score(
    y_true: ArrayLike, certificate: Certificate, *, radius: float
) -> float:
    """Share of rows with the right label and a certified radius of at least ``radius``.

    Parameters
    ----------
    y_true : array_like of shape (n,)
    certificate : Certificate
    radius : float
        In the certificate's units and norm.

    See Also
    --------
    Certificate.accuracy : what is computed, and the errors raised.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.preprocessing import scale
    >>> from smoothlearn import RandomizedSmoothingClassifier, certified_accuracy_score
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> smoother = RandomizedSmoothingClassifier(LogisticRegression()).fit(scale(X), y)
    >>> round(certified_accuracy_score(y, smoother.certify(scale(X)), radius=1.0), 2)
    0.79
    """
    return certificate.accuracy(y_true, radius)


def average_certified_radius(y_true: ArrayLike, certificate: Certificate) -> float:
    """Mean certified radius, counting 0 where the label is wrong or the certificate abstains.

    It hides hard rows behind easy ones: look at certified accuracy over radii, too.

    Parameters
    ----------
    y_true : array_like of shape (n,)
    certificate : Certificate

    See Also
    --------
    Certificate.average_radius : what is computed, and the errors raised.
    """
    return certificate.average_radius(y_true)


@dataclass(frozen=True)
class CertifiedAccuracyScorer:
    """Scorer of certified accuracy at a radius, for ``scoring=`` in searches and cross-validation.

    Works on smoothed classifiers and on pipelines and searches that end in one. Each row is decided
    at this radius alone, from as few draws as that takes. The best score of a search is biased by
    its selection: certify on rows that the search never saw.

    Parameters
    ----------
    radius : float
    units : {"input", "smoother"}
        Whether the radius is in the units of X or of what the smoother sees.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from smoothlearn import CertifiedAccuracyScorer, RandomizedSmoothingClassifier
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> smoother = RandomizedSmoothingClassifier(LogisticRegression())
    >>> scorer = CertifiedAccuracyScorer(radius=1.0, units="smoother")
    >>> scores = cross_val_score(make_pipeline(StandardScaler(), smoother), X, y, scoring=scorer)
    >>> round(float(scores.mean()), 1)
    0.8
    """

    radius: float
    units: str = "input"

    def __call__(self, estimator: Any, X: Any, y: ArrayLike) -> float:
        certificate = certify(estimator, X, units=self.units, radius=self.radius)
        return certificate.accuracy(y, self.radius)
