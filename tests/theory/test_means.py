"""Bounds on means against the capital they bound, every outcome there is, and other bounds."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from smoothlearn.theory import binomial, stopping
from smoothlearn.theory.means import (
    STAKES,
    decide,
    decide_one,
    largest_mean,
    log_wealth,
    lower_bound,
    upper_bound,
    winner_and_rival_bounds,
)

MEANS = np.linspace(0.0, 1.0, 201)


def sums(X):
    return X.sum(axis=-1), (X * X).sum(axis=-1), X.shape[-1]


def exact_log_capital(X, mean):
    """log of the average over the stakes of prod(1 + (c/m)(X - m))."""
    factors = 1 + STAKES[:, np.newaxis] / mean * (X - mean)
    return np.logaddexp.reduce(np.log(factors).sum(axis=1)) - math.log(len(STAKES))


def multinomial(n, p):
    """Sums of n draws of 0, 1/2 and 1, for all outcomes, and their probabilities under p."""
    counts = np.array([(i, j, n - i - j) for i in range(n + 1) for j in range(n + 1 - i)])
    return counts @ [0, 0.5, 1], counts @ [0, 0.25, 1], stats.multinomial.pmf(counts, n, p)


def empirical_bernstein(S1, S2, n, alpha):
    """Maurer & Pontil 2009, Theorem 4."""
    variance, log = (S2 - S1**2 / n) / (n - 1), math.log(2 / alpha)
    return S1 / n - np.sqrt(2 * variance * log / n) - 7 * log / (3 * (n - 1))


samples = st.lists(
    st.one_of(st.floats(0, 1), st.sampled_from([0.0, 1.0, 1e-9])), min_size=1, max_size=40
).map(np.array)


@given(samples)
@example(np.zeros(9))
def test_wealth_is_at_most_the_capital(X):
    for mean in (1e-3, 0.2, 0.5, 0.9, 0.999, 1.0):
        assert log_wealth(*sums(X), mean) <= exact_log_capital(X, mean)
        assert log_wealth(*sums(1 - X), mean) <= exact_log_capital(1 - X, mean)


@pytest.mark.parametrize("mean", [0.01, 0.5, 0.84, 0.99])
def test_wealth_is_the_capital_of_zeros_and_ones_and_of_numbers_all_alike(mean):
    for X in (np.repeat([0.0, 1.0], [20, 80]), np.full(100, 0.7), np.zeros(5), np.ones(1000)):
        assert log_wealth(*sums(X), mean) == pytest.approx(exact_log_capital(X, mean), abs=1e-8)


def test_wealth_is_the_least_capital_of_numbers_with_these_sums():
    # 30 of t and 70 zeros, against `few` of a and the rest of b.
    t, mean, square = 0.8, 0.24, 0.192
    least = log_wealth(30 * t, 30 * t * t, 100, 0.2)
    for few in range(19, 31):
        odds = few / (100 - few)
        a, b = (mean + sign * math.sqrt((square - mean**2) * odds**-sign) for sign in (1, -1))
        X = np.repeat([a, max(b, 0.0)], [few, 100 - few])
        np.testing.assert_allclose(sums(X)[:2], (100 * mean, 100 * square))
        assert np.all((X >= 0) & (X <= 1))
        assert exact_log_capital(X, 0.2) >= least


@given(samples)
def test_wealth_never_grows_with_the_mean(X):
    wealth = log_wealth(*sums(X), np.concatenate([[0.0], np.geomspace(1e-9, 1, 300)]))
    assert np.all(np.diff(wealth) <= 1e-12)
    assert wealth[-1] <= 0


@pytest.mark.parametrize("alpha", [0.01, 0.3])
@pytest.mark.parametrize("n", [1, 5, 60])
def test_bounds_from_zeros_and_ones_miss_at_most_as_often_as_promised(n, alpha):
    k = np.arange(n + 1.0)
    pmf = stats.binom.pmf(k, n, MEANS[:, np.newaxis])
    assert np.all((pmf * (lower_bound(k, k, n, alpha) > MEANS[:, None])).sum(axis=1) <= alpha)
    assert np.all((pmf * (upper_bound(k, k, n, alpha) < MEANS[:, None])).sum(axis=1) <= alpha)


@pytest.mark.parametrize("alpha", [0.01, 0.3])
@pytest.mark.parametrize("n", [3, 40])
def test_bounds_from_three_values_miss_at_most_as_often_as_promised(n, alpha):
    for p in ((0.1, 0.2, 0.7), (0.02, 0.08, 0.9), (0.0, 0.1, 0.9), (0.3, 0.6, 0.1), (0.9, 0, 0.1)):
        S1, S2, pmf = multinomial(n, p)
        mean = p[1] / 2 + p[2]
        assert pmf @ (lower_bound(S1, S2, n, alpha) > mean) <= alpha
        assert pmf @ (upper_bound(S1, S2, n, alpha) < mean) <= alpha


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.05), (8.0, 1.0), (0.2, 0.2)])
def test_bounds_from_soft_values_miss_at_most_as_often_as_promised(a, b):
    # 3000 samples: at failure probability 0.2 more than 716 misses have the probability 1e-7.
    X = np.random.default_rng(1).beta(a, b, (3000, 80))
    mean = a / (a + b)
    assert np.sum(lower_bound(*sums(X), 0.2) > mean) <= 716
    assert np.sum(upper_bound(*sums(X), 0.2) < mean) <= 716


@pytest.mark.parametrize("tau", [0.5, 0.84, 0.977])
def test_looking_after_every_draw_errs_at_most_as_often_as_promised(tau):
    for alpha in (0.01, 0.1):
        alive, shown, futile = np.ones(1), 0.0, 0.0
        for n in range(1, 301):
            alive = np.convolve(alive, [1 - tau, tau])
            k = np.arange(n + 1.0)
            verdict = decide(k, k, n, tau, alpha, futility=0.1)
            shown += alive[verdict == 1].sum()
            futile += alive[verdict == -1].sum()
            alive = np.where(verdict == 0, alive, 0.0)
        assert 0 < shown <= alpha
        assert futile <= 0.1


@pytest.mark.filterwarnings("error")
def test_the_edges():
    assert lower_bound(0.0, 0.0, 0, 0.01) == 0.0
    assert upper_bound(0.0, 0.0, 0, 0.01) == 1.0
    assert -1e-8 < log_wealth(0.0, 0.0, 0, 0.5) <= 0.0
    for n in (1, 100, 10_000_000):
        assert lower_bound(0.0, 0.0, n, 0.01) == 0.0
        assert upper_bound(n, n, n, 0.01) == 1.0
        assert lower_bound(n, n, n, 0.01) == 1.0 - upper_bound(0.0, 0.0, n, 0.01) < 1.0
        assert np.isfinite(log_wealth([0.0, n], [0.0, n], n, [[0.0], [1.0]])).all()
    almost = np.nextafter(100.0, 101)  # sums of ones in floating point
    assert lower_bound(almost, almost, 100, 0.01) <= lower_bound(100.0, 100.0, 100, 0.01)
    assert lower_bound(90.0, np.nextafter(90.0, 91), 100, 0.01) <= lower_bound(
        90.0, 90.0, 100, 0.01
    )
    assert upper_bound(almost, almost, 100, 0.01) == 1.0
    assert lower_bound(50.0, 0.0, 100, 0.01) == lower_bound(50.0, 25.0, 100, 0.01)  # Cauchy-Schwarz


def test_rounding_of_small_values_does_not_raise_a_bound():
    # Their squares are lost in n - 2 S1 + S2.
    X = np.full(10**6, 1 - 1e-9)
    X[:3] = 0.0
    assert 1 - upper_bound(*sums(X), 0.001) <= lower_bound(*sums(1 - X), 0.001) + 1e-12


@given(samples)
def test_bounds_enclose_the_sample_mean_and_n_ones_have_the_largest(X):
    S1, S2, n = sums(X)
    low, high = lower_bound(S1, S2, n, 0.05), upper_bound(S1, S2, n, 0.05)
    assert 0 <= low <= S1 / n <= high + 1e-15
    assert high <= 1
    assert low <= largest_mean(n, 0.05) == lower_bound(n, n, n, 0.05)


def test_fewer_squares_and_more_numbers_give_better_bounds():
    low = lower_bound(90.0, [90.0, 86.0, 82.0], 100, 0.001)
    assert np.all(np.diff(low) > 0)
    n = np.array([100, 1000, 10_000, 10**6])
    assert np.all(np.diff(lower_bound(0.9 * n, 0.85 * n, n, 0.001)) > 0)
    assert np.all(np.diff(largest_mean(np.arange(50), 0.01)) >= 0)
    assert largest_mean(0, 0.01) == 0


def test_bounds_on_means_above_a_half_beat_empirical_bernstein_or_come_close():
    mean, share = np.meshgrid(np.linspace(0.5, 0.999, 20), np.geomspace(1e-4, 1, 12))
    for n, widest in ((30, 1.0), (100, 1.0), (1000, 0.9), (10_000, 1.06), (100_000, 1.12)):
        S1, S2 = n * mean, n * (mean**2 + share * mean * (1 - mean))
        width = mean - lower_bound(S1, S2, n, 0.001)
        theirs = mean - np.maximum(empirical_bernstein(S1, S2, n, 0.001), 0)
        assert np.all(width <= theirs * widest + 1e-12)
        assert np.median(width / theirs) < 0.9


def test_bounds_from_zeros_and_ones_are_little_wider_than_clopper_pearson():
    for n, widest in ((100, 1.4), (1000, 1.45), (100_000, 1.46)):
        k = np.arange(n // 2, n + 1, n // 20)
        width = k / n - lower_bound(1.0 * k, 1.0 * k, n, 0.001)
        theirs = k / n - binomial.lower_bound(k, n, 0.001)
        assert np.all((theirs < width) & (width < widest * theirs))


def test_two_classes_spend_everything_on_the_winner():
    table = np.array([[[80.0, 20.0], [70.0, 10.0]], [[0.0, 100.0], [0.0, 100.0]]])
    p_lower, p_upper = winner_and_rival_bounds(table, [100, 100], [0, 1], 0.01)
    np.testing.assert_array_equal(p_lower, lower_bound([80.0, 100.0], [70.0, 100.0], 100, 0.01))
    np.testing.assert_array_equal(p_upper, 1 - p_lower)


def test_more_classes_take_the_largest_of_the_upper_bounds():
    # The second class has the largest sum among the rivals, the third the largest upper bound.
    table = np.array([[[600.0, 205.0, 195.0], [400.0, 43.0, 195.0]]])
    p_lower, p_upper = winner_and_rival_bounds(table, [1000], [0], 0.01)
    low, high = upper_bound([205.0, 195.0], [43.0, 195.0], 1000, 0.001)
    assert low + 0.01 < high < 1 - p_lower[0]
    assert p_upper[0] == pytest.approx(high, abs=1e-15)
    assert p_lower[0] == lower_bound(600.0, 400.0, 1000, 0.009)
    p_lower, p_upper = winner_and_rival_bounds([[[20, 0, 0], [20, 0, 0]]], [20], [0], 0.01)
    assert p_upper[0] == 1 - p_lower[0] < upper_bound(0, 0, 20, 0.001)


def test_bounds_of_many_rows_and_classes_are_those_of_every_class():
    rng = np.random.default_rng(2)
    P = rng.dirichlet(np.ones(6), 40) ** 0.9
    P /= P.sum(axis=1, keepdims=True)
    table = 500 * np.stack([P, P**2 + rng.uniform(0, 1, P.shape) * P * (1 - P)], axis=1)
    winner = P.argmax(axis=1)
    before = table.copy()
    p_lower, p_upper = winner_and_rival_bounds(table, np.full(40, 500), winner, 0.01)
    np.testing.assert_array_equal(table, before)
    highs = upper_bound(table[:, 0], table[:, 1], 500, 0.001)
    highs[np.arange(40), winner] = 0
    np.testing.assert_allclose(p_upper, np.minimum(1 - p_lower, highs.max(axis=1)), atol=1e-14)
    assert np.any(p_upper < 1 - p_lower)


def test_both_bounds_fail_together_at_most_as_often_as_promised():
    # Each draw is a row of this table; 2000 repetitions, 0.1 promised: over 273 have 1e-7.
    kinds, weights = np.array([[0.9, 0.1, 0.0], [0.3, 0.0, 0.7], [0.1, 0.8, 0.1]]), [0.6, 0.2, 0.2]
    counts = np.random.default_rng(3).multinomial(60, weights, 2000)
    table = np.stack([counts @ kinds, counts @ kinds**2], axis=1)
    p_lower, p_upper = winner_and_rival_bounds(table, np.full(2000, 60), np.zeros(2000, int), 0.1)
    means = weights @ kinds
    assert np.sum((p_lower > means[0]) | (p_upper < means[1:].max())) <= 273


def test_no_rows_no_draws_one_class():
    p_lower, p_upper = winner_and_rival_bounds(np.empty((0, 2, 3)), [], np.empty(0, int), 0.01)
    assert p_lower.shape == p_upper.shape == (0,)
    for n_classes in (1, 2, 3):
        p_lower, p_upper = winner_and_rival_bounds(np.zeros((1, 2, n_classes)), [0], [0], 0.01)
        assert (p_lower[0], p_upper[0]) == (0, 1)


def test_one_point_is_decided_like_many():
    tau = 0.84
    for n, share, spread in itertools.product((1, 100, 5000), (0.0, 0.5, 0.84, 0.9, 1.0), (0, 0.5)):
        S1, S2 = n * share, n * (share**2 + spread * share * (1 - share))
        verdict = decide(S1, S2, n, tau, 0.001)
        assert verdict.dtype == np.int8
        assert decide_one(S1, S2, n, tau, 0.001) == verdict
        assert decide_one(S1, S2, n, tau, 0.001, 0.0) == max(verdict, 0)


def test_soft_decisions_agree_with_the_bounds_and_come_close_to_hard_ones():
    S1, n, tau = np.arange(0, 1001.0), 1000, 0.84
    verdict = decide(S1, S1, n, tau, 0.001, 0.01)
    np.testing.assert_array_equal(verdict == 1, lower_bound(S1, S1, n, 0.001) >= tau)
    np.testing.assert_array_equal(verdict == -1, upper_bound(S1, S1, n, 0.01) <= tau)
    hard = stopping.decide(S1.astype(int), n, tau, 0.001, 0.01)
    assert np.sum(verdict != hard) < 20


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: lower_bound(6.0, 5.0, 5, 0.1), ValueError, r"total must lie in \[0, n\].*got 6"),
        (lambda: lower_bound(4.0, 4.1, 5, 0.1), ValueError, r"squares must lie in \[0, total\]"),
        (lambda: upper_bound(-1.0, 0.0, 5, 0.1), ValueError, "total must lie in"),
        (lambda: upper_bound(1.0, -1.0, 5, 0.1), ValueError, "squares must lie in"),
        (lambda: lower_bound(math.nan, 0.0, 5, 0.1), ValueError, "total must lie in"),
        (lambda: lower_bound("1", 0.0, 5, 0.1), TypeError, "total must hold real numbers"),
        (lambda: lower_bound(1.0, 1.0, 5.5, 0.1), TypeError, "n must hold integers"),
        (lambda: lower_bound(1.0, 1.0, 5, 1.0), ValueError, "failure_probability must lie in"),
        (lambda: log_wealth(1.0, 1.0, 5, 1.5), ValueError, r"mean must lie in \[0, 1\]"),
        (lambda: decide(1.0, 1.0, 5, -0.5, 0.1), ValueError, "threshold must lie in"),
        (lambda: decide(1.0, 1.0, 5, 0.5, 0.1, 2), ValueError, r"futility must lie in \[0, 1\]"),
        (lambda: largest_mean(-1, 0.1), ValueError, "n must be >= 0"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"sums": np.ones((1, 3))}, ValueError, r"sums must have shape \(n, 2, n_classes\)"),
        ({"sums": np.ones((1, 2, 0))}, ValueError, r"sums must have shape"),
        ({"winner": [2]}, ValueError, r"winner must lie in \[0, 2\).*got 2"),
        ({"winner": [0, 1]}, ValueError, r"winner must have shape \(1,\)"),
        ({"winner": [0.0]}, TypeError, "winner must hold integers"),
        ({"n_draws": 2}, ValueError, r"n_draws must have shape \(1,\)"),
        ({"n_draws": [0]}, ValueError, "total must lie in"),
        ({"failure_probability": 0.0}, ValueError, "failure_probability must lie in"),
    ],
)
def test_bad_tables_are_named(changed, error, message):
    right = {"sums": np.ones((1, 2, 2)), "n_draws": [2], "winner": [0], "failure_probability": 0.1}
    with pytest.raises(error, match=message):
        winner_and_rival_bounds(**{**right, **changed})
