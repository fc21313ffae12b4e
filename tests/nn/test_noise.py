"""Noisy copies: their law, precision and memory."""

import numpy as np
import pytest
import torch

from smoothlearn.nn.noise import noisy_batches


def copies_of(row, noise, sizes=(50,), seed=0):
    """Batches of so many copies of a row, one after the other."""
    rows = torch.as_tensor(np.atleast_2d(row))
    make = noisy_batches(noise, rows, max(sizes))()
    generator = torch.Generator().manual_seed(seed)
    return [make(rows[0], generator, size).clone() for size in sizes]


def normal_numbers(shape, seed=0):
    return torch.empty(shape).normal_(generator=torch.Generator().manual_seed(seed)).numpy()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_spherical_noise_is_normal_numbers_times_sigma(dtype):
    row = np.array([1.0, -2.0, 3.0], dtype)
    (batch,) = copies_of(row, 0.5, (100,))
    kind = torch.float32 if dtype == np.float32 else torch.float64
    z = torch.empty((100, 3), dtype=kind).normal_(generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(batch.numpy(), row + 0.5 * z.numpy(), rtol=1e-6)
    assert batch.dtype == kind


@pytest.mark.parametrize("shape", [(4, 4), (3, 7), (7, 3), (131, 131), (600, 600), (200, 150)])
@pytest.mark.parametrize("triangular", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_noise_through_a_matrix_is_its_product_with_normal_numbers(shape, triangular, dtype):
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal(shape).astype(dtype)
    matrix = np.tril(matrix) if triangular else matrix
    row = rng.standard_normal(shape[0])
    (batch,) = copies_of(row, matrix, (40,))
    expected = row + normal_numbers((40, shape[1])).astype(float) @ matrix.T.astype(float)
    close = 1e-4 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(batch.numpy(), expected, rtol=close, atol=close)
    assert batch.numpy().dtype == dtype


def test_a_single_precision_sum_is_that_in_double_precision_rounded_once():
    row = np.array([1e6 + 0.03, 0.0, -3e-9])  # single precision steps by 0.06 there
    (batch,) = copies_of(row, np.eye(3, dtype=np.float32), (100,))
    exact = row + normal_numbers((100, 3)).astype(float)
    np.testing.assert_array_equal(batch.numpy(), exact.astype(np.float32))


def test_single_precision_rows_lose_no_digits_of_double_precision_noise():
    row = np.array([0.5, 0.25], np.float32)
    matrix = np.array([[1 / 3, 0.0], [0.1, 1 / 7]])
    (batch,) = copies_of(row, matrix, (30,))
    exact = row + normal_numbers((30, 2)).astype(float) @ matrix.T
    assert batch.dtype == torch.float64
    np.testing.assert_allclose(batch.numpy(), exact, rtol=1e-14)


@pytest.mark.parametrize(
    "noise",
    [0.7, np.tril(np.ones((130, 130), np.float32)), np.eye(130), np.ones((130, 3), np.float32)],
)
def test_every_function_has_memory_of_its_own_and_fresh_numbers(noise):
    rows = torch.zeros((1, 130), dtype=torch.float64)
    make = noisy_batches(noise, rows, 20)
    one, other = make(), make()
    first, second = (torch.Generator().manual_seed(seed) for seed in (1, 2))
    batch = one(rows[0], first, 20)
    kept = batch.clone()
    assert not torch.isin(other(rows[0], second, 20), kept).any()
    torch.testing.assert_close(batch, kept, rtol=0, atol=0)
    assert not torch.isin(one(rows[0], first, 20), kept).any()


@pytest.mark.parametrize("noise", [0.7, np.eye(3, dtype=np.float32), np.eye(3)])
def test_noise_does_not_depend_on_the_default_dtype_of_torch(noise):
    (expected,) = copies_of(np.ones(3), noise)
    torch.set_default_dtype(torch.float64)
    try:
        (batch,) = copies_of(np.ones(3), noise)
    finally:
        torch.set_default_dtype(torch.float32)
    torch.testing.assert_close(batch, expected, rtol=0, atol=0)


def test_batches_of_any_size_up_to_the_largest():
    for noise in (1.0, np.eye(16, dtype=np.float32)):
        sizes = [len(batch) for batch in copies_of(np.zeros(16), noise, (64, 16, 32))]
        assert sizes == [64, 16, 32]
    large, small = copies_of(np.zeros(16), 1.0, (64, 16))
    assert not torch.isin(small, large).any()
