"""Randomized smoothing of classifiers, with or without a denoiser."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Self

import numpy as np
import torch
from scipy.special import ndtr
from sklearn.frozen import FrozenEstimator
from sklearn.utils import check_scalar

from smoothlearn.augmentation import noisy_copies
from smoothlearn.bases import (
    Ballot,
    base_labels,
    base_logits,
    fit_base,
    linear_view,
    make_ballot,
    probe_rows,
    trusted_kind,
)
from smoothlearn.certificates import Certificate
from smoothlearn.denoisers.base import DEFAULT_SIGMA, Denoise
from smoothlearn.denoisers.fitting import fit_denoiser
from smoothlearn.nn.randomness import spawn_seeds, torch_device
from smoothlearn.nn.threads import n_threads_of
from smoothlearn.probabilities import check_probabilities, trusted_link
from smoothlearn.smoother import MetaSmoother
from smoothlearn.theory.arguments import as_finite, warn_raw_pixels
from smoothlearn.views.affine import FloatArray
from smoothlearn.views.linear import Linear
from smoothlearn.views.network import Tensors
from smoothlearn.voted import VotedSmoother


class RandomizedSmoothingClassifier(MetaSmoother, VotedSmoother):
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
    vote : {"hard", "soft"}
        "hard": every draw votes for the class that h predicts. "soft": every draw gives the
        probabilities of h, and :math:`p_A` is their mean [2]_. The base needs ``predict_proba``.
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
    .. [2] Zhai et al. 2020, "MACER: attack-free and scalable robust training via maximizing
       certified radius", ICLR, Theorem 2; Anderson & Sojoudi 2022, Theorem 1.

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
        vote: str = "hard",
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
        self.vote = vote
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
        routed = self._route(fit_params)
        X, y = self._check_training(X, y)
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
        self._link = trusted_link(
            self.estimator_,
            self._kind,
            self.classes_,
            X,
            as_given=self._as_given,
            sigma=sigma,
            seed=seeds["probes"],
        )
        if self._soft:
            self._check_probabilities(X, sigma)
        self.noise_seed_ = seeds["noise"]
        self.sigma_ = sigma
        return self

    def _fit_denoiser(self, X: FloatArray, sigma: float, seed: int) -> Any:
        """The fitted denoiser between the noise and the base; None means none."""
        return None

    def _exact_view(self) -> Linear | None:
        """The base where g = h is known in closed form: linear, two hard votes, no denoiser."""
        if self._soft or self.denoiser_ is not None or self._kind != "linear":
            return None
        view = linear_view(self.estimator_, self.n_features_in_)
        return view if view is not None and view.two_class else None

    def _exact_certificate(self, X: FloatArray) -> Certificate | None:
        """The margin, where it has the label of the base; where rounding hides it, abstain."""
        view = self._exact_view()
        if view is None:
            return None
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

    def _check_probabilities(self, X: FloatArray, sigma: float) -> None:
        probes = probe_rows(X, sigma, 0)
        check_probabilities(self.estimator_, self.classes_, probes, as_given=self._as_given)

    def _make_ballot(self, X: FloatArray) -> Ballot:
        if self._soft and self._link == "predict_proba" and len(X):
            self._check_probabilities(X, self.sigma_)  # ``vote`` may be soft since the fit
        return make_ballot(
            X,
            base=self.estimator_,
            kind=self._kind,
            classes=self.classes_,
            denoiser=self.denoiser_,
            sigma=self.sigma_,
            device=torch_device(self.device),
            as_given=self._as_given,
            n_threads=n_threads_of(self.n_jobs),
            link=self._link if self._soft else None,
        )

    def _parts_on(self, device: torch.device) -> tuple[Denoise | None, Tensors]:
        denoise = None if self.denoiser_ is None else self.denoiser_.denoise_on(device)
        return denoise, base_logits(self.estimator_, self._kind, self.n_features_in_, device)


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
    sigma, n_draws, n_certify_draws, confidence_level, vote, device, n_jobs, random_state, verbose
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
        vote: str = "hard",
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
            vote=vote,
            device=device,
            n_jobs=n_jobs,
            random_state=random_state,
            verbose=verbose,
        )
        self.denoiser = denoiser

    def _fit_denoiser(self, X: FloatArray, sigma: float, seed: int) -> Any:
        return fit_denoiser(self.denoiser, X, self._columns(), sigma, seed)
