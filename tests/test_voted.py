"""Asking for less: decisions at one radius, and radii that are capped.

The classifier is a line in three parts, whose vote probabilities are known exactly. Rows differ in
a feature that it ignores, so that their noise is independent and errors are binomial: the counts
allowed are quantiles that a right implementation exceeds with probability below 1e-6 over the
seeds, which are fixed.
"""

import pickle

import numpy as np
import pytest
from scipy import stats
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from smoothlearn import LocallyBiasedSmoother, RandomizedSmoothingClassifier, voted
from smoothlearn.nn.voting import row_seeds
from smoothlearn.theory import gaussian

SIGMA, FAILURE = 0.8, 0.1


class Line(ClassifierMixin, BaseEstimator):
    """Class 0 left of 0, class 1 from there to 1.5, class 2 beyond."""

    def __init__(self):
        self.classes_ = np.arange(3)

    def fit(self, X, y):
        return self

    def predict(self, X):
        return np.searchsorted([0.0, 1.5], X[:, 0])


def probabilities(x):
    cuts = stats.norm.cdf((np.array([0.0, 1.5]) - x) / SIGMA)
    return np.diff(cuts, prepend=0.0, append=1.0)


def exact_radius(x):
    """What exact vote probabilities certify."""
    second, first = np.sort(probabilities(x))[-2:]
    return float(gaussian.radius(first, second, SIGMA))


def rows(x, n_rows):
    free = np.random.default_rng(0).uniform(-1e3, 1e3, n_rows)
    return np.column_stack([np.broadcast_to(x, n_rows), free])


def smoother(n_rows=20, **params):
    settings = {"sigma": SIGMA, "n_certify_draws": 2000, "random_state": 0} | params
    model = RandomizedSmoothingClassifier(FrozenEstimator(Line()), **settings)
    return model.fit(rows(0.0, n_rows), np.arange(n_rows) % 3)


@pytest.mark.parametrize("x", [0.75, -0.6, 2.4])
def test_a_radius_that_no_row_has_is_certified_no_more_often_than_promised(x):
    n_rows = 800
    model = smoother(confidence_level=1 - FAILURE)
    certificate = model.certify(rows(x, n_rows), radius=exact_radius(x) * (1 + 1e-9))
    assert (~certificate.abstained).sum() <= stats.binom.isf(1e-6, n_rows, FAILURE)


@pytest.mark.parametrize("x", [0.75, -0.6])
def test_capped_radii_exceed_the_exact_one_no_more_often_than_promised(x):
    n_rows, exact = 600, exact_radius(x)
    model = smoother(confidence_level=1 - FAILURE)
    for cap in (exact * 1.02, exact * 3):
        certificate = model.certify(rows(x, n_rows), max_radius=cap)
        assert certificate.radius.max() <= cap
        assert (certificate.radius > exact).sum() <= stats.binom.isf(1e-6, n_rows, FAILURE)


def test_a_decision_says_one_radius_or_none():
    x = np.linspace(-2, 3.5, 40)
    X = np.column_stack([x, np.zeros(40)])
    model = smoother()
    certificate = model.certify(X, radius=0.3)
    np.testing.assert_array_equal(certificate.label, model.predict(X))
    np.testing.assert_array_equal(certificate.radius, np.where(certificate.abstained, 0, 0.3))
    has_it = np.array([exact_radius(one) for one in x])
    assert not certificate.abstained[has_it > 0.5].any()
    assert certificate.abstained[has_it < 0.3].all()
    assert certificate.procedure == "anytime"
    assert certificate.tested_radius == certificate.largest_radius == 0.3
    assert certificate.n_draws.min() == 100
    np.testing.assert_array_equal(certificate.counts.sum(axis=1), certificate.n_draws)
    assert certificate.n_draws[has_it > 0.8].max() <= 400
    assert certificate.n_draws.max() <= 2000


def test_what_was_not_decided_cannot_be_read():
    X, y = rows(0.2, 5), np.ones(5, dtype=int)
    decided = smoother().certify(X, radius=0.1)
    assert decided.accuracy(y, 0.1) == np.mean(~decided.abstained)
    for read in (
        lambda: decided.accuracy(y, 0.05),
        lambda: decided.accuracy(y),
        lambda: decided.average_radius(y),
        lambda: decided.curve(y),
    ):
        with pytest.raises(ValueError, match=r"decided at radius 0\.1"):
            read()
    with pytest.raises(ValueError, match="fixed number of draws"):
        decided.at_confidence(0.9)
    capped = smoother().certify(X, max_radius=0.2)
    for read in (lambda: capped.accuracy(y, 0.3), lambda: capped.average_radius(y)):
        with pytest.raises(ValueError, match=r"capped at 0\.2"):
            read()
    with pytest.raises(ValueError, match="fixed number of draws"):
        capped.at_confidence(0.9)


def test_capped_radii_are_read_up_to_the_cap():
    x = np.linspace(-2, 3.5, 40)
    X, y = np.column_stack([x, np.zeros(40)]), np.searchsorted([0.0, 1.5], x)
    capped = smoother().certify(X, max_radius=0.4)
    plain = smoother().certify(X)
    assert capped.procedure == "capped"
    assert capped.max_radius == capped.largest_radius == 0.4
    assert capped.accuracy(y, 0.4) == pytest.approx(plain.accuracy(y, 0.4), abs=0.03)
    radii, counts = capped.curve(y)
    assert radii[-1] == 0.4
    assert counts[-1] == (capped.radius == 0.4).sum() > 0
    assert capped.n_draws.mean() < 0.7 * plain.n_draws.mean()
    assert set(capped.n_draws) <= set(capped.stages)
    shown = capped.to_norm(np.inf)
    assert shown.max_radius == pytest.approx(0.4 / np.sqrt(2))
    assert shown.accuracy(y, 0.28) == capped.accuracy(y, 0.4)


class Coin(Line):
    """Class 0 or 1 by the last bits of a feature, under noise a coin."""

    def predict(self, X):
        return (np.floor(X[:, 1] * 1e6) % 2).astype(int)


@pytest.mark.parametrize("n_draws", [50, 2000])
def test_a_radius_of_zero_is_certified_no_more_often_than_promised(n_draws):
    """Of rows without a radius, which do not become certified by being asked for none."""
    n_rows = 300
    settings = {"sigma": SIGMA, "n_certify_draws": n_draws, "random_state": 0}
    model = RandomizedSmoothingClassifier(
        FrozenEstimator(Coin()), confidence_level=0.99, **settings
    )
    model.fit(rows(0.0, 20), np.arange(20) % 3)
    for radius in (0.0, 1e-9):
        certificate = model.certify(rows(0.0, n_rows), radius=radius)
        assert (~certificate.abstained).sum() <= stats.binom.isf(1e-6, n_rows, 0.01)


def test_rows_may_be_asked_for_radii_of_their_own():
    X, asked = rows(0.75, 6), np.array([0.1, 0.1, 0.2, 5.0, 0.0, np.inf])
    model = smoother()
    certificate = model.certify(X, radius=asked)
    np.testing.assert_array_equal(certificate.radius, [0.1, 0.1, 0.2, 0, 0, 0])
    np.testing.assert_array_equal(certificate.abstained, [0, 0, 0, 1, 0, 1])
    np.testing.assert_array_equal(certificate.tested_radius, asked)
    for i in range(3):
        alone = model.certify(X[i : i + 1], radius=asked[i])
        assert alone.n_draws == certificate.n_draws[i]
    capped = model.certify(X, max_radius=np.where(np.isinf(asked), 9.0, asked))
    assert (capped.radius <= capped.max_radius).all()
    assert (capped.radius[:3] == asked[:3]).all()


@pytest.mark.parametrize("asked", [{"radius": 0.3}, {"max_radius": 0.3}])
def test_what_is_asked_for_does_not_depend_on_company_order_or_threads(asked):
    X, y = load_iris(return_X_y=True)
    model = RandomizedSmoothingClassifier(KNeighborsClassifier(), random_state=0).fit(X, y)
    model.set_params(n_certify_draws=1000)
    X = X[45:110:4]
    expected = model.certify(X, **asked)
    assert 0 < expected.abstained.mean() < 1
    order = np.random.default_rng(0).permutation(len(X))
    np.testing.assert_array_equal(model.certify(X[order], **asked).counts, expected.counts[order])
    threads = model.set_params(n_jobs=2).certify(X, **asked)
    np.testing.assert_array_equal(threads.counts, expected.counts)
    one = model.certify(X[3:4], **asked)
    np.testing.assert_array_equal(one.counts[0], expected.counts[3])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(one)).radius, one.radius)


def test_what_needs_no_draws_is_told_in_full():
    X, y = load_iris(return_X_y=True)
    X, y = X[:100], y[:100]
    for model in (
        RandomizedSmoothingClassifier(LogisticRegression()),
        LocallyBiasedSmoother(LogisticRegression()),
    ):
        plain = model.fit(X, y).certify(X)
        for asked in ({"radius": 0.3}, {"max_radius": 0.3}):
            certificate = model.certify(X, **asked)
            np.testing.assert_array_equal(certificate.radius, plain.radius)
            assert certificate.tested_radius is certificate.max_radius is None


def test_labels_are_chosen_on_other_draws(monkeypatch):
    purposes = []

    def noting(*args, purpose, **settings):
        purposes.append(purpose)
        return row_seeds(*args, purpose=purpose, **settings)

    monkeypatch.setattr(voted, "row_seeds", noting)
    X = rows(0.75, 2)
    smoother().certify(X, radius=0.1)
    smoother(n_certify_draws=4000).certify(X, max_radius=2.0)
    assert purposes[:2] == ["predict", "decide"]
    stages = ["certify", "certify more", "certify 2", "certify 3"]
    assert purposes[2:] == ["predict", *stages]


def test_no_rows():
    none = smoother().certify(rows(0.0, 0), radius=0.5)
    assert len(none) == 0
    assert none.tested_radius == 0.5
    assert len(smoother().certify(rows(0.0, 0), max_radius=0.5)) == 0


def test_a_radius_out_of_reach_is_warned_of_and_costs_no_draws():
    model = smoother(n_certify_draws=1000)
    with pytest.warns(UserWarning, match="at least 5,270 draws are needed"):
        certificate = model.certify(rows(-3.0, 5), radius=3 * SIGMA)
    assert certificate.abstained.all()
    assert certificate.n_draws.max() == 0
    with pytest.warns(UserWarning, match="no number of draws is enough"):
        model.certify(rows(-3.0, 2), radius=20.0)


@pytest.mark.parametrize(
    ("asked", "error", "match"),
    [
        ({"radius": 0.1, "max_radius": 0.2}, ValueError, "give one of them"),
        ({"radius": -0.1}, ValueError, "radius must be >= 0"),
        ({"radius": np.nan}, ValueError, "radius must be >= 0 and not NaN"),
        ({"radius": [0.1, 0.2]}, ValueError, r"shape \(3,\)"),
        ({"max_radius": np.zeros((3, 1))}, ValueError, r"shape \(3,\)"),
        ({"radius": "0.5"}, TypeError, "radius must hold real numbers"),
        ({"max_radius": True}, TypeError, "max_radius must hold real numbers"),
    ],
)
def test_bad_questions(asked, error, match):
    with pytest.raises(error, match=match):
        smoother().certify(rows(0.0, 3), **asked)
