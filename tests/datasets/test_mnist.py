"""MNIST: files are read as they are, and a file that is damaged is never read as data."""

import contextlib
import gzip
import os
import struct
import tempfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils import Bunch

from smoothlearn.datasets import load_mnist, source

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 28, 28), dtype=np.uint8)
DIGITS = np.array([5, 0, 9], dtype=np.uint8)
TEST_DIGITS = np.array([7, 2, 1], dtype=np.uint8)
REAL = os.environ.get("SMOOTHLEARN_DATA", "")
TERABYTES = b"\0\0\x08\x03" + struct.pack(">3I", 2**32 - 1, 28, 28)


def idx(array, dtype_code=8):
    """The bytes of an IDX file."""
    magic = bytes([0, 0, dtype_code, array.ndim])
    return magic + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_pair(folder, images=None, labels=None, digits=DIGITS, names=(IMAGES, LABELS)):
    """Both files of one subset; the bytes of either can be given."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_bytes(idx(PIXELS) if images is None else images)
    (folder / names[1]).write_bytes(idx(digits) if labels is None else labels)
    return folder


def assert_is_the_pair(X, y, digits=DIGITS):
    assert X.dtype == np.float32
    assert y.dtype == np.int64
    np.testing.assert_array_equal(X, PIXELS.reshape(3, 784).astype(np.float32) / np.float32(255))
    np.testing.assert_array_equal(y, digits)


@pytest.fixture(autouse=True)
def no_data_and_no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a test asked for the network")

    monkeypatch.delenv("SMOOTHLEARN_DATA", raising=False)
    monkeypatch.setattr(source, "fetch_openml", refuse)


def test_bunch(tmp_path):
    mnist = load_mnist(write_pair(tmp_path))
    assert_is_the_pair(mnist.data, mnist.target)
    assert mnist.image_shape == (28, 28)
    assert mnist.target_names == [str(digit) for digit in range(10)]
    assert "MNIST" in mnist.DESCR
    np.testing.assert_array_equal(mnist.data[1].reshape(mnist.image_shape) * 255, PIXELS[1])


def test_what_is_returned_can_be_written_to(tmp_path):
    X, y = load_mnist(write_pair(tmp_path), return_X_y=True)
    X[0], y[0] = 0, 0


def test_pixels_run_from_0_to_1(tmp_path):
    ends = np.zeros((3, 28, 28), np.uint8)
    ends[0] = 255
    X, _ = load_mnist(write_pair(tmp_path, images=idx(ends)), return_X_y=True)
    assert (X[0] == 1).all()
    assert (X[1:] == 0).all()


def test_subsets(tmp_path):
    write_pair(tmp_path)
    names = ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    write_pair(tmp_path, digits=TEST_DIGITS, names=names)
    assert_is_the_pair(*load_mnist(tmp_path, return_X_y=True))
    X, y = load_mnist(tmp_path, subset="test", return_X_y=True)
    assert_is_the_pair(X, y, TEST_DIGITS)


@pytest.mark.parametrize("subset", ["validation", "Train", None, 0, ["train"]])
def test_unknown_subset(tmp_path, subset):
    with pytest.raises(ValueError, match="subset must be 'train' or 'test', got"):
        load_mnist(write_pair(tmp_path), subset=subset)


def test_no_rows(tmp_path):
    empty = write_pair(tmp_path, images=idx(PIXELS[:0]), labels=idx(DIGITS[:0]))
    X, y = load_mnist(empty, return_X_y=True)
    assert X.shape == (0, 784)
    assert y.shape == (0,)


@pytest.mark.parametrize("mark", ["-", "."])
@pytest.mark.parametrize(
    ("end", "pack"), [("", bytes), (".gz", gzip.compress), ("", gzip.compress)]
)
def test_names_and_compression(tmp_path, mark, end, pack):
    names = [name.replace("-idx", f"{mark}idx") + end for name in (IMAGES, LABELS)]
    write_pair(tmp_path, pack(idx(PIXELS)), pack(idx(DIGITS)), names=names)
    assert_is_the_pair(*load_mnist(tmp_path, return_X_y=True))


@pytest.mark.parametrize("subfolder", ["", "mnist", "MNIST/raw"])
def test_subfolders(tmp_path, subfolder):
    write_pair(tmp_path / subfolder)
    assert_is_the_pair(*load_mnist(str(tmp_path), return_X_y=True))


def test_the_folder_itself_comes_first(tmp_path):
    write_pair(tmp_path / "mnist", digits=TEST_DIGITS)
    assert_is_the_pair(*load_mnist(write_pair(tmp_path), return_X_y=True))


def test_images_and_labels_come_from_one_folder(tmp_path):
    write_pair(tmp_path, labels=idx(TEST_DIGITS))
    (tmp_path / IMAGES).unlink()
    write_pair(tmp_path / "mnist")
    assert_is_the_pair(*load_mnist(tmp_path, return_X_y=True))


def test_a_folder_with_the_name_of_a_file_is_passed_over(tmp_path):
    (tmp_path / IMAGES).mkdir()
    write_pair(tmp_path, names=[f"{IMAGES}.gz", LABELS], images=gzip.compress(idx(PIXELS)))
    assert_is_the_pair(*load_mnist(tmp_path, return_X_y=True))


def test_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write_pair(tmp_path / "data")
    assert_is_the_pair(*load_mnist("~/data", return_X_y=True))


def test_environment_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("SMOOTHLEARN_DATA", str(write_pair(tmp_path / "variable")))
    assert_is_the_pair(*load_mnist(return_X_y=True))
    other = write_pair(tmp_path / "argument", digits=TEST_DIGITS)
    X, y = load_mnist(other, return_X_y=True)
    assert_is_the_pair(X, y, TEST_DIGITS)


@pytest.mark.parametrize("by_variable", [False, True])
def test_missing_folder(tmp_path, monkeypatch, by_variable):
    missing = tmp_path / "nowhere"
    if by_variable:
        monkeypatch.setenv("SMOOTHLEARN_DATA", str(missing))
    with pytest.raises(FileNotFoundError, match="does not exist") as caught:
        load_mnist(None if by_variable else missing)
    for part in (str(missing), IMAGES, "set data_home or SMOOTHLEARN_DATA", "download"):
        assert part in str(caught.value)


@pytest.mark.parametrize("absent", [IMAGES, LABELS])
def test_missing_file(tmp_path, absent):
    (write_pair(tmp_path) / absent).unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks .* set data_home") as caught:
        load_mnist(tmp_path)
    searched = (tmp_path, tmp_path / "mnist", tmp_path / "MNIST" / "raw")
    for part in (*map(str, searched), IMAGES, LABELS, ".gz"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "begins with nothing"),
        (b"\0\0\x08", "begins with 00 00 08, but"),
        (b"<html>Not found</html>", "begins with 3c 68 74 6d, but IDX data .* 00 00 08 03"),
        (b"\0\x01" + idx(PIXELS)[2:], "begins with 00 01 08 03"),
        (idx(PIXELS, dtype_code=0x0D), "begins with 00 00 0d 03"),
        (idx(DIGITS), r"begins with 00 00 08 01, .* 3 dimension\(s\) with 00 00 08 03"),
        (idx(PIXELS)[:15], "holds 15 bytes, fewer than the 16 of its header"),
        (idx(PIXELS)[:-1], "holds 2367 bytes where its header asks for 2368"),
        (idx(PIXELS)[:16], "holds 16 bytes where its header asks for 2368"),
        (idx(PIXELS) + b"\0", "holds 2369 bytes where its header asks for 2368"),
        (TERABYTES, "holds 16 bytes where its header asks for 3367254359296"),
        (idx(PIXELS[:, :20]), "images of 20 x 28 pixels, not 28 x 28"),
        (idx(PIXELS[:2]), "train-labels-idx1-ubyte holds 3 labels for 2 images"),
    ],
)
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_damaged_images(tmp_path, content, problem, pack):
    with pytest.raises(ValueError, match=problem) as caught:
        load_mnist(write_pair(tmp_path, images=pack(content)))
    assert str(tmp_path / IMAGES) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (idx(PIXELS), r"begins with 00 00 08 03, .* 1 dimension\(s\) with 00 00 08 01"),
        (idx(DIGITS)[:-1], "holds 10 bytes where its header asks for 11"),
        (idx(DIGITS) + b"\0", "holds 12 bytes where its header asks for 11"),
        (idx(DIGITS[:2]), "holds 2 labels for 3 images"),
        (idx(DIGITS + np.uint8(1)), "holds the label 10; those of MNIST are 0 to 9"),
    ],
)
def test_damaged_labels(tmp_path, content, problem):
    with pytest.raises(ValueError, match=problem) as caught:
        load_mnist(write_pair(tmp_path, labels=content))
    assert str(tmp_path / LABELS) in str(caught.value)


PACKED = gzip.compress(idx(PIXELS))
GZIP_FAULTS = {
    "not-gzip": idx(PIXELS),
    "no-end": PACKED[:-1],
    "half": PACKED[: len(PACKED) // 2],
    "header": PACKED[:5],
    "body": PACKED[:200] + bytes([PACKED[200] ^ 255]) + PACKED[201:],
    "block-type": PACKED[:10] + b"\xff" + PACKED[11:],
    "checksum": PACKED[:-8] + bytes(4) + PACKED[-4:],
    "trailing": PACKED + b"more",
}


@pytest.mark.parametrize("fault", GZIP_FAULTS)
def test_damaged_gzip(tmp_path, fault):
    names = (f"{IMAGES}.gz", LABELS)
    with pytest.raises(ValueError, match="is not a whole gzip file: ") as caught:
        load_mnist(write_pair(tmp_path, images=GZIP_FAULTS[fault], names=names))
    assert f"{IMAGES}.gz" in str(caught.value)


def flip(content, position, mask):
    return content[:position] + bytes([content[position] ^ mask]) + content[position + 1 :]


def damaged(content, header):
    """A file cut short, or with one byte of its header changed."""
    cut = st.integers(0, len(content) - 1).map(lambda n: content[:n])
    changed = st.builds(flip, st.just(content), st.integers(0, header - 1), st.integers(1, 255))
    return st.one_of(cut, changed)


@given(st.sampled_from([IMAGES, LABELS]), st.sampled_from([bytes, gzip.compress]), st.data())
def test_a_damaged_header_is_never_read_as_data(name, pack, data):
    whole = {IMAGES: idx(PIXELS), LABELS: idx(DIGITS)}
    content = data.draw(damaged(whole[name], 16 if name == IMAGES else 8))
    with tempfile.TemporaryDirectory() as folder:
        write_pair(Path(folder), **{name.split("-")[1]: pack(content)})
        with pytest.raises(ValueError, match=name):
            load_mnist(folder)


@given(st.sampled_from([IMAGES, LABELS]), st.data())
def test_damaged_gzip_is_refused_or_harmless(name, data):
    """Some bits of a gzip header, as its time, say nothing of the content."""
    whole = gzip.compress(idx(PIXELS) if name == IMAGES else idx(DIGITS))
    content = data.draw(damaged(whole, len(whole)))
    with tempfile.TemporaryDirectory() as folder:
        write_pair(Path(folder), **{name.split("-")[1]: content})
        with contextlib.suppress(ValueError):
            assert_is_the_pair(*load_mnist(folder, return_X_y=True))


@pytest.fixture
def openml(monkeypatch):
    """70,000 rows whose number is in their first three pixels; returns what was asked for."""
    asked = []

    def fetch(*args, **kwargs):
        asked.append((args, kwargs))
        number = np.arange(70_000)
        data = np.zeros((70_000, 784), np.uint8)
        data[:, :3] = np.column_stack([number // 65536, number // 256 % 256, number % 256])
        return Bunch(data=data, target=(number % 10).astype(str).astype(object))

    monkeypatch.setattr(source, "fetch_openml", fetch)
    return asked


@pytest.mark.parametrize("variable", [None, ""])
@pytest.mark.parametrize(("subset", "rows"), [("train", (0, 60_000)), ("test", (60_000, 70_000))])
def test_openml(openml, monkeypatch, variable, subset, rows):
    if variable is not None:
        monkeypatch.setenv("SMOOTHLEARN_DATA", variable)
    X, y = load_mnist(subset=subset, return_X_y=True)
    expected = np.arange(*rows)
    assert X.shape == (len(expected), 784)
    assert X.dtype == np.float32
    assert y.dtype == np.int64
    np.testing.assert_array_equal(np.rint(X[:, :3] * 255) @ [65536, 256, 1], expected)
    np.testing.assert_array_equal(y, expected % 10)


@pytest.mark.parametrize(("module", "parser"), [("pandas", "pandas"), (None, "liac-arff")])
def test_openml_is_asked_for_mnist(openml, monkeypatch, module, parser):
    monkeypatch.setattr(source, "find_spec", lambda name: module)
    load_mnist(subset="test")
    asked = {"version": 1, "as_frame": False, "parser": parser}
    assert openml == [(("mnist_784",), asked)]


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_pixels_of_either_parser(tmp_path, monkeypatch, dtype):
    pixels = PIXELS.reshape(3, 784).astype(dtype)
    mnist = Bunch(data=pixels, target=np.array(["5", "0", "9"], dtype=object))
    monkeypatch.setattr(source, "fetch_openml", lambda *args, **kwargs: mnist)
    assert_is_the_pair(*load_mnist(return_X_y=True))


def test_no_network_says_what_would_do(monkeypatch):
    def fail(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr(source, "fetch_openml", fail)
    with pytest.raises(URLError) as caught:
        load_mnist()
    assert "data_home or SMOOTHLEARN_DATA" in "".join(caught.value.__notes__)


@pytest.mark.skipif(not Path(REAL or "-").is_dir(), reason="SMOOTHLEARN_DATA names no folder")
def test_mnist_itself():
    X, y = load_mnist(REAL, return_X_y=True)
    assert X.shape == (60_000, 784)
    assert (X.min(), X.max()) == (0, 1)
    assert y[0] == 5
    counts = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    np.testing.assert_array_equal(np.bincount(y), counts)
    X, y = load_mnist(REAL, subset="test", return_X_y=True)
    assert X.shape == (10_000, 784)
    assert y[0] == 7
