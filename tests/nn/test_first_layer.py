"""Votes on what the first layer gives are the network's own, with noise of the same law."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import SelectKBest
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn
from torch.nn.utils import parametrizations

from smoothlearn import RandomizedSmoothingClassifier, XHATClassifier
from smoothlearn.bases import base_view
from smoothlearn.nn.first_layer import project_network
from smoothlearn.nn.randomness import private_torch_rng
from smoothlearn.nn.voting import count_votes
from smoothlearn.views.affine import Affine
from smoothlearn.views.linear import noise_factor

CPU = torch.device("cpu")
SIGMA = 0.7
D, H = 6, 4
RNG = np.random.default_rng(0)
Y = RNG.integers(0, 3, 120)
X = RNG.standard_normal((120, D)) * RNG.uniform(0.5, 2, D) + 1.5 * np.eye(3, D)[Y] + 1


def built(network):
    """A network, the same every time, in eval mode."""
    with private_torch_rng(0):
        return network().eval().requires_grad_(False)


def layers(*rest, n_in=D):
    return nn.Sequential(nn.Linear(n_in, H), *(rest or (nn.ReLU(), nn.Linear(H, 3))))


class Forward(nn.Module):
    """As nets of skorch are often written."""

    def __init__(self):
        super().__init__()
        self.dense0, self.out = nn.Linear(D, H), nn.Linear(H, 3)
        self.dropout = nn.Dropout(0.5)

    def forward(self, X, **kwargs):
        X = torch.relu(self.dense0(self.dropout(X.reshape(X.size(0), -1))))
        return torch.softmax(self.out(X), dim=-1)


class Residual(Forward):
    """With a way around what comes behind the first layer."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(H, H)

    def forward(self, X):
        t = self.dense0(X)
        return self.out(t + torch.tanh(self.inner(t)))


class Hidden(Forward):
    """Reads the rest of its weights off the first layer."""

    def forward(self, X):
        return torch.tanh(self.dense0(X)) @ self.dense0.weight[:, :3]


class Square(nn.Module):
    """Uses a layer twice, the second time on something else."""

    def __init__(self):
        super().__init__()
        self.first, self.back = nn.Linear(D, H), nn.Linear(H, D)

    def forward(self, X):
        return self.first(torch.tanh(self.back(torch.tanh(self.first(X)))))[:, :3]


def hooked(change, layer):
    layer.register_forward_hook(lambda layer, inputs, output: change(output))
    return layer


def hooked_before(layer):
    layer.register_forward_pre_hook(lambda layer, inputs: (torch.sin(inputs[0]),))
    return layer


PROJECTED = {
    "sequence": layers,
    "no bias": lambda: nn.Sequential(nn.Linear(D, H, bias=False), nn.Tanh(), nn.Linear(H, 3)),
    "idle layers": lambda: nn.Sequential(nn.Identity(), nn.Dropout(0.9), *layers()),
    "in place": lambda: layers(nn.ReLU(inplace=True), nn.Linear(H, 3)),
    "nested": lambda: nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(D, H)), nn.Linear(H, 3)),
    "linear alone": lambda: nn.Sequential(nn.Linear(D, H)),
}


class Around(Forward):
    def forward(self, X):
        return self.out(torch.relu(self.dense0(X))) + X[:, :3]


class Gated(Forward):
    """Where the input has another way in that gives no number of its own."""

    def forward(self, X):
        t = torch.tanh(self.dense0(X))
        return self.out(torch.where(X[:, :1] > 50, -t, t))


class Raw(Forward):
    """Scales rows unless they look like raw pixels: no probe of another size shows it."""

    def forward(self, X):
        if X.abs().max() < 50:
            X = (X - 3) / 0.5
        return self.out(torch.relu(self.dense0(X)))


class Twice(Forward):
    def __init__(self):
        super().__init__()
        self.dense1 = nn.Linear(D, H)

    def forward(self, X):
        return self.out(torch.relu(self.dense0(X)) + self.dense1(X))


class SharedTwice(Forward):
    def forward(self, X):
        return self.out(torch.relu(self.dense0(X)) - self.dense0(-X).relu())


class Before(Forward):
    """Changes the rows in place before the layer reads them."""

    def forward(self, X):
        X.mul_(2)
        return self.out(torch.relu(self.dense0(X)))


class Clamped(Forward):
    def forward(self, X):
        return self.out(torch.relu(self.dense0(X.clamp(-1e4, 1e4))))


class Pairs(Forward):
    """Mixes the entries of a row."""

    def forward(self, X):
        return self.out(torch.relu(self.dense0(X.reshape(-1, 2, 3).transpose(1, 2).flatten(1))))


class Bent(nn.Linear):
    def forward(self, input):
        return super().forward(input) ** 2


DIRECT = {
    "images": lambda: nn.Sequential(nn.Unflatten(1, (1, 2, 3)), nn.Flatten(), *layers()),
    "a forward, whatever it does": Forward,
    "residual behind": Residual,
    "tied weights": Hidden,
    "layer used twice": Square,
    "hook on the layer": lambda: nn.Sequential(hooked(torch.sin, nn.Linear(D, H)), nn.Linear(H, 3)),
    "hook on the network": lambda: hooked(torch.sin, layers()),
    "tuple": lambda: hooked(lambda output: (output, output), layers()),
    "way around": Around,
    "gate": Gated,
    "gate where data are": Raw,
    "two layers of the input": Twice,
    "the layer twice on the input": SharedTwice,
    "in place before": Before,
    "clamped": Clamped,
    "order of entries": Pairs,
    "hook before the layer": lambda: nn.Sequential(hooked_before(nn.Linear(D, H)), nn.Linear(H, 3)),
    "subclass of Linear": lambda: nn.Sequential(Bent(D, H), nn.Linear(H, 3)),
    "parametrised": lambda: nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(D, H)), nn.Linear(H, 3)
    ),
    "wide": lambda: nn.Sequential(nn.Linear(D, D), nn.ReLU(), nn.Linear(D, 3)),
    "rows in another shape": lambda: nn.Sequential(
        nn.Unflatten(1, (2, D // 2)), nn.Linear(D // 2, H), nn.Flatten(), nn.Linear(2 * H, 3)
    ),
    "normalised": lambda: nn.Sequential(nn.BatchNorm1d(D), *layers()),
    "convolution": lambda: nn.Sequential(
        nn.Unflatten(1, (1, D)), nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(2 * (D - 2), 3)
    ),
}
FRONTS = {
    "none": Affine.identity(D),
    "scaler": Affine(RNG.uniform(0.2, 3, D), RNG.standard_normal(D)),
    "matrix": Affine(RNG.standard_normal((D, D)), RNG.standard_normal(D)),
    "dependent": Affine(np.ones((D, 1)) * RNG.standard_normal(D), RNG.standard_normal(D)),
}


@pytest.mark.parametrize("front", FRONTS.values(), ids=FRONTS)
@pytest.mark.parametrize("network", PROJECTED.values(), ids=PROJECTED)
def test_outputs_of_the_projection_are_those_of_the_row(network, front):
    module = built(network)
    projection, outputs = project_network(front, built(network), CPU)
    assert projection.linear.shape == (H, D)
    said = module(torch.tensor(front(X), dtype=torch.float32))
    said = said[0] if isinstance(said, tuple) else said
    points = torch.tensor(projection(X))
    before = points.clone()
    np.testing.assert_allclose(outputs(points), said, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(outputs(points.float())[:7], said[:7], rtol=1e-4, atol=1e-5)
    assert torch.equal(points, before)
    single = points.float()
    outputs(single)
    assert torch.equal(single, before.float())


@pytest.mark.parametrize("network", DIRECT.values(), ids=DIRECT)
def test_what_the_first_layer_does_not_decide_is_not_projected(network):
    assert project_network(Affine.identity(D), built(network), CPU) is None


def test_a_narrow_front_is_the_projection():
    front = Affine(RNG.standard_normal((3, D)), RNG.standard_normal(3))
    module = built(lambda: layers(n_in=3))
    projection, outputs = project_network(front, module, CPU)
    assert projection.linear.shape == (3, D)
    said = module(torch.tensor(front(X), dtype=torch.float32))
    np.testing.assert_allclose(outputs(torch.tensor(projection(X))), said, rtol=1e-5, atol=1e-6)
    narrower = built(lambda: nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 3)))
    assert len(project_network(front, narrower, CPU)[0].shift) == 2


@pytest.mark.parametrize("kind", ["full", "dependent", "close", "zero", "long and short"])
@pytest.mark.parametrize("n_rows", [4, 80])
def test_the_noise_of_a_projection_has_the_law_of_projected_noise(n_rows, kind):
    weights = np.random.default_rng(1).standard_normal((n_rows, 100))
    if kind in ("dependent", "close"):
        weights[1] = 2 * weights[0] - weights[2]
    if kind == "close":
        weights[1, 0] += 1e-6
    if kind == "zero":
        weights[1] = 0
    if kind == "long and short":
        weights *= np.logspace(-8, 8, n_rows)[:, np.newaxis]
    factor = noise_factor(weights)
    lengths = np.linalg.norm(weights, axis=1)
    lengths[lengths == 0] = 1
    scale = np.outer(lengths, lengths)
    assert factor.shape == (n_rows, n_rows)
    if kind == "close":
        apart = factor[1] - 2 * factor[0] + factor[2]
        assert np.linalg.norm(apart) == pytest.approx(1e-6, rel=1e-6)
    assert np.abs((factor @ factor.T - weights @ weights.T) / scale).max() < 1e-12
    single = factor.astype(np.float32).astype(float)
    assert np.abs((single @ single.T - weights @ weights.T) / scale).max() < 1e-6


NET = {"max_epochs": 10, "lr": 0.1, "train_split": None, "verbose": 0}


def probabilities():
    return layers(nn.ReLU(), nn.Linear(H, 3), nn.Softmax(dim=1))


def binary_net():
    def module():
        return nn.Sequential(nn.Linear(D, H), nn.Tanh(), nn.Linear(H, 1), nn.Flatten(0))

    return NeuralNetBinaryClassifier(module, threshold=0.4, **(NET | {"max_epochs": 60}))


def perceptron():
    return MLPClassifier((H,), max_iter=100, learning_rate_init=0.05, random_state=0)


#: Base, number of classes, dimension of the projection.
BASES = {
    "net": (lambda: NeuralNetClassifier(probabilities, **NET), 3, H),
    "binary": (binary_net, 2, H),
    "scaled": (
        lambda: make_pipeline(StandardScaler(), NeuralNetClassifier(probabilities, **NET)),
        3,
        H,
    ),
    "perceptron": (perceptron, 3, H),
    "two classes": (lambda: make_pipeline(StandardScaler(), perceptron()), 2, H),
    "components": (lambda: make_pipeline(PCA(3, whiten=True), perceptron()), 3, 3),
    "selection": (lambda: make_pipeline(SelectKBest(k=2), perceptron()), 3, 2),
}
SETTINGS = {"sigma": SIGMA, "n_draws": 20, "n_certify_draws": 100, "random_state": 0}


def smoothed(name):
    """A fitted smoother, its votes on whole rows, and the dimension of its projection."""
    if name == "xhat":
        settings = SETTINGS | {"denoiser": "passthrough", "epsilon": 0, "max_epochs": 30}
        xhat = XHATClassifier(lambda d, k: layers(), **settings).fit(X, Y)
        scores = xhat._parts_on(CPU)[1]
        return xhat, lambda batch, _: scores(batch).argmax(dim=1), H
    make, n_classes, width = BASES[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        smoother = RandomizedSmoothingClassifier(make(), **SETTINGS).fit(X, Y % n_classes)
    votes = base_view(smoother.estimator_, smoother._kind, D).votes(CPU)
    return smoother, lambda batch, _: votes(batch), width


def counted(vote, rows, noise, n_classes, n_draws, **settings):
    seeds = settings.pop("seeds", range(1, len(rows) + 1))
    return count_votes(
        vote, rows, list(seeds), noise=noise, n_draws=n_draws, n_classes=n_classes, device=CPU,
        **settings,
    )  # fmt: skip


@pytest.mark.parametrize("name", [*BASES, "xhat"])
def test_counts_have_the_law_of_direct_ones(name):
    smoother, vote, width = smoothed(name)
    rows, n_draws = (X[:6] + X.mean(axis=0)) / 2, 20_000
    n_classes = len(smoother.classes_)
    ballot = smoother._ballot(rows)
    assert ballot.rows.shape == (6, width)
    assert ballot.rows.dtype == np.float64
    assert not ballot.displacement.any()
    projected = counted(ballot.vote, ballot.rows, ballot.noise, n_classes, n_draws)
    direct = counted(vote, rows.astype(np.float32), SIGMA, n_classes, n_draws, seeds=range(10, 16))
    # Hoeffding: two shares of n draws differ by t with probability 2 exp(-n t^2); 138 of them
    t = np.sqrt(np.log(2 * 138 / 1e-7) / n_draws)
    assert np.abs(projected - direct).max() / n_draws < t
    assert (direct.max(axis=1) < 0.98 * n_draws).sum() >= 3, "too easy"


@pytest.mark.parametrize("name", ["net", "binary", "perceptron", "xhat"])
def test_projected_votes_do_not_depend_on_the_company(name):
    smoother, _, _ = smoothed(name)
    ballot, n_classes = smoother._ballot(X[:40]), len(smoother.classes_)
    counts = counted(ballot.vote, ballot.rows, ballot.noise, n_classes, 300)
    again = counted(ballot.vote, ballot.rows, ballot.noise, n_classes, 300, n_jobs=2)
    assert np.array_equal(counts, again)
    some = smoother._ballot(X[:40][::-3])
    seeds = np.arange(1, 41)[::-3]
    other = counted(some.vote, some.rows, some.noise, n_classes, 300, seeds=seeds.tolist())
    assert np.array_equal(counts[::-3], other)


@pytest.mark.parametrize("name", [*BASES, "xhat"])
def test_scores_of_a_ballot_decide_its_votes(name):
    smoother, _, _ = smoothed(name)
    ballot, generator = smoother._ballot(X), torch.Generator()
    batch = torch.tensor(ballot.rows)
    scores = ballot.scores(batch.clone(), generator)
    assert scores.shape == (len(X), len(smoother.classes_))
    assert torch.equal(scores.argmax(dim=1), ballot.vote(batch, generator))


@pytest.mark.parametrize("module", [Around, Gated, Twice, SharedTwice, Pairs])
def test_a_base_that_is_not_projected_votes_on_whole_rows(module):
    net = NeuralNetClassifier(module, criterion=nn.CrossEntropyLoss, **NET)
    smoother = RandomizedSmoothingClassifier(net, **SETTINGS).fit(X, Y)
    ballot = smoother._ballot(X)
    assert ballot.rows.shape == X.shape
    votes = ballot.vote(torch.tensor(ballot.rows), torch.Generator())
    np.testing.assert_array_equal(votes, smoother.estimator_.predict(X.astype(np.float32)))


def test_a_huge_row_abstains():
    smoother, _, _ = smoothed("perceptron")
    far = np.full((1, D), 1e38) * np.sign(smoother.estimator_.coefs_[0][:, 0])
    assert np.isinf(smoother._ballot(1e3 * far).displacement).all()
