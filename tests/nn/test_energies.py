"""x̂ = y − σ²∇φ by finite differences, in every mode torch can be in."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from smoothlearn.nn.energies import (
    FEW_FEATURES,
    IMAGE_ENERGIES,
    TABLE_ENERGIES,
    CalibratedEnergy,
    Energy,
    GradientStepEnergy,
    initialise,
    load_energy,
    make_energy,
)
from smoothlearn.nn.networks import mlp, save_weights
from smoothlearn.nn.randomness import generator_on, private_torch_rng

SIGMA = 0.6
ROWS = np.random.default_rng(0).standard_normal((300, 3)) * [1.0, 2.0, 0.5] + [0.0, 5.0, -1.0]
NAMES = sorted(TABLE_ENERGIES)
#: Torch takes other kernels where it keeps a graph.
ROUNDING = 1e-14


class Tanh(nn.Module):
    """A user's network, of shape (n,) instead of (n, 1)."""

    def __init__(self, n_features):
        super().__init__()
        self.layer = nn.Linear(n_features, 4)

    def forward(self, u):
        return torch.tanh(self.layer(u)).sum(dim=1)


class Pooled(nn.Module):
    """A user's network of images, of shape (n,)."""

    def __init__(self, n_features):
        super().__init__()
        self.layer = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, images):
        return torch.tanh(self.layer(images)).sum(dim=(1, 2, 3))


def filters(n_features):
    """A user's network from images to images."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 1, 3, padding=1, bias=False)
    )


def autoencoder(n_features):
    """A user's network from rows to rows."""
    return nn.Sequential(nn.Linear(n_features, 4, bias=False), nn.Tanh(), nn.Linear(4, n_features))


#: The rows as images of three pixels, for modules of images.
STRIP = (1, 1, 3)
OF_IMAGES = [*sorted(IMAGE_ENERGIES), Pooled, filters]
MODULES = [*NAMES, Tanh, autoencoder, *OF_IMAGES]


def shape_for(module):
    return STRIP if module in OF_IMAGES else None


def energy_of(module, double=True):
    """An energy as it is before training, in float64 for finite differences."""
    with private_torch_rng(0):
        energy = make_energy(module, 3, shape_for(module))
    initialise(energy, ROWS, SIGMA, generator_on(torch.device("cpu"), 0))
    return energy.double() if double else energy


def noisy(n=5, seed=1, dtype=torch.float64):
    rng = np.random.default_rng(seed)
    return torch.tensor(ROWS[:n] + SIGMA * rng.standard_normal((n, 3)), dtype=dtype)


def central(function, at, step):
    """Central differences of a scalar function in every entry of a tensor, changed in place."""
    slope = torch.empty_like(at)
    flat, out = at.view(-1), slope.view(-1)
    for i in range(len(flat)):
        old = flat[i].item()
        flat[i] = old + step
        high = float(function())
        flat[i] = old - step
        out[i] = (high - float(function())) / (2 * step)
        flat[i] = old
    return slope


@pytest.mark.parametrize("module", MODULES)
def test_the_denoiser_is_y_minus_sigma_squared_times_the_gradient(module):
    energy, y = energy_of(module), noisy()
    with torch.no_grad():
        slope = central(lambda: energy.energy(y).sum(), y, 1e-5)
        torch.testing.assert_close(energy(y), y - SIGMA**2 * slope, rtol=1e-6, atol=1e-7)
        assert (SIGMA**2 * slope).abs().mean() > 0.05
        assert energy.energy(y).shape == (5,)


def some(weights):
    """Up to three numbers of a tensor; of a filter, those of its middle row."""
    first = (0,) * (weights.ndim - 1) if weights.ndim < 4 else (0, 0, 1)
    return weights[first][:3]


@pytest.mark.parametrize("module", MODULES)
def test_training_differentiates_through_the_gradient(module):
    energy, y = energy_of(module), noisy()
    clean = torch.tensor(ROWS[:5])

    def loss():
        return (energy(y) - clean).square().mean()

    loss().backward()
    for name, parameter in energy.named_parameters():
        block = some(parameter.data)  # a view: central() writes to the parameter
        with torch.no_grad():
            slope = central(loss, block, 1e-5)
        if parameter.grad is None:  # a bias behind the last layer only shifts the energy
            torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-8)
        else:
            given = some(parameter.grad)
            torch.testing.assert_close(given, slope, rtol=1e-5, atol=1e-7, msg=name)
    assert sum(p.grad.abs().sum() for p in energy.parameters() if p.grad is not None) > 0.01


@pytest.mark.parametrize("module", MODULES)
def test_gradients_flow_to_the_input(module):
    energy, y = energy_of(module), noisy()
    leaf = y.clone().requires_grad_()
    weights = torch.linspace(1, 2, 15, dtype=torch.float64).view(5, 3)
    (weights * energy(2 * leaf)).sum().backward()
    with torch.no_grad():
        slope = central(lambda: (weights * energy(2 * y)).sum(), y, 1e-5)
    torch.testing.assert_close(leaf.grad, slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("module", MODULES)
def test_evaluation_in_any_mode_gives_the_same(module, mode, frozen):
    energy, y = energy_of(module).requires_grad_(not frozen), noisy()
    expected = energy(y).detach()
    with mode():
        inside = energy(y)
        own = energy(y.clone())  # in inference mode, an inference tensor
        asked = energy(y.clone().requires_grad_()) if mode is torch.no_grad else inside
        assert not torch.is_grad_enabled()
    for denoised in (inside, own, asked):
        assert not denoised.requires_grad
        torch.testing.assert_close(denoised, expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("module", MODULES)
def test_inference_tensors_may_come_in_anywhere(module):
    energy = energy_of(module)
    expected = energy(noisy()).detach()
    with torch.inference_mode():
        y = noisy()
    assert y.is_inference()
    torch.testing.assert_close(energy(y).detach(), expected, rtol=0, atol=ROUNDING)
    with torch.no_grad():
        torch.testing.assert_close(energy(y), expected, rtol=0, atol=ROUNDING)
    with torch.inference_mode():
        torch.testing.assert_close(energy(y), expected, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("asks", [False, True])
def test_the_callers_tensor_is_left_alone(mode, asks):
    energy, y = energy_of("mlp", double=False), noisy(dtype=torch.float32)
    y.requires_grad_(asks)
    before = y.detach().clone()
    with mode():
        energy(y)
    assert y.requires_grad is asks
    assert y.is_leaf
    assert y.grad is None
    assert torch.equal(y.detach(), before)
    assert all(parameter.grad is None for parameter in energy.parameters())


@pytest.mark.parametrize("build", [GradientStepEnergy, CalibratedEnergy])
def test_without_a_network_it_is_the_linear_denoiser(build):
    """The Bayes estimator of Gaussian data: x̂ = μ + s²/(s² + σ²)(y − μ)."""
    per_feature = build is GradientStepEnergy
    network = mlp(3, 4, 3 if per_feature else 1)
    for parameter in network.parameters():
        parameter.data.zero_()
    energy = build(3, network)
    energy.precondition(ROWS, SIGMA)
    variance = ROWS.var(axis=0) if per_feature else np.full(3, ROWS.var(axis=0).mean())
    y = noisy()
    shrunk = ROWS.mean(axis=0) + variance / (variance + SIGMA**2) * (y.numpy() - ROWS.mean(axis=0))
    with torch.no_grad():
        np.testing.assert_allclose(energy.double()(y), shrunk, rtol=1e-5, atol=1e-5)


def test_the_tied_energy_encodes_and_decodes_by_the_same_units():
    energy, y = energy_of("tied"), noisy()
    first, _, last = energy.network
    V, a = first.weight.detach(), last.weight.detach()[0]
    h = energy.scale_in * (y - energy.mean) @ V.T + first.bias.detach()
    (psi,) = torch.autograd.grad(nn.functional.gelu(h.requires_grad_()).sum(), h)
    with torch.no_grad():
        decoded = (a * psi) @ V
        linear = energy.skip * y + (1 - energy.skip) * energy.mean
        expected = linear - energy.gain * energy.scale_out * decoded
        np.testing.assert_allclose(energy(y), expected, rtol=1e-10)
        assert float((energy(y) - linear).abs().mean()) > 0.01


def test_the_gradient_step_energy_is_its_formula():
    energy, y = energy_of("gradient-step-mlp"), noisy()
    variance = ROWS.var(axis=0)
    total = np.sqrt(variance + SIGMA**2)
    r = y.numpy() - ROWS.mean(axis=0)
    with torch.no_grad():
        f = energy.network(torch.tensor(r / total)).numpy()
        value = energy.energy(y).numpy()
    reconstruction = (1 - SIGMA / total) * r + SIGMA * np.sqrt(variance) / total * f
    expected = np.square(r - reconstruction).sum(axis=1) / (2 * SIGMA**2)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert np.abs(f).mean() > 0.01


@pytest.mark.parametrize("module", ["mlp", Tanh, "conv", Pooled])
def test_before_training_the_network_moves_points_by_half_its_scale(module):
    energy = energy_of(module, double=False)
    variance = ROWS.var(axis=0).mean()
    generator = generator_on(torch.device("cpu"), 0)
    rows = torch.from_numpy(ROWS.astype(np.float32))
    picks = torch.randint(len(rows), (512,), generator=generator)
    y = rows[picks] + SIGMA * torch.randn((512, 3), generator=generator)
    with torch.no_grad():
        shrunk = energy.mean + variance / (variance + SIGMA**2) * (y - energy.mean)
        moved = (energy(y) - shrunk).square().mean().sqrt()
    scale = SIGMA * math.sqrt(variance / (variance + SIGMA**2))
    assert float(moved) == pytest.approx(scale / 2, rel=1e-4)


def test_calibration_makes_the_slope_one_half():
    energy = energy_of(Tanh, double=False)
    y = noisy(200, dtype=torch.float32)
    energy.calibrate(y)
    u = (energy.scale_in * (y - energy.mean)).requires_grad_()
    slope = energy.gain * torch.autograd.grad(energy.network(u).sum(), u)[0]
    assert float(slope.square().mean().sqrt()) == pytest.approx(0.5, rel=1e-5)


def test_the_first_layer_bends_near_the_data():
    energy = energy_of("gradient-step-mlp", double=False)
    layer = energy.network[0]
    with torch.no_grad():
        u = energy.scale_in * (noisy(300, dtype=torch.float32) - energy.mean)
        centre = layer(u).abs().min(dim=0).values
        lengths = (layer.weight * energy.sigma * energy.scale_in).norm(dim=1)
    assert float(centre.median()) < 0.05
    assert float(centre.max()) < 1
    assert 0.25 <= float(lengths.min()) < float(lengths.max()) <= 0.75


@pytest.mark.parametrize("shape", [(1, 7, 5), (3, 8, 8), (1, 1, 1), (2, 1, 6)], ids=str)
@pytest.mark.parametrize("module", sorted(IMAGE_ENERGIES))
def test_energies_of_images_of_any_size(module, shape):
    """x̂ by differences in some pixels."""
    d = math.prod(shape)
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, d)) + np.linspace(-1, 2, d)
    with private_torch_rng(0):
        energy = make_energy(module, d, shape)
    initialise(energy, X, SIGMA, generator_on(torch.device("cpu"), 0))
    energy.double()
    y = torch.tensor(X[:4] + SIGMA * rng.standard_normal((4, d)))
    with torch.no_grad():
        assert energy.energy(y).shape == (4,)
        for pixel in {0, d // 2, d - 1}:
            step = 1e-5 * torch.eye(d, dtype=torch.float64)[pixel]
            slope = (energy.energy(y + step) - energy.energy(y - step)) / 2e-5
            expected = y[:, pixel] - SIGMA**2 * slope
            torch.testing.assert_close(energy(y)[:, pixel], expected, rtol=1e-6, atol=1e-7)
        alone = torch.cat([energy(row[None]) for row in y])
        torch.testing.assert_close(energy(y), alone, rtol=0, atol=1e-12)
    assert energy.skip.shape == ()


class Seen(nn.Module):
    """Keeps the images it sees."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.seen = []

    def forward(self, images):
        self.seen.append(images.detach().clone())
        return (self.weight * images).square().sum(dim=(1, 2, 3))


def test_pixels_stand_in_rows_and_channels_as_in_numpy():
    energy = make_energy(Seen(), 24, (2, 3, 4))
    energy.energy(torch.arange(48.0).reshape(2, 24))
    seen = energy.network[1].seen[-1] / energy.scale_in
    np.testing.assert_allclose(seen, np.arange(48).reshape(2, 2, 3, 4), rtol=1e-6)


def test_the_output_of_a_module_decides_what_it_is():
    def of(n_outputs):
        return make_energy(lambda d: mlp(d, 4, n_outputs), 3)

    assert isinstance(of(1), CalibratedEnergy)
    assert isinstance(of(3), GradientStepEnergy)
    assert of(3).skip.shape == (3,)
    assert isinstance(make_energy(Pooled, 3, STRIP), CalibratedEnergy)
    images = make_energy(filters, 3, STRIP)
    assert isinstance(images, GradientStepEnergy)
    assert images.skip.shape == ()
    assert isinstance(make_energy(lambda d: mlp(d, 4, 1), 1), CalibratedEnergy)
    assert isinstance(make_energy("conv", 3, STRIP), CalibratedEnergy)
    assert isinstance(make_energy("gradient-step-unet", 3, STRIP), GradientStepEnergy)


def test_a_module_that_keeps_the_size_may_have_another_shape():
    """(n, 1, d) for (n, d): not to be broadcast."""
    flat = mlp(3, 4, 3)
    energies = [
        make_energy(module, 3) for module in (flat, nn.Sequential(flat, nn.Unflatten(1, (1, 3))))
    ]
    one, other = (energy(noisy(dtype=torch.float32)).detach() for energy in energies)
    torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_a_module_is_asked_for_its_output_in_eval_mode():
    """And is left in its own mode: a batch of two zeros must not count as data."""
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3))
    energy = make_energy(network, 3)
    assert int(energy.network[1].num_batches_tracked) == 0
    assert energy.network.training
    assert all(part.training for part in energy.network.modules())
    assert network.training


def test_a_users_first_layer_is_left_alone():
    """An instance starts from its weights, and a layer may have no bias."""
    energy = energy_of(autoencoder, double=False)
    again = energy_of(autoencoder(3), double=False)
    before = again.network[0].weight.detach().clone()
    initialise(again, ROWS, SIGMA, generator_on(torch.device("cpu"), 1))
    assert torch.equal(again.network[0].weight, before)
    with private_torch_rng(0):
        assert torch.equal(energy.network[0].weight, autoencoder(3)[0].weight)


@pytest.mark.parametrize("module", sorted(IMAGE_ENERGIES))
def test_energies_of_images_need_the_shape(module):
    with pytest.raises(ValueError, match=rf"module='{module}' is an energy of images and needs"):
        make_energy(module, 64)


def test_auto_goes_by_the_number_of_features():
    assert isinstance(make_energy("auto", FEW_FEATURES), GradientStepEnergy)
    assert isinstance(make_energy("auto", FEW_FEATURES + 1), CalibratedEnergy)


def test_an_instance_is_copied_and_a_class_or_function_called():
    network = Tanh(3)
    energy = make_energy(network, 3)
    assert energy.network is not network
    assert energy.network.layer.weight is not network.layer.weight
    assert torch.equal(energy.network.layer.weight, network.layer.weight)
    assert isinstance(make_energy(lambda d: mlp(d, 2, 1), 3).network, nn.Sequential)


@pytest.mark.parametrize(
    "layer", [nn.ReLU(), nn.LeakyReLU(), nn.PReLU(), nn.Hardtanh(), nn.MaxPool1d(2), nn.ReLU6()]
)
def test_layers_with_kinks_are_refused(layer):
    network = nn.Sequential(nn.Linear(3, 4), nn.Sequential(layer), nn.Linear(4, 1))
    with pytest.raises(ValueError, match=f"{type(layer).__name__}.*SiLU"):
        make_energy(network, 3)


class FunctionalReLU(nn.Module):
    def __init__(self, n_features):
        super().__init__()
        self.first, self.last = nn.Linear(n_features, 8), nn.Linear(8, 1)

    def forward(self, u):
        return self.last(torch.relu(self.first(u)))


@pytest.mark.parametrize("module", [FunctionalReLU, lambda d: nn.Linear(d, 1)])
def test_kinks_that_no_layer_shows_are_refused(module):
    with pytest.raises(ValueError, match="piecewise constant gradient"):
        energy_of(module)


@pytest.mark.parametrize("activation", [nn.SiLU, nn.GELU, nn.Softplus, nn.Tanh, nn.Sigmoid, nn.ELU])
def test_smooth_layers_are_taken(activation):
    energy_of(lambda d: nn.Sequential(nn.Linear(d, 4), activation(), nn.Linear(4, 1)))


def test_outputs_that_are_no_scalar_are_refused():
    match = r"one scalar a row.* or to \(n, d\); it gave \(5, 2\) for 5 rows of 3 features"
    with pytest.raises(ValueError, match=match):
        make_energy(lambda d: mlp(d, 4, 2), 3)(noisy(dtype=torch.float32))


def test_unknown_modules_are_refused():
    names = "'gradient-step-mlp', 'mlp', 'tied', 'conv', 'gradient-step-unet'"
    with pytest.raises(ValueError, match=rf"module='cnn' is not known; use 'auto', {names} or"):
        make_energy("cnn", 3)
    with pytest.raises(TypeError, match=r"gave int, not a torch nn\.Module"):
        make_energy(lambda d: d, 3)
    with pytest.raises(TypeError, match="does not define energy"):
        Energy(3)(noisy(dtype=torch.float32))


@pytest.mark.parametrize("module", [*MODULES, lambda d: mlp(d, 4, 1)])
def test_weights_survive_as_arrays(module):
    energy, y = energy_of(module, double=False), noisy(dtype=torch.float32)
    weights = save_weights(energy)
    assert {type(value) for value in weights.values()} == {np.ndarray}
    state = torch.get_rng_state()
    again = load_energy(module, 3, weights, shape_for(module))
    assert torch.equal(torch.get_rng_state(), state)
    assert not again.training
    assert not any(parameter.requires_grad for parameter in again.parameters())
    with torch.no_grad():
        expected = energy(y)
        assert torch.equal(again(y), expected)
        for array in weights.values():
            array[...] = 0
        assert torch.equal(energy(y), expected), "the arrays share memory with the energy"
        assert torch.equal(again(y), expected), "the arrays share memory with the copy"


@pytest.mark.parametrize("module", MODULES)
def test_weights_are_loaded_in_any_mode(module):
    energy, y = energy_of(module, double=False), noisy(dtype=torch.float32)
    expected = energy(y).detach()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            again = load_energy(module, 3, save_weights(energy), shape_for(module))
            torch.testing.assert_close(again(y), expected, rtol=0, atol=3e-6)
