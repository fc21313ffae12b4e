"""Attacks: they reach optima that are known, stay in their ball, and leave no trace."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from smoothlearn.nn.attacks import (
    attack_all,
    bias_lead,
    last_step,
    locally_biased_losses,
    mixture_loss,
    projected_gradient,
    smoothed_loss,
    smoothed_margin,
)

NORMS = (1, 2, np.inf)
DUAL = {1: np.inf, 2: 2, np.inf: 1}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def waves(x):
    """A loss with many optima."""
    return torch.sin(5 * x.flatten(1)).sum(dim=1) + x.flatten(1)[:, 0]


def network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n_steps", [1, 10])
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 10))
def test_the_optimum_of_a_linear_loss(norm, n_steps, seed, epsilon):
    slopes, X = normal(4, 6, seed=seed), normal(4, 6, seed=seed + 1)

    def loss(x):
        return (slopes * x).sum(dim=1)

    found = projected_gradient(loss, X, epsilon=epsilon, norm=norm, n_steps=n_steps)
    best = loss(X) + epsilon * torch.linalg.norm(slopes, DUAL[norm], dim=1)
    torch.testing.assert_close(loss(found), best)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_are_in_the_ball(norm, dtype):
    X = 100 + normal(50, 4).to(dtype)
    found = projected_gradient(
        waves, X, epsilon=0.3, norm=norm, step_size=7.0, n_restarts=3, generator=seeded()
    )
    assert found.dtype == dtype
    distance = torch.linalg.norm(found.double() - X.double(), norm, dim=1)
    assert (distance <= 0.3).all()
    assert (distance > 0.01).any()


def test_bounds_hold_where_they_are_given_and_nowhere_else():
    X = torch.tensor([[0.9, 0.5]])
    arguments = {"epsilon": 0.5, "norm": np.inf}
    free = projected_gradient(lambda x: x[:, 0] - x[:, 1], X, **arguments)
    torch.testing.assert_close(free, torch.tensor([[1.4, 0.0]]), atol=1e-6, rtol=0)
    boxed = projected_gradient(lambda x: x[:, 0] - x[:, 1], X, **arguments, bounds=(0.1, 1.0))
    torch.testing.assert_close(boxed, torch.tensor([[1.0, 0.1]]))


def test_in_a_box_one_entry_after_another_moves_in_the_1_norm():
    X = torch.tensor([[0.9, 0.5, 0.5]])
    slope = torch.tensor([3.0, 1.0, 2.0])
    found = projected_gradient(
        lambda x: x @ slope, X, epsilon=0.4, norm=1, n_steps=20, bounds=(0.0, 1.0)
    )
    assert (found @ slope).item() > (X @ slope).item() + 0.3 + 2 * 0.28


@pytest.mark.parametrize("norm", NORMS)
def test_more_restarts_are_never_worse(norm):
    X = normal(20, 3)
    losses = torch.stack(
        [
            waves(
                projected_gradient(
                    waves, X, epsilon=2.0, norm=norm, n_restarts=n, generator=seeded(3)
                )
            )
            for n in (1, 2, 5, 20)
        ]
    )
    assert (losses.diff(dim=0) >= 0).all()
    assert (losses[-1] > losses[0]).any()
    assert (losses[0] >= waves(X)).all()


def test_a_generator_decides_every_draw_and_the_global_one_is_left_alone():
    X = normal(10, 3)
    arguments = {"epsilon": 2.0, "norm": 2, "n_restarts": 3}
    state = torch.get_rng_state()
    first, second = (
        projected_gradient(waves, X, **arguments, generator=seeded(7)) for _ in range(2)
    )
    fresh = [projected_gradient(waves, X, **arguments) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, second)
    assert not torch.equal(*fresh)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_nothing_that_belongs_to_the_caller_changes(mode):
    module, X = network(), normal(5, 3).requires_grad_()
    module[0].weight.requires_grad_(False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    copy = X.detach().clone()
    with mode():
        found = projected_gradient(lambda x: module(x)[:, 0], X, epsilon=0.5, norm=2)
    assert not found.requires_grad
    assert X.requires_grad
    assert X.grad is None
    assert torch.equal(X, copy)
    assert [p.requires_grad for p in module.parameters()] == [False, True, True, True]
    assert all(p.grad is None for p in module.parameters())
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    with torch.no_grad():
        assert (module(found) > module(copy)).all()


def test_rows_in_inference_mode_can_be_attacked():
    with torch.inference_mode():
        X = torch.zeros(2, 2)
        found = projected_gradient(lambda x: x.sum(dim=1), X, epsilon=1.0, norm=np.inf)
    torch.testing.assert_close(found, torch.ones(2, 2))


def test_rows_do_not_depend_on_their_company():
    X = normal(12, 3)
    arguments = {"epsilon": 1.0, "norm": 2}
    together = projected_gradient(waves, X, **arguments)
    alone = torch.cat([projected_gradient(waves, row[None], **arguments) for row in X])
    torch.testing.assert_close(together, alone)


def test_images_keep_their_shape():
    X = normal(2, 3, 4, 4)
    found = projected_gradient(waves, X, epsilon=0.5, norm=2)
    assert found.shape == X.shape
    flat = projected_gradient(waves, X.flatten(1), epsilon=0.5, norm=2)
    torch.testing.assert_close(found.flatten(1), flat)


def test_no_rows():
    assert projected_gradient(waves, torch.zeros(0, 3), epsilon=1.0, norm=2).shape == (0, 3)


def test_a_row_prefers_success_to_loss():
    def success(x):
        return (x[:, 0] > 0.15) & (x[:, 0] < 0.35)

    X = torch.zeros(2, 1)
    found = projected_gradient(
        lambda x: x[:, 0], X, epsilon=1.0, norm=2, step_size=0.1, success=success
    )
    torch.testing.assert_close(found, torch.full((2, 1), 0.3))


def test_a_success_beats_points_of_larger_loss():
    found = projected_gradient(
        lambda x: -(x[:, 0] - 0.22).abs(),
        torch.zeros(2, 1),
        epsilon=1.0,
        norm=2,
        step_size=0.1,
        success=lambda x: x[:, 0] > 0.25,
    )
    torch.testing.assert_close(found, torch.full((2, 1), 0.3))


@pytest.mark.parametrize("norm", NORMS)
def test_entries_without_a_slope_do_not_hold_up_the_others(norm):
    found = projected_gradient(
        lambda x: x[:, 0] + x[:, 1].square().sqrt(), torch.zeros(1, 2), epsilon=1.0, norm=norm
    )
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0]]))


def test_where_the_loss_is_nan_a_row_keeps_what_it_had():
    def loss(x):
        return torch.where(x[:, 0] > 0.05, torch.nan, x[:, 0])

    found = projected_gradient(loss, torch.zeros(1, 2), epsilon=1.0, norm=2)
    assert torch.equal(found, torch.zeros(1, 2))


def test_every_row_has_its_radius():
    radii = torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64)
    found = projected_gradient(lambda x: x[:, 0], torch.zeros(3, 2).double(), epsilon=radii, norm=2)
    torch.testing.assert_close(found[:, 0], radii)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"n_steps": 0}, "n_steps must be an int >= 1, got 0"),
        ({"n_restarts": 1.5}, "n_restarts must be an int >= 1, got 1.5"),
        ({"step_size": -1.0}, "step_size must be finite and > 0"),
        ({"loss": torch.sum}, r"one number a row, of shape \(3,\), got shape \(\)"),
        ({"loss": lambda x: torch.zeros(len(x))}, "differentiable in its batch"),
    ],
)
def test_bad_input(change, problem):
    arguments = {"loss": waves, "X": torch.zeros(3, 2), "epsilon": 1.0, "norm": 2} | change
    with pytest.raises(ValueError, match=problem):
        projected_gradient(**arguments)


class Counted:
    """A loss that keeps the points it was asked for."""

    def __init__(self, loss):
        self.loss, self.points = loss, []

    def __call__(self, x):
        self.points.append(x.detach().clone())
        return self.loss(x)


@pytest.mark.parametrize("n_steps", [1, 4])
def test_the_last_point_is_a_candidate_too(n_steps):
    loss = Counted(lambda x: x[:, 0])
    found = projected_gradient(loss, torch.zeros(1, 2), epsilon=1.0, norm=2, n_steps=n_steps)
    assert len(loss.points) == n_steps + 1
    assert torch.equal(found, loss.points[-1])


class TestLastStep:
    """The attack of adversarial training: all steps, and where they end."""

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("step_size", [None, 7.0])
    def test_all_iterates_are_in_the_ball(self, dtype, step_size):
        X, loss = 100 + normal(50, 4).to(dtype), Counted(waves)
        found = last_step(loss, X, epsilon=0.3, n_steps=5, step_size=step_size)
        assert found.dtype == dtype
        for points in [*loss.points, found]:
            distance = torch.linalg.norm(points.double() - X.double(), dim=1)
            assert (distance <= 0.3).all()
        assert (distance > 0.29).any()

    @pytest.mark.parametrize("n_steps", [1, 3, 10])
    def test_raises_a_convex_loss(self, n_steps):
        X, centres = normal(30, 4), normal(30, 4, seed=1)
        loss = Counted(lambda x: (x - centres).square().sum(dim=1))
        found = last_step(loss, X, epsilon=0.5, n_steps=n_steps)
        assert len(loss.points) == n_steps
        assert torch.equal(loss.points[0], X)
        values = torch.stack([loss.loss(points) for points in [*loss.points, found]])
        assert (values.diff(dim=0) > -1e-12).all()
        assert (values[-1] > values[0] + 0.2).all()

    @pytest.mark.parametrize("step_size", [None, 0.2])
    def test_agrees_with_a_loop(self, step_size):
        module, X = network(), normal(8, 3)
        radii = torch.linspace(0, 1.4, 8, dtype=torch.float64)
        found = last_step(
            lambda x: module(x)[:, 0], X, epsilon=radii, n_steps=6, step_size=step_size
        )
        for x, radius, arrived in zip(X, radii, found, strict=True):
            delta, step = torch.zeros(3).double(), step_size or 2.5 * radius / 6
            for _ in range(6):
                delta = delta.requires_grad_()
                (slope,) = torch.autograd.grad(module((x + delta)[None]).sum(), delta)
                delta = delta.detach() + step * slope / slope.norm()
                delta = delta * min(1.0, radius / delta.norm())
            torch.testing.assert_close(arrived, x + delta, rtol=0, atol=1e-12)

    def test_gives_the_last_point_even_where_it_is_worse(self):
        found = last_step(
            lambda x: -x[:, 0].abs(), torch.full((1, 1), 0.1), epsilon=1.0, n_steps=1, step_size=0.5
        )
        torch.testing.assert_close(found, torch.tensor([[-0.4]]))

    def test_rows_without_a_slope_stay(self):
        X = normal(3, 2)
        found = last_step(lambda x: x[:, 0].abs() * X[:, 1].new_tensor([1, 0, 1]), X,
                          epsilon=1.0, n_steps=3)  # fmt: skip
        assert torch.equal(found[1], X[1])
        assert (found[[0, 2]] != X[[0, 2]]).any(dim=1).all()

    def test_where_the_slope_is_nan_a_row_stays(self):
        X = torch.tensor([[-1.0, 0.0], [4.0, 0.0]])
        found = last_step(lambda x: x[:, 0].sqrt(), X, epsilon=1.0, n_steps=2)
        torch.testing.assert_close(found, torch.tensor([[-1.0, 0.0], [5.0, 0.0]]))

    @pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
    def test_leaves_no_gradients(self, mode):
        module, X = network(), normal(5, 3).requires_grad_()
        with mode():
            found = last_step(lambda x: module(x)[:, 0], X, epsilon=0.5, n_steps=2)
        assert not found.requires_grad
        assert X.grad is None
        assert all(p.grad is None for p in module.parameters())

    @pytest.mark.parametrize(
        ("change", "kind", "problem"),
        [
            ({"n_steps": 0}, ValueError, "n_steps must be an int >= 1, got 0"),
            ({"n_steps": 2.0}, ValueError, "n_steps must be an int >= 1, got 2.0"),
            ({"step_size": 0.0}, ValueError, "step_size must be finite and > 0"),
            ({"epsilon": -1.0}, ValueError, "epsilon must be finite and >= 0"),
            ({"epsilon": torch.ones(2)}, ValueError, "epsilon must be a number, or one for each"),
            ({"norm": 3}, ValueError, "norm"),
            ({"X": torch.full((3, 2), torch.nan)}, ValueError, "X must be finite"),
            ({"X": torch.zeros(3, 2, dtype=torch.int64)}, TypeError, "X must hold floats"),
            ({"loss": lambda x: x}, ValueError, r"one number a row, of shape \(3,\)"),
        ],
    )
    def test_bad_input(self, change, kind, problem):
        arguments = {"loss": waves, "X": torch.zeros(3, 2), "epsilon": 1.0, "n_steps": 2} | change
        with pytest.raises(kind, match=problem):
            last_step(**arguments)


def mean_probability_loss(logits, y):
    """Eq. 14 of Saremi & Srivastava 2020 with the mean of Eq. 13, from logits (n, m, classes)."""
    powers = np.exp(logits.astype(np.longdouble))
    probabilities = powers / powers.sum(axis=2, keepdims=True)
    return -np.log(probabilities.mean(axis=1)[np.arange(len(y)), y]).astype(float)


class TestSmoothedLoss:
    """Minus the log of a mean of probabilities, over noise that is given."""

    @pytest.mark.parametrize("m", [1, 3])
    def test_is_eq_14(self, m):
        module, x, noise = nn.Tanh(), normal(5, 4), normal(5, m, 4, seed=1)
        y = torch.tensor([0, 1, 2, 3, 1])
        logits = np.array([[np.tanh((x[i] + noise[i, j]).numpy()) for j in range(m)]
                           for i in range(5)])  # fmt: skip
        expected = mean_probability_loss(5 * logits, y.numpy())
        loss = smoothed_loss(lambda noisy: 5 * module(noisy), y, noise)
        np.testing.assert_allclose(loss(x).numpy(), expected, rtol=1e-12)
        flat = torch.tensor(5 * logits).flatten(0, 1)
        np.testing.assert_allclose(mixture_loss(flat, y).numpy(), expected, rtol=1e-12)

    def test_the_copies_of_a_row_stand_side_by_side(self):
        x, noise = normal(4, 2), normal(4, 3, 2, seed=1)
        seen = []
        smoothed_loss(lambda noisy: seen.append(noisy) or noisy, torch.zeros(4).long(), noise)(x)
        expected = [x[i] + noise[i, j] for i in range(4) for j in range(3)]
        assert torch.equal(seen[0], torch.stack(expected))

    def test_is_not_the_mean_of_the_losses_of_the_copies(self):
        logits = torch.tensor([[0.0, 4.0], [0.0, -4.0]])
        both = torch.nn.functional.cross_entropy(logits, torch.zeros(2).long())
        assert mixture_loss(logits, torch.tensor([0])).item() < both.item() / 2

    def test_large_logits(self):
        logits = torch.tensor([[1e4, 0.0], [0.0, 0.0], [1e4, 0.0], [1e4, 0.0]], requires_grad=True)
        naive = -logits.softmax(dim=1).reshape(2, 2, 2).mean(dim=1)[:, 1].log()
        assert naive[1].isinf()
        value = mixture_loss(logits, torch.tensor([1, 1]))
        torch.testing.assert_close(value, torch.tensor([np.log(4), 1e4], dtype=torch.float32))
        (slope,) = torch.autograd.grad(value.sum(), logits)
        expected = torch.tensor([[0.0, 0.0], [0.5, -0.5], [0.5, -0.5], [0.5, -0.5]])
        torch.testing.assert_close(slope, expected, rtol=0, atol=1e-3)  # 1e4 in float32

    @pytest.mark.parametrize("m", [1, 3])
    def test_its_gradient_is_that_of_finite_differences(self, m):
        module, noise = network(), normal(5, m, 3, seed=1)
        wide = normal(1, 4, seed=2)
        loss = smoothed_loss(lambda x: module(x) * wide, torch.tensor([0, 1, 2, 3, 0]), noise)
        x = normal(5, 3, seed=3).requires_grad_()
        assert torch.autograd.gradcheck(loss, x)

    def test_the_noise_stays_the_same(self):
        loss = smoothed_loss(lambda x: x, torch.tensor([0, 1]), normal(2, 3, 2))
        x = normal(2, 2, seed=1)
        assert torch.equal(loss(x), loss(x))


def test_all_attacks_give_the_first_success_and_leave_other_rows():
    losses = [lambda x: x[:, 0], lambda x: x[:, 1]]
    X = torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.0, 0.5], [2.0, 0.0], [-5.0, -5.0]])

    def success(x):
        return (x[:, 0] > 1.2) | (x[:, 1] > 1.2)

    found = attack_all(losses, X, success=success, epsilon=1.0, norm=2)
    expected = X.clone()
    expected[1, 0] += 1
    expected[2, 1] += 1
    torch.testing.assert_close(found, expected)
    assert torch.equal(X[1], torch.tensor([0.5, 0.0]))


@given(st.integers(0, 2**32 - 1))
def test_the_lead_is_that_of_the_distances(seed):
    points, x = 50 + normal(9, 4, seed=seed), 50 + normal(6, 4, seed=seed + 1)
    same = torch.arange(9) % 3 == torch.arange(6)[:, None] % 3
    distances = torch.cdist(x, points, compute_mode="donot_use_mm_for_euclid_dist") ** 2
    for row, lead in enumerate(bias_lead(points, same)(x)):
        expected = distances[row, ~same[row]].min() - distances[row, same[row]].min()
        torch.testing.assert_close(lead, expected)


def test_the_lead_falls_fastest_towards_the_nearest_opponent():
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0], [90.0, 0.0]])
    x = torch.zeros(1, 2, requires_grad=True)
    lead = bias_lead(points, torch.tensor([[True, False, False]]))(x)
    slope = torch.autograd.grad(lead.sum(), x)[0]
    torch.testing.assert_close(slope, torch.tensor([[-6.0, -8.0]]))


@pytest.mark.parametrize("only", [True, False])
def test_with_one_class_of_bias_points_the_oracle_cannot_be_moved(only):
    points, x = normal(3, 2), normal(4, 2, seed=1)
    lead = bias_lead(points, torch.full((4, 3), only))
    losses = locally_biased_losses(lambda x: x[:, 0], lead, alpha=2.0, norm=2)
    torch.testing.assert_close(-losses["smoothed"](x), x[:, 0] + (2.0 if only else -2.0))
    for name in ("smoothed",) if only else ("smoothed", "combined"):
        found = projected_gradient(losses[name], x, epsilon=1.0, norm=2)
        torch.testing.assert_close(found[:, 0], x[:, 0] - 1)
    assert torch.equal(projected_gradient(losses["oracle"], x, epsilon=1.0, norm=2), x)


@pytest.mark.parametrize("norm", NORMS)
def test_the_smoothed_margin_of_a_quadratic_and_its_gradient(norm):
    curve = normal(3, 3)
    curve = curve + curve.T
    points, same = normal(4, 3, seed=1), torch.tensor([True, False, True, False])
    lead = bias_lead(points, same.expand(5, 4))
    smoothed = smoothed_margin(
        lambda x: (x @ curve * x).sum(dim=1) / 2,
        lead,
        alpha=1.5,
        norm=norm,
    )
    x = normal(5, 3, seed=2).requires_grad_()

    def expected(x):
        length = torch.linalg.norm(x @ curve, DUAL[norm], dim=1)
        return (x @ curve * x).sum(dim=1) / 2 + 1.5 * lead(x).sign() * length

    torch.testing.assert_close(smoothed(x), expected(x))
    torch.testing.assert_close(
        torch.autograd.grad(smoothed(x).sum(), x)[0], torch.autograd.grad(expected(x).sum(), x)[0]
    )
    with torch.no_grad():
        torch.testing.assert_close(smoothed(x), expected(x))


# A plane where the base looks at the first entry, the oracle at the sign of the second.
POINTS, SAME = torch.tensor([[0.0, 1.0], [0.0, -1.0]]), torch.tensor([[True, False]])
ROWS = {"base": (0.3, 1.0), "oracle": (0.5, 0.3), "combined": (1.2, 0.2)}
ALPHA = {"base": 0.0, "oracle": 2.0, "combined": 1.0}


@pytest.mark.parametrize("needed", ROWS)
def test_each_loss_finds_what_the_base_or_the_others_miss(needed):
    X = torch.tensor([ROWS[needed]])
    margin, lead = (lambda x: x[:, 0]), bias_lead(POINTS, SAME)
    losses = locally_biased_losses(margin, lead, alpha=ALPHA[needed], norm=2)
    smoothed = smoothed_margin(margin, lead, alpha=ALPHA[needed], norm=2)

    def wrong(x):
        return smoothed(x) < 0

    arguments = {"success": wrong, "epsilon": 0.45, "norm": 2, "n_steps": 20}
    beaten = {
        name for name, loss in losses.items() if wrong(attack_all([loss], X, **arguments)).item()
    }
    assert needed in beaten
    assert beaten <= {"base": set(losses), "oracle": {"oracle", "combined"}}.get(
        needed, {"combined"}
    )
    assert wrong(attack_all(losses.values(), X, **arguments)).item()


def test_the_adaptive_attack_beats_the_attack_on_the_base():
    X = torch.cat([normal(200, 1).abs(), normal(200, 1, seed=1).abs()], dim=1)
    margin = lambda x: torch.tanh(x[:, 0])  # noqa: E731
    lead = bias_lead(POINTS.double(), SAME.expand(200, 2))
    losses = locally_biased_losses(margin, lead, alpha=3.0, norm=2)
    smoothed = smoothed_margin(margin, lead, alpha=3.0, norm=2)

    def wrong(x):
        return smoothed(x) < 0

    def accuracy(chosen):
        found = attack_all(chosen, X, success=wrong, epsilon=0.5, norm=2)
        return (~wrong(found)).double().mean().item()

    assert accuracy([]) == 1
    assert accuracy([losses["base"]]) == 1
    assert accuracy(losses.values()) < 0.7
