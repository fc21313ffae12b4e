"""XHAT: which network is trained on what, behind which denoiser, and what it then says of rows."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted
from torch import nn

import smoothlearn.xhat as xhat_module
from smoothlearn import (
    DEENDenoiser,
    ParzenDenoiser,
    WalkJumpDenoiser,
    XHATClassifier,
    certify,
    robust_accuracy,
)
from smoothlearn.views.predictor import rebuild_frame


class Small(nn.Sequential):
    def __init__(self, n_inputs, n_classes):
        super().__init__(nn.Linear(n_inputs, 16), nn.Tanh(), nn.Linear(16, n_classes))


class Gathering(Small):
    """Centres hidden units at the mean of the batch; starts from zero logits."""

    def __init__(self, n_inputs, n_classes):
        super().__init__(n_inputs, n_classes)
        nn.init.zeros_(self[2].weight)
        nn.init.zeros_(self[2].bias)

    def forward(self, x):
        hidden = self[0](x)
        return self[2](torch.tanh(hidden - hidden.mean(dim=0)))


class Forgetful(Small):
    """Turns rows in a way that is drawn anew, and not saved."""

    def __init__(self, n_inputs, n_classes):
        super().__init__(n_inputs, n_classes)
        self.register_buffer("turn", torch.randn(n_inputs, n_inputs), persistent=False)

    def forward(self, x):
        return super().forward(x @ self.turn)


class Constant(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(n_classes))

    def forward(self, x):
        return self.logits.expand(len(x), -1)


#: 90 rows in batches of 27 are three steps an epoch.
SETTINGS = {
    "module": Small,
    "denoiser": "passthrough",
    "sigma": 0.5,
    "epsilon": 0.3,
    "n_attack_steps": 2,
    "max_epochs": 6,
    "lr": 0.2,
    "batch_size": 27,
    "n_draws": 60,
    "n_certify_draws": 600,
    "random_state": 0,
}


def xhat(**params):
    return XHATClassifier(**SETTINGS | params)


def assert_same_weights(one, other):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def same_weights(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one)


KINDS = {
    "augmentation": xhat(epsilon=0),
    "smoothadv": xhat(n_noise=2),
    "xhat0": xhat(denoiser=ParzenDenoiser(), epsilon=0),
    "xhat": xhat(denoiser=DEENDenoiser(max_epochs=2)),
}


@pytest.fixture(scope="module")
def blobs():
    """90 rows of three features in three classes that overlap, so that votes are split."""
    rng = np.random.default_rng(1)
    y = rng.permutation(np.repeat([0, 1, 2], 30))
    centres = np.array([[-1.0, 0.0, 0.0], [1.0, 0.3, 0.0], [0.0, 1.5, 0.5]])
    return centres[y] + 0.4 * rng.standard_normal((90, 3)), y


@pytest.fixture(scope="module", params=KINDS)
def fitted(request, blobs):
    return clone(KINDS[request.param]).fit(*blobs)


@pytest.fixture(scope="module")
def certificate(fitted, blobs):
    certificate = fitted.certify(blobs[0])
    assert np.median(certificate.counts.max(axis=1)) < 600
    return certificate


class TestOutputs:
    def test_shapes_and_types(self, fitted, certificate, blobs):
        X = blobs[0]
        proba, abstains = fitted.predict_proba(X), fitted.abstains(X)
        assert fitted.predict(X).shape == (90,)
        assert fitted.predict(X).dtype == fitted.classes_.dtype
        assert (proba.shape, proba.dtype) == ((90, 3), np.float64)
        assert (abstains.shape, abstains.dtype) == ((90,), bool)
        assert (certificate.counts.shape, certificate.counts.dtype) == ((90, 3), np.int64)
        assert (certificate.radius.shape, certificate.radius.dtype) == ((90,), np.float64)
        assert certificate.units == "input"
        assert certificate.confidence_level == fitted.confidence_level

    def test_they_agree(self, fitted, certificate, blobs):
        X, y = blobs
        np.testing.assert_array_equal(certificate.label, fitted.predict(X))
        np.testing.assert_array_equal(certificate.radius, fitted.certified_radius(X))
        proba = fitted.predict_proba(X)
        np.testing.assert_array_equal(fitted.classes_[proba.argmax(axis=1)], certificate.label)
        np.testing.assert_allclose(proba.sum(axis=1), 1)
        np.testing.assert_allclose(proba * 60, np.round(proba * 60), atol=1e-12)
        assert (certificate.counts.sum(axis=1) == 600).all()
        assert (certificate.radius[certificate.abstained] == 0).all()
        assert 0 < fitted.abstains(X).sum() < 90
        assert fitted.score(X, y) > 0.8

    def test_votes_depend_on_the_row_alone(self, fitted, certificate, blobs):
        X, counts = blobs[0], certificate.counts
        np.testing.assert_array_equal(fitted.certify(X[::-7]).counts, counts[::-7])
        np.testing.assert_array_equal(fitted.certify(X[4:5]).counts, counts[4:5])
        threads = clone(fitted).set_params(n_jobs=2).fit(*blobs)
        np.testing.assert_array_equal(threads.certify(X).counts, counts)

    def test_parameters_set_after_fit_change_nothing(self, fitted, certificate, blobs):
        before = fitted.get_params(deep=False)
        changed = {
            "module": "conv",
            "denoiser": None,
            "sigma": 3.0,
            "epsilon": 7.0,
            "image_shape": (9, 9),
            "n_noise": 5,
            "random_state": 3,
        }
        try:
            fitted.set_params(**changed)
            np.testing.assert_array_equal(fitted.certify(blobs[0]).counts, certificate.counts)
            np.testing.assert_array_equal(fitted.certify(blobs[0]).radius, certificate.radius)
        finally:
            fitted.set_params(**{name: before[name] for name in changed})

    def test_string_labels_keep_their_rows(self, fitted, certificate, blobs):
        """In another order than the numbers, so that the network's outputs trade places."""
        X, y = blobs
        names = np.array(["cat", "ape", "bee"])
        named = clone(fitted).fit(X, names[y])
        np.testing.assert_array_equal(named.classes_, ["ape", "bee", "cat"])
        assert named.score(X, names[y]) > 0.8
        assert set(named.certify(X).label) == set(names)
        assert named.certify(X).accuracy(names[y]) > 0.8

    @pytest.mark.parametrize("library", ["pandas", "polars"])
    def test_frames(self, fitted, certificate, blobs, library):
        pytest.importorskip(library)
        X, y = blobs
        frame = rebuild_frame(X, ["a", "b", "c"], library)
        framed = clone(fitted).fit(frame, y)
        assert list(framed.feature_names_in_) == ["a", "b", "c"]
        np.testing.assert_array_equal(framed.certify(frame).counts, certificate.counts)

    def test_behind_a_scaler_radii_are_in_units_of_the_input(self, blobs):
        X, y = blobs[0] * [1.0, 10.0, 0.1], blobs[1]
        model = make_pipeline(StandardScaler(), xhat()).fit(X, y)
        inner = model[-1].certify(model[0].transform(X))
        outer = certify(model, X)
        np.testing.assert_array_equal(outer.counts, inner.counts)
        np.testing.assert_allclose(outer.radius, inner.radius * model[0].scale_.min(), rtol=1e-6)
        assert (outer.radius <= inner.radius * model[0].scale_.min()).all()
        assert outer.radius.max() > 0
        assert certify(model, X, units="smoother").radius.max() == inner.radius.max()


class TestRandomness:
    def test_int_gives_the_same_network_and_votes(self, fitted, certificate, blobs):
        again = clone(fitted).fit(*blobs)
        assert_same_weights(again.weights_, fitted.weights_)
        assert again.noise_seed_ == fitted.noise_seed_
        np.testing.assert_array_equal(again.certify(blobs[0]).counts, certificate.counts)

    @pytest.mark.parametrize("seed", [1, None])
    def test_other_seeds_give_others(self, fitted, certificate, blobs, seed):
        one, other = (clone(fitted).set_params(random_state=seed).fit(*blobs) for _ in range(2))
        assert not same_weights(one.weights_, fitted.weights_)
        assert not np.array_equal(one.certify(blobs[0]).counts, certificate.counts)
        assert same_weights(one.weights_, other.weights_) is (seed == 1)
        assert (one.noise_seed_ == other.noise_seed_) is (seed == 1)

    def test_random_state_moves_on(self, blobs):
        state = np.random.RandomState(0)
        one, other = (xhat(random_state=state).fit(*blobs) for _ in range(2))
        assert one.noise_seed_ != other.noise_seed_
        again = xhat(random_state=np.random.RandomState(0)).fit(*blobs)
        assert_same_weights(one.weights_, again.weights_)

    def test_every_part_has_a_seed_of_its_own(self, blobs, monkeypatch):
        seeds = {}

        def remember(part, function):
            def wrapped(*args, **params):
                seeds[part] = params["seed"] if "seed" in params else args[-1]
                return function(*args, **params)

            return wrapped

        for part in ("train_classifier", "fit_denoiser"):
            function = getattr(xhat_module, part)
            monkeypatch.setattr(xhat_module, part, remember(part, function))
        seeds["noise"] = xhat().fit(*blobs).noise_seed_
        assert len(set(seeds.values())) == 3
        assert all(seed.bit_length() > 64 for seed in seeds.values())

    def test_global_generators_are_left_alone(self, blobs):
        module = partial(dropout, 0.5)
        torch.manual_seed(3)
        np.random.seed(3)  # noqa: NPY002
        expected = torch.rand(2), np.random.rand(2)  # noqa: NPY002
        torch.manual_seed(3)
        np.random.seed(3)  # noqa: NPY002
        classifier = xhat(module=module, denoiser=DEENDenoiser(max_epochs=1)).fit(*blobs)
        classifier.certify(blobs[0][:5])
        assert torch.equal(torch.rand(2), expected[0])
        np.testing.assert_array_equal(np.random.rand(2), expected[1])  # noqa: NPY002

    def test_global_generators_change_nothing(self, blobs):
        weights = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            weights.append(xhat(module=partial(dropout, 0.5)).fit(*blobs).weights_)
        assert_same_weights(*weights)


def dropout(share, n_inputs, n_classes):
    return nn.Sequential(
        nn.Linear(n_inputs, 16), nn.Tanh(), nn.Dropout(share), nn.Linear(16, n_classes)
    )


class TestModules:
    @pytest.mark.parametrize("kind", ["class", "function", "instance"])
    def test_all_kinds_learn(self, kind, blobs):
        modules = {"class": Small, "function": partial(dropout, 0.1), "instance": Small(3, 3)}
        classifier = xhat(module=modules[kind]).fit(*blobs)
        assert (classifier.module_ is modules[kind]) is (kind != "instance"), "a copy of it"
        assert classifier.score(*blobs) > 0.8

    def test_function_is_told_the_numbers_of_features_and_classes(self, blobs):
        seen = []

        def module(*sizes):
            seen.append(sizes)
            return Small(*sizes)

        X, y = blobs
        xhat(module=module).fit(X[:, :2], y + (X[:, 0] > 2) * 1).predict(X[:, :2])
        assert set(seen) == {(2, len(np.unique(y + (X[:, 0] > 2))))}

    def test_instance_is_not_trained_in_place(self, blobs):
        network = Small(3, 3)
        before = [parameter.detach().clone() for parameter in network.parameters()]
        classifier = xhat(module=network).fit(*blobs)
        assert classifier.module is network
        classifier.certify(blobs[0][:5])
        for parameter, value in zip(network.parameters(), before, strict=True):
            assert torch.equal(parameter, value)
            assert parameter.grad is None
            assert parameter.requires_grad
        assert network.training
        trained = classifier.weights_["network.0.weight"]
        assert not np.array_equal(trained, network[0].weight.detach().numpy())

    def test_instance_starts_from_its_weights(self, blobs):
        network = Small(3, 3)
        classifier = xhat(module=network, lr=1e-12, max_epochs=1).fit(*blobs)
        np.testing.assert_allclose(
            classifier.weights_["network.0.weight"], network[0].weight.detach(), atol=1e-9
        )

    def test_instance_changed_after_fit_changes_nothing(self, blobs):
        network = Small(3, 3)
        classifier = xhat(module=network).fit(*blobs)
        expected = classifier.certify(blobs[0]).counts
        with torch.no_grad():
            network[0].weight.fill_(5.0)
        network.forward = None
        np.testing.assert_array_equal(classifier.certify(blobs[0]).counts, expected)

    def test_rows_that_meet_in_training_alone_are_refused(self, blobs):
        """All logits are 0 before training, whatever the other rows are."""
        with pytest.raises(ValueError, match="beside other rows"):
            xhat(module=Gathering).fit(*blobs)

    def test_what_is_not_saved_is_refused(self, blobs):
        with pytest.raises(ValueError, match="saved and loaded"):
            xhat(module=Forgetful).fit(*blobs)

    def test_weights_that_end_as_nan_are_refused(self, blobs):
        """The last step is taken after the last training loss was looked at."""

        class Ruin(torch.optim.SGD):
            def step(self, closure=None):
                loss = super().step(closure)
                with torch.no_grad():
                    self.param_groups[0]["params"][0].fill_(math.nan)
                return loss

        one_step = {"max_epochs": 1, "batch_size": 90, "validation_fraction": 0}
        with pytest.raises(ValueError, match="weights are not finite"):
            xhat(optimizer=Ruin, **one_step).fit(*blobs)

    def test_logits_that_do_not_depend_on_the_rows_are_refused(self, blobs):
        with pytest.raises(ValueError, match="does not depend on it"):
            xhat(module=lambda d, k: Constant(k)).fit(*blobs)

    @pytest.mark.parametrize(
        "denoiser", ["passthrough", ParzenDenoiser(), DEENDenoiser(max_epochs=1)]
    )
    def test_inference_mode_changes_nothing(self, denoiser, blobs):
        expected = xhat(denoiser=denoiser).fit(*blobs).certify(blobs[0]).counts
        with torch.inference_mode():
            counts = xhat(denoiser=denoiser).fit(*blobs).certify(blobs[0]).counts
        np.testing.assert_array_equal(counts, expected)

    def test_dropout_does_not_vote(self, blobs):
        """With hardly any noise, all votes of a row are that of the network without dropout."""
        X, y = blobs
        classifier = xhat(module=partial(dropout, 0.5), sigma=1e-4, max_epochs=20).fit(X, y)
        W = classifier.weights_
        hidden = np.tanh(W["scale_in"] * (X - W["mean"]) @ W["network.0.weight"].T
                         + W["network.0.bias"])  # fmt: skip
        logits = hidden @ W["network.3.weight"].T + W["network.3.bias"]
        lead = np.diff(np.sort(logits, axis=1)[:, 1:], axis=1)[:, 0]
        clear = lead > 0.05
        assert clear.mean() > 0.9
        counts = classifier.certify(X[clear]).counts
        np.testing.assert_array_equal(counts.max(axis=1), 600)
        np.testing.assert_array_equal(counts.argmax(axis=1), logits[clear].argmax(axis=1))

    def test_running_statistics_are_kept(self, blobs):
        X, y = blobs

        def module(n_features, n_classes):
            return nn.Sequential(nn.BatchNorm1d(n_features), Small(n_features, n_classes))

        classifier = xhat(module=module, max_epochs=20, validation_fraction=0).fit(X, y)
        assert classifier.weights_["network.0.num_batches_tracked"] == 80
        assert not np.allclose(classifier.weights_["network.0.running_var"], 1)
        assert classifier.score(X, y) > 0.8
        expected = classifier.certify(X).counts
        np.testing.assert_array_equal(classifier.certify(X[:3]).counts, expected[:3])

    @pytest.mark.parametrize(
        ("given", "image_shape", "same"), [("auto", None, "mlp"), ("auto", (1, 4, 4), "conv")]
    )
    def test_automatic_module(self, given, image_shape, same):
        X = np.random.default_rng(0).standard_normal((40, 16))
        weights = [
            xhat(module=module, image_shape=image_shape, max_epochs=1, lr=1e-3)
            .fit(X, X[:, 0] > 0)
            .weights_
            for module in (given, same)
        ]
        assert_same_weights(*weights)
        convolves = any(value.ndim == 4 for value in weights[0].values())
        assert convolves is (same == "conv")

    def test_weights_are_arrays_of_their_own(self, fitted):
        assert all(type(value) is np.ndarray for value in fitted.weights_.values())
        assert all(value.flags.owndata for value in fitted.weights_.values())


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X / 16, y


class TestImages:
    @pytest.mark.parametrize("denoiser", ["passthrough", ParzenDenoiser()])
    def test_conv_learns_digits(self, digits, denoiser):
        X, y = digits
        classifier = xhat(
            module="conv", denoiser=denoiser, image_shape=(8, 8), max_epochs=8, lr=5e-3
        )
        classifier.set_params(n_attack_steps=1).fit(X[:500], y[:500])
        assert classifier.image_shape_ == (1, 8, 8)
        assert classifier.score(X[500:600], y[500:600]) > 0.8
        assert classifier.certify(X[500:520]).accuracy(y[500:520], radius=0.1) > 0.5

    def test_shapes_with_and_without_channels_are_the_same(self, digits):
        X, y = digits[0][:90], digits[1][:90]
        flat, deep = (
            xhat(module="conv", image_shape=shape, max_epochs=1).fit(X, y)
            for shape in ((8, 8), [1, 8, 8])
        )
        assert_same_weights(flat.weights_, deep.weights_)
        assert flat.image_shape_ == deep.image_shape_ == (1, 8, 8)
        assert all(type(size) is int for size in deep.image_shape_)

    def test_users_network_sees_images_and_is_told_their_channels(self, digits):
        X, y = digits[0][:90], digits[1][:90]
        told, seen = set(), set()

        class Looking(nn.Module):
            def __init__(self, *sizes):
                super().__init__()
                told.add(sizes)
                self.layer = nn.Linear(64, sizes[1])

            def forward(self, images):
                seen.add(tuple(images.shape[1:]))
                return self.layer(images.flatten(1))

        classifier = xhat(module=Looking, image_shape=(4, 4, 4), max_epochs=1).fit(X, y)
        classifier.predict(X[:3])
        assert told == {(4, 10)}
        assert seen == {(4, 4, 4)}

    def test_images_are_scaled_by_one_number(self, digits):
        X, y = digits[0][:90], digits[1][:90]
        classifier = xhat(module="conv", image_shape=(8, 8), max_epochs=1).fit(X, y)
        scale = 1 / np.sqrt(X.var(axis=0).mean() + 0.25)
        assert classifier.weights_["scale_in"] == pytest.approx(scale, rel=1e-6)


class TestDenoisers:
    def test_passthrough_is_none(self, blobs):
        assert xhat().fit(*blobs).denoiser_ is None

    def test_none_is_deen(self, blobs, monkeypatch):
        monkeypatch.setattr("smoothlearn.nn.training.AUTO_STEPS", 10)
        classifier = xhat(denoiser=None).fit(*blobs)
        assert isinstance(classifier.denoiser_, DEENDenoiser)
        assert (
            classifier.denoiser_.get_params()
            == DEENDenoiser(sigma=0.5, random_state=classifier.denoiser_.random_state).get_params()
        )

    def test_denoiser_is_the_one_of_a_fit_by_itself(self, blobs):
        given = DEENDenoiser(max_epochs=3, random_state=7)
        classifier = xhat(denoiser=given, sigma=0.4).fit(*blobs)
        alone = clone(given).set_params(sigma=0.4).fit(blobs[0])
        assert_same_weights(classifier.denoiser_.weights_, alone.weights_)
        assert classifier.denoiser_.sigma_ == 0.4
        assert given.sigma is None
        assert not hasattr(given, "sigma_")

    def test_denoiser_sees_no_labels_and_all_rows(self, blobs):
        X, y = blobs
        classifier = xhat(denoiser=ParzenDenoiser()).fit(X, y)
        np.testing.assert_array_equal(classifier.denoiser_.rows_, X)

    @pytest.mark.parametrize(
        "denoiser", [DEENDenoiser(0.5, max_epochs=2, random_state=0), ParzenDenoiser(0.5)]
    )
    def test_frozen_denoiser_is_used_as_it_is(self, blobs, denoiser):
        X, y = blobs
        unlabeled = np.concatenate([X, X + 0.1])
        denoiser = clone(denoiser).fit(unlabeled)
        expected = denoiser.transform(X)
        classifier = xhat(denoiser=FrozenEstimator(denoiser)).fit(X, y)
        assert classifier.denoiser_.estimator is denoiser
        np.testing.assert_array_equal(denoiser.transform(X), expected)
        assert classifier.score(X, y) > 0.8
        with pytest.raises(
            ValueError, match=r"the denoiser has sigma=0\.5, the classifier sigma=1"
        ):
            classifier.set_params(sigma=1.0).fit(X, y)
        with pytest.raises(NotFittedError):
            check_is_fitted(classifier)

    @pytest.mark.parametrize("kind", ["deen", "parzen"])
    def test_training_leaves_the_denoiser_alone(self, blobs, kind):
        denoiser = {"deen": DEENDenoiser(max_epochs=2, random_state=0), "parzen": ParzenDenoiser()}
        brief, long = (
            xhat(denoiser=denoiser[kind], max_epochs=epochs).fit(*blobs) for epochs in (1, 6)
        )
        np.testing.assert_array_equal(
            brief.denoiser_.transform(blobs[0]), long.denoiser_.transform(blobs[0])
        )

    def test_network_learns_behind_the_denoiser(self, blobs):
        """A denoiser to points far away leaves the network nothing of the rows but x̂."""
        X, y = blobs
        elsewhere = ParzenDenoiser(0.5).fit(np.array([[20.0, 0, 0], [-20.0, 0, 0]]))
        classifier = xhat(denoiser=FrozenEstimator(elsewhere), max_epochs=20).fit(X, y)
        assert len(np.unique(classifier.predict(X))) <= 2
        direct = xhat(max_epochs=20).fit(X, y)
        assert direct.score(X, y) > classifier.score(X, y) + 0.1


#: Rows of two kinds, at 1 and -1, and a network that tells them apart: losses are known exactly.
ENDS = np.tile([[1.0], [-1.0]], (20, 1))
SIDE = (ENDS[:, 0] > 0).astype(int)


def lever():
    network = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[-1.0], [1.0]]))
    return network


def loss_at(shift, stretch=1.0):
    """The loss of rows that are shifted towards each other, but for the noise, which is tiny."""
    return np.log1p(np.exp(-2 * stretch * (1 - shift)))


def on_ends(**params):
    settings = {
        "module": lever(),
        "sigma": 1e-4,
        "lr": 1e-12,
        "max_epochs": 4,
        "batch_size": 40,
        "validation_fraction": 0.5,
        "epsilon": 1.5,
    }
    return xhat(**settings | params).fit(ENDS, SIDE)


def column(classifier, name):
    return [row[name] for row in classifier.history_]


class TestRandomDenoisers:
    """A walk behind x̂ draws noise of its own, in training as in votes."""

    WALK = WalkJumpDenoiser(ParzenDenoiser(), ParzenDenoiser(0.2), n_steps=3)

    @pytest.mark.parametrize("epsilon", [0, 0.3])
    def test_same_seed_gives_the_same_network_and_votes(self, blobs, epsilon):
        one, other = (xhat(denoiser=self.WALK, epsilon=epsilon).fit(*blobs) for _ in range(2))
        assert_same_weights(one.weights_, other.weights_)
        counts = one.certify(blobs[0]).counts
        np.testing.assert_array_equal(other.certify(blobs[0]).counts, counts)
        np.testing.assert_array_equal(one.certify(blobs[0][4:5]).counts, counts[4:5])
        seeded = clone(self.WALK).set_params(random_state=9)
        third = xhat(denoiser=seeded, epsilon=epsilon).fit(*blobs)
        assert not same_weights(one.weights_, third.weights_)

    def test_network_learns_and_is_certified_and_attacked(self, blobs):
        X, y = blobs
        classifier = xhat(denoiser=self.WALK, max_epochs=15).fit(X, y)
        assert classifier.score(X, y) > 0.8
        certificate = classifier.certify(X)
        assert certificate.accuracy(y, radius=0.2) > 0.3
        found = robust_accuracy(classifier, X[:30], y[:30], radius=0.4, random_state=0)
        sure = certificate.certified(y)[:30] & (certificate.radius[:30] >= 0.4)
        assert not (sure & found.broken).any()
        assert found.certified <= found.attacked <= 1


class TestTraining:
    @pytest.mark.parametrize("fraction", [0.0, 0.25])
    def test_history_has_a_row_an_epoch(self, blobs, fraction):
        classifier = xhat(validation_fraction=fraction, max_epochs=7).fit(*blobs)
        names = {"epoch", "train_loss", "epsilon", "dur"}
        names |= {"valid_loss", "valid_acc"} if fraction else set()
        assert all(set(row) == names for row in classifier.history_)
        assert column(classifier, "epoch") == list(range(1, 8))
        for name in names - {"epoch"}:
            assert all(type(value) is float and value >= 0 for value in column(classifier, name))
        losses = column(classifier, "train_loss")
        assert losses[-1] < losses[0]
        if fraction:
            assert column(classifier, "valid_acc")[-1] > 0.6

    @pytest.mark.parametrize("n_noise", [1, 3])
    @pytest.mark.parametrize("denoiser", ["passthrough", "frozen"])
    def test_losses_are_those_of_the_attack(self, n_noise, denoiser):
        """Validation meets all of epsilon in every epoch; its accuracy meets none of it."""
        if denoiser == "frozen":  # x̂ is 2 y
            denoiser = FrozenEstimator(Doubling(1e-4).fit(ENDS))
        stretch = 1 if denoiser == "passthrough" else 2
        classifier = on_ends(n_noise=n_noise, denoiser=denoiser, epsilon_warm_up=0.5)
        expected = loss_at(1.5 * np.array([0, 0.5, 1, 1]), stretch)
        np.testing.assert_allclose(column(classifier, "train_loss"), expected, atol=2e-3)
        np.testing.assert_allclose(
            column(classifier, "valid_loss"), loss_at(1.5, stretch), atol=2e-3
        )
        assert column(classifier, "valid_acc") == [1.0] * 4
        assert column(classifier, "epsilon") == [0.75, 1.5, 1.5, 1.5]

    @pytest.mark.parametrize(
        ("warm_up", "shares"), [(0, [1, 1, 1, 1]), (0.25, [0, 1, 1, 1]), (1, [0, 0.25, 0.5, 0.75])]
    )
    def test_warm_up_is_a_share_of_all_steps(self, warm_up, shares):
        classifier = on_ends(epsilon=0.8, epsilon_warm_up=warm_up)
        expected = loss_at(0.8 * np.array(shares))
        np.testing.assert_allclose(column(classifier, "train_loss"), expected, atol=2e-3)
        assert column(classifier, "epsilon")[-1] == 0.8

    @pytest.mark.parametrize(
        ("params", "shift"),
        [
            ({"attack_step_size": 0.2, "n_attack_steps": 1}, 0.2),
            ({"attack_step_size": 0.2, "n_attack_steps": 3}, 0.6),
            ({"attack_step_size": 0.2, "n_attack_steps": 9}, 1.5),
            ({"n_attack_steps": 5}, 1.5),
            ({"epsilon": 0}, 0.0),
        ],
        ids=str,
    )
    def test_steps_of_the_attack(self, params, shift):
        classifier = on_ends(epsilon_warm_up=0, **params)
        for name in ("train_loss", "valid_loss"):
            np.testing.assert_allclose(column(classifier, name), loss_at(shift), atol=2e-3)

    def test_attacks_change_what_is_learned(self, blobs):
        weights = [xhat(epsilon=epsilon).fit(*blobs).weights_ for epsilon in (0.0, 0.3, 0.6)]
        assert not same_weights(weights[0], weights[1])
        assert not same_weights(weights[1], weights[2])

    @pytest.mark.parametrize("fraction", [0.0, 0.5])
    def test_epoch_with_the_least_validation_loss_is_kept(self, fraction):
        """Training that makes all worse: the first epoch is the best."""
        classifier = on_ends(
            optimizer=partial(torch.optim.SGD, maximize=True),
            lr=10.0,
            validation_fraction=fraction,
            epsilon=0.2,
            epsilon_warm_up=0,
        )
        weights = classifier.weights_["network.weight"][:, 0]
        kept = loss_at(0.2, (weights[1] - weights[0]) / 2)
        losses = column(classifier, "valid_loss" if fraction else "train_loss")
        assert (np.diff(losses) > 1e-3).all()
        if fraction:
            assert kept == pytest.approx(losses[0], abs=1e-3)
        else:
            assert kept > losses[-1] + 1e-3

    @pytest.mark.parametrize(("stopping", "n_epochs"), [(3, 4), (True, 11), (False, 15), (0, 15)])
    def test_early_stopping_counts_epochs_without_a_better_loss(self, stopping, n_epochs):
        worsening = partial(torch.optim.SGD, maximize=True)
        classifier = on_ends(
            optimizer=worsening, lr=1.0, epsilon=0.2, early_stopping=stopping, max_epochs=15
        )
        assert len(classifier.history_) == n_epochs
        assert classifier.score(ENDS, SIDE) == 1

    def test_automatic_number_of_epochs(self, blobs, monkeypatch):
        monkeypatch.setattr("smoothlearn.nn.training.AUTO_STEPS", 45)
        assert len(xhat(max_epochs="auto").fit(*blobs).history_) == 15
        assert len(xhat(max_epochs="auto", batch_size=9).fit(*blobs).history_) == 10

    def test_verbose_shows_progress(self, blobs, capsys):
        classifier = xhat(max_epochs=2).fit(*blobs)
        classifier.predict(blobs[0][:3])
        assert capsys.readouterr().err == ""
        classifier.set_params(verbose=1).fit(*blobs)
        trained = capsys.readouterr().err
        assert "epoch 2/2" in trained
        assert "6/6" in trained
        assert "valid_loss=" in trained
        classifier.predict(blobs[0][:3])
        assert "3/3" in capsys.readouterr().err


class Doubling(ParzenDenoiser):
    """x̂ = 2 y."""

    def denoise_on(self, device):
        return lambda batch, generator: 2 * batch

    def denoise_training_on(self, rows, device):
        return lambda batch, places: 2 * batch


class Interrupting(Small):
    """As if Ctrl-C were pressed in the third training batch, or in the eighth."""

    batches = 0
    last = 2

    def forward(self, rows):
        self.batches += self.training
        if self.training and self.batches > self.last:
            raise KeyboardInterrupt
        return super().forward(rows)


class InterruptingLater(Interrupting):
    last = 7


class TestInterrupts:
    @pytest.mark.parametrize(
        ("fraction", "kept"),
        [(0.1, r"those of epoch \d, with the least"), (0.0, "those after the last step")],
    )
    @pytest.mark.parametrize("verbose", [0, 1])
    def test_later_ones_end_the_training(self, blobs, fraction, kept, verbose):
        """The eighth step is in the third epoch; in the second where all rows are trained on."""
        classifier = xhat(
            module=InterruptingLater,
            lr=1.0,
            validation_fraction=fraction,
            verbose=verbose,
            max_epochs=5,
        )
        epoch = 3 if fraction else 2
        match = f"fit was interrupted in epoch {epoch} of 5; the weights are {kept}"
        with pytest.warns(UserWarning, match=match) as record:
            classifier.fit(*blobs)
        assert len(record) == 1
        assert record[0].filename == __file__
        assert len(classifier.history_) == epoch - 1
        assert classifier.certify(blobs[0]).accuracy(blobs[1]) > 0.6
        with pytest.warns(UserWarning, match="interrupted"):
            again = clone(classifier).fit(*blobs)
        assert_same_weights(again.weights_, classifier.weights_)

    @pytest.mark.parametrize("fraction", [0.1, 0.0])
    def test_one_in_the_first_epoch_leaves_nothing_fitted(self, blobs, fraction):
        classifier = xhat(validation_fraction=fraction).fit(*blobs)
        with pytest.raises(KeyboardInterrupt):
            classifier.set_params(module=Interrupting).fit(*blobs)
        with pytest.raises(NotFittedError):
            classifier.predict(blobs[0])

    def test_one_in_the_denoiser_leaves_nothing_fitted(self, blobs, monkeypatch):
        def interrupt(*args, **params):
            raise KeyboardInterrupt

        classifier = xhat(denoiser=DEENDenoiser(max_epochs=1)).fit(*blobs)
        monkeypatch.setattr("smoothlearn.denoisers.deen.train_denoiser", interrupt)
        with pytest.raises(KeyboardInterrupt):
            classifier.fit(*blobs)
        with pytest.raises(NotFittedError):
            check_is_fitted(classifier)
