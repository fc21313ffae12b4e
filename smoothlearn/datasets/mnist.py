"""MNIST, from its IDX files or from OpenML."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import Bunch

from smoothlearn.datasets.source import DATA_VARIABLE, Folder, download, home

_IMAGE_SHAPE = (28, 28)
_DESCR = """MNIST, images of handwritten digits (LeCun, Cortes & Burges 1998). A row has the 28 x 28
pixels of an image, from 0 (background) to 1; its target is the digit."""


def load_mnist(
    data_home: Folder | None = None, *, subset: str = "train", return_X_y: bool = False
) -> Bunch | tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The MNIST images of handwritten digits, with pixels in [0, 1].

    Parameters
    ----------
    data_home : str or path-like, optional
        Folder of the IDX files, plain or ``.gz``: ``train-images-idx3-ubyte`` and
        ``train-labels-idx1-ubyte``, or the same with ``t10k`` for the test set. They may also lie
        in its subfolder ``mnist`` or ``MNIST/raw``. By default, the folder that the environment
        variable ``SMOOTHLEARN_DATA`` names; where it is not set,
        :func:`~sklearn.datasets.fetch_openml` downloads the data and keeps them.
    subset : {'train', 'test'}, default='train'
        The 60,000 images for training or the 10,000 for testing. Files may hold fewer.
    return_X_y : bool, default=False
        Return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    Bunch or tuple of two ndarrays
        ``data`` of shape (n, 784), float32; ``target`` of shape (n,), int64; ``image_shape``;
        ``target_names``; and ``DESCR``, a description.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist, or does not hold both files of the subset.
    ValueError
        If a file is damaged or is not MNIST, or if ``subset`` is not known.

    References
    ----------
    LeCun, Cortes & Burges 1998, *The MNIST database of handwritten digits*; also the IDX format.

    Examples
    --------
    >>> from smoothlearn.datasets import load_mnist
    >>> X, y = load_mnist(subset="test", return_X_y=True)  # doctest: +SKIP
    >>> X.shape, y[:5]  # doctest: +SKIP
    ((10000, 784), array([7, 2, 1, 0, 4]))
    """
    folder = home(data_home, subset)
    if folder is None:
        pixels, labels = download("mnist_784", subset, n_train=60_000)
    else:
        pixels, labels = _read(folder, subset)
    data, target = np.divide(pixels, 255, dtype=np.float32), labels.astype(np.int64)
    if return_X_y:
        return data, target
    about = {"image_shape": _IMAGE_SHAPE, "target_names": list("0123456789"), "DESCR": _DESCR}
    return Bunch(data=data, target=target, **about)


def _read(folder: Path, subset: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows of pixels and their labels from two files, which have to agree."""
    images, labels = _find(folder, subset)
    pixels, digits = _read_idx(images, _IMAGE_SHAPE), _read_idx(labels, ())
    if len(pixels) != len(digits):
        raise ValueError(f"{labels} holds {len(digits)} labels for {len(pixels)} images, {images}")
    if (digits > 9).any():
        raise ValueError(f"{labels} holds the label {digits.max()}; those of MNIST are 0 to 9")
    return pixels.reshape(len(pixels), math.prod(_IMAGE_SHAPE)), digits


def _find(home: Path, subset: str) -> list[Path]:
    """The files of images and of labels, from the first folder that holds both."""
    prefix = "train" if subset == "train" else "t10k"
    stems = [f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"]
    folders = [home, home / "mnist", home / "MNIST" / "raw"]
    for folder in folders:
        found = {
            stem: path
            for stem in stems
            for name in (stem.replace("-idx", ".idx"), stem)
            for path in (folder / f"{name}.gz", folder / name)
            if path.is_file()
        }
        if len(found) == len(stems):
            return list(found.values())
    problem = "lacks" if home.is_dir() else "does not exist; it has to hold"
    raise FileNotFoundError(
        f"{home} {problem} {' and '.join(stems)} (plain or .gz, with -idx or .idx; searched "
        f"{', '.join(map(str, folders))}); set data_home or {DATA_VARIABLE} to the folder of the "
        "files, or neither to download them"
    )


def _read_idx(path: Path, item_shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """The items of one IDX file; the header is believed only where the file has its length."""
    content = path.read_bytes()
    if path.suffix == ".gz" or content.startswith(b"\x1f\x8b"):
        try:
            content = gzip.decompress(content)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is not a whole gzip file: {error}") from error
    magic = bytes([0, 0, 8, 1 + len(item_shape)])
    if content[:4] != magic:
        raise ValueError(
            f"{path} begins with {content[:4].hex(' ') or 'nothing'}, but IDX data of unsigned "
            f"bytes in {magic[3]} dimension(s) with {magic.hex(' ')}"
        )
    start = 4 + 4 * magic[3]
    if len(content) < start:
        raise ValueError(f"{path} holds {len(content)} bytes, fewer than the {start} of its header")
    shape = struct.unpack(f">{magic[3]}I", content[4:start])
    if shape[1:] != item_shape:
        raise ValueError(f"{path} holds images of {shape[1]} x {shape[2]} pixels, not 28 x 28")
    length = start + math.prod(shape)
    if len(content) != length:
        raise ValueError(f"{path} holds {len(content)} bytes where its header asks for {length}")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
