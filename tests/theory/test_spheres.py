"""Spheres and crossings by hand, by brute force and by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from scipy import stats

from smoothlearn.theory import spheres
from smoothlearn.theory.spheres import sphere_overlap

SHARES = ("pairs", "same_class", "other_class", "rows", "crossing")


def problem(seed=0, n=30, d=3, n_classes=3):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.integers(0, n_classes, n)


def brute_force(X, y, sigma, chosen):
    """The definitions, pair by pair, for one sigma."""
    same, other, touch, cross = [], [], [], []
    radius = sigma * np.sqrt(X.shape[1])
    for i in chosen:
        lengths = {j: np.linalg.norm(X[i] - X[j]) for j in range(len(X)) if j != i}
        same += [lengths[j] <= 2 * radius for j in lengths if y[j] == y[i]]
        other += [lengths[j] <= 2 * radius for j in lengths if y[j] != y[i]]
        nearest = min(lengths[j] for j in lengths if y[j] != y[i])
        touch.append(nearest <= 2 * radius)
        cross.append(stats.norm.cdf(-nearest / (2 * sigma)))
    return [np.mean(what) for what in (same + other, same, other, touch, cross)]


@pytest.mark.parametrize("d", [1, 4, 9])
def test_two_rows_meet_exactly_from_half_their_distance_over_root_d_on(d):
    X = np.zeros((2, d))
    X[1, 0] = 6
    touch = 6 / (2 * np.sqrt(d))
    sigma = [np.nextafter(touch, 0), touch, np.nextafter(touch, 10)]
    overlap = sphere_overlap(X, ["a", "b"], sigma=sigma)
    for share in (overlap.pairs, overlap.other_class, overlap.rows):
        np.testing.assert_array_equal(share, [0, 1, 1])
    assert np.all(np.isnan(overlap.same_class))
    assert overlap.crossing[1] == pytest.approx(stats.norm.cdf(-np.sqrt(d)), rel=1e-12)


def test_three_rows_counted_by_hand():
    # In one dimension: 0 and 2 of class 0, 10 of class 1; spheres meet at sigma = 1, 4 and 5.
    overlap = sphere_overlap([[0.0], [2.0], [10.0]], [0, 0, 1], sigma=[0.9, 1, 4, 5])
    np.testing.assert_allclose(overlap.pairs, [0, 1 / 3, 2 / 3, 1])
    np.testing.assert_array_equal(overlap.same_class, [0, 1, 1, 1])
    np.testing.assert_array_equal(overlap.other_class, [0, 0, 0.5, 1])
    np.testing.assert_allclose(overlap.rows, [0, 0, 2 / 3, 1])
    crossing = [np.mean(stats.norm.cdf([-5 / s, -4 / s, -4 / s])) for s in (0.9, 1, 4, 5)]
    np.testing.assert_allclose(overlap.crossing, crossing, rtol=1e-12)


@pytest.mark.parametrize("d", [1, 3, 40])
def test_shares_are_those_of_brute_force(d):
    X, y = problem(d=d)
    sigma = np.array([0.05, 0.4, 0.7, 1.0, 3.0])
    overlap = sphere_overlap(X, y, sigma=sigma)
    for k, level in enumerate(sigma):
        expected = brute_force(X, y, level, range(len(X)))
        np.testing.assert_allclose([getattr(overlap, s)[k] for s in SHARES], expected, rtol=1e-9)


@pytest.mark.parametrize("random_state", [3, np.random.RandomState(3), np.random.default_rng(3)])
def test_a_sample_is_compared_with_all_rows(random_state, monkeypatch):
    X, y = problem()
    drawn = []
    sample = spheres._sample

    def recorded(*arguments):
        drawn.append(sample(*arguments))
        return drawn[0]

    monkeypatch.setattr(spheres, "_sample", recorded)
    overlap = sphere_overlap(X, y, sigma=0.6, sample_size=7, random_state=random_state)
    assert len(set(drawn[0])) == 7
    expected = brute_force(X, y, 0.6, drawn[0])
    np.testing.assert_allclose([getattr(overlap, s) for s in SHARES], expected, rtol=1e-9)


def test_a_sample_of_all_rows_is_no_sample():
    X, y = problem()
    whole = sphere_overlap(X, y, sigma=[0.3, 0.9])
    for size in (30, 1000):
        sample = sphere_overlap(X, y, sigma=[0.3, 0.9], sample_size=size, random_state=0)
        for share in SHARES:
            np.testing.assert_allclose(getattr(sample, share), getattr(whole, share), rtol=1e-12)


@pytest.mark.parametrize("block", [1, 50, 100, 899])
def test_blocks_change_nothing(block, monkeypatch):
    X, y = problem()
    whole = sphere_overlap(X, y)
    monkeypatch.setattr(spheres, "_BLOCK", block)
    blocks = sphere_overlap(X, y)
    for share in ("sigma", *SHARES):
        np.testing.assert_allclose(getattr(blocks, share), getattr(whole, share), rtol=1e-12)


@pytest.mark.parametrize("n", [15, 1000])
def test_a_block_is_bounded(n, monkeypatch):
    monkeypatch.setattr(spheres, "_BLOCK", 100)
    blocks = list(spheres._distances(np.zeros((n, 2)), np.arange(n)))
    assert max(distances.size for _, distances in blocks) <= max(100, n)
    np.testing.assert_array_equal(np.concatenate([block for block, _ in blocks]), np.arange(n))


@pytest.mark.parametrize("unit", [2.0**-40, 0.001, 255.0])
def test_units_of_rows_and_sigma_go_together(unit):
    X, y = problem(d=5)
    one, other = sphere_overlap(X, y), sphere_overlap(X * unit, y)
    np.testing.assert_allclose(other.sigma, one.sigma * unit, rtol=1e-12)
    for share in SHARES:
        np.testing.assert_allclose(getattr(other, share), getattr(one, share), rtol=1e-9)


def test_rows_far_from_the_origin_keep_their_distances():
    X, y = problem()
    near, far = sphere_overlap(X, y, sigma=[0.2, 0.5]), sphere_overlap(X + 1e6, y, sigma=[0.2, 0.5])
    np.testing.assert_allclose(far.crossing, near.crossing, rtol=1e-6)


def test_a_far_row_leaves_the_distances_of_the_others_alone():
    X, y = problem()
    X[0] = 1e9
    overlap = sphere_overlap(X, y, sigma=0.5)
    expected = brute_force(X, y, 0.5, range(len(X)))
    np.testing.assert_allclose([getattr(overlap, s) for s in SHARES], expected, rtol=1e-9)


def test_labels_may_be_anything_that_sorts():
    X, y = problem()
    numbers = sphere_overlap(X, y, sigma=[0.3, 1])
    for labels in (y - 5, y / 2, np.array(["x", "a", "b"])[y], list(map(str, y)), y.astype(object)):
        other = sphere_overlap(X, labels, sigma=[0.3, 1])
        for share in SHARES:
            np.testing.assert_array_equal(getattr(other, share), getattr(numbers, share))


def test_without_labels_every_row_is_a_class():
    X, _ = problem()
    one, other = sphere_overlap(X), sphere_overlap(X, np.arange(len(X)))
    for share in ("sigma", *SHARES):
        np.testing.assert_array_equal(getattr(one, share), getattr(other, share))
    np.testing.assert_array_equal(one.pairs, one.other_class)
    assert np.all(np.isnan(one.same_class))


def test_shares_have_the_shape_and_the_order_of_sigma():
    X, y = problem()
    sigma = np.array([[2.0, 0.1], [0.1, 0.5]])
    overlap = sphere_overlap(X, y, sigma=sigma)
    for share in SHARES:
        for index, level in np.ndenumerate(sigma):
            single = getattr(sphere_overlap(X, y, sigma=level), share)
            assert np.shape(single) == ()
            assert getattr(overlap, share)[index] == single
    sigma[0, 0] = 7
    assert overlap.sigma[0, 0] == 2


def test_the_default_sigma_reach_from_apart_to_mixed_up():
    X, y = problem(n=200, d=6)
    overlap = sphere_overlap(X, y)
    steps = np.diff(np.log(overlap.sigma))
    np.testing.assert_allclose(steps, steps[0])
    gaps = np.linalg.norm(X[:, np.newaxis] - X, axis=2)
    middle = np.median(np.where(y[:, np.newaxis] == y, np.inf, gaps).min(axis=1))
    ends = [middle / (8 * np.sqrt(6)), 2 * middle]
    np.testing.assert_allclose(overlap.sigma[[0, -1]], ends, rtol=1e-9)


def test_coinciding_rows_meet_at_any_sigma():
    X, y = problem()
    X[5], y[5], y[6] = X[6], 0, 1
    overlap = sphere_overlap(X, y, sigma=1e-6)
    assert overlap.rows == pytest.approx(2 / 30)
    assert overlap.crossing == pytest.approx(1 / 30)


@given(
    nps.arrays(
        np.int64, st.tuples(st.integers(3, 12), st.integers(1, 4)), elements=st.integers(-9, 9)
    ),
    st.integers(0, 2**32 - 1),
    st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6),
)
def test_shares_lie_between_0_and_1_and_grow_with_sigma(X, seed, sigma):
    y = np.random.default_rng(seed).integers(0, 3, len(X))
    y[:2] = 0, 1
    overlap = sphere_overlap(X, y, sigma=np.sort(sigma))
    for name in SHARES:
        share = getattr(overlap, name)
        if name == "same_class" and np.isnan(share).all():
            continue
        assert np.all((share >= 0) & (share <= 1))
        assert np.all(np.diff(share) >= -1e-12)
    assert np.all(overlap.crossing <= 0.5)
    assert np.all(overlap.rows >= overlap.other_class / len(X))


def test_crossing_is_how_often_a_noisy_row_is_nearer_to_the_other():
    # 100,000 draws; six standard errors: a false alarm in 5e8 runs (normal approximation).
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2, 20))
    sigma, n = np.linalg.norm(X[0] - X[1]) / 2, 100_000
    noisy = X[0] + sigma * rng.standard_normal((n, 20))
    crossed = np.linalg.norm(noisy - X[1], axis=1) < np.linalg.norm(noisy - X[0], axis=1)
    chance = float(sphere_overlap(X, [0, 1], sigma=sigma).crossing)
    assert chance == pytest.approx(stats.norm.cdf(-1))
    assert abs(crossed.mean() - chance) < 6 * np.sqrt(chance * (1 - chance) / n)


def test_no_half_space_tells_two_noisy_rows_apart_better_than_crossing_says():
    # Exact chances of error of rules that split along any direction, at any threshold.
    rng = np.random.default_rng(1)
    X = rng.normal(size=(2, 3))
    sigma = 0.8
    chance = float(sphere_overlap(X, [0, 1], sigma=sigma).crossing)
    best = 1.0
    directions = [*rng.normal(size=(500, 3)), X[1] - X[0]]
    for w in directions:
        for threshold in np.linspace(-2, 2, 81):
            ends = (X - X.mean(axis=0)) @ w / (sigma * np.linalg.norm(w))
            first, second = stats.norm.sf(threshold - ends[0]), stats.norm.cdf(threshold - ends[1])
            best = min(best, (first + second) / 2)
            assert (first + second) / 2 >= chance - 1e-12
    assert best == pytest.approx(chance)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"X": [1.0, 2.0]}, ValueError, r"X must have shape \(n, n_features\), got \(2,\)"),
        ({"X": [[1.0]], "y": [0]}, ValueError, "X must have at least two rows, got 1"),
        ({"X": np.empty((0, 2)), "y": []}, ValueError, "X must have at least two rows, got 0"),
        ({"X": [[1.0], [np.nan]]}, ValueError, "X must be finite"),
        ({"X": [["a"], ["b"]]}, TypeError, "X must hold real numbers"),
        ({"y": [0, 1]}, ValueError, r"y must have shape \(3,\)"),
        ({"y": [[0, 1, 1]]}, ValueError, r"y must have shape \(3,\)"),
        ({"y": [1, 1, 1]}, ValueError, "y must hold at least two classes, got only 1; leave y out"),
        ({"y": [0, 1, np.nan]}, ValueError, "y must hold labels, got NaN"),
        ({"sigma": 0}, ValueError, "sigma must be > 0, got 0"),
        ({"sigma": [0.5, -1]}, ValueError, "sigma must be > 0, got -1"),
        ({"sigma": np.inf}, ValueError, "sigma must be finite"),
        ({"sigma": "small"}, TypeError, "sigma must hold real numbers"),
        ({"sample_size": 0}, ValueError, "sample_size must be >= 1, got 0"),
        ({"sample_size": 1.5}, TypeError, "sample_size must be an integer or None, got 1.5"),
        ({"sample_size": True}, TypeError, "sample_size must be an integer"),
        ({"X": np.zeros((3, 2))}, ValueError, "give sigma"),
    ],
)
def test_bad_input_is_named(arguments, error, message):
    given = {"X": [[0.0], [1.0], [2.0]], "y": [0, 1, 1], **arguments}
    with pytest.raises(error, match=message):
        sphere_overlap(given.pop("X"), given.pop("y"), **given)
