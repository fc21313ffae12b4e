"""LocallyBiasedSmoother: its score, its bias points, and certificates that attacks try to break."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import load_iris, make_blobs, make_moons
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler
from sklearn.svm import SVC, LinearSVC, NuSVC
from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
from skorch.dataset import Dataset
from torch import nn

from smoothlearn import CertifiedAccuracyScorer, LocallyBiasedSmoother, certify

NORMS = (1, 2, np.inf)
DUAL = {1: np.inf, 2: 2, np.inf: 1}


@pytest.fixture(scope="module")
def moons():
    return make_moons(160, noise=0.15, random_state=0)


@pytest.fixture(scope="module")
def three():
    centers = np.array([[-2.0, 0.0, 0.0], [2.0, 0.5, 0.0], [0.0, 2.0, 1.0]])
    return make_blobs(150, centers=centers, cluster_std=0.9, random_state=0)


def net(n_features, n_classes, activation=nn.Tanh, **params):
    module = nn.Sequential(nn.Linear(n_features, 16), activation(), nn.Linear(16, n_classes))
    settings = {
        "criterion": nn.CrossEntropyLoss,
        "optimizer": torch.optim.Adam,
        "lr": 0.05,
        "max_epochs": 15,
        "batch_size": 32,
        "train_split": None,
        "verbose": 0,
    }
    return NeuralNetClassifier(module, **settings | params)


def binary_net():
    module = nn.Sequential(nn.Linear(2, 16), nn.SiLU(), nn.Linear(16, 1))
    return NeuralNetBinaryClassifier(
        module, optimizer=torch.optim.Adam, lr=0.05, max_epochs=15, train_split=None, verbose=0
    )


BASES = {
    "logistic": LogisticRegression(),
    "linear-svc": LinearSVC(),
    "rbf": SVC(gamma=2),
    "nu-rbf": NuSVC(nu=0.2, gamma="scale"),
    "linear-kernel": SVC(kernel="linear"),
    "poly2": SVC(kernel="poly", degree=2, coef0=1, gamma=0.5),
    "poly3": SVC(kernel="poly", degree=3, coef0=1, gamma=0.5),
    "sigmoid": SVC(kernel="sigmoid", gamma=0.3),
    "scaled-rbf": make_pipeline(StandardScaler(), SVC(gamma=1)),
    "scaled-logistic": make_pipeline(StandardScaler(), PCA(2), LogisticRegression()),
    "net": net(2, 2),
    "binary-net": binary_net(),
    "scaled-net": make_pipeline(StandardScaler(), net(2, 2)),
}
BASES_OF_THREE = {
    "logistic": LogisticRegression(),
    "ridge": RidgeClassifier(),
    "rbf": SVC(gamma=0.5),
    "poly2": SVC(kernel="poly", degree=2, coef0=1),
    "net": net(3, 3),
}


def unit_directions(smoother, X, rng):
    """Directions of length 1 in the smoother's norm: random, signs, to bias points, gradients."""
    n, d = X.shape
    found = [rng.standard_normal((n, d)) for _ in range(3)]
    found += [np.sign(rng.standard_normal((n, d))) for _ in range(2)]
    found += [np.eye(d)[rng.integers(d, size=n)] * rng.choice([-1, 1], (n, 1)) for _ in range(2)]
    to_points = smoother.bias_points_ - X[:, np.newaxis]
    near = np.linalg.norm(to_points, axis=2).argsort(axis=1)
    found += [to_points[np.arange(n), near[:, k]] for k in range(min(4, near.shape[1]))]
    scores = smoother.decision_function(X).reshape(n, -1)
    slopes = np.stack(
        [smoother.decision_function(X + 1e-5 * step).reshape(n, -1) - scores for step in np.eye(d)],
        axis=1,
    )
    for column in range(scores.shape[1]):
        slope = slopes[..., column]
        for steepest in (slope, np.sign(slope), np.eye(d)[np.abs(slope).argmax(axis=1)] * slope):
            found += [steepest, -steepest]
    directions = np.stack(found)
    size = np.linalg.norm(directions, smoother.norm, axis=2, keepdims=True)
    return directions / np.where(size > 0, size, 1)


def attack(smoother, X, certificate, rng):
    """How many perturbed rows were tried, and how many of them changed the label."""
    radius = np.where(np.isfinite(certificate.radius), certificate.radius, 10.0)
    directions = unit_directions(smoother, X, rng)
    tried = changed = 0
    for share in (0.3, 0.7, 0.999):
        points = X + share * radius[:, np.newaxis] * directions
        labels = smoother.predict(points.reshape(-1, X.shape[1])).reshape(len(directions), -1)
        held = certificate.radius > 0
        tried += held.sum() * len(directions)
        changed += (labels != certificate.label)[:, held].sum()
    return tried, changed


def check_unbroken(smoother, X, rng, at_least=0.1):
    certificate = smoother.certify(X)
    np.testing.assert_array_equal(certificate.label, smoother.predict(X))
    assert certificate.confidence_level == 1.0
    assert certificate.norm == smoother.norm
    assert np.mean(certificate.radius > 0) >= at_least
    tried, changed = attack(smoother, X, certificate, rng)
    assert changed == 0, f"{changed} of {tried}"
    return tried


@pytest.mark.parametrize("link", ["logit", "probability"])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("data", "name"),
    [("moons", name) for name in BASES] + [("three", name) for name in BASES_OF_THREE],
)
def test_no_attack_breaks_a_certificate(data, name, norm, link, request):
    X, y = request.getfixturevalue(data)
    base = (BASES if data == "moons" else BASES_OF_THREE)[name]
    rng = np.random.default_rng(0)
    smoother = LocallyBiasedSmoother(base, norm=norm, link=link, random_state=0).fit(X, y)
    for alpha in (0.0, 0.3, 4.0):
        smoother.set_params(alpha=alpha)
        assert check_unbroken(smoother, X[:25], rng) > 0


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("gamma", [2, 50])
@pytest.mark.parametrize("norm", [2, np.inf])
@pytest.mark.parametrize("radius", ["tight", "paper"])
def test_radius_is_never_above_the_distance_found_by_exhaustive_search(
    radius, norm, gamma, alpha, moons
):
    X, y = moons
    rows = np.concatenate([X[:40], np.random.default_rng(0).uniform(-2, 3, (40, 2))])
    smoother = LocallyBiasedSmoother(SVC(gamma=gamma), norm=norm, radius=radius, random_state=0)
    certificate = smoother.set_params(alpha=alpha).fit(X, y).certify(rows)
    grid = np.stack(np.meshgrid(*[np.linspace(-2, 3, 400)] * 2), axis=-1).reshape(-1, 2)
    labels = smoother.predict(grid)
    for x, label, r in zip(rows, certificate.label, certificate.radius, strict=True):
        distances = np.linalg.norm(grid[labels != label] - x, norm, axis=1)
        assert r <= distances.min()


def test_tight_radii_of_moons_are_several_times_the_published_ones():
    X, y = make_moons(600, noise=0.15, random_state=0)
    smoother = LocallyBiasedSmoother(SVC(gamma=2), alpha=1.0, random_state=0).fit(X, y)
    tight = smoother.certify(X).radius
    paper = smoother.set_params(radius="paper").certify(X).radius
    assert np.all(paper <= tight)
    assert tight.mean() >= 4 * paper.mean()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("link", ["logit", "probability"])
def test_published_radius_is_never_above_the_tight_one(norm, link, moons):
    X, y = moons
    for base in (LogisticRegression(), SVC(gamma=2), net(2, 2)):
        smoother = LocallyBiasedSmoother(base, norm=norm, link=link, random_state=0).fit(X, y)
        tight = smoother.certify(X).radius
        paper = smoother.set_params(radius="paper").certify(X).radius
        assert np.all(paper <= tight * (1 + 1e-9))
        assert paper.max() > 0


@pytest.mark.parametrize("norm", NORMS)
def test_decision_is_the_score_and_the_bias_towards_the_nearest_bias_point(norm, moons):
    X, y = moons
    smoother = LocallyBiasedSmoother(LogisticRegression(), alpha=0.7, norm=norm, random_state=0)
    smoother.fit(X, y)
    nearest = KNeighborsClassifier(1).fit(smoother.bias_points_, smoother.bias_labels_)
    sign = 2 * nearest.predict(X) - 1
    base = smoother.estimator_
    length = np.linalg.norm(base.coef_[0], DUAL[norm])
    expected = base.decision_function(X) + 0.7 * sign * length
    np.testing.assert_allclose(smoother.decision_function(X), expected)
    np.testing.assert_array_equal(smoother.predict(X), (expected > 0).astype(int))
    p = base.predict_proba(X)[:, 1]
    smoother.set_params(link="probability")
    expected = p - 0.5 + 0.7 * sign * p * (1 - p) * length
    np.testing.assert_allclose(smoother.decision_function(X), expected, atol=1e-12)


def test_columns_of_three_classes_lift_the_oracle_over_its_best_rival(three):
    X, y = three
    smoother = LocallyBiasedSmoother(LogisticRegression(), alpha=0.7, random_state=0).fit(X, y)
    scores = smoother.estimator_.decision_function(X)
    nearest = KNeighborsClassifier(1).fit(smoother.bias_points_, smoother.bias_labels_)
    oracle, rows = nearest.predict(X), np.arange(len(X))
    others = scores.copy()
    others[rows, oracle] = -np.inf
    rival = others.argmax(axis=1)
    weights = smoother.estimator_.coef_
    expected = scores.copy()
    expected[rows, oracle] += 0.7 * np.linalg.norm(weights[oracle] - weights[rival], axis=1)
    np.testing.assert_allclose(smoother.decision_function(X), expected)
    assert smoother.decision_function(X).shape == (len(X), 3)


@pytest.mark.parametrize("name", BASES)
def test_without_bias_it_is_the_base(name, moons):
    X, y = moons
    smoother = LocallyBiasedSmoother(BASES[name], alpha=0.0, random_state=0).fit(X, y)
    X = X.astype(np.float32).astype(float)
    said = smoother.estimator_.predict(X.astype(np.float32) if "net" in name else X)
    assert np.mean(smoother.predict(X) == said) >= 0.99  # nets decide in single precision


def test_without_bias_the_radius_is_the_margin_of_a_linear_base(moons):
    X, y = moons
    for norm in NORMS:
        smoother = LocallyBiasedSmoother(LogisticRegression(), alpha=0, norm=norm, random_state=0)
        certificate = smoother.fit(X, y).certify(X)
        base = smoother.estimator_
        margin = np.abs(base.decision_function(X)) / np.linalg.norm(base.coef_[0], DUAL[norm])
        np.testing.assert_allclose(certificate.radius, margin, rtol=1e-9)


@pytest.mark.parametrize("link", ["logit", "probability"])
def test_with_much_bias_it_is_the_nearest_neighbour(link, moons, three):
    for (X, y), base in ((moons, SVC(gamma=0.5)), (three, LogisticRegression())):
        smoother = LocallyBiasedSmoother(base, alpha=1e12, link=link, random_state=0).fit(X, y)
        nearest = KNeighborsClassifier(1).fit(smoother.bias_points_, smoother.bias_labels_)
        np.testing.assert_array_equal(smoother.predict(X), nearest.predict(X))


def test_bias_points_do_not_depend_on_order_copies_or_weights(moons):
    X, y = moons
    smoother = LocallyBiasedSmoother(LogisticRegression(), n_bias=0.2, random_state=3)
    expected = clone(smoother).fit(X, y)
    order = np.random.default_rng(0).permutation(len(X))
    copies = np.concatenate([order, order[:50], order[:20]])
    for rows in (order, copies):
        again = clone(smoother).fit(X[rows], y[rows])
        np.testing.assert_array_equal(again.bias_points_, expected.bias_points_)
        np.testing.assert_array_equal(again.bias_labels_, expected.bias_labels_)
    other = clone(smoother).set_params(random_state=4).fit(X, y)
    assert not np.array_equal(other.bias_points_, expected.bias_points_)


def test_base_is_fitted_on_the_rows_that_are_no_bias_points(moons):
    X, y = moons
    seen = []

    class Spy(LogisticRegression):
        def fit(self, X, y, sample_weight=None):
            seen.append((X.copy(), sample_weight))
            return super().fit(X, y, sample_weight)

    doubled, labels = np.concatenate([X, X]), np.concatenate([y, y])
    smoother = LocallyBiasedSmoother(Spy(), n_bias=20, random_state=0).fit(doubled, labels)
    ((rows, _),) = seen
    assert len(smoother.bias_points_) == 20
    assert len(rows) == 2 * (len(X) - 20)
    held = {row.tobytes() for row in smoother.bias_points_}
    assert not held & {row.tobytes() for row in rows}


def test_weights_reach_the_base_with_its_rows(moons):
    X, y = moons
    seen = {}

    class Spy(LogisticRegression):
        def fit(self, X, y, sample_weight=None):
            seen.update(zip(map(tuple, X), sample_weight, strict=True))
            return super().fit(X, y, sample_weight)

    weights = np.arange(1.0, len(X) + 1)
    with config_context(enable_metadata_routing=True):
        base = Spy().set_fit_request(sample_weight=True)
        smoother = LocallyBiasedSmoother(base, n_bias=20, random_state=0)
        weighted = clone(smoother).fit(X, y, sample_weight=weights)
    assert len(seen) == len(X) - 20
    given = dict(zip(map(tuple, X), weights, strict=True))
    assert all(given[row] == weight for row, weight in seen.items())
    plain = LocallyBiasedSmoother(LogisticRegression(), n_bias=20, random_state=0).fit(X, y)
    np.testing.assert_array_equal(weighted.bias_points_, plain.bias_points_)


@pytest.mark.parametrize(("n_bias", "expected"), [(0.1, 16), (0.5, 80), (2, 2), (31, 31)])
def test_every_class_has_its_share_of_bias_points(n_bias, expected, moons):
    X, y = moons
    smoother = LocallyBiasedSmoother(LogisticRegression(), n_bias=n_bias, random_state=0)
    counts = np.bincount(smoother.fit(X, y).bias_labels_)
    assert counts.sum() == expected
    assert np.ptp(counts) <= 1


def test_rows_of_a_frozen_estimator_are_all_bias_points(moons):
    X, y = moons
    base = SVC(gamma=2).fit(X[:100], y[:100])
    smoother = LocallyBiasedSmoother(FrozenEstimator(base)).fit(X[100:], y[100:])
    assert {tuple(row) for row in smoother.bias_points_} == {tuple(row) for row in X[100:]}
    again = LocallyBiasedSmoother(FrozenEstimator(base)).fit(X[100:], y[100:])
    np.testing.assert_allclose(smoother.decision_function(X), again.decision_function(X))


class Normalised(nn.Module):
    """A smooth module that the package cannot see through."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 2))

    def forward(self, X):
        return self.layers(X)


def test_an_unknown_module_is_certified_on_a_given_constant_alone(moons):
    X, y = moons
    base = net(2, 2).set_params(module=Normalised)
    smoother = LocallyBiasedSmoother(base, random_state=0).fit(X, y)
    with pytest.raises(TypeError, match="LayerNorm"):
        smoother.certify(X)
    certificate = smoother.set_params(gradient_lipschitz=100.0).certify(X)
    assert certificate.assumption is not None
    assert certificate.radius.max() > 0


def test_every_class_of_a_frozen_estimator_needs_a_bias_point(three):
    X, y = three
    smoother = LocallyBiasedSmoother(FrozenEstimator(LogisticRegression().fit(X, y)))
    with pytest.raises(ValueError, match="every class needs a bias point"):
        smoother.fit(X[y < 2], y[y < 2])


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"alpha": -1.0}, ValueError, "alpha"),
        ({"alpha": np.inf}, ValueError, "alpha"),
        ({"alpha": "much"}, TypeError, "alpha"),
        ({"norm": 3}, ValueError, "norm must be 1, 2 or inf"),
        ({"norm": "l2"}, ValueError, "norm must be 1, 2 or inf"),
        ({"link": "probit"}, ValueError, "link must be one of"),
        ({"radius": "loose"}, ValueError, "radius must be one of"),
        ({"gradient_lipschitz": -1.0}, ValueError, "gradient_lipschitz"),
        ({"gradient_lipschitz": "local"}, TypeError, "gradient_lipschitz"),
        ({"n_bias": 0}, ValueError, "n_bias"),
        ({"n_bias": 0.0}, ValueError, "n_bias"),
        ({"n_bias": 1.5}, ValueError, "n_bias"),
        ({"n_bias": "all"}, TypeError, "n_bias"),
        ({"n_bias": True}, TypeError, "n_bias"),
        ({"n_bias": 1}, ValueError, "fewer than the 2 classes"),
        ({"n_bias": 160}, ValueError, "leaves none to fit"),
        ({"n_bias": 0.999}, ValueError, "leaves none to fit"),
        ({"estimator": RandomForestClassifier()}, TypeError, "linear classifier.*SVC.*skorch"),
        ({"estimator": KNeighborsClassifier()}, TypeError, "linear classifier.*SVC.*skorch"),
        ({"estimator": SVC(kernel=lambda A, B: A @ B.T)}, TypeError, "built-in kernel"),
        (
            {"estimator": make_pipeline(QuantileTransformer(n_quantiles=9), SVC())},
            TypeError,
            "affine",
        ),
        ({"estimator": LogisticRegression}, TypeError, "estimator must be a classifier"),
    ],
)
def test_bad_parameters_are_named_and_leave_nothing_behind(params, error, message, moons):
    smoother = LocallyBiasedSmoother(LogisticRegression()).set_params(**params)
    with pytest.raises(error, match=message):
        smoother.fit(*moons)
    assert not hasattr(smoother, "bias_points_")
    assert not smoother.__sklearn_is_fitted__()


def test_a_failed_fit_forgets_the_one_before(moons):
    smoother = LocallyBiasedSmoother(LogisticRegression(), random_state=0).fit(*moons)
    with pytest.raises(ValueError, match="alpha"):
        smoother.set_params(alpha=-1).fit(*moons)
    assert not smoother.__sklearn_is_fitted__()


def test_published_radius_is_for_two_classes(three):
    smoother = LocallyBiasedSmoother(LogisticRegression(), radius="paper").fit(*three)
    with pytest.raises(ValueError, match="two classes"):
        smoother.certify(three[0])


def test_a_given_constant_is_recorded_as_an_assumption(moons):
    X, y = moons
    smoother = LocallyBiasedSmoother(SVC(gamma=2), gradient_lipschitz=500.0, random_state=0)
    certificate = smoother.fit(X, y).certify(X)
    assert (
        certificate.assumption == "gradient_lipschitz=500.0 for the 2-norm was given, not computed"
    )
    computed = smoother.set_params(gradient_lipschitz="auto").certify(X)
    assert computed.assumption is None
    assert np.all(certificate.radius <= computed.radius)


@pytest.mark.parametrize("given", ["auto", 100.0])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU, nn.Hardtanh])
def test_a_net_with_kinks_predicts_and_does_not_certify(activation, given, moons):
    X, y = moons
    smoother = LocallyBiasedSmoother(
        net(2, 2, activation), gradient_lipschitz=given, random_state=0
    ).fit(X, y)
    assert smoother.score(X, y) > 0.8
    with pytest.raises(TypeError, match=activation.__name__):
        smoother.certify(X)


def test_radii_are_in_the_units_of_the_rows(moons):
    X, y = moons
    plain = LocallyBiasedSmoother(SVC(gamma=2), alpha=0.5, random_state=0).fit(X, y)
    order = np.argsort(plain.bias_points_[:, 0])
    base = FrozenEstimator(plain.estimator_)
    explicit = LocallyBiasedSmoother(base, alpha=0.5)
    expected = explicit.fit(plain.bias_points_[order], plain.bias_labels_[order]).certify(X)
    scaler = StandardScaler(with_mean=False, with_std=False).fit(X)
    scaler.scale_ = np.full(2, 100.0)
    scaler.with_std = True
    scaled = LocallyBiasedSmoother(
        FrozenEstimator(make_pipeline(scaler, plain.estimator_)), alpha=50.0
    ).fit(100 * plain.bias_points_, plain.bias_labels_)
    np.testing.assert_allclose(scaled.certify(100 * X).radius, 100 * expected.radius, rtol=1e-4)


def test_a_scaler_in_front_is_converted(moons):
    X, y = moons
    X = X * [1.0, 50.0]
    pipeline = make_pipeline(
        StandardScaler(), LocallyBiasedSmoother(SVC(gamma=2), random_state=0)
    ).fit(X, y)
    inside = certify(pipeline, X, units="smoother")
    raw = certify(pipeline, X)
    np.testing.assert_allclose(raw.radius, inside.radius * pipeline[0].scale_.min(), rtol=1e-6)


@pytest.mark.parametrize("in_pipeline", [False, True])
def test_grid_search_over_alpha_by_certified_accuracy(in_pipeline, moons):
    X, y = moons
    smoother = LocallyBiasedSmoother(SVC(gamma=2), random_state=0)
    model = make_pipeline(StandardScaler(), smoother) if in_pipeline else smoother
    name = "locallybiasedsmoother__alpha" if in_pipeline else "alpha"
    searches = [
        GridSearchCV(
            model,
            {name: [0.0, 0.3, 1.0]},
            scoring=CertifiedAccuracyScorer(0.2),
            cv=3,
            n_jobs=n_jobs,
            error_score="raise",
        ).fit(X, y)
        for n_jobs in (1, 2)
    ]
    scores = [search.cv_results_["mean_test_score"] for search in searches]
    np.testing.assert_array_equal(*scores)
    assert scores[0].max() > 0.3
    assert certify(searches[0], X).accuracy(y, 0.2) > 0.3


def test_frames_strings_and_pickles(moons):
    X, y = load_iris(return_X_y=True, as_frame=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    smoother = LocallyBiasedSmoother(SVC(), alpha=0.2, random_state=0).fit(X, names)
    certificate = pickle.loads(pickle.dumps(smoother)).certify(X)
    assert certificate.accuracy(names, 0.1) > 0.8
    assert list(smoother.feature_names_in_) == list(X.columns)
    assert isinstance(certificate.to_frame(), pd.DataFrame)
    assert smoother.certified_radius(X).shape == (150,)


def test_no_rows_give_an_empty_certificate(moons, three):
    for X, y in (moons, three):
        smoother = LocallyBiasedSmoother(LogisticRegression()).fit(X, y)
        none = np.empty((0, X.shape[1]))
        assert len(smoother.certify(none)) == 0
        assert len(smoother.predict(none)) == 0
        assert len(smoother.decision_function(none)) == 0


def test_rows_do_not_depend_on_their_company(moons):
    X, y = moons
    X = np.concatenate([X] * 8)  # more than a block
    smoother = LocallyBiasedSmoother(SVC(gamma=2), random_state=0).fit(X, np.tile(y, 8))
    radius = smoother.certify(X).radius
    np.testing.assert_allclose(smoother.certify(X[::-1][:300]).radius, radius[::-1][:300])
    np.testing.assert_allclose(radius, np.tile(radius[:160], 8))


class Mixed(nn.Module):
    """A net whose rows depend on each other, or on chance."""

    def __init__(self, how):
        super().__init__()
        self.how, self.layer = how, nn.Linear(2, 2)
        self.norm = nn.BatchNorm1d(2, track_running_stats=False)

    def forward(self, X):
        if self.how == "mean":
            return self.layer(X - X.mean(0))
        if self.how == "chance":
            return self.layer(nn.functional.dropout(X))
        return self.layer(self.norm(X))


@pytest.mark.parametrize("given", ["auto", 10.0])
@pytest.mark.parametrize("how", ["mean", "chance", "statistics"])
def test_a_net_that_mixes_rows_is_refused(how, given, moons):
    base = net(2, 2).set_params(module=Mixed, module__how=how)
    smoother = LocallyBiasedSmoother(base, gradient_lipschitz=given, random_state=0)
    with pytest.raises(ValueError, match="another order or company"):
        smoother.fit(*moons)
    assert not smoother.__sklearn_is_fitted__()


class Magnified(Dataset):
    """Rows that only the net itself sees in this way."""

    def transform(self, X, y):
        return super().transform(20 * X, y)


def test_scores_that_are_not_what_predict_goes_by_are_refused(moons):
    smoother = LocallyBiasedSmoother(net(2, 2, dataset=Magnified, max_epochs=60), random_state=0)
    with pytest.raises(ValueError, match="gives other labels than the scores"):
        smoother.fit(*moons)


def test_scores_that_are_not_numbers_are_refused(moons):
    broken = net(2, 2).fit(moons[0].astype(np.float32), moons[1])
    broken.module_[0].weight.data[:] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        LocallyBiasedSmoother(FrozenEstimator(broken)).fit(*moons)


def test_a_net_of_another_precision_is_refused(moons):
    double = net(2, 2).fit(moons[0].astype(np.float32), moons[1])
    double.module_.double()
    with pytest.raises(TypeError, match="float32"):
        LocallyBiasedSmoother(FrozenEstimator(double)).fit(*moons)


class Squeezed(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))

    def forward(self, X):
        return self.layers(X).squeeze(-1)


@pytest.mark.parametrize("norm", NORMS)
def test_a_net_with_one_number_a_row_is_certified(norm, moons):
    X, y = moons
    column = binary_net().set_params(module=Squeezed)
    names = np.array(["down", "up"])[y]
    smoother = LocallyBiasedSmoother(column, alpha=0.3, norm=norm, random_state=0).fit(X, names)
    assert check_unbroken(smoother, X[:25], np.random.default_rng(0)) > 0


@pytest.mark.parametrize("method", ["fit", "predict", "certify"])
def test_rows_whose_squares_overflow_are_refused(method, moons):
    X, y = moons
    smoother = LocallyBiasedSmoother(LogisticRegression(), random_state=0).fit(X, y)
    args = (1e150 * X, y) if method == "fit" else (1e150 * X,)
    with pytest.raises(ValueError, match="must not exceed 1e\\+140"):
        getattr(smoother, method)(*args)


def test_radii_of_far_rows_grow_with_the_units(moons):
    X, y = moons
    radii = []
    for unit in (1.0, 1e-4, 1e4):
        base = SVC(gamma=1 / unit**2)
        smoother = LocallyBiasedSmoother(base, alpha=0.0, random_state=0).fit(unit * X, y)
        radii.append(smoother.certify(unit * np.array([[1e6, 0.0]])).radius[0] / unit)
    assert 0.9e6 < min(radii) <= max(radii) < 1e6


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("scaled", [False, True])
def test_a_search_over_a_net_can_be_the_base(scaled, frozen, moons):
    X, y = moons
    search = GridSearchCV(net(2, 2), {"lr": [0.05, 0.1]}, cv=2)
    base = make_pipeline(StandardScaler(), search) if scaled else search
    if frozen:
        base = FrozenEstimator(base.fit(X.astype(np.float32), y))
    smoother = LocallyBiasedSmoother(base, alpha=0.1, random_state=0).fit(X, y)
    assert smoother.certify(X).accuracy(y, 0.01) > 0.7


@pytest.mark.parametrize(
    "base", [SVC(kernel="linear"), SVC(gamma=1e6), SVC(gamma=1e-12), LogisticRegression(C=1e-300)]
)
def test_ties_and_scores_near_zero_are_no_reason_to_refuse(base):
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 2, (200, 3)) + 0.0, rng.integers(0, 2, 200)
    smoother = LocallyBiasedSmoother(base, random_state=0).fit(X, y)
    assert smoother.certify(X).radius.shape == (200,)


def test_scores_that_cancel_to_nearly_nothing_are_no_reason_to_refuse():
    X, y = make_moons(200, noise=0.15, random_state=0)
    smoother = LocallyBiasedSmoother(SVC(gamma=1e-12), random_state=0).fit(X, y)
    assert np.abs(smoother.set_params(alpha=0).decision_function(X)).max() < 1e-6
