"""Decisions at a radius, and radii up to one, in the units of X."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from smoothlearn import (
    LocallyBiasedSmoother,
    RandomizedSmoothingClassifier,
    certified_accuracy_score,
    certify,
)


@pytest.mark.parametrize("norm", [1, 2, np.inf])
@pytest.mark.parametrize("radius", [0.0, 1e-300, 1e-9, 0.1, 1 / 3, 7.0, 1e9])
def test_what_is_asked_behind_is_enough_in_front(norm, radius, echo):
    rng = np.random.default_rng(0)
    for seed in range(20):
        X = rng.standard_normal((50, 3)) * 10.0 ** rng.integers(-6, 6, 3) + rng.normal(0, 1e3, 3)
        model = make_pipeline(StandardScaler(), MaxAbsScaler(), echo(norm=norm))
        model.fit(X, np.arange(50) % 2)
        decided = certify(model, X, radius=radius)
        np.testing.assert_array_equal(decided.radius, radius)
        assert not decided.abstained.any()
        assert decided.tested_radius == radius
        assert type(decided.tested_radius) is float
        capped = certify(model, X, max_radius=radius)
        np.testing.assert_array_equal(capped.radius, radius)
        assert capped.max_radius == radius
        if radius and not seed:  # a smoother that says less than it was asked for
            short = certify(
                make_pipeline(*model[:-1], echo(1 - 1e-9).fit(X, [0, 1] * 25)), X, radius=radius
            )
            assert short.abstained.all()
            assert not short.radius.any()


def test_radii_are_asked_for_row_by_row_where_rounding_moved_rows(echo):
    X = np.float32(np.random.default_rng(0).standard_normal((40, 2)) * [1, 1e4])
    model = make_pipeline(StandardScaler(), echo()).fit(X, np.arange(40) % 2)
    certificate = certify(model, X, radius=0.5)
    assert (certificate.displacement > 0).all()
    assert len(np.unique(certificate.displacement)) > 30
    np.testing.assert_array_equal(certificate.radius, 0.5)


def test_a_stretch_of_zero_certifies_every_radius(echo):
    X = np.random.default_rng(0).standard_normal((40, 2))
    model = make_pipeline(StandardScaler(), echo()).fit(X, np.arange(40) % 2)
    model[0].scale_ = np.full(2, np.inf)
    np.testing.assert_array_equal(certify(model, X, radius=5.0).radius, 5.0)


@pytest.fixture
def stump():
    """A tree that looks at one column: the radius of its smoothed version is a known distance."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 2)) * 40.0 + 300.0
    y = np.where(X[:, 0] > 310.0, "right", "left")
    # 1 - 1e-9: all 600 rows of all certificates below fail with less than 1e-5 in all
    smoother = RandomizedSmoothingClassifier(
        DecisionTreeClassifier(max_depth=1), sigma=0.4, n_certify_draws=2000,
        confidence_level=1 - 1e-9, random_state=0,
    )  # fmt: skip
    model = make_pipeline(StandardScaler(), smoother).fit(X, y)
    threshold = model[-1].estimator_.tree_.threshold[0]
    edge = threshold * model[0].scale_[0] + model[0].mean_[0]
    return model, X, np.abs(X[:, 0] - edge)


@pytest.mark.parametrize("radius", [0.5, 6.0, 15.0])
def test_no_row_is_certified_beyond_its_distance_in_the_units_of_X(radius, stump):
    model, X, distance = stump
    decided = certify(model, X, radius=radius)
    assert decided.procedure == "anytime"
    certain = decided.radius >= radius
    assert (distance[certain] >= radius).all()
    assert certain[distance > radius + 8].mean() > 0.9
    np.testing.assert_array_equal(decided.abstained, ~certain)
    capped = certify(model, X, max_radius=radius)
    assert (capped.radius <= np.minimum(distance, radius)).all()
    assert (capped.radius == radius).any()
    scale = model[0].scale_[0]
    behind = certify(model, X, radius=radius / scale, units="smoother")
    assert not behind.radius[distance < radius].any()
    assert (behind.radius > 0).sum() >= certain.sum() > 0


def test_decisions_take_fewer_draws_and_count_as_the_full_certificate_does(stump):
    model, X, _ = stump
    y = np.where(X[:, 0] > 310.0, "right", "left")
    full, decided = certify(model, X), certify(model, X, radius=6.0)
    assert decided.n_draws.mean() < 0.5 * full.n_draws.mean()
    here = certified_accuracy_score(y, decided, radius=6.0)
    assert abs(here - certified_accuracy_score(y, full, radius=6.0)) < 0.1
    with pytest.raises(ValueError, match="decided at radius 6"):
        decided.accuracy(y, radius=5.0)


def test_what_needs_no_draws_is_told_in_full(two_blobs, check_same):
    X, y = two_blobs
    exact = RandomizedSmoothingClassifier(LogisticRegression())
    for smoother in (exact, LocallyBiasedSmoother(SVC(), random_state=0)):
        for model in (smoother.fit(X, y), make_pipeline(StandardScaler(), smoother).fit(X, y)):
            check_same(certify(model, X, radius=0.3), certify(model, X))
            check_same(certify(model, X, max_radius=0.3), certify(model, X))


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"radius": -1.0}, ValueError, "radius must be finite and >= 0, got -1"),
        ({"max_radius": np.nan}, ValueError, "max_radius must be finite"),
        ({"radius": "far"}, TypeError, "radius must be one real number, got 'far'"),
        ({"radius": [1.0, 2.0]}, TypeError, "radius must be one real number"),
        ({"radius": 1.0, "max_radius": 2.0}, ValueError, "give one of them"),
    ],
)
def test_other_radii_are_refused(given, error, match, two_blobs, echo):
    X, y = two_blobs
    with pytest.raises(error, match=match):
        certify(echo().fit(X, y), X, **given)


class Plain(ClassifierMixin, BaseEstimator):
    """A smoother of somebody else's that certifies, and no more."""

    def __init__(self, inner):
        self.inner = inner
        self.classes_ = inner.classes_

    def fit(self, X, y):
        return self

    def certify(self, X):
        if not len(X):
            raise ValueError("no rows")
        return self.inner.certify(X)


def test_smoothers_that_take_no_radius(two_blobs, check_same, echo):
    X, y = two_blobs
    plain = Plain(echo().fit(X, y))
    check_same(certify(plain, X), plain.inner.certify(X))
    for name in ("radius", "max_radius"):
        with pytest.raises(TypeError, match=rf"{name} was given, and Plain.certify does not"):
            certify(plain, X, **{name: 1.0})
