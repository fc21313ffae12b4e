"""Denoisers that go on from x̂, on an energy of less noise."""

from __future__ import annotations

import hashlib
import warnings
from abc import abstractmethod
from typing import Any, Self

import numpy as np
import torch
from tqdm.auto import tqdm

from smoothlearn.denoisers.base import Denoise, Denoiser, EnergyDenoiser, FloatArray
from smoothlearn.denoisers.fitting import fit_jump, fit_walk, refuse_other_columns, walk_sigma
from smoothlearn.nn.adversarial import TrainingDenoiser
from smoothlearn.nn.dynamics import Field, Normal
from smoothlearn.nn.randomness import generator_on, spawn_seeds
from smoothlearn.nn.voting import row_seeds
from smoothlearn.theory.arguments import RAW_PIXELS

Stages = dict[str, torch.Tensor]
#: Rows that move at once: their distances to all training rows may be needed.
MOVED_ROWS = 256
_CPU = torch.device("cpu")


class TwoLevelDenoiser(Denoiser):
    r"""x̂ of noise sigma, then a motion on the energy :math:`\phi_{\sigma'}` of less noise.

    ``fit`` sets ``jump_``, ``walk_``, ``noise_seed_`` and, last of all, ``sigma_``.
    """

    jump: Any
    walk: Any
    random_state: Any
    verbose: int

    jump_: Denoiser
    walk_: EnergyDenoiser
    noise_seed_: int

    @abstractmethod
    def _keep_settings(self, walk_sigma: float) -> None:
        """Check the parameters of the motion, given the walk's noise, and keep what they mean."""

    @abstractmethod
    def _move(self, field: Field, start: torch.Tensor, normal: Normal) -> Stages:
        """What becomes of x̂ on the energy, step by step."""

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit the jump for noise sigma, and the walk for its own.

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
            If X is not finite, a parameter is out of range, ``jump`` or ``walk`` is not a denoiser
            or ``walk`` has no energy, or the jump has another sigma.

        Warns
        -----
        UserWarning
            If the walk's sigma is not smaller than sigma.
        """
        X, sigma = self._start_fit(X)
        smaller = walk_sigma(self.walk, sigma)
        self._keep_settings(smaller)
        columns = getattr(self, "feature_names_in_", None)
        refuse_other_columns({"jump": self.jump, "walk": self.walk}, X, columns)
        seeds = spawn_seeds(self.random_state, ("jump", "walk", "noise"))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=RAW_PIXELS)  # it was said of these rows
            self.jump_ = fit_jump(self.jump, X, sigma, seeds["jump"])
            self.walk_ = fit_walk(self.walk, X, smaller, seeds["walk"])
        self.noise_seed_ = seeds["noise"]
        self._finish_fit(X)
        self.sigma_ = sigma
        return self

    def _finish_fit(self, X: FloatArray) -> None:
        """What a subclass learns from the rows beyond its two denoisers."""

    def _energy(self, Y: FloatArray) -> FloatArray:
        return self.jump_._energy(Y)

    def _denoise(self, Y: FloatArray) -> FloatArray:
        return list(self._stages(Y).values())[-1]

    def _stages(self, Y: FloatArray) -> dict[str, FloatArray]:
        field = self.walk_.field_on(_CPU, double=True)
        start = self.jump_._denoise(Y)
        blocks = tqdm(range(0, len(Y), MOVED_ROWS), unit="block", disable=self.verbose <= 0)
        moved = [
            self._move_rows(field, start[first : first + MOVED_ROWS], Y[first : first + MOVED_ROWS])
            for first in blocks
        ]
        return {name: np.concatenate([block[name] for block in moved]) for name in moved[0]}

    def _move_rows(self, field: Field, start: FloatArray, Y: FloatArray) -> dict[str, FloatArray]:
        """The stages of a block of rows, each with noise that depends on the row alone."""
        keys = row_seeds(Y, sigma=self.walk_.sigma_, noise_seed=self.noise_seed_, purpose="walk")
        generators = [generator_on(_CPU, key) for key in keys]

        def normal(width: int) -> torch.Tensor:
            draws = [torch.randn(width, generator=own, dtype=torch.float64) for own in generators]
            return torch.stack(draws)

        with torch.no_grad():
            stages = self._go_on(field, torch.tensor(start), normal)
        return {name: np.asarray(rows.numpy()) for name, rows in stages.items()}

    def _go_on(self, field: Field, start: torch.Tensor, normal: Normal) -> Stages:
        return {"denoised": start, **self._move(field, start, normal)}

    def denoise_on(self, device: torch.device) -> Denoise:
        jump = self.jump_.denoise_on(device)
        field = self.walk_.field_on(device)

        def denoise(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            with torch.set_grad_enabled(batch.requires_grad and torch.is_grad_enabled()):
                start = jump(batch, generator)
                return _last(self._move(field, start, _normal_like(batch, generator)))

        return denoise

    def denoise_training_on(self, rows: FloatArray, device: torch.device) -> TrainingDenoiser:
        jump = self.jump_.denoise_training_on(rows, device)
        field = self.walk_.field_training_on(rows, device)

        def denoise(batch: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
            generator = generator_on(device, self._seed_of(places))
            with torch.set_grad_enabled(batch.requires_grad and torch.is_grad_enabled()):
                start = jump(batch, places)
                normal = _normal_like(batch, generator)
                return _last(self._move(lambda points: field(points, places), start, normal))

        return denoise

    def _seed_of(self, places: torch.Tensor) -> int:
        """The same walks for the same batch: while it is attacked, and whenever it validates."""
        key = self.noise_seed_.to_bytes(16, "little")
        batch = places.cpu().numpy().tobytes()
        return int.from_bytes(hashlib.blake2b(batch, digest_size=8, key=key).digest(), "little")


def _last(stages: Stages) -> torch.Tensor:
    return list(stages.values())[-1]


def _normal_like(batch: torch.Tensor, generator: torch.Generator) -> Normal:
    def normal(width: int) -> torch.Tensor:
        return torch.randn(
            (len(batch), width), generator=generator, dtype=batch.dtype, device=batch.device
        )

    return normal
