"""Any classifier's own ``predict`` as votes, with the input it was fitted on rebuilt."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.compose import ColumnTransformer
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from smoothlearn.views.predictor import frame_library, predictor_votes, rebuild_frame

RNG = np.random.default_rng(0)
X = RNG.standard_normal((60, 3))
WORDS = np.array(["ant", "bee", "cat"])
Y = WORDS[(X[:, 0] > 0.3).astype(int) + (X[:, 1] > 0)]
COLUMNS = ["first", "second", "third"]
LIBRARIES = {
    "pandas": lambda X: pd.DataFrame(X, columns=COLUMNS),
    "polars": lambda X: pl.DataFrame(X, schema=COLUMNS, orient="row"),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("labels", [WORDS, np.array([-3, 5, 70]), np.array([0.0, 1.0, 2.0])])
def test_votes_are_predictions(labels, dtype):
    y = labels[np.searchsorted(WORDS, Y)]
    model = KNeighborsClassifier().fit(X, y)
    batch = torch.tensor(RNG.standard_normal((50, 3)), dtype=dtype)
    votes = predictor_votes(model.predict, model.classes_, np.asarray)(batch)
    assert votes.dtype == torch.int64
    np.testing.assert_array_equal(labels[votes], model.predict(batch.numpy().astype(float)))
    assert len(votes.unique()) == 3


def test_classes_in_any_order():
    batch = torch.tensor([[2.0], [0.0], [1.0]])
    vote = predictor_votes(lambda X: WORDS[X[:, 0].astype(int)], WORDS[[2, 0, 1]], np.asarray)
    np.testing.assert_array_equal(vote(batch), [0, 1, 2])


def test_labels_that_are_no_classes_are_refused():
    vote = predictor_votes(lambda X: np.full(len(X), "dog"), WORDS, np.asarray)
    with pytest.raises(ValueError, match=r"predicts \['dog'"):
        vote(torch.zeros(2, 1))
    vote = predictor_votes(lambda X: np.full(len(X), "zebra"), WORDS, np.asarray)
    with pytest.raises(ValueError, match=r"predicts \['zebra'"):
        vote(torch.zeros(2, 1))


def test_predict_gets_float64_that_it_may_change():
    seen = []

    def predict(X):
        seen.append(X.dtype)
        X[:] = 0
        return np.repeat("bee", len(X))

    batch = torch.ones(4, 3)
    np.testing.assert_array_equal(predictor_votes(predict, WORDS, np.asarray)(batch), 1)
    assert seen == [np.float64]
    assert torch.equal(batch, torch.ones(4, 3))


def test_libraries_of_frames():
    assert frame_library(LIBRARIES["pandas"](X)) == "pandas"
    assert frame_library(LIBRARIES["polars"](X)) == "polars"
    for other in (X, X.tolist(), pd.Series([1.0]), pl.Series([1.0]), None):
        assert frame_library(other) is None


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("n", [0, 1, 2, 3, 60])
@pytest.mark.parametrize("library", LIBRARIES)
def test_frames_are_rebuilt_row_by_row(library, n, order):
    rows = np.array(X[:n], order=order)  # three rows make a square
    frame = rebuild_frame(rows, np.array(COLUMNS, dtype=object), library)
    assert frame_library(frame) == library
    assert list(frame.columns) == COLUMNS
    np.testing.assert_array_equal(frame.to_numpy(), rows)


def test_arrays_stay_arrays():
    assert rebuild_frame(X, None, None) is X


@pytest.mark.parametrize("library", LIBRARIES)
def test_votes_of_a_base_that_selects_columns_by_name(library):
    pick = ColumnTransformer([("scaled", StandardScaler(), ["second", "first"])])
    frame = LIBRARIES[library](X)
    model = make_pipeline(pick, KNeighborsClassifier()).fit(frame, Y)
    votes = predictor_votes(
        model.predict, model.classes_, lambda X: rebuild_frame(X, COLUMNS, frame_library(frame))
    )(torch.tensor(X))
    np.testing.assert_array_equal(WORDS[votes], model.predict(frame))
    assert len(votes.unique()) == 3
