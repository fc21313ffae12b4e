"""Soft classifiers: built by name or around a user's network, and logits that rows do not share."""

import numpy as np
import pytest
import torch
from torch import nn

from smoothlearn.nn.classifiers import load_classifier, make_classifier, refuse_moods
from smoothlearn.nn.networks import ConvClassifier, save_weights
from smoothlearn.nn.randomness import private_torch_rng

SHAPES = [(1, 7, 5), (1, 28, 28), (3, 8, 8), (3, 5, 7), (1, 1, 1)]


def make(*arguments):
    with private_torch_rng(0):
        return make_classifier(*arguments)


def rows(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def logits(classifier, X):
    with torch.no_grad():
        return classifier.eval()(torch.tensor(X, dtype=torch.float32))


class Widths(nn.Module):
    """Keeps the numbers that it was called with; logits of rows or of images."""

    def __init__(self, n_inputs, n_classes):
        super().__init__()
        self.called_with = (n_inputs, n_classes)
        self.head = nn.Linear(n_inputs, n_classes)

    def forward(self, x):
        return self.head(x.flatten(2).mean(dim=2) if x.ndim == 4 else x)


def widths(n_inputs, n_classes):
    return Widths(n_inputs, n_classes)


def test_auto_is_an_mlp_for_tables_and_convolutions_for_images():
    table, named = make("auto", 4, 3), make("mlp", 4, 3)
    assert [type(layer) for layer in table.network] == [type(layer) for layer in named.network]
    assert not any(isinstance(layer, nn.Conv2d) for layer in table.modules())
    for name in ("auto", "conv"):
        image = make(name, 35, 3, (1, 7, 5))
        assert any(isinstance(layer, ConvClassifier) for layer in image.modules())


def test_an_mlp_by_name_takes_images_as_rows():
    classifier = make("mlp", 35, 3, (1, 7, 5))
    assert logits(classifier, rows(4, 35)).shape == (4, 3)
    assert classifier.scale_in.shape == ()


@pytest.mark.parametrize("shape", SHAPES)
def test_images_of_any_size(shape):
    classifier = make("conv", int(np.prod(shape)), 4, shape)
    assert logits(classifier, rows(3, int(np.prod(shape)))).shape == (3, 4)


@pytest.mark.parametrize("module", [Widths, widths])
def test_a_class_or_function_is_called_with_features_or_channels_and_classes(module):
    assert make(module, 6, 4).network.called_with == (6, 4)
    of_images = make(module, 24, 4, (3, 2, 4))
    assert of_images.network[1].called_with == (3, 4)
    assert logits(of_images, rows(5, 24)).shape == (5, 4)


def test_an_instance_is_copied():
    instance = Widths(2, 3)
    before = instance.head.weight.detach().clone()
    classifier = make(instance, 2, 3)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.add_(1)
    assert torch.equal(instance.head.weight, before)
    assert torch.equal(classifier.network.head.weight, before + 1)


@pytest.mark.parametrize(
    ("arguments", "kind", "problem"),
    [
        (("mlpp", 2, 3), ValueError, "module='mlpp' is not known; use 'auto', 'mlp', 'conv'"),
        (("conv", 4, 3), ValueError, "module='conv' .* needs image_shape"),
        ((5, 4, 3), TypeError, "module must be a name"),
        ((lambda d, k: None, 4, 3), TypeError, "gave NoneType, not a torch nn.Module"),
        ((lambda d, k: nn.ReLU(), 4, 3), ValueError, "has no parameters to train"),
        ((nn.Flatten(), 4, 3), ValueError, "has no parameters to train"),
    ],
)
def test_what_cannot_be_built(arguments, kind, problem):
    with pytest.raises(kind, match=problem):
        make(*arguments)


class Shaped(nn.Linear):
    """Gives its output in another shape."""

    def __init__(self, change, n_outputs=3):
        super().__init__(2, n_outputs)
        self.change = change

    def forward(self, x):
        return self.change(super().forward(x))


@pytest.mark.parametrize(
    ("module", "gave"),
    [
        (nn.Linear(2, 4), r"\(5, 4\)"),
        (nn.Linear(2, 1), r"\(5, 1\)"),
        (Shaped(lambda s: s[:, 0]), r"\(5,\)"),
        (Shaped(lambda s: s[None]), r"\(1, 5, 3\)"),
        (Shaped(lambda s: s.T), r"\(3, 5\)"),
        (Shaped(lambda s: (s, s)), "tuple"),
        (Shaped(lambda s: s[:1]), r"\(1, 3\)"),
    ],
)
def test_output_that_is_not_one_logit_a_class(module, gave):
    classifier = make(module, 2, 3)
    with pytest.raises(
        ValueError, match=rf"logits of shape \(n, n_classes\); it gave {gave} for 5 rows"
    ):
        classifier(torch.zeros(5, 2))


def test_a_network_sees_rows_with_mean_0_and_with_the_noise_variance_1():
    X = np.array([3.0, -1.0]) + np.array([10.0, 0.1]) * rows(4000, 2)
    classifier = make(nn.Linear(2, 2), 2, 2)
    classifier.precondition(X, sigma=0.5)
    seen = []
    classifier.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    logits(classifier, X + 0.5 * rows(4000, 2, seed=1))
    # Means and deviations of 4,000 draws: 6 standard errors are 0.095 and 0.067, and below 1e-6.
    assert seen[0].mean(dim=0).abs().max() < 0.1
    assert (seen[0].std(dim=0) - 1).abs().max() < 0.07


def test_images_have_one_scale():
    shape, X = (1, 2, 2), rows(100, 4) * np.array([1.0, 2.0, 3.0, 4.0])
    classifier = make("conv", 4, 2, shape)
    classifier.precondition(X, sigma=0.5)
    assert float(classifier.scale_in) == pytest.approx(1 / np.sqrt(X.var(axis=0).mean() + 0.25))
    np.testing.assert_allclose(classifier.mean.numpy(), X.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        ("auto", None),
        ("conv", (1, 7, 5)),
        ("mlp", (1, 7, 5)),
        (Widths, None),
        (widths, (1, 7, 5)),
        (Widths(35, 3), None),
    ],
)
def test_weights_make_the_same_classifier_again(module, shape):
    X = 5 + 3 * rows(20, 35)
    classifier = make(module, 35, 3, shape)
    classifier.precondition(X, sigma=0.3)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter.mul_(1.5)
    state = torch.get_rng_state()
    again = load_classifier(module, 35, 3, save_weights(classifier), shape)
    assert torch.equal(torch.get_rng_state(), state)
    assert not again.training
    assert not any(parameter.requires_grad for parameter in again.parameters())
    assert torch.equal(logits(again, X), logits(classifier, X))


class Noisy(nn.Linear):
    """Logits with noise, in every mode or in training alone."""

    def __init__(self, always):
        super().__init__(3, 2)
        self.always = always

    def forward(self, x):
        s = super().forward(x)
        return s + torch.randn_like(s) if self.always or self.training else s


class BatchCentred(nn.Linear):
    """Centres logits at the mean of the batch."""

    def __init__(self):
        super().__init__(3, 2)

    def forward(self, x):
        s = super().forward(x)
        return s - s.mean(dim=0)


class Counting(nn.Linear):
    """Gives other logits with every call, or with every second one."""

    def __init__(self, period):
        super().__init__(3, 2)
        self.calls, self.period = 0, period

    def forward(self, x):
        self.calls += 1
        return super().forward(x) + self.calls % self.period


def with_layer(layer):
    return nn.Sequential(nn.Linear(3, 8), layer, nn.Linear(8, 2))


@pytest.mark.parametrize(
    "module",
    [
        with_layer(nn.BatchNorm1d(8, track_running_stats=False)),
        BatchCentred(),
        Noisy(always=True),
        Counting(period=10),
        Counting(period=2),
    ],
)
def test_logits_that_depend_on_other_rows_or_on_chance_are_refused(module):
    classifier = make(module, 3, 2)
    with private_torch_rng(0), pytest.raises(ValueError, match="must be a function of the row"):
        refuse_moods(classifier, rows(100, 3) + 1, 0.1)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize(
    "module",
    [
        with_layer(nn.Dropout(0.5)),
        with_layer(nn.BatchNorm1d(8)),
        with_layer(nn.LayerNorm(8)),
        Noisy(always=False),
        "auto",
    ],
)
def test_moods_in_training_alone_are_accepted(module, scale):
    classifier = make(module, 3, 2)
    before = save_weights(classifier)
    refuse_moods(classifier, scale * rows(100, 3) + 1, 0.1)
    after = save_weights(classifier)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_one_row_is_enough():
    refuse_moods(make("auto", 3, 2), rows(1, 3), 0.1)


@pytest.mark.parametrize("X", [np.zeros((100, 3)), rows(2, 3)], ids=["equal rows", "two rows"])
def test_company_shows_in_noise_where_rows_are_equal_or_few(X):
    classifier = make(BatchCentred(), 3, 2)
    with pytest.raises(ValueError, match="beside other rows"):
        refuse_moods(classifier, X, 0.5)


class Forgetful(nn.Module):
    """Projects onto random directions that are not saved."""

    def __init__(self, n_features, n_classes):
        super().__init__()
        self.register_buffer("directions", torch.randn(n_features, 8), persistent=False)
        self.head = nn.Linear(8, n_classes)

    def forward(self, x):
        return self.head(x @ self.directions)


def test_what_saved_weights_do_not_hold_is_refused():
    with private_torch_rng(1):
        trained = make_classifier(Forgetful, 3, 2)
    again = load_classifier(Forgetful, 3, 2, save_weights(trained))
    refuse_moods(trained, rows(100, 3), 0.1)
    with pytest.raises(ValueError, match="saved and loaded"):
        refuse_moods(trained, rows(100, 3), 0.1, again)


@pytest.mark.parametrize("cast", [torch.float64, torch.bfloat16])
def test_weights_in_another_precision_are_refused(cast):
    with pytest.raises(TypeError, match=r"module must have weights of torch\.float32"):
        make_classifier(nn.Linear(3, 2).to(cast), 3, 2)
