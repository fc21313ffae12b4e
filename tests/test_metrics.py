"""Scores are the certificate's; the scorer is an object that searches can copy."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from smoothlearn import (
    CertifiedAccuracyScorer,
    RandomizedSmoothingClassifier,
    average_certified_radius,
    certified_accuracy_score,
    certify,
)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    return rng.standard_normal((60, 3)) * [1, 5, 2] + y[:, None] * [2, 0, 0], y


@pytest.fixture(scope="module")
def pipeline(rows):
    return make_pipeline(StandardScaler(), RandomizedSmoothingClassifier(LogisticRegression())).fit(
        *rows
    )


def voting(**changes):
    settings = {"n_draws": 50, "n_certify_draws": 50, "random_state": 0} | changes
    return RandomizedSmoothingClassifier(KNeighborsClassifier(3), **settings)


def test_scores_are_those_of_the_certificate(rows, pipeline):
    X, y = rows
    certificate = certify(pipeline, X)
    for radius in (0.0, 0.2, 1.0):
        score = certified_accuracy_score(y, certificate, radius=radius)
        assert score == certificate.accuracy(y, radius)
    assert average_certified_radius(y, certificate) == certificate.average_radius(y)


@pytest.mark.parametrize("units", ["input", "smoother"])
def test_the_scorer_certifies_in_its_units(rows, pipeline, units):
    X, y = rows
    score = CertifiedAccuracyScorer(radius=0.4, units=units)(pipeline, X, y)
    assert score == certify(pipeline, X, units=units).accuracy(y, 0.4)


def test_units_make_a_difference(rows, pipeline):
    scores = [
        CertifiedAccuracyScorer(0.4, units)(pipeline, *rows) for units in ("input", "smoother")
    ]
    assert scores[0] != scores[1]


def test_the_scorer_is_a_value():
    scorer = CertifiedAccuracyScorer(radius=0.5, units="smoother")
    assert pickle.loads(pickle.dumps(scorer)) == scorer == CertifiedAccuracyScorer(0.5, "smoother")
    assert scorer not in {CertifiedAccuracyScorer(0.5), CertifiedAccuracyScorer(0.6, "smoother")}
    assert CertifiedAccuracyScorer(0.5).units == "input"
    search = GridSearchCV(voting(), {"sigma": [0.2]}, scoring=scorer)
    assert clone(search).scoring == scorer


def test_searches_and_cross_validation_take_it(rows, pipeline):
    scorer = CertifiedAccuracyScorer(radius=0.3, units="smoother")
    scores = cross_val_score(clone(pipeline), *rows, scoring=scorer, cv=3, error_score="raise")
    assert 0.5 < scores.mean() <= 1
    search = GridSearchCV(
        clone(pipeline),
        {"randomizedsmoothingclassifier__sigma": [0.25, 0.5]},
        scoring=scorer,
        cv=2,
        error_score="raise",
    ).fit(*rows)
    assert scorer(search, *rows) == scorer(search.best_estimator_, *rows)


def test_a_radius_out_of_reach_is_warned_of(rows):
    X, y = rows
    smoother = voting(sigma=0.5).fit(X, y)
    with pytest.warns(UserWarning, match="no row can be certified at radius 1.*at least 305 draws"):
        assert CertifiedAccuracyScorer(radius=1.0)(smoother, X[:10], y[:10]) == 0
    smoother.set_params(n_certify_draws=305)
    CertifiedAccuracyScorer(radius=1.0)(smoother, X[:10], y[:10])  # no warning
