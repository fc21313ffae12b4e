"""Soft votes: smoothed probabilities, beside what they are in closed form or by quadrature."""

import pickle

import numpy as np
import pytest
import torch
from scipy.special import ndtr
from scipy.special import softmax as softmax_of
from scipy.stats import binom
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from smoothlearn import (
    Certificate,
    CertifiedAccuracyScorer,
    DEENDenoiser,
    EmpiricalBayesSmoothedClassifier,
    ParzenDenoiser,
    RandomizedSmoothingClassifier,
    XHATClassifier,
    certify,
)
from smoothlearn.theory import gaussian, means

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")

Z = np.linspace(-9, 9, 721)
WEIGHTS = np.exp(-(Z**2) / 2) / np.exp(-(Z**2) / 2).sum()


class Given(ClassifierMixin, BaseEstimator):
    """A classifier whose probabilities are a function of the rows."""

    def __init__(self, function):
        self.function = function

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, X):
        return self.function(np.asarray(X))

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class PredictsByItself(Given):
    def predict(self, X):
        return (np.asarray(X)[:, 0] > 0).astype(int)


def probit(width):
    """Two classes, the second with the probability Phi(x/width)."""
    return lambda X: np.stack([ndtr(-X[:, 0] / width), ndtr(X[:, 0] / width)], axis=1)


def smoothed_probit(x, width, sigma):
    """E Phi((x + sigma z)/width), in closed form."""
    return ndtr(x / np.hypot(width, sigma))


SLOPES, OFFSETS = np.array([-4.0, 0.0, 3.0]), np.array([0.0, 1.0, -1.5])


def three(X):
    """Three classes along the first feature."""
    return softmax_of(np.outer(X[:, 0], SLOPES) + OFFSETS, axis=1)


def three_smoothed(x, sigma):
    """E three(x + sigma z), by quadrature."""
    points = np.reshape(x, (-1, 1)) + sigma * Z
    p = three(points.reshape(-1, 1)).reshape(*points.shape, 3)
    return np.einsum("nzc,z->nc", p, WEIGHTS)


def soft(base, X, y, **params):
    settings = {"vote": "soft", "random_state": 0, "sigma": 0.5} | params
    return RandomizedSmoothingClassifier(base, **settings).fit(X, y)


def along_a_line(low, high, n, y=(0, 1)):
    """Rows whose first feature runs from low to high, each with noise of its own; labels of any."""
    X = np.stack([np.linspace(low, high, n), np.arange(n)], axis=1)
    return X, np.resize(y, n)


def at_most(failures, n, probability):
    """That so many failures are no surprise; a false alarm once in 10^7."""
    assert failures <= binom.ppf(1 - 1e-7, n, probability)


class TestAgainstTheTruth:
    """False alarms: at most 1e-7 for each assertion on a number of failures."""

    @pytest.mark.parametrize("width", [0.1, 1.0])
    @pytest.mark.parametrize("n_certify_draws", [60, (60, 600)])
    def test_bounds_and_radii_of_two_classes(self, width, n_certify_draws):
        X, y = along_a_line(-1.5, 1.5, 400)
        smoother = soft(
            Given(probit(width)), X, y, confidence_level=0.8, n_certify_draws=n_certify_draws
        )
        certificate = smoother.certify(X)
        p = smoothed_probit(np.abs(X[:, 0]), width, 0.5)
        right = certificate.label == (X[:, 0] > 0)
        at_most(np.sum(certificate.p_lower > np.where(right, p, 1 - p)), 400, 0.2)
        at_most(np.sum(certificate.radius > np.where(right, np.abs(X[:, 0]), 0)), 400, 0.2)
        most = 0.5 * np.abs(X[:, 0]) / np.hypot(width, 0.5)
        at_most(np.sum(certificate.radius > np.where(right, most, 0)), 400, 0.2)
        far = np.abs(X[:, 0]) > 1.0
        assert np.mean(certificate.radius[far] / most[far]) > 0.5
        assert 0 < certificate.abstained.mean() < 0.6

    def test_bounds_and_attacks_of_three_classes(self):
        X, y = along_a_line(-2.0, 3.0, 400, y=(0, 1, 2))
        certificate = soft(
            LogisticRegressionOf(SLOPES, OFFSETS), X, y, confidence_level=0.7, n_certify_draws=300
        ).certify(X)
        p = three_smoothed(X[:, 0], 0.5)
        rows, label = np.arange(400), certificate.label
        others = p.copy()
        others[rows, label] = 0
        too_high = certificate.p_lower > p[rows, label]
        at_most(np.sum(too_high), 400, 0.27)
        at_most(np.sum(certificate.p_upper < others.max(axis=1)), 400, 0.3)
        kept = ~certificate.abstained
        moved = [
            three_smoothed(X[:, 0] + side * 0.999 * certificate.radius, 0.5).argmax(axis=1)
            for side in (-1, 1)
        ]
        flipped = kept & ((moved[0] != label) | (moved[1] != label))
        at_most(np.sum(flipped), 400, 0.3)
        assert kept.mean() > 0.7
        assert certificate.radius.max() > 0.5

    @pytest.mark.parametrize("width", [0.1, 0.8])
    def test_decisions_at_a_radius(self, width):
        X, y = along_a_line(-1.0, 1.0, 300)
        X[:, 0] = 0.3 * np.hypot(width, 0.5) / 0.5 * np.repeat([0.98, 1.25, 2.0], 100)
        smoother = soft(
            Given(probit(width)), X, y, confidence_level=0.95, n_certify_draws=2000, n_draws=20
        )
        certificate = smoother.certify(X, radius=0.3)
        assert certificate.procedure == "anytime"
        without, with_it, far = np.split(certificate.radius == 0.3, 3)
        at_most(without.sum(), 100, 0.05)
        assert with_it.mean() > 0.9
        assert far.mean() > 0.9
        assert certificate.n_draws[200:].mean() < 500

    def test_capped_radii(self):
        X, y = along_a_line(-1.5, 1.5, 400)
        smoother = soft(Given(probit(0.4)), X, y, confidence_level=0.8, n_certify_draws=2000)
        certificate = smoother.certify(X, max_radius=0.3)
        most = 0.5 * np.abs(X[:, 0]) / np.hypot(0.4, 0.5)
        most = np.where(certificate.label == (X[:, 0] > 0), most, 0)
        at_most(np.sum(certificate.radius > most), 400, 0.2)
        assert certificate.radius.max() == 0.3
        assert np.mean(certificate.radius[most > 0.5] == 0.3) > 0.9
        assert certificate.n_draws.mean() < 1800

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_moments_of_a_linear_base(self, n_classes):
        # Rows and weights lie in a line of six dimensions, the noise in all of them.
        line = np.array([[3.0, -1.0, 2.0, 1.0, -1.0, 0.0]]) / 4
        X = np.linspace(-2.0, 2.0, 120)[:, np.newaxis] @ line
        smoother = soft(LogisticRegression(), X, np.arange(120) * n_classes // 120, sigma=0.8)
        base = smoother.estimator_
        certificate = smoother.set_params(n_certify_draws=1000).certify(X)
        points = np.linspace(-2.0, 2.0, 120)[:, np.newaxis] + 0.8 * Z
        p = base.predict_proba(points.reshape(-1, 1) @ line).reshape(*points.shape, n_classes)
        for power, mean in enumerate(np.moveaxis(certificate.sums / 1000, 1, 0), start=1):
            expected, squared = (np.einsum("nzc,z->nc", p**k, WEIGHTS) for k in (power, 2 * power))
            off = (mean - expected) / np.sqrt((squared - expected**2) / 1000)
            # the mean of 120 squares that have the mean 1 each: 0.13 its standard deviation
            assert np.all(np.abs(np.mean(off**2, axis=0) - 1) < 0.8)

    def test_predictions_that_do_not_abstain(self):
        X, y = along_a_line(-1.5, 2.5, 400, y=(0, 1, 2))
        smoother = soft(LogisticRegressionOf(SLOPES, OFFSETS), X, y, confidence_level=0.7)
        truth = three_smoothed(X[:, 0], 0.5)
        sure = ~smoother.abstains(X)
        at_most(np.sum(sure & (smoother.predict(X) != truth.argmax(axis=1))), 400, 0.3)
        assert 0.5 < sure.mean() < 1


class LogisticRegressionOf(LogisticRegression):
    """A logistic regression on the first feature with these coefficients."""

    def __init__(self, slopes=None, offsets=None):
        super().__init__()
        self.slopes = slopes
        self.offsets = offsets

    def fit(self, X, y):
        super().fit(X, y)
        self.coef_ = np.zeros_like(self.coef_)
        self.coef_[:, 0] = self.slopes
        self.intercept_ = np.array(self.offsets, float)
        return self


def blobs(n_classes=3, n_features=6):
    rng = np.random.default_rng(0)
    y = np.arange(120) % n_classes
    centers = 1.5 * rng.standard_normal((n_classes, n_features))
    return centers[y] + rng.standard_normal((120, n_features)), y


def probabilities(smoother, X):
    """What the base itself says."""
    base = smoother.estimator_
    return base.predict_proba(X.astype(np.float32) if isinstance(base, NeuralNet) else X)


def assert_means(p, votes):
    """That p has the mean of the votes, as many as are behind p; a false alarm once in 10^9."""
    spread = votes.std(axis=0) / np.sqrt(len(votes))
    rare = 20 / len(votes)
    assert np.all(np.abs(votes.mean(axis=0) - p) < 6.5 * np.sqrt(2) * spread + rare)


def net(module, kind=NeuralNetClassifier, **params):
    settings = {"lr": 0.1, "max_epochs": 3, "train_split": None, "verbose": 0} | params
    return kind(module, **settings)


def logits(n_out, n_features=6):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(n_features, 4), nn.Tanh(), nn.Linear(4, n_out))


class Normalised(nn.Module):
    """Probabilities that are not a softmax."""

    def __init__(self):
        super().__init__()
        self.layers = logits(3)

    def forward(self, X):
        p = 0.01 + torch.square(self.layers(X))
        return p / p.sum(dim=1, keepdim=True)


class Own(NeuralNetClassifier):
    """A net about which nothing is known but what it says."""

    def predict_proba(self, X):
        return super().predict_proba(X)


def twisted(outputs):
    return torch.softmax(2 * outputs.flip(1), dim=1)


class OneOutput(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = logits(1)

    def forward(self, X):
        return self.layers(X).squeeze(-1)


BASES = {
    "logistic-3": (LogisticRegression(), 3, "softmax"),
    "logistic-2": (make_pipeline(StandardScaler(), LogisticRegression()), 2, "softmax"),
    "sgd-2": (SGDClassifier(loss="log_loss", random_state=0), 2, "softmax"),
    "sgd-3": (SGDClassifier(loss="log_loss", random_state=0), 3, "predict_proba"),
    "mlp": (MLPClassifier((4,), max_iter=10, random_state=0), 3, "softmax"),
    "mlp-2": (MLPClassifier((4,), max_iter=10, random_state=0), 2, "softmax"),
    "tree": (DecisionTreeClassifier(max_depth=2, random_state=0), 3, "predict_proba"),
    "cross-entropy": (net(logits(3), criterion=nn.CrossEntropyLoss), 3, "softmax"),
    "linear-net": (net(nn.Linear(6, 3), criterion=nn.CrossEntropyLoss), 3, "softmax"),
    "nll": (net(Normalised()), 3, "identity"),
    "users": (net(logits(3), predict_nonlinearity=twisted), 3, "users"),
    "binary": (net(OneOutput(), NeuralNetBinaryClassifier, threshold=0.8), 2, "softmax"),
}


@pytest.mark.parametrize(("base", "n_classes", "link"), BASES.values(), ids=BASES)
class TestProbabilitiesOfABase:
    def test_are_averaged_over_the_noise(self, base, n_classes, link):
        X, y = blobs(n_classes)
        smoother = soft(base, X, np.array(["a", "b", "c"])[y], n_draws=2000)
        assert smoother._link == link
        noise = 0.5 * np.random.default_rng(1).standard_normal((2000, 6))
        for x, p in zip(X[:3], smoother.predict_proba(X[:3]), strict=True):
            assert_means(p, probabilities(smoother, x + noise))

    def test_decide_where_there_is_no_noise(self, base, n_classes, link):
        X, y = blobs(n_classes)
        smoother = soft(base, X, y, sigma=1e-4, n_draws=2, n_certify_draws=50)
        X = X[::5]
        p = probabilities(smoother, X)
        assert np.abs(smoother.predict_proba(X) - p).max() < 1e-3
        np.testing.assert_array_equal(smoother.predict(X), p.argmax(axis=1))
        np.testing.assert_array_equal(smoother.certify(X).label, p.argmax(axis=1))


class TestDenoisers:
    """The mean of probabilities behind a denoiser, beside one drawn by hand."""

    @pytest.mark.parametrize(
        "denoiser", [ParzenDenoiser(), DEENDenoiser(max_epochs=2)], ids=["parzen", "deen"]
    )
    @pytest.mark.parametrize("base", ["logistic-3", "cross-entropy"])
    def test_probabilities_of_denoised_rows(self, denoiser, base):
        X, y = blobs()
        smoother = EmpiricalBayesSmoothedClassifier(
            BASES[base][0], denoiser=denoiser, vote="soft", n_draws=2000, random_state=0
        ).fit(X, y)
        noise = 0.5 * np.random.default_rng(1).standard_normal((2000, 6))
        seen = smoother.denoiser_.transform(X[0] + noise)
        assert_means(smoother.predict_proba(X[:1])[0], probabilities(smoother, seen))

    def test_network_of_xhat(self):
        X, y = blobs()
        smoother = XHATClassifier(
            "mlp", denoiser="passthrough", vote="soft", n_draws=2000, max_epochs=2, random_state=0
        ).fit(X, y)
        noisy = X[0] + 0.5 * np.random.default_rng(1).standard_normal((2000, 6))
        with torch.no_grad():
            scores = smoother._parts_on(torch.device("cpu"))[1](torch.tensor(noisy).float())
        assert_means(smoother.predict_proba(X[:1])[0], softmax_of(scores.numpy(), axis=1))
        behind = clone(smoother).set_params(denoiser=ParzenDenoiser()).fit(X, y)
        assert behind.certify(X[:3]).sums.shape == (3, 2, 3)


class TestCertificates:
    @pytest.fixture
    def smoother(self):
        X, y = blobs()
        return soft(LogisticRegression(), X, y, n_certify_draws=200)

    def test_rows_do_not_depend_on_their_company(self, smoother):
        X, _ = blobs()
        for base in (smoother, soft(DecisionTreeClassifier(max_depth=2), *blobs())):
            base.set_params(n_certify_draws=100)
            certificate = base.certify(X[:9])
            np.testing.assert_array_equal(base.certify(X[8::-3]).sums, certificate.sums[::-3])
            np.testing.assert_array_equal(base.certify(X[4:5]).sums, certificate.sums[4:5])
            base.set_params(n_jobs=2)
            np.testing.assert_array_equal(base.certify(X[:9]).sums, certificate.sums)
            base.set_params(n_jobs=None)

    def test_what_it_says(self, smoother):
        X, y = blobs()
        certificate = smoother.certify(X[::4])
        assert certificate.counts is None
        np.testing.assert_allclose(certificate.sums[:, 0].sum(axis=1), 200)
        np.testing.assert_array_equal(certificate.n_draws, 200)
        assert certificate.procedure == "fixed"
        assert certificate.confidence_level == 0.999
        limit = gaussian.radius(means.largest_mean(200, 0.9e-3), sigma=0.5)
        assert certificate.largest_radius == pytest.approx(limit)
        assert certificate.radius.max() <= limit
        again = certificate.at_confidence(0.9)
        assert np.all(again.radius >= certificate.radius)
        assert again.radius.sum() > certificate.radius.sum()
        fresh = clone(smoother).set_params(confidence_level=0.9).fit(X, y)
        np.testing.assert_allclose(fresh.certify(X[::4]).radius, again.radius, rtol=1e-14)
        assert len(smoother.certify(X[:0])) == 0
        assert smoother.predict_proba(X[:0]).shape == (0, 3)
        assert smoother.abstains(X[:0]).shape == (0,)

    def test_behind_steps_and_in_jobs(self, smoother):
        X, y = blobs()
        pipeline = make_pipeline(StandardScaler(), clone(smoother)).fit(X, y)
        certificate = certify(pipeline, X[:9], units="smoother")
        inner = pipeline[-1].certify(pipeline[0].transform(X[:9]))
        np.testing.assert_array_equal(certificate.sums, inner.sums)
        np.testing.assert_array_equal(certificate.radius, inner.radius)

    def test_upper_bound_is_the_largest_of_all(self):
        # The second class has the largest sum of the rivals, the third varies more.
        sums = np.array([[[110.0, 46.0, 44.0], [61.0, 10.6, 44.0]]])
        certificate = Certificate.from_votes(
            sums, winner=np.array([0]), classes=np.arange(3), sigma=0.5,
            confidence_level=0.99, n_features=2,
        )  # fmt: skip
        first, second = means.upper_bound(sums[0, 0, 1:], sums[0, 1, 1:], 200, 0.001)
        assert first < second
        assert certificate.p_upper[0] == pytest.approx(second)

    def test_two_linear_classes_are_smoothed_too(self):
        X, y = blobs(2)
        smoother = soft(LogisticRegression(), X, y, n_certify_draws=1000)
        certificate = smoother.certify(X[::3])
        assert certificate.procedure == "fixed"
        assert certificate.confidence_level < 1
        exact = smoother.set_params(vote="hard").certify(X[::3])
        assert exact.procedure == "exact"
        # g = h for soft votes as well: a sigmoid is as far above 1/2 as below
        assert np.all((certificate.label == exact.label) | certificate.abstained)
        assert np.all(certificate.radius < exact.radius + 1e-12)
        assert np.all(certificate.radius[~certificate.abstained] > 0)

    @pytest.mark.parametrize("n_classes", [2, 3])
    def test_warning_names_the_draws_that_suffice(self, n_classes):
        X, y = blobs(n_classes)
        certain = Given(lambda X: np.eye(n_classes)[np.zeros(len(X), int)])
        smoother = soft(certain, X, y, n_certify_draws=5)
        with pytest.warns(UserWarning, match="certifies no radius") as caught:
            assert smoother.certify(X[:1]).radius == 0
        needed = int(str(caught[0].message).split("at least ")[1].split()[0])
        assert smoother.set_params(n_certify_draws=needed).certify(X[:1]).radius > 0
        smoother.set_params(n_certify_draws=needed - 1)
        with pytest.warns(UserWarning, match=f"at least {needed} draws"):
            assert smoother.certify(X[:1]).radius == 0

    def test_two_stages_give_draws_to_those_who_gain(self):
        X, y = along_a_line(-3.0, 3.0, 40)
        smoother = soft(Given(probit(0.1)), X, y, n_certify_draws=(200, 1000))
        certificate = smoother.certify(X)
        assert certificate.procedure == "two-stage"
        assert set(certificate.n_draws) == {200, 1000}
        distance = np.abs(X[:, 0])
        assert distance[certificate.n_draws == 1000].min() > 0.3
        assert distance[certificate.n_draws == 200].max() < 0.8


class TestBases:
    def test_vote_may_change_after_the_fit(self):
        X, y = blobs()
        for base in ("mlp-2", "tree"):
            before = soft(BASES[base][0], X, y % BASES[base][1], n_certify_draws=50)
            after = clone(before).set_params(vote="hard").fit(X, y % BASES[base][1])
            assert after.certify(X[:9]).counts is not None
            after.set_params(vote="soft")
            np.testing.assert_array_equal(after.certify(X[:9]).sums, before.certify(X[:9]).sums)

    def test_frozen_base_that_knows_more_classes(self):
        X, y = blobs()
        names = np.array(["ape", "bee", "cat"])
        base = FrozenEstimator(LogisticRegression().fit(X, names[y]))
        kept = y != 1
        smoother = soft(base, X[kept], names[y[kept]], sigma=1e-5)
        np.testing.assert_array_equal(smoother.classes_, names)
        assert np.abs(smoother.predict_proba(X) - base.predict_proba(X)).max() < 1e-3
        np.testing.assert_array_equal(smoother.predict(X), base.predict(X))

    def test_frame_whose_columns_a_base_selects(self):
        pandas = pytest.importorskip("pandas")
        X, y = blobs()
        frame = pandas.DataFrame(X, columns=list("abcdef"))
        tree = DecisionTreeClassifier(max_depth=2, random_state=0)
        by_name = soft(tree, frame, y).predict_proba(frame)
        np.testing.assert_array_equal(by_name, soft(tree, X, y).predict_proba(X))

    def test_global_generators_are_left_alone(self):
        X, y = blobs()
        module = logits(3)
        state = torch.get_rng_state()
        smoother = soft(net(module, Own, criterion=nn.CrossEntropyLoss), X, y)
        assert smoother._link == "predict_proba"
        smoother.set_params(n_certify_draws=50).certify(X[:2])
        assert torch.equal(torch.get_rng_state(), state)

    def test_clone_pickle_and_search(self):
        X, y = blobs()
        smoother = soft(BASES["tree"][0], X, y, n_certify_draws=50)
        loaded = pickle.loads(pickle.dumps(smoother))
        np.testing.assert_array_equal(loaded.certify(X[:9]).sums, smoother.certify(X[:9]).sums)
        again = clone(smoother).fit(X, y)
        np.testing.assert_array_equal(again.certify(X[:9]).sums, smoother.certify(X[:9]).sums)
        search = GridSearchCV(
            smoother,
            {"vote": ["hard", "soft"]},
            scoring=CertifiedAccuracyScorer(radius=0.05),
            cv=2,
            error_score="raise",
        ).fit(X[::2], y[::2])
        scores = search.cv_results_["mean_test_score"]
        assert scores[0] != scores[1]
        assert search.best_estimator_.vote == ["hard", "soft"][np.argmax(scores)]


def broken(column, value):
    """Three probabilities a row, one of them another number where the first feature is large."""

    def function(X):
        p = three(X)
        p[X[:, 0] > 2.0, column] = value
        return p

    return Given(function)


class TestBadInput:
    @pytest.mark.parametrize("base", [LinearSVC(), FrozenEstimator(LinearSVC().fit(*blobs()))])
    def test_base_without_probabilities(self, base):
        X, y = blobs()
        with pytest.raises(TypeError, match=r"vote='soft' .* no predict_proba; use"):
            soft(base, X, y)
        hard = soft(base, X, y, vote="hard").set_params(vote="soft")
        for method in (hard.certify, hard.predict, hard.predict_proba, hard.abstains):
            with pytest.raises(TypeError, match=r"vote='soft' .* no predict_proba; use"):
                method(X)

    @pytest.mark.parametrize(
        "base",
        [broken(0, np.nan), broken(1, -0.2), broken(2, 1.5), broken(0, 0.9)],
        ids=["nan", "negative", "above-1", "sum"],
    )
    def test_what_are_no_probabilities(self, base):
        X, y = along_a_line(-3.0, 3.0, 30, y=(0, 1, 2))
        with pytest.raises(ValueError, match=r"the base gives .* for a noisy row"):
            soft(base, X, y)
        near = soft(base, X[X[:, 0] < -1], y[X[:, 0] < -1])
        with pytest.raises(ValueError, match=r"the base gives .* for a noisy row"):
            near.certify(X[-1:])

    def test_scores_of_a_net(self):
        X, y = blobs()
        scores = net(logits(3), criterion=nn.MultiMarginLoss)
        with pytest.raises(ValueError, match="predict_nonlinearity"):
            soft(scores, X, y)

    def test_another_number_of_columns(self):
        X, y = along_a_line(-3.0, 3.0, 30)
        wide = soft(Given(probit(1.0)), X, y, vote="hard").set_params(vote="soft")
        wide.estimator_.function = three
        with pytest.raises(ValueError, match=r"shape \(.*, 3\) for .* rows and 2 classes"):
            wide.predict(X)

    @pytest.mark.parametrize("moved", [lambda X: X - X.mean(axis=0), lambda X: X[::-1]])
    def test_probabilities_that_depend_on_other_rows(self, moved):
        X, y = along_a_line(-3.0, 3.0, 30)
        base = PredictsByItself(lambda X: probit(1.0)(0.1 * moved(X)))
        hard = soft(base, X, y, vote="hard")
        with pytest.raises(ValueError, match="other probabilities in another order or company"):
            soft(base, X, y)
        with pytest.raises(ValueError, match="other probabilities in another order or company"):
            hard.set_params(vote="soft").certify(X)
