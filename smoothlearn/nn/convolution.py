"""Upper bounds of the operator norms of convolutions."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Complex numbers that a grid of frequencies may hold.
_LARGEST = 2**25


def convolution_norm(weight: Tensor, groups: int = 1) -> float:
    r"""An upper bound of :math:`\|W\|_2` for a convolution of inputs of any size.

    With the symbol :math:`\hat w(\theta) = \sum_k w_k e^{i \langle k, \theta \rangle}`,

    .. math::
        \|W\|_2 \le \sup_\theta \|\hat w(\theta)\|_2
            \le \cos\left(\tfrac{(k - 1) \pi}{2 N}\right)^{-D} \max_{\theta \in G} \|\hat w\|_2,

    with G the grid of N points in each of D directions and k the size of the kernel. The first
    holds for zero padding of any width, any stride and any dilation: on signals without borders the
    convolution is a multiplication by the symbol of their Fourier transform (dilation only rescales
    :math:`\theta`); padding restricts it to signals that are zero outside the image and to outputs
    in a window, and a stride to some of these, which makes no norm larger. The second is a theorem
    of Riesz: a real trigonometric polynomial of degree n that is largest at
    :math:`\theta^*` is at least :math:`\cos(n (\theta - \theta^*))` times as large for
    :math:`|\theta - \theta^*| \le \pi / 2n`. It is applied, one direction after the other, to
    :math:`\mathrm{Re} \langle u, \hat w(\theta) v \rangle` with u and v those of the supremum; a
    phase, which changes no norm, makes its degree :math:`(k - 1)/2`, and the nearest point of the
    grid is at a distance of :math:`\pi/N` at most. N is 8k: the bound exceeds the supremum by 4 %
    at most in two directions. A power iteration would give a lower bound.

    Parameters
    ----------
    weight : Tensor of shape (n_out, n_in / groups, *kernel)
    groups : int

    References
    ----------
    Riesz (1914), Eine trigonometrische Interpolationsformel; Sedghi, Gupta and Long (2019), The
    singular values of convolutional layers, for the circular convolution.

    Examples
    --------
    >>> import torch
    >>> from smoothlearn.nn.convolution import convolution_norm
    >>> blur = torch.full((1, 1, 3), 1 / 3, dtype=torch.float64)  # its symbol is largest at 0
    >>> 1 <= convolution_norm(blur) <= 1.03
    True
    """
    kernel = weight.shape[2:]
    sizes = [8 * size for size in kernel]
    if math.prod([*weight.shape[:2], *sizes]) > _LARGEST:
        return math.inf
    weight = weight.double().unflatten(0, (groups, -1))
    axes = tuple(range(3, weight.ndim))
    symbol = torch.fft.fftn(weight, s=sizes, dim=axes)
    # the symbol of real weights at -θ is the conjugate of that at θ
    half = symbol.narrow(-1, 0, sizes[-1] // 2 + 1).flatten(3).movedim(-1, 0)
    largest = float(torch.linalg.matrix_norm(half, 2).max())
    largest += 1e-13 * float(weight.abs().flatten(3).sum(-1).square().sum().sqrt())
    for size, n_points in zip(kernel, sizes, strict=True):
        largest /= math.cos((size - 1) * math.pi / (2 * n_points))
    return largest * (1 + 1e-12)
