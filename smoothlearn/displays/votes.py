"""How clearly the votes of every row were won."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from smoothlearn.certificates import Certificate
from smoothlearn.jobs.certify import certify

#: Colour of every outcome, from the bottom of the stack.
_OUTCOMES = {"right": "#0072B2", "wrong": "#D55E00", "abstained": "#999999"}
_BINS_PER_UNIT = 40
#: Radii, in sigma, that the upper axis marks: beyond the last they are too close to read.
_MARKED = np.array([0.0, 0.5, 1.0, 2.0])


class VoteDistributionDisplay:
    r"""Rows by the share p of votes for their label, stacked by what became of them.

    The certified radius :math:`\sigma\Phi^{-1}(p)` of two classes grows steeply where p is near 1,
    so that an average radius hides the rows that are barely decided. Here they stand at the left. A
    certificate puts a lower bound in the place of p, and its radius is smaller.
    Use ``from_estimator`` or ``from_certificate``.

    Parameters
    ----------
    shares : ndarray of shape (n,)
        Share of a row's votes that its label got, or a lower bound of the label's probability.
    outcomes : ndarray of shape (n,), str
        "right", "wrong" or "abstained".
    bounds : bool
        Whether the shares are lower bounds.
    sigma : float or None
        Radius, in the units and the norm below, at which :math:`\Phi^{-1}(p) = 1`; None: unknown.
    norm : float
    units : str
        As in the certificate.

    Attributes
    ----------
    bars_ : dict of str to matplotlib BarContainer
        The bars of every outcome.
    radius_ax_ : matplotlib SecondaryAxis or None
        The upper axis, :math:`\sigma\Phi^{-1}(p)`.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    References
    ----------
    Cohen et al. 2019, Theorem 1.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from smoothlearn import RandomizedSmoothingClassifier, VoteDistributionDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> smoother = RandomizedSmoothingClassifier(KNeighborsClassifier(), n_certify_draws=500)
    >>> display = VoteDistributionDisplay.from_estimator(smoother.fit(X, y), X[::10], y[::10])
    >>> display.ax_.get_xlabel()
    'Share of votes for the label'
    """

    def __init__(
        self,
        *,
        shares: NDArray[np.float64],
        outcomes: NDArray[np.str_],
        bounds: bool = False,
        sigma: float | None = None,
        norm: float = 2,
        units: str = "input",
    ) -> None:
        self.shares = shares
        self.outcomes = outcomes
        self.bounds = bounds
        self.sigma = sigma
        self.norm = norm
        self.units = units

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: ArrayLike,
        *,
        units: str = "input",
        ax: Any = None,
        **hist_kwargs: Any,
    ) -> VoteDistributionDisplay:
        """Certify X and draw its votes.

        Parameters
        ----------
        estimator : estimator
            A fitted smoothed classifier, or a pipeline or search that ends in one.
        X : array_like of shape (n, d)
        y : array_like of shape (n,)
            True labels.
        units : {"input", "smoother"}
            As in ``certify``.
        ax, **hist_kwargs
            As in ``plot``.

        Returns
        -------
        VoteDistributionDisplay
        """
        return cls.from_certificate(certify(estimator, X, units=units), y, ax=ax, **hist_kwargs)

    @classmethod
    def from_certificate(
        cls, certificate: Certificate, y: ArrayLike, *, ax: Any = None, **hist_kwargs: Any
    ) -> VoteDistributionDisplay:
        """Draw the votes of a certificate that exists already.

        Parameters
        ----------
        certificate : Certificate
            Without counts, its ``p_lower`` is drawn.
        y : array_like of shape (n,)
            True labels.
        ax, **hist_kwargs
            As in ``plot``.

        Returns
        -------
        VoteDistributionDisplay

        Raises
        ------
        ValueError
            If the certificate has no rows, or neither counts nor ``p_lower``, or was decided at one
            radius; if y has another length or labels that the classifier never saw.
        """
        certificate.refuse_tested("distribution of votes")
        right = certificate.certified(y)
        if not len(certificate):
            raise ValueError("the certificate has no rows, so there are no votes to draw")
        length = None if certificate.sigma is None else certificate.sigma * certificate.scale
        display = cls(
            shares=_shares(certificate),
            outcomes=np.select([right, certificate.abstained], ["right", "abstained"], "wrong"),
            bounds=certificate.counts is None,
            sigma=length,
            norm=certificate.norm,
            units=certificate.units,
        )
        return display.plot(ax=ax, **hist_kwargs)

    def plot(self, ax: Any = None, **hist_kwargs: Any) -> VoteDistributionDisplay:
        """Draw the histogram and, above it, the radius of two classes at a share.

        Parameters
        ----------
        ax : matplotlib Axes or None
        **hist_kwargs
            For matplotlib's ``hist``, as ``bins`` and ``color``.

        Returns
        -------
        self
        """
        import matplotlib.pyplot as plt

        if ax is None:
            _, ax = plt.subplots()
        edges = _edges(self.shares)
        style = {
            "bins": edges,
            "color": list(_OUTCOMES.values()),
            "label": list(_OUTCOMES),
            "edgecolor": "white",
            "linewidth": 0.5,
            **hist_kwargs,
            "stacked": True,
        }
        groups = [self.shares[self.outcomes == outcome] for outcome in _OUTCOMES]
        _, _, bars = ax.hist(groups, **style)
        self.bars_ = dict(zip(_OUTCOMES, bars, strict=True))
        what = "Lower bound of the label's probability" if self.bounds else None
        ax.set(xlabel=what or "Share of votes for the label", ylabel="Rows")
        ax.set_xlim(edges[0], 1)
        ax.yaxis.get_major_locator().set_params(integer=True)
        ax.legend()
        self.radius_ax_ = self._mark_radii(ax)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _mark_radii(self, ax: Any) -> Any:
        if self.sigma is None or not np.isfinite(self.sigma):
            return None
        symbol = {1: "1", 2: "2", np.inf: "∞"}[self.norm]
        where = "units of X" if self.units == "input" else "units of the smoother's input"
        radius_ax = ax.secondary_xaxis("top")
        labels = [f"{radius:.3g}" for radius in self.sigma * _MARKED]
        radius_ax.set_xticks(ndtr(_MARKED), labels=labels)
        radius_ax.set_xlabel(f"ℓ{symbol} radius σΦ⁻¹(p) at this share p ({where})")
        return radius_ax


def _shares(certificate: Certificate) -> NDArray[np.float64]:
    counts, n_draws = certificate.counts, certificate.n_draws
    if counts is not None and n_draws is not None:
        won = counts[certificate.label[:, np.newaxis] == certificate.classes]
        return np.asarray(won / n_draws)
    if certificate.p_lower is None:
        raise ValueError(
            f"the certificate has neither counts nor p_lower (its procedure is "
            f"{certificate.procedure!r}): pass one of a classifier that votes, such as "
            "RandomizedSmoothingClassifier"
        )
    return certificate.p_lower


def _edges(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Edges of bins up to 1, from a half or a twentieth at or below the lowest share."""
    lowest = min(10, int(20 * shares.min())) * _BINS_PER_UNIT // 20
    edges = np.arange(lowest, _BINS_PER_UNIT + 1) / _BINS_PER_UNIT
    edges[0] = min(edges[0], shares.min())  # the product may have been rounded up
    return edges
