"""Samples: their law, their seeds, and what they refuse."""

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import make_moons
from sklearn.exceptions import NotFittedError
from torch import nn

from smoothlearn import DEENDenoiser, ParzenDenoiser

CENTRES, SHARES, SPREAD, SIGMA = np.array([[-1.0, 0.0], [1.2, 0.5]]), [0.35, 0.65], 0.3, 0.6


def blobs(n_rows, seed=0):
    rng = np.random.default_rng(seed)
    means = CENTRES[rng.choice(2, n_rows, p=SHARES)]
    return means + SPREAD * rng.standard_normal((n_rows, 2))


def network(n_features):
    return nn.Sequential(nn.Linear(n_features, 48), nn.SiLU(), nn.Linear(48, n_features))


@pytest.fixture(scope="module")
def deen():
    settings = {"max_epochs": 60, "lr": 1e-2, "device": "cpu", "random_state": 0}
    return DEENDenoiser(SIGMA, module=network, **settings).fit(blobs(1000))


@pytest.fixture(scope="module")
def parzen():
    return ParzenDenoiser(0.15).fit(make_moons(200, noise=0.05, random_state=0)[0])


@pytest.fixture(params=["deen", "parzen"])
def fitted(request, deen, parzen):
    return {"deen": deen, "parzen": parzen}[request.param]


def brief(denoiser):
    return {"n_steps": 5} if isinstance(denoiser, DEENDenoiser) else {}


class TestEvery:
    @pytest.mark.parametrize("n_samples", [1, 7, np.int64(3)])
    def test_shape_and_type(self, fitted, n_samples):
        samples = fitted.sample(n_samples, **brief(fitted), random_state=0)
        assert type(samples) is np.ndarray
        assert (samples.shape, samples.dtype) == ((n_samples, 2), np.float64)
        assert np.isfinite(samples).all()

    def test_one_by_default(self, fitted):
        assert fitted.sample(**brief(fitted)).shape == (1, 2)

    def test_seeds(self, fitted):
        def sample(seed):
            return fitted.sample(5, **brief(fitted), random_state=seed)

        np.testing.assert_array_equal(sample(3), sample(3))
        np.testing.assert_array_equal(
            sample(np.random.RandomState(1)), sample(np.random.RandomState(1))
        )
        state = np.random.RandomState(1)
        drawn = [sample(seed) for seed in (3, 4, None, None, state, state)]
        for i, one in enumerate(drawn):
            assert len(np.unique(one, axis=0)) > 1
            assert all(np.abs(one - other).max() > 1e-3 for other in drawn[:i])

    def test_global_generators_are_left_alone(self, fitted):
        torch.manual_seed(3)
        np.random.seed(3)  # noqa: NPY002
        expected = torch.rand(2), np.random.rand(2)  # noqa: NPY002
        torch.manual_seed(3)
        np.random.seed(3)  # noqa: NPY002
        fitted.sample(3, **brief(fitted))
        assert torch.equal(torch.rand(2), expected[0])
        np.testing.assert_array_equal(np.random.rand(2), expected[1])  # noqa: NPY002

    @pytest.mark.parametrize(
        ("n_samples", "error"),
        [(0, ValueError), (-3, ValueError), (2.0, TypeError), ("5", TypeError), (None, TypeError)],
    )
    def test_number_out_of_range(self, fitted, n_samples, error):
        with pytest.raises(error, match="n_samples"):
            fitted.sample(n_samples)

    def test_seed_of_another_kind(self, fitted):
        with pytest.raises(ValueError, match="random_state must be None, an int >= 0"):
            fitted.sample(random_state="zero")

    @pytest.mark.parametrize("denoiser", [DEENDenoiser(), ParzenDenoiser()])
    def test_before_fit(self, denoiser):
        with pytest.raises(NotFittedError):
            denoiser.sample()

    def test_parameters_set_after_fit_change_nothing(self, fitted):
        expected = fitted.sample(5, **brief(fitted), random_state=0)
        sigma = fitted.sigma
        try:
            fitted.set_params(sigma=9.0)
            again = fitted.sample(5, **brief(fitted), random_state=0)
        finally:
            fitted.set_params(sigma=sigma)
        np.testing.assert_array_equal(again, expected)


class TestParzen:
    def test_law_is_that_of_denoised_noisy_rows(self, parzen):
        """Two-sample Kolmogorov-Smirnov along four directions; false alarms with 4e-8."""
        samples = parzen.sample(20_000, random_state=0)
        rng = np.random.default_rng(1)
        rows = parzen.rows_[rng.integers(200, size=20_000)]
        jumps = parzen.transform(rows + 0.15 * rng.standard_normal(rows.shape))
        for direction in ([1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, -1.0]):
            assert stats.ks_2samp(samples @ direction, jumps @ direction).pvalue > 1e-8

    def test_every_row_gets_its_share(self):
        """Rows far apart are samples themselves. Chi-squared; false alarms with 1e-8."""
        parzen = ParzenDenoiser(0.5).fit(100.0 * np.arange(20)[:, np.newaxis])
        rows = parzen.sample(4000, random_state=0)[:, 0] / 100
        np.testing.assert_allclose(rows, np.round(rows), atol=1e-9)
        counts = np.bincount(np.round(rows).astype(int), minlength=20)
        assert len(counts) == 20
        assert stats.chisquare(counts).pvalue > 1e-8


class TestDEEN:
    @pytest.fixture(params=[False, True])
    def samples(self, request, deen):
        return deen.sample(2000, n_steps=400, metropolis=request.param, random_state=0)

    def test_law_is_that_of_jumps_from_the_learned_density(self, deen, samples):
        """Along four directions, by quadrature of exp(-φ); false alarms with 4e-8.

        The error of unadjusted steps is too small to be seen.
        """
        ticks = np.linspace(-5, 5, 201)
        y = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
        weights = np.exp(deen.score_samples(y) - deen.score_samples(y).max())
        jumps = deen.transform(y)
        for direction in ([1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, -1.0]):
            to, order = jumps @ direction, np.argsort(jumps @ direction)
            cdf = np.cumsum(weights[order]) / weights.sum()
            below = np.interp(samples @ direction, to[order], cdf)
            assert stats.kstest(below, stats.uniform.cdf).pvalue > 1e-8

    def test_law_is_near_that_of_denoised_noisy_rows(self, deen, samples):
        """As near as what was learned: within a quarter of the spread."""
        clean = blobs(20_000, seed=1)
        noise = SIGMA * np.random.default_rng(2).standard_normal(clean.shape)
        jumps = deen.transform(clean + noise)
        spread = jumps.std(axis=0)
        assert (np.abs(samples.mean(axis=0) - jumps.mean(axis=0)) < 0.25 * spread).all()
        difference = np.cov(samples.T) - np.cov(jumps.T)
        assert (np.abs(difference) < 0.25 * np.outer(spread, spread)).all()
        assert np.mean(samples[:, 0] < 0) == pytest.approx(SHARES[0], abs=0.15)

    def test_walks_start_from_a_gaussian_as_wide_as_noisy_rows(self, deen, monkeypatch):
        """False alarms with probability 1e-8 for each of the means and variances."""
        starts = []

        def stay(field, start, **settings):
            starts.append(start)
            return start, field(start)[1]

        monkeypatch.setattr("smoothlearn.denoisers.deen.langevin_walk", stay)
        samples = deen.sample(4000, random_state=0)
        start, X = starts[0].double().numpy(), blobs(1000)
        np.testing.assert_allclose(samples, deen.transform(start), atol=1e-4)
        scaled = (start - X.mean(axis=0)) / np.sqrt(X.var(axis=0) + SIGMA**2)
        assert (np.abs(scaled.mean(axis=0)) * 4000**0.5 < stats.norm.isf(5e-9)).all()
        sums = np.square(scaled).sum(axis=0)
        assert (np.abs(stats.chi2.cdf(sums, 4000) - 0.5) < 0.5 - 5e-9).all()
        assert abs((scaled[:, 0] * scaled[:, 1]).sum()) / 4000**0.5 < stats.norm.isf(5e-9)

    def test_steps_are_in_squared_units(self, deen):
        auto, given, other = (
            deen.sample(20, step_size=step_size, n_steps=5, random_state=0)
            for step_size in ("auto", SIGMA**2 / 5, SIGMA**2 / 4)
        )
        np.testing.assert_allclose(auto, given, atol=1e-6)
        assert np.abs(auto - other).max() > 1e-3

    def test_long_steps_are_rejected_now_and_then_where_asked(self, deen):
        start = deen.sample(200, n_steps=0, random_state=0)
        for metropolis in (False, True):
            settings = {"step_size": 0.7, "n_steps": 1, "metropolis": metropolis}
            stayed = (deen.sample(200, **settings, random_state=0) == start).all(axis=1)
            assert 0.05 < stayed.mean() < 0.95 if metropolis else not stayed.any()

    def test_samples_differ(self, deen):
        """No two walks of a call are the same."""
        samples = deen.sample(200, n_steps=20, random_state=0)
        assert len(np.unique(samples.round(6), axis=0)) == 200

    @pytest.mark.parametrize(
        ("name", "value", "error", "match"),
        [
            ("n_steps", -1, ValueError, "n_steps"),
            ("n_steps", 2.5, TypeError, "n_steps"),
            ("step_size", 0.0, ValueError, "step_size must be finite and > 0"),
            ("step_size", "fast", ValueError, "step_size must be a positive number or 'auto'"),
            ("step_size", 0.72, ValueError, r"step_size=0\.72 is too long .*sigma=0\.6"),
            ("metropolis", "yes", TypeError, "metropolis"),
            ("metropolis", 1, TypeError, "metropolis"),
        ],
    )
    def test_settings_out_of_range(self, deen, name, value, error, match):
        with pytest.raises(error, match=match):
            deen.sample(3, **{"n_steps": 2} | {name: value})

    def test_verbose_shows_steps(self, deen, capsys):
        deen.sample(2, n_steps=6)
        assert capsys.readouterr().err == ""
        try:
            deen.set_params(verbose=1).sample(2, n_steps=6)
        finally:
            deen.set_params(verbose=0)
        assert "6/6" in capsys.readouterr().err
