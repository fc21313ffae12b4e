"""Fitted support vector machines as differentiable scores."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.svm import SVC, NuSVC

from smoothlearn.views.affine import Affine, FloatArray, split_affine
from smoothlearn.views.gamma import find_gamma
from smoothlearn.views.linear import Linear
from smoothlearn.views.radial import Radial
from smoothlearn.views.ridge import Ridge

#: Scores of every class, or 0 and f of two, seen from before the affine steps.
KernelMachine = Linear | Radial | Ridge

#: (products of inputs and support vectors, gamma, coef0, degree) -> kernel
_KERNELS: dict[str, Callable[[FloatArray, float, float, int], FloatArray]] = {
    "linear": lambda products, gamma, coef0, degree: products,
    "poly": lambda products, gamma, coef0, degree: (gamma * products + coef0) ** degree,
    "rbf": lambda products, gamma, coef0, degree: np.exp(-gamma * products),
    "sigmoid": lambda products, gamma, coef0, degree: np.tanh(gamma * products + coef0),
}


def as_kernel(model: Any, n_features: int) -> KernelMachine | None:
    r"""The fitted SVC or NuSVC as :math:`g_k(x) = \sum_i C_{ki} k(Ax + a, z_i) + b_k`.

    None where it is not one, has a kernel of its own, or does not compute what its public
    attributes say. Of two classes the scores are 0 and the decision function. Of more, :math:`g_k`
    is the sum of the decision functions of the pairs that k is in, counted for k; its largest may
    be another class than the one that has most votes, which is what `SVC.predict` gives.

    Parameters
    ----------
    model : estimator
        Affine steps in front, searches and frozen estimators are opened.
    n_features : int
        Number of columns of the model's input.

    Raises
    ------
    ValueError
        If gamma is "scale" and cannot be recovered from the decision function.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.svm import SVC
    >>> from smoothlearn.views.kernel import as_kernel
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> svc = SVC(gamma=0.5).fit(X, [0, 0, 1, 1])
    >>> np.allclose(as_kernel(svc, 1).at(X, 2).scores[:, 1], svc.decision_function(X))
    True
    """
    split = split_affine(model, n_features)
    if split is None:
        return None
    front, svc = split
    if type(svc) not in (SVC, NuSVC) or callable(svc.kernel) or svc.kernel not in _KERNELS:
        return None
    svc = _plain_copy(svc)
    vectors, probes = _dense(svc.support_vectors_), _probes(_dense(svc.support_vectors_))
    inferred = svc.gamma == "scale" and svc.kernel != "linear"
    gamma = _inferred_gamma(svc, vectors, probes) if inferred else _given_gamma(svc)
    build = partial(_machine, svc, vectors, gamma)
    if _agrees(build(Affine.identity(vectors.shape[1])), svc, probes):
        return build(front)
    if inferred:
        raise ValueError(
            f"the estimator's gamma='scale' is a number that {type(svc).__name__} does not keep, "
            "and its decision function did not give it away; give gamma as a number, "
            "1 / (n_features * X.var()) of the rows the SVC is fitted on"
        )
    return None


def _plain_copy(svc: Any) -> Any:
    """The same machine, which says what it says of pairs and takes arrays without names."""
    svc = copy(svc)
    svc.decision_function_shape, svc.break_ties = "ovo", False
    if hasattr(svc, "feature_names_in_"):
        del svc.feature_names_in_
    return svc


def _dense(matrix: Any) -> FloatArray:
    return np.asarray(matrix.toarray() if hasattr(matrix, "toarray") else matrix, float)


def _coefficients(svc: Any) -> tuple[FloatArray, FloatArray]:
    """C and b: every class's part in the functions of the pairs, one against one."""
    dual, intercept = _dense(svc.dual_coef_), np.ravel(svc.intercept_)
    n_classes = len(svc.classes_)
    if n_classes == 2:
        return np.stack([np.zeros_like(dual[0]), dual[0]]), np.array([0.0, intercept[0]])
    owner = np.repeat(np.arange(n_classes), svc.n_support_)
    pairs = np.zeros((len(intercept), dual.shape[1]))
    for row, (first, second) in zip(pairs, combinations(range(n_classes), 2), strict=True):
        row[owner == first] = dual[second - 1, owner == first]
        row[owner == second] = dual[first, owner == second]
    sums = _class_sums(n_classes)
    return sums @ pairs, sums @ intercept


def _class_sums(n_classes: int) -> FloatArray:
    """The matrix from the functions of the pairs to sums that favour each class."""
    pairs = list(combinations(range(n_classes), 2))
    sums = np.zeros((n_classes, len(pairs)))
    for column, (first, second) in enumerate(pairs):
        sums[first, column], sums[second, column] = 1, -1
    return sums


def _said(svc: Any, X: FloatArray) -> FloatArray:
    """The scores in the model's own words."""
    values = svc.decision_function(X)
    if values.ndim == 1:
        return np.stack([np.zeros_like(values), values], axis=1)
    return np.asarray(values @ _class_sums(len(svc.classes_)).T)


def _machine(svc: Any, vectors: FloatArray, gamma: float, front: Affine) -> KernelMachine:
    coefficients, offsets = _coefficients(svc)
    if svc.kernel == "rbf":
        return Radial(gamma, vectors, coefficients, offsets, front)
    arguments = Linear.plain(gamma * vectors, np.full(len(vectors), float(svc.coef0)))
    if svc.kernel == "linear":
        return _sum(Linear.plain(vectors, np.zeros(len(vectors))), svc).behind(front)
    if svc.kernel == "poly" and svc.degree == 0:
        return _sum(Linear.plain(0 * vectors, np.ones(len(vectors))), svc).behind(front)
    if svc.kernel == "poly" and svc.degree == 1:
        return _sum(arguments, svc).behind(front)
    degree = int(svc.degree) if svc.kernel == "poly" else None
    return Ridge(degree, arguments.behind(front), coefficients, offsets)


def _sum(kernel: Linear, svc: Any) -> Linear:
    """The scores where the kernel is linear, of two classes f alone."""
    coefficients, offsets = _coefficients(svc)
    rows = slice(1, None) if len(offsets) == 2 else slice(None)
    coefficients, offsets = coefficients[rows], offsets[rows]
    # who reads the sizes expects sums of n_features terms
    growth, sizes = 1 + sum(kernel.weights.shape) / 16, np.abs(coefficients)
    return Linear(
        coefficients @ kernel.weights,
        coefficients @ kernel.offsets + offsets,
        growth * (sizes @ kernel.weight_sizes),
        growth * (sizes @ kernel.offset_sizes + np.abs(offsets)),
    )


def _given_gamma(svc: Any) -> float:
    return 1 / svc.support_vectors_.shape[1] if isinstance(svc.gamma, str) else float(svc.gamma)


def _inferred_gamma(svc: Any, vectors: FloatArray, probes: FloatArray) -> float:
    """The gamma whose kernel gives the decision values at the probes; it still is to be checked."""
    kernel, coef0, degree = _KERNELS[svc.kernel], float(svc.coef0), int(svc.degree)
    rbf = svc.kernel == "rbf"
    products = cdist(probes, vectors, "sqeuclidean") if rbf else probes @ vectors.T
    largest = np.abs(probes) @ np.abs(vectors).T
    coefficients, offsets = _coefficients(svc)

    def scores(gamma: float, some: slice) -> tuple[FloatArray, FloatArray]:
        values = kernel(products[some], gamma, coef0, degree) @ coefficients.T + offsets
        if svc.kernel != "poly":  # at most 1
            return values, np.abs(coefficients).sum(axis=1) + np.abs(offsets)
        terms = kernel(largest[some], gamma, abs(coef0), degree)
        return values, terms @ np.abs(coefficients).T + np.abs(offsets)

    variance = float(vectors.var())
    guess = 1 / (vectors.shape[1] * variance) if variance > 0 else 1.0
    return find_gamma(scores, _said(svc, probes), guess)


def _probes(vectors: FloatArray) -> FloatArray:
    """Support vectors, and points at all distances from them and from the origin."""
    rng = np.random.default_rng(0)
    some = vectors[np.linspace(0, len(vectors) - 1, min(len(vectors), 32)).astype(int)]
    spread = float(np.sqrt(np.square(vectors - vectors.mean(axis=0)).sum(axis=1).mean()))
    scales = (spread or float(np.abs(vectors).max()) or 1.0) * np.logspace(-4, 4, 64)
    steps = rng.standard_normal((len(scales), vectors.shape[1]))
    steps *= (scales / np.linalg.norm(steps, axis=1))[:, np.newaxis]
    bases = vectors[rng.integers(len(vectors), size=(2, len(scales)))]
    inward = bases[1] * np.logspace(-16, 1, len(scales))[:, np.newaxis]
    return np.concatenate([some, bases[0] + steps, inward])


def _agrees(machine: KernelMachine, svc: Any, probes: FloatArray) -> bool:
    expansion, said = machine.at(probes, 2), _said(svc, probes)
    rounding = 16 * said.shape[1] * expansion.rounding()[0][:, np.newaxis]
    return bool((np.abs(expansion.scores - said) <= 1e-9 * np.abs(said) + rounding).all())
