"""CIFAR-10: images come class by class from folders, archives or OpenML; damage is refused."""

import io
import lzma
import os
import sys
import tarfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
from PIL import Image
from sklearn.utils import Bunch

from smoothlearn.datasets import load_cifar10, source

NAMES = [
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
]  # fmt: skip
PIXELS = np.random.default_rng(0).integers(0, 256, (2, 10, 3, 32, 32), dtype=np.uint8)
ARCHIVE = "cifar10-jpeg.tar.xz"
REAL = os.environ.get("SMOOTHLEARN_DATA", "")


def encoded(pixels, kind="PNG", mode="RGB"):
    buffer = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def files(subset="train", names=NAMES, kind="PNG", end="png"):
    """Two images of every class, by path; the second comes first."""
    return {
        f"{subset}/{name}/000{i}.{end}": encoded(PIXELS[i, NAMES.index(name)], kind)
        for i in (1, 0)
        for name in reversed(names)
    }


def write_folder(top, content):
    for path, data in content.items():
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_bytes(data)
    return top


def tar(content):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, data in content.items():
            folder = tarfile.TarInfo(str(Path(path).parent))
            folder.type = tarfile.DIRTYPE
            archive.addfile(folder)
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def write_archive(top, content):
    top.mkdir(parents=True, exist_ok=True)
    (top / ARCHIVE).write_bytes(lzma.compress(tar(content)))
    return top


def expected(names=NAMES, each=2):
    """Rows and labels, class after class."""
    kept = [NAMES.index(name) for name in names]
    rows = PIXELS[:each, kept].swapaxes(0, 1).reshape(each * len(kept), 3072)
    return rows.astype(np.float32) / np.float32(255), np.repeat(np.arange(len(kept)), each)


def assert_are_the_images(X, y, names=NAMES):
    assert (X.dtype, y.dtype) == (np.float32, np.int64)
    for given, wanted in zip((X, y), expected(names), strict=True):
        np.testing.assert_array_equal(given, wanted)


@pytest.fixture(autouse=True)
def no_data_and_no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a test asked for the network")

    monkeypatch.delenv("SMOOTHLEARN_DATA", raising=False)
    monkeypatch.setattr(source, "fetch_openml", refuse)


@pytest.fixture(params=[write_folder, write_archive])
def write(request):
    return request.param


def test_bunch(tmp_path, write):
    images = load_cifar10(write(tmp_path, files()))
    assert_are_the_images(images.data, images.target)
    assert images.image_shape == (3, 32, 32)
    assert images.target_names == NAMES
    assert "CIFAR-10" in images.DESCR
    assert "JPEG" not in images.DESCR
    first = images.data[0].reshape(images.image_shape) * 255
    np.testing.assert_array_equal(first, PIXELS[0, 0])
    images.data[0], images.target[0] = 0, 0  # it can be written to


@pytest.mark.parametrize("end", ["jpg", "jpeg", "JPG"])
def test_jpeg_is_near_and_said_to_be_lossy(tmp_path, write, end):
    smooth = np.add.outer(np.arange(3), np.add.outer(np.arange(32), np.arange(32))) * 3
    content = {f"train/cat/0.{end}": encoded(smooth.astype(np.uint8), "JPEG")}
    images = load_cifar10(write(tmp_path, content), classes=["cat"])
    assert "lossy" in images.DESCR
    assert 0 < np.abs(images.data[0] * 255 - smooth.ravel()).max() < 20


def test_subsets(tmp_path, write):
    both = files() | {f"test/{name}/7.png": encoded(PIXELS[1, i]) for i, name in enumerate(NAMES)}
    write(tmp_path, both)
    assert_are_the_images(*load_cifar10(tmp_path, return_X_y=True))
    X, y = load_cifar10(tmp_path, subset="test", return_X_y=True)
    np.testing.assert_array_equal(np.rint(X * 255), PIXELS[1].reshape(10, 3072))
    np.testing.assert_array_equal(y, np.arange(10))


@pytest.mark.parametrize(
    "classes", [("cat", "dog"), ["dog", "cat"], (5, "cat"), np.array([3, 5]), ("cat", 3, 5)]
)
def test_classes(tmp_path, write, classes):
    images = load_cifar10(write(tmp_path, files()), classes=classes)
    assert images.target_names == ["cat", "dog"]
    assert_are_the_images(images.data, images.target, ["cat", "dog"])


def test_only_the_images_that_are_asked_for_are_decoded(tmp_path, write):
    content = files(names=["cat", "dog"])
    content |= {"train/ship/0.png": b"no image", "train/cat/notes.txt": b"", "test/cat/0.png": b""}
    X, y = load_cifar10(write(tmp_path, content), classes=["cat", "dog"], return_X_y=True)
    assert_are_the_images(X, y, ["cat", "dog"])


@pytest.mark.parametrize("prefix", ["./", "cifar10/"])
def test_folders_in_the_archive_may_lie_in_a_folder(tmp_path, prefix):
    content = {prefix + path: data for path, data in files().items()}
    assert_are_the_images(*load_cifar10(write_archive(tmp_path, content), return_X_y=True))


@pytest.mark.parametrize("by_variable", [False, True])
def test_subfolder_and_variable(tmp_path, write, monkeypatch, by_variable):
    write(tmp_path / "cifar10", files())
    if by_variable:
        monkeypatch.setenv("SMOOTHLEARN_DATA", str(tmp_path))
    X, y = load_cifar10(None if by_variable else str(tmp_path), return_X_y=True)
    assert_are_the_images(X, y)


def test_folders_of_something_else_are_passed_over(tmp_path):
    (tmp_path / "train" / "wombat").mkdir(parents=True)
    write_archive(tmp_path, files())
    assert_are_the_images(*load_cifar10(tmp_path, return_X_y=True))


@pytest.mark.parametrize("subset", ["validation", None, 0])
def test_unknown_subset(tmp_path, subset):
    with pytest.raises(ValueError, match="subset must be 'train' or 'test', got"):
        load_cifar10(tmp_path, subset=subset)


@pytest.mark.parametrize(
    ("classes", "problem"),
    [
        ("cat", r"classes must be a list such as \['cat', 'dog'\], or None, got 'cat'"),
        ([], "classes must be a list"),
        (3, "classes must be a list"),
        (["cat", "cow"], "classes holds 'cow'; CIFAR-10 has 0 to 9, or airplane, automobile"),
        ([10], "classes holds 10; CIFAR-10 has 0 to 9"),
        ([-1], "classes holds -1"),
        ([True], "classes holds True"),
        ([3.0], "classes holds 3.0"),
    ],
)
def test_unknown_classes(tmp_path, classes, problem):
    with pytest.raises(ValueError, match=problem):
        load_cifar10(write_folder(tmp_path, files()), classes=classes)


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist; it has to hold") as caught:
        load_cifar10(tmp_path / "nowhere")
    for part in (ARCHIVE, "train/airplane", "set data_home or SMOOTHLEARN_DATA", "download"):
        assert part in str(caught.value)


def test_folder_with_nothing_of_use(tmp_path):
    write_folder(tmp_path, files(subset="test"))
    with pytest.raises(FileNotFoundError, match=f"lacks {ARCHIVE} or folders of images"):
        load_cifar10(tmp_path)


def test_a_class_without_images(tmp_path, write):
    content = files(names=["cat"]) | {"train/dog/none.txt": b""}
    with pytest.raises(FileNotFoundError, match=r"no images train/dog/\*.jpg or .png"):
        load_cifar10(write(tmp_path, content), classes=["cat", "dog"])


WHOLE = lzma.compress(tar(files()))
HALF = len(WHOLE) // 2
ARCHIVE_FAULTS = {
    "empty": b"",
    "no-xz": tar(files()),
    "no-tar": lzma.compress(b"no tar" * 1000),
    "half": WHOLE[:HALF],
    "no-end": WHOLE[:-1],
    "no-checksum": WHOLE[:-40],
    "body": WHOLE[:HALF] + bytes([WHOLE[HALF] ^ 255]) + WHOLE[HALF + 1 :],
}


@pytest.mark.parametrize("fault", ARCHIVE_FAULTS)
def test_damaged_archive(tmp_path, fault):
    (tmp_path / ARCHIVE).write_bytes(ARCHIVE_FAULTS[fault])
    with pytest.raises(ValueError, match=r"is not a whole tar\.xz archive: ") as caught:
        load_cifar10(tmp_path)
    assert str(tmp_path / ARCHIVE) in str(caught.value)


NOISE = PIXELS[0, 0]
IMAGE_FAULTS = {
    "empty": (b"", "cannot identify"),
    "no-image": (b"no image", "cannot identify"),
    "cut-png": (encoded(NOISE)[:-300], "not an image of CIFAR-10: "),
    "cut-jpeg": (encoded(NOISE, "JPEG")[:-300], "truncated"),
    "checksum": (encoded(NOISE)[:60] + b"\0\0" + encoded(NOISE)[62:], "not an image of CIFAR-10: "),
    "size": (encoded(NOISE[:, :28]), "it has 32 x 28 pixels, RGB, not 32 x 32, RGB"),
    "gray": (encoded(NOISE, mode="L"), "it has 32 x 32 pixels, L, not"),
    "kind": (encoded(NOISE, "BMP"), "cannot identify"),
}


@pytest.mark.parametrize("fault", IMAGE_FAULTS)
def test_damaged_image(tmp_path, write, fault):
    content, problem = IMAGE_FAULTS[fault]
    images = files(names=["cat"]) | {"train/cat/0002.png": content}
    with pytest.raises(ValueError, match=problem) as caught:
        load_cifar10(write(tmp_path, images), classes=["cat"])
    assert str(tmp_path) in str(caught.value)
    assert "train/cat/0002.png" in str(caught.value)


def test_without_pillow(tmp_path, monkeypatch):
    folder = write_folder(tmp_path, files())
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match="with Pillow: pip install pillow"):
        load_cifar10(folder)


@pytest.fixture
def openml(monkeypatch):
    """Images of their number, in an order in which classes alternate; returns what to fetch."""
    number = np.arange(60_000)
    data = np.zeros((60_000, 3072), np.uint8)
    data[:, :3] = np.column_stack([number // 65536, number // 256 % 256, number % 256])
    fetched = Bunch(data=data, target=(number % 10).astype(str).astype(object), asked=None)

    def fetch(*args, **kwargs):
        fetched.asked = args, kwargs
        return fetched

    monkeypatch.setattr(source, "fetch_openml", fetch)
    return fetched


@pytest.mark.parametrize(("subset", "rows"), [("train", (0, 50_000)), ("test", (50_000, 60_000))])
@pytest.mark.parametrize("classes", [None, ["cat", "dog"]])
def test_openml(openml, subset, rows, classes):
    images = load_cifar10(subset=subset, classes=classes)
    kept = range(10) if classes is None else (3, 5)
    number = np.arange(*rows)
    in_order = np.concatenate([number[number % 10 == k] for k in kept])
    np.testing.assert_array_equal(np.rint(images.data[:, :3] * 255) @ [65536, 256, 1], in_order)
    np.testing.assert_array_equal(
        images.target, np.repeat(np.arange(len(kept)), rows[1] // 10 - rows[0] // 10)
    )
    assert images.target_names == (classes or NAMES)
    assert (images.data.dtype, images.target.dtype) == (np.float32, np.int64)
    assert "JPEG" not in images.DESCR
    assert openml.asked[0] == ("CIFAR_10",)
    assert openml.asked[1]["version"] == 1


@pytest.mark.parametrize("subset", ["train", "test"])
def test_openml_rows_in_another_order_are_refused(openml, subset):
    openml.target = np.sort(openml.target)
    with pytest.raises(ValueError, match=r"does not hold .* images of every class where"):
        load_cifar10(subset=subset)


def test_no_network_says_what_would_do(monkeypatch):
    def fail(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr(source, "fetch_openml", fail)
    with pytest.raises(URLError) as caught:
        load_cifar10()
    assert "data_home or SMOOTHLEARN_DATA" in "".join(caught.value.__notes__)


@pytest.mark.skipif(not (Path(REAL or "-") / ARCHIVE).is_file(), reason="no archive of CIFAR-10")
def test_cifar10_itself():
    pets = load_cifar10(REAL, subset="test", classes=("cat", "dog"))
    assert pets.data.shape == (2000, 3072)
    assert (pets.data.min(), pets.data.max()) == (0, 1)
    np.testing.assert_array_equal(np.bincount(pets.target), [1000, 1000])
    assert "lossy" in pets.DESCR
    red, green, blue = pets.data.reshape(-1, 3, 32, 32).mean(axis=(0, 2, 3))
    assert red > green > blue
