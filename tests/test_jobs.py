"""certify through pipelines, searches and frozen estimators, in the units asked for."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, StandardScaler
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


def test_columns_by_name_in_front_are_not_affine_but_read_behind(data):
    X, y = data
    frame = pd.DataFrame(X, columns=["a", "b"])
    columns = ColumnTransformer([("scale", StandardScaler(), ["b"])])
    model = make_pipeline(columns, smoother()).fit(frame, y)
    with pytest.raises(ValueError, match="columntransformer"):
        certify(model, frame)
    behind = certify(model, frame, units="smoother")
    np.testing.assert_array_equal(behind.label, model.predict(frame))


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
