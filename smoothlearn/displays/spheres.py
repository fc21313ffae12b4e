"""How much noise a data set bears, against sigma."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from smoothlearn.theory.spheres import SphereOverlap, sphere_overlap

#: Share of the overlap: its name in the legend and its look, with classes and without them.
_CURVES = {
    "same_class": ("spheres meet: pairs of a class", "#0072B2", ":"),
    "other_class": ("spheres meet: other pairs", "#0072B2", "--"),
    "rows": ("sphere meets another class", "#0072B2", "-"),
    "crossing": ("noise crosses to another class", "#D55E00", "-"),
}
_CURVES_WITHOUT_CLASSES = {
    "pairs": ("spheres meet: pairs", "#0072B2", "--"),
    "rows": ("sphere meets another row's", "#0072B2", "-"),
    "crossing": ("noise crosses to another row", "#D55E00", "-"),
}


class SphereOverlapDisplay:
    r"""Share of rows whose noise spheres meet, and the chance of crossing, against sigma.

    What they tell, and what they do not, stands at ``sphere_overlap``. In many dimensions the
    spheres meet (blue) long before the noise takes rows of different classes for one another
    (red). Use ``from_data``.

    Parameters
    ----------
    overlap : SphereOverlap
        The shares at increasing sigma.

    Attributes
    ----------
    lines_ : dict of str to matplotlib Line2D
        The curves, by their name in ``overlap``.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    sphere_overlap : the numbers.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from smoothlearn import SphereOverlapDisplay
    >>> display = SphereOverlapDisplay.from_data(*load_iris(return_X_y=True))
    >>> display.ax_.get_xlabel()
    'σ (units of X)'
    """

    def __init__(self, *, overlap: SphereOverlap) -> None:
        self.overlap = overlap

    @classmethod
    def from_data(
        cls,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        sigma: ArrayLike | None = None,
        sample_size: int | None = None,
        random_state: Any = None,
        ax: Any = None,
        **line_kwargs: Any,
    ) -> SphereOverlapDisplay:
        """Compare the rows of a data set and draw the curves.

        Parameters
        ----------
        X : array_like of shape (n, d)
        y : array_like of shape (n,) or None
        sigma, sample_size, random_state
            As for ``sphere_overlap``; several sigma are drawn in increasing order.
        ax, **line_kwargs
            As in ``plot``.

        Raises
        ------
        ValueError, TypeError
            As for ``sphere_overlap``.
        """
        if sigma is not None:
            sigma = np.sort(np.ravel(sigma))
        overlap = sphere_overlap(
            X, y, sigma=sigma, sample_size=sample_size, random_state=random_state
        )
        return cls(overlap=overlap).plot(ax=ax, **line_kwargs)

    def plot(self, ax: Any = None, **line_kwargs: Any) -> SphereOverlapDisplay:
        """Draw the curves against sigma on a logarithmic axis.

        Parameters
        ----------
        ax : matplotlib Axes or None
        **line_kwargs
            For matplotlib's ``plot``, for every curve.

        Returns
        -------
        self
        """
        import matplotlib.pyplot as plt
        from matplotlib.ticker import LogLocator

        if ax is None:
            _, ax = plt.subplots()
        without_classes = np.all(np.isnan(self.overlap.same_class))
        curves = _CURVES_WITHOUT_CLASSES if without_classes else _CURVES
        self.lines_ = {}
        for share, (label, colour, style) in curves.items():
            look = {"label": label, "color": colour, "linestyle": style, **line_kwargs}
            (self.lines_[share],) = ax.plot(
                self.overlap.sigma, getattr(self.overlap, share), **look
            )
        ax.set(xscale="log", xlabel="σ (units of X)", ylabel="Share", ylim=(0, 1.02))
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter("")
        ax.margins(x=0)
        ax.legend(fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self
