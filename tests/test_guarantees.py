"""What certificates promise, against smoothed classifiers that are known exactly.

A Monte-Carlo certificate may be wrong in a share 1 - confidence_level of repetitions. Here rows are
the repetitions: they differ in a feature that the base ignores, so that their noise is independent.
The number of wrong ones is then binomial, or smaller, and ``allowed`` is its quantile: a right
implementation exceeds it with probability below 1e-6 over the seeds. The seeds are fixed.
"""

from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from skorch import NeuralNetClassifier
from torch import nn

from smoothlearn import (
    AttractorDenoiser,
    Certificate,
    DEENDenoiser,
    EmpiricalBayesSmoothedClassifier,
    ParzenDenoiser,
    RandomizedSmoothingClassifier,
    WalkJumpDenoiser,
    XHATClassifier,
    certify,
)
from smoothlearn.denoisers.base import EnergyDenoiser
from smoothlearn.nn.networks import mlp
from smoothlearn.nn.randomness import private_torch_rng
from smoothlearn.theory import gaussian
from smoothlearn.theory.bayes import (
    linear_gaussian_radius,
    linear_gaussian_score,
    mixture_denoiser,
    parzen_denoiser,
    parzen_energy,
)

ROWS = 2000
FAILURE = 0.1
DRAWS = {"n_draws": 100, "n_certify_draws": 1000, "confidence_level": 1 - FAILURE}


def allowed(n_rows, failure=FAILURE):
    """With 2,000 rows and a failure probability of 0.1: 267."""
    return stats.binom.isf(1e-6, n_rows, failure)


def linear_model(weights, offsets):
    """A classifier of classes 0, 1, ... with these coefficients, as if fitted."""
    model = LogisticRegression()
    model.coef_ = np.atleast_2d(np.asarray(weights, float))
    model.intercept_ = np.atleast_1d(np.asarray(offsets, float))
    model.classes_ = np.arange(max(2, len(model.coef_)))
    model.n_features_in_ = model.coef_.shape[1]
    return model


class Rule(ClassifierMixin, BaseEstimator):
    """A known function from rows to classes 0, 1, ..., without any structure to be seen."""

    def __init__(self, rule, n_classes=2):
        self.rule = rule
        self.n_classes = n_classes
        self.classes_ = np.arange(n_classes)

    def fit(self, X, y):
        return self

    def predict(self, X):
        return self.rule(X)


def smooth(base, X, sigma, seed=0, **params):
    """A smoother around a base that is fitted already."""
    settings = {"sigma": sigma, "random_state": seed} | DRAWS | params
    model = RandomizedSmoothingClassifier(FrozenEstimator(base), **settings)
    return model.fit(X, np.arange(len(X)) % 2)


def repeated(x, n_rows=ROWS, seed=0):
    """Rows with the value x in the first feature, and others in a second one."""
    free = np.random.default_rng(seed).uniform(-1e3, 1e3, n_rows)
    return np.column_stack([np.broadcast_to(x, n_rows), free])


def wrong(certificate, label, radius):
    """Whether a label that is not g's, or a radius beyond the exact one, was certified."""
    bad = (certificate.label != label) | (certificate.radius > radius)
    return int((bad & ~certificate.abstained).sum())


# Proposition 2.3: Gaussian data, the closed-form denoiser, a linear classifier.


class Shrinkage(BaseEstimator):
    """x̂(y) = βy of X = N(0, scale² I), with β⁻¹ = 1 + (σ/scale)²."""

    def __init__(self, sigma=None, scale=1.0):
        self.sigma = sigma
        self.scale = scale

    def fit(self, X, y=None):
        self.sigma_, self.n_features_in_ = self.sigma, X.shape[1]
        return self

    def denoise_on(self, device):
        beta = 1 / (1 + (self.sigma_ / self.scale) ** 2)
        return lambda batch, generator: beta * batch


W, B, SIGMA, SCALE = np.array([0.6, -0.8, 0.0]), 0.4, 0.7, 1.2


def gaussian_case(score, n_rows):
    """Rows whose ⟨w, x⟩ is the score given, and a smoother not yet fitted."""
    rng = np.random.default_rng(1)
    X = 20 * rng.standard_normal((n_rows, 3))
    X += np.outer(score - X @ W, W)
    classifier = EmpiricalBayesSmoothedClassifier(
        FrozenEstimator(linear_model(W, B)), denoiser=Shrinkage(scale=SCALE), sigma=SIGMA, **DRAWS
    )
    return X, classifier


@pytest.mark.parametrize("score", [0.3, -1.1, -0.45])
def test_radius_exceeds_proposition_2_3_no_more_often_than_promised(score):
    """At -0.45 the label is not that of h: h's boundary lies at -0.4, the smoothed one at -0.54."""
    X, classifier = gaussian_case(score, ROWS)
    certificate = classifier.set_params(random_state=2).fit(X, np.arange(ROWS) % 2).certify(X)
    label = (linear_gaussian_score(X, W, B, SIGMA, SCALE) > 0).astype(int)
    radius = linear_gaussian_radius(X, W, B, SIGMA, SCALE)
    count = wrong(certificate, label, radius)
    assert count <= allowed(ROWS)
    # Nor much less often: Bin(1000, p) puts 0.08 or more into the tail that the bound leaves.
    if certificate.radius.min() > 0:
        assert count >= stats.binom.ppf(1e-6, ROWS, 0.08)


@pytest.mark.parametrize("score", [0.3, -1.1])
def test_radius_tends_to_proposition_2_3(score):
    X, classifier = gaussian_case(score, 40)
    exact = linear_gaussian_radius(X, W, B, SIGMA, SCALE)
    errors = []
    for n_draws in (1_000, 10_000, 100_000):
        classifier.set_params(random_state=0, n_certify_draws=n_draws)
        certificate = classifier.fit(X, np.arange(40) % 2).certify(X)
        errors.append(np.abs(certificate.radius - exact).mean())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.008


# Choosing the label and bounding its probability on other draws.


def three_parts(X):
    """Class 0 left of 0, class 1 right of it up to 4, class 2 beyond."""
    return np.searchsorted([0.0, 4.0], X[:, 0])


def part_probabilities(x, cuts, sigma):
    """Exact vote probabilities of the parts of a line between cuts."""
    return np.diff(stats.norm.cdf((np.array(cuts) - x) / sigma), prepend=0.0, append=1.0)


def exact_radius(probabilities, x, reach=5.0):
    """The label of g at x and the distance to the next point of the line where it changes."""
    label = probabilities(x).argmax()

    def lead(step, direction):
        p = probabilities(x + direction * step)
        return p[label] - np.delete(p, label).max()

    distances = []
    steps = np.linspace(0, reach, 2001)
    for direction in (-1, 1):
        behind = [step for step in steps if lead(step, direction) <= 0]
        if behind:
            bracket = (behind[0] - steps[1], behind[0])
            distances.append(optimize.brentq(lead, *bracket, args=(direction,)))
    return label, min(distances, default=np.inf)


def test_label_and_bound_use_other_draws_at_a_near_tie():
    """Bounding the winner of the same draws would fail almost twice as often as promised."""
    x, sigma = -0.002, 1.0
    label, radius = exact_radius(lambda t: part_probabilities(t, [0.0, 4.0], sigma), x)
    n_rows = 2 * ROWS
    X = repeated(x, n_rows)
    certificate = smooth(Rule(three_parts, 3), X, sigma, seed=1, n_draws=1000).certify(X)
    assert radius < 0.02
    assert wrong(certificate, label, radius) <= allowed(n_rows)
    peeked = Certificate.from_votes(
        certificate.counts,
        winner=certificate.counts.argmax(axis=1),
        classes=certificate.classes,
        sigma=sigma,
        confidence_level=1 - FAILURE,
        n_features=2,
    )
    assert wrong(peeked, label, radius) > allowed(n_rows)


# Linear classifiers.


@pytest.mark.parametrize("common", [0.0, 1e6, 1e8])
def test_what_rows_of_weights_have_in_common_gives_no_radius(common):
    """Two classes half a unit apart in scores share a large part, which decides nothing."""
    weights = np.array([[0.5 + common, 0.0], [-0.5 + common, 0.0], [common, 0.0]])
    base = linear_model(weights, [0.0, 0.0, -50.0])
    exact = np.repeat([0.2, 0.5, 1.0], 100)
    X = repeated(exact, 300)
    certificate = smooth(base, X, sigma=1.0, seed=1).certify(X)
    assert wrong(certificate, 0, exact * (1 + 1e-9)) <= allowed(300)
    assert np.median(certificate.radius[exact == 1.0]) > 0.8


SCALERS = {
    "none": "passthrough",
    "standard": StandardScaler(),
    "robust": RobustScaler(),
    "max-abs": MaxAbsScaler(),
    "min-max": MinMaxScaler(feature_range=(-2, 1)),
    "pca": PCA(3),
    "whiten": PCA(whiten=True),
    "two": make_pipeline(MinMaxScaler(), PCA(2, whiten=True)),
}


def stretched(n_rows=60, d=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_rows, d)) * 10 ** rng.uniform(-2, 2, d) + rng.standard_normal(d)
    return X, (((X - X.mean(axis=0)) / X.std(axis=0)).sum(axis=1) > 0).astype(int)


@pytest.mark.parametrize("name", SCALERS)
@pytest.mark.parametrize("classifier", [LogisticRegression(), LinearSVC()])
def test_two_class_linear_radius_is_the_margin(name, classifier):
    """Deterministic: no perturbation shorter than the radius may change any label."""
    X, y = stretched()
    base = make_pipeline(SCALERS[name], classifier)
    model = RandomizedSmoothingClassifier(base, sigma=0.8).fit(X, y)
    certificate = model.certify(X)
    assert certificate.confidence_level == 1.0
    assert not certificate.abstained.any()
    np.testing.assert_array_equal(certificate.label, model.estimator_.predict(X))
    # decision_function is affine, so its differences over a few points are its gradient
    corners = np.concatenate([np.zeros((1, 4)), np.diag(np.ptp(X, axis=0))])
    values = model.estimator_.decision_function(corners)
    w = (values[1:] - values[0]) / np.ptp(X, axis=0)
    score = model.estimator_.decision_function(X)
    np.testing.assert_allclose(certificate.radius, np.abs(score) / np.linalg.norm(w), rtol=1e-6)
    towards = -np.sign(score)[:, None] * w / np.linalg.norm(w) * certificate.radius[:, None]
    random = np.random.default_rng(1).standard_normal((20, *X.shape))
    random *= certificate.radius[:, None] / np.linalg.norm(random, axis=2, keepdims=True)
    for perturbation in (towards, *random):
        inside = model.predict(X + (1 - 1e-6) * perturbation)
        np.testing.assert_array_equal(inside, certificate.label)
    beyond = model.predict(X + (1 + 1e-5) * towards)
    np.testing.assert_array_equal(beyond, 1 - certificate.label)


STRIP = linear_model([[-1.0, 0.0], [0.0, 0.0], [1.0, 0.0]], [-1.0, 0.0, -1.0])
STRIP_SIGMA = 1.4


def strip_probabilities(x):
    return part_probabilities(x, [-1.0, 1.0], STRIP_SIGMA)


@pytest.mark.parametrize("x", [0.0, 0.4, 0.7, 0.9, 1.3])
def test_three_class_linear_radius_is_that_of_the_smoothed_classifier(x):
    """|x| < 1 is the middle class of h, |x| < 0.83 that of g; at 0.9 even the labels differ."""
    label, radius = exact_radius(strip_probabilities, x)
    if x == 0:
        assert radius == pytest.approx(0.83, abs=0.005)
    X = repeated(x)
    certificate = smooth(STRIP, X, STRIP_SIGMA).certify(X)
    assert certificate.confidence_level == 1 - FAILURE
    assert wrong(certificate, label, radius) <= allowed(ROWS)
    assert (~certificate.abstained).mean() > 0.02
    h_margin = abs(abs(x) - 1)
    if abs(x) < 1:
        assert h_margin > radius or label == 2  # what h promises would be wrong on every row
    # The pair of exact probabilities bounds what any number of draws can certify.
    p = np.sort(strip_probabilities(x))
    limit = gaussian.radius(p[-1], p[-2], STRIP_SIGMA)
    assert limit <= radius + 1e-9


# The learned denoiser.


def test_trained_energy_is_close_to_the_bayes_estimator():
    """Eq. 8: E‖x̂ - X‖² = E‖x̂_Bayes - X‖² + E‖x̂ - x̂_Bayes‖², the last within 2 % of the first."""
    means, scale, sigma = np.array([[1.0, 0.5], [-1.0, -0.5]]), 0.4, 0.6
    rng = np.random.default_rng(0)

    def draw(n):
        return means[rng.integers(0, 2, n)] + scale * rng.standard_normal((n, 2))

    denoiser = DEENDenoiser(sigma=sigma, max_epochs=40, random_state=0).fit(draw(4000))
    clean = draw(20_000)
    noisy = clean + sigma * rng.standard_normal(clean.shape)
    bayes = mixture_denoiser(noisy, sigma, means, scale)
    excess = denoiser.transform(noisy) - bayes
    assert np.square(excess).sum() < 0.02 * np.square(bayes - clean).sum()
    # The Bayes error is orthogonal to every function of the noisy rows; five standard errors.
    products = (excess * (bayes - clean)).sum(axis=1)
    assert abs(products.mean()) < 5 * products.std() / len(products) ** 0.5


# Attacks on g itself, which is known exactly.


def test_attack_on_a_halfspace():
    """A stump: P(right) = Φ((x - t)/σ), so just within the radius is the worst perturbation."""
    X = repeated(0.0)
    X[:, 0] = np.random.default_rng(3).uniform(-1.5, 1.5, ROWS)
    stump = DecisionTreeClassifier(max_depth=1).fit(X, (X[:, 0] > 0.2).astype(int))
    cut = stump.tree_.threshold[0]
    certificate = smooth(stump, X, 1.0).certify(X)
    towards = np.sign(cut - X[:, 0])
    attacked = X[:, 0] + towards * certificate.radius * (1 - 1e-9)
    violations = ((attacked > cut) != certificate.label) & ~certificate.abstained
    assert violations.sum() <= allowed(ROWS)
    assert violations.sum() >= stats.binom.ppf(1e-6, ROWS, 0.07)  # the bound is not wasteful


CUTS = np.array([-2.0, -0.7, 0.4, 1.1, 3.0])


def striped(X):
    """Classes 0, 1, 2, 0, 1, 2 from left to right."""
    return np.searchsorted(CUTS, X[:, 0]) % 3


def striped_probabilities(t):
    cdf = stats.norm.cdf((CUTS - np.asarray(t)[..., None]) / 0.6)
    parts = np.diff(cdf, prepend=0.0, append=1.0)
    return parts[..., :3] + parts[..., 3:]


def test_attack_on_intervals_of_three_classes():
    X = repeated(0.0)
    X[:, 0] = np.random.default_rng(4).uniform(-3.5, 4.5, ROWS)
    certificate = smooth(Rule(striped, 3), X, 0.6).certify(X)
    steps = np.linspace(-1, 1, 401) * (1 - 1e-9)
    attacked = X[:, 0] + steps[:, None] * certificate.radius
    changed = (striped_probabilities(attacked).argmax(axis=-1) != certificate.label).any(axis=0)
    violations = (changed & ~certificate.abstained).sum()
    assert violations <= allowed(ROWS)
    assert (~certificate.abstained).mean() > 0.8


@pytest.mark.parametrize("d", [2, 5])
def test_attack_on_a_ball(d):
    """P(inside) is noncentral chi-squared in ‖x‖², so that the worst perturbation is radial."""
    sigma, size = 0.5, 1.6
    base = Rule(lambda X: (np.square(X).sum(axis=1) < size**2).astype(int))

    def inside(length):
        return stats.ncx2.cdf((size / sigma) ** 2, d, np.square(length / sigma))

    edge = optimize.brentq(lambda length: inside(length) - 0.5, 1e-6, size)
    rng = np.random.default_rng(5)
    X = rng.standard_normal((ROWS, d))
    length = rng.uniform(0.6, 2.6, ROWS)
    X *= (length / np.linalg.norm(X, axis=1))[:, None]
    certificate = smooth(base, X, sigma).certify(X)
    outwards = np.where(length < edge, 1, -1)
    attacked = np.abs(length + outwards * certificate.radius * (1 - 1e-9))
    label = (inside(attacked) > 0.5).astype(int)
    violations = ((label != certificate.label) & ~certificate.abstained).sum()
    assert violations <= allowed(ROWS)
    assert (~certificate.abstained).mean() > 0.8


# Raw radii behind preprocessing, in exact rational arithmetic.


def exact(values):
    return np.vectorize(lambda value: Fraction(float(value)), otypes=[object])(values)


def exact_affine(step):
    """The matrix and the shift of a fitted step, from its attributes as rational numbers."""
    if isinstance(step, Pipeline):
        matrix, shift = exact_affine(step.steps[0][1])
        for _, inner in step.steps[1:]:
            outer, c = exact_affine(inner)
            matrix, shift = outer.dot(matrix), outer.dot(shift) + c
        return matrix, shift
    if isinstance(step, MinMaxScaler):
        return np.diag(exact(step.scale_)), exact(step.min_)
    if isinstance(step, PCA):
        matrix = exact(step.components_)
        if step.whiten:
            matrix = matrix / exact(np.sqrt(step.explained_variance_))[:, None]
        return matrix, -matrix.dot(exact(step.mean_))
    centre = {StandardScaler: "mean_", RobustScaler: "center_"}.get(type(step))
    matrix = np.diag(1 / exact(step.scale_))
    shift = exact(getattr(step, centre) if centre else np.zeros(len(matrix)))
    return matrix, -matrix.dot(shift)


FRONTS = {
    "standard": [StandardScaler()],
    "robust": [RobustScaler()],
    "max-abs": [MaxAbsScaler()],
    "min-max": [MinMaxScaler()],
    "pca": [PCA()],
    "whiten": [PCA(whiten=True)],
    "standard-pca": [StandardScaler(), PCA()],
    "min-max-pca-standard": [MinMaxScaler(), PCA(2), StandardScaler()],
    "whiten-pca": [PCA(2, whiten=True), PCA(1)],
    "nested": [make_pipeline(MinMaxScaler((5, 6)), PCA()), RobustScaler(), PCA(2)],
}


@pytest.mark.parametrize("name", FRONTS)
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_raw_radius_never_exceeds_the_exact_margin(name, offset):
    """Columns of sizes from 1e-4 to 1e4, far from the origin; rows near the data and elsewhere."""
    largest = 0.0
    for seed in range(6):
        rng = np.random.default_rng(seed)
        d = rng.integers(2, 6)
        X = rng.standard_normal((30, d)) * 10 ** rng.uniform(-4, 4, d)
        X += offset * rng.standard_normal(d)
        y = np.arange(30) % 2
        front = make_pipeline(*FRONTS[name]).fit(X)
        Z = front.transform(X)
        weights = rng.standard_normal(Z.shape[1]) * 10 ** rng.uniform(-2, 2, Z.shape[1])
        if seed % 2:  # along one direction, which for some is that of the largest stretch
            weights = np.eye(Z.shape[1])[rng.integers(Z.shape[1])]
        base = linear_model(weights, -np.median(Z, axis=0) @ weights)
        before = make_pipeline(*FRONTS[name], RandomizedSmoothingClassifier(FrozenEstimator(base)))
        within = FrozenEstimator(make_pipeline(front, base))
        inside = RandomizedSmoothingClassifier(within).fit(X, y)
        rows = np.concatenate([X[:8], 0 * X[:1], X[:2] * rng.standard_normal((2, d))])
        matrix, shift = exact_affine(front)
        w = exact(weights).dot(matrix)
        score = exact(rows).dot(w) + exact(weights).dot(shift) + exact(base.intercept_)[0]
        square = w.dot(w)
        duals = {1: np.abs(w).max(), np.inf: np.abs(w).sum()}
        for model in (before.fit(X, y), inside):
            certificate = certify(model, rows)
            assert certificate.confidence_level == 1.0
            assert (exact(certificate.radius) ** 2 * square <= score**2).all()
            np.testing.assert_array_equal(certificate.label[score != 0], (score > 0)[score != 0])
            for norm, dual in duals.items():
                other = certificate.to_norm(norm).radius
                assert (exact(other) * dual <= np.abs(score)).all()
            margin = np.abs(score).astype(float) / float(square) ** 0.5
            largest = max(largest, float((certificate.radius / margin).max()))
    assert largest > 0.99


@pytest.mark.parametrize("offset", [0.0, 1e8])
@pytest.mark.parametrize("before", [False, True])
def test_raw_radius_where_shifts_and_weights_cancel(before, offset):
    """Means and weights whose float products cancel leave errors that radii have to pay for."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        X = np.outer(rng.standard_normal(40), [1.0, 1.0]) + 1e-3 * rng.standard_normal((40, 2))
        X += offset
        y = np.arange(40) % 2
        pca = PCA(svd_solver="full").fit(X)
        weights = np.linalg.solve(pca.components_.T, [0.0, 1.0])  # all but ignores one column
        base = linear_model(weights, [0.0])
        rows = np.concatenate([np.zeros((1, 2)), 1e8 * rng.standard_normal((4, 2)) * [1, 1e-16]])
        smoother = RandomizedSmoothingClassifier(FrozenEstimator(base))
        if before:
            model = make_pipeline(PCA(svd_solver="full"), smoother).fit(X, y)
        else:
            smoother.set_params(estimator=FrozenEstimator(make_pipeline(pca, base)))
            model = smoother.fit(X, y)
        matrix, shift = exact_affine(pca)
        w = exact(weights).dot(matrix)
        score = exact(rows).dot(w) + exact(weights).dot(shift)
        radius = exact(certify(model, rows).radius)
        assert (radius**2 * w.dot(w) <= score**2).all()


@pytest.mark.parametrize("norm", [1, 2, np.inf])
@pytest.mark.parametrize("given", [1, 2, np.inf])
def test_to_norm_stays_inside_the_ball(given, norm):
    """No perturbation within the converted radius leaves the ball, and some reach its edge."""
    d = 6
    certificate = Certificate(
        label=np.zeros(1),
        radius=np.ones(1),
        abstained=np.zeros(1, bool),
        norm=given,
        confidence_level=1.0,
        units="input",
        n_features=d,
        classes=np.arange(2),
        procedure="exact",
    )
    radius = certificate.to_norm(norm).radius[0]
    rng = np.random.default_rng(0)
    directions = np.concatenate([np.eye(d), np.sign(rng.standard_normal((500, d)))])
    directions = np.concatenate([directions, rng.standard_normal((500, d))])
    edge = radius * directions / np.linalg.norm(directions, norm, axis=1, keepdims=True)
    lengths = np.linalg.norm(edge, given, axis=1)
    assert 1 - 1e-12 < lengths.max() <= 1 + 1e-15


# Projected noise.


class Opaque(ClassifierMixin, BaseEstimator):
    """The same classifier, with nothing to be read off."""

    def __init__(self, estimator):
        self.estimator = estimator
        self.classes_ = estimator.classes_

    def fit(self, X, y):
        return self

    def predict(self, X):
        return self.estimator.predict(X)


def vote_counts(base, X, sigma, seed, n_draws=1000):
    return smooth(base, X, sigma, seed, n_certify_draws=n_draws).certify(X).counts


def assert_same_law(one, other):
    """Chi-squared of all tables of two rows of counts; false alarms with probability 1e-6."""
    statistic, degrees = 0.0, 0
    for table in np.stack([one, other], axis=1):
        likely = table.sum(axis=0) >= 20
        rare = table[:, ~likely].sum(axis=1, keepdims=True)
        table = np.concatenate([table[:, likely], rare], axis=1) if rare.sum() >= 20 else table
        table = table[:, table.sum(axis=0) >= 20]
        if table.shape[1] > 1:
            result = stats.chi2_contingency(table, correction=False)
            statistic, degrees = statistic + result.statistic, degrees + result.dof
    assert degrees > 0.8 * len(one), "most tables have one class"
    assert 5e-7 < stats.chi2.sf(statistic, degrees) < 1 - 5e-7


@pytest.mark.parametrize("shape", [(3, 2), (3, 6), (5, 2), (6, 6)])
def test_projected_and_direct_votes_have_the_same_law(shape):
    n_classes, d = shape
    rng = np.random.default_rng(n_classes + d)
    base = linear_model(rng.standard_normal(shape), 0.5 * rng.standard_normal(n_classes))
    X = rng.standard_normal((300, d))
    projected = vote_counts(base, X, 0.9, seed=1)
    direct = vote_counts(Opaque(base), X, 0.9, seed=2)
    assert_same_law(projected, direct)


#: Few tables of many votes tell the most: noise that is 5 % too large fails every test below.
LAW_DRAWS = 10_000


@pytest.mark.parametrize("n_classes", [2, 3])
def test_votes_of_a_linear_net_have_the_same_law(n_classes):
    """A net of one layer votes on its scores, also where it has two of them."""
    rng = np.random.default_rng(n_classes)
    X = rng.standard_normal((20, 5))
    net = NeuralNetClassifier(
        nn.Linear,
        criterion=nn.CrossEntropyLoss,
        module__in_features=5,
        module__out_features=n_classes,
        max_epochs=1,
        train_split=None,
        verbose=0,
    )
    with private_torch_rng(0):
        net.fit(X.astype(np.float32), np.arange(20) % n_classes)
    projected = smooth(net, X, 0.5, 1, n_certify_draws=LAW_DRAWS)
    assert projected._ballot(X).rows.shape == (20, n_classes)
    direct = vote_counts(Opaque(net), X, 0.5, 2, LAW_DRAWS)
    assert_same_law(projected.certify(X).counts, direct)


@pytest.mark.parametrize(
    ("d", "width", "n_classes", "bias"),
    [(12, 4, 3, True), (6, 4, 3, True), (4, 12, 3, True), (8, 5, 2, False)],
    ids=["narrow", "narrow layer", "wide layer", "two classes"],
)
def test_votes_projected_behind_a_denoiser_have_the_same_law(d, width, n_classes, bias):
    """Of the dimension of the first layer and the scores, or of the row where that is smaller."""
    rng = np.random.default_rng(d)
    X = rng.standard_normal((60, d)) * rng.uniform(0.5, 2, d) + 3

    def module(n_features):
        return nn.Sequential(nn.Linear(n_features, width, bias=bias), nn.Tanh(), mlp(width, 8, 1))

    denoiser = DEENDenoiser(0.8, module=module, max_epochs=5, lr=0.05, random_state=0).fit(X)
    weights = rng.standard_normal((n_classes if n_classes > 2 else 1, d))
    base = linear_model(weights, -weights @ X.mean(axis=0))

    def smoother(base, seed):
        classifier = EmpiricalBayesSmoothedClassifier(
            FrozenEstimator(base),
            denoiser=FrozenEstimator(denoiser),
            sigma=0.8,
            n_certify_draws=LAW_DRAWS,
            random_state=seed,
        )
        return classifier.fit(X, np.arange(60) % 2)

    projected, direct = smoother(base, 1), smoother(Opaque(base), 2)
    rows = X[:30]
    assert projected._ballot(rows).rows.shape == (30, width + len(weights))
    assert direct._ballot(rows).rows.shape == (30, d)
    assert_same_law(projected.certify(rows).counts, direct.certify(rows).counts)


def test_projected_votes_have_the_exact_law():
    """Chi-squared of 400 rows of 1,000 votes against Φ; false alarms with probability 1e-6."""
    X = repeated(0.0, 400)
    X[:, 0] = np.linspace(-1.2, 1.2, 400)
    counts = vote_counts(STRIP, X, STRIP_SIGMA, seed=6)
    expected = 1000 * np.array([strip_probabilities(x) for x in X[:, 0]])
    statistic = (np.square(counts - expected) / expected).sum()
    assert 1e-6 < stats.chi2.sf(statistic, 2 * len(X)) < 1 - 1e-6


def test_exact_probabilities_of_two_classes_are_those_of_votes():
    X = repeated(0.0, 400)
    X[:, 0] = np.linspace(-2, 2, 400)
    base = linear_model([[2.0, 0.0]], [-0.6])
    p = smooth(base, X, 0.8).predict_proba(X)[:, 1]
    np.testing.assert_allclose(p, stats.norm.cdf((X[:, 0] - 0.3) / 0.8), rtol=1e-12)
    counts = vote_counts(Opaque(base), X, 0.8, seed=7)[:, 1]
    statistic = (np.square(counts - 1000 * p) / (1000 * p * (1 - p)))[np.abs(p - 0.5) < 0.49]
    assert 1e-6 < stats.chi2.sf(statistic.sum(), len(statistic)) < 1 - 1e-6


# The bounds of the winner and of its rivals.

TABLES = 20_000


@pytest.mark.parametrize("failure", [0.1, 0.02])
@pytest.mark.parametrize(
    "p",
    [
        [0.34, 0.33, 0.33],
        [0.55, 0.44, 0.01],
        [0.505, 0.495],
        [0.3, 0.28, 0.22, 0.2],
        [0.1] * 10,
        [0.9, 0.06, 0.04],
    ],
)
def test_certificates_of_a_fixed_class_fail_no_more_often_than_promised(p, failure):
    """Both bounds at once, and the radius that follows, in 20,000 simulated tables."""
    p = np.array(p)
    counts = np.random.default_rng(8).multinomial(500, p, size=TABLES)
    certificate = Certificate.from_votes(
        counts,
        winner=np.zeros(TABLES, dtype=int),
        classes=np.arange(len(p)),
        sigma=1.0,
        confidence_level=1 - failure,
        n_features=1,
    )
    rival = p[1:].max()
    outside = (certificate.p_lower > p[0]) | (certificate.p_upper < rival)
    assert outside.sum() <= allowed(TABLES, failure)
    # Counts are integers, which wastes a little; with two tight bounds hardly anything is left.
    if len(p) == 2 or p[1] > 0.4:
        assert outside.sum() >= 0.6 * failure * TABLES
    limit = 0.5 * (stats.norm.ppf(p[0]) - stats.norm.ppf(rival))
    assert wrong(certificate, 0, limit * (1 + 1e-12)) <= allowed(TABLES, failure)


def test_the_two_bounds_share_the_failure_probability():
    """Of 100,000 tables: counts of rare classes are all but independent, so failures add up."""
    p, n_tables = np.array([0.05, 0.04] + [0.91 / 30] * 30), 100_000
    certificate = Certificate.from_votes(
        np.random.default_rng(9).multinomial(50_000, p, size=n_tables),
        winner=np.zeros(n_tables, dtype=int),
        classes=np.arange(len(p)),
        sigma=1.0,
        confidence_level=1 - FAILURE,
        n_features=1,
    )
    outside = (certificate.p_lower > p[0]) | (certificate.p_upper < p[1])
    assert 0.95 * FAILURE * n_tables < outside.sum() <= allowed(n_tables)


@pytest.mark.parametrize("level", [0.8, 0.99])
def test_reading_counts_again_keeps_the_promise_of_the_new_level(level):
    """Also for radii in other units, where the scale goes along."""
    x, sigma, stretch = 0.3, 1.0, 4.0
    X = repeated(x) * [1 / stretch, 1.0]
    base = Rule(lambda Z: (Z[:, 0] > 0).astype(int))
    scaler = StandardScaler().fit(X)
    scaler.mean_, scaler.scale_ = np.zeros(2), np.array([1 / stretch, 1.0])
    smoother = smooth(base, scaler.transform(X), sigma)
    certificate = certify(make_pipeline(FrozenEstimator(scaler), smoother), X)
    again = certificate.at_confidence(level)
    direct = smoother.set_params(confidence_level=level)
    np.testing.assert_array_equal(
        again.radius, certify(make_pipeline(FrozenEstimator(scaler), direct), X).radius
    )
    failures = wrong(again, 1, x / stretch)
    assert failures <= allowed(ROWS, 1 - level)
    assert failures >= stats.binom.ppf(1e-6, ROWS, 0.7 * (1 - level))


# Two stages: which rows go on is chosen by looking at their votes.

STAGES = (200, 4000)


def staged_certificate(counts, n_classes, failure):
    return Certificate.from_votes(
        counts,
        winner=np.zeros(len(counts), dtype=int),
        classes=np.arange(n_classes),
        sigma=1.0,
        confidence_level=1 - failure,
        n_features=1,
        stages=STAGES,
    )


#: Where a row goes on. The worst rule keeps every first stage that is wrong, and gives all others
#: a second chance to be; it knows the truth, as no rule that is used can.
SELECTIONS = {
    "worst": lambda wrong, lead: ~wrong,
    "the wrong ones": lambda wrong, lead: wrong,
    "good ones": lambda wrong, lead: lead >= np.median(lead),
    "bad ones": lambda wrong, lead: lead < np.median(lead),
    "all": lambda wrong, lead: np.ones(len(lead), bool),
    "none": lambda wrong, lead: np.zeros(len(lead), bool),
}


@pytest.mark.parametrize("failure", [0.2, 0.02])
@pytest.mark.parametrize("rule", SELECTIONS)
@pytest.mark.parametrize("p", [[0.7, 0.3], [0.98, 0.02], [0.5, 0.45, 0.05], [0.3, 0.28, 0.42]])
def test_two_stages_fail_no_more_often_than_promised_whoever_goes_on(p, rule, failure):
    """Both bounds at once, and the radius that follows, in 20,000 simulated tables."""
    p = np.array(p)
    rng = np.random.default_rng(10)
    counts = rng.multinomial(STAGES[0], p, size=TABLES)
    rival = p[1:].max()

    def outside(certificate):
        return (certificate.p_lower > p[0]) | (certificate.p_upper < rival)

    first = outside(staged_certificate(counts, len(p), failure))
    goes_on = SELECTIONS[rule](first, counts[:, 0] - counts[:, 1:].max(axis=1))
    counts[goes_on] += rng.multinomial(STAGES[1] - STAGES[0], p, size=TABLES)[goes_on]
    certificate = staged_certificate(counts, len(p), failure)
    failures = outside(certificate).sum()
    assert failures <= allowed(TABLES, failure)
    limit = gaussian.radius(p[0], rival) * (1 + 1e-12)
    assert wrong(certificate, 0, limit) <= allowed(TABLES, failure)
    # The worst rule needs the halves: with all of the failure probability at both stages, it
    # would fail almost twice as often.
    if rule == "worst" and p[0] == 0.7:
        assert failures >= 0.75 * failure * TABLES


#: Classes, and where the votes of the first stage decide who goes on; at the boundary nobody does.
UNDECIDED = {"two classes": (2, -1.9), "three classes": (3, -1.9), "the boundary": (2, -0.02)}


@pytest.mark.parametrize(("n_classes", "x"), UNDECIDED.values(), ids=UNDECIDED)
def test_radius_in_two_stages_exceeds_the_exact_one_no_more_often_than_promised(n_classes, x):
    failure, cuts = 0.2, [0.0, 4.0][: n_classes - 1]
    label, radius = exact_radius(lambda t: part_probabilities(t, cuts, 1.0), x)
    base = Rule(lambda X: np.searchsorted(cuts, X[:, 0]), n_classes)
    X = repeated(x)
    draws = {"n_certify_draws": (100, 1000), "confidence_level": 1 - failure}
    certificate = smooth(base, X, 1.0, n_draws=500, **draws).certify(X)
    assert certificate.procedure == "two-stage"
    went_on = (certificate.n_draws == 1000).mean()
    assert 0.3 < went_on < 0.7 or (x > -1 and went_on == 0)
    assert wrong(certificate, label, radius) <= allowed(ROWS, failure)


# Denoisers that are random themselves, or jump: their votes are as good as any.


class LinearEnergy(EnergyDenoiser):
    """x̂(y) = βy and the energy ‖y‖²/2(scale² + σ²), of X = N(0, scale² I)."""

    def __init__(self, sigma=None, scale=1.0):
        self.sigma = sigma
        self.scale = scale

    def fit(self, X, y=None):
        _, self.sigma_ = self._start_fit(X)
        return self

    def _denoise(self, Y):
        return Y / (1 + (self.sigma_ / self.scale) ** 2)

    def _energy(self, Y):
        return np.square(Y).sum(axis=1) / (2 * (self.scale**2 + self.sigma_**2))

    def denoise_on(self, device):
        return lambda batch, generator: self._denoise(batch)

    def denoise_training_on(self, rows, device):
        return lambda batch, places: self._denoise(batch)

    def field_on(self, device, *, double=False):
        variance = self.scale**2 + self.sigma_**2
        return lambda batch: (batch.square().sum(dim=1) / (2 * variance), batch / variance)

    def field_training_on(self, rows, device):
        field = self.field_on(device)
        return lambda batch, places: field(batch)


#: The smaller noise, and a walk of three steps.
WALK_SIGMA, H, STEPS = 0.3, 0.1, 3


def walking(score, n_rows, **params):
    """Rows whose ⟨w, x⟩ is the score given, the exact P(class 1), and a smoother that walks."""
    rng = np.random.default_rng(1)
    X = 20 * rng.standard_normal((n_rows, 3))
    X += np.outer(score - X @ W, W)
    denoiser = WalkJumpDenoiser(
        LinearEnergy(scale=SCALE),
        LinearEnergy(WALK_SIGMA, scale=SCALE),
        step_size=H,
        n_steps=STEPS,
    )
    base = FrozenEstimator(linear_model(W, B))
    settings = {"denoiser": denoiser, "sigma": SIGMA, "random_state": 3} | DRAWS | params
    classifier = EmpiricalBayesSmoothedClassifier(base, **settings)
    gain, spread = walk_law()
    p = stats.norm.cdf((gain * np.asarray(score) + B) / spread)
    return X, p, classifier.fit(X, np.arange(n_rows) % 2)


def walk_law():
    """Mean and standard deviation of J given x: the walk is a recursion, y ← a y + √(2h) ε."""
    beta, walk_beta = (SCALE**2 / (SCALE**2 + s**2) for s in (SIGMA, WALK_SIGMA))
    a = 1 - H / (SCALE**2 + WALK_SIGMA**2)
    noise = 2 * H * (1 - a ** (2 * STEPS)) / (1 - a**2)
    variance = walk_beta**2 * (a ** (2 * STEPS) * beta**2 * SIGMA**2 + noise)
    return walk_beta * a**STEPS * beta, variance**0.5


def doubt_of_votes(classifier, X, p):
    """The p-value of chi-squared of two classes, where both get votes; it takes both tails."""
    counts = classifier.certify(X).counts[:, 1]
    n = classifier.n_certify_draws
    told = (n * p > 20) & (n * (1 - p) > 20)
    statistic = (np.square(counts - n * p) / (n * p * (1 - p)))[told].sum()
    tail = stats.chi2.sf(statistic, told.sum())
    assert told.mean() > 0.5
    return 2 * min(tail, 1 - tail)


def shared_by_a_batch(batch, generator):
    return lambda width: torch.randn((1, width), generator=generator).expand(len(batch), -1)


def drawn_once(batch, generator):
    draws = torch.randn((len(batch), batch.shape[1]), generator=generator)
    return lambda width: draws


def the_same_for_all_rows(batch, generator):
    generator = torch.Generator().manual_seed(0)
    return lambda width: torch.randn((len(batch), width), generator=generator)


def test_votes_behind_a_walk_have_the_exact_law():
    """Chi-squared of 400 rows of 1,000 votes; false alarms with probability 1e-6."""
    X, p, classifier = walking(np.linspace(-2, 1.5, 400), 400)
    assert doubt_of_votes(classifier, X, p) > 1e-6


@pytest.mark.parametrize("wrong_noise", [shared_by_a_batch, drawn_once, the_same_for_all_rows])
def test_votes_whose_walks_are_not_independent_are_told_apart(wrong_noise, monkeypatch):
    """By the test above, where the draws of a row take ten batches."""
    monkeypatch.setattr("smoothlearn.denoisers.two_level._normal_like", wrong_noise)
    monkeypatch.setattr("smoothlearn.nn.voting._MOST", {"cpu": 100})
    X, p, classifier = walking(np.linspace(-2, 1.5, 400), 400)
    assert doubt_of_votes(classifier, X, p) < 1e-9


@pytest.mark.parametrize("score", [0.3, -1.3])
def test_radius_behind_a_walk_exceeds_the_exact_one_no_more_often_than_promised(score):
    """σΦ⁻¹(p) is less than the distance to where g changes, as the walk adds to the noise."""
    X, p, classifier = walking(score, ROWS)
    label, limit = int(p > 0.5), SIGMA * abs(stats.norm.ppf(p))
    distance = abs(score + B / walk_law()[0])
    assert 0.5 * distance < limit < 0.95 * distance
    certificate = classifier.certify(X)
    assert (certificate.radius > 0).mean() > 0.95
    count = wrong(certificate, label, limit)
    assert stats.binom.ppf(1e-6, ROWS, 0.07) <= count <= allowed(ROWS)
    assert wrong(certificate, label, distance) <= count


def test_attack_behind_attractors():
    """A(y) is ±μ by the sign of ⟨y, μ⟩: P(+μ) = Φ(⟨x, μ⟩/σ‖μ‖), and g is the sign itself."""
    n_rows = 600
    mu = np.array([0.8, 0.6])
    denoiser = AttractorDenoiser(ParzenDenoiser(), ParzenDenoiser(0.4), tolerance=0.1)
    classifier = EmpiricalBayesSmoothedClassifier(
        FrozenEstimator(linear_model(mu, 0.0)), denoiser=denoiser, random_state=4, **DRAWS
    ).fit(np.array([mu, -mu]), [1, 0])
    assert len(classifier.denoiser_.attractors_) == 2
    rng = np.random.default_rng(5)
    along = rng.uniform(-0.8, 0.8, n_rows)
    X = np.outer(along, mu) + np.outer(rng.uniform(-50, 50, n_rows), [-0.6, 0.8])
    certificate = classifier.certify(X)
    counts, p = certificate.counts[:, 1], stats.norm.cdf(along / 0.5)
    statistic = (np.square(counts - 1000 * p) / (1000 * p * (1 - p)))[np.abs(along) < 0.7].sum()
    degrees = (np.abs(along) < 0.7).sum()
    assert 5e-7 < stats.chi2.sf(statistic, degrees) < 1 - 5e-7
    violations = wrong(certificate, (along > 0).astype(int), np.abs(along))
    assert stats.binom.ppf(1e-6, n_rows, 0.06) <= violations <= allowed(n_rows)


CENTRES, CHANGES = np.array([-1.0, 0.5, 2.0]), [-0.2, 1.1]


def thirds(X):
    return np.searchsorted(CHANGES, X[:, 0])


def line_probabilities(walk_sigma, h, n_steps, sigma, metropolis):
    """P(class) as a function of x: kernels on a grid, back from the classes of the jumps."""
    t, step = np.linspace(-4, 5, 1201, retstep=True)
    rows = CENTRES[:, np.newaxis]
    jumps = parzen_denoiser(t[:, np.newaxis], walk_sigma, rows)[:, 0]
    drifted = t - h * (t - jumps) / walk_sigma**2
    kernel = stats.norm.pdf(t, drifted[:, np.newaxis], (2 * h) ** 0.5) * step
    if metropolis:
        energy = parzen_energy(t[:, np.newaxis], walk_sigma, rows)
        with np.errstate(all="ignore"):
            ratio = np.exp(energy[:, np.newaxis] - energy) * kernel.T / kernel
            kernel = np.where(kernel > 0, kernel * np.fmin(ratio, 1), 0)
        kernel += np.diag(1 - kernel.sum(axis=1))
    below = [np.clip((np.interp(cut, jumps, t) - t) / step + 0.5, 0, 1) for cut in CHANGES]
    for _ in range(n_steps):
        below = [kernel @ share for share in below]
    y, width = np.linspace(-8, 9, 1201, retstep=True)
    starts = parzen_denoiser(y[:, np.newaxis], sigma, rows)[:, 0]
    ends = np.array([np.interp(starts, t, share) for share in below])

    def probabilities(x):
        x = np.asarray(x)
        blur = stats.norm.pdf(y, x[..., np.newaxis], sigma) * width
        return np.diff(blur @ ends.T, prepend=0.0, append=1.0)

    return probabilities


@pytest.mark.parametrize("metropolis", [False, True])
def test_attack_behind_a_walk_on_a_line(metropolis):
    """Nothing here is Gaussian: votes by quadrature, and the nearest point where g changes.

    Chi-squared of 70 rows of 10,000 votes; false alarms with probability 1e-6.
    """
    walk_sigma, h, n_steps, sigma = 0.4, 0.15, 3, 0.7
    probabilities = line_probabilities(walk_sigma, h, n_steps, sigma, metropolis)
    denoiser = WalkJumpDenoiser(
        ParzenDenoiser(),
        ParzenDenoiser(walk_sigma),
        step_size=h,
        n_steps=n_steps,
        metropolis=metropolis,
    )
    classifier = EmpiricalBayesSmoothedClassifier(
        FrozenEstimator(Rule(thirds, 3)),
        denoiser=denoiser,
        sigma=sigma,
        random_state=0,
        **DRAWS | {"n_certify_draws": LAW_DRAWS},
    ).fit(CENTRES[:, np.newaxis], [0, 1, 2])
    x = np.linspace(-3, 4, 70)
    certificate = classifier.certify(x[:, np.newaxis])
    expected = LAW_DRAWS * probabilities(x)
    told = expected > 20
    statistic = (np.square(certificate.counts - expected)[told] / expected[told]).sum()
    degrees = told.sum() - len(x)
    assert 5e-7 < stats.chi2.sf(statistic, degrees) < 1 - 5e-7
    reach = np.linspace(-1, 1, 41) * (1 - 1e-9)
    attacked = x + reach[:, np.newaxis] * certificate.radius
    changed = (probabilities(attacked).argmax(axis=-1) != certificate.label).any(axis=0)
    assert (changed & ~certificate.abstained).sum() <= allowed(len(x))
    assert (certificate.radius > 0.2).mean() > 0.5


# Networks trained for their smoothed use, rebuilt in NumPy from their weights.


class Tanh(nn.Sequential):
    """One hidden layer, with dropout that must not vote."""

    def __init__(self, n_features, n_classes):
        super().__init__(
            nn.Linear(n_features, 12), nn.Tanh(), nn.Dropout(0.3), nn.Linear(12, n_classes)
        )


def by_hand(classifier, rows):
    """π(y) = argmax H(x̂(y)) in float64."""
    w = classifier.weights_
    if classifier.denoiser_ is not None:
        rows = classifier.denoiser_.transform(rows)
    seen = (rows - w["mean"]) * w["scale_in"].astype(float)
    hidden = np.tanh(seen @ w["network.0.weight"].T + w["network.0.bias"])
    return (hidden @ w["network.3.weight"].T + w["network.3.bias"]).argmax(axis=1)


def sectors(n_rows, seed=0):
    """Three classes around the middle of a plane."""
    X = np.random.default_rng(seed).uniform(-2, 2, (n_rows, 2))
    return X, ((np.arctan2(X[:, 1], X[:, 0]) + np.pi) // (2 * np.pi / 3)).astype(int)


def narrow_energy(n_features):
    return mlp(n_features, 16, 1)


XHATS = {
    "passthrough": "passthrough",
    "parzen": ParzenDenoiser(),
    "deen": DEENDenoiser(module=narrow_energy, max_epochs=3),
}


def trained(denoiser, X, y, **params):
    settings = {"sigma": 0.4, "epsilon": 0.1, "n_attack_steps": 2, "max_epochs": 20, "lr": 0.1}
    classifier = XHATClassifier(
        Tanh, denoiser=denoiser, batch_size=32, random_state=0, **settings | DRAWS | params
    )
    return classifier.fit(X, y)


@pytest.mark.parametrize("denoiser", XHATS.values(), ids=XHATS)
def test_votes_of_xhat_have_the_law_of_its_network_behind_its_denoiser(denoiser):
    """Against draws of NumPy's own generator; false alarms with probability 1e-6."""
    X, y = sectors(200)
    classifier = trained(denoiser, X, y, n_certify_draws=LAW_DRAWS)
    rows = sectors(25, seed=1)[0]
    counts = classifier.certify(rows).counts
    rng = np.random.default_rng(2)
    expected = np.empty_like(counts)
    for i, row in enumerate(rows):
        said = by_hand(classifier, row + 0.4 * rng.standard_normal((LAW_DRAWS, 2)))
        expected[i] = np.bincount(said, minlength=3)
    assert_same_law(counts, expected)


def test_radius_of_a_trained_linear_network_is_at_most_its_margin():
    """Two linear logits and no denoiser: g = π, and the margin is the exact radius."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((ROWS, 3)) * [1.0, 2.0, 0.5] + 1
    y = (X @ [1.0, 0.4, -1.0] + 0.3 * rng.standard_normal(ROWS) > 0).astype(int)
    classifier = XHATClassifier(
        nn.Linear, denoiser="passthrough", sigma=0.5, epsilon=0.2, n_attack_steps=1, max_epochs=3,
        random_state=0, **DRAWS,
    ).fit(X, y)  # fmt: skip
    weights = {name: value.astype(float) for name, value in classifier.weights_.items()}
    w = (weights["network.weight"][1] - weights["network.weight"][0]) * weights["scale_in"]
    bias = weights["network.bias"][1] - weights["network.bias"][0]
    score = (X - weights["mean"]) @ w + bias
    margin = np.abs(score) / np.linalg.norm(w)
    certificate = classifier.certify(X)
    failures = wrong(certificate, (score > 0).astype(int), margin)
    assert failures <= allowed(ROWS)
    close = margin < 1.0  # farther rows get all votes, and less than their margin
    assert close.sum() > 500
    bad = certificate.radius[close] > margin[close]
    assert bad.sum() >= stats.binom.ppf(1e-6, close.sum(), 0.07)  # the bound is not wasteful


@pytest.mark.parametrize("denoiser", [XHATS["passthrough"], XHATS["parzen"]], ids=list(XHATS)[:2])
def test_label_of_xhat_changes_nowhere_within_the_radius(denoiser):
    """g on a grid, by quadrature of π with 16 points a sigma; a lead below 0.03 proves nothing."""
    sigma, step, far = 0.4, 0.025, 72
    X, y = sectors(200)
    classifier = trained(denoiser, X, y, sigma=sigma)
    ticks = step * np.arange(-200, 201)
    points = np.stack(np.meshgrid(ticks, ticks, indexing="ij"), axis=-1)
    said = by_hand(classifier, points.reshape(-1, 2)).reshape(points.shape[:2])
    near = ticks[far:-far:2]
    blur = stats.norm.pdf((near[:, np.newaxis] - ticks) / sigma) * step / sigma
    p = np.stack([blur @ (said == k) @ blur.T for k in range(3)]).reshape(3, -1)
    np.testing.assert_allclose(p.sum(axis=0), 1, atol=1e-5)
    clear = np.diff(np.sort(p, axis=0)[1:], axis=0)[0] > 0.03
    label, points = p.argmax(axis=0)[clear], points[far:-far:2, far:-far:2].reshape(-1, 2)[clear]
    rows = np.random.default_rng(3).uniform(-2, 2, (400, 2))
    certificate = classifier.certify(rows)
    assert certificate.radius.max() < 1.2 <= near.max() - 2
    distance = np.linalg.norm(points - rows[:, np.newaxis], axis=2)
    other = label != certificate.label[:, np.newaxis]
    nearest = np.where(other, distance, np.inf).min(axis=1)
    assert (certificate.radius > 2 * step).sum() > 200
    assert (nearest <= certificate.radius).sum() <= allowed(400)
    assert (nearest <= 2 * certificate.radius).sum() > allowed(400)
