"""Attractors: the local minima of an energy, and which of them rows flow to."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.cluster import MeanShift
from sklearn.exceptions import ConvergenceWarning

from smoothlearn import AttractorDenoiser, DEENDenoiser, ParzenDenoiser
from smoothlearn.nn.randomness import generator_on
from smoothlearn.theory.bayes import parzen_denoiser

CPU = torch.device("cpu")


class Gaussian(ParzenDenoiser):
    """With the energy of a Gaussian of unit variance around the mean of the rows."""

    def field_on(self, device, *, double=False):
        mean = torch.tensor(self.rows_.mean(axis=0))
        return lambda y: ((y - mean).square().sum(dim=1) / 2, y - mean)

    def _energy(self, Y):
        return np.square(Y - self.rows_.mean(axis=0)).sum(axis=1) / 2


def attractors_of(X, walk_sigma, sigma=0.5, **params):
    settings = {"random_state": 0, "max_steps": 5000} | params
    denoiser = AttractorDenoiser(
        ParzenDenoiser(), ParzenDenoiser(walk_sigma), sigma=sigma, **settings
    )
    return denoiser.fit(X)


@pytest.fixture(scope="module")
def scattered():
    """25 rows, any two of them at least 0.75 apart."""
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), axis=-1).reshape(-1, 2)
    return rng.permutation(grid) + rng.uniform(-0.12, 0.12, (25, 2))


class TestOfTheTrainingRows:
    def test_little_noise_has_the_rows_themselves(self, scattered):
        denoiser = attractors_of(scattered, 0.1)
        assert denoiser.attractors_.shape == (25, 2)
        assert sorted(denoiser.assignment_) == list(range(25))
        own = denoiser.attractors_[denoiser.assignment_]
        np.testing.assert_allclose(own, scattered, atol=1e-6)

    def test_much_noise_has_their_mean(self, scattered):
        """As of a Gaussian, but for the little that 25 rows differ from one."""
        denoiser = attractors_of(scattered, 3.0, sigma=4.0)
        assert denoiser.attractors_.shape == (1, 2)
        np.testing.assert_allclose(denoiser.attractors_[0], scattered.mean(axis=0), atol=0.05)
        assert (denoiser.assignment_ == 0).all()

    def test_of_a_gaussian_there_is_one_the_mean(self, scattered):
        denoiser = AttractorDenoiser(ParzenDenoiser(), Gaussian(0.3), random_state=0)
        denoiser.fit(scattered)
        np.testing.assert_allclose(denoiser.attractors_, [scattered.mean(axis=0)], atol=1e-6)
        np.testing.assert_allclose(denoiser.energies_, 0.0, atol=1e-12)
        assert (denoiser.assignment_ == 0).all()
        # where a step of 0.09 of the way is as long as the tolerance
        distances = np.linalg.norm(denoiser.transform(scattered) - scattered.mean(axis=0), axis=1)
        assert distances.max() <= 1e-3 * 0.3 / 0.09

    @pytest.mark.parametrize("apart", [0.9, 1.1])
    def test_two_rows_share_one_where_the_noise_is_more_than_half_their_distance(self, apart):
        """The density of ±a has one mode for σ' ≥ a, else two; beside a third row far away."""
        walk_sigma = 0.2
        a = apart * walk_sigma
        X = np.array([[1.0 + a, 2.0], [9.0, 9.0], [1.0 - a, 2.0]])
        denoiser = attractors_of(X, walk_sigma)
        if apart < 1:
            assert len(denoiser.attractors_) == 2
            assert denoiser.assignment_[0] == denoiser.assignment_[2] != denoiser.assignment_[1]
            np.testing.assert_allclose(
                denoiser.attractors_[denoiser.assignment_[0]], [1.0, 2.0], atol=0.01
            )
        else:
            assert sorted(denoiser.assignment_) == [0, 1, 2]
            gap = denoiser.attractors_[denoiser.assignment_[0]] - [1.0, 2.0]
            # u = a tanh(ua/σ'²) is where each of the two modes lies.
            assert gap[0] == pytest.approx(a * np.tanh(gap[0] * a / walk_sigma**2), abs=2e-4)
            assert 0.3 * a < gap[0] < a

    def test_are_minima_of_the_energy_by_rising_energy(self, scattered):
        X = np.vstack([scattered, scattered[:7] + 0.05, scattered[:3] - 0.05])
        denoiser = attractors_of(X, 0.25)
        assert 2 < len(denoiser.attractors_) <= 25
        assert (np.diff(denoiser.energies_) >= 0).all()
        np.testing.assert_array_equal(
            denoiser.energies_, denoiser.walk_.energy(denoiser.attractors_)
        )
        for place in denoiser.attractors_:
            lowest = minimize(lambda y: denoiser.walk_.energy([y])[0], place, tol=1e-10).x
            np.testing.assert_allclose(place, lowest, atol=0.002)

    def test_are_those_of_mean_shift(self, scattered):
        """Whose flat kernel knows the same groups of rows where they lie apart."""
        rng = np.random.default_rng(1)
        X = np.repeat(scattered[:6] * 3, 10, axis=0) + 0.1 * rng.standard_normal((60, 2))
        denoiser = attractors_of(X, 0.3)
        groups = MeanShift(bandwidth=0.8).fit(X)
        assert len(denoiser.attractors_) == 6
        pairs = set(zip(denoiser.assignment_, groups.labels_, strict=True))
        assert len(pairs) == 6
        for mine, other in pairs:
            np.testing.assert_allclose(
                denoiser.attractors_[mine], groups.cluster_centers_[other], atol=0.1
            )

    def test_are_exact_however_early_rows_stop(self, scattered):
        X = np.vstack([scattered, scattered[:7] + 0.05])
        early, late = (attractors_of(X, 0.25, tolerance=tolerance) for tolerance in (0.2, 1e-4))
        np.testing.assert_allclose(early.attractors_, late.attractors_, atol=1e-5)
        np.testing.assert_array_equal(early.assignment_, late.assignment_)

    def test_row_that_rests_on_a_saddle_belongs_to_a_minimum(self):
        """One between twenty, by symmetry, has no slope, and its density is less than beside it."""
        X = np.repeat([[-1.5, 0.0], [0.0, 0.0], [1.5, 0.0]], [10, 1, 10], axis=0)
        denoiser = attractors_of(X, 1.0, sigma=1.5)
        assert np.abs(denoiser.walk_.transform(X[10:11])).max() < 1e-12
        assert len(denoiser.attractors_) == 2
        assert (np.abs(denoiser.attractors_[:, 0]) > 0.5).all()
        assert denoiser.assignment_[0] != denoiser.assignment_[-1]
        assert denoiser.assignment_[10] in (0, 1)

    def test_assignment_is_to_where_each_row_flows(self, scattered):
        X = np.vstack([scattered, scattered[:7] + 0.2])
        denoiser = attractors_of(X, 0.2)
        y = X.copy()
        for _ in range(500):
            y = parzen_denoiser(y, 0.2, X)
        np.testing.assert_allclose(denoiser.attractors_[denoiser.assignment_], y, atol=0.02)

    def test_in_blocks_are_the_same(self, scattered, monkeypatch):
        expected = attractors_of(scattered, 0.3)
        monkeypatch.setattr("smoothlearn.denoisers.attractor.MOVED_ROWS", 4)
        again = attractors_of(scattered, 0.3)
        np.testing.assert_allclose(again.attractors_, expected.attractors_, atol=1e-12)
        np.testing.assert_array_equal(again.assignment_, expected.assignment_)


class TestSteps:
    def test_too_few_warn_and_assign_nothing(self, scattered):
        X = np.vstack([scattered, scattered[:1] + 0.2, [[50.0, 50.0]]])
        denoiser = AttractorDenoiser(
            ParzenDenoiser(), ParzenDenoiser(0.3), max_steps=1, random_state=0
        )
        match = r"of 27 rows had not arrived at an attractor after max_steps=1; raise max_steps"
        with pytest.warns(ConvergenceWarning, match=match) as record:
            denoiser.fit(X)
        assert len(record) == 1
        assert record[0].filename == __file__
        lost = denoiser.assignment_ == -1
        assert f"{lost.sum()} of 27" in str(record[0].message)
        assert 1 < lost.sum() < 27
        assert not lost[26], "far from the others, it is where it flows to"
        np.testing.assert_allclose(denoiser.attractors_[denoiser.assignment_[26]], [50, 50])
        assert len(denoiser.attractors_) == len(denoiser.energies_) == len(set(
            denoiser.assignment_[~lost]
        ))  # fmt: skip

    def test_where_no_row_arrives_there_is_no_attractor(self):
        X = np.array([[0.0, 0.0], [0.4, 0.0], [0.0, 0.4]])
        denoiser = AttractorDenoiser(ParzenDenoiser(), ParzenDenoiser(0.3), max_steps=1)
        with pytest.warns(ConvergenceWarning, match="3 of 3 rows"):
            denoiser.fit(X)
        assert denoiser.attractors_.shape == (0, 2)
        assert denoiser.energies_.shape == (0,)
        np.testing.assert_array_equal(denoiser.assignment_, [-1, -1, -1])
        assert np.isfinite(denoiser.transform(X)).all()

    @pytest.mark.parametrize("tolerance", [0.2, 1e-2, 1e-4])
    def test_stop_where_the_next_would_move_less_than_the_tolerance(self, scattered, tolerance):
        """In units of σ'; the next one goes to x̂, so that no step is longer."""
        X, sigma = np.vstack([scattered, scattered[:9] + 0.3]), 0.3
        denoiser = attractors_of(X, sigma, tolerance=tolerance)
        Y = X + 0.3 * np.random.default_rng(0).standard_normal(X.shape)
        y = denoiser.transform(Y)
        moves = np.linalg.norm(denoiser.walk_.transform(y) - y, axis=1) / sigma
        assert moves.max() <= tolerance * (1 + 1e-6)
        assert moves.max() > 0.3 * tolerance

    def test_shift_is_that_of_the_mean(self, scattered):
        """With σ'² for a step, Euler's goes to x̂: two of them are x̂ of x̂."""
        X = np.vstack([scattered, scattered[:9] + 0.3])
        with pytest.warns(ConvergenceWarning):
            denoiser = attractors_of(X, 0.3, tolerance=1e-12, max_steps=2)
        Y = X + 0.3 * np.random.default_rng(0).standard_normal(X.shape)
        y = denoiser.stages(Y)["denoised"]
        for _ in range(2):
            y = parzen_denoiser(y, 0.3, X)
        np.testing.assert_allclose(denoiser.transform(Y), y, atol=1e-9)

    def test_attractors_stay_where_they_are(self, scattered):
        denoiser = attractors_of(scattered, 0.1, sigma=0.12)
        np.testing.assert_allclose(denoiser.transform(scattered), scattered, atol=1e-3)
        votes = denoiser.denoise_on(CPU)(torch.tensor(scattered).float(), generator_on(CPU, 0))
        np.testing.assert_allclose(votes.numpy(), scattered, atol=1e-3)

    def test_votes_far_from_the_origin_stop(self, scattered):
        """In float32, where rows of 100,000 are 1/128 apart."""
        denoiser = attractors_of(scattered + 1e5, 0.1, tolerance=1e-6)
        calls, field_on = [], denoiser.walk_.field_on

        def counting(device, **params):
            field = field_on(device, **params)
            return lambda batch: (calls.append(1), field(batch))[1]

        denoiser.walk_.field_on = counting
        Y = scattered + 1e5 + 0.2 * np.random.default_rng(0).standard_normal(scattered.shape)
        votes = denoiser.denoise_on(CPU)(torch.tensor(Y).float(), generator_on(CPU, 0))
        assert 0 < len(calls) < 100
        distances = np.linalg.norm(votes.numpy()[:, np.newaxis] - denoiser.attractors_, axis=2)
        assert distances.min(axis=1).max() < 4 * 2**-23 * np.hypot(1e5, 1e5) * 1.1


def test_learned_energy_of_two_blobs_has_an_attractor_in_each():
    rng = np.random.default_rng(0)
    centres = np.array([[-2.0, 0.0], [2.0, 1.0]])
    X = centres[np.arange(200) % 2] + 0.3 * rng.standard_normal((200, 2))
    energies = {"max_epochs": 25, "lr": 5e-3}
    denoiser = AttractorDenoiser(
        DEENDenoiser(**energies),
        DEENDenoiser(0.6, **energies),
        sigma=1.0,
        tolerance=0.01,
        random_state=0,
    ).fit(X)
    assert len(denoiser.attractors_) == 2
    np.testing.assert_allclose(
        denoiser.attractors_[denoiser.assignment_], centres[np.arange(200) % 2], atol=0.3
    )
    np.testing.assert_array_equal(denoiser.energies_, denoiser.walk_.energy(denoiser.attractors_))
    distances = np.linalg.norm(
        denoiser.transform(2 * X)[:, np.newaxis] - denoiser.attractors_, axis=2
    )
    assert distances.min(axis=1).max() < 0.06
