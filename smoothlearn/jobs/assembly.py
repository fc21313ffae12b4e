"""The certificate of all rows, from those of its chunks."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smoothlearn.certificates import Certificate

Arrays = dict[str, Any]  # by the name of a Certificate's attribute


def row_arrays(certificate: Certificate) -> Arrays:
    """What a certificate says about every row."""
    values = {field.name: getattr(certificate, field.name) for field in fields(certificate)}
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, np.ndarray) and name != "classes"
    }


def facts(certificate: Certificate) -> dict[str, Any]:
    """What it says about all rows at once, besides the classes."""
    values = {field.name: getattr(certificate, field.name) for field in fields(certificate)}
    return {
        name: value
        for name, value in values.items()
        if not isinstance(value, np.ndarray) and name != "classes"
    }


class Assembly:
    """Arrays for all rows, filled chunk by chunk."""

    def __init__(self, n_rows: int, classes: NDArray[Any]) -> None:
        self.n_rows = n_rows
        self.classes = classes
        self.arrays: Arrays = {}
        self.facts: dict[str, Any] = {}

    def __len__(self) -> int:
        return self.n_rows

    def fill(self, start: int, arrays: Arrays, about_all: dict[str, Any]) -> int:
        """Take a chunk, and say how many rows it has.

        Raises
        ------
        ValueError
            If it says something else about all rows than the first one did.
        """
        if not self.facts:
            self.facts = about_all
            for name, part in arrays.items():
                dtype = self.classes.dtype if name == "label" else part.dtype
                self.arrays[name] = np.empty((self.n_rows, *part.shape[1:]), dtype)
        if about_all != self.facts or arrays.keys() != self.arrays.keys():
            differ = [name for name in self.facts if self.facts[name] != about_all.get(name)]
            raise ValueError(
                f"certificates of different rows differ in {differ or sorted(arrays)}, and cannot "
                "be one; certify these rows by themselves"
            )
        n_rows = len(arrays["label"])
        for name, part in arrays.items():
            self.arrays[name][start : start + n_rows] = part
        return n_rows

    def certificate(self) -> Certificate:
        """The certificate, which takes the arrays over."""
        for array in self.arrays.values():
            array.flags.writeable = False
        arrays, self.arrays = self.arrays, {}
        return Certificate(classes=self.classes, **arrays, **self.facts)
