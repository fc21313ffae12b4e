"""Norms of convolutions against those of their matrices."""

from itertools import product

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from smoothlearn.nn.convolution import convolution_norm


def matrix_norm(weight, size, dims, **settings):
    """The norm of the convolution as a matrix, for images of a size."""
    convolve = F.conv1d if dims == 1 else F.conv2d
    n_in = weight.shape[1] * settings.get("groups", 1)
    n = n_in * size**dims
    eye = torch.eye(n, dtype=torch.float64).reshape(n, n_in, *[size] * dims)
    return np.linalg.norm(convolve(eye, weight, **settings).flatten(1).numpy(), 2)


def random_weight(*shape, seed=0, positive=False):
    weight = np.random.default_rng(seed).standard_normal(shape)
    return torch.from_numpy(np.abs(weight) if positive else weight)


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("groups", [1, 2])
def test_no_convolution_of_sequences_is_larger(kernel, groups, positive):
    weight = random_weight(4, 3, kernel, seed=kernel, positive=positive)
    bound = convolution_norm(weight, groups)
    for stride, padding, dilation in product([1, 2, 3], [0, 1, 2, 7], [1, 2]):
        settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        assert matrix_norm(weight, 13, 1, **settings) <= bound
    for padding in ("same", "valid"):
        if padding == "valid" or kernel % 2:
            assert matrix_norm(weight, 13, 1, padding=padding, groups=groups) <= bound


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("shape", [(3, 3), (2, 3), (1, 4), (2, 2)])
@pytest.mark.parametrize("groups", [1, 2])
def test_no_convolution_of_images_is_larger(shape, groups, positive):
    weight = random_weight(4, 2, *shape, seed=sum(shape), positive=positive)
    bound = convolution_norm(weight, groups)
    for stride, padding, dilation in product([1, 2, (1, 3)], [0, 1, (3, 2)], [1, 2]):
        settings = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        assert matrix_norm(weight, 7, 2, **settings) <= bound


@pytest.mark.parametrize("seed", range(5))
def test_the_bound_is_near_the_norm_on_large_images(seed):
    weight = random_weight(3, 2, 3, seed=seed)
    exact = matrix_norm(weight, 200, 1, padding=1)
    assert exact <= convolution_norm(weight) <= 1.03 * exact


@pytest.mark.parametrize("kernel", [2, 3, 5])
def test_kernels_whose_peak_lies_between_points_of_the_grid(kernel):
    # cos(k (θ - shift)): the grid misses the largest value, the factor makes up for it
    for shift in np.linspace(0, np.pi, 23):
        phases = np.arange(kernel) * shift
        weight = torch.from_numpy(np.stack([np.cos(phases), np.sin(phases)])[:, None])
        assert matrix_norm(weight, 150, 1, padding=kernel) <= convolution_norm(weight)


def test_too_large_a_kernel_has_no_bound_here():
    assert convolution_norm(torch.zeros(512, 512, 7, 7)) == np.inf


def test_nothing_is_bounded_by_nothing():
    assert convolution_norm(torch.zeros(2, 2, 3, 3)) == 0
