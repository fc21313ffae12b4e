"""Checkpoints: what was done is kept, and nothing that belongs to another job."""

import os
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

import smoothlearn
from smoothlearn import RandomizedSmoothingClassifier, certify
from smoothlearn.jobs import certify as module
from smoothlearn.jobs import checkpoint as files
from smoothlearn.jobs import chunks


@pytest.fixture(autouse=True)
def every_chunk_at_once(monkeypatch):
    monkeypatch.setattr(files, "SECONDS", 0.0)
    monkeypatch.setattr(chunks, "_DECIDED", 1)  # six chunks of decisions, too


@pytest.fixture
def job(three_blobs):
    """A voted pipeline with labels that are objects, and its 90 rows: six chunks."""
    X, y = three_blobs
    smoother = RandomizedSmoothingClassifier(
        DecisionTreeClassifier(max_depth=2), n_certify_draws=100, random_state=0
    )
    names = np.array(["owl", "cat", "a longer name"], dtype=object)[y]
    return make_pipeline(StandardScaler(), smoother).fit(X, names), X


class StopError(Exception):
    """What interrupts a job here."""


def interrupt(monkeypatch, after):
    """Stop certify after so many chunks."""
    real, seen = module.certify_chunks, []

    def some(*given):
        for done in real(*given):
            if len(seen) == after:
                raise StopError
            seen.append(done[0])
            yield done

    monkeypatch.setattr(module, "certify_chunks", some)
    return seen


@pytest.mark.parametrize("asked", [{}, {"radius": 0.2}, {"max_radius": 0.2, "units": "smoother"}])
def test_a_job_goes_on_where_it_was_interrupted(asked, job, tmp_path, monkeypatch, check_same):
    whole = certify(*job, **asked)
    path = tmp_path / "kept"
    with monkeypatch.context() as patch:
        seen = interrupt(patch, 4)
        with pytest.raises(StopError):
            certify(*job, **asked, checkpoint=path)
        assert len(seen) == 4
    with monkeypatch.context() as patch:
        seen = interrupt(patch, 99)
        check_same(certify(*job, **asked, checkpoint=path), whole)
        assert len(seen) == 2
        check_same(certify(*job, **asked, checkpoint=str(path), n_jobs=1), whole)
        assert len(seen) == 2
    assert [name.name for name in tmp_path.iterdir()] == ["kept"]


def test_exact_certificates_of_labels_of_many_kinds(two_blobs, tmp_path, check_same):
    X, y = two_blobs
    kinds = [y, y.astype(bool), 2 - y, np.array(["b", "aa"])[y], np.array(["b", "aa"], object)[y]]
    for i, labels in enumerate(kinds):
        model = RandomizedSmoothingClassifier(LogisticRegression()).fit(X, labels)
        for _ in range(2):
            check_same(certify(model, X, checkpoint=tmp_path / str(i)), certify(model, X))


KILLED = """
import os, random, signal, sys, time
import numpy as np, torch
from dataclasses import fields
from sklearn.tree import DecisionTreeClassifier
from smoothlearn import Certificate, RandomizedSmoothingClassifier, certify
from smoothlearn.jobs import certify as module, checkpoint

torch.set_num_threads(1)
checkpoint.SECONDS = 0.0
rng = np.random.default_rng(0)
X, y = rng.standard_normal((480, 2)), np.arange(480) % 3
model = RandomizedSmoothingClassifier(
    DecisionTreeClassifier(max_depth=3), n_certify_draws=1000, random_state=0
).fit(X, y)
whole, path, chance = certify(model, X), sys.argv[1], random.Random(int(sys.argv[2]))
real, left, refused = module.certify_chunks, [], 0

def watched(question, X, starts, *rest):
    starts = list(starts)
    os.write(to, b"%d\\n" % len(starts))
    for done in real(question, X, starts, *rest):
        yield done
        os.write(to, b".")

module.certify_chunks = watched
for _ in range(3):
    out, to = os.pipe()
    child = os.fork()
    if not child:
        certify(model, X, checkpoint=path)
        os._exit(0)
    os.close(to)
    with os.fdopen(out, "rb", buffering=0) as pipe:
        left.append(int(pipe.readline()))
        try:
            checkpoint.Checkpoint(path, model.classes_)
        except BlockingIOError as error:
            assert "is in use by another process" in str(error)
            refused += 1
        pipe.read(chance.randint(1, 6))
        time.sleep(chance.uniform(0, 0.03))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
to = os.open(os.devnull, os.O_WRONLY)
resumed = certify(model, X, checkpoint=path)
for field in fields(Certificate):
    said, again = getattr(whole, field.name), getattr(resumed, field.name)
    assert np.array_equal(said, again) if isinstance(said, np.ndarray) else said == again, field
print(*left, refused)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_process_that_is_killed_at_any_moment_can_be_resumed(tmp_path):
    seed = str(np.random.default_rng().integers(1000))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "kept"), seed],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    first, second, third, refused = map(int, done.stdout.split())
    assert 30 == first > second > third > 0
    assert refused == 3  # the file was in use every time


def test_a_second_user_is_refused(job, tmp_path):
    path = tmp_path / "kept"
    with (
        files.Checkpoint(path, job[0].classes_),
        pytest.raises(BlockingIOError, match=r"checkpoint='.*kept' is in use"),
    ):
        certify(*job, checkpoint=path)
    certify(*job, checkpoint=path)


def test_other_jobs_are_told_what_differs(job, tmp_path, monkeypatch):
    model, X = job
    path = tmp_path / "kept"
    certify(model, X, checkpoint=path, radius=0.2)
    before = path.read_bytes()

    def refused(match, model=model, X=X, **asked):
        asked = {"radius": 0.2} | asked
        with pytest.raises(ValueError, match=rf"checkpoint='.*kept' is {match}.*another file"):
            certify(model, X, checkpoint=path, **asked)

    refused(r"of a job with units='input', not 'smoother'", units="smoother")
    refused(r"of a job with radius=0.2, not 0.3", radius=0.3)
    refused(r"of a job with radius=0.2, not None", radius=None)
    refused(r"of a job with radius=0.2, not None", radius=None, max_radius=0.2)
    refused("of other rows X", X=X + 1e-9)
    refused("of other rows X", X=X[::-1])
    refused("of other rows X", X=X[:-1])
    with monkeypatch.context() as patch:
        patch.setattr(smoothlearn, "__version__", "9.9")
        refused("of a job with smoothlearn=.*, not 9.9")
    with monkeypatch.context() as patch:
        patch.setattr(module, "chunk_rows", lambda *_, **__: 8)
        refused("of a job with rows in a chunk=16, not 8")
    model[-1].noise_seed_ += 1
    refused("of an estimator that was fitted otherwise.* int as random_state")
    model[-1].noise_seed_ -= 1
    model[0].mean_ += 1e-9
    refused("of an estimator that was fitted otherwise")
    assert path.read_bytes() == before


def test_files_of_others_are_left_alone(job, tmp_path):
    text, database = tmp_path / "text", tmp_path / "database"
    text.write_text("not a checkpoint, and a good deal longer than a header of SQLite is " * 9)
    (tmp_path / "short").write_text("short")
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE identity (name TEXT, value TEXT)")
    connection.close()
    for path in (text, database, tmp_path / "short"):
        before = path.read_bytes()
        with pytest.raises(ValueError, match=rf"checkpoint='.*{path.name}' is a file of something"):
            certify(*job, checkpoint=path)
        assert path.read_bytes() == before


def test_an_empty_file_is_taken(job, tmp_path, check_same):
    (tmp_path / "kept").touch()
    check_same(certify(*job, checkpoint=tmp_path / "kept"), certify(*job))


@pytest.mark.parametrize("path", ["", b"", True, 3])
def test_what_is_no_path_is_refused(job, path):
    with pytest.raises(TypeError, match="checkpoint must be the path of a file"):
        certify(*job, checkpoint=path)


def test_a_name_is_a_file_here_whatever_sqlite_makes_of_it(job, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (":memory:", "file:kept"):
        certify(*job, checkpoint=name)
        assert (tmp_path / name).is_file()


def test_places_where_no_file_can_be(job, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"checkpoint='.*': there is no folder '.*nowhere'; make it"
    ):
        certify(*job, checkpoint=tmp_path / "nowhere" / "kept")
    with pytest.raises(IsADirectoryError, match=r"checkpoint='.*' is a folder"):
        certify(*job, checkpoint=tmp_path)
    with pytest.raises(TypeError):
        certify(*job, checkpoint=3.0)


def test_a_file_that_becomes_read_only(job, tmp_path):
    with files.Checkpoint(tmp_path / "kept", job[0].classes_) as kept:
        kept._connection.execute("PRAGMA query_only = ON")
        with pytest.raises(PermissionError, match=r"checkpoint='.*kept' cannot be written"):
            kept.add(7, {"label": job[0].classes_}, {})


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.95])
def test_a_file_that_was_cut_is_refused(keep, job, tmp_path):
    path = tmp_path / "kept"
    certify(*job, checkpoint=path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(ValueError, match=r"checkpoint='.*kept' is damaged .*remove it"):
        certify(*job, checkpoint=path)


def test_flipped_bytes_never_change_a_certificate(job, tmp_path, check_same):
    path = tmp_path / "kept"
    whole = certify(*job, checkpoint=path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = unharmed = 0
    for position in rng.integers(len(content), size=60):
        damaged = bytearray(content)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            again = certify(*job, checkpoint=path)
        except (ValueError, OSError) as error:
            refused += str(error).startswith("checkpoint='")
        else:
            check_same(again, whole)
            unharmed += 1
    assert refused + unharmed == 60
    assert refused > 20


def test_classes_in_any_order(tmp_path):
    classes = np.array(["b", "c", "a"], dtype=object)
    label = np.array(["a", "b", "c", "b"], dtype=object)
    with files.Checkpoint(tmp_path / "kept", classes) as kept:
        kept.add(0, {"label": label, "radius": np.arange(4.0)}, {"norm": np.inf, "stages": (1, 2)})
        ((start, arrays, facts),) = kept.chunks()
    assert (start, facts) == (0, {"norm": np.inf, "stages": (1, 2)})
    np.testing.assert_array_equal(arrays["label"], label)
    np.testing.assert_array_equal(arrays["radius"], np.arange(4.0))


def test_a_chunk_in_another_place_is_refused(job, tmp_path):
    path = tmp_path / "kept"
    certify(*job, checkpoint=path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE chunks SET start = 17 WHERE start = 16")
    connection.close()
    with pytest.raises(ValueError, match=r"is damaged \(the chunk at row 17\)"):
        certify(*job, checkpoint=path)
