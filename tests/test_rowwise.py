"""A row is certified by itself: company is refused, overflow abstains, rounding is recognised."""

import numpy as np
import pytest
from sklearn.ensemble import StackingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier
from torch import nn

from smoothlearn import (
    DEENDenoiser,
    EmpiricalBayesSmoothedClassifier,
    ParzenDenoiser,
    RandomizedSmoothingClassifier,
)
from smoothlearn.theory.bayes import parzen_denoiser
from smoothlearn.views.linear import noise_factor

rng = np.random.default_rng(0)
X = rng.standard_normal((150, 4))
y = X[:, :3].argmax(axis=1)
DRAWS = {"n_draws": 50, "n_certify_draws": 200, "random_state": 0}


def pulled_to_the_mean(rows):
    return 0.2 * rows + 0.8 * rows.mean(axis=0)


def test_a_base_that_looks_at_the_other_rows_is_refused():
    base = make_pipeline(FunctionTransformer(pulled_to_the_mean), DecisionTreeClassifier())
    with pytest.raises(ValueError, match="in another order or company"):
        RandomizedSmoothingClassifier(base, **DRAWS).fit(X, y)


def test_an_energy_that_looks_at_the_other_rows_is_refused():
    def module(n_features):
        norm = nn.BatchNorm1d(16, track_running_stats=False)
        return nn.Sequential(nn.Linear(n_features, 16), norm, nn.SiLU(), nn.Linear(16, 1))

    denoiser = DEENDenoiser(module=module, max_epochs=1, random_state=0)
    with pytest.raises(ValueError, match="denoises a row differently beside other rows"):
        denoiser.fit(X)
    assert not hasattr(denoiser, "sigma_")


def test_rows_beyond_single_precision_abstain_where_the_noise_is_projected():
    denoiser = DEENDenoiser(module="mlp", max_epochs=1, random_state=0)
    smoother = EmpiricalBayesSmoothedClassifier(LogisticRegression(), denoiser=denoiser, **DRAWS)
    smoother.fit(X, y)
    far = 1e39 * X[:3]
    assert smoother._ballot(far).rows.shape[1] > X.shape[1], "not projected"
    with np.errstate(all="ignore"):
        certificate = smoother.certify(far)
    assert certificate.abstained.all()
    np.testing.assert_array_equal(certificate.radius, 0.0)


def test_parzen_leaves_out_a_row_that_was_rounded():
    denoiser = ParzenDenoiser(sigma=0.3).fit(X.astype(np.float32))
    copies = X + 0.3 * rng.standard_normal(X.shape)
    expected = parzen_denoiser(copies, 0.3, denoiser.rows_, leave_out=np.arange(len(X)))
    np.testing.assert_array_equal(denoiser.denoise_copies(copies, X), expected)
    apart = X + 0.01  # ten times further than what counts as the same row
    np.testing.assert_allclose(denoiser.denoise_copies(copies, apart), denoiser.transform(copies))


def test_a_stack_with_its_default_final_estimator_is_a_base():
    stack = StackingClassifier([("tree", DecisionTreeClassifier(max_depth=2, random_state=0))])
    smoother = RandomizedSmoothingClassifier(stack, n_draws=5, n_certify_draws=20).fit(X, y)
    assert (smoother.predict(X[:20]) == smoother.estimator_.predict(X[:20])).mean() > 0.5


def test_noise_of_short_rows_beside_long_ones():
    weights = np.random.default_rng(1).standard_normal((3, 6)) * [[1.0], [1e3], [1e18]]
    factor = noise_factor(weights)
    lengths = np.linalg.norm(weights, axis=1)
    np.testing.assert_allclose(np.linalg.norm(factor, axis=1), lengths, rtol=1e-12)
    cosines = (factor @ factor.T) / np.outer(lengths, lengths)
    np.testing.assert_allclose(cosines, weights @ weights.T / np.outer(lengths, lengths), atol=1e-9)
