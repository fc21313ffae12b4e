"""The estimators are scikit-learn estimators: checks, cloning, storage, routing, parallel runs."""

import pickle
from functools import partial

import joblib
import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn import config_context
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError, UnsetMetadataPassedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    parametrize_with_checks,
)
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn

from smoothlearn import (
    AttractorDenoiser,
    CertifiedAccuracyScorer,
    DEENDenoiser,
    EmpiricalBayesSmoothedClassifier,
    LocallyBiasedSmoother,
    ParzenDenoiser,
    RandomizedSmoothingClassifier,
    WalkJumpDenoiser,
    XHATClassifier,
)
from smoothlearn.views.predictor import rebuild_frame


class SizesFromData(Callback):
    """Gives a module the sizes of its input and output when training begins."""

    def __repr__(self):  # without an address, so that the names of the tests stay the same
        return "SizesFromData()"

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        net.set_params(module__n_features=X.shape[1], module__n_classes=len(np.unique(y)))


class Classifier(nn.Module):
    def __init__(self, n_features=1, n_classes=2):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_features, 8), nn.Tanh(), nn.Linear(8, n_classes))

    def forward(self, X):
        return self.layers(X)


class ScalarNetwork(nn.Module):
    """An energy for DEENDenoiser."""

    def __init__(self, n_features):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_features, 8), nn.SiLU(), nn.Linear(8, 1))

    def forward(self, u):
        return self.layers(u)


class StripNetwork(nn.Sequential):
    """An energy for DEENDenoiser that sees a row as an image of one line, whatever its length."""

    def __init__(self, n_features):
        super().__init__(
            nn.Unflatten(1, (1, 1, n_features)),
            nn.Conv2d(1, 4, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(4, 1, 3, padding=1),
        )


def small_net(**params):
    settings = {
        "criterion": nn.CrossEntropyLoss,
        "optimizer": torch.optim.Adam,
        "lr": 0.05,
        "max_epochs": 20,
        "batch_size": 16,
        "train_split": None,
        "callbacks": [SizesFromData()],
        "verbose": 0,
    }
    return NeuralNetClassifier(Classifier, **settings | params)


QUICK = DEENDenoiser(max_epochs=2)
WALKS = {
    "walk-parzen": WalkJumpDenoiser(ParzenDenoiser(), ParzenDenoiser(), n_steps=3),
    "walk-deen": WalkJumpDenoiser(QUICK, QUICK, n_steps=3),
    "adjusted-parzen": WalkJumpDenoiser(QUICK, ParzenDenoiser(), n_steps=3, metropolis=True),
    "adjusted-deen": WalkJumpDenoiser(ParzenDenoiser(), QUICK, n_steps=3, metropolis=True),
    "attractor-parzen": AttractorDenoiser(
        ParzenDenoiser(), ParzenDenoiser(), tolerance=0.5, max_steps=500
    ),
    "attractor-deen": AttractorDenoiser(QUICK, ParzenDenoiser(), tolerance=0.5, max_steps=500),
}
DRAWS = {"n_draws": 25, "n_certify_draws": 50}
BRIEF = {"epsilon": 0.2, "n_attack_steps": 1, "max_epochs": 10, "batch_size": 32, **DRAWS}
ESTIMATORS = {
    "deen": DEENDenoiser(max_epochs=2),
    "deen-module": DEENDenoiser(module=ScalarNetwork, max_epochs=2),
    "deen-image": DEENDenoiser(module=StripNetwork, max_epochs=2),
    "parzen": ParzenDenoiser(),
    **WALKS,
    "rs-linear": RandomizedSmoothingClassifier(LogisticRegression(), **DRAWS),
    "rs-linear-soft": RandomizedSmoothingClassifier(LogisticRegression(), vote="soft", **DRAWS),
    "rs-net": RandomizedSmoothingClassifier(small_net(), **DRAWS),
    "rs-tree": RandomizedSmoothingClassifier(DecisionTreeClassifier(), **DRAWS),
    "eb-linear-deen": EmpiricalBayesSmoothedClassifier(
        LogisticRegression(), denoiser=DEENDenoiser(max_epochs=2), **DRAWS
    ),
    "eb-linear-parzen": EmpiricalBayesSmoothedClassifier(
        LogisticRegression(), denoiser=ParzenDenoiser(), **DRAWS
    ),
    "eb-linear-passthrough": EmpiricalBayesSmoothedClassifier(
        LogisticRegression(), denoiser="passthrough", n_draws=25, n_certify_draws=(25, 50)
    ),
    "eb-linear-image": EmpiricalBayesSmoothedClassifier(
        LogisticRegression(), denoiser=DEENDenoiser(module=StripNetwork, max_epochs=2), **DRAWS
    ),
    "eb-net-deen": EmpiricalBayesSmoothedClassifier(
        small_net(), denoiser=DEENDenoiser(max_epochs=2), **DRAWS
    ),
    "eb-net-parzen": EmpiricalBayesSmoothedClassifier(
        small_net(), denoiser=ParzenDenoiser(), **DRAWS
    ),
    "eb-tree-parzen": EmpiricalBayesSmoothedClassifier(
        DecisionTreeClassifier(), denoiser=ParzenDenoiser(), **DRAWS
    ),
    "eb-linear-walk": EmpiricalBayesSmoothedClassifier(
        LogisticRegression(), denoiser=WALKS["walk-parzen"], **DRAWS
    ),
    "rs-tree-copies": RandomizedSmoothingClassifier(DecisionTreeClassifier(), n_augment=2, **DRAWS),
    "eb-linear-parzen-copies": EmpiricalBayesSmoothedClassifier(
        LogisticRegression(), denoiser=ParzenDenoiser(), n_augment=2, **DRAWS
    ),
    "eb-linear-deen-copies": EmpiricalBayesSmoothedClassifier(
        LogisticRegression(), denoiser=DEENDenoiser(max_epochs=2), n_augment=2, **DRAWS
    ),
    "xhat-passthrough": XHATClassifier(denoiser="passthrough", **BRIEF),
    "xhat-parzen": XHATClassifier(denoiser=ParzenDenoiser(), **BRIEF),
    "xhat-deen": XHATClassifier(Classifier, denoiser=DEENDenoiser(max_epochs=1), lr=0.1, **BRIEF),
    "lb-linear": LocallyBiasedSmoother(LogisticRegression()),
    "lb-rbf": LocallyBiasedSmoother(SVC(kernel="rbf")),
    "lb-net": LocallyBiasedSmoother(small_net()),
}


@parametrize_with_checks(list(ESTIMATORS.values()))
def test_scikit_learn_checks(estimator, check):
    check(estimator)


def net_pipeline(**params):
    return make_pipeline(StandardScaler(), small_net(**params))


#: One of each kind of vote, small enough to be fitted in every test.
CLASSIFIERS = {
    "exact": RandomizedSmoothingClassifier(LogisticRegression(), random_state=0, **DRAWS),
    "predictor": RandomizedSmoothingClassifier(
        DecisionTreeClassifier(), sigma=1.0, random_state=0, **DRAWS
    ),
    "network": RandomizedSmoothingClassifier(net_pipeline(), sigma=1.0, random_state=0, **DRAWS),
    "linear-deen": EmpiricalBayesSmoothedClassifier(
        LogisticRegression(),
        denoiser=DEENDenoiser(max_epochs=2),
        sigma=1.0,
        random_state=0,
        **DRAWS,
    ),
    "network-parzen": EmpiricalBayesSmoothedClassifier(
        net_pipeline(), denoiser=ParzenDenoiser(), sigma=1.0, random_state=0, **DRAWS
    ),
    "linear-walk": EmpiricalBayesSmoothedClassifier(
        LogisticRegression(),
        denoiser=WALKS["adjusted-parzen"],
        sigma=1.0,
        n_augment=2,
        random_state=0,
        **DRAWS,
    ),
    "linear-attractor": EmpiricalBayesSmoothedClassifier(
        LogisticRegression(),
        denoiser=WALKS["attractor-parzen"],
        sigma=1.0,
        random_state=0,
        **DRAWS,
    ),
    "xhat-parzen": XHATClassifier(
        denoiser=ParzenDenoiser(),
        sigma=1.0,
        random_state=0,
        **BRIEF | {"n_certify_draws": (25, 50)},
    ),
    "xhat-deen": XHATClassifier(
        Classifier, denoiser=DEENDenoiser(max_epochs=1), lr=0.1, random_state=0, **BRIEF
    ),
}
each_classifier = pytest.mark.parametrize("name", CLASSIFIERS)


@pytest.fixture
def classifier(name):
    return clone(CLASSIFIERS[name])


def assert_same_outputs(one, other, X):
    first, second = one.certify(X), other.certify(X)
    np.testing.assert_array_equal(first.counts, second.counts)
    np.testing.assert_array_equal(first.radius, second.radius)
    np.testing.assert_array_equal(first.label, second.label)
    np.testing.assert_array_equal(one.predict_proba(X), other.predict_proba(X))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_column_names_are_consistent(name):
    check_dataframe_column_names_consistency(name, clone(ESTIMATORS[name]))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_no_estimator_is_tagged_non_deterministic(name):
    assert not get_tags(ESTIMATORS[name]).non_deterministic


@pytest.mark.parametrize("name", ESTIMATORS)
def test_fit_changes_no_parameter(name, three_blobs):
    X, y = three_blobs
    estimator = clone(ESTIMATORS[name])
    before = clone(estimator).get_params(deep=True)
    again = clone(estimator.fit(X, y)).get_params(deep=True)
    after = estimator.get_params(deep=True)
    assert before.keys() == after.keys() == again.keys()
    for key, value in before.items():
        if not hasattr(value, "get_params") and not isinstance(value, list):
            assert value is after[key] or value == after[key], key
            assert value is again[key] or value == again[key], key
    assert not hasattr(clone(estimator), "sigma_")


@each_classifier
def test_pickled_classifier_gives_the_same_certificates(classifier, three_blobs):
    X, y = three_blobs
    classifier.fit(X, y)
    assert_same_outputs(classifier, pickle.loads(pickle.dumps(classifier)), X[:20])


@each_classifier
def test_memory_mapped_classifier_gives_the_same_certificates(classifier, three_blobs, tmp_path):
    X, y = three_blobs
    joblib.dump(classifier.fit(X, y), tmp_path / "classifier.joblib")
    loaded = joblib.load(tmp_path / "classifier.joblib", mmap_mode="r")
    assert_same_outputs(classifier, loaded, X[:20])
    assert_same_outputs(classifier, clone(loaded).fit(X, y), X[:20])


DENOISERS = {"deen": QUICK, "parzen": ParzenDenoiser(), **WALKS}
each_denoiser = pytest.mark.parametrize("denoiser", DENOISERS.values(), ids=DENOISERS)


@each_denoiser
def test_memory_mapped_denoiser_gives_the_same_rows(denoiser, three_blobs, tmp_path):
    X, _ = three_blobs
    denoiser = clone(denoiser).fit(X)
    joblib.dump(denoiser, tmp_path / "denoiser.joblib")
    loaded = joblib.load(tmp_path / "denoiser.joblib", mmap_mode="r")
    np.testing.assert_array_equal(loaded.transform(X), denoiser.transform(X))
    np.testing.assert_array_equal(loaded.energy(X), denoiser.energy(X))


@pytest.mark.parametrize(
    "name", ["exact", "predictor", "linear-deen", "linear-walk", "linear-attractor", "xhat-parzen"]
)
def test_skops_gives_the_same_certificates(classifier, three_blobs):
    skops_io = pytest.importorskip("skops.io")
    X, y = three_blobs
    stored = skops_io.dumps(classifier.fit(X, y))
    types = skops_io.get_untrusted_types(data=stored)
    known = {"smoothlearn", "numpy", "sklearn", "torch"}  # of torch, the optimizer's class
    assert {name.partition(".")[0] for name in types} <= known
    assert_same_outputs(classifier, skops_io.loads(stored, trusted=types), X[:20])


@each_denoiser
@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_set_output_gives_frames_with_the_names_of_the_input(denoiser, library, three_blobs):
    frames = pytest.importorskip(library)
    X = three_blobs[0]
    frame = rebuild_frame(X, ["a", "b", "c"], library)
    denoiser = clone(denoiser)
    if "random_state" in denoiser.get_params():
        denoiser.set_params(random_state=0)
    denoised = clone(denoiser).set_output(transform=library).fit_transform(frame)
    assert isinstance(denoised, frames.DataFrame)
    assert list(denoised.columns) == ["a", "b", "c"]
    expected = clone(denoiser).fit_transform(X)
    np.testing.assert_allclose(denoised.to_numpy(), expected, rtol=1e-9, atol=1e-12)


class TestSampleWeight:
    """Weights reach the base by metadata routing, and only so."""

    @pytest.fixture(autouse=True)
    def routing(self):
        with config_context(enable_metadata_routing=True):
            yield

    @pytest.fixture
    def weights(self, three_blobs):
        return np.random.default_rng(0).uniform(0.1, 5.0, len(three_blobs[1]))

    @pytest.mark.parametrize("smoother", [
        RandomizedSmoothingClassifier,
        partial(EmpiricalBayesSmoothedClassifier, denoiser=ParzenDenoiser()),
    ])  # fmt: skip
    def test_reaches_the_base(self, smoother, three_blobs, weights):
        X, y = three_blobs
        base = LogisticRegression().set_fit_request(sample_weight=True)
        fitted = smoother(base).fit(X, y, sample_weight=weights)
        weighted = LogisticRegression().fit(X, y, sample_weight=weights)
        np.testing.assert_array_equal(fitted.estimator_.coef_, weighted.coef_)
        assert not np.array_equal(weighted.coef_, LogisticRegression().fit(X, y).coef_)

    def test_reaches_the_base_through_a_pipeline(self, three_blobs, weights):
        X, y = three_blobs
        base = LogisticRegression().set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, RandomizedSmoothingClassifier(base))
        pipeline.fit(X, y, sample_weight=weights)
        scaled = StandardScaler().fit_transform(X)
        weighted = LogisticRegression().fit(scaled, y, sample_weight=weights)
        np.testing.assert_array_equal(pipeline[-1].estimator_.coef_, weighted.coef_)

    def test_reaches_the_base_through_a_grid_search(self, three_blobs, weights):
        X, y = three_blobs
        base = LogisticRegression().set_fit_request(sample_weight=True)
        smoother = RandomizedSmoothingClassifier(base, random_state=0, **DRAWS)
        search = GridSearchCV(
            smoother.set_score_request(sample_weight=False),
            {"sigma": [0.5]},
            cv=2,
            error_score="raise",
        )
        search.fit(X, y, sample_weight=weights)
        weighted = LogisticRegression().fit(X, y, sample_weight=weights)
        np.testing.assert_array_equal(search.best_estimator_.estimator_.coef_, weighted.coef_)

    def test_unrequested_raises(self, three_blobs, weights):
        X, y = three_blobs
        smoother = RandomizedSmoothingClassifier(LogisticRegression())
        with pytest.raises(UnsetMetadataPassedError, match="sample_weight"):
            smoother.fit(X, y, sample_weight=weights)
        with pytest.raises(NotFittedError):
            check_is_fitted(smoother)

    def test_refused_by_request_raises(self, three_blobs, weights):
        X, y = three_blobs
        base = LogisticRegression().set_fit_request(sample_weight=False)
        with pytest.raises(TypeError, match="sample_weight"):
            RandomizedSmoothingClassifier(base).fit(X, y, sample_weight=weights)


@pytest.mark.parametrize("backend", ["threading", "loky"])
@pytest.mark.parametrize("name", ["linear-deen", "network-parzen", "linear-walk", "xhat-deen"])
def test_scores_do_not_depend_on_the_jobs_of_cross_validation(classifier, backend, three_blobs):
    X, y = three_blobs
    scorer = CertifiedAccuracyScorer(radius=0.1)
    options = {"cv": 3, "scoring": scorer, "error_score": "raise"}
    alone = cross_val_score(classifier, X, y, **options)
    with parallel_config(backend=backend, n_jobs=2, **inner_threads(backend)):
        together = cross_val_score(classifier, X, y, **options)
    np.testing.assert_array_equal(together, alone)
    assert alone.mean() > 0.4


@pytest.mark.parametrize("backend", ["threading", "loky"])
@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("linear-deen", {"sigma": [0.3, 0.9]}),
        ("xhat-deen", {"sigma": [0.3, 0.9], "epsilon": [0.0, 0.5]}),
        (
            "linear-walk",
            {"sigma": [0.6], "denoiser__walk__sigma": [0.1, 0.3], "denoiser__n_steps": [1]},
        ),
    ],
    ids=["linear-deen", "xhat-deen", "linear-walk"],
)
def test_grid_search_does_not_depend_on_its_jobs(classifier, grid, backend, two_blobs):
    X, y = two_blobs
    search = GridSearchCV(
        classifier,
        grid,
        cv=2,
        scoring=CertifiedAccuracyScorer(radius=0.1),
        error_score="raise",
    )
    alone = clone(search).fit(X, y)
    with parallel_config(backend=backend, n_jobs=2, **inner_threads(backend)):
        together = clone(search).fit(X, y)
    for split in ("split0_test_score", "split1_test_score"):
        np.testing.assert_array_equal(together.cv_results_[split], alone.cv_results_[split])
    assert together.best_estimator_.denoiser_.sigma_ == together.best_params_["sigma"]
    assert_same_outputs(together.best_estimator_, alone.best_estimator_, X[:10])


@pytest.mark.parametrize("name", ["linear-walk", "linear-attractor"])
def test_votes_behind_a_walk_depend_on_the_row_alone(classifier, three_blobs):
    X, y = three_blobs
    counts = classifier.fit(X, y).certify(X).counts
    assert (counts.max(axis=1) < counts.sum(axis=1)).mean() > 0.2
    np.testing.assert_array_equal(classifier.certify(X[::-7]).counts, counts[::-7])
    np.testing.assert_array_equal(classifier.certify(X[4:5]).counts, counts[4:5])
    with parallel_config(backend="threading"):
        together = clone(classifier).set_params(n_jobs=2).fit(X, y)
        np.testing.assert_array_equal(together.certify(X).counts, counts)


def inner_threads(backend):
    """Workers with as many torch threads as this process has: one."""
    return {"inner_max_num_threads": 1} if backend == "loky" else {}


class TestLabels:
    @pytest.mark.parametrize("weights", [None, {"ape": 1.0, "bee": 20.0, "cat": 1.0}])
    def test_strings_and_class_weight(self, three_blobs, weights):
        X, y = three_blobs
        names = np.array(["ape", "bee", "cat"])[y]
        base = LogisticRegression(class_weight=weights)
        smoother = RandomizedSmoothingClassifier(base, random_state=0, **DRAWS).fit(X, names)
        expected = LogisticRegression(class_weight=weights).fit(X, names)
        np.testing.assert_array_equal(smoother.estimator_.coef_, expected.coef_)
        np.testing.assert_array_equal(smoother.classes_, ["ape", "bee", "cat"])
        assert smoother.score(X, names) > 0.8
        assert set(smoother.certify(X).label) == {"ape", "bee", "cat"}

    @each_classifier
    def test_booleans(self, classifier, two_blobs):
        X, y = two_blobs
        classifier.fit(X, y == 1)
        certificate = classifier.certify(X)
        assert certificate.label.dtype == bool
        assert classifier.predict(X).dtype == bool
        assert np.mean(certificate.label == (y == 1)) > 0.7

    @each_classifier
    @pytest.mark.parametrize("names", [[3, -7, 1000], ["c", "a", "b"], [1.0, 4.0, 2.0]])
    def test_neither_order_nor_gaps_matter(self, classifier, names, three_blobs):
        X, y = three_blobs
        labels = np.array(names)[y]
        classifier.fit(X, labels)
        np.testing.assert_array_equal(classifier.classes_, np.unique(labels))
        assert classifier.score(X, labels) > 0.7
        assert np.mean(classifier.certify(X).label == labels) > 0.7


class TestFrames:
    """A base may select the columns of a frame by name."""

    @pytest.mark.parametrize("library", ["pandas", "polars"])
    @pytest.mark.parametrize("denoiser", ["passthrough", ParzenDenoiser()])
    def test_base_that_selects_columns_by_name(self, library, denoiser, three_blobs):
        pytest.importorskip(library)
        X, y = three_blobs
        frame = rebuild_frame(X, ["width", "noise", "height"], library)
        select = ColumnTransformer([("kept", StandardScaler(), ["height", "width"])])
        tree = DecisionTreeClassifier(random_state=0)
        smoother = EmpiricalBayesSmoothedClassifier(
            make_pipeline(select, tree), denoiser=denoiser, random_state=0, **DRAWS
        ).fit(frame, y)
        assert list(smoother.feature_names_in_) == ["width", "noise", "height"]
        by_hand = EmpiricalBayesSmoothedClassifier(
            make_pipeline(
                ColumnTransformer([("kept", StandardScaler(), [2, 0])]),
                DecisionTreeClassifier(random_state=0),
            ),
            denoiser=denoiser,
            random_state=0,
            **DRAWS,
        ).fit(X, y)
        np.testing.assert_array_equal(smoother.certify(frame).counts, by_hand.certify(X).counts)
        np.testing.assert_array_equal(smoother.predict(frame), by_hand.predict(X))

    def test_columns_named_by_numbers_are_columns_by_position(self, three_blobs):
        pandas = pytest.importorskip("pandas")
        X, y = three_blobs
        smoother = RandomizedSmoothingClassifier(
            DecisionTreeClassifier(random_state=0), random_state=0, **DRAWS
        )
        counts = clone(smoother).fit(pandas.DataFrame(X), y).certify(pandas.DataFrame(X)).counts
        np.testing.assert_array_equal(counts, smoother.fit(X, y).certify(X).counts)

    def test_columns_in_another_order_raise(self, three_blobs):
        pandas = pytest.importorskip("pandas")
        X, y = three_blobs
        frame = pandas.DataFrame(X, columns=["a", "b", "c"])
        smoother = clone(CLASSIFIERS["predictor"]).fit(frame, y)
        with pytest.raises(ValueError, match="feature names should match"):
            smoother.certify(frame[["c", "b", "a"]])


class TestFrozen:
    """What comes in a FrozenEstimator is used as it is."""

    @pytest.mark.parametrize(
        "base",
        [
            LogisticRegression(),
            DecisionTreeClassifier(random_state=0),
            make_pipeline(StandardScaler(), SVC()),
        ],
    )
    def test_base_is_not_fitted_again(self, base, three_blobs):
        X, y = three_blobs
        base = clone(base).fit(X, y)
        shifted = RandomizedSmoothingClassifier(FrozenEstimator(base), random_state=0, **DRAWS)
        shifted.fit(X + 100.0, y)
        assert shifted.estimator_.estimator is base
        fitted = RandomizedSmoothingClassifier(clone(base), random_state=0, **DRAWS).fit(X, y)
        shifted.noise_seed_ = fitted.noise_seed_
        assert_same_outputs(shifted, fitted, X)

    def test_net_is_not_fitted_again(self, three_blobs):
        X, y = three_blobs
        net = small_net().fit(X.astype(np.float32), y)
        weights = [p.detach().clone() for p in net.module_.parameters()]
        smoother = RandomizedSmoothingClassifier(FrozenEstimator(net), **DRAWS).fit(X, y)
        assert smoother.score(X, y) > 0.8
        assert all(
            torch.equal(p, w) for p, w in zip(net.module_.parameters(), weights, strict=True)
        )

    def test_base_maps_through_its_own_classes(self, three_blobs):
        X, y = three_blobs
        names = np.array(["ape", "bee", "cat"])[y]
        base = DecisionTreeClassifier(random_state=0).fit(X, names)
        kept = y != 1
        smoother = RandomizedSmoothingClassifier(
            FrozenEstimator(base), sigma=0.1, random_state=0, **DRAWS
        ).fit(X[kept], names[kept])
        np.testing.assert_array_equal(smoother.classes_, ["ape", "bee", "cat"])
        assert np.mean(smoother.predict(X) == names) > 0.9

    @each_denoiser
    def test_denoiser_is_not_fitted_again(self, denoiser, three_blobs):
        X, y = three_blobs
        denoiser = clone(denoiser).set_params(sigma=0.4).fit(X)
        expected = denoiser.transform(X)
        smoother = EmpiricalBayesSmoothedClassifier(
            LogisticRegression(), denoiser=FrozenEstimator(denoiser), sigma=0.4, **DRAWS
        ).fit(X + 5.0, y)
        np.testing.assert_array_equal(smoother.denoiser_.transform(X), expected)


class TestNets:
    """skorch nets as bases."""

    def test_pipeline_with_a_scaler_votes_like_its_predict(self, three_blobs):
        X, y = three_blobs
        X = X * [1.0, 10.0, 0.1]
        fitted = RandomizedSmoothingClassifier(
            net_pipeline(), sigma=1e-3, random_state=0, **DRAWS
        ).fit(X, y)
        np.testing.assert_array_equal(
            fitted.predict(X), fitted.estimator_.predict(X.astype(np.float32))
        )
        assert fitted.score(X, y) > 0.8

    @pytest.mark.parametrize("threshold", [0.5, 0.999, 0.001])
    def test_threshold_of_a_binary_classifier_decides_its_votes(self, threshold, two_blobs):
        X, y = two_blobs
        net = NeuralNetBinaryClassifier(
            nn.Linear,
            module__in_features=2,
            module__out_features=1,
            threshold=threshold,
            max_epochs=20,
            lr=0.5,
            train_split=None,
            verbose=0,
        )
        smoother = RandomizedSmoothingClassifier(net, sigma=1e-4, random_state=0, **DRAWS)
        smoother.fit(X, np.array(["no", "yes"])[y])
        said = smoother.estimator_.predict(X.astype(np.float32))
        np.testing.assert_array_equal(smoother.predict(X), np.array(["no", "yes"])[said])
        shares = {0.5: (0.3, 0.7), 0.999: (0.0, 0.3), 0.001: (0.7, 1.0)}
        low, high = shares[threshold]
        assert low <= np.mean(smoother.predict(X) == "yes") <= high
