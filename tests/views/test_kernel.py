"""The view computes what the machine does, and its bounds hold wherever they are attacked."""

import itertools

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC, NuSVC, OneClassSVM

from smoothlearn.theory.norms import dual
from smoothlearn.views.affine import Affine
from smoothlearn.views.kernel import as_kernel
from smoothlearn.views.linear import Linear
from smoothlearn.views.radial import Radial
from smoothlearn.views.ridge import Ridge

NORMS = [1, 2, np.inf]
#: Families of the acceptance test; degree 3 has a constant on balls alone.
FAMILIES = {
    "linear": SVC(kernel="linear", gamma=1.0),
    "rbf": SVC(gamma=0.4, C=10.0),
    "poly2": SVC(kernel="poly", degree=2, gamma=0.3, coef0=1.0),
    "poly3": SVC(kernel="poly", degree=3, gamma=0.3, coef0=0.5),
    "sigmoid": SVC(kernel="sigmoid", gamma=0.2, coef0=-0.5),
}


def machine(family, **parameters):
    return clone(FAMILIES[family]).set_params(**parameters)


def blobs(n_classes, d=3, n=40, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    return rng.standard_normal((n, d)) + 1.5 * rng.standard_normal((n_classes, d))[y], y


def columns(rows, first, second):
    return np.full(len(rows), first), np.full(len(rows), second)


def said(model, X):
    """The model's own scores: 0 and f, or the sums of the functions of pairs."""
    values = model.decision_function(X)
    if values.ndim == 1:
        return np.stack([0 * values, values], axis=1)
    pairs = list(itertools.combinations(range(len(model.classes_)), 2))
    scores = np.zeros((len(X), len(model.classes_)))
    for value, (first, second) in zip(values.T, pairs, strict=True):
        scores[:, first] += value
        scores[:, second] -= value
    return scores


def far_and_near(X, n=60):
    rng = np.random.default_rng(1)
    steps = rng.standard_normal((n, X.shape[1])) * np.logspace(-3, 1.5, n)[:, None]
    return np.concatenate([X, X[rng.integers(len(X), size=n)] + steps * X.std(axis=0)])


# Recognition, and agreement with the model.


@pytest.mark.parametrize("kernel", ["linear", "rbf", "poly", "sigmoid"])
@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize("kind", [SVC, NuSVC])
@pytest.mark.parametrize("gamma", ["scale", "auto", 0.05])
def test_scores_are_those_of_the_machine(kernel, n_classes, kind, gamma):
    X, y = blobs(n_classes)
    names = np.array(["d", "a", "c", "b"])
    parameters = {"kernel": kernel, "gamma": gamma, "coef0": 0.2, "decision_function_shape": "ovo"}
    model = kind(**parameters, break_ties=False).fit(X, names[y])
    for fitted in (model, FrozenEstimator(model), make_pipeline("passthrough", model)):
        scores = as_kernel(fitted, 3).at(far_and_near(X), 2).scores
        expected = said(model, far_and_near(X))
        np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-11 * abs(expected).max())


def test_searches_are_opened():
    X, y = blobs(2)
    pipeline = make_pipeline(StandardScaler(), SVC())
    search = GridSearchCV(pipeline, {"svc__gamma": ["scale"]}, cv=2).fit(X, y)
    scores = as_kernel(search, 3).at(X, 2).scores
    np.testing.assert_allclose(scores[:, 1], search.decision_function(X), atol=1e-10)


def test_settings_of_the_model_that_only_shape_its_answers_do_not_matter():
    X, y = blobs(3)
    plain = SVC(decision_function_shape="ovo").fit(X, y)
    broken = SVC(break_ties=True, class_weight=None).fit(X, y)
    scores = as_kernel(broken, 3).at(X, 2).scores
    np.testing.assert_allclose(scores, said(plain, X), atol=1e-10)
    assert (broken.break_ties, broken.decision_function_shape) == (True, "ovr")


@pytest.mark.parametrize("degree", [0, 1, 2, 5])
@pytest.mark.parametrize("gamma", ["scale", 0.3])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_degrees(degree, gamma):
    X, y = blobs(2)
    model = SVC(kernel="poly", degree=degree, gamma=gamma, coef0=0.5, max_iter=10_000).fit(X, y)
    view = as_kernel(model, 3)
    assert isinstance(view, Linear if degree < 2 else Ridge)
    np.testing.assert_allclose(view.at(X, 2).scores[:, 1], model.decision_function(X), rtol=1e-8)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_sparse_support_vectors(n_classes):
    X, y = blobs(n_classes)
    X[np.abs(X) < 0.5] = 0
    model = SVC(decision_function_shape="ovo").fit(csr_matrix(X), y)
    np.testing.assert_allclose(as_kernel(model, 3).at(X, 2).scores, said(model, X), atol=1e-10)


def test_models_fitted_on_frames_keep_their_names():
    pandas = pytest.importorskip("pandas")
    X, y = blobs(2)
    model = SVC().fit(pandas.DataFrame(X, columns=list("abc")), y)
    assert as_kernel(model, 3) is not None
    assert list(model.feature_names_in_) == ["a", "b", "c"]


class Shifted(SVC):
    def decision_function(self, X):
        return super().decision_function(X) + 1


OTHERS = {
    "subclass": Shifted(),
    "callable": SVC(kernel=lambda A, B: A @ B.T),
    "logistic": LogisticRegression(),
    "linear-svc": LinearSVC(),
    "regression": SVR(),
    "one-class": OneClassSVM(),
    "normalised": make_pipeline(Normalizer(), SVC()),
    "clipped": make_pipeline(MinMaxScaler(clip=True), SVC()),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_models_are_not_kernel_machines(name):
    X, y = blobs(2)
    assert as_kernel(OTHERS[name].fit(X, y), 3) is None


def test_precomputed_kernels_are_not_known():
    X, y = blobs(2)
    assert as_kernel(SVC(kernel="precomputed").fit(X @ X.T, y), len(X)) is None


def test_a_machine_that_says_otherwise_is_not_known():
    X, y = blobs(2)
    model = SVC(gamma=0.5).fit(X, y).set_params(gamma=0.7)
    assert as_kernel(model, 3) is None


# gamma="scale".


def given_gamma(view):
    """gamma of an RBF view."""
    assert isinstance(view, Radial)
    return view.gamma


@pytest.mark.parametrize("exponent", [-12, -3, 0, 3, 12])
@pytest.mark.parametrize("offset", [0, 10, 1e4])
@pytest.mark.parametrize("n", [4, 200])
def test_scale_is_recovered(exponent, offset, n):
    X, y = blobs(2, n=n)
    X = (X + offset) * 10.0**exponent
    expected = 1 / (3 * X.var())
    np.testing.assert_allclose(given_gamma(as_kernel(SVC().fit(X, y), 3)), expected, rtol=1e-9)


@pytest.mark.parametrize("C", [1e-3, 1e5])
def test_scale_is_recovered_from_weak_and_strong_coefficients(C):
    X, y = blobs(3, n=90)
    gamma = given_gamma(as_kernel(SVC(C=C).fit(X, y), 3))
    np.testing.assert_allclose(gamma, 1 / (3 * X.var()), rtol=1e-9)


def test_scale_is_recovered_where_support_vectors_say_little_of_the_variance():
    """Two of them near each other, and thousands of rows far away."""
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(-50, 20, 2000).clip(-200, -0.01), [0.0, 0.02]])[:, None]
    y = np.arange(2002) > 2000
    model = SVC(kernel="rbf", C=1e6).fit(X, y)
    np.testing.assert_allclose(given_gamma(as_kernel(model, 1)), 1 / X.var(), rtol=1e-9)


@pytest.mark.parametrize("kernel", ["poly", "sigmoid"])
@pytest.mark.parametrize("exponent", [-6, 0, 6])
@pytest.mark.parametrize("offset", [0, 30])
def test_scale_of_ridge_kernels_is_recovered(kernel, exponent, offset):
    X, y = blobs(3)
    X = (X + offset) * 10.0**exponent
    weights = as_kernel(SVC(kernel=kernel).fit(X, y), 3).inner.weights
    gamma = 1 / (3 * X.var())
    vectors = SVC(kernel=kernel).fit(X, y).support_vectors_
    np.testing.assert_allclose(weights, gamma * vectors, rtol=1e-8)


def test_scale_of_a_single_point_is_one():
    model = SVC().fit(np.ones((4, 2)), [0, 1, 0, 1])
    assert as_kernel(model, 2) is not None


def test_scale_that_cannot_be_recovered_asks_for_a_number(monkeypatch):
    X, y = blobs(2)
    model = SVC().fit(X, y)
    monkeypatch.setattr("smoothlearn.views.kernel.find_gamma", lambda *_: 1.0)
    with pytest.raises(ValueError, match=r"gamma='scale'.*give gamma as a number"):
        as_kernel(model, 3)


# Derivatives.


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("scaled", [False, True])
def test_gradients_are_those_of_the_scores(family, n_classes, scaled):
    X, y = blobs(n_classes)
    model = machine(family, decision_function_shape="ovo")
    model = make_pipeline(StandardScaler(), PCA(2), model) if scaled else model
    model.fit(X * [1, 10, 0.1] + [0, 5, 1], y)
    rows, h = X[:5] * [1, 10, 0.1] + [0, 5, 1], 1e-5
    ends = (n_classes - 1, 0)
    gradient = as_kernel(model, 3).at(rows, 2).gradient(*columns(rows, *ends))
    for j, step in enumerate(np.diag([1, 10, 0.1]) * h):
        up, down = said(model, rows + step), said(model, rows - step)
        slope = ((up - down)[:, ends[0]] - (up - down)[:, ends[1]]) / (2 * step.max())
        np.testing.assert_allclose(gradient[:, j], slope, rtol=1e-5, atol=1e-5)


def test_columns_can_differ_from_row_to_row():
    X, y = blobs(4)
    rng = np.random.default_rng(0)
    first, second = rng.integers(4, size=(2, len(X)))
    for family in FAMILIES:
        radius = rng.uniform(0, 2, len(X))
        view = as_kernel(machine(family).fit(X, y), 3)
        together = view.at(X, np.inf)
        for row in range(0, len(X), 7):
            alone, one = view.at(X[row : row + 1], np.inf), slice(row, row + 1)
            for name in ("gradient", "slope"):
                value = getattr(together, name)(first, second)[one]
                np.testing.assert_allclose(getattr(alone, name)(first[one], second[one]), value)
            curvature = together.curvature(first, second, radius)[one]
            again = alone.curvature(first[one], second[one], radius[one])
            np.testing.assert_allclose(again, curvature, rtol=1e-12)


# Curvature: attacks.


def hessian_norm(hessian, norm):
    if norm == 1:
        return np.abs(hessian).max()
    if norm == 2:
        return np.linalg.norm(hessian, 2)
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=len(hessian))))
    return np.abs(signs @ hessian).sum(axis=1).max()


def steps_in_ball(rng, n, d, norm):
    """Random, on the axes, along sign vectors and on the sphere, in the unit ball of the norm."""
    kind = rng.integers(4, size=n)[:, None]
    random, signs = rng.standard_normal((n, d)), rng.choice([-1.0, 1.0], (n, d))
    axes = np.eye(d)[rng.integers(d, size=n)] * signs
    steps = np.select([kind == 0, kind == 1], [axes, signs], random)
    steps /= np.linalg.norm(steps, norm, axis=1, keepdims=True)
    return steps * np.where(kind == 3, rng.uniform(0, 1, (n, 1)), 1.0)


def attack(view, x, radius, norm, rng, n):
    """The largest quotient of differences of gradients between pairs of points of a ball.

    Half of the pairs are near each other, on the ball's edge or inside it, half are any two.
    """
    d = len(x)
    near = x + radius * steps_in_ball(rng, n, d, norm)
    far = x + radius * steps_in_ball(rng, n, d, norm)
    close = rng.random((n, 1)) < 0.5
    far = np.where(close, near + 1e-3 * (far - near), far)
    ends = columns(near, view_classes(view) - 1, 0)
    gap = view.at(near, norm).gradient(*ends) - view.at(far, norm).gradient(*ends)
    lengths = np.linalg.norm(near - far, norm, axis=1)
    usable = lengths > 0
    return (np.linalg.norm(gap, dual(norm), axis=1)[usable] / lengths[usable]).max()


def view_classes(view):
    return max(2, len(view.offsets))


def check_curvature(view, X, norm, seed, n_pairs, n_rows=12, radii=(1e-2, 0.3, 2.0)):
    """No quotient exceeds the bound on its ball, nor, where there is one, that of all of space."""
    rng = np.random.default_rng(seed)
    rows = X[rng.choice(len(X), n_rows)] + rng.choice([0, 0.5], (n_rows, 1)) * X.std(axis=0)
    ends = columns(rows, view_classes(view) - 1, 0)
    expansion = view.at(rows, norm)
    everywhere = expansion.curvature(*ends, np.full(n_rows, np.inf))
    tightest, before = 0.0, np.zeros(n_rows)
    for radius in np.array(radii) * X.std():
        bounds = expansion.curvature(*ends, np.full(n_rows, radius))
        assert (bounds >= before * (1 - 1e-12)).all()
        assert (bounds <= everywhere * (1 + 1e-12)).all()
        before = bounds
        for x, bound in zip(rows, bounds, strict=True):
            worst = attack(view, x, radius, norm, rng, n_pairs // (n_rows * len(radii)))
            assert worst <= bound * (1 + 1e-7) + 1e-9
            tightest = max(tightest, worst / bound if bound > 0 else 0.0)
    return tightest


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_no_pair_of_gradients_breaks_the_curvature(family, n_classes, norm):
    X, y = blobs(n_classes)
    view = as_kernel(machine(family).fit(X, y), 3)
    check_curvature(view, X, norm, seed=0, n_pairs=3600)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("front", [StandardScaler(), MinMaxScaler(), PCA(2, whiten=True)])
@pytest.mark.parametrize("family", FAMILIES)
def test_curvature_holds_in_raw_units_behind_a_front(family, front, norm):
    X, y = blobs(3)
    X = X * [1.0, 5.0, 0.2] + [10, 0, -3]
    model = make_pipeline(front, machine(family)).fit(X, y)
    view = as_kernel(model, 3)
    model[-1].set_params(decision_function_shape="ovo")
    np.testing.assert_allclose(view.at(X, norm).scores, said(model, X), rtol=1e-9, atol=1e-9)
    check_curvature(view, X, norm, seed=1, n_pairs=1800)


def one_centre(d, gamma=0.5, sign=1.0, linear=None):
    coefficients = np.array([[0.0], [sign]])
    front = Affine.identity(d) if linear is None else Affine(linear, np.zeros(len(linear)))
    return Radial(gamma, np.zeros((1, len(front.shift))), coefficients, np.zeros(2), front)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("s", [0.0, 0.3, 0.5, 1.5, 4.0])
def test_curvature_of_one_gaussian_is_its_largest_hessian(s, sign):
    """In ℓ2 the bound is attained at every radius, at the middle and at s = 3/2 among others."""
    view = one_centre(2, sign=sign)
    r = np.sqrt(s / 0.5)
    rows = np.array([[r, 0.0]])
    for radius in (0.0, 0.1, 1.0, np.inf):
        t = 0.5 * np.linspace(max(r - radius, 0), min(r + radius, 20), 20_001) ** 2
        exact = np.maximum(np.exp(-t), np.abs(np.exp(-t) * (2 * t - 1))).max()
        bound = view.at(rows, 2).curvature(*columns(rows, 1, 0), np.array([radius]))
        assert bound >= exact
        np.testing.assert_allclose(bound, exact, rtol=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_curvature_in_the_middle_is_attained_in_every_norm(norm):
    for linear, stretch in ((None, {1: 1, 2: 1, np.inf: 3}), (np.full(3, 2.0), {1: 4, 2: 4})):
        if norm not in stretch:
            continue
        rows = np.zeros((1, 3))
        view = one_centre(3, linear=linear)
        bound = view.at(rows, norm).curvature(*columns(rows, 1, 0), np.zeros(1))
        np.testing.assert_allclose(bound, stretch[norm], rtol=1e-10)
        hessian = -stretch[2] * np.eye(3)
        np.testing.assert_allclose(bound, hessian_norm(hessian, norm), rtol=1e-10)


@pytest.mark.parametrize("norm", NORMS)
def test_a_ball_reaches_as_far_as_the_front_stretches_it(norm):
    """From here a step of this length leads to the middle, where the curvature is largest."""
    view = one_centre(3, linear=np.full(3, 5.0))
    step = np.array([0.5, 0.5, 0.5]) if norm == np.inf else np.array([0.5, 0, 0])
    bound = view.at(step[None], norm).curvature(*columns([0], 1, 0), np.array([0.5]))
    np.testing.assert_allclose(bound, {1: 25, 2: 25, np.inf: 75}[norm], rtol=1e-10)


@pytest.mark.parametrize("norm", NORMS)
def test_degree_2_has_one_constant_that_is_its_hessian(norm):
    X, y = blobs(2)
    model = machine("poly2").fit(X, y)
    vectors, dual_coef = model.support_vectors_, model.dual_coef_[0]
    hessian = 2 * 0.3**2 * (vectors.T * dual_coef) @ vectors
    expansion, ends = as_kernel(model, 3).at(X[:3], norm), columns(X[:3], 1, 0)
    for radius in (0.0, 1.0, np.inf):
        bound = expansion.curvature(*ends, np.full(3, radius))
        assert (bound >= hessian_norm(hessian, norm)).all()
        if norm != np.inf:
            np.testing.assert_allclose(bound, hessian_norm(hessian, norm), rtol=1e-11)


def test_degree_3_has_no_constant_of_all_space_and_degree_1_needs_none():
    X, y = blobs(2)
    ends, inf = columns(X, 1, 0), np.full(len(X), np.inf)
    cubic = as_kernel(machine("poly3").fit(X, y), 3).at(X, 2)
    assert (cubic.curvature(*ends, inf) == np.inf).all()
    assert np.isfinite(cubic.curvature(*ends, np.full(len(X), 1e3))).all()
    straight = as_kernel(SVC(kernel="poly", degree=1).fit(X, y), 3).at(X, 2)
    assert (straight.curvature(*ends, inf) == 0).all()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("family", FAMILIES)
def test_slope_bounds_every_gradient(family, norm):
    X, y = blobs(3)
    view = as_kernel(make_pipeline(StandardScaler(), machine(family)).fit(X, y), 3)
    rows = far_and_near(X, 2000)
    expansion, ends = view.at(rows, norm), columns(rows, 2, 1)
    lengths = np.linalg.norm(expansion.gradient(*ends), dual(norm), axis=1)
    assert (lengths <= expansion.slope(*ends)).all()
    if family == "linear":
        np.testing.assert_allclose(lengths, expansion.slope(*ends), rtol=1e-9)
    assert (expansion.slope(*ends) == np.inf).all() == family.startswith("poly")


@pytest.mark.parametrize("norm", NORMS)
def test_slope_of_one_gaussian_is_attained(norm):
    """Behind a front of factor 5, one unit from the middle: 1/sqrt(2 gamma)."""
    view = one_centre(3, linear=np.full(3, 5.0))
    rows = np.array([[1.0, 1, 1]]) / np.sqrt(75) if norm == np.inf else np.eye(1, 3) / 5
    expansion, ends = view.at(rows, norm), columns(rows, 1, 0)
    lengths = np.linalg.norm(expansion.gradient(*ends), dual(norm), axis=1)
    np.testing.assert_allclose(lengths, expansion.slope(*ends), rtol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_slope_of_one_sigmoid_is_attained(norm):
    inner = Linear.plain(np.array([[3.0, -4.0]]), np.zeros(1))
    view = Ridge(None, inner, np.array([[0.0], [-2.0]]), np.zeros(2))
    rows = np.zeros((1, 2))
    slope = view.at(rows, norm).slope(*columns(rows, 1, 0))
    np.testing.assert_allclose(slope, 2 * np.linalg.norm([3, 4], dual(norm)), rtol=1e-12)


@pytest.mark.parametrize("family", ["rbf", "poly2", "sigmoid"])
def test_a_machine_without_coefficients_is_flat(family):
    X, y = blobs(3)
    view = as_kernel(machine(family).fit(X, y), 3)
    expansion, ends = view.at(X, np.inf), columns(X, 1, 1)
    for radius in (0.0, 1.0, np.inf):
        assert (expansion.curvature(*ends, np.full(len(X), radius)) < 1e-300).all()
    np.testing.assert_array_equal(expansion.slope(*ends), 0)


# Rounding.


def exact_scores(svc, centre, scale, X):
    """Scores and gradients of the function the floats describe, in longer ones."""
    long = np.longdouble
    features = (X.astype(long) - centre) / scale
    vectors, c = svc.support_vectors_.astype(long), svc.dual_coef_[0].astype(long)
    gamma, coef0, degree = long(svc.gamma), long(svc.coef0), svc.degree
    steps = features[:, None] - vectors
    u = gamma * features @ vectors.T + coef0
    if svc.kernel == "rbf":
        kernel = np.exp(-gamma * (steps**2).sum(axis=2))
        gradient = -2 * gamma * ((c * kernel)[:, :, None] * steps).sum(axis=1)
    elif svc.kernel == "linear":
        kernel, gradient = features @ vectors.T, np.tile(c @ vectors, (len(X), 1))
    elif svc.kernel == "poly":
        kernel, gradient = u**degree, gamma * degree * (c * u ** (degree - 1)) @ vectors
    else:
        kernel, gradient = np.tanh(u), gamma * (c * (1 - np.tanh(u) ** 2)) @ vectors
    return kernel @ c + long(svc.intercept_[0]), gradient / scale


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_rounding_is_within_its_bound(family, scaled, offset, norm):
    X, y = blobs(2, n=60)
    X = X + offset
    front = StandardScaler() if scaled else StandardScaler(with_mean=False, with_std=False)
    svc = machine(family, max_iter=1000)
    model = make_pipeline(front, svc).fit(X, y)
    centre, scale = (front.mean_, front.scale_) if scaled else (np.zeros(3), np.ones(3))
    rows = far_and_near(X)
    expansion = as_kernel(model, 3).at(rows, norm)
    scores, gradient = exact_scores(svc, centre, scale, rows)
    score_error, gradient_error = expansion.rounding()
    assert (np.abs(expansion.scores[:, 1] - scores) <= score_error).all()
    gaps = expansion.gradient(*columns(rows, 1, 0)) - gradient
    assert (np.linalg.norm(gaps.astype(float), dual(norm), axis=1) <= gradient_error).all()
    if offset == 0:
        assert score_error.max() <= 1e-9 * np.abs(scores).max()


@pytest.mark.parametrize("offset", [1e3, 1e6])
def test_distances_keep_their_digits_at_large_offsets(offset):
    """Differences of rows, not of their squares: nothing of the bounds is lost there."""
    X, y = blobs(2)
    X = np.round(X * 2**10) / 2**10  # exact at every offset
    near = as_kernel(SVC(gamma=0.5).fit(X, y), 3)
    far = Radial(near.gamma, near.vectors + offset, near.coefficients, near.offsets, near.front)
    ends, radius = columns(X, 1, 0), np.full(len(X), 0.1)
    here, there = near.at(X, 2), far.at(X + offset, 2)
    np.testing.assert_array_equal(here.scores, there.scores)
    for name in ("gradient", "slope"):
        a, b = (getattr(expansion, name)(*ends) for expansion in (here, there))
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(
        here.curvature(*ends, radius), there.curvature(*ends, radius), rtol=1e-12
    )


@pytest.mark.parametrize("norm", NORMS)
def test_extreme_rows_give_no_nan(norm):
    X, y = blobs(2)
    rows = np.array([[0.0, 0, 0], [1e100, -1e100, 0], [1e200, 0, 0]])
    for family in ("rbf", "sigmoid", "linear"):
        view = as_kernel(machine(family).fit(X, y), 3)
        expansion, ends = view.at(rows, norm), columns(rows, 1, 0)
        for radius in (0.0, 1.0, 1e300, np.inf):
            curvature = expansion.curvature(*ends, np.full(3, radius))
            assert (curvature >= 0).all()
        assert not np.isnan(expansion.gradient(*ends)).any()
        for error in expansion.rounding():
            assert (error >= 0).all()
