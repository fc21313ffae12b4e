"""Networks: what they see of rows and images, and how a user's own are taken in."""

import numpy as np
import pytest
import torch
from torch import nn

from smoothlearn.nn.networks import (
    ConvClassifier,
    ConvScalar,
    UNet,
    load_weights,
    mlp,
    of_images,
    save_weights,
    users_network,
)
from smoothlearn.nn.randomness import private_torch_rng

SIZES = [(1, 1, 1), (1, 2, 2), (1, 3, 4), (1, 7, 5), (1, 28, 28), (3, 6, 9), (3, 32, 32)]


def build(network, *arguments, **settings):
    with private_torch_rng(0):
        return network(*arguments, **settings)


def images(shape, n=2):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(1))


def test_an_mlp_has_its_sizes_and_no_activation_at_the_end():
    layers = list(mlp(3, 8, 4, 2))
    assert [type(layer) for layer in layers] == [nn.Linear, nn.SiLU] * 2 + [nn.Linear]
    assert [(layer.in_features, layer.out_features) for layer in layers[::2]] == [
        (3, 8),
        (8, 4),
        (4, 2),
    ]


@pytest.mark.parametrize("shape", SIZES)
def test_outputs_have_their_shape(shape):
    x = images(shape)
    assert build(ConvClassifier, shape, 5, width=4)(x).shape == (2, 5)
    assert build(ConvScalar, shape, width=4)(x).shape == (2, 1)
    assert build(UNet, shape[0], width=4)(x).shape == x.shape


@pytest.mark.parametrize("shape", SIZES[:-1])
def test_a_classifier_sees_every_pixel(shape):
    network = build(ConvClassifier, shape, 3, width=16).double()
    x = images(shape, n=20).double().requires_grad_()
    (slope,) = torch.autograd.grad(network(x).square().sum(), x)
    assert (slope.abs().amax(dim=0) > 0).all()


@pytest.mark.parametrize("shape", [(1, 7, 5), (3, 8, 8)])
def test_a_classifier_of_images_is_one_of_rows_and_rows_do_not_mix(shape):
    network = build(ConvClassifier, shape, 3, width=4)
    x = images(shape, n=4)
    together = network(x)
    assert torch.equal(of_images(network, shape)(x.flatten(1)), together)
    alone = torch.cat([network(image[None]) for image in x])
    torch.testing.assert_close(together, alone)


def test_the_layout_of_images_in_memory_does_not_matter():
    network = build(ConvClassifier, (3, 6, 6), 3, width=4)
    x = images((3, 6, 6))
    torch.testing.assert_close(network(x.to(memory_format=torch.channels_last)), network(x))


def test_classes_and_functions_are_called_and_instances_copied():
    assert users_network(nn.Linear, 3, 2).weight.shape == (2, 3)
    assert users_network(lambda d, k: nn.Linear(d, k), 3, 2).weight.shape == (2, 3)
    instance = nn.Linear(3, 2)
    copy = users_network(instance, 9, 9)
    assert copy is not instance
    assert torch.equal(copy.weight, instance.weight)
    assert copy.weight.data_ptr() != instance.weight.data_ptr()


@pytest.mark.parametrize(
    ("module", "kind", "problem"),
    [
        (7, TypeError, "module must be a name, or an nn.Module class or instance, got 7"),
        (None, TypeError, "module must be a name.* got None"),
        (dict, TypeError, "gave dict, not a torch nn.Module"),
        (lambda d=1: "no network", TypeError, "gave str, not a torch nn.Module"),
        (nn.Identity(), ValueError, "has no parameters to train"),
        (nn.Linear(2, 2).requires_grad_(False), ValueError, "has no parameters to train"),
    ],
)
def test_what_is_no_network(module, kind, problem):
    with pytest.raises(kind, match=problem):
        users_network(module)


def test_weights_go_to_arrays_and_back():
    def network():
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2))

    first, second = network(), network()
    first(torch.randn(10, 3, generator=torch.Generator().manual_seed(0)))  # moves the statistics
    weights = save_weights(first)
    assert all(type(value) is np.ndarray for value in weights.values())
    load_weights(second, weights)
    assert not second.training
    assert not any(parameter.requires_grad for parameter in second.parameters())
    x = torch.ones(2, 3)
    assert torch.equal(second(x), first.eval()(x))
    assert int(second[1].num_batches_tracked) == 1


def test_saved_weights_are_copies_both_ways():
    network = nn.Linear(2, 2)
    weights = save_weights(network)
    before = network.weight.detach().clone()
    weights["weight"][:] = 7
    assert torch.equal(network.weight, before)
    load_weights(network, weights)
    weights["weight"][:] = 0
    assert torch.equal(network.weight, torch.full((2, 2), 7.0))
