"""What Anderson & Sojoudi 2022 state of smoothing and of its bias, with exact expectations.

Measures are discrete, or Gaussian by a quadrature that is a discrete measure too. Certified radii
have tests of their own.
"""

import numpy as np
import pytest
from sklearn.datasets import make_moons
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from smoothlearn.locally_biased import LocallyBiasedSmoother
from smoothlearn.theory.locally_biased import smoothed_score
from smoothlearn.theory.norms import dual, row_norms

NORMS = [1, 2, np.inf]


def expectation(g, X, atoms, weights):
    """E g(x + ε) at rows X (n, d), for atoms (n, m, d) or (m, d) and weights (n, m) or (m,)."""
    values = g(X[:, np.newaxis] + atoms)
    return (values * np.broadcast_to(weights, values.shape[:2])[..., np.newaxis]).sum(axis=1)


def measures(X, seed=0):
    """A discrete measure of mean 0 for every row, that depends on it in no simple way."""
    rng = np.random.default_rng(seed)
    n, d = X.shape
    atoms = 3 * np.sin(X @ rng.normal(size=(d, 7 * d)) + rng.normal(size=7 * d)).reshape(n, 7, d)
    weights = np.exp(np.cos(X @ rng.normal(size=(d, 7))))
    weights /= weights.sum(axis=1, keepdims=True)
    return atoms - (atoms * weights[..., np.newaxis]).sum(axis=1, keepdims=True), weights


def test_proposition_5_unbiased_measures_leave_affine_scores_as_they_are():
    rng = np.random.default_rng(0)
    A, b, X = rng.normal(size=(4, 3)), rng.normal(size=4), rng.normal(size=(500, 3))

    def g(X):
        return X @ A.T + b

    atoms, weights = measures(X)
    smoothed = expectation(g, X, atoms, weights)
    np.testing.assert_allclose(smoothed, g(X), rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(smoothed.argmax(axis=1), g(X).argmax(axis=1))

    biased = expectation(g, X, atoms + 0.5 * np.sign(X)[:, np.newaxis], weights)
    assert np.mean(biased.argmax(axis=1) != g(X).argmax(axis=1)) > 0.1


def test_proposition_5_is_of_affine_scores_only():
    rng = np.random.default_rng(1)
    A, X = rng.normal(size=(4, 3)), rng.normal(size=(500, 3))

    def g(X):
        return np.sin(X @ A.T)

    changed = expectation(g, X, *measures(X)).argmax(axis=1) != g(X).argmax(axis=1)
    assert np.mean(changed) > 0.1


def gauss_hermite(sigma):
    """Nodes and weights of a quadrature of the normal distribution in two dimensions."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(15)
    atoms = sigma * np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
    return atoms, np.multiply.outer(weights, weights).ravel() / weights.sum() ** 2


def skewed():
    """A discrete measure that is far from centred."""
    return np.array([[0.0, 0.0], [2.0, -1.0], [0.3, 4.0]]), np.array([0.5, 0.2, 0.3])


def quotients(g, norm, other, rng):
    """||g(x) - g(x')||' / ||x - x'|| for pairs at all distances."""
    X = rng.normal(size=(400, 2)) * rng.choice([1e-3, 0.3, 2.0], (400, 1))
    steps = np.concatenate(
        [
            rng.normal(size=(200, 2)),
            rng.choice([-1.0, 1.0], (100, 2)),
            np.eye(2)[rng.integers(0, 2, 100)],
        ]
    )
    Y = X + steps * rng.choice([1e-3, 0.1, 1.0], (400, 1))
    return row_norms(g(X) - g(Y), other) / row_norms(X - Y, norm)


@pytest.mark.parametrize("measure", [gauss_hermite(0.3), gauss_hermite(1.5), skewed()])
@pytest.mark.parametrize("norm", NORMS)
def test_proposition_3_a_uniform_measure_does_not_raise_a_lipschitz_constant(norm, measure):
    """The scores tanh(x_1), tanh(x_2) are 1-Lipschitz, and no less, in (p, p) for every p."""
    rng = np.random.default_rng(2)
    assert quotients(np.tanh, norm, norm, rng).max() > 0.999
    smoothed = quotients(lambda X: expectation(np.tanh, X, *measure), norm, norm, rng)
    assert smoothed.max() <= 1


@pytest.mark.parametrize("measure", [gauss_hermite(0.3), gauss_hermite(1.5), skewed()])
@pytest.mark.parametrize(
    ("norm", "other", "largest"),
    [
        (2, 2, lambda V: np.linalg.norm(V, 2)),
        (1, 2, lambda V: np.linalg.norm(V, axis=0).max()),
        (2, np.inf, lambda V: np.linalg.norm(V, axis=1).max()),
        (1, np.inf, lambda V: np.abs(V).max()),
        (np.inf, np.inf, lambda V: np.abs(V).sum(axis=1).max()),
    ],
)
def test_proposition_3_holds_for_a_network_in_pairs_of_norms(norm, other, largest, measure):
    """The scores V tanh(W x + c) have the constant ||V|| ||W||, of W from the norm to itself."""
    rng = np.random.default_rng(3)
    W, c, V = rng.normal(size=(6, 2)), rng.normal(size=6), rng.normal(size=(3, 6))
    L = largest(V) * np.linalg.norm(W, norm)

    def g(X):
        return np.tanh(X @ W.T + c) @ V.T

    assert quotients(g, norm, other, rng).max() <= L
    assert quotients(lambda X: expectation(g, X, *measure), norm, other, rng).max() <= L


def test_proposition_3_is_of_uniform_measures_only():
    """A bias that depends on the input, of Eq. 4, makes a score jump."""
    base = LogisticRegression()
    base.coef_, base.intercept_ = np.array([[0.6, 0.8]]), np.array([0.0])
    base.classes_, base.n_features_in_ = np.array([0, 1]), 2
    model = LocallyBiasedSmoother(FrozenEstimator(base), alpha=1.0)
    model.fit(np.array([[-1.0, 0.0], [1.0, 0.0]]), [0, 1])
    pair = np.array([[-1e-3, 0.0], [1e-3, 0.0]])
    assert np.ptp(base.decision_function(pair)) <= 2e-3
    assert np.ptp(model.decision_function(pair)) > 1.9


def extreme(a, norm):
    """The δ of norm 1 with the largest a'δ."""
    if norm == 1:
        return np.sign(a) * (np.abs(a) == np.abs(a).max())
    return np.sign(a) if norm == np.inf else a / np.linalg.norm(a)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("oracle", [-1.0, 1.0])
def test_eq_3_the_bias_is_the_expectation_under_an_optimal_measure(oracle, norm):
    """For any measure whose mean is αyδ, δ of norm 1 with a'δ = ||a||_*: Eq. 2 and 3."""
    rng = np.random.default_rng(4)
    a, b, alpha, X = rng.normal(size=4), 0.3, 0.7, rng.normal(size=(50, 4))

    def g(X):
        return (X @ a + b)[..., np.newaxis]

    atoms, weights = measures(X)
    mean = alpha * oracle * extreme(a, norm)
    np.testing.assert_allclose(row_norms(mean, norm), alpha)
    length = np.full(50, row_norms(a, dual(norm)))
    expected = smoothed_score(g(X)[:, 0], length, np.full(50, oracle), alpha, "logit")
    spread = expectation(g, X, atoms + mean, weights)
    np.testing.assert_allclose(spread[:, 0], expected, rtol=1e-10, atol=1e-12)
    dirac = expectation(g, X, mean[np.newaxis], np.ones(1))
    np.testing.assert_allclose(dirac[:, 0], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_eq_3_no_measure_with_a_mean_as_short_gives_more(norm):
    rng = np.random.default_rng(5)
    a, alpha = rng.normal(size=4), 0.7
    means = np.concatenate([rng.normal(size=(5000, 4)), rng.choice([-1.0, 0.0, 1.0], (500, 4))])
    means = means[row_norms(means, norm) > 0]
    means *= alpha / row_norms(means, norm)[:, np.newaxis]
    best = alpha * row_norms(a, dual(norm))
    assert np.all(means @ a <= best * (1 + 1e-12))
    assert np.max(means @ a) > 0.9 * best


@pytest.fixture
def linear(two_blobs):
    """A linear base, and the rows of which half are bias points."""
    X, y = two_blobs
    return LogisticRegression().fit(X, y), X, y


def smoother(base, X, y, **params):
    """A smoother of a fitted base with every other row as a bias point, and their labels' signs."""
    model = LocallyBiasedSmoother(FrozenEstimator(base), **params).fit(X[::2], y[::2])
    neighbor = KNeighborsClassifier(1, algorithm="brute").fit(X[::2], y[::2])
    return model, neighbor


@pytest.mark.parametrize("norm", NORMS)
def test_eq_4_the_smoothed_score_of_a_linear_base_is_the_biased_expectation(linear, norm):
    base, X, y = linear
    model, neighbor = smoother(base, X, y, alpha=0.4, norm=norm)
    oracle = 2 * neighbor.predict(X) - 1
    delta = 0.4 * oracle[:, np.newaxis] * extreme(base.coef_[0], norm)
    atoms, weights = measures(X)
    expected = expectation(
        lambda X: (X @ base.coef_.T) + base.intercept_, X, atoms + delta[:, np.newaxis], weights
    )
    np.testing.assert_allclose(model.decision_function(X), expected[:, 0], rtol=1e-9, atol=1e-12)


def test_eq_5_in_the_inf_norm_is_the_base_after_an_fgsm_step(linear):
    """The sentence before Theorem 8; the step is up the score of the nearest neighbour's class."""
    base, X, y = linear
    model, neighbor = smoother(base, X, y, alpha=0.4, norm=np.inf)
    oracle = 2 * neighbor.predict(X) - 1
    stepped = X + 0.4 * np.sign(oracle[:, np.newaxis] * base.coef_[0])
    expected = base.decision_function(stepped)
    np.testing.assert_allclose(model.decision_function(X), expected, rtol=1e-9, atol=1e-12)


@pytest.fixture
def curved():
    X, y = make_moons(120, noise=0.2, random_state=0)
    return SVC(gamma=1.0).fit(X, y), X, y


def numerical_gradient(g, X, step=1e-5):
    steps = step * np.eye(X.shape[1])
    sides = [(g(X + move) - g(X - move)) / (2 * step) for move in steps]
    return np.stack(sides, axis=1)


@pytest.mark.parametrize("norm", NORMS)
def test_eq_5_is_the_expectation_of_the_linearised_base(curved, norm):
    """And not of the base itself, unless α is small: they differ by the second order in α."""
    base, X, y = curved
    slopes = numerical_gradient(base.decision_function, X)
    differences = []
    for alpha in (0.5, 0.005):
        model, neighbor = smoother(base, X, y, alpha=alpha, norm=norm)
        oracle = 2 * neighbor.predict(X) - 1
        delta = alpha * oracle[:, np.newaxis] * np.array([extreme(a, norm) for a in slopes])
        linearised = base.decision_function(X) + (slopes * delta).sum(axis=1)
        found = model.decision_function(X)
        np.testing.assert_allclose(found, linearised, rtol=1e-6, atol=1e-7)
        differences.append(np.abs(base.decision_function(X + delta) - found).max())
    assert differences[0] > 0.1
    assert differences[1] < 2e-4 * differences[0]


def test_the_smoothed_classifier_goes_from_the_base_to_the_nearest_neighbour(curved):
    """Section 3.3 and after Eq. 5: pointwise convergence for α to infinity."""
    base, X, y = curved
    grid = np.stack(np.meshgrid(*2 * [np.linspace(-1.5, 2, 25)]), axis=-1).reshape(-1, 2)
    model, neighbor = smoother(base, X, y, alpha=0.0)
    np.testing.assert_array_equal(model.predict(grid), base.predict(grid))
    shares = [
        np.mean(model.set_params(alpha=alpha).predict(grid) == neighbor.predict(grid))
        for alpha in (0.0, 0.1, 1.0, 1e6)
    ]
    assert np.all(np.diff(shares) >= 0)
    assert shares[0] < 0.99
    assert shares[-1] == 1


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("radius", ["tight", "paper"])
def test_far_from_other_classes_the_radius_of_a_linear_base_grows_by_alpha(linear, radius, norm):
    """After Theorem 6, where the base and the nearest neighbour agree."""
    base, X, _ = linear
    model = LocallyBiasedSmoother(FrozenEstimator(base), alpha=0.4, norm=norm, radius=radius)
    certificate = model.fit(np.array([[1e4, 1e4], [0.0, 0.0]]), [0, 1]).certify(X)
    plain = np.abs(base.decision_function(X)) / row_norms(base.coef_[0], dual(norm))
    agree = base.predict(X) == 1
    assert agree.sum() > 30
    np.testing.assert_allclose(certificate.radius[agree], plain[agree] + 0.4, rtol=1e-6)


def test_theorem_8_tends_to_theorem_6_for_flat_gradients(linear):
    base, X, y = linear
    model, _ = smoother(base, X, y, alpha=0.4, radius="paper")
    expected = model.certify(X).radius
    found = model.set_params(gradient_lipschitz=1e-9).certify(X).radius
    np.testing.assert_allclose(found, expected, rtol=1e-6)
