"""The result of certification, with the formulas of certified accuracy."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smoothlearn.theory import gaussian
from smoothlearn.theory.arguments import as_probability
from smoothlearn.theory.binomial import lower_bound, upper_bound

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
        How the decision was made; votes of a "fixed" number of draws alone may be read again at
        another level.
    scale : float
        Length, in this certificate's norm and units, of one unit of the Euclidean radius that the
        smoother's votes gave.
    sigma : float or None
        Noise of the smoother, in the smoother's units.
    counts : ndarray of shape (n, n_classes), int64, or None
        Votes of the draws that estimate, from which the bounds follow.
    sums : ndarray of shape (n, 2, n_classes), float64, or None
        In place of ``counts`` where votes are soft: sums of the probabilities of the draws that
        estimate, and of their squares.
    p_lower, p_upper : ndarray of shape (n,) or None
        Lower bound of the label's vote probability, upper bound of any other's.
    n_draws : ndarray of shape (n,), int64, or None
        Draws that estimate.
    stages : tuple of int or None
        Draws in all after each stage that was planned, whether a row reached it or not. The stages
        share the failure probability equally.
    tested_radius : float, ndarray of shape (n,) or None
        Where the decision was made at one radius (for every row): that radius, which is that of all
        rows that did not abstain. Others cannot be read off then.
    max_radius : float, ndarray of shape (n,) or None
        Where draws stopped at radii so large: the most that ``radius`` can be.
    assumption : str or None
        What the radii rest on besides the classifier's own numbers: a constant that was given.
    displacement : ndarray of shape (n,) or None
        What was subtracted from the radius, because the votes were cast around a point so far from
        the row: rounding, in this certificate's norm and units.

    Examples
    --------
    >>> import numpy as np
    >>> from smoothlearn import Certificate
    >>> certificate = Certificate.from_votes(
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
    sums: NDArray[np.float64] | None = None
    p_lower: NDArray[np.float64] | None = None
    p_upper: NDArray[np.float64] | None = None
    n_draws: NDArray[np.int64] | None = None
    stages: tuple[int, ...] | None = None
    tested_radius: float | NDArray[np.float64] | None = None
    max_radius: float | NDArray[np.float64] | None = None
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
            if isinstance(value, np.ndarray) and (value.flags.writeable or value.base is not None):
                frozen = value.copy()
                frozen.flags.writeable = False
                object.__setattr__(self, field.name, frozen)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.__post_init__()

    def __len__(self) -> int:
        return len(self.label)

    @classmethod
    def from_votes(
        cls,
        votes: NDArray[Any],
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
        votes : ndarray of shape (n, n_classes), int, or (n, 2, n_classes), float
            ``counts`` or ``sums`` of draws that had no part in choosing the winner.
        winner : ndarray of shape (n,), int
            Column of the label, chosen on other draws.
        classes : ndarray of shape (n_classes,)
        sigma : float
        confidence_level : float
            For every row.
        n_features : int
        stages : tuple of int, or None
            The draws in all after each stage. Which rows go on to the next may depend on their
            votes in any way: the bounds at each number of draws fail with an equal share of the
            failure probability, hence any of them with no more than all of it. None: the number of
            draws was fixed.

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
        Cohen et al. 2019, Theorem 1 and procedure CERTIFY; Saremi & Srivastava 2020, Eq. 5. Of soft
        votes: Zhai et al. 2020, Theorem 2; Anderson & Sojoudi 2022, Theorem 1.
        """
        n_draws = gaussian.draws_of(votes)
        if stages is not None and not np.isin(n_draws, stages).all():
            raise ValueError(f"counts must sum to {' or '.join(map(str, stages))}, the stages")
        failure_probability = (1 - confidence_level) / (1 if stages is None else len(stages))
        p_lower, p_upper = gaussian.vote_bounds(votes, winner, failure_probability)
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
            counts=None if votes.ndim == 3 else votes,
            sums=votes if votes.ndim == 3 else None,
            p_lower=p_lower,
            p_upper=p_upper,
            n_draws=n_draws,
            stages=stages,
        )

    @classmethod
    def from_decisions(
        cls,
        passed: NDArray[np.bool_],
        votes: NDArray[Any],
        *,
        radius: NDArray[np.float64],
        winner: NDArray[np.intp],
        classes: NDArray[Any],
        sigma: float,
        confidence_level: float,
        n_features: int,
    ) -> Certificate:
        """The ``radius`` where it was shown.

        Parameters
        ----------
        passed : ndarray of shape (n,), bool
            By a rule that passes rows without the radius with no more than the failure probability.
        votes : ndarray
            As in :meth:`from_votes`; rows may differ in their number of draws.
        radius : ndarray of shape () or (n,)
        winner, classes, sigma, confidence_level, n_features
            As in :meth:`from_votes`.

        Returns
        -------
        Certificate
            In the Euclidean norm.
        """
        return cls(
            label=classes[winner],
            radius=np.where(passed, radius, 0.0),
            abstained=~passed,
            norm=2,
            confidence_level=confidence_level,
            units="input",
            n_features=n_features,
            classes=classes,
            procedure="anytime",
            sigma=sigma,
            counts=None if votes.ndim == 3 else votes,
            sums=votes if votes.ndim == 3 else None,
            n_draws=gaussian.draws_of(votes),
            tested_radius=radius if radius.ndim else float(radius),
        )

    def capped(self, max_radius: float | NDArray[np.float64]) -> Certificate:
        """The certificate with every radius at most so large, and not to be read beyond."""
        return replace(
            self,
            radius=np.minimum(self.radius, max_radius),
            procedure=self.procedure if self.procedure == "exact" else "capped",
            max_radius=max_radius if np.ndim(max_radius) else float(max_radius),
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
            negative, if the decision was made at another radius, or radii were capped below it.
        """
        if not isinstance(radius, Real):
            raise TypeError(f"radius must be one real number, got {radius!r}")
        if not radius >= 0:
            raise ValueError(f"radius must be >= 0, got {radius}")
        if self.tested_radius is not None and np.any(radius != self.tested_radius):
            raise ValueError(
                f"this certificate was decided at radius {_range(self.tested_radius)} and says "
                f"nothing about {radius}; read it at its tested_radius, or certify without a "
                "target radius"
            )
        if self.max_radius is not None and np.any(radius > self.max_radius):
            raise ValueError(
                f"radii were capped at {_range(self.max_radius)}, and say nothing about {radius}; "
                "read it up to its max_radius, or certify with a larger one"
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
            As for ``accuracy``; also if the decision was made at one radius, or radii were capped.
        """
        self.refuse_tested("average")
        if self.max_radius is not None:
            raise ValueError(
                f"radii were capped at {_range(self.max_radius)}, and have no average; certify "
                "without max_radius"
            )
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
            Increasing from 0, finite; the last one is a little beyond the largest certified, or
            where radii were capped.
        counts : ndarray of shape (k,), int64
            Rows with the right label and at least this radius.

        Raises
        ------
        ValueError
            As for ``accuracy``; also if the decision was made at one radius.
        """
        self.refuse_tested("curve")
        radius = np.sort(self.radius[self.certified(y)])
        finite = radius[np.isfinite(radius)]
        beyond = 1.05 * finite.max(initial=0.0)
        cap = np.inf if self.max_radius is None else float(np.min(self.max_radius, initial=np.inf))
        if np.isfinite(cap):
            finite, beyond = finite[finite <= cap], min(beyond, cap)
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

    def refuse_tested(self, what: str) -> None:
        """Raise a ValueError where the decision was made at one radius: there is no such thing."""
        if self.tested_radius is not None:
            raise ValueError(
                f"this certificate was decided at radius {_range(self.tested_radius)} alone and "
                f"has no {what}; certify without a target radius"
            )

    @property
    def largest_radius(self) -> float:
        """The largest radius that this number of draws can certify; inf where nothing limits it.

        Of a certificate that was decided at one radius, that radius.
        """
        if self.tested_radius is not None:
            return float(np.max(self.tested_radius, initial=0.0))
        if self.n_draws is None or self.sigma is None or not len(self):
            return np.inf
        stages = self.stages or (int(self.n_draws.max()),)
        limit = gaussian.max_radius(
            max(stages),
            1 - (1 - self.confidence_level) / len(stages),
            self.sigma,
            n_classes=len(self.classes),
            soft=self.sums is not None,
        )
        cap = np.inf if self.max_radius is None else float(np.min(self.max_radius))
        return min(float(limit) * self.scale, cap)

    def accuracy_interval(
        self, y: ArrayLike, radius: float = 0.0, *, confidence_level: float = 0.95
    ) -> tuple[float, float]:
        r"""Bounds on certified accuracy in the population that the rows were drawn from.

        :math:`(\underline q - \alpha, \overline q)`, with the Clopper-Pearson bounds of the share q
        of rows that :meth:`accuracy` counts, and α = 1 - ``confidence_level`` of the certificate: a
        row is certified wrongly with at most that probability, so that at least a share of
        q - α is classified rightly, and robustly, by g.

        Parameters
        ----------
        y : array_like of shape (n,)
            True labels.
        radius : float
            In the certificate's units and norm.
        confidence_level : float
            In (0, 1), that both bounds hold.

        Returns
        -------
        low, high : float
            For rows that are drawn independently, and that had no part in a choice of the
            classifier. Rows so near to each other that they share their noise are not independent.

        Raises
        ------
        ValueError
            As for :meth:`accuracy`; also without any row, or if confidence_level is outside (0, 1).

        Examples
        --------
        >>> import numpy as np
        >>> from smoothlearn import Certificate
        >>> certificate = Certificate.from_votes(
        ...     np.array([[990, 10], [510, 490]] * 100), winner=np.zeros(200, int),
        ...     classes=np.array([0, 1]), sigma=0.5, confidence_level=0.999, n_features=784,
        ... )
        >>> low, high = certificate.accuracy_interval(np.zeros(200), radius=0.5)
        >>> round(low, 3), round(high, 3)
        (0.428, 0.571)
        """
        if not len(self):
            raise ValueError("there are no rows to tell certified accuracy from")
        k, n = round(self.accuracy(y, radius) * len(self)), len(self)
        tail = float(as_probability("confidence_level", confidence_level, ends=False))
        tail = (1 - tail) / 2
        low = float(lower_bound(k, n, tail)) - (1 - self.confidence_level)
        return max(low, 0.0), float(upper_bound(k, n, tail))

    def at_confidence(self, level: float, *, all_rows: bool = False) -> Certificate:
        """The certificate that the same votes give at another confidence level.

        The level must not be chosen by looking at the votes.

        Parameters
        ----------
        level : float
            In (0, 1), for every row.
        all_rows : bool
            The level is that all rows are right at once: each of n gets 1 - (1 - level)/n, whatever
            they have in common (Bonferroni). ``confidence_level`` of the result is that of a row.

        Raises
        ------
        ValueError
            If the decision did not come from a fixed number of draws.
        """
        level = float(as_probability("level", level, ends=False))
        votes = self.counts if self.sums is None else self.sums
        if self.procedure != "fixed" or votes is None or self.sigma is None:
            raise ValueError(
                "only votes of a fixed number of draws can be read at another level; the procedure "
                f"here was {self.procedure!r}" + ("" if votes is not None else ", without votes")
            )
        again = Certificate.from_votes(
            votes,
            winner=(self.label[:, np.newaxis] == self.classes).argmax(axis=1),
            classes=self.classes,
            sigma=self.sigma,
            confidence_level=1 - (1 - level) / max(len(self), 1) if all_rows else level,
            n_features=self.n_features,
        )
        again = again.scaled(self.scale, norm=self.norm, units=self.units)
        return again if self.displacement is None else again.displaced(self.displacement)

    def scaled(self, factor: float, **changes: Any) -> Certificate:
        """The certificate with every radius multiplied by a factor and rounded down."""
        tested, moved, cap = self.tested_radius, self.displacement, self.max_radius
        return replace(
            self,
            radius=_rounded_down(self.radius * np.where(self.radius > 0, factor, 0.0)),
            scale=self.scale * factor,
            tested_radius=None if tested is None else _rounded_down(tested * factor)[()],
            max_radius=None if cap is None else _rounded_down(cap * factor)[()],
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
        moves = bool(np.any(distance > 0))
        radius = _rounded_down(np.where(lost, 0.0, self.radius) - np.where(lost, 0.0, distance))
        return replace(
            self,
            radius=np.where(distance > 0, np.maximum(radius, 0.0), self.radius),
            abstained=self.abstained | lost,
            tested_radius=_lowered(self.tested_radius, distance) if moves else self.tested_radius,
            max_radius=_lowered(self.max_radius, distance) if moves else self.max_radius,
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
            For any other norm, or where the number of features is not known.
        """
        if norm not in (1, 2, np.inf):
            raise ValueError(f"norm must be 1, 2 or inf, got {norm}")
        if not self.n_features:
            raise ValueError(
                "a radius in another norm depends on the number of features, which this "
                "certificate does not know; set it with dataclasses.replace(certificate, "
                "n_features=...)"
            )
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


def _lowered(
    radius: float | NDArray[np.float64] | None, distance: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """The radius less the distance of every row, as ``displaced`` rounds it."""
    if radius is None:
        return None
    with np.errstate(invalid="ignore"):
        return np.fmax(np.where(distance > 0, _rounded_down(radius - distance), radius), 0.0)


def _range(radius: float | NDArray[np.float64]) -> str:
    low, high = float(np.min(radius)), float(np.max(radius))
    return f"{low}" if low == high else f"{low:.3g} to {high:.3g}"
