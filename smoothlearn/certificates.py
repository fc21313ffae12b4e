"""The result of certification, with the formulas of certified accuracy."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smoothlearn.theory import gaussian
from smoothlearn.theory.binomial import winner_and_rival_bounds

PROCEDURES = ("exact", "fixed", "two-stage", "anytime", "capped")


@dataclass(frozen=True, eq=False, kw_only=True)
class Certificate:
    r"""Labels that no perturbation :math:`\|\delta\|_p <` ``radius`` changes.

    The label and the radius speak of the smoothed classifier g: certainly where
    ``confidence_level`` is 1, else, for every row by itself, with at least that probability over
    the seed of the noise. The arrays are read-only.

    Attributes
    ----------
    label : ndarray of shape (n,)
        What is certified; where ``abstained``, the best guess.
    radius : ndarray of shape (n,), float64
        In the units that ``units`` names; 0 where abstained.
    abstained : ndarray of shape (n,), bool
        Where the bounds do not separate the label from every other class.
    norm : 1, 2 or inf
        The p of the norm that the radius is measured in.
    confidence_level : float
        1.0 for a deterministic certificate.
    units : {"input", "smoother"}
        Whether radii are in the units of the X that was passed in, or of what the smoother saw
        behind preprocessing steps.
    n_features : int
        Columns of the X in whose units the radius is.
    classes : ndarray of shape (n_classes,)
        Class of every column of ``counts``.
    procedure : {"exact", "fixed", "two-stage", "anytime", "capped"}
        How the decision was made; counts of a "fixed" number of draws alone may be read again at
        another level.
    scale : float
        Length, in this certificate's norm and units, of one unit of the Euclidean radius that the
        smoother's votes gave.
    sigma : float or None
        Noise of the smoother, in the smoother's units.
    counts : ndarray of shape (n, n_classes), int64, or None
        Votes of the draws that estimate, from which the bounds follow.
    p_lower, p_upper : ndarray of shape (n,) or None
        Lower bound of the label's vote probability, upper bound of any other's.
    n_draws : ndarray of shape (n,), int64, or None
        Draws behind ``counts``.
    stages : tuple of int or None
        Draws in all after each stage that was planned, whether a row reached it or not. The stages
        share the failure probability equally.
    tested_radius : float or None
        Where the decision was made at one radius: that radius. Others cannot be read off then.
    assumption : str or None
        What the radii rest on besides the classifier's own numbers: a constant that was given.
    displacement : ndarray of shape (n,) or None
        What was subtracted from the radius, because the votes were cast around a point so far from
        the row: rounding, in this certificate's norm and units.

    Examples
    --------
    >>> import numpy as np
    >>> from smoothlearn import Certificate
    >>> certificate = Certificate.from_counts(
    ...     np.array([[990, 10], [510, 490]]), winner=np.array([0, 0]),
    ...     classes=np.array(["cat", "dog"]), sigma=0.5, confidence_level=0.999, n_features=784,
    ... )
    >>> certificate.radius.round(2)
    array([0.99, 0.  ])
    >>> certificate.abstained
    array([False,  True])
    >>> certificate.accuracy(np.array(["cat", "cat"]), radius=0.5)
    0.5
    """

    label: NDArray[Any]
    radius: NDArray[np.float64]
    abstained: NDArray[np.bool_]
    norm: float
    confidence_level: float
    units: str
    n_features: int
    classes: NDArray[Any]
    procedure: str
    scale: float = 1.0
    sigma: float | None = None
    counts: NDArray[np.int64] | None = None
    p_lower: NDArray[np.float64] | None = None
    p_upper: NDArray[np.float64] | None = None
    n_draws: NDArray[np.int64] | None = None
    stages: tuple[int, ...] | None = None
    tested_radius: float | None = None
    assumption: str | None = None
    displacement: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if not np.all(self.radius >= 0):
            raise ValueError("radius must be >= 0 and not NaN")
        if self.norm not in (1, 2, np.inf):
            raise ValueError(f"norm must be 1, 2 or inf, got {self.norm}")
        if not 0 < self.confidence_level <= 1:
            raise ValueError(f"confidence_level must lie in (0, 1], got {self.confidence_level}")
        if self.units not in ("input", "smoother"):
            raise ValueError(f"units must be 'input' or 'smoother', got {self.units!r}")
        if self.procedure not in PROCEDURES:
            raise ValueError(f"procedure must be one of {PROCEDURES}, got {self.procedure!r}")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                frozen = value.copy()
                frozen.flags.writeable = False
                object.__setattr__(self, field.name, frozen)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()

    def __len__(self) -> int:
        return len(self.label)

    @classmethod
    def from_counts(
        cls,
        counts: NDArray[np.int64],
        *,
        winner: NDArray[np.intp],
        classes: NDArray[Any],
        sigma: float,
        confidence_level: float,
        n_features: int,
        stages: tuple[int, ...] | None = None,
    ) -> Certificate:
        r"""Radius :math:`\frac{\sigma}{2}(\Phi^{-1}(p_A) - \Phi^{-1}(p_B))` from bounds on votes.

        Parameters
        ----------
        counts : ndarray of shape (n, n_classes), int
            Votes of draws that had no part in choosing the winner.
        winner : ndarray of shape (n,), int
            Column of the label, chosen on other draws.
        classes : ndarray of shape (n_classes,)
        sigma : float
        confidence_level : float
            For every row.
        n_features : int
        stages : tuple of two int, or None
            The draws in all after the first and after the second stage. Which rows go on to the
            second may depend on their counts in any way: the bounds at each number of draws fail
            with half the failure probability, hence one or the other with no more than all of it.
            None: the number of draws was fixed.

        Returns
        -------
        Certificate
            In the Euclidean norm.

        Raises
        ------
        ValueError
            If a row has a number of draws that is not in ``stages``.

        References
        ----------
        Cohen et al. 2019, Theorem 1 and procedure CERTIFY; Saremi & Srivastava 2020, Eq. 5.
        """
        n_draws = counts.sum(axis=1)
        if stages is not None and not np.isin(n_draws, stages).all():
            raise ValueError(f"counts must sum to {' or '.join(map(str, stages))}, the stages")
        failure_probability = (1 - confidence_level) / (1 if stages is None else len(stages))
        p_lower, p_upper = winner_and_rival_bounds(counts, winner, failure_probability)
        radius = gaussian.radius(p_lower, p_upper, sigma)
        return cls(
            label=classes[winner],
            radius=radius,
            abstained=p_lower <= p_upper,
            norm=2,
            confidence_level=confidence_level,
            units="input",
            n_features=n_features,
            classes=classes,
            procedure="fixed" if stages is None else "two-stage",
            sigma=sigma,
            counts=counts,
            p_lower=p_lower,
            p_upper=p_upper,
            n_draws=n_draws,
            stages=stages,
        )

    def accuracy(self, y: ArrayLike, radius: float = 0.0) -> float:
        """Share of rows that have the right label, certified up to the radius.

        Rows that abstained count as not certified.

        Parameters
        ----------
        y : array_like of shape (n,)
            True labels.
        radius : float
            In the certificate's units and norm.

        Raises
        ------
        ValueError
            If y has another length or labels that are not among ``classes``, if the radius is
            negative, or if the decision was made at another radius.
        """
        if not radius >= 0:
            raise ValueError(f"radius must be >= 0, got {radius}")
        if self.tested_radius is not None and radius != self.tested_radius:
            raise ValueError(
                f"this certificate was decided at radius {self.tested_radius} and says nothing "
                f"about {radius}; certify without a target radius to read others"
            )
        return _mean(self.certified(y) & (self.radius >= radius))

    def average_radius(self, y: ArrayLike) -> float:
        """Mean radius, 0 for rows that have a wrong label or abstained.

        Parameters
        ----------
        y : array_like of shape (n,)
            True labels.

        Raises
        ------
        ValueError
            As for ``accuracy``; also if the decision was made at one radius.
        """
        self._refuse_tested("average")
        return _mean(np.where(self.certified(y), self.radius, 0.0))

    def curve(self, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Every radius where certified accuracy changes, and the rows certified up to it.

        Parameters
        ----------
        y : array_like of shape (n,)
            True labels.

        Returns
        -------
        radii : ndarray of shape (k,)
            Increasing from 0, finite; the last one is a little beyond the largest certified.
        counts : ndarray of shape (k,), int64
            Rows with the right label and at least this radius.

        Raises
        ------
        ValueError
            As for ``average_radius``.
        """
        self._refuse_tested("curve")
        radius = np.sort(self.radius[self.certified(y)])
        finite = radius[np.isfinite(radius)]
        beyond = 1.05 * finite.max(initial=0.0)
        radii = np.unique(np.concatenate([[0.0], finite, [beyond]]))
        return radii, len(radius) - np.searchsorted(radius, radii, side="left")

    def certified(self, y: ArrayLike) -> NDArray[np.bool_]:
        """Which rows have the right label and did not abstain, of shape (n,)."""
        y = np.asarray(y)
        if y.shape != self.label.shape:
            raise ValueError(f"y must have shape {self.label.shape}, got {y.shape}")
        unknown = np.setdiff1d(y, self.classes)
        if unknown.size:
            raise ValueError(
                f"y has labels that the classifier never saw: {unknown[:5].tolist()}; "
                f"it knows {self.classes[:10].tolist()}"
            )
        return (self.label == y) & ~self.abstained

    def _refuse_tested(self, what: str) -> None:
        if self.tested_radius is not None:
            raise ValueError(
                f"this certificate was decided at radius {self.tested_radius} alone and has no "
                f"{what}; certify without a target radius"
            )

    @property
    def largest_radius(self) -> float:
        """The largest radius that this number of draws can certify; inf where nothing limits it."""
        if self.n_draws is None or self.sigma is None or not len(self):
            return np.inf
        stages = self.stages or (int(self.n_draws.max()),)
        limit = gaussian.max_radius(
            max(stages),
            1 - (1 - self.confidence_level) / len(stages),
            self.sigma,
            n_classes=len(self.classes),
        )
        return float(limit) * self.scale

    def at_confidence(self, level: float) -> Certificate:
        """The certificate that the same votes give at another confidence level.

        The level must not be chosen by looking at the votes.

        Parameters
        ----------
        level : float
            In (0, 1), for every row.

        Raises
        ------
        ValueError
            If the decision did not come from a fixed number of draws.
        """
        if self.procedure != "fixed" or self.counts is None or self.sigma is None:
            raise ValueError(
                f"only votes of a fixed number of draws can be read at another level; the "
                f"procedure here was {self.procedure!r}"
            )
        again = Certificate.from_counts(
            self.counts,
            winner=(self.label[:, np.newaxis] == self.classes).argmax(axis=1),
            classes=self.classes,
            sigma=self.sigma,
            confidence_level=level,
            n_features=self.n_features,
        )
        again = again.scaled(self.scale, norm=self.norm, units=self.units)
        return again if self.displacement is None else again.displaced(self.displacement)

    def scaled(self, factor: float, **changes: Any) -> Certificate:
        """The certificate with every radius multiplied by a factor and rounded down."""
        tested, moved = self.tested_radius, self.displacement
        return replace(
            self,
            radius=_rounded_down(self.radius * np.where(self.radius > 0, factor, 0.0)),
            scale=self.scale * factor,
            tested_radius=None if tested is None else float(_rounded_down(tested * factor)),
            displacement=None if moved is None else moved * np.where(moved > 0, factor, 0.0),
            **changes,
        )

    def displaced(self, distance: NDArray[np.float64]) -> Certificate:
        """The certificate of rows up to a distance from the points that were certified.

        Parameters
        ----------
        distance : ndarray of shape (n,)
            In the certificate's norm and units; rows whose radius does not exceed it abstain.
        """
        lost = (distance > 0) & ~(self.radius > distance)
        radius = _rounded_down(np.where(lost, 0.0, self.radius) - np.where(lost, 0.0, distance))
        return replace(
            self,
            radius=np.where(distance > 0, np.maximum(radius, 0.0), self.radius),
            abstained=self.abstained | lost,
            displacement=distance + (0.0 if self.displacement is None else self.displacement),
        )

    def to_norm(self, norm: float) -> Certificate:
        r"""The largest ball of another norm inside the certified one.

        With radius r in the p-norm, :math:`r\,d^{-\max(0, 1/p - 1/q)}` in the q-norm, where d is
        the number of features: :math:`\|\delta\|_p \le d^{\max(0, 1/p - 1/q)} \|\delta\|_q`.

        Parameters
        ----------
        norm : 1, 2 or inf

        Raises
        ------
        ValueError
            For any other norm.
        """
        if norm not in (1, 2, np.inf):
            raise ValueError(f"norm must be 1, 2 or inf, got {norm}")
        exponent = max(0.0, 1 / self.norm - 1 / norm)
        return self.scaled(self.n_features**-exponent, norm=norm)

    def to_frame(self) -> Any:
        """A pandas DataFrame with one row for each input and one column for each array."""
        import pandas as pd

        columns = ("label", "radius", "abstained", "p_lower", "p_upper", "n_draws")
        values = {name: getattr(self, name) for name in columns}
        return pd.DataFrame({name: value for name, value in values.items() if value is not None})


def _mean(values: NDArray[Any]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _rounded_down(radius: ArrayLike) -> NDArray[np.float64]:
    lower = np.nextafter(np.multiply(radius, 1 - 1e-15), 0)
    return np.where(np.isinf(radius), np.inf, lower)
