"""Where data come from: a folder, or OpenML."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from sklearn.datasets import fetch_openml

Folder = str | os.PathLike[str]
DATA_VARIABLE = "SMOOTHLEARN_DATA"


def home(data_home: Folder | None, subset: str) -> Path | None:
    """The folder to read from, or None where the data are to be downloaded."""
    if subset not in ("train", "test"):
        raise ValueError(f"subset must be 'train' or 'test', got {subset!r}")
    folder = (os.environ.get(DATA_VARIABLE) or None) if data_home is None else data_home
    return None if folder is None else Path(os.path.expanduser(folder))


def download(name: str, subset: str, *, n_train: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Rows of pixels and their labels from OpenML, where the images for training come first."""
    parser = "pandas" if find_spec("pandas") else "liac-arff"
    try:
        images = fetch_openml(name, version=1, as_frame=False, parser=parser)
    except OSError as error:
        error.add_note(f"With data_home or {DATA_VARIABLE} set, data are read from a folder.")
        raise
    rows = slice(n_train) if subset == "train" else slice(n_train, None)
    return images.data[rows], images.target[rows]
