"""Certificates as the tab-separated text that scripts of randomized smoothing write and read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smoothlearn.certificates import Certificate

_HEADER = ("idx", "label", "predict", "radius", "correct", "time")
_ABSTAIN = -1
_PRINTED = 3  # significant digits of the reference scripts, less zeros at the end
_EXACT = 17  # significant digits that tell every double from every other


def write_certification_log(
    path: str | os.PathLike[str],
    certificate: Certificate,
    y: ArrayLike,
    *,
    index: ArrayLike | None = None,
    seconds: ArrayLike = 0.0,
) -> None:
    """Write one line for each row: index, true label, certified label, radius, right or not, time.

    Labels are written as positions in ``certificate.classes``, -1 where it abstained, and radii
    with 17 digits, from which they can be read exactly.

    Parameters
    ----------
    path : str or path
    certificate : Certificate
        Norm, units and confidence level have no place in the file. Nor has a radius that was asked
        for: certificates that were decided at one, or capped, are refused.
    y : array_like of shape (n,)
        True labels.
    index : array_like of shape (n,), int, optional
        Which row of a data set each one is. None counts from 0.
    seconds : float or array_like of shape (n,)
        Time that each row took.

    Raises
    ------
    ValueError
        If lengths differ, y has labels that are not among the classes, or the radii are not all
        that could be had.

    References
    ----------
    Cohen et al. 2019, the logs published with "Certified adversarial robustness via randomized
    smoothing".

    Examples
    --------
    >>> import numpy as np
    >>> from tempfile import TemporaryDirectory
    >>> from smoothlearn import Certificate, read_certification_log, write_certification_log
    >>> certificate = Certificate.from_votes(
    ...     np.array([[990, 10], [510, 490]]), winner=np.array([0, 0]),
    ...     classes=np.array(["cat", "dog"]), sigma=0.5, confidence_level=0.999, n_features=784,
    ... )
    >>> with TemporaryDirectory() as folder:
    ...     write_certification_log(f"{folder}/log", certificate, ["cat", "dog"])
    ...     read, y = read_certification_log(f"{folder}/log", confidence_level=0.999, sigma=0.5)
    >>> np.array_equal(read.radius, certificate.radius)
    True
    >>> read.label, y
    (array([ 0, -1]), array([0, 1]))
    """
    certificate.refuse_tested("log")
    if certificate.max_radius is not None:
        raise ValueError(
            "radii that were capped would read as measured ones; certify without max_radius"
        )
    right = certificate.certified(y)
    n_rows, order = len(certificate), np.argsort(certificate.classes, kind="stable")

    def positions(labels: ArrayLike) -> NDArray[np.intp]:
        return order[np.searchsorted(certificate.classes, labels, sorter=order)]

    predicted = np.where(certificate.abstained, _ABSTAIN, positions(certificate.label))
    index = np.arange(n_rows) if index is None else np.asarray(index)
    if index.shape != (n_rows,) or index.dtype.kind not in "iu":
        raise ValueError(
            f"index must hold {n_rows} integers, got {index.dtype} of shape {index.shape}"
        )
    columns = (index, positions(y), predicted, certificate.radius, right)
    times = np.broadcast_to(np.asarray(seconds, dtype=float), n_rows)
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        print(*_HEADER, sep="\t", file=file)
        for *numbers, radius, correct, time in zip(*columns, times, strict=True):
            duration = timedelta(seconds=float(time))
            print(*numbers, f"{radius:#.{_EXACT}g}", int(correct), duration, sep="\t", file=file)


def read_certification_log(
    path: str | os.PathLike[str],
    *,
    confidence_level: float,
    sigma: float | None = None,
    norm: float = 2,
) -> tuple[Certificate, NDArray[np.int64]]:
    r"""The certificate in a file of tab-separated lines, and the true labels.

    Scripts print radii rounded to three digits, some of them up, and those do not hold. A radius r
    is therefore read as :math:`r - u/2`, where u is one unit of its last digit, or of its third if
    it has fewer. Radii of 17 digits, as :func:`write_certification_log` prints them, are read as
    they are.

    Parameters
    ----------
    path : str or path
        A line of names, among them ``label``, ``predict``, ``radius`` and ``correct``, then one
        line for each row. Labels are integers from 0; -1 as ``predict`` means that it abstained.
    confidence_level : float
        What the radii were computed at: the file does not say.
    sigma : float, optional
        Noise of the smoother.
    norm : 1, 2 or inf
        The p of the norm of the radii.

    Returns
    -------
    certificate : Certificate
        Classes are 0, 1, ... up to the largest in the file; labels are -1 where it abstained, and
        ``n_features`` is 0, as the file does not say.
    y : ndarray of shape (n,), int64
        True labels.

    Raises
    ------
    ValueError
        If the file is something else; with the number of the line.

    See Also
    --------
    write_certification_log : the opposite, and an example.
    """
    with open(path, encoding="utf-8") as file:
        try:
            rows = list(_rows(path, enumerate(file, start=1)))
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is not text: {error}") from error
    y, label = np.array([row[:2] for row in rows], dtype=np.int64).reshape(-1, 2).T
    certificate = Certificate(
        label=label,
        radius=np.array([row[2] for row in rows], dtype=float),
        abstained=label == _ABSTAIN,
        norm=norm,
        confidence_level=confidence_level,
        units="input",
        n_features=0,
        classes=np.arange(max(y.max(initial=-1), label.max(initial=-1)) + 1),
        procedure="exact" if confidence_level == 1 else "fixed",
        sigma=sigma,
    )
    return certificate, y.copy()


def _rows(path: Any, lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, int, float]]:
    """Label, prediction and radius of every line behind the first."""
    names = next(lines, (1, ""))[1].strip().split("\t")
    missing = [name for name in _HEADER[1:5] if name not in names]
    if missing:
        raise ValueError(f"{path}, line 1: no column {' or '.join(missing)} among {names[:10]}")
    for number, line in lines:
        values = line.rstrip("\r\n").split("\t")
        if values == [""]:
            continue
        try:
            if len(values) != len(names):
                raise ValueError(f"{len(values)} columns, and {len(names)} names in line 1")
            yield _row(dict(zip(names, values, strict=True)))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from error


def _row(values: dict[str, str]) -> tuple[int, int, float]:
    label, predicted, correct = (int(values[name]) for name in ("label", "predict", "correct"))
    radius = _rounded_back(values["radius"])
    if label < 0 or predicted < _ABSTAIN:
        raise ValueError(f"label {label}, predict {predicted}: neither is a class index from 0")
    if correct != (label == predicted):
        raise ValueError(f"correct is {correct}, with label {label} and predict {predicted}")
    if predicted == _ABSTAIN and radius > 0:
        raise ValueError(f"radius {values['radius']}, though predict {predicted} abstains")
    return label, predicted, radius


def _rounded_back(printed: str) -> float:
    """At most the number that was rounded to what is printed."""
    try:
        value = Decimal(printed)
    except InvalidOperation:
        raise ValueError(f"radius {printed!r} is no number") from None
    if value.is_nan() or value < 0:
        raise ValueError(f"radius {printed} is not >= 0")
    digits = len(value.as_tuple().digits)
    if not value or value.is_infinite() or digits >= _EXACT:
        return float(value)
    half = Decimal(5).scaleb(value.adjusted() - max(digits, _PRINTED))
    return float(value - half)
