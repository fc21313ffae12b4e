"""Denoisers: transformers that estimate clean rows from noisy ones."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextlib import nullcontext
from math import prod
from numbers import Integral
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted, validate_data

from smoothlearn.nn.adversarial import TrainingDenoiser
from smoothlearn.nn.energies import (
    Energy,
    ImageShape,
    initialise,
    load_energy,
    make_energy,
    refuse_company,
)
from smoothlearn.nn.networks import keep_module, save_weights
from smoothlearn.nn.projection import project, starts_linear
from smoothlearn.nn.randomness import (
    generator_on,
    private_torch_rng,
    seed_nested,
    spawn_seeds,
    torch_device,
)
from smoothlearn.nn.training import check_training, train_denoiser
from smoothlearn.theory.arguments import as_finite, warn_raw_pixels
from smoothlearn.theory.bayes import parzen_denoiser, parzen_energy
from smoothlearn.views.affine import Affine
from smoothlearn.views.copies import per_thread
from smoothlearn.views.linear import Linear
from smoothlearn.views.predictor import check_same_columns

FloatArray = NDArray[np.float64]
Projected = tuple[Affine, Callable[[torch.Tensor], torch.Tensor]]
Denoise = Callable[[torch.Tensor, torch.Generator], torch.Tensor]

#: Noise of classifiers, and of a denoiser that is used alone.
DEFAULT_SIGMA = 0.5
_BLOCK_ROWS = 4096
#: Rounding of the logits above which the Parzen denoiser computes in float64.
_COARSE_LOGIT = 1e-3
#: Distance, in sigma, up to which a row is taken for a training row.
_SAME_ROW = 1e-3
#: A projection is trusted if it votes like x̂ on so many random rows.
_PROBES = 500
_SCORE_SEED = 20_200_509


class _Denoiser(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """What denoisers share; a subclass fits, and computes x̂ and the energy of checked arrays."""

    sigma_: float

    @abstractmethod
    def _denoise(self, Y: FloatArray) -> FloatArray: ...

    @abstractmethod
    def _energy(self, Y: FloatArray) -> FloatArray: ...

    def denoise_copies(self, copies: FloatArray, rows: FloatArray) -> FloatArray:
        """x̂ of noisy copies of rows, those of the training set among them.

        Parameters
        ----------
        copies : ndarray of shape (n, d)
            Noisy.
        rows : ndarray of shape (n, d)
            What they are copies of.

        Returns
        -------
        ndarray of shape (n, d), float64
            Computed in float32, as votes are.
        """
        cpu = torch.device("cpu")
        denoise, generator = self.denoise_on(cpu), generator_on(cpu, 0)
        blocks = torch.tensor(copies, dtype=torch.float32).split(_BLOCK_ROWS)
        denoised = torch.cat([denoise(block, generator) for block in blocks])
        return np.asarray(denoised.double().numpy())

    @abstractmethod
    def denoise_on(self, device: torch.device) -> Denoise:
        """x̂ as a function of float32 batches on a device, for the voting engine.

        It is differentiable where a batch requires gradients.
        """

    @abstractmethod
    def denoise_training_on(self, rows: FloatArray, device: torch.device) -> TrainingDenoiser:
        """x̂ of noisy training rows, for training on a device what comes behind the denoiser.

        It is differentiable, and no row is denoised by a denoiser that has seen it where that
        matters. The second argument of the function that is returned are the positions in ``rows``
        of those that the batch holds copies of.
        """

    def project_on(self, classifier: Linear, device: torch.device) -> Projected | None:
        """A linear classifier of x̂ as a function of a projection of the rows, where there is one.

        The affine map to the projection, and the function from batches of it to class indices.
        """
        return None

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "sigma_")

    def _start_fit(self, X: Any) -> tuple[FloatArray, float]:
        """Checked rows and noise level; until ``sigma_`` is set again, the object is not fitted."""
        self.__dict__.pop("sigma_", None)
        sigma = DEFAULT_SIGMA if self.sigma is None else as_finite("sigma", self.sigma)
        rows = np.asarray(validate_data(self, X, dtype=np.float64))
        warn_raw_pixels(rows, sigma, stacklevel=3)
        return rows, sigma

    def _check_rows(self, X: Any) -> FloatArray:
        check_is_fitted(self)
        return np.asarray(validate_data(self, X, dtype=np.float64, reset=False))

    def transform(self, X: Any) -> Any:
        r"""The Bayes estimator :math:`\hat x(y) = y - \sigma^2 \nabla\phi(y)` of every row.

        Parameters
        ----------
        X : array_like of shape (n, d)
            Noisy rows.

        Returns
        -------
        ndarray of shape (n, d), float64
            Or what ``set_output`` asks for.

        References
        ----------
        Saremi & Srivastava 2020, Eq. 1.
        """
        return self._denoise(self._check_rows(X))

    def energy(self, X: Any) -> FloatArray:
        r"""The energy :math:`\phi(y)`, the negative log density of noisy rows up to a constant.

        Parameters
        ----------
        X : array_like of shape (n, d)
            Noisy rows.

        Returns
        -------
        ndarray of shape (n,), float64
        """
        return self._energy(self._check_rows(X))

    def score_samples(self, X: Any) -> FloatArray:
        r"""The log density :math:`-\phi(y)` of noisy rows, up to a constant.

        Parameters
        ----------
        X : array_like of shape (n, d)

        Returns
        -------
        ndarray of shape (n,), float64
        """
        return -self.energy(X)

    def score(self, X: Any, y: Any = None) -> float:
        r"""Negative mean squared denoising error, :math:`-\|\hat x(y) - x\|^2/d`.

        Here :math:`y = x + \sigma\varepsilon`. The noise is fixed, the same for every denoiser of
        the same sigma, so that differences are differences of denoisers. It chooses networks and
        their training. It cannot choose sigma: less noise is always easier to remove. Search over
        sigma with :class:`~smoothlearn.CertifiedAccuracyScorer`.

        Parameters
        ----------
        X : array_like of shape (n, d)
            Clean rows that the denoiser has not seen.
        y : None
            Ignored.

        Returns
        -------
        float
            Averaged over rows and features; larger is better.
        """
        clean = self._check_rows(X)
        noise = np.random.default_rng(_SCORE_SEED).standard_normal(clean.shape)
        return -float(np.mean((self._denoise(clean + self.sigma_ * noise) - clean) ** 2))


class DEENDenoiser(_Denoiser):
    r"""The denoiser :math:`\hat x(y) = y - \sigma^2 \nabla\phi(y)` of a learned energy.

    The energy :math:`\phi` is a network, trained to minimise
    :math:`E\|X - \hat x(X + \sigma\varepsilon)\|^2` over noisy copies of the training rows, whose
    minimiser is the Bayes estimator of X. "Deep energy estimator networks" [1]_, used as in [2]_.

    Parameters
    ----------
    sigma : float or None
        Noise level, in the units of X. None means that of the classifier the denoiser is a part
        of, and 0.5 when it is used alone.
    module : str, nn.Module class, function or instance
        The energy. "gradient-step-mlp" is :math:`\|y - N(y)\|^2/(2\sigma^2)` with a small network
        N, "mlp" a bowl plus a SiLU network with one output; "auto" takes the first for up to 64
        features, the second for more. For images, "conv" is a bowl plus a convolutional network,
        and "gradient-step-unet" has a U-Net for N: slow without a GPU. A class or function is
        called with the number of features; it gives a module from standardised rows (n, d), or
        images where there is an ``image_shape``, to one scalar a row, which takes the network's
        place in "mlp", or to as many numbers as it gets, which makes it N. It must be smooth: no
        ReLU, no max-pooling. An instance is copied.
    image_shape : (height, width) or (channels, height, width), or None
        Of the image that a row holds in this order.
    max_epochs : int or "auto"
        Passes over the training rows; "auto" makes about 4,000 steps, and at least ten passes.
    lr : float
        Largest learning rate of Adam, after a warm-up and before a cosine descent to zero.
    batch_size : int
    validation_fraction : float
        Share of rows held out, in [0, 1), to keep the best epoch; 0 keeps the last.
    patience : int or None
        Epochs without a better validation loss before training stops. None never stops early.
    device : str
        Where to train: "auto" (CUDA where there is one), "cpu", "cuda", ...
    random_state : int, RandomState or None
    verbose : int
        Positive: a line for every epoch.

    Attributes
    ----------
    sigma_ : float
        The noise level trained for.
    weights_ : dict of str to ndarray
        Parameters and constants of the energy.
    module_ : str, class, function or instance
        The ``module`` that was trained.
    image_shape_ : (channels, height, width) or None
    history_ : list of dict
        Losses and duration of every epoch, per feature and squared unit of X.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (d,)
        If X was a data frame.

    References
    ----------
    .. [1] Saremi, Mehrjou, Schölkopf & Hyvärinen 2018, "Deep energy estimator networks",
       arXiv:1805.08306; Saremi & Hyvärinen 2019, "Neural empirical Bayes", JMLR 20, section 4.1.
    .. [2] Saremi & Srivastava 2020, "Provable robust classification via learned smoothed
       densities", arXiv:2005.04504, Eq. 1.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import make_moons
    >>> from smoothlearn import DEENDenoiser
    >>> X, _ = make_moons(500, noise=0.05, random_state=0)
    >>> denoiser = DEENDenoiser(sigma=0.2, max_epochs=50, random_state=0).fit(X)
    >>> denoiser.transform(X[:3]).shape
    (3, 2)
    >>> denoiser.score(X) > -0.2**2
    True
    """

    def __init__(
        self,
        sigma: float | None = None,
        *,
        module: Any = "auto",
        image_shape: tuple[int, ...] | None = None,
        max_epochs: int | str = "auto",
        lr: float = 2e-3,
        batch_size: int = 128,
        validation_fraction: float = 0.1,
        patience: int | None = 100,
        device: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.sigma = sigma
        self.module = module
        self.image_shape = image_shape
        self.max_epochs = max_epochs
        self.lr = lr
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.patience = patience
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train the energy on clean rows.

        Parameters
        ----------
        X : array_like of shape (n, d)
            Clean rows; labels are not needed.
        y : None
            Ignored.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If X is not finite or a parameter is out of range; if the module is not smooth or gives
            neither one scalar a row nor as many numbers as it gets.
        """
        X, sigma = self._start_fit(X)
        check_training(self)
        if self.patience is not None:
            check_scalar(self.patience, "patience", Integral, min_val=1)
        image_shape = as_image_shape(self.image_shape, X.shape[1])
        device = torch_device(self.device)
        seeds = spawn_seeds(self.random_state, ("module", "start", "training"))
        own_module = not isinstance(self.module, str)
        with private_torch_rng(seeds["module"]), torch.inference_mode(False):
            energy = make_energy(self.module, X.shape[1], image_shape)
        private = private_torch_rng(seeds["training"], device) if own_module else nullcontext()
        with private, torch.inference_mode(False), torch.enable_grad():
            initialise(energy, X, sigma, generator_on(torch.device("cpu"), seeds["start"]))
            self.history_ = train_denoiser(
                energy,
                X,
                sigma=sigma,
                max_epochs=self.max_epochs,
                lr=self.lr,
                batch_size=self.batch_size,
                validation_fraction=self.validation_fraction,
                patience=self.patience,
                device=device,
                seed=seeds["training"],
                verbose=self.verbose,
            )
        weights = save_weights(energy)
        if not all(np.isfinite(value).all() for value in weights.values()):
            raise ValueError("the training of the energy diverged; scale the features or lower lr")
        if own_module:
            refuse_company(energy, X, sigma)
        self.weights_ = weights
        self.module_ = keep_module(self.module)
        self.image_shape_ = image_shape
        self.sigma_ = sigma
        return self

    def _load(self) -> Energy:
        with torch.inference_mode(False):
            return load_energy(self.module_, self.n_features_in_, self.weights_, self.image_shape_)

    def _double(self) -> Energy:
        with torch.inference_mode(False):
            return self._load().double()

    def _denoise(self, Y: FloatArray) -> FloatArray:
        energy = self._double()
        with torch.no_grad():
            blocks = [energy(block) for block in torch.tensor(Y).split(_BLOCK_ROWS)]
        return np.asarray(torch.cat(blocks).numpy())

    def _energy(self, Y: FloatArray) -> FloatArray:
        energy = self._double()
        with torch.no_grad():
            blocks = [energy.energy(block) for block in torch.tensor(Y).split(_BLOCK_ROWS)]
        return np.asarray(torch.cat(blocks).numpy())

    def denoise_on(self, device: torch.device) -> Denoise:
        with torch.inference_mode(False):
            my_energy = per_thread(self._load().to(device))

        def denoise(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            with torch.set_grad_enabled(batch.requires_grad and torch.is_grad_enabled()):
                return my_energy()(batch)

        return denoise

    def denoise_training_on(self, rows: FloatArray, device: torch.device) -> TrainingDenoiser:
        with torch.inference_mode(False):
            energy = self._load().to(device)
        return lambda batch, places: energy(batch)

    def project_on(self, classifier: Linear, device: torch.device) -> Projected | None:
        if type(self).denoise_on is not DEENDenoiser.denoise_on:
            return None  # a subclass may denoise otherwise
        energy = self._load()
        if not starts_linear(energy):
            return None
        with torch.inference_mode(False):
            projection, votes = project(energy, classifier, device)
            noise = generator_on(torch.device("cpu"), 0)
            probes = torch.randn((_PROBES, self.n_features_in_), generator=noise)
            probes = probes / energy.scale_in + energy.mean
            projected = torch.tensor(projection(probes.double().numpy()), device=device)
            said = classifier.votes(device)(energy.to(device)(probes.to(device)))
            trusted = torch.equal(votes(projected), said)
        return (projection, votes) if trusted else None


class ParzenDenoiser(_Denoiser):
    r"""The Bayes estimator of the training set itself, in closed form.

    .. math:: \hat x(y) = \frac{\sum_i x_i \exp(-\|y - x_i\|^2 / 2\sigma^2)}
                               {\sum_i \exp(-\|y - x_i\|^2 / 2\sigma^2)}

    This is :math:`y - \sigma^2\nabla\phi(y)` with :math:`\phi` the negative log of the Parzen
    density [1]_ of the training rows with bandwidth sigma. Nothing is trained; a training row
    denoises to itself.

    Parameters
    ----------
    sigma : float or None
        As in :class:`~smoothlearn.DEENDenoiser`.

    Attributes
    ----------
    sigma_ : float
    rows_ : ndarray of shape (n, d), float64
        The training rows.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (d,)
        If X was a data frame.

    References
    ----------
    .. [1] Parzen 1962, "On estimation of a probability density function and mode".

    Examples
    --------
    >>> from smoothlearn import ParzenDenoiser
    >>> denoiser = ParzenDenoiser(sigma=0.5).fit([[0.0], [1.0]])
    >>> denoiser.transform([[0.5], [2.0]]).round(3)
    array([[0.5  ],
           [0.998]])
    """

    def __init__(self, sigma: float | None = None) -> None:
        self.sigma = sigma

    def fit(self, X: Any, y: Any = None) -> Self:
        """Keep the rows.

        Parameters
        ----------
        X : array_like of shape (n, d)
            Clean rows; labels are not needed.
        y : None
            Ignored.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If X is not finite, or sigma is not finite and positive.
        """
        X, sigma = self._start_fit(X)
        self.rows_ = X.copy()
        self.sigma_ = sigma
        return self

    def _denoise(self, Y: FloatArray) -> FloatArray:
        return parzen_denoiser(Y, self.sigma_, self.rows_)

    def _energy(self, Y: FloatArray) -> FloatArray:
        return parzen_energy(Y, self.sigma_, self.rows_)

    def denoise_copies(self, copies: FloatArray, rows: FloatArray) -> FloatArray:
        """x̂ of noisy copies of rows, each from all training rows but the one it is a copy of.

        Of several equal training rows one is left out; a training row that differs by a thousandth
        of sigma or less counts as equal.
        """
        own = self._own(rows)
        seen = own >= 0
        denoised = np.empty_like(copies)
        denoised[~seen] = self._denoise(copies[~seen])
        denoised[seen] = parzen_denoiser(copies[seen], self.sigma_, self.rows_, leave_out=own[seen])
        return denoised

    def denoise_on(self, device: torch.device) -> Denoise:
        mean = self._mean_on(device)
        return lambda batch, generator: mean(batch, None)

    def denoise_training_on(self, rows: FloatArray, device: torch.device) -> TrainingDenoiser:
        """As :meth:`denoise_copies`: each row from all training rows but itself."""
        own = torch.from_numpy(self._own(rows)).to(device)
        mean = self._mean_on(device)
        return lambda batch, places: mean(batch, own[places])

    def _own(self, rows: FloatArray) -> NDArray[np.intp]:
        """Which training row every row is, -1 for none."""
        places = {row.tobytes(): i for i, row in enumerate(self.rows_ + 0.0)}
        own = np.array([places.get(row.tobytes(), -1) for row in rows + 0.0], dtype=np.intp)
        if (own < 0).any():  # the same row may have been rounded elsewhere
            neighbours = NearestNeighbors(n_neighbors=1).fit(self.rows_)
            distance, nearest = neighbours.kneighbors(rows[own < 0])
            same = distance[:, 0] <= _SAME_ROW * self.sigma_
            own[own < 0] = np.where(same, nearest[:, 0], -1)
        return own

    def _mean_on(
        self, device: torch.device
    ) -> Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]:
        """x̂ of batches, and of the training rows which to leave out for every row, -1 for none."""
        centre = self.rows_.mean(axis=0)
        rows = torch.tensor(self.rows_ - centre, device=device)
        offsets = rows.square().sum(dim=1) / (-2 * self.sigma_**2)
        exact = bool(offsets.abs().max() * torch.finfo(torch.float32).eps < _COARSE_LOGIT)
        dtype = torch.float32 if exact else torch.float64
        rows, offsets = rows.to(dtype), offsets.to(dtype)
        middle = torch.tensor(centre, dtype=dtype, device=device)

        def mean(batch: torch.Tensor, left_out: torch.Tensor | None) -> torch.Tensor:
            logits = torch.addmm(offsets, batch.to(dtype) - middle, rows.T, alpha=self.sigma_**-2)
            if left_out is not None:
                places = left_out.clamp(min=0)[:, None]
                own = logits.gather(1, places)
                own = torch.where(left_out[:, None] < 0, own, -torch.inf)
                logits = logits.scatter(1, places, own)
            return (torch.softmax(logits, dim=1) @ rows + middle).to(batch.dtype)

        return mean


def fit_denoiser(denoiser: Any, X: FloatArray, columns: Any, sigma: float, seed: int) -> Any:
    """The clone of a denoiser fitted for this noise, or a frozen one that was.

    None means ``DEENDenoiser()``; "passthrough" means none, and gives None. ``columns`` are the
    names of the columns of X, or None.

    Raises
    ------
    TypeError
        If it is not a denoiser.
    ValueError
        If it was given, or fitted for, another sigma, or was fitted on other columns.
    """
    if isinstance(denoiser, str) and denoiser == "passthrough":
        return None
    if denoiser is None:
        denoiser = DEENDenoiser()
    if isinstance(denoiser, type) or not hasattr(denoiser, "denoise_on"):
        raise TypeError(
            f"denoiser={denoiser!r} is not a denoiser; use DEENDenoiser(), ParzenDenoiser(), "
            "'passthrough' or None, or make other preprocessing a part of the estimator"
        )
    if isinstance(denoiser, FrozenEstimator):
        check_is_fitted(denoiser)
        _same_sigma(denoiser.sigma_, sigma)
        check_same_columns("denoiser", denoiser, X, columns)
        warn_raw_pixels(X, sigma, stacklevel=4)
        return denoiser
    denoiser = clone(denoiser)
    if denoiser.sigma is not None:
        _same_sigma(denoiser.sigma, sigma)
    seed_nested(denoiser, seed)
    return denoiser.set_params(sigma=sigma).fit(X)


def as_image_shape(image_shape: Any, n_features: int) -> ImageShape | None:
    """(channels, height, width), checked against the number of features."""
    if image_shape is None:
        return None
    shape = tuple(image_shape) if isinstance(image_shape, tuple | list) else ()
    whole = all(
        isinstance(size, Integral) and not isinstance(size, bool) and int(size) > 0
        for size in shape
    )
    if len(shape) not in (2, 3) or not whole:
        raise ValueError(
            "image_shape must be (height, width) or (channels, height, width), in whole pixels, "
            f"got {image_shape!r}"
        )
    if prod(shape) != n_features:
        raise ValueError(
            f"image_shape={image_shape!r} has {prod(shape)} pixels, X has {n_features} features"
        )
    channels, height, width = (1, *shape) if len(shape) == 2 else shape
    return int(channels), int(height), int(width)


def _same_sigma(given: float, sigma: float) -> None:
    if as_finite("denoiser__sigma", given) != sigma:
        raise ValueError(
            f"the denoiser has sigma={given}, the classifier sigma={sigma}: the noise must be the "
            "same; leave the denoiser's at None and set, or search over, the classifier's"
        )
