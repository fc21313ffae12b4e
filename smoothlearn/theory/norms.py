r"""Dual norms, and upper bounds of how far matrices stretch vectors, rounded up."""

from __future__ import annotations

from numbers import Real

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

_DUAL = {1: np.inf, 2: 2, np.inf: 1}


def check_norm(norm: float) -> float:
    """The p of a p-norm, a ValueError unless it is 1, 2 or inf."""
    if not isinstance(norm, Real) or isinstance(norm, bool) or norm not in _DUAL:
        raise ValueError(f"norm must be 1, 2 or inf, got {norm!r}")
    return norm


def dual(norm: float) -> float:
    r"""The q of the dual norm: :math:`1/p + 1/q = 1`."""
    return _DUAL[check_norm(norm)]


def row_norms(X: FloatArray, norm: float) -> FloatArray:
    r"""The norm :math:`\|x\|_p` of every row, without overflow or underflow, within rounding."""
    size = np.max(np.abs(X), axis=-1, initial=0.0)
    if norm != 2:
        return np.asarray(size if norm == np.inf else np.abs(X).sum(axis=-1))
    unit = np.where((size > 0) & np.isfinite(size), size, 1.0)
    return np.asarray(unit * np.linalg.norm(X / unit[..., np.newaxis], axis=-1))


def euclidean_stretch(matrix: FloatArray, norm: float) -> float:
    r"""An upper bound of :math:`\max_{x \neq 0} \|A x\|_2 / \|x\|_p`.

    Exact but for rounding where p is 1 or 2. For p = inf the least of :math:`\sqrt d \|A\|_2`,
    :math:`\| |A| 1 \|_2` and :math:`(\sum_{jk} |A^T A|_{jk})^{1/2}`.

    Parameters
    ----------
    matrix : ndarray of shape (k, d), or (d,) for a diagonal matrix
    norm : 1, 2 or inf

    Examples
    --------
    >>> import numpy as np
    >>> from smoothlearn.theory.norms import euclidean_stretch
    >>> round(euclidean_stretch(np.eye(4), np.inf), 6)
    2.0
    """
    check_norm(norm)
    if matrix.ndim == 1:
        bound = row_norms(matrix, 2) if norm == np.inf else np.max(np.abs(matrix), initial=0.0)
        return float(bound) * _slack(matrix.size)
    if norm == 1:
        return float(np.max(row_norms(matrix.T, 2), initial=0.0)) * _slack(len(matrix))
    spectral = _spectral(matrix)
    if norm == 2:
        return spectral
    size = np.max(np.abs(matrix), initial=0.0)
    unit = size if size > 0 else 1.0
    scaled = matrix / unit
    rows = float(row_norms(np.abs(matrix).sum(axis=1), 2)) * _slack(sum(matrix.shape))
    gram = np.abs(scaled.T @ scaled).sum()
    gram += len(matrix) * np.finfo(float).eps * (np.abs(scaled).sum(axis=1) ** 2).sum()
    entries = float(unit * np.sqrt(gram)) * _slack(matrix.size)
    return min(np.sqrt(matrix.shape[1]) * spectral * _slack(1), rows, entries)


def form_norm(matrix: FloatArray, norm: float) -> float:
    r"""An upper bound of :math:`|u^T H v|` over :math:`\|u\|_p, \|v\|_p \le 1`.

    For every H with :math:`|u^T H v| \le \sqrt{u^T A u \cdot v^T A v}`, where A is positive
    semidefinite: :math:`\lambda_{\max}(A)` for p = 2, the least of :math:`\sum_{jk} |A_{jk}|` and
    :math:`d \lambda_{\max}(A)` for p = inf, :math:`\max_j A_{jj}` for p = 1. It bounds the
    constant :math:`\|H\|_{p \to p^*}`.

    Parameters
    ----------
    matrix : ndarray of shape (d, d)
        Symmetric; A. Its rounding errors are the caller's.
    norm : 1, 2 or inf

    Examples
    --------
    >>> import numpy as np
    >>> from smoothlearn.theory.norms import form_norm
    >>> round(form_norm(np.diag([3.0, 1.0]), np.inf), 6)
    4.0
    """
    check_norm(norm)
    if norm == 1:
        return float(np.max(np.diag(matrix), initial=0.0))
    largest = _spectral(matrix)
    if norm == 2:
        return largest
    entries = float(np.abs(matrix).sum()) * _slack(matrix.size)
    return min(entries, len(matrix) * largest * _slack(1))


def _spectral(matrix: FloatArray) -> float:
    """The largest singular value, rounded up."""
    if not matrix.size:
        return 0.0
    if not np.isfinite(matrix).all():
        return np.inf
    size = float(np.max(np.abs(matrix)))
    if size == 0:
        return 0.0
    scaled = matrix / size
    slack = 8 * sum(matrix.shape) * np.finfo(float).eps * np.linalg.norm(scaled)
    return float(size * (np.linalg.norm(scaled, 2) + slack) * _slack(1))


def _slack(n_terms: int) -> float:
    return 1 + 4 * (n_terms + 4) * float(np.finfo(float).eps)
