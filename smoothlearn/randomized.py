"""Randomized smoothing of classifiers, with or without a denoiser."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
from joblib import effective_n_jobs
from numpy.typing import NDArray
from scipy.special import ndtr
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_scalar

from smoothlearn.augmentation import noisy_copies
from smoothlearn.bases import (
    Ballot,
    base_labels,
    fit_base,
    linear_view,
    make_ballot,
    trusted_kind,
)
from smoothlearn.certificates import Certificate
from smoothlearn.denoisers import DEFAULT_SIGMA, DEENDenoiser, fit_denoiser
from smoothlearn.nn.randomness import spawn_seeds, torch_device
from smoothlearn.nn.voting import count_votes, row_seeds
from smoothlearn.smoother import Smoother
from smoothlearn.theory.arguments import as_finite, as_probability, warn_raw_pixels
from smoothlearn.theory.binomial import top_two_p_value
from smoothlearn.theory.gaussian import draws_needed, max_radius, more_draws_pay
from smoothlearn.views.affine import FloatArray
from smoothlearn.views.linear import Linear

Counts = NDArray[np.int64]


class RandomizedSmoothingClassifier(Smoother):
    r"""The classifier :math:`g(x) = \arg\max_c P(h(x + \varepsilon) = c)`, certified.

    Here h is any classifier and :math:`\varepsilon \sim N(0, \sigma^2 I)`. Where class A is voted
    with probability at least :math:`p_A` and every other one with at most :math:`p_B`, no
    perturbation shorter than :math:`\frac{\sigma}{2}(\Phi^{-1}(p_A) - \Phi^{-1}(p_B))` changes g
    [1]_. ``certify`` bounds both from independent draws.

    A linear model of scikit-learn with two classes needs no draws: g is h, and the radius is the
    margin.

    Parameters
    ----------
    estimator : classifier
        The base h: any scikit-learn classifier or pipeline, or a skorch net. Linear models and
        nets, also behind scalers, run on the device. Its ``predict`` must be a function of the row.
        In a ``FrozenEstimator`` it is not refitted.
    sigma : float
        Standard deviation of the noise, in the units of X.
    n_augment : int
        Fit the base on so many noisy copies of every row, in place of the clean rows: on what it
        will vote about. 0 fits it on the clean rows. A base that holds out rows in its fit holds
        out all copies of a row or none.
    n_draws : int
        Votes behind a prediction, and behind the label of a certificate.
    n_certify_draws : int or (int, int)
        Further votes behind the radius of a certificate. A pair (n, N) certifies in two stages:
        every row gets n votes, and those rows get N in all whose radius N votes can raise much,
        which are nearly unanimous. Each stage has half the failure probability.
    confidence_level : float
        In (0, 1): every certificate is right with at least this probability, see
        :class:`~smoothlearn.Certificate`.
    device : str
        "auto" (CUDA where there is one), "cpu", "cuda", ...
    n_jobs : int or None
        Threads over rows. Results do not depend on it.
    random_state : int, RandomState or None
        Seeds the noise, and every ``random_state`` inside that is None. None draws a secret seed
        from the operating system at every fit.
    verbose : int
        Positive: a progress bar over rows.

    Attributes
    ----------
    estimator_ : classifier
        The fitted base.
    denoiser_ : denoiser or None
        None: the base sees the noisy rows.
    classes_ : ndarray of shape (n_classes,)
    sigma_ : float
        The noise level fitted for.
    noise_seed_ : int
        Key of the noise, 128 bits.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (d,)
        If X was a data frame.

    References
    ----------
    .. [1] Cohen, Rosenfeld & Kolter 2019, "Certified adversarial robustness via randomized
       smoothing", ICML, Theorem 1.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from smoothlearn import RandomizedSmoothingClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> smoother = RandomizedSmoothingClassifier(
    ...     KNeighborsClassifier(), sigma=0.5, n_certify_draws=1000, random_state=0
    ... )
    >>> certificate = smoother.fit(X, y).certify(X[::50])
    >>> certificate.label
    array([0, 1, 2])
    >>> certificate.radius.round(1)
    array([1.1, 0.4, 1. ])
    """

    def __init__(
        self,
        estimator: Any,
        *,
        sigma: float = DEFAULT_SIGMA,
        n_augment: int = 0,
        n_draws: int = 100,
        n_certify_draws: int | tuple[int, int] = 10_000,
        confidence_level: float = 0.999,
        device: str = "auto",
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.estimator = estimator
        self.sigma = sigma
        self.n_augment = n_augment
        self.n_draws = n_draws
        self.n_certify_draws = n_certify_draws
        self.confidence_level = confidence_level
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, **fit_params: Any) -> Self:
        """Fit the denoiser on clean rows where there is one, and the base as ``n_augment`` says.

        Parameters
        ----------
        X : array_like or data frame of shape (n, d)
        y : array_like of shape (n,)
            Labels of any type; at least two classes.
        **fit_params
            Routed to the base's ``fit`` with scikit-learn's metadata routing.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If X is not finite, y has one class, a parameter is out of range, a denoiser has
            another sigma, or a frozen base does not know a label.
        """
        self.__dict__.pop("sigma_", None)
        sigma = as_finite("sigma", self.sigma)
        self._check_draws()
        check_scalar(self.n_augment, "n_augment", Integral, min_val=0)
        torch_device(self.device)
        if self.n_augment and isinstance(self.estimator, FrozenEstimator):
            raise ValueError(
                f"n_augment={self.n_augment} asks to fit the estimator on noisy copies, and a "
                "frozen one is not fitted; use n_augment=0"
            )
        X, y, routed = self._check_training(X, y, fit_params)
        seeds = spawn_seeds(
            self.random_state, ("noise", "estimator", "denoiser", "probes", "copies")
        )
        self.denoiser_ = self._fit_denoiser(X, sigma, seeds["denoiser"])
        if self.denoiser_ is None:  # else fitting it has warned
            warn_raw_pixels(X, sigma, stacklevel=2)
        fitted_on = X
        if self.n_augment:
            fitted_on = noisy_copies(
                X, self.n_augment, denoiser=self.denoiser_, sigma=sigma, seed=seeds["copies"]
            )
        self.estimator_, self.classes_ = fit_base(
            self.estimator,
            fitted_on,
            y,
            as_given=self._as_given,
            columns=self._columns(),
            device=torch_device(self.device),
            seed=seeds["estimator"],
            fit_params=routed,
            n_copies=max(1, self.n_augment),
        )
        self._kind = trusted_kind(
            self.estimator_,
            self.classes_,
            X,
            as_given=self._as_given,
            sigma=sigma,
            seed=seeds["probes"],
        )
        self.noise_seed_ = seeds["noise"]
        self.sigma_ = sigma
        return self

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
        exact = self._exact_view()
        if exact is not None:
            return self._exact_certificate(X, exact).label
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
        exact = self._exact_view()
        if exact is not None:
            certificate = self._exact_certificate(X, exact)
            won = certificate.label[:, np.newaxis] == self.classes_
            p_winner = ndtr(certificate.radius / self.sigma_)[:, np.newaxis]
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
        if self._exact_view() is not None:
            return np.zeros(len(X), dtype=bool)
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
        exact = self._exact_view()
        if exact is not None:
            return self._exact_certificate(X, exact)
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

    def _fit_denoiser(self, X: FloatArray, sigma: float, seed: int) -> Any:
        """The fitted denoiser between the noise and the base; None means none."""
        return None

    def _exact_view(self) -> Linear | None:
        """The base where g = h is known in closed form: linear, two classes, no denoiser."""
        if self.denoiser_ is not None or self._kind != "linear":
            return None
        view = linear_view(self.estimator_, self.n_features_in_)
        return view if view is not None and view.two_class else None

    def _exact_certificate(self, X: FloatArray, view: Linear) -> Certificate:
        """The margin, where it has the label of the base; where rounding hides it, abstain."""
        said = base_labels(self.estimator_, self.classes_, X, self._as_given)
        margin = view.margin(X)
        agrees = (margin > 0) == (said == 1)
        radius = np.where(agrees & ~np.isnan(margin), np.abs(margin), 0.0)
        p_lower = ndtr(radius / self.sigma_)
        return Certificate(
            label=self.classes_[said],
            radius=radius,
            abstained=radius == 0,
            norm=2,
            confidence_level=1.0,
            units="input",
            n_features=self.n_features_in_,
            classes=self.classes_,
            procedure="exact",
            sigma=self.sigma_,
            p_lower=p_lower,
            p_upper=1 - p_lower,
        )

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

    def _ballot(self, X: FloatArray) -> Ballot:
        return make_ballot(
            X,
            base=self.estimator_,
            kind=self._kind,
            classes=self.classes_,
            denoiser=self.denoiser_,
            sigma=self.sigma_,
            device=torch_device(self.device),
            as_given=self._as_given,
            n_threads=effective_n_jobs(self.n_jobs),
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


class EmpiricalBayesSmoothedClassifier(RandomizedSmoothingClassifier):
    r"""The classifier :math:`g(x) = \arg\max_c P(h(\hat x(x + \varepsilon)) = c)`, certified.

    Randomized smoothing of :math:`\pi = h \circ \hat x` [1]_: the base h sees denoised rows
    :math:`\hat x(y) = y - \sigma^2 \nabla\phi(y)`, close to the clean ones it was fitted on. The
    certificates are those of :class:`~smoothlearn.RandomizedSmoothingClassifier`, as
    :math:`\pi` is a classifier like any other.

    Parameters
    ----------
    estimator : classifier
        The base h, fitted on clean rows: any scikit-learn classifier or pipeline, or a skorch net.
        In a ``FrozenEstimator`` it is not refitted.
    denoiser : denoiser, "passthrough" or None
        Gives x̂. None means ``DEENDenoiser()``, "passthrough" leaves the noise in. It is cloned,
        handed ``sigma`` and fitted on the rows of X; its own ``sigma`` must be None or the same. In
        a ``FrozenEstimator`` it is not refitted, and its fitted sigma must be the same.
    n_augment : int
        Fit the base on so many noisy and denoised copies of every row, in place of the clean rows.
        A ``ParzenDenoiser`` denoises the copies of a row without that row, as it would pull them
        back to it; a learned energy hardly does.
    sigma, n_draws, n_certify_draws, confidence_level, device, n_jobs, random_state, verbose
        As in :class:`~smoothlearn.RandomizedSmoothingClassifier`. A denoiser is trained on the
        device that it names itself.

    Attributes
    ----------
    estimator_, denoiser_, classes_, sigma_, noise_seed_, n_features_in_, feature_names_in_
        As in :class:`~smoothlearn.RandomizedSmoothingClassifier`.

    References
    ----------
    .. [1] Saremi & Srivastava 2020, "Provable robust classification via learned smoothed
       densities", arXiv:2005.04504, Definition 1.1.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from smoothlearn import EmpiricalBayesSmoothedClassifier, ParzenDenoiser
    >>> X, y = load_iris(return_X_y=True)
    >>> clf = EmpiricalBayesSmoothedClassifier(
    ...     LogisticRegression(max_iter=1000), denoiser=ParzenDenoiser(), random_state=0
    ... )
    >>> certificate = clf.fit(X, y).certify(X[::50])
    >>> certificate.label
    array([0, 1, 2])
    """

    def __init__(
        self,
        estimator: Any,
        *,
        denoiser: Any = None,
        sigma: float = DEFAULT_SIGMA,
        n_augment: int = 0,
        n_draws: int = 100,
        n_certify_draws: int | tuple[int, int] = 10_000,
        confidence_level: float = 0.999,
        device: str = "auto",
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            estimator,
            sigma=sigma,
            n_augment=n_augment,
            n_draws=n_draws,
            n_certify_draws=n_certify_draws,
            confidence_level=confidence_level,
            device=device,
            n_jobs=n_jobs,
            random_state=random_state,
            verbose=verbose,
        )
        self.denoiser = denoiser

    def _fit_denoiser(self, X: FloatArray, sigma: float, seed: int) -> Any:
        if isinstance(self.denoiser, str) and self.denoiser == "passthrough":
            return None
        denoiser = DEENDenoiser() if self.denoiser is None else self.denoiser
        return fit_denoiser(denoiser, X, self._columns(), sigma, seed)
