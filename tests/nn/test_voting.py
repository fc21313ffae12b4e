"""Vote counts against the exact law of a half-space, and what they may depend on.

The seeds are fixed, so that a test that passes always does. Had they been drawn at random, each
test of a law would fail by chance with probability below 1e-6.
"""

import threading
from time import sleep

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from joblib import effective_n_jobs, parallel_config
from scipy import stats
from sklearn import config_context, get_config

from smoothlearn.nn.energies import GradientStepEnergy
from smoothlearn.nn.networks import mlp
from smoothlearn.nn.voting import chunk_size, count_votes, row_seeds

CPU = torch.device("cpu")
NORMAL = torch.tensor([1.0, -2.0, 0.5])
MARGIN = np.linspace(-1.5, 1.5, 20)
#: Rows at these distances from the boundary of the half-space, and elsewhere along it.
ROWS = MARGIN[:, None] * (NORMAL / NORMAL.norm()).numpy().astype(float) + np.outer(
    np.linspace(-3, 3, 20), [2.0, 1.0, 0.0]
)
FALSE_ALARM = 1e-6


def half_space(batch, generator):
    return (batch @ NORMAL.to(batch) > 0).long()


def votes(X=ROWS, vote=half_space, **changes):
    settings = {
        "seeds": list(range(1, len(X) + 1)),
        "noise": 0.7,
        "n_draws": 1200,
        "n_classes": 2,
        "device": CPU,
    }
    return count_votes(vote, X, **(settings | changes))


def follows(counts, n_draws, p):
    """Whether every count lies where its binomial law does, but for FALSE_ALARM in all."""
    tail = FALSE_ALARM / (2 * np.size(counts))
    low, high = stats.binom.ppf(tail, n_draws, p), stats.binom.isf(tail, n_draws, p)
    return np.all((low <= counts) & (counts <= high))


def recorded(X, **changes):
    """The batches that the vote sees, one array of shape (draws, d) in all."""
    batches = []

    def vote(batch, generator):
        batches.append(batch.detach().clone())
        return torch.zeros(len(batch), dtype=torch.int64)

    votes(X, vote, **changes)
    return batches


# Row seeds


def seeds_of(X, sigma=0.5, noise_seed=2**100 + 7, purpose="predict"):
    return row_seeds(np.asarray(X, float), sigma=sigma, noise_seed=noise_seed, purpose=purpose)


def test_seeds_are_keyed_to_the_row_alone():
    X = np.random.default_rng(0).standard_normal((50, 4))
    seeds = seeds_of(X)
    assert len(set(seeds)) == 50
    assert all(0 <= seed < 2**64 for seed in seeds)
    assert seeds_of(X[::-1]) == seeds[::-1]
    assert seeds_of(X[7:9]) == seeds[7:9]
    assert seeds_of(np.asfortranarray(X)) == seeds
    assert seeds_of(np.empty((0, 4))) == []


@pytest.mark.parametrize(
    "changes", [{"purpose": "certify"}, {"noise_seed": 8}, {"sigma": 0.25}, {"noise_seed": 0}]
)
def test_seeds_differ_by_purpose_seed_and_sigma(changes):
    X = np.random.default_rng(0).standard_normal((50, 4))
    assert not set(seeds_of(X)) & set(seeds_of(X, **changes))


def test_the_last_bits_of_a_row_do_not_count():
    X = np.random.default_rng(0).standard_normal((2000, 20))
    moved = X * (1 + 1e-12 * np.random.default_rng(1).uniform(-1, 1, X.shape))
    same = np.array(seeds_of(X)) == np.array(seeds_of(moved))
    assert same.mean() > 0.999
    assert seeds_of([[0.0, -0.0]]) == seeds_of([[-0.0, 0.0]])


@given(st.integers(0, 2**128 - 1), st.floats(1e-3, 1e3))
def test_rows_share_a_seed_within_a_cell_of_an_eighth_of_sigma(noise_seed, sigma):
    cell = sigma / 8
    line = np.linspace(0, 0.999 * cell, 50)[:, None]
    seeds = seeds_of(line, sigma, noise_seed)
    assert len(set(seeds)) <= 2
    assert not set(seeds) & set(seeds_of(line + 2 * cell, sigma, noise_seed))


def test_where_the_cells_begin_depends_on_the_noise_seed():
    line = np.linspace(0, 0.5 / 8, 1000)[:, None]
    begins = set()
    for noise_seed in range(20):
        seeds = seeds_of(line, noise_seed=noise_seed)
        begins.add(next(i for i, seed in enumerate(seeds) if seed != seeds[0]))
    assert len(begins) > 15


def test_huge_rows_have_seeds():
    X = np.array([[1e15], [1e18], [1e300], [1.7e308], [-1.7e308]])
    assert len(set(seeds_of(X))) == 5
    assert seeds_of(X) == seeds_of(X)
    assert len(seeds_of(X, sigma=1e-6)) == 5


# The law of the counts


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n_draws", [1, 100, 499, 500, 501, 1234, 4000])
def test_counts_follow_phi_of_the_margin(dtype, n_draws):
    counts = votes(ROWS.astype(dtype), n_draws=n_draws)
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts.sum(axis=1), n_draws)
    assert follows(counts[:, 1], n_draws, stats.norm.cdf(MARGIN / 0.7))


def test_counts_of_many_draws_follow_phi_of_the_margin():
    counts = votes(ROWS[5:8].astype(np.float32), n_draws=200_000)
    assert follows(counts[:, 1], 200_000, stats.norm.cdf(MARGIN[5:8] / 0.7))


def test_the_noise_has_the_law_of_a_matrix():
    matrix = np.array([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0]])  # not square, not symmetric
    counts = count_votes(
        lambda batch, _: 2 * (batch[:, 0] > 0).long() + (batch[:, 1] > 0).long(),
        np.zeros((10, 2)),
        list(range(10)),
        noise=matrix,
        n_draws=3000,
        n_classes=4,
        device=CPU,
    )
    same = 0.25 + np.arcsin(0.6) / (2 * np.pi)
    assert follows(counts, 3000, np.array([same, 0.5 - same, 0.5 - same, same]))
    X = np.array([[0.3, -0.2], [-1.0, 0.5]])
    normal = np.array([1.0, -0.4])
    counts = votes(X, lambda batch, _: (batch @ torch.tensor(normal) > 0).long(), noise=2 * matrix)
    scale = 2 * np.linalg.norm(normal @ matrix)
    assert follows(counts[:, 1], 1200, stats.norm.cdf(X @ normal / scale))


def test_noise_is_standard_normal_times_sigma_about_the_row():
    X = np.array([[5.0, -3.0, 0.0]])
    draws = torch.cat(recorded(X, n_draws=20_000, noise=0.3)).numpy()
    noise = (draws - X) / 0.3
    for column in noise.T:
        assert stats.kstest(column, "norm").pvalue > 1e-7
    correlation = np.corrcoef(noise.T)[np.triu_indices(3, 1)]
    assert np.all(np.abs(correlation) < 6 / np.sqrt(20_000))


def test_sigma_keeps_its_digits_in_double_precision():
    X = np.zeros((1, 3))
    one, scaled = (torch.cat(recorded(X, n_draws=100, noise=s)).numpy() for s in (1.0, 0.7))
    np.testing.assert_allclose(scaled, 0.7 * one, rtol=1e-15)


def test_classes_that_never_win_have_no_votes():
    counts = votes(ROWS, n_classes=5)
    np.testing.assert_array_equal(counts[:, 2:], 0)


def test_no_rows():
    assert votes(np.empty((0, 3)), n_classes=4).shape == (0, 4)
    assert votes(np.empty((0, 3))).dtype == np.int64


# What counts depend on


@pytest.mark.parametrize("n_jobs", [None, 2, 3])
def test_counts_do_not_depend_on_other_rows_order_or_threads(n_jobs):
    X = np.tile(ROWS, (2, 1))
    seeds = list(range(40))
    expected = votes(X, seeds=seeds)
    np.testing.assert_array_equal(votes(X, seeds=seeds, n_jobs=n_jobs), expected)
    order = np.random.default_rng(0).permutation(40)
    shuffled = votes(X[order], seeds=[seeds[i] for i in order], n_jobs=n_jobs)
    np.testing.assert_array_equal(shuffled, expected[order])
    np.testing.assert_array_equal(
        votes(X[17:19], seeds=seeds[17:19], n_jobs=n_jobs), expected[17:19]
    )


def test_no_draw_is_shared():
    batches = recorded(np.zeros((20, 3)), n_draws=4999)
    draws = torch.cat(batches).numpy()
    assert len(np.unique(draws[:, 0])) == len(draws) == 20 * 5001  # padding is forwarded


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("n_draws", "sizes"), [(10, [10]), (2000, [2000]), (2001, [1001] * 2), (4999, [1667] * 3)]
)
def test_batches_have_one_size_and_the_dtype_of_the_rows(dtype, n_draws, sizes):
    batches = recorded(np.zeros((2, 3), dtype), n_draws=n_draws)
    assert [tuple(batch.shape) for batch in batches] == [(size, 3) for size in 2 * sizes]
    assert {batch.dtype for batch in batches} == {getattr(torch, dtype)}


@pytest.mark.parametrize(
    ("n_features", "device", "size"),
    [
        (1, "cpu", 2000),
        (256, "cpu", 1024),
        (784, "cpu", 334),
        (3072, "cpu", 100),
        (150_528, "cpu", 27),
        (10**8, "cpu", 1),
        (784, "cuda", 10_000),
        (150_528, "cuda", 445),
        (784, "mps", 334),
    ],
)
def test_wide_rows_are_forwarded_fewer_at_once(n_features, device, size):
    assert chunk_size(n_features, torch.device(device)) == size


def test_draws_of_wide_rows_follow_phi_of_the_margin_too():
    X = np.zeros((8, 6000), np.float32)
    X[:, 5000] = np.linspace(-1, 1, 8)
    sizes = []

    def vote(batch, generator):
        sizes.append(len(batch))
        return (batch[:, 5000] > 0).long()

    counts = votes(X, vote, n_draws=950)
    assert set(sizes) == {95}
    assert follows(counts[:, 1], 950, stats.norm.cdf(X[:, 5000] / 0.7))


def test_rows_with_one_seed_see_the_same_noise():
    first, second = recorded(np.array([[0.0, 0.0], [1.0, 2.0]]), seeds=[9, 9], n_draws=100)
    np.testing.assert_allclose(second - first, np.tile([1.0, 2.0], (100, 1)), atol=1e-12)


def test_rows_in_any_layout_and_read_only():
    expected = votes(ROWS)
    fixed = ROWS.copy()
    fixed.flags.writeable = False
    for X in (np.asfortranarray(ROWS), ROWS[::-1].copy()[::-1], fixed):
        np.testing.assert_array_equal(votes(X), expected)


def test_random_votes_have_private_deterministic_numbers():
    def random_vote(batch, generator):
        return torch.randint(0, 3, (len(batch),), generator=generator)

    before = torch.get_rng_state()
    counts = votes(np.zeros((40, 2)), random_vote, n_classes=3, n_draws=3000)
    assert torch.equal(torch.get_rng_state(), before)
    assert follows(counts, 3000, 1 / 3)
    assert len(np.unique(counts, axis=0)) > 30
    torch.manual_seed(0)
    again = votes(np.zeros((40, 2)), random_vote, n_classes=3, n_draws=3000, n_jobs=2)
    np.testing.assert_array_equal(again, counts)
    torch.set_rng_state(before)


def test_random_votes_are_independent_of_the_noise():
    def random_vote(batch, generator):
        coin = torch.rand(len(batch), generator=generator) > 0.5
        return 2 * (batch[:, 0] > 0).long() + coin.long()

    counts = votes(np.zeros((5, 1)), random_vote, n_classes=4, n_draws=4000)
    assert follows(counts, 4000, 0.25)


# Gradients, modes, threads


def energy_vote():
    torch.manual_seed(0)
    energy = GradientStepEnergy(3, mlp(3, 8, 3))
    return lambda batch, _: half_space(energy(batch.float()), None)


def in_place_vote(batch, generator):
    batch.requires_grad_()
    with torch.enable_grad():
        slope = torch.autograd.grad((batch @ NORMAL.to(batch)).square().sum() / 2, batch)[0]
    return (slope @ NORMAL.to(batch) > 0).long()


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_votes_that_take_gradients(mode, n_jobs):
    state = torch.get_rng_state()
    vote = energy_vote()
    torch.set_rng_state(state)
    expected = votes(ROWS, vote)
    with mode():
        np.testing.assert_array_equal(votes(ROWS, vote, n_jobs=n_jobs), expected)


@pytest.mark.parametrize("n_draws", [100, 1300])
def test_votes_may_ask_the_batch_itself_for_gradients(n_draws):
    np.testing.assert_array_equal(
        votes(ROWS, in_place_vote, n_draws=n_draws), votes(ROWS, n_draws=n_draws)
    )


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_one_torch_thread_inside_and_the_old_number_after(n_jobs):
    inside = []

    def vote(batch, generator):
        inside.append(torch.get_num_threads())
        return half_space(batch, generator)

    votes(np.tile(ROWS, (3, 1)), vote, n_jobs=n_jobs)
    assert set(inside) == {1}
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("n_jobs", [2, -1])
def test_row_threads_have_the_settings_of_scikit_learn(n_jobs):
    seen = []

    def vote(batch, generator):
        seen.append((get_config()["assume_finite"], threading.current_thread().name))
        assert effective_n_jobs(4) == 1  # the threads are at work already
        return half_space(batch, generator)

    with config_context(assume_finite=True):
        votes(ROWS, vote, n_jobs=n_jobs)
    finite, names = zip(*seen, strict=True)
    assert all(finite)
    assert "MainThread" not in names
    assert not get_config()["assume_finite"]


def test_threads_end_soon_after_an_error():
    seen = []

    def vote(batch, generator):
        seen.append(threading.get_ident())
        if len(seen) == 2:  # in whichever thread
            raise RuntimeError("no vote")
        sleep(0.05)
        return half_space(batch, generator)

    with pytest.raises(RuntimeError, match="no vote"):
        votes(np.tile(ROWS, (16, 1)), vote, n_jobs=2)  # tasks of 16 rows
    assert len(seen) < 16
    assert not set(seen) & {thread.ident for thread in threading.enumerate()}


def test_joblib_says_how_many_row_threads_there_are():
    names = set()

    def vote(batch, generator):
        names.add(threading.current_thread().name)
        return half_space(batch, generator)

    expected = votes(ROWS, vote)
    assert names == {"MainThread"}
    with parallel_config("threading", n_jobs=2):
        np.testing.assert_array_equal(votes(ROWS, vote), expected)
    assert len(names) > 1
    names.clear()
    with parallel_config("loky", n_jobs=2):  # processes, not for rows
        np.testing.assert_array_equal(votes(ROWS, vote), expected)
    assert names == {"MainThread"}
    with pytest.raises(ValueError, match="n_jobs == 0"):
        votes(ROWS, n_jobs=0)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_the_number_of_threads_returns_when_a_vote_fails(n_jobs):
    def vote(batch, generator):
        raise RuntimeError("no vote")

    with pytest.raises(RuntimeError, match="no vote"):
        votes(np.tile(ROWS, (3, 1)), vote, n_jobs=n_jobs)
    assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("three_threads")
def test_the_number_of_threads_returns_after_calls_that_overlap():
    both_inside, first_done = threading.Barrier(2, timeout=20), threading.Event()
    seen, numbers = {}, []

    def call(name, waits):
        met = []

        def vote(batch, generator):
            if not met:
                met.append(both_inside.wait())
                if waits:
                    assert first_done.wait(timeout=20)
            numbers.append(torch.get_num_threads())
            return half_space(batch, generator)

        seen[name] = votes(ROWS[:2], vote)
        first_done.set()

    threads = [threading.Thread(target=call, args=pair) for pair in (("a", False), ("b", True))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    np.testing.assert_array_equal(seen["a"], seen["b"])
    assert set(numbers) == {1}, "the first to end gave its threads back to the other"
    assert torch.get_num_threads() == 3


def test_a_progress_bar_when_verbose(capsys):
    votes(ROWS)
    assert capsys.readouterr().err == ""
    votes(ROWS, verbose=1)
    assert "20/20" in capsys.readouterr().err


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("n_draws", [100, 25_000])
def test_counts_follow_the_law_on_cuda(n_draws):
    device = torch.device("cuda")
    X = ROWS.astype(np.float32)
    counts = votes(X, device=device, n_draws=n_draws)
    np.testing.assert_array_equal(counts.sum(axis=1), n_draws)
    assert follows(counts[:, 1], n_draws, stats.norm.cdf(MARGIN / 0.7))
    np.testing.assert_array_equal(votes(X, device=device, n_draws=n_draws, n_jobs=2), counts)
    matrix = votes(np.zeros((4, 1)), noise=np.array([[2.0]]), device=device, vote=cuda_tail)
    assert follows(matrix[:, 1], 1200, stats.norm.sf(0.5))


def cuda_tail(batch, generator):
    return (batch[:, 0] > 1).long()


# Early ends, soft votes


def test_rows_stop_at_the_looks_planned_and_alone():
    looks = {}

    def stop(i, counts):
        looks.setdefault(i, []).append(int(counts.sum()))
        return i % 2 == 0 and counts.sum() >= 400

    counts = votes(ROWS, n_draws=5000, stop=stop)
    for i in range(20):
        on = [] if i % 2 == 0 else [800, 1600, 3200, 4867, 5000]
        assert looks[i] == [100, 200, 400, *on]
    np.testing.assert_array_equal(counts.sum(axis=1), [400, 5000] * 10)
    np.testing.assert_array_equal(votes(ROWS, n_draws=5000, stop=stop, n_jobs=2), counts)
    again = votes(ROWS[2:4], seeds=[3, 4], n_draws=5000, stop=lambda i, c: False)
    np.testing.assert_array_equal(again[1], counts[3])


def test_no_more_draws_are_counted_than_asked_for_however_early_it_might_end():
    for n_draws in (1, 99, 150, 401):
        counts = votes(ROWS[:2], n_draws=n_draws, stop=lambda i, c: False)
        np.testing.assert_array_equal(counts.sum(axis=1), n_draws)


def test_soft_votes_are_summed_with_their_squares():
    given = []

    def soft(batch, generator):
        p = torch.sigmoid(batch[:, :1])
        given.append(torch.cat([p, 1 - p], dim=1).double())
        return torch.cat([p, 1 - p], dim=1)

    sums = votes(ROWS[:1], soft, n_draws=700, soft=True)
    assert sums.shape == (1, 2, 2)
    assert sums.dtype == np.float64
    p = torch.cat(given)[:700].numpy()
    np.testing.assert_allclose(sums[0], [p.sum(axis=0), (p**2).sum(axis=0)], rtol=1e-12)
    assert sums[0, 0].sum() == pytest.approx(700, abs=1e-9)
    assert votes(np.empty((0, 3)), soft, n_classes=4, soft=True).shape == (0, 2, 4)
