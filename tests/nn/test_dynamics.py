"""Langevin walks and gradient flow, against laws and paths that are known exactly."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import ndtri

from smoothlearn.nn import dynamics
from smoothlearn.nn.dynamics import as_step_size, gradient_flow, langevin_walk


def gaussian_field(mean, covariance):
    mean = torch.tensor(mean, dtype=torch.float64)
    precision = torch.linalg.inv(torch.tensor(covariance, dtype=torch.float64))

    def field(y):
        slope = (y - mean) @ precision
        return ((y - mean) * slope).sum(dim=1) / 2, slope

    return field


def mixture_field(means, scale, weights):
    """Of the density of isotropic Gaussians of one scale."""
    means = torch.tensor(means, dtype=torch.float64)
    weights = torch.tensor(weights, dtype=torch.float64)

    def field(y):
        logits = weights.log() - (y[:, None] - means).square().sum(dim=2) / (2 * scale**2)
        slope = (y - logits.softmax(dim=1) @ means) / scale**2
        return -logits.logsumexp(dim=1), slope

    return field


def normals(n_rows, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return lambda width: torch.randn((n_rows, width), generator=generator, dtype=torch.float64)


def replayed(draws):
    """The draws (n_steps, n, width) one after the other."""
    draws = iter(draws)
    return lambda width: next(draws)


# The unadjusted walk on a Gaussian is a linear recursion: its law is known after every step.

WIDE = np.array([[1.0, 0.6, 0.0], [0.6, 2.0, -0.5], [0.0, -0.5, 0.5]])
GAUSSIANS = {
    "line": ([0.7], [[1.69]], [3.0], 0.8),
    "correlated": ([1.0, -2.0, 0.5], WIDE, [0.0, 1.0, 0.0], 0.3),
}
MANY = 40_000


def walked_on(case, n_steps, seed=0, n_rows=MANY):
    mean, covariance, start, h = GAUSSIANS[case]
    start = torch.tensor(start, dtype=torch.float64).expand(n_rows, -1)
    field = gaussian_field(mean, covariance)
    return langevin_walk(field, start, step_size=h, n_steps=n_steps, normal=normals(n_rows, seed))[
        0
    ].numpy()


def exact_moments(case, n_steps):
    """Of y ← m + A (y − m) + √(2h) ε with A = I − h/covariance."""
    mean, covariance, start, h = (np.array(value) for value in GAUSSIANS[case])
    shrinking = np.eye(len(mean)) - h * np.linalg.inv(covariance)
    powers = [np.linalg.matrix_power(shrinking, k) for k in range(n_steps + 1)]
    spread = 2 * h * sum((power @ power for power in powers[:-1]), np.zeros_like(covariance))
    return mean + powers[-1] @ (start - mean), spread


def doubt(rows, mean, covariance):
    """The lesser p-value of the sample's mean and of its covariance, for Gaussian rows."""
    n, d = rows.shape
    whitened = np.linalg.solve(np.linalg.cholesky(covariance), (rows - mean).T).T
    of_mean = n * np.square(whitened.mean(axis=0)).sum()
    excess = whitened.T @ whitened / n - np.eye(d)
    of_covariance = n / 2 * np.square(excess).sum()
    return min(
        stats.chi2.sf(of_mean, d), stats.chi2.sf(of_covariance, d * (d + 1) / 2)
    )  # fmt: skip


class TestUnadjustedWalk:
    @pytest.mark.parametrize("n_steps", [1, 3, 60])
    @pytest.mark.parametrize("case", GAUSSIANS)
    def test_moments_on_a_gaussian_are_exact_after_every_number_of_steps(self, case, n_steps):
        """False alarms with probability 2e-8."""
        assert doubt(walked_on(case, n_steps), *exact_moments(case, n_steps)) > 1e-8

    def test_stationary_variance_is_larger_than_that_of_the_density_by_a_known_factor(self):
        """s²/(1 − h/2s²): 1.69 becomes 2.21. False alarms with probability 2e-8."""
        variance, h = GAUSSIANS["line"][1][0][0], GAUSSIANS["line"][3]
        mean, spread = exact_moments("line", 200)
        stationary = variance / (1 - h / (2 * variance))
        np.testing.assert_allclose(spread, stationary, rtol=1e-9)
        rows = walked_on("line", 200)
        assert doubt(rows, mean, np.array([[stationary]])) > 1e-8
        assert doubt(rows, mean, np.array([[variance]])) < 1e-100

    @pytest.mark.parametrize(
        ("drift", "noise"),
        [
            (lambda h: h, lambda h: math.sqrt(2) * h),
            (lambda h: h**2, lambda h: math.sqrt(2 * h)),
            (lambda h: h, math.sqrt),
            (lambda h: h / 2, lambda h: math.sqrt(2 * h)),
            (lambda h: -h, lambda h: math.sqrt(2 * h)),
        ],
        ids=["h and √2 h", "h² and √(2h)", "h and √h", "h/2 and √(2h)", "uphill"],
    )
    @pytest.mark.parametrize("case", GAUSSIANS)
    def test_drift_and_noise_that_do_not_belong_together_are_told_apart(
        self, case, drift, noise, monkeypatch
    ):
        """By the tests above: those of Eq. 16 among them."""

        def step(field, state, h, normal):
            y, _, slope = state
            ahead = y - drift(h) * slope + noise(h) * normal(y.shape[1])
            return ahead, *field(ahead)

        monkeypatch.setattr(dynamics, "_step", step)
        assert doubt(walked_on(case, 60), *exact_moments(case, 60)) < 1e-100

    def test_moments_on_a_mixture(self):
        """Within 3 % of its spread for the length of the steps, and six standard errors."""
        means, scale, weights = [[-1.0, 0.0], [1.0, 0.5]], 0.7, [0.3, 0.7]
        start = torch.zeros((4000, 2), dtype=torch.float64)
        points, _ = langevin_walk(
            mixture_field(means, scale, weights),
            start,
            step_size=0.04 * scale**2,
            n_steps=600,
            normal=normals(4000),
        )
        rows, means, weights = points.numpy(), np.array(means), np.array(weights)
        mean = weights @ means
        centred = means - mean
        covariance = centred.T @ (weights[:, None] * centred) + scale**2 * np.eye(2)
        largest = np.linalg.eigvalsh(covariance).max()
        np.testing.assert_allclose(rows.mean(axis=0), mean, atol=0.03 + 6 * (largest / 4000) ** 0.5)
        np.testing.assert_allclose(
            np.cov(rows.T), covariance, atol=(0.03 + 6 * (2 / 4000) ** 0.5) * largest
        )
        left = (rows[:, 0] < 0).mean()
        expected = weights @ stats.norm.cdf(-means[:, 0] / scale)
        assert abs(left - expected) < 0.015 + 6 * (0.25 / 4000) ** 0.5

    def test_no_steps_leave_the_rows_where_they_are(self):
        start = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
        field = gaussian_field([0.7], [[1.69]])
        points, slopes = langevin_walk(field, start, step_size=0.1, n_steps=0, normal=normals(5))
        assert torch.equal(points, start)
        assert torch.equal(slopes, field(start)[1])

    @pytest.mark.parametrize("metropolis", [False, True])
    def test_slopes_are_those_at_the_points(self, metropolis):
        field = gaussian_field([1.0, -2.0, 0.5], WIDE)
        start = torch.zeros((50, 3), dtype=torch.float64)
        points, slopes = langevin_walk(
            field, start, step_size=0.5, n_steps=3, normal=normals(50), metropolis=metropolis
        )
        torch.testing.assert_close(slopes, field(points)[1], rtol=1e-12, atol=1e-12)

    def test_one_that_diverges_is_an_error(self):
        field = gaussian_field([0.0], [[1e-2]])
        start = torch.ones((3, 1), dtype=torch.float64)
        match = r"900 steps did not stay finite; choose a smaller step_size than 0\.1, or metropol"
        with pytest.raises(ValueError, match=match):
            langevin_walk(field, start, step_size=0.1, n_steps=900, normal=normals(3))

    def test_one_row_that_diverges_is_an_error(self):
        start = torch.tensor([[0.0], [1.0], [0.5]], dtype=torch.float64)

        def field(y):
            return y[:, 0], torch.where(y > 0.9, math.inf, 0.0)

        settings = {"step_size": 1e-9, "n_steps": 2, "normal": normals(3)}
        with pytest.raises(ValueError, match="2 steps did not stay finite"):
            langevin_walk(field, start, **settings)
        langevin_walk(field, start[[0, 0, 2]], **settings)

    def test_one_row_that_was_never_finite_is_not(self):
        start = torch.tensor([[0.0], [math.inf], [1.0]], dtype=torch.float64)
        field = gaussian_field([0.0], [[1.0]])
        points, _ = langevin_walk(field, start, step_size=0.1, n_steps=2, normal=normals(3))
        assert points.isfinite()[:, 0].tolist() == [True, False, True]

    def test_verbose_shows_steps(self, capsys):
        start = torch.zeros((2, 1), dtype=torch.float64)
        for verbose in (0, 1):
            langevin_walk(
                gaussian_field([0.0], [[1.0]]),
                start,
                step_size=0.1,
                n_steps=7,
                normal=normals(2),
                verbose=verbose,
            )
            assert ("7/7" in capsys.readouterr().err) is bool(verbose)

    @pytest.mark.parametrize("metropolis", [False, True])
    def test_is_differentiable_along_its_path(self, metropolis):
        field = mixture_field([[-1.0, 0.0], [1.0, 0.5]], 0.7, [0.3, 0.7])
        generator = torch.Generator().manual_seed(0)
        start = torch.randn((6, 2), dtype=torch.float64, generator=generator)
        draws = torch.randn((4, 6, 2 + metropolis), dtype=torch.float64, generator=generator)

        def arrival(y):
            return langevin_walk(
                field, y, step_size=0.2, n_steps=4, normal=replayed(draws), metropolis=metropolis
            )

        torch.autograd.gradcheck(arrival, start.requires_grad_())


# One step of the adjusted walk, by the densities of its definition.


class TestMetropolis:
    FIELD = staticmethod(mixture_field([[-1.0, 0.0], [1.0, 0.5]], 0.7, [0.3, 0.7]))
    H = 0.9

    def acceptance(self, y, noise):
        """min(1, p(y') q(y | y') / p(y) q(y' | y)) of the proposal y', and the proposal."""
        ahead = y - self.H * self.FIELD(y)[1] + math.sqrt(2 * self.H) * noise

        def log_joint(here, there):
            drifted = here - self.H * self.FIELD(here)[1]
            jump = stats.norm.logpdf(there, drifted, math.sqrt(2 * self.H)).sum(axis=1)
            return -self.FIELD(here)[0].numpy() + jump

        log_ratio = log_joint(ahead, y) - log_joint(y, ahead)
        return np.minimum(1, np.exp(log_ratio)), ahead

    def step(self, y, noise, uniform):
        draws = torch.column_stack([noise, torch.tensor(ndtri(uniform))])
        return langevin_walk(
            self.FIELD, y, step_size=self.H, n_steps=1, normal=lambda width: draws, metropolis=True
        )[0]

    def test_accepts_with_the_probability_of_the_rule(self):
        generator = torch.Generator().manual_seed(1)
        y, noise = torch.randn((2, 400, 2), generator=generator, dtype=torch.float64)
        share, ahead = self.acceptance(y, noise)
        unsure = share < 1
        assert 100 < unsure.sum() < 395
        below = np.where(unsure, share * (1 - 1e-9), 1 - 1e-9)
        torch.testing.assert_close(self.step(y, noise, below), ahead)
        above = share * (1 + 1e-9)
        beyond = self.step(y[unsure], noise[unsure], above[unsure])
        assert torch.equal(beyond, y[unsure])

    def test_two_steps_are_a_step_after_a_step(self):
        """Also where the first was rejected: its energy and slope are those of where it stayed."""
        generator = torch.Generator().manual_seed(2)
        y = torch.randn((400, 2), generator=generator, dtype=torch.float64)
        draws = 1.5 * torch.randn((2, 400, 3), generator=generator, dtype=torch.float64)
        settings = {"step_size": self.H, "metropolis": True}
        middle, _ = langevin_walk(self.FIELD, y, n_steps=1, normal=replayed(draws[:1]), **settings)
        stayed = (middle == y).all(dim=1)
        assert 50 < stayed.sum() < 350
        after, _ = langevin_walk(
            self.FIELD, middle, n_steps=1, normal=replayed(draws[1:]), **settings
        )
        both, _ = langevin_walk(self.FIELD, y, n_steps=2, normal=replayed(draws), **settings)
        torch.testing.assert_close(both, after, rtol=1e-12, atol=1e-12)

    def test_each_row_decides_by_itself(self):
        """Accepted are as many of equal rows as of independent ones: the variance is binomial.

        Chi-squared of 300 batches; false alarms with probability 1e-8.
        """
        n_rows, n_batches = 200, 300
        start = torch.full((n_rows, 2), 0.4, dtype=torch.float64)
        normal = normals(n_rows)
        moved = np.array([
            (langevin_walk(
                self.FIELD, start, step_size=self.H, n_steps=1, normal=normal, metropolis=True
            )[0] != start).any(dim=1).sum()
            for _ in range(n_batches)
        ])  # fmt: skip
        share = moved.mean() / n_rows
        assert 0.2 < share < 0.9
        statistic = np.square(moved - moved.mean()).sum() / (n_rows * share * (1 - share))
        assert 5e-9 < stats.chi2.sf(statistic, n_batches - 1) < 1 - 5e-9

    @pytest.mark.parametrize("metropolis", [True, False])
    def test_law_of_a_mixture_is_exact_however_coarse_the_steps(self, metropolis):
        """Chi-squared of 40 bins of equal probability; false alarms with probability 1e-8.

        Without it, steps as long as these lead elsewhere.
        """
        centres, scale, weights = np.array([-1.5, 1.0]), 0.8, np.array([0.35, 0.65])
        n_rows, h = 40_000, 0.8
        rng = np.random.default_rng(0)
        start = centres[rng.choice(2, n_rows, p=weights)] + scale * rng.standard_normal(n_rows)
        points, _ = langevin_walk(
            mixture_field(centres[:, None], scale, weights),
            torch.tensor(start[:, None]),
            step_size=h,
            n_steps=25,
            normal=normals(n_rows),
            metropolis=metropolis,
        )
        moved = points.numpy()[:, 0]
        assert (moved != start).all()
        assert abs(np.corrcoef(moved, start)[0, 1]) < 0.75
        p = (weights * stats.norm.cdf((moved[:, None] - centres) / scale)).sum(axis=1)
        counts = np.bincount((40 * p).astype(int), minlength=40)
        statistic = np.square(counts - n_rows / 40).sum() / (n_rows / 40)
        p_value = stats.chi2.sf(statistic, 39)
        assert (p_value > 1e-8) if metropolis else (p_value < 1e-100)

    def test_reaches_the_law_from_elsewhere(self):
        """Kolmogorov-Smirnov; false alarms with probability 1e-8."""
        points, _ = langevin_walk(
            gaussian_field([2.0], [[0.25]]),
            torch.full((20_000, 1), -3.0, dtype=torch.float64),
            step_size=0.2,
            n_steps=60,
            normal=normals(20_000),
            metropolis=True,
        )
        assert stats.kstest(points.numpy()[:, 0], stats.norm(2.0, 0.5).cdf).pvalue > 1e-8

    @pytest.mark.parametrize("wall", [math.inf, math.nan])
    @pytest.mark.parametrize("part", ["energy", "slope", "both"])
    def test_proposals_that_are_not_finite_are_rejected(self, wall, part):
        """A Gaussian between walls; false alarms with probability 1e-8."""

        def field(y):
            energy, slope = y.square().sum(dim=1) / 2, y.clone()
            outside = y[:, 0].abs() > 1
            if part != "slope":
                energy[outside] = wall
            if part != "energy":
                slope[outside] = wall
            return energy, slope

        start = torch.zeros((10_000, 1), dtype=torch.float64)
        points, slopes = langevin_walk(
            field, start, step_size=0.3, n_steps=40, normal=normals(10_000), metropolis=True
        )
        assert points.abs().max() <= 1
        assert torch.equal(slopes, points)
        assert stats.kstest(points.numpy()[:, 0], stats.truncnorm(-1, 1).cdf).pvalue > 1e-8


class TestRowsAreIndependent:
    """Each moves as it would alone, whatever becomes of the others."""

    FIELD = staticmethod(mixture_field([[-1.0, 0.0], [1.0, 0.5]], 0.4, [0.3, 0.7]))

    @pytest.mark.parametrize("metropolis", [False, True])
    def test_walks(self, metropolis):
        generator = torch.Generator().manual_seed(0)
        start = torch.randn((20, 2), generator=generator, dtype=torch.float64)
        draws = torch.randn((15, 20, 2 + metropolis), generator=generator, dtype=torch.float64)
        settings = {"step_size": 0.1, "n_steps": 15, "metropolis": metropolis}
        together, _ = langevin_walk(self.FIELD, start, normal=replayed(draws), **settings)
        for i in range(20):
            alone, _ = langevin_walk(
                self.FIELD, start[i : i + 1], normal=replayed(draws[:, i : i + 1]), **settings
            )
            torch.testing.assert_close(alone[0], together[i], rtol=1e-9, atol=1e-12)
        others = torch.where(torch.arange(20)[:, None] < 10, start, 1e3 * start)
        beside, _ = langevin_walk(self.FIELD, others, normal=replayed(draws), **settings)
        torch.testing.assert_close(beside[:10], together[:10], rtol=1e-9, atol=1e-12)

    def test_walks_beside_one_that_is_always_rejected(self):
        generator = torch.Generator().manual_seed(0)
        start = torch.randn((6, 2), generator=generator, dtype=torch.float64)
        draws = torch.randn((15, 6, 3), generator=generator, dtype=torch.float64)

        def broken(y):
            energy, slope = self.FIELD(y)
            lost = torch.arange(len(y)) == 3
            return energy, torch.where(lost[:, None], math.nan, slope)

        settings = {"step_size": 0.1, "n_steps": 15, "metropolis": True}
        expected, _ = langevin_walk(self.FIELD, start, normal=replayed(draws), **settings)
        points, _ = langevin_walk(broken, start, normal=replayed(draws), **settings)
        others = torch.arange(6) != 3
        torch.testing.assert_close(points[others], expected[others], rtol=1e-9, atol=1e-12)
        assert torch.equal(points[3], start[3])

    def test_flows(self):
        """Beside rows that stop at once, rows that are far away and one that never stops."""
        generator = torch.Generator().manual_seed(0)
        start = 3 * torch.randn((20, 2), generator=generator, dtype=torch.float64)
        start[5] = torch.tensor([1.0, 0.5])
        start[6] *= 1e4

        def field(y):
            energy, slope = self.FIELD(y)
            return energy, torch.where((y == start[7]).all(dim=1)[:, None], math.nan, slope)

        settings = {"step_size": 0.5, "tolerance": 1e-3, "max_steps": 60}
        together, arrived = gradient_flow(field, start, **settings)
        assert not arrived[7]
        assert arrived.sum() > 10
        for i in range(20):
            alone, alone_arrived = gradient_flow(field, start[i : i + 1], **settings)
            torch.testing.assert_close(alone[0], together[i], rtol=1e-9, atol=1e-12)
            assert alone_arrived[0] == arrived[i]


class TestGradientFlow:
    def test_steps_down_a_bowl_are_those_of_euler(self):
        """y ← (1 − hL) y, up to the first y with hL|y| at most the tolerance."""
        curvature, h, tolerance = 2.0, 0.1, 0.01
        field = gaussian_field([0.0], [[1 / curvature]])
        start = torch.tensor([[3.0], [-0.5], [0.04]], dtype=torch.float64)
        points, arrived = gradient_flow(
            field, start, step_size=h, tolerance=tolerance, max_steps=99
        )
        expected = []
        for y in start[:, 0].tolist():
            while h * curvature * abs(y) > tolerance:
                y *= 1 - h * curvature
            expected.append([y])
        np.testing.assert_allclose(points, expected, rtol=1e-12)
        assert arrived.all()

    @pytest.mark.parametrize("enough", [False, True])
    def test_max_steps_are_enough_or_not(self, enough):
        field = gaussian_field([0.0], [[1.0]])
        start = torch.ones((1, 1), dtype=torch.float64)
        points, arrived = gradient_flow(
            field, start, step_size=0.5, tolerance=0.5 * 0.5**4, max_steps=3 + enough
        )
        assert points[0, 0] == 0.5 ** (3 + enough)
        assert bool(arrived[0]) is enough

    def test_a_step_that_arrives_exactly_is_taken(self):
        field = gaussian_field([2.0], [[0.25]])
        start = torch.tensor([[7.0]], dtype=torch.float64)
        points, arrived = gradient_flow(field, start, step_size=0.25, tolerance=1e-9, max_steps=1)
        assert (points[0, 0], arrived[0]) == (2.0, True)

    def test_stops_asking_when_all_have_arrived(self):
        calls = []

        def field(y):
            calls.append(len(y))
            return gaussian_field([0.0], [[1.0]])(y)

        start = torch.ones((4, 1), dtype=torch.float64)
        gradient_flow(field, start, step_size=0.5, tolerance=0.5 * 0.5**4, max_steps=500)
        assert len(calls) == 5

    @pytest.mark.parametrize("curvature", [3.0, 1e2, 1e6])
    def test_steps_longer_than_a_valley_is_wide_are_halved(self, curvature):
        """Full ones would diverge. Never across the valley, so the energy falls all the way."""
        seen = []

        def field(y):
            energy, slope = gaussian_field([0.0], [[1 / curvature]])(y)
            seen.append((y[:, 0].clone(), energy))
            return energy, slope

        start = torch.tensor([[1.0], [-20.0]], dtype=torch.float64)
        points, arrived = gradient_flow(field, start, step_size=1.0, tolerance=1e-6, max_steps=200)
        assert arrived.all()
        assert (points[:, 0] * start[:, 0] >= 0).all()
        assert points.abs().max() <= 1e-6 / curvature

    def test_a_narrow_valley_is_followed_to_its_end(self):
        field = gaussian_field([1.0, -1.0], np.diag([1.0, 1e-2]))
        start = torch.tensor([[8.0, 3.0]], dtype=torch.float64)
        points, arrived = gradient_flow(field, start, step_size=1.0, tolerance=1e-4, max_steps=5000)
        assert arrived.all()
        np.testing.assert_allclose(points, [[1.0, -1.0]], atol=1e-4)

    def test_steps_grow_again_behind_a_narrow_place(self):
        """A valley of curvature 1,000 left of zero opens into one of curvature 1/10."""

        def field(y):
            curvature = torch.where(y < 0, 1e3, 0.1)
            slope = curvature * y - 0.5
            return (slope * y).sum(dim=1), slope

        start = torch.full((1, 1), -1.0, dtype=torch.float64)
        points, arrived = gradient_flow(field, start, step_size=1.0, tolerance=1e-4, max_steps=150)
        assert arrived.all()
        np.testing.assert_allclose(points, [[5.0]], atol=2e-3)

    def test_float32_far_from_the_origin_stops_where_rounding_does(self):
        """There the rows' numbers are 1/16 apart, and the attractor lies between two of them."""
        calls = []

        def field(y):
            calls.append(1)
            slope = (y.double() - (1e6 + 0.02)) / 0.01
            return slope.square().sum(dim=1).float(), slope.float()

        start = torch.full((3, 1), 1e6, dtype=torch.float32) + torch.tensor([[-5.0], [0.5], [40]])
        points, arrived = gradient_flow(
            field, start, step_size=0.01, tolerance=1e-4, max_steps=1000
        )
        assert arrived.all()
        assert len(calls) < 20
        np.testing.assert_allclose(points, 1e6, atol=0.5)
        with pytest.raises(AssertionError):  # nor does the clause stop rows that have a way to go
            np.testing.assert_allclose(start, 1e6, atol=0.5)

    def test_rounding_stops_no_row_near_the_origin(self):
        field = gaussian_field([1.0], [[1.0]])
        start = torch.tensor([[1.01]], dtype=torch.float64)
        points, _ = gradient_flow(field, start, step_size=0.5, tolerance=1e-12, max_steps=99)
        assert 0 < abs(points[0, 0] - 1) < 3e-12

    def test_is_differentiable(self):
        field = mixture_field([[-1.0, 0.0], [1.0, 0.5]], 0.9, [0.3, 0.7])
        start = torch.randn((6, 2), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        slow = {"step_size": 0.2, "tolerance": 1e-9, "max_steps": 5}
        torch.autograd.gradcheck(
            lambda y: gradient_flow(field, y, **slow)[0], start.requires_grad_()
        )


class TestStepSize:
    @pytest.mark.parametrize(("given", "used"), [("auto", 0.05), (0.3, 0.3), (0.4999, 0.4999)])
    def test_is_in_squared_units(self, given, used):
        for metropolis in (False, True):
            step = as_step_size(given, 0.5, n_features=4, metropolis=metropolis)
            assert step == pytest.approx(used)

    @pytest.mark.parametrize(("d", "used"), [(1, 0.2), (25, 0.2), (26, 26**-0.5), (10_000, 0.01)])
    def test_is_short_in_many_dimensions_where_steps_may_be_rejected(self, d, used):
        adjusted, plain = (
            as_step_size("auto", 3.0, n_features=d, metropolis=metropolis)
            for metropolis in (True, False)
        )
        assert adjusted == pytest.approx(9 * used)
        assert plain == pytest.approx(9 * 0.2)

    @pytest.mark.parametrize("metropolis", [False, True])
    @pytest.mark.parametrize(
        ("given", "error", "match"),
        [
            ("fast", ValueError, "step_size must be a positive number or 'auto', got 'fast'"),
            (0.0, ValueError, "step_size must be finite and > 0"),
            (-0.1, ValueError, "step_size must be finite and > 0"),
            (math.nan, ValueError, "step_size must be finite and > 0"),
            (None, TypeError, "step_size must be one real number"),
            (0.5, ValueError, r"step_size=0\.5 is too long .* of sigma=0\.5: .*less than .* 0\.5"),
            (7, ValueError, "step_size=7 is too long"),
        ],
    )
    def test_out_of_range(self, given, error, match, metropolis):
        with pytest.raises(error, match=match):
            as_step_size(given, 0.5, n_features=4, metropolis=metropolis)
