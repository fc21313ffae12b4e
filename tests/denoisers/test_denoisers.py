"""Denoisers: x̂ is the gradient of the energy, better than no denoiser, and stored as arrays."""

import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, make_moons
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.nn import functional as F

from smoothlearn import DEENDenoiser, EmpiricalBayesSmoothedClassifier, ParzenDenoiser
from smoothlearn.theory.bayes import parzen_denoiser, parzen_energy

CPU = torch.device("cpu")
SIGMA = 0.3


class Network(nn.Module):
    """A smooth scalar network, of shape (n, 1)."""

    def __init__(self, n_features, activation=F.silu):
        super().__init__()
        self.hidden = nn.Linear(n_features, 32)
        self.second = nn.Linear(32, 32)
        self.out = nn.Linear(32, 1)
        self.activation = activation

    def forward(self, u):
        hidden = self.activation(self.hidden(u))
        return self.out(self.activation(self.second(hidden)))


def flat_output(n_features):
    return nn.Sequential(Network(n_features), nn.Flatten(0))


def functional_relu(n_features):
    return Network(n_features, activation=F.relu)


class Interrupting(Network):
    """As if Ctrl-C were pressed in the middle of training."""

    def __init__(self, n_features):
        super().__init__(n_features)
        self.calls = 0

    def forward(self, u):
        self.calls += 1
        if self.calls > 8:
            raise KeyboardInterrupt
        return super().forward(u)


def seeded_network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Network(2)


@pytest.fixture(scope="module")
def moons():
    return make_moons(300, noise=0.05, random_state=0)[0]


@pytest.fixture(scope="module")
def noisy(moons):
    return moons[:60] + SIGMA * np.random.default_rng(3).standard_normal((60, 2))


MODULES = {
    "gradient-step-mlp": "gradient-step-mlp",
    "mlp": "mlp",
    "class": Network,
    "function": flat_output,
    "instance": seeded_network(),
}


@pytest.fixture(scope="module", params=[*MODULES, "parzen"])
def fitted(request, moons):
    if request.param == "parzen":
        return ParzenDenoiser(SIGMA).fit(moons)
    module, epochs = MODULES[request.param], 20 if request.param == "mlp" else 60
    denoiser = DEENDenoiser(SIGMA, module=module, max_epochs=epochs, lr=0.02, random_state=0)
    return denoiser.fit(moons)


class TestEveryDenoiser:
    def test_transform_is_a_step_down_the_gradient_of_the_energy(self, fitted, noisy):
        step = 1e-5
        slopes = [
            (fitted.energy(noisy + shift) - fitted.energy(noisy - shift)) / (2 * step)
            for shift in step * np.eye(2)
        ]
        expected = noisy - SIGMA**2 * np.stack(slopes, axis=1)
        np.testing.assert_allclose(fitted.transform(noisy), expected, atol=1e-6)
        assert np.abs(expected - noisy).max() > 0.1

    def test_score_samples_is_minus_the_energy(self, fitted, noisy):
        np.testing.assert_array_equal(fitted.score_samples(noisy), -fitted.energy(noisy))
        assert fitted.energy(noisy).shape == (60,)

    def test_score_is_minus_the_mean_squared_error_under_fixed_noise(self, fitted, moons):
        score = fitted.score(moons)
        assert score == fitted.score(moons)
        errors = []
        for seed in range(20):
            noise = np.random.default_rng(seed).standard_normal(moons.shape)
            errors.append(np.mean((fitted.transform(moons + SIGMA * noise) - moons) ** 2))
        assert -score == pytest.approx(np.mean(errors), abs=4 * np.std(errors))

    def test_denoises_better_than_the_identity_and_any_linear_map(self, fitted, moons):
        variances = np.linalg.eigvalsh(np.cov(moons.T))
        best_linear = np.mean(SIGMA**2 * variances / (variances + SIGMA**2))
        assert best_linear < SIGMA**2
        assert -fitted.score(moons) < 0.97 * best_linear

    def test_rows_do_not_depend_on_each_other(self, fitted, noisy):
        alone = np.concatenate([fitted.transform(row[np.newaxis]) for row in noisy])
        np.testing.assert_allclose(fitted.transform(noisy), alone, rtol=1e-9, atol=1e-12)

    def test_rows_may_run_backwards(self, fitted, noisy):
        """As views that torch does not take."""
        for rows in (noisy, noisy[:1]):
            for method in (fitted.transform, fitted.energy):
                np.testing.assert_allclose(method(rows[::-1]), method(rows)[::-1], atol=1e-9)

    def test_denoise_on_a_device_agrees_with_transform(self, fitted, noisy):
        denoise = fitted.denoise_on(CPU)
        batch = torch.tensor(noisy, dtype=torch.float32)
        for context in (torch.enable_grad, torch.no_grad, torch.inference_mode):
            with context():
                denoised = denoise(batch, torch.Generator())
            assert denoised.dtype == torch.float32
            np.testing.assert_allclose(denoised.numpy(), fitted.transform(noisy), atol=1e-4)

    @pytest.mark.parametrize("double", [False, True])
    def test_field_on_a_device_is_the_energy_and_its_gradient(self, fitted, noisy, double):
        dtype, tolerance = (torch.float64, 1e-6) if double else (torch.float32, 1e-4)
        energy, slope = fitted.field_on(CPU, double=double)(torch.tensor(noisy, dtype=dtype))
        assert energy.dtype == slope.dtype == dtype
        np.testing.assert_allclose(energy, fitted.energy(noisy), rtol=tolerance, atol=tolerance)
        denoised = noisy - SIGMA**2 * slope.numpy()
        np.testing.assert_allclose(denoised, fitted.transform(noisy), atol=tolerance)

    def test_sigma_is_one_half_when_used_alone(self, fitted, moons):
        denoiser = clone(fitted).set_params(sigma=None)
        if isinstance(denoiser, DEENDenoiser):
            denoiser.set_params(max_epochs=1)
        assert denoiser.fit(moons).sigma_ == 0.5

    def test_parameters_set_after_fit_change_nothing(self, fitted, noisy):
        changed = pickle.loads(pickle.dumps(fitted)).set_params(sigma=2.0)
        if isinstance(changed, DEENDenoiser):
            changed.set_params(module="mlp")
        np.testing.assert_array_equal(changed.transform(noisy), fitted.transform(noisy))


class TestParzen:
    def test_is_the_closed_form(self, moons, noisy):
        denoiser = ParzenDenoiser(SIGMA).fit(moons)
        np.testing.assert_array_equal(
            denoiser.transform(noisy), parzen_denoiser(noisy, SIGMA, moons)
        )
        np.testing.assert_array_equal(denoiser.energy(noisy), parzen_energy(noisy, SIGMA, moons))

    @pytest.mark.parametrize("offset", [0.0, 50.0])
    @pytest.mark.parametrize("n_features", [1, 20])
    def test_single_precision_agrees(self, offset, n_features):
        rng = np.random.default_rng(0)
        rows = offset + rng.standard_normal((200, n_features))
        y = rows[:100] + 0.7 * rng.standard_normal((100, n_features))
        denoiser = ParzenDenoiser(0.7).fit(rows)
        batch = torch.tensor(y, dtype=torch.float32)
        denoised = denoiser.denoise_on(CPU)(batch, torch.Generator()).numpy()
        np.testing.assert_allclose(denoised, denoiser.transform(y), atol=1e-4)

    def test_rows_are_kept_apart_from_the_callers(self, moons, noisy):
        rows = moons.copy()
        denoiser = ParzenDenoiser(SIGMA).fit(rows)
        before = denoiser.transform(noisy)
        rows += 100
        np.testing.assert_array_equal(denoiser.transform(noisy), before)


class TestTrainingOfDEEN:
    def test_weights_are_arrays_and_nothing_is_a_tensor(self, moons):
        denoiser = DEENDenoiser(SIGMA, max_epochs=1).fit(moons)
        assert denoiser.weights_
        assert all(type(value) is np.ndarray for value in denoiser.weights_.values())
        assert b"torch" not in pickle.dumps(denoiser)

    @pytest.mark.parametrize("fraction", [0.0, 0.25])
    def test_history_has_a_row_an_epoch(self, moons, fraction):
        denoiser = DEENDenoiser(
            SIGMA, max_epochs=7, validation_fraction=fraction, random_state=0
        ).fit(moons)
        assert [row["epoch"] for row in denoiser.history_] == list(range(1, 8))
        losses = ["train_loss"] + ["valid_loss"] * (fraction > 0)
        for row in denoiser.history_:
            assert set(row) == {"epoch", "dur", *losses}
            assert all(isinstance(row[loss], float) and row[loss] > 0 for loss in losses)
        assert denoiser.history_[-1]["train_loss"] < SIGMA**2

    def test_losses_are_mean_squared_errors_of_the_score(self, moons):
        denoiser = DEENDenoiser(SIGMA, max_epochs=100, random_state=0).fit(moons)
        best = min(row["valid_loss"] for row in denoiser.history_)
        assert best == pytest.approx(-denoiser.score(moons), rel=0.25)

    def test_patience_stops_early_and_keeps_the_best_epoch(self, moons):
        options = {"max_epochs": 60, "lr": 0.3, "random_state": 0}
        patient = DEENDenoiser(SIGMA, patience=None, **options).fit(moons)
        hasty = DEENDenoiser(SIGMA, patience=3, **options).fit(moons)
        assert len(patient.history_) == 60
        losses = [row["valid_loss"] for row in hasty.history_]
        assert len(losses) < 60
        assert len(losses) - 1 - int(np.argmin(losses)) == 3
        short = DEENDenoiser(SIGMA, patience=None, validation_fraction=0, max_epochs=2).fit(moons)
        assert len(short.history_) == 2

    def test_automatic_number_of_epochs_makes_about_4000_steps(self, moons, monkeypatch):
        monkeypatch.setattr("smoothlearn.nn.training.AUTO_STEPS", 45)
        denoiser = DEENDenoiser(SIGMA, batch_size=90, patience=None).fit(moons)
        assert len(denoiser.history_) == 15  # 270 rows of training make three steps an epoch
        denoiser = DEENDenoiser(SIGMA, batch_size=9, patience=None).fit(moons)
        assert len(denoiser.history_) == 10

    def test_int_seed_gives_the_same_weights(self, moons):
        one, other = (
            DEENDenoiser(SIGMA, module=Network, max_epochs=2, random_state=4).fit(moons).weights_
            for _ in range(2)
        )
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)

    def test_none_gives_other_weights(self, moons):
        one, other = (DEENDenoiser(SIGMA, max_epochs=1).fit(moons).weights_ for _ in range(2))
        assert any(not np.array_equal(one[name], other[name]) for name in one)

    def test_automatic_module_depends_on_the_number_of_features(self):
        rng = np.random.default_rng(0)
        for n_features, module in (
            (1, "gradient-step-mlp"),
            (64, "gradient-step-mlp"),
            (65, "mlp"),
        ):
            X = rng.standard_normal((40, n_features))
            auto = DEENDenoiser(max_epochs=1, random_state=0).fit(X).weights_
            named = DEENDenoiser(module=module, max_epochs=1, random_state=0).fit(X).weights_
            assert auto.keys() == named.keys()
            assert all(np.array_equal(auto[name], named[name]) for name in auto)

    def test_data_without_spread(self):
        denoiser = DEENDenoiser(max_epochs=2).fit(np.full((20, 2), 3.0))
        assert np.isfinite(denoiser.transform([[3.5, 2.0]])).all()


class TestModules:
    def test_instance_is_not_trained_in_place(self, moons):
        network = seeded_network()
        before = [parameter.detach().clone() for parameter in network.parameters()]
        denoiser = DEENDenoiser(SIGMA, module=network, max_epochs=3, random_state=0).fit(moons)
        assert denoiser.module is network
        for parameter, value in zip(network.parameters(), before, strict=True):
            assert torch.equal(parameter, value)
            assert parameter.grad is None
        trained = denoiser.weights_["network.hidden.weight"]
        assert not np.array_equal(trained, network.hidden.weight.detach().numpy())
        denoiser.transform(moons)
        assert torch.equal(network.hidden.weight, before[0])

    def test_instance_starts_from_its_weights(self, moons):
        network = seeded_network()
        denoiser = DEENDenoiser(SIGMA, module=network, max_epochs=1, lr=1e-12).fit(moons)
        np.testing.assert_allclose(
            denoiser.weights_["network.hidden.weight"],
            network.hidden.weight.detach().numpy(),
            atol=1e-9,
        )

    @pytest.mark.parametrize("layer", [nn.ReLU, nn.LeakyReLU, nn.Hardtanh, nn.PReLU])
    def test_kinked_layer_is_refused_by_name(self, moons, layer):
        module = nn.Sequential(nn.Linear(2, 8), layer(), nn.Linear(8, 1))
        with pytest.raises(ValueError, match=rf"module contains {layer.__name__},.*use SiLU"):
            DEENDenoiser(SIGMA, module=module, max_epochs=1).fit(moons)

    @pytest.mark.parametrize("module", [functional_relu, nn.Linear(2, 1)])
    def test_piecewise_linear_function_is_refused(self, moons, module):
        denoiser = DEENDenoiser(SIGMA, module=module, max_epochs=1)
        with pytest.raises(ValueError, match=r"module has a piecewise constant gradient.*use SiLU"):
            denoiser.fit(moons)
        with pytest.raises(NotFittedError):
            check_is_fitted(denoiser)

    @pytest.mark.parametrize(
        "activation", [nn.SiLU, nn.GELU, nn.Softplus, nn.Tanh, nn.ELU, nn.Sigmoid, nn.Mish]
    )
    def test_smooth_layer_is_accepted(self, moons, activation):
        module = nn.Sequential(nn.Linear(2, 8), activation(), nn.Linear(8, 1))
        DEENDenoiser(SIGMA, module=module, max_epochs=1).fit(moons)

    @pytest.mark.parametrize("n_outputs", [3, 5])
    def test_module_of_the_wrong_shape_is_refused(self, moons, n_outputs):
        module = nn.Sequential(nn.Linear(2, 8), nn.SiLU(), nn.Linear(8, n_outputs))
        denoiser = DEENDenoiser(SIGMA, module=module, max_epochs=1)
        with pytest.raises(ValueError, match=r"module must map \(n, d\).*one scalar a row"):
            denoiser.fit(moons)
        with pytest.raises(NotFittedError):
            check_is_fitted(denoiser)

    def test_module_that_gives_as_much_as_it_gets_is_a_gradient_step(self, moons, noisy):
        def module(n_features):
            layers = nn.Linear(n_features, 64), nn.SiLU(), nn.Linear(64, n_features)
            return nn.Sequential(*layers)

        denoiser = DEENDenoiser(SIGMA, module=module, max_epochs=60, lr=0.05, random_state=0)
        denoiser.fit(moons)
        variances = np.linalg.eigvalsh(np.cov(moons.T))
        best_linear = np.mean(SIGMA**2 * variances / (variances + SIGMA**2))
        assert -denoiser.score(moons) < 0.97 * best_linear
        assert denoiser.weights_["skip"].shape == (2,)
        denoised = denoiser.denoise_on(CPU)(torch.tensor(noisy).float(), torch.Generator())
        np.testing.assert_allclose(denoised.numpy(), denoiser.transform(noisy), atol=1e-4)

    def test_module_is_told_the_number_of_features(self, moons):
        seen = []

        def module(n_features):
            seen.append(n_features)
            return Network(n_features)

        DEENDenoiser(SIGMA, module=module, max_epochs=1).fit(np.c_[moons, moons[:, 0]])
        assert set(seen) == {3}


class Convolution(nn.Module):
    """A user's network from images (n, 1, height, width) to (n,)."""

    def __init__(self, n_features):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 1, 3))

    def forward(self, images):
        assert images.shape[1:] == (1, 8, 8)
        return self.layers(images).sum(dim=(1, 2, 3))


def image_to_image(n_features):
    return nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 1, 3, padding=1))


IMAGE_MODULES = {
    "conv": "conv",
    "gradient-step-unet": "gradient-step-unet",
    "class": Convolution,
    "function": image_to_image,
    "instance": nn.Sequential(nn.Conv2d(1, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(144, 1)),
}


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return X / 16, y


class TestImages:
    @pytest.fixture(params=IMAGE_MODULES)
    def image_denoiser(self, request, digits):
        denoiser = DEENDenoiser(
            0.5,
            module=IMAGE_MODULES[request.param],
            image_shape=(8, 8),
            max_epochs=1,
            random_state=0,
        )
        return denoiser.fit(digits[0][:300])

    def test_is_stored_cloned_and_fitted_again(self, image_denoiser, digits):
        X = digits[0][300:320]
        expected = image_denoiser.transform(X)
        assert image_denoiser.image_shape == (8, 8)
        assert image_denoiser.image_shape_ == (1, 8, 8)
        loaded = pickle.loads(pickle.dumps(image_denoiser))
        np.testing.assert_array_equal(loaded.transform(X), expected)
        again = clone(image_denoiser).fit(digits[0][:300])
        np.testing.assert_allclose(again.transform(X), expected, atol=1e-6)
        image_denoiser.set_params(image_shape=(4, 4), module="conv")
        np.testing.assert_array_equal(image_denoiser.transform(X), expected)
        image_denoiser.set_params(image_shape=(2, 2, 4), module="mlp").fit(X[:, :16])
        assert image_denoiser.transform(X[:, :16]).shape == (20, 16)
        assert image_denoiser.image_shape_ == (2, 2, 4)

    def test_votes_as_it_transforms(self, image_denoiser, digits):
        X = digits[0][300:320] + 0.5 * np.random.default_rng(0).standard_normal((20, 64))
        denoised = image_denoiser.denoise_on(CPU)(torch.tensor(X).float(), torch.Generator())
        np.testing.assert_allclose(denoised.numpy(), image_denoiser.transform(X), atol=1e-4)
        assert image_denoiser.energy(X).shape == (20,)

    @pytest.mark.parametrize("module", ["conv", "gradient-step-unet"])
    def test_learns_more_than_a_linear_denoiser_of_one_scale(self, module, digits):
        """Which is the energy without its network, and far better than the identity."""
        X = digits[0]
        denoiser = DEENDenoiser(
            0.5, module=module, image_shape=(8, 8), max_epochs=4, lr=5e-3, random_state=0
        ).fit(X[:1500])
        variance = X[:1500].var(axis=0).mean()
        bowl = 0.25 * variance / (variance + 0.25)
        assert bowl < 0.25 / 4
        assert -denoiser.score(X[1500:]) < 0.85 * bowl

    def test_certifies_in_a_classifier(self, digits):
        X, y = digits
        denoiser = DEENDenoiser(module="conv", image_shape=(1, 8, 8), max_epochs=2, lr=5e-3)
        classifier = EmpiricalBayesSmoothedClassifier(
            LogisticRegression(max_iter=200), denoiser=denoiser, sigma=0.3, random_state=0,
            n_draws=20, n_certify_draws=100,
        ).fit(X[:600], y[:600])  # fmt: skip
        rows = X[600:610]
        certificate = classifier.certify(rows)
        assert certificate.accuracy(y[600:610]) > 0.5
        np.testing.assert_array_equal(
            classifier.set_params(n_jobs=2).certify(rows).counts, certificate.counts
        )

    def test_is_stored_by_skops(self, digits):
        skops_io = pytest.importorskip("skops.io")
        denoiser = DEENDenoiser(module="conv", image_shape=(8, 8), max_epochs=1, random_state=0)
        stored = skops_io.dumps(denoiser.fit(digits[0][:100]))
        types = skops_io.get_untrusted_types(data=stored)
        assert all(name.partition(".")[0] in {"smoothlearn", "numpy"} for name in types)
        loaded = skops_io.loads(stored, trusted=types)
        X = digits[0][:5]
        np.testing.assert_array_equal(loaded.transform(X), denoiser.transform(X))
        assert tuple(loaded.image_shape_) == (1, 8, 8)

    @pytest.mark.parametrize(
        ("image_shape", "match"),
        [
            ((8, 9), r"image_shape=\(8, 9\) has 72 pixels, X has 64 features"),
            ((3, 8, 8), "has 192 pixels, X has 64 features"),
            (64, "image_shape must be .*got 64"),
            ((64,), "image_shape must be"),
            ((1, 1, 8, 8), "image_shape must be"),
            ((), "image_shape must be"),
            ("88", "image_shape must be"),
            ((8.0, 8.0), "image_shape must be"),
            (("8", 8), "image_shape must be"),
            ((-8, -8), r"in whole pixels, got \(-8, -8\)"),
            ((0, 64), "image_shape must be"),
            ((True, 64), "image_shape must be"),
            ({8: 8}, "image_shape must be"),
        ],
        ids=str,
    )
    def test_wrong_shapes_are_refused(self, image_shape, match, digits):
        denoiser = DEENDenoiser(module="conv", image_shape=image_shape, max_epochs=1)
        with pytest.raises(ValueError, match=match):
            denoiser.fit(digits[0][:50])
        with pytest.raises(NotFittedError):
            check_is_fitted(denoiser)

    def test_shape_may_be_a_list_of_numpys_numbers(self, digits):
        denoiser = DEENDenoiser(module="conv", image_shape=[np.int64(8), 8], max_epochs=1)
        assert denoiser.fit(digits[0][:50]).image_shape_ == (1, 8, 8)
        assert all(type(size) is int for size in denoiser.image_shape_)

    def test_image_energies_need_a_shape(self, digits):
        with pytest.raises(ValueError, match="'conv' is an energy of images and needs image_shape"):
            DEENDenoiser(module="conv", max_epochs=1).fit(digits[0][:50])


@pytest.fixture(scope="module")
def copies(moons):
    """Positions, some of them twice, and noisy copies of the rows there."""
    rng = np.random.default_rng(5)
    places = rng.integers(0, len(moons), 100)
    return places, moons[places] + SIGMA * rng.standard_normal((100, 2))


class TestOnTrainingRows:
    """What a network behind the denoiser is trained on: x̂ that has not seen the row, if it can."""

    @staticmethod
    def denoise(denoiser, rows, copies, places):
        denoise = denoiser.denoise_training_on(rows, CPU)
        denoised = denoise(torch.tensor(copies, dtype=torch.float32), torch.from_numpy(places))
        assert denoised.dtype == torch.float32
        return denoised.detach().numpy()

    @staticmethod
    def exact(fitted, noisy, rows):
        if isinstance(fitted, ParzenDenoiser):
            return fitted.denoise_copies(noisy, rows)
        return fitted.transform(noisy)

    def test_agrees_in_double_precision(self, fitted, moons, copies):
        places, noisy = copies
        denoised = self.denoise(fitted, moons, noisy, places)
        expected = self.exact(fitted, noisy, moons[places])
        np.testing.assert_allclose(denoised, expected, atol=1e-4)

    @pytest.mark.parametrize("weights", [1, 700])
    def test_parzen_holds_so_many_weights_at_once(self, moons, copies, weights, monkeypatch):
        places, noisy = copies
        denoiser, batch = ParzenDenoiser(SIGMA).fit(moons), torch.tensor(noisy)
        whole = denoiser.denoise_on(CPU)(batch, torch.Generator())
        without = self.denoise(denoiser, moons, noisy, places)
        monkeypatch.setattr("smoothlearn.denoisers.parzen._WEIGHTS", weights)
        parts = denoiser.denoise_on(CPU)(batch, torch.Generator())
        torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-6)
        again = self.denoise(denoiser, moons, noisy, places)
        np.testing.assert_allclose(again, without, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("offset", [0.0, 3e5])
    def test_parzen_leaves_out_the_row_itself(self, moons, copies, offset):
        """With an offset the rows are coarse in float32, and so is the denoiser's answer."""
        places, noisy = copies
        rows, noisy = moons + offset, (noisy + offset).astype(np.float32).astype(float)
        denoiser = ParzenDenoiser(SIGMA).fit(rows)
        denoised = self.denoise(denoiser, rows, noisy, places)
        by_hand = np.array([
            parzen_denoiser(copy[np.newaxis], SIGMA, np.delete(rows, place, axis=0))[0]
            for copy, place in zip(noisy, places, strict=True)
        ])  # fmt: skip
        tolerance = 1e-5 + np.spacing(np.float32(offset))
        np.testing.assert_allclose(denoised, by_hand, rtol=0, atol=tolerance)
        kept = denoiser.denoise_copies(noisy, rows[places])
        np.testing.assert_allclose(denoised, kept, rtol=0, atol=tolerance)
        assert np.abs(by_hand - denoiser.transform(noisy)).max() > 0.01

    def test_field_of_parzen_leaves_out_the_row_itself(self, moons, copies):
        places, noisy = copies
        denoiser = ParzenDenoiser(SIGMA).fit(moons)
        field = denoiser.field_training_on(moons, CPU)
        energy, slope = field(torch.tensor(noisy).float(), torch.from_numpy(places))
        expected = parzen_energy(noisy, SIGMA, moons, leave_out=places)
        np.testing.assert_allclose(energy, expected, atol=1e-4)
        x_hat = parzen_denoiser(noisy, SIGMA, moons, leave_out=places)
        np.testing.assert_allclose(noisy - SIGMA**2 * slope.numpy(), x_hat, atol=1e-5)

    def test_parzen_leaves_out_one_of_equal_rows(self):
        rows = np.array([[0.0], [0.0], [2.0]])
        denoiser = ParzenDenoiser(1.0).fit(rows)
        places = np.array([0, 1, 2])
        denoised = self.denoise(denoiser, rows, rows, places)
        by_hand = 2 * np.exp(-2) / (1 + np.exp(-2))
        np.testing.assert_allclose(denoised[:, 0], [by_hand, by_hand, 0.0], atol=1e-6)

    def test_other_rows_meet_all_training_rows(self, moons, copies):
        places, noisy = copies
        denoiser = ParzenDenoiser(SIGMA).fit(moons[:150])
        denoised = self.denoise(denoiser, moons, noisy, places)
        plain, left_out = denoiser.transform(noisy), denoiser.denoise_copies(noisy, moons[places])
        other = places >= 150
        assert 20 < other.sum() < 80
        np.testing.assert_allclose(denoised[other], plain[other], atol=1e-5)
        np.testing.assert_allclose(denoised[~other], left_out[~other], atol=1e-5)

    def test_positions_are_those_in_the_rows_given(self, moons, copies):
        """Which may come in another order than those that the denoiser was fitted on."""
        places, noisy = copies
        denoiser = ParzenDenoiser(SIGMA).fit(moons)
        forwards = self.denoise(denoiser, moons, noisy, places)
        backwards = self.denoise(denoiser, moons[::-1].copy(), noisy, len(moons) - 1 - places)
        np.testing.assert_array_equal(forwards, backwards)

    def test_is_differentiable(self, fitted, moons, copies):
        """The slopes are those of x̂ in float64."""
        places, noisy = copies
        denoise = fitted.denoise_training_on(moons, CPU)
        batch = torch.tensor(noisy, dtype=torch.float32, requires_grad=True)
        weights = torch.tensor([1.0, -2.0])
        (denoise(batch, torch.from_numpy(places)) @ weights).sum().backward()

        for direction, slope in zip(np.eye(2), batch.grad.numpy().T, strict=True):
            step = 1e-5 * direction
            ahead, behind = (
                self.exact(fitted, noisy + sign * step, moons[places]) for sign in (1, -1)
            )
            expected = (ahead - behind) @ weights.numpy() / 2e-5
            np.testing.assert_allclose(slope, expected, atol=2e-3 * (1 + np.abs(expected).max()))


class TestFailedFits:
    def test_interrupt_propagates_and_leaves_nothing_fitted(self, moons):
        denoiser = DEENDenoiser(SIGMA, module=Interrupting, max_epochs=5)
        with pytest.raises(KeyboardInterrupt):
            denoiser.fit(moons)
        with pytest.raises(NotFittedError):
            denoiser.transform(moons)

    def test_interrupt_leaves_a_classifier_unfitted(self, moons):
        denoiser = DEENDenoiser(module=Interrupting, max_epochs=5)
        smoother = EmpiricalBayesSmoothedClassifier(LogisticRegression(), denoiser=denoiser)
        with pytest.raises(KeyboardInterrupt):
            smoother.fit(moons, moons[:, 0] > 0)
        with pytest.raises(NotFittedError):
            check_is_fitted(smoother)

    def test_interrupt_propagates_without_validation(self, moons):
        denoiser = DEENDenoiser(
            SIGMA, module=Interrupting, max_epochs=5, validation_fraction=0, patience=None
        )
        with pytest.raises(KeyboardInterrupt):
            denoiser.fit(moons)

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"module": Interrupting}, KeyboardInterrupt),
            ({"module": functional_relu}, ValueError),
            ({"sigma": -1.0}, ValueError),
            ({"max_epochs": 0}, ValueError),
            ({"device": "abacus"}, ValueError),
        ],
    )
    def test_failed_refit_forgets_the_first_and_can_be_repeated(self, moons, change, error):
        denoiser = DEENDenoiser(SIGMA, max_epochs=2, random_state=0).fit(moons)
        expected = denoiser.transform(moons)
        params = {name: denoiser.get_params()[name] for name in change}
        with pytest.raises(error):
            denoiser.set_params(**change).fit(moons)
        with pytest.raises(NotFittedError):
            check_is_fitted(denoiser)
        np.testing.assert_array_equal(
            denoiser.set_params(**params).fit(moons).transform(moons), expected
        )

    def test_failed_refit_of_parzen(self, moons):
        denoiser = ParzenDenoiser(SIGMA).fit(moons)
        with pytest.raises(ValueError, match="NaN"):
            denoiser.fit(np.full_like(moons, np.nan))
        with pytest.raises(NotFittedError):
            check_is_fitted(denoiser)

    @pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
    def test_diverged_training_is_an_error(self, moons):
        denoiser = DEENDenoiser(SIGMA, max_epochs=2)
        with pytest.raises(ValueError, match="diverged; scale the features or lower lr"):
            denoiser.fit(1e30 * moons)
        with pytest.raises(NotFittedError):
            check_is_fitted(denoiser)


def test_a_module_without_parameters_is_refused():
    class Square(nn.Module):
        def __init__(self, n_features):
            super().__init__()

        def forward(self, u):
            return u.square().sum(dim=1)

    with pytest.raises(ValueError, match="no parameters to train"):
        DEENDenoiser(module=Square).fit(np.random.default_rng(0).standard_normal((20, 2)))
