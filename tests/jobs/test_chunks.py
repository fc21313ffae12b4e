"""Chunks of rows: the same certificate from any number of any workers."""

import os
import signal
import sys
import threading
import time
import warnings
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from joblib import parallel_config
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC
from threadpoolctl import threadpool_info, threadpool_limits

from smoothlearn import LocallyBiasedSmoother, RandomizedSmoothingClassifier, certify
from smoothlearn.jobs import chunks
from smoothlearn.jobs.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def rows():
    """90 rows of 40 columns in three classes."""
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    return rng.standard_normal((90, 40)) + 2 * np.eye(3, 40)[y] + 0.5 * np.sign(y - 1)[:, None], y


def smoother(base=None, **params):
    base = LogisticRegression(max_iter=1000) if base is None else base
    return RandomizedSmoothingClassifier(base, n_certify_draws=300, random_state=0, **params)


@pytest.fixture(scope="module")
def models(rows):
    """Voted and exact ones, behind products of matrices whose last bits depend on the chunk."""
    pca = PCA(20, random_state=0)
    return {
        "linear": make_pipeline(pca, smoother()).fit(*rows),
        "neighbours": make_pipeline(pca, smoother(KNeighborsClassifier())).fit(*rows),
        "biased": make_pipeline(pca, LocallyBiasedSmoother(SVC(), random_state=0)).fit(*rows),
    }


@pytest.mark.parametrize("asked", [{}, {"radius": 0.3}, {"max_radius": 0.3}], ids=str)
@pytest.mark.parametrize("name", ["linear", "neighbours", "biased"])
def test_threads_and_processes_certify_alike(name, asked, rows, models, check_same):
    alone = certify(models[name], rows[0], **asked)
    assert alone.radius.any()
    for backend in ("threading", "loky"):
        with parallel_config(backend=backend, n_jobs=2):
            check_same(certify(models[name], rows[0], **asked), alone)
    check_same(certify(models[name], rows[0], n_jobs=1, **asked), alone)


def test_row_threads_and_blas_threads_make_no_difference(rows, models, check_same):
    alone = certify(models["linear"], rows[0])
    with threadpool_limits(2, user_api="blas"):
        check_same(certify(models["linear"], rows[0]), alone)
    models["linear"][-1].set_params(n_jobs=2)
    check_same(certify(models["linear"], rows[0]), alone)
    models["linear"][-1].set_params(n_jobs=None)


def test_a_cluster_of_dask_certifies_alike(rows, models, check_same):
    distributed = pytest.importorskip("distributed")
    alone = certify(models["linear"], rows[0])
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster),
        parallel_config(backend="dask"),
    ):
        check_same(certify(models["linear"], rows[0]), alone)


def test_other_layouts_of_the_same_rows(rows, models, check_same, tmp_path):
    X = rows[0]
    alone = certify(models["linear"], X)
    X.tofile(tmp_path / "rows")
    mapped = np.memmap(tmp_path / "rows", dtype=X.dtype, shape=X.shape, mode="r")
    for same in (mapped, np.asfortranarray(X), X[::-1].copy()[::-1], X.tolist(), torch.tensor(X)):
        check_same(certify(models["linear"], same), alone)
        check_same(certify(models["linear"], same, n_jobs=2), alone)


def test_frames_and_sparse_rows_are_cut_alike(rows, check_same):
    X, y = rows
    names = [f"c{i}" for i in range(X.shape[1])]
    pca = PCA(20, svd_solver="covariance_eigh")
    for same in (pd.DataFrame(X, columns=names), pl.DataFrame(X, schema=names), sp.coo_array(X)):
        model = make_pipeline(pca, smoother()).fit(same, y)
        alone = certify(model, same)
        assert len(alone) == 90
        np.testing.assert_array_equal(alone.label, model.predict(same))
        check_same(certify(model, same, n_jobs=2), alone)


@pytest.mark.parametrize("shape", [(60, 2), (500, 784), (10**4, 3072), (10**7, 784), (10**7, 2)])
def test_chunks_are_many_and_small(shape):
    voted, exact = (chunks.chunk_rows(shape, voted=voted) for voted in (True, False))
    assert voted * shape[1] <= exact * shape[1] <= chunks.CHUNK_ENTRIES
    assert 16 <= voted <= 64
    assert shape[0] / voted >= 3.75
    assert shape[0] / exact < 5_000


def test_the_widest_rows_come_one_by_one():
    assert (
        chunks.chunk_rows((5, 10**8), voted=False) == chunks.chunk_rows((5, 10**8), voted=True) == 1
    )


def test_a_chunk_does_not_depend_on_workers(rows, models, monkeypatch):
    cut = []
    real = chunks.rows_of

    def spy(X, start, stop):
        cut.append((start, stop))
        return real(X, start, stop)

    monkeypatch.setattr(chunks, "rows_of", spy)
    for n_jobs in (None, 2):
        cut.clear()
        with parallel_config(backend="threading"):
            certify(models["linear"], rows[0], n_jobs=n_jobs)
        assert sorted(cut) == [(start, start + 16) for start in range(0, 90, 16)]


class Told(ClassifierMixin, BaseEstimator):
    """Certifies by another smoother, and does something first."""

    def __init__(self, inner, what, n_jobs=None, verbose=0, device="cpu"):
        self.inner = inner
        self.what = what
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.device = device
        self.classes_ = inner.classes_
        self.n_features_in_ = inner.n_features_in_

    def fit(self, X, y):
        return self

    def certify(self, X):
        self.what(self, X)
        return self.inner.certify(X)


@pytest.fixture(scope="module")
def fitted(rows):
    return smoother().fit(*rows)


def test_workers_have_one_thread_each_and_copies_of_their_own(fitted, rows):
    seen = []

    def look(told, X):
        seen.append((id(told.inner), threading.get_ident(), told.n_jobs, told.verbose))
        time.sleep(0.01)  # so that no thread does it all

    model = Told(fitted, look, n_jobs=3, verbose=-1)
    certify(model, rows[0])
    assert set(seen) == {(id(fitted), threading.get_ident(), 3, 0)}
    with parallel_config(backend="threading", n_jobs=2):
        certify(model, rows[0])
    copies = {(inner, thread) for inner, thread, n_jobs, _ in seen if n_jobs == 1}
    assert len(copies) == len(dict(copies)) == 2
    assert (model.n_jobs, model.verbose) == (3, -1)


@pytest.mark.parametrize("backend", [None, "threading", "loky"])
def test_torch_and_blas_have_one_thread_each(backend, fitted, rows):
    torch.set_num_threads(2)
    try:
        with threadpool_limits(2, user_api="blas"), parallel_config(backend=backend or "loky"):
            certify(Told(fitted, _alone), rows[0], n_jobs=2 if backend else None)
    finally:
        torch.set_num_threads(1)


def _alone(told, X):
    pools = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    assert {torch.get_num_threads(), *pools} == {1}
    assert pools


def test_progress_is_over_rows(fitted, rows, capsys):
    certify(fitted, rows[0], verbose=1)
    assert "90/90" in capsys.readouterr().err
    certify(fitted, rows[0])
    assert capsys.readouterr().err == ""


def _complain(told, X):
    warnings.warn(f"{len(X)} rows, the first begins with {X[:1, 0]}", UserWarning, stacklevel=1)


def test_what_workers_warn_of_is_told_once(fitted, rows):
    model = Told(fitted, _complain)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        certify(model, rows[0], n_jobs=2)
    said = [str(w.message) for w in caught if "rows, the first" in str(w.message)]
    assert len([message for message in said if message.startswith(("16", "10"))]) == 1


def test_errors_of_a_chunk_are_raised(models, rows):
    X = rows[0].copy()
    X[50, 0] = np.nan
    for n_jobs in (None, 2):
        with pytest.raises(ValueError, match="NaN"):
            certify(models["linear"], X, n_jobs=n_jobs)


def test_certificates_that_differ_are_not_mixed(fitted, rows):
    def change(told, X):
        told.inner.confidence_level = 0.999 if len(X) < 16 else 0.9

    with pytest.raises(ValueError, match=r"differ in \['confidence_level'\]"):
        certify(Told(fitted, change), rows[0])
    fitted.confidence_level = 0.999


@pytest.mark.parametrize(
    ("device", "count", "used"),
    [
        ("auto", 2, {0, 1}),
        ("cuda", 3, {0, 1, 2}),
        ("auto", 1, set()),
        ("cuda:1", 2, set()),
        ("cpu", 2, set()),
    ],
)
def test_chunks_take_turns_on_the_gpus(device, count, used, fitted, rows, monkeypatch):
    current = []

    @contextmanager
    def gpu(index):
        current.append(index)
        yield

    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "device", gpu)
    model = Told(fitted, lambda *_: None, device=device)
    with parallel_config(backend="threading", n_jobs=2):
        certify(model, rows[0])
    assert set(current) == used
    current.clear()
    certify(model, rows[0])
    assert current == []


class Die:
    """Kills its process at the last chunk, while there is a file."""

    def __init__(self, while_there):
        self.while_there = while_there

    def __call__(self, told, X):
        if len(X) == 10 and self.while_there.exists():
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_worker_that_is_killed_leaves_the_rest_in_the_checkpoint(
    fitted, rows, tmp_path, check_same
):
    flag, path = tmp_path / "flag", tmp_path / "kept"
    flag.touch()
    model = Told(fitted, Die(flag))
    with pytest.raises(RuntimeError, match=r"is kept in '.*kept'; run again to resume") as caught:
        certify(model, rows[0], n_jobs=2, checkpoint=path)
    assert isinstance(caught.value.__cause__, BrokenExecutor)
    with Checkpoint(path, model.classes_) as kept:
        assert 1 <= len(list(kept.chunks())) <= 5
    flag.unlink()
    check_same(certify(model, rows[0], checkpoint=path), certify(fitted, rows[0]))


def test_without_a_checkpoint_a_killed_worker_costs_all(fitted, rows):
    def die(told, X):
        raise type("KilledWorker", (Exception,), {})("of a cluster")

    def broken(told, X):
        if len(X) == 16:
            raise BrokenExecutor("a process")

    for what in (broken, die):
        with pytest.raises(RuntimeError, match=r"killed \(out of memory\?\); give a checkpoint"):
            certify(Told(fitted, lambda told, X, what=what: len(X) and what(told, X)), rows[0])
