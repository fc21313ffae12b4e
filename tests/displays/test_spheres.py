"""The display of sphere overlap stores its numbers and draws them."""

import matplotlib as mpl
import numpy as np
import pytest
from sklearn.datasets import load_iris

from smoothlearn import SphereOverlapDisplay, sphere_overlap

mpl.use("agg")

import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def iris():
    return load_iris(return_X_y=True)


def test_the_curves_are_the_numbers(iris):
    display = SphereOverlapDisplay.from_data(*iris)
    overlap = sphere_overlap(*iris)
    assert list(display.lines_) == ["same_class", "other_class", "rows", "crossing"]
    for share, line in display.lines_.items():
        np.testing.assert_array_equal(line.get_xdata(), overlap.sigma)
        np.testing.assert_array_equal(line.get_ydata(), getattr(overlap, share))
        np.testing.assert_array_equal(line.get_ydata(), getattr(display.overlap, share))


def test_without_classes_there_is_one_kind_of_pair(iris):
    display = SphereOverlapDisplay.from_data(iris[0])
    assert list(display.lines_) == ["pairs", "rows", "crossing"]
    for share, line in display.lines_.items():
        np.testing.assert_array_equal(line.get_ydata(), getattr(display.overlap, share))


def test_sigma_are_drawn_in_order(iris):
    display = SphereOverlapDisplay.from_data(*iris, sigma=[1.0, 0.1, 0.4])
    np.testing.assert_array_equal(display.lines_["rows"].get_xdata(), [0.1, 0.4, 1.0])
    assert np.all(np.diff(display.lines_["crossing"].get_ydata()) > 0)


def test_sample_and_seed_are_passed_on(iris):
    settings = {"sample_size": 20, "random_state": 3}
    display = SphereOverlapDisplay.from_data(*iris, sigma=[0.2, 0.4], **settings)
    overlap = sphere_overlap(*iris, sigma=[0.2, 0.4], **settings)
    np.testing.assert_array_equal(display.overlap.crossing, overlap.crossing)
    assert display.overlap.crossing[0] != sphere_overlap(*iris, sigma=0.2).crossing


def test_the_axes_say_what_they_show(iris):
    display = SphereOverlapDisplay.from_data(*iris)
    assert display.ax_.get_xscale() == "log"
    assert display.ax_.get_xlabel() == "σ (units of X)"
    assert display.ax_.get_ylabel() == "Share"
    names = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert names == [line.get_label() for line in display.lines_.values()]
    display.figure_.canvas.draw()
    ticks = [text.get_text() for text in display.ax_.get_xticklabels() if text.get_text()]
    assert {"0.1", "0.2", "0.5", "1"} <= set(ticks)
    np.testing.assert_allclose(display.ax_.get_xlim(), display.overlap.sigma[[0, -1]])


def test_axes_and_style_are_the_callers(iris):
    _, ax = plt.subplots()
    display = SphereOverlapDisplay.from_data(*iris, ax=ax, linewidth=3)
    assert (display.ax_, display.figure_) == (ax, ax.figure)
    assert {line.get_linewidth() for line in display.lines_.values()} == {3}
    assert display.plot() is display
    assert display.ax_ is not ax


def test_bad_input_is_that_of_sphere_overlap(iris):
    with pytest.raises(ValueError, match="sigma must be > 0"):
        SphereOverlapDisplay.from_data(*iris, sigma=[-1.0, 1.0])
    with pytest.raises(TypeError, match="sigma must hold real numbers"):
        SphereOverlapDisplay.from_data(*iris, sigma="small")
