"""Transformers as affine maps: against their own ``transform``, and norms against brute force."""

import numpy as np
import pytest
from sklearn.decomposition import PCA, KernelPCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.utils.validation import check_is_fitted

from smoothlearn.views.affine import Affine, as_affine, compose, split_affine

N_FEATURES = 5
NORMS = (1, 2, np.inf)


@pytest.fixture
def X():
    """60 rows of five columns of other locations and scales; the last one is constant."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, N_FEATURES)) @ rng.standard_normal((N_FEATURES, N_FEATURES))
    X = X * [1e-3, 1.0, 40.0, 1e4, 0.0] + [0.0, -3.0, 1e3, 5.0, 2.0]
    return X


AFFINE = {
    "standard": StandardScaler(),
    "standard-mean": StandardScaler(with_std=False),
    "standard-std": StandardScaler(with_mean=False),
    "standard-neither": StandardScaler(with_mean=False, with_std=False),
    "robust": RobustScaler(),
    "robust-centre": RobustScaler(with_scaling=False),
    "robust-scale": RobustScaler(with_centering=False),
    "robust-neither": RobustScaler(with_centering=False, with_scaling=False),
    "robust-quantiles": RobustScaler(quantile_range=(10.0, 70.0)),
    "robust-unit-variance": RobustScaler(unit_variance=True),
    "max-abs": MaxAbsScaler(),
    "min-max": MinMaxScaler(),
    "min-max-range": MinMaxScaler(feature_range=(-3.0, 0.5)),
    "pca": PCA(),
    "pca-two": PCA(2),
    "pca-variance": PCA(0.99),
    "pca-whiten": PCA(3, whiten=True),
    "pca-arpack": PCA(2, svd_solver="arpack", random_state=0),
    "identity": FunctionTransformer(),
    "identity-options": FunctionTransformer(validate=True, kw_args={}),
    "passthrough": Pipeline([("same", "passthrough")]),
    "none": Pipeline([("same", None), ("scale", StandardScaler())]),
    "pipeline": make_pipeline(RobustScaler(), PCA(3), StandardScaler()),
    "nested": make_pipeline(make_pipeline(StandardScaler(), "passthrough"), PCA(2, whiten=True)),
    "two-pca": make_pipeline(StandardScaler(), PCA(4), MinMaxScaler(), PCA(2)),
}
NOT_AFFINE = {
    "clip": MinMaxScaler(clip=True),
    "function": FunctionTransformer(np.log1p),
    "function-identity": FunctionTransformer(lambda X: X),
    "quantile": QuantileTransformer(n_quantiles=10),
    "power": PowerTransformer(),
    "normalizer": Normalizer(),
    "polynomial": PolynomialFeatures(),
    "kernel-pca": KernelPCA(2),
    "pipeline": make_pipeline(StandardScaler(), Normalizer(), StandardScaler()),
    "nested": make_pipeline(StandardScaler(), make_pipeline(MinMaxScaler(clip=True))),
}


@pytest.mark.parametrize("name", AFFINE)
@pytest.mark.parametrize("frozen", [False, True])
def test_known_transformers_are_their_transform(name, frozen, X):
    transformer = AFFINE[name].fit(X)
    affine = as_affine(FrozenEstimator(transformer) if frozen else transformer, N_FEATURES)
    rng = np.random.default_rng(1)
    probes = np.concatenate([X, rng.standard_normal((20, N_FEATURES)) * 1e3])
    expected = transformer.transform(probes)
    size = np.abs(expected).max(axis=0)
    np.testing.assert_allclose(affine(probes) / size, expected / size, atol=1e-9)
    differences = expected[1:] - expected[:-1]
    linear = affine.apply_linear(probes[1:] - probes[:-1])
    np.testing.assert_allclose(linear / size, differences / size, atol=1e-9)


def test_frozen_search_in_a_frozen_pipeline(X):
    pipeline = FrozenEstimator(make_pipeline(FrozenEstimator(StandardScaler().fit(X)), PCA(2)))
    pipeline.estimator.fit(X)
    expected = pipeline.transform(X)
    np.testing.assert_allclose(as_affine(pipeline, N_FEATURES)(X), expected, atol=1e-9)


@pytest.mark.parametrize("step", ["passthrough", None])
def test_passthrough_is_the_identity(step, X):
    np.testing.assert_array_equal(as_affine(step, N_FEATURES)(X), X)


@pytest.mark.parametrize("name", NOT_AFFINE)
def test_other_transformers_are_refused(name, X):
    X = np.abs(X)
    transformer = NOT_AFFINE[name].fit(X, np.arange(len(X)) % 2)
    assert as_affine(transformer, N_FEATURES) is None
    assert as_affine(FrozenEstimator(transformer), N_FEATURES) is None


class ClippedScaler(StandardScaler):
    def transform(self, X):
        return np.clip(super().transform(X), -1, 1)


class DoubledPCA(PCA):
    def transform(self, X):
        return 2 * super().transform(X)


@pytest.mark.parametrize("transformer", [ClippedScaler(), DoubledPCA()])
def test_a_subclass_may_do_something_else_and_is_refused(transformer, X):
    assert as_affine(transformer.fit(X), N_FEATURES) is None


def test_compose_applies_the_first_one_first(X):
    steps = [StandardScaler().fit(X)]
    steps.append(PCA(3).fit(steps[0].transform(X)))
    expected = steps[1].transform(steps[0].transform(X))
    np.testing.assert_allclose(compose(steps, N_FEATURES)(X), expected, atol=1e-9)
    assert compose([], N_FEATURES).operator_norm(2) == pytest.approx(1, rel=1e-13)
    assert compose([steps[0], Normalizer()], N_FEATURES) is None


def random_affine(rng, diagonal, n_in, n_out):
    linear = rng.standard_normal(n_in if diagonal else (n_out, n_in))
    return Affine(linear, rng.standard_normal(n_in if diagonal else n_out))


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("second", [True, False])
def test_then_is_composition(first, second):
    rng = np.random.default_rng(2)
    inner = random_affine(rng, first, 4, 4 if first else 3)
    outer = random_affine(rng, second, inner.shift.size, inner.shift.size if second else 2)
    probes = rng.standard_normal((10, 4))
    both = inner.then(outer)
    np.testing.assert_allclose(both(probes), outer(inner(probes)), atol=1e-13)
    weights = rng.standard_normal((2, both.shift.size))
    expected = both.apply_linear(probes) @ weights.T
    np.testing.assert_allclose(probes @ both.pull_back(weights).T, expected, atol=1e-13)


def maximisers(matrix, norm):
    """Vectors among which one attains the operator norm."""
    n_features = matrix.shape[1]
    if norm == 1:
        return np.eye(n_features)
    if norm == np.inf:
        grid = np.indices((2,) * n_features).reshape(n_features, -1).T
        return 2.0 * grid - 1
    eigenvalues, vectors = np.linalg.eigh(matrix.T @ matrix)
    return vectors[:, [eigenvalues.argmax()]].T


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("diagonal", [True, False])
def test_operator_norms_are_the_largest_stretch(norm, diagonal):
    rng = np.random.default_rng(3)
    for _ in range(30):
        n_in, n_out = rng.integers(1, 7, size=2)
        affine = random_affine(rng, diagonal, n_in, n_out)
        affine = Affine(affine.linear * 10 ** rng.uniform(-4, 4, n_in), affine.shift)
        matrix = affine.apply_linear(np.eye(n_in)).T
        vectors = np.concatenate([rng.standard_normal((500, n_in)), maximisers(matrix, norm)])
        stretch = np.linalg.norm(vectors @ matrix.T, norm, axis=1)
        stretch = (stretch / np.linalg.norm(vectors, norm, axis=1)).max()
        claimed = affine.operator_norm(norm)
        assert stretch <= claimed <= stretch * (1 + 1e-10)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", AFFINE)
def test_operator_norms_of_transformers_are_never_below_a_stretch(name, norm, X):
    transformer = AFFINE[name].fit(X)
    rng = np.random.default_rng(4)
    near = X + rng.standard_normal(X.shape) * 10 ** rng.uniform(-3, 3, N_FEATURES)
    moved = np.linalg.norm(transformer.transform(near) - transformer.transform(X), norm, axis=1)
    stretch = (moved / np.linalg.norm(near - X, norm, axis=1)).max()
    assert stretch <= as_affine(transformer, N_FEATURES).operator_norm(norm) * (1 + 1e-9)


def test_norms_at_the_edges():
    assert Affine(np.zeros(0), np.zeros(0)).operator_norm(2) == 0
    assert Affine(np.zeros((2, 3)), np.zeros(2)).operator_norm(2) == 0
    assert Affine(np.zeros(3), np.ones(3)).operator_norm(np.inf) == 0


def test_split_finds_the_final_estimator_behind_affine_steps(X):
    y = np.arange(len(X)) % 2
    scaler, pca = StandardScaler(), PCA(2)
    inner = make_pipeline(pca, LogisticRegression())
    search = GridSearchCV(make_pipeline(scaler, inner), {"pipeline__pca__n_components": [2]}, cv=2)
    model = make_pipeline(MinMaxScaler(), FrozenEstimator(search.fit(X, y))).fit(X, y)
    front, final = split_affine(model, N_FEATURES)
    assert isinstance(final, LogisticRegression)
    check_is_fitted(final)
    behind = front(model[0].inverse_transform(X))
    np.testing.assert_allclose(final.decision_function(behind), search.decision_function(X))


def test_split_without_steps_and_behind_others(X):
    y = np.arange(len(X)) % 2
    model = LogisticRegression()
    front, final = split_affine(model, N_FEATURES)
    assert final is model
    np.testing.assert_array_equal(front(X), X)
    assert split_affine(make_pipeline(Normalizer(), model).fit(X, y), N_FEATURES) is None
    inner = make_pipeline(MinMaxScaler(clip=True), model)
    assert split_affine(make_pipeline(StandardScaler(), inner).fit(X, y), N_FEATURES) is None
