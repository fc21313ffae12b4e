"""Certificates against hand computation, brute force and exact arithmetic."""

import copy
import pickle
from dataclasses import FrozenInstanceError, replace
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from smoothlearn import Certificate

NORMS = (1, 2, np.inf)
#: Where 1.05 r is more than r.
NORMAL = {"allow_subnormal": False}
ANIMALS = np.array(["ant", "bee", "cat"])


def from_counts(counts, winner, classes=ANIMALS, sigma=0.5, level=0.99, n_features=7, stages=None):
    return Certificate.from_votes(
        np.asarray(counts),
        winner=np.asarray(winner),
        classes=classes,
        sigma=sigma,
        confidence_level=level,
        n_features=n_features,
        stages=stages,
    )


def exact(radius, label=None, **changes):
    """A deterministic certificate with these radii."""
    radius = np.asarray(radius, float)
    fields = {
        "label": np.zeros(len(radius), int) if label is None else np.asarray(label),
        "radius": radius,
        "abstained": np.zeros(len(radius), bool),
        "norm": 2,
        "confidence_level": 1.0,
        "units": "input",
        "n_features": 5,
        "classes": np.arange(3),
        "procedure": "exact",
    }
    return Certificate(**(fields | changes))


@st.composite
def labelled(draw):
    """A certificate of up to 20 rows, some tied, infinite or abstained, and true labels."""
    n = draw(st.integers(1, 20))
    radius = st.one_of(st.sampled_from([0.0, 0.5, 1.0, np.inf]), st.floats(0, 5, **NORMAL))
    abstained = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    labels = st.lists(st.integers(0, 2), min_size=n, max_size=n)
    values = np.array(draw(st.lists(radius, min_size=n, max_size=n)))
    certificate = exact(np.where(abstained, 0, values), draw(labels), abstained=abstained)
    return certificate, np.array(draw(labels))


def test_two_classes_by_hand():
    counts = np.array([[990, 10], [3, 997], [510, 490], [0, 1000], [1000, 0]])
    winner = np.array([0, 1, 0, 0, 0])
    certificate = from_counts(counts, winner, ANIMALS[:2], sigma=0.25, level=0.999)
    for i, (row, column) in enumerate(zip(counts, winner, strict=True)):
        test = stats.binomtest(int(row[column]), 1000, alternative="greater")
        low = test.proportion_ci(0.999, method="exact").low
        assert certificate.p_lower[i] == pytest.approx(low, rel=1e-9)
        assert certificate.p_upper[i] == pytest.approx(1 - low, rel=1e-9)
        expected = max(0.0, 0.25 * stats.norm.ppf(low))
        assert certificate.radius[i] == pytest.approx(expected, rel=1e-9)
    np.testing.assert_array_equal(certificate.abstained, [False, False, True, True, False])
    np.testing.assert_array_equal(certificate.label, ["ant", "bee", "ant", "ant", "ant"])


def test_more_classes_by_hand():
    counts = np.array([[5, 80, 15], [40, 35, 25], [0, 0, 100]])
    certificate = from_counts(counts, [1, 0, 2], sigma=2.0, level=0.95)
    for i, (winner, rival) in enumerate([(80, 15), (40, 35), (100, 0)]):
        low = stats.binomtest(winner, 100, alternative="greater").proportion_ci(0.955).low
        high = stats.binomtest(rival, 100, alternative="less").proportion_ci(0.995).high
        high = min(high, 1 - low)
        assert certificate.p_lower[i] == pytest.approx(low, rel=1e-9)
        assert certificate.p_upper[i] == pytest.approx(high, rel=1e-9)
        radius = max(0.0, stats.norm.ppf(low) - stats.norm.ppf(high))
        assert certificate.radius[i] == pytest.approx(radius, rel=1e-9)
    np.testing.assert_array_equal(certificate.abstained, [False, True, False])
    assert (certificate.norm, certificate.procedure, certificate.units) == (2, "fixed", "input")


STAGED = np.array([[90, 10, 0], [980, 15, 5], [40, 35, 25], [0, 0, 1000]])


@pytest.mark.parametrize("n_classes", [2, 3])
def test_two_stages_by_hand(n_classes):
    """Every number of draws has half the failure probability."""
    counts = STAGED[:, :n_classes] + np.outer(STAGED[:, 2], np.eye(n_classes)[0] * (n_classes < 3))
    counts = counts.astype(int)
    certificate = from_counts(counts, [0] * 4, ANIMALS[:n_classes], level=0.95, stages=(100, 1000))
    shares = (0.025, None) if n_classes == 2 else (0.0225, 0.0025)
    for i, row in enumerate(counts):
        n = row.sum()
        assert n == (100, 1000, 100, 1000)[i]
        test = stats.binomtest(int(row[0]), int(n), alternative="greater")
        low = test.proportion_ci(1 - shares[0]).low
        high = 1 - low
        if n_classes == 3:
            rival = stats.binomtest(int(row[1:].max()), int(n), alternative="less")
            high = min(high, rival.proportion_ci(1 - shares[1]).high)
        assert certificate.p_lower[i] == pytest.approx(low, rel=1e-9)
        assert certificate.p_upper[i] == pytest.approx(high, rel=1e-9)
    assert certificate.stages == (100, 1000)
    assert certificate.procedure == "two-stage"
    assert certificate.confidence_level == 0.95
    np.testing.assert_array_equal(certificate.n_draws, [100, 1000, 100, 1000])
    np.testing.assert_array_equal(certificate.counts, counts)


def test_two_stages_are_half_the_failure_probability_of_one():
    counts, winner = STAGED[[1, 3]], [0, 2]
    staged = from_counts(counts, winner, level=0.9, stages=(100, 1000))
    single = from_counts(counts, winner, level=0.95)
    np.testing.assert_allclose(staged.radius, single.radius, rtol=1e-13)
    assert single.stages is None
    assert np.all(staged.radius < from_counts(counts, winner, level=0.9).radius)


@pytest.mark.parametrize("counts", [[[99, 0, 0]], [[90, 10, 0], [500, 50, 0]], [[0, 0, 0]]])
def test_draws_that_are_no_stage_are_refused(counts):
    with pytest.raises(ValueError, match="counts must sum to 100 or 1000, the stages"):
        from_counts(counts, [0] * len(counts), stages=(100, 1000))


def test_the_largest_radius_of_two_stages_is_that_of_all_draws():
    """Also where no row went on, so that it depends on no row."""
    full = from_counts([[1000, 0, 0]], [0], stages=(100, 1000))
    for counts in ([[100, 0, 0]], [[50, 50, 0]], [[1000, 0, 0], [90, 10, 0]]):
        certificate = from_counts(counts, [0] * len(counts), stages=(100, 1000))
        assert certificate.largest_radius == pytest.approx(full.radius[0], rel=1e-9)
    assert full.scaled(0.25).largest_radius == pytest.approx(full.radius[0] / 4, rel=1e-9)
    assert full.largest_radius < from_counts([[1000, 0, 0]], [0]).largest_radius


def test_stages_stay_with_the_certificate():
    certificate = from_counts(STAGED, [0, 0, 0, 2], stages=(100, 1000))
    with pytest.raises(ValueError, match="two-stage"):
        certificate.at_confidence(0.9)
    for other in (
        pickle.loads(pickle.dumps(certificate)),
        copy.deepcopy(certificate),
        replace(certificate, units="smoother"),
        certificate.scaled(0.5),
        certificate.displaced(np.full(4, 0.01)),
        certificate.to_norm(np.inf),
    ):
        assert other.stages == (100, 1000)
        assert other.procedure == "two-stage"
        np.testing.assert_array_equal(other.n_draws, [100, 1000, 100, 1000])
        with pytest.raises(ValueError, match="two-stage"):
            other.at_confidence(0.9)
    np.testing.assert_array_equal(certificate.to_frame()["n_draws"], [100, 1000, 100, 1000])


def test_no_rows_in_two_stages():
    certificate = from_counts(np.zeros((0, 3), int), np.zeros(0, int), stages=(100, 1000))
    assert len(certificate) == 0
    assert certificate.stages == (100, 1000)


@given(
    st.lists(st.tuples(*[st.integers(0, 300)] * 3).filter(sum), min_size=1, max_size=5),
    st.sampled_from([0.5, 0.9, 0.999]),
    st.randoms(use_true_random=False),
)
def test_votes_give_a_radius_unless_the_row_abstained(counts, level, random):
    winner = [random.randrange(3) for _ in counts]
    certificate = from_counts(counts, winner, sigma=0.7, level=level)
    np.testing.assert_array_equal(certificate.radius > 0, ~certificate.abstained)
    np.testing.assert_array_equal(certificate.abstained, certificate.p_lower <= certificate.p_upper)
    np.testing.assert_array_equal(certificate.n_draws, np.sum(counts, axis=1))
    assert np.all(certificate.radius <= certificate.largest_radius * (1 + 1e-9))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_largest_radius_is_that_of_unanimous_votes(n_classes):
    counts = np.eye(1, n_classes, dtype=int) * 1000
    certificate = from_counts(counts, [0], ANIMALS[:n_classes])
    assert certificate.largest_radius == pytest.approx(certificate.radius[0], rel=1e-9)
    smaller = certificate.scaled(0.25)
    assert smaller.largest_radius == pytest.approx(certificate.radius[0] / 4, rel=1e-9)


def test_nothing_limits_the_radius_without_votes():
    assert exact([0.5, 2.0]).largest_radius == np.inf
    assert from_counts(np.zeros((0, 3), int), np.zeros(0, int)).largest_radius == np.inf


def test_arrays_are_read_only_and_those_passed_in_are_not():
    counts = np.array([[90, 5, 5]])
    certificate = from_counts(counts, [0])
    for copied in (
        certificate,
        pickle.loads(pickle.dumps(certificate)),
        copy.deepcopy(certificate),
    ):
        for array in (copied.label, copied.radius, copied.counts, copied.classes):
            with pytest.raises(ValueError, match="read-only"):
                array[:1] = array[:1]
    with pytest.raises(FrozenInstanceError):
        certificate.norm = 1
    assert counts.flags.writeable


@given(labelled(), st.one_of(st.just(0.0), st.just(0.5), st.floats(0, 6)))
def test_accuracy_is_brute_force(pair, radius):
    certificate, y = pair
    right = [
        not abstained and label == truth and r >= radius
        for label, truth, r, abstained in zip(
            certificate.label, y, certificate.radius, certificate.abstained, strict=True
        )
    ]
    assert certificate.accuracy(y, radius) == pytest.approx(sum(right) / len(y))


@given(labelled())
def test_average_radius_is_brute_force(pair):
    certificate, y = pair
    rows = zip(certificate.label, y, certificate.radius, strict=True)
    total = sum(radius for label, truth, radius in rows if label == truth)
    assert certificate.average_radius(y) == pytest.approx(total / len(y))


@given(labelled(), st.lists(st.floats(0, 6), min_size=1, max_size=5))
def test_the_curve_is_the_accuracy_at_every_radius(pair, between):
    certificate, y = pair
    radii, counts = certificate.curve(y)
    assert radii[0] == 0
    assert np.all(np.diff(radii) > 0)
    assert np.all(np.isfinite(radii))
    for radius in [*radii, *between, *np.nextafter(radii, 10), *np.nextafter(radii[1:], 0)]:
        if radius <= radii[-1]:  # constant between one radius and the next, which it includes
            here = counts[np.searchsorted(radii, radius, side="left")]
            assert certificate.accuracy(y, radius) == pytest.approx(here / len(y))
    endless = np.sum((certificate.label == y) & np.isinf(certificate.radius))
    assert counts[-1] == endless or len(radii) == 1


def test_right_label_does_not_count_where_abstained():
    certificate = from_counts([[51, 49, 0], [99, 1, 0]], [0, 0])
    np.testing.assert_array_equal(certificate.certified(["ant", "ant"]), [False, True])
    assert certificate.accuracy(["ant", "ant"]) == 0.5
    assert certificate.curve(["ant", "ant"])[1][0] == 1


def test_labels_of_a_series_and_unknown_or_missing_ones():
    certificate = from_counts([[99, 1, 0], [0, 99, 1]], [0, 1])
    assert certificate.accuracy(pd.Series(["ant", "bee"], index=[7, 9])) == 1.0
    for method in (certificate.accuracy, certificate.average_radius, certificate.curve):
        with pytest.raises(ValueError, match=r"never saw: \['dog'\]"):
            method(["ant", "dog"])
        with pytest.raises(ValueError, match=r"never saw: \[0, 1\]"):
            method([0, 1])
        with pytest.raises(ValueError, match=r"shape \(2,\), got \(1,\)"):
            method(["ant"])
        with pytest.raises(ValueError, match=r"shape \(2,\), got \(2, 1\)"):
            method([["ant"], ["bee"]])


@pytest.mark.parametrize("radius", [-0.1, np.nan])
def test_accuracy_refuses_radii_below_zero(radius):
    with pytest.raises(ValueError, match="radius must be >= 0"):
        exact([1.0]).accuracy([0], radius)


def test_a_decision_at_one_radius_says_nothing_about_others():
    certificate = exact([0.3, 0.0], procedure="anytime", tested_radius=0.3)
    assert certificate.accuracy([0, 0], 0.3) == 0.5
    for radius in (0.0, 0.2, 0.31):
        with pytest.raises(ValueError, match=r"decided at radius 0\.3"):
            certificate.accuracy([0, 0], radius)
    for method in (certificate.average_radius, certificate.curve):
        with pytest.raises(ValueError, match=r"decided at radius 0\.3 alone"):
            method([0, 0])


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_a_decision_at_one_radius_survives_other_units(radius, factor):
    certificate = exact([radius, 0.0], procedure="anytime", tested_radius=radius).scaled(factor)
    assert certificate.accuracy([0, 0], certificate.tested_radius) == 0.5


def test_empty():
    certificate = from_counts(np.zeros((0, 3), int), np.zeros(0, int))
    assert len(certificate) == 0
    assert np.isnan(certificate.accuracy([]))
    assert np.isnan(certificate.average_radius([]))
    radii, counts = certificate.curve([])
    np.testing.assert_array_equal(radii, [0.0])
    np.testing.assert_array_equal(counts, [0])
    assert len(certificate.to_frame()) == 0
    assert len(certificate.to_norm(1).at_confidence(0.9)) == 0


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_scaled_is_below_the_product_by_rounding_alone(radius, factor):
    scaled = exact([radius, 0.0]).scaled(factor)
    product = Fraction(radius) * Fraction(factor)
    assert product * (1 - Fraction(1, 10**14)) < Fraction(float(scaled.radius[0])) < product
    assert scaled.radius[1] == 0
    assert scaled.scale == factor


@given(st.floats(1e-6, 1e6), st.integers(1, 4000))
def test_to_norm_is_rounded_down(radius, n_features):
    r = Fraction(float(exact([radius], n_features=n_features).to_norm(np.inf).radius[0]))
    assert r**2 * n_features < Fraction(radius) ** 2
    r = Fraction(float(exact([radius], n_features=n_features, norm=1).to_norm(np.inf).radius[0]))
    assert r * n_features < Fraction(radius)


@pytest.mark.parametrize("old", NORMS)
@pytest.mark.parametrize("new", NORMS)
def test_to_norm_is_the_largest_ball_inside(old, new):
    d, rng = 6, np.random.default_rng(0)
    certificate = exact([0.4], norm=old, n_features=d)
    other = certificate.to_norm(new)
    assert other.norm == new
    directions = np.concatenate(
        [
            np.eye(d),
            np.ones((1, d)),
            rng.standard_normal((2000, d)),
            rng.laplace(size=(2000, d)) ** 3,
        ]
    )
    lengths = np.linalg.norm(directions, new, axis=1, keepdims=True)
    reached = np.linalg.norm(other.radius * directions / lengths, old, axis=1)
    assert reached.max() <= 0.4 * (1 + 1e-12)
    assert reached.max() >= 0.4 * (1 - 1e-12)


@pytest.mark.parametrize("norm", [0, 3, -1, "2", None])
def test_to_norm_refuses_other_norms(norm):
    with pytest.raises(ValueError, match="norm must be 1, 2 or inf"):
        exact([1.0]).to_norm(norm)


def test_what_nothing_limits_stays_unlimited():
    certificate = exact([np.inf, 0.0, 2.0])
    for other in (certificate.to_norm(np.inf), certificate.scaled(3.0), certificate.scaled(np.inf)):
        assert other.radius[0] == np.inf
        assert other.radius[1] == 0
    radii, counts = certificate.to_norm(np.inf).curve([0, 0, 0])
    assert radii[-1] < 2
    np.testing.assert_array_equal(counts, [3, 2, 1])


def test_at_confidence_is_from_counts_at_that_level():
    counts, winner = [[80, 15, 5], [50, 30, 20], [0, 1, 99]], [0, 0, 1]
    again = from_counts(counts, winner, level=0.999).at_confidence(0.9)
    expected = from_counts(counts, winner, level=0.9)
    for name in ("label", "abstained", "p_lower", "p_upper", "counts", "n_draws"):
        np.testing.assert_array_equal(getattr(again, name), getattr(expected, name))
    np.testing.assert_allclose(again.radius, expected.radius, rtol=1e-14)
    assert again.confidence_level == 0.9


def test_at_confidence_keeps_norm_units_and_scale():
    counts, winner = [[80, 15, 5], [50, 30, 20]], [0, 0]
    original = from_counts(counts, winner, level=0.999)
    converted = replace(original, units="smoother").scaled(0.3, n_features=4).to_norm(np.inf)
    again = converted.at_confidence(0.9)
    assert (again.norm, again.units, again.n_features) == (np.inf, "smoother", 4)
    full = from_counts(counts, winner, level=0.9).radius
    np.testing.assert_allclose(again.radius, full * 0.3 / 2, rtol=1e-13)
    assert np.all(again.radius <= full * 0.3 / 2)
    same = converted.at_confidence(0.999)
    np.testing.assert_allclose(same.radius, converted.radius, rtol=1e-13)
    assert again.to_norm(1).at_confidence(0.9).norm == 1


def test_at_confidence_does_not_need_sorted_classes():
    certificate = from_counts([[1, 90, 9]], [1], classes=np.array(["z", "a", "m"]))
    again = certificate.at_confidence(0.99)
    assert again.label == certificate.label == ["a"]
    np.testing.assert_array_equal(again.p_lower, certificate.p_lower)


@pytest.mark.parametrize("procedure", ["exact", "two-stage", "anytime", "capped"])
def test_only_fixed_draws_are_read_again(procedure):
    certificate = replace(from_counts([[90, 5, 5]], [0]), procedure=procedure)
    with pytest.raises(ValueError, match=procedure):
        certificate.at_confidence(0.9)
    with pytest.raises(ValueError, match="exact"):
        exact([1.0]).at_confidence(0.9)


@pytest.mark.parametrize("level", [0.0, 1.0, 1.5])
def test_at_confidence_refuses_levels_that_are_none(level):
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\)"):
        from_counts([[90, 5, 5]], [0]).at_confidence(level)


def test_to_frame():
    certificate = from_counts([[80, 15, 5], [50, 30, 20]], [0, 0])
    frame = certificate.to_frame()
    names = ["label", "radius", "abstained", "p_lower", "p_upper", "n_draws"]
    assert list(frame.columns) == names
    for name in names:
        np.testing.assert_array_equal(frame[name], getattr(certificate, name))
    frame.loc[0, "radius"] = 7.0
    assert list(exact([1.0]).to_frame().columns) == names[:3]


def test_the_caller_keeps_its_arrays_to_itself():
    counts = np.array([[90, 10], [80, 20]])
    certificate = from_counts(counts, [0, 0])
    counts[:] = 0
    assert certificate.counts.tolist() == [[90, 10], [80, 20]]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("radius", np.array([np.nan, 1.0])),
        ("radius", np.array([-1.0, 1.0])),
        ("norm", 3),
        ("confidence_level", 0.0),
        ("confidence_level", 1.5),
        ("units", "pixels"),
        ("procedure", "peeking"),
    ],
)
def test_impossible_values_are_refused(field, value):
    with pytest.raises(ValueError, match=field):
        replace(from_counts(np.array([[90, 10], [80, 20]]), [0, 0]), **{field: value})


def test_displacement_is_subtracted_at_every_level_and_in_every_unit():
    certificate = from_counts(np.array([[900, 100], [700, 300], [510, 490]]), [0, 0, 0])
    distance = np.array([0.1, 10.0, 0.0])
    moved = certificate.displaced(distance)
    assert moved.radius[0] == pytest.approx(certificate.radius[0] - 0.1, rel=1e-12)
    assert moved.radius[0] < certificate.radius[0] - 0.1
    assert moved.radius[1:].tolist() == [0, 0]
    assert moved.abstained.tolist() == [False, True, certificate.abstained[2]]
    scaled = moved.scaled(0.5).displaced(np.array([0.01, 0.0, 0.0]))
    expected = certificate.at_confidence(0.9).radius * 0.5 - [0.06, 5.0, 0.0]
    again = scaled.at_confidence(0.9)
    np.testing.assert_allclose(again.radius, np.maximum(expected, 0), rtol=1e-12)
    assert again.abstained[1]
    np.testing.assert_allclose(again.displacement, [0.06, 5.0, 0.0])
    unmoved = certificate.displaced(np.zeros(3))
    assert np.array_equal(unmoved.radius, certificate.radius)
    assert np.array_equal(unmoved.abstained, certificate.abstained)


def test_what_was_asked_for_is_lowered_with_the_radii_of_rows_that_were_moved():
    counts = [[990, 10, 0], [990, 10, 0]]
    capped = from_counts(counts, [0, 0]).capped(0.2).displaced(np.array([0.05, 0.0]))
    np.testing.assert_allclose(capped.max_radius, [0.15, 0.2], rtol=1e-12)
    np.testing.assert_allclose(capped.radius, capped.max_radius, rtol=1e-12)
    with pytest.raises(ValueError, match=r"capped at 0\.15 to 0\.2"):
        capped.accuracy(["ant", "ant"], 0.17)
    decided = replace(from_counts(counts, [0, 0]), radius=np.array([0.1, 0.1]), tested_radius=0.1)
    moved = decided.displaced(np.array([0.05, 0.2]))
    np.testing.assert_allclose(moved.tested_radius, [0.05, 0.0], atol=1e-12)
    with pytest.raises(ValueError, match="decided at radius"):
        moved.accuracy(["ant", "ant"], 0.1)


def test_no_cap_is_no_end_of_the_curve():
    certificate = from_counts([[990, 10, 0]], [0])
    radii = certificate.capped(np.inf).curve(["ant"])[0]
    np.testing.assert_array_equal(radii, certificate.curve(["ant"])[0])


# A whole test set


def test_all_rows_at_once_share_the_failure_probability():
    counts = [[980, 20, 0], [700, 200, 100], [600, 300, 100], [990, 5, 5]]
    certificate = from_counts(counts, [0, 0, 0, 0], level=0.9)
    together = certificate.at_confidence(0.9, all_rows=True)
    np.testing.assert_array_equal(together.radius, certificate.at_confidence(0.975).radius)
    assert together.confidence_level == 0.975
    assert np.all(together.radius < certificate.radius)


def test_the_interval_of_certified_accuracy_has_clopper_and_pearson_s_ends_less_what_may_fail():
    counts, y = [[990, 10, 0]] * 30 + [[500, 400, 100]] * 10, ["ant"] * 40
    certificate = from_counts(counts, [0] * 40, level=0.999)
    low, high = certificate.accuracy_interval(y, 0.5)
    assert low == pytest.approx(stats.beta.ppf(0.025, 30, 11) - 0.001)
    assert high == pytest.approx(stats.beta.ppf(0.975, 31, 10))
    wide = certificate.accuracy_interval(y, 0.5, confidence_level=0.999)
    assert wide[0] < low < certificate.accuracy(y, 0.5) < high < wide[1]
    assert certificate.accuracy_interval(["bee"] * 40)[0] == 0
    with pytest.raises(ValueError, match="confidence_level must lie in"):
        certificate.accuracy_interval(y, confidence_level=1.0)
    with pytest.raises(ValueError, match="no rows"):
        from_counts(np.zeros((0, 3), int), np.zeros(0, int)).accuracy_interval([])


def test_the_interval_covers_what_g_gets_right():
    """Of rows that g has right with probability q, some are certified though g has them wrong.

    Each of 400 intervals misses with probability 0.05 at most; 1e-6 is that of more than 42.
    """
    rng = np.random.default_rng(0)
    q, failure, n_rows, missed = 0.7, 0.05, 200, 0
    for _ in range(400):
        right = rng.random(n_rows) < q
        shown = np.where(right, 1000, np.where(rng.random(n_rows) < failure, 1000, 500))
        certificate = from_counts(
            np.column_stack([shown, 1000 - shown]), [0] * n_rows, ANIMALS[:2], level=1 - failure
        )
        low, high = certificate.accuracy_interval(["ant"] * n_rows, 0.5)
        missed += not low <= q <= high
    assert missed <= 42


def test_arrays_that_are_read_only_already_are_not_copied():
    radius = np.array([0.5, 0.7])
    radius.flags.writeable = False
    settings = {"label": np.array(["cat", "dog"]), "abstained": np.zeros(2, bool), "norm": 2}
    settings |= {"confidence_level": 1.0, "units": "input", "n_features": 2, "procedure": "exact"}
    assert Certificate(radius=radius, classes=ANIMALS, **settings).radius is radius
    view = radius[:]
    again = Certificate(radius=view, classes=ANIMALS, **settings).radius
    assert again is not view
    assert not again.flags.writeable
