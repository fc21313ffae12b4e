"""Bad input gives an error that names it, and leaves nothing that looks fitted."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression, SGDClassifier
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from smoothlearn import (
    AttractorDenoiser,
    CertifiedAccuracyScorer,
    DEENDenoiser,
    EmpiricalBayesSmoothedClassifier,
    ParzenDenoiser,
    RandomizedSmoothingClassifier,
    WalkJumpDenoiser,
    XHATClassifier,
    certify,
)
from smoothlearn.theory.gaussian import draws_needed

X, y = make_blobs(60, n_features=3, centers=3, random_state=0)
DRAWS = {"n_draws": 20, "n_certify_draws": 100, "random_state": 0}
NET = {
    "module__in_features": 3,
    "max_epochs": 2,
    "train_split": None,
    "verbose": 0,
}


class Bent(nn.Sequential):
    """A network that is not linear."""

    def __init__(self, in_features, out_features):
        super().__init__(nn.Linear(in_features, 8), nn.Tanh(), nn.Linear(8, out_features))


def three_class_net():
    return NeuralNetClassifier(Bent, criterion=nn.CrossEntropyLoss, module__out_features=3, **NET)


SMOOTHERS = {
    "linear": RandomizedSmoothingClassifier(LogisticRegression(), **DRAWS),
    "network": RandomizedSmoothingClassifier(three_class_net(), **DRAWS),
    "predictor": RandomizedSmoothingClassifier(DecisionTreeClassifier(), **DRAWS),
    "linear-deen": EmpiricalBayesSmoothedClassifier(
        LogisticRegression(), denoiser=DEENDenoiser(max_epochs=1), **DRAWS
    ),
    "network-parzen": EmpiricalBayesSmoothedClassifier(
        three_class_net(), denoiser=ParzenDenoiser(), **DRAWS
    ),
}
#: A base of their own makes a smoother out of each of these; the next two train their network.
META_SMOOTHERS = tuple(SMOOTHERS.values())
BRIEF = {"epsilon": 0.1, "n_attack_steps": 1, "max_epochs": 2, "batch_size": 16}
SMOOTHERS |= {
    "xhat-passthrough": XHATClassifier(Bent, denoiser="passthrough", **BRIEF, **DRAWS),
    "xhat-parzen": XHATClassifier(Bent, denoiser=ParzenDenoiser(), **BRIEF, **DRAWS),
}
DENOISERS = {
    "deen": DEENDenoiser(max_epochs=1),
    "parzen": ParzenDenoiser(),
    "walk": WalkJumpDenoiser(ParzenDenoiser(), ParzenDenoiser(0.1), n_steps=2),
    "attractor": AttractorDenoiser(ParzenDenoiser(), ParzenDenoiser(0.1)),
}
each_smoother = pytest.mark.parametrize("smoother", SMOOTHERS.values(), ids=SMOOTHERS)
each_denoiser = pytest.mark.parametrize("denoiser", DENOISERS.values(), ids=DENOISERS)
each_estimator = pytest.mark.parametrize(
    "estimator", [*SMOOTHERS.values(), *DENOISERS.values()], ids=[*SMOOTHERS, *DENOISERS]
)


def assert_fit_fails(estimator, error, match, X=X, y=y):
    """Fitting fails, and what failed is not fitted, whatever it was before."""
    with pytest.raises(error, match=match):
        estimator.fit(X, y)
    with pytest.raises(NotFittedError):
        check_is_fitted(estimator)


def with_entry(value):
    broken = X.copy()
    broken[7, 1] = value
    return broken


class TestRows:
    @each_estimator
    @pytest.mark.parametrize(("value", "name"), [(np.nan, "NaN"), (np.inf, "infinity")])
    def test_not_finite_in_fit(self, estimator, value, name):
        estimator = clone(estimator).fit(X, y)
        assert_fit_fails(estimator, ValueError, f"Input X contains {name}", X=with_entry(value))

    @each_smoother
    @pytest.mark.parametrize(("value", "name"), [(np.nan, "NaN"), (-np.inf, "infinity")])
    def test_not_finite_after_fit(self, smoother, value, name):
        smoother = clone(smoother).fit(X, y)
        for method in ("predict", "predict_proba", "abstains", "certify", "certified_radius"):
            with pytest.raises(ValueError, match=f"Input X contains {name}"):
                getattr(smoother, method)(with_entry(value))

    @each_smoother
    def test_wrong_number_of_features(self, smoother):
        smoother = clone(smoother).fit(X, y)
        for method in ("predict", "predict_proba", "abstains", "certify", "certified_radius"):
            with pytest.raises(ValueError, match=r"X has 2 features, but .* is expecting 3"):
                getattr(smoother, method)(X[:, :2])

    @each_denoiser
    def test_wrong_number_of_features_to_denoise(self, denoiser):
        denoiser = clone(denoiser).fit(X)
        for method in ("transform", "energy", "score_samples", "score"):
            with pytest.raises(ValueError, match=r"X has 2 features, but .* is expecting 3"):
                getattr(denoiser, method)(X[:, :2])

    @each_smoother
    def test_no_rows_give_an_empty_certificate(self, smoother):
        smoother = clone(smoother).fit(X, y)
        certificate = smoother.certify(X[:0])
        assert len(certificate) == 0
        for array in (certificate.label, certificate.radius, certificate.abstained):
            assert array.shape == (0,)
        assert certificate.counts.shape == (0, 3)
        assert certificate.label.dtype == smoother.classes_.dtype
        assert smoother.predict(X[:0]).shape == (0,)
        assert smoother.predict_proba(X[:0]).shape == (0, 3)
        assert smoother.abstains(X[:0]).shape == (0,)
        assert np.isnan(certificate.accuracy([], 0.1))

    def test_no_rows_give_an_empty_certificate_in_closed_form_and_in_pipelines(self):
        smoother = RandomizedSmoothingClassifier(LogisticRegression())
        pipeline = make_pipeline(StandardScaler(), smoother).fit(X, y == 1)
        for units in ("input", "smoother"):
            assert len(certify(pipeline, X[:0], units=units)) == 0
        assert smoother.certify(X[:0]).radius.shape == (0,)

    @pytest.mark.parametrize("method", ["predict", "predict_proba", "abstains", "certify"])
    @each_smoother
    def test_before_fit(self, smoother, method):
        with pytest.raises(NotFittedError, match=f"{type(smoother).__name__} instance is not"):
            getattr(clone(smoother), method)(X)

    def test_certify_before_fit(self):
        pipeline = make_pipeline(StandardScaler(), clone(SMOOTHERS["linear"]))
        for estimator in (clone(SMOOTHERS["linear"]), pipeline):
            with pytest.raises(NotFittedError):
                certify(estimator, X)

    @each_denoiser
    def test_denoiser_before_fit(self, denoiser):
        for method in ("transform", "energy", "score_samples", "score"):
            with pytest.raises(NotFittedError):
                getattr(clone(denoiser), method)(X)


class TestLabels:
    @each_smoother
    def test_one_class(self, smoother):
        smoother = clone(smoother).fit(X, y)
        assert_fit_fails(smoother, ValueError, "y has one class", y=np.ones(60, dtype=int))

    @each_smoother
    def test_regression_target(self, smoother):
        assert_fit_fails(clone(smoother), ValueError, "Unknown label type: continuous", y=X[:, 0])

    @each_smoother
    def test_unknown_when_scored(self, smoother):
        certificate = clone(smoother).fit(X, y).certify(X)
        for score in (certificate.accuracy, certificate.average_radius, certificate.curve):
            with pytest.raises(ValueError, match=r"never saw: \[8, 9\]; it knows \[0, 1, 2\]"):
                score(np.where(y == 0, 8, np.where(y == 1, 9, y)))

    def test_unknown_to_the_scorer(self):
        smoother = clone(SMOOTHERS["linear"]).fit(X, y)
        with pytest.raises(ValueError, match=r"never saw: \[5\]"):
            CertifiedAccuracyScorer(radius=0.0)(smoother, X, np.where(y == 0, 5, y))

    def test_unknown_to_a_frozen_base(self):
        base = FrozenEstimator(LogisticRegression().fit(X, y))
        smoother = RandomizedSmoothingClassifier(base)
        assert_fit_fails(smoother, ValueError, r"does not know: \[3\]", y=y + 1)

    def test_three_for_a_binary_net(self):
        net = NeuralNetBinaryClassifier(nn.Linear, module__out_features=1, **NET)
        smoother = RandomizedSmoothingClassifier(net)
        assert_fit_fails(smoother, ValueError, "NeuralNetBinaryClassifier has two classes, y 3")


class TestSettings:
    @each_estimator
    @pytest.mark.parametrize("sigma", [0, 0.0, -1.0, np.nan, np.inf])
    def test_sigma_out_of_range(self, estimator, sigma):
        estimator = clone(estimator).fit(X, y).set_params(sigma=sigma)
        assert_fit_fails(estimator, ValueError, "sigma must be finite and > 0")

    @each_estimator
    @pytest.mark.parametrize("sigma", ["0.5", [0.5], True])
    def test_sigma_is_no_number(self, estimator, sigma):
        estimator = clone(estimator).fit(X, y).set_params(sigma=sigma)
        assert_fit_fails(estimator, TypeError, "sigma must be one real number")

    def test_classifiers_sigma_is_never_none(self):
        smoother = RandomizedSmoothingClassifier(LogisticRegression(), sigma=None)
        assert_fit_fails(smoother, TypeError, "sigma must be one real number, got None")

    @each_smoother
    @pytest.mark.parametrize("level", [0, 1, 0.0, 1.0, -0.1, 99.9, np.nan])
    def test_confidence_level_out_of_range(self, smoother, level):
        smoother = clone(smoother).set_params(confidence_level=level)
        assert_fit_fails(smoother, ValueError, r"confidence_level must lie in \(0, 1\)")

    @pytest.mark.parametrize("level", ["0.9", None, [0.9, 0.99]])
    def test_confidence_level_is_no_number(self, level):
        smoother = RandomizedSmoothingClassifier(LogisticRegression(), confidence_level=level)
        assert_fit_fails(smoother, TypeError, "confidence_level must be")

    @each_smoother
    @pytest.mark.parametrize("name", ["n_draws", "n_certify_draws"])
    @pytest.mark.parametrize(
        ("draws", "error"),
        [(0, ValueError), (-5, ValueError), (100.0, TypeError), ("9", TypeError)],
    )
    def test_draws(self, smoother, name, draws, error):
        smoother = clone(smoother).set_params(**{name: draws})
        assert_fit_fails(smoother, error, f"{name} .*must be")

    @pytest.mark.parametrize("smoother", META_SMOOTHERS)
    @pytest.mark.parametrize(
        ("n_augment", "error"),
        [
            (-1, ValueError),
            (2.0, TypeError),
            (np.nan, TypeError),
            ("2", TypeError),
            (None, TypeError),
            (np.True_, TypeError),
            ([2], TypeError),
        ],
    )
    def test_n_augment(self, smoother, n_augment, error):
        smoother = clone(smoother).fit(X, y).set_params(n_augment=n_augment)
        assert_fit_fails(smoother, error, "n_augment .*must be|n_augment must be")

    @pytest.mark.parametrize(
        ("draws", "error", "match"),
        [
            ((5,), ValueError, r"n_certify_draws must be an int or a pair of them, got \(5,\)"),
            ((), ValueError, "n_certify_draws must be an int or a pair"),
            ((5, 10, 20), ValueError, "n_certify_draws must be an int or a pair"),
            ([10, 5], ValueError, r"n_certify_draws=\[10, 5\]: .*larger than the first"),
            ((5, 5), ValueError, "the second number counts the draws of both stages"),
            ((0, 5), ValueError, "n_certify_draws == 0, must be >= 1"),
            ((-3, 5), ValueError, "n_certify_draws == -3, must be >= 1"),
            (("a", 3), TypeError, "n_certify_draws must be an instance of int"),
            ((10.0, 20.0), TypeError, "n_certify_draws must be an instance of int"),
            ((10, 20.5), TypeError, "n_certify_draws must be an instance of int"),
            ((10, None), TypeError, "n_certify_draws must be an instance of int"),
            ({10, 20}, TypeError, "n_certify_draws must be an instance of int"),
            (np.array([10, 20]), TypeError, "n_certify_draws must be an instance of int"),
        ],
        ids=str,
    )
    def test_draws_in_two_stages(self, draws, error, match):
        smoother = RandomizedSmoothingClassifier(LogisticRegression(), n_certify_draws=draws)
        assert_fit_fails(smoother, error, match)

    @pytest.mark.parametrize(
        ("change", "match"),
        [
            ({"n_draws": 0}, "n_draws .*must be"),
            ({"n_certify_draws": (10, 5)}, "larger than the first"),
            ({"n_certify_draws": 10.5}, "n_certify_draws .*must be"),
            ({"confidence_level": 1.0}, "confidence_level must lie"),
            ({"device": "abacus"}, "device='abacus'"),
        ],
    )
    @pytest.mark.parametrize("method", ["predict", "certify", "abstains"])
    def test_settings_changed_after_fit_are_checked(self, change, match, method):
        smoother = clone(SMOOTHERS["network"]).fit(X, y).set_params(**change)
        with pytest.raises((ValueError, TypeError), match=match):
            getattr(smoother, method)(X)

    @pytest.mark.parametrize("device", ["abacus", None, "cuda:77", "mps"])
    @pytest.mark.parametrize(
        "estimator",
        [SMOOTHERS["network"], SMOOTHERS["linear"], DENOISERS["deen"]],
        ids=["network", "linear", "deen"],
    )
    def test_device(self, estimator, device):
        estimator = clone(estimator).set_params(device=device)
        assert_fit_fails(estimator, ValueError, f"device={device!r} is not one")

    @pytest.mark.parametrize("seed", ["zero", -1, 1.5, np.random.default_rng(0)])
    @pytest.mark.parametrize(
        "estimator",
        [SMOOTHERS["linear"], DENOISERS["deen"], DENOISERS["walk"], DENOISERS["attractor"]],
        ids=["linear", "deen", "walk", "attractor"],
    )
    def test_random_state(self, estimator, seed):
        estimator = clone(estimator).set_params(random_state=seed)
        assert_fit_fails(estimator, ValueError, "random_state must be None, an int >= 0")

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("max_epochs", 0),
            ("max_epochs", 1.5),
            ("max_epochs", "all"),
            ("lr", 0.0),
            ("lr", np.nan),
            ("lr", "fast"),
            ("batch_size", 0),
            ("batch_size", 12.5),
            ("validation_fraction", 1.0),
            ("validation_fraction", -0.1),
            ("validation_fraction", np.nan),
            ("validation_fraction", "some"),
            ("patience", 0),
            ("patience", 2.5),
        ],
    )
    def test_training(self, name, value):
        denoiser = DEENDenoiser(max_epochs=1).fit(X).set_params(**{name: value})
        assert_fit_fails(denoiser, (ValueError, TypeError), f"{name} .*must (be|lie)")

    def test_all_but_every_row_for_validation(self):
        denoiser = DEENDenoiser(max_epochs=1, validation_fraction=0.999).fit(X)
        assert np.isfinite(denoiser.transform(X)).all()


class TestEstimators:
    @pytest.mark.parametrize(
        "base",
        [
            None,
            "svc",
            LogisticRegression,
            LinearRegression(),
            StandardScaler(),
            nn.Linear(3, 3),
            make_pipeline(StandardScaler(), LinearRegression()),
            FrozenEstimator(StandardScaler()),
            NeuralNet(nn.Linear, nn.CrossEntropyLoss, module__out_features=3, **NET),
        ],
        ids=lambda base: repr(base)[:30],
    )
    def test_base_is_no_classifier(self, base):
        smoother = RandomizedSmoothingClassifier(base)
        assert_fit_fails(smoother, TypeError, "estimator must be a classifier, got")

    @pytest.mark.parametrize(
        "base", [LogisticRegression(), DecisionTreeClassifier(), three_class_net()]
    )
    def test_frozen_base_was_never_fitted(self, base):
        smoother = RandomizedSmoothingClassifier(FrozenEstimator(clone(base)))
        assert_fit_fails(smoother, NotFittedError, "not fitted yet")

    @pytest.mark.parametrize("base", [LogisticRegression(), DecisionTreeClassifier()])
    def test_frozen_base_of_other_features(self, base):
        smoother = RandomizedSmoothingClassifier(FrozenEstimator(clone(base).fit(X[:, :2], y)))
        assert_fit_fails(smoother, ValueError, "frozen estimator was fitted on 2 features, X has 3")

    @pytest.mark.parametrize("denoiser", ["passthrough", ParzenDenoiser()])
    def test_copies_for_a_frozen_base(self, denoiser):
        base = FrozenEstimator(LogisticRegression().fit(X, y))
        smoother = EmpiricalBayesSmoothedClassifier(base, denoiser=denoiser, n_augment=1)
        assert_fit_fails(smoother, ValueError, "n_augment=1 asks to fit .* use n_augment=0")
        smoother.set_params(n_augment=0).fit(X, y)

    @pytest.mark.parametrize(
        ("base", "parameter"),
        [
            (MLPClassifier(early_stopping=True), "early_stopping=True"),
            (
                make_pipeline(StandardScaler(), SGDClassifier(early_stopping=True)),
                "sgdclassifier__early_stopping=True",
            ),
        ],
    )
    def test_copies_for_a_base_that_may_hold_them_out(self, base, parameter):
        smoother = RandomizedSmoothingClassifier(base, n_augment=2)
        match = f"n_augment: the estimator's {parameter} makes it hold out rows.* use n_augment=1"
        assert_fit_fails(smoother, ValueError, match)

    @pytest.mark.parametrize(
        "denoiser",
        [
            "deen",
            "none",
            False,
            ParzenDenoiser,
            StandardScaler(),
            FrozenEstimator(StandardScaler().fit(X)),
            make_pipeline(StandardScaler(), ParzenDenoiser()),
        ],
        ids=lambda denoiser: repr(denoiser)[:30],
    )
    def test_denoiser_of_another_kind(self, denoiser):
        smoother = EmpiricalBayesSmoothedClassifier(LogisticRegression(), denoiser=denoiser)
        assert_fit_fails(smoother, TypeError, r"is not a denoiser; use DEENDenoiser\(\)")

    @each_denoiser
    @pytest.mark.parametrize("frozen", [False, True])
    def test_denoiser_of_another_sigma(self, denoiser, frozen):
        denoiser = clone(denoiser).set_params(sigma=0.3)
        if frozen:
            denoiser = FrozenEstimator(denoiser.fit(X))
        smoother = EmpiricalBayesSmoothedClassifier(LogisticRegression(), denoiser=denoiser)
        match = r"denoiser has sigma=0\.3, the classifier sigma=0\.5.*leave the denoiser's at None"
        assert_fit_fails(smoother, ValueError, match)
        smoother.set_params(sigma=0.3).fit(X, y)
        assert smoother.sigma_ == smoother.denoiser_.sigma_ == 0.3

    @each_denoiser
    def test_frozen_denoiser_whose_own_default_is_another_sigma(self, denoiser):
        frozen = FrozenEstimator(clone(denoiser).fit(X))
        smoother = EmpiricalBayesSmoothedClassifier(
            LogisticRegression(), denoiser=frozen, sigma=0.25
        )
        assert_fit_fails(smoother, ValueError, r"denoiser has sigma=0\.5, the classifier sigma=0")

    def test_denoisers_sigma_is_no_number(self):
        smoother = EmpiricalBayesSmoothedClassifier(
            LogisticRegression(), denoiser=ParzenDenoiser(sigma="0.5")
        )
        assert_fit_fails(smoother, TypeError, "denoiser__sigma must be one real number, got '0.5'")

    @each_denoiser
    def test_frozen_denoiser_was_never_fitted(self, denoiser):
        smoother = EmpiricalBayesSmoothedClassifier(
            LogisticRegression(), denoiser=FrozenEstimator(clone(denoiser))
        )
        assert_fit_fails(smoother, NotFittedError, "not fitted yet")

    @each_denoiser
    def test_frozen_denoiser_of_other_features(self, denoiser):
        smoother = EmpiricalBayesSmoothedClassifier(
            LogisticRegression(), denoiser=FrozenEstimator(clone(denoiser).fit(X[:, :2]))
        )
        assert_fit_fails(smoother, ValueError, "frozen denoiser was fitted on 2 features, X has 3")

    def test_energy_with_relu_inside_a_classifier(self):
        network = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
        smoother = EmpiricalBayesSmoothedClassifier(
            LogisticRegression(), denoiser=DEENDenoiser(module=network, max_epochs=1)
        )
        assert_fit_fails(smoother, ValueError, "module contains ReLU")

    @pytest.mark.parametrize(
        ("module", "error", "match"),
        [
            ("unet", ValueError, "module='unet' is not known; use 'auto', 'gradient-step-mlp'"),
            (None, TypeError, "module must be a name, or an nn.Module class or instance, got None"),
            (lambda n_features: n_features, TypeError, "module=.* gave int, not a torch nn.Module"),
        ],
        ids=["name", "none", "function"],
    )
    def test_module(self, module, error, match):
        assert_fit_fails(DEENDenoiser(module=module, max_epochs=1), error, match)

    @pytest.mark.parametrize(
        "smoother", [SMOOTHERS["network"], SMOOTHERS["predictor"], SMOOTHERS["network-parzen"]]
    )
    def test_base_that_fails_leaves_nothing_fitted(self, smoother):
        smoother = clone(smoother).fit(X, y)
        if hasattr(smoother.estimator, "max_depth"):
            smoother.set_params(estimator__max_depth="deep")
        else:
            smoother.set_params(estimator__module__in_features=7)
        assert_fit_fails(
            smoother, (ValueError, RuntimeError), "max_depth|shapes cannot be multiplied"
        )


class TestTwoLevels:
    """Denoisers with a walk; nothing is trained before what is wrong is named."""

    @pytest.fixture(params=["walk", "attractor"])
    def denoiser(self, request):
        return clone(DENOISERS[request.param]).fit(X)

    @pytest.mark.parametrize(
        ("kind", "name", "value", "error", "match"),
        [
            ("walk", "step_size", 0.021, ValueError, r"step_size=0\.021 is too long .*sigma=0\.1"),
            ("walk", "step_size", 1, ValueError, "must be less than 2 sigma"),
            ("walk", "step_size", "fast", ValueError, "positive number or 'auto', got 'fast'"),
            ("walk", "step_size", -0.1, ValueError, "step_size must be finite and > 0"),
            ("walk", "step_size", np.nan, ValueError, "step_size must be finite and > 0"),
            ("walk", "step_size", None, TypeError, "step_size must be one real number, got None"),
            ("walk", "n_steps", -1, ValueError, "n_steps == -1, must be >= 0"),
            ("walk", "n_steps", 2.0, TypeError, "n_steps must be an instance of int"),
            ("walk", "n_steps", None, TypeError, "n_steps must be an instance of int"),
            ("walk", "metropolis", "yes", TypeError, "metropolis must be an instance of"),
            ("walk", "metropolis", 1, TypeError, "metropolis must be an instance of"),
            ("attractor", "tolerance", 0, ValueError, "tolerance must be finite and > 0, got 0"),
            ("attractor", "tolerance", -1.0, ValueError, "tolerance must be finite and > 0"),
            ("attractor", "tolerance", np.inf, ValueError, "tolerance must be finite and > 0"),
            ("attractor", "tolerance", "low", TypeError, "tolerance must be one real number"),
            ("attractor", "max_steps", 0, ValueError, "max_steps == 0, must be >= 1"),
            ("attractor", "max_steps", 1.5, TypeError, "max_steps must be an instance of int"),
        ],
    )
    def test_settings(self, kind, name, value, error, match):
        denoiser = clone(DENOISERS[kind]).fit(X)
        assert_fit_fails(denoiser.set_params(**{name: value}), error, match)

    @pytest.mark.parametrize("part", ["jump", "walk"])
    @pytest.mark.parametrize(
        "value",
        [
            "passthrough",
            "deen",
            False,
            3,
            ParzenDenoiser,
            StandardScaler(),
            FrozenEstimator(StandardScaler().fit(X)),
            make_pipeline(StandardScaler(), ParzenDenoiser()),
        ],
        ids=lambda value: repr(value)[:30],
    )
    def test_part_is_no_denoiser(self, denoiser, part, value):
        denoiser.set_params(**{part: value})
        assert_fit_fails(
            denoiser, TypeError, rf"(?s){part}=.* must be a denoiser.*DEENDenoiser\(\)"
        )

    @pytest.mark.parametrize("frozen", [False, True])
    @pytest.mark.parametrize("walk", [DENOISERS["walk"], DENOISERS["attractor"]])
    def test_walk_without_an_energy_of_its_own(self, denoiser, walk, frozen):
        walk = FrozenEstimator(clone(walk).fit(X)) if frozen else clone(walk)
        denoiser.set_params(walk=walk)
        assert_fit_fails(denoiser, TypeError, "walk=.* must be a denoiser with an energy to walk")

    @pytest.mark.parametrize("frozen", [False, True])
    def test_jump_of_another_sigma(self, denoiser, frozen):
        jump = ParzenDenoiser(0.3)
        denoiser.set_params(jump=FrozenEstimator(jump.fit(X)) if frozen else jump)
        match = r"jump has sigma=0\.3, and is to start from noise of sigma=0\.5.*None"
        assert_fit_fails(denoiser, ValueError, match)
        assert denoiser.set_params(sigma=0.3).fit(X).jump_.sigma_ == 0.3

    @pytest.mark.parametrize(
        ("part", "value", "error", "match"),
        [
            ("jump", "0.5", TypeError, "jump__sigma must be one real number, got '0.5'"),
            ("jump", -1.0, ValueError, "jump__sigma must be finite and > 0, got -1.0"),
            ("walk", "0.1", TypeError, "walk__sigma must be one real number, got '0.1'"),
            ("walk", 0, ValueError, "walk__sigma must be finite and > 0, got 0"),
            ("walk", np.nan, ValueError, "walk__sigma must be finite and > 0"),
        ],
    )
    def test_sigma_of_a_part_is_no_noise_level(self, denoiser, part, value, error, match):
        assert_fit_fails(denoiser.set_params(**{f"{part}__sigma": value}), error, match)

    @pytest.mark.parametrize("sigma", [0.5, 0.7])
    def test_walk_with_no_less_noise_warns(self, denoiser, sigma):
        denoiser.set_params(walk__sigma=sigma)
        match = rf"walk has sigma={sigma}, no less than the noise of sigma=0\.5 .*None for 0\.125"
        with pytest.warns(UserWarning, match=match) as record:
            denoiser.fit(X)
        assert len(record) == 1
        assert record[0].filename == __file__
        assert denoiser.walk_.sigma_ == sigma
        denoiser.set_params(walk__sigma=0.49).fit(X)

    @pytest.mark.parametrize("part", ["jump", "walk"])
    def test_frozen_part_was_never_fitted(self, denoiser, part):
        denoiser.set_params(**{part: FrozenEstimator(ParzenDenoiser(0.5))})
        assert_fit_fails(denoiser, NotFittedError, "not fitted yet")

    @pytest.mark.parametrize("part", ["jump", "walk"])
    def test_frozen_part_of_other_features(self, denoiser, part):
        sigma = {"jump": 0.5, "walk": 0.1}[part]
        inner = FrozenEstimator(ParzenDenoiser(sigma).fit(X[:, :2]))
        match = f"frozen {part} was fitted on 2 features, X has 3"
        assert_fit_fails(denoiser.set_params(**{part: inner}), ValueError, match)

    @pytest.mark.parametrize("part", ["jump", "walk"])
    def test_frozen_part_of_other_columns(self, denoiser, part):
        pandas = pytest.importorskip("pandas")
        frame = pandas.DataFrame(X, columns=["a", "b", "c"])
        sigma = {"jump": 0.5, "walk": 0.1}[part]
        inner = FrozenEstimator(ParzenDenoiser(sigma).fit(frame[["c", "b", "a"]]))
        denoiser.set_params(**{part: inner})
        with pytest.raises(ValueError, match=f"frozen {part}|feature names"):
            denoiser.fit(frame)
        with pytest.raises(NotFittedError):
            check_is_fitted(denoiser)

    @pytest.mark.parametrize("change", [{"n_steps": -1}, {"walk": "none"}, {"step_size": 9.0}])
    def test_nothing_is_trained_first(self, change):
        def never(n_features):
            raise AssertionError("trained")

        denoiser = WalkJumpDenoiser(DEENDenoiser(module=never), ParzenDenoiser(0.1))
        with pytest.raises((ValueError, TypeError), match=next(iter(change))):
            denoiser.set_params(**change).fit(X)


def xhat(module=Bent, **params):
    return XHATClassifier(module, **{"denoiser": "passthrough"} | BRIEF | DRAWS | params)


class NotFinite(Bent):
    """Logits that are NaN from the third training batch on; 54 training rows make four an epoch."""

    batches = 0

    def forward(self, rows):
        self.batches += self.training
        return super().forward(rows) * (np.nan if self.batches > self.last else 1.0)


class NotFiniteSoon(NotFinite):
    last = 2


class NotFiniteLater(NotFinite):
    last = 6


class Silent(nn.Linear):
    def forward(self, rows):
        return rows, rows


class Noisy(nn.Linear):
    def forward(self, rows):
        return super().forward(rows + 0.1 * torch.randn_like(rows))


class Sociable(nn.Linear):
    def forward(self, rows):
        return super().forward(rows - rows.mean(dim=0))


class TestXHAT:
    @pytest.mark.parametrize(
        ("name", "values", "error"),
        [
            ("epsilon", (-0.1, np.nan, np.inf), ValueError),
            ("epsilon", ("0.1", None, [0.1]), TypeError),
            ("n_noise", (0, -2), ValueError),
            ("n_noise", (1.0, None), TypeError),
            ("n_attack_steps", (0, -1), ValueError),
            ("n_attack_steps", (2.0, "4"), TypeError),
            ("attack_step_size", (0, 0.0, -0.1, np.nan), ValueError),
            ("attack_step_size", ("0.1",), TypeError),
            ("epsilon_warm_up", (-0.1, 1.5, np.nan), ValueError),
            ("epsilon_warm_up", ("0.3", None), TypeError),
            ("max_epochs", (0, -1), ValueError),
            ("max_epochs", (1.5, "all", None), TypeError),
            ("lr", (0, -1e-3, np.nan), ValueError),
            ("lr", ("fast", None), TypeError),
            ("optimizer", ("adam", None, 1e-3), TypeError),
            ("batch_size", (0, -1), ValueError),
            ("batch_size", (12.5, None), TypeError),
            ("validation_fraction", (1.0, 1, -0.1, np.nan), ValueError),
            ("validation_fraction", ("some", None), TypeError),
            ("early_stopping", (-1,), ValueError),
            ("early_stopping", (2.5, "yes", None), TypeError),
        ],
    )
    def test_settings(self, name, values, error):
        classifier = xhat().fit(X, y)
        for value in values:
            assert_fit_fails(
                classifier.set_params(**{name: value}), error, f"{name} .*must (be|lie)"
            )

    def test_no_attack_needs_no_steps(self):
        xhat(epsilon=0, n_attack_steps=0).fit(X, y)
        match = "n_attack_steps == -1, must be >= 0"
        assert_fit_fails(xhat(epsilon=0, n_attack_steps=-1), ValueError, match)

    @pytest.mark.parametrize("stopping", [True, np.True_, 3])
    def test_early_stopping_without_validation_rows(self, stopping):
        classifier = xhat(early_stopping=stopping, validation_fraction=0)
        assert_fit_fails(classifier, ValueError, f"early_stopping={stopping} needs rows to look at")
        for no in (False, np.False_, 0):
            classifier.set_params(early_stopping=no).fit(X, y)

    def test_early_stopping_where_a_share_of_few_rows_is_none(self):
        few, labels = X[:4], [0, 1, 0, 1]
        classifier = xhat(early_stopping=True, validation_fraction=0.1)
        with pytest.raises(ValueError, match=r"validation_fraction=0\.1 holds out none of 4"):
            classifier.fit(few, labels)

    @pytest.mark.parametrize(
        ("module", "error", "match"),
        [
            (lambda d, k: nn.Linear(d, k + 1), ValueError, r"it gave \(64, 4\) for 64 rows and 3"),
            (lambda d, k: nn.Linear(d, 1), ValueError, r"logits of shape \(n, n_classes\); it"),
            (lambda d, k: nn.Sequential(nn.Linear(d, 1), nn.Flatten(0)), ValueError, r"\(64,\)"),
            (Silent, ValueError, "it gave tuple for 64 rows"),
            (nn.Linear(3, 2), ValueError, r"it gave \(64, 2\)"),
            (Noisy, ValueError, "other logits beside other rows, or at another time"),
            (Sociable, ValueError, "its output must be a function of the row"),
            (None, TypeError, "module must be a name, or an nn.Module class or instance, got None"),
            (3, TypeError, "module must be a name, or an nn.Module class or instance, got 3"),
            ("unet", ValueError, "module='unet' is not known; use 'auto', 'mlp', 'conv' or"),
            (lambda d, k: d, TypeError, "module=.* gave int, not a torch nn.Module"),
            (lambda d, k: nn.Flatten(), ValueError, "module=.* has no parameters to train"),
            ("conv", ValueError, "module='conv' is a network of images and needs image_shape"),
        ],
        ids=[
            "a class more", "one logit", "a vector", "tuple", "instance", "noisy", "sociable",
            "none", "number", "name", "function", "no parameters", "conv",
        ],
    )  # fmt: skip
    def test_module(self, module, error, match):
        classifier = xhat().fit(X, y).set_params(module=module)
        assert_fit_fails(classifier, error, match)

    @pytest.mark.parametrize(
        ("module", "epoch"), [(NotFiniteSoon, 1), (NotFiniteLater, 2)], ids=["first", "second"]
    )
    @pytest.mark.parametrize("fraction", [0.0, 0.1])
    def test_logits_that_are_not_finite(self, module, epoch, fraction):
        classifier = xhat(max_epochs=3, validation_fraction=fraction).fit(X, y)
        classifier.set_params(module=module)
        assert_fit_fails(classifier, ValueError, f"loss is nan in epoch {epoch}: .*module")

    @pytest.mark.parametrize(
        ("shape", "match"),
        [
            ((2, 2), r"image_shape=\(2, 2\) has 4 pixels, X has 3 features"),
            (3, r"image_shape must be \(height, width\) or .*, got 3"),
            ((1, 1, 1, 3), "image_shape must be"),
        ],
    )
    @pytest.mark.parametrize("module", ["auto", "mlp", Bent])
    def test_image_shape(self, module, shape, match):
        classifier = xhat(module).fit(X, y).set_params(image_shape=shape)
        assert_fit_fails(classifier, ValueError, match)

    @pytest.mark.parametrize("frozen", [False, True])
    @each_denoiser
    def test_denoiser_of_another_sigma(self, denoiser, frozen):
        denoiser = clone(denoiser).set_params(sigma=0.3)
        if frozen:
            denoiser = FrozenEstimator(denoiser.fit(X))
        classifier = xhat(denoiser=denoiser)
        match = r"denoiser has sigma=0\.3, the classifier sigma=0\.5.*leave the denoiser's at None"
        assert_fit_fails(classifier, ValueError, match)
        classifier.set_params(sigma=0.3).fit(X, y)
        assert classifier.sigma_ == classifier.denoiser_.sigma_ == 0.3

    @pytest.mark.parametrize("denoiser", ["deen", False, ParzenDenoiser, StandardScaler()])
    def test_denoiser_of_another_kind(self, denoiser):
        classifier = xhat().fit(X, y).set_params(denoiser=denoiser)
        assert_fit_fails(classifier, TypeError, r"is not a denoiser; use DEENDenoiser\(\)")

    def test_failed_refit_can_be_repeated(self):
        classifier = xhat(denoiser=ParzenDenoiser()).fit(X, y)
        expected = classifier.certify(X).counts
        assert_fit_fails(classifier.set_params(module=NotFiniteLater), ValueError, "epoch 2")
        again = classifier.set_params(module=Bent).fit(X, y).certify(X).counts
        np.testing.assert_array_equal(again, expected)


@pytest.fixture(scope="module")
def pipeline():
    steps = (StandardScaler(), PolynomialFeatures(2), clone(SMOOTHERS["linear"]))
    return make_pipeline(*steps).fit(X, y)


class TestSteps:
    def test_step_that_is_not_affine_in_units_of_the_input(self, pipeline):
        with pytest.raises(ValueError, match=r"'polynomialfeatures' \(PolynomialFeatures\) is not"):
            certify(pipeline, X)
        assert (certify(pipeline, X, units="smoother").radius > 0).any()

    def test_step_that_is_not_affine_fails_the_scorer(self, pipeline):
        scorer = CertifiedAccuracyScorer(radius=0.1)
        with pytest.raises(ValueError, match="'polynomialfeatures'"):
            cross_val_score(clone(pipeline), X, y, scoring=scorer, error_score="raise", cv=2)

    @pytest.mark.parametrize("units", ["std", None, "Input"])
    def test_units(self, pipeline, units):
        with pytest.raises(ValueError, match="units must be 'input' or 'smoother'"):
            certify(pipeline, X, units=units)

    def test_final_estimator_that_certifies_nothing(self):
        pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
        with pytest.raises(TypeError, match="LogisticRegression has no certify; pass a smoothed"):
            certify(pipeline, X)


PIXELS = np.random.default_rng(0).integers(0, 256, (40, 16)).astype(float)
PIXELS[0, 0], HALVES = 255, np.arange(40) % 2
TREE = DecisionTreeClassifier(max_depth=2)


def frozen(denoiser):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return FrozenEstimator(denoiser.fit(PIXELS))


#: What fits on rows, and whether its warning points at who called it.
ON_PIXELS = {
    "rs": (lambda: RandomizedSmoothingClassifier(TREE), True),
    "eb-deen": (
        lambda: EmpiricalBayesSmoothedClassifier(TREE, denoiser=DEENDenoiser(max_epochs=1)),
        False,
    ),
    "eb-parzen": (lambda: EmpiricalBayesSmoothedClassifier(TREE, denoiser=ParzenDenoiser()), False),
    "eb-passthrough": (
        lambda: EmpiricalBayesSmoothedClassifier(TREE, denoiser="passthrough"),
        True,
    ),
    "walk": (lambda: WalkJumpDenoiser(ParzenDenoiser(), ParzenDenoiser(), n_steps=1), True),
    "attractor": (lambda: AttractorDenoiser(ParzenDenoiser(), frozen(ParzenDenoiser(0.1))), True),
    "eb-walk": (
        lambda: EmpiricalBayesSmoothedClassifier(
            TREE, denoiser=WalkJumpDenoiser(ParzenDenoiser(), ParzenDenoiser(), n_steps=1)
        ),
        False,
    ),
    "eb-frozen": (
        lambda: EmpiricalBayesSmoothedClassifier(TREE, denoiser=frozen(ParzenDenoiser())),
        True,
    ),
    "xhat-parzen": (lambda: XHATClassifier(Bent, denoiser=ParzenDenoiser(), **BRIEF), False),
    "xhat-passthrough": (lambda: XHATClassifier(Bent, denoiser="passthrough", **BRIEF), True),
    "xhat-frozen": (
        lambda: XHATClassifier(Bent, denoiser=frozen(ParzenDenoiser()), **BRIEF),
        True,
    ),
    "deen": (lambda: DEENDenoiser(max_epochs=1), True),
    "parzen": (lambda: ParzenDenoiser(), True),
}
each_on_pixels = pytest.mark.parametrize(("build", "points"), ON_PIXELS.values(), ids=ON_PIXELS)


class TestRawPixels:
    @each_on_pixels
    def test_warn_once_in_every_fit(self, build, points):
        estimator = build()
        match = r"X holds whole numbers from 0 to 255, .* sigma=0\.5 .*divide X by 255"
        for _ in range(2):
            with pytest.warns(UserWarning, match=match) as record:
                estimator.fit(PIXELS, HALVES)
            assert len(record) == 1
            assert (record[0].filename == __file__) is points
        if hasattr(estimator, "certify"):
            estimator.set_params(n_draws=5, n_certify_draws=20).certify(PIXELS)

    @each_on_pixels
    def test_do_not_warn_where_sigma_or_scale_fits(self, build, points):
        estimator = build().fit(PIXELS / 255, HALVES)
        if not isinstance(getattr(estimator, "denoiser", None), FrozenEstimator):
            estimator.set_params(sigma=60.0).fit(PIXELS, HALVES)

    @pytest.mark.parametrize(
        ("changed", "sigma", "warns"),
        [
            (PIXELS, 2.0, True),
            (PIXELS, 2.1, False),
            (np.minimum(PIXELS, 250), 0.5, True),
            (np.minimum(PIXELS, 249), 0.5, False),  # counts of something else
            (PIXELS + (PIXELS == 255), 0.5, False),
            (PIXELS * 0.99, 0.5, False),
            (PIXELS - 1, 0.5, False),
            (PIXELS - 128, 0.5, False),
            (PIXELS[:, :15], 0.5, False),
            (np.floor(PIXELS / 30), 0.5, False),
        ],
        ids=[
            "at most 2", "larger sigma", "250", "249", "256", "fractions", "negative", "centred",
            "few columns", "small integers",
        ],
    )  # fmt: skip
    def test_limits(self, changed, sigma, warns):
        denoiser = ParzenDenoiser(sigma)
        if warns:
            with pytest.warns(UserWarning, match="divide X by 255"):
                denoiser.fit(changed)
        else:
            denoiser.fit(changed)


class TestWarnings:
    @each_smoother
    @pytest.mark.parametrize("level", [0.9, 0.999])
    def test_draws_that_certify_nothing_say_how_many_would(self, smoother, level):
        smoother = clone(smoother).set_params(n_certify_draws=1, confidence_level=level).fit(X, y)
        with pytest.warns(UserWarning, match="n_certify_draws=1 certifies no radius") as record:
            assert (smoother.certify(X[:5]).radius == 0).all()
        assert len(record) == 1
        assert record[0].filename == __file__
        needed = int(str(record[0].message).split("at least ")[1].split()[0])
        point = X[y == 1][:20]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            enough = smoother.set_params(n_certify_draws=needed).certify(point)
        assert (enough.radius > 0).any()
        with pytest.warns(UserWarning, match="certifies no radius"):
            smoother.set_params(n_certify_draws=needed - 1).certify(point)

    @each_smoother
    def test_stages_that_certify_nothing_say_how_many_draws_would(self, smoother):
        smoother = clone(smoother).set_params(n_certify_draws=(1, 4)).fit(X, y)
        match = r"n_certify_draws=\(1, 4\) certifies no radius"
        with pytest.warns(UserWarning, match=match) as record:
            assert (smoother.certify(X[:5]).radius == 0).all()
        assert len(record) == 1
        assert record[0].filename == __file__
        needed = int(str(record[0].message).split("at least ")[1].split()[0])
        assert needed == draws_needed(0.0, 0.9995, 1.0, n_classes=3)
        point = X[y == 1][:20]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            enough = smoother.set_params(n_certify_draws=(1, needed)).certify(point)
        assert (enough.radius > 0).any()
        with pytest.warns(UserWarning, match="certifies no radius"):
            smoother.set_params(n_certify_draws=(1, needed - 1)).certify(point)

    def test_no_draws_are_needed_in_closed_form(self):
        smoother = RandomizedSmoothingClassifier(LogisticRegression(), n_certify_draws=1)
        assert (smoother.fit(X, y == 1).certify(X).radius > 0).all()

    def test_radius_of_the_scorer_beyond_the_largest(self):
        smoother = clone(SMOOTHERS["linear"]).fit(X, y)
        largest = smoother.certify(X).largest_radius
        with pytest.warns(
            UserWarning, match=r"no row can be certified at radius 2.*draws are needed"
        ):
            assert CertifiedAccuracyScorer(radius=2.0)(smoother, X, y) == 0.0
        assert CertifiedAccuracyScorer(radius=0.95 * largest)(smoother, X, y) > 0

    @pytest.mark.parametrize("name", ["network", "linear-deen", "network-parzen"])
    def test_sigma_coarse_beside_the_features_in_single_precision(self, name):
        smoother = clone(SMOOTHERS[name]).set_params(sigma=0.5)
        smoother.fit(X, y)
        with pytest.warns(UserWarning, match=r"sigma=0\.5 is coarse in float32 beside .* 1e\+06"):
            smoother.predict(with_entry(1e6))

    @pytest.mark.parametrize("name", ["linear", "predictor"])
    def test_sigma_is_fine_in_double_precision(self, name):
        smoother = clone(SMOOTHERS[name]).fit(X, y)
        smoother.predict(with_entry(1e6))
