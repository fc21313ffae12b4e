"""Smoothed classifiers that vote: counts of Gaussian draws, labels and certificates of them."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from bisect import bisect_left
from itertools import pairwise
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr
from sklearn.utils import check_scalar

from smoothlearn.bases import Ballot
from smoothlearn.certificates import Certificate
from smoothlearn.denoisers.base import Denoise
from smoothlearn.nn.randomness import torch_device
from smoothlearn.nn.threads import one_thread
from smoothlearn.nn.voting import Stop, count_votes, row_seeds
from smoothlearn.smoother import Smoother
from smoothlearn.theory import decisions, gaussian, means, stopping
from smoothlearn.theory.arguments import as_probability, as_question
from smoothlearn.theory.binomial import top_two_p_value
from smoothlearn.views.affine import FloatArray
from smoothlearn.views.network import Tensors

_ENDLESS = 2**53
#: Draws, at least, before rows whose radii are capped may stop.
_FIRST_STAGE = 500
#: Counts (n, n_classes) of hard votes, or sums (n, 2, n_classes) of soft ones and of their squares.
Votes = NDArray[Any]


class VotedSmoother(Smoother):
    """A smoothed classifier whose fitted parts vote under Gaussian noise.

    ``fit`` sets ``classes_``, ``noise_seed_`` and, last of all, ``sigma_``.
    """

    sigma: float
    n_draws: int
    n_certify_draws: int | tuple[int, int]
    confidence_level: float
    vote: str
    device: str
    n_jobs: int | None
    verbose: int

    classes_: NDArray[Any]
    sigma_: float
    noise_seed_: int
    n_features_in_: int

    def predict(self, X: Any) -> NDArray[Any]:
        """The class with the most votes among ``n_draws``.

        Parameters
        ----------
        X : array_like or data frame of shape (n, d)

        Returns
        -------
        ndarray of shape (n,)
        """
        X = self._check_rows(X)
        exact = self._exact_certificate(X)
        if exact is not None:
            return exact.label
        return self.classes_[_winner(self._selection(X, self._ballot(X)))]

    def predict_proba(self, X: Any) -> FloatArray:
        r"""Mean votes of ``n_draws``: estimates of what ``certify`` bounds.

        Of hard votes, the frequencies; they are exact for a linear base with two classes. Of soft
        ones, the mean probabilities.

        Parameters
        ----------
        X : array_like or data frame of shape (n, d)

        Returns
        -------
        ndarray of shape (n, n_classes)
        """
        X = self._check_rows(X)
        exact = self._exact_certificate(X)
        if exact is not None:
            won = exact.label[:, np.newaxis] == self.classes_
            p_winner = ndtr(exact.radius / self.sigma_)[:, np.newaxis]
            return np.where(won, p_winner, 1 - p_winner)
        votes = self._selection(X, self._ballot(X))
        return (votes if votes.ndim == 2 else votes[:, 0]) / self.n_draws

    def abstains(self, X: Any) -> NDArray[np.bool_]:
        """Which predictions are not significant at these draws.

        True where the two most voted classes cannot be told apart at ``confidence_level``; where
        False, ``predict`` is the class of g with at least that probability. Of soft votes, bounds
        of the mean probabilities tell them apart.

        Parameters
        ----------
        X : array_like or data frame of shape (n, d)

        Returns
        -------
        ndarray of shape (n,), bool

        References
        ----------
        Cohen et al. 2019, procedure PREDICT; Hung & Fithian 2019.
        """
        X = self._check_rows(X)
        exact = self._exact_certificate(X)
        if exact is not None:
            return exact.abstained.copy()
        votes, alpha = self._selection(X, self._ballot(X)), 1 - self.confidence_level
        if votes.ndim == 3:
            return ~_top_is_clear(votes, self.n_draws, alpha)
        return np.asarray(top_two_p_value(votes) > alpha)

    def certify(
        self, X: Any, *, radius: ArrayLike | None = None, max_radius: ArrayLike | None = None
    ) -> Certificate:
        r"""Labels, and Euclidean radii within which no perturbation changes them.

        The labels are those of ``predict``; the radii come from ``n_certify_draws`` further votes.
        Who needs to know less can ask for less, and gets it from fewer.

        Parameters
        ----------
        X : array_like or data frame of shape (n, d)
            No rows give an empty certificate.
        radius : float or array_like of shape (n,), optional
            Decide for each row whether its radius is at least so large, and nothing else: draws
            stop as soon as they show it or make it unlikely, by a rule that may look after every
            chunk (:mod:`smoothlearn.theory.decisions`). Rows certified have this radius, all others
            abstain.
        max_radius : float or array_like of shape (n,), optional
            Do not ask for larger radii: rows are done when they have this one. The draws at which
            they may stop, each twice as many as the one before, share the failure probability
            equally.

        Returns
        -------
        Certificate
            Radii in the units of X. Where g is known in closed form it is the whole certificate,
            whatever was asked for.

        Raises
        ------
        ValueError
            If both are given, or one is negative or NaN.

        Warns
        -----
        UserWarning
            If so few draws can certify no radius at all, or not the one asked for.

        References
        ----------
        Cohen et al. 2019, procedure CERTIFY; Saremi & Srivastava 2020, Definition 1.1, Eq. 5. Of
        decisions: Ville 1939; Waudby-Smith & Ramdas 2024.
        """
        X = self._check_rows(X)
        asked, cap = as_question(radius, max_radius, len(X))
        exact = self._exact_certificate(X)
        if exact is not None:
            return exact
        ballot = self._ballot(X)
        if asked is not None:
            return self._decide(X, ballot, asked)
        stages = self._stages()
        if cap is not None:
            stages = stopping.doubling_looks(stages[-1], _FIRST_STAGE)
        if len(X):
            self._warn_few_draws(stages)
        winner = _winner(self._selection(X, ballot))
        votes = self._staged_votes(X, ballot, winner, stages, cap)
        certificate = Certificate.from_votes(
            votes, winner=winner, stages=stages if len(stages) > 1 else None, **self._facts()
        )
        certificate = certificate.displaced(ballot.displacement)
        return certificate if cap is None else certificate.capped(cap)

    def _staged_votes(
        self,
        X: FloatArray,
        ballot: Ballot,
        winner: NDArray[np.intp],
        stages: tuple[int, ...],
        cap: FloatArray | None,
    ) -> Votes:
        """Votes of the first stage, and of further ones for the rows that they can do much for."""
        share = (1 - self.confidence_level) / len(stages)
        rows, votes = np.arange(len(X)), self._count(X, ballot, "certify", stages[0])
        for stage, (drawn, total) in enumerate(pairwise(stages), start=1):
            if cap is None:
                go_on = gaussian.more_draws_pay(votes[rows], winner[rows], stages[-1], share)
            else:
                bounds = gaussian.vote_bounds(votes[rows], winner[rows], share)
                wanted = (cap + ballot.displacement)[rows]
                go_on = gaussian.radius(*bounds, self.sigma_) < wanted
                go_on &= ~gaussian.hopeless(votes[rows], winner[rows], share)
            rows = rows[go_on]
            purpose = "certify more" if stage == 1 else f"certify {stage}"
            votes[rows] += self._count(X[rows], ballot.of(rows), purpose, total - drawn)
        return votes

    def _decide(self, X: FloatArray, ballot: Ballot, asked: FloatArray) -> Certificate:
        """Which rows are shown to have the radius asked for."""
        n_draws, failure_probability = self._stages()[-1], 1 - self.confidence_level
        looking = decisions.LOOKING_SHARE * failure_probability
        in_all = failure_probability - looking
        reachable = not len(X) or self._reaches(asked, n_draws, 1 - in_all)
        selection = self._selection(X, ballot)
        winner = _winner(selection)
        tested = asked + ballot.displacement
        make = decisions.soft_decision if self._soft else decisions.decision
        rules = [
            make(row, radius / self.sigma_, tilt, looking, n_draws)
            for row, radius, tilt in zip(
                winner,
                tested.tolist(),
                decisions.tilt(selection if selection.ndim == 2 else selection[:, 0], winner),
                strict=True,
            )
        ]
        passed = np.zeros(len(X), dtype=bool)

        def stop(i: int, votes: Votes) -> bool:
            said = rules[i](votes)
            passed[i] = said > 0
            return said != 0

        votes = self._count(X, ballot, "decide", n_draws if reachable else 0, stop)
        last = np.flatnonzero(~passed & (gaussian.draws_of(votes) == n_draws))
        low, high = gaussian.vote_bounds(votes[last], winner[last], in_all)
        reached = gaussian.radius(low, high, self.sigma_) >= tested[last]
        passed[last] = (low > high) & reached
        return Certificate.from_decisions(
            passed, votes, radius=asked, winner=winner, **self._facts()
        )

    def _facts(self) -> dict[str, Any]:
        """What the certificates of all rows say."""
        return {
            "classes": self.classes_,
            "sigma": self.sigma_,
            "confidence_level": self.confidence_level,
            "n_features": self.n_features_in_,
        }

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "sigma_")

    def _check_draws(self) -> None:
        check_scalar(self.n_draws, "n_draws", Integral, min_val=1)
        self._stages()
        check_scalar(self.confidence_level, "confidence_level", Real)
        as_probability("confidence_level", self.confidence_level, ends=False)
        if self.vote not in ("hard", "soft"):
            raise ValueError(f"vote must be 'hard' or 'soft', got {self.vote!r}")

    def _stages(self) -> tuple[int, ...]:
        """Draws in all after every stage of certification."""
        given = self.n_certify_draws
        if not isinstance(given, tuple | list):
            check_scalar(given, "n_certify_draws", Integral, min_val=1)
            return (int(given),)
        if len(given) != 2:
            raise ValueError(f"n_certify_draws must be an int or a pair of them, got {given!r}")
        for stage in given:
            check_scalar(stage, "n_certify_draws", Integral, min_val=1)
        if given[0] >= given[1]:
            raise ValueError(
                f"n_certify_draws={given!r}: the second number counts the draws of both stages, "
                "and must be larger than the first"
            )
        return tuple(map(int, given))

    def _check_rows(self, X: Any) -> FloatArray:
        rows = super()._check_rows(X)
        self._check_draws()
        return rows

    def _ballot(self, X: FloatArray) -> Ballot:
        """How the fitted parts vote on these rows.

        By one thread: those of BLAS go on waiting for work for a while, on the cores of the votes.
        """
        with one_thread():
            return self._make_ballot(X)

    @abstractmethod
    def _make_ballot(self, X: FloatArray) -> Ballot:
        """How the fitted parts vote on these rows."""

    @abstractmethod
    def _parts_on(self, device: torch.device) -> tuple[Denoise | None, Tensors]:
        """The denoiser of float32 rows, None for none, and the scores of what it gives.

        Both are differentiable; the class with the largest score has the vote. A TypeError where
        the scores have no gradient.
        """

    def _exact_certificate(self, X: FloatArray) -> Certificate | None:
        """The certificate where g is known in closed form."""
        return None

    def _warn_few_draws(self, stages: tuple[int, ...]) -> None:
        level = 1 - (1 - self.confidence_level) / len(stages)
        if not self._enough(stages[-1], 0.0, level):
            needed = self._draws_needed(0.0, level)
            warnings.warn(
                f"n_certify_draws={self.n_certify_draws} certifies no radius at "
                f"confidence_level={self.confidence_level}, even if all votes agree; at least "
                f"{needed} draws are needed",
                UserWarning,
                stacklevel=3,
            )

    def _reaches(self, asked: FloatArray, n_draws: int, level: float) -> bool:
        """Whether so many draws can show any of the radii; it warns where they cannot."""
        least = float(asked.min())
        if self._enough(n_draws, least, level):
            return True
        needed = self._draws_needed(least, level)
        wanted = "no number of draws is enough"
        if needed < _ENDLESS:
            wanted = f"at least {needed:,} draws are needed"
        warnings.warn(
            f"no row can be certified at radius {least:.4g} (in the units of the smoother's input) "
            f"with sigma={self.sigma_:.4g} and n_certify_draws={self.n_certify_draws}, even if all "
            f"votes agree; {wanted}",
            UserWarning,
            stacklevel=4,
        )
        return False

    def _enough(self, n_draws: int, radius: float, level: float) -> bool:
        """Whether so many draws may certify the radius at this level, if all agree."""
        limit = gaussian.max_radius(
            n_draws, level, self.sigma_, n_classes=len(self.classes_), soft=self._soft
        )
        return bool(limit > 0 and limit >= radius)

    def _draws_needed(self, radius: float, level: float) -> int:
        """The least number of draws that may."""
        return bisect_left(
            range(_ENDLESS), True, lo=1, key=lambda n: self._enough(n, radius, level)
        )

    def _count(
        self, X: FloatArray, ballot: Ballot, purpose: str, n_draws: int, stop: Stop | None = None
    ) -> Votes:
        return count_votes(
            ballot.vote,
            ballot.rows,
            row_seeds(X, sigma=self.sigma_, noise_seed=self.noise_seed_, purpose=purpose),
            noise=ballot.noise,
            n_draws=n_draws,
            n_classes=len(self.classes_),
            device=torch_device(self.device),
            soft=self._soft,
            stop=stop,
            n_jobs=self.n_jobs,
            verbose=self.verbose,
        )

    def _selection(self, X: FloatArray, ballot: Ballot) -> Votes:
        """The votes that choose the label."""
        return self._count(X, ballot, "predict", self.n_draws)

    @property
    def _soft(self) -> bool:
        return self.vote == "soft"


def _winner(votes: Votes) -> NDArray[np.intp]:
    return np.asarray((votes if votes.ndim == 2 else votes[:, 0]).argmax(axis=1))


def _top_is_clear(sums: Votes, n_draws: int, failure_probability: float) -> NDArray[np.bool_]:
    """Whether the class with the largest sum has the largest mean, at this error probability.

    Let T have the largest mean. Another class A has a mean of at most 1/2 and at most that of T. It
    is called clear only where its lower bound exceeds 1/2, or the upper bounds of all others and so
    that of T. The upper bound of T fails with half of the error probability, the lower bounds of
    the classes that A may be together with the other half. Of two classes 1/2 alone is asked.
    """
    n_classes, rows = sums.shape[2], np.arange(len(sums))
    top = _winner(sums)
    alone = n_classes == 2
    share = failure_probability / (1 if alone else 2 * (n_classes - 1))
    low = means.lower_bound(sums[rows, 0, top], sums[rows, 1, top], n_draws, share)
    if alone:
        return np.asarray(low > 0.5)
    others = sums.copy()
    others[rows, :, top] = 0.0
    high = means.upper_bound(others[:, 0], others[:, 1], n_draws, failure_probability / 2)
    return np.asarray(low > np.minimum(high.max(axis=1), 0.5))
