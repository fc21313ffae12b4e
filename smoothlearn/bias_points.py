"""Rows held out to be bias points of locally biased smoothing."""

from __future__ import annotations

from hashlib import blake2b
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smoothlearn.views.affine import FloatArray


def check_n_bias(n_bias: Any) -> None:
    """Raise unless n_bias is a share in (0, 1) or a number of points >= 1."""
    if isinstance(n_bias, bool) or not isinstance(n_bias, Real):
        raise TypeError(f"n_bias must be a share in (0, 1) or a whole number, got {n_bias!r}")
    if not (int(n_bias) >= 1 if isinstance(n_bias, Integral) else 0 < float(n_bias) < 1):
        raise ValueError(f"n_bias must be a share in (0, 1) or a whole number >= 1, got {n_bias!r}")


def content_keys(X: FloatArray, seed: int) -> NDArray[np.bytes_]:
    """A keyed hash of every row, the same for equal rows wherever they stand."""
    key = seed.to_bytes(16, "little")
    rows = np.ascontiguousarray(X + 0.0)  # which makes -0.0 and 0.0 the same bytes
    digests = [blake2b(row, key=key, digest_size=16).hexdigest().encode() for row in rows]
    return np.array(digests, dtype="S32")


def choose_bias_points(
    keys: NDArray[np.bytes_], indices: NDArray[np.intp], names: NDArray[Any], n_bias: float
) -> NDArray[np.bool_]:
    """Which rows are held out: in each class those with the smallest hashes, with all their copies.

    Parameters
    ----------
    keys : ndarray of shape (n,)
        From ``content_keys``.
    indices : ndarray of shape (n,), int
        Class of every row.
    names : ndarray of shape (n_classes,)
        For error messages.
    n_bias : float or int
        A share of the distinct rows of every class, at least one row; or a number of distinct rows
        in all, shared among the classes by their sizes, at least one each.

    Raises
    ------
    ValueError
        If a class would have no bias point, or no row left.
    """
    distinct = [np.unique(keys[indices == k]) for k in range(len(names))]
    sizes = np.array([len(rows) for rows in distinct])
    chosen = _allocate(sizes, n_bias, len(names))
    short = np.flatnonzero(chosen >= sizes)
    if short.size:
        raise ValueError(
            f"n_bias={n_bias} takes {chosen[short[0]]} of the {sizes[short[0]]} distinct rows of "
            f"class {names[short[0]]} as bias points and leaves none to fit the estimator on; "
            "take fewer, or freeze a fitted estimator"
        )
    last = np.array([rows[n - 1] for rows, n in zip(distinct, chosen, strict=True)])
    return np.asarray(keys <= last[indices])


def distinct_rows(keys: NDArray[np.bytes_], indices: NDArray[np.intp]) -> NDArray[np.intp]:
    """One row of every content and class, in an order that does not depend on theirs."""
    order = np.lexsort((keys, indices))
    keys, indices = keys[order], indices[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (keys[1:] != keys[:-1]) | (indices[1:] != indices[:-1])
    return order[new]


def _allocate(sizes: NDArray[np.intp], n_bias: float, n_classes: int) -> NDArray[np.intp]:
    if not isinstance(n_bias, Integral):
        return np.maximum(np.round(n_bias * sizes).astype(np.intp), 1)
    if n_bias < n_classes:
        raise ValueError(
            f"n_bias={n_bias} is fewer than the {n_classes} classes, and each needs a bias point"
        )
    shares = (int(n_bias) - n_classes) * sizes / sizes.sum()
    chosen = 1 + np.floor(shares).astype(np.intp)
    by_remainder = np.argsort(np.floor(shares) - shares, kind="stable")
    chosen[by_remainder[: int(n_bias) - chosen.sum()]] += 1
    return np.asarray(chosen)
