"""The nearest point and its radii against exhaustive sums, fractions, attacks and grids."""

from fractions import Fraction

import numpy as np
import pytest

from smoothlearn.theory import neighbors, screens
from smoothlearn.theory.neighbors import keep_radii, nearest

NORMS = [1, 2, np.inf]


def problem(seed, n=12, m=40, d=3, n_classes=3, duplicates=True):
    rng = np.random.default_rng(seed)
    points, labels = rng.normal(size=(m, d)), rng.integers(0, n_classes, m)
    if duplicates:
        points[5], labels[5], labels[6] = points[6], 0, n_classes - 1
    return rng.normal(size=(n, d)), points, labels


def sizes(gaps, norm):
    """The dual of a p-norm along the last axis, by its definition."""
    gaps = np.abs(gaps)
    if norm == 2:
        return np.sqrt((gaps**2).sum(-1))
    return gaps.max(-1) if norm == 1 else gaps.sum(-1)


def oracle(X, points, labels, n_classes, norm, same_class):
    """Every term of the formula, in the longest floats."""
    X, points = X.astype(np.longdouble), points.astype(np.longdouble)
    squares = ((X[:, np.newaxis] - points) ** 2).sum(-1)
    index = squares.argmin(1)
    avoid = np.full((len(X), n_classes), np.inf)
    for row, winner in enumerate(index):
        own = np.flatnonzero(labels == labels[winner])
        near = own[np.argsort(squares[row, own], kind="stable")[:same_class]]
        for k in range(n_classes):
            best = []
            for j in np.flatnonzero(labels == k):
                leads = squares[row, j] - squares[row, near]
                gaps = sizes(points[near] - points[j], norm)
                best.append(max(np.where(leads > 0, leads, 0) / np.where(leads > 0, 2 * gaps, 1)))
            avoid[row, k] = 0 if k == labels[winner] else min(best, default=np.inf)
    return index, avoid


def agrees(radii, exact, rtol=1e-9, atol=0.0):
    """At most the exact ones, and hardly less."""
    np.testing.assert_array_less(radii, np.nextafter(exact, np.inf))
    np.testing.assert_allclose(radii, exact, rtol=rtol, atol=atol)


@pytest.mark.parametrize("same_class", [1, 3, 8])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("d", [1, 2, 7, 60])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_radii_are_the_exhaustive_ones_rounded_down(n_classes, d, norm, same_class):
    X, points, labels = problem(0, d=d, n_classes=n_classes)
    index, keep, avoid = keep_radii(X, points, labels, n_classes, norm, same_class=same_class)
    expected, exact = oracle(X, points, labels, n_classes, norm, same_class)
    np.testing.assert_array_equal(index, expected)
    agrees(avoid, exact)
    others = np.arange(n_classes) != labels[index][:, np.newaxis]
    np.testing.assert_array_equal(keep, np.where(others, avoid, np.inf).min(axis=1))
    np.testing.assert_array_equal(avoid[~others], 0)


@pytest.mark.parametrize("norm", [1, np.inf])
def test_radii_of_whole_numbers_do_not_exceed_fractions(norm):
    rng = np.random.default_rng(1)
    X, points = rng.integers(-4, 5, (20, 3)), rng.integers(-4, 5, (30, 3))
    labels = rng.integers(0, 2, 30)
    index, keep, _ = keep_radii(X, points, labels, 2, norm, same_class=1)
    for row, i, radius in zip(X.tolist(), index, keep, strict=True):
        squares = [sum((a - b) ** 2 for a, b in zip(row, p, strict=True)) for p in points.tolist()]
        assert i == squares.index(min(squares))
        exact = []
        for j in np.flatnonzero(labels != labels[i]):
            gaps = np.abs(points[i] - points[j])
            gap = int(gaps.max() if norm == 1 else gaps.sum())
            exact.append(Fraction(squares[j] - squares[i], 2 * gap) if gap else Fraction(0))
        assert Fraction(float(radius)) <= min(exact)
        assert float(radius) == pytest.approx(float(min(exact)), rel=1e-12)


def directions(x, points, rng):
    """Random ones, signs, and those towards and away from points."""
    towards = points[np.argsort(((points - x) ** 2).sum(1))[:20]] - x
    random = rng.normal(size=(20, len(x)))
    axes = np.eye(len(x))
    pairs = (points[:8, np.newaxis] - points[:8]).reshape(-1, len(x))
    found = np.concatenate([towards, random, np.sign(random), np.sign(towards), axes, pairs])
    # the steepest in the inf- and in the 1-norm towards one point and away from another
    between = towards[:, np.newaxis] - towards[:4]
    steepest = between.reshape(-1, len(x))
    largest = np.abs(steepest) == np.abs(steepest).max(axis=1, keepdims=True)
    found = np.concatenate([found, steepest, np.sign(steepest), steepest * largest])
    found = np.concatenate([found, -found])
    return found[np.abs(found).max(axis=1) > 0]


@pytest.mark.parametrize("same_class", [1, 8])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("seed", range(6))
def test_no_attack_within_a_radius_reaches_its_label(seed, norm, same_class):
    n_classes = 2 + seed % 2
    X, points, labels = problem(seed, n=15, m=12, d=1 + seed % 4, n_classes=n_classes)
    X[:5] = points[:5] + 1e-3
    _, _, avoid = keep_radii(X, points, labels, n_classes, norm, same_class=same_class)
    rng = np.random.default_rng(seed)
    for x, radii in zip(X, avoid, strict=True):
        ways = directions(x, points, rng)
        ways /= np.linalg.norm(ways, norm, axis=1, keepdims=True)
        for k in np.flatnonzero((radii > 0) & np.isfinite(radii)):
            for share in (0.3, 0.7, 0.999):
                moved = x + share * radii[k] * ways
                squares = ((moved[:, np.newaxis] - points) ** 2).sum(-1)
                assert not np.any(labels[squares.argmin(axis=1)] == k)


@pytest.mark.parametrize("norm", NORMS)
def test_no_point_of_a_fine_grid_within_the_radius_has_another_label(norm):
    X, points, labels = problem(3, n=40, m=15, d=2)
    _, keep, _ = keep_radii(X, points, labels, 3, norm)
    ticks = np.linspace(-1, 1, 81)
    grid = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    grid = grid[np.linalg.norm(grid, norm, axis=1) <= 1]
    label = labels[nearest(X, points)]
    for x, own, radius in zip(X, label, keep, strict=True):
        moved = x + 0.9999 * radius * grid
        found = labels[((moved[:, np.newaxis] - points) ** 2).sum(-1).argmin(axis=1)]
        assert radius == 0 or np.all(found == own)


def test_on_a_line_the_radius_is_the_distance_to_the_boundary():
    points, labels = np.array([[0.0], [1.0], [4.0]]), [0, 0, 1]
    _, keep, _ = keep_radii([[0.2], [2.0]], points, labels, 2, 2)
    np.testing.assert_allclose(keep, [2.3, 0.5])
    _, theorem_6, _ = keep_radii([[0.2]], points, labels, 2, 2, same_class=1)
    np.testing.assert_allclose(theorem_6, [1.8])


@pytest.mark.parametrize("norm", NORMS)
def test_more_points_of_the_same_label_never_lower_a_radius(norm):
    X, points, labels = problem(4, n=60, m=80, d=4)
    previous = np.zeros((60, 3))
    for same_class in (1, 2, 8, 80):
        avoid = keep_radii(X, points, labels, 3, norm, same_class=same_class)[2]
        assert np.all(avoid >= previous)
        previous = avoid
    assert np.any(avoid > keep_radii(X, points, labels, 3, norm, same_class=1)[2])


@pytest.mark.parametrize("offset", [0.0, 100.0, 1e6])
@pytest.mark.parametrize("norm", NORMS)
def test_an_offset_changes_no_winner(norm, offset):
    rng = np.random.default_rng(5)
    # on a grid that every offset leaves exact
    X, points = (np.round(rng.normal(size=(n, 20)) * 2**12) / 2**12 for n in (50, 200))
    labels = rng.integers(0, 2, 200)
    index, keep, _ = keep_radii(X + offset, points + offset, labels, 2, norm)
    expected, exact = oracle(X, points, labels, 2, norm, neighbors.SAME_CLASS)
    np.testing.assert_array_equal(index, expected)
    np.testing.assert_array_equal(nearest(X + offset, points + offset), expected)
    np.testing.assert_allclose(keep, exact.max(axis=1), rtol=1e-9)
    assert np.all(keep <= exact.max(axis=1))


def test_neighbors_closer_than_single_precision_resolves_are_told_apart():
    rng = np.random.default_rng(6)
    X = rng.normal(size=(30, 10))
    steps = 2.0 ** -np.arange(20, 41)
    points = (X[0] + steps[:, np.newaxis] * rng.normal(size=(21, 10)))[rng.permutation(21)]
    points = np.concatenate([points, 100 * rng.normal(size=(50, 10))])
    expected, _ = oracle(X, points, np.arange(71) % 2, 2, 2, 1)
    np.testing.assert_array_equal(nearest(X, points), expected)


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e200])
@pytest.mark.parametrize("norm", NORMS)
def test_radii_scale_with_the_data(norm, scale):
    X, points, labels = problem(7)
    keep = keep_radii(X, points, labels, 3, norm)[1]
    scaled = keep_radii(X * scale, points * scale, labels, 3, norm)[1]
    np.testing.assert_allclose(scaled, keep * scale, rtol=1e-9)


@pytest.mark.parametrize("norm", NORMS)
def test_columns_of_very_different_ranges(norm):
    X, points, labels = problem(8, d=4)
    ranges = np.array([1e-12, 1.0, 1e9, 0.0])
    X, points = X * ranges, points * ranges
    index, _, avoid = keep_radii(X, points, labels, 3, norm)
    expected, exact = oracle(X, points, labels, 3, norm, neighbors.SAME_CLASS)
    np.testing.assert_array_equal(index, expected)
    agrees(avoid, exact)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", ["binary", "clusters", "dense", "far"])
def test_pruning_and_blocks_change_nothing(norm, kind, monkeypatch):
    rng = np.random.default_rng(9)
    d = {"binary": 30, "clusters": 6, "dense": 2, "far": 5}[kind]
    points, X = rng.normal(size=(300, d)), rng.normal(size=(40, d))
    if kind == "binary":
        points, X = (points > 1).astype(float), (X > 1).astype(float)
    elif kind == "clusters":
        points[::2] += 1e5
        X[::2] += 1e5
    elif kind == "far":
        X *= 1e8
    labels = rng.integers(0, 3, 300)
    plain = keep_radii(X, points, labels, 3, norm)
    for block, chunk, candidates in [(1, 1, 1), (1000, 64, 7), (5000, 3000, 100)]:
        monkeypatch.setattr(neighbors, "_BLOCK", block)
        monkeypatch.setattr(screens, "_CHUNK", chunk)
        monkeypatch.setattr(neighbors, "_CANDIDATES", candidates)
        for found, given in zip(keep_radii(X, points, labels, 3, norm), plain, strict=True):
            np.testing.assert_array_equal(found, given)
    monkeypatch.setattr(neighbors, "_terms", lambda screen, lower, *_: np.zeros_like(lower))
    for found, given in zip(keep_radii(X, points, labels, 3, norm), plain, strict=True):
        np.testing.assert_array_equal(found, given)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", ["normal", "binary", "gray", "offset", "tiny", "dense"])
def test_the_bounds_of_one_product_hold(norm, kind):
    rng = np.random.default_rng(10)
    X, points = rng.normal(size=(30, 200)), rng.normal(size=(100, 200))
    if kind == "binary":
        X, points = (X > 0.5) * 1.0, (points > 0.5) * 1.0
    elif kind == "gray":
        X, points = np.clip(X, 0, 1), np.clip(points, 0, 1)
    elif kind == "offset":
        X, points = X + 1e4, points + 1e4
    elif kind == "tiny":
        X, points = X * 2.0**-90, points * 2.0 ** -rng.integers(0, 90, (100, 1))
    elif kind == "dense":
        X, points = X[:, :1], points[:, :1]
    labels = rng.integers(0, 2, 100)
    q = neighbors.dual(norm)
    screen = screens.with_upper(screens.make_screen(X, points, labels, 2), q)
    low = screens.lower_bounds(screen, X).astype(np.longdouble)
    columns = np.arange(100)
    gaps = (points[screen.order] - X[:, np.newaxis]).astype(np.longdouble) * screen.scale
    squares = (gaps**2).sum(-1)
    slack = screens.slack_of(screen, X, np.broadcast_to(columns, (30, 100)))
    assert np.all(low <= squares)
    assert np.all(squares <= low + slack)
    assert np.median(squares / low) < 1.001 or kind == "tiny"
    gaps = sizes(points[screen.order][:, np.newaxis] - points[screen.order], norm) * screen.scale
    if q == np.inf:
        far = [screens.reach_of(screen, columns, k) for k in range(2)]
        bounds = np.concatenate([np.repeat(far[k], np.sum(labels == k), 1) for k in range(2)], 1)
    else:
        bounds = np.concatenate(
            [screens.upper_bounds(screen, columns, k) for k in range(2)], axis=1
        )
    assert np.all(gaps <= (np.sqrt(np.maximum(bounds, 0)) if q == 2 else bounds))


def test_ties_go_to_the_lowest_index():
    points = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    X = np.array([[0.0, 0.0], [-0.5, 0.0], [-1.0, 1.0], [1.0, 1.0]])
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        squares = ((X[:, np.newaxis] - points[order]) ** 2).sum(-1)
        np.testing.assert_array_equal(nearest(X, points[order]), squares.argmin(axis=1))
        for labels in ([0, 1, 2, 0], [1, 1, 0, 0]):
            index, keep, _ = keep_radii(X, points[order], labels, 3, 2)
            np.testing.assert_array_equal(index, squares.argmin(axis=1))
            assert keep[0] == 0


@pytest.mark.parametrize("norm", NORMS)
def test_duplicates_of_two_labels_have_radius_zero(norm):
    points = np.array([[0.1, 0.2], [0.1, 0.2], [5.0, 5.0]])
    index, keep, avoid = keep_radii([[0.1, 0.2], [0.4, 0.0]], points, [1, 0, 2], 3, norm)
    np.testing.assert_array_equal(index, 0)
    np.testing.assert_array_equal(keep, 0)
    np.testing.assert_array_equal(avoid[:, :2], 0)
    assert np.all(avoid[:, 2] > 0)


@pytest.mark.parametrize("norm", NORMS)
def test_a_difference_that_rounding_hides_has_radius_zero(norm):
    rng = np.random.default_rng(11)
    x, points = rng.normal(size=50), rng.normal(size=(2, 50))
    points[1] = 2 * x - points[0]  # as far as the first, but for rounding
    _, keep, _ = keep_radii([x], points, [0, 1], 2, norm)
    assert keep[0] == 0
    points[1] += 1e-9 * (points[1] - x)
    assert keep_radii([x], points, [0, 1], 2, norm)[1][0] > 0


@pytest.mark.parametrize("norm", NORMS)
def test_a_label_without_points_is_never_reached(norm):
    X, points, labels = problem(12, n_classes=2, duplicates=False)
    _, keep, avoid = keep_radii(X, points, 2 * labels, 4, norm)
    np.testing.assert_array_equal(avoid[:, [1, 3]], np.inf)
    np.testing.assert_array_equal(keep, avoid[:, [0, 2]].max(axis=1))
    _, keep, avoid = keep_radii(X, points, np.zeros(40, int), 1, norm)
    np.testing.assert_array_equal(keep, np.inf)
    np.testing.assert_array_equal(avoid, 0)


@pytest.mark.parametrize("norm", NORMS)
def test_rows_do_not_depend_on_the_others(norm):
    X, points, labels = problem(13, n=20, m=50)
    X[0] = 1e6
    _, keep, avoid = keep_radii(X, points, labels, 3, norm)
    for row in range(20):
        alone = keep_radii(X[row : row + 1], points, labels, 3, norm)
        np.testing.assert_array_equal(alone[1], keep[row : row + 1])
        np.testing.assert_array_equal(alone[2], avoid[row : row + 1])


def test_no_rows_give_empty_arrays():
    index, keep, avoid = keep_radii(np.empty((0, 2)), np.eye(2), [0, 1], 2, 2)
    assert (index.shape, keep.shape, avoid.shape) == ((0,), (0,), (0, 2))
    assert nearest(np.empty((0, 2)), np.eye(2)).shape == (0,)


@pytest.mark.parametrize("norm", NORMS)
def test_one_point_and_equal_points_give_no_nan(norm):
    for points in (np.ones((1, 2)), np.ones((5, 2)), np.zeros((3, 2))):
        labels = np.arange(len(points)) % 2
        index, keep, avoid = keep_radii(np.ones((3, 2)), points, labels, 2, norm)
        np.testing.assert_array_equal(index, 0)
        np.testing.assert_array_equal(keep, np.inf if len(points) == 1 else 0)
        assert not np.isnan(avoid).any()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"X": [[np.nan, 0.0]]}, ValueError, "X must be finite"),
        ({"X": [[0.0]]}, ValueError, "X must have shape"),
        ({"points": np.empty((0, 2))}, ValueError, "points must have shape"),
        ({"points": [[1e301, 0.0], [0.0, 0.0]]}, ValueError, "points must not exceed 1e300"),
        ({"labels": [0.0, 1.0]}, TypeError, "labels must be integers"),
        ({"labels": [0]}, ValueError, "labels must have shape"),
        ({"labels": [0, 2]}, ValueError, "labels must lie between 0 and n_classes - 1 = 1"),
        ({"labels": [-1, 1]}, ValueError, "labels must lie between 0"),
        ({"norm": 3}, ValueError, "norm must be 1, 2 or inf"),
        ({"same_class": 0}, ValueError, "same_class must be >= 1"),
    ],
)
def test_bad_arguments_are_named(change, error, message):
    good = {"X": [[0.0, 0.0]], "points": np.eye(2), "labels": [0, 1], "n_classes": 2, "norm": 2}
    with pytest.raises(error, match=message):
        keep_radii(**(good | change))
