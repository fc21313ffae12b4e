r"""How much the first and second derivatives of activation functions can be on an interval."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, ndtr

FloatArray = NDArray[np.float64]

#: More than the rounding errors of the derivatives below, all of which are of order 1.
_SLACK = 1e-12


@dataclass(frozen=True, eq=False)
class Activation:
    r"""The derivatives :math:`\sigma'`, :math:`\sigma''` of an activation function.

    Bounds are global where the interval is (-inf, inf): :math:`\sup|\sigma'|` and
    :math:`\sup|\sigma''|` are 1 and .7698 for tanh, .25 and .0963 for the sigmoid, 1 and
    :math:`\beta/4` for softplus, 1.0999 and .5 for SiLU, 1.1290 and .7979 for GELU.

    Parameters
    ----------
    first, second : callable
        The derivatives, elementwise. Beyond ``reach`` they are constant within rounding.
    first_turns, second_turns : tuple of float
        The first derivative is monotone between neighbours of ``first_turns``, and the second
        between neighbours of ``second_turns``.
    size : float
        The order of magnitude of the second derivative.

    Examples
    --------
    >>> import numpy as np
    >>> from smoothlearn.theory.activations import TANH
    >>> round(float(TANH.bend(-np.inf, np.inf)), 4)
    0.7698
    >>> low, high = TANH.slopes([0.0, -1.0], [1.0, 2.0])
    >>> low.round(4), high.round(4)
    (array([0.42  , 0.0707]), array([1., 1.]))
    """

    first: Callable[[FloatArray], FloatArray]
    second: Callable[[FloatArray], FloatArray]
    first_turns: tuple[float, ...]
    second_turns: tuple[float, ...]
    reach: float = 1000.0
    size: float = 1.0

    def slopes(self, low: ArrayLike, high: ArrayLike) -> tuple[FloatArray, FloatArray]:
        r"""The least and the largest :math:`\sigma'` on intervals, rounded outward.

        Parameters
        ----------
        low, high : array_like
            Ends of the intervals, low <= high, which may be infinite.
        """
        least, most = self._range(self.first, self.first_turns, low, high)
        return least - _SLACK, most + _SLACK

    def bend(self, low: ArrayLike, high: ArrayLike) -> FloatArray:
        r"""The largest :math:`|\sigma''|` on intervals, rounded up.

        Parameters
        ----------
        low, high : array_like
            Ends of the intervals, low <= high, which may be infinite.
        """
        least, most = self._range(self.second, self.second_turns, low, high)
        return np.maximum(-least, most) + _SLACK * self.size

    def _range(
        self,
        function: Callable[[FloatArray], FloatArray],
        turns: tuple[float, ...],
        low: ArrayLike,
        high: ArrayLike,
    ) -> tuple[FloatArray, FloatArray]:
        """Extremes of a function that is monotone between its turns."""
        start = np.clip(np.asarray(low, float), -self.reach, self.reach)
        stop = np.clip(np.asarray(high, float), -self.reach, self.reach)
        ends = function(start), function(stop)
        least, most = np.minimum(*ends), np.maximum(*ends)
        for turn in turns:
            near = 1e-7 * (1 + abs(turn))  # turns are rounded
            inside = (start <= turn + near) & (stop >= turn - near)
            value = float(function(np.array(turn)))
            least = np.where(inside, np.minimum(least, value), least)
            most = np.where(inside, np.maximum(most, value), most)
        return least, most


def softplus(beta: float) -> Activation:
    r"""The bounds of :math:`\log(1 + e^{\beta z}) / \beta`: :math:`\sigma' = s(\beta z)`.

    Parameters
    ----------
    beta : float
        Positive.

    Raises
    ------
    ValueError
        If beta is not positive and finite.

    Examples
    --------
    >>> import numpy as np
    >>> from smoothlearn.theory.activations import softplus
    >>> round(float(softplus(2.0).bend(-np.inf, np.inf)), 6)
    0.5
    """
    if not 0 < beta < math.inf:
        raise ValueError(f"beta must be positive and finite, got {beta!r}")
    return Activation(
        lambda z: expit(beta * z),
        lambda z: beta * _bell(beta * z),
        (),
        (0.0,),
        reach=1000 / beta,
        size=max(beta, 1e-300),
    )


def _bell(z: FloatArray) -> FloatArray:
    """The derivative of the sigmoid, also where it is nearly 0 or 1."""
    return np.asarray(expit(z) * expit(-z))


def _density(z: FloatArray) -> FloatArray:
    return np.asarray(np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi))


def _tanh_second(z: FloatArray) -> FloatArray:
    return np.asarray(-8 * np.tanh(z) * _bell(2 * z))


def _gelu_tanh(z: FloatArray) -> tuple[FloatArray, FloatArray]:
    r"""The derivatives of :math:`z\,s(2u)`, with :math:`u = \sqrt{2/\pi}(z + .044715 z^3)`."""
    root = math.sqrt(2 / math.pi)
    u = root * (z + 0.044715 * z**3)
    slope, bend = root * (1 + 3 * 0.044715 * z**2), root * 6 * 0.044715 * z
    bell = 2 * _bell(2 * u)
    turning = -2 * np.tanh(u) * bell * slope**2 + bell * bend
    return expit(2 * u) + z * bell * slope, 2 * bell * slope + z * turning


TANH = Activation(
    lambda z: 4 * _bell(2 * z), _tanh_second, (0.0,), (-0.6584789484624083, 0.6584789484624083)
)
SIGMOID = Activation(
    _bell,
    lambda z: -_bell(z) * np.tanh(z / 2),
    (0.0,),
    (-1.3169578969248166, 1.3169578969248166),
)
SILU = Activation(
    lambda z: expit(z) + z * _bell(z),
    lambda z: _bell(z) * (2 - z * np.tanh(z / 2)),
    (-2.399357280515468, 2.399357280515468),
    (-3.435840993534, 0.0, 3.435840993534),
)
#: :math:`z\,\Phi(z)`, with :math:`\sigma'' = \varphi(z)(2 - z^2)`.
GELU = Activation(
    lambda z: ndtr(z) + z * _density(z),
    lambda z: _density(z) * (2 - z * z),
    (-math.sqrt(2), math.sqrt(2)),
    (-2.0, 0.0, 2.0),
)
#: The approximation of GELU by a tanh.
GELU_TANH = Activation(
    lambda z: _gelu_tanh(z)[0],
    lambda z: _gelu_tanh(z)[1],
    (-1.4185040087908283, 1.4185040087908283),
    (-2.013480725, 0.0, 2.013480725),
)
#: ELU with alpha = 1, whose slope is continuous.
ELU = Activation(
    lambda z: np.exp(np.minimum(z, 0)),
    lambda z: np.where(z <= 0, np.exp(np.minimum(z, 0)), 0.0),
    (),
    (0.0,),
)
