"""The pictures of denoising show clean, noisy and denoised rows where they say."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from smoothlearn import (
    AttractorDenoiser,
    DEENDenoiser,
    DenoisingDisplay,
    EmpiricalBayesSmoothedClassifier,
    ParzenDenoiser,
    RandomizedSmoothingClassifier,
    WalkJumpDenoiser,
)


class Halving(TransformerMixin, BaseEstimator):
    """A denoiser that knows nothing of stages."""

    def fit(self, X, y=None):
        self.sigma_, self.n_features_in_ = 0.5, X.shape[1]
        return self

    def transform(self, X):
        return X / 2


@pytest.fixture
def pictures():
    return np.random.default_rng(0).random((30, 6))


def test_noise_has_the_denoisers_sigma_and_a_seed(two_blobs):
    X, _ = two_blobs
    denoiser = ParzenDenoiser(sigma=0.3).fit(X)
    one = DenoisingDisplay.from_estimator(denoiser, X, n_noisy=50, random_state=0)
    np.testing.assert_array_equal(one.stages["clean"], np.repeat(X, 50, axis=0))
    noise = one.stages["noisy"] - one.stages["clean"]
    # 8,000 draws: a deviation of a tenth is 12 standard errors of their standard deviation.
    assert noise.std() == pytest.approx(0.3, rel=0.1)
    again = DenoisingDisplay.from_estimator(denoiser, X, n_noisy=50, random_state=0)
    np.testing.assert_array_equal(one.stages["noisy"], again.stages["noisy"])
    other = DenoisingDisplay.from_estimator(denoiser, X, n_noisy=50, random_state=1)
    assert not np.array_equal(one.stages["noisy"], other.stages["noisy"])


@pytest.mark.parametrize(
    ("denoiser", "names"),
    [
        (ParzenDenoiser(), ["denoised"]),
        (Halving(), ["denoised"]),
        (
            WalkJumpDenoiser(ParzenDenoiser(), ParzenDenoiser(sigma=0.1), random_state=0),
            ["denoised", "walked", "jumped"],
        ),
        (
            AttractorDenoiser(ParzenDenoiser(), ParzenDenoiser(sigma=0.1), random_state=0),
            ["denoised", "attractor"],
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_stages_are_the_denoisers(two_blobs, denoiser, names):
    X, _ = two_blobs
    denoiser = denoiser.fit(X)
    display = DenoisingDisplay.from_estimator(denoiser, X[:5], random_state=0)
    assert list(display.stages) == ["clean", "noisy", *names]
    noisy = display.stages["noisy"]
    np.testing.assert_array_equal(display.stages[names[-1]], denoiser.transform(noisy))
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert legend == list(display.stages)


def test_a_classifier_shows_its_denoiser(two_blobs):
    X, y = two_blobs
    model = EmpiricalBayesSmoothedClassifier(
        LogisticRegression(), denoiser=ParzenDenoiser(), sigma=0.4
    ).fit(X, y)
    one = DenoisingDisplay.from_estimator(model, X[:3], random_state=0)
    denoiser = ParzenDenoiser(sigma=0.4).fit(X)
    other = DenoisingDisplay.from_estimator(FrozenEstimator(denoiser), X[:3], random_state=0)
    for name, rows in one.stages.items():
        np.testing.assert_array_equal(rows, other.stages[name])


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_frames_keep_their_columns(two_blobs, library):
    frames = pytest.importorskip(library)
    X, _ = two_blobs
    frame = frames.DataFrame({"a": X[:, 0], "b": X[:, 1]})
    denoiser = ParzenDenoiser(sigma=0.3).fit(frame)
    one = DenoisingDisplay.from_estimator(denoiser, frame[:3], random_state=0)
    plain = ParzenDenoiser(sigma=0.3).fit(X)
    other = DenoisingDisplay.from_estimator(plain, X[:3], random_state=0)
    np.testing.assert_array_equal(one.stages["denoised"], other.stages["denoised"])
    with pytest.raises(ValueError, match="feature names"):
        DenoisingDisplay.from_estimator(denoiser, frame[["b", "a"]])


def test_points_and_arrows_run_from_stage_to_stage(two_blobs):
    X, _ = two_blobs
    stages = {"clean": X[:4], "noisy": X[:4] + 1, "denoised": X[:4] - [0, 2]}
    display = DenoisingDisplay.from_stages(stages)
    assert list(display.points_) == list(stages)
    for name, rows in stages.items():
        np.testing.assert_array_equal(display.points_[name].get_offsets(), rows)
    assert list(display.arrows_) == ["noisy", "denoised"]
    for start, end in (("clean", "noisy"), ("noisy", "denoised")):
        arrows = display.arrows_[end]
        np.testing.assert_array_equal(arrows.get_offsets(), stages[start])
        np.testing.assert_allclose(
            np.column_stack([arrows.U, arrows.V]), stages[end] - stages[start]
        )
        assert (arrows.angles, arrows.scale_units, arrows.scale) == ("xy", "xy", 1)
    colours = [tuple(points.get_facecolor()[0]) for points in display.points_.values()]
    assert len(set(colours)) == 3
    assert display.ax_.get_aspect() == 1
    assert display.image_ is None


def tile(display, line, column, shape):
    """What stands in a place of the mosaic."""
    height, width = shape
    top, left = line * (height + 1), column * (width + 1)
    return np.asarray(display.image_.get_array())[top : top + height, left : left + width]


@pytest.mark.parametrize("image_shape", [(2, 3), (3, 2), (1, 2, 3)])
def test_the_mosaic_has_a_line_for_a_stage_and_a_column_for_a_row(pictures, image_shape):
    denoiser = ParzenDenoiser(sigma=0.2).fit(pictures)
    display = DenoisingDisplay.from_estimator(
        denoiser, pictures[:4], image_shape=image_shape, random_state=0
    )
    for line, rows in enumerate(display.stages.values()):
        for column, row in enumerate(rows):
            shown = tile(display, line, column, image_shape[-2:])
            np.testing.assert_array_equal(shown, row.reshape(image_shape[-2:]))
    height, width = image_shape[-2:]
    assert display.image_.get_array().shape == (3 * height + 2, 4 * width + 3)
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == list(display.stages)
    middles = (np.arange(3) * (height + 1) + (height - 1) / 2).tolist()
    assert display.ax_.get_yticks().tolist() == middles
    assert display.image_.get_clim() == (pictures[:4].min(), pictures[:4].max())
    assert (display.points_, display.arrows_) == ({}, {})


def test_several_copies_stand_beside_each_other_under_one_clean_image(pictures):
    denoiser = ParzenDenoiser(sigma=0.2).fit(pictures)
    display = DenoisingDisplay.from_estimator(
        denoiser, pictures[:2], n_noisy=3, image_shape=(2, 3), random_state=0
    )
    for column in range(6):
        clean = tile(display, 0, column, (2, 3))
        if column % 3:
            assert np.ma.getmaskarray(display.image_.get_array())[:2, column * 4].all()
        else:
            np.testing.assert_array_equal(clean, pictures[column // 3].reshape(2, 3))
        noisy = tile(display, 1, column, (2, 3))
        np.testing.assert_array_equal(noisy, display.stages["noisy"][column].reshape(2, 3))
    np.testing.assert_array_equal(display.stages["clean"], np.repeat(pictures[:2], 3, axis=0))


def test_colours_are_scaled_by_the_clean_rows_and_clipped():
    clean = np.linspace(-1, 3, 24).reshape(2, 12)
    display = DenoisingDisplay.from_stages(
        {"clean": clean, "noisy": 2 * clean}, image_shape=(3, 2, 2)
    )
    assert display.image_.get_array().shape == (5, 5, 3)
    for line, rows in enumerate((clean, 2 * clean)):
        for column in range(2):
            channels_last = rows[column].reshape(3, 2, 2).transpose(1, 2, 0)
            expected = np.clip((channels_last + 1) / 4, 0, 1)
            np.testing.assert_allclose(tile(display, line, column, (2, 2)), expected)
    np.testing.assert_array_equal(display.image_.get_array()[2], 1)


def test_the_denoisers_own_image_shape_is_the_default(pictures):
    deen = DEENDenoiser(sigma=0.2, image_shape=(2, 3), max_epochs=1, random_state=0).fit(pictures)
    assert DenoisingDisplay.from_estimator(deen, pictures[:2]).image_shape == (1, 2, 3)
    walker = WalkJumpDenoiser(
        FrozenEstimator(deen), ParzenDenoiser(sigma=0.1), sigma=0.2, random_state=0
    ).fit(pictures)
    display = DenoisingDisplay.from_estimator(walker, pictures[:2])
    assert display.image_.get_array().shape == (5 * 2 + 4, 2 * 3 + 1)
    asked = DenoisingDisplay.from_estimator(deen, pictures[:2], image_shape=(3, 2))
    assert asked.image_shape == (1, 3, 2)


def test_rows_that_are_neither_points_nor_images_are_refused(pictures):
    denoiser = ParzenDenoiser(sigma=0.2).fit(pictures)
    with pytest.raises(ValueError, match=r"rows of 6 features .* pass image_shape=\(height, width"):
        DenoisingDisplay.from_estimator(denoiser, pictures)
    with pytest.raises(ValueError, match="has 9 pixels, X has 6"):
        DenoisingDisplay.from_estimator(denoiser, pictures, image_shape=(3, 3))
    with pytest.raises(ValueError, match=r"1 or 3 channels to be drawn, got \(2, 3, 1\)"):
        DenoisingDisplay.from_estimator(denoiser, pictures, image_shape=(2, 3, 1))


def test_bad_input_is_named(two_blobs):
    X, y = two_blobs
    denoiser = ParzenDenoiser().fit(X)
    with pytest.raises(ValueError, match="n_noisy == 0"):
        DenoisingDisplay.from_estimator(denoiser, X, n_noisy=0)
    with pytest.raises(ValueError, match="random_state"):
        DenoisingDisplay.from_estimator(denoiser, X, random_state=-1)
    with pytest.raises(ValueError, match="3 features"):
        DenoisingDisplay.from_estimator(denoiser, np.ones((2, 3)))
    with pytest.raises(NotFittedError):
        DenoisingDisplay.from_estimator(ParzenDenoiser(), X)
    with pytest.raises(TypeError, match="StandardScaler has no denoiser; pass a fitted denoiser"):
        DenoisingDisplay.from_estimator(StandardScaler().fit(X), X)
    bare = RandomizedSmoothingClassifier(LogisticRegression()).fit(X, y)
    with pytest.raises(ValueError, match="RandomizedSmoothingClassifier has no denoiser"):
        DenoisingDisplay.from_estimator(bare, X)
    with pytest.raises(ValueError, match="stages is empty"):
        DenoisingDisplay.from_stages({})
    with pytest.raises(ValueError, match=r"same shape, got .*'noisy': \(79, 2\)"):
        DenoisingDisplay.from_stages({"clean": X, "noisy": X[1:]})


@pytest.mark.parametrize("image_shape", [None, (1, 2)])
def test_plot_again_elsewhere_and_in_another_style(two_blobs, image_shape):
    X, _ = two_blobs
    _, (left, right) = plt.subplots(1, 2)
    stages = {"clean": X[:3], "noisy": X[3:6]}
    display = DenoisingDisplay.from_stages(stages, image_shape=image_shape, ax=left, alpha=0.5)
    assert display.ax_ is left
    assert display.figure_ is left.figure
    drawn = display.image_ or display.points_["clean"]
    assert drawn.get_alpha() == 0.5
    assert display.plot(ax=right) is display
    assert display.ax_ is right
    again = display.image_ or display.points_["clean"]
    assert again.axes is right
    np.testing.assert_array_equal(drawn.get_array(), again.get_array())
    assert len(plt.get_fignums()) == 1
    display.plot()
    assert len(plt.get_fignums()) == 2
