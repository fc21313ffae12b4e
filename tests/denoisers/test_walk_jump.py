"""Walk-jump sampling behind x̂: the law of the jump, against closed forms."""

import numpy as np
import pytest
import torch
from scipy import stats

from smoothlearn import ParzenDenoiser, WalkJumpDenoiser
from smoothlearn.denoisers.base import EnergyDenoiser
from smoothlearn.nn.randomness import generator_on
from smoothlearn.theory.bayes import mixture_denoiser, mixture_energy

CPU = torch.device("cpu")


class Mixture(EnergyDenoiser):
    """x̂ and the energy where X is a mixture of N(mean, scale² I), in closed form."""

    def __init__(self, sigma=None, means=((0.0,),), scale=1.0, weights=(1.0,)):
        self.sigma = sigma
        self.means = means
        self.scale = scale
        self.weights = weights

    def fit(self, X, y=None):
        _, self.sigma_ = self._start_fit(X)
        return self

    def _denoise(self, Y):
        return mixture_denoiser(Y, self.sigma_, self.means, self.scale, self.weights)

    def _energy(self, Y):
        return mixture_energy(Y, self.sigma_, self.means, self.scale, self.weights)

    def field_on(self, device, *, double=False):
        dtype = torch.float64 if double else torch.float32
        means, weights = (torch.tensor(value, dtype=dtype) for value in (self.means, self.weights))
        variance = self.scale**2 + self.sigma_**2

        def field(y):
            distances = (y[:, None] - means).square().sum(dim=2)
            logits = weights.log() - distances / (2 * variance)
            slope = (y - logits.softmax(dim=1) @ means) / variance
            return -logits.logsumexp(dim=1), slope

        return field

    def denoise_on(self, device):
        field = self.field_on(device)
        return lambda batch, generator: batch - self.sigma_**2 * field(batch)[1]

    def denoise_training_on(self, rows, device):
        denoise = self.denoise_on(device)
        return lambda batch, places: denoise(batch, None)

    def field_training_on(self, rows, device):
        field = self.field_on(device)
        return lambda batch, places: field(batch)


def walk_jump(data, *, sigma, walk_sigma, **settings):
    """Both of its denoisers know the law of the data."""
    d = len(data["means"][0])
    denoiser = WalkJumpDenoiser(
        Mixture(**data), Mixture(walk_sigma, **data), sigma=sigma, random_state=0, **settings
    )
    return denoiser.fit(np.zeros((2, d)))


def voted_on(denoiser, Y, seed=0):
    """What the voting engine sees."""
    batch = torch.tensor(Y, dtype=torch.float32)
    return denoiser.denoise_on(CPU)(batch, generator_on(CPU, seed)).double().numpy()


BOTH = {"transform": lambda denoiser, Y: denoiser.transform(Y), "votes": voted_on}
both = pytest.mark.parametrize("jump", BOTH.values(), ids=BOTH)


def test_the_closed_form_is_consistent():
    """x̂ and the energy of the reference are those of its field."""
    data = {"means": ((-1.0, 0.0), (1.2, 0.5)), "scale": 0.4, "weights": (0.4, 0.6)}
    denoiser = Mixture(0.5, **data).fit(np.zeros((2, 2)))
    Y = np.random.default_rng(0).standard_normal((50, 2))
    energy, slope = denoiser.field_on(CPU, double=True)(torch.tensor(Y))
    np.testing.assert_allclose(Y - 0.25 * slope.numpy(), denoiser.transform(Y), atol=1e-12)
    np.testing.assert_allclose(np.diff(energy), np.diff(denoiser.energy(Y)), atol=1e-9)


#: The data, a Gaussian of standard deviation 1.5, both noise levels, and the walk.
SCALE, SIGMA, WALK_SIGMA, H, STEPS, MEAN = 1.5, 0.8, 0.4, 0.2, 4, np.array([1.0, -2.0])


@pytest.fixture(scope="module")
def linear():
    data = {"means": (tuple(MEAN),), "scale": SCALE, "weights": (1.0,)}
    return walk_jump(data, sigma=SIGMA, walk_sigma=WALK_SIGMA, step_size=H, n_steps=STEPS)


def residuals_of(jumps, Y):
    """(J − E[J | y])/sd, which is standard normal."""
    beta, walk_beta = (SCALE**2 / (SCALE**2 + s**2) for s in (SIGMA, WALK_SIGMA))
    a = 1 - H / (SCALE**2 + WALK_SIGMA**2)
    expected = MEAN + walk_beta * a**STEPS * beta * (Y - MEAN)
    spread = walk_beta**2 * 2 * H * (1 - a ** (2 * STEPS)) / (1 - a**2)
    return (jumps - expected) / spread**0.5


class TestShortWalks:
    """On a Gaussian everything is linear: jumps given y are Gaussian, exactly."""

    @both
    def test_law_is_the_linear_one(self, linear, jump):
        """Kolmogorov-Smirnov, and correlation with y; false alarms with probability 1e-8."""
        Y = [1.0, -2.0] + 2 * np.random.default_rng(0).standard_normal((4000, 2))
        residuals = residuals_of(jump(linear, Y), Y)
        assert stats.kstest(residuals.ravel(), stats.norm.cdf).pvalue > 1e-8
        for column in range(2):
            assert stats.pearsonr(residuals[:, column], Y[:, column]).pvalue > 1e-8
        assert stats.pearsonr(*residuals.T).pvalue > 1e-8

    def test_draws_of_a_row_are_independent(self, linear):
        """Of 100 equal rows in 100 successive batches, as the engine has them.

        Sums over rows, over batches and over neighbours are normal; false alarms with probability
        2e-8 each, 6e-8 together.
        """
        Y = np.tile([[0.3, 0.7]], (100, 1))
        denoise, generator = linear.denoise_on(CPU), generator_on(CPU, 3)
        batch = torch.tensor(Y, dtype=torch.float32)
        jumps = np.stack([denoise(batch, generator).double().numpy() for _ in range(100)])
        residuals = residuals_of(jumps, Y)
        for axis in (0, 1):
            sums = residuals.sum(axis=axis) / 10
            assert 1e-8 < stats.chi2.sf(np.square(sums).sum(), sums.size) < 1 - 1e-8
        products = residuals[:, 1:] * residuals[:, :-1]
        assert abs(products.sum()) / products.size**0.5 < stats.norm.isf(1e-8)
        products = residuals[1:] * residuals[:-1]
        assert abs(products.sum()) / products.size**0.5 < stats.norm.isf(1e-8)

    def test_rows_of_transform_are_independent(self, linear):
        """Neighbours apart from each other have other noise; false alarms with 2e-8."""
        Y = np.column_stack([np.arange(4000) * WALK_SIGMA, np.zeros(4000)])
        residuals = residuals_of(linear.transform(Y), Y)
        products = residuals[1:] * residuals[:-1]
        assert abs(products.sum()) / products.size**0.5 < stats.norm.isf(1e-8)

    def test_walk_does_not_repeat_the_smoothing_noise(self, linear):
        """The engine draws both from one generator; false alarms with probability 1e-8."""
        generator = generator_on(CPU, 5)
        noise = torch.randn((4000, 2), generator=generator)
        jumps = linear.denoise_on(CPU)(SIGMA * noise, generator).double().numpy()
        noise = noise.double().numpy()
        residuals = residuals_of(jumps, SIGMA * noise)
        for column in range(2):
            assert stats.pearsonr(residuals[:, column], noise[:, column]).pvalue > 1e-8

    def test_length_of_the_walk(self, linear):
        assert linear.walk_length_ == pytest.approx(0.2 * 4 / 0.4**2)


#: A mixture along the first of four axes, with walks on the energy of noise 0.55: they cross in a
#: few dozen steps. Along the other axes rows differ, and ``transform`` gives them other noise.
CENTRES, SHARES, NARROW, WIDER, ROWS = np.array([-1.0, 1.2]), np.array([0.4, 0.6]), 0.4, 0.55, 3000


@pytest.fixture(scope="module")
def mixed():
    """Along the first axis: rows of the data, what x̂ and walks make of noisy ones, and votes."""
    rng = np.random.default_rng(0)
    means = CENTRES[:, np.newaxis] * np.eye(1, 4)
    clean = means[rng.choice(2, ROWS, p=SHARES)] + NARROW * rng.standard_normal((ROWS, 4))
    data = {"means": tuple(map(tuple, means)), "scale": NARROW, "weights": tuple(SHARES)}
    walk = {"walk_sigma": WIDER, "step_size": 0.3, "n_steps": 120, "metropolis": True}
    denoiser = walk_jump(data, sigma=0.8, **walk)
    noisy = clean + 0.8 * rng.standard_normal(clean.shape)
    rows = denoiser.stages(noisy) | {"clean": clean, "votes": voted_on(denoiser, noisy)}
    return {name: values[:, 0] for name, values in rows.items()}


@pytest.fixture(scope="module")
def grid():
    """Weights of points y of the axis under the density of X + σ'ε, and where they jump."""
    y = np.linspace(-6, 7, 20_001)[:, np.newaxis]
    data = WIDER, CENTRES[:, np.newaxis], NARROW, SHARES
    weights = np.exp(-mixture_energy(y, *data))
    return weights / weights.sum(), mixture_denoiser(y, *data)[:, 0]


@pytest.mark.parametrize("jumped", ["jumped", "votes"])
class TestLongWalks:
    """They forget y, and jump to draws from x̂(X + σ'ε)."""

    def test_law_of_the_jump(self, mixed, grid, jumped):
        """x̂ is monotone: P(J < x̂(y)) = P(Y' < y). False alarms with probability 1e-8."""
        weights, to = grid
        assert (np.diff(to) > 0).all()
        below = np.interp(mixed[jumped], to, np.cumsum(weights))
        assert stats.kstest(below, stats.uniform.cdf).pvalue > 1e-8
        assert stats.pearsonr(mixed[jumped], mixed["denoised"]).pvalue > 1e-8

    def test_squared_error_is_that_of_an_independent_row(self, mixed, grid, jumped):
        """E(X − J)² = Var X + Var J + (E X − E J)², above the Bayes risk; six standard errors."""
        weights, to = grid
        mean = weights @ to
        of_jump = weights @ np.square(to - mean)
        of_data = SHARES.prod() * np.ptp(CENTRES) ** 2 + NARROW**2
        expected = of_data + of_jump + (SHARES @ CENTRES - mean) ** 2
        errors = np.square(mixed[jumped] - mixed["clean"])
        assert abs(errors.mean() - expected) < 6 * errors.std() / ROWS**0.5
        assert errors.mean() > 3 * np.square(mixed["denoised"] - mixed["clean"]).mean()


def test_walks_end_in_the_density_of_noisy_rows(mixed):
    """False alarms with probability 1e-8."""
    spread = np.hypot(NARROW, WIDER)
    below = stats.norm.cdf((mixed["walked"][:, np.newaxis] - CENTRES) / spread) @ SHARES
    assert stats.kstest(below, stats.uniform.cdf).pvalue > 1e-8


def test_no_steps_are_two_denoisers_in_a_row():
    X = np.random.default_rng(0).standard_normal((80, 3))
    Y = X + 0.6 * np.random.default_rng(1).standard_normal(X.shape)
    denoiser = WalkJumpDenoiser(
        ParzenDenoiser(), ParzenDenoiser(0.2), sigma=0.6, n_steps=0, random_state=0
    ).fit(X)
    first = ParzenDenoiser(0.6).fit(X).transform(Y)
    np.testing.assert_allclose(
        denoiser.transform(Y), ParzenDenoiser(0.2).fit(X).transform(first), atol=1e-9
    )
    np.testing.assert_allclose(voted_on(denoiser, Y), denoiser.transform(Y), atol=1e-4)
    assert denoiser.walk_length_ == 0


@pytest.mark.parametrize("metropolis", [False, True, np.True_])
def test_steps_are_those_of_the_walks_noise(metropolis):
    """Where "auto" is σ'²/5 of the walk, not of the jump."""
    X = np.random.default_rng(0).standard_normal((30, 2))
    settings = {"sigma": 0.8, "n_steps": 5, "metropolis": metropolis, "random_state": 0}
    auto, given = (
        WalkJumpDenoiser(
            ParzenDenoiser(), ParzenDenoiser(0.3), step_size=step_size, **settings
        ).fit(X)
        for step_size in ("auto", 0.3**2 / 5)
    )
    assert auto.walk_length_ == pytest.approx(1.0)
    np.testing.assert_allclose(auto.transform(X), given.transform(X), rtol=1e-12)
