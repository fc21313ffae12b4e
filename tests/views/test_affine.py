"""Transformers as affine maps: against their own ``transform``, and norms against brute force."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.decomposition import PCA, KernelPCA
from sklearn.feature_selection import (
    RFE,
    RFECV,
    GenericUnivariateSelect,
    SelectFdr,
    SelectFpr,
    SelectFromModel,
    SelectFwe,
    SelectKBest,
    SelectorMixin,
    SelectPercentile,
    SequentialFeatureSelector,
    VarianceThreshold,
)
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier
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
from sklearn.utils import all_estimators
from sklearn.utils.validation import check_is_fitted

from smoothlearn.views.affine import Affine, as_affine, compose, split_affine

N_FEATURES = 5
NAMES = list("abcde")
NORMS = (1, 2, np.inf)
Y = np.arange(60) % 2


def spread(X, y):
    """Scores and p-values by which columns 1, 2 and 3 of the data below are selected."""
    deviation = np.std(X, axis=0)
    return deviation, np.where(deviation > 0.5, 0.0, 1.0)


@pytest.fixture
def X():
    """60 rows of five columns of other locations and scales; the last one is constant."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, N_FEATURES)) @ rng.standard_normal((N_FEATURES, N_FEATURES))
    X = X * [1e-3, 1.0, 40.0, 1e4, 0.0] + [0.0, -3.0, 1e3, 5.0, 2.0]
    return X


RIDGE = RidgeClassifier()
SELECTORS = {
    "variance": VarianceThreshold(0.5),
    "k-best": SelectKBest(spread, k=3),
    "percentile": SelectPercentile(spread, percentile=40),
    "fpr": SelectFpr(spread),
    "fdr": SelectFdr(spread),
    "fwe": SelectFwe(spread),
    "generic": GenericUnivariateSelect(spread, mode="k_best", param=2),
    "from-model": SelectFromModel(RIDGE, max_features=2, threshold=-np.inf),
    "rfe": RFE(RIDGE, n_features_to_select=2),
    "rfecv": RFECV(RIDGE, cv=2, min_features_to_select=2),
    "sequential": SequentialFeatureSelector(RIDGE, n_features_to_select=2, cv=2),
}
INNER = ColumnTransformer([("scale", StandardScaler(), [1])], remainder=PCA(1))
COLUMNS = {
    "columns": ColumnTransformer([("scale", StandardScaler(), [3, 0]), ("pca", PCA(1), [1, 2, 4])]),
    "columns-same": ColumnTransformer([("last", "passthrough", [-1]), ("two", "passthrough", [2])]),
    "columns-drop": ColumnTransformer(
        [("none", "drop", [1]), ("two", PCA(2), slice(2, 5))], remainder="passthrough"
    ),
    "columns-remainder": ColumnTransformer(
        [("min-max", MinMaxScaler(), [False, True, False, True, False])], remainder=PCA(2)
    ),
    "columns-weights": ColumnTransformer(
        [("one", PCA(2), slice(0, 3)), ("two", RobustScaler(), [3]), ("three", "passthrough", [4])],
        transformer_weights={"one": -3.0, "three": 0.5, "two": None, "unknown": 7.0},
    ),
    "columns-remainder-weight": ColumnTransformer(
        [("one", "passthrough", [3])],
        remainder=StandardScaler(),
        transformer_weights={"remainder": 10},
    ),
    "columns-shared": ColumnTransformer(
        [("same", "passthrough", [1, 1, 0]), ("max", MaxAbsScaler(), [1]), ("pca", PCA(1), [2, 1])]
    ),
    "columns-empty": ColumnTransformer(
        [
            ("list", StandardScaler(), []),
            ("mask", PCA(), [False] * N_FEATURES),
            ("slice", "passthrough", slice(2, 2)),
            ("drop", "drop", 3),
            ("two", "passthrough", lambda X: [2, 1]),
        ]
    ),
    "columns-pipeline": ColumnTransformer(
        [
            ("pipe", make_pipeline(StandardScaler(), PCA(2, whiten=True)), [4, 2, 0]),
            ("frozen", FrozenEstimator(StandardScaler().fit([[0.0], [4.0]])), [1]),
            ("pick", make_pipeline("passthrough", SelectKBest(spread, k=1)), [1, 3]),
        ]
    ),
    "columns-nested": ColumnTransformer(
        [("inner", INNER, [4, 3, 0]), ("robust", RobustScaler(), [2])]
    ),
    "columns-pca": make_pipeline(
        ColumnTransformer([("scale", StandardScaler(), [2, 3])], remainder="passthrough"),
        VarianceThreshold(),
        PCA(3),
        ColumnTransformer([("one", MinMaxScaler(), [2, 0])]),
        StandardScaler(),
    ),
}
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
    "selected": make_pipeline(StandardScaler(), VarianceThreshold(), PCA(2)),
    **SELECTORS,
    **COLUMNS,
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
    "columns": ColumnTransformer(
        [("scale", StandardScaler(), [0]), ("bend", Normalizer(), [1, 2])]
    ),
    "columns-clip": ColumnTransformer([("clip", MinMaxScaler(clip=True), [0])]),
    "columns-remainder": ColumnTransformer([("same", "passthrough", [0])], remainder=Normalizer()),
    "columns-new": ColumnTransformer(
        [("new", FunctionTransformer(lambda X: np.ones((len(X), 1))), slice(0, 0))]
    ),
}


@pytest.mark.parametrize("name", AFFINE)
@pytest.mark.parametrize("frozen", [False, True])
def test_known_transformers_are_their_transform(name, frozen, X):
    transformer = AFFINE[name].fit(X, Y)
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
    transformer = NOT_AFFINE[name].fit(X, Y)
    assert as_affine(transformer, N_FEATURES) is None
    assert as_affine(FrozenEstimator(transformer), N_FEATURES) is None


class ClippedScaler(StandardScaler):
    def transform(self, X):
        return np.clip(super().transform(X), -1, 1)


class DoubledPCA(PCA):
    def transform(self, X):
        return 2 * super().transform(X)


class DoubledSelection(SelectKBest):
    def transform(self, X):
        return 2 * super().transform(X)


class OwnSelector(SelectorMixin, BaseEstimator):
    def fit(self, X, y):
        self.n_features_in_ = X.shape[1]
        return self

    def _get_support_mask(self):
        return np.ones(self.n_features_in_, dtype=bool)

    def transform(self, X):
        return np.abs(super().transform(X))


class DoubledColumns(ColumnTransformer):
    def transform(self, X):
        return 2 * super().transform(X)


SUBCLASSES = [
    ClippedScaler(),
    DoubledPCA(),
    DoubledSelection(spread, k=2),
    OwnSelector(),
    DoubledColumns([("same", "passthrough", [0, 1])]),
    ColumnTransformer([("turn", DoubledPCA(), [0, 1])]),
]


@pytest.mark.parametrize("transformer", SUBCLASSES)
def test_a_subclass_may_do_something_else_and_is_refused(transformer, X):
    assert as_affine(transformer.fit(X, Y), N_FEATURES) is None


def test_every_selector_of_scikit_learn_is_tested_here():
    kinds = {kind for _, kind in all_estimators("transformer") if issubclass(kind, SelectorMixin)}
    assert kinds == {type(selector) for selector in SELECTORS.values()}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", SELECTORS)
def test_a_selector_copies_columns_and_stretches_nothing(name, norm, X):
    selector = SELECTORS[name].fit(X, Y)
    affine = as_affine(selector, N_FEATURES)
    np.testing.assert_array_equal(affine(X), selector.transform(X))
    assert affine.shift.size in (2, 3)
    assert 1 <= affine.operator_norm(norm) < 1 + 1e-12


def test_a_map_to_no_columns_is_constant(X):
    selector = VarianceThreshold(0.5).fit(X)
    selector.threshold = 1e99
    dropped = ColumnTransformer([("all", "drop", slice(0, 5))]).fit(X)
    for transformer in (selector, dropped):
        affine = as_affine(transformer, N_FEATURES)
        assert affine(X).shape == (len(X), 0)
        assert [affine.operator_norm(norm) for norm in NORMS] == [0, 0, 0]
    parts = [("one", "passthrough", [1]), ("none", FrozenEstimator(selector), slice(0, 5))]
    with pytest.warns(UserWarning, match="No features were selected"):
        columns = ColumnTransformer(parts).fit(X)
    np.testing.assert_array_equal(as_affine(columns, N_FEATURES)(X), X[:, [1]])


def as_frame(library, X):
    return X if library is None else library.DataFrame(dict(zip(NAMES, X.T, strict=True)))


KEYS = {
    "list": [3, 0],
    "tuple": (4, 1),
    "array": np.array([2, 4]),
    "negative": [-1, 0],
    "mask": [True, False, False, True, False],
    "mask-array": np.array([False, True, True, False, False]),
    "slice": slice(1, 3),
    "slice-from": slice(3, None),
    "slice-to": slice(None, -2),
    "slice-step": slice(0, 5, 3),
    "callable": lambda X: [2, 1],
}
NAMED_KEYS = {
    "names": ["d", "a"],
    "name-array": np.array(["c", "e"], dtype=object),
    "name-index": pd.Index(["b", "a"]),
    "name-slice": slice("b", "d"),
    "name-slice-from": slice("d", None),
    "name-slice-to": slice(None, "c"),
    "all": slice(None),
}
PANDAS_KEYS = {
    "name-slice-empty": slice("d", "c"),
    "name-callable": make_column_selector("[ad]"),
}
ALL_KEYS = KEYS | NAMED_KEYS | PANDAS_KEYS


@pytest.mark.parametrize(
    ("library", "key"),
    [(None, key) for key in KEYS]
    + [(pl, key) for key in KEYS | NAMED_KEYS]
    + [(pd, key) for key in ALL_KEYS],
)
@pytest.mark.parametrize("remainder", ["drop", "passthrough", StandardScaler()])
def test_every_key_of_columns(library, key, remainder, X):
    columns = ColumnTransformer([("part", "passthrough", ALL_KEYS[key])], remainder=remainder).fit(
        as_frame(library, X)
    )
    expected = columns.transform(as_frame(library, X))
    affine = as_affine(columns, N_FEATURES)
    np.testing.assert_allclose(affine(X), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("library", "key"), [(None, 1), (pd, "b"), (pl, "b")])
def test_a_dropped_column_may_be_a_single_one(library, key, X):
    columns = ColumnTransformer([("one", "drop", key)], remainder="passthrough")
    columns.fit(as_frame(library, X))
    np.testing.assert_array_equal(as_affine(columns, N_FEATURES)(X), X[:, [0, 2, 3, 4]])


@pytest.mark.parametrize("output", ["pandas", "polars"])
def test_names_between_steps(output, X):
    X = X[:, [1, 0, 4, 3, 2]] / 10
    first = ColumnTransformer([("turn", PCA(2), ["e", "a"])], remainder=StandardScaler())
    first.set_params(verbose_feature_names_out=False)
    second = ColumnTransformer([("two", MinMaxScaler(), ["b", "pca1"]), ("one", "drop", ["d"])])
    pipeline = make_pipeline(first, second).set_output(transform=output).fit(as_frame(pd, X))
    expected = np.asarray(pipeline.transform(as_frame(pd, X)))
    np.testing.assert_allclose(as_affine(pipeline, N_FEATURES)(X), expected, atol=1e-12)


def test_sparse_columns_are_as_affine_as_others(X):
    X[::2] = 0
    columns = ColumnTransformer([("scale", MaxAbsScaler(), [1, 3])], sparse_threshold=1)
    expected = columns.fit(sp.csr_array(X)).transform(sp.csr_array(X)).toarray()
    np.testing.assert_allclose(as_affine(columns, N_FEATURES)(X), expected, rtol=1e-12)


def test_other_columns_than_were_fitted_have_no_map(X):
    columns = ColumnTransformer([("one", "passthrough", ["b"])]).fit(as_frame(pd, X))
    assert as_affine(columns, N_FEATURES) is not None
    assert as_affine(columns, N_FEATURES + 1) is None


def random_columns(rng, n_features, depth=0):
    """A ColumnTransformer of random parts on random columns, which may repeat and overlap."""
    steps = [
        "passthrough",
        "drop",
        StandardScaler(),
        PCA(1),
        SelectKBest(spread, k=1),
        make_pipeline(MinMaxScaler(), PCA(1, whiten=True)),
    ]
    parts = [("same", "passthrough", rng.permutation(n_features)[:2])]
    for number in range(rng.integers(1, 5)):
        columns = rng.integers(n_features, size=rng.integers(1, 6))
        step = steps[rng.integers(len(steps))]
        if depth < 2 and rng.random() < 0.3:
            step = random_columns(rng, len(columns), depth + 1)
        parts.append((f"part{number}", step, columns))
    names = [*(name for name, _, _ in parts), "remainder"]
    weights = {name: rng.normal() for name in names if rng.random() < 0.5}
    remainder = ["drop", "passthrough", StandardScaler()][rng.integers(3)]
    return ColumnTransformer(parts, remainder=remainder, transformer_weights=weights)


@pytest.mark.parametrize("seed", range(60))
def test_random_columns_are_their_transform_and_their_norm(seed):
    rng = np.random.default_rng(seed)
    n_features = rng.integers(1, 7)
    X = rng.normal(size=(12, n_features)) + rng.normal(size=n_features)
    columns = random_columns(rng, n_features).fit(X, np.arange(12) % 2)
    affine = as_affine(columns, n_features)
    expected = columns.transform(X)
    size = np.abs(expected).max(axis=0) + 1
    np.testing.assert_allclose(affine(X) / size, expected / size, rtol=0, atol=1e-12)
    origin = np.zeros((1, n_features))
    matrix = (columns.transform(np.eye(n_features)) - columns.transform(origin)).T
    for norm in NORMS:
        stretch = np.linalg.norm(matrix, norm)
        assert stretch * (1 - 1e-12) <= affine.operator_norm(norm) <= stretch * (1 + 1e-9)
        moved = np.linalg.norm(np.diff(expected, axis=0), norm, axis=1)
        apart = np.linalg.norm(np.diff(X, axis=0), norm, axis=1)
        assert (moved <= affine.operator_norm(norm) * apart * (1 + 1e-12)).all()
    sizes = affine.absolute()
    assert (sizes.linear >= np.abs(affine.linear) * (1 - 1e-12)).all()
    assert (sizes.shift >= np.abs(affine.shift) * (1 - 1e-12)).all()


def test_sizes_of_parts_are_those_of_their_sums():
    """Components and means whose products cancel: the entries hide how large the terms are."""
    rng = np.random.default_rng(0)
    X = np.outer(rng.normal(size=30), [1, -1, 2]) + 1e-3 * rng.normal(size=(30, 3)) + [1e6, 1e6, 0]
    pca = PCA(2).fit(X[:, [1, 0]])
    parts = [("first", FrozenEstimator(pca), [1, 0]), ("last", StandardScaler(), [2])]
    columns = ColumnTransformer(parts, transformer_weights={"first": -2}).fit(X)
    affine = as_affine(columns, 3)
    terms = 2 * np.abs(pca.components_)
    np.testing.assert_allclose(affine.absolute().linear[:2, [1, 0]], terms)
    np.testing.assert_allclose(affine.absolute().shift[:2], terms @ np.abs(pca.mean_))
    assert affine.absolute().shift[0] > 1e3 * abs(affine.shift[0])
    outer = PCA(1).fit(columns.transform(X))
    both = as_affine(make_pipeline(columns, outer), 3)
    expected = np.abs(outer.components_[:, :2]) @ terms
    np.testing.assert_allclose(both.absolute().linear[:, [1, 0]], expected)


def test_sizes_grow_where_columns_are_repeated():
    """Their readers multiply by the number of inputs, and the sums have more terms."""
    X = np.random.default_rng(0).normal(size=(50, 2))
    many = ColumnTransformer([("many", "passthrough", [0] * 40)]).fit(X)
    np.testing.assert_array_equal(as_affine(many, 2).absolute().linear[:, 0], 20)
    inside = make_pipeline(StandardScaler(), PCA(1))
    one = as_affine(ColumnTransformer([("many", inside, [0] * 40)]).fit(X), 2)
    assert one.absolute().linear[0, 0] >= 20 * abs(one.linear[0, 0]) > 0
    parts = [("nested", many, [0, 1]), ("other", "passthrough", [1])]
    nested = as_affine(ColumnTransformer(parts).fit(X), 2)
    assert nested.absolute().linear[-1, 1] == 20.5


@pytest.mark.parametrize("norm", NORMS)
def test_one_entry_a_row_and_column_leaves_little_to_rounding(norm):
    affine = Affine(np.array([[0.0, -3.0, 0.0], [2.0, 0.0, 0.0]]), np.zeros(2))
    assert 3 < affine.operator_norm(norm) < 3 * (1 + 1e-13)
    cancelled = Affine(np.ones((2, 1)), np.zeros(2)).then(
        Affine(np.array([[1e9, -1e9]]), np.zeros(1))
    )
    assert cancelled.linear == 0
    assert cancelled.operator_norm(norm) > 1e9 * np.finfo(float).eps
    sizes = Affine(np.array([[1.0, 1e14], [1e14, 1.0]]), np.zeros(2))
    rest = Affine(np.eye(2), np.zeros(2), sizes)  # the others are zero but for their rounding
    assert rest.operator_norm(norm) > 1 + 1e14 * np.finfo(float).eps


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
    transformer = AFFINE[name].fit(X, Y)
    rng = np.random.default_rng(4)
    near = X + rng.standard_normal(X.shape) * 10 ** rng.uniform(-3, 3, N_FEATURES)
    moved = np.linalg.norm(transformer.transform(near) - transformer.transform(X), norm, axis=1)
    stretch = (moved / np.linalg.norm(near - X, norm, axis=1)).max()
    assert stretch <= as_affine(transformer, N_FEATURES).operator_norm(norm) * (1 + 1e-9)


def test_norms_at_the_edges():
    assert Affine(np.zeros(0), np.zeros(0)).operator_norm(2) == 0
    assert Affine(np.zeros((2, 3)), np.zeros(2)).operator_norm(2) == 0
    assert Affine(np.zeros(3), np.ones(3)).operator_norm(np.inf) == 0
    assert [Affine(np.zeros((0, 3)), np.zeros(0)).operator_norm(norm) for norm in NORMS] == [0] * 3


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
