"""Gradient flow behind the Bayes estimator."""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.cluster import DBSCAN
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import pairwise_distances_argmin_min
from sklearn.utils import check_scalar
from tqdm.auto import tqdm

from smoothlearn.denoisers.base import FloatArray
from smoothlearn.denoisers.two_level import MOVED_ROWS, Stages, TwoLevelDenoiser
from smoothlearn.nn.dynamics import Field, Normal, gradient_flow
from smoothlearn.theory.arguments import as_finite

#: Minima that are so near to each other, in sigma', are the same attractor.
_SAME_ATTRACTOR = 0.1
#: Rows that arrive so near to each other look for one minimum together.
_SAME_PLACE = 0.01
#: How far the search for a minimum is pushed at first, in units of the above.
_PUSH = 0.1
_TO_THE_BOTTOM = {"ftol": 0.0, "gtol": 1e-7}


class AttractorDenoiser(TwoLevelDenoiser):
    r"""The attractor of an energy that the gradient flow from x̂ leads to.

    Noisy rows y are denoised, :math:`y(0) = \hat x_\sigma(y)`, and follow the flow

    .. math:: y'(t) = -\nabla\phi_{\sigma'}(y(t))

    on the energy of less noise, :math:`\sigma' < \sigma`, to one of its local minima [1]_: the
    memory that y recalls, in the associative memory NEBULA [2]_. For small :math:`\sigma'` the
    attractors of a :class:`~smoothlearn.ParzenDenoiser` are the training rows themselves, for
    larger ones modes that rows share; a Gaussian has one, its mean.

    Every row has a step and a stopping test of its own, so that votes behind this denoiser are as
    independent as their noise.

    Parameters
    ----------
    jump, walk, sigma, random_state
        As in :class:`~smoothlearn.WalkJumpDenoiser`; the flow follows the energy of ``walk``.
    tolerance : float
        A row has arrived where :math:`\|\hat x_{\sigma'}(y) - y\|` is at most so many
        :math:`\sigma'`.
    max_steps : int
        A row that has not arrived after so many steps stops where it is. Each takes as long as
        denoising.
    verbose : int
        Positive: a progress bar.

    Attributes
    ----------
    attractors_ : ndarray of shape (n_attractors, d)
        The local minima that lie downhill from where the training rows arrive, by rising energy.
    energies_ : ndarray of shape (n_attractors,)
        :math:`\phi_{\sigma'}` at the attractors.
    assignment_ : ndarray of shape (n,), int
        Which attractor every training row flows to, or, where the flow ends at a saddle, one that
        lies downhill from it; -1 where it had not arrived.
    jump_, walk_ : denoiser
        The fitted denoisers.
    sigma_, noise_seed_, n_features_in_, feature_names_in_
        As in :class:`~smoothlearn.WalkJumpDenoiser`.

    References
    ----------
    .. [1] Saremi & Srivastava 2020, "Provable robust classification via learned smoothed
       densities", arXiv:2005.04504, section 4.2 (B1).
    .. [2] Saremi & Hyvärinen 2019, "Neural empirical Bayes", JMLR 20, section 6.

    Examples
    --------
    >>> import numpy as np
    >>> from smoothlearn import AttractorDenoiser, ParzenDenoiser
    >>> X = np.array([[0.0, 2.0], [0.1, 2.0], [3.0, 1.0]])
    >>> denoiser = AttractorDenoiser(
    ...     ParzenDenoiser(), ParzenDenoiser(sigma=0.2), sigma=0.5, random_state=0
    ... ).fit(X)
    >>> denoiser.attractors_.round(2)
    array([[0.05, 2.  ],
           [3.  , 1.  ]])
    >>> denoiser.assignment_
    array([0, 0, 1])
    >>> denoiser.transform([[2.0, 0.9]]).round(2)
    array([[3., 1.]])
    """

    def __init__(
        self,
        jump: Any = None,
        walk: Any = None,
        *,
        sigma: float | None = None,
        tolerance: float = 1e-3,
        max_steps: int = 500,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.jump = jump
        self.walk = walk
        self.sigma = sigma
        self.tolerance = tolerance
        self.max_steps = max_steps
        self.random_state = random_state
        self.verbose = verbose

    def _keep_settings(self, walk_sigma: float) -> None:
        self._tolerance = as_finite("tolerance", self.tolerance) * walk_sigma
        check_scalar(self.max_steps, "max_steps", Integral, min_val=1)
        self._max_steps = int(self.max_steps)

    def _finish_fit(self, X: FloatArray) -> None:
        field = self.walk_.field_on(torch.device("cpu"), double=True)
        blocks = torch.tensor(X).split(MOVED_ROWS)
        with torch.no_grad():
            flows = [
                self._flow(field, block)
                for block in tqdm(blocks, unit="block", disable=self.verbose <= 0)
            ]
        points, arrived = (torch.cat(parts).numpy() for parts in zip(*flows, strict=True))
        if not arrived.all():
            warnings.warn(
                f"{np.sum(~arrived)} of {len(X)} rows had not arrived at an attractor after "
                f"max_steps={self.max_steps}; raise max_steps or tolerance",
                ConvergenceWarning,
                stacklevel=3,
            )
        self._find_attractors(field, points, arrived)

    def _find_attractors(
        self, field: Field, points: FloatArray, arrived: NDArray[np.bool_]
    ) -> None:
        """The minima beside the points where rows have arrived, and which of them each is at."""
        self.assignment_ = np.full(len(points), -1)
        self.attractors_, self.energies_ = points[:0], np.empty(0)
        if not arrived.any():
            return
        rng = np.random.default_rng(self.noise_seed_)
        starts, met = _groups(points[arrived], _SAME_PLACE * self.walk_.sigma_)
        minima = np.array([_minimum(field, y, self.walk_.sigma_, rng) for y in starts])
        attractors, places = _groups(minima, _SAME_ATTRACTOR * self.walk_.sigma_)
        energies = self.walk_._energy(attractors)
        order = np.argsort(energies, kind="stable")
        self.attractors_, self.energies_ = attractors[order], energies[order]
        self.assignment_[arrived] = np.argsort(order)[places[met]]

    def _flow(self, field: Field, start: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return gradient_flow(
            field,
            start,
            step_size=self.walk_.sigma_**2,
            tolerance=self._tolerance,
            max_steps=self._max_steps,
        )

    def _move(self, field: Field, start: torch.Tensor, normal: Normal) -> Stages:
        return {"attractor": self._flow(field, start)[0]}


def _groups(points: FloatArray, reach: float) -> tuple[FloatArray, NDArray[np.intp]]:
    """One of every group of points within reach of each other, and the group of every point.

    In blocks, as many points may be in one place.
    """
    centred = points - points.mean(axis=0)
    groups = np.empty(len(points), dtype=np.intp)
    firsts: list[int] = []
    for block in np.array_split(np.arange(len(points)), -(-len(points) // MOVED_ROWS)):
        new = np.ones(len(block), dtype=bool)
        if firsts:
            nearest, distance = pairwise_distances_argmin_min(centred[block], centred[firsts])
            new = distance > reach
            groups[block[~new]] = nearest[~new]
        if new.any():
            own = DBSCAN(eps=reach, min_samples=1).fit_predict(centred[block[new]])
            groups[block[new]] = len(firsts) + own
            firsts += block[new][np.unique(own, return_index=True)[1]].tolist()
    return points[firsts], groups


def _minimum(field: Field, point: FloatArray, sigma: float, rng: np.random.Generator) -> FloatArray:
    """The local minimum of an energy beside a point where its flow is slow.

    A small push keeps the search from a saddle. Its unit of length is a tenth of sigma, lest the
    first step leave the valley.
    """
    unit = _SAME_ATTRACTOR * sigma

    def energy_of(place: FloatArray) -> tuple[float, FloatArray]:
        with torch.no_grad():
            energy, slope = field(torch.tensor(point + unit * place)[None])
        return float(energy), unit * slope[0].numpy()

    push = _PUSH * rng.standard_normal(len(point)) / np.sqrt(len(point))
    found = minimize(energy_of, push, jac=True, method="L-BFGS-B", options=_TO_THE_BOTTOM)
    return np.asarray(point + unit * found.x)
