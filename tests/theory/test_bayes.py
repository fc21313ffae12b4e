"""Bayes estimators against integrals, finite differences, each other and brute force."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from smoothlearn.theory import bayes
from smoothlearn.theory.bayes import (
    gaussian_denoiser,
    linear_gaussian_radius,
    linear_gaussian_score,
    mixture_denoiser,
    mixture_energy,
    parzen_denoiser,
    parzen_energy,
)
from smoothlearn.theory.gaussian import radius

MIXTURE = {
    "means": np.array([[0.0, 1.0, -1.0], [2.0, 0.0, 0.5], [-1.0, -1.5, 3.0], [0.3, 0.3, 0.3]]),
    "scales": np.array([0.5, 1.2, 0.0, 2.0]),
    "weights": np.array([1.0, 3.0, 2.0, 0.5]),
}


def gradient(energy, y, step=1e-5):
    """Central differences, one column a coordinate."""
    shifts = step * np.eye(y.shape[1])
    return np.stack([(energy(y + s) - energy(y - s)) / (2 * step) for s in shifts], axis=1)


def posterior_mean(y, sigma, density):
    """E[X | Y = y] and f_Y(y) by quadrature in one dimension."""

    def joint(x):
        return density(x) * stats.norm.pdf(y, x, sigma)

    options = {"epsabs": 1e-13, "epsrel": 1e-12, "limit": 300, "points": [-3, -1, 0, 1, 3]}
    mass = integrate.quad(joint, -15, 15, **options)[0]
    return integrate.quad(lambda x: x * joint(x), -15, 15, **options)[0] / mass, mass


@pytest.mark.parametrize("y", [-2.0, 0.3, 1.7])
@pytest.mark.parametrize("sigma", [0.4, 1.5])
def test_gaussian_is_the_integral(y, sigma):
    expected, _ = posterior_mean(y, sigma, lambda x: stats.norm.pdf(x, 0.5, 0.8))
    assert gaussian_denoiser([[y]], sigma, 0.5, 0.8)[0, 0] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("y", [-2.0, 0.3, 1.7])
@pytest.mark.parametrize("sigma", [0.4, 1.5])
def test_mixture_is_the_integral(y, sigma):
    means, scales, weights = np.array([[-1.0], [0.5], [2.0]]), [0.5, 0.9, 0.3], [0.2, 0.5, 0.3]

    def density(x):
        return sum(
            w * stats.norm.pdf(x, m, s)
            for m, s, w in zip(means[:, 0], scales, weights, strict=True)
        )

    expected, mass = posterior_mean(y, sigma, density)
    found = mixture_denoiser([[y]], sigma, means, scales, weights)[0, 0]
    assert found == pytest.approx(expected, rel=1e-8)
    energy = mixture_energy([[y]], sigma, means, scales, weights)[0]
    assert energy == pytest.approx(-math.log(mass), rel=1e-9)


def test_gaussian_contracts_towards_its_mean(rng):
    y, mean = rng.normal(size=(5, 3)), np.array([1.0, 2.0, -3.0])
    beta = 1 / (1 + (0.5 / 0.8) ** 2)
    np.testing.assert_allclose(
        gaussian_denoiser(y, 0.5, mean, 0.8), mean + beta * (y - mean), rtol=1e-12
    )
    np.testing.assert_allclose(gaussian_denoiser(y, 0.5, 0.0, 0.8), beta * y, rtol=1e-12)
    np.testing.assert_array_equal(gaussian_denoiser(y, 0.5, mean, 0.0), np.tile(mean, (5, 1)))
    np.testing.assert_allclose(gaussian_denoiser(y, 0.5, mean, 1e200), y, rtol=1e-12)


def test_one_component_is_the_gaussian(rng):
    y, mean = rng.normal(size=(5, 3)), np.array([1.0, 2.0, -3.0])
    np.testing.assert_allclose(
        mixture_denoiser(y, 0.5, mean[None], 0.8), gaussian_denoiser(y, 0.5, mean, 0.8), rtol=1e-12
    )


def test_two_components_are_eq_8(rng):
    sigma, scale, mu = 0.7, 0.6, np.array([1.0, -0.5, 0.2])
    y = rng.normal(size=(20, 3))
    beta = 1 / (1 + (sigma / scale) ** 2)
    slide = np.tanh((beta * y) @ mu / scale**2)
    expected = beta * y + (1 - beta) * slide[:, None] * mu
    np.testing.assert_allclose(
        mixture_denoiser(y, sigma, [mu, -mu], scale), expected, rtol=1e-11, atol=1e-13
    )


def test_the_energy_is_scipys_density(rng):
    y, sigma = rng.normal(size=(30, 3)), 0.6
    density = sum(
        w * stats.multivariate_normal.pdf(y, m, (s**2 + sigma**2) * np.eye(3))
        for m, s, w in zip(*MIXTURE.values(), strict=True)
    ) / np.sum(MIXTURE["weights"])
    np.testing.assert_allclose(mixture_energy(y, sigma, **MIXTURE), -np.log(density), rtol=1e-12)


def test_the_energy_integrates_to_one():
    means, scales, weights = [[-1.0], [2.0]], [0.5, 0.0], [2.0, 5.0]
    mass, _ = integrate.quad(
        lambda y: math.exp(-mixture_energy([[y]], 0.5, means, scales, weights)[0]), -9, 9
    )
    assert mass == pytest.approx(1.0, rel=1e-8)


def test_estimators_step_down_the_gradient_of_their_energies(rng):
    y, sigma = 2 * rng.normal(size=(20, 3)), 0.6
    rows, left_out = rng.normal(size=(9, 3)), rng.integers(9, size=20)

    def mixture(points):
        return mixture_energy(points, sigma, **MIXTURE)

    def parzen(points):
        return parzen_energy(points, sigma, rows)

    def parzen_without(points):
        return parzen_energy(points, sigma, rows, leave_out=left_out)

    for energy, found in [
        (mixture, mixture_denoiser(y, sigma, **MIXTURE)),
        (parzen, parzen_denoiser(y, sigma, rows)),
        (parzen_without, parzen_denoiser(y, sigma, rows, leave_out=left_out)),
    ]:
        np.testing.assert_allclose(found, y - sigma**2 * gradient(energy, y), atol=1e-8)


@given(st.floats(-5, 5), st.floats(0.2, 3), st.floats(0.0, 2), st.floats(0.05, 0.95))
def test_the_estimate_moves_with_the_origin_and_the_unit(y, sigma, scale, weight):
    means, scales, weights = np.array([[-1.0], [1.0]]), [scale, 1.0], [weight, 1 - weight]
    here = mixture_denoiser([[y]], sigma, means, scales, weights)
    moved = mixture_denoiser([[y + 7]], sigma, means + 7, scales, weights) - 7
    scaled = mixture_denoiser(
        [[3 * y]], 3 * sigma, 3 * means, np.multiply(3, scales), np.multiply(5, weights)
    )
    np.testing.assert_allclose(moved, here, atol=1e-9)
    np.testing.assert_allclose(scaled, 3 * here, atol=1e-9)


def test_far_from_every_component_the_nearest_or_widest_wins():
    means = [[0.0, 1.0], [0.0, -1.0]]
    far = np.array([[0.0, 1e6], [0.0, -1e6], [1e8, 0.25]])
    found = mixture_denoiser(far, 1.0, means, 0.0)
    np.testing.assert_allclose(found, [[0, 1], [0, -1], [0, math.tanh(0.25)]], atol=1e-12)
    energy = mixture_energy(far, 1.0, means, 0.0)
    np.testing.assert_allclose(energy, (far**2).sum(axis=1) / 2, rtol=1e-5)
    wide = mixture_denoiser(far, 1.0, means, [0.0, 2.0])
    np.testing.assert_allclose(wide[:, 0], 0.8 * far[:, 0])


def test_a_component_without_weight_is_not_there(rng):
    y = rng.normal(size=(4, 3))
    arguments = MIXTURE["means"], MIXTURE["scales"]
    without = mixture_denoiser(y, 0.5, *arguments, [1.0, 1.0, 1.0, 0.0])
    expected = mixture_denoiser(y, 0.5, *(a[:3] for a in arguments))
    np.testing.assert_allclose(without, expected, rtol=1e-12)


def test_parzen_is_the_mixture_of_its_rows(rng):
    y, rows = rng.normal(size=(12, 4)), rng.normal(size=(30, 4))
    np.testing.assert_allclose(
        parzen_denoiser(y, 0.5, rows), mixture_denoiser(y, 0.5, rows, 0.0), rtol=1e-12
    )
    weights = np.exp(-np.square(y[:, None] - rows).sum(axis=2) / (2 * 0.5**2))
    expected = weights @ rows / weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(parzen_denoiser(y, 0.5, rows), expected, rtol=1e-10, atol=1e-12)
    density = weights.mean(axis=1) / (2 * np.pi * 0.5**2) ** 2
    np.testing.assert_allclose(parzen_energy(y, 0.5, rows), -np.log(density), rtol=1e-12)


def test_one_row_is_a_point_mass():
    np.testing.assert_allclose(parzen_denoiser([[5.0, 5.0]], 0.5, [[1.0, 2.0]]), [[1.0, 2.0]])


def test_leaving_a_row_out_is_deleting_it(rng):
    rows = rng.normal(size=(15, 3))
    y = rows + 0.3 * rng.normal(size=rows.shape)
    left_out = rng.permutation(15)
    for function in (parzen_denoiser, parzen_energy):
        expected = [
            function(y[[i]], 0.3, np.delete(rows, gone, axis=0))[0]
            for i, gone in enumerate(left_out)
        ]
        found = function(y, 0.3, rows, leave_out=left_out)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_the_row_itself_dominates_unless_left_out():
    rows = np.array([[0.0], [10.0], [11.0]])
    np.testing.assert_allclose(parzen_denoiser(rows, 0.1, rows), rows, atol=1e-12)
    found = parzen_denoiser(rows, 0.1, rows, leave_out=[0, 1, 2])
    np.testing.assert_allclose(found, [[10.0], [11.0], [10.0]], atol=1e-12)


def test_a_copy_of_the_row_left_out_stays():
    rows = np.array([[0.0], [0.0], [10.0]])
    found = parzen_denoiser([[0.1]], 0.5, rows, leave_out=[0])
    np.testing.assert_allclose(found, [[0.0]], atol=1e-12)


@pytest.mark.parametrize("entries", [1, 70, 10**6])
def test_blocks_change_nothing(rng, monkeypatch, entries):
    y, rows, left_out = rng.normal(size=(25, 3)), rng.normal(size=(20, 3)), np.arange(25) % 20
    expected = parzen_denoiser(y, 0.5, rows, leave_out=left_out)
    energy = parzen_energy(y, 0.5, rows, leave_out=left_out)
    monkeypatch.setattr(bayes, "BLOCK_ENTRIES", entries)
    np.testing.assert_allclose(
        parzen_denoiser(y, 0.5, rows, leave_out=left_out), expected, rtol=1e-12
    )
    np.testing.assert_allclose(parzen_energy(y, 0.5, rows, leave_out=left_out), energy, rtol=1e-12)


def test_far_origins_are_centred_away(rng):
    y, rows = rng.normal(size=(10, 3)), rng.normal(size=(20, 3))
    moved = parzen_denoiser(y + 1e6, 0.3, rows + 1e6) - 1e6
    np.testing.assert_allclose(moved, parzen_denoiser(y, 0.3, rows), atol=1e-7)


def test_inputs_are_left_as_they_were(rng):
    y, rows, weights = rng.normal(size=(3, 2)), rng.normal(size=(4, 2)), np.ones(4)
    copies = y.copy(), rows.copy(), weights.copy()
    parzen_denoiser(y, 0.5, rows, leave_out=[0, 1, 2])
    parzen_energy(y, 0.5, rows)
    mixture_denoiser(y, 0.5, rows, 0.1, weights)
    for array, copy in zip((y, rows, weights), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_no_rows_and_single_precision():
    nothing, rows = np.empty((0, 2)), np.ones((3, 2), dtype=np.float32)
    assert gaussian_denoiser(nothing, 1.0, 0.0, 1.0).shape == (0, 2)
    assert parzen_denoiser(nothing, 1.0, rows, leave_out=[]).shape == (0, 2)
    assert parzen_energy(nothing, 1.0, rows).shape == (0,)
    assert linear_gaussian_radius(nothing, [1.0, 0.0], 0.0, 1.0, 1.0).shape == (0,)
    assert parzen_denoiser(rows, 1.0, rows).dtype == np.float64


Y = [[0.0, 1.0]]


@pytest.mark.parametrize(
    ("function", "arguments", "error", "message"),
    [
        (gaussian_denoiser, ([0.0], 1.0, 0.0, 1.0), ValueError, r"y must have shape \(n, d\)"),
        (gaussian_denoiser, ([[math.nan]], 1.0, 0.0, 1.0), ValueError, "y must be finite"),
        (gaussian_denoiser, ([["a"]], 1.0, 0.0, 1.0), TypeError, "y must hold real numbers"),
        (gaussian_denoiser, (Y, 0.0, 0.0, 1.0), ValueError, "sigma must be finite and > 0"),
        (gaussian_denoiser, (Y, 1.0, [0.0] * 3, 1.0), ValueError, r"mean must have shape \(2,\)"),
        (gaussian_denoiser, (Y, 1.0, 0.0, -1.0), ValueError, "scale must be finite and >= 0"),
        (mixture_denoiser, (Y, -1.0, Y, 1.0), ValueError, "sigma must be finite and > 0"),
        (mixture_denoiser, (Y, 1.0, [1.0], 1.0), ValueError, r"means must have shape \(n_comp"),
        (mixture_denoiser, (Y, 1.0, [[1.0]], 1.0), ValueError, r"y must have shape \(n, 1\)"),
        (mixture_denoiser, (Y, 1.0, Y, -1.0), ValueError, "scales must be >= 0, got -1"),
        (mixture_denoiser, (Y, 1.0, Y, [1.0, 1.0]), ValueError, r"scales must have shape \(1,\)"),
        (mixture_energy, (Y, 1.0, Y, 1.0, [-1.0]), ValueError, "weights must be >= 0"),
        (mixture_energy, (Y, 1.0, Y, 1.0, [0.0]), ValueError, "weights must be >= 0 and not all"),
        (mixture_energy, (Y, 1.0, Y, 1.0, [1.0, 1]), ValueError, r"weights must have shape \(1,"),
        (parzen_denoiser, (Y, "1", Y), TypeError, "sigma must be one real number"),
        (parzen_denoiser, (Y, 1.0, np.empty((0, 2))), ValueError, r"X must have shape \(n_rows"),
        (parzen_energy, (Y, 1.0, [[math.inf, 0.0]]), ValueError, "X must be finite"),
        (parzen_energy, (Y, 1.0, [[0.0]]), ValueError, r"y must have shape \(n, 1\)"),
        (linear_gaussian_score, (Y, [1.0], 0.0, 1.0, 1.0), ValueError, r"w must have shape \(2,"),
        (linear_gaussian_score, (Y, [0, 0], 0.0, 1.0, 1.0), ValueError, "w must not be 0"),
        (linear_gaussian_radius, (Y, [1, 0], [0.0], 1.0, 1.0), ValueError, "b must have shape"),
        (linear_gaussian_radius, (Y, [1, 0], math.inf, 1.0, 1.0), ValueError, "b must be finite"),
        (linear_gaussian_radius, (Y, [1, 0], 0.0, 1.0, 0.0), ValueError, "scale must be finite"),
    ],
)
def test_bad_arguments_are_named(function, arguments, error, message):
    with pytest.raises(error, match=message):
        function(*arguments)


@pytest.mark.parametrize(
    ("rows", "leave_out", "error", "message"),
    [
        ([[0.0], [1.0]], [0, 1], ValueError, r"leave_out must have shape \(1,\)"),
        ([[0.0], [1.0]], 0, ValueError, r"leave_out must have shape \(1,\)"),
        ([[0.0], [1.0]], [0.0], TypeError, "leave_out must hold integers"),
        ([[0.0], [1.0]], [2], ValueError, r"leave_out must lie in \[0, 2\), got 2"),
        ([[0.0], [1.0]], [-1], ValueError, r"leave_out must lie in \[0, 2\), got -1"),
        ([[0.0]], [0], ValueError, "leave_out needs at least two rows of X"),
    ],
)
def test_bad_indices_to_leave_out_are_named(rows, leave_out, error, message):
    for function in (parzen_denoiser, parzen_energy):
        with pytest.raises(error, match=message):
            function([[0.0]], 1.0, rows, leave_out=leave_out)


SIGMA, SCALE = 0.9, 0.7
W = np.array([1.0, -2.0, 0.5])


def vote_probability(x, b):
    """P(⟨w, x̂(x + ε)⟩ + b > 0) by quadrature over the noise along w, the only noise that votes."""
    nodes = np.linspace(-9, 9, 200_001)
    y = x + SIGMA * nodes[:, None] * W / np.linalg.norm(W)
    votes = gaussian_denoiser(y, SIGMA, 0.0, SCALE) @ W + b > 0
    mass = stats.norm.pdf(nodes) * (nodes[1] - nodes[0])
    return votes @ mass


@pytest.mark.parametrize("b", [-1.5, 0.0, 0.8])
def test_proposition_2_3_has_the_votes_of_the_denoised_classifier(rng, b):
    x = rng.normal(size=(6, 3))
    p = np.array([vote_probability(row, b) for row in x])
    score = linear_gaussian_score(x, W, b, SIGMA, SCALE)
    beta = 1 / (1 + (SIGMA / SCALE) ** 2)
    exact = stats.norm.cdf(score / (beta * SIGMA * np.linalg.norm(W)))
    np.testing.assert_allclose(exact, p, atol=1e-4)  # half a step of the nodes
    np.testing.assert_array_equal(score > 0, p > 0.5)
    np.testing.assert_allclose(
        linear_gaussian_radius(x, W, b, SIGMA, SCALE),
        radius(np.maximum(exact, 1 - exact), sigma=SIGMA),
        rtol=1e-9,
    )


@pytest.mark.parametrize("b", [-1.5, 0.0, 0.8])
def test_the_label_flips_just_beyond_the_radius_and_not_before(rng, b):
    x = rng.normal(size=(6, 3))
    direction = W / np.linalg.norm(W)
    radii = linear_gaussian_radius(x, W, b, SIGMA, SCALE)
    for row, r in zip(x, radii, strict=True):
        label = vote_probability(row, b) > 0.5
        towards = -direction if label else direction
        assert (vote_probability(row + (r - 1e-3) * towards, b) > 0.5) == label
        assert (vote_probability(row + (r + 1e-3) * towards, b) > 0.5) != label
        assert (vote_probability(row - (r + 1e-3) * towards, b) > 0.5) == label
    steps = rng.normal(size=(1000, 3))
    steps *= 0.999 / np.linalg.norm(steps, axis=1, keepdims=True)
    for row, r in zip(x, radii, strict=True):
        scores = linear_gaussian_score(row + r * steps, W, b, SIGMA, SCALE)
        assert len(np.unique(np.sign(scores))) == 1


def test_without_an_intercept_denoising_gains_nothing(rng):
    x = rng.normal(size=(6, 3))
    margin = np.abs(x @ W) / np.linalg.norm(W)
    np.testing.assert_allclose(linear_gaussian_radius(x, W, 0.0, SIGMA, SCALE), margin)


def test_with_an_intercept_one_side_gains_what_the_other_loses():
    b, beta = -1.5, 1 / (1 + (SIGMA / SCALE) ** 2)
    shift = (1 / beta - 1) * abs(b) / np.linalg.norm(W)
    direction = W / np.linalg.norm(W)
    origin_side, far_side = 0.0 * direction, 20.0 * direction
    between = 1.5 * abs(b) / np.linalg.norm(W) * direction  # h says +1, h(β·) says -1
    x = np.stack([origin_side, far_side, between])
    margin = np.abs(x @ W + b) / np.linalg.norm(W)
    gain = linear_gaussian_radius(x, W, b, SIGMA, SCALE) - margin
    np.testing.assert_allclose(gain[:2], [shift, -shift])
    score = linear_gaussian_score(x, W, b, SIGMA, SCALE)
    np.testing.assert_array_equal(np.sign(score), [-1, 1, -1])
    np.testing.assert_array_equal(np.sign(x @ W + b), [-1, 1, 1])


@pytest.fixture
def rng():
    return np.random.default_rng(0)
