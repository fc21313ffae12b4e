"""One thread of torch and BLAS, side by side and one in another."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from smoothlearn.nn.threads import one_thread


def numbers():
    blas = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
    return torch.get_num_threads(), blas


@pytest.fixture
def two_threads():
    torch.set_num_threads(2)
    with threadpool_limits(2, user_api="blas"):
        yield
    torch.set_num_threads(1)


def inside():
    with one_thread():
        return numbers()


def test_numbers_of_threads_return_with_the_last_user(two_threads):
    assert numbers() == (2, {2})
    with ThreadPoolExecutor(2) as pool:
        for _ in range(2):
            with one_thread():
                assert {str(pool.submit(inside).result()) for _ in range(4)} == {"(1, {1})"}
                with one_thread():
                    assert numbers() == (1, {1})
                assert numbers() == (1, {1})
            assert numbers() == (2, {2})


def test_numbers_return_after_an_error(two_threads):
    with pytest.raises(ZeroDivisionError), one_thread():
        1 / 0  # noqa: B018
    assert numbers() == (2, {2})
