"""Bounds of the derivatives of activation functions against dense grids and against torch."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from smoothlearn.theory import activations
from smoothlearn.theory.activations import softplus

KNOWN = {
    "tanh": (activations.TANH, torch.tanh, 1.0, 0.7698),
    "sigmoid": (activations.SIGMOID, torch.sigmoid, 0.25, 0.09623),
    "softplus": (softplus(1.0), F.softplus, 1.0, 0.25),
    "steep softplus": (softplus(5.0), lambda z: F.softplus(z, 5.0, 50.0), 1.0, 1.25),
    "flat softplus": (softplus(0.1), lambda z: F.softplus(z, 0.1, 50.0), 1.0, 0.025),
    "silu": (activations.SILU, F.silu, 1.0999, 0.5),
    "gelu": (activations.GELU, F.gelu, 1.1290, 0.7979),
    "gelu by tanh": (
        activations.GELU_TANH,
        lambda z: F.gelu(z, approximate="tanh"),
        1.1290,
        0.7979,
    ),
    "elu": (activations.ELU, F.elu, 1.0, 1.0),
}


@pytest.fixture(params=KNOWN)
def known(request):
    return KNOWN[request.param]


def derivatives(function, points):
    z = torch.tensor(points, requires_grad=True)
    first = torch.autograd.grad(function(z).sum(), z, create_graph=True)[0]
    second = torch.autograd.grad(first.sum(), z)[0]
    return first.detach().numpy(), second.numpy()


def intervals(seed, n, spread):
    rng = np.random.default_rng(seed)
    centre = rng.uniform(-spread, spread, n)
    half = 10.0 ** rng.uniform(-3, 1, n)
    return centre - half, centre + half


def test_derivatives_are_torch_s(known):
    activation, function, *_ = known
    points = np.linspace(-12, 12, 2000)
    first, second = derivatives(function, points)
    np.testing.assert_allclose(activation.first(points), first, atol=1e-12)
    np.testing.assert_allclose(activation.second(points), second, atol=1e-12)


def test_global_bounds_are_the_known_constants_rounded_up(known):
    activation, _, slope, bend = known
    low, high = activation.slopes(-np.inf, np.inf)
    grid = np.linspace(-600, 600, 2_400_001)
    first, second = activation.first(grid), activation.second(grid)
    assert first.max() <= high <= first.max() + 1e-6
    assert first.min() - 1e-3 <= low <= first.min()
    assert np.abs(second).max() <= activation.bend(-np.inf, np.inf) <= np.abs(second).max() + 1e-6
    assert high == pytest.approx(slope, abs=1e-3)
    assert activation.bend(-np.inf, np.inf) == pytest.approx(bend, abs=1e-4)


@pytest.mark.parametrize("spread", [1.0, 6.0, 30.0])
def test_bounds_on_intervals_hold_and_are_tight(known, spread):
    activation = known[0]
    low, high = intervals(int(spread), 300, spread)
    grid = np.linspace(low, high, 2001)
    first, second = activation.first(grid), np.abs(activation.second(grid))
    least, most = activation.slopes(low, high)
    assert (least <= first.min(0)).all()
    assert (first.max(0) <= most).all()
    assert (second.max(0) <= activation.bend(low, high)).all()
    # the grid misses an extreme by its spacing at most
    step = (high - low) / 2000 * 3
    np.testing.assert_array_less(most, first.max(0) + step + 1e-9)
    np.testing.assert_array_less(first.min(0), least + step + 1e-9)
    kink = (low <= 0) & (high >= 0) if activation is activations.ELU else np.zeros(300, bool)
    bend = activation.bend(low, high)
    np.testing.assert_array_less(bend[~kink], (second.max(0) + 25 * step + 1e-9)[~kink])


def test_wider_intervals_have_larger_bounds(known):
    activation = known[0]
    low, high = intervals(5, 400, 5.0)
    wider = low - 0.1, high + 0.3
    assert (activation.slopes(*wider)[0] <= activation.slopes(low, high)[0]).all()
    assert (activation.slopes(*wider)[1] >= activation.slopes(low, high)[1]).all()
    assert (activation.bend(*wider) >= activation.bend(low, high)).all()


def test_a_point_is_an_interval(known):
    activation = known[0]
    points = np.linspace(-3, 3, 61)
    least, most = activation.slopes(points, points)
    np.testing.assert_allclose(least, most, atol=1e-9)
    # the second derivative of an ELU jumps at 0
    np.testing.assert_allclose(
        activation.bend(points, points), np.abs(activation.second(points)), atol=1e-9
    )


def test_monotone_between_turns(known):
    activation = known[0]
    for function, turns in (
        (activation.first, activation.first_turns),
        (activation.second, activation.second_turns),
    ):
        edges = [-40.0, *turns, 40.0]
        for start, stop in pairwise(edges):
            inner = np.linspace(start, stop, 100_001)[1:-1]
            steps = np.diff(function(inner))
            assert (steps >= -1e-12).all() or (steps <= 1e-12).all()


@pytest.mark.parametrize("beta", [0.0, -1.0, np.inf, np.nan])
def test_softplus_needs_a_positive_beta(beta):
    with pytest.raises(ValueError, match="beta must be positive"):
        softplus(beta)
