"""Attacks stay above certificates and within the radius, and find what is known to be there."""

import warnings
from copy import deepcopy
from dataclasses import FrozenInstanceError

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits, make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from smoothlearn import (
    DEENDenoiser,
    EmpiricalBayesSmoothedClassifier,
    LocallyBiasedSmoother,
    ParzenDenoiser,
    RandomizedSmoothingClassifier,
    XHATClassifier,
    robust_accuracy,
    robustness,
    voted,
)
from smoothlearn.nn.attacks import smoothed_loss
from smoothlearn.nn.randomness import private_torch_rng, spawn_seeds
from smoothlearn.nn.voting import row_seeds
from smoothlearn.views.network import as_network

CPU = torch.device("cpu")
CENTERS = np.array([[-2.0, 0.0, 0.0], [2.0, 0.5, 0.0], [0.0, 2.0, 1.5]])
X, Y = make_blobs(60, centers=CENTERS, cluster_std=0.9, random_state=0)
NET = {"max_epochs": 15, "lr": 0.2, "batch_size": 16, "train_split": None, "verbose": 0}
#: So sure that 1000 rows have a false alarm with probability below 1e-6.
SURE = {"n_draws": 300, "n_certify_draws": 500, "confidence_level": 1 - 1e-10, "random_state": 0}
FAST = {"n_steps": 10, "n_noise": 20, "random_state": 0}


def tanh_net(d=3, n_classes=3, **settings):
    def module():
        return nn.Sequential(nn.Linear(d, 16), nn.Tanh(), nn.Linear(16, n_classes))

    return NeuralNetClassifier(module, criterion=nn.CrossEntropyLoss, **(NET | settings))


def small_network(n_features, n_outputs=1):
    return nn.Sequential(nn.Linear(n_features, 16), nn.SiLU(), nn.Linear(16, n_outputs))


def brief(denoiser, **settings):
    settings = SURE | {"epsilon": 0.3, "max_epochs": 15, "batch_size": 16, "lr": 3e-2} | settings
    return XHATClassifier(small_network, denoiser=denoiser, **settings)


def deen():
    return DEENDenoiser(module=small_network, max_epochs=15, batch_size=16, lr=3e-2)


CLASSIFIERS = {
    "linear": RandomizedSmoothingClassifier(LogisticRegression(), sigma=0.7, **SURE),
    "net": RandomizedSmoothingClassifier(tanh_net(), sigma=0.7, **SURE),
    "scaled-net": RandomizedSmoothingClassifier(
        make_pipeline(StandardScaler(), tanh_net()), sigma=0.7, n_augment=2, **SURE
    ),
    "linear-deen": EmpiricalBayesSmoothedClassifier(
        LogisticRegression(), denoiser=deen(), sigma=0.7, **SURE
    ),
    "net-parzen": EmpiricalBayesSmoothedClassifier(
        tanh_net(), denoiser=ParzenDenoiser(), sigma=0.7, **SURE
    ),
    "xhat": brief("passthrough", sigma=0.7),
    "xhat-deen": brief(deen(), sigma=0.7),
    "xhat-parzen": brief(ParzenDenoiser(), sigma=0.7),
}


@pytest.fixture(scope="module")
def fitted():
    with private_torch_rng(0):
        return {name: classifier.fit(X, Y) for name, classifier in CLASSIFIERS.items()}


each_classifier = pytest.mark.parametrize("name", CLASSIFIERS)


#: Of 64 features, among which random points hardly do harm.
DIGITS = {
    "linear-parzen": EmpiricalBayesSmoothedClassifier(
        LogisticRegression(), denoiser=ParzenDenoiser(), **SURE
    ),
    "linear-deen": EmpiricalBayesSmoothedClassifier(LogisticRegression(), denoiser=deen(), **SURE),
    "xhat": brief("passthrough", epsilon=0),
    "xhat-deen": brief(deen(), epsilon=0),
}


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    kept = np.isin(y, (3, 5, 8))
    return X[kept][:80] / 16, y[kept][:80]


@pytest.fixture(scope="module")
def on_digits(digits):
    return {name: classifier.fit(*digits) for name, classifier in DIGITS.items()}


def frozen_linear(weights, offsets, X, y):
    """A linear base with these coefficients, not refitted."""
    base = LogisticRegression().fit(X, y)
    base.coef_, base.intercept_ = np.asarray(weights, float), np.asarray(offsets, float)
    return FrozenEstimator(base)


class TestBounds:
    @each_classifier
    def test_no_certified_row_is_broken(self, name, fitted):
        classifier = fitted[name]
        found = robust_accuracy(classifier, X, Y, radius=1.0, **FAST)
        certificate = classifier.certify(X)
        safe = certificate.certified(Y) & (certificate.radius >= 1.0)
        assert found.certified == certificate.accuracy(Y, 1.0) == safe.mean()
        assert found.attacked == pytest.approx((~found.broken).mean())
        # Per row: a false certificate, or a false label at the row or at the point: 3e-10.
        assert not (safe & found.broken).any()
        clean = (classifier.predict(X) == Y).mean()
        assert 0.1 < found.certified < found.attacked < clean - 0.1

    @each_classifier
    def test_far_enough_everything_breaks(self, name, fitted):
        assert robust_accuracy(fitted[name], X, Y, radius=15.0, **FAST).attacked < 0.05

    def test_rows_that_are_wrong_are_broken_where_they_are(self, fitted):
        classifier, y = fitted["net"], Y.copy()
        y[::10] = (y[::10] + 1) % 3
        wrong = (classifier.predict(X) != y) & ~classifier.abstains(X)
        assert wrong.sum() >= 5
        found = robust_accuracy(classifier, X, y, radius=0.5, **FAST)
        assert found.broken[wrong].all()
        np.testing.assert_array_equal(found.points[wrong], X[wrong])
        assert (found.points[~wrong] != X[~wrong]).any(axis=1).all()

    def test_what_is_found_is_what_the_classifier_says_there(self, fitted):
        classifier = fitted["xhat-parzen"]
        found = robust_accuracy(classifier, X, Y, radius=1.0, **FAST)
        certificate = classifier.certify(found.points[found.broken])
        assert (certificate.label != Y[found.broken]).all()
        assert found.radius == 1.0
        with pytest.raises(FrozenInstanceError):
            found.attacked = 1.0


class TestLinear:
    """Where g is known: the nearest wrong point lies along the normal."""

    def test_two_classes_are_exact(self, two_blobs):
        X, y = two_blobs
        smoother = RandomizedSmoothingClassifier(LogisticRegression(), random_state=0).fit(X, y)
        base = smoother.estimator_
        distance = base.decision_function(X) / np.linalg.norm(base.coef_) * (2 * y - 1)
        for radius in (0.1, 0.7, 2.0):
            found = robust_accuracy(smoother, X, y, radius=radius, **FAST)
            clear = np.abs(distance - radius) > 1e-3 * radius
            np.testing.assert_array_equal(found.broken[clear], (distance < radius)[clear])
            assert found.certified == found.attacked
        assert robust_accuracy(smoother, X, y, radius=1.01 * distance.max(), **FAST).attacked == 0

    def test_votes_are_broken_up_to_what_they_can_tell(self):
        rng = np.random.default_rng(0)
        normal = np.array([0.6, 0.8, 0.0])
        distance = np.repeat([0.2, 0.7, 1.02, 1.5], 40)
        y = np.tile([0, 1], 80)
        along = rng.standard_normal((160, 3))
        along -= np.outer(along @ normal, normal)
        X = along + np.outer(distance * (2 * y - 1), normal)
        # Two scores of a net of one layer: linear, and counted.
        module = nn.Linear(3, 2)
        with torch.no_grad():
            module.weight.copy_(torch.tensor(np.stack([-normal, normal])))
            module.bias.zero_()
        net = NeuralNetClassifier(module, criterion=nn.CrossEntropyLoss, **(NET | {"lr": 0.0}))
        smoother = RandomizedSmoothingClassifier(net, sigma=0.5, **(SURE | {"n_draws": 1000}))
        found = robust_accuracy(smoother.fit(X, y), X, y, radius=1.0, **FAST)
        # The vote for the wrong class at the point: 0.95, 0.73, 0.484, 0.16.
        # False alarms: 40 rows each with the right majority, doubted or missed: below 1e-8.
        assert found.broken[distance < 1].all()
        assert not found.broken[distance > 1].any()
        # Along the normal, but for the noise of the gradient, which is none here.
        expected = X - np.outer(2 * y - 1, normal)
        np.testing.assert_allclose(found.points, expected, atol=1e-3)

    def test_the_scale_of_the_scores_does_not_matter(self):
        base = LogisticRegression().fit(X, Y)
        found = []
        for scale in (1e-4, 1.0, 1e5):
            frozen = frozen_linear(scale * base.coef_, scale * base.intercept_, X, Y)
            smoother = RandomizedSmoothingClassifier(frozen, sigma=0.7, **SURE).fit(X, Y)
            found.append(robust_accuracy(smoother, X, Y, radius=1.0, **FAST))
        assert 0.3 < found[1].attacked < 0.9
        for other in found:
            np.testing.assert_allclose(other.points, found[1].points, atol=0.02)
            np.testing.assert_array_equal(other.broken, found[1].broken)


class TestStrength:
    @pytest.mark.parametrize("name", DIGITS)
    def test_it_beats_random_points(self, name, digits, on_digits):
        X, y = digits
        found = robust_accuracy(on_digits[name], X, y, radius=2.0, **FAST)
        noise = np.random.default_rng(0).standard_normal(X.shape)
        points = X + 2.0 * noise / np.linalg.norm(noise, axis=1, keepdims=True)
        random = (on_digits[name].predict(points) != y) & ~on_digits[name].abstains(points)
        assert random.mean() < 0.1
        assert found.broken.mean() > 0.5

    def test_the_gradient_of_the_denoiser_matters(self, digits, on_digits, monkeypatch):
        whole = robust_accuracy(on_digits["xhat-deen"], *digits, radius=1.0, **FAST)
        denoise_on = DEENDenoiser.denoise_on

        def flat(denoiser, device):
            denoise = denoise_on(denoiser, device)
            return lambda batch, generator: denoise(batch.detach(), generator) + 0 * batch

        monkeypatch.setattr(DEENDenoiser, "denoise_on", flat)
        past = robust_accuracy(on_digits["xhat-deen"], *digits, radius=1.0, **FAST)
        assert past.certified == whole.certified
        assert past.broken.sum() < 0.8 * whole.broken.sum()

    def test_where_the_denoiser_hardly_moves_the_attack_goes_past_it(
        self, digits, on_digits, monkeypatch
    ):
        X, y = digits
        classifier = deepcopy(on_digits["linear-parzen"]).set_params(sigma=0.25).fit(X, y)
        whole = robust_accuracy(classifier, X, y, radius=2.0, **FAST)
        both = robustness._losses
        monkeypatch.setattr(robustness, "_losses", lambda *given: both(*given)[:1])
        through = robust_accuracy(classifier, X, y, radius=2.0, **FAST)
        assert through.broken.sum() < 0.8 * whole.broken.sum()


def noisy_rows(n=150):
    rng = np.random.default_rng(3)
    return torch.tensor(X[rng.integers(0, len(X), n)] + rng.standard_normal((n, 3))).float()


def whole(classifier):
    """The scores of noisy rows."""
    denoise, scores = classifier._parts_on(CPU)
    if denoise is None:
        return scores
    return lambda batch: scores(denoise(batch, torch.Generator()))


class TestScores:
    """What is attacked is what votes."""

    @each_classifier
    def test_the_largest_has_the_vote(self, name, fitted):
        batch = noisy_rows()
        scores = whole(fitted[name])(batch)
        assert scores.shape == (len(batch), 3)
        base = deepcopy(fitted[name]).set_params(n_draws=1)
        base.sigma_ = 1e-3  # what votes without noise; the denoiser keeps its sigma
        said = base.predict(batch.numpy())
        assert (scores.argmax(dim=1).numpy() != said).mean() <= 0.02  # near ties
        assert np.bincount(said).min() > 20

    @each_classifier
    def test_gradients_are_those_of_the_whole(self, name, fitted):
        scores, batch = whole(fitted[name]), noisy_rows(20).requires_grad_()
        direction = torch.randn(batch.shape, generator=torch.Generator().manual_seed(0))
        weights = torch.tensor([1.0, -2.0, 0.5])

        def value(rows):
            return scores(rows) @ weights

        (slope,) = torch.autograd.grad(value(batch).sum(), batch)
        with torch.no_grad():
            step = 5e-3 * direction
            rise = (value(batch + step) - value(batch - step)) / 1e-2
        along = (slope * direction).sum(dim=1)
        torch.testing.assert_close(along, rise, rtol=0.03, atol=0.02 * float(rise.abs().max()))

    @pytest.mark.parametrize("threshold", [0.5, 0.2])
    @pytest.mark.parametrize("nonlinearity", ["auto", None, "own"])
    def test_nets_with_one_output(self, threshold, nonlinearity):
        own = {"own": lambda s: torch.stack([1 - torch.sigmoid(s + 1), torch.sigmoid(s + 1)], 1)}
        settings = {"predict_nonlinearity": own.get(nonlinearity, nonlinearity)}
        net = NeuralNetBinaryClassifier(
            lambda: nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0)),
            threshold=threshold, **NET, **settings,
        )  # fmt: skip
        with private_torch_rng(0):
            net.fit(X.astype(np.float32), (Y == 1).astype(np.float32))
        view, batch = as_network(net, 3), noisy_rows().requires_grad_()
        logits = view.logits(CPU)(batch)
        assert logits.shape == (len(batch), 2)
        assert torch.equal(logits.argmax(dim=1), view.votes(CPU)(batch))
        assert 10 < int(logits.argmax(dim=1).sum()) < 140
        (slope,) = torch.autograd.grad(logits.sum(), batch)
        assert slope.any(dim=1).all()

    def test_nets_that_give_probabilities(self):
        class Sure(nn.Sequential):
            def forward(self, rows):
                return torch.softmax(50 * super().forward(rows), dim=1)

        net = NeuralNetClassifier(lambda: Sure(nn.Linear(3, 3)), **(NET | {"lr": 1e-3}))
        with private_torch_rng(0):
            net.fit(X.astype(np.float32), Y)
        view, batch = as_network(net, 3), noisy_rows().requires_grad_()
        logits = view.logits(CPU)(batch)
        assert torch.equal(logits.argmax(dim=1), view.votes(CPU)(batch))
        probabilities = net.predict_proba(batch.detach().numpy())
        np.testing.assert_allclose(logits.softmax(1).detach(), probabilities, atol=1e-5)
        assert (probabilities.max(axis=1) == 1).any(), "not saturated"


class TestPoints:
    @pytest.mark.parametrize("name", ["net", "linear-deen"])
    @pytest.mark.parametrize("bounds", [None, (-2.0, 2.0)])
    @pytest.mark.parametrize("n_restarts", [1, 3])
    def test_points_are_in_the_ball_and_the_bounds(self, name, bounds, n_restarts, fitted):
        rows = np.clip(X, -2, 2)
        before = rows.copy()
        found = robust_accuracy(
            fitted[name], rows, Y, radius=1.3, bounds=bounds, n_restarts=n_restarts, **FAST
        )
        np.testing.assert_array_equal(rows, before)
        assert found.points.dtype == np.float64
        assert found.points.shape == X.shape
        distance = np.linalg.norm(found.points - rows, axis=1)
        assert distance.max() <= 1.3 * (1 + 1e-14)
        assert np.median(distance) > 1.2
        assert (np.abs(found.points).max() > 2) == (bounds is None)
        assert found.broken.any()

    def test_balls_are_around_rows_that_single_precision_moves(self, fitted):
        shift = 2.0**20
        classifier = RandomizedSmoothingClassifier(LogisticRegression(max_iter=5000), **SURE)
        shifted = X + shift
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            classifier.fit(shifted, Y)
            found = robust_accuracy(classifier, shifted, Y, radius=1e-3, **FAST)
        assert np.linalg.norm(found.points - shifted, axis=1).max() <= 1e-3 * (1 + 1e-6)

    def test_the_same_seed_gives_the_same_points(self, fitted):
        def points(**changes):
            settings = FAST | {"n_restarts": 2} | changes
            return robust_accuracy(fitted["net"], X, Y, radius=0.5, **settings).points

        np.testing.assert_array_equal(points(), points())
        assert (points() != points(random_state=1)).any()
        assert (points(random_state=None) != points(random_state=None)).any()

    def test_a_row_is_attacked_by_itself(self, fitted, monkeypatch):
        whole = robust_accuracy(fitted["net"], X, Y, radius=0.5, **FAST)
        part = robust_accuracy(fitted["net"], X[10:20], Y[10:20], radius=0.5, **FAST)
        np.testing.assert_allclose(part.points, whole.points[10:20], atol=1e-5)
        monkeypatch.setattr(robustness, "chunk_size", lambda *_: 7)
        single = robust_accuracy(fitted["net"], X, Y, radius=0.5, **FAST)
        np.testing.assert_allclose(single.points, whole.points, atol=1e-5)
        np.testing.assert_array_equal(single.broken, whole.broken)

    def test_votes_have_other_noise_than_the_attack(self, fitted, monkeypatch):
        seeds = {"attack": [], "votes": []}

        def noting(who):
            def noted(*args, **settings):
                seeds[who] += row_seeds(*args, **settings)
                return row_seeds(*args, **settings)

            return noted

        monkeypatch.setattr(robustness, "row_seeds", noting("attack"))
        monkeypatch.setattr(voted, "row_seeds", noting("votes"))
        classifier = fitted["net"]
        assert classifier.noise_seed_ == spawn_seeds(0, ("noise",))["noise"], "not the same seed"
        robust_accuracy(classifier, X, Y, radius=0.5, **FAST)
        assert len(seeds["attack"]) > 50
        assert not set(seeds["attack"]) & set(seeds["votes"])

    def test_the_noise_is_that_of_the_classifier(self, fitted, monkeypatch):
        kept = []

        def noting(scores, y, noise):
            kept.append(noise)
            return smoothed_loss(scores, y, noise)

        monkeypatch.setattr(robustness, "smoothed_loss", noting)
        robust_accuracy(fitted["net"], X, Y, radius=0.5, n_noise=200, n_steps=1, random_state=0)
        noise = torch.cat(kept)
        assert noise.shape[1:] == (200, 3)
        assert len(noise) > 50
        # Of 30,000 draws at least: ten standard errors.
        assert abs(float(noise.square().mean()) / 0.7**2 - 1) < 10 * np.sqrt(2 / 30_000)
        assert abs(float(noise.mean())) < 10 * 0.7 / np.sqrt(30_000)


class TestCompany:
    def test_labels_of_any_type(self):
        names = np.array(["pear", "apple", "quince"])
        classifier = RandomizedSmoothingClassifier(tanh_net(), sigma=0.7, **SURE)
        numbered = np.array([1, 0, 2])[Y]  # in the order of the names
        expected = robust_accuracy(classifier.fit(X, numbered), X, numbered, radius=1.0, **FAST)
        assert 0.3 < expected.attacked < 0.9
        for y in (names[Y], names[Y].astype(object), pd.Series(names[Y]), list(names[Y])):
            found = robust_accuracy(classifier.fit(X, y), X, y, radius=1.0, **FAST)
            np.testing.assert_array_equal(found.points, expected.points)
            np.testing.assert_array_equal(found.broken, expected.broken)

    def test_frames(self):
        frame = pd.DataFrame(X, columns=["a", "b", "c"])
        classifier = RandomizedSmoothingClassifier(LogisticRegression(), sigma=0.7, **SURE)
        expected = robust_accuracy(classifier.fit(X, Y), X, Y, radius=0.6, **FAST)
        found = robust_accuracy(classifier.fit(frame, Y), frame, Y, radius=0.6, **FAST)
        np.testing.assert_array_equal(found.points, expected.points)
        assert found.attacked == expected.attacked

    def test_no_rows(self, fitted):
        found = robust_accuracy(fitted["net"], X[:0], Y[:0], radius=0.5)
        assert np.isnan(found.attacked)
        assert found.points.shape == (0, 3)

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
    @pytest.mark.parametrize("name", ["scaled-net", "xhat-deen"])
    def test_nothing_else_changes(self, name, mode, fitted):
        classifier = fitted[name]
        expected = robust_accuracy(classifier, X[:20], Y[:20], radius=0.5, **FAST)
        state = torch.random.get_rng_state()
        with mode():
            found = robust_accuracy(classifier, X[:20], Y[:20], radius=0.5, n_restarts=2, **FAST)
            again = robust_accuracy(classifier, X[:20], Y[:20], radius=0.5, **FAST)
        np.testing.assert_array_equal(again.points, expected.points)
        assert found.points.shape == again.points.shape
        assert torch.equal(torch.random.get_rng_state(), state)
        if name == "scaled-net":
            module = classifier.estimator_[-1].module_
            assert all(parameter.requires_grad for parameter in module.parameters())

    def test_a_net_keeps_its_mood_and_its_gradients(self):
        def module():
            return nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))

        net = NeuralNetClassifier(module, criterion=nn.CrossEntropyLoss, **NET)
        classifier = RandomizedSmoothingClassifier(net, sigma=0.7, **SURE).fit(X, Y)
        module = classifier.estimator_.module_.train()
        module.zero_grad()
        first = robust_accuracy(classifier, X, Y, radius=0.5, **FAST)
        second = robust_accuracy(classifier, X, Y, radius=0.5, **FAST)
        np.testing.assert_array_equal(first.points, second.points)  # without dropout
        assert module.training
        assert all(parameter.grad is None for parameter in module.parameters())


class TestBadInput:
    @pytest.mark.parametrize(
        "classifier",
        [
            make_pipeline(StandardScaler(), RandomizedSmoothingClassifier(LogisticRegression())),
            GridSearchCV(RandomizedSmoothingClassifier(LogisticRegression()), {"sigma": [1.0]}),
            LocallyBiasedSmoother(LogisticRegression()),
            LogisticRegression(),
            RandomizedSmoothingClassifier,
        ],
    )
    def test_other_classifiers_are_refused(self, classifier):
        if not isinstance(classifier, type):
            classifier.fit(X, Y)
        with pytest.raises(TypeError, match="classifier must be a RandomizedSmoothing"):
            robust_accuracy(classifier, X, Y, radius=0.5)

    @pytest.mark.parametrize("base", [DecisionTreeClassifier(), KNeighborsClassifier(3)])
    @pytest.mark.parametrize("denoiser", [None, ParzenDenoiser()])
    def test_a_base_without_a_gradient_is_refused(self, base, denoiser):
        classifier = RandomizedSmoothingClassifier(base, **SURE)
        if denoiser is not None:
            classifier = EmpiricalBayesSmoothedClassifier(base, denoiser=denoiser, **SURE)
        with pytest.raises(TypeError, match=r"has no gradient.*use a linear classifier"):
            robust_accuracy(classifier.fit(X, Y), X, Y, radius=0.5)

    def test_a_classifier_that_is_not_fitted_is_refused(self):
        with pytest.raises(NotFittedError):
            robust_accuracy(CLASSIFIERS["net"].__class__(tanh_net()), X, Y, radius=0.5)

    @pytest.mark.parametrize(
        ("settings", "error", "match"),
        [
            ({"radius": 0}, ValueError, "radius must be finite and > 0, got 0"),
            ({"radius": np.inf}, ValueError, "radius must be finite"),
            ({"radius": np.nan}, ValueError, "radius must be finite"),
            ({"radius": "1"}, TypeError, "radius must be one real number"),
            ({"n_steps": 0}, ValueError, "n_steps == 0"),
            ({"n_noise": 0}, ValueError, "n_noise == 0"),
            ({"n_noise": 2.5}, TypeError, "n_noise must be an instance of int"),
            ({"n_restarts": 0}, ValueError, "n_restarts == 0"),
            ({"bounds": (0, 1)}, ValueError, r"X must lie within bounds=\(0.0, 1.0\); clip it"),
            ({"bounds": (1, 0)}, ValueError, "bounds must be a pair"),
            ({"bounds": (-9, 9, 9)}, ValueError, "bounds must be a pair"),
            ({"bounds": (np.nan, 9)}, ValueError, "bounds must be a pair"),
            ({"bounds": 9}, ValueError, "bounds must be a pair"),
            ({"bounds": ("a", "b")}, ValueError, "bounds must be a pair"),
            ({"random_state": -1}, ValueError, "random_state must be"),
            ({"y": Y[:-1]}, ValueError, r"y must have shape \(60,\)"),
            ({"y": Y[:, None]}, ValueError, r"y must have shape \(60,\)"),
            ({"y": Y + 1}, ValueError, r"labels that the classifier never saw: \[3\]"),
            ({"y": np.array(["a", "b", "c"])[Y]}, ValueError, "labels that the classifier never"),
            ({"X": X[:, :2]}, ValueError, "X has 2 features"),
            ({"X": np.full_like(X, np.nan)}, ValueError, "contains NaN"),
        ],
    )
    def test_bad_values_are_named(self, settings, error, match, fitted):
        settings = {"X": X, "y": Y, "radius": 0.5} | settings
        with pytest.raises(error, match=match):
            robust_accuracy(fitted["net"], **settings)

    def test_numbers_of_numpy_are_numbers(self, fitted):
        found = robust_accuracy(
            fitted["net"],
            X[:5],
            Y[:5],
            radius=np.float32(0.5),
            n_steps=np.int64(3),
            n_noise=np.int32(5),
            bounds=np.array([-20, 20]),
            random_state=np.random.RandomState(0),
        )
        assert found.radius == 0.5


@pytest.mark.parametrize("sigma", [0.05, 0.1, 0.2])
def test_far_rows_of_both_classes_are_reached(sigma):
    """Where softmax has rounded the loss of a row to 0, single precision has no gradient left."""
    rows, labels = np.array([[2.0, 0.0], [-2.0, 0.0], [3.0, 1.0], [-3.0, 1.0]]), [1, 0, 1, 0]
    linear = LogisticRegression().fit(rows, labels)
    linear.coef_, linear.intercept_ = np.array([[1.0, 0.0]]), np.array([0.0])
    smoother = RandomizedSmoothingClassifier(FrozenEstimator(linear), sigma=sigma)
    found = robust_accuracy(smoother.fit(rows, labels), rows, labels, radius=4.0, random_state=0)
    assert found.attacked == found.certified == 0


def test_rows_on_the_boundary_of_an_exact_classifier_are_in_doubt():
    rows, labels = np.array([[1.0], [-1.0]]), [1, 0]
    linear = LogisticRegression().fit(rows, labels)
    linear.coef_, linear.intercept_ = np.array([[1.0]]), np.array([0.0])
    smoother = RandomizedSmoothingClassifier(FrozenEstimator(linear)).fit(rows, labels)
    assert smoother.abstains([[0.0], [0.5]]).tolist() == [True, False]
    np.testing.assert_array_equal(
        smoother.abstains([[0.0], [0.5]]), smoother.certify([[0.0], [0.5]]).abstained
    )
