"""Training under attack: what is minimised, with which noise, in which mode, and what is kept."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from smoothlearn import DEENDenoiser, ParzenDenoiser, XHATClassifier
from smoothlearn.nn import adversarial
from smoothlearn.nn.adversarial import Attack, SmoothingBatches, train_classifier
from smoothlearn.nn.attacks import last_step, smoothed_loss
from smoothlearn.nn.classifiers import SoftClassifier, make_classifier
from smoothlearn.nn.energies import CalibratedEnergy, GradientStepEnergy, initialise, load_energy
from smoothlearn.nn.networks import mlp
from smoothlearn.nn.randomness import generator_on, private_torch_rng
from smoothlearn.theory.bayes import parzen_denoiser

CPU = torch.device("cpu")
SIGMA, EPSILON, SEED, LR, BATCH = 0.4, 0.6, 2**90 + 1, 0.05, 16
LABELS = np.arange(50) % 3
ROWS = np.random.default_rng(0).standard_normal((50, 2)) + np.array(
    [[0.0, 2.0], [2.0, -1.0], [-2.0, -1.0]]
)[LABELS]  # fmt: skip
#: Of 50 rows in batches of 16.
STEPS = 4


#: A training whose validation loss jumps about.
JUMPY = {"lr": 1.0, "validation_fraction": 0.2, "max_epochs": 12}


def leave(batch, places):
    return batch


def untrained(network=mlp, *arguments):
    """A classifier of the rows, of the same weights each time."""
    with private_torch_rng(0):
        module = network(*(arguments or (2, 16, 3)))
        classifier = make_classifier(module, 2, 3)
    classifier.precondition(ROWS, SIGMA)
    return classifier


def train(classifier=None, **changes):
    """The trained classifier, its history and the interrupt; no rows held out, for five epochs."""
    classifier = untrained() if classifier is None else classifier
    settings = {
        "denoise": leave,
        "sigma": SIGMA,
        "attack": Attack(EPSILON, 3),
        "warm_up": 0.0,
        "n_noise": 1,
        "max_epochs": 5,
        "optimizer": torch.optim.AdamW,
        "lr": LR,
        "batch_size": BATCH,
        "validation_fraction": 0.0,
        "patience": None,
        "device": CPU,
        "seed": SEED,
        "verbose": 0,
    }
    history, interrupt = train_classifier(classifier, ROWS, LABELS, **(settings | changes))
    return SimpleNamespace(classifier=classifier, history=history, interrupt=interrupt)


def weights(classifier):
    return torch.cat([parameter.detach().flatten() for parameter in classifier.parameters()])


def column(history, name):
    return [row[name] for row in history]


def parts(fraction=0.0):
    """Positions of the rows held out and of those kept, by the seed."""
    order = torch.randperm(len(ROWS), generator=generator_on(CPU, SEED))
    n_valid = round(fraction * len(ROWS))
    return order[:n_valid], order[n_valid:]


def batches_of(places, seed, **settings):
    rows, labels = torch.tensor(ROWS, dtype=torch.float32), torch.tensor(LABELS)
    settings = {"batch_size": BATCH, "sigma": SIGMA, "n_noise": 1} | settings
    return SmoothingBatches(
        TensorDataset(rows[places], labels[places], places), seed=seed, **settings
    )


def smoothed(network, x, noise, y):
    """Eq. 13 and 14 as they are written."""
    n, m, _ = noise.shape
    probabilities = network((x[:, None] + noise).reshape(n * m, -1)).softmax(dim=1)
    return -probabilities.reshape(n, m, -1).mean(dim=1)[torch.arange(n), y].log()


def climb(network, x, noise, y, radius, step, n_steps):
    """The attack of SmoothAdv: steps along the gradient, each followed by a projection."""
    delta = torch.zeros_like(x)
    for _ in range(n_steps if radius else 0):
        delta = delta.requires_grad_()
        loss = smoothed(network, x + delta, noise, y).sum()
        slope = torch.autograd.grad(loss, delta)[0]
        delta = delta.detach() + step * slope / slope.norm(dim=1, keepdim=True)
        delta = delta * (radius / delta.norm(dim=1, keepdim=True)).clamp(max=1)
    return x + delta


def smooth_adv(network, *, epsilon, n_steps, n_noise, warm_up, n_epochs=5, step_size=None):
    """SmoothAdv by itself: Salman et al. 2019, Algorithm 1 with the loss of Eq. 5."""
    batches = batches_of(parts()[1], SEED + 1, n_noise=n_noise, shuffle=True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR)
    total, t = n_epochs * STEPS, 0
    for _ in range(n_epochs):
        for (x, noise, _), y in batches:
            share = min(1, t / (warm_up * total)) if warm_up else 1
            step = 2.5 * epsilon / n_steps if step_size is None else step_size
            x = climb(network, x, noise, y, share * epsilon, share * step, n_steps)
            optimizer.zero_grad()
            smoothed(network, x, noise, y).mean().backward()
            warm = min(1, (t + 1) / 50)
            optimizer.param_groups[0]["lr"] = LR * warm * (1 + math.cos(math.pi * t / total)) / 2
            optimizer.step()
            t += 1
    return network


class TestBatches:
    @pytest.mark.parametrize("shuffle", [False, True])
    def test_they_hold_rows_noise_places_and_labels(self, shuffle):
        places = torch.tensor([7, 3, 49, 3, 0, 11])
        loader = batches_of(places, 5, batch_size=4, n_noise=3, shuffle=shuffle)
        assert len(loader) == 2
        for _ in range(2):
            passed = list(loader)
            assert [len(y) for _, y in passed] == [4, 2]
            assert [noise.shape for (_, noise, _), _ in passed] == [(4, 3, 2), (2, 3, 2)]
            where = torch.cat([part[2] for part, _ in passed])
            assert sorted(where.tolist()) == sorted(places.tolist())
            assert torch.equal(
                torch.cat([x for (x, _, _), _ in passed]), loader.rows.new_tensor(ROWS)[where]
            )
            assert torch.equal(torch.cat([y for _, y in passed]), torch.tensor(LABELS)[where])

    def test_noise_is_fresh_in_training_and_the_same_in_validation(self):
        for shuffle in (False, True):
            loader = batches_of(torch.arange(20), 5, n_noise=2, shuffle=shuffle)
            first, second = (torch.cat([part[1] for part, _ in loader]) for _ in range(2))
            assert torch.equal(first, second) is not shuffle
            assert not torch.equal(first[:, 0], first[:, 1])


class TestSmoothAdv:
    """With no denoiser, training is SmoothAdv, and Gaussian augmentation without attacks."""

    @pytest.mark.parametrize(
        "change",
        [
            {},
            {"n_noise": 2},
            {"warm_up": 0.5, "n_noise": 3},
            {"warm_up": 1.0, "n_steps": 1},
            {"step_size": 0.1, "warm_up": 0.5},
            {"step_size": 5.0, "n_steps": 2},
            {"epsilon": 0.0},
            {"epsilon": 0.0, "n_noise": 2},
        ],
        ids=str,
    )
    def test_training_is_a_loop_of_twenty_lines(self, change):
        settings = {"epsilon": EPSILON, "n_steps": 3, "n_noise": 1, "warm_up": 0.0} | change
        expected = smooth_adv(untrained(), **settings)
        names = ("epsilon", "n_steps", "step_size")
        attack = Attack(*(settings.pop(name, None) for name in names))
        found = train(attack=attack, **settings).classifier
        torch.testing.assert_close(weights(found), weights(expected), rtol=0, atol=1e-6)
        assert (weights(found) - weights(untrained())).abs().max() > 0.01

    def test_each_part_of_it_matters(self):
        runs = [
            {},
            {"n_noise": 2},
            {"warm_up": 0.5},
            {"attack": Attack(0.0, 3)},
            {"attack": Attack(EPSILON, 4)},
            {"attack": Attack(EPSILON, 3, 0.1)},
            {"seed": 5},
        ]
        ends = torch.stack([weights(train(**change).classifier) for change in runs])
        assert torch.pdist(ends, p=torch.inf).min() > 1e-5

    def test_it_lowers_the_loss_under_attack_more_than_augmentation_does(self):
        places = parts()[1]
        ((x, noise, _), y), *_ = batches_of(places, 3, batch_size=64, n_noise=20, shuffle=False)

        def loss(classifier):
            attacked = climb(classifier, x, noise, y, 2.0, 0.5, 10)
            return float(smoothed(classifier, attacked, noise, y).mean().detach())

        plain = train(attack=Attack(0.0, 1), max_epochs=20).classifier
        robust = train(attack=Attack(2.0, 3), max_epochs=20, warm_up=0.3).classifier
        assert loss(robust) < 0.8 * loss(untrained())
        assert loss(robust) < 0.8 * loss(plain)


def numpy_loss(denoise, head, y, noise):
    """Eq. 14 of float64 rows, for a denoiser and a matrix of NumPy."""

    def loss(x):
        n, m, d = noise.shape
        scores = np.tanh(denoise((x[:, None] + noise).reshape(n * m, d))) @ head
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        own = (powers / powers.sum(axis=1, keepdims=True)).reshape(n, m, -1).mean(axis=1)
        return -np.log(own[np.arange(n), y])

    return loss


def differences(loss, x, step=1e-5):
    """Central differences of a loss whose rows do not depend on each other."""
    shifts = step * np.eye(x.shape[1])
    return np.stack([(loss(x + shift) - loss(x - shift)) / (2 * step) for shift in shifts], axis=1)


ENERGIES = {
    "gradient-step": lambda: GradientStepEnergy(2, mlp(2, 16, 2), spread=True),
    "scalar": lambda: CalibratedEnergy(2, mlp(2, 16, 1)),
}


class TestGradientsThroughTheDenoiser:
    """The attack differentiates x̂, whose own gradient step makes that a second derivative."""

    places = np.arange(0, 50, 3)
    rng = np.random.default_rng(4)
    noise = SIGMA * rng.standard_normal((len(places), 2, 2))
    head = 2 * rng.standard_normal((2, 3))

    def slopes(self, denoise, dtype=torch.float32):
        """The gradient of the smoothed loss at the rows, by way of x̂ of noisy copies."""
        x = torch.tensor(ROWS[self.places], dtype=dtype, requires_grad=True)
        copies = torch.tensor(self.places).repeat_interleave(2)
        head, noise = torch.tensor(self.head, dtype=dtype), torch.tensor(self.noise, dtype=dtype)

        def scores(noisy):
            return denoise(noisy, copies).tanh() @ head

        loss = smoothed_loss(scores, torch.tensor(LABELS[self.places]), noise)
        return torch.autograd.grad(loss(x).sum(), x)[0].numpy()

    def expected(self, denoise):
        loss = numpy_loss(denoise, self.head, LABELS[self.places], self.noise)
        return differences(loss, ROWS[self.places])

    @pytest.mark.parametrize("kind", ENERGIES)
    def test_of_an_energy(self, kind):
        with private_torch_rng(0):
            energy = ENERGIES[kind]()
        initialise(energy, ROWS, SIGMA, generator_on(CPU, 0))
        energy.double()

        def denoise(rows):
            return energy(torch.tensor(rows)).detach().numpy()

        found = self.slopes(lambda noisy, _: energy(noisy), torch.float64)
        np.testing.assert_allclose(found, self.expected(denoise), rtol=1e-6, atol=1e-7)
        assert np.abs(found - self.slopes(leave, torch.float64)).max() > 0.1

        def straight(noisy, places):
            return noisy + (energy(noisy) - noisy).detach()

        difference = np.abs(found - self.slopes(straight, torch.float64))
        assert difference.max() > 0.01, "the curvature matters"

    @pytest.mark.parametrize("module", ["gradient-step-mlp", "mlp"])
    def test_of_a_fitted_deen_denoiser(self, module):
        denoiser = DEENDenoiser(SIGMA, module=module, max_epochs=10, lr=0.01, random_state=0)
        denoiser.fit(ROWS)
        energy = load_energy(module, 2, denoiser.weights_).double()
        expected = self.expected(denoiser.transform)
        found = self.slopes(lambda noisy, _: energy(noisy), torch.float64)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
        found = self.slopes(denoiser.denoise_training_on(ROWS, CPU))
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)

    @pytest.mark.parametrize("far", [0.0, 100.0])
    def test_of_a_parzen_denoiser_that_leaves_out_the_row_itself(self, far):
        # A row far away makes the denoiser compute in float64.
        X = np.vstack([ROWS, [[far, far]]])
        denoiser = ParzenDenoiser(SIGMA).fit(X)
        own = self.places.repeat(2)
        expected = self.expected(lambda rows: parzen_denoiser(rows, SIGMA, X, leave_out=own))
        with_itself = self.expected(denoiser.transform)
        assert np.abs(expected - with_itself).max() > 0.1
        found = self.slopes(denoiser.denoise_training_on(X, CPU), torch.float64)
        tolerance = 1e-3 if far == 0 else 1e-7
        np.testing.assert_allclose(found, expected, rtol=10 * tolerance, atol=tolerance)

    def test_an_attack_through_a_denoiser_raises_the_loss(self):
        denoise = ParzenDenoiser(SIGMA).fit(ROWS).denoise_training_on(ROWS, CPU)
        x, y = torch.tensor(ROWS[self.places]).float(), torch.tensor(LABELS[self.places])
        copies = torch.tensor(self.places).repeat_interleave(2)
        network, noise = untrained(), torch.tensor(self.noise).float()
        loss = smoothed_loss(lambda noisy: network(denoise(noisy, copies)), y, noise)
        attacked = last_step(loss, x, epsilon=0.5, n_steps=4)
        with torch.no_grad():
            gain = loss(attacked) - loss(x)
        assert float((gain > 0).double().mean()) > 0.8
        assert gain.mean() > 0.01


class Recorder:
    """A denoiser that leaves the noise in and keeps what it saw."""

    def __init__(self):
        self.seen, self.places = [], []

    def __call__(self, batch, places):
        self.seen.append(batch.detach().clone())
        self.places.append(places.clone())
        return batch


class Moods(nn.Sequential):
    """A network that keeps in which modes it was called."""

    def __init__(self, d, k):
        super().__init__(nn.Linear(d, 16), nn.BatchNorm1d(16), nn.Dropout(0.2), nn.Linear(16, k))
        self.modes = []

    def forward(self, x):
        self.modes.append(self.training)
        return super().forward(x)


def shifts(seen, n_noise):
    """How far every copy of a row is moved from the first call to the last: (n, n_noise, d)."""
    return (seen[-1] - seen[0]).reshape(-1, n_noise, 2)


class TestSteps:
    """What one step of training and of validation does."""

    @pytest.mark.parametrize("n_noise", [1, 3])
    def test_the_attack_and_the_outer_step_see_the_same_noise(self, n_noise):
        recorder, attack = Recorder(), Attack(EPSILON, 3)
        train(denoise=recorder, attack=attack, n_noise=n_noise)
        assert len(recorder.seen) == 5 * STEPS * 4, "an attack of three steps, and the outer step"
        batches = batches_of(parts()[1], SEED + 1, n_noise=n_noise, shuffle=True)
        for t in range(len(recorder.seen) // 4):
            moved = shifts(recorder.seen[4 * t : 4 * t + 4], n_noise)
            torch.testing.assert_close(moved, moved[:, :1].expand_as(moved), rtol=0, atol=1e-5)
            lengths = moved[:, 0].norm(dim=1)
            assert lengths.max() <= EPSILON + 1e-5
            assert lengths.min() > 0.1 * EPSILON
        (x, noise, _), _ = next(iter(batches))
        assert torch.equal(recorder.seen[0], (x[:, None] + noise).flatten(0, 1))

    def test_the_denoiser_is_told_which_rows_it_sees_copies_of(self):
        recorder = Recorder()
        train(denoise=recorder, sigma=1e-6, attack=Attack(1e-6, 2), n_noise=2,
              validation_fraction=0.3)  # fmt: skip
        rows = torch.tensor(ROWS).float()
        for batch, places in zip(recorder.seen, recorder.places, strict=True):
            torch.testing.assert_close(batch, rows[places], rtol=0, atol=1e-4)
        held_out, kept = parts(0.3)
        seen = torch.cat(recorder.places).unique()
        assert torch.equal(seen, torch.arange(50))
        training = torch.cat([p for p in recorder.places if len(p) <= 2 * BATCH]).unique()
        assert torch.equal(training, kept.sort().values)
        validation = torch.cat([p for p in recorder.places if len(p) > 2 * BATCH]).unique()
        assert torch.equal(validation, held_out.sort().values)

    @pytest.mark.parametrize("epsilon", [0.0, EPSILON])
    def test_attacks_are_made_in_eval_mode_and_steps_in_training_mode(self, epsilon):
        classifier = untrained(Moods, 2, 3)
        network = classifier.network
        found = train(classifier, attack=Attack(epsilon, 3), n_noise=2)
        attack = [False] * 3 if epsilon else []
        assert network.modes == [*attack, True] * (5 * STEPS)
        assert found.classifier is classifier
        assert int(network[1].num_batches_tracked) == 5 * STEPS

    def test_validation_is_in_eval_mode(self):
        classifier = untrained(Moods, 2, 3)
        network = classifier.network
        train(classifier, validation_fraction=0.2, max_epochs=2)
        epoch = [False, False, False, True] * 3 + [False] * 5
        assert network.modes == 2 * epoch
        statistics = network[1].num_batches_tracked
        assert int(statistics) in (3, 6), "those of an epoch's end"

    def test_the_denoiser_is_not_trained(self):
        with private_torch_rng(0):
            denoiser = nn.Linear(2, 2)
        before = weights(denoiser)
        seen = []

        def denoise(batch, places):
            seen.append(all(parameter.grad is None for parameter in denoiser.parameters()))
            return batch + denoiser(batch)

        found = train(denoise=denoise, validation_fraction=0.2)
        assert all(seen)
        assert all(parameter.grad is None for parameter in denoiser.parameters())
        assert torch.equal(weights(denoiser), before)
        assert not torch.equal(weights(found.classifier), weights(untrained()))

    def test_the_outer_step_does_not_differentiate_the_denoiser(self):
        modes = []

        def denoise(batch, places):
            modes.append((torch.is_grad_enabled(), batch.requires_grad))
            return batch

        train(denoise=denoise, max_epochs=1)
        assert modes == ([(True, True)] * 3 + [(False, False)]) * STEPS

    def test_the_attack_goes_through_the_denoiser(self):
        """Of a denoiser that only keeps the second feature, the first one is not attacked."""
        recorder = Recorder()

        def denoise(batch, places):
            return recorder(batch, places) * batch.new_tensor([0.0, 1.0])

        train(denoise=denoise, max_epochs=1)
        moved = shifts(recorder.seen[:4], 1)[:, 0]
        assert torch.equal(moved[:, 0], torch.zeros(BATCH))
        torch.testing.assert_close(
            moved[:, 1].abs().max(), torch.tensor(EPSILON), rtol=1e-4, atol=0
        )


class TestWarmUp:
    def test_epsilon_grows_to_its_value(self):
        history = train(max_epochs=10, warm_up=0.4).history
        expected = [EPSILON * min(1, epoch / 4) for epoch in range(1, 11)]
        np.testing.assert_allclose(column(history, "epsilon"), expected)
        assert set(column(train().history, "epsilon")) == {EPSILON}
        assert set(column(train(attack=Attack(0.0, 0)).history, "epsilon")) == {0.0}
        np.testing.assert_allclose(
            column(train(warm_up=1.0).history, "epsilon"), EPSILON * np.arange(1, 6) / 5
        )

    @pytest.mark.parametrize("step_size", [None, 0.2, 5.0])
    def test_attacks_and_their_steps_grow_with_it(self, step_size):
        recorder = Recorder()
        train(denoise=recorder, attack=Attack(EPSILON, 1, step_size), warm_up=1.0)
        assert len(recorder.seen) == 2 * 5 * STEPS - 1, "no attack in the first step"
        full = min(step_size or 2.5 * EPSILON, EPSILON)
        for t in range(1, 5 * STEPS):
            lengths = shifts(recorder.seen[2 * t - 1 : 2 * t + 1], 1)[:, 0].norm(dim=1)
            expected = torch.full_like(lengths, full * t / (5 * STEPS))
            torch.testing.assert_close(lengths, expected, rtol=0, atol=1e-5)

    @pytest.mark.parametrize("n_noise", [1, 2])
    def test_validation_has_the_whole_of_it_and_the_same_noise_in_every_epoch(self, n_noise):
        found = train(lr=0.0, warm_up=1.0, n_noise=n_noise, validation_fraction=0.2)
        history, network = found.history, found.classifier
        assert torch.equal(weights(network), weights(untrained()))
        for name in ("valid_loss", "valid_acc"):
            assert len(set(column(history, name))) == 1
        loss, accuracy = validation(network, n_noise)
        assert history[0]["valid_loss"] == pytest.approx(loss, rel=1e-5)
        assert history[0]["valid_acc"] == pytest.approx(accuracy, rel=1e-9)
        assert len(set(column(history, "train_loss"))) > 1


def validation(network, n_noise=1, fraction=0.2):
    """The loss under the whole attack, and how many noisy rows are right, of the rows held out."""
    held_out = parts(fraction)[0]
    held_out = held_out.repeat(math.ceil(512 / len(held_out)))
    (((x, noise, _), y),) = batches_of(
        held_out, SEED + 2, batch_size=1024, n_noise=n_noise, shuffle=False
    )
    attacked = climb(network, x, noise, y, EPSILON, 2.5 * EPSILON / 3, 3)
    with torch.no_grad():
        loss = smoothed(network, attacked, noise, y).mean()
        right = network((x[:, None] + noise).flatten(0, 1)).argmax(dim=1).reshape(len(x), -1)
    return float(loss), float((right == y[:, None]).double().mean())


class TestWhatIsKept:
    """Weights of the best epoch where rows are held out, of the last where none are."""

    def test_the_best_epoch(self):
        found = train(**JUMPY)
        losses = column(found.history, "valid_loss")
        assert min(losses) < losses[-1] - 0.01
        loss, accuracy = validation(found.classifier)
        assert loss == pytest.approx(min(losses), rel=1e-4)
        assert accuracy == pytest.approx(found.history[int(np.argmin(losses))]["valid_acc"])

    def test_the_last_without_validation(self):
        found = train()
        assert list(found.history[0]) == ["epoch", "train_loss", "epsilon", "dur"]
        assert column(found.history, "epoch") == [1, 2, 3, 4, 5]
        expected = smooth_adv(untrained(), epsilon=EPSILON, n_steps=3, n_noise=1, warm_up=0.0)
        torch.testing.assert_close(weights(found.classifier), weights(expected), rtol=0, atol=1e-6)

    def test_patience_ends_training_early_with_the_best_weights(self):
        found = train(**JUMPY | {"max_epochs": 200, "lr": 1.0}, patience=3)
        losses = column(found.history, "valid_loss")
        assert len(losses) < 200
        assert found.interrupt is None
        assert int(np.argmin(losses)) == len(losses) - 4
        assert validation(found.classifier)[0] == pytest.approx(min(losses), rel=1e-4)

    def test_history_has_a_row_an_epoch(self):
        history = train(validation_fraction=0.2).history
        names = ["epoch", "train_loss", "valid_loss", "valid_acc", "epsilon", "dur"]
        assert list(history[0]) == names
        assert all(type(row["epoch"]) is int for row in history)
        assert all(type(row[name]) is float for row in history for name in names[1:])

    def test_the_training_loss_is_the_mean_over_rows(self):
        found = train(lr=0.0, max_epochs=1, n_noise=2)
        losses = []
        for (x, noise, _), y in batches_of(parts()[1], SEED + 1, n_noise=2, shuffle=True):
            x = climb(found.classifier, x, noise, y, EPSILON, 2.5 * EPSILON / 3, 3)
            losses.append(smoothed(found.classifier, x, noise, y).detach())
        assert [len(part) for part in losses] == [16, 16, 16, 2]
        assert found.history[0]["train_loss"] == pytest.approx(float(torch.cat(losses).mean()))

    def test_auto_is_a_number_of_steps(self, monkeypatch):
        monkeypatch.setattr("smoothlearn.nn.training.AUTO_STEPS", 44)
        assert len(train(max_epochs="auto", attack=Attack(0.0, 0)).history) == 11


class TestSeeds:
    @pytest.mark.parametrize("fraction", [0.0, 0.2])
    def test_a_training_is_a_function_of_its_seed(self, fraction):
        state = torch.get_rng_state()
        first = train(validation_fraction=fraction, n_noise=2)
        assert torch.equal(torch.get_rng_state(), state)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(11)
            again = train(validation_fraction=fraction, n_noise=2)
        other = train(validation_fraction=fraction, n_noise=2, seed=5)
        assert torch.equal(weights(first.classifier), weights(again.classifier))
        assert column(first.history, "train_loss") == column(again.history, "train_loss")
        assert not torch.equal(weights(first.classifier), weights(other.classifier))

    def test_so_is_that_of_a_module_with_dropout(self):
        def module(d, k):
            return nn.Sequential(nn.Linear(d, 16), nn.Tanh(), nn.Dropout(0.4), nn.Linear(16, k))

        def fit(module, random_state):
            settings = {"denoiser": "passthrough", "epsilon": 0.3, "max_epochs": 3}
            clf = XHATClassifier(module, random_state=random_state, **settings).fit(ROWS, LABELS)
            return np.concatenate([value.ravel() for value in clf.weights_.values()])

        state = torch.get_rng_state()
        first = fit(module, 0)
        assert torch.equal(torch.get_rng_state(), state)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(11)
            np.testing.assert_array_equal(fit(module, 0), first)
        assert not np.array_equal(fit(module, 1), first)


class FailsInStep(nn.Linear):
    """Does something else from its n-th call in training mode on."""

    def __init__(self, n, then):
        super().__init__(2, 3)
        self.n, self.then, self.steps = n, then, 0

    def forward(self, x):
        self.steps += self.training
        logits = super().forward(x)
        return self.then(logits) if self.training and self.steps >= self.n else logits


def interrupt(logits):
    raise KeyboardInterrupt


class FailsInEpoch:
    """A denoiser during which somebody presses Ctrl-C, in its n-th call."""

    def __init__(self, n):
        self.n, self.calls = n, 0

    def __call__(self, batch, places):
        self.calls += 1
        if self.calls == self.n:
            raise KeyboardInterrupt
        return batch


class TestFailures:
    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    @pytest.mark.parametrize(("step", "epoch"), [(1, 1), (STEPS, 1), (STEPS + 1, 2), (11, 3)])
    def test_a_loss_that_is_not_finite_names_the_epoch(self, step, epoch, bad):
        classifier = untrained(FailsInStep, step, lambda logits: logits * bad)
        with pytest.raises(ValueError, match=rf"the loss is nan in epoch {epoch}: the mod"):
            train(classifier)

    def test_a_training_that_diverges_is_one(self):
        def wild(parameters, lr):
            return torch.optim.SGD(parameters, lr=1e38)

        with pytest.raises(ValueError, match=r"the loss is (nan|inf) in epoch \d.*lower lr"):
            train(optimizer=wild)

    @pytest.mark.parametrize("fraction", [0.0, 0.2])
    def test_in_the_first_epoch_an_interrupt_is_passed_on(self, fraction):
        with pytest.raises(KeyboardInterrupt):
            train(untrained(FailsInStep, 3, interrupt), validation_fraction=fraction)
        with pytest.raises(KeyboardInterrupt):
            train(denoise=FailsInEpoch(3), validation_fraction=fraction)

    def test_after_an_interrupt_the_weights_are_those_of_the_last_step(self):
        found = train(untrained(FailsInStep, 2 * STEPS + 2, interrupt))
        assert column(found.history, "epoch") == [1, 2]
        assert found.interrupt == "in epoch 3 of 5; the weights are those after the last step"
        steps = []

        class Counted(torch.optim.AdamW):
            def step(self, *args, **kwargs):
                done = super().step(*args, **kwargs)
                steps.append(weights(whole))
                return done

        whole = untrained(FailsInStep, 10**9, interrupt)
        train(whole, optimizer=Counted)
        assert torch.equal(weights(found.classifier), steps[2 * STEPS])

    @pytest.mark.parametrize("where", ["training", "attack", "validation"])
    def test_after_an_interrupt_the_weights_are_those_of_the_best_epoch(self, where):
        settings = JUMPY
        whole = train(**settings)
        losses = column(whole.history, "valid_loss")
        n = int(np.argmin(losses)) + 3  # finished epochs, the last two of them worse
        assert n < len(losses)
        # Of 17 calls an epoch, 12 train, with three batches of three attack steps; 5 validate.
        call = 17 * n + {"training": 8, "attack": 6, "validation": 14}[where]
        found = train(denoise=FailsInEpoch(call), **settings)
        assert column(found.history, "valid_loss") == losses[:n]
        assert found.interrupt == (
            f"in epoch {n + 1} of 12; the weights are those of epoch {n - 2}, with the least "
            "validation loss"
        )
        assert torch.equal(weights(found.classifier), weights(whole.classifier))


class TestBar:
    """A progress bar for verbose > 0, closed whatever happens."""

    @pytest.fixture
    def bars(self, monkeypatch):
        made = []

        class Recorded(adversarial.tqdm):
            def __init__(self, *args, **settings):
                super().__init__(*args, mininterval=0, **settings)
                self.closed = 0
                made.append(self)

            def close(self):
                self.closed = True
                super().close()

        monkeypatch.setattr(adversarial, "tqdm", Recorded)
        return made

    @pytest.mark.parametrize("fraction", [0.0, 0.2])
    def test_it_shows_epochs_and_losses(self, bars, capsys, fraction):
        found = train(verbose=1, validation_fraction=fraction)
        written = capsys.readouterr()
        assert written.out == ""
        assert "epoch 1/5" in written.err
        assert "epoch 5/5" in written.err
        for name in ("train_loss", "valid_loss", "valid_acc"):
            if name in found.history[-1]:
                assert f"{name}={found.history[-1][name]:.3f}" in written.err
            else:
                assert name not in written.err
        (bar,) = bars
        assert bar.closed
        assert bar.n == bar.total == 5 * (3 if fraction else 4)

    def test_there_is_none_by_default(self, bars, capsys):
        train()
        assert capsys.readouterr() == ("", "")
        assert bars == []

    @pytest.mark.parametrize(
        ("step", "then", "settings", "error"),
        [
            (3, interrupt, {}, KeyboardInterrupt),
            (6, interrupt, {}, None),
            (6, interrupt, {"validation_fraction": 0.2}, None),
            (6, lambda logits: logits * math.nan, {}, ValueError),
            (10**9, interrupt,
             {"validation_fraction": 0.2, "lr": 3.0, "patience": 1, "max_epochs": 90}, None),
        ],
    )  # fmt: skip
    def test_it_is_closed_however_training_ends(self, bars, step, then, settings, error):
        classifier = untrained(FailsInStep, step, then)
        if error is None:
            assert len(train(classifier, verbose=1, **settings).history) < 90
        else:
            with pytest.raises(error):
                train(classifier, verbose=1, **settings)
        (bar,) = bars
        assert bar.closed


def test_an_attack_of_radius_0_leaves_the_rows_and_does_not_ask_for_losses():
    x = torch.ones(2, 2)

    def loss(x):
        raise AssertionError

    assert Attack(0.0, 0)(loss, x) is x
    assert Attack(1.0, 2)(loss, x, share=0.0) is x


def test_a_classifier_is_trained_in_place():
    classifier = untrained()
    before = weights(classifier)
    assert isinstance(classifier, SoftClassifier)
    train(classifier)
    assert not torch.equal(weights(classifier), before)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_training_on_cuda():
    device = torch.device("cuda")
    state = torch.cuda.get_rng_state()
    found = train(device=device, validation_fraction=0.2, max_epochs=40)
    assert torch.equal(torch.cuda.get_rng_state(), state)
    assert min(column(found.history, "valid_loss")) < found.history[0]["valid_loss"]
    assert next(found.classifier.parameters()).is_cuda
