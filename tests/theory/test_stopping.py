"""Stopping rules against every course the votes can take, by exact enumeration."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from smoothlearn.theory import binomial
from smoothlearn.theory.stopping import (
    FUTILITY,
    decide,
    decide_by_looks,
    decide_one,
    doubling_looks,
    draws_needed,
    largest_threshold,
    log_wealth,
    spend,
)

THRESHOLDS = (0.5, 0.8413447460685429, 0.9772498680518208)
EVERY = tuple(range(1, 401))
SCHEDULE = (100, 200, 400, 800, 1300, 1800)


def outcomes(rule, looks, p):
    """P(ever 1), P(ever -1) and the mean number of draws where the votes have probability p.

    `rule` gives 1, 0 or -1 for all k at one look; the draws end at the first of them that is not 0.
    """
    alive, said, drawn, before = np.ones(1), {1: 0.0, -1: 0.0}, 0.0, 0
    for n in looks:
        steps = np.arange(n - before + 1)
        alive, before = np.convolve(alive, stats.binom.pmf(steps, n - before, p)), n
        verdict = rule(np.arange(n + 1), n)
        for answer in said:
            said[answer] += alive[verdict == answer].sum()
        drawn += n * alive[verdict != 0].sum()
        alive = np.where(verdict == 0, alive, 0.0)
    return said[1], said[-1], drawn + looks[-1] * alive.sum()


def exact_wealth(k, n, tau):
    """The integral over (0, 1) of (1 + s (1 - τ)/τ)^k (1 - s)^(n - k), as a fraction."""
    term = total = Fraction(1, n - k + 1)
    for j in range(k):
        term *= Fraction(k - j, n - k + j + 2) * (1 - tau) / tau
        total += term
    return total


@st.composite
def lattice(draw):
    n = draw(st.integers(0, 10_000_000))
    return draw(st.integers(0, n)), n, draw(st.floats(1e-3, 1 - 1e-12))


@pytest.mark.parametrize("alpha", [0.001, 0.1])
@pytest.mark.parametrize("tau", THRESHOLDS)
def test_looking_after_every_draw_errs_at_most_as_often_as_promised(tau, alpha):
    def rule(k, n):
        return decide(k, n, tau, alpha, futility=0.0)

    shown, futile, _ = outcomes(rule, EVERY, tau)
    assert alpha / 10 < shown <= alpha  # not by never deciding
    assert futile == 0
    assert outcomes(rule, EVERY[:200], tau - 0.01)[0] <= shown


@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.1])
@pytest.mark.parametrize("tau", THRESHOLDS)
def test_both_rules_err_at_most_as_often_as_promised_at_planned_looks(tau, alpha):
    rules = (
        lambda k, n: decide(k, n, tau, alpha),
        lambda k, n: decide_by_looks(k, n, tau, alpha, len(SCHEDULE)),
    )
    for rule in rules:
        assert outcomes(rule, SCHEDULE, tau)[0] <= alpha
        assert outcomes(rule, SCHEDULE, tau - 0.02)[0] <= alpha / 10


@pytest.mark.parametrize(("tau", "times"), [(0.5, 3.0), (THRESHOLDS[1], 2.5), (THRESHOLDS[2], 1.9)])
def test_a_bound_for_one_look_at_every_look_errs_several_times_as_often(tau, times):
    """What the rules are for, and that the enumeration above would find it."""

    def peeking(k, n):
        return (binomial.lower_bound(k, n, 0.01) > tau).astype(int)

    assert outcomes(peeking, SCHEDULE[:1], tau)[0] <= 0.01
    assert outcomes(peeking, SCHEDULE, tau)[0] > 0.01 * times
    assert outcomes(peeking, EVERY, tau)[0] > 0.01 * times


@pytest.mark.parametrize("tau", THRESHOLDS)
def test_futility_ends_few_draws_of_points_above_the_threshold(tau):
    for level in (0.01, FUTILITY, 0.5):
        assert outcomes(lambda k, n, f=level: decide(k, n, tau, 1e-9, f), EVERY, tau)[1] <= level
        by_looks = outcomes(
            lambda k, n, f=level: decide_by_looks(k, n, tau, 1e-9, len(SCHEDULE), f), SCHEDULE, tau
        )
        assert by_looks[1] <= level


def test_futility_saves_most_draws_below_the_threshold_and_costs_little_power():
    tau = THRESHOLDS[1]
    for p, kept in ((0.86, 0.998), (0.87, 0.9999), (0.9, 0.999999)):
        with_it, without = (
            outcomes(lambda k, n, f=f: decide(k, n, tau, 0.001, f), SCHEDULE, p)
            for f in (FUTILITY, 0.0)
        )
        assert kept * without[0] <= with_it[0] <= without[0]
    assert outcomes(lambda k, n: decide(k, n, tau, 0.001), SCHEDULE, 0.7)[2] < 150


def test_few_draws_are_needed_far_from_the_threshold():
    tau = THRESHOLDS[1]
    for p in (0.99, 0.6):
        assert outcomes(lambda k, n: decide(k, n, tau, 0.001), SCHEDULE, p)[2] < 200
    hard = outcomes(lambda k, n: decide(k, n, tau, 0.001), SCHEDULE, tau + 0.01)[2]
    assert hard > 1000


@pytest.mark.parametrize("tau", [0.5, 0.84, 0.001, 0.999])
def test_wealth_is_the_integral_rounded_down(tau):
    for n in (0, 1, 2, 7, 60):
        k = np.arange(n + 1)
        exact = np.array([math.log(exact_wealth(int(i), n, Fraction(tau))) for i in k])
        wealth = log_wealth(k, n, tau)
        assert np.all(wealth <= exact + 1e-15 * np.abs(exact))
        np.testing.assert_allclose(wealth, exact, atol=1e-8)


@pytest.mark.parametrize(("k", "n"), [(84_600, 100_000), (8_414_000, 10_000_000), (0, 1000)])
def test_wealth_of_many_draws_is_the_integral(k, n):
    tau = 0.8413447460685429

    def share(s):
        return math.exp(k * math.log1p(s * (1 - tau) / tau) + (n - k) * math.log1p(-s))

    pieces = np.linspace(0, min(1, 40 / math.sqrt(n)), 60)  # nothing is left beyond
    total = sum(integrate.quad(share, a, b)[0] for a, b in itertools.pairwise(pieces))
    assert log_wealth(k, n, tau) == pytest.approx(math.log(total), abs=1e-5)


@given(lattice())
def test_wealth_after_another_draw_is_on_average_what_it_was(case):
    k, n, tau = case
    now, hit, miss = log_wealth([k, k + 1, k], [n, n + 1, n + 1], tau)
    assert now >= -math.log1p(n - k) - 1e-12
    if now > -0.9 * math.log1p(n - k):  # elsewhere it may have been rounded down a lot
        assert hit >= miss
        later = np.logaddexp(hit + math.log(tau), miss + math.log1p(-tau))
        assert later == pytest.approx(now, abs=1e-5)


def test_wealth_grows_with_the_votes():
    assert np.all(np.diff(log_wealth(np.arange(5001), 5000, 0.84)) > -1e-8)


@pytest.mark.filterwarnings("error")
def test_the_ends_are_numbers_and_say_what_is_certain():
    n = 10_000_000
    for tau in (0.0, 1e-300, 1 - 1e-12, 1.0):
        assert not np.any(np.isnan(log_wealth([0, 1, n - 1, n], n, tau)))
    assert log_wealth(0, 0, 0.3) == 0.0
    assert decide(1, 10, 0.0, 0.001) == 1  # a vote, which had the probability 0
    assert decide(9, 10, 1.0, 0.001) == -1
    assert decide(n, n, 1.0, 0.001) == decide(0, 0, 0.5, 0.001) == decide(0, n, 0.0, 0.001) == 0
    assert decide_by_looks([0, 10, 9], 10, [0.0, 1.0, 1.0], 0.1, 1).tolist() == [0, 0, -1]
    assert decide_by_looks(0, 0, 0.5, 0.1, 1) == 0


@given(lattice(), st.sampled_from([0.0, 0.1, 1.0]))
def test_one_point_is_decided_like_many(case, futility):
    k, n, tau = case
    near = min(n, round(n * tau + 4 * math.sqrt(n * tau * (1 - tau))))
    for votes in (k, near, n):
        verdict = decide(votes, n, tau, 0.001, futility)
        assert decide_one(votes, n, tau, 0.001, futility) == verdict
    assert verdict.dtype == np.int8


def test_rows_are_decided_on_their_own():
    k, n, tau = np.array([[100], [60]]), 100, np.array([0.5, 0.84, 0.99])
    verdict = decide(k, n, tau, 0.001)
    assert verdict.tolist() == [[1, 1, 0], [0, -1, -1]]
    assert verdict.dtype == decide_by_looks(k, n, tau, 0.001, 3).dtype == np.int8


def test_the_union_bound_is_clopper_pearson_at_a_share():
    k, n, tau = np.arange(301), 300, 0.84
    verdict = decide_by_looks(k, n, tau, 0.01, 5, futility=0.05)
    np.testing.assert_array_equal(verdict == 1, binomial.lower_bound(k, n, 0.002) > tau)
    np.testing.assert_array_equal(verdict == -1, binomial.upper_bound(k, n, 0.01) < tau)
    assert spend(0.01, 5) == 0.002
    np.testing.assert_allclose(spend([0.1, 0.2], 4), [0.025, 0.05])


def test_the_threshold_that_all_votes_show_and_the_draws_that_takes():
    for alpha in (0.1, 0.001, 1e-6):
        for tau in (0.5, 0.84, 0.999, 1 - 1e-6):
            n = draws_needed(tau, alpha)
            assert decide(n, n, tau, alpha) == 1
            assert decide(n - 1, n - 1, tau, alpha) == 0
            assert largest_threshold(n - 1, alpha) < tau <= largest_threshold(n, alpha)
        n = np.array([1, 2, 10, 100, 10_000, 10_000_000])
        reached = largest_threshold(n, alpha)
        assert np.all(decide(n, n, reached, alpha) == 1)
        assert np.all(decide(n, n, reached + 1e-12, alpha) == 0)
        assert [draws_needed(tau, alpha) for tau in reached] == n.tolist()
    assert largest_threshold(0, 0.001) == 0.0
    assert draws_needed(0.0, 0.001) == 1


def test_draws_needed_by_hand():
    for tau, alpha in ((0.5, 0.01), (0.75, 0.001), (0.9, 0.05)):
        wealth = [(tau**-n - tau) / ((n + 1) * (1 - tau)) for n in range(200)]
        assert draws_needed(tau, alpha) == next(n for n, w in enumerate(wealth) if w >= 1 / alpha)


def test_looks_double_up_to_all_draws():
    assert doubling_looks(10_000, 100) == (156, 312, 625, 1250, 2500, 5000, 10_000)
    assert doubling_looks(800, 100) == (100, 200, 400, 800)
    assert doubling_looks(50, 100) == (50,)
    assert doubling_looks(1, 1) == (1,)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: decide(6, 5, 0.5, 0.1), ValueError, "k must be <= n, got k = 6 of n = 5"),
        (lambda: decide(-1, 5, 0.5, 0.1), ValueError, "k must be >= 0"),
        (lambda: log_wealth(1.0, 5, 0.5), TypeError, "k must hold integers"),
        (lambda: log_wealth(1, 5, 1.5), ValueError, r"threshold must lie in \[0, 1\], got 1.5"),
        (lambda: decide(1, 5, 0.5, 0.0), ValueError, r"failure_probability must lie in \(0, 1\)"),
        (lambda: decide(1, 5, 0.5, 0.1, 2.0), ValueError, r"futility must lie in \[0, 1\], got 2"),
        (lambda: decide(1, 5, math.nan, 0.1), ValueError, "threshold must lie in"),
        (lambda: decide_by_looks(1, 5, 0.5, 0.1, 0), ValueError, "n_looks must be >= 1, got 0"),
        (lambda: spend(0.1, 2.5), TypeError, "n_looks must hold integers"),
        (lambda: spend(1.0, 2), ValueError, "failure_probability must lie in"),
        (lambda: doubling_looks(0, 10), ValueError, "n_draws must be >= 1, got 0"),
        (lambda: doubling_looks(10, 0), ValueError, "first must be >= 1, got 0"),
        (lambda: draws_needed(1.0, 0.1), ValueError, "threshold must be at most 1 - 1e-13"),
        (lambda: largest_threshold(-1, 0.1), ValueError, "n must be >= 0, got -1"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()
