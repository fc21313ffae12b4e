"""What a denoiser makes of noisy rows, stage by stage."""

from __future__ import annotations

from itertools import cycle, pairwise
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array, check_scalar
from sklearn.utils.validation import check_is_fitted, validate_data

from smoothlearn.nn.networks import ImageShape, as_image_shape
from smoothlearn.nn.randomness import spawn_seeds
from smoothlearn.views.predictor import frame_library, rebuild_frame

FloatArray = NDArray[np.float64]

#: Colour, marker and size of the points of successive stages.
_LOOKS = (
    ("#0072B2", "o", 24), ("#999999", ".", 24), ("#D55E00", "s", 16), ("#009E73", "^", 20),
    ("#E69F00", "*", 50),
)  # fmt: skip
#: Pixels between two images.
_GAP = 1
_INCHES_AN_IMAGE = 0.7
_INCHES_FOR_NAMES = 1.0


class DenoisingDisplay:
    r"""Clean rows, noisy copies :math:`y = x + \sigma\varepsilon` and what becomes of them.

    Images stand in a mosaic of one line a stage. Rows of two features are points in the plane, with
    arrows from stage to stage. Use ``from_estimator`` or ``from_stages``.

    Parameters
    ----------
    stages : dict of str to ndarray of shape (n, d)
        The same n rows at successive stages, the first of them clean.
    image_shape : (channels, height, width) or None
        Of the image that a row holds in this order; None: the rows are points in the plane.

    Attributes
    ----------
    image_ : matplotlib AxesImage or None
        The mosaic.
    points_ : dict of str to matplotlib PathCollection
        The points of every stage; empty for images.
    arrows_ : dict of str to matplotlib Quiver
        The arrows that end at every stage but the first; empty for images.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    References
    ----------
    In the manner of Saremi & Srivastava 2020, "Provable robust classification via learned smoothed
    densities", arXiv:2005.04504, Figures 3 and 6.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from smoothlearn import DenoisingDisplay, ParzenDenoiser
    >>> X = load_digits().data / 16
    >>> denoiser = ParzenDenoiser(sigma=0.3).fit(X[100:])
    >>> display = DenoisingDisplay.from_estimator(
    ...     denoiser, X[:5], n_noisy=2, image_shape=(8, 8), random_state=0
    ... )
    >>> {name: rows.shape for name, rows in display.stages.items()}
    {'clean': (10, 64), 'noisy': (10, 64), 'denoised': (10, 64)}
    """

    def __init__(
        self, *, stages: dict[str, FloatArray], image_shape: ImageShape | None = None
    ) -> None:
        self.stages = stages
        self.image_shape = image_shape

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        n_noisy: int = 1,
        image_shape: tuple[int, ...] | None = None,
        random_state: Any = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> DenoisingDisplay:
        """Add noise of the denoiser's sigma to rows, denoise them and draw every stage.

        Parameters
        ----------
        estimator : denoiser or classifier
            A fitted denoiser, or a fitted classifier that has one as ``denoiser_``.
        X : array_like or data frame of shape (n, d)
            Clean rows.
        n_noisy : int
            Noisy copies of every row, side by side.
        image_shape : (height, width) or (channels, height, width), or None
            Of the image that a row holds in this order. None takes the denoiser's own; where it has
            none, rows must have two features.
        random_state : int, RandomState or None
            Seeds the noise.
        ax, **kwargs
            As in ``plot``.

        Returns
        -------
        DenoisingDisplay

        Raises
        ------
        ValueError
            If the classifier has no denoiser, or as for ``from_stages``.
        TypeError
            If the estimator is neither a denoiser nor a classifier with one.
        """
        denoiser = fitted_denoiser(estimator)
        check_scalar(n_noisy, "n_noisy", Integral, min_val=1)
        rows = np.asarray(validate_data(estimator, X, reset=False, dtype=np.float64))
        if image_shape is None:
            image_shape = _image_shape_of(denoiser)
        _check_drawable(rows, image_shape)
        clean = np.repeat(rows, n_noisy, axis=0)
        rng = np.random.default_rng(spawn_seeds(random_state, ("noise",))["noise"])
        noisy = clean + denoiser.sigma_ * rng.standard_normal(clean.shape)
        names = getattr(denoiser, "feature_names_in_", None)
        seen = rebuild_frame(noisy, names, frame_library(X))
        further = (
            denoiser.stages(seen)
            if hasattr(denoiser, "stages")
            else {"denoised": np.asarray(denoiser.transform(seen))}
        )
        stages = {"clean": clean, "noisy": noisy, **further}
        return cls.from_stages(stages, image_shape=image_shape, ax=ax, **kwargs)

    @classmethod
    def from_stages(
        cls,
        stages: dict[str, ArrayLike],
        *,
        image_shape: tuple[int, ...] | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> DenoisingDisplay:
        """Draw stages that exist already.

        Parameters
        ----------
        stages : dict of str to array_like of shape (n, d)
            The same n rows at successive stages, the first of them clean.
        image_shape : (height, width) or (channels, height, width), or None
            As in ``from_estimator``.
        ax, **kwargs
            As in ``plot``.

        Returns
        -------
        DenoisingDisplay

        Raises
        ------
        ValueError
            If there are no stages or they differ in shape; if the rows have other than two features
            and there is no ``image_shape``, or one that does not fit, or of other than one or three
            channels.
        """
        if not stages:
            raise ValueError("stages is empty; pass at least the clean rows")
        arrays = {
            name: check_array(rows, dtype=np.float64, input_name=name)
            for name, rows in stages.items()
        }
        shapes = {name: rows.shape for name, rows in arrays.items()}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"stages must have the same shape, got {shapes}")
        shape = _check_drawable(next(iter(arrays.values())), image_shape)
        return cls(stages=arrays, image_shape=shape).plot(ax=ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> DenoisingDisplay:
        """Draw the mosaic, or the points and arrows.

        The images share one scale, from the least to the largest value of the clean ones. A clean
        image is shown once, above the first of its noisy copies.

        Parameters
        ----------
        ax : matplotlib Axes or None
        **kwargs
            For matplotlib's ``imshow`` where the rows are images, else for its ``scatter``.

        Returns
        -------
        self
        """
        self.image_ = None
        self.points_: dict[str, Any] = {}
        self.arrows_: dict[str, Any] = {}
        if self.image_shape is None:
            self._plot_points(ax, **kwargs)
        else:
            self._plot_images(ax, self.image_shape, **kwargs)
        return self

    def _plot_images(self, ax: Any, image_shape: ImageShape, **kwargs: Any) -> None:
        import matplotlib.pyplot as plt
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        lines = list(self.stages.values())
        if ax is None:
            width = _INCHES_AN_IMAGE * len(lines[0]) * image_shape[2] / image_shape[1]
            _, ax = plt.subplots(
                figsize=(width + _INCHES_FOR_NAMES, _INCHES_AN_IMAGE * len(lines)),
                layout=ConstrainedLayoutEngine(w_pad=0.1),
            )
        low, high = lines[0].min(), lines[0].max()
        picture = _mosaic(_once(np.stack(lines)), image_shape)
        if image_shape[0] == 3:
            picture = np.nan_to_num(np.clip((picture - low) / (high - low or 1), 0, 1), nan=1.0)
        self.image_ = ax.imshow(picture, **{"cmap": "gray", "vmin": low, "vmax": high, **kwargs})
        height = image_shape[1]
        middles = np.arange(len(lines)) * (height + _GAP) + (height - 1) / 2
        ax.set_yticks(middles, labels=list(self.stages))
        ax.set_xticks([])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        self.ax_, self.figure_ = ax, ax.figure

    def _plot_points(self, ax: Any, **kwargs: Any) -> None:
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots()
        looks = dict(zip(self.stages, cycle(_LOOKS)))
        for (_, start), (name, end) in pairwise(self.stages.items()):
            self.arrows_[name] = ax.quiver(
                *start.T, *(end - start).T, color=looks[name][0], alpha=0.5,
                angles="xy", scale_units="xy", scale=1, width=0.003, headwidth=5, zorder=1,
            )  # fmt: skip
        for name, rows in self.stages.items():
            colour, marker, size = looks[name]
            style = {"color": colour, "marker": marker, "s": size, "label": name, "zorder": 2}
            self.points_[name] = ax.scatter(*rows.T, **{**style, **kwargs})
        ax.set(xlabel="x0", ylabel="x1")
        ax.set_aspect("equal")
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure


def fitted_denoiser(estimator: Any) -> Any:
    """A fitted denoiser, or that of a fitted classifier."""
    check_is_fitted(estimator)
    denoiser = getattr(estimator, "denoiser_", estimator)
    name = type(estimator).__name__
    if denoiser is None:
        raise ValueError(
            f"this {name} has no denoiser: its base sees the noisy rows; pass a classifier that "
            "was fitted with one, or a denoiser"
        )
    if not (hasattr(denoiser, "transform") and hasattr(denoiser, "sigma_")):
        raise TypeError(
            f"{name} has no denoiser; pass a fitted denoiser such as DEENDenoiser, or a classifier "
            "that holds one such as EmpiricalBayesSmoothedClassifier"
        )
    return denoiser


def _image_shape_of(denoiser: Any) -> ImageShape | None:
    """The denoiser's own image shape, or that of the denoiser inside."""
    inner = getattr(denoiser, "jump_", denoiser)
    shape: ImageShape | None = getattr(inner, "image_shape_", None)
    return shape


def _check_drawable(rows: FloatArray, image_shape: Any) -> ImageShape | None:
    if image_shape is None and rows.shape[1] != 2:
        raise ValueError(
            f"rows of {rows.shape[1]} features are neither points in the plane nor images; pass "
            "image_shape=(height, width) or (channels, height, width), or rows of 2 features"
        )
    shape = as_image_shape(image_shape, rows.shape[1])
    if shape is not None and shape[0] not in (1, 3):
        raise ValueError(f"image_shape must have 1 or 3 channels to be drawn, got {image_shape!r}")
    return shape


def _once(lines: FloatArray) -> FloatArray:
    """Stages of images of which the first shows an image once, and NaN where it repeats."""
    repeats = (lines[0, 1:] == lines[0, :-1]).all(axis=1)
    lines[0, 1:][repeats] = np.nan
    return lines


def _mosaic(lines: FloatArray, image_shape: ImageShape) -> FloatArray:
    """Images of shape (stages, n, d) side by side, NaN between them, channels last if there are."""
    n_lines, n_columns, _ = lines.shape
    channels, height, width = image_shape
    images = lines.reshape(n_lines, n_columns, channels, height, width)
    gaps = ((0, 0), (0, 0), (0, 0), (0, _GAP), (0, _GAP))
    tiles = np.pad(images, gaps, constant_values=np.nan).transpose(0, 3, 1, 4, 2)
    joined = tiles.reshape(n_lines * (height + _GAP), n_columns * (width + _GAP), channels)
    trimmed = joined[:-_GAP, :-_GAP]
    return trimmed[:, :, 0] if channels == 1 else trimmed
