"""Balls: projections are the nearest points, draws are uniform, steps gain most."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest

from smoothlearn.nn.balls import Ball

NORMS = (1, 2, np.inf)
norms = st.sampled_from(NORMS)
dtypes = st.sampled_from([torch.float32, torch.float64])
seeds = st.integers(0, 2**32 - 1)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def size(points, center, norm):
    return torch.linalg.vector_norm(points.double() - center.double(), norm, dim=1)


def corners(norm, d):
    """The corners of the unit ball, of which it is the hull."""
    if norm == 1:
        return torch.cat([torch.eye(d), -torch.eye(d)]).double()
    return torch.tensor(list(itertools.product([-1.0, 1.0], repeat=d))).double()


@given(norms, dtypes, seeds, st.floats(0, 100), st.floats(0, 1e5), st.floats(0, 1e3))
def test_what_is_projected_is_in_the_ball_whatever_rounding_does(
    norm, dtype, seed, epsilon, offset, distance
):
    center = offset + normal(4, 7, seed=seed).to(dtype)
    ball = Ball(center, epsilon, norm)
    inside = ball.project(center + distance * normal(4, 7, seed=seed + 1).to(dtype))
    assert inside.dtype == dtype
    assert (size(inside, center, norm) <= epsilon).all()


@pytest.mark.parametrize("norm", [1, np.inf])
@given(seed=seeds, epsilon=st.floats(0.01, 5), d=st.integers(1, 6))
def test_no_corner_of_the_ball_lies_on_the_projected_points_side(norm, seed, epsilon, d):
    """The nearest point p of a convex set to y is the one with (y - p)(c - p) <= 0 for all c."""
    center, point = normal(1, d, seed=seed), 3 * normal(1, d, seed=seed + 1)
    nearest = Ball(center, epsilon, norm).project(point)
    ends = center + epsilon * corners(norm, d)
    assert ((ends - nearest) @ (point - nearest)[0] <= 1e-9).all()


@given(seeds, st.floats(0.01, 5))
def test_the_euclidean_projection_is_radial(seed, epsilon):
    center, point = normal(5, 3, seed=seed), 3 * normal(5, 3, seed=seed + 1)
    length = size(point, center, 2)[:, None]
    expected = center + (point - center) * (epsilon / length).clamp(max=1)
    torch.testing.assert_close(Ball(center, epsilon, 2).project(point), expected)


@given(norms, seeds)
def test_points_of_the_ball_stay(norm, seed):
    center = torch.zeros(5, 4, dtype=torch.float64)
    offset = normal(5, 4, seed=seed)
    offset = 0.999 * offset / size(offset, center, norm)[:, None]
    torch.testing.assert_close(Ball(center, 1.0, norm).project(offset), offset, rtol=0, atol=0)


@given(norms, seeds, dtypes, st.floats(0, 2))
def test_a_box_holds_together_with_the_ball(norm, seed, dtype, epsilon):
    center = normal(4, 5, seed=seed).to(dtype).clamp(-0.5, 0.7)
    ball = Ball(center, epsilon, norm, (-0.5, 0.7))
    inside = ball.project(center + 3 * normal(4, 5, seed=seed + 1).to(dtype))
    assert (inside >= -0.5).all()
    assert (inside <= torch.tensor(0.7, dtype=dtype)).all()
    assert (size(inside, center, norm) <= epsilon).all()


@pytest.mark.parametrize(
    ("norm", "uniform"),
    [
        (1, lambda x: (x.sum(dim=1) + 1) / 2),  # a square on its corner
        (2, lambda x: x.square().sum(dim=1)),
        (2, lambda x: torch.atan2(x[:, 1], x[:, 0]) / (2 * torch.pi) + 0.5),
        (np.inf, lambda x: (x[:, 0] + 1) / 2),
    ],
)
def test_draws_are_uniform(norm, uniform):
    center = torch.full((4000, 2), 3.0, dtype=torch.float64)
    points = Ball(center, 0.5, norm).draw(torch.Generator().manual_seed(1))
    assert (size(points, center, norm) <= 0.5).all()
    assert kstest(uniform((points - center) / 0.5).numpy(), "uniform").pvalue > 0.01


@pytest.mark.parametrize("norm", NORMS)
def test_the_steepest_direction_gains_the_dual_norm(norm):
    slope = normal(6, 5)
    direction = Ball(torch.zeros_like(slope), 1.0, norm).steepest(slope, torch.zeros_like(slope))
    dual = {1: np.inf, 2: 2, np.inf: 1}[norm]
    torch.testing.assert_close(size(direction, torch.zeros(1), norm), torch.ones(6).double())
    torch.testing.assert_close((slope * direction).sum(1), torch.linalg.norm(slope, dual, dim=1))


@pytest.mark.parametrize("norm", NORMS)
def test_no_slope_no_step(norm):
    zero = torch.zeros(2, 3)
    assert not Ball(zero, 1.0, norm).steepest(zero, zero).any()


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_slopes_of_any_size_give_a_direction(scale):
    slope = scale * torch.tensor([[3.0, 4.0]])
    direction = Ball(torch.zeros(1, 2), 1.0, 2).steepest(slope, torch.zeros(1, 2))
    torch.testing.assert_close(direction, torch.tensor([[0.6, 0.8]]))


def test_entries_at_their_bound_are_no_way_out():
    center = torch.tensor([[1.0, 0.5, 0.0]])
    slope = torch.tensor([[3.0, 1.0, -2.0]])
    in_box = Ball(center, 1.0, 1, (0.0, 1.0)).steepest(slope, center)
    assert in_box.tolist() == [[0, 1, 0]]
    assert Ball(center, 1.0, 1).steepest(slope, center).tolist() == [[1, 0, 0]]
    back = Ball(center, 1.0, np.inf, (0.0, 1.0)).steepest(-slope, center)
    assert back.tolist() == [[-1, -1, 1]]


@pytest.mark.parametrize("norm", NORMS)
def test_every_row_has_its_radius(norm):
    radii = torch.tensor([0.0, 0.5, 2.0])
    ball = Ball(torch.zeros(3, 2), radii, norm)
    torch.testing.assert_close(
        size(ball.project(9 * torch.ones(3, 2)), torch.zeros(1), norm), radii.double()
    )


@pytest.mark.parametrize(
    ("change", "error", "problem"),
    [
        ({"X": torch.zeros(3, 2, dtype=torch.int64)}, TypeError, "X must hold floats, got"),
        ({"X": torch.zeros(3)}, ValueError, r"X must be finite, of shape \(n, ...\), got"),
        ({"X": torch.full((3, 2), torch.nan)}, ValueError, "X must be finite"),
        ({"epsilon": -1.0}, ValueError, "epsilon must be finite and >= 0, got -1.0"),
        ({"epsilon": torch.inf}, ValueError, "epsilon must be finite"),
        ({"epsilon": torch.ones(2)}, ValueError, r"one for each of 3 rows, got shape \(2,\)"),
        ({"norm": 3}, ValueError, "norm must be 1, 2 or inf, got 3"),
        ({"bounds": (0.5, 1.0)}, ValueError, "X must lie within bounds="),
    ],
)
def test_bad_input(change, error, problem):
    arguments = {"X": torch.zeros(3, 2), "epsilon": 1.0, "norm": 2} | change
    with pytest.raises(error, match=problem):
        Ball(**arguments)
