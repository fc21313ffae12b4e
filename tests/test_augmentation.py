"""Bases fitted on noisy copies: what the copies are, and that no held-out row is trained on."""

import pickle
from functools import partial
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import chi2, kstest
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import RFECV, SequentialFeatureSelector
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    LogisticRegression,
    LogisticRegressionCV,
    RidgeClassifierCV,
    SGDClassifier,
)
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    LeaveOneOut,
    PredefinedSplit,
    RepeatedStratifiedKFold,
    StratifiedKFold,
    TunedThresholdClassifierCV,
)
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler, TargetEncoder
from sklearn.tree import DecisionTreeClassifier
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, EarlyStopping
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import predefined_split
from torch import nn
from torch.utils.data import Subset, random_split

import smoothlearn.randomized
from smoothlearn import (
    DEENDenoiser,
    EmpiricalBayesSmoothedClassifier,
    ParzenDenoiser,
    RandomizedSmoothingClassifier,
)
from smoothlearn.augmentation import keep_copies_together, noisy_copies
from smoothlearn.nn.randomness import spawn_seeds
from smoothlearn.views.predictor import rebuild_frame

N_ROWS, N_COPIES, SIGMA = 30, 3, 0.05
SETTINGS = {"sigma": SIGMA, "n_draws": 20, "n_certify_draws": 50, "random_state": 0}
NO_DENOISER = {"denoiser": None, "sigma": SIGMA, "seed": 0}

#: The first feature numbers the rows, 20 sigma apart, so that a copy tells its row.
Y = np.random.default_rng(3).permutation(np.repeat([0, 1], N_ROWS // 2))
X = np.column_stack([np.arange(N_ROWS), Y + 0.3 * np.random.default_rng(1).standard_normal(N_ROWS)])


def smooth(base, X=X, y=Y, **params):
    fit_params = params.pop("fit_params", {})
    return RandomizedSmoothingClassifier(base, **SETTINGS | params).fit(X, y, **fit_params)


def row_of(copies):
    return np.rint(np.asarray(copies)[:, 0]).astype(int)


class Recorder(ClassifierMixin, BaseEstimator):
    """Keeps what it is fitted on."""

    def __init__(self, random_state=None):
        self.random_state = random_state

    def fit(self, X, y, sample_weight=None, extra=None):
        self.X_, self.y_, self.sample_weight_, self.extra_ = X, y, sample_weight, extra
        self.classes_ = np.unique(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.classes_[0])


@pytest.fixture(scope="module")
def copies():
    """What every base with ``N_COPIES`` and the settings above is fitted on."""
    return smooth(Recorder(), n_augment=N_COPIES).estimator_.X_


def parzen_by_hand(point, rows, sigma, left_out=None):
    """Weights and rows added up one by one."""
    total, weights = np.zeros(len(point)), 0.0
    for i, row in enumerate(rows):
        if i != left_out:
            weight = np.exp(-np.sum((point - row) ** 2) / (2 * sigma**2))
            total, weights = total + weight * row, weights + weight
    return total / weights


class TestLeaveOneOut:
    """The Parzen denoiser of a copy of a row knows all rows but that one."""

    @pytest.fixture
    def rows(self):
        return np.random.default_rng(0).standard_normal((12, 3))

    @pytest.mark.parametrize("wrap", [lambda denoiser: denoiser, FrozenEstimator])
    def test_is_the_formula_without_the_row(self, wrap, rows):
        denoiser = wrap(ParzenDenoiser(0.6).fit(rows))
        noisy = noisy_copies(rows, 4, denoiser=None, sigma=0.6, seed=5)
        denoised = noisy_copies(rows, 4, denoiser=denoiser, sigma=0.6, seed=5)
        expected = [parzen_by_hand(y, rows, 0.6, left_out=i % 12) for i, y in enumerate(noisy)]
        np.testing.assert_allclose(denoised, expected, rtol=1e-10, atol=1e-12)
        with_all = [parzen_by_hand(y, rows, 0.6) for y in noisy]
        assert np.abs(denoised - with_all).max() > 0.5

    def test_one_of_several_equal_rows_is_left_out(self, rows):
        rows[[4, 7]] = rows[1]
        denoiser = ParzenDenoiser(0.6).fit(rows)
        noisy = noisy_copies(rows, 2, denoiser=None, sigma=0.6, seed=5)
        denoised = denoiser.denoise_copies(noisy, np.tile(rows, (2, 1)))
        expected = [parzen_by_hand(y, rows, 0.6, left_out=i % 12) for i, y in enumerate(noisy)]
        np.testing.assert_allclose(denoised, expected, rtol=1e-10, atol=1e-12)
        without_any = parzen_by_hand(noisy[1], np.delete(rows, [1, 4, 7], axis=0), 0.6)
        assert np.abs(denoised[1] - without_any).max() > 0.1

    def test_nothing_is_left_out_for_rows_that_are_not_in_the_training_set(self, rows):
        denoiser = ParzenDenoiser(0.6).fit(rows[:8])
        noisy = noisy_copies(rows, 1, denoiser=None, sigma=0.6, seed=5)
        denoised = denoiser.denoise_copies(noisy, rows)
        expected = [
            parzen_by_hand(y, rows[:8], 0.6, left_out=i if i < 8 else None)
            for i, y in enumerate(noisy)
        ]
        np.testing.assert_allclose(denoised, expected, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(denoised[8:], denoiser.transform(noisy[8:]), rtol=1e-12)
        np.testing.assert_array_equal(denoiser.denoise_copies(noisy[8:], rows[8:]), denoised[8:])

    @pytest.mark.parametrize("zeros", [(0.0, -0.0), (-0.0, 0.0)])
    def test_zero_has_no_sign(self, zeros, rows):
        trained, given = rows.copy(), rows.copy()
        trained[3, 1], given[3, 1] = zeros
        noisy = noisy_copies(given, 1, denoiser=None, sigma=0.6, seed=5)
        denoised = ParzenDenoiser(0.6).fit(trained).denoise_copies(noisy, given)
        expected = parzen_by_hand(noisy[3], trained, 0.6, left_out=3)
        np.testing.assert_allclose(denoised[3], expected, rtol=1e-10)

    def test_separated_rows_are_not_pulled_back_to_themselves(self):
        """What ``transform`` does: behind it the base would see the clean rows again."""
        rows = X**2
        clf = EmpiricalBayesSmoothedClassifier(
            Recorder(), denoiser=ParzenDenoiser(), n_augment=N_COPIES, **SETTINGS
        ).fit(rows, Y)
        noisy = smooth(Recorder(), rows, n_augment=N_COPIES).estimator_.X_
        clean = np.tile(rows, (N_COPIES, 1))
        assert np.abs(clf.denoiser_.transform(noisy) - clean).max() < 1e-6
        assert np.linalg.norm(clf.estimator_.X_ - clean, axis=1).min() > 0.9
        below = np.abs(np.rint(np.sqrt(clean[:, 0])) - 1)
        np.testing.assert_array_equal(np.rint(np.sqrt(clf.estimator_.X_[:, 0])), below)

    def test_a_learned_energy_denoises_copies_as_any_rows(self):
        clf = EmpiricalBayesSmoothedClassifier(
            Recorder(), denoiser=DEENDenoiser(max_epochs=1), n_augment=2, **SETTINGS
        ).fit(X, Y)
        noisy = smooth(Recorder(), n_augment=2).estimator_.X_
        denoised = clf.denoiser_.transform(noisy)
        np.testing.assert_allclose(clf.estimator_.X_, denoised, rtol=1e-5, atol=1e-5)
        assert np.abs(denoised - noisy).max() > 0.01

    def test_denoiser_that_knows_no_copies(self):
        class Halves:
            def transform(self, X):
                return [[0.5 * value for value in row] for row in X]

        noisy = noisy_copies(X, 2, **NO_DENOISER)
        halves = noisy_copies(X, 2, **NO_DENOISER | {"denoiser": Halves()})
        np.testing.assert_array_equal(halves, noisy / 2)


class TestCopies:
    def test_stand_one_below_the_other_with_their_labels(self):
        base = smooth(Recorder(), n_augment=N_COPIES).estimator_
        assert base.X_.shape == (N_COPIES * N_ROWS, 2)
        np.testing.assert_array_equal(row_of(base.X_), np.tile(np.arange(N_ROWS), N_COPIES))
        np.testing.assert_array_equal(base.y_, np.tile(Y, N_COPIES))

    @pytest.mark.parametrize("sigma", [0.01, 7.0])
    def test_noise_is_independent_and_normal(self, sigma):
        rows = np.random.default_rng(0).uniform(-1, 1, (500, 4))
        copies = noisy_copies(rows, 4, denoiser=None, sigma=sigma, seed=11)
        noise = (copies.reshape(4, 500, 4) - rows) / sigma
        # each bound fails with probability < 1e-7 where the noise is standard normal
        assert chi2.ppf(5e-8, noise.size) < np.sum(noise**2) < chi2.isf(5e-8, noise.size)
        assert kstest(noise.ravel(), "norm").pvalue > 1e-7
        assert len(np.unique(noise)) == noise.size
        for axis in range(3):  # copies, rows, features
            pairs = noise * np.roll(noise, 1, axis=axis)
            assert abs(pairs.sum()) < 5.5 * noise.size**0.5
        assert abs(noise.sum()) < 5.5 * noise.size**0.5

    def test_follow_random_state(self):
        one, again = (smooth(Recorder(), n_augment=2).estimator_.X_ for _ in range(2))
        np.testing.assert_array_equal(one, again)
        other = smooth(Recorder(), n_augment=2, random_state=1).estimator_.X_
        assert (one != other).all()
        unseeded = [smooth(Recorder(), n_augment=2, random_state=None) for _ in range(2)]
        assert (unseeded[0].estimator_.X_ != unseeded[1].estimator_.X_).all()

    @pytest.mark.parametrize("base", [DecisionTreeClassifier(), "net"])
    def test_same_fit_twice(self, base):
        base = net() if base == "net" else base
        one, again = (smooth(clone(base), n_augment=2) for _ in range(2))
        other = smooth(clone(base), n_augment=2, random_state=1)
        np.testing.assert_array_equal(one.certify(X).counts, again.certify(X).counts)
        assert (inside(one.estimator_) == inside(again.estimator_)).all()
        assert not np.array_equal(inside(one.estimator_), inside(other.estimator_))

    def test_have_a_seed_of_their_own(self, monkeypatch):
        spawned, used = {}, []

        def spawn(random_state, names):
            spawned.update(spawn_seeds(random_state, names))
            return spawned

        def make(*args, seed, **params):
            used.append(seed)
            return noisy_copies(*args, seed=seed, **params)

        monkeypatch.setattr(smoothlearn.randomized, "spawn_seeds", spawn)
        monkeypatch.setattr(smoothlearn.randomized, "noisy_copies", make)
        smoother = smooth(Recorder(), n_augment=1)
        assert used == [spawned.pop("copies")]
        assert smoother.noise_seed_ == spawned["noise"]
        assert used[0] not in spawned.values()

    def test_are_independent_of_the_noise_of_certification(self):
        seen = []

        class Listener(Recorder):
            def predict(self, X):
                seen.append(np.array(X))
                return super().predict(X)

        row = np.zeros((2, 1))
        smoother = smooth(Listener(), row, [0, 1], sigma=1.0, n_augment=4000, n_certify_draws=4000)
        copies = smoother.estimator_.X_.ravel()
        seen.clear()
        smoother.certify(row[:1])
        voted = np.concatenate(seen).ravel()[-4000:]
        # each bound fails with probability < 1e-7 for independent normal numbers
        for copies_of_one in (copies[0::2], copies[1::2]):
            assert abs(copies_of_one @ voted) < 5.5 * 4000**0.5


def inside(base):
    """Numbers that fitting has set."""
    if isinstance(base, DecisionTreeClassifier):
        return base.tree_.threshold
    return base.module_.layers[0].weight.detach().numpy()


class TestNone:
    """Without copies nothing has changed."""

    @staticmethod
    def child(number):
        state = np.random.SeedSequence(0).spawn(4)[number].generate_state(4, np.uint32)
        return int.from_bytes(state.tobytes(), "little")

    @pytest.mark.parametrize("n_augment", [0, 2])
    def test_the_other_seeds_are_what_they_were(self, n_augment):
        clf = EmpiricalBayesSmoothedClassifier(
            Recorder(), denoiser=DEENDenoiser(max_epochs=1), n_augment=n_augment, **SETTINGS
        ).fit(X, Y)
        assert clf.noise_seed_ == self.child(0)
        for part, number in ((clf.estimator_, 1), (clf.denoiser_, 2)):
            word = np.random.SeedSequence(self.child(number)).generate_state(1, np.uint32)
            assert part.random_state == word[0] >> 1

    def test_the_base_is_fitted_on_the_rows(self):
        base = smooth(Recorder()).estimator_
        np.testing.assert_array_equal(base.X_, X)
        np.testing.assert_array_equal(base.y_, Y)

    def test_votes_are_those_of_a_base_fitted_by_hand(self):
        smoother = smooth(DecisionTreeClassifier(), sigma=1.0)
        by_hand = DecisionTreeClassifier(random_state=smoother.estimator_.random_state).fit(X, Y)
        frozen = smooth(FrozenEstimator(by_hand), sigma=1.0)
        np.testing.assert_array_equal(smoother.certify(X).counts, frozen.certify(X).counts)

    @pytest.mark.parametrize("n_augment", [0, 1])
    def test_splits_and_parameters_of_fit_stay_as_they_are(self, n_augment):
        split, cv = ValidSplit(3), KFold(3)
        base = net(train_split=split)
        keep_copies_together(base, Y, max(1, n_augment))
        assert base.train_split is split
        search = GridSearchCV(Recorder(), {"random_state": [0]}, cv=cv)
        keep_copies_together(search, Y, max(1, n_augment))
        assert search.cv is cv
        weights = pd.Series(np.ones(N_ROWS), index=np.arange(N_ROWS)[::-1])
        with config_context(enable_metadata_routing=True):
            base = Recorder().set_fit_request(sample_weight=True)
            smoother = smooth(base, n_augment=n_augment, fit_params={"sample_weight": weights})
        assert smoother.estimator_.sample_weight_ is weights


class TestFitParams:
    """What has an entry for every row gets one for every copy."""

    @pytest.fixture(autouse=True)
    def routing(self):
        with config_context(enable_metadata_routing=True):
            yield

    weights = np.random.default_rng(2).uniform(0.1, 5.0, N_ROWS)

    @pytest.mark.parametrize(
        "kind",
        [list, np.array, partial(pd.Series, index=np.arange(N_ROWS)[::-1]), torch.tensor],
        ids=["list", "ndarray", "series", "tensor"],
    )
    def test_per_row(self, kind):
        base = Recorder().set_fit_request(sample_weight=True, extra=True)
        fit_params = {
            "sample_weight": kind(self.weights),
            "extra": kind(np.column_stack([np.arange(N_ROWS), Y]).tolist())
            if kind in (list, np.array)
            else kind(np.arange(N_ROWS)),
        }
        fitted = smooth(base, n_augment=N_COPIES, fit_params=fit_params).estimator_
        np.testing.assert_array_equal(fitted.sample_weight_, np.tile(self.weights, N_COPIES))
        numbers = fitted.extra_ if fitted.extra_.ndim == 1 else fitted.extra_[:, 0]
        np.testing.assert_array_equal(numbers, row_of(fitted.X_))
        assert len(fitted.extra_) == len(fitted.X_)

    @pytest.mark.parametrize(
        "value",
        [
            0.5,
            np.float64(2.0),
            np.array(3.0),
            None,
            "x" * N_ROWS,
            dict.fromkeys(range(N_ROWS), 1.0),
            set(range(N_ROWS)),
            [1.0] * (N_ROWS + 1),
            np.ones((2, N_ROWS)),
            [(X, Y)],
            [],
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_anything_else_is_left_alone(self, value):
        base = Recorder().set_fit_request(extra=True)
        fitted = smooth(base, n_augment=N_COPIES, fit_params={"extra": value}).estimator_
        assert fitted.extra_ is value

    def test_weighted_copies(self):
        base = LogisticRegression().set_fit_request(sample_weight=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        copies = smooth(Recorder(), n_augment=2).estimator_.X_
        fit_params = {"sample_weight": self.weights}
        fitted = smooth(make_pipeline(scaler, base), n_augment=2, fit_params=fit_params).estimator_
        scaled = StandardScaler().fit_transform(copies)
        weighted = LogisticRegression().fit(scaled, np.tile(Y, 2), np.tile(self.weights, 2))
        np.testing.assert_array_equal(fitted[-1].coef_, weighted.coef_)


class Layers(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))

    def forward(self, x, groups=None):
        return self.layers(x)


class Parts(Callback):
    """Keeps the data sets of training and of validation."""

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        self.parts_ = []

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        self.parts_.append((dataset_train, dataset_valid))


def net(kind=NeuralNetClassifier, **params):
    settings = {"max_epochs": 1, "lr": 0.01, "batch_size": 16, "callbacks": [Parts()], "verbose": 0}
    return kind(Layers, criterion=nn.CrossEntropyLoss, **settings | params)


def parts_of(fitted):
    """Rows and labels that a fitted net trained on, and those it was validated on."""
    callback = next(c for _, c in fitted.callbacks_ if isinstance(c, Parts))
    ((train, valid),) = callback.parts_
    return [
        None
        if part is None
        else (np.array([x for x, _ in part]), np.array([int(label) for _, label in part]))
        for part in (train, valid)
    ]


def as_rows(*blocks):
    return sorted(map(tuple, np.concatenate(blocks).tolist()))


def halves(dataset, y=None):
    return random_split(dataset, [20, 10], generator=torch.Generator().manual_seed(0))


def subsets_of_subsets(dataset, y=None):
    shuffled = Subset(dataset, torch.randperm(N_ROWS, generator=torch.Generator().manual_seed(0)))
    return Subset(shuffled, range(5, N_ROWS)), Subset(shuffled, np.arange(5))


class TestNets:
    """The validation split of a skorch net."""

    @pytest.mark.parametrize("in_pipeline", [False, True])
    @pytest.mark.parametrize(
        ("split", "n_valid"),
        [
            ({}, 6),
            ({"train_split": ValidSplit(3)}, 10),
            ({"train_split": ValidSplit(0.2, stratified=True, random_state=0)}, 6),
            ({"train_split": ValidSplit(KFold(5, shuffle=True, random_state=0))}, 6),
            ({"train_split": halves}, 10),
            ({"train_split": subsets_of_subsets}, 5),
        ],
        ids=["default", "folds", "share", "shuffled", "random", "nested"],
    )
    def test_all_copies_of_a_row_are_on_one_side(self, split, n_valid, in_pipeline, copies):
        base = net(**split)
        if in_pipeline:
            base = make_pipeline(FunctionTransformer(), make_pipeline(FunctionTransformer(), base))
        fitted = smooth(base, n_augment=N_COPIES).estimator_
        train, valid = parts_of(fitted[-1][-1] if in_pipeline else fitted)
        assert not set(row_of(train[0])) & set(row_of(valid[0]))
        assert as_rows(train[0], valid[0]) == as_rows(copies.astype(np.float32))
        assert len(valid[0]) == n_valid * N_COPIES
        for rows, labels in (train, valid):
            np.testing.assert_array_equal(labels, Y[row_of(rows)])
        if split == {} or "share" in str(split):
            assert valid[1].mean() == 0.5

    def test_without_copies_they_would_not_be(self, copies):
        """The trap: skorch's split of the copies puts copies of a row on both sides."""
        plain = net().fit(copies.astype(np.float32), np.tile(Y, N_COPIES))
        train, valid = parts_of(plain)
        assert set(row_of(valid[0])) <= set(row_of(train[0]))

    @pytest.mark.parametrize("none", [None, False])
    def test_no_split(self, none, copies):
        train, valid = parts_of(smooth(net(train_split=none), n_augment=N_COPIES).estimator_)
        assert valid is None
        np.testing.assert_array_equal(train[0], copies.astype(np.float32))

    def test_validation_rows_of_their_own(self, copies):
        own = Dataset(X[:4].astype(np.float32), Y[:4])
        base = net(train_split=predefined_split(own))
        train, valid = parts_of(smooth(base, n_augment=N_COPIES).estimator_)
        np.testing.assert_array_equal(train[0], copies.astype(np.float32))
        np.testing.assert_array_equal(valid[0], own.X)

    def test_groups_reach_the_split(self):
        class WithGroups(NeuralNetClassifier):
            __metadata_request__fit: ClassVar = {"groups": True}

        groups = Y + 2 * (np.arange(N_ROWS) % 3)
        base = net(WithGroups, train_split=ValidSplit(GroupKFold(3)))
        with config_context(enable_metadata_routing=True):
            fitted = smooth(base, n_augment=2, fit_params={"groups": groups}).estimator_
        train, valid = (groups[row_of(rows)] for rows, _ in parts_of(fitted))
        assert not set(train) & set(valid)
        assert len(train) + len(valid) == 2 * N_ROWS


LOG = []


class Logged(GaussianNB):
    """Logs the rows it is fitted on, and what it is asked about."""

    def fit(self, X, y):
        self.entry_ = len(LOG)
        LOG.append((np.array(X), []))
        return super().fit(X, y)

    def predict_joint_log_proba(self, X):
        LOG[self.entry_][1].append(np.array(X))
        return super().predict_joint_log_proba(X)

    def predict(self, X):
        return self.classes_[self.predict_joint_log_proba(X).argmax(axis=1)]

    def predict_proba(self, X):
        LOG[self.entry_][1].append(np.array(X))
        return super().predict_proba(X)


def logged_splits(copies):
    """Every training part of the log that had a test part, with it; the rest are clean rows."""
    known = set(as_rows(copies))
    for train, asked in LOG:
        about = {row for X in asked for row in as_rows(X)} & known
        if about:
            yield train, np.array(sorted(about))


def logged_search(**params):
    return GridSearchCV(Logged(), {"var_smoothing": [1e-9]}, **params)


def masks(splits):
    for rows in splits:
        yield tuple(np.isin(np.arange(N_ROWS), part) for part in rows)


FOLDS = list(StratifiedKFold(3).split(X, Y))


class TestCrossValidation:
    """The ``cv`` of an estimator that sees all rows."""

    @pytest.fixture(autouse=True)
    def log(self):
        LOG.clear()
        yield
        LOG.clear()

    @pytest.mark.parametrize("in_pipeline", [False, True])
    @pytest.mark.parametrize(
        ("base", "n_splits"),
        [
            (logged_search(cv=3), 3),
            (logged_search(), 5),
            (logged_search(cv=KFold(4, shuffle=True, random_state=0)), 4),
            (logged_search(cv=RepeatedStratifiedKFold(n_splits=2, n_repeats=2, random_state=0)), 4),
            (logged_search(cv=PredefinedSplit(np.arange(N_ROWS) % 4 - 1)), 3),
            (logged_search(cv=FOLDS), 3),
            (logged_search(cv=list(masks(FOLDS))), 3),
            (CalibratedClassifierCV(Logged(), cv=3), 3),
            (CalibratedClassifierCV(Logged(), ensemble=False), 5),
            (StackingClassifier([("nb", Logged())], LogisticRegression(), cv=3), 3),
            (StackingClassifier([("nb", Logged())], LogisticRegression(), cv=FOLDS), 3),
            (TunedThresholdClassifierCV(Logged(), cv=3), 3),
        ],
        ids=[
            *("int", "none", "shuffled", "repeated", "predefined", "list", "masks"),
            *("calibrated", "calibrated-once", "stacking", "stacking-list", "threshold"),
        ],
    )
    def test_all_copies_of_a_row_are_on_one_side(self, base, n_splits, in_pipeline, copies):
        cv = base.cv
        if in_pipeline:
            base = make_pipeline(FunctionTransformer(), make_pipeline(FunctionTransformer(), base))
        smooth(base, n_augment=N_COPIES)
        splits = list(logged_splits(copies))
        assert len(splits) == n_splits
        for train, test in splits:
            assert not set(row_of(train)) & set(row_of(test))
            if not isinstance(cv, PredefinedSplit):  # which leaves some rows out of all tests
                assert as_rows(train, test) == as_rows(copies)
            for part in (train, test):
                assert (np.bincount(row_of(part))[np.unique(row_of(part))] == N_COPIES).all()

    def test_without_it_they_would_not_be(self, copies):
        logged_search(cv=KFold(3)).fit(copies, np.tile(Y, N_COPIES))
        for train, test in logged_splits(copies):
            assert set(row_of(test)) <= set(row_of(train))

    @pytest.mark.filterwarnings("ignore::FutureWarning:sklearn")
    @pytest.mark.parametrize(
        ("base", "cv", "what"),
        [
            (LogisticRegressionCV(Cs=[1e-3, 1.0]), 3, "scores_"),
            (LogisticRegressionCV(Cs=[1e-3, 1.0]), KFold(4), "scores_"),
            (RidgeClassifierCV(), 3, "coef_"),
            (RFECV(LogisticRegression()), 4, "cv_results_"),
            (GridSearchCV(GaussianNB(), {"var_smoothing": [1e-9, 1.0]}), 3, "cv_results_"),
            (StackingClassifier([("nb", GaussianNB())], LogisticRegression()), 3, "final"),
        ],
        ids=["logistic", "logistic-kfold", "ridge", "elimination", "search", "stacking"],
    )
    def test_fits_as_with_folds_written_out(self, base, cv, what, copies):
        fitted = smooth(clone(base).set_params(cv=cv), n_augment=N_COPIES).estimator_
        folds = (StratifiedKFold(cv) if isinstance(cv, int) else cv).split(X, Y)
        origin = np.tile(np.arange(N_ROWS), N_COPIES)
        written = [tuple(np.flatnonzero(np.isin(origin, part)) for part in f) for f in folds]
        by_hand = clone(base).set_params(cv=written).fit(copies, np.tile(Y, N_COPIES))
        for one, other in zip(learnt(fitted, what), learnt(by_hand, what), strict=True):
            np.testing.assert_array_equal(one, other)

    @pytest.mark.parametrize("cv", [GroupKFold(3), LeaveOneGroupOut()])
    def test_groups_reach_the_splitter(self, cv, copies):
        groups = np.arange(N_ROWS) % 3
        with config_context(enable_metadata_routing=True):
            fit_params = {"groups": groups}
            fitted = smooth(logged_search(cv=cv), n_augment=N_COPIES, fit_params=fit_params)
        splits = list(logged_splits(copies))
        assert len(splits) == fitted.estimator_.n_splits_ == 3
        for train, test in splits:
            assert len(set(row_of(test) % 3)) == 1
            assert not set(row_of(train) % 3) & set(row_of(test) % 3)

    def test_leave_one_out_leaves_out_one_row(self, copies):
        rows = slice(0, 8)
        smooth(logged_search(cv=LeaveOneOut()), X[rows], Y[rows], n_augment=2)
        splits = [entry for entry in LOG if len(entry[0]) == 14]
        assert len(splits) == 8
        assert sorted(set(range(8)) - set(row_of(train)) for train, _ in splits) == [
            {i} for i in range(8)
        ]

    def test_fitted_models_are_left_alone(self):
        tree = FrozenEstimator(DecisionTreeClassifier(max_depth=1).fit(X, Y))
        base = StackingClassifier([("tree", tree)], LogisticRegression(), cv="prefit")
        assert smooth(base, n_augment=2).estimator_.cv == "prefit"

    @pytest.mark.parametrize("base", [logged_search(cv=3), "net"])
    def test_steps_that_drop_rows_are_refused(self, base):
        class Dropping(Pipeline):
            def fit(self, X, y):
                return super().fit(X[:-1], y[:-1])

        base = net() if base == "net" else base
        with pytest.raises(ValueError, match=r"60 noisy copies were made, and the .* splits 59"):
            smooth(Dropping([("last", base)]), n_augment=2)
        smooth(Dropping([("last", base)]), n_augment=1)


def learnt(fitted, what):
    if what == "final":
        return [fitted.final_estimator_.coef_, fitted.final_estimator_.intercept_]
    if what == "cv_results_":
        return [
            v for k, v in sorted(fitted.cv_results_.items()) if "score" in k and "time" not in k
        ]
    if what == "scores_":
        scores = fitted.scores_
        return [*(scores.values() if isinstance(scores, dict) else scores), fitted.coef_]
    return [fitted.coef_, fitted.intercept_]


REFUSED = {
    "voting": (VotingClassifier([("lr", LogisticRegressionCV(Cs=2))]), "lr__cv=None"),
    "voting-net": (VotingClassifier([("net", net())]), "net__train_split=<skorch"),
    "search-of-net": (GridSearchCV(net(), {"lr": [0.1]}, cv=2), "estimator__train_split=<skorch"),
    "search-of-search": (GridSearchCV(logged_search(cv=2), {}, cv=2), "estimator__cv=2"),
    "stacking-final": (
        StackingClassifier([("nb", GaussianNB())], logged_search(cv=2), cv=2),
        "final_estimator__cv=2",
    ),
    "selection": (
        make_pipeline(SequentialFeatureSelector(GaussianNB(), cv=2), GaussianNB()),
        "sequentialfeatureselector__cv=2",
    ),
    "encoder": (make_pipeline(TargetEncoder(cv=2), GaussianNB()), "targetencoder__cv=2"),
    "encoder-then-search": (
        make_pipeline(TargetEncoder(cv=2), logged_search(cv=3)),
        "targetencoder__cv=2",
    ),
    "share": (TunedThresholdClassifierCV(GaussianNB(), cv=0.3), r"cv=0\.3"),
    "mlp": (MLPClassifier((2,), max_iter=2, early_stopping=True), "early_stopping=True"),
    "mlp-numpy": (
        MLPClassifier((2,), max_iter=2, early_stopping=np.True_),
        r"early_stopping=np\.True_",
    ),
    "sgd": (
        make_pipeline(StandardScaler(), SGDClassifier(early_stopping=True)),
        "sgdclassifier__early_stopping=True",
    ),
    "hist": (HistGradientBoostingClassifier(max_iter=2, early_stopping=True), "early_stopping="),
    "boosting": (
        GradientBoostingClassifier(n_estimators=2, n_iter_no_change=3),
        "n_iter_no_change=3",
    ),
}
ACCEPTED = {
    "mlp": MLPClassifier((2,), max_iter=2),
    "sgd": make_pipeline(StandardScaler(), SGDClassifier()),
    "hist": HistGradientBoostingClassifier(max_iter=2),
    "hist-training-loss": HistGradientBoostingClassifier(
        max_iter=2, early_stopping=True, validation_fraction=None
    ),
    "boosting": GradientBoostingClassifier(n_estimators=2),
    "arrays": GaussianNB(priors=np.array([0.5, 0.5])),
    "search-of-net": GridSearchCV(net(train_split=None), {"lr": [0.1]}, cv=2),
    "net-that-stops": net(callbacks=[("early_stopping", EarlyStopping()), Parts()]),
    "frozen": VotingClassifier(
        [("search", FrozenEstimator(logged_search(cv=2).fit(X, Y))), ("nb", GaussianNB())]
    ),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning:sklearn")
class TestOtherHeldOutRows:
    @pytest.mark.parametrize(("base", "named"), REFUSED.values(), ids=REFUSED)
    def test_are_refused_by_name(self, base, named):
        smoother = RandomizedSmoothingClassifier(base, n_augment=2, **SETTINGS)
        with pytest.raises(ValueError, match=f"n_augment: the estimator's {named}.* both sides"):
            smoother.fit(X, Y)
        with pytest.raises(NotFittedError):
            check_is_fitted(smoother)

    @pytest.mark.parametrize("name", sorted(REFUSED.keys() - {"voting-net"}))  # float64 rows
    def test_are_accepted_with_one_copy(self, name):
        check_is_fitted(smooth(REFUSED[name][0], n_augment=1))

    @pytest.mark.parametrize("base", ACCEPTED.values(), ids=ACCEPTED)
    def test_what_holds_out_none_is_accepted(self, base):
        check_is_fitted(smooth(base, n_augment=2))

    @pytest.mark.parametrize("prefix", ["", "hist__"])
    def test_stopping_that_many_rows_switch_on(self, prefix):
        base = HistGradientBoostingClassifier()
        if prefix:
            base = VotingClassifier([("hist", base)])
        keep_copies_together(base, np.zeros(5000), 2)
        match = f"the estimator's {prefix}early_stopping='auto' makes it"
        with pytest.raises(ValueError, match=match):
            keep_copies_together(base, np.zeros(5001), 2)
        keep_copies_together(base, np.zeros(20_000), 1)
        off = {f"{prefix}early_stopping": False}
        keep_copies_together(base.set_params(**off), np.zeros(20_000), 2)


@pytest.fixture(scope="module")
def brittle():
    """The first feature says the label, and noise drowns it; the second is right for 9 in 10."""
    y = np.tile([0, 1], 100)
    agrees = np.arange(200) % 20 >= 2
    return np.column_stack([0.01 * y, np.where(agrees, 2, -2) * (2 * y - 1)]), y


class TestSmoothedClassifier:
    """What fitting on copies is for, and that it is fitting as ever."""

    stump = DecisionTreeClassifier(max_depth=1)

    def test_base_learns_what_survives_the_noise(self, brittle):
        X, y = brittle
        settings = {"sigma": 1.0, "n_certify_draws": 500}
        clean, noisy = (smooth(self.stump, X, y, n_augment=k, **settings) for k in (0, 10))
        assert clean.estimator_.score(X, y) == 1
        assert clean.certify(X).radius.max() < 0.3
        assert 0.3 < clean.score(X, y) < 0.7
        assert noisy.score(X, y) == 0.9
        assert noisy.certify(X).accuracy(y, 1.0) == 0.9

    def test_search_over_the_number_of_copies(self, brittle):
        smoother = RandomizedSmoothingClassifier(self.stump, **SETTINGS | {"sigma": 1.0})
        search = GridSearchCV(smoother, {"n_augment": [0, 5]}, cv=2, error_score="raise")
        search.fit(*brittle)
        assert search.best_params_ == {"n_augment": 5}
        assert search.best_estimator_.n_augment == 5
        assert search.best_score_ == 0.9

    def test_labels_are_strings(self, brittle):
        X, y = brittle
        names = np.array(["no", "yes"])[y]
        one = smooth(self.stump, X, y, sigma=1.0, n_augment=3)
        other = smooth(self.stump, X, names, sigma=1.0, n_augment=3)
        np.testing.assert_array_equal(one.certify(X).counts, other.certify(X).counts)
        np.testing.assert_array_equal(other.predict(X), np.array(["no", "yes"])[one.predict(X)])
        by_net = smooth(net(), X, names, sigma=1.0, n_augment=3)
        np.testing.assert_array_equal(by_net.classes_, ["no", "yes"])

    def test_inside_a_pipeline(self, brittle):
        X, y = brittle
        smoother = RandomizedSmoothingClassifier(self.stump, n_augment=3, **SETTINGS)
        pipeline = make_pipeline(StandardScaler(), smoother).fit(X, y)
        scaled = StandardScaler().fit_transform(X)
        by_hand = clone(smoother).fit(scaled, y)
        np.testing.assert_array_equal(
            pipeline[-1].certify(scaled).counts, by_hand.certify(scaled).counts
        )

    @pytest.mark.parametrize("library", ["pandas", "polars"])
    @pytest.mark.parametrize("denoiser", ["passthrough", ParzenDenoiser()])
    def test_base_that_selects_columns_by_name(self, denoiser, library, three_blobs):
        pytest.importorskip(library)
        X, y = three_blobs
        frame = rebuild_frame(X, ["width", "noise", "height"], library)

        def fitted(columns, X):
            base = make_pipeline(
                ColumnTransformer([("kept", StandardScaler(), columns)]),
                DecisionTreeClassifier(random_state=0),
            )
            smoother = EmpiricalBayesSmoothedClassifier(base, denoiser=denoiser, n_augment=2)
            return smoother.set_params(**SETTINGS | {"sigma": 0.5}).fit(X, y)

        by_name, by_position = fitted(["height", "width"], frame), fitted([2, 0], X)
        np.testing.assert_array_equal(by_name.certify(frame).counts, by_position.certify(X).counts)

    def test_clone_and_pickle_of_a_net_with_a_split(self, brittle):
        X, y = brittle
        smoother = EmpiricalBayesSmoothedClassifier(
            net(), denoiser=ParzenDenoiser(), n_augment=2, **SETTINGS | {"sigma": 1.0}
        )
        assert clone(smoother).get_params()["n_augment"] == 2
        smoother.fit(X, y)
        assert isinstance(smoother.estimator.train_split, ValidSplit)
        counts = smoother.certify(X[:20]).counts
        loaded = pickle.loads(pickle.dumps(smoother))
        np.testing.assert_array_equal(loaded.certify(X[:20]).counts, counts)
        np.testing.assert_array_equal(clone(loaded).fit(X, y).certify(X[:20]).counts, counts)
        loaded.estimator_.partial_fit(np.tile(X, (2, 1)).astype(np.float32), np.tile(y, 2))
