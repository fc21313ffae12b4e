"""What is certified is the base that was passed in, not something that looks like it."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, make_blobs
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import BaggingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.dataset import Dataset
from torch import nn

from smoothlearn import (
    DEENDenoiser,
    EmpiricalBayesSmoothedClassifier,
    LocallyBiasedSmoother,
    ParzenDenoiser,
    RandomizedSmoothingClassifier,
    XHATClassifier,
)
from smoothlearn.nn.randomness import private_torch_rng
from smoothlearn.views.linear import as_linear

SETTINGS = {"n_draws": 50, "n_certify_draws": 600, "random_state": 0}
TRAINING = {"max_epochs": 10, "lr": 0.1, "train_split": None, "verbose": 0}


def smooth(base, X, y, **changes):
    return RandomizedSmoothingClassifier(base, **SETTINGS | changes).fit(X, y)


@pytest.fixture(scope="module")
def blobs():
    X, y = make_blobs(300, 2, centers=[[-1.5, 0], [1.5, 0]], random_state=0)
    return X.astype(np.float64), y


class CautiousLogistic(LogisticRegression):
    """Says the second class only where it is rather sure."""

    def predict(self, X):
        return self.classes_[(self.predict_proba(X)[:, 1] > 0.9).astype(int)]


class CautiousPipeline(Pipeline):
    def predict(self, X):
        return self.classes_[(self.predict_proba(X)[:, 1] > 0.9).astype(int)]


class CautiousSearch(GridSearchCV):
    def predict(self, X):
        return self.classes_[(self.predict_proba(X)[:, 1] > 0.9).astype(int)]


def rather_sure(smoother, X):
    certificate = smoother.certify(X)
    assert certificate.confidence_level < 1
    sure = certificate.radius > 0
    assert sure.mean() > 0.8
    assert np.array_equal(certificate.label[sure], smoother.estimator_.predict(X)[sure])


@pytest.mark.parametrize("scale", [1e-9, 1e-6, 1e-3, 1.0, 1e3, 1e6])
def test_a_classifier_with_another_threshold_is_not_taken_for_linear(scale, blobs):
    base = CautiousLogistic().fit(*blobs)
    base.coef_ = base.coef_ / scale
    X = blobs[0] * scale
    rather_sure(smooth(FrozenEstimator(base), X, blobs[1], sigma=0.05 * scale), X)


@pytest.mark.parametrize(
    "base",
    [
        CautiousPipeline([("linear", LogisticRegression())]),
        CautiousSearch(LogisticRegression(), {"C": [1.0]}, cv=2),
        make_pipeline(StandardScaler(), CautiousPipeline([("linear", LogisticRegression())])),
        make_pipeline(CautiousSearch(LogisticRegression(), {"C": [1.0]}, cv=2)),
    ],
    ids=["pipeline", "search", "pipeline-inside", "search-inside"],
)
def test_a_wrapper_with_another_threshold_is_not_taken_for_linear(base, blobs):
    rather_sure(smooth(base, *blobs, sigma=0.05), blobs[0])


@pytest.mark.parametrize("kind", [CautiousPipeline, CautiousSearch])
def test_subclasses_of_wrappers_are_not_opened(kind, blobs):
    parts = [("linear", LogisticRegression())], (LogisticRegression(), {"C": [1.0]})
    own = (Pipeline(parts[0]), GridSearchCV(*parts[1], cv=2))
    theirs = (CautiousPipeline(parts[0]), CautiousSearch(*parts[1], cv=2))
    which = [CautiousPipeline, CautiousSearch].index(kind)
    assert as_linear(own[which].fit(*blobs), 2) is not None
    assert as_linear(theirs[which].fit(*blobs), 2) is None


class Pocket(LogisticRegression):
    """Linear but for a square around (30, 30), which random probes do not find."""

    def decision_function(self, X):
        inside = (np.abs(np.asarray(X) - 30) < 2).all(axis=1)
        return np.where(inside, -1, 1) * super().decision_function(X)

    def predict(self, X):
        return self.classes_[(self.decision_function(X) > 0).astype(int)]


def test_a_structure_is_trusted_where_it_votes_like_predict_on_the_training_rows(blobs):
    base = FrozenEstimator(Pocket().fit(*blobs))
    assert as_linear(base, 2) is not None
    X = np.concatenate([blobs[0], blobs[0] / 10 + 30])
    y = np.concatenate([blobs[1], np.zeros(300, int)])
    inside = np.array([[30.0, 30.0]])
    voted = smooth(base, X, y, sigma=0.1).certify(inside)
    assert voted.confidence_level < 1
    assert voted.label == base.predict(inside)
    assert 0 < voted.radius[0] < 1
    # where the training rows do not show it, its label does
    fooled = smooth(base, *blobs).certify(inside)
    assert fooled.confidence_level == 1
    assert fooled.label == base.predict(inside)
    assert fooled.abstained.all()
    assert fooled.radius == 0


@pytest.mark.parametrize("solver", ["full", "covariance_eigh"])
def test_whitened_collinear_columns(solver):
    rng = np.random.default_rng(0)
    for _ in range(20):
        X = rng.standard_normal((60, 3))
        X = np.column_stack([X, X[:, 0]])
        y = (X[:, 0] + 0.3 * rng.standard_normal(60) > 0).astype(int)
        base = make_pipeline(PCA(whiten=True, svd_solver=solver), LogisticRegression())
        smoother = smooth(base, X, y, sigma=0.1)
        certificate = smoother.certify(X)
        assert np.array_equal(smoother.predict(X), certificate.label)
        if certificate.confidence_level == 1:
            assert np.array_equal(certificate.label, smoother.estimator_.predict(X))
            assert np.array_equal(certificate.abstained, certificate.radius == 0)


def test_a_margin_that_rounding_hides_abstains(blobs):
    linear = LogisticRegression().fit(*blobs)
    linear.coef_, linear.intercept_ = np.array([[1.0, 1.0]]), np.zeros(1)
    smoother = smooth(FrozenEstimator(linear), *blobs)
    rows = np.array([[1e17, 16 - 1e17], [3.0, 0.0], [1e308, 1e308], [1e308, -1e308]])
    with np.errstate(over="ignore", invalid="ignore"):
        certificate = smoother.certify(rows)
    assert certificate.confidence_level == 1
    assert certificate.abstained.tolist()[:2] == [True, False]
    assert certificate.radius[0] == 0
    assert np.array_equal(certificate.abstained, certificate.radius == 0)
    assert certificate.radius[1] == pytest.approx(3 / np.sqrt(2))


class Net(nn.Module):
    def __init__(self, n_out=2):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, n_out))

    def forward(self, x):
        return self.layers(x)


class Forgetful(Net):
    """Keeps the batch on the module, where another thread may change it."""

    def forward(self, x):
        self.x = x
        for _ in range(20):
            torch.sin(x)
        return self.layers(self.x)


class Negated(Dataset):
    def transform(self, X, y):
        X, y = super().transform(X, y)
        return -X, y


def net(module=Net, **params):
    return NeuralNetClassifier(
        module, criterion=nn.CrossEntropyLoss, optimizer=torch.optim.Adam, **TRAINING | params
    )


def fitted_net(X, y, **params):
    with private_torch_rng(0):
        return net(**params).fit(X.astype(np.float32), y)


def negate(samples):
    X, y = torch.utils.data.default_collate(samples)
    return -X, y


@pytest.mark.parametrize(
    "preprocessing",
    [{"dataset": Negated}, {"iterator_valid__collate_fn": negate}],
    ids=["dataset", "collate"],
)
@pytest.mark.parametrize("module", [Net, nn.Linear])
def test_a_net_with_preprocessing_outside_its_module(module, preprocessing, blobs):
    X, y = blobs
    sizes = {"module__in_features": 2, "module__out_features": 2} if module is nn.Linear else {}
    smoother = smooth(net(module, **sizes, **preprocessing), X, y, sigma=0.05)
    certificate = smoother.certify(X[:60])
    with private_torch_rng(0):
        said = smoother.estimator_.predict(X[:60].astype(np.float32))
    sure = certificate.radius > 0
    assert sure.mean() > 0.8
    assert np.array_equal(certificate.label[sure], said[sure])


def contrary(output):
    return torch.softmax(-output, dim=-1)


def hooked(layer):
    layer.register_forward_hook(lambda layer, inputs, output: torch.sin(4 * output))
    return layer


LAYER = {"module": nn.Linear, "module__in_features": 2, "module__out_features": 2}


@pytest.mark.parametrize(
    ("base", "kind"),
    [
        (LogisticRegression(), "linear"),
        (net(**LAYER), "linear"),
        (make_pipeline(StandardScaler(), net(**LAYER)), "linear"),
        (net(nn.Sequential(nn.Flatten(), nn.Linear(2, 2))), "linear"),
        (net(**LAYER, predict_nonlinearity=contrary), "network"),
        (net(hooked(nn.Linear(2, 2))), "network"),
        (net(nn.Sequential(hooked(nn.Linear(2, 2)))), "network"),
        (net(hooked(nn.Sequential(nn.Linear(2, 2)))), "network"),
        (NeuralNetBinaryClassifier(nn.Linear(2, 1), **TRAINING), "network"),
        (net(), "network"),
        (MLPClassifier((4,), tol=0.01), "network"),
        (make_pipeline(StandardScaler(), MLPClassifier((1,), "tanh", tol=0.01)), "network"),
        (make_pipeline(StandardScaler(), PolynomialFeatures(1), net(nn.Linear(3, 2))), "indices"),
        (DummyClassifier(), "labels"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_kinds_of_votes(base, kind, blobs):
    smoother = smooth(base, *blobs, sigma=1.0)
    assert smoother._kind == kind
    exact = isinstance(base, LogisticRegression)
    assert (smoother._exact_view() is not None) is exact, "two outputs vote, one margin does not"
    assert (smoother.certify(blobs[0][:5]).counts is None) is exact
    np.testing.assert_array_equal(
        smoother.set_params(sigma=1e-4).fit(*blobs).predict(blobs[0][:50]),
        smoother.estimator_.predict(blobs[0][:50].astype(np.float32)),
    )


def test_perceptrons_have_gradients(blobs):
    X, y = blobs
    base = FrozenEstimator(MLPClassifier((8,), "tanh", tol=0.01, random_state=0).fit(X, y))
    exact = LocallyBiasedSmoother(base, random_state=0).fit(X, y).certify(X[:40])
    assert exact.confidence_level == 1
    assert (exact.radius > 0).mean() > 0.5
    smoother = smooth(base, X, y)
    batch = torch.tensor(X[:40], dtype=torch.float32).requires_grad_()
    logits = smoother._parts_on(torch.device("cpu"))[1](batch)
    np.testing.assert_array_equal(logits.argmax(dim=1), base.predict(X[:40]))
    (slope,) = torch.autograd.grad(logits.sum(), batch)
    assert slope.any(dim=1).all()


class Scribbler(ClassifierMixin, BaseEstimator):
    """Writes an attribute in predict."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        self.rows_ = X
        np.sin(np.repeat(X, 20, axis=0)).sum()
        return self.classes_[(self.rows_[:, 0] > 0).astype(int)]


@pytest.mark.parametrize("base", [Scribbler(), net(Forgetful)], ids=["predict", "module"])
def test_bases_that_change_themselves_are_copied_for_every_thread(base, blobs):
    X, y = blobs
    smoother = smooth(base, X, y, sigma=1.0)
    one = smoother.certify(X[:80]).counts
    assert np.array_equal(one, smoother.set_params(n_jobs=2).certify(X[:80]).counts)


class ForgetfulEnergy(nn.Module):
    def __init__(self, n_features):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_features, 32), nn.SiLU(), nn.Linear(32, 1))

    def forward(self, u):
        self.u = u.detach()
        for _ in range(20):
            torch.sin(u)
        return self.layers(u) + self.u.sum(dim=1, keepdim=True) * u.sum(dim=1, keepdim=True)


def behind_a_layer(n_features):
    return nn.Sequential(nn.Linear(n_features, 8), ForgetfulEnergy(8))


@pytest.mark.parametrize("module", [ForgetfulEnergy, behind_a_layer])
def test_energies_that_change_themselves_are_copied_for_every_thread(module, blobs):
    denoiser = DEENDenoiser(module=module, max_epochs=2)
    clf = EmpiricalBayesSmoothedClassifier(LogisticRegression(), denoiser=denoiser, **SETTINGS)
    one = clf.set_params(sigma=1.0).fit(*blobs).certify(blobs[0][:80]).counts
    two = clf.set_params(n_jobs=2).certify(blobs[0][:80]).counts
    assert np.array_equal(one, two)


def test_scikit_learns_configuration_reaches_the_row_threads(blobs):
    X = pd.DataFrame(blobs[0], columns=["a", "b"])
    select = ColumnTransformer([("a", StandardScaler(), ["a"])])
    with config_context(transform_output="pandas"):
        by_name = ColumnTransformer([("again", "passthrough", ["a__a"])])
        smoother = smooth(make_pipeline(select, by_name, LogisticRegression()), X, blobs[1])
        one = smoother.predict_proba(X[:40])
        assert np.array_equal(one, smoother.set_params(n_jobs=2).predict_proba(X[:40]))


class NeighbourOfTheBatch(ClassifierMixin, BaseEstimator):
    """Compares a row with the mean of the batch."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return self.classes_[(X[:, 0] > X[0, 0]).astype(int)]


@pytest.mark.parametrize("base", [DummyClassifier(strategy="stratified"), NeighbourOfTheBatch()])
def test_predictions_by_chance_or_by_the_other_rows_are_refused(base, blobs):
    with pytest.raises(ValueError, match="predicts the same rows differently"):
        smooth(base, *blobs)


def test_columns_in_another_order_are_refused(blobs):
    frame = pd.DataFrame(blobs[0], columns=["a", "b"])
    swapped = frame[["b", "a"]]
    linear = FrozenEstimator(LogisticRegression().fit(frame, blobs[1]))
    with pytest.raises(ValueError, match="frozen estimator was fitted on the columns"):
        smooth(linear, swapped, blobs[1])
    smooth(linear, frame, blobs[1])
    parzen = FrozenEstimator(ParzenDenoiser(0.5).fit(frame))
    clf = EmpiricalBayesSmoothedClassifier(LogisticRegression(), denoiser=parzen, **SETTINGS)
    with pytest.raises(ValueError, match="frozen denoiser was fitted on the columns"):
        clf.fit(swapped, blobs[1])


def test_a_frozen_ensemble_of_nets_speaks_its_own_labels(blobs):
    X, y = blobs[0], blobs[1] + 1
    with private_torch_rng(0):
        ensemble = BaggingClassifier(net(), 2, random_state=0).fit(X.astype(np.float32), y)
    smoother = smooth(FrozenEstimator(ensemble), X.astype(np.float32), y, sigma=0.05)
    assert set(smoother.predict(X[:40])) == {1, 2}
    assert (smoother.predict(X[:40]) == y[:40]).mean() > 0.8


def test_a_frozen_net_with_numbers_that_are_no_indices_is_refused(blobs):
    X, y = blobs
    fitted = fitted_net(X, y, classes=[1, 0])
    with pytest.raises(ValueError, match="predicts indices"):
        smooth(FrozenEstimator(fitted), X, y)


def test_rounding_of_the_rows_is_subtracted(blobs):
    """Votes of a net are cast around float32 rows; the radius speaks of the float64 ones."""
    X, y = blobs
    smoother = smooth(net(), X, y)
    certificate = smoother.certify(X[:50])
    moved = np.linalg.norm(X[:50] - X[:50].astype(np.float32), axis=1)
    assert (certificate.displacement >= moved).all()
    assert (certificate.displacement <= moved * (1 + 1e-9)).all()
    exact = X[:50].astype(np.float32).astype(np.float64)
    whole = smoother.certify(exact)
    assert not whole.displacement.any()
    same = (whole.counts == certificate.counts).all(axis=1) & ~certificate.abstained
    assert same.mean() > 0.5
    assert (certificate.radius[same] <= whole.radius[same] - moved[same]).all()


@pytest.mark.parametrize("ask", ["predict", "predict_proba", "abstains", "certify"])
@pytest.mark.parametrize("kind", ["net", "XHAT"])
def test_who_is_warned_of_coarse_noise_is_who_asked(ask, kind, blobs):
    X, y = blobs
    if kind == "net":
        smoother = smooth(net(), X, y, sigma=1e-3)
    else:
        body = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))  # not projected
        smoother = XHATClassifier(body, denoiser="passthrough", sigma=1e-3, max_epochs=1)
        smoother.fit(X, y)
    with pytest.warns(UserWarning, match="is coarse in float32") as caught:
        getattr(smoother, ask)([[1e5 / 3, 1e5 / 7]])
    assert {warning.filename for warning in caught} == {__file__}


def test_rows_that_rounding_moves_further_than_their_radius_abstain(blobs):
    X, y = blobs
    smoother = smooth(net(), X, y, sigma=1e-3)
    with pytest.warns(UserWarning, match="is coarse in float32"):
        certificate = smoother.certify([[1e5 / 3, 1e5 / 7]])
    assert certificate.abstained.all() == (certificate.displacement[0] > 2e-3)
    assert certificate.at_confidence(0.9).radius[0] <= 4e-3


def test_the_parzen_denoiser_votes_as_it_transforms_on_raw_columns():
    X, _ = load_breast_cancer(return_X_y=True)
    denoiser = ParzenDenoiser(0.5).fit(X[:400])
    noisy = X + 0.5 * np.random.default_rng(0).standard_normal(X.shape)
    batch = torch.tensor(noisy, dtype=torch.float32)
    denoised = denoiser.denoise_on(torch.device("cpu"))(batch, torch.Generator())
    assert denoised.dtype == torch.float32
    expected = denoiser.transform(batch.double().numpy())
    assert np.abs(denoised.numpy() - expected).max() < 1e-3
