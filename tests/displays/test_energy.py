"""The picture of an energy shows the energy, its field and the attractors it was given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from smoothlearn import (
    AttractorDenoiser,
    DEENDenoiser,
    EmpiricalBayesSmoothedClassifier,
    EnergyDisplay,
    ParzenDenoiser,
    RandomizedSmoothingClassifier,
    WalkJumpDenoiser,
)


class Bowl(TransformerMixin, BaseEstimator):
    """The energy ‖y‖²/2 of a standard normal density, sigma = 0.5."""

    def fit(self, X, y=None):
        self.sigma_, self.n_features_in_ = 0.5, X.shape[1]
        return self

    def energy(self, X):
        return np.sum(X**2, axis=1) / 2

    def transform(self, X):
        return X - self.sigma_**2 * X


def grid(display):
    return np.column_stack([display.xx0.ravel(), display.xx1.ravel()])


def test_the_grid_holds_the_energy_and_the_arrows_the_field(two_blobs):
    X, _ = two_blobs
    denoiser = ParzenDenoiser(sigma=0.4).fit(X)
    display = EnergyDisplay.from_estimator(denoiser, X, grid_resolution=30)
    assert display.energy.shape == display.xx0.shape == display.xx1.shape == (30, 30)
    np.testing.assert_allclose(display.energy.ravel(), denoiser.energy(grid(display)))
    field = (denoiser.transform(display.places) - display.places) / 0.4**2
    np.testing.assert_allclose(display.field, field)
    np.testing.assert_array_equal(display.rows, X)


def test_the_field_is_minus_the_gradient_of_the_energy(two_blobs):
    display = EnergyDisplay.from_estimator(Bowl().fit(two_blobs[0]), two_blobs[0])
    np.testing.assert_allclose(display.field, -display.places)


def test_arrows_point_along_the_field_and_stay_in_their_cell(two_blobs):
    display = EnergyDisplay.from_estimator(Bowl().fit(two_blobs[0]), two_blobs[0])
    arrows = np.column_stack([display.quiver_.U, display.quiver_.V])
    lengths, norms = (np.linalg.norm(rows, axis=1) for rows in (arrows, display.field))
    np.testing.assert_allclose(arrows * norms[:, None], display.field * lengths[:, None])
    np.testing.assert_array_equal(display.quiver_.get_offsets(), display.places)
    gaps = [np.diff(np.unique(column)).max() for column in display.places.T]
    assert lengths.max() <= max(gaps)
    weak = norms <= np.median(norms)
    ratio = lengths[weak] / norms[weak]
    np.testing.assert_allclose(ratio, ratio[0])


@pytest.mark.parametrize(("eps", "margin"), [(None, 1.2), (0, 0.0), (2.5, 2.5)])
def test_the_grid_reaches_beyond_the_rows(two_blobs, eps, margin):
    X, _ = two_blobs
    display = EnergyDisplay.from_estimator(ParzenDenoiser(sigma=0.4).fit(X), X, eps=eps)
    for axis, coordinates in enumerate((display.xx0, display.xx1)):
        assert coordinates.min() == pytest.approx(X[:, axis].min() - margin)
        assert coordinates.max() == pytest.approx(X[:, axis].max() + margin)
    assert display.ax_.get_xlim() == (display.xx0.min(), display.xx0.max())
    assert display.ax_.get_ylim() == (display.xx1.min(), display.xx1.max())


@pytest.mark.parametrize("eps", [0.5, 100.0])
def test_shades_start_at_the_minimum_and_are_not_spent_on_what_is_far(two_blobs, eps):
    X, _ = two_blobs
    display = EnergyDisplay.from_estimator(ParzenDenoiser(sigma=0.1).fit(X), X, eps=eps)
    above = display.energy - display.energy.min()
    levels = display.surface_.levels
    assert levels[0] == 0
    assert np.quantile(above, 0.8) <= levels[-1] <= 1.3 * np.quantile(above, 0.8)
    assert len(levels) >= 6
    assert display.colorbar_.ax.get_ylabel() == "energy φ above its minimum (nats)"


def test_a_constant_in_the_energy_changes_no_shade(two_blobs):
    X, _ = two_blobs
    display = EnergyDisplay.from_estimator(Bowl().fit(X), X, grid_resolution=20)
    before = [path.vertices for path in display.surface_.get_paths()]
    assert sum(map(len, before)) > 100
    display.energy = display.energy + 1024.0
    for path, vertices in zip(display.plot().surface_.get_paths(), before, strict=True):
        np.testing.assert_allclose(path.vertices, vertices)


@pytest.mark.parametrize("kind", [WalkJumpDenoiser, AttractorDenoiser])
def test_a_denoiser_of_two_levels_shows_the_energy_it_moves_on(two_blobs, kind):
    X, _ = two_blobs
    walk = ParzenDenoiser(sigma=0.3)
    denoiser = kind(ParzenDenoiser(), walk, sigma=0.6, random_state=0).fit(X)
    display = EnergyDisplay.from_estimator(denoiser, X, grid_resolution=20)
    alone = EnergyDisplay.from_estimator(walk.fit(X), X, grid_resolution=20)
    np.testing.assert_array_equal(display.energy, alone.energy)
    np.testing.assert_array_equal(display.field, alone.field)
    if kind is AttractorDenoiser:
        np.testing.assert_array_equal(display.attractors, denoiser.attractors_)
        np.testing.assert_array_equal(display.attractors_.get_offsets(), denoiser.attractors_)
    else:
        assert display.attractors is None
        assert display.attractors_ is None
    assert alone.attractors_ is None


def test_a_classifier_shows_its_denoiser(two_blobs):
    X, y = two_blobs
    model = EmpiricalBayesSmoothedClassifier(
        LogisticRegression(), denoiser=ParzenDenoiser(), sigma=0.4
    ).fit(X, y)
    one = EnergyDisplay.from_estimator(model, X)
    other = EnergyDisplay.from_estimator(FrozenEstimator(ParzenDenoiser(sigma=0.4).fit(X)), X)
    np.testing.assert_array_equal(one.energy, other.energy)


def test_labels_colour_the_rows(two_blobs):
    X, y = two_blobs
    names = np.array(["cat", "dog"])[y]
    display = EnergyDisplay.from_estimator(ParzenDenoiser().fit(X), X, names)
    assert len(display.points_) == 2
    for label, points in zip(("cat", "dog"), display.points_, strict=True):
        np.testing.assert_array_equal(points.get_offsets(), X[names == label])
        assert points.get_label() == label
    colours = {tuple(points.get_facecolor()[0]) for points in display.points_}
    assert len(colours) == 2
    legend = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert legend == ["cat", "dog"]


def test_without_labels_there_is_one_colour_and_no_legend(two_blobs):
    X, _ = two_blobs
    display = EnergyDisplay.from_estimator(ParzenDenoiser().fit(X), X)
    (points,) = display.points_
    np.testing.assert_array_equal(points.get_offsets(), X)
    assert display.ax_.get_legend() is None


def test_without_rows_the_grid_lies_around_what_the_denoiser_keeps(two_blobs):
    X, _ = two_blobs
    parzen = ParzenDenoiser(sigma=0.3).fit(X)
    display = EnergyDisplay.from_estimator(parzen, grid_resolution=10)
    around = EnergyDisplay.from_estimator(parzen, X, grid_resolution=10)
    np.testing.assert_array_equal(display.energy, around.energy)
    assert display.rows is None
    assert display.points_ == []
    with pytest.raises(ValueError, match=r"Bowl keeps no rows .* pass X"):
        EnergyDisplay.from_estimator(Bowl().fit(X))


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_name_the_axes(two_blobs, library):
    frames = pytest.importorskip(library)
    X, _ = two_blobs
    frame = frames.DataFrame({"height": X[:, 0], "weight": X[:, 1]})
    denoiser = ParzenDenoiser(sigma=0.4).fit(frame)
    display = EnergyDisplay.from_estimator(denoiser, frame, grid_resolution=10)
    assert display.ax_.get_xlabel() == "height"
    assert display.ax_.get_ylabel() == "weight"
    plain = EnergyDisplay.from_estimator(ParzenDenoiser(0.4).fit(X), X, grid_resolution=10)
    np.testing.assert_array_equal(display.energy, plain.energy)
    assert plain.ax_.get_xlabel() == "x0"


def test_a_learned_energy_is_shown(two_blobs):
    X, y = two_blobs
    denoiser = DEENDenoiser(sigma=0.5, max_epochs=2, random_state=0).fit(X)
    display = EnergyDisplay.from_estimator(denoiser, X, y, grid_resolution=10)
    np.testing.assert_allclose(display.energy.ravel(), denoiser.energy(grid(display)))


def test_bad_input_is_named(two_blobs, three_blobs):
    X, y = two_blobs
    denoiser = ParzenDenoiser().fit(X)
    with pytest.raises(ValueError, match="fitted on 3 features; only energies of 2 features"):
        EnergyDisplay.from_estimator(ParzenDenoiser().fit(three_blobs[0]), three_blobs[0])
    with pytest.raises(ValueError, match="3 features"):
        EnergyDisplay.from_estimator(denoiser, three_blobs[0])
    with pytest.raises(ValueError, match="y was given without X"):
        EnergyDisplay.from_estimator(denoiser, y=y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        EnergyDisplay.from_estimator(denoiser, X, y[1:])
    with pytest.raises(ValueError, match="grid_resolution == 1"):
        EnergyDisplay.from_estimator(denoiser, X, grid_resolution=1)
    with pytest.raises(ValueError, match="eps must be finite and >= 0"):
        EnergyDisplay.from_estimator(denoiser, X, eps=-1.0)
    bare = RandomizedSmoothingClassifier(LogisticRegression()).fit(X, y)
    with pytest.raises(ValueError, match="RandomizedSmoothingClassifier has no denoiser"):
        EnergyDisplay.from_estimator(bare, X)


def test_plot_again_elsewhere_and_in_another_style(two_blobs):
    X, y = two_blobs
    _, (left, right) = plt.subplots(1, 2)
    denoiser = ParzenDenoiser().fit(X)
    display = EnergyDisplay.from_estimator(denoiser, X, y, grid_resolution=10, ax=left)
    assert display.ax_ is left
    assert display.figure_ is left.figure
    first = display.surface_
    assert display.plot(ax=right, levels=[0, 1, 2], cmap="viridis") is display
    assert display.ax_ is right
    assert display.surface_ is not first
    assert display.surface_.levels.tolist() == [0, 1, 2]
    assert display.surface_.get_cmap().name == "viridis"
    assert [points.axes for points in display.points_] == [right, right]
    assert len(plt.get_fignums()) == 1
    display.plot()
    assert len(plt.get_fignums()) == 2
