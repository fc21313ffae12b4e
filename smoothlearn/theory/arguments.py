"""Checks of arguments: each returns the value as floats, or says what is wrong and would do."""

import math
import warnings
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray


def as_counts(name: str, value: ArrayLike) -> NDArray[np.float64]:
    """Whole numbers >= 0 as float64, exact up to 2**53."""
    counts = np.asarray(value)
    big_ints = counts.dtype.kind == "O" and all(isinstance(v, int) for v in counts.flat)
    if counts.size and counts.dtype.kind not in "iu" and not big_ints:
        raise TypeError(
            f"{name} must hold integers, got dtype {counts.dtype}; cast with astype(int)"
        )
    counts = counts.astype(np.float64)
    if np.any(counts < 0):
        raise ValueError(f"{name} must be >= 0, got {counts.min():.0f}")
    return counts


def as_probability(
    name: str, value: ArrayLike, *, ends: bool = True, hint: str = ""
) -> NDArray[np.float64]:
    """Numbers in [0, 1], or in (0, 1) where the ends are not allowed."""
    p = np.asarray(value)
    if p.size and p.dtype.kind not in "iuf":
        raise TypeError(f"{name} must hold real numbers, got dtype {p.dtype}")
    p = p.astype(np.float64)
    valid = (p >= 0) & (p <= 1) if ends else (p > 0) & (p < 1)
    if not np.all(valid):
        interval = "[0, 1]" if ends else "(0, 1)"
        raise ValueError(f"{name} must lie in {interval}, got {p[~valid].flat[0]}{hint}")
    return p


def as_finite(name: str, value: float, *, zero: bool = False) -> float:
    """A finite number > 0, or >= 0 where zero is allowed."""
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be one real number, got {value!r}")
    number = float(value)
    if not math.isfinite(number) or number < 0 or (number == 0 and not zero):
        raise ValueError(f"{name} must be finite and {'>=' if zero else '>'} 0, got {number}")
    return number


def as_reals(name: str, value: ArrayLike, shape: tuple[int | str, ...]) -> NDArray[np.float64]:
    """Finite real numbers of a given shape, in which "n" is any length and other names any > 0."""
    array = np.asarray(value)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    fits = array.ndim == len(shape) and all(
        given > 0 or asked == "n" if isinstance(asked, str) else given == asked
        for given, asked in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join(str(length) for length in shape) + "," * (len(shape) == 1)
        raise ValueError(f"{name} must have shape ({wanted}), got {array.shape}")
    array = array.astype(np.float64, copy=False)
    if not np.all(np.isfinite(array)):
        raise ValueError(f"{name} must be finite, got NaN or infinity")
    return array


def as_vector(name: str, value: ArrayLike, length: int) -> NDArray[np.float64]:
    """One number for all entries, or one each."""
    return np.broadcast_to(as_reals(name, value, (length,) if np.ndim(value) else ()), length)


def as_radii(name: str, value: ArrayLike | None, length: int) -> NDArray[np.float64] | None:
    """Radii >= 0, infinity among them: one for all rows, or one each; None where none is given."""
    if value is None:
        return None
    radii = np.asarray(value)
    if radii.dtype.kind not in "iuf":
        raise TypeError(f"{name} must hold real numbers, got {value!r}")
    if radii.shape not in ((), (length,)):
        raise ValueError(
            f"{name} must be one number or have shape ({length},), one a row, got {radii.shape}"
        )
    if not np.all(radii >= 0):
        raise ValueError(f"{name} must be >= 0 and not NaN, got {radii[~(radii >= 0)].flat[0]}")
    return radii.astype(np.float64)


def as_question(
    radius: ArrayLike | None, max_radius: ArrayLike | None, length: int
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """The radius that rows are asked for, or the one that is enough; not both."""
    if radius is not None and max_radius is not None:
        raise ValueError(
            f"radius={radius!r} asks for a decision and max_radius={max_radius!r} for a "
            "measurement; give one of them"
        )
    return as_radii("radius", radius, length), as_radii("max_radius", max_radius, length)


#: How the warning of :func:`warn_raw_pixels` begins.
RAW_PIXELS = "X holds whole numbers"


def warn_raw_pixels(X: NDArray[np.float64], sigma: float, *, stacklevel: int) -> None:
    """Warn where X looks like pixels from 0 to 255, and sigma like one for pixels in [0, 1]."""
    largest = X.max(initial=0.0)
    if X.shape[1] < 16 or sigma > 2 or not 250 <= largest <= 255:
        return
    if X.min(initial=0.0) >= 0 and np.array_equal(X, np.floor(X)):
        warnings.warn(
            f"{RAW_PIXELS} from 0 to {largest:.0f}, as pixels do before they are scaled, "
            f"and sigma={sigma} is hardly noise to them; divide X by 255, or choose a larger sigma",
            UserWarning,
            stacklevel=stacklevel + 1,
        )
