"""Votes of a skorch net are what the net itself predicts, behind whatever is affine."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
)
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from smoothlearn.nn.randomness import private_torch_rng
from smoothlearn.views.network import (
    as_linear_network,
    as_network,
    final_estimator,
    is_network,
)

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
Y = RNG.integers(0, 3, 150)
X = (RNG.standard_normal((150, 4)) * [1, 3, 0.3, 1] + np.eye(3, 4)[Y] * 3 + 1).astype(np.float32)
PROBES = (RNG.standard_normal((400, 4)) * [2, 4, 1, 2] + 1).astype(np.float32)
TRAINING = {"max_epochs": 5, "lr": 0.1, "batch_size": 16, "train_split": None, "verbose": 0}


class Network(nn.Module):
    """Batch norm and dropout, which change what they do in training mode."""

    def __init__(self, n_out=3, last=None, twice=False, flat=False):
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm1d(4), nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, n_out)
        )
        self.last = last or nn.Identity()
        self.twice, self.flat = twice, flat

    def forward(self, x):
        output = self.last(self.layers(x))
        output = output.squeeze(1) if self.flat else output
        return (output, x) if self.twice else output


class LogOfFirst(nn.Module):
    """skorch takes the logarithm itself where the loss is NLLLoss."""

    def forward(self, output):
        return torch.softmax(output, dim=1)


class TupleLoss(nn.CrossEntropyLoss):
    def forward(self, output, y):
        return super().forward(output[0] if isinstance(output, tuple) else output, y)


class TupleBinaryLoss(nn.BCEWithLogitsLoss):
    def forward(self, output, y):
        return super().forward(output[0] if isinstance(output, tuple) else output, y)


def fitted(net, y=Y, front=()):
    model = make_pipeline(*front, net) if front else net
    with private_torch_rng(0):
        return model.fit(X, y)


def many(criterion=nn.CrossEntropyLoss, module=Network, **settings):
    settings = TRAINING | settings
    return NeuralNetClassifier(module, criterion=criterion, **settings)


def binary(**settings):
    settings = TRAINING | settings
    return NeuralNetBinaryClassifier(Network, module__n_out=1, **settings)


def reversed_scores(output):
    return torch.softmax(-output, dim=-1)


def squashed(output):
    """The probability of class 1 is not the sigmoid of the output."""
    p = torch.sigmoid(output + 1)
    return torch.stack((1 - p, p), 1)


def agree(model, probes=PROBES):
    """Votes are predictions, and every class is among them."""
    votes = as_network(model, 4).votes(CPU)
    counted = votes(torch.from_numpy(probes))
    assert counted.dtype == torch.int64
    assert not counted.requires_grad
    predicted = model.predict(probes).astype(int)
    np.testing.assert_array_equal(counted.numpy(), predicted)
    assert np.bincount(predicted, minlength=2).min() > 5, "too easy"
    return predicted


@pytest.mark.parametrize(
    "net",
    [
        many(),
        many(nn.NLLLoss, module__last=LogOfFirst()),
        many(TupleLoss, module__twice=True),
        many(predict_nonlinearity=None),
        many(classes=[0, 1, 2]),
    ],
    ids=["logits", "probabilities", "tuple", "no nonlinearity", "classes given"],
)
def test_more_classes(net):
    agree(fitted(net))


def test_a_users_nonlinearity_decides():
    assert np.any(
        agree(fitted(many())) != agree(fitted(many(predict_nonlinearity=reversed_scores)))
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"module__flat": True},
        {"module__flat": False},
        {"module__flat": True, "predict_nonlinearity": squashed},
        {"module__flat": False, "predict_nonlinearity": squashed},
        {"module__flat": True, "criterion": nn.BCELoss, "module__last": nn.Sigmoid()},
        {"module__flat": True, "module__twice": True, "criterion": TupleBinaryLoss},
    ],
    ids=["logits", "column", "callable", "callable of a column", "probabilities", "tuple"],
)
def test_two_classes_at_any_threshold(settings):
    y = (X[:, 1] > 2).astype(np.float32)
    shares = []
    for threshold in (0.3, 0.5, 0.8):
        predicted = agree(fitted(binary(threshold=threshold, **settings), y))
        shares.append(predicted.mean())
    assert shares[0] > shares[1] > shares[2]


@pytest.mark.parametrize(
    "front",
    [
        (StandardScaler(),),
        (RobustScaler(),),
        (MinMaxScaler(),),
        (MaxAbsScaler(),),
        (PCA(whiten=True),),
        (StandardScaler(), PCA(), MinMaxScaler(feature_range=(-3, 3))),
        (make_pipeline(StandardScaler(with_mean=False), "passthrough"), MaxAbsScaler()),
    ],
    ids=str,
)
def test_behind_scalers(front):
    model = fitted(many(), front=front)
    agree(model)
    agree(FrozenEstimator(model))


def test_searches_are_opened():
    with private_torch_rng(0):
        search = GridSearchCV(make_pipeline(StandardScaler(), many()), {}, cv=2).fit(X, Y)
    agree(search)


def test_what_is_not_affine_or_no_net_has_no_view():
    assert as_network(fitted(many(module=Wide), front=(PolynomialFeatures(2),)), 4) is None
    assert as_network(fitted(many(), front=(MinMaxScaler(clip=True),)), 4) is None
    assert as_network(LogisticRegression().fit(X, Y), 4) is None


class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(15, 3)

    def forward(self, x):
        return self.layer(x)


def test_votes_repeat_and_leave_the_net_as_it_is():
    net = fitted(many())
    net.module_.train()
    before = deepcopy(net.module_.state_dict())
    votes = as_network(net, 4).votes(CPU)
    batch = torch.from_numpy(PROBES)
    state = torch.get_rng_state()
    first = votes(batch)
    assert torch.equal(votes(batch), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert net.module_.training
    assert all(parameter.requires_grad for parameter in net.module_.parameters())
    for name, value in net.module_.state_dict().items():
        assert torch.equal(value, before[name]), name
    for parameter in net.module_.parameters():
        parameter.data.zero_()
    assert torch.equal(votes(batch), first), "the net's weights are shared, not copied"


def test_one_output_for_two_classes_is_refused_where_argmax_decides():
    net = fitted(many(nn.BCEWithLogitsLoss, module__n_out=1, module__flat=True), (Y > 0) * 1.0)
    with pytest.raises(ValueError, match="one output a class"):
        as_network(net, 4).votes(CPU)(torch.from_numpy(PROBES))


@pytest.mark.parametrize(
    "wrap", [lambda net: net, FrozenEstimator, lambda n: make_pipeline(PCA(), n)]
)
def test_nets_are_found_inside_other_estimators(wrap):
    net = many()
    model = wrap(net)
    assert final_estimator(model) is net
    assert is_network(model)
    assert is_network(GridSearchCV(model, {}))
    assert not is_network(wrap(LogisticRegression()))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_votes_on_cuda():
    net = fitted(many(), front=(StandardScaler(), PCA()))
    votes = as_network(net, 4).votes(torch.device("cuda"))(torch.from_numpy(PROBES).cuda())
    assert votes.is_cuda
    assert np.mean(votes.cpu().numpy() == net.predict(PROBES)) > 0.99


class Contrary(NeuralNetClassifier):
    def predict(self, X):
        return 2 - super().predict(X)


def test_a_net_with_its_own_predict_is_not_a_view():
    assert as_network(fitted(NeuralNetClassifier(Network, **TRAINING)), 4) is not None
    assert as_network(fitted(Contrary(Network, **TRAINING)), 4) is None


# Nets of one layer


def linear_net(n_out=3, front=(), **settings):
    params = {"module__in_features": 4, "module__out_features": n_out}
    return fitted(many(module=nn.Linear, **params | settings), Y % n_out, front)


LINEAR = {
    "layer": lambda: linear_net(),
    "no bias": lambda: linear_net(module__bias=False),
    "two outputs": lambda: linear_net(2),
    "sequence": lambda: fitted(many(module=nn.Sequential(nn.Linear(4, 3)))),
    "flatten": lambda: fitted(many(module=nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))),
    "no nonlinearity": lambda: linear_net(predict_nonlinearity=None),
    "scaler": lambda: linear_net(front=(StandardScaler(),)),
    "pca": lambda: linear_net(module__in_features=2, front=(MinMaxScaler(), PCA(2, whiten=True))),
    "no bias behind a scaler": lambda: linear_net(module__bias=False, front=(RobustScaler(),)),
}


@pytest.mark.parametrize("build", LINEAR.values(), ids=LINEAR)
def test_one_layer_is_a_linear_function_of_raw_inputs(build):
    model = build()
    linear = as_linear_network(model, 4)
    net = final_estimator(model)
    rows = PROBES if net is model else model[:-1].transform(PROBES)
    with torch.no_grad():
        outputs = net.module_(torch.tensor(rows)).numpy()
    assert linear.weights.dtype == np.float64
    np.testing.assert_allclose(linear.scores(PROBES.astype(float)), outputs, rtol=1e-4, atol=1e-4)
    assert not linear.two_class
    assert np.all(linear.weight_sizes >= np.abs(linear.weights))
    assert np.all(linear.offset_sizes >= np.abs(linear.offsets))
    agree_share = np.mean(linear.labels(PROBES.astype(float)) == model.predict(PROBES))
    assert agree_share > 0.99
    np.testing.assert_array_equal(
        as_linear_network(FrozenEstimator(model), 4).weights, linear.weights
    )


class Bent(nn.Linear):
    def forward(self, x):
        return torch.tanh(super().forward(x))


class Shifted(nn.Sequential):
    def forward(self, x):
        return super().forward(x) + 1


NOT_LINEAR = {
    "two layers": many(module=nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))),
    "activation": many(module=nn.Sequential(nn.Linear(4, 3), nn.Tanh())),
    "no layer but flatten": many(module=nn.Sequential(nn.Flatten(), Bent(4, 3))),
    "subclass of Linear": many(module=Bent(4, 3)),
    "subclass of Sequential": many(module=Shifted(nn.Linear(4, 3))),
    "parametrised": many(module=spectral_norm(nn.Linear(4, 3))),
    "own nonlinearity": many(module=nn.Linear(4, 3), predict_nonlinearity=reversed_scores),
    "more outputs than classes": many(module=nn.Linear(4, 5)),
    "normalised": many(module=Network),
}


@pytest.mark.parametrize("net", NOT_LINEAR.values(), ids=NOT_LINEAR)
def test_other_nets_are_not_linear(net):
    model = fitted(net)
    assert as_network(model, 4) is not None
    assert as_linear_network(model, 4) is None


def test_nets_with_one_output_are_not_linear():
    net = NeuralNetBinaryClassifier(nn.Linear(4, 1), **TRAINING)
    assert as_linear_network(fitted(net, (Y > 0).astype(np.float32)), 4) is None
    one = many(nn.BCEWithLogitsLoss, module=nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)))
    assert as_linear_network(fitted(one, (Y > 0) * 1.0), 4) is None


def test_what_is_no_net_is_no_linear_net():
    assert as_linear_network(LogisticRegression().fit(X, Y), 4) is None
    behind = linear_net(module__in_features=15, front=(PolynomialFeatures(2),))
    assert as_linear_network(behind, 4) is None
