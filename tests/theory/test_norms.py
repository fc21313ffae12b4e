"""Norms of matrices against their vertices, their singular values and longer floats."""

import itertools

import numpy as np
import pytest

from smoothlearn.theory.norms import check_norm, dual, euclidean_stretch, form_norm, row_norms

NORMS = [1, 2, np.inf]
SHAPES = [(1, 1), (1, 4), (4, 1), (3, 5), (6, 6), (9, 2)]


def matrices(shape, n=20):
    rng = np.random.default_rng(sum(shape))
    yield np.zeros(shape)
    yield np.ones(shape)
    for _ in range(n):
        yield rng.standard_normal(shape) * 10 ** rng.uniform(-3, 3, shape)
        yield np.outer(rng.standard_normal(shape[0]), rng.standard_normal(shape[1]))


def vertices(d, norm):
    """The corners of the unit ball, where a convex function is largest."""
    if norm == 1:
        return np.eye(d)
    return np.array(list(itertools.product([-1.0, 1.0], repeat=d)))


def stretch_in_longdouble(matrix, norm):
    if norm == 2:
        return np.linalg.norm(matrix, 2)
    images = vertices(matrix.shape[1], norm).astype(np.longdouble) @ matrix.T.astype(np.longdouble)
    return np.sqrt((images**2).sum(axis=1)).max()


@pytest.mark.parametrize("norm", [0, 3, True, "2", None, np.nan, -np.inf])
def test_other_norms_are_refused(norm):
    with pytest.raises(ValueError, match=f"norm must be 1, 2 or inf, got {norm!r}"):
        check_norm(norm)


@pytest.mark.parametrize("norm", NORMS)
def test_dual_is_the_norm_of_linear_functions(norm):
    assert dual(dual(norm)) == norm
    w = np.array([3.0, -4.0])
    ball = (
        vertices(2, norm)
        if norm != 2
        else np.stack([np.cos(t := np.linspace(0, 7, 10_000)), np.sin(t)], axis=1)
    )
    np.testing.assert_allclose(np.abs(ball @ w).max(), row_norms(w, dual(norm)), rtol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_row_norms(norm):
    X = np.random.default_rng(0).standard_normal((5, 7))
    np.testing.assert_allclose(row_norms(X, norm), np.linalg.norm(X, norm, axis=1), rtol=1e-14)
    assert row_norms(np.zeros((2, 0)), norm).tolist() == [0, 0]


@pytest.mark.parametrize("exponent", [-300, -170, 170, 300])
def test_row_norms_of_every_size(exponent):
    X = np.array([[3.0, 4.0], [0.0, 0.0]])
    np.testing.assert_allclose(row_norms(X * 10.0**exponent, 2) / 10.0**exponent, [5, 0])


def test_row_norms_of_infinite_rows_are_infinite():
    X = np.array([[np.inf, 1.0], [2.0, 0.0]])
    for norm in NORMS:
        np.testing.assert_array_equal(row_norms(X, norm), [np.inf, 2.0])


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_euclidean_stretch_bounds_every_vertex(shape, norm):
    for matrix in matrices(shape):
        exact, bound = stretch_in_longdouble(matrix, norm), euclidean_stretch(matrix, norm)
        assert bound >= exact
        if norm != np.inf:
            np.testing.assert_allclose(bound, float(exact), rtol=1e-12)
        assert bound <= np.sqrt(shape[1]) * np.linalg.norm(matrix, 2) * (1 + 1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_euclidean_stretch_of_a_diagonal(norm):
    for matrix in matrices((1, 6)):
        exact = stretch_in_longdouble(np.diag(matrix[0]), norm)
        bound = euclidean_stretch(matrix[0], norm)
        assert exact <= bound <= float(exact) * (1 + 1e-13)


def test_euclidean_stretch_is_exact_where_a_simple_bound_is():
    """Orthogonal rows, rows of one sign, orthogonal columns: another bound is exact for each."""
    fourier = np.array([[1.0, 1.0], [1.0, -1.0]])
    positive = np.array([[1.0, 2.0], [3.0, 4.0]])
    for matrix in (fourier, positive, np.array([[1.0, 0.0], [0.0, 5.0], [0.0, 0.0]])):
        exact = stretch_in_longdouble(matrix, np.inf)
        np.testing.assert_allclose(euclidean_stretch(matrix, np.inf), float(exact), rtol=1e-12)


def form_in_longdouble(matrix, norm):
    """The largest |uᵀHv| over vertices u, which are enough for each v, and so for both."""
    if norm == 2:
        return np.abs(np.linalg.eigvalsh(matrix)).max()
    corners = vertices(len(matrix), norm).astype(np.longdouble)
    return np.abs(corners @ matrix.astype(np.longdouble) @ corners.T).max()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_form_norm_bounds_every_vertex(shape, norm):
    for root in matrices(shape):
        form = root.T @ root
        exact, bound = form_in_longdouble(form, norm), form_norm(form, norm)
        assert bound >= exact * (1 - 1e-14)  # rounding of the form itself is the caller's
        if norm != np.inf:
            np.testing.assert_allclose(bound, float(exact), rtol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_form_norm_bounds_forms_that_a_larger_one_dominates(norm):
    """H = Σ c w wᵀ with signs, beside A = Σ |c| w wᵀ."""
    rng = np.random.default_rng(1)
    for _ in range(30):
        weights, signs = rng.standard_normal((5, 4)), rng.choice([-1.0, 1.0], 5)
        exact = form_in_longdouble((weights.T * signs) @ weights, norm)
        assert form_norm(weights.T @ weights, norm) >= exact * (1 - 1e-12)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("exponent", [-150, 150])
def test_matrices_of_every_size(exponent, norm):
    matrix = np.array([[1.0, 2.0], [2.0, 5.0]])
    size = 10.0**exponent
    for function in (euclidean_stretch, form_norm):
        ratio = function(matrix * size, norm) / size / function(matrix, norm)
        np.testing.assert_allclose(ratio, 1, rtol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_matrices_without_entries(norm):
    assert euclidean_stretch(np.zeros((0, 3)), norm) == 0
    assert euclidean_stretch(np.zeros((3, 0)), norm) == 0
    assert form_norm(np.zeros((0, 0)), norm) == 0


def test_infinite_matrices_have_infinite_norms():
    assert form_norm(np.full((2, 2), np.inf), 2) == np.inf
    assert euclidean_stretch(np.full((2, 2), np.inf), 2) == np.inf
