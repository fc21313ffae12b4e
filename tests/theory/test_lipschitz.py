"""Constants against closed forms, fine grids, Hessians by the thousand, and longer floats."""

import itertools

import numpy as np
import pytest

from smoothlearn.theory.lipschitz import (
    composed,
    power_bend,
    power_slope,
    quadratic_curvature,
    rbf_curvature,
    rbf_slope,
    ridge_curvature,
    ridge_slope,
    ridge_spread,
    tanh_bend,
    tanh_slope,
)
from smoothlearn.theory.norms import dual

NORMS = [1, 2, np.inf]
PEAK = 2 * np.exp(-1.5)


def hessian_norm(hessians, norm):
    """The exact norm from p to q of symmetric matrices of shape (..., d, d)."""
    if norm == 1:
        return np.abs(hessians).max(axis=(-2, -1))
    if norm == 2:
        return np.abs(np.linalg.eigvalsh(hessians)).max(axis=-1)
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=hessians.shape[-1])))
    return np.abs(signs @ hessians).sum(axis=-1).max(axis=-1)


def rbf_hessian(X, centres, coefficients, gamma):
    steps = X[:, None] - centres
    weights = coefficients * np.exp(-gamma * (steps**2).sum(axis=2))
    along = np.einsum("ni,nij,nik->njk", 4 * gamma**2 * weights, steps, steps)
    return along - 2 * gamma * weights.sum(axis=1)[:, None, None] * np.eye(X.shape[1])


def test_one_gaussian_is_steepest_in_its_middle():
    for sign in (1.0, -1.0):
        np.testing.assert_allclose(rbf_curvature(np.array([3 * sign]), 0.7), 2 * 0.7 * 3)


def test_global_constant_is_the_formula():
    rng = np.random.default_rng(0)
    coefficients = rng.standard_normal((20, 7))
    plus = np.maximum(coefficients, 0).sum(axis=1)
    minus = np.maximum(-coefficients, 0).sum(axis=1)
    expected = 2 * 0.3 * np.maximum(plus + PEAK * minus, minus + PEAK * plus)
    np.testing.assert_allclose(rbf_curvature(coefficients, 0.3), expected, rtol=1e-12)
    assert (rbf_curvature(coefficients, 0.3) >= expected).all()


def test_two_opposite_gaussians_attain_the_global_constant():
    """In the middle of one the other has s = 3/2, where it curves most towards its own middle."""
    gamma, coefficients = 0.5, np.array([2.0, -5.0])
    centres = np.array([[0.0, 0.0], [np.sqrt(1.5 / gamma), 0.0]])
    for signs in (1, -1):
        hessian = rbf_hessian(centres[1:], centres, signs * coefficients, gamma)
        bound = rbf_curvature(signs * coefficients, gamma)
        np.testing.assert_allclose(hessian_norm(hessian, 2), bound, rtol=1e-12)


@pytest.mark.parametrize("nearest", [0.0, 0.4, 0.8, 1.2, 1.5, 3.0, 30.0])
@pytest.mark.parametrize("width", [0.0, 0.3, 2.0, np.inf])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_one_gaussian_on_a_shell(nearest, width, sign):
    """The largest eigenvalue of its Hessian over all the distances, by a grid."""
    gamma, far = 1.3, min(nearest + width, 20.0) if nearest < 20 else nearest
    s = gamma * np.linspace(nearest, far, 100_001) ** 2
    exact = 2 * gamma * np.maximum(np.exp(-s), np.abs(np.exp(-s) * (2 * s - 1))).max()
    bound = rbf_curvature(np.array([sign]), gamma, nearest, nearest + width)
    assert bound >= exact
    np.testing.assert_allclose(bound, exact, rtol=1e-6, atol=1e-300)


@pytest.mark.parametrize("d", [1, 2, 3])
@pytest.mark.parametrize("radius", [0.0, 0.1, 0.7, 3.0])
def test_rbf_hessians_on_balls_stay_below(d, radius):
    rng = np.random.default_rng(d)
    for _ in range(30):
        gamma, centres = rng.uniform(0.1, 3), rng.standard_normal((5, d))
        coefficients = rng.standard_normal(5) * 10 ** rng.uniform(-1, 1, 5)
        x = centres[0] + rng.choice([0, 1]) * rng.standard_normal(d)
        steps = rng.standard_normal((500, d))
        steps *= radius * rng.uniform(0, 1, (500, 1)) / np.linalg.norm(steps, axis=1)[:, None]
        distances = np.linalg.norm(x - centres, axis=1)
        bound = rbf_curvature(
            coefficients, gamma, np.maximum(distances - radius, 0), distances + radius
        )
        worst = hessian_norm(rbf_hessian(x + steps, centres, coefficients, gamma), 2).max()
        assert worst <= bound * (1 + 1e-9)
        assert bound <= rbf_curvature(coefficients, gamma) * (1 + 1e-12)


def cancelling(rng, n=100):
    """Numbers of both signs whose sum is some last digits of theirs."""
    some = rng.standard_normal(n)
    return np.concatenate([some, -rng.permutation(some) * (1 + rng.integers(-3, 4, n) * 1e-16)])


def test_rbf_constant_is_rounded_up_where_terms_cancel():
    """Near the middle all curve alike, and only their coefficients' sum counts."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        coefficients = cancelling(rng)
        near, far = np.sqrt(1e-17), np.sqrt(rng.uniform(1e-17, 1e-16, len(coefficients)))
        c, s, t = (np.asarray(a).astype(np.longdouble) for a in (coefficients, near, far))
        decay, bump = np.exp(-(s**2)), np.exp(-(t**2)) * (2 * t**2 - 1)
        plus, minus = np.maximum(c, 0), np.maximum(-c, 0)
        exact = 2 * max((plus * decay + minus * bump).sum(), (plus * bump + minus * decay).sum())
        assert rbf_curvature(coefficients, 1.0, near, far) >= exact


def test_far_gaussians_do_not_vanish():
    bound = rbf_curvature(np.array([1.0]), 1.0, 1e3, 1e3)
    assert 0 < bound < 1e-300
    assert rbf_curvature(np.zeros(1), 1.0) == 0
    assert rbf_curvature(np.ones(1), 0.0) == 0
    assert np.isfinite(rbf_curvature(np.ones(2), 1e300, np.array([0.0, 1e200]), np.inf))


def test_rbf_slope_is_attained_by_one_gaussian():
    gamma, r = 0.8, np.linspace(0, 5, 100_001)
    exact = (2 * gamma * r * np.exp(-gamma * r**2)).max()
    bound = rbf_slope(np.array([-1.0]), gamma)
    assert bound >= exact
    np.testing.assert_allclose(bound, exact, rtol=1e-8)
    np.testing.assert_allclose(rbf_slope(np.array([1.0, -2.0]), gamma), 3 * exact, rtol=1e-8)


@pytest.mark.parametrize("least", [0.0, 0.3, 0.65, 0.67, 1.0, 5.0, 50.0])
@pytest.mark.parametrize("width", [0.0, 0.1, 1.0, np.inf])
def test_tanh_bend_by_a_grid(least, width):
    u = np.linspace(least, min(least + width, least + 10), 100_001).astype(np.longdouble)
    exact = (2 * np.tanh(u) / np.cosh(u) ** 2).max()
    assert tanh_bend(least, least + width) >= exact
    np.testing.assert_allclose(
        tanh_bend(least, least + width), float(exact), rtol=1e-8, atol=1e-300
    )


def test_tanh_bend_of_all_numbers_is_its_closed_form():
    np.testing.assert_allclose(tanh_bend(0.0), 4 / (3 * np.sqrt(3)), rtol=1e-14)
    assert tanh_bend(0.0) >= np.longdouble(4) / (3 * np.sqrt(np.longdouble(3)))


def test_tanh_slope_is_the_derivative_where_it_is_large_and_tiny():
    u = np.array([0.0, 1e-3, 0.5, 3.0, 20.0, 300.0])
    exact = 1 / np.cosh(u.astype(np.longdouble)) ** 2
    np.testing.assert_allclose(tanh_slope(u), exact.astype(float), rtol=1e-14)
    assert tanh_slope(np.inf) == 0


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 4, 7])
def test_power_bounds_by_a_grid(degree):
    power = np.polynomial.Polynomial([0] * degree + [1])
    for most in (0.0, 0.5, 1.0, 3.0):
        u = np.linspace(-most, most, 1001)
        for bound, order in ((power_slope(most, degree), 1), (power_bend(most, degree), 2)):
            exact = np.abs(power.deriv(order)(u)).max()
            assert bound >= exact
            np.testing.assert_allclose(bound, exact, rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("degree", [2, 3])
def test_powers_of_all_numbers(degree):
    assert power_slope(np.inf, degree) == np.inf
    assert power_bend(np.inf, degree) == (np.inf if degree == 3 else pytest.approx(2))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("m", [2, 6])
def test_ridge_spread_is_the_norm_of_the_form(m, norm):
    rng = np.random.default_rng(0)
    for _ in range(30):
        c, weights = rng.standard_normal(m), rng.standard_normal((m, 3))
        c[0] = 0
        exact = hessian_norm((weights.T * np.abs(c)) @ weights, norm)
        spread = ridge_spread(c, weights, norm)
        assert spread >= exact * (1 - 1e-14)
        assert spread <= exact * (1 + 1e-12) or norm == np.inf


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("d", [1, 3])
def test_hessians_of_ridges_stay_below(d, norm):
    rng = np.random.default_rng(d)
    for _ in range(50):
        weights = rng.standard_normal((4, d)) * 10 ** rng.uniform(-1, 1, (4, 1))
        c, bends = rng.standard_normal(4), 10 ** rng.uniform(-2, 2, 4)
        curves = c * bends * rng.choice([-1, 1, 0.3], (200, 4))
        exact = hessian_norm(np.einsum("ni,ij,ik->njk", curves, weights, weights), norm).max()
        lengths = np.linalg.norm(weights, dual(norm), axis=1)
        bound = ridge_curvature(c, bends, lengths, ridge_spread(c, weights, norm))
        assert exact <= bound * (1 + 1e-12)
        assert bound <= (np.abs(c) * bends * lengths**2).sum() * (1 + 1e-12)


def test_a_single_ridge_attains_its_constant():
    weights, bends = np.array([[3.0, -4.0]]), np.array([0.5])
    for norm in NORMS:
        length = np.linalg.norm(weights, dual(norm), axis=1)
        bound = ridge_curvature(np.array([-2.0]), bends, length, np.inf)
        np.testing.assert_allclose(bound, 2 * 0.5 * length[0] ** 2)


def test_ridges_without_a_weight_add_nothing_however_bent():
    c, lengths = np.array([1.0, 0.0, 1.0]), np.array([0.0, 1.0, 2.0])
    bends = np.array([np.inf, np.inf, 1.0])
    np.testing.assert_allclose(ridge_curvature(c, bends, lengths, 4.0), 4)
    assert ridge_curvature(c[:2], bends[:2], lengths[:2], 0.0) == 0
    assert ridge_curvature(c, bends[::-1], lengths, 4.0) == np.inf
    np.testing.assert_array_equal(ridge_slope(np.stack([c, 0 * c]), lengths, np.inf), [np.inf, 0])
    np.testing.assert_allclose(ridge_slope(c, lengths), 2)


@pytest.mark.parametrize("norm", NORMS)
def test_constant_of_degree_2_is_that_of_its_hessian(norm):
    rng = np.random.default_rng(0)
    for _ in range(50):
        c, weights = rng.standard_normal(6), rng.standard_normal((6, 4))
        exact = hessian_norm(2 * (weights.T * c) @ weights, norm)
        bound = quadratic_curvature(c, weights, norm)
        assert bound >= exact
        assert bound <= exact * (1 + 1e-12) or norm == np.inf
        assert bound <= 2 * ridge_spread(c, weights, norm) * (1 + 1e-12) or norm == np.inf


@pytest.mark.parametrize("norm", [1, 2])
def test_degree_2_counts_cancelled_digits(norm):
    rng = np.random.default_rng(0)
    for _ in range(100):
        c, weights = cancelling(rng), np.ones((200, 1)) * rng.uniform(1, 2)
        exact = 2 * np.abs((c.astype(np.longdouble) * weights[:, 0] * weights[:, 0]).sum())
        assert quadratic_curvature(c, weights, norm) >= exact


@pytest.mark.parametrize("norm", NORMS)
def test_sigmoid_of_a_quadratic_stays_below(norm):
    rng = np.random.default_rng(0)
    for _ in range(30):
        A, w = rng.standard_normal((3, 3)), 3 * rng.standard_normal(3)
        A = A + A.T
        X = rng.uniform(-1, 1, (500, 3))
        gradients, h = X @ A + w, np.einsum("ni,ij,nj->n", X, A / 2, X) + X @ w
        p = 1 / (1 + np.exp(-h))
        slopes = (p * (1 - p))[:, None, None]
        outer = gradients[:, :, None] * gradients[:, None]
        hessians = slopes * ((1 - 2 * p)[:, None, None] * outer + A)
        steepest = np.linalg.norm(gradients, dual(norm), axis=1).max()
        bound = composed(steepest, hessian_norm(A, norm))
        assert hessian_norm(hessians, norm).max() <= bound


def test_sigmoid_of_a_linear_function_attains_its_constant():
    t = np.linspace(-5, 5, 1_000_001)
    p = 1 / (1 + np.exp(-t))
    exact = np.abs(p * (1 - p) * (1 - 2 * p)).max()
    assert composed(3.0, 0.0) >= 9 * exact
    np.testing.assert_allclose(composed(3.0, 0.0), 9 * exact, rtol=1e-6)
    np.testing.assert_allclose(composed(0.0, 2.0), 0.5)
    assert composed(np.inf, 0.0) == composed(0.0, np.inf) == np.inf
