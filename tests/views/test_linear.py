"""Which classifiers are linear functions, that the function is theirs, and margins rounded down."""

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import (
    LinearDiscriminantAnalysis,
    QuadraticDiscriminantAnalysis,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    LogisticRegression,
    Perceptron,
    RidgeClassifier,
    RidgeClassifierCV,
    SGDClassifier,
)
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, LinearSVC

from smoothlearn.theory.norms import dual
from smoothlearn.views.linear import Linear, as_linear, noise_factor

NAMES = np.array(["ant", "bee", "cat"])


@pytest.fixture(params=[2, 3])
def data(request, two_blobs, three_blobs):
    X, y = {2: two_blobs, 3: three_blobs}[request.param]
    return X, NAMES[y]


@pytest.fixture
def multiclass(three_blobs):
    return three_blobs


LINEAR = {
    "logistic": LogisticRegression(),
    "logistic-no-intercept": LogisticRegression(fit_intercept=False),
    "linear-svc": LinearSVC(),
    "crammer-singer": LinearSVC(multi_class="crammer_singer", random_state=0),
    "ridge": RidgeClassifier(),
    "ridge-cv": RidgeClassifierCV(),
    "sgd-hinge": SGDClassifier(random_state=0),
    "sgd-log": SGDClassifier(loss="log_loss", penalty="l1", random_state=0),
    "perceptron": Perceptron(random_state=0),
    "lda": LinearDiscriminantAnalysis(),
    "lda-lsqr": LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"),
    "scaled": make_pipeline(StandardScaler(), LogisticRegression()),
    "nested": make_pipeline(MinMaxScaler(), make_pipeline(PCA(), "passthrough", LinearSVC())),
    "search": GridSearchCV(LogisticRegression(), {"C": [0.1, 10.0]}, cv=2),
    "search-of-pipeline": GridSearchCV(
        make_pipeline(StandardScaler(), RidgeClassifier()), {"ridgeclassifier__alpha": [0.1]}, cv=2
    ),
}


def check_is_view(view, model, X):
    rng = np.random.default_rng(0)
    probes = np.concatenate([X, 10 * rng.standard_normal((200, X.shape[1]))])
    classes = np.unique(model.predict(X))
    np.testing.assert_array_equal(classes[view.labels(probes)], model.predict(probes))
    said = model.decision_function(probes).reshape(len(probes), -1)
    np.testing.assert_allclose(view.scores(probes), said, rtol=1e-9, atol=1e-9)
    votes = view.votes(torch.device("cpu"))(torch.tensor(probes, dtype=torch.float32))
    assert (votes.numpy() == view.labels(probes)).mean() > 0.99


@pytest.mark.parametrize("name", LINEAR)
def test_linear_models_are_recognised(name, data):
    X, y = data
    model = LINEAR[name].fit(X, y)
    for fitted in (model, FrozenEstimator(model), make_pipeline(FrozenEstimator(model))):
        view = as_linear(fitted, X.shape[1])
        assert view is not None
        assert view.two_class == (len(np.unique(y)) == 2)
        check_is_view(view, fitted, X)


def test_two_class_svc_is_linear(two_blobs):
    X, y = two_blobs
    model = SVC(kernel="linear").fit(X, y)
    check_is_view(as_linear(model, 2), model, X)


@pytest.mark.parametrize("sparse", [LogisticRegression(), SGDClassifier(random_state=0)])
def test_sparse_coefficients(sparse, data):
    X, y = data
    model = sparse.fit(X, y).sparsify()
    check_is_view(as_linear(model, X.shape[1]), model, X)


def test_model_fitted_on_a_frame_keeps_its_names(two_blobs):
    X, y = two_blobs
    model = LogisticRegression().fit(pd.DataFrame(X, columns=["a", "b"]), y)
    assert as_linear(model, 2) is not None
    np.testing.assert_array_equal(model.feature_names_in_, ["a", "b"])


@pytest.mark.parametrize("exponent", [-6, 0, 6])
def test_coefficients_of_every_size(exponent, two_blobs):
    X, y = two_blobs
    X = X * 10.0**exponent + 3.0 * 10.0**exponent
    model = LinearDiscriminantAnalysis().fit(X, y)
    view = as_linear(model, 2)
    assert view is not None
    np.testing.assert_array_equal(view.labels(X), model.predict(X))


class Shifted(LogisticRegression):
    """Another threshold than 0: the scores are linear, the labels follow another boundary."""

    def predict(self, X):
        return self.classes_[(self.decision_function(X) > 1e-4).astype(int)]


class Curved(LogisticRegression):
    def decision_function(self, X):
        return super().decision_function(X) + 0.1 * np.square(X).sum(axis=1)


class Squashed(LogisticRegression):
    """Right labels, but scores that are not those of coef_."""

    def decision_function(self, X):
        return np.tanh(super().decision_function(X))


class CubeOnFirst(ClassifierMixin, BaseEstimator):
    """Has coef_, and uses it for something else."""

    def fit(self, X, y):
        self.classes_, self.n_features_in_ = np.unique(y), X.shape[1]
        self.coef_, self.intercept_ = np.eye(1, X.shape[1]), np.zeros(1)
        return self

    def decision_function(self, X):
        return X[:, 0] ** 3

    def predict(self, X):
        return self.classes_[(self.decision_function(X) > 0).astype(int)]


NOT_LINEAR = {
    "shifted": Shifted(),
    "curved": Curved(),
    "squashed": Squashed(),
    "cube": CubeOnFirst(),
    "threshold": FixedThresholdClassifier(LogisticRegression(), threshold=0.7),
    "rbf": SVC(),
    "bayes": GaussianNB(),
    "quadratic": QuadraticDiscriminantAnalysis(),
    "neighbours": KNeighborsClassifier(),
    "polynomial": make_pipeline(PolynomialFeatures(2), LogisticRegression()),
    "normalised": make_pipeline(Normalizer(), LogisticRegression()),
    "clipped": make_pipeline(MinMaxScaler(clip=True), LogisticRegression()),
    "shifted-behind-a-scaler": make_pipeline(StandardScaler(), Shifted()),
}


@pytest.mark.parametrize("name", NOT_LINEAR)
def test_other_models_are_refused(name, two_blobs):
    X, y = two_blobs
    model = NOT_LINEAR[name].fit(X, y)
    assert as_linear(model, 2) is None
    assert as_linear(FrozenEstimator(model), 2) is None


@pytest.mark.parametrize("shape", ["ovo", "ovr"])
def test_one_against_one_is_refused(shape, multiclass):
    X, y = multiclass
    assert as_linear(SVC(kernel="linear", decision_function_shape=shape).fit(X, y), 3) is None


def test_wrappers_without_coefficients_are_refused(multiclass):
    X, y = multiclass
    assert as_linear(OneVsRestClassifier(LogisticRegression()).fit(X, y), 3) is None


def exact(values):
    return [Fraction(float(value)) for value in np.ravel(values)]


def exact_score(view, x):
    terms = zip(exact(view.weights[0]), exact(x), strict=True)
    return sum((w * v for w, v in terms), Fraction(float(view.offsets[0])))


@pytest.mark.parametrize("d", [1, 2, 7, 60])
@pytest.mark.parametrize("spread", [0, 3, 8])
def test_margin_never_exceeds_the_exact_one(d, spread):
    """Columns and weights of very different sizes, and rows that all but lie on the boundary."""
    rng = np.random.default_rng(d + 100 * spread)
    for _ in range(10):
        weights = rng.standard_normal((1, d)) * 10 ** rng.uniform(-spread, spread, d)
        X = rng.standard_normal((20, d)) * 10 ** rng.uniform(-spread, spread, d)
        X[::2, 0] -= (X[::2] @ weights[0]) / weights[0, 0]
        offsets = rng.standard_normal(1)
        view = Linear(weights, offsets, np.abs(weights), np.abs(offsets))
        square = sum(w * w for w in exact(weights))
        for x, margin in zip(X, view.margin(X), strict=True):
            score = exact_score(view, x)
            assert Fraction(float(margin)) ** 2 * square <= score**2
            assert margin == 0 or (margin > 0) == (score > 0)


@pytest.mark.parametrize("exponent", [-200, -160, 0, 160])
def test_margin_of_weights_whose_squares_leave_the_floats(exponent):
    weights = np.array([[3.0, 4.0]]) * 10.0**exponent
    view = Linear(weights, np.zeros(1), np.abs(weights), np.zeros(1))
    margin = view.margin(np.array([[1.0, 0.5], [-2.0, 0.0]]))
    square = sum(w * w for w in exact(weights))
    for x, value in zip([[1.0, 0.5], [-2.0, 0.0]], margin, strict=True):
        assert Fraction(float(value)) ** 2 * square <= exact_score(view, x) ** 2


def test_margin_is_close_to_the_exact_one():
    weights = np.array([[3.0, -4.0]])
    view = Linear(weights, np.array([1.0]), np.abs(weights), np.ones(1))
    np.testing.assert_allclose(view.margin(np.array([[3.0, 0.0], [0.0, 4.0]])), [2, -3], rtol=1e-14)


def test_margin_counts_the_rounding_of_offset_terms():
    """An offset that is a difference of large terms is known no better than they are."""
    view = Linear(np.ones((1, 1)), np.array([1e-9]), np.ones((1, 1)), np.array([1e9]))
    assert view.margin(np.zeros((1, 1)))[0] == 0


def test_margin_without_weights_is_infinite():
    view = Linear(np.zeros((1, 2)), np.array([-0.5]), np.zeros((1, 2)), np.array([0.5]))
    np.testing.assert_array_equal(view.margin(np.ones((2, 2))), [-math.inf, -math.inf])


@pytest.mark.parametrize("shape", [(1, 4), (3, 4), (5, 2), (4, 4), (3, 1)])
@pytest.mark.parametrize("singular", [False, True])
def test_noise_factor_has_the_covariance_of_the_scores(shape, singular):
    weights = np.random.default_rng(0).standard_normal(shape)
    if singular:
        weights[-1] = weights[0]
    factor = noise_factor(weights)
    assert factor.shape == (shape[0], min(shape))
    np.testing.assert_allclose(factor @ factor.T, weights @ weights.T, atol=1e-12)


def exact_difference(view, first, second, x):
    """The difference of two scores and its gradient, in fractions."""
    rows = [exact(w) for w in view.weights]
    offsets = exact(view.offsets)
    if view.two_class:
        rows, offsets = [[Fraction(0)] * len(rows[0]), *rows], [Fraction(0), *offsets]
    gradient = [a - b for a, b in zip(rows[first], rows[second], strict=True)]
    score = sum(w * v for w, v in zip(gradient, exact(x), strict=True))
    return score + offsets[first] - offsets[second], gradient


def exact_norm(gradient, norm):
    """The norm of a vector, squared where it is the second."""
    if norm == 1:
        return sum(map(abs, gradient))
    return max(map(abs, gradient)) if norm == np.inf else sum(g * g for g in gradient)


@pytest.mark.parametrize("norm", [1, 2, np.inf])
@pytest.mark.parametrize("n_rows", [1, 3])
@pytest.mark.parametrize("spread", [0, 6])
def test_expansion_bounds_the_exact_function(n_rows, spread, norm):
    rng = np.random.default_rng(spread)
    for d in (1, 2, 30):
        weights = rng.standard_normal((n_rows, d)) * 10 ** rng.uniform(-spread, spread, d)
        X = rng.standard_normal((8, d)) * 10 ** rng.uniform(-spread, spread, d)
        view = Linear.plain(weights, rng.standard_normal(n_rows))
        n_classes = max(2, n_rows)
        first, second = rng.permuted(np.tile(np.arange(n_classes), (8, 1)), axis=1)[:, :2].T
        expansion = view.at(X, norm)
        gradients, slopes = expansion.gradient(first, second), expansion.slope(first, second)
        score_error, gradient_error = expansion.rounding()
        for i, x in enumerate(X):
            score, gradient = exact_difference(view, first[i], second[i], x)
            computed = expansion.scores[i, first[i]] - expansion.scores[i, second[i]]
            assert abs(Fraction(float(computed)) - score) <= Fraction(float(score_error[i]))
            power = 2 if norm == 2 else 1
            length = exact_norm(gradient, dual(norm))
            assert length <= Fraction(float(slopes[i])) ** power
            assert Fraction(float(slopes[i])) ** power <= length * (1 + Fraction(1, 10**12))
            gaps = [a - b for a, b in zip(exact(gradients[i]), gradient, strict=True)]
            allowed = Fraction(float(gradient_error[i])) ** power
            assert exact_norm(gaps, dual(norm)) <= allowed
        np.testing.assert_array_equal(expansion.curvature(first, second, np.full(8, np.inf)), 0)


@pytest.mark.parametrize("name", ["logistic", "scaled", "nested"])
def test_expansion_has_the_scores_of_the_model(name, data):
    X, y = data
    model = LINEAR[name].fit(X, y)
    scores = as_linear(model, X.shape[1]).at(X, 2).scores
    values = model.decision_function(X)
    expected = np.stack([0 * values, values], axis=1) if values.ndim == 1 else values
    np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(NAMES[scores.argmax(axis=1)], model.predict(X))


def test_expansion_counts_the_rounding_of_terms():
    """Weights and offsets that are differences of large terms are known no better than these."""
    view = Linear(np.ones((1, 1)), np.array([1e-9]), np.full((1, 1), 1e8), np.array([1e9]))
    expansion = view.at(np.zeros((1, 1)), 2)
    ends = np.array([1]), np.array([0])
    assert expansion.rounding()[0][0] > 1e-7
    assert expansion.rounding()[1][0] > 1e-8
    assert expansion.slope(*ends)[0] > 1 + 1e-8


def test_scores_less_their_mean_decide_alike():
    rng = np.random.default_rng(0)
    view = Linear.plain(rng.standard_normal((3, 4)) + 1e6, rng.standard_normal(3))
    X = rng.standard_normal((50, 4)) * 1e-6
    np.testing.assert_array_equal(view.centred().labels(X), view.labels(X))
    assert np.abs(view.centred().weights).max() < 10
    two = Linear.plain(np.ones((1, 4)), np.zeros(1))
    assert two.centred() is two
