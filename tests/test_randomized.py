"""Smoothed classifiers: whose votes they count, and that nothing but the row changes them."""

import os
import pickle
import subprocess
import sys
from copy import deepcopy

import numpy as np
import pytest
import torch
from scipy.special import ndtr
from scipy.stats import binomtest
from sklearn.base import clone
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from skorch import NeuralNetClassifier
from torch import nn

from smoothlearn import (
    Certificate,
    CertifiedAccuracyScorer,
    DEENDenoiser,
    EmpiricalBayesSmoothedClassifier,
    ParzenDenoiser,
    RandomizedSmoothingClassifier,
    certify,
)
from smoothlearn.nn.voting import count_votes, row_seeds
from smoothlearn.theory.gaussian import more_draws_pay


def net(module=nn.Linear, **params):
    """A net of PyTorch's own modules, which every process can unpickle."""
    if module is nn.Linear:
        params = {"module__in_features": 3, "module__out_features": 3} | params
    return NeuralNetClassifier(
        module,
        criterion=nn.CrossEntropyLoss,
        lr=0.1,
        max_epochs=5,
        batch_size=16,
        train_split=None,
        verbose=0,
        **params,
    )


def bent_module():
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3))


def dropout_module():
    return nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Dropout(0.5), nn.Linear(16, 3))


def scalar_module():
    return nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 1))


def dropout_energy(n_features):
    return nn.Sequential(nn.Linear(n_features, 16), nn.SiLU(), nn.Dropout(0.5), nn.Linear(16, 1))


#: More than two chunks of draws, the last one not full.
SETTINGS = {"sigma": 1.0, "n_draws": 100, "n_certify_draws": 1200, "random_state": 0}
#: One for each way of counting votes.
KINDS = {
    "projected": RandomizedSmoothingClassifier(LogisticRegression(), **SETTINGS),
    "projected-network": RandomizedSmoothingClassifier(
        make_pipeline(StandardScaler(), net()), **SETTINGS
    ),
    "projected-deen": EmpiricalBayesSmoothedClassifier(
        LogisticRegression(),
        denoiser=DEENDenoiser(module=scalar_module(), max_epochs=2),
        **SETTINGS,
    ),
    "network": RandomizedSmoothingClassifier(
        make_pipeline(StandardScaler(), net(bent_module())), **SETTINGS
    ),
    "predictor": RandomizedSmoothingClassifier(DecisionTreeClassifier(max_depth=3), **SETTINGS),
    "linear-parzen": EmpiricalBayesSmoothedClassifier(
        LogisticRegression(), denoiser=ParzenDenoiser(), **SETTINGS
    ),
    "network-deen": EmpiricalBayesSmoothedClassifier(
        net(bent_module()), denoiser=DEENDenoiser(max_epochs=2), **SETTINGS
    ),
    "predictor-deen": EmpiricalBayesSmoothedClassifier(
        DecisionTreeClassifier(max_depth=3), denoiser=DEENDenoiser(max_epochs=2), **SETTINGS
    ),
}


@pytest.fixture(scope="module")
def rows():
    """75 rows in three classes that overlap, so that votes are split."""
    rng = np.random.default_rng(1)
    y = rng.permutation(np.repeat([0, 1, 2], 25))
    centres = np.array([[-1.0, 0.0, 0.0], [1.0, 0.3, 0.0], [0.0, 1.5, 0.5]])
    return centres[y] + 0.6 * rng.standard_normal((75, 3)), y


@pytest.fixture(scope="module", params=KINDS)
def fitted(request, rows):
    classifier = clone(KINDS[request.param]).fit(*rows)
    projected = np.ndim(classifier._ballot(rows[0]).noise) == 2
    assert projected is request.param.startswith("projected")
    assert projected or request.param.startswith(classifier._kind.replace("labels", "predictor"))
    return classifier


@pytest.fixture(scope="module")
def counts(fitted, rows):
    counts = fitted.certify(rows[0][:24]).counts
    assert np.median(counts.max(axis=1)) < 1200  # votes are split: equal counts mean equal noise
    return counts


def votes_for(fitted, X, purpose, n_draws):
    return fitted._count(X, fitted._ballot(X), purpose, n_draws)


class TestVotesDependOnTheRowAlone:
    def test_counts_sum_to_the_number_of_draws(self, counts):
        assert counts.shape == (24, 3)
        assert (counts.sum(axis=1) == 1200).all()

    def test_alone(self, fitted, counts, rows):
        for i in (0, 7, 23):
            np.testing.assert_array_equal(fitted.certify(rows[0][i : i + 1]).counts, counts[[i]])

    @pytest.mark.parametrize("size", [3, 16, 23])
    def test_in_batches_of_any_size(self, fitted, counts, rows, size):
        batches = [rows[0][start : min(start + size, 24)] for start in range(0, 24, size)]
        together = np.concatenate([fitted.certify(batch).counts for batch in batches])
        np.testing.assert_array_equal(together, counts)

    def test_in_any_order(self, fitted, counts, rows):
        order = np.random.default_rng(0).permutation(24)
        np.testing.assert_array_equal(fitted.certify(rows[0][order]).counts, counts[order])

    def test_among_other_rows(self, fitted, counts, rows):
        np.testing.assert_array_equal(fitted.certify(rows[0]).counts[:24], counts)

    @pytest.mark.parametrize("n_jobs", [1, 2, -1])
    def test_at_any_n_jobs(self, fitted, counts, rows, n_jobs):
        parallel = deepcopy(fitted).set_params(n_jobs=n_jobs)
        np.testing.assert_array_equal(parallel.certify(rows[0][:24]).counts, counts)
        np.testing.assert_array_equal(
            parallel.predict_proba(rows[0]), fitted.predict_proba(rows[0])
        )

    def test_again(self, fitted, counts, rows):
        np.testing.assert_array_equal(fitted.certify(rows[0][:24]).counts, counts)

    def test_behind_a_last_bit_change(self, fitted, counts, rows):
        """The noise is the same; a vote may differ only where it falls within the last bits."""
        X = np.nextafter(rows[0][:24], np.inf)
        assert np.abs(fitted.certify(X).counts - counts).max() <= 1


def test_another_process_counts_the_same_votes(rows, tmp_path):
    """The certificates of classifiers loaded, and of ones fitted, in another process."""
    X, y = rows
    fitted = {name: clone(classifier).fit(X, y) for name, classifier in KINDS.items()}
    given, result = tmp_path / "given.pkl", tmp_path / "result.pkl"
    given.write_bytes(pickle.dumps((fitted, KINDS, X, y)))
    script = """
import pickle, sys
import torch
from sklearn.base import clone
torch.set_num_threads(1)
fitted, kinds, X, y = pickle.load(open(sys.argv[1], "rb"))
loaded = {name: one.certify(X[:20]).counts for name, one in fitted.items()}
again = {name: clone(one).fit(X, y).certify(X[:20]).counts for name, one in kinds.items()}
pickle.dump((loaded, again), open(sys.argv[2], "wb"))
"""
    subprocess.run(
        [sys.executable, "-c", script, given, result],
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    loaded, again = pickle.loads(result.read_bytes())
    for name, classifier in fitted.items():
        here = classifier.certify(X[:20]).counts
        np.testing.assert_array_equal(loaded[name], here, err_msg=name)
        np.testing.assert_array_equal(again[name], here, err_msg=name)


class TestCertify:
    def test_labels_are_those_of_predict(self, fitted, rows):
        np.testing.assert_array_equal(fitted.certify(rows[0]).label, fitted.predict(rows[0]))

    def test_labels_are_those_of_predict_where_the_form_is_closed(self, two_blobs):
        X, y = two_blobs
        exact = RandomizedSmoothingClassifier(LogisticRegression()).fit(X, y)
        w, b = exact.estimator_.coef_[0], exact.estimator_.intercept_[0]
        foot = X - ((X @ w + b) / (w @ w))[:, None] * w
        close = np.concatenate([X, foot, foot + 1e-15, foot - 1e-15, foot + 1e-17 * w])
        for sigma in (1e-3, 1.0, 1e6):
            exact.set_params(sigma=sigma).fit(X, y)
            np.testing.assert_array_equal(exact.certify(close).label, exact.predict(close))

    def test_label_is_the_class_of_most_selection_votes(self, fitted, rows):
        votes = votes_for(fitted, rows[0], "predict", fitted.n_draws)
        np.testing.assert_array_equal(fitted.certify(rows[0]).label, votes.argmax(axis=1))
        np.testing.assert_array_equal(fitted.predict_proba(rows[0]), votes / fitted.n_draws)

    def test_selection_and_estimation_draws_differ(self, fitted, rows):
        selection = votes_for(fitted, rows[0], "predict", 500)
        estimation = votes_for(fitted, rows[0], "certify", 500)
        assert np.mean(np.any(selection != estimation, axis=1)) > 0.5

    def test_certified_radius_is_that_of_certify(self, fitted, rows):
        certificate = fitted.certify(rows[0])
        np.testing.assert_array_equal(fitted.certified_radius(rows[0]), certificate.radius)
        assert (certificate.radius > 0).any()
        assert (certificate.radius[certificate.abstained] == 0).all()

    def test_votes_are_those_of_the_base_at_noisy_rows(self, fitted, rows):
        """Frequencies agree with a plain simulation through the estimators' own methods."""
        X = rows[0][::10]
        n_draws = 3000
        frequencies = (
            deepcopy(fitted).set_params(n_certify_draws=n_draws).certify(X).counts / n_draws
        )
        noise = np.random.default_rng(5).standard_normal((n_draws, 3))
        for row, frequency in zip(X, frequencies, strict=True):
            noisy = row + fitted.sigma_ * noise
            if fitted.denoiser_ is not None:
                noisy = fitted.denoiser_.transform(noisy)
            labels = fitted.estimator_.predict(noisy.astype(np.float32))
            expected = np.bincount(labels, minlength=3) / n_draws
            assert np.abs(frequency - expected).max() < 5 * np.sqrt(2 * 0.25 / n_draws)


@pytest.fixture(scope="module", params=["predictor", "projected-deen", "network"])
def staged(request, rows):
    """Fitted, with few draws for every row and many for those that are nearly unanimous."""
    classifier = clone(KINDS[request.param]).set_params(n_certify_draws=(200, 1200), sigma=0.35)
    return classifier.fit(*rows)


@pytest.fixture(scope="module")
def certificate(staged, rows):
    certificate = staged.certify(rows[0])
    assert set(certificate.n_draws) == {200, 1200}
    return certificate


class TestTwoStages:
    def test_first_stage_is_a_certificate_of_so_many_draws(self, staged, certificate, rows):
        first = deepcopy(staged).set_params(n_certify_draws=200).certify(rows[0])
        np.testing.assert_array_equal(first.counts, votes_for(staged, rows[0], "certify", 200))
        more = certificate.counts - first.counts
        assert (more >= 0).all()
        winner = votes_for(staged, rows[0], "predict", 100).argmax(axis=1)
        went_on = more_draws_pay(first.counts, winner, 1200, (1 - 0.999) / 2)
        np.testing.assert_array_equal(more.sum(axis=1), np.where(went_on, 1000, 0))
        np.testing.assert_array_equal(first.label, certificate.label)

    def test_second_stage_has_noise_of_its_own(self, staged, certificate, rows):
        went_on = certificate.n_draws == 1200
        first = votes_for(staged, rows[0], "certify", 200)
        again = votes_for(staged, rows[0], "certify", 1000)
        selection = votes_for(staged, rows[0], "predict", 1000)
        more = (certificate.counts - first)[went_on]
        split = more.max(axis=1) < 995
        for other in (again, selection):
            assert np.mean((more != other[went_on]).any(axis=1)[split]) > 0.5

    def test_certificate_says_what_it_is(self, staged, certificate, rows):
        expected = Certificate.from_votes(
            certificate.counts,
            winner=staged.predict(rows[0]),
            classes=np.arange(3),
            sigma=0.35,
            confidence_level=0.999,
            n_features=3,
            stages=(200, 1200),
        )
        if certificate.displacement is not None:
            expected = expected.displaced(certificate.displacement)
        np.testing.assert_array_equal(certificate.radius, expected.radius)
        np.testing.assert_array_equal(certificate.label, expected.label)
        assert certificate.stages == (200, 1200)
        assert certificate.procedure == "two-stage"
        single = deepcopy(staged).set_params(n_certify_draws=1200).certify(rows[0])
        assert single.stages is None
        assert single.procedure == "fixed"
        assert certificate.largest_radius < single.largest_radius

    def test_counts_depend_on_the_row_alone(self, staged, certificate, rows):
        order = np.random.default_rng(0).permutation(75)
        shuffled = staged.certify(rows[0][order])
        np.testing.assert_array_equal(shuffled.counts, certificate.counts[order])
        parallel = deepcopy(staged).set_params(n_jobs=2).certify(rows[0])
        np.testing.assert_array_equal(parallel.counts, certificate.counts)
        for n_draws in (200, 1200):
            alone = np.flatnonzero(certificate.n_draws == n_draws)[:3]
            some = staged.certify(rows[0][alone])
            np.testing.assert_array_equal(some.counts, certificate.counts[alone])
            assert some.stages == (200, 1200)
            assert some.largest_radius == certificate.largest_radius

    def test_rows_are_kept_apart_from_their_displacement(self, staged, rows):
        ballot = staged._ballot(rows[0])
        some = ballot.of(np.array([5, 2]))
        np.testing.assert_array_equal(some.rows, ballot.rows[[5, 2]])
        np.testing.assert_array_equal(some.displacement, ballot.displacement[[5, 2]])
        assert some.vote is ballot.vote

    def test_no_rows(self, staged, rows):
        assert staged.certify(rows[0][:0]).counts.shape == (0, 3)

    def test_draws_may_change_after_fit_and_need_no_tuple(self, staged, certificate, rows):
        changed = deepcopy(staged).set_params(n_certify_draws=[np.int64(200), 1200])
        again = changed.certify(rows[0])
        np.testing.assert_array_equal(again.counts, certificate.counts)
        assert again.stages == (200, 1200)
        assert all(type(stage) is int for stage in again.stages)
        clone(changed)

    def test_raw_units(self, rows):
        smoother = clone(KINDS["predictor"]).set_params(n_certify_draws=(200, 1200), sigma=0.35)
        pipeline = make_pipeline(StandardScaler(), smoother).fit(*rows)
        inner, raw = certify(pipeline, rows[0], units="smoother"), certify(pipeline, rows[0])
        assert raw.stages == inner.stages == (200, 1200)
        assert raw.largest_radius == pytest.approx(inner.largest_radius * raw.scale)
        assert set(raw.n_draws) == {200, 1200}

    def test_no_stages_in_closed_form(self, two_blobs):
        exact = RandomizedSmoothingClassifier(LogisticRegression(), n_certify_draws=(10, 20))
        certificate = exact.fit(*two_blobs).certify(two_blobs[0])
        assert certificate.procedure == "exact"
        assert certificate.stages is None


def test_noise_of_the_two_purposes_is_uncorrelated():
    X = np.zeros((2, 4))
    seen = {}

    def record(batch, generator):
        seen.setdefault(purpose, []).append(batch.clone())
        return torch.zeros(len(batch), dtype=torch.int64)

    for purpose in ("predict", "certify"):
        seeds = row_seeds(X, sigma=1.0, noise_seed=17, purpose=purpose)
        options = {"noise": 1.0, "n_draws": 2000, "n_classes": 1, "device": torch.device("cpu")}
        count_votes(record, X, seeds, **options)
    one, other = torch.cat(seen["predict"]).ravel(), torch.cat(seen["certify"]).ravel()
    assert not set(one.tolist()) & set(other.tolist())
    assert abs(float(torch.corrcoef(torch.stack([one, other]))[0, 1])) < 5 / len(one) ** 0.5


def test_parameters_set_after_fit_change_no_certificate(fitted, rows):
    X = rows[0][:20]
    before, probabilities = fitted.certify(X), fitted.predict_proba(X)
    changed = deepcopy(fitted).set_params(sigma=7.0, random_state=5)
    if hasattr(changed, "denoiser"):
        changed.set_params(denoiser__sigma=3.0)
    after = changed.certify(X)
    np.testing.assert_array_equal(after.counts, before.counts)
    np.testing.assert_array_equal(after.radius, before.radius)
    assert after.sigma == before.sigma == 1.0
    np.testing.assert_array_equal(changed.predict_proba(X), probabilities)


def global_state():
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    return torch.get_rng_state().tolist(), torch.get_num_threads(), kind, keys.tolist(), rest


@pytest.mark.parametrize(
    "classifier",
    [
        *KINDS.values(),
        RandomizedSmoothingClassifier(net(dropout_module()), **SETTINGS),
        EmpiricalBayesSmoothedClassifier(
            net(dropout_module()),
            denoiser=DEENDenoiser(module=dropout_energy, max_epochs=2),
            **SETTINGS,
        ),
        RandomizedSmoothingClassifier(net(), **SETTINGS | {"random_state": None}),
    ],
    ids=[*KINDS, "network-dropout", "network-deen-dropout", "network-no-seed"],
)
def test_global_generators_and_threads_are_left_alone(classifier, rows):
    X, y = rows
    classifier = clone(classifier).set_params(n_jobs=2)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        before = global_state()
        classifier.fit(X, y)
        assert global_state() == before
        classifier.predict(X)
        assert global_state() == before
        classifier.certify(X[:20])
        assert global_state() == before
    finally:
        torch.set_num_threads(threads)


class TestRandomState:
    @pytest.mark.parametrize(
        "classifier",
        [
            *KINDS.values(),
            EmpiricalBayesSmoothedClassifier(
                net(dropout_module()),
                denoiser=DEENDenoiser(module=dropout_energy, max_epochs=2),
                **SETTINGS,
            ),
        ],
        ids=[*KINDS, "dropout"],
    )
    def test_an_int_gives_the_same_fit_and_counts(self, classifier, rows):
        X, y = rows
        torch.manual_seed(0)
        one = clone(classifier).fit(X, y)
        torch.manual_seed(1)
        other = clone(classifier).fit(X, y)
        assert one.noise_seed_ == other.noise_seed_
        np.testing.assert_array_equal(one.certify(X[:20]).counts, other.certify(X[:20]).counts)
        if isinstance(one.denoiser_, DEENDenoiser):
            for name, weight in one.denoiser_.weights_.items():
                np.testing.assert_array_equal(weight, other.denoiser_.weights_[name])

    def test_none_gives_other_noise_in_every_fit(self, rows):
        smoother = RandomizedSmoothingClassifier(LogisticRegression(), **SETTINGS)
        smoother.set_params(random_state=None)
        seeds = set()
        for _ in range(5):
            np.random.seed(0)  # noqa: NPY002
            torch.manual_seed(0)
            seeds.add(smoother.fit(*rows).noise_seed_)
        assert len(seeds) == 5

    def test_other_ints_give_other_noise(self, rows):
        smoother = clone(KINDS["projected"])
        one = smoother.fit(*rows).certify(rows[0]).counts
        other = smoother.set_params(random_state=1).fit(*rows).certify(rows[0]).counts
        assert np.any(one != other)

    def test_an_instance_moves_on(self, rows):
        smoother = clone(KINDS["projected"]).set_params(random_state=np.random.RandomState(3))
        first, second = smoother.fit(*rows).noise_seed_, smoother.fit(*rows).noise_seed_
        smoother.set_params(random_state=np.random.RandomState(3))
        assert first != second
        assert smoother.fit(*rows).noise_seed_ == first

    def test_seeds_of_parts_that_have_none(self, rows):
        smoother = clone(KINDS["predictor-deen"]).fit(*rows)
        assert smoother.estimator_.random_state is not None
        assert smoother.denoiser_.random_state is not None
        assert smoother.estimator.random_state is smoother.denoiser.random_state is None
        smoother.set_params(estimator__random_state=11).fit(*rows)
        assert smoother.estimator_.random_state == 11


class TestPredictProba:
    @pytest.mark.parametrize("base", [
        LogisticRegression(),
        make_pipeline(StandardScaler(), LogisticRegression()),
    ])  # fmt: skip
    @pytest.mark.parametrize("denoiser", [None, "passthrough"])
    def test_is_exact_for_linear_bases_with_two_classes(self, base, denoiser, two_blobs):
        X, y = two_blobs
        X = X * [1.0, 3.0]
        if denoiser is None:
            smoother = RandomizedSmoothingClassifier(base, sigma=0.8)
        else:
            smoother = EmpiricalBayesSmoothedClassifier(base, denoiser=denoiser, sigma=0.8)
        smoother.fit(X, y)
        linear = clone(base).fit(X, y)
        slope = [linear.decision_function(np.eye(2)[[i]]) for i in range(2)]
        w = np.ravel(slope) - linear.decision_function(np.zeros((1, 2)))
        margin = linear.decision_function(X) / np.linalg.norm(w)
        np.testing.assert_allclose(
            smoother.predict_proba(X), ndtr(np.c_[-margin, margin] / 0.8), rtol=1e-9
        )
        certificate = smoother.certify(X)
        np.testing.assert_allclose(certificate.radius, np.abs(margin), rtol=1e-9)
        assert certificate.confidence_level == 1.0
        np.testing.assert_array_equal(smoother.predict(X), linear.predict(X))

    def test_is_not_exact_with_a_denoiser(self, two_blobs):
        X, y = two_blobs
        smoother = EmpiricalBayesSmoothedClassifier(
            LogisticRegression(), denoiser=ParzenDenoiser(), n_draws=10, random_state=0
        ).fit(X, y)
        frequencies = smoother.predict_proba(X) * 10
        np.testing.assert_array_equal(frequencies, np.round(frequencies))


class TestAbstains:
    @pytest.mark.parametrize("confidence_level", [0.9, 0.999])
    def test_is_the_binomial_test_of_the_two_most_voted(self, fitted, rows, confidence_level):
        changed = deepcopy(fitted).set_params(confidence_level=confidence_level)
        abstained = changed.abstains(rows[0])
        votes = np.sort(votes_for(fitted, rows[0], "predict", fitted.n_draws), axis=1)
        expected = [
            binomtest(int(row[-1]), int(row[-1] + row[-2]), 0.5).pvalue > 1 - confidence_level
            for row in votes
        ]
        np.testing.assert_array_equal(abstained, expected)
        assert abstained.dtype == bool
        assert 0 < abstained.sum() < len(abstained)

    def test_never_where_the_form_is_closed(self, two_blobs):
        exact = RandomizedSmoothingClassifier(LogisticRegression()).fit(*two_blobs)
        assert not exact.abstains(two_blobs[0]).any()


class TestModelSelection:
    @pytest.mark.parametrize(("n_classes", "interest"), [(2, None), (3, None), (3, 1)])
    def test_certified_radius_is_a_response_of_decision_boundaries(self, rows, n_classes, interest):
        if n_classes > 2 and interest is None:
            pytest.importorskip("sklearn", "1.9", reason="older ones ask for a class of interest")
        X, y = rows
        X, y = X[y < n_classes, :2], y[y < n_classes]
        smoother = RandomizedSmoothingClassifier(
            DecisionTreeClassifier(max_depth=3), n_certify_draws=200, random_state=0
        ).fit(X, y)
        display = DecisionBoundaryDisplay.from_estimator(
            smoother,
            X,
            response_method="certified_radius",
            class_of_interest=interest,
            grid_resolution=12,
        )
        grid = np.c_[display.xx0.ravel(), display.xx1.ravel()]
        expected = smoother.certified_radius(grid)
        np.testing.assert_array_equal(display.response.ravel(), expected)
        assert (expected > 0).any()
        display.figure_.clear()

    def test_grid_search_over_sigma_in_two_jobs(self, rows):
        search = GridSearchCV(
            make_pipeline(StandardScaler(), clone(KINDS["linear-parzen"])),
            {"empiricalbayessmoothedclassifier__sigma": [0.3, 0.6]},
            scoring=CertifiedAccuracyScorer(radius=0.1),
            cv=2,
            n_jobs=2,
            error_score="raise",
        ).fit(*rows)
        best = search.best_params_["empiricalbayessmoothedclassifier__sigma"]
        smoother = search.best_estimator_[-1]
        assert best == smoother.sigma_ == smoother.denoiser_.sigma_
        by_hand = make_pipeline(StandardScaler(), clone(KINDS["linear-parzen"]))
        by_hand.set_params(empiricalbayessmoothedclassifier__sigma=best)
        scores = cross_val_score(by_hand, *rows, cv=2, scoring=CertifiedAccuracyScorer(radius=0.1))
        assert search.best_score_ == pytest.approx(scores.mean(), abs=1e-12)
        assert search.best_score_ > 0.4
        certificate = certify(search, rows[0], radius=0.1)
        assert certificate.accuracy(rows[1], 0.1) == search.score(*rows)

    def test_grid_search_over_draws_in_one_and_two_stages(self, rows):
        search = GridSearchCV(
            clone(KINDS["projected"]),
            {"n_certify_draws": [(20, 200), 100, (50, 100)], "n_draws": [20, 30]},
            scoring=CertifiedAccuracyScorer(radius=0.1),
            cv=2,
            error_score="raise",
        ).fit(*rows)
        assert [params["n_certify_draws"] for params in search.cv_results_["params"]] == [
            *[(20, 200)] * 2, *[100] * 2, *[(50, 100)] * 2
        ]  # fmt: skip
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()
        best = search.best_params_["n_certify_draws"]
        assert search.best_estimator_.n_certify_draws == best

    def test_halving_search(self, rows):
        search = HalvingGridSearchCV(
            clone(KINDS["projected"]),
            {"sigma": [0.1, 0.3, 0.5, 1.0]},
            scoring=CertifiedAccuracyScorer(radius=0.1),
            cv=2,
            min_resources=20,
            random_state=0,
            error_score="raise",
        ).fit(*rows)
        assert search.n_iterations_ >= 2
        assert search.best_estimator_.sigma_ == search.best_params_["sigma"]
        assert np.isfinite(search.cv_results_["mean_test_score"]).all()

    def test_cross_validate_with_two_scores(self, rows):
        pipeline = make_pipeline(StandardScaler(), clone(KINDS["projected"]))
        scoring = {
            "raw": CertifiedAccuracyScorer(radius=0.3),
            "scaled": CertifiedAccuracyScorer(radius=0.3, units="smoother"),
            "accuracy": "accuracy",
        }
        scores = cross_validate(pipeline, *rows, scoring=scoring, cv=3, error_score="raise")
        # Scaling divides by less than one here: the same rows have smaller raw radii.
        assert (scores["test_raw"] < scores["test_scaled"]).all()
        assert (scores["test_scaled"] <= scores["test_accuracy"]).all()

    def test_search_over_the_sigma_of_the_denoiser_fails_loudly(self, rows):
        search = GridSearchCV(clone(KINDS["linear-parzen"]), {"denoiser__sigma": [0.2, 0.4]}, cv=2)
        with pytest.raises(ValueError, match=r"denoiser has sigma=0\.2.* search over"):
            clone(search).set_params(error_score="raise").fit(*rows)
        with pytest.raises(
            ValueError, match=r"All the 4 fits failed(.|\n)*denoiser has sigma=0\.2"
        ):
            search.fit(*rows)
