"""certify through pipelines, searches and frozen estimators, in the units asked for."""

from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, Normalizer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from smoothlearn import Certificate, RandomizedSmoothingClassifier, certify


def smoother(estimator=None, **params):
    """Exact by default; with a tree as base, from few draws."""
    return RandomizedSmoothingClassifier(
        LogisticRegression() if estimator is None else estimator,
        **{"n_draws": 20, "n_certify_draws": 200, "random_state": 0} | params,
    )


@pytest.fixture
def data(two_blobs):
    X, y = two_blobs
    return X * [1.0, 50.0] + [3.0, 200.0], np.array(["no", "yes"])[y]


def wrap(how, scaler, final, X, y):
    """The scaler and the smoother in an object that certify has to see through."""
    pipeline = Pipeline([("scale", scaler), ("smooth", final)])
    if how == "pipeline":
        return pipeline.fit(X, y)
    if how == "nested":
        return make_pipeline("passthrough", make_pipeline(scaler, make_pipeline(final))).fit(X, y)
    if how == "leading":
        return make_pipeline(make_pipeline(None, scaler), final).fit(X, y)
    if how == "frozen":
        return FrozenEstimator(pipeline.fit(X, y))
    if how == "frozen-parts":
        frozen = FrozenEstimator(scaler.fit(X))
        final.fit(scaler.transform(X), y)
        return make_pipeline(frozen, FrozenEstimator(final)).fit(X, y)
    if how == "search":
        return GridSearchCV(pipeline, {"smooth__sigma": [0.5]}, cv=2, error_score="raise").fit(X, y)
    grid = {"sigma": [0.5]}
    return make_pipeline(scaler, GridSearchCV(final, grid, cv=2, error_score="raise")).fit(X, y)


WRAPPINGS = ["pipeline", "nested", "leading", "frozen", "frozen-parts", "search", "inner-search"]


@pytest.mark.parametrize("how", WRAPPINGS)
@pytest.mark.parametrize("base", [LogisticRegression(), DecisionTreeClassifier(max_depth=2)])
def test_certify_walks_to_the_smoother_and_divides_by_the_stretch(how, base, data):
    X, y = data
    model = wrap(how, StandardScaler(), smoother(base), X, y)
    scaler = StandardScaler().fit(X)
    expected = smoother(base).fit(scaler.transform(X), y).certify(scaler.transform(X))
    behind = certify(model, X, units="smoother")
    np.testing.assert_array_equal(behind.label, expected.label)
    np.testing.assert_array_equal(behind.label, model.predict(X))
    np.testing.assert_array_equal(behind.abstained, expected.abstained)
    np.testing.assert_array_equal(behind.radius, expected.radius)
    assert behind.units == "smoother"
    certificate = certify(model, X)
    assert certificate.units == "input"
    np.testing.assert_array_equal(certificate.label, expected.label)
    radius = expected.radius * scaler.scale_.min()
    np.testing.assert_allclose(certificate.radius, radius, rtol=1e-9)
    assert (certificate.radius <= radius).all()
    assert certificate.radius.max() > 0
    assert certificate.scale == pytest.approx(scaler.scale_.min())
    assert certificate.confidence_level == expected.confidence_level


@pytest.mark.parametrize("frozen", [False, True])
def test_a_smoother_alone_keeps_its_units(frozen, data):
    X, y = data
    model = smoother().fit(X, y)
    expected = model.certify(X)
    for units in ("input", "smoother"):
        certificate = certify(FrozenEstimator(model) if frozen else model, X, units=units)
        np.testing.assert_array_equal(certificate.radius, expected.radius)
        assert certificate.units == units


def test_counts_go_through_and_can_be_read_again(data):
    X, y = data
    model = make_pipeline(StandardScaler(), smoother(DecisionTreeClassifier())).fit(X, y)
    certificate = certify(model, X)
    behind = certify(model, X, units="smoother")
    np.testing.assert_array_equal(certificate.counts, behind.counts)
    again = certificate.at_confidence(0.9)
    stretch = 1 / model[0].scale_.min()
    np.testing.assert_allclose(again.radius, behind.at_confidence(0.9).radius / stretch, rtol=1e-9)
    assert (again.radius >= certificate.radius).all()
    assert again.radius.sum() > certificate.radius.sum()
    assert certificate.largest_radius == pytest.approx(behind.largest_radius / stretch)


def test_number_of_features_is_that_of_the_units(three_blobs):
    X, y = three_blobs
    model = make_pipeline(StandardScaler(), PCA(2), smoother()).fit(X, y)
    assert certify(model, X[:2]).n_features == 3
    assert certify(model, X[:2], units="smoother").n_features == 2
    certificate = certify(model, X)
    ratio = certificate.to_norm(np.inf).radius / np.where(certificate.radius, certificate.radius, 1)
    np.testing.assert_allclose(ratio[certificate.radius > 0], 3**-0.5)


@pytest.mark.parametrize(
    ("step", "kind"), [(MinMaxScaler(clip=True), "MinMaxScaler"), (Normalizer(), "Normalizer")]
)
def test_a_step_that_is_not_affine_is_named(step, kind, data):
    X, y = data
    model = Pipeline([("scale", StandardScaler()), ("bend", step), ("end", smoother())]).fit(X, y)
    with pytest.raises(ValueError, match=rf"'bend' \({kind}\).*units='smoother'"):
        certify(model, X)
    with pytest.raises(ValueError, match=rf"'bend' \({kind}\)"):
        certify(model, X[:0])
    behind = certify(model, X, units="smoother")
    np.testing.assert_array_equal(behind.label, model.predict(X))


def test_other_units_are_refused(data):
    X, y = data
    with pytest.raises(ValueError, match="'input' or 'smoother', got 'metres'"):
        certify(smoother().fit(X, y), X, units="metres")


@pytest.mark.parametrize("units", ["input", "smoother"])
@pytest.mark.parametrize("how", WRAPPINGS)
def test_no_rows(how, units, data):
    X, y = data
    certificate = certify(wrap(how, StandardScaler(), smoother(), X, y), X[:0], units=units)
    assert isinstance(certificate, Certificate)
    assert len(certificate) == 0
    assert certificate.radius.shape == certificate.label.shape == (0,)
    assert certificate.units == units


@pytest.mark.parametrize("library", [pd, pl])
@pytest.mark.parametrize("base", [LogisticRegression(), DecisionTreeClassifier(max_depth=2)])
def test_data_frames(library, base, data):
    X, y = data
    frame = library.DataFrame({"a": X[:, 0], "b": X[:, 1]})
    model = make_pipeline(StandardScaler(), smoother(base)).fit(frame, y)
    expected = certify(make_pipeline(StandardScaler(), smoother(base)).fit(X, y), X)
    np.testing.assert_allclose(certify(model, frame).radius, expected.radius, rtol=1e-9)
    assert len(certify(model, frame[:0])) == 0


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames_between_the_steps(library, data):
    X, y = data
    frame = pd.DataFrame(X, columns=["a", "b"])
    model = make_pipeline(StandardScaler(), smoother()).set_output(transform=library).fit(frame, y)
    expected = certify(make_pipeline(StandardScaler(), smoother()).fit(X, y), X)
    np.testing.assert_allclose(certify(model, frame).radius, expected.radius, rtol=1e-9)
    assert len(certify(model, frame[:0])) == 0


@pytest.fixture
def six_columns():
    """Columns of spreads from 1e-3 to 1e3, far from the origin; 1, 2 and 4 tell the classes."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 2
    X = rng.standard_normal((120, 6)) + np.outer(2 * y - 1, [0, 1, 1, 0, 0.7, 0])
    return X * [1e-3, 0.5, 3.0, 1.0, 20.0, 1e3] + [5.0, 100.0, -7.0, 0.0, 1e3, 1e4], y


@pytest.mark.parametrize("inside", [False, True])
def test_selected_columns_alone_decide_the_radius(inside, six_columns):
    X, y = six_columns
    steps = StandardScaler(), SelectKBest(k=3)
    if inside:
        model = smoother(make_pipeline(*steps, LogisticRegression())).fit(X, y)
        scaler, select, base = model.estimator_
    else:
        model = make_pipeline(*steps, smoother()).fit(X, y)
        scaler, select, base = model[0], model[1], model[2].estimator_
    columns = select.get_support(indices=True)
    np.testing.assert_array_equal(columns, [1, 2, 4])
    weights = np.zeros(6)
    weights[columns] = base.coef_[0] / scaler.scale_[columns]
    score = (X - scaler.mean_) @ weights + base.intercept_
    length = np.linalg.norm(weights)
    certificate = certify(model, X)
    assert certificate.procedure == "exact"
    assert (certificate.radius <= np.abs(score) / length).all()
    if inside:
        np.testing.assert_allclose(certificate.radius, np.abs(score) / length, rtol=1e-6)
    else:
        radius = certify(model, X, units="smoother").radius * scaler.scale_[columns].min()
        np.testing.assert_allclose(certificate.radius, radius, rtol=1e-6)
        assert (certificate.radius <= radius).all()
    rng = np.random.default_rng(1)
    moves = [rng.standard_normal(X.shape) for _ in range(20)]
    moves += [np.outer(np.sign(score), -weights), np.eye(6)[rng.integers(6, size=len(X))]]
    for move in moves:
        factor = (1 - 1e-9) * certificate.radius / np.linalg.norm(move, axis=1)
        move = move * factor[:, np.newaxis]
        np.testing.assert_array_equal(model.predict(X + move), certificate.label)
        np.testing.assert_array_equal(model.predict(X - move), certificate.label)
    across = X - 1.001 * np.outer(score, weights) / length**2
    assert (model.predict(across) != certificate.label).all()


@pytest.mark.parametrize("library", [pd, pl])
@pytest.mark.parametrize(
    ("dropped", "scaled", "columns"),
    [([], ["e", "b"], [4, 1]), ([], slice("b", "c"), [1, 2]), (["d", "a", "f"], None, [1, 2, 4])],
)
def test_columns_by_name(library, dropped, scaled, columns, six_columns):
    X, y = six_columns
    frame = library.DataFrame(dict(zip("abcdef", X.T, strict=True)))
    scale = StandardScaler()
    parts = [("drop", "drop", dropped)] + ([("scale", scale, scaled)] if scaled else [])
    select = ColumnTransformer(parts, remainder="drop" if scaled else scale)
    model = make_pipeline(select, smoother()).fit(frame, y)
    by_hand = make_pipeline(StandardScaler(), smoother()).fit(X[:, columns], y)
    certificate = certify(model, frame)
    np.testing.assert_array_equal(certificate.label, model.predict(frame))
    expected = certify(by_hand, X[:, columns]).radius
    np.testing.assert_allclose(certificate.radius, expected, rtol=1e-6)
    assert certificate.n_features == 6
    assert len(certify(model, frame[:0])) == 0


def test_a_column_that_is_read_twice_counts_twice(data):
    X, y = data
    twice = ColumnTransformer([("one", "passthrough", [0, 1]), ("two", "passthrough", [1])])
    weighted = ColumnTransformer([("one", "passthrough", [0, 1])], transformer_weights={"one": 2.0})
    for columns, stretch in ((twice, 2**0.5), (weighted, 2.0)):
        model = make_pipeline(columns, smoother()).fit(X, y)
        behind = certify(model, X, units="smoother").radius
        np.testing.assert_allclose(certify(model, X).radius, behind / stretch, rtol=1e-9)


def test_columns_that_are_not_affine_are_named_and_read_behind(data):
    X, y = data
    frame = pd.DataFrame(X, columns=["a", "b"])
    columns = ColumnTransformer([("bend", Normalizer(), ["b"])], remainder="passthrough")
    model = make_pipeline(columns, smoother()).fit(frame, y)
    with pytest.raises(ValueError, match=r"'columntransformer' \(ColumnTransformer\)"):
        certify(model, frame)
    behind = certify(model, frame, units="smoother")
    np.testing.assert_array_equal(behind.label, model.predict(frame))


def exact(values):
    return np.vectorize(lambda value: Fraction(float(value)), otypes=[object])(values)


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e7])
def test_radius_behind_columns_never_exceeds_the_exact_margin(inside, offset, six_columns):
    """In rational arithmetic, also at points as near to the boundary as floats come."""
    X, y = six_columns
    X = X + offset * np.random.default_rng(2).standard_normal(6)
    columns = ColumnTransformer(
        [("turn", PCA(2), [2, 1, 4]), ("scale", StandardScaler(), [4, 0])],
        remainder="passthrough",
        transformer_weights={"turn": -3.0, "remainder": 0.25},
    )
    front = columns, VarianceThreshold(0.1)  # all but the column "d", of variance 1/16
    if inside:
        model = smoother(make_pipeline(*front, RidgeClassifier())).fit(X, y)
        columns, _, base = model.estimator_
    else:
        model = make_pipeline(*front, smoother(RidgeClassifier())).fit(X, y)
        base = model[-1].estimator_
    pca, scaler = columns.named_transformers_["turn"], columns.named_transformers_["scale"]
    turn = -3 * exact(pca.components_)
    matrix, shift = exact(np.zeros((5, 6))), exact(np.zeros(5))
    matrix[:2, [2, 1, 4]], shift[:2] = turn, -turn.dot(exact(pca.mean_))
    matrix[[2, 3], [4, 0]] = 1 / exact(scaler.scale_)
    shift[2:4] = -exact(scaler.mean_) / exact(scaler.scale_)
    matrix[4, 5] = Fraction(1, 4)
    coef = exact(np.ravel(base.coef_))
    weights, constant = coef.dot(matrix), coef.dot(shift) + exact(np.ravel(base.intercept_))[0]
    normal = weights.astype(float) / float(weights.dot(weights))
    foot = X - np.outer((exact(X).dot(weights) + constant).astype(float), normal)
    rows = np.concatenate([X, foot, foot + 1e-9 * normal])
    score = exact(rows).dot(weights) + constant
    certificate = certify(model, rows)
    assert (exact(certificate.radius) ** 2 * weights.dot(weights) <= score**2).all()
    certain = ~certificate.abstained
    np.testing.assert_array_equal(certificate.label[certain], (score > 0)[certain])
    assert certain[: len(X)].all()


def test_lists_and_sparse_rows(data):
    X, y = data
    model = make_pipeline(StandardScaler(), smoother()).fit(X, y)
    np.testing.assert_array_equal(certify(model, X.tolist()).radius, certify(model, X).radius)
    sparse = sp.csr_array(X)
    for step, units in ((TruncatedSVD(1, random_state=0), "smoother"), (PCA(2), "input")):
        if isinstance(step, PCA):
            step.set_params(svd_solver="covariance_eigh")
        model = make_pipeline(step, smoother()).fit(sparse, y)
        certificate = certify(model, sparse, units=units)
        np.testing.assert_array_equal(certificate.label, model.predict(sparse))


@pytest.mark.parametrize(
    "model",
    [
        smoother(),
        make_pipeline(StandardScaler(), smoother()),
        make_pipeline(StandardScaler(), make_pipeline(smoother())),
        GridSearchCV(smoother(), {"sigma": [0.5]}),
        make_pipeline(StandardScaler(), GridSearchCV(smoother(), {"sigma": [0.5]})),
    ],
)
@pytest.mark.parametrize("units", ["input", "smoother"])
def test_unfitted(model, units, data):
    with pytest.raises(NotFittedError):
        certify(model, data[0], units=units)


def test_final_estimators_without_certify(data):
    X, y = data
    bagging = BaggingClassifier(smoother(), n_estimators=2).fit(X, y)
    search = GridSearchCV(smoother(), {"sigma": [0.5]}, refit=False, cv=2).fit(X, y)
    models = {
        "LogisticRegression": make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y),
        "BaggingClassifier": bagging,
        "GridSearchCV": search,
        "StandardScaler": StandardScaler().fit(X),
    }
    for name, model in models.items():
        with pytest.raises(TypeError, match=f"{name} has no certify"):
            certify(model, X)


@pytest.mark.parametrize("units", ["input", "smoother"])
def test_wrong_shapes_get_the_messages_of_scikit_learn(units, data):
    X, y = data
    model = make_pipeline(StandardScaler(), smoother()).fit(X, y)
    with pytest.raises(ValueError, match="2D array"):
        certify(model, X[0], units=units)
    with pytest.raises(ValueError, match="3 features"):
        certify(model, np.ones((2, 3)), units=units)
    with pytest.raises(ValueError, match="NaN"):
        certify(model, np.full((2, 2), np.nan), units=units)


def test_a_stretch_of_zero_certifies_every_radius(data):
    """Constant columns in front: no perturbation reaches the smoother."""
    X, y = data
    model = make_pipeline(PCA(2), smoother()).fit(X, y)
    model[0].components_ = np.zeros((2, 2))
    assert np.isinf(certify(model, X).radius).all()


def test_single_precision_rows_lower_exact_radii(data):
    """The step rounds to single precision, so the certificate owes that much."""
    X, y = data
    model = make_pipeline(StandardScaler(), smoother()).fit(X.astype(np.float32), y)
    single = certify(model, X.astype(np.float32)).radius
    double = certify(model, X.astype(np.float32).astype(np.float64)).radius
    assert (single <= double).all()
    np.testing.assert_allclose(single, double, rtol=1e-3, atol=1e-3)


def test_a_wrong_number_of_columns_is_named_even_without_rows(data):
    X, y = data[:2]
    pipeline = make_pipeline(StandardScaler(), RandomizedSmoothingClassifier(LogisticRegression()))
    pipeline.fit(X, y)
    with pytest.raises(ValueError, match=f"1 features, but {X.shape[1]} were seen"):
        certify(pipeline, X[:0, :1])


def test_single_precision_in_some_columns_is_paid_for():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": 1e3 + rng.standard_normal(300), "b": rng.standard_normal(300)})
    frame["a"] = frame["a"].astype(np.float32)
    y = frame["a"] - 1e3 + frame["b"] > 0
    scalers = ColumnTransformer(
        [("a", StandardScaler(), ["a"]), ("b", StandardScaler(), ["b"])],
        verbose_feature_names_out=False,
    )
    smoother = RandomizedSmoothingClassifier(LogisticRegression())
    pipeline = make_pipeline(scalers, smoother).fit(frame, y)
    a, b = (part[1] for part in pipeline[0].transformers_)
    weights = exact(pipeline[-1].estimator_.coef_[0]) / exact([a.scale_[0], b.scale_[0]])
    centres = exact([a.mean_[0], b.mean_[0]])
    offset = exact(pipeline[-1].estimator_.intercept_)[0] - weights @ centres
    # onto the boundary, as near as floats go, where rounding of "a" decides the label
    frame["b"] = [float(-(offset + weights[0] * v) / weights[1]) for v in exact(frame["a"])]
    frame["b"] += 1e-9 * rng.standard_normal(300)
    scores = exact(frame.to_numpy()) @ weights + offset
    squared = weights @ weights
    certificate = certify(pipeline, frame)
    for score, label, radius in zip(scores, certificate.label, certificate.radius, strict=True):
        assert exact([radius])[0] ** 2 * squared <= score**2
        assert radius == 0 or label == (score > 0)
    reordered = certify(pipeline, frame[["b", "a"]])
    np.testing.assert_array_equal(reordered.radius, certificate.radius)


@pytest.mark.parametrize("mixed", [False, True])
def test_single_precision_is_paid_for_around_a_row_too(mixed):
    for seed in range(60):
        rng = np.random.default_rng(seed)
        a, b = rng.standard_normal((2, 50))
        frame = pd.DataFrame({"a": a.astype(np.float32)} | ({"b": b} if mixed else {}))
        scaler = MaxAbsScaler()
        if mixed:
            scaler = ColumnTransformer([("a", scaler, ["a"]), ("b", StandardScaler(), ["b"])])
        base = LogisticRegression(C=10)
        pipeline = make_pipeline(scaler, RandomizedSmoothingClassifier(base)).fit(frame, a > 0.4)
        row = frame.iloc[:1] * 0
        certificate = certify(pipeline, row)
        weight, offset = pipeline[-1].estimator_.coef_[0, 0], pipeline[-1].estimator_.intercept_[0]
        steps = np.float32(certificate.radius[0]) * (1 - np.arange(1, 200) * 2.0**-24)
        steps = steps[steps < certificate.radius[0]].astype(np.float32)
        near = pd.concat([row] * len(steps), ignore_index=True)
        near["a"] = (-np.sign(offset) * np.sign(weight) * steps).astype(np.float32)
        assert (pipeline.predict(near) == certificate.label[0]).all()
