"""What denoisers share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from smoothlearn.nn.adversarial import TrainingDenoiser
from smoothlearn.nn.dynamics import Field
from smoothlearn.theory.arguments import as_finite, warn_raw_pixels
from smoothlearn.views.affine import Affine
from smoothlearn.views.linear import Linear

FloatArray = NDArray[np.float64]
Projected = tuple[Affine, Callable[[torch.Tensor], torch.Tensor]]
Denoise = Callable[[torch.Tensor, torch.Generator], torch.Tensor]
#: A field of copies of training rows, and the positions of these rows.
PlacedField = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]

#: Noise of classifiers, and of a denoiser that is used alone.
DEFAULT_SIGMA = 0.5
_COPIES_AT_ONCE = 500
_SCORE_SEED = 20_200_509


class Denoiser(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
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
        denoise = self.denoise_training_on(rows, torch.device("cpu"))
        blocks = torch.tensor(copies, dtype=torch.float32).split(_COPIES_AT_ONCE)
        places = torch.arange(len(copies)).split(_COPIES_AT_ONCE)
        with torch.no_grad():
            denoised = [denoise(*block) for block in zip(blocks, places, strict=True)]
        return np.asarray(torch.cat(denoised).double().numpy())

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

        The affine map to the projection, and the function from batches of it to scores.
        """
        return None

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "sigma_")

    def _start_fit(self, X: Any) -> tuple[FloatArray, float]:
        """Checked rows and noise level; until ``sigma_`` is set again, the object is not fitted."""
        self.__dict__.pop("sigma_", None)
        sigma = DEFAULT_SIGMA if self.sigma is None else as_finite("sigma", self.sigma)
        rows = _forwards(validate_data(self, X, dtype=np.float64))
        warn_raw_pixels(rows, sigma, stacklevel=3)
        return rows, sigma

    def _check_rows(self, X: Any) -> FloatArray:
        check_is_fitted(self)
        return _forwards(validate_data(self, X, dtype=np.float64, reset=False))

    def transform(self, X: Any) -> Any:
        r"""The estimate :math:`\hat x(y)` of the clean row behind every noisy row y.

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

    def stages(self, X: Any) -> dict[str, FloatArray]:
        """What becomes of noisy rows, step by step; the last step is what ``transform`` gives.

        Parameters
        ----------
        X : array_like of shape (n, d)
            Noisy rows.

        Returns
        -------
        dict of str to ndarray of shape (n, d)
        """
        return self._stages(self._check_rows(X))

    def _stages(self, Y: FloatArray) -> dict[str, FloatArray]:
        return {"denoised": self._denoise(Y)}

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


class EnergyDenoiser(Denoiser):
    r"""A denoiser :math:`\hat x(y) = y - \sigma^2 \nabla\phi(y)`, on whose energy one can walk."""

    @abstractmethod
    def field_on(self, device: torch.device, *, double: bool = False) -> Field:
        """The energy of float32 batches, or float64 ones, on a device, and its gradient.

        Differentiable where a batch requires gradients.
        """

    @abstractmethod
    def field_training_on(self, rows: FloatArray, device: torch.device) -> PlacedField:
        """The same of noisy float32 training rows, as :meth:`denoise_training_on` has x̂ of them."""


def _forwards(rows: Any) -> FloatArray:
    """The same numbers where torch can read them: it takes no views that run backwards."""
    return np.array(rows, order="C")  # a copy, as one row counts as contiguous either way
