"""Denoising training: what batches hold, what is kept, and what a run depends on."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from smoothlearn.nn.energies import GradientStepEnergy, initialise
from smoothlearn.nn.networks import mlp
from smoothlearn.nn.randomness import generator_on, private_torch_rng
from smoothlearn.nn.training import NoisyBatches, length, read_history, split, train_denoiser

CPU = torch.device("cpu")
SIGMA = 0.4
ANGLES = np.random.default_rng(0).uniform(0, 2 * np.pi, 200)
#: A circle: the linear denoiser is far from the best one.
ROWS = np.column_stack([np.cos(ANGLES), np.sin(ANGLES)])


def untrained(kind=GradientStepEnergy):
    with private_torch_rng(0):
        energy = kind(2, mlp(2, 32, 2), spread=True)
    initialise(energy, ROWS, SIGMA, generator_on(CPU, 0))
    return energy


def train(energy=None, rows=ROWS, **changes):
    energy = untrained() if energy is None else energy
    settings = {
        "sigma": SIGMA,
        "max_epochs": 10,
        "lr": 5e-3,
        "batch_size": 32,
        "validation_fraction": 0.2,
        "patience": None,
        "device": CPU,
        "seed": 2**90 + 1,
        "verbose": 0,
    }
    history = train_denoiser(energy, rows, **(settings | changes))
    return energy, history


def weights(energy):
    return torch.cat([parameter.detach().flatten() for parameter in energy.parameters()])


def column(history, name):
    return [row[name] for row in history]


def batches(n=10, shuffle=True, seed=3, sigma=0.1, size=4):
    data = TensorDataset(torch.arange(2.0 * n).view(n, 2))
    return NoisyBatches(data, batch_size=size, sigma=sigma, seed=seed, shuffle=shuffle)


@pytest.mark.parametrize("shuffle", [False, True])
def test_every_row_is_seen_once_a_pass(shuffle):
    loader = batches(shuffle=shuffle)
    for _ in range(3):
        passed = list(loader)
        assert len(passed) == len(loader) == 3
        assert [len(x) for _, x in passed] == [4, 4, 2]
        clean = torch.cat([x for _, x in passed])
        assert sorted(clean[:, 0].tolist()) == list(range(0, 20, 2))
        assert torch.equal(clean, loader.rows) is not shuffle


def test_training_noise_is_fresh_and_validation_noise_is_not():
    for shuffle in (False, True):
        loader = batches(shuffle=shuffle)
        first, second = (torch.cat([y for y, _ in loader]) for _ in range(2))
        assert torch.equal(first, second) is not shuffle
    passes = [torch.cat([y - x for y, x in batches()]) for _ in range(2)]
    assert torch.equal(*passes), "a function of the seed"


def test_noise_is_sigma_times_a_standard_normal_that_no_row_shares():
    loader = batches(n=5000, sigma=0.3)
    pairs = [torch.cat([(y - x) / 0.3 for y, x in loader]) for _ in range(2)]
    noise = torch.cat(pairs)
    assert noise.mean().abs() < 6 / math.sqrt(noise.numel())
    assert float(noise.square().mean()) == pytest.approx(1, abs=6 * math.sqrt(2 / noise.numel()))
    assert len(torch.unique(noise.round(decimals=2), dim=0)) > 9000


@pytest.mark.parametrize("shuffle", [False, True])
def test_draws_of_a_row_are_independent(shuffle):
    loader = batches(n=4000, sigma=0.3, shuffle=shuffle, size=64)
    loader.n_noise = 3
    passed = list(loader.draws())
    assert torch.equal(torch.cat([rows for rows, _ in passed]).sort().values, torch.arange(4000))
    noise = torch.cat([noise for _, noise in passed])
    assert noise.shape == (4000, 3, 2)
    # Six standard errors of 21 entries, each below 2e-9 by chance.
    correlation = torch.corrcoef(noise.flatten(1).T)
    assert (correlation - torch.eye(6)).abs().max() < 6 / math.sqrt(4000)
    assert (noise.std(dim=0) / 0.3 - 1).abs().max() < 6 / math.sqrt(2 * 4000)
    again = torch.cat([noise for _, noise in loader.draws()])
    assert torch.equal(noise, again) is not shuffle


@pytest.mark.parametrize(
    ("n_rows", "fraction", "n_valid", "n_repeats"),
    [
        (2000, 0.0, 0, 1),
        (2000, 0.1, 200, 3),
        (2000, 0.5, 1000, 1),
        (10, 0.1, 1, 512),
        (10, 0.99, 9, 57),
        (4, 0.1, 0, 1),
        (1, 0.5, 0, 1),
    ],
)
def test_rows_are_held_out_and_repeated_where_they_are_few(n_rows, fraction, n_valid, n_repeats):
    state = torch.get_rng_state()
    held_out, kept = split(n_rows, fraction, 2**100)
    assert torch.equal(torch.get_rng_state(), state)
    assert len(held_out) == n_valid * n_repeats
    assert torch.equal(torch.cat([held_out.unique(), kept]).sort().values, torch.arange(n_rows))
    assert held_out.unique(return_counts=True)[1].tolist() == [n_repeats] * n_valid
    if n_rows == 2000:
        assert not torch.equal(kept, split(n_rows, fraction, 1)[1])
        assert torch.equal(kept, split(n_rows, fraction, 2**100)[1])


@pytest.mark.parametrize(
    ("max_epochs", "n_rows", "expected"),
    [
        (3, 100, (3, 12)),
        (3, 96, (3, 9)),
        ("auto", 96, (1334, 4002)),
        ("auto", 32_000, (10, 10_000)),
    ],
)
def test_how_long_a_training_is(max_epochs, n_rows, expected):
    assert length(max_epochs, n_rows, 32) == expected


def test_the_history_is_that_of_finished_epochs():
    row = {"epoch": 1, "train_loss": np.float32(0.5), "dur": 1, "batches": []}
    rows = read_history(SimpleNamespace(history=[row, {"epoch": 2, "train_loss": 0.1}]),
                        ("epoch", "train_loss", "valid_loss", "dur"))  # fmt: skip
    assert rows == [{"epoch": 1, "train_loss": 0.5, "dur": 1.0}]
    assert type(rows[0]["train_loss"]) is float


def test_training_denoises_better():
    energy, history = train(max_epochs=40)
    losses = column(history, "valid_loss")
    assert min(losses) < 0.85 * losses[0]
    assert np.mean(column(history, "train_loss")[-5:]) < 0.9 * history[0]["train_loss"]
    rng = np.random.default_rng(5)
    clean = torch.tensor(ROWS, dtype=torch.float32)
    noisy = clean + SIGMA * torch.tensor(rng.standard_normal(ROWS.shape), dtype=torch.float32)
    with torch.no_grad():
        errors = [float((e(noisy) - clean).square().mean()) for e in (energy, untrained())]
    assert errors[0] < 0.85 * errors[1]
    variance = ROWS.var()
    assert errors[0] < 0.9 * SIGMA**2 * variance / (variance + SIGMA**2), "no better than linear"
    assert list(history[0]) == ["epoch", "train_loss", "valid_loss", "dur"]
    assert column(history, "epoch") == list(range(1, 41))


def test_training_is_a_function_of_the_seed_alone():
    state = torch.get_rng_state()
    first, history = train()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(11)
    again, same = train(verbose=0)
    torch.set_rng_state(state)
    assert torch.equal(weights(first), weights(again))
    assert column(history, "valid_loss") == column(same, "valid_loss")
    other, _ = train(seed=5)
    assert not torch.equal(weights(first), weights(other))


def validation_loss(energy, fraction, seed):
    """Loss on the rows and the noise that validate a run with this seed."""
    order = torch.randperm(len(ROWS), generator=generator_on(CPU, seed))
    n_valid = round(fraction * len(ROWS))
    held_out = torch.tensor(ROWS, dtype=torch.float32)[order[:n_valid]]
    held_out = TensorDataset(held_out.repeat(math.ceil(512 / n_valid), 1))
    loader = NoisyBatches(held_out, batch_size=1024, sigma=SIGMA, seed=seed + 2, shuffle=False)
    with torch.no_grad():
        return np.mean([float((energy(y) - x).square().mean()) for y, x in loader])


def test_the_best_epoch_is_kept():
    energy, history = train(lr=0.3, seed=7)  # so large that the loss jumps about
    losses = column(history, "valid_loss")
    assert min(losses) < losses[-1]
    assert validation_loss(energy, 0.2, 7) == pytest.approx(min(losses), rel=1e-5)


def test_the_last_epoch_is_kept_without_validation():
    energy, history = train(validation_fraction=0.0)
    assert "valid_loss" not in history[0]
    assert len(history) == 10
    assert not torch.equal(weights(energy), weights(untrained()))


def test_patience_ends_a_run_and_none_never_does():
    _, history = train(lr=1.0, patience=2, max_epochs=60)
    losses = column(history, "valid_loss")
    assert len(history) < 60
    assert np.argmin(losses) == len(losses) - 3
    assert len(train(lr=1.0, max_epochs=60)[1]) == 60


def test_the_learning_rate_warms_up_and_ends_at_zero(monkeypatch):
    rates = []

    class Recorded(torch.optim.Adam):
        def step(self, *args, **kwargs):
            rates.append(self.param_groups[0]["lr"])
            return super().step(*args, **kwargs)

    monkeypatch.setattr(torch.optim, "Adam", Recorded)
    train(max_epochs=20, lr=0.01)
    assert len(rates) == 20 * 5
    assert rates[0] < 0.0003
    assert 0 < rates[-1] < 1e-5
    top = int(np.argmax(rates))
    assert 30 < top <= 50
    assert 0.003 < rates[top] <= 0.01
    assert np.all(np.diff(rates[:top]) > 0)
    assert np.all(np.diff(rates[top:]) < 0)


def test_auto_makes_a_number_of_steps(monkeypatch):
    monkeypatch.setattr("smoothlearn.nn.training.AUTO_STEPS", 60)
    assert len(train(max_epochs="auto")[1]) == 12  # of five steps each
    assert len(train(max_epochs="auto", batch_size=16)[1]) == 10  # never fewer


class Interrupted(GradientStepEnergy):
    """An energy during whose fortieth evaluation somebody presses Ctrl-C."""

    calls = 0

    def forward(self, y):
        self.calls += 1
        if self.calls == 40:
            raise KeyboardInterrupt
        return super().forward(y)


@pytest.mark.parametrize("settings", [{}, {"validation_fraction": 0.0}, {"patience": 3}])
def test_an_interrupt_is_passed_on(settings):
    with pytest.raises(KeyboardInterrupt):
        train(untrained(Interrupted), **settings)


def test_few_rows():
    for n in (1, 2, 3):
        _, history = train(rows=ROWS[:n], max_epochs=2, validation_fraction=0.5)
        assert len(history) == 2
        assert np.isfinite(history[-1]["train_loss"])


def test_verbose_prints_epochs(capsys):
    train(max_epochs=2)
    assert capsys.readouterr().out == ""
    train(max_epochs=2, verbose=1)
    assert "valid_loss" in capsys.readouterr().out


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_training_on_cuda():
    device = torch.device("cuda")
    state = torch.cuda.get_rng_state()
    energy, history = train(device=device, max_epochs=40)
    assert torch.equal(torch.cuda.get_rng_state(), state)
    losses = column(history, "valid_loss")
    assert min(losses) < 0.85 * losses[0]
    assert next(energy.parameters()).is_cuda


@pytest.mark.parametrize(("n", "sizes"), [(1, [1]), (8, [4, 4]), (9, [4, 5]), (10, [4, 4, 2])])
def test_no_batch_has_one_row_beside_others(n, sizes):
    made = batches(n)
    assert [len(x) for x, _ in made] == sizes
    assert len(made) == len(sizes)
