"""Certified accuracy against the radius."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smoothlearn.certificates import Certificate
from smoothlearn.jobs.certify import certify
from smoothlearn.theory.binomial import lower_bound, upper_bound

_LIMIT_LABEL, _CAP_LABEL = "largest radius of these draws", "largest radius asked for"


class CertifiedAccuracyDisplay:
    r"""Certified accuracy against the radius, with its sampling interval.

    The curve steps down at every radius where a row's certificate ends. The band is the pointwise
    95 % Clopper-Pearson interval for the certified accuracy on new rows, given that the rows shown
    are an independent sample. Use ``from_estimator`` or ``from_certificate``.

    Parameters
    ----------
    radii : ndarray of shape (k,)
        Increasing radii, the first of them 0.
    accuracy, lower, upper : ndarray of shape (k,)
        Certified accuracy at each radius, and its interval.
    largest_radius : float
        The largest radius that the number of draws can certify; inf where there is no such limit.
    capped : bool
        Whether that is the radius that was asked for.
    norm : float
    units : str
        As in the certificate.
    name : str or None
        Name of the curve in the legend.

    Attributes
    ----------
    line_ : matplotlib Line2D
    band_ : matplotlib collection
    limit_ : matplotlib Line2D or None
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from smoothlearn import CertifiedAccuracyDisplay, RandomizedSmoothingClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> smoother = RandomizedSmoothingClassifier(KNeighborsClassifier(), n_certify_draws=500)
    >>> display = CertifiedAccuracyDisplay.from_estimator(smoother.fit(X, y), X[::10], y[::10])
    >>> display.ax_.get_ylabel()
    'Certified accuracy'
    """

    def __init__(
        self,
        *,
        radii: NDArray[np.float64],
        accuracy: NDArray[np.float64],
        lower: NDArray[np.float64],
        upper: NDArray[np.float64],
        largest_radius: float = np.inf,
        capped: bool = False,
        norm: float = 2,
        units: str = "input",
        name: str | None = None,
    ) -> None:
        self.radii = radii
        self.accuracy = accuracy
        self.lower = lower
        self.upper = upper
        self.largest_radius = largest_radius
        self.capped = capped
        self.norm = norm
        self.units = units
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        units: str = "input",
        max_radius: float | None = None,
        name: str | None = None,
        ax: Any = None,
        **line_kwargs: Any,
    ) -> CertifiedAccuracyDisplay:
        """Certify X and draw the curve.

        Parameters
        ----------
        estimator : estimator
            A fitted smoothed classifier, or a pipeline or search that ends in one.
        X : array_like of shape (n, d)
        y : array_like of shape (n,)
            True labels.
        units : {"input", "smoother"}
            As in ``certify``.
        max_radius : float, optional
            As in ``certify``: the curve ends there, and takes fewer draws.
        name, ax, **line_kwargs
            As in ``plot``; the name defaults to the estimator's class.
        """
        certificate = certify(estimator, X, units=units, max_radius=max_radius)
        name = type(estimator).__name__ if name is None else name
        return cls.from_certificate(certificate, y, name=name, ax=ax, **line_kwargs)

    @classmethod
    def from_certificate(
        cls,
        certificate: Certificate,
        y: ArrayLike,
        *,
        name: str | None = None,
        ax: Any = None,
        **line_kwargs: Any,
    ) -> CertifiedAccuracyDisplay:
        """Draw the curve of a certificate that exists already.

        Parameters
        ----------
        certificate : Certificate
        y : array_like of shape (n,)
            True labels.
        name, ax, **line_kwargs
            As in ``plot``.

        Raises
        ------
        ValueError
            If there are no rows; also as for ``Certificate.curve``.
        """
        radii, counts = certificate.curve(y)
        n_rows = len(certificate)
        if not n_rows:
            raise ValueError("the certificate has no rows, so there is no accuracy to draw")
        display = cls(
            radii=radii,
            accuracy=counts / n_rows,
            lower=lower_bound(counts, n_rows, 0.025),
            upper=upper_bound(counts, n_rows, 0.025),
            largest_radius=certificate.largest_radius,
            capped=certificate.max_radius is not None
            and certificate.largest_radius == np.min(certificate.max_radius),
            norm=certificate.norm,
            units=certificate.units,
            name=name,
        )
        return display.plot(ax=ax, **line_kwargs)

    def plot(
        self, ax: Any = None, *, name: str | None = None, **line_kwargs: Any
    ) -> CertifiedAccuracyDisplay:
        """Draw the curve, its interval and, dotted, the largest radius the draws can give.

        Parameters
        ----------
        ax : matplotlib Axes or None
            Pass the same axes again to compare several curves.
        name : str or None
            Name in the legend.
        **line_kwargs
            For matplotlib's ``plot``.

        Returns
        -------
        self
        """
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots()
        label = self.name if name is None else name
        style = {"label": label, "drawstyle": "steps-pre", **line_kwargs}
        (self.line_,) = ax.plot(self.radii, self.accuracy, **style)
        colour = self.line_.get_color()
        self.band_ = ax.fill_between(
            self.radii, self.lower, self.upper, step="pre", color=colour, alpha=0.15, linewidth=0
        )
        self.limit_ = None
        if np.isfinite(self.largest_radius):
            limit = _CAP_LABEL if self.capped else _LIMIT_LABEL
            named = limit in (line.get_label() for line in ax.lines)
            self.limit_ = ax.axvline(
                self.largest_radius,
                label="_" if named else limit,
                color=colour,
                linestyle=":",
                linewidth=1,
            )
            ax.update_datalim([(1.03 * self.largest_radius, 0)])
        symbol = {1: "1", 2: "2", np.inf: "∞"}[self.norm]
        where = "units of X" if self.units == "input" else "units of the smoother's input"
        ax.set(xlabel=f"ℓ{symbol} radius ({where})", ylabel="Certified accuracy", ylim=(0, 1.02))
        ax.margins(x=0)
        if style["label"] is not None:
            entries = sorted(
                zip(*ax.get_legend_handles_labels(), strict=True),
                key=lambda entry: entry[1] in (_LIMIT_LABEL, _CAP_LABEL),
            )
            ax.legend(*zip(*entries, strict=True))
        self.ax_, self.figure_ = ax, ax.figure
        return self
