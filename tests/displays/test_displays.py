"""What holds for every display."""

import warnings

import matplotlib as mpl
import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from smoothlearn import (
    CertifiedAccuracyDisplay,
    DenoisingDisplay,
    EmpiricalBayesSmoothedClassifier,
    EnergyDisplay,
    ParzenDenoiser,
    VoteDistributionDisplay,
)


def global_state():
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002
    torch_state = torch.get_rng_state().tolist()
    figures_off = {**mpl.rcParams, "backend": None}  # resolved when pyplot is first imported
    return kind, keys.tolist(), rest, torch_state, figures_off, list(warnings.filters)


@pytest.mark.parametrize(
    "draw",
    [
        lambda model, X, y: DenoisingDisplay.from_estimator(model, X),
        lambda model, X, y: DenoisingDisplay.from_estimator(model, X, image_shape=(1, 2)),
        EnergyDisplay.from_estimator,
        CertifiedAccuracyDisplay.from_estimator,
        VoteDistributionDisplay.from_estimator,
    ],
    ids=["points", "images", "energy", "accuracy", "votes"],
)
def test_drawing_leaves_no_trace_on_global_state(two_blobs, draw):
    X, y = two_blobs
    model = EmpiricalBayesSmoothedClassifier(
        LogisticRegression(), denoiser=ParzenDenoiser(), n_certify_draws=100
    ).fit(X, y)
    fitted, given, before = set(vars(model)), (X.copy(), y.copy()), global_state()
    draw(model, X, y).figure_.canvas.draw()
    assert global_state() == before
    assert set(vars(model)) == fitted
    np.testing.assert_array_equal(X, given[0])
    np.testing.assert_array_equal(y, given[1])
