"""Confidence bounds against scipy.stats and against every outcome there is."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from smoothlearn.theory.binomial import (
    WINNER_SHARE,
    lower_bound,
    top_two_p_value,
    upper_bound,
    winner_and_rival_bounds,
    winner_failure_probability,
)

ALPHAS = (0.001, 0.05, 0.3)
PROBABILITIES = np.linspace(0.0, 1.0, 101)


def interval(k, n, alpha, alternative):
    test = stats.binomtest(k, n, alternative=alternative)
    return test.proportion_ci(1 - alpha, method="exact")


def multinomial(n, p):
    """All outcomes of n draws of three classes, with their probabilities under p."""
    counts = np.array([(i, j, n - i - j) for i in range(n + 1) for j in range(n + 1 - i)])
    return counts, stats.multinomial.pmf(counts, n, p)


@st.composite
def trials(draw):
    n = draw(st.integers(1, 10_000_000))
    k = draw(st.integers(0, n - 1))
    return k, n, draw(st.floats(1e-9, 0.5))


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("n", [1, 2, 7, 40])
def test_both_bounds_are_scipys_one_sided_exact_intervals(n, alpha):
    k = np.arange(n + 1)
    lower = [interval(int(i), n, alpha, "greater").low for i in k]
    upper = [interval(int(i), n, alpha, "less").high for i in k]
    np.testing.assert_allclose(lower_bound(k, n, alpha), lower, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(upper_bound(k, n, alpha), upper, rtol=1e-9, atol=1e-12)


@given(trials())
def test_the_tail_beyond_the_bound_has_the_failure_probability(case):
    k, n, alpha = case
    # A bound close to 1 holds one minus itself to 1e-16, which moves a small tail.
    upper = upper_bound(k, n, alpha) + np.array([4e-16, -4e-16])
    below, above = stats.binom.cdf(k, n, np.clip(upper, 0, 1))
    assert below * (1 - 1e-6) <= alpha <= above * (1 + 1e-6)
    lower = lower_bound(n - k, n, alpha) + np.array([-4e-16, 4e-16])
    below, above = stats.binom.sf(n - k - 1, n, np.clip(lower, 0, 1))
    assert below * (1 - 1e-6) <= alpha <= above * (1 + 1e-6)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("n", [1, 2, 5, 30])
def test_the_bounds_miss_at_most_as_often_as_promised(n, alpha):
    k = np.arange(n + 1)
    p = PROBABILITIES[:, None]
    pmf = stats.binom.pmf(k, n, p)
    assert np.all((pmf * (lower_bound(k, n, alpha) > p)).sum(axis=1) <= alpha)
    assert np.all((pmf * (upper_bound(k, n, alpha) < p)).sum(axis=1) <= alpha)


def test_ends_are_exact():
    n = np.array([1, 2, 10, 1000, 10**6])
    assert np.all(lower_bound(0, n, 0.001) == 0.0)
    assert np.all(upper_bound(n, n, 0.001) == 1.0)
    np.testing.assert_allclose(lower_bound(n, n, 0.001), 0.001 ** (1 / n), rtol=1e-15)
    np.testing.assert_allclose(upper_bound(0, n, 0.001), 1 - 0.001 ** (1 / n), atol=2e-16)


def test_no_draw_says_nothing():
    assert lower_bound(0, 0, 0.001) == 0.0
    assert upper_bound(0, 0, 0.001) == 1.0


def test_arguments_broadcast():
    k, n, alpha = np.arange(3)[:, None, None], np.array([5, 6])[:, None], np.array([0.1, 0.2])
    bounds = lower_bound(k, n, alpha)
    assert bounds.shape == (3, 2, 2)
    assert bounds[2, 1, 0] == lower_bound(2, 6, 0.1)
    assert lower_bound(np.empty(0, dtype=int), 5, 0.1).shape == (0,)
    assert np.ndim(lower_bound(2, 6, 0.1)) == np.ndim(upper_bound(2, 6, 0.1)) == 0


@given(trials())
def test_the_bounds_grow_with_successes_and_shrink_with_failures(case):
    k, n, alpha = case
    slack = 1e-12
    for bound in (lower_bound, upper_bound):
        assert bound(k + 1, n, alpha) >= bound(k, n, alpha) - slack
        assert bound(k, n + 1, alpha) <= bound(k, n, alpha) + slack
    assert 0 <= lower_bound(k, n, alpha) <= k / n <= upper_bound(k, n, alpha) <= 1


@pytest.mark.parametrize("bound", [lower_bound, upper_bound])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((-1, 5, 0.1), ValueError, r"k must be >= 0, got -1"),
        ((0, -5, 0.1), ValueError, r"n must be >= 0, got -5"),
        (([3, 6], 5, 0.1), ValueError, r"k must be <= n, got k = 6 of n = 5"),
        ((3, 5, 0.0), ValueError, r"failure_probability must lie in \(0, 1\), got 0"),
        ((3, 5, [0.1, 1.0]), ValueError, r"failure_probability must lie in \(0, 1\), got 1"),
        ((3, 5, math.nan), ValueError, r"failure_probability must lie in \(0, 1\), got nan"),
        ((3, 5, "0.1"), TypeError, r"failure_probability must hold real numbers"),
        ((3.0, 5, 0.1), TypeError, r"k must hold integers, got dtype float64"),
        ((True, 5, 0.1), TypeError, r"k must hold integers, got dtype bool"),
        ((3, [5.5], 0.1), TypeError, r"n must hold integers"),
    ],
)
def test_bad_bound_arguments_are_named(bound, arguments, error, message):
    with pytest.raises(error, match=message):
        bound(*arguments)


def test_the_winner_gets_all_of_it_unless_there_is_a_rival_to_bound():
    assert winner_failure_probability(0.001, 1) == 0.001
    assert winner_failure_probability(0.001, 2) == 0.001
    assert winner_failure_probability(0.001, 3) == pytest.approx(0.0009)
    assert winner_failure_probability(0.001, 1000) == pytest.approx(0.0009)
    assert WINNER_SHARE == 0.9
    np.testing.assert_allclose(winner_failure_probability([0.1, 0.2], 3), [0.09, 0.18])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0.1, 0), ValueError, "n_classes must be >= 1, got 0"),
        ((0.1, 2.5), TypeError, "n_classes must hold integers"),
        ((1.5, 2), ValueError, "failure_probability must lie in"),
    ],
)
def test_bad_shares_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        winner_failure_probability(*arguments)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_two_classes_spend_everything_on_the_winner(alpha):
    counts = np.array([[7, 3], [3, 7], [10, 0], [0, 10]])
    p_lower, p_upper = winner_and_rival_bounds(counts, [0, 0, 0, 0], alpha)
    expected = [interval(int(k), 10, alpha, "greater").low for k in counts[:, 0]]
    np.testing.assert_allclose(p_lower, expected, rtol=1e-9)
    np.testing.assert_array_equal(p_upper, 1 - p_lower)


def test_more_classes_bound_the_largest_other_count_at_the_undivided_rest():
    counts = np.array([[700, 200, 60, 40], [150, 50, 780, 20], [10, 0, 0, 0]])
    p_lower, p_upper = winner_and_rival_bounds(counts, [0, 2, 0], 0.01)
    expected_lower = [
        interval(700, 1000, 0.009, "greater").low,
        interval(780, 1000, 0.009, "greater").low,
        interval(10, 10, 0.009, "greater").low,
    ]
    expected_upper = [
        interval(200, 1000, 0.001, "less").high,
        interval(150, 1000, 0.001, "less").high,
        1 - expected_lower[2],  # below the bound from no vote at all
    ]
    np.testing.assert_allclose(p_lower, expected_lower, rtol=1e-9)
    np.testing.assert_allclose(p_upper, expected_upper, rtol=1e-9)
    assert p_upper[0] < 1 - p_lower[0]


def test_a_winner_with_fewer_votes_than_another_class_is_kept():
    p_lower, p_upper = winner_and_rival_bounds([[20, 70, 10]], [0], 0.01)
    assert p_lower[0] < 0.2
    assert p_upper[0] == pytest.approx(interval(70, 100, 0.001, "less").high)


@pytest.mark.parametrize("alpha", [0.01, 0.3])
@pytest.mark.parametrize(
    "p",
    [
        (0.5, 0.3, 0.2),
        (0.34, 0.33, 0.33),
        (0.8, 0.1, 0.1),
        (0.9, 0.1, 0.0),
        (0.98, 0.01, 0.01),
        (0.05, 0.5, 0.45),
    ],
)
def test_both_bounds_fail_together_at_most_as_often_as_promised(p, alpha):
    for n, winner in itertools.product([1, 4, 25], range(3)):
        counts, pmf = multinomial(n, p)
        p_lower, p_upper = winner_and_rival_bounds(counts, np.full(len(counts), winner), alpha)
        rival = max(p[:winner] + p[winner + 1 :])
        too_high, too_low = p_lower > p[winner], p_upper < rival
        assert pmf @ too_high <= WINNER_SHARE * alpha
        assert pmf @ (too_high | too_low) <= alpha


def test_bounds_without_rows_and_without_draws():
    p_lower, p_upper = winner_and_rival_bounds(np.empty((0, 3), dtype=int), [], 0.01)
    assert p_lower.shape == p_upper.shape == (0,)
    for n_classes in (1, 2, 3):
        zero = np.zeros((1, n_classes), dtype=int)
        p_lower, p_upper = winner_and_rival_bounds(zero, [0], 0.01)
        assert p_lower[0] == 0
        assert p_upper[0] == 1


def test_counts_are_left_as_they_were():
    counts = np.array([[5, 3, 2]])
    winner_and_rival_bounds(counts, [0], 0.01)
    top_two_p_value(counts)
    np.testing.assert_array_equal(counts, [[5, 3, 2]])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([5, 3], [0], 0.1), ValueError, r"counts must have shape \(n, n_classes\)"),
        (([[], []], [0, 0], 0.1), ValueError, r"counts must have shape \(n, n_classes\)"),
        (([[5, -3]], [0], 0.1), ValueError, "counts must be >= 0, got -3"),
        (([[0.5, 0.5]], [0], 0.1), TypeError, "counts must hold integers"),
        (([[5, 3]], [2], 0.1), ValueError, r"winner must lie in \[0, 2\).*got 2"),
        (([[5, 3]], [-1], 0.1), ValueError, "winner must be >= 0, got -1"),
        (([[5, 3]], [0, 1], 0.1), ValueError, r"winner must have shape \(1,\)"),
        (([[5, 3]], [0.0], 0.1), TypeError, "winner must hold integers"),
        (([[5, 3]], [0], 1.0), ValueError, "failure_probability must lie in"),
    ],
)
def test_bad_votes_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        winner_and_rival_bounds(*arguments)


def test_p_value_is_scipys_two_sided_binomial_test_of_the_top_two():
    counts = np.array([[4, 9, 2], [0, 11, 0], [6, 6, 6], [90, 60, 200], [1, 0, 0]])
    top = np.sort(counts, axis=1)[:, :0:-1]
    expected = [stats.binomtest(int(a), int(a + b), 0.5).pvalue for a, b in top]
    np.testing.assert_allclose(top_two_p_value(counts), expected, rtol=1e-12)


def test_p_value_of_no_vote_of_ties_and_of_one_class():
    np.testing.assert_array_equal(top_two_p_value([[0, 0, 0], [3, 3, 0]]), [1.0, 1.0])
    np.testing.assert_allclose(top_two_p_value([[0], [5]]), [1.0, 2 * 0.5**5])
    assert top_two_p_value(np.empty((0, 3), dtype=int)).shape == (0,)


def test_eleven_draws_are_needed_for_a_prediction_at_one_in_a_thousand():
    n = np.arange(1, 20)
    p_values = top_two_p_value(np.stack([n, 0 * n], axis=1))
    assert n[p_values <= 0.001][0] == 11


@pytest.mark.parametrize("p", [(0.34, 0.33, 0.33), (0.4, 0.35, 0.25), (0.5, 0.5, 0.0)])
@pytest.mark.parametrize("alpha", [0.01, 0.3])
def test_predictions_name_an_unlikelier_class_at_most_as_often_as_promised(p, alpha):
    for n in (3, 12, 30):
        counts, pmf = multinomial(n, p)
        wrong = counts.argmax(axis=1) != np.argmax(p)
        assert pmf @ (wrong & (top_two_p_value(counts) <= alpha)) <= alpha


@pytest.mark.parametrize(
    ("counts", "error", "message"),
    [
        ([5, 3], ValueError, r"counts must have shape \(n, n_classes\), .*got \(2,\)"),
        ([[5, -1]], ValueError, "counts must be >= 0"),
        ([[5.0, 1.0]], TypeError, "counts must hold integers"),
    ],
)
def test_bad_counts_are_named(counts, error, message):
    with pytest.raises(error, match=message):
        top_two_p_value(counts)
