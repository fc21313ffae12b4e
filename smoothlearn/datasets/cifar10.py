"""CIFAR-10, from folders or an archive of images, or from OpenML."""

from __future__ import annotations

import io
import lzma
import tarfile
from collections.abc import Iterable, Sequence
from numbers import Integral
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from smoothlearn.datasets.source import DATA_VARIABLE, Folder, download, home

_SHAPE = (3, 32, 32)
_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_ARCHIVE = "cifar10-jpeg.tar.xz"
_DESCR = """CIFAR-10, small photographs of ten kinds of things (Krizhevsky 2009). A row has the
3 x 32 x 32 pixels of an image, all red ones before the green and the blue, from 0 to 1; its target
is an index into target_names.
{origin}"""
_JPEG = """These pixels were read from JPEG files. That compression is lossy: they are not quite
those of the original images, and results on them differ a little."""
_LOSSLESS = "No lossy file format was read: the pixels are those of the source."


def load_cifar10(
    data_home: Folder | None = None,
    *,
    subset: str = "train",
    classes: Sequence[str | int] | None = None,
    return_X_y: bool = False,
) -> Bunch | tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The CIFAR-10 images, or those of some classes, with pixels in [0, 1].

    Images are decoded with Pillow. JPEG is lossy: pixels read from JPEG files are not quite those
    of the original, which are what OpenML has.

    Parameters
    ----------
    data_home : str or path-like, optional
        Folder of the images ``train/CLASS/*.jpg`` and ``test/CLASS/*.jpg`` (or ``.jpeg``,
        ``.png``), or of the archive ``cifar10-jpeg.tar.xz`` of such folders. They may also lie in
        its subfolder ``cifar10``. By default, the folder that the environment variable
        ``SMOOTHLEARN_DATA`` names; where it is not set,
        :func:`~sklearn.datasets.fetch_openml` downloads the original pixels and keeps them.
    subset : {'train', 'test'}, default='train'
        The 50,000 images for training or the 10,000 for testing. Folders may hold fewer.
    classes : sequence of str or int, optional
        The names, as ``("cat", "dog")``, or the numbers of the classes to read; all by default.
        Of a folder or an archive, no other images are decoded.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    Bunch or tuple of two ndarrays
        ``data`` of shape (n, 3072), float32; ``target`` of shape (n,), int64, an index into
        ``target_names``, the classes that were read, in alphabetical order; ``image_shape``; and
        ``DESCR``, which also says whether the pixels were read from JPEG files. A class follows
        another, and its images come in the order of their file names.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist, or lacks images of a class.
    ValueError
        If an image or the archive is damaged or not of CIFAR-10, or if ``subset`` or a class is
        not known.
    ImportError
        If there are images to decode, and no Pillow.

    References
    ----------
    Krizhevsky 2009, *Learning multiple layers of features from tiny images*.

    Examples
    --------
    >>> from smoothlearn.datasets import load_cifar10
    >>> pets = load_cifar10(classes=("cat", "dog"))  # doctest: +SKIP
    >>> pets.data.shape, pets.target_names  # doctest: +SKIP
    ((10000, 3072), ['cat', 'dog'])
    """
    folder, kept = home(data_home, subset), _kept(classes)
    if folder is None:
        pixels, target = _download(subset, kept)
        lossy = False
    else:
        images = _find(folder, subset, kept)
        pixels = _decode([(name, content) for _, name, content in images])
        target = np.array([kept.index(label) for label, _, _ in images], dtype=np.int64)
        lossy = any(name.lower().endswith((".jpg", ".jpeg")) for _, name, _ in images)
    data = np.divide(pixels.reshape(len(pixels), -1), 255, dtype=np.float32)
    if return_X_y:
        return data, target
    descr = _DESCR.format(origin=_JPEG if lossy else _LOSSLESS)
    about = {"image_shape": _SHAPE, "target_names": kept, "DESCR": descr}
    return Bunch(data=data, target=target, **about)


def _kept(classes: Sequence[str | int] | None) -> list[str]:
    """The names of these classes, in alphabetical order."""
    if classes is None:
        return list(_CLASSES)
    if isinstance(classes, str) or not isinstance(classes, Iterable) or not len(classes):
        raise ValueError(f"classes must be a list such as ['cat', 'dog'], or None, got {classes!r}")
    wanted: set[str] = set()
    for kind in classes:
        number = isinstance(kind, Integral) and not isinstance(kind, bool)
        if kind not in (range(10) if number else _CLASSES):
            raise ValueError(
                f"classes holds {kind!r}; CIFAR-10 has 0 to 9, or {', '.join(_CLASSES)}"
            )
        wanted.add(_CLASSES[int(kind)] if number else str(kind))
    return sorted(wanted)


def _download(subset: str, kept: list[str]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Rows of pixels, class after class; rows in another order than expected are refused."""
    pixels, numbers = download("CIFAR_10", subset, n_train=50_000)
    labels = numbers.astype(np.int64)
    size = 5000 if subset == "train" else 1000
    if pixels.shape != (10 * size, 3072) or (np.bincount(labels, minlength=10) != size).any():
        raise ValueError(
            f"OpenML's CIFAR_10 does not hold {size} images of every class where those of "
            f"subset={subset!r} are expected; set data_home or {DATA_VARIABLE} to a folder"
        )
    rows = [np.flatnonzero(labels == _CLASSES.index(name)) for name in kept]
    return pixels[np.concatenate(rows)], np.repeat(np.arange(len(kept)), size)


def _find(top: Path, subset: str, kept: list[str]) -> list[tuple[str, str, bytes]]:
    """(class, file name, content) of every image, from the first place that has these classes."""
    for folder in (top, top / "cifar10"):
        if all((folder / subset / name).is_dir() for name in kept):
            images = [
                (name, str(path), path.read_bytes())
                for name in kept
                for path in (folder / subset / name).iterdir()
                if _is_image(path.name)
            ]
        elif (folder / _ARCHIVE).is_file():
            images = _read_archive(folder / _ARCHIVE, subset, kept)
        else:
            continue
        if absent := set(kept) - {name for name, _, _ in images}:
            raise FileNotFoundError(f"{folder} has no images {subset}/{min(absent)}/*.jpg or .png")
        return sorted(images)
    problem = "lacks" if top.is_dir() else "does not exist; it has to hold"
    raise FileNotFoundError(
        f"{top} {problem} {_ARCHIVE} or folders of images such as {subset}/{kept[0]} (searched "
        f"{top}, {top / 'cifar10'}); set data_home or {DATA_VARIABLE} to the folder that holds "
        "them, or neither to download CIFAR-10"
    )


def _read_archive(path: Path, subset: str, kept: list[str]) -> list[tuple[str, str, bytes]]:
    """The same from a tar.xz, which is read to its end: there its checksum stands."""
    wanted, images = {(subset, name) for name in kept}, []
    try:
        with lzma.open(path) as stream:
            with tarfile.open(fileobj=stream, mode="r|") as archive:
                for member in archive:
                    place = PurePosixPath(member.name).parts[-3:-1]
                    file = archive.extractfile(member) if place in wanted else None
                    if file is not None and _is_image(member.name):
                        images.append((place[1], f"{path}: {member.name}", file.read()))
            while stream.read(2**20):
                pass
    except (lzma.LZMAError, EOFError, tarfile.TarError) as error:
        raise ValueError(f"{path} is not a whole tar.xz archive: {error}") from error
    return images


def _is_image(name: str) -> bool:
    return name.lower().endswith((".jpg", ".jpeg", ".png"))


def _decode(images: list[tuple[str, bytes]]) -> NDArray[np.uint8]:
    """The pixels of named JPEG or PNG files, (n, 3, 32, 32)."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            "load_cifar10 decodes images with Pillow: pip install pillow, or smoothlearn[plot]"
        ) from error
    pixels = np.empty((len(images), *_SHAPE), dtype=np.uint8)
    for i, (name, content) in enumerate(images):
        try:
            with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
                if (image.size, image.mode) != ((32, 32), "RGB"):
                    size = " x ".join(map(str, image.size))
                    raise ValueError(f"it has {size} pixels, {image.mode}, not 32 x 32, RGB")
                pixels[i] = np.asarray(image).transpose(2, 0, 1)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"{name} is not an image of CIFAR-10: {error}") from error
    return pixels
