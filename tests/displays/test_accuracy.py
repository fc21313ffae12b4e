"""The curve of certified accuracy shows the certificate's numbers."""

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from smoothlearn import (
    Certificate,
    CertifiedAccuracyDisplay,
    RandomizedSmoothingClassifier,
    certify,
)

mpl.use("agg")

import matplotlib.pyplot as plt

LIMIT = "largest radius of these draws"


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 60)
    return rng.standard_normal((60, 2)) + 2 * y[:, None], y


def votes(sigma=0.5, n_rows=60):
    """A certificate from votes that range from unanimous to tied."""
    first = np.linspace(1000, 480, n_rows).astype(int)
    return Certificate.from_votes(
        np.column_stack([first, 1000 - first]),
        winner=np.zeros(n_rows, int),
        classes=np.arange(2),
        sigma=sigma,
        confidence_level=0.999,
        n_features=2,
    )


def drawn(display):
    """What a reader sees at a radius: the height of the line there."""
    x, y = display.line_.get_data()
    assert display.line_.get_drawstyle() == "steps-pre"
    return lambda radius: y[np.searchsorted(x, radius, side="left")]


def test_numbers_are_those_of_the_curve():
    certificate, y = votes(), np.arange(60) % 5 // 4
    display = CertifiedAccuracyDisplay.from_certificate(certificate, y, name="votes")
    radii, counts = certificate.curve(y)
    np.testing.assert_array_equal(display.radii, radii)
    np.testing.assert_array_equal(display.accuracy, counts / 60)
    np.testing.assert_array_equal(display.line_.get_data(), (radii, counts / 60))
    assert display.largest_radius == certificate.largest_radius
    assert (display.norm, display.units, display.name) == (2, "input", "votes")


def test_the_line_is_the_certified_accuracy_at_every_radius():
    certificate, y = votes(), np.arange(60) % 5 // 4
    display = CertifiedAccuracyDisplay.from_certificate(certificate, y)
    height = drawn(display)
    for radius in np.linspace(0, display.radii[-1], 200):
        assert height(radius) == pytest.approx(certificate.accuracy(y, radius))


def test_the_band_steps_with_the_line():
    display = CertifiedAccuracyDisplay.from_certificate(votes(), np.zeros(60, int))
    outline = display.band_.get_paths()[0].vertices
    for left, right, low, high in zip(
        display.radii, display.radii[1:], display.lower[1:], display.upper[1:], strict=False
    ):
        for x in (left, right):
            heights = outline[outline[:, 0] == x, 1]
            for edge in (low, high):
                assert np.isclose(heights, edge).any()


def test_the_interval_is_clopper_pearson():
    certificate, y = votes(), np.zeros(60, int)
    display = CertifiedAccuracyDisplay.from_certificate(certificate, y)
    _, counts = certificate.curve(y)
    for count, low, high in zip(counts, display.lower, display.upper, strict=True):
        interval = stats.binomtest(int(count), 60).proportion_ci(0.95, method="exact")
        assert (low, high) == pytest.approx((interval.low, interval.high), abs=1e-12)


@pytest.mark.parametrize("units", ["input", "smoother"])
def test_from_estimator_is_from_certificate(rows, units):
    X, y = rows
    smoother = RandomizedSmoothingClassifier(
        KNeighborsClassifier(), n_draws=50, n_certify_draws=100, random_state=0
    )
    model = make_pipeline(StandardScaler(), smoother).fit(X, y)
    one = CertifiedAccuracyDisplay.from_estimator(model, X[:20], y[:20], units=units)
    certificate = certify(model, X[:20], units=units)
    other = CertifiedAccuracyDisplay.from_certificate(certificate, y[:20])
    for name in ("radii", "accuracy", "lower", "upper", "largest_radius", "norm", "units"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert one.units == units
    assert (one.name, other.name) == ("Pipeline", None)
    words = {"input": "units of X", "smoother": "units of the smoother's input"}
    assert one.ax_.get_xlabel() == f"ℓ2 radius ({words[units]})"


@pytest.mark.parametrize(("norm", "symbol"), [(1, "ℓ1"), (2, "ℓ2"), (np.inf, "ℓ∞")])
def test_the_label_names_the_norm(norm, symbol):
    display = CertifiedAccuracyDisplay.from_certificate(votes().to_norm(norm), np.zeros(60, int))
    assert display.ax_.get_xlabel().startswith(f"{symbol} radius")
    assert display.ax_.get_ylabel() == "Certified accuracy"


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize("sigmas", [(0.25, 0.5, 1.0), (1.0, 0.5, 0.25)])
def test_several_curves_share_axes(sigmas):
    _, ax = plt.subplots()
    for sigma in sigmas:
        display = CertifiedAccuracyDisplay.from_certificate(
            votes(sigma), np.zeros(60, int), ax=ax, name=f"σ = {sigma}"
        )
        assert display.ax_ is ax
        assert display.figure_ is ax.figure
    assert legend(ax) == [*(f"σ = {sigma}" for sigma in sigmas), LIMIT]
    ax.figure.canvas.draw()
    left, right = ax.get_xlim()
    assert left == 0
    assert right > votes(max(sigmas)).largest_radius, "the widest curve is cut off"
    curves = [line for line in ax.lines if line.get_drawstyle() == "steps-pre"]
    assert len({line.get_color() for line in curves}) == len(curves) == 3


def test_a_dotted_line_marks_what_the_draws_can_give(rows):
    display = CertifiedAccuracyDisplay.from_certificate(votes(), np.zeros(60, int))
    assert display.limit_.get_linestyle() == ":"
    assert display.limit_.get_xdata() == [votes().largest_radius] * 2
    assert display.limit_.get_color() == display.line_.get_color()
    exact = RandomizedSmoothingClassifier(LogisticRegression()).fit(*rows)
    display = CertifiedAccuracyDisplay.from_estimator(exact, *rows)
    assert display.limit_ is None
    assert len(display.ax_.lines) == 1


def test_plot_again_with_another_name_and_style():
    display = CertifiedAccuracyDisplay.from_certificate(votes(), np.zeros(60, int), color="red")
    assert display.line_.get_color() == "red"
    assert display.ax_.get_legend() is None
    first = display.ax_
    assert display.plot(name="again", linestyle="--") is display
    assert display.ax_ is not first
    assert display.line_.get_linestyle() == "--"
    assert legend(display.ax_) == ["again", LIMIT]
    display.plot(label="labelled")
    assert legend(display.ax_) == ["labelled", LIMIT]


def test_rows_that_nothing_limits_or_that_all_abstain():
    endless = replace(
        votes(n_rows=3), radius=np.array([np.inf, np.inf, 1.0]), abstained=np.zeros(3, bool)
    )
    display = CertifiedAccuracyDisplay.from_certificate(endless, np.zeros(3, int))
    np.testing.assert_allclose(display.accuracy, [1, 1, 2 / 3])
    nothing = replace(votes(n_rows=3), radius=np.zeros(3), abstained=np.ones(3, bool))
    display = CertifiedAccuracyDisplay.from_certificate(nothing, np.zeros(3, int))
    np.testing.assert_array_equal(display.accuracy, [0])


def test_no_rows_have_no_curve():
    with pytest.raises(ValueError, match="no rows"):
        CertifiedAccuracyDisplay.from_certificate(votes(n_rows=0), [])


def test_a_capped_curve_ends_at_the_cap_and_says_so():
    capped = votes().capped(0.2)
    display = CertifiedAccuracyDisplay.from_certificate(capped, [0] * len(capped), name="one")
    assert display.radii[-1] == display.largest_radius == 0.2
    assert display.limit_.get_label() == "largest radius asked for"
    assert display.limit_.get_xdata() == [0.2] * 2
    beyond = votes().capped(100.0)
    again = CertifiedAccuracyDisplay.from_certificate(beyond, [0] * len(beyond), ax=display.ax_)
    assert again.limit_.get_label() == "largest radius of these draws"
    assert again.radii[-1] == pytest.approx(1.05 * beyond.radius.max())
