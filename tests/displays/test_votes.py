"""The histogram of votes shows every row once, where its votes put it."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.stats import norm as normal
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from smoothlearn import (
    Certificate,
    LocallyBiasedSmoother,
    RandomizedSmoothingClassifier,
    VoteDistributionDisplay,
    certify,
)

COUNTS = np.array([[990, 10, 0], [10, 900, 90], [505, 495, 0], [300, 350, 350], [1, 1, 998]])
WINNER = np.array([0, 1, 0, 1, 2])
TRUE = np.array(["a", "a", "a", "b", "c"])
SHARES = [0.99, 0.9, 0.505, 0.35, 0.998]
OUTCOMES = ["right", "wrong", "abstained", "abstained", "right"]


def votes(**changes):
    certificate = Certificate.from_votes(
        COUNTS,
        winner=WINNER,
        classes=np.array(["a", "b", "c"]),
        sigma=0.5,
        confidence_level=0.999,
        n_features=2,
    )
    return replace(certificate, **changes)


def heights(display):
    """(left edge of a bin, outcome) -> rows, read off the bars."""
    return {
        (round(bar.get_x(), 3), outcome): bar.get_height()
        for outcome, bars in display.bars_.items()
        for bar in bars
        if bar.get_height()
    }


def test_shares_are_those_of_the_label_and_outcomes_those_of_the_certificate():
    display = VoteDistributionDisplay.from_certificate(votes(), TRUE)
    np.testing.assert_array_equal(display.shares, SHARES)
    assert display.outcomes.tolist() == OUTCOMES
    assert not display.bounds
    assert (display.sigma, display.norm, display.units) == (0.5, 2, "input")


def test_every_row_stands_in_the_bin_of_its_share():
    display = VoteDistributionDisplay.from_certificate(votes(), TRUE)
    assert heights(display) == {
        (0.975, "right"): 2,
        (0.9, "wrong"): 1,
        (0.5, "abstained"): 1,
        (0.35, "abstained"): 1,
    }
    assert display.ax_.get_xlim() == (0.35, 1)
    assert display.ax_.get_ylabel() == "Rows"
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert legend == ["right", "wrong", "abstained"]


@pytest.mark.parametrize("lowest", [0.0, 0.15, np.nextafter(0.45, 0), 0.49, 0.5, 0.93, 1.0])
def test_no_row_is_lost_and_bars_are_stacked(lowest):
    shares = np.concatenate([[lowest], np.linspace(max(lowest, 0.6), 1, 50)])
    outcomes = np.resize(["right", "wrong", "abstained"], len(shares))
    display = VoteDistributionDisplay(shares=shares, outcomes=outcomes).plot()
    for outcome, bars in display.bars_.items():
        assert sum(bar.get_height() for bar in bars) == np.sum(outcomes == outcome)
    below = [bar.get_y() + bar.get_height() for bar in display.bars_["right"]]
    assert [bar.get_y() for bar in display.bars_["wrong"]] == below
    left, right = display.ax_.get_xlim()
    assert left <= min(lowest, 0.5)
    assert right == 1


def test_without_counts_the_lower_bounds_are_shown():
    display = VoteDistributionDisplay.from_certificate(votes(counts=None), TRUE)
    np.testing.assert_array_equal(display.shares, votes().p_lower)
    assert display.bounds
    assert display.ax_.get_xlabel() == "Lower bound of the label's probability"


def test_without_counts_or_bounds_there_is_nothing_to_show(two_blobs):
    X, y = two_blobs
    base = LogisticRegression().fit(X, y)
    with pytest.raises(ValueError, match=r"neither counts nor p_lower .*'exact'.* classifier that"):
        VoteDistributionDisplay.from_estimator(LocallyBiasedSmoother(base).fit(X, y), X, y)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="no rows"):
        VoteDistributionDisplay.from_certificate(
            replace(
                votes(),
                label=np.array([], dtype="<U1"),
                radius=np.zeros(0),
                abstained=np.zeros(0, bool),
            ),
            np.array([], dtype="<U1"),
        )
    with pytest.raises(ValueError, match="y must have shape"):
        VoteDistributionDisplay.from_certificate(votes(), TRUE[:3])
    with pytest.raises(ValueError, match="never saw"):
        VoteDistributionDisplay.from_certificate(votes(), np.array(["z"] * 5))


@pytest.mark.parametrize(("norm", "symbol"), [(1, "ℓ1"), (2, "ℓ2"), (np.inf, "ℓ∞")])
def test_the_upper_axis_is_the_radius_of_two_classes(norm, symbol):
    counts = np.array([[700, 300], [841, 159]])
    certificate = Certificate.from_votes(
        counts,
        winner=np.array([0, 0]),
        classes=np.arange(2),
        sigma=0.5,
        confidence_level=0.999,
        n_features=4,
    ).to_norm(norm)
    display = VoteDistributionDisplay.from_certificate(certificate, np.array([0, 0]))
    upper = display.radius_ax_
    assert upper.get_xlabel() == f"{symbol} radius σΦ⁻¹(p) at this share p (units of X)"
    for share, label in zip(upper.get_xticks(), upper.get_xticklabels(), strict=True):
        radius = 0.5 * certificate.scale * normal.ppf(share)
        assert float(label.get_text()) == pytest.approx(radius, rel=5e-3)
    # A lower bound in the share's place gives the certificate's own radius.
    at_bound = 0.5 * certificate.scale * normal.ppf(certificate.p_lower)
    np.testing.assert_allclose(certificate.radius, at_bound)


def test_without_sigma_there_is_no_upper_axis():
    display = VoteDistributionDisplay.from_certificate(votes(sigma=None), TRUE)
    assert display.radius_ax_ is None


@pytest.mark.parametrize("units", ["input", "smoother"])
def test_from_estimator_is_from_certificate(two_blobs, units):
    X, y = two_blobs
    smoother = RandomizedSmoothingClassifier(
        KNeighborsClassifier(), n_draws=50, n_certify_draws=100, random_state=0
    )
    model = make_pipeline(StandardScaler(), smoother).fit(X, y)
    one = VoteDistributionDisplay.from_estimator(model, X, y, units=units)
    other = VoteDistributionDisplay.from_certificate(certify(model, X, units=units), y)
    for name in ("shares", "outcomes", "bounds", "sigma", "norm", "units"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    words = {"input": "(units of X)", "smoother": "(units of the smoother's input)"}
    assert one.radius_ax_.get_xlabel().endswith(words[units])


def test_a_closed_form_shows_its_probabilities(two_blobs):
    X, y = two_blobs
    exact = RandomizedSmoothingClassifier(LogisticRegression(), sigma=0.5).fit(X, y)
    display = VoteDistributionDisplay.from_estimator(exact, X, y)
    np.testing.assert_array_equal(display.shares, exact.certify(X).p_lower)
    assert np.sum(display.outcomes == "right") == exact.certify(X).certified(y).sum() > 0


def test_plot_again_elsewhere_and_in_another_style():
    _, (left, right) = plt.subplots(1, 2)
    display = VoteDistributionDisplay.from_certificate(votes(), TRUE, ax=left)
    assert display.ax_ is left
    assert display.figure_ is left.figure
    assert display.plot(ax=right, bins=4, color=["k", "w", "r"]) is display
    assert display.ax_ is right
    assert [len(bars) for bars in display.bars_.values()] == [4, 4, 4]
    assert len(plt.get_fignums()) == 1
    display.plot()
    assert len(plt.get_fignums()) == 2


def test_a_decision_has_no_votes_to_be_read():
    decided = replace(
        Certificate.from_votes(
            np.array([[99, 1]]), winner=np.array([0]), classes=np.array([0, 1]), sigma=0.5,
            confidence_level=0.99, n_features=2,
        ),
        tested_radius=0.1,
    )  # fmt: skip
    with pytest.raises(ValueError, match="has no distribution of votes"):
        VoteDistributionDisplay.from_certificate(decided, [0])
