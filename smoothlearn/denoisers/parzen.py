"""The denoiser of the training set itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted

from smoothlearn.denoisers.base import Denoise, EnergyDenoiser, FloatArray, PlacedField
from smoothlearn.nn.adversarial import TrainingDenoiser
from smoothlearn.nn.dynamics import Field
from smoothlearn.nn.randomness import spawn_seeds
from smoothlearn.theory.bayes import parzen_denoiser, parzen_energy

#: Rounding of the logits above which the denoiser computes in float64.
_COARSE_LOGIT = 1e-3
#: Distance, in sigma, up to which a row is taken for a training row.
_SAME_ROW = 1e-3
#: Weights of training rows that are held at once: 16 MB in single precision.
_WEIGHTS = 2**22


class ParzenDenoiser(EnergyDenoiser):
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

    def field_on(self, device: torch.device, *, double: bool = False) -> Field:
        field = self._field_on(device, double)
        return lambda batch: field(batch, None)

    def field_training_on(self, rows: FloatArray, device: torch.device) -> PlacedField:
        own = torch.from_numpy(self._own(rows)).to(device)
        field = self._field_on(device)
        return lambda batch, places: field(batch, own[places])

    def sample(self, n_samples: int = 1, *, random_state: Any = None) -> FloatArray:
        r"""New rows: :math:`\hat x(y)` of draws y from the Parzen density.

        These are the jumps of walk-jump sampling. No walk is needed to draw y: it is a training row
        with noise.

        Parameters
        ----------
        n_samples : int
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
        rng = np.random.default_rng(spawn_seeds(random_state, ("rows",))["rows"])
        rows = self.rows_[rng.integers(len(self.rows_), size=n_samples)]
        return self._denoise(rows + self.sigma_ * rng.standard_normal(rows.shape))

    def _field_on(
        self, device: torch.device, double: bool = False
    ) -> Callable[[torch.Tensor, torch.Tensor | None], tuple[torch.Tensor, torch.Tensor]]:
        """Energy and gradient of batches, with training rows left out as in ``_mean_on``."""
        logits_of, centred, middle = self._logits_on(device, double)
        n_rows, n_features = self.rows_.shape
        constant = n_features / 2 * math.log(2 * math.pi * self.sigma_**2)

        def field(
            batch: torch.Tensor, left_out: torch.Tensor | None
        ) -> tuple[torch.Tensor, torch.Tensor]:
            logits = logits_of(batch, left_out)
            y = batch.to(middle.dtype) - middle
            n_seen = torch.tensor(n_rows) if left_out is None else n_rows - (left_out >= 0).long()
            n_seen = n_seen.to(y.dtype)
            weights = torch.softmax(logits, dim=1)
            top, nearest = logits.max(dim=1)
            log_total = top - weights.gather(1, nearest[:, None])[:, 0].log()
            energy = y.square().sum(dim=1) / (2 * self.sigma_**2) + constant + n_seen.log()
            energy = energy - log_total
            slope = (y - weights @ centred) / self.sigma_**2
            return energy.to(batch.dtype), slope.to(batch.dtype)

        return field

    def _mean_on(
        self, device: torch.device
    ) -> Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]:
        """x̂ of batches, and of the training rows which to leave out for every row, -1 for none."""
        logits_of, centred, middle = self._logits_on(device)
        size = max(1, _WEIGHTS // len(centred))

        def part(batch: torch.Tensor, left_out: torch.Tensor | None) -> torch.Tensor:
            weights = torch.softmax(logits_of(batch, left_out), dim=1)
            return (weights @ centred + middle).to(batch.dtype)

        def mean(batch: torch.Tensor, left_out: torch.Tensor | None) -> torch.Tensor:
            if len(batch) <= size:
                return part(batch, left_out)
            parts = batch.split(size)
            which = [None] * len(parts) if left_out is None else left_out.split(size)
            return torch.cat([part(*pair) for pair in zip(parts, which, strict=True)])

        return mean

    def _logits_on(
        self, device: torch.device, double: bool = False
    ) -> tuple[Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor], Any, Any]:
        """Log weights of the training rows up to a constant, the rows about their mean, the mean.

        In float32 where that is accurate.
        """
        centre = self.rows_.mean(axis=0)
        rows = torch.tensor(self.rows_ - centre, device=device)
        offsets = rows.square().sum(dim=1) / (-2 * self.sigma_**2)
        exact = bool(offsets.abs().max() * torch.finfo(torch.float32).eps < _COARSE_LOGIT)
        dtype = torch.float32 if exact and not double else torch.float64
        rows, offsets = rows.to(dtype), offsets.to(dtype)
        middle = torch.tensor(centre, dtype=dtype, device=device)

        def logits_of(batch: torch.Tensor, left_out: torch.Tensor | None) -> torch.Tensor:
            logits = torch.addmm(offsets, batch.to(dtype) - middle, rows.T, alpha=self.sigma_**-2)
            if left_out is not None:
                places = left_out.clamp(min=0)[:, None]
                own = logits.gather(1, places)
                own = torch.where(left_out[:, None] < 0, own, -torch.inf)
                logits = logits.scatter(1, places, own)
            return logits

        return logits_of, rows, middle
