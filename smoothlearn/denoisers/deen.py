"""Denoisers with a learned energy."""

from __future__ import annotations

from contextlib import nullcontext
from numbers import Integral
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted

from smoothlearn.denoisers.base import (
    Denoise,
    EnergyDenoiser,
    FloatArray,
    PlacedField,
    Projected,
)
from smoothlearn.nn.adversarial import TrainingDenoiser
from smoothlearn.nn.dynamics import Field, as_step_size, langevin_walk
from smoothlearn.nn.energies import (
    Energy,
    initialise,
    load_energy,
    make_energy,
    refuse_company,
)
from smoothlearn.nn.networks import as_image_shape, keep_module, save_weights
from smoothlearn.nn.projection import project, starts_linear
from smoothlearn.nn.randomness import (
    generator_on,
    private_torch_rng,
    spawn_seeds,
    torch_device,
)
from smoothlearn.nn.training import check_training, train_denoiser
from smoothlearn.views.copies import per_thread
from smoothlearn.views.linear import Linear

#: Rows that are denoised at once.
_BLOCK_ROWS = 4096
#: A projection is trusted if it votes like x̂ on so many random rows.
_PROBES = 500


class DEENDenoiser(EnergyDenoiser):
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
        features, the second for more. "tied" is a bowl plus one hidden layer of 512 units, so that
        :math:`\hat x(y) = c y + V^T(a \odot \psi(Vy + b)) + c'`: it denoises less well than "mlp",
        and a linear classifier behind it votes faster, by noise of fewer dimensions where rows have
        more than 512. For images, "conv" is a bowl plus a convolutional network, and
        "gradient-step-unet" has a U-Net for N: slow without a GPU. A class or function is called
        with the number of features; it gives a module from standardised rows (n, d), or images
        where there is an ``image_shape``, to one scalar a row, which takes the network's place in
        "mlp", or to as many numbers as it gets, which makes it N. It must be smooth: no ReLU, no
        max-pooling. An instance is copied.
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

    def field_on(self, device: torch.device, *, double: bool = False) -> Field:
        with torch.inference_mode(False):
            energy = self._load().to(device)
            my_energy = per_thread(energy.double() if double else energy)

        def field(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            with torch.set_grad_enabled(batch.requires_grad and torch.is_grad_enabled()):
                return my_energy().field(batch)

        return field

    def field_training_on(self, rows: FloatArray, device: torch.device) -> PlacedField:
        with torch.inference_mode(False):
            energy = self._load().to(device)
        return lambda batch, places: energy.field(batch)

    def sample(
        self,
        n_samples: int = 1,
        *,
        step_size: float | str = "auto",
        n_steps: int = 1000,
        metropolis: bool = False,
        random_state: Any = None,
    ) -> FloatArray:
        r"""New rows, by walk-jump sampling from the learned density.

        Every sample is a Langevin walk
        :math:`y \leftarrow y - h\nabla\phi(y) + \sqrt{2h}\,\varepsilon` of its own, which starts
        from a Gaussian with the mean and the spread of noisy rows, and the jump
        :math:`\hat x(y)` from where it ends. From walks that are long enough, and but for the
        errors of the energy and of the steps, the law of the jumps is that of
        :math:`\hat x(X + \sigma\varepsilon)`, which is narrower than that of X.

        The energy was trained within some sigma of the rows and is arbitrary elsewhere: where sigma
        is small beside the gaps between rows, walks get lost, and a larger sigma samples better.

        Parameters
        ----------
        n_samples : int
        step_size : float or "auto"
            h, in squared units of X, less than :math:`2\sigma^2`. "auto" is :math:`\sigma^2/5`,
            and with ``metropolis`` at most :math:`\sigma^2/\sqrt d`.
        n_steps : int
            Walks between far modes of the density take many.
        metropolis : bool
            Accept or reject every step, so that the walk has no error of the order of h.
        random_state : int, RandomState or None

        Returns
        -------
        ndarray of shape (n_samples, d), float64

        References
        ----------
        Saremi & Hyvärinen 2019, "Neural empirical Bayes", JMLR 20, section 5.
        """
        check_is_fitted(self)
        check_scalar(n_samples, "n_samples", Integral, min_val=1)
        check_scalar(n_steps, "n_steps", Integral, min_val=0)
        check_scalar(metropolis, "metropolis", (bool, np.bool_))
        step = as_step_size(
            step_size, self.sigma_, n_features=self.n_features_in_, metropolis=bool(metropolis)
        )
        device = torch_device(self.device)
        generator = generator_on(device, spawn_seeds(random_state, ("walk",))["walk"])
        energy = self._load().to(device)

        def normal(width: int) -> torch.Tensor:
            return torch.randn((n_samples, width), generator=generator, device=device)

        with torch.no_grad():
            start = energy.mean + normal(self.n_features_in_) / energy.scale_in
            points, slopes = langevin_walk(
                energy.field,
                start,
                step_size=step,
                n_steps=n_steps,
                normal=normal,
                metropolis=metropolis,
                verbose=self.verbose,
            )
            return np.asarray((points - self.sigma_**2 * slopes).double().cpu().numpy())

    def project_on(self, classifier: Linear, device: torch.device) -> Projected | None:
        if type(self).denoise_on is not DEENDenoiser.denoise_on:
            return None  # a subclass may denoise otherwise
        energy = self._load()
        if not starts_linear(energy):
            return None
        with torch.inference_mode(False):
            projection, scores = project(energy, classifier, device)
            noise = generator_on(torch.device("cpu"), 0)
            probes = torch.randn((_PROBES, self.n_features_in_), generator=noise)
            probes = probes / energy.scale_in + energy.mean
            projected = torch.tensor(projection(probes.double().numpy()), device=device)
            said = classifier.logits(device)(energy.to(device)(probes.to(device)))
            found = classifier.columns(scores(projected))
            slack = 1e-3 * said.abs().max()
            trusted = bool(((found - said).abs() <= slack).all())
        return (projection, scores) if trusted else None
