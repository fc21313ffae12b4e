"""Decisions on a radius err at most as often as promised, by exact enumeration and by simulation.

The seeds are fixed. Had they been drawn at random, each simulation would fail by chance with
probability below 1e-6, as its bound is the binomial quantile at that level.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from smoothlearn.theory import decisions
from smoothlearn.theory.binomial import winner_and_rival_bounds
from smoothlearn.theory.decisions import decision, soft_decision, tangent, tilt
from smoothlearn.theory.gaussian import draws_needed
from smoothlearn.theory.gaussian import radius as gaussian_radius
from smoothlearn.theory.means import STAKES, log_wealth

ALPHA = 0.05
#: Draws in all at the looks of the engine.
LOOKS = (100, 200, 400, 800, *range(1300, 5000, 500))


def boundary(b, ratio):
    """Probabilities (a, b) with which class A has just this radius, in sigmas, against class B."""
    a = special.ndtr(special.ndtri(b) + 2 * ratio)
    return (a, b) if a + b <= 1 else (special.ndtr(ratio), special.ndtr(-ratio))


def chance_of_one(decide, a, b, looks, n_classes):
    """The probability that a rule ever says 1, summed over all counts; other classes are behind."""
    size = looks[-1] + 1
    alive = np.zeros((size, size))  # by the counts of A and B
    alive[0, 0] = 1.0
    said_one, drawn = 0.0, 0
    for look in looks:
        i, j = np.indices((look - drawn + 1,) * 2)
        rest = look - drawn - i - j
        possible = rest >= 0
        law = np.zeros(possible.shape)
        counts = np.stack([i, j, rest], axis=-1)[possible]
        law[possible] = stats.multinomial.pmf(counts, look - drawn, [a, b, max(1 - a - b, 0)])
        grid = (2 * size, 2 * size)
        alive = np.fft.irfft2(np.fft.rfft2(alive, grid) * np.fft.rfft2(law, grid))[:size, :size]
        drawn = look
        for k, rival in zip(*np.nonzero(alive > 1e-12), strict=True):
            others = np.diff(np.linspace(0, look - k - rival, n_classes - 1).astype(int))
            said = decide(np.array([k, rival, *others]))
            said_one += alive[k, rival] * (said > 0)
            alive[k, rival] *= said == 0
    return said_one


def cautious(monkeypatch):
    """No rule gives up, which would hide errors."""
    monkeypatch.setattr(decisions, "OPTIMISM", 1e6)


@pytest.mark.parametrize(("ratio", "t"), [(0.0, 0.0), (0.5, 0.3), (1.0, 0.0), (1.0, 1.0)])
@pytest.mark.parametrize("b", [0.02, 0.1, 0.3])
def test_errs_at_most_as_often_as_promised(monkeypatch, ratio, t, b):
    cautious(monkeypatch)
    decide = decision(0, ratio, t, ALPHA, 60)
    assert chance_of_one(decide, *boundary(b, ratio), range(4, 61, 4), n_classes=10) <= ALPHA


@pytest.mark.parametrize(("ratio", "n_classes"), [(0.0, 2), (0.7, 2), (0.0, 10), (0.7, 10)])
def test_what_is_promised_is_used(monkeypatch, ratio, n_classes):
    cautious(monkeypatch)
    decide = decision(0, ratio, 0.0, ALPHA, 120)
    a, b = boundary(0.5, ratio)
    wrong = chance_of_one(decide, a, b, range(5, 121, 5), n_classes)
    assert ALPHA / 12 < wrong <= ALPHA


@pytest.mark.parametrize(("ratio", "b"), [(0.5, 0.05), (1.0, 0.01), (1.0, 0.15), (2.0, 0.001)])
def test_errs_at_most_as_often_as_promised_at_the_looks_of_the_engine(ratio, b):
    a, b = boundary(b, ratio)
    others = (1 - a - b) * np.array([0.5, 0.3, 0.2]) if a + b < 1 else np.zeros(3)
    law, n_runs, rng = np.array([a, b, *others]), 800, np.random.default_rng(0)
    passed = 0
    for _ in range(n_runs):
        chosen = tilt(rng.multinomial(100, law)[np.newaxis], np.array([0]))[0]
        decide = decision(0, ratio, chosen, ALPHA, LOOKS[-1])
        passed += said_at_looks(decide, rng, law) > 0
    assert passed <= stats.binom.isf(1e-6, n_runs, ALPHA)


def said_at_looks(decide, rng, law):
    votes, drawn = np.zeros(len(law), dtype=np.int64), 0
    for look in LOOKS:
        votes += rng.multinomial(look - drawn, law)
        drawn = look
        said = decide(votes)
        if said:
            return said
    return 0


def test_looking_again_and_again_at_a_bound_for_fixed_draws_errs_more_often():
    """What the bets are for: the same looks with Clopper-Pearson bounds break the promise."""
    rng, tau = np.random.default_rng(0), special.ndtr(1.0)
    steps = np.diff([0, *LOOKS])
    votes = rng.binomial(steps, tau, size=(4000, len(steps))).cumsum(axis=1)
    peeking = stats.beta.ppf(ALPHA, votes, np.array(LOOKS) - votes + 1) > tau
    assert peeking.any(axis=1).mean() > 3 * ALPHA
    decide = decision(0, 1.0, 0.0, ALPHA, LOOKS[-1])
    assert np.mean([said_at_looks(decide, rng, [tau, 1 - tau]) > 0 for _ in range(1000)]) <= ALPHA


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.5])
@pytest.mark.parametrize("rule", [decision, soft_decision])
def test_rows_far_from_the_radius_are_decided_by_few_draws(ratio, rule):
    soft = rule is soft_decision
    a, b = boundary(0.2, ratio)
    for law, expected in (((0.995, 0.003, 0.002), 1), ((a - 0.15, b + 0.15, 1 - a - b), -1)):
        votes = np.rint(400 * np.maximum(law, 0)).astype(int)
        given = np.stack([votes, votes]).astype(float) if soft else votes
        assert rule(0, ratio, 0.0, 0.001, 100_000)(given) == expected


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_row_is_given_up_where_unanimous_draws_would_not_do(n_classes, soft):
    rule = soft_decision if soft else decision
    unanimous = 100 * np.eye(n_classes, dtype=int)[0]
    votes = np.stack([unanimous, unanimous]).astype(float) if soft else unanimous
    needed = draws_needed(1.5, 1 - 0.0001 * (1 / decisions.LOOKING_SHARE - 1), 1.0)
    assert rule(0, 1.5, 0.0, 0.0001, needed)(votes) == 0
    assert rule(0, 1.5, 0.0, 0.0001, needed - 1)(votes) == -1
    assert rule(0, 9.0, 0.0, 0.0001, 10**9)(votes) == -1


def test_a_row_that_bounds_at_the_end_may_show_is_not_given_up():
    """Of 300 rows that all draws certify, hardly any is ended before."""
    rng, n_draws, ratio, ended, judged = np.random.default_rng(0), 4800, 0.5, 0, 0
    law = np.array([0.75, 0.13, 0.12])
    for _ in range(300):
        votes = rng.multinomial(np.diff([0, *LOOKS]), law).cumsum(axis=0)
        low, high = winner_and_rival_bounds(votes[-1:], [0], 0.0009)
        if gaussian_radius(low, high) >= ratio:
            decide = decision(0, ratio, 0.2, 0.0001, n_draws)
            said = [decide(so_far) for so_far in votes]
            said = next((one for one in said if one), 0)
            judged, ended = judged + 1, ended + (said < 0)
    assert judged > 100
    assert ended <= judged / 50


@pytest.mark.parametrize("ratio", [38.5, 1e308, np.inf])
@pytest.mark.parametrize("t", [0.0, 1.0])
def test_no_votes_show_an_endless_radius(ratio, t):
    assert tangent(ratio, t) == (1.0, 1.0)
    assert decision(0, ratio, t, 0.001, 1000)(np.array([100, 0])) == -1
    assert soft_decision(0, ratio, t, 0.001, 1000)(np.array([[100.0, 0], [100.0, 0]])) == -1


def test_sums_of_squares_may_be_rounded_below_zero():
    p = np.array([1e-15, 1 - 1e-15, 0.0])
    for slope_at in (0.0, 0.7, 3.0):
        sums = 100 * np.stack([p, p**2])
        assert soft_decision(0, 0.7, slope_at, 0.001, 1000)(sums) == -1


# The tangent

ratios, tilts, shares = st.floats(0, 6), st.floats(0, 6), st.floats(1e-12, 0.999)


@given(ratios, tilts, shares)
def test_no_rival_without_the_radius_is_above_the_tangent(ratio, t, b):
    slope, intercept = tangent(ratio, t)
    a = special.ndtr(special.ndtri(b) + 2 * ratio)
    assert a - slope * b <= intercept


@given(st.floats(0.01, 4), st.floats(0, 3))
def test_the_tangent_touches_where_the_tilt_says(ratio, t):
    slope, intercept = tangent(ratio, t)
    a, b = special.ndtr(ratio - t), special.ndtr(-ratio - t)
    assert a - slope * b == pytest.approx(intercept, abs=1e-11)
    assert gaussian_radius(a, b) == pytest.approx(ratio)


def test_the_tilt_is_that_of_the_frequencies():
    votes = np.array([[70, 20, 10], [20, 70, 10], [100, 0, 0], [60, 40, 0]])
    expected = [-(special.ndtri(70.5 / 101) + special.ndtri(20.5 / 101)) / 2] * 2
    np.testing.assert_allclose(tilt(votes, np.array([0, 1, 0, 0])), [*expected, 0, 0], atol=1e-12)


# Soft votes


def soft_draws(rng, shape, n):
    """Probabilities of three classes; Dirichlet, so that a mean is known exactly."""
    return rng.dirichlet(shape, size=n)


@pytest.mark.parametrize("strength", [0.5, 5.0, 50.0])
def test_soft_decisions_err_at_most_as_often_as_promised(strength):
    a, b = boundary(0.1, 0.7)
    law = np.array([a, b, 1 - a - b])
    rng, n_runs, passed = np.random.default_rng(0), 800, 0
    chosen = -(special.ndtri(a) + special.ndtri(b)) / 2
    for _ in range(n_runs):
        decide = soft_decision(0, 0.7, chosen, ALPHA, 1000)
        p = soft_draws(rng, strength * law, 800)
        sums = np.stack([p, p**2]).cumsum(axis=1)
        said = [decide(sums[:, look - 1]) for look in (100, 200, 400, 800)]
        passed += 1 in said
    assert passed <= stats.binom.isf(1e-6, n_runs, ALPHA)


@pytest.mark.parametrize(("ratio", "t"), [(0.0, 0.0), (0.6, 0.2), (0.6, 1.5), (1.0, 1.0)])
def test_soft_wealth_is_never_above_the_exact_one(ratio, t):
    rng = np.random.default_rng(0)
    apart = np.array([[1.0, 0, 0]] * 57 + [[0, 0.5, 0.5]] * 3)  # no product F_A F_B to lose
    samples = [soft_draws(rng, shape, 60) for shape in ([2.0, 1, 1], [0.6, 0.2, 0.1], [30, 2, 2])]
    slope, intercept = tangent(ratio, t)
    stakes = STAKES / (slope + intercept)
    n_judged = 0
    for p in (*samples, apart):
        gains = [p[:, 0] - slope * p[:, rival] - intercept for rival in (1, 2)]
        exact = min(np.exp(np.log1p(np.outer(stakes, gain)).sum(axis=1)).mean() for gain in gains)
        if exact > 1.001:
            decide = soft_decision(0, ratio, t, 0.999 / exact, 60)
            assert decide(np.stack([p.sum(axis=0), (p**2).sum(axis=0)])) <= 0
            n_judged += 1
    assert n_judged


def test_soft_wealth_is_its_formula():
    p = soft_draws(np.random.default_rng(0), [8.0, 1, 1], 60)
    slope, intercept = tangent(0.5, 1.2)
    lifted = (p[:, :1] - slope * p[:, 1:] + slope) / (1 + slope)
    lost = 2 * slope * (p[:, :1] * p[:, 1:]).sum(axis=0) / (1 + slope) ** 2
    squares = (lifted**2).sum(axis=0) + lost
    wealth = log_wealth(lifted.sum(axis=0), squares, 60, (intercept + slope) / (1 + slope)).min()
    sums = np.stack([p.sum(axis=0), (p**2).sum(axis=0)])
    assert wealth > 0.1
    assert soft_decision(0, 0.5, 1.2, 0.999 * np.exp(-wealth), 60)(sums) < 1
    assert soft_decision(0, 0.5, 1.2, 1.001 * np.exp(-wealth), 60)(sums) == 1


def test_votes_that_are_all_or_nothing_are_judged_alike():
    for counts in ([950, 30, 20], [500, 300, 200], [700, 150, 150]):
        hard = decision(0, 0.8, 0.1, 0.001, 10_000)(np.array(counts))
        soft = soft_decision(0, 0.8, 0.1, 0.001, 10_000)(np.array([counts, counts], float))
        assert soft == hard


def test_votes_that_all_agree_have_no_rival():
    decide = decision(0, 1.0, 0.2, 1e-4, 10**6)
    assert [decide(np.array([k, 0, 0])) for k in (64, 65)] == [0, 1]
    assert decide(np.array([65, 1, 0])) == 0
