"""Seeds that are independent, and blocks that leave the global generator as it was."""

import threading

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import make_pipeline

from smoothlearn.nn.randomness import (
    generator_on,
    private_torch_rng,
    seed_nested,
    spawn_seeds,
    torch_device,
)

NAMES = ("noise", "estimator", "denoiser")


def test_a_private_block_is_a_function_of_its_seed_and_leaves_no_trace():
    state = torch.get_rng_state()
    draws = []
    for seed in (5, 5, 6, 2**100 + 5):
        with private_torch_rng(seed):
            draws.append(torch.randn(4))
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_private_block_restores_the_generator_after_an_error():
    state = torch.get_rng_state()
    with pytest.raises(TypeError), private_torch_rng(0):
        torch.randn(3) + "no number"
    assert torch.equal(torch.get_rng_state(), state)


def test_private_blocks_nest():
    with private_torch_rng(1):
        expected = torch.randn(2)
    with private_torch_rng(1):
        with private_torch_rng(2):
            torch.randn(5)
        assert torch.equal(torch.randn(2), expected)


def test_private_blocks_take_turns():
    with private_torch_rng(3):
        expected = torch.randn(1000)
    results = []

    def draw():
        with private_torch_rng(3):
            results.append(torch.cat([torch.randn(1) for _ in range(1000)]))

    with private_torch_rng(3):
        one_by_one = torch.cat([torch.randn(1) for _ in range(1000)])
    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(torch.equal(result, one_by_one) for result in results)
    assert expected.shape == one_by_one.shape


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("device", [None, torch.device("cpu"), torch.device("cuda")])
def test_a_private_block_leaves_no_trace_on_cuda(device):
    before = torch.cuda.get_rng_state()
    with private_torch_rng(0, device):
        torch.randn(3, device="cuda" if device is not None and device.type == "cuda" else "cpu")
    assert torch.equal(torch.cuda.get_rng_state(), before)


def test_no_cuda_generator_is_seeded_unasked(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    monkeypatch.setattr(torch.cuda, "manual_seed", seeded.append)
    with private_torch_rng(0):
        pass
    assert seeded == []


def test_generators_are_private():
    state = torch.get_rng_state()
    device = torch.device("cpu")
    one, two = generator_on(device, 2**64 + 9), generator_on(device, 9)
    assert torch.equal(torch.randn(3, generator=one), torch.randn(3, generator=two))
    assert not torch.equal(torch.randn(3, generator=generator_on(device, 8)), torch.randn(3))
    torch.set_rng_state(state)


def test_seeds_are_repeatable_and_differ_by_name():
    seeds = spawn_seeds(0, NAMES)
    assert seeds == spawn_seeds(0, NAMES) == spawn_seeds(np.int64(0), NAMES)
    assert list(seeds) == list(NAMES)
    assert len(set(seeds.values())) == 3
    assert all(0 <= seed < 2**128 for seed in seeds.values())
    assert max(seeds.values()) > 2**100
    assert not set(seeds.values()) & set(spawn_seeds(1, NAMES).values())
    assert spawn_seeds(0, NAMES[:1])["noise"] == seeds["noise"]


def test_a_random_state_moves_on():
    state = np.random.RandomState(0)
    first, second = spawn_seeds(state, NAMES), spawn_seeds(state, NAMES)
    assert first != second
    assert spawn_seeds(np.random.RandomState(0), NAMES) == first


def test_none_is_fresh_whatever_the_global_seed():
    results = []
    before = np.random.get_state()  # noqa: NPY002
    for _ in range(2):
        np.random.seed(0)  # noqa: NPY002
        results.append(spawn_seeds(None, NAMES))
    np.random.set_state(before)  # noqa: NPY002
    assert results[0] != results[1]


@pytest.mark.parametrize("seed", [-1, 1.5, "0", np.random.default_rng(0)])
def test_other_random_states_are_refused(seed):
    with pytest.raises(ValueError, match="random_state must be"):
        spawn_seeds(seed, NAMES)


def test_nested_random_states_that_are_none_are_set():
    def model():
        return make_pipeline(RandomForestClassifier(), SGDClassifier(random_state=3))

    def states(estimator):
        params = estimator.get_params(deep=True)
        return {key: value for key, value in params.items() if key.endswith("__random_state")}

    one, two, other = model(), model(), model()
    seed_nested(one, 2**90)
    seed_nested(two, 2**90)
    seed_nested(other, 1)
    assert states(one) == states(two)
    assert states(one)["sgdclassifier__random_state"] == 3
    forest = "randomforestclassifier__random_state"
    assert isinstance(states(one)[forest], int)
    assert 0 <= states(one)[forest] < 2**31
    assert states(one)[forest] != states(other)[forest]
    seed_nested(SGDClassifier(random_state=1), 5)


def test_devices():
    assert torch_device("cpu") == torch_device(torch.device("cpu")) == torch.device("cpu")
    assert torch_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for wrong in ("gpu", "cuda:99", 1.5, None):
        with pytest.raises(ValueError, match=r"device=.*'auto', 'cpu' or 'cuda'"):
            torch_device(wrong)
