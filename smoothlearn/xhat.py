"""Classifiers trained for their smoothed use: XHAT, SmoothAdv and Gaussian augmentation."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_scalar

from smoothlearn.bases import Ballot, as_votes, projected_ballot, read_ballot
from smoothlearn.denoisers.base import DEFAULT_SIGMA, Denoise
from smoothlearn.denoisers.fitting import fit_denoiser
from smoothlearn.nn.adversarial import Attack, train_classifier
from smoothlearn.nn.classifiers import (
    SoftClassifier,
    load_classifier,
    make_classifier,
    refuse_moods,
)
from smoothlearn.nn.first_layer import project_network
from smoothlearn.nn.networks import ImageShape, as_image_shape, keep_module, save_weights
from smoothlearn.nn.randomness import private_torch_rng, spawn_seeds, torch_device
from smoothlearn.nn.training import check_training, n_held_out
from smoothlearn.theory.arguments import as_finite, as_probability, warn_raw_pixels
from smoothlearn.views.affine import FloatArray
from smoothlearn.views.copies import per_thread
from smoothlearn.views.network import Head, Tensors
from smoothlearn.views.probabilities import SoftReader, softmax
from smoothlearn.voted import VotedSmoother

#: Epochs without a better validation loss before ``early_stopping=True`` ends the training.
_PATIENCE = 10


class XHATClassifier(VotedSmoother):
    r"""The classifier :math:`g(x) = \arg\max_c P(\pi(x + \varepsilon) = c)`, trained and certified.

    Here :math:`\pi(y) = \arg\max_c H_c(\hat x(y))`: a network H, a soft classifier, of denoised
    rows. H is trained for its smoothed use [1]_, to minimise over training rows x of class k

    .. math:: \max_{\|\delta\|_2 \le \epsilon} -\log \frac1m \sum_{j=1}^m
        H_k\bigl(\hat x(x + \delta + \varepsilon_j)\bigr),
        \quad \varepsilon_j \sim N(0, \sigma^2 I)

    with the maximum approached by projected gradient steps that hold the noise and differentiate
    :math:`\hat x`. It is certified as :class:`~smoothlearn.EmpiricalBayesSmoothedClassifier` is.

    ========================== ===================== ===============
    ..                         ``epsilon=0``         ``epsilon > 0``
    ========================== ===================== ===============
    ``denoiser="passthrough"`` Gaussian augmentation SmoothAdv
    a denoiser                 XHAT₀                 XHAT_ε
    ========================== ===================== ===============

    Gaussian augmentation is the training of [2]_, SmoothAdv that of [3]_.

    Parameters
    ----------
    module : str, nn.Module class, function or instance
        The network H. "mlp" has two hidden layers, "conv" is a convolutional network of images;
        "auto" takes the second where there is an ``image_shape``. A class or function is called
        with the number of features (with an ``image_shape``, of channels) and of classes; it gives
        a module from rows (n, d), or images, to logits (n, n_classes). An instance is copied.
    denoiser : denoiser, "passthrough" or None
        Gives x̂, as in :class:`~smoothlearn.EmpiricalBayesSmoothedClassifier`. To use more rows than
        there are labels for, fit it before, in a ``FrozenEstimator``.
    sigma : float
        Standard deviation of the noise, in the units of X.
    epsilon : float
        Radius of the attacks in training, in the units of X; 0 trains without.
    n_noise : int
        Draws of the noise for every row and step: m.
    n_attack_steps : int
        Gradient steps of an attack.
    attack_step_size : float or None
        Length of a step; None means 2.5 epsilon / n_attack_steps.
    epsilon_warm_up : float
        Share of the training, in [0, 1], in which epsilon grows from 0 to its value.
    image_shape : (height, width) or (channels, height, width), or None
        Of the image that a row holds in this order.
    max_epochs : int or "auto"
        Passes over the training rows; "auto" makes about 4,000 steps, and at least ten passes.
    optimizer : class or function
        Called with parameters and ``lr``; a torch.optim class, or a ``functools.partial`` of one.
    lr : float
        Largest learning rate, after a warm-up and before a cosine descent to zero.
    batch_size : int
    validation_fraction : float
        Share of rows held out, in [0, 1), to keep the epoch with the least loss under attack; 0
        keeps the last.
    early_stopping : bool or int
        Stop after so many epochs without a better validation loss; True means 10.
    n_draws, n_certify_draws, confidence_level, vote, n_jobs
        As in :class:`~smoothlearn.RandomizedSmoothingClassifier`.
    device : str
        Where to train H and to count votes: "auto" (CUDA where there is one), "cpu", "cuda", ...
    random_state : int, RandomState or None
        Seeds the training, the noise, and every ``random_state`` inside that is None.
    verbose : int
        Positive: progress bars of training and certification.

    Attributes
    ----------
    denoiser_ : denoiser or None
        None: H sees the noisy rows.
    weights_ : dict of str to ndarray
        Parameters and constants of H.
    module_ : str, class, function or instance
        The ``module`` that was trained.
    image_shape_ : (channels, height, width) or None
    history_ : list of dict
        Of every epoch: ``train_loss`` and ``valid_loss`` under attack, the latter with the whole
        epsilon; ``valid_acc``, the share of noisy rows that :math:`\pi` had right without one;
        ``epsilon`` at the end of the epoch; seconds ``dur``.
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
    .. [1] Saremi & Srivastava 2020, "Provable robust classification via learned smoothed
       densities", arXiv:2005.04504, section 3, Eq. 12 to 15. In Eq. 15, H(x̂(·)) is meant by Π: the
       classifier is smoothed once.
    .. [2] Cohen, Rosenfeld & Kolter 2019, "Certified adversarial robustness via randomized
       smoothing", ICML.
    .. [3] Salman et al. 2019, "Provably robust deep learning via adversarially trained smoothed
       classifiers", NeurIPS.

    Examples
    --------
    >>> from sklearn.datasets import make_moons
    >>> from smoothlearn import ParzenDenoiser, XHATClassifier
    >>> X, y = make_moons(200, noise=0.1, random_state=0)
    >>> clf = XHATClassifier(
    ...     denoiser=ParzenDenoiser(), sigma=0.25, epsilon=0.25, max_epochs=20, random_state=0
    ... )
    >>> certificate = clf.fit(X, y).certify(X[:50])
    >>> certificate.accuracy(y[:50], radius=0.25) > 0.5
    True
    """

    def __init__(
        self,
        module: Any = "auto",
        *,
        denoiser: Any = None,
        sigma: float = DEFAULT_SIGMA,
        epsilon: float = 1.0,
        n_noise: int = 1,
        n_attack_steps: int = 4,
        attack_step_size: float | None = None,
        epsilon_warm_up: float = 0.3,
        image_shape: tuple[int, ...] | None = None,
        max_epochs: int | str = "auto",
        optimizer: Any = torch.optim.AdamW,
        lr: float = 2e-3,
        batch_size: int = 128,
        validation_fraction: float = 0.1,
        early_stopping: bool | int = False,
        n_draws: int = 100,
        n_certify_draws: int | tuple[int, int] = 10_000,
        confidence_level: float = 0.999,
        vote: str = "hard",
        device: str = "auto",
        n_jobs: int | None = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.module = module
        self.denoiser = denoiser
        self.sigma = sigma
        self.epsilon = epsilon
        self.n_noise = n_noise
        self.n_attack_steps = n_attack_steps
        self.attack_step_size = attack_step_size
        self.epsilon_warm_up = epsilon_warm_up
        self.image_shape = image_shape
        self.max_epochs = max_epochs
        self.optimizer = optimizer
        self.lr = lr
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.early_stopping = early_stopping
        self.n_draws = n_draws
        self.n_certify_draws = n_certify_draws
        self.confidence_level = confidence_level
        self.vote = vote
        self.device = device
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> Self:
        """Fit the denoiser where there is one to fit, then train the network behind it.

        A keyboard interrupt ends the training early, after its first epoch, and keeps what was
        learned.

        Parameters
        ----------
        X : array_like or data frame of shape (n, d)
        y : array_like of shape (n,)
            Labels of any type; at least two classes.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If X is not finite, y has one class, a parameter is out of range, or a denoiser has
            another sigma; if the module does not give logits (n, n_classes), or gives NaN.

        Warns
        -----
        UserWarning
            After an interrupt.
        """
        self.__dict__.pop("sigma_", None)
        sigma = as_finite("sigma", self.sigma)
        self._check_draws()
        attack = self._attack()
        self._check_settings()
        device = torch_device(self.device)
        X, y = self._check_training(X, y)
        if self.early_stopping and not n_held_out(len(X), self.validation_fraction):
            raise ValueError(
                f"early_stopping={self.early_stopping} needs rows to look at, and "
                f"validation_fraction={self.validation_fraction} holds out none of {len(X)}"
            )
        image_shape = as_image_shape(self.image_shape, X.shape[1])
        classes, indices = np.unique(y, return_inverse=True)
        seeds = spawn_seeds(self.random_state, ("noise", "denoiser", "module", "training"))
        with private_torch_rng(seeds["module"]), torch.inference_mode(False):
            network = make_classifier(self.module, X.shape[1], len(classes), image_shape)
            network.precondition(X, sigma)
            refuse_moods(network, X, sigma)
        self.denoiser_ = self._fit_denoiser(X, sigma, seeds["denoiser"])
        # Dropout of a user's module knows the global generator alone.
        with private_torch_rng(seeds["training"], device), torch.inference_mode(False):
            denoise = _leave
            if self.denoiser_ is not None:
                denoise = self.denoiser_.denoise_training_on(X, device)
            self.history_, interrupt = train_classifier(
                network,
                X,
                indices,
                denoise=denoise,
                sigma=sigma,
                attack=attack,
                warm_up=self.epsilon_warm_up,
                n_noise=self.n_noise,
                max_epochs=self.max_epochs,
                optimizer=self.optimizer,
                lr=self.lr,
                batch_size=self.batch_size,
                validation_fraction=self.validation_fraction,
                patience=self._patience(),
                device=device,
                seed=seeds["training"],
                verbose=self.verbose,
            )
            weights = self._checked_weights(network, X, sigma, image_shape)
        if interrupt is not None:
            warnings.warn(f"fit was interrupted {interrupt}", UserWarning, stacklevel=2)
        self.weights_ = weights
        self.module_ = keep_module(self.module)
        self.image_shape_ = image_shape
        self.classes_ = classes
        self.noise_seed_ = seeds["noise"]
        self.sigma_ = sigma
        return self

    def _fit_denoiser(self, X: FloatArray, sigma: float, seed: int) -> Any:
        denoiser = fit_denoiser(self.denoiser, X, self._columns(), sigma, seed)
        if denoiser is None:  # else fitting it has warned
            warn_raw_pixels(X, sigma, stacklevel=3)
        return denoiser

    def _attack(self) -> Attack:
        epsilon = as_finite("epsilon", self.epsilon, zero=True)
        least = 1 if epsilon > 0 else 0
        check_scalar(self.n_attack_steps, "n_attack_steps", Integral, min_val=least)
        if self.attack_step_size is None:
            return Attack(epsilon, int(self.n_attack_steps))
        step = as_finite("attack_step_size", self.attack_step_size)
        return Attack(epsilon, int(self.n_attack_steps), step)

    def _check_settings(self) -> None:
        check_training(self)
        check_scalar(self.n_noise, "n_noise", Integral, min_val=1)
        if not callable(self.optimizer):
            raise TypeError(
                f"optimizer must be a class of torch.optim or a function, got {self.optimizer!r}"
            )
        check_scalar(self.epsilon_warm_up, "epsilon_warm_up", Real)
        as_probability("epsilon_warm_up", self.epsilon_warm_up)
        check_scalar(self.early_stopping, "early_stopping", (bool, np.bool_, Integral), min_val=0)

    def _checked_weights(
        self,
        network: SoftClassifier,
        X: FloatArray,
        sigma: float,
        image_shape: ImageShape | None,
    ) -> dict[str, NDArray[Any]]:
        """The weights of the trained network, which votes as a function of the row alone."""
        weights = save_weights(network)
        if not all(np.isfinite(value).all() for value in weights.values()):
            raise ValueError(
                "the training of the module diverged, its weights are not finite; scale the "
                "features or lower lr"
            )
        sizes = X.shape[1], network.n_classes
        reloaded = load_classifier(self.module, *sizes, weights, image_shape)
        refuse_moods(network, X, sigma, reloaded)
        return weights

    def _patience(self) -> int | None:
        if isinstance(self.early_stopping, bool | np.bool_):
            return _PATIENCE if self.early_stopping else None
        return int(self.early_stopping) or None

    def _make_ballot(self, X: FloatArray) -> Ballot:
        device, hard = torch_device(self.device), Head(len(self.classes_))
        head = SoftReader(hard, softmax) if self._soft else hard
        if self.denoiser_ is None:
            network = self._network()
            projected = project_network(network.front(), network.network, device)
            if projected is not None:
                return projected_ballot(X, projected, head, self.sigma_)
        denoise, scores = self._parts_on(device)
        denoise = denoise or _leave

        def outputs(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            with torch.no_grad():
                return scores(denoise(batch, generator))

        return read_ballot(outputs, head, self.sigma_, *as_votes(X, self.sigma_, stacklevel=6))

    def _network(self) -> SoftClassifier:
        sizes = self.n_features_in_, len(self.classes_)
        return load_classifier(self.module_, *sizes, self.weights_, self.image_shape_)

    def _parts_on(self, device: torch.device) -> tuple[Denoise | None, Tensors]:
        my_network = per_thread(self._network().to(device))
        denoise = None if self.denoiser_ is None else self.denoiser_.denoise_on(device)
        return denoise, lambda batch: my_network()(batch)


def _leave(batch: torch.Tensor, _: torch.Tensor | torch.Generator) -> torch.Tensor:
    return batch
