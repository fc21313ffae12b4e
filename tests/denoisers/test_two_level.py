"""What walk-jump and attractor denoisers share: two fitted denoisers, and noise of each row."""

import math
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_moons
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted
from torch import nn

from smoothlearn import AttractorDenoiser, DEENDenoiser, ParzenDenoiser, WalkJumpDenoiser
from smoothlearn.nn.dynamics import gradient_flow, langevin_walk
from smoothlearn.nn.randomness import generator_on

CPU = torch.device("cpu")
SIGMA, WALK_SIGMA = 0.4, 0.1


def smooth_network(n_features):
    return nn.Sequential(nn.Linear(n_features, 32), nn.SiLU(), nn.Linear(32, n_features))


def deen(sigma=None, **params):
    settings = {"module": smooth_network, "max_epochs": 15, "lr": 0.02} | params
    return DEENDenoiser(sigma, **settings)


KINDS = {
    "walk-parzen": WalkJumpDenoiser(ParzenDenoiser(), ParzenDenoiser(WALK_SIGMA), n_steps=8),
    "walk-deen": WalkJumpDenoiser(deen(), deen(WALK_SIGMA), n_steps=8),
    "adjusted-parzen": WalkJumpDenoiser(
        ParzenDenoiser(), ParzenDenoiser(WALK_SIGMA), n_steps=8, metropolis=True
    ),
    "adjusted-deen": WalkJumpDenoiser(deen(), deen(WALK_SIGMA), n_steps=8, metropolis=True),
    "attractor-parzen": AttractorDenoiser(
        ParzenDenoiser(), ParzenDenoiser(WALK_SIGMA), max_steps=3000
    ),
    "attractor-deen": AttractorDenoiser(deen(), deen(WALK_SIGMA), tolerance=0.05),
}
WALKS = [name for name in KINDS if not name.startswith("attractor")]
each_kind = pytest.mark.parametrize("name", KINDS)
each_walk = pytest.mark.parametrize("name", WALKS)


@pytest.fixture(scope="module")
def moons():
    return make_moons(80, noise=0.05, random_state=0)[0]


@pytest.fixture(scope="module")
def noisy(moons):
    return moons[:60] + SIGMA * np.random.default_rng(3).standard_normal((60, 2))


def kind(name, **params):
    return clone(KINDS[name]).set_params(**{"sigma": SIGMA, "random_state": 0} | params)


@pytest.fixture(scope="module")
def every_fitted(moons):
    return {name: kind(name).fit(moons) for name in KINDS}


@pytest.fixture
def fitted(every_fitted, name):
    return every_fitted[name]


def on_device(denoiser, batch, seed=0):
    return denoiser.denoise_on(CPU)(batch, generator_on(CPU, seed))


class TestStages:
    @each_kind
    def test_start_at_the_jump_and_end_at_what_transform_gives(self, name, fitted, noisy):
        stages = fitted.stages(noisy)
        last = ["attractor"] if name.startswith("attractor") else ["walked", "jumped"]
        assert list(stages) == ["denoised", *last]
        np.testing.assert_array_equal(stages["denoised"], fitted.jump_.transform(noisy))
        np.testing.assert_array_equal(stages[last[-1]], fitted.transform(noisy))
        assert all(rows.shape == (60, 2) for rows in stages.values())
        assert all(rows.dtype == np.float64 for rows in stages.values())
        assert np.abs(stages[last[0]] - stages["denoised"]).max() > 0.02

    @each_walk
    def test_jump_is_the_walks_denoiser(self, fitted, noisy):
        stages = fitted.stages(noisy)
        jumped = fitted.walk_.transform(stages["walked"])
        np.testing.assert_allclose(stages["jumped"], jumped, atol=1e-9)

    @each_kind
    def test_energy_is_that_of_noisy_rows(self, fitted, noisy):
        np.testing.assert_array_equal(fitted.energy(noisy), fitted.jump_.energy(noisy))
        np.testing.assert_array_equal(fitted.score_samples(noisy), -fitted.energy(noisy))

    @each_kind
    def test_score_is_minus_the_mean_squared_error(self, fitted, moons):
        assert fitted.score(moons) == fitted.score(moons)
        errors = []
        for seed in range(10):
            noise = np.random.default_rng(seed).standard_normal(moons.shape)
            errors.append(np.mean((fitted.transform(moons + SIGMA * noise) - moons) ** 2))
        assert -fitted.score(moons) == pytest.approx(np.mean(errors), abs=5 * np.std(errors))


class TestNoiseOfTransform:
    @each_kind
    def test_belongs_to_the_row(self, fitted, noisy):
        """Not to its company or its place, nor to its last bits."""
        expected = fitted.transform(noisy)
        np.testing.assert_array_equal(fitted.transform(noisy), expected)
        np.testing.assert_allclose(fitted.transform(noisy[::-1]), expected[::-1], atol=1e-9)
        alone = np.concatenate([fitted.transform(row[np.newaxis]) for row in noisy[:9]])
        np.testing.assert_allclose(alone, expected[:9], atol=1e-9)
        np.testing.assert_allclose(fitted.transform(noisy * (1 + 1e-15)), expected, atol=1e-6)
        np.testing.assert_allclose(fitted.transform(noisy - 0.0), expected, atol=1e-9)

    @each_kind
    def test_belongs_to_the_row_across_blocks(self, fitted, noisy, monkeypatch):
        expected = fitted.stages(noisy)
        monkeypatch.setattr("smoothlearn.denoisers.two_level.MOVED_ROWS", 7)
        for stage, rows in fitted.stages(noisy).items():
            np.testing.assert_allclose(rows, expected[stage], atol=1e-9)

    @each_walk
    def test_rows_far_apart_have_noise_of_their_own(self, fitted):
        """At a thousand sigmas x̂ is the same row, and all that differs is the walk."""
        far = 1e3 * np.column_stack([np.ones(30), 1 + 1e-2 * np.arange(30)])
        stages = fitted.stages(far)
        walked = stages["walked"] - stages["denoised"]
        distances = np.linalg.norm(walked[:, np.newaxis] - walked, axis=2)
        assert (distances + np.eye(30) > 1e-3).all()

    @each_walk
    def test_is_seeded_by_random_state(self, name, fitted, moons, noisy):
        expected = fitted.transform(noisy)
        again = kind(name).fit(moons)
        assert again.noise_seed_ == fitted.noise_seed_
        np.testing.assert_array_equal(again.transform(noisy), expected)

        def refitted(seed):
            frozen = {"jump": FrozenEstimator(fitted.jump_), "walk": FrozenEstimator(fitted.walk_)}
            return kind(name, random_state=seed, **frozen).fit(moons)

        np.testing.assert_array_equal(refitted(0).transform(noisy), expected)
        state = np.random.RandomState(0)
        others = [refitted(seed).transform(noisy) for seed in (1, None, None, state, state)]
        for i, one in enumerate([expected, *others]):
            for other in [expected, *others][:i]:
                assert np.abs(one - other).max() > 0.01

    @pytest.mark.parametrize("name", ["walk-deen", "attractor-deen"])
    def test_denoisers_without_a_seed_get_one_each(self, name, fitted, moons):
        again = kind(name, jump__random_state=5).fit(moons)
        assert again.jump_.random_state == 5
        assert again.walk_.random_state == fitted.walk_.random_state
        assert fitted.walk_.random_state != fitted.jump_.random_state
        for weight, other in zip(
            again.walk_.weights_.values(), fitted.walk_.weights_.values(), strict=True
        ):
            np.testing.assert_array_equal(weight, other)

    @each_kind
    def test_leaves_global_generators_alone(self, name, moons, noisy):
        torch.manual_seed(3)
        np.random.seed(3)  # noqa: NPY002
        expected = torch.rand(2), np.random.rand(2)  # noqa: NPY002
        torch.manual_seed(3)
        np.random.seed(3)  # noqa: NPY002
        brief = {"jump__max_epochs": 2, "walk__max_epochs": 2} if "deen" in name else {}
        denoiser = kind(name, **brief)
        if name == "attractor-deen":
            denoiser.set_params(tolerance=0.5)
        denoiser.fit(moons[:20]).transform(noisy[:20])
        on_device(denoiser, torch.tensor(noisy).float())
        assert torch.equal(torch.rand(2), expected[0])
        np.testing.assert_array_equal(np.random.rand(2), expected[1])  # noqa: NPY002


class TestFit:
    @each_kind
    def test_both_denoisers_are_those_of_fits_by_themselves(self, name, fitted, moons, noisy):
        for inner, sigma in ((fitted.jump_, SIGMA), (fitted.walk_, WALK_SIGMA)):
            assert inner.sigma_ == sigma
            alone = clone(inner).fit(moons)
            np.testing.assert_array_equal(alone.transform(noisy), inner.transform(noisy))
        assert fitted.sigma_ == SIGMA
        assert fitted.jump is not fitted.jump_
        assert not hasattr(fitted.jump, "sigma_")
        assert fitted.jump.sigma is None

    @pytest.mark.parametrize("denoiser", [WalkJumpDenoiser(n_steps=2), AttractorDenoiser()])
    def test_both_are_learned_where_none_is_given(self, denoiser, moons, monkeypatch):
        monkeypatch.setattr("smoothlearn.nn.training.AUTO_STEPS", 30)
        denoiser = clone(denoiser).set_params(random_state=0)
        if isinstance(denoiser, AttractorDenoiser):
            denoiser.set_params(tolerance=0.5)
        denoiser.fit(moons[:20])
        assert denoiser.sigma_ == denoiser.jump_.sigma_ == 0.5
        assert denoiser.walk_.sigma_ == 0.125
        for inner in (denoiser.jump_, denoiser.walk_):
            defaults = DEENDenoiser(sigma=inner.sigma_, random_state=inner.random_state)
            assert inner.get_params() == defaults.get_params()

    @each_kind
    def test_walk_without_a_sigma_has_a_quarter_of_it(self, name, moons):
        brief = {"jump__max_epochs": 2, "walk__max_epochs": 2} if "deen" in name else {}
        denoiser = kind(name, walk__sigma=None, **brief)
        if name == "attractor-deen":
            denoiser.set_params(tolerance=0.5)
        assert denoiser.fit(moons[:20]).walk_.sigma_ == pytest.approx(0.1)

    @each_kind
    def test_frozen_ones_are_not_fitted_again(self, fitted, moons, noisy):
        frozen = {"jump": FrozenEstimator(fitted.jump_), "walk": FrozenEstimator(fitted.walk_)}
        again = clone(fitted).set_params(**frozen).fit(moons + 0.2)
        assert again.jump_.estimator is fitted.jump_
        assert again.walk_.estimator is fitted.walk_
        np.testing.assert_array_equal(again.transform(noisy), fitted.transform(noisy))
        batch = torch.tensor(noisy).float()
        assert torch.equal(on_device(again, batch), on_device(fitted, batch))

    @each_kind
    def test_parameters_set_after_it_change_nothing(self, name, fitted, moons, noisy):
        changed = pickle.loads(pickle.dumps(fitted))
        batch = torch.tensor(noisy).float()
        params = {
            "jump": None,
            "walk": ParzenDenoiser(3.0),
            "sigma": 2.0,
            "random_state": 9,
            "step_size": 1e-4,
            "n_steps": 0,
            "metropolis": not name.startswith("adjusted"),
            "tolerance": 9.0,
            "max_steps": 1,
        }
        changed.set_params(**{k: v for k, v in params.items() if k in changed.get_params()})
        np.testing.assert_array_equal(changed.transform(noisy), fitted.transform(noisy))
        np.testing.assert_array_equal(changed.energy(noisy), fitted.energy(noisy))
        assert changed.score(moons) == fitted.score(moons)
        assert torch.equal(on_device(changed, batch), on_device(fitted, batch))
        np.testing.assert_array_equal(
            changed.denoise_copies(noisy, moons[:60]), fitted.denoise_copies(noisy, moons[:60])
        )

    @each_kind
    def test_failed_refit_forgets_the_first(self, name, moons):
        moons = moons[:20]
        denoiser = kind(name)
        if "deen" in name:
            denoiser.set_params(jump__max_epochs=2, walk__max_epochs=2)
        if name == "attractor-deen":
            denoiser.set_params(tolerance=0.5)
        denoiser.fit(moons)
        for broken in ({"sigma": -1.0}, {"jump": "passthrough"}, {"walk__sigma": -1.0}):
            before = {key: denoiser.get_params()[key] for key in broken}
            with pytest.raises((ValueError, TypeError)):
                denoiser.set_params(**broken).fit(moons)
            with pytest.raises(NotFittedError):
                check_is_fitted(denoiser)
            denoiser.set_params(**before).fit(moons)
        with pytest.raises(ValueError, match="NaN"):
            denoiser.fit(np.full_like(moons, math.nan))
        with pytest.raises(NotFittedError):
            denoiser.transform(moons)

    @pytest.mark.parametrize("denoiser", [WalkJumpDenoiser(), AttractorDenoiser()])
    @pytest.mark.parametrize("part", ["jump", "walk"])
    def test_interrupt_leaves_nothing_fitted(self, denoiser, part, moons):
        def interrupt(n_features):
            raise KeyboardInterrupt

        parts = {"jump": ParzenDenoiser(), "walk": ParzenDenoiser(0.1)}
        denoiser = clone(denoiser).set_params(**parts).fit(moons)
        denoiser.set_params(**{part: DEENDenoiser(module=interrupt)})
        with pytest.raises(KeyboardInterrupt):
            denoiser.fit(moons)
        with pytest.raises(NotFittedError):
            check_is_fitted(denoiser)

    def test_one_may_jump_from_where_another_ends(self, moons, noisy):
        inner = WalkJumpDenoiser(ParzenDenoiser(), ParzenDenoiser(WALK_SIGMA), n_steps=3)
        outer = AttractorDenoiser(inner, ParzenDenoiser(0.05), sigma=SIGMA, random_state=0)
        stages = outer.fit(moons).stages(noisy)
        np.testing.assert_array_equal(stages["denoised"], outer.jump_.transform(noisy))
        assert outer.jump_.sigma_ == SIGMA
        assert on_device(outer, torch.tensor(noisy).float()).shape == (60, 2)

    @pytest.mark.parametrize("name", ["walk-parzen", "attractor-parzen"])
    def test_rows_may_run_backwards(self, name, fitted, moons, noisy):
        """As views that torch does not take."""
        again = kind(name).fit(moons[::-1])
        np.testing.assert_allclose(again.transform(noisy), fitted.transform(noisy), atol=1e-6)
        np.testing.assert_array_equal(
            fitted.transform(noisy[:1][::-1]), fitted.transform(noisy[:1])
        )

    @each_kind
    def test_verbose_shows_blocks(self, fitted, noisy, capsys):
        fitted.transform(noisy)
        assert capsys.readouterr().err == ""
        loud = pickle.loads(pickle.dumps(fitted)).set_params(verbose=1)
        loud.transform(noisy)
        assert "1/1" in capsys.readouterr().err


class TestOnADevice:
    @each_kind
    @pytest.mark.parametrize("context", [torch.enable_grad, torch.no_grad, torch.inference_mode])
    def test_modes_change_nothing(self, fitted, noisy, context):
        batch = torch.tensor(noisy).float()
        expected = on_device(fitted, batch)
        with context():
            denoised = on_device(fitted, batch)
        assert denoised.dtype == torch.float32
        assert not denoised.requires_grad
        assert torch.equal(denoised, expected)

    @each_walk
    def test_equal_rows_walk_apart(self, fitted, noisy):
        batch = torch.tensor(noisy[:1]).float().expand(20, -1)
        denoised = on_device(fitted, batch)
        distances = torch.cdist(denoised, denoised) + torch.eye(20)
        assert (distances > 1e-5).all()
        generator = generator_on(CPU, 0)
        denoise = fitted.denoise_on(CPU)
        assert torch.equal(denoise(batch, generator), denoised)
        assert (denoise(batch, generator) != denoised).any(dim=1).all()

    @each_kind
    def test_agrees_with_transform_in_law(self, fitted, noisy):
        """Of 8 rows: means of 60 and 900 walks, and spreads; false alarms below 1e-6."""
        rows = noisy[:8]
        if isinstance(fitted, AttractorDenoiser):
            denoised = on_device(fitted, torch.tensor(rows).float())
            np.testing.assert_allclose(denoised, fitted.transform(rows), atol=0.02)
            return
        batch = torch.tensor(rows).float().repeat(900, 1)
        votes = on_device(fitted, batch).double().numpy().reshape(900, 8, 2)
        other, transformed = pickle.loads(pickle.dumps(fitted)), []
        for seed in range(60):
            other.noise_seed_ = seed
            transformed.append(other.transform(rows))
        transformed = np.stack(transformed)
        error = np.sqrt(votes.var(axis=0) * (1 / 60 + 1 / 900))
        assert (np.abs(transformed.mean(axis=0) - votes.mean(axis=0)) < 7 * error + 1e-3).all()
        ratio = transformed.var(axis=0).sum() / votes.var(axis=0).sum()
        assert 0.6 < ratio < 1.6

    @each_kind
    def test_gradient_is_that_of_the_walk_that_was_taken(self, name, fitted, noisy):
        """Central differences in float32, with the noise of one seed."""
        rows = torch.tensor(noisy[:20]).float()
        if name.startswith("attractor"):
            fitted = pickle.loads(pickle.dumps(fitted))
            # Steps that all rows take: where a row decides to stop there is no slope.
            fitted._tolerance, fitted._max_steps = 1e-9, 3
        batch = rows.clone().requires_grad_()
        weights = torch.tensor([1.0, -0.5])
        (on_device(fitted, batch) @ weights).sum().backward()
        assert batch.grad.isfinite().all()
        step, close = 2e-3, []
        for column in range(2):
            shift = step * torch.eye(2)[column]
            ahead, behind = (on_device(fitted, rows + sign * shift) @ weights for sign in (1, -1))
            slopes = (ahead - behind) / (2 * step)
            error = (slopes - batch.grad[:, column]).abs()
            close.append(error < 0.02 * (1 + slopes.abs()))
        # A step of the adjusted walk that is accepted on one side alone is a jump.
        share = torch.stack(close).double().mean()
        assert share == 1 if name.startswith("walk") else share > 0.7


def by_hand(denoiser, X, places, copies, of):
    """Of each copy, from denoisers of the rows without its own, with the noise of the batch."""
    generator = generator_on(CPU, denoiser._seed_of(torch.tensor(of)))
    draws = [torch.randn((len(copies), 2), generator=generator) for _ in range(8)]
    rows = []
    for i, place in enumerate(places):
        rest = np.delete(X, place, axis=0)
        first = ParzenDenoiser(SIGMA).fit(rest).transform(copies[i : i + 1])
        walk = ParzenDenoiser(WALK_SIGMA).fit(rest)
        field, start = walk.field_on(CPU, double=True), torch.tensor(first)
        if isinstance(denoiser, WalkJumpDenoiser):
            own = iter([draw[i : i + 1].double() for draw in draws])
            walked, slopes = langevin_walk(
                field,
                start,
                step_size=WALK_SIGMA**2 / 5,
                n_steps=8,
                normal=lambda width, own=own: next(own),
            )
            rows.append((walked - WALK_SIGMA**2 * slopes).numpy())
        else:
            h = WALK_SIGMA**2
            rows.append(
                gradient_flow(
                    field, start, step_size=h, tolerance=1e-3 * WALK_SIGMA, max_steps=3000
                )[0].numpy()
            )
    return np.concatenate(rows)


class TestOnTrainingRows:
    @pytest.mark.parametrize("name", ["walk-parzen", "attractor-parzen"])
    def test_both_levels_leave_out_the_row_itself(self, fitted, moons):
        rng = np.random.default_rng(5)
        places = rng.integers(0, len(moons), 40)
        copies = moons[places] + SIGMA * rng.standard_normal((40, 2))
        copies = copies.astype(np.float32).astype(float)
        expected = by_hand(fitted, moons, places, copies, np.arange(40))
        denoised = fitted.denoise_copies(copies, moons[places])
        np.testing.assert_allclose(denoised, expected, atol=2e-3)
        denoise = fitted.denoise_training_on(moons[::-1].copy(), CPU)
        batch = len(moons) - 1 - places
        backwards = denoise(torch.tensor(copies).float(), torch.tensor(batch))
        np.testing.assert_allclose(
            backwards, by_hand(fitted, moons, places, copies, batch), atol=2e-3
        )
        far = np.vstack([moons, [[1e6, 1e6]]])
        all_rows = by_hand(fitted, far, [80] * 40, copies, np.arange(40))
        assert np.abs(all_rows - expected).max() > 0.03

    @each_walk
    def test_walks_of_a_batch_are_held(self, fitted, moons, noisy):
        """While it is attacked; another batch has others, and in it each row its own."""
        batch, places = torch.tensor(noisy).float(), torch.arange(60)
        one, other = (fitted.denoise_training_on(moons, CPU) for _ in range(2))
        first = one(batch, places)
        assert torch.equal(first, one(batch, places))
        assert torch.equal(first, other(batch, places))
        again = one(batch, torch.cat([places[:59], torch.tensor([70])]))
        assert (first != again)[:59].any(dim=1).all()
        equal = one(batch[:1].expand(60, -1), torch.zeros(60, dtype=torch.int64))
        assert len(equal.unique(dim=0)) == 60

    @each_kind
    def test_is_differentiable(self, fitted, moons, noisy):
        batch = torch.tensor(noisy).float().requires_grad_()
        denoised = fitted.denoise_training_on(moons, CPU)(batch, torch.arange(60))
        denoised.sum().backward()
        assert batch.grad.isfinite().all()
        assert (batch.grad != 0).any()
        plain = fitted.denoise_training_on(moons, CPU)(batch.detach(), torch.arange(60))
        assert not plain.requires_grad
        torch.testing.assert_close(plain, denoised.detach())
