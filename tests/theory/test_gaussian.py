"""Radii against scipy.stats, the bounds they come from, and their own inverse."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from smoothlearn.theory.binomial import winner_and_rival_bounds
from smoothlearn.theory.gaussian import (
    WORTHWHILE_GAIN,
    draws_needed,
    max_radius,
    more_draws_pay,
    radius,
)


def test_radius_is_half_the_gap_of_the_quantiles():
    p_lower = np.array([0.6, 0.9, 0.99])[:, None]
    p_upper = np.array([0.001, 0.1, 0.3])
    expected = 0.25 * (stats.norm.ppf(p_lower) - stats.norm.ppf(p_upper))
    np.testing.assert_allclose(radius(p_lower, p_upper, sigma=0.5), expected, rtol=1e-12)


def test_radius_without_a_rival_is_eq_6():
    p = np.array([0.5001, 0.7, 0.999])
    np.testing.assert_allclose(radius(p, sigma=2.0), 2 * stats.norm.ppf(p), rtol=1e-12)
    np.testing.assert_allclose(radius(p), radius(p, 1 - p), rtol=1e-9)


def test_radius_of_a_linear_classifier_is_its_margin():
    margin, sigma = np.array([0.1, 0.5, 2.0]), 0.7
    p = stats.norm.cdf(margin / sigma)
    np.testing.assert_allclose(radius(p, sigma=sigma), margin, rtol=1e-9)


def test_radius_is_zero_where_nothing_is_separated():
    p_lower = [0.3, 0.5, 0.2, 0.0, 1.0, 0.0]
    p_upper = [0.3, 0.6, 0.9, 0.0, 1.0, 1.0]
    np.testing.assert_array_equal(radius(p_lower, p_upper), np.zeros(6))
    np.testing.assert_array_equal(radius([0.0, 0.2, 0.5]), np.zeros(3))


def test_certainty_reaches_everywhere():
    assert radius(1.0, 0.0) == math.inf
    assert radius(1.0) == math.inf
    assert np.ndim(radius(1.0)) == 0


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_radius_grows_with_the_winner_and_shrinks_with_the_rival(a, b, p):
    low, high = min(a, b), max(a, b)
    assert 0 <= radius(low, p) <= radius(high, p)
    assert radius(p, low) >= radius(p, high) >= 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((1.1,), ValueError, r"p_lower must lie in \[0, 1\], got 1.1"),
        (([0.5, -0.1],), ValueError, r"p_lower must lie in \[0, 1\], got -0.1"),
        ((math.nan,), ValueError, r"p_lower must lie in \[0, 1\], got nan"),
        ((0.9, 1.1), ValueError, r"p_upper must lie in \[0, 1\], got 1.1"),
        (("0.9",), TypeError, "p_lower must hold real numbers"),
        ((0.9, 0.1, 0.0), ValueError, "sigma must be finite and > 0, got 0.0"),
        ((0.9, 0.1, -1.0), ValueError, "sigma must be finite and > 0, got -1.0"),
        ((0.9, 0.1, math.inf), ValueError, "sigma must be finite and > 0, got inf"),
        ((0.9, 0.1, "1"), TypeError, "sigma must be one real number, got '1'"),
        ((0.9, 0.1, [1.0]), TypeError, "sigma must be one real number"),
    ],
)
def test_bad_probabilities_and_noise_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        radius(*arguments)


def test_the_papers_largest_radii():
    # Saremi & Srivastava 2020, Section 4, print 3.81 and 6.23; further digits from mpmath.
    assert max_radius(10**5, 0.999, 1.0) == pytest.approx(3.811456563389952, rel=1e-12)
    assert max_radius(10**10, 0.9, 1.0) == pytest.approx(6.232000155942360, rel=1e-12)
    assert max_radius(10**5, 0.999, 0.25) == pytest.approx(3.811456563389952 / 4, rel=1e-12)


def test_largest_radius_keeps_its_digits_beyond_what_a_probability_near_one_can_hold():
    # sqrt(2) erfinv(2 * 0.001**(1 / 10**20) - 1), computed by mpmath with 80 digits.
    assert max_radius(10**20, 0.999, 1.0) == pytest.approx(9.053738750537722, rel=1e-12)
    assert math.isfinite(max_radius(10**200, 0.999, 1.0))


@pytest.mark.parametrize("n_classes", [1, 2, 3, 10])
@pytest.mark.parametrize("confidence_level", [0.5, 0.95, 0.999])
def test_largest_radius_is_that_of_a_unanimous_vote(n_classes, confidence_level):
    n = np.array([0, 1, 2, 5, 20, 1000])
    counts = np.zeros((len(n), n_classes), dtype=int)
    counts[:, 0] = n
    bounds = winner_and_rival_bounds(counts, np.zeros(len(n), dtype=int), 1 - confidence_level)
    np.testing.assert_allclose(
        max_radius(n, confidence_level, 0.5, n_classes=n_classes),
        radius(*bounds, sigma=0.5),
        rtol=1e-9,
        atol=1e-15,
    )


@pytest.mark.parametrize("n", [5, 12, 20])
def test_no_outcome_of_three_classes_reaches_further(n):
    counts = np.array([(i, j, n - i - j) for i in range(n + 1) for j in range(n + 1 - i)])
    p_lower, p_upper = winner_and_rival_bounds(counts, np.zeros(len(counts), dtype=int), 0.05)
    reached = radius(p_lower, p_upper, sigma=2.0).max()
    assert reached == pytest.approx(max_radius(n, 0.95, 2.0, n_classes=3), rel=1e-12)


def test_ten_draws_are_needed_for_any_radius_at_one_in_a_thousand():
    np.testing.assert_array_equal(max_radius([0, 1, 9, 10], 0.999, 1.0) > 0, [0, 0, 0, 1])
    np.testing.assert_array_equal(max_radius([10, 11], 0.999, 1.0, n_classes=3) > 0, [0, 1])
    assert draws_needed(0.0, 0.999, 1.0) == 10
    assert draws_needed(0.0, 0.999, 1.0, n_classes=3) == 11
    assert isinstance(draws_needed(0.0, 0.999, 1.0), int)


def test_arguments_broadcast():
    radii = max_radius(np.array([100, 1000])[:, None], [0.9, 0.99, 0.999], 1.0)
    assert radii.shape == (2, 3)
    assert radii[1, 2] == max_radius(1000, 0.999, 1.0)
    assert np.ndim(max_radius(1000, 0.999, 1.0)) == 0


levels = st.floats(0.01, 1 - 1e-9)


@given(st.integers(1, 10**12), levels, st.floats(0.01, 10))
def test_largest_radius_grows_with_draws_noise_and_doubt(n, level, sigma):
    here = max_radius(n, level, sigma)
    slack = 1e-12 * sigma
    assert here <= max_radius(n + 1, level, sigma) + slack
    assert here < max_radius(n, level, 2 * sigma) or here == 0
    assert here >= max_radius(n, level, sigma, n_classes=3) - slack
    assert here >= max_radius(n, 1 - (1 - level) / 2, sigma) - slack


@given(st.floats(0, 30), levels, st.floats(0.01, 10), st.sampled_from([2, 10]))
def test_draws_needed_is_the_inverse_of_the_largest_radius(ratio, level, sigma, n_classes):
    target = ratio * sigma
    n = draws_needed(target, level, sigma, n_classes=n_classes)
    reached = max_radius(n, level, sigma, n_classes=n_classes)
    assert reached >= target
    assert reached > 0
    one_less = max_radius(n - 1, level, sigma, n_classes=n_classes)
    assert one_less < target or one_less == target == 0


@given(st.integers(2, 10**7), levels, st.floats(0.01, 10))
def test_the_largest_radius_of_n_draws_needs_n_draws(n, level, sigma):
    target = float(max_radius(n, level, sigma))
    needed = draws_needed(target, level, sigma)
    assert needed == n or (target == 0 and needed > n)


@pytest.mark.parametrize("ratio", [0.5, 2.0, 4.0, 8.0, 20.0, 36.0])
def test_draws_needed_follow_the_logarithm_of_the_tail(ratio):
    # log(1 - t) = -t(1 + t/2 + ...), t the upper tail.
    tail = stats.norm.sf(ratio)
    expected = math.log(0.001) / math.log1p(-tail)
    assert draws_needed(ratio * 0.3, 0.999, 0.3) == pytest.approx(expected, rel=1e-9, abs=1)


@pytest.mark.parametrize(
    ("function", "arguments", "error", "message"),
    [
        (max_radius, (-1, 0.999, 1.0), ValueError, "n_draws must be >= 0, got -1"),
        (max_radius, (1e5, 0.999, 1.0), TypeError, "n_draws must hold integers"),
        (max_radius, (10, 1.0, 1.0), ValueError, r"confidence_level must lie in \(0, 1\), got 1"),
        (max_radius, (10, 0.999, 0.0), ValueError, "sigma must be finite and > 0"),
        (draws_needed, (-0.1, 0.999, 1.0), ValueError, "radius must be finite and >= 0, got -0.1"),
        (draws_needed, (math.nan, 0.999, 1.0), ValueError, "radius must be finite and >= 0"),
        (draws_needed, ([0.1], 0.999, 1.0), TypeError, "radius must be one real number"),
        (draws_needed, (0.1, 0.0, 1.0), ValueError, "confidence_level must lie in"),
        (draws_needed, (0.1, 0.999, -1.0), ValueError, "sigma must be finite and > 0"),
        (draws_needed, (38.0, 0.999, 1.0), ValueError, "radius must be at most 37 sigma, got 38"),
    ],
)
def test_bad_arguments_are_named(function, arguments, error, message):
    with pytest.raises(error, match=message):
        function(*arguments)


def test_a_number_of_classes_is_at_least_one():
    with pytest.raises(ValueError, match="n_classes must be >= 1"):
        max_radius(10, 0.999, 1.0, n_classes=0)


# Where more draws pay

FAILURE = 0.0005


def tables(n, misses, n_classes=2):
    """Votes of n draws of which so many went to the second class."""
    counts = np.zeros((len(misses), n_classes), dtype=int)
    counts[:, 0], counts[:, 1] = n - np.asarray(misses), misses
    return counts


def pays(counts, n_draws, winner=None, failure_probability=FAILURE):
    winner = np.zeros(len(counts), dtype=int) if winner is None else winner
    return more_draws_pay(counts, winner, n_draws, failure_probability)


def test_more_draws_pay_is_its_formula():
    """Clopper-Pearson bounds of scipy, where the frequencies can be kept exactly."""

    def reach(votes, n):
        low = stats.binomtest(int(votes), int(n), alternative="greater")
        return max(0.0, stats.norm.ppf(low.proportion_ci(1 - FAILURE, method="exact").low))

    for n, times in ((50, 4), (100, 10), (400, 50)):
        votes = np.arange(n // 2, n + 1)
        most = reach(n * times, n * times) - reach(n, n)
        gains = [reach(k * times, n * times) - reach(k, n) for k in votes]
        expected = np.array(gains) >= WORTHWHILE_GAIN * most
        np.testing.assert_array_equal(pays(tables(n, n - votes), n * times), expected)
        assert 0 < expected.sum() < len(votes)


@pytest.mark.parametrize("n_classes", [2, 3, 10])
@pytest.mark.parametrize(("n", "n_draws"), [(9, 100), (100, 2000), (100, 10_000), (1000, 20_000)])
def test_more_draws_pay_for_unanimous_votes_and_not_far_below(n, n_draws, n_classes):
    counts = tables(n, [0, n // 4, n // 2, n], n_classes)
    np.testing.assert_array_equal(pays(counts, n_draws), [True, False, False, False])
    other = tables(n, [n, 0], n_classes)
    np.testing.assert_array_equal(pays(other, n_draws, [1, 1]), [True, False])


def test_more_draws_pay_up_to_a_number_of_misses():
    for n, times, limit in ((100, 10, 19), (1000, 20, 7)):
        for n_classes in (2, 4):
            counts = tables(n, np.arange(n + 1), n_classes)
            paid = pays(counts, n * times)
            assert np.all(np.diff(paid.astype(int)) <= 0)
            assert abs(paid.sum() - 1 - limit) <= 1


def test_the_more_draws_the_fewer_misses():
    counts = tables(200, np.arange(60))
    paid = [pays(counts, n_draws).sum() for n_draws in (400, 2000, 20_000, 2_000_000)]
    assert paid == sorted(paid, reverse=True)
    assert paid[0] > 2 * paid[-1] > 0


def test_no_more_draws_than_there_are_never_pay():
    counts = tables(100, [0, 1, 5])
    for n_draws in (100, 99, 0):
        assert not pays(counts, n_draws).any()


def test_rows_without_votes_wait_for_nothing():
    counts = np.array([[0, 0, 0], [100, 0, 0]])
    np.testing.assert_array_equal(pays(counts, 1000), [False, True])
    assert pays(np.zeros((0, 3), dtype=int), 1000).shape == (0,)
    assert pays(np.array([[7]]), 100).tolist() == [True]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([10, 0], [0], 100, 0.1), ValueError, "counts must have shape"),
        (([[10, 0]], 0, 100, 0.1), ValueError, r"winner must have shape \(1,\)"),
        (([[10, 0], [9, 1]], [0], 100, 0.1), ValueError, r"winner must have shape \(2,\)"),
        (([[10, 0]], [2], 100, 0.1), ValueError, r"winner must lie in \[0, 2\)"),
        (([[10, -1]], [0], 100, 0.1), ValueError, "counts must be >= 0"),
        (([[10.0, 0.0]], [0], 100, 0.1), TypeError, "counts must hold integers"),
        (([[10, 0]], [0], 100.5, 0.1), TypeError, "n_draws must hold integers"),
        (([[10, 0]], [0], -1, 0.1), ValueError, "n_draws must be >= 0"),
        (([[10, 0]], [0], 100, 0.0), ValueError, r"failure_probability must lie in \(0, 1\)"),
    ],
)
def test_bad_arguments_of_more_draws_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        more_draws_pay(*arguments)
