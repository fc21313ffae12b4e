"""Soft votes: smoothed probabilities, held against what they are in closed form or by quadrature."""

import pickle

import numpy as np
import pytest
import torch
from scipy.special import ndtr
from scipy.special import softmax as softmax_of
from scipy.stats import binom
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from smoothlearn import (
    Certificate,
    CertifiedAccuracyScorer,
    DEENDenoiser,
    EmpiricalBayesSmoothedClassifier,
    ParzenDenoiser,
    RandomizedSmoothingClassifier,
    XHATClassifier,
    certify,
)
from smoothlearn.theory import gaussian, means

Z = np.linspace(-9, 9, 721)
WEIGHTS = np.exp(-(Z**2) / 2) / np.exp(-(Z**2) / 2).sum()


class Given(ClassifierMixin, BaseEstimator):
    """A classifier whose probabilities are a function of the rows."""

    def __init__(self, function):
        self.function = function

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return self.function(np.asarray(X))

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def probit(width):
    """Two classes with the probability Phi(x/width), whose smoothed one is known: see `smoothed`."""
    return lambda X: np.stack([ndtr(-X[:, 0] / width), ndtr(X[:, 0] / width)], axis=1)


def smoothed_probit(x, width, sigma):
    return ndtr(x / np.hypot(width, sigma))


SLOPES, OFFSETS = np.array([-4.0, 0.0, 3.0]), np.array([0.0, 1.0, -1.5])


def three(X):
    """Three classes along the first feature."""
    return softmax_of(np.outer(X[:, 0], SLOPES) + OFFSETS, axis=1)


def three_smoothed(x, sigma):
    """E three(x + sigma z), by quadrature."""
    points = np.reshape(x, (-1, 1)) + sigma * Z
    p = three(points.reshape(-1, 1)).reshape(*points.shape, 3)
    return np.einsum("nzc,z->nc", p, WEIGHTS)


def soft(base, X, y, **params):
    settings = {"vote": "soft", "random_state": 0, "sigma": 0.5} | params
    return RandomizedSmoothingClassifier(base, **settings).fit(X, y)


def along_a_line(low, high, n, y=(0, 1)):
    """Rows whose first feature runs from low to high, each with noise of its own; labels of any."""
    X = np.stack([np.linspace(low, high, n), np.arange(n)], axis=1)
    return X, np.resize(y, n)


def at_most(failures, n, probability):
    """That so many failures are no surprise; a false alarm once in 10^7."""
    assert failures <= binom.ppf(1 - 1e-7, n, probability)


class TestAgainstTheTruth:
    """False alarms: at most 1e-7 for each assertion on a number of failures."""

    @pytest.mark.parametrize("width", [0.1, 1.0])
    @pytest.mark.parametrize("n_certify_draws", [60, (60, 600)])
    def test_bounds_and_radii_of_two_classes(self, width, n_certify_draws):
        X, y = along_a_line(-1.5, 1.5, 400)
        smoother = soft(
            Given(probit(width)), X, y, confidence_level=0.8, n_certify_draws=n_certify_draws
        )
        certificate = smoother.certify(X)
        p = smoothed_probit(np.abs(X[:, 0]), width, 0.5)
        right = certificate.label == (X[:, 0] > 0)
        at_most(np.sum(certificate.p_lower > np.where(right, p, 1 - p)), 400, 0.2)
        at_most(np.sum(certificate.radius > np.where(right, np.abs(X[:, 0]), 0)), 400, 0.2)
        most = 0.5 * np.abs(X[:, 0]) / np.hypot(width, 0.5)
        at_most(np.sum(certificate.radius > np.where(right, most, 0)), 400, 0.2)
        far = np.abs(X[:, 0]) > 1.0
        assert np.mean(certificate.radius[far] / most[far]) > 0.5
        assert 0 < certificate.abstained.mean() < 0.6

    def test_bounds_and_attacks_of_three_classes(self):
        X, y = along_a_line(-2.0, 3.0, 400, y=(0, 1, 2))
        certificate = soft(
            LogisticRegressionOf(SLOPES, OFFSETS), X, y, confidence_level=0.7, n_certify_draws=300
        ).certify(X)
        p = three_smoothed(X[:, 0], 0.5)
        rows, label = np.arange(400), certificate.label
        others = p.copy()
        others[rows, label] = 0
        too_high = certificate.p_lower > p[rows, label]
        at_most(np.sum(too_high), 400, 0.27)
        at_most(np.sum(certificate.p_upper < others.max(axis=1)), 400, 0.3)
        kept = ~certificate.abstained
        moved = [
            three_smoothed(X[:, 0] + side * 0.999 * certificate.radius, 0.5).argmax(axis=1)
            for side in (-1, 1)
        ]
        flipped = kept & ((moved[0] != label) | (moved[1] != label))
        at_most(np.sum(flipped), 400, 0.3)
        assert kept.mean() > 0.7
        assert certificate.radius.max() > 0.5

    @pytest.mark.parametrize("radius", [0.2, 0.5])
    def test_decisions_at_a_radius(self, radius):
        X, y = along_a_line(-1.5, 1.5, 400)
        smoother = soft(
            Given(probit(0.4)), X, y, confidence_level=0.8, n_certify_draws=2000, n_draws=20
        )
        certificate = smoother.certify(X, radius=radius)
        most = 0.5 * np.abs(X[:, 0]) / np.hypot(0.4, 0.5)
        most = np.where(certificate.label == (X[:, 0] > 0), most, 0)
        passed = certificate.radius == radius
        at_most(np.sum(passed & (most < radius)), 400, 0.2)
        assert passed[most > 1.15 * radius].mean() > 0.9
        assert certificate.n_draws.mean() < 1000

    def test_capped_radii(self):
        X, y = along_a_line(-1.5, 1.5, 400)
        smoother = soft(Given(probit(0.4)), X, y, confidence_level=0.8, n_certify_draws=2000)
        certificate = smoother.certify(X, max_radius=0.3)
        most = 0.5 * np.abs(X[:, 0]) / np.hypot(0.4, 0.5)
        most = np.where(certificate.label == (X[:, 0] > 0), most, 0)
        at_most(np.sum(certificate.radius > most), 400, 0.2)
        assert certificate.radius.max() == 0.3
        assert np.mean(certificate.radius[most > 0.5] == 0.3) > 0.9
        assert certificate.n_draws.mean() < 1800

    def test_predictions_that_do_not_abstain(self):
        X, y = along_a_line(-1.5, 2.5, 400, y=(0, 1, 2))
        smoother = soft(LogisticRegressionOf(SLOPES, OFFSETS), X, y, confidence_level=0.7)
        truth = three_smoothed(X[:, 0], 0.5)
        sure = ~smoother.abstains(X)
        at_most(np.sum(sure & (smoother.predict(X) != truth.argmax(axis=1))), 400, 0.3)
        assert 0.5 < sure.mean() < 1
        near = three_smoothed(X[:, 0], 0.5) - smoother.predict_proba(X)
        assert np.abs(near).max() < 5.5 * 0.5 / np.sqrt(100)  # sub-Gaussian: 1200 exp(-60)


class LogisticRegressionOf(LogisticRegression):
    """A logistic regression on the first feature with these coefficients."""

    def __init__(self, slopes=None, offsets=None):
        super().__init__()
        self.slopes = slopes
        self.offsets = offsets

    def fit(self, X, y):
        super().fit(X, y)
        self.coef_ = np.zeros_like(self.coef_)
        self.coef_[:, 0] = self.slopes
        self.intercept_ = np.array(self.offsets, float)
        return self


def blobs(n_classes=3, n_features=6):
    rng = np.random.default_rng(0)
    y = np.arange(120) % n_classes
    centers = 1.5 * rng.standard_normal((n_classes, n_features))
    return centers[y] + rng.standard_normal((120, n_features)), y


def net(module, kind=NeuralNetClassifier, **params):
    settings = {"lr": 0.1, "max_epochs": 3, "train_split": None, "verbose": 0} | params
    return kind(module, **settings)


def logits(n_out, n_features=6):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(n_features, 4), nn.Tanh(), nn.Linear(4, n_out))


class Normalised(nn.Module):
    """Probabilities that are not a softmax."""

    def __init__(self):
        super().__init__()
        self.layers = logits(3)

    def forward(self, X):
        p = 0.01 + torch.square(self.layers(X))
        return p / p.sum(dim=1, keepdim=True)


def twisted(outputs):
    return torch.softmax(2 * outputs.flip(1), dim=1)


class OneOutput(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = logits(1)

    def forward(self, X):
        return self.layers(X).squeeze(-1)


BASES = {
    "logistic-3": (LogisticRegression(), 3, "softmax"),
    "logistic-2": (make_pipeline(StandardScaler(), LogisticRegression()), 2, "softmax"),
    "sgd-2": (SGDClassifier(loss="log_loss", random_state=0), 2, "softmax"),
    "sgd-3": (SGDClassifier(loss="log_loss", random_state=0), 3, "predict_proba"),
    "mlp": (MLPClassifier((4,), max_iter=10, random_state=0), 3, "softmax"),
    "mlp-2": (MLPClassifier((4,), max_iter=10, random_state=0), 2, "softmax"),
    "tree": (DecisionTreeClassifier(max_depth=2, random_state=0), 3, "predict_proba"),
    "cross-entropy": (net(logits(3), criterion=nn.CrossEntropyLoss), 3, "softmax"),
    "linear-net": (net(nn.Linear(6, 3), criterion=nn.CrossEntropyLoss), 3, "softmax"),
    "nll": (net(Normalised()), 3, "identity"),
    "users": (net(logits(3), predict_nonlinearity=twisted), 3, "users"),
    "binary": (net(OneOutput(), NeuralNetBinaryClassifier, threshold=0.8), 2, "softmax"),
}


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize(("base", "n_classes", "link"), BASES.values(), ids=BASES)
class TestProbabilitiesOfABase:
    def test_are_averaged_over_the_noise(self, base, n_classes, link):
        X, y = blobs(n_classes)
        smoother = soft(base, X, np.array(["a", "b", "c"])[y], n_draws=2000)
        assert smoother._link == link
        rng = np.random.default_rng(1)
        for x, p in zip(X[:3], smoother.predict_proba(X[:3]), strict=True):
            noisy = x + 0.5 * rng.standard_normal((2000, 6))
            if "net" in type(base).__name__.lower():
                noisy = noisy.astype(np.float32)
            votes = smoother.estimator_.predict_proba(noisy)
            spread = votes.std(axis=0) / np.sqrt(2000)
            # 6.5 standard deviations of a difference of means: below 1e-9 each
            assert np.all(np.abs(votes.mean(axis=0) - p) < 6.5 * np.sqrt(2) * spread + 1e-6)

    def test_decide_where_there_is_no_noise(self, base, n_classes, link):
        X, y = blobs(n_classes)
        smoother = soft(base, X, y, sigma=1e-5, n_draws=2, n_certify_draws=50)
        seen = X.astype(np.float32) if isinstance(base, NeuralNetClassifier) else X
        if isinstance(base, NeuralNetBinaryClassifier):
            seen = X.astype(np.float32)
        p = smoother.estimator_.predict_proba(seen)
        assert np.abs(smoother.predict_proba(X) - p).max() < 1e-3
        np.testing.assert_array_equal(smoother.predict(X), p.argmax(axis=1))
        np.testing.assert_array_equal(smoother.certify(X).label, p.argmax(axis=1))
