"""The energy of noisy points in the plane, and its field."""

from __future__ import annotations

from itertools import cycle, product
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length, check_scalar, column_or_1d
from sklearn.utils.validation import validate_data

from smoothlearn.displays.denoising import fitted_denoiser
from smoothlearn.theory.arguments import as_finite
from smoothlearn.views.predictor import frame_library, rebuild_frame

FloatArray = NDArray[np.float64]

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9")
_MARKERS = "os^Dv"
#: Of the least and the largest energies; arrows can be seen on both.
_SHADES = ("white", "#7f7f7f")
#: Arrows along each axis.
_ARROWS = 25
_LEVELS = 14
#: Share of the grid whose energy has its own shade; what lies higher shares the darkest.
_SHADED = 0.8
#: How far the grid reaches beyond the rows by default, in sigma.
_MARGIN = 3.0


class EnergyDisplay:
    r"""The energy :math:`\phi(y)` of points in the plane and the field :math:`-\nabla\phi(y)`.

    The field is :math:`(\hat x(y) - y)/\sigma^2`: the denoiser moves every point along it,
    downhill. Use ``from_estimator``.

    Parameters
    ----------
    xx0, xx1 : ndarray of shape (g, g)
        Coordinates of a grid, as ``numpy.meshgrid`` gives them.
    energy : ndarray of shape (g, g)
        In nats, up to a constant.
    places, field : ndarray of shape (k, 2)
        A coarser grid, and the field there.
    rows : ndarray of shape (n, 2) or None
        Samples.
    labels : ndarray of shape (n,) or None
        Of the samples.
    attractors : ndarray of shape (m, 2) or None
    feature_names : sequence of two str

    Attributes
    ----------
    surface_ : matplotlib QuadContourSet
    colorbar_ : matplotlib Colorbar
    quiver_ : matplotlib Quiver
        The field. Up to its median norm, length stands for norm; longer arrows are cut.
    points_ : list of matplotlib PathCollection
        The samples, one for every label.
    attractors_ : matplotlib PathCollection or None
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    References
    ----------
    Saremi & Srivastava 2020, Eq. 1 and section 4.2; Saremi & Hyvärinen 2019, "Neural empirical
    Bayes", JMLR 20, section 4.

    Examples
    --------
    >>> from sklearn.datasets import make_moons
    >>> from smoothlearn import EnergyDisplay, ParzenDenoiser
    >>> X, y = make_moons(200, noise=0.05, random_state=0)
    >>> denoiser = ParzenDenoiser(sigma=0.2).fit(X)
    >>> display = EnergyDisplay.from_estimator(denoiser, X, y, grid_resolution=50)
    >>> display.energy.shape
    (50, 50)
    """

    def __init__(
        self,
        *,
        xx0: FloatArray,
        xx1: FloatArray,
        energy: FloatArray,
        places: FloatArray,
        field: FloatArray,
        rows: FloatArray | None = None,
        labels: NDArray[Any] | None = None,
        attractors: FloatArray | None = None,
        feature_names: Any = ("x0", "x1"),
    ) -> None:
        self.xx0 = xx0
        self.xx1 = xx1
        self.energy = energy
        self.places = places
        self.field = field
        self.rows = rows
        self.labels = labels
        self.attractors = attractors
        self.feature_names = feature_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any = None,
        y: ArrayLike | None = None,
        *,
        grid_resolution: int = 100,
        eps: float | None = None,
        ax: Any = None,
        **contour_kwargs: Any,
    ) -> EnergyDisplay:
        """Evaluate a denoiser's energy and field on grids around rows, and draw them.

        Where a denoiser walks on, or flows down, the energy of another, it is that one's energy and
        field, and the attractors that it found.

        Parameters
        ----------
        estimator : denoiser or classifier
            A fitted denoiser of two features, or a fitted classifier that has one as ``denoiser_``.
        X : array_like or data frame of shape (n, 2), or None
            Samples to draw. None draws none, and the grid lies around the attractors, or the rows
            that a Parzen denoiser keeps.
        y : array_like of shape (n,) or None
            Labels of the samples, for their colours.
        grid_resolution : int
            Points of the energy's grid along each axis.
        eps : float or None
            How far the grid reaches beyond the rows; None: three times sigma.
        ax, **contour_kwargs
            As in ``plot``.

        Returns
        -------
        EnergyDisplay

        Raises
        ------
        ValueError
            If the denoiser has other than two features, the classifier has none, or X is None and
            the denoiser keeps no rows.
        TypeError
            If the estimator is neither a denoiser nor a classifier with one.
        """
        denoiser = fitted_denoiser(estimator)
        if denoiser.n_features_in_ != 2:
            raise ValueError(
                f"the denoiser was fitted on {denoiser.n_features_in_} features; only energies of "
                "2 features can be drawn as a surface"
            )
        check_scalar(grid_resolution, "grid_resolution", Integral, min_val=2)
        shown = getattr(denoiser, "walk_", denoiser)
        attractors = getattr(denoiser, "attractors_", None)
        rows, labels = _check_samples(estimator, X, y)
        margin = _MARGIN * shown.sigma_ if eps is None else as_finite("eps", eps, zero=True)
        around = _rows_kept(shown, attractors) if rows is None else rows
        low, high = around.min(axis=0) - margin, around.max(axis=0) + margin
        names, library = getattr(shown, "feature_names_in_", None), frame_library(X) or "pandas"
        fine, coarse = _grid(low, high, grid_resolution), _grid(low, high, _ARROWS)
        energy = shown.energy(rebuild_frame(fine, names, library))
        moved = np.asarray(shown.transform(rebuild_frame(coarse, names, library)))
        shape = (grid_resolution, grid_resolution)
        display = cls(
            xx0=fine[:, 0].reshape(shape),
            xx1=fine[:, 1].reshape(shape),
            energy=energy.reshape(shape),
            places=coarse,
            field=(moved - coarse) / shown.sigma_**2,
            rows=rows,
            labels=labels,
            attractors=attractors,
            feature_names=getattr(estimator, "feature_names_in_", ("x0", "x1")),
        )
        return display.plot(ax=ax, **contour_kwargs)

    def plot(self, ax: Any = None, **contour_kwargs: Any) -> EnergyDisplay:
        """Draw the surface, the field, the samples and the attractors.

        Four fifths of the grid have shades of their own, linear in the energy; what lies higher
        shares the darkest. Arrows are as long as the field is strong, up to its median norm, and
        not longer.

        Parameters
        ----------
        ax : matplotlib Axes or None
        **contour_kwargs
            For matplotlib's ``contourf``, as ``levels`` and ``cmap``.

        Returns
        -------
        self
        """
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots(layout="constrained")
        self._plot_surface(ax, **contour_kwargs)
        self._plot_field(ax)
        self._plot_points(ax)
        ax.set(xlabel=self.feature_names[0], ylabel=self.feature_names[1], aspect="equal")
        ax.set(xlim=self.xx0[0, [0, -1]], ylim=self.xx1[[0, -1], 0])
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc="upper right")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _plot_surface(self, ax: Any, **contour_kwargs: Any) -> None:
        from matplotlib.colors import LinearSegmentedColormap
        from matplotlib.ticker import MaxNLocator

        above = self.energy - self.energy.min()
        top = np.quantile(above, _SHADED) or 1.0
        levels = MaxNLocator(_LEVELS, steps=[1, 2, 5, 10]).tick_values(0, top)
        greys = LinearSegmentedColormap.from_list("white to grey", _SHADES)
        style = {"levels": levels, "cmap": greys, "extend": "max", **contour_kwargs}
        self.surface_ = ax.contourf(self.xx0, self.xx1, above, **style)
        beside = ax.inset_axes([1.03, 0, 0.04, 1])
        self.colorbar_ = ax.figure.colorbar(
            self.surface_, cax=beside, label="energy φ above its minimum (nats)"
        )

    def _plot_field(self, ax: Any) -> None:
        norms = np.linalg.norm(self.field, axis=1, keepdims=True)
        longest = np.median(norms) or 1.0
        cell = np.ptp(self.places, axis=0).max() / _ARROWS
        arrows = self.field * cell / np.maximum(norms, longest)
        self.quiver_ = ax.quiver(
            *self.places.T, *arrows.T, color="#222222", alpha=0.7,
            angles="xy", scale_units="xy", scale=1, width=0.002,
        )  # fmt: skip

    def _plot_points(self, ax: Any) -> None:
        self.points_, self.attractors_ = [], None
        looks = cycle(product(_MARKERS, _COLOURS))
        if self.rows is not None:
            labels = np.zeros(len(self.rows)) if self.labels is None else self.labels
            for label, (marker, colour) in zip(np.unique(labels), looks, strict=False):
                points = ax.scatter(
                    *self.rows[labels == label].T, s=12, color=colour, marker=marker,
                    edgecolor="white", linewidth=0.3, label=None if self.labels is None else label,
                )  # fmt: skip
                self.points_.append(points)
        if self.attractors is not None:
            self.attractors_ = ax.scatter(
                *self.attractors.T, s=120, color="#E69F00", marker="*", edgecolor="#222222",
                linewidth=0.7, label="attractors", zorder=3,
            )  # fmt: skip


def _check_samples(
    estimator: Any, X: Any, y: ArrayLike | None
) -> tuple[FloatArray | None, NDArray[Any] | None]:
    if X is None:
        if y is not None:
            raise ValueError("y was given without X; pass the rows that it labels")
        return None, None
    rows = np.asarray(validate_data(estimator, X, reset=False, dtype=np.float64))
    labels = None if y is None else column_or_1d(y)
    check_consistent_length(rows, labels)
    return rows, labels


def _rows_kept(shown: Any, attractors: FloatArray | None) -> FloatArray:
    """What the grid lies around where no rows were given."""
    rows: FloatArray | None = getattr(shown, "rows_", attractors)
    if rows is None:
        raise ValueError(
            f"{type(shown).__name__} keeps no rows to lay the grid around; pass X, such as the "
            "training rows"
        )
    return rows


def _grid(low: FloatArray, high: FloatArray, resolution: int) -> FloatArray:
    """Points of a regular grid, the first coordinate fastest, of shape (resolution², 2)."""
    axes = [np.linspace(low[i], high[i], resolution) for i in range(2)]
    return np.column_stack([coordinate.ravel() for coordinate in np.meshgrid(*axes)])
