"""Spirals: balanced, seeded, and told apart by their neighbors but by no line."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC

from smoothlearn.datasets import make_spirals


def test_defaults():
    X, y = make_spirals(random_state=0)
    assert X.shape == (1000, 2)
    assert (X.dtype, y.dtype) == (np.float64, np.int64)
    assert 9 < np.abs(X).max() < 13


@pytest.mark.parametrize(("n_samples", "n_classes"), [(100, 2), (101, 2), (7, 3), (1, 1), (2, 5)])
def test_classes_are_balanced(n_samples, n_classes):
    X, y = make_spirals(n_samples, n_classes=n_classes, random_state=0)
    assert X.shape == (n_samples, 2)
    counts = np.bincount(y, minlength=n_classes)
    assert len(counts) == n_classes
    assert counts.max() - counts.min() <= 1


def test_rows_are_in_random_order():
    _, y = make_spirals(random_state=0)
    assert 400 < np.count_nonzero(np.diff(y)) < 600


def test_a_seed_gives_the_same_rows_and_others_give_others():
    first, second, other = (make_spirals(50, random_state=seed) for seed in (3, 3, 4))
    for one, same, different in zip(first, second, other, strict=True):
        np.testing.assert_array_equal(one, same)
        assert (one != different).any()


@pytest.mark.parametrize(("n_classes", "n_turns"), [(2, 2.0), (3, 1.25)])
@pytest.mark.parametrize("noise", [None, 0, 0.0])
def test_without_noise_rows_lie_on_their_spiral(n_classes, n_turns, noise):
    X, y = make_spirals(200, noise=noise, n_classes=n_classes, n_turns=n_turns, random_state=0)
    radius = np.hypot(*X.T)
    assert radius.max() <= 10
    turns = n_turns * radius / 10 + y / n_classes
    expected = radius[:, None] * np.column_stack(
        [np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns)]
    )
    np.testing.assert_allclose(X, expected, atol=1e-9)


def test_noise_has_its_standard_deviation():
    clean, _ = make_spirals(5000, noise=None, random_state=0)
    noisy, _ = make_spirals(5000, noise=0.3, random_state=0)
    assert np.std(noisy - clean) == pytest.approx(0.3, rel=0.05)


def test_a_line_is_right_in_6_of_10_rows_and_the_nearest_neighbor_in_9():
    X, y = make_spirals(3000, random_state=0)
    line = LinearSVC(random_state=0).fit(X[:400], y[:400])
    neighbor = KNeighborsClassifier(1).fit(X[400:600], y[400:600])
    assert 0.55 < line.score(X[600:], y[600:]) < 0.67
    assert 0.88 < neighbor.score(X[600:], y[600:]) < 0.96


@pytest.mark.parametrize(
    ("change", "error", "problem"),
    [
        ({"n_samples": 0}, ValueError, "n_samples must be an int >= 1, got 0"),
        ({"n_samples": 10.0}, ValueError, "n_samples must be an int >= 1, got 10.0"),
        ({"n_classes": True}, ValueError, "n_classes must be an int >= 1, got True"),
        ({"noise": -0.1}, ValueError, "noise must be finite and >= 0, got -0.1"),
        ({"noise": "some"}, TypeError, "noise must be one real number"),
        ({"n_turns": 0}, ValueError, "n_turns must be finite and > 0, got 0"),
    ],
)
def test_bad_input(change, error, problem):
    with pytest.raises(error, match=problem):
        make_spirals(**change)
