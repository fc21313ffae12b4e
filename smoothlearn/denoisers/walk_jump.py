"""Walk-jump sampling behind the Bayes estimator."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_scalar

from smoothlearn.denoisers.two_level import Stages, TwoLevelDenoiser
from smoothlearn.nn.dynamics import Field, Normal, as_step_size, langevin_walk


class WalkJumpDenoiser(TwoLevelDenoiser):
    r"""The jump :math:`\hat x_{\sigma'}(y_\tau)` from a Langevin walk that starts at x̂.

    Noisy rows y are denoised, :math:`y_0 = \hat x_\sigma(y)`. A walk on the energy of less noise,
    :math:`\sigma' < \sigma`, follows,

    .. math:: y_{t+1} = y_t - h \nabla\phi_{\sigma'}(y_t) + \sqrt{2h}\,\varepsilon_t,

    and after :math:`\tau` steps the jump
    :math:`\hat x_{\sigma'}(y_\tau) = y_\tau - \sigma'^2 \nabla\phi_{\sigma'}(y_\tau)` [1]_. x̂ is an
    average of the clean rows that y may have come from, the jump looks like one of them. The walk
    forgets y: a short one stays near x̂, a long one draws from the density around it, and in the end
    from that of all data; to cross between modes that are many :math:`\sigma'` apart takes far
    longer than anyone walks.

    It is random, and a certificate behind it is as valid as any. Randomized smoothing asks for a
    probability of each class at every point, and a random classifier has one, if each vote has
    noise of its own: as every draw has here. ``transform`` gives every row its own noise too, which
    depends on the row and on ``random_state`` alone.

    Parameters
    ----------
    jump : denoiser or None
        Gives :math:`\hat x_\sigma`. None means ``DEENDenoiser()``. It is cloned and handed
        ``sigma``; in a ``FrozenEstimator`` it is not refitted.
    walk : DEENDenoiser, ParzenDenoiser or None
        Has the energy :math:`\phi_{\sigma'}`, with a ``sigma`` of its own, by default a quarter of
        ``sigma``. ``walk=None`` means ``DEENDenoiser()``. In a ``FrozenEstimator`` it is not
        refitted.
    sigma : float or None
        As in :class:`~smoothlearn.DEENDenoiser`.
    step_size : float or "auto"
        h, in squared units of X, less than :math:`2\sigma'^2`. "auto" is :math:`\sigma'^2/5`, and
        with ``metropolis`` at most :math:`\sigma'^2/\sqrt d`.
    n_steps : int
        :math:`\tau`. Each takes as long as denoising, and on a learned energy certified accuracy
        falls with their number: see :doc:`/guide/walk_jump`.
    metropolis : bool
        Accept or reject every step, so that the walk has no error of the order of h. In many
        dimensions that takes short steps, hence many: with long ones a walk stays at x̂.
    random_state : int, RandomState or None
        Seeds the walks of ``transform``, and what is inside and has no seed.
    verbose : int
        Positive: a progress bar.

    Attributes
    ----------
    jump_, walk_ : denoiser
        The fitted denoisers.
    walk_length_ : float
        :math:`h\tau/\sigma'^2`. The walk forgets details as small as :math:`\sigma'` after about
        1; a mode that is s wide takes :math:`(s/\sigma')^2` times as long.
    sigma_ : float
        The noise level fitted for.
    noise_seed_ : int
        Key of the walks of ``transform``, 128 bits.
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (d,)
        If X was a data frame.

    References
    ----------
    .. [1] Saremi & Srivastava 2020, "Provable robust classification via learned smoothed
       densities", arXiv:2005.04504, Eq. 16 and 17, with h for the step in the drift and in
       the noise.

    Examples
    --------
    >>> from sklearn.datasets import make_moons
    >>> from smoothlearn import ParzenDenoiser, WalkJumpDenoiser
    >>> X, _ = make_moons(200, noise=0.05, random_state=0)
    >>> denoiser = WalkJumpDenoiser(
    ...     ParzenDenoiser(), ParzenDenoiser(sigma=0.1), sigma=0.4, random_state=0
    ... ).fit(X)
    >>> stages = denoiser.stages([[0.5, 0.5]])
    >>> list(stages)
    ['denoised', 'walked', 'jumped']
    >>> round(denoiser.walk_length_, 3)
    2.0
    """

    def __init__(
        self,
        jump: Any = None,
        walk: Any = None,
        *,
        sigma: float | None = None,
        step_size: float | str = "auto",
        n_steps: int = 10,
        metropolis: bool = False,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.jump = jump
        self.walk = walk
        self.sigma = sigma
        self.step_size = step_size
        self.n_steps = n_steps
        self.metropolis = metropolis
        self.random_state = random_state
        self.verbose = verbose

    def _keep_settings(self, walk_sigma: float) -> None:
        check_scalar(self.n_steps, "n_steps", Integral, min_val=0)
        check_scalar(self.metropolis, "metropolis", (bool, np.bool_))
        self._step_size = as_step_size(
            self.step_size,
            walk_sigma,
            n_features=self.n_features_in_,
            metropolis=bool(self.metropolis),
        )
        self._n_steps, self._metropolis = int(self.n_steps), bool(self.metropolis)
        self.walk_length_ = self._step_size * self._n_steps / walk_sigma**2

    def _move(self, field: Field, start: torch.Tensor, normal: Normal) -> Stages:
        walked, slopes = langevin_walk(
            field,
            start,
            step_size=self._step_size,
            n_steps=self._n_steps,
            normal=normal,
            metropolis=self._metropolis,
        )
        return {"walked": walked, "jumped": walked - self.walk_.sigma_**2 * slopes}
