"""Votes on a projection of the noisy row are those on the denoised row.

That counts of projected votes have the law of direct ones is tested with the guarantees.
"""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm

from smoothlearn import DEENDenoiser, EmpiricalBayesSmoothedClassifier, ParzenDenoiser
from smoothlearn.nn.energies import (
    CalibratedEnergy,
    GradientStepEnergy,
    initialise,
    make_energy,
)
from smoothlearn.nn.networks import mlp
from smoothlearn.nn.projection import project, starts_linear
from smoothlearn.nn.randomness import generator_on, private_torch_rng
from smoothlearn.views.affine import Affine
from smoothlearn.views.linear import Linear

CPU = torch.device("cpu")
SIGMA = 0.6


#: Features, width of the first layer, rows of weights, whether the layer has a bias.
SHAPES = {
    "narrow": (12, 4, 3, True),  # the projection has fewer dimensions than the row
    "narrow layer": (5, 4, 3, True),
    "wide layer": (4, 16, 3, True),
    "no bias": (6, 5, 4, False),
    "two classes": (6, 5, 1, True),
    "one feature": (1, 3, 1, True),
}
each_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


def case(shape, front=None):
    """An energy before training, a classifier, and noisy rows far from the origin."""
    d, width, n_rows, bias = shape
    rng = np.random.default_rng(d + width)
    X = rng.standard_normal((300, d)) * rng.uniform(0.5, 2, d) + 3 * rng.standard_normal(d)
    with private_torch_rng(0):
        layers = nn.Linear(d, width, bias=bias), nn.Tanh(), mlp(width, 5, 1)
        energy = make_energy(nn.Sequential(*layers), d)
    initialise(energy, X, SIGMA, generator_on(CPU, 0))
    weights = rng.standard_normal((n_rows, d))
    offsets = 0.3 * rng.standard_normal(n_rows) - weights @ X.mean(axis=0)  # no class wins all
    linear = Linear.plain(weights, offsets)
    if front is not None:
        linear = linear.behind(front(d, rng))
    y = X[:60] + SIGMA * rng.standard_normal((60, d))
    return energy.eval().requires_grad_(False), linear, y


def denoise(energy, y):
    """x̂ in the dtype of the energy, as float64."""
    with torch.no_grad():
        return energy(torch.tensor(y, dtype=energy.mean.dtype)).double().numpy()


FRONTS = {
    "none": None,
    "scaler": lambda d, rng: Affine(rng.uniform(0.2, 3, d), rng.standard_normal(d)),
    "matrix": lambda d, rng: Affine(rng.standard_normal((d, d)), rng.standard_normal(d)),
}


@pytest.mark.parametrize("front", FRONTS.values(), ids=FRONTS)
@each_shape
def test_scores_are_those_of_the_denoised_row(shape, front):
    energy, linear, y = case(shape, front)
    projection, scores = project(energy.double(), linear, CPU)
    d, width, n_rows, _ = shape
    assert projection.linear.shape == (width + n_rows, d)
    projected = scores(torch.tensor(projection(y))).numpy()
    denoised = denoise(energy, y)
    np.testing.assert_allclose(projected, linear.scores(denoised), rtol=1e-10, atol=1e-10)
    mean, skip = energy.mean.numpy(), float(energy.skip)
    learned = linear.scores(denoised) - linear.scores(skip * y + (1 - skip) * mean)
    assert np.abs(learned).mean() > 0.01, "the network plays no part"


@each_shape
def test_labels_in_single_precision_are_those_of_the_denoised_row(shape):
    energy, linear, y = case(shape)
    projection, of_projected = project(energy, linear, CPU)
    labels = linear.decide(of_projected(torch.tensor(projection(y)))).numpy()
    scores = linear.scores(denoise(energy, y))
    ranked = np.sort(np.pad(scores, ((0, 0), (0, 1))) if scores.shape[1] == 1 else scores)
    clear = ranked[:, -1] - ranked[:, -2] > 1e-4
    expected = scores[:, 0] > 0 if scores.shape[1] == 1 else scores.argmax(axis=1)
    np.testing.assert_array_equal(labels[clear], expected[clear])
    assert clear.mean() > 0.9
    assert len(np.unique(labels)) > 1


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_votes_in_any_mode_leave_the_batch_alone(mode, dtype):
    energy, linear, y = case(SHAPES["narrow"])
    expected = linear.labels(denoise(energy.double(), y))
    with mode():
        projection, scores = project(energy.float(), linear, CPU)
        batch = torch.tensor(projection(y), dtype=dtype)
        before = batch.clone()
        labels = linear.decide(scores(batch))
    assert not batch.requires_grad
    assert torch.equal(batch, before)
    assert not labels.requires_grad
    np.testing.assert_array_equal(labels.numpy(), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_votes_on_cuda():
    energy, linear, y = case(SHAPES["wide layer"])
    expected = linear.labels(denoise(energy.double(), y))
    projection, scores = project(energy.float(), linear, torch.device("cuda"))
    labels = linear.decide(scores(torch.tensor(projection(y), device="cuda")))
    assert labels.is_cuda
    assert np.mean(labels.cpu().numpy() == expected) > 0.95


class Squared(nn.Sequential):
    def forward(self, u):
        return super().forward(u**2)


class Doubled(nn.Linear):
    def forward(self, u):
        return 2 * super().forward(u)


@pytest.mark.parametrize(
    "energy",
    [
        GradientStepEnergy(3, mlp(3, 4, 3)),
        CalibratedEnergy(3, nn.Sequential(nn.Flatten(), *mlp(3, 4, 1))),
        CalibratedEnergy(3, nn.Sequential(nn.Linear(3, 1))),
        CalibratedEnergy(3, nn.Linear(3, 1)),
        CalibratedEnergy(3, Squared(*mlp(3, 4, 1))),
        CalibratedEnergy(3, nn.Sequential(Doubled(3, 4), *mlp(3, 4, 1)[1:])),
        make_energy("conv", 64, (1, 8, 8)),
    ],
    ids=["gradient-step", "flatten", "one layer", "no sequence", "subclass", "sublayer", "conv"],
)
def test_other_energies_cannot_be_projected(energy):
    assert not starts_linear(energy)
    linear = Linear.plain(np.eye(3), np.zeros(3))
    with pytest.raises(ValueError, match=r"no linear first layer.*starts with nn\.Linear"):
        project(energy, linear, CPU)


# What only looks as if it started with a linear layer


def hooked(layer):
    layer.register_forward_hook(lambda layer, inputs, output: -output)
    return layer


def hooked_before(layer):
    layer.register_forward_pre_hook(lambda layer, inputs: (-2 * inputs[0],))
    return layer


LOOKALIKES = {
    "subclass of Sequential": lambda d: Squared(*mlp(d, 8, 1)),
    "subclass of Linear": lambda d: nn.Sequential(Doubled(d, 8), *mlp(d, 8, 1)[1:]),
    "parametrised": lambda d: nn.Sequential(
        parametrizations.spectral_norm(nn.Linear(d, 8)), *mlp(d, 8, 1)[1:]
    ),
    "weights made by a hook": lambda d: nn.Sequential(
        spectral_norm(nn.Linear(d, 8)), *mlp(d, 8, 1)[1:]
    ),
    "hook on the layer": lambda d: nn.Sequential(hooked(nn.Linear(d, 8)), *mlp(d, 8, 1)[1:]),
    "hook on the network": lambda d: hooked(mlp(d, 8, 1)),
    "hook before the network": lambda d: hooked_before(mlp(d, 8, 1)),
    "flatten": lambda d: nn.Sequential(nn.Flatten(), *mlp(d, 8, 1)),
}


def fitted(module, X, y, kind=DEENDenoiser):
    classifier = EmpiricalBayesSmoothedClassifier(
        make_pipeline(StandardScaler(), LogisticRegression()),
        denoiser=kind(module=module, max_epochs=3, lr=0.05),
        n_draws=20,
        n_certify_draws=100,
        random_state=0,
    )
    return classifier.fit(X, y)


def votes_as_the_denoiser_says(classifier, X):
    """Whether votes on noisy rows are the base's own on denoised ones; also if projected."""
    ballot = classifier._ballot(X)
    noisy = torch.tensor(ballot.rows)  # the rows serve as noisy ones
    votes = ballot.vote(noisy, torch.Generator()).numpy()
    denoised = classifier.denoiser_.transform(X)
    said = classifier.estimator_.predict(denoised)
    np.testing.assert_array_equal(classifier.classes_[votes], said)
    assert len(np.unique(said)) > 1
    assert classifier.certify(X[:5]).counts.sum() == 500
    return ballot.rows.shape[1] != X.shape[1]


@pytest.mark.parametrize("module", LOOKALIKES.values(), ids=LOOKALIKES)
def test_what_only_looks_linear_is_not_projected(module, three_blobs):
    X, y = three_blobs
    assert not votes_as_the_denoiser_says(fitted(module, X, y), 1.5 * X)


class Halved(DEENDenoiser):
    """Denoises in its own way."""

    def transform(self, X):
        return super().transform(X) / 2

    def denoise_on(self, device):
        denoise = super().denoise_on(device)
        return lambda batch, generator: denoise(batch, generator) / 2


def test_a_denoiser_with_its_own_way_is_not_projected(three_blobs):
    X, y = three_blobs
    assert not votes_as_the_denoiser_says(fitted(lambda d: mlp(d, 8, 1), X, y, Halved), 1.5 * X)


@pytest.mark.parametrize("front", [StandardScaler(), PCA(2, whiten=True), "passthrough"])
def test_the_rows_of_a_ballot_are_projected(front, three_blobs):
    X, y = three_blobs
    classifier = fitted(lambda d: mlp(d, 8, 1), X, y)
    classifier.set_params(estimator__standardscaler=front).fit(X, y)
    assert votes_as_the_denoiser_says(classifier, 1.5 * X)
    ballot = classifier._ballot(X)
    assert ballot.rows.shape == (90, 11)
    assert ballot.rows.dtype == np.float64
    assert ballot.noise.shape == (11, 3)
    assert ballot.noise.dtype == np.float32
    assert not ballot.displacement.any()


def test_noise_of_the_tied_energy_has_fewer_dimensions_than_wide_rows():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((40, 600)), np.arange(40) % 3
    X[:, :3] += 2 * np.eye(3)[y]
    classifier = fitted("tied", X, y)
    assert votes_as_the_denoiser_says(classifier, X)
    assert classifier._ballot(X).noise.shape == (515, 515)


def test_no_rows(three_blobs):
    X, y = three_blobs
    assert fitted(lambda d: mlp(d, 8, 1), X, y).certify(X[:0]).counts.shape == (0, 3)


def test_a_closed_form_is_not_projected():
    denoiser = ParzenDenoiser().fit(np.eye(3))
    assert denoiser.project_on(Linear.plain(np.eye(3), np.zeros(3)), CPU) is None


def test_a_second_layer_may_work_in_place(three_blobs):
    def module(n_features):
        return nn.Sequential(nn.Linear(n_features, 8), nn.SiLU(inplace=True), nn.Linear(8, 1))

    assert votes_as_the_denoiser_says(fitted(module, *three_blobs), 1.5 * three_blobs[0])
