"""Smoothed classifiers that vote: counts of Gaussian draws, labels and certificates of them."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr
from sklearn.utils import check_scalar

from smoothlearn.bases import Ballot
from smoothlearn.certificates import Certificate
from smoothlearn.denoisers.base import Denoise
from smoothlearn.nn.randomness import torch_device
from smoothlearn.nn.voting import count_votes, row_seeds
from smoothlearn.smoother import Smoother
from smoothlearn.theory.arguments import as_probability
from smoothlearn.theory.binomial import top_two_p_value
from smoothlearn.theory.gaussian import draws_needed, max_radius, more_draws_pay
from smoothlearn.views.affine import FloatArray
from smoothlearn.views.network import Tensors

Counts = NDArray[np.int64]


class VotedSmoother(Smoother):
    """A smoothed classifier whose fitted parts vote under Gaussian noise.

    ``fit`` sets ``classes_``, ``noise_seed_`` and, last of all, ``sigma_``.
    """

    sigma: float
    n_draws: int
    n_certify_draws: int | tuple[int, int]
    confidence_level: float
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
        return self.classes_[self._predict_counts(X).argmax(axis=1)]

    def predict_proba(self, X: Any) -> FloatArray:
        r"""Vote frequencies among ``n_draws``, estimates of :math:`P(h(x + \varepsilon) = c)`.

        Exact for a linear base with two classes.

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
        return self._predict_counts(X) / self.n_draws

    def abstains(self, X: Any) -> NDArray[np.bool_]:
        """Which predictions are not significant at these draws.

        True where the two most voted classes cannot be told apart at ``confidence_level``; where
        False, ``predict`` is the class of g with at least that probability.

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
        return np.asarray(top_two_p_value(self._predict_counts(X)) > 1 - self.confidence_level)

    def certify(self, X: Any) -> Certificate:
        """Labels, and Euclidean radii within which no perturbation changes them.

        The labels are those of ``predict``; the radii come from ``n_certify_draws`` further votes.

        Parameters
        ----------
        X : array_like or data frame of shape (n, d)
            No rows give an empty certificate.

        Returns
        -------
        Certificate
            Radii in the units of X.

        Warns
        -----
        UserWarning
            If so few draws can certify no radius at all.

        References
        ----------
        Cohen et al. 2019, procedure CERTIFY; Saremi & Srivastava 2020, Definition 1.1, Eq. 5.
        """
        X = self._check_rows(X)
        exact = self._exact_certificate(X)
        if exact is not None:
            return exact
        stages = self._stages()
        self._warn_few_draws(stages)
        ballot = self._ballot(X)
        winner = self._count(X, ballot, "predict", self.n_draws).argmax(axis=1)
        counts = self._count(X, ballot, "certify", stages[0])
        if len(stages) == 2:
            share = (1 - self.confidence_level) / 2
            rows = np.flatnonzero(more_draws_pay(counts, winner, stages[1], share))
            more = self._count(X[rows], ballot.of(rows), "certify more", stages[1] - stages[0])
            counts[rows] += more
        certificate = Certificate.from_counts(
            winner=winner,
            counts=counts,
            classes=self.classes_,
            sigma=self.sigma_,
            confidence_level=self.confidence_level,
            n_features=self.n_features_in_,
            stages=stages if len(stages) == 2 else None,
        )
        return certificate.displaced(ballot.displacement)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "sigma_")

    def _check_draws(self) -> None:
        check_scalar(self.n_draws, "n_draws", Integral, min_val=1)
        self._stages()
        check_scalar(self.confidence_level, "confidence_level", Real)
        as_probability("confidence_level", self.confidence_level, ends=False)

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

    @abstractmethod
    def _ballot(self, X: FloatArray) -> Ballot:
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
        n_classes = len(self.classes_)
        if max_radius(stages[-1], level, self.sigma_, n_classes=n_classes) == 0:
            needed = draws_needed(0.0, level, self.sigma_, n_classes=n_classes)
            warnings.warn(
                f"n_certify_draws={self.n_certify_draws} certifies no radius at "
                f"confidence_level={self.confidence_level}, even if all votes agree; at least "
                f"{needed} draws are needed",
                UserWarning,
                stacklevel=3,
            )

    def _count(self, X: FloatArray, ballot: Ballot, purpose: str, n_draws: int) -> Counts:
        return count_votes(
            ballot.vote,
            ballot.rows,
            row_seeds(X, sigma=self.sigma_, noise_seed=self.noise_seed_, purpose=purpose),
            noise=ballot.noise,
            n_draws=n_draws,
            n_classes=len(self.classes_),
            device=torch_device(self.device),
            n_jobs=self.n_jobs,
            verbose=self.verbose,
        )

    def _predict_counts(self, X: FloatArray) -> Counts:
        return self._count(X, self._ballot(X), "predict", self.n_draws)
