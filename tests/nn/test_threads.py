"""One thread of torch and BLAS, side by side and one in another."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, active_count, get_ident
from time import sleep

import pytest
import torch
from joblib import cpu_count, effective_n_jobs, parallel_config, register_parallel_backend
from joblib.parallel import ParallelBackendBase
from sklearn import config_context, get_config
from threadpoolctl import threadpool_info, threadpool_limits

from smoothlearn.nn.threads import n_threads_of, one_thread, side_by_side


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


def test_work_side_by_side_comes_back_in_order_from_threads_with_the_settings_of_this_one():
    both = Barrier(2, timeout=20)

    def work(number):
        both.wait()
        return number, get_config()["assume_finite"], get_ident(), effective_n_jobs(3)

    with config_context(assume_finite=True), side_by_side(2) as (each, _):
        numbers, finite, threads, n_jobs = zip(*each(work, range(6)), strict=True)
    assert numbers == (0, 1, 2, 3, 4, 5)
    assert set(finite) == {True}
    assert len(set(threads)) == 2
    assert get_ident() not in threads
    assert set(n_jobs) == {1}, "the cores are at work already"
    assert effective_n_jobs(3) == 3


def test_one_thread_is_this_one():
    with side_by_side(1) as (each, left):
        assert list(each(lambda _: get_ident(), range(3))) == [get_ident()] * 3
        assert not left()


def test_an_error_in_the_block_ends_what_has_begun_and_the_rest_never_begins():
    begun, ended, before = [], [], active_count()

    def work(number):
        begun.append(number)
        while number and not left():
            sleep(0.001)
        ended.append(number)

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), side_by_side(2) as (each, left):
        list(map(interrupt, each(work, range(1000))))
    assert len(begun) < 10
    assert sorted(ended) == sorted(begun)
    assert active_count() == before


@pytest.mark.parametrize(
    ("backend", "n_jobs", "threads"),
    [
        ("loky", None, 1),
        ("loky", 2, 2),
        ("threading", None, 3),
        ("threading", 2, 2),
        ("sequential", 2, 1),
        ("many cores", None, 1),
        ("many cores", 2, 2),
        ("many cores", -1, cpu_count()),
    ],
)
def test_row_threads_are_those_of_this_process(backend, n_jobs, threads):
    register_parallel_backend("many cores", ManyCores)
    with parallel_config(backend, n_jobs=3):
        assert n_threads_of(n_jobs) == threads
    assert n_threads_of(None) == 1


class ManyCores(ParallelBackendBase):
    """A cluster that answers with the number of its cores, as dask's does."""

    def effective_n_jobs(self, n_jobs):
        return 64
