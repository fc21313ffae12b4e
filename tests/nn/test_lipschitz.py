"""Bounds of networks' derivatives against closed forms, samples, and what cannot be bounded."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from smoothlearn.nn.layers import KinkedError, NoBoundError
from smoothlearn.nn.lipschitz import as_smooth_network
from smoothlearn.theory.norms import dual, row_norms

NORMS = [1, 2, np.inf]
TANH = 4 / (3 * np.sqrt(3))  # sup |tanh''|


class Residual(nn.Module):
    """Branches that are added and subtracted, and a view by the size of the batch."""

    def __init__(self, d=4):
        super().__init__()
        self.enter, self.inner = nn.Linear(d, 6), nn.Linear(6, 6)
        self.skip, self.leave = nn.Linear(d, 6, bias=False), nn.Linear(6, 3)

    def forward(self, x):
        h = torch.tanh(self.enter(x)) + 0.5
        h = h + F.silu(self.inner(h)) - F.softplus(self.skip(x), beta=2.0)
        h = F.dropout(h, 0.5, self.training)
        return self.leave((1 - h).view(x.size(0), -1)), x


class Images(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1),
            nn.BatchNorm2d(3),
            nn.SiLU(),
            nn.AvgPool2d(2, padding=1, count_include_pad=False),
            nn.Conv2d(3, 4, 2, stride=2, padding=1),
            nn.Tanh(),
        )
        self.head = nn.Linear(16, 3)

    def forward(self, x):
        return self.head(torch.flatten(self.body(x.reshape(-1, 1, 4, 4)), 1))


def deep(activation):
    return nn.Sequential(nn.Linear(4, 7), activation, nn.Linear(7, 5), activation, nn.Linear(5, 3))


MODULES = {
    "one hidden": lambda: nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 3)),
    "tanh": lambda: deep(nn.Tanh()),
    "sigmoid": lambda: deep(nn.Sigmoid()),
    "softplus": lambda: deep(nn.Softplus(beta=3.0)),
    "silu": lambda: deep(nn.SiLU()),
    "gelu": lambda: deep(nn.GELU()),
    "gelu by tanh": lambda: deep(nn.GELU(approximate="tanh")),
    "elu": lambda: deep(nn.ELU()),
    "four layers": lambda: nn.Sequential(
        nn.BatchNorm1d(4),
        *(layer for _ in range(3) for layer in (nn.Linear(4, 4), nn.Tanh(), nn.Dropout(0.2))),
        nn.Linear(4, 3),
        nn.LogSoftmax(dim=1),
    ),
    "residual": Residual,
    "images": Images,
    "curved output": lambda: nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 3), nn.Tanh()),
    "sequences": lambda: nn.Sequential(
        nn.Unflatten(1, (2, 3)),
        nn.Conv1d(2, 4, 2, groups=2),
        nn.Sigmoid(),
        nn.AvgPool1d(2),
        nn.Flatten(),
        nn.Identity(),
        nn.Linear(4, 3),
    ),
}
SIZES = {"images": 16, "sequences": 6}


def shaken(module, gain=2.0, seed=0):
    """Weights that are large enough to bend, and statistics as if from data."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            width = max(parameter[0].numel(), 1) if parameter.ndim > 1 else 4
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(gain * noise / width**0.5)
        for name, buffer in module.named_buffers():
            if "running_var" in name:
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
            elif "running_mean" in name:
                buffer.copy_(torch.randn(buffer.shape, generator=generator))
    return module


class Loss(nn.CrossEntropyLoss):
    def forward(self, output, y):
        return super().forward(output[0] if isinstance(output, tuple) else output, y)


def net_of(module, n_classes=3, criterion=Loss, **settings):
    classes = np.arange(n_classes)
    return NeuralNetClassifier(
        module, criterion=criterion, classes=classes, **settings
    ).initialize()


def binary_net_of(module, **settings):
    return NeuralNetBinaryClassifier(module, **settings).initialize()


def view_of(name, gain=2.0, seed=0):
    d = SIZES.get(name, 4)
    return as_smooth_network(net_of(shaken(MODULES[name](), gain, seed)), d), d


def some_pairs(n, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, n_classes, n)
    return first, (first + rng.integers(1, n_classes, n)) % n_classes


def directions(rng, n, d, norm):
    """Directions of length 1: dense, sparse, and of signs."""
    v = rng.standard_normal((n, d))
    v[::3] = np.sign(v[::3])
    v[1::3] *= np.arange(d) == rng.integers(0, d, (len(v[1::3]), 1))
    return v / row_norms(v, norm)[:, np.newaxis]


def quotients(view, X, Z, norm, first, second):
    """How much gradients change between two points, over their distance."""
    change = view.at(X, norm).gradient(first, second) - view.at(Z, norm).gradient(first, second)
    distance = np.maximum(row_norms(X - Z, norm), 1e-300)
    return row_norms(change, dual(norm)) / distance


def check_on_balls(view, d, norm, radius, n, seed=0, steps=(1e-3, 0.3, 1.0)):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, d)) * 2
    first, second = some_pairs(n, seed=seed)
    bound = view.at(X, norm).curvature(first, second, np.full(n, radius))
    worst = 0.0
    for step in steps:
        size = min(radius, 10.0)
        # both ends within the ball
        U = X + size * rng.uniform(0, 1, (n, 1)) ** 0.3 * directions(rng, n, d, norm)
        V = U + step * (X + size * directions(rng, n, d, norm) - U)
        ratio = quotients(view, U, V, norm, first, second) / bound
        worst = max(worst, ratio.max())
    return worst


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", MODULES)
def test_gradients_change_no_faster_than_the_bound(name, norm):
    view, d = view_of(name)
    for radius in (0.05, 0.5, 3.0, np.inf):
        assert check_on_balls(view, d, norm, radius, 400) <= 1 + 1e-7
    assert check_on_balls(view, d, norm, 1e-3, 400, steps=(0.3, 1.0)) <= 1 + 1e-5


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", MODULES)
def test_hessians_at_a_point_are_no_larger_than_the_bound(name, norm):
    # the strongest attack: the exact second derivative along its worst direction
    view, d = view_of(name, seed=1)
    X = np.random.default_rng(2).standard_normal((40, d))
    first, second = some_pairs(40)
    expansion = view.at(X, norm)
    tiny = expansion.curvature(first, second, np.full(40, 1e-9))
    for row, f, s, bound in zip(X, first, second, tiny, strict=True):
        hessian = torch.autograd.functional.hessian(
            lambda x, f=f, s=s: view.score(x[None])[0, f] - view.score(x[None])[0, s],
            torch.from_numpy(row),
        ).numpy()
        assert norm_of_form(hessian, norm) <= bound * (1 + 1e-9)


def norm_of_form(hessian, norm):
    """Of a small matrix, the exact norm from p to the dual of p."""
    if norm == 2:
        return np.linalg.norm(hessian, 2)
    if norm == 1:
        return np.abs(hessian).max()
    d = min(len(hessian), 10)
    signs = np.array(np.meshgrid(*[[-1, 1]] * d)).reshape(d, -1)
    return np.abs(hessian[:, :d] @ signs).sum(0).max()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", MODULES)
def test_bounds_grow_with_the_ball_up_to_all_of_space(name, norm):
    view, d = view_of(name)
    X = np.random.default_rng(0).standard_normal((20, d))
    first, second = some_pairs(20)
    expansion = view.at(X, norm)
    radii = [0.0, 1e-6, 1e-3, 0.01, 0.1, 0.5, 1.0, 3.0, 10.0, 1e3, 1e300, np.inf]
    bounds = [expansion.curvature(first, second, np.full(20, r)) for r in radii]
    for smaller, larger in pairwise(bounds):
        assert (smaller <= larger * (1 + 1e-9)).all()
    mixed = expansion.curvature(first, second, np.resize(radii, 20))
    expected = [bounds[i % len(radii)][i] for i in range(20)]
    np.testing.assert_allclose(mixed, expected, rtol=1e-9)
    assert np.isfinite(bounds[-1]).all()
    # a pair and its opposite change alike
    np.testing.assert_allclose(
        expansion.curvature(second, first, np.full(20, 0.1)), bounds[4], rtol=1e-9
    )


#: Sizes above which work is saved, set to nothing.
SAVINGS = {
    "no small forms": ["curvature._NARROW"],
    "no forms": ["curvature._NARROW", "wiring._LONGEST"],
    "no matrices": ["wiring._LARGEST"],
}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("saving", SAVINGS)
@pytest.mark.parametrize("name", ["one hidden", "gelu", "residual", "images"])
def test_bounds_of_large_networks_hold_too(name, saving, norm, monkeypatch):
    full, d = view_of(name)
    X = np.random.default_rng(0).standard_normal((20, d))
    first, second = some_pairs(20)
    radii = np.resize([0.1, 1.0, np.inf], 20)
    tight = full.at(X, norm).curvature(first, second, radii)
    steep = full.at(X, norm).slope(first, second)
    for size in SAVINGS[saving]:
        monkeypatch.setattr(f"smoothlearn.nn.{size}", 0)
    view, _ = view_of(name)
    assert (view.at(X, norm).curvature(first, second, radii) >= tight * (1 - 1e-9)).all()
    assert (view.at(X, norm).slope(first, second) >= steep * (1 - 1e-9)).all()
    for radius in (0.05, 0.5, np.inf):
        assert check_on_balls(view, d, norm, radius, 300) <= 1 + 1e-7


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", MODULES)
def test_slopes_are_no_larger_than_the_bound(name, norm):
    view, d = view_of(name)
    X = np.random.default_rng(0).standard_normal((2000, d)) * 2
    first, second = some_pairs(2000)
    expansion = view.at(X, norm)
    slopes = row_norms(expansion.gradient(first, second), dual(norm))
    assert (slopes <= expansion.slope(first, second)).all()


@pytest.mark.parametrize("norm", NORMS)
def test_one_hidden_unit_is_exact(norm):
    module = nn.Sequential(nn.Linear(3, 1), nn.Tanh(), nn.Linear(1, 2))
    shaken(module)
    view = as_smooth_network(net_of(module, 2), 3)
    w = module[0].weight.detach().double().numpy()[0]
    v = module[2].weight.detach().double().numpy()[:, 0]
    length = row_norms(w, dual(norm)) ** 2
    first, second = np.array([0]), np.array([1])
    expansion = view.at(np.zeros((1, 3)), norm)
    everywhere = expansion.curvature(first, second, np.array([np.inf]))
    np.testing.assert_allclose(everywhere, abs(v[0] - v[1]) * TANH * length, rtol=1e-6)
    slope = expansion.slope(first, second)
    np.testing.assert_allclose(slope, abs(v[0] - v[1]) * row_norms(w, dual(norm)), rtol=1e-6)
    z = module[0].bias.item()
    here = expansion.curvature(first, second, np.array([0.0]))
    bend = 2 * np.tanh(z) * (1 - np.tanh(z) ** 2)
    np.testing.assert_allclose(here, abs((v[0] - v[1]) * bend) * length, rtol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_the_slope_of_one_unit_is_that_of_its_steepest_point(norm):
    module = shaken(nn.Sequential(nn.Linear(3, 1), nn.GELU(), nn.Linear(1, 2)))
    view = as_smooth_network(net_of(module, 2), 3)
    w, v = (module[i].weight.detach().double().numpy() for i in (0, 2))
    slope = view.at(np.zeros((1, 3)), norm).slope(*np.array([[0], [1]]))
    steepest = 1.1289042  # at the square root of 2
    expected = steepest * abs(v[0, 0] - v[1, 0]) * row_norms(w, dual(norm))
    np.testing.assert_allclose(slope, expected, rtol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_orthogonal_units_of_one_hidden_layer_are_exact(norm):
    module = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh(), nn.Linear(3, 2, bias=False))
    scale, out = np.array([1.0, 2.0, 0.5]), np.array([1.0, -0.5, 3.0])
    with torch.no_grad():
        module[0].weight.copy_(torch.diag(torch.tensor(scale)))
        module[2].weight.copy_(torch.tensor(np.stack([out, np.zeros(3)])))
    view = as_smooth_network(net_of(module, 2), 3)
    bound = view.at(np.zeros((1, 3)), norm).curvature(*np.array([[0], [1]]), np.array([np.inf]))
    terms = TANH * np.abs(out) * scale**2
    np.testing.assert_allclose(bound, terms.sum() if norm == np.inf else terms.max(), rtol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_linear_networks_do_not_bend(norm):
    module = shaken(nn.Sequential(nn.Linear(4, 6), nn.Dropout(), nn.Linear(6, 3)))
    view = as_smooth_network(net_of(module), 4)
    expansion = view.at(np.zeros((5, 4)), norm)
    first, second = some_pairs(5)
    assert (expansion.curvature(first, second, np.full(5, np.inf)) == 0).all()
    gradient = expansion.gradient(first, second)
    np.testing.assert_allclose(
        expansion.slope(first, second), row_norms(gradient, dual(norm)), rtol=1e-7
    )


@pytest.mark.parametrize("name", MODULES)
def test_scores_are_the_net_s_and_gradients_those_of_differences(name):
    d = SIZES.get(name, 4)
    net = net_of(shaken(MODULES[name]()))
    view = as_smooth_network(net, d)
    X = np.random.default_rng(0).standard_normal((30, d))
    expansion = view.at(X, 2)
    assert expansion.scores.dtype == np.float64
    np.testing.assert_array_equal(expansion.scores.argmax(1), net.predict(X.astype(np.float32)))
    said = net.forward(X.astype(np.float32))
    said = (said[0] if isinstance(said, tuple) else said).numpy()
    np.testing.assert_allclose(
        said - said[:, :1], expansion.scores - expansion.scores[:, :1], atol=1e-3
    )
    first, second = some_pairs(30)
    gradient = expansion.gradient(first, second)
    rows = np.arange(30)
    for j in range(d):
        step = 1e-5 * np.eye(d)[j]
        ahead, behind = view.at(X + step, 2).scores, view.at(X - step, 2).scores
        change = (ahead - behind)[rows, first] - (ahead - behind)[rows, second]
        np.testing.assert_allclose(gradient[:, j], change / 2e-5, rtol=1e-5, atol=1e-7)


def test_a_last_softmax_is_taken_off():
    body = shaken(deep(nn.Tanh()))
    X = np.random.default_rng(0).standard_normal((10, 4)) * 5
    expected = as_smooth_network(net_of(body), 4).at(X, 2)
    first, second = some_pairs(10)
    for tail in (nn.Softmax(dim=1), nn.Softmax(dim=-1), nn.LogSoftmax(dim=1)):
        view = as_smooth_network(net_of(nn.Sequential(body, tail)), 4)
        got = view.at(X, 2)
        np.testing.assert_allclose(got.scores, expected.scores, rtol=1e-12)
        np.testing.assert_allclose(
            got.curvature(first, second, np.full(10, 0.1)),
            expected.curvature(first, second, np.full(10, 0.1)),
        )


class Softmaxed(nn.Module):
    def __init__(self, body, function):
        super().__init__()
        self.body, self.function = body, function

    def forward(self, x):
        return self.function(self.body(x))


@pytest.mark.parametrize(
    "function",
    [
        lambda z: F.softmax(z, dim=-1),
        lambda z: F.log_softmax(z, dim=1),
        lambda z: torch.softmax(z, 1),
        lambda z: z.softmax(-1),
        lambda z: z.log_softmax(dim=-1),
    ],
)
def test_a_last_softmax_function_is_taken_off(function):
    body = shaken(deep(nn.Tanh()))
    X = np.random.default_rng(0).standard_normal((10, 4))
    view = as_smooth_network(net_of(Softmaxed(body, function)), 4)
    expected = as_smooth_network(net_of(body), 4).at(X, 2).scores
    np.testing.assert_allclose(view.at(X, 2).scores, expected, rtol=1e-12)
    assert view.refusal is None


@pytest.mark.parametrize("threshold", [0.5, 0.2])
def test_one_output_gives_two_columns_about_the_threshold(threshold):
    body = shaken(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1)))
    X = np.random.default_rng(0).standard_normal((200, 4))
    logit = np.log(threshold / (1 - threshold))
    nets = [
        binary_net_of(body, threshold=threshold),
        binary_net_of(nn.Sequential(body, nn.Sigmoid()), criterion=nn.BCELoss, threshold=threshold),
        binary_net_of(
            nn.Sequential(body, nn.Sigmoid(), nn.Flatten(0)),
            criterion=nn.BCELoss,
            threshold=threshold,
        ),
    ]
    f = body.double()(torch.from_numpy(X)).detach().numpy()[:, 0]
    body.float()
    for net in nets[:2]:
        expansion = as_smooth_network(net, 4).at(X, np.inf)
        np.testing.assert_allclose(expansion.scores[:, 1], f - logit, rtol=1e-6, atol=1e-6)
        assert (expansion.scores[:, 0] == 0).all()
        np.testing.assert_array_equal(expansion.scores.argmax(1), net.predict(X.astype(np.float32)))
        zero, one = np.zeros(200, int), np.ones(200, int)
        there, back = expansion.gradient(one, zero), expansion.gradient(zero, one)
        np.testing.assert_array_equal(there, -back)
        assert (expansion.curvature(one, zero, np.full(200, 0.1)) > 0).all()
    # the output after a sigmoid that is not last is a score as it is
    scores = as_smooth_network(nets[2], 4).at(X, 2).scores
    np.testing.assert_array_equal(scores.argmax(1), nets[2].predict(X.astype(np.float32)))


def test_a_sigmoid_that_skorch_applies_again_is_a_layer():
    body = shaken(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1), nn.Sigmoid()))
    net = binary_net_of(body, threshold=0.6)
    X = np.random.default_rng(0).standard_normal((200, 4))
    scores = as_smooth_network(net, 4).at(X, 2).scores
    assert np.abs(scores[:, 1]).max() <= 1
    np.testing.assert_array_equal(scores.argmax(1), net.predict(X.astype(np.float32)))


@pytest.mark.parametrize("layer", [nn.ReLU(), nn.Mish()])
def test_one_output_that_cannot_be_bounded_is_compared_with_the_threshold(layer):
    body = shaken(nn.Sequential(nn.Linear(4, 6), layer, nn.Linear(6, 1)), seed=3)
    X = np.random.default_rng(0).standard_normal((200, 4))
    for net in (
        binary_net_of(body, threshold=0.3),
        binary_net_of(nn.Sequential(body, nn.Sigmoid()), criterion=nn.BCELoss, threshold=0.3),
        binary_net_of(
            nn.Sequential(body, nn.Sigmoid(), nn.Mish()), criterion=nn.BCELoss, threshold=0.4
        ),
    ):
        view = as_smooth_network(net, 4)
        said = net.predict(X.astype(np.float32))
        assert 0 < said.mean() < 1
        np.testing.assert_array_equal(view.at(X, 2).scores.argmax(1), said)


def test_thresholds_that_are_no_probabilities_are_refused():
    body = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
    with pytest.raises(ValueError, match=r"threshold must be between 0 and 1, got 1"):
        as_smooth_network(binary_net_of(body, threshold=1.0), 4)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("front", [(StandardScaler(),), (StandardScaler(), PCA(4))])
def test_steps_in_front_are_a_layer_in_front(front, norm):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 4)) * [1, 10, 0.1, 3] + 2
    body = shaken(deep(nn.Tanh()))
    scaler = make_pipeline(*front).fit(X)
    model = make_pipeline(*front, net_of(body))
    for (_, step), (_, known) in zip(model.steps, scaler.steps, strict=False):
        step.__dict__.update(known.__dict__)
    view = as_smooth_network(model, 4)
    layer = nn.Linear(4, 4).double()
    with torch.no_grad():
        layer.bias.copy_(torch.from_numpy(scaler.transform(np.zeros((1, 4)))[0]))
        layer.weight.copy_(torch.from_numpy(scaler.transform(np.eye(4)).T) - layer.bias[:, None])
    joined = nn.Sequential(layer.float(), body)
    explicit = as_smooth_network(net_of(joined), 4)
    first, second = some_pairs(100)
    ours, theirs = view.at(X, norm), explicit.at(X, norm)
    np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
    np.testing.assert_allclose(
        ours.gradient(first, second), theirs.gradient(first, second), rtol=1e-3, atol=1e-4
    )
    for radius in (0.01, np.inf):
        radii = np.full(100, radius)
        np.testing.assert_allclose(
            ours.curvature(first, second, radii), theirs.curvature(first, second, radii), rtol=1e-3
        )
    np.testing.assert_allclose(ours.slope(first, second), theirs.slope(first, second), rtol=1e-3)


KINKED = {
    "ReLU": nn.ReLU(),
    "LeakyReLU": nn.LeakyReLU(),
    "PReLU": nn.PReLU(),
    "Hardtanh": nn.Hardtanh(),
    "SELU": nn.SELU(),
    "ELU": nn.ELU(alpha=0.5),
    "softplus": nn.Softplus(threshold=5.0),
}


@pytest.mark.parametrize("name", KINKED)
def test_layers_whose_gradient_jumps_are_refused_by_name(name):
    net = net_of(nn.Sequential(nn.Linear(4, 5), KINKED[name], nn.Linear(5, 3)))
    view = as_smooth_network(net, 4)
    assert isinstance(view.refusal, KinkedError)
    X = np.random.default_rng(0).standard_normal((20, 4))
    expansion = view.at(X, 2)
    np.testing.assert_array_equal(expansion.scores.argmax(1), net.predict(X.astype(np.float32)))
    first, second = some_pairs(20)
    assert expansion.gradient(first, second).shape == (20, 4)
    for ask in (
        lambda: expansion.curvature(first, second, np.full(20, 1.0)),
        lambda: expansion.slope(first, second),
        expansion.rounding,
    ):
        with pytest.raises(TypeError, match=rf"^1.*{name}.*jumps|^1: .*{name} jumps"):
            ask()


class Custom(nn.Module):
    def __init__(self, function, d=4):
        super().__init__()
        self.enter, self.leave = nn.Linear(d, 6), nn.Linear(6, 3)
        self.weight = nn.Parameter(torch.ones(6))
        self.function = function

    def forward(self, x):
        return self.leave(self.function(self, self.enter(x)))


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda self, h: F.relu(h), "relu"),
        (lambda self, h: h.relu(), "relu"),
        (lambda self, h: torch.relu(h), "relu"),
        (lambda self, h: h.clamp(min=0), "clamp"),
        (lambda self, h: F.leaky_relu(h), "leaky_relu"),
        (lambda self, h: F.max_pool1d(h[:, None], 3, 1, 1)[:, 0], "max_pool1d"),
        (lambda self, h: torch.maximum(h, torch.tanh(h)), "maximum"),
        (lambda self, h: abs(h), "abs"),
        (lambda self, h: h * h.sigmoid() + F.relu(h), "relu"),  # a product before it
    ],
)
def test_functions_whose_gradient_jumps_are_refused_by_name(function, name):
    view = as_smooth_network(net_of(Custom(function)), 4)
    assert isinstance(view.refusal, KinkedError)
    assert name in str(view.refusal)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda self, h: h * h, "mul"),
        (lambda self, h: torch.exp(h), "exp"),
        (lambda self, h: F.layer_norm(h, (6,)), "layer_norm"),
        (lambda self, h: h + self.weight, "add"),
        (lambda self, h: torch.add(h, h, alpha=2), "add"),
        (lambda self, h: h.sum(1, keepdim=True) + h, "sum"),
        (lambda self, h: h - h.mean(0), "mean"),
        (lambda self, h: F.dropout(h, 0.0, True), "dropout"),
        (lambda self, h: h if h.sum() > 0 else 2 * h, "traced"),
    ],
)
def test_what_is_not_known_is_refused_by_name(function, name):
    view = as_smooth_network(net_of(Custom(function)), 4)
    assert isinstance(view.refusal, NoBoundError)
    assert not isinstance(view.refusal, KinkedError)
    assert name in str(view.refusal)


def test_modules_that_need_single_precision_are_refused():
    body = Custom(lambda self, h: h.float())
    with pytest.raises(TypeError, match="Custom does not run on float64 rows of X"):
        as_smooth_network(net_of(body), 4)


@pytest.mark.parametrize(
    "layer",
    [
        nn.LayerNorm(6),
        nn.Mish(),
        nn.Bilinear(6, 6, 6),
        nn.BatchNorm1d(6, track_running_stats=False),
    ],
)
def test_layers_that_are_not_known_are_refused_by_name(layer):
    body = Custom(lambda self, h: self.layer(h, h)) if isinstance(layer, nn.Bilinear) else None
    if body is None:
        body = nn.Sequential(nn.Linear(4, 6), layer, nn.Linear(6, 3))
    else:
        body.layer = layer
    view = as_smooth_network(net_of(body), 4)
    assert isinstance(view.refusal, NoBoundError)
    assert not isinstance(view.refusal, KinkedError)
    where = "layer" if isinstance(layer, nn.Bilinear) else "1"
    assert str(view.refusal).startswith(where)


def test_paths_of_modules_are_named():
    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.ReLU())])
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.blocks[0](x))

    view = as_smooth_network(net_of(Outer()), 4)
    assert str(view.refusal).startswith("blocks.0.1 (ReLU): its gradient jumps")


def test_modules_that_cannot_be_traced_name_the_kink_they_hold():
    def choose(self, h):
        return self.relu(h) if h.sum() > 0 else h

    body = Custom(choose)
    body.relu = nn.ReLU()
    view = as_smooth_network(net_of(body), 4)
    assert isinstance(view.refusal, KinkedError)
    assert "relu (ReLU)" in str(view.refusal)


def test_hooks_are_noticed():
    body = deep(nn.Tanh())
    body[0].register_forward_hook(lambda layer, inputs, output: output * 2)
    view = as_smooth_network(net_of(body), 4)
    assert isinstance(view.refusal, NoBoundError)
    assert "hooks" in str(view.refusal)
    net = net_of(body)
    X = np.random.default_rng(0).standard_normal((50, 4))
    np.testing.assert_array_equal(
        as_smooth_network(net, 4).at(X, 2).scores.argmax(1), net.predict(X.astype(np.float32))
    )


class Twice(nn.Module):
    """What is read from x changes with it, as one function works in place."""

    def __init__(self):
        super().__init__()
        self.enter, self.act, self.leave = nn.Linear(4, 6), nn.SiLU(inplace=True), nn.Linear(6, 3)

    def forward(self, x):
        h = self.enter(x)
        return self.leave(self.act(h) + h)


def test_work_in_place_is_noticed():
    assert as_smooth_network(net_of(shaken(Twice())), 4).refusal is not None


def test_parametrized_weights_are_those_they_give():
    body = nn.Sequential(spectral_norm(nn.Linear(4, 6)), nn.Tanh(), nn.Linear(6, 3))
    net = net_of(body)
    view = as_smooth_network(net, 4)
    assert view.refusal is None
    X = np.random.default_rng(0).standard_normal((20, 4))
    said = net.forward(X.astype(np.float32)).numpy()
    np.testing.assert_allclose(view.at(X, 2).scores, said, atol=1e-4)
    bound = view.at(np.zeros((1, 4)), 2).slope(*np.array([[0], [1]]))
    assert bound <= 1.1 * np.linalg.norm(body[2].weight.detach().numpy(), 2) * np.sqrt(2)


def test_functions_of_outputs_are_refused():
    net = net_of(deep(nn.Tanh()), predict_nonlinearity=lambda z: -z)
    with pytest.raises(TypeError, match="predict_nonlinearity is a function"):
        as_smooth_network(net, 4)


@pytest.mark.parametrize("last", [nn.Tanh(), nn.ReLU()])
def test_outputs_are_counted(last):
    body = nn.Sequential(nn.Linear(4, 5), last, nn.Linear(5, 3))
    with pytest.raises(ValueError, match="3 outputs and was fitted on 4 classes"):
        as_smooth_network(net_of(body, 4), 4)
    with pytest.raises(ValueError, match="give it 1"):
        as_smooth_network(binary_net_of(body), 4)


def test_other_models_are_no_networks():
    X = np.random.default_rng(0).standard_normal((20, 4))
    assert as_smooth_network(LogisticRegression().fit(X, X[:, 0] > 0), 4) is None


def test_the_net_and_the_mode_of_gradients_do_not_change():
    net = net_of(shaken(deep(nn.Tanh())))
    before = {k: v.clone() for k, v in net.module_.state_dict().items()}
    view = as_smooth_network(net, 4)
    first, second = some_pairs(5)
    with torch.inference_mode():
        gradient = view.at(np.ones((5, 4)), 2).gradient(first, second)
    assert np.abs(gradient).max() > 0
    assert all(torch.equal(before[k], v) for k, v in net.module_.state_dict().items())
    assert all(p.requires_grad and p.dtype == torch.float32 for p in net.module_.parameters())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", MODULES)
def test_rounding_errors_in_single_precision_scale_the_bound(name, norm):
    # float32 rounds as float64 does, 2^29 times as much
    view, d = view_of(name)
    X = (np.random.default_rng(0).standard_normal((200, d)) * 3).astype(np.float32).astype(float)
    first, second = some_pairs(200)
    expansion = view.at(X, norm)
    score_error, gradient_error = expansion.rounding()
    net = shaken(MODULES[name]()).eval()
    net = net[:-1] if name == "four layers" else net  # the scores are those before its softmax
    rows = torch.tensor(X, dtype=torch.float32, requires_grad=True)
    output = net(rows)
    output = output[0] if isinstance(output, tuple) else output
    index = np.arange(200)
    difference = output[index, first] - output[index, second]
    (gradient,) = torch.autograd.grad(difference.sum(), rows)
    exact = expansion.scores[index, first] - expansion.scores[index, second]
    scale = 2.0**29
    wrong = np.abs(difference.detach().double().numpy() - exact)
    assert (wrong <= scale * score_error).all()
    assert (wrong > 1e-5 * scale * score_error).any()
    wrong = row_norms(gradient.double().numpy() - expansion.gradient(first, second), dual(norm))
    assert (wrong <= scale * gradient_error).all()
    assert (score_error < 1e-9).all()
    assert (gradient_error < 1e-9).all()


def test_rounding_errors_hold_against_extended_precision():
    if np.finfo(np.longdouble).eps > 1e-18:
        pytest.skip("no extended precision here")
    module = shaken(MODULES["tanh"](), gain=3.0)
    view = as_smooth_network(net_of(module), 4)
    X = np.random.default_rng(0).standard_normal((300, 4)) * 3
    h = X.astype(np.longdouble)
    slopes = []
    for layer in module:
        if isinstance(layer, nn.Linear):
            W, b = (p.detach().double().numpy().astype(np.longdouble) for p in layer.parameters())
            h = h @ W.T + b
            slopes.append(W)
        else:
            h = np.tanh(h)
            slopes.append(1 - h**2)
    first, second = some_pairs(300)
    index = np.arange(300)
    pull = slopes[-1][first] - slopes[-1][second]
    for slope in slopes[-2::-1]:
        pull = pull * slope if len(slope) == 300 else pull @ slope
    expansion = view.at(X, np.inf)
    score_error, gradient_error = expansion.rounding()
    exact = h[index, first] - h[index, second]
    ours = expansion.scores[index, first] - expansion.scores[index, second]
    assert (np.abs(ours - exact) <= score_error).all()
    assert (np.abs(expansion.gradient(first, second) - pull).sum(1) <= gradient_error).all()


@pytest.mark.parametrize("norm", NORMS)
def test_large_offsets_are_paid_for_in_rounding(norm):
    X = np.random.default_rng(0).standard_normal((100, 4)) + 1e8
    scaler = StandardScaler().fit(X)
    view = as_smooth_network(make_pipeline(scaler, net_of(shaken(deep(nn.Tanh())))), 4)
    score_error, gradient_error = view.at(X, norm).rounding()
    assert (score_error > 1e-9).all()
    assert (gradient_error > 1e-10).all()
