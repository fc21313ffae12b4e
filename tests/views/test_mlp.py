"""Votes of scikit-learn's perceptrons are their own predictions, and so are the modules."""

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures, StandardScaler
from torch import nn

from smoothlearn.nn.layers import KinkedError
from smoothlearn.nn.lipschitz import as_smooth_network
from smoothlearn.views.mlp import as_module
from smoothlearn.views.network import as_linear_network, as_network

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
Y = RNG.integers(0, 3, 150)
X = RNG.standard_normal((150, 4)) * [1, 3, 0.3, 1] + 2 * np.eye(3, 4)[Y] + 1
PROBES = RNG.standard_normal((400, 4)) * [2, 4, 1, 2] + 1
ACTIVATIONS = ("identity", "logistic", "tanh", "relu")


def perceptron(sizes=(6, 5), y=Y, rows=X, **settings):
    settings = {"max_iter": 40, "learning_rate_init": 0.03, "random_state": 0} | settings
    return MLPClassifier(sizes, **settings).fit(rows, y)


def agree(model, n_classes=3):
    view = as_network(model, 4)
    batch = torch.tensor(PROBES, dtype=torch.float32)
    votes = view.votes(CPU)(batch)
    said = np.searchsorted(model.classes_, model.predict(PROBES))
    np.testing.assert_array_equal(votes.numpy(), said)
    logits = view.logits(CPU)(batch)
    assert logits.shape == (400, n_classes)
    assert torch.equal(logits.argmax(dim=1), votes)
    np.testing.assert_allclose(logits.softmax(1), model.predict_proba(PROBES), atol=1e-5)
    assert np.bincount(said, minlength=n_classes).min() > 5, "too easy"


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", [(), (6,), (6, 5)], ids=str)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_votes_and_probabilities_are_those_of_the_perceptron(activation, sizes, n_classes):
    names = np.array(["no", "yes", "maybe"])
    agree(perceptron(sizes, names[Y % n_classes], activation=activation), n_classes)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_module_is_in_double_precision(dtype):
    model = perceptron(rows=X.astype(dtype))
    module = as_module(model)
    assert {weight.dtype for weight in module.parameters()} == {torch.float64}
    scores = module(torch.tensor(PROBES)).softmax(1)
    np.testing.assert_allclose(scores, model.predict_proba(PROBES), rtol=0, atol=1e-12)
    before = model.coefs_[0].copy()
    module[0].weight.data.zero_()
    np.testing.assert_array_equal(model.coefs_[0], before)


def test_behind_affine_steps():
    front = StandardScaler(), MinMaxScaler((-1, 3))
    model = make_pipeline(*front, perceptron()).fit(X, Y)
    agree(model)
    agree(FrozenEstimator(model))
    agree(GridSearchCV(model, {}, cv=2).fit(X, Y))
    bent = make_pipeline(PolynomialFeatures(2), MLPClassifier((6,), max_iter=40))
    assert as_network(bent.fit(X, Y), 4) is None


class Cautious(MLPClassifier):
    def predict(self, X):
        return self.classes_[(self.predict_proba(X)[:, 1] > 0.9).astype(int)]


def test_other_perceptrons_have_no_view():
    several = np.stack([Y > 0, Y > 1], axis=1).astype(int)
    assert as_network(perceptron(y=several), 4) is None
    assert as_network(perceptron(y=np.zeros(150, int)), 4) is None
    assert as_network(Cautious((4,), max_iter=5).fit(X, Y > 0), 4) is None


def test_without_hidden_layers_it_is_linear():
    model = perceptron(())
    linear = as_linear_network(model, 4)
    np.testing.assert_allclose(linear.weights, model.coefs_[0].T)
    np.testing.assert_array_equal(linear.labels(PROBES), model.predict(PROBES))
    assert as_linear_network(perceptron((6,), activation="identity"), 4) is None


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh"])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_smooth_activations_have_bounds(activation, n_classes):
    model = perceptron(y=Y % n_classes, activation=activation)
    view = as_smooth_network(model, 4)
    assert view.refusal is None
    scores = view.at(PROBES, 2).scores
    shares = np.exp(scores - np.logaddexp.reduce(scores, axis=1, keepdims=True))
    np.testing.assert_allclose(shares, model.predict_proba(PROBES), rtol=0, atol=1e-12)


def test_relu_has_a_kink():
    view = as_smooth_network(perceptron(activation="relu"), 4)
    assert isinstance(view.refusal, KinkedError)
    assert isinstance(as_module(perceptron(activation="relu"))[1], nn.ReLU)
