"""What tests of jobs share: smoothers that say what was asked of them, certificates compared."""

from dataclasses import fields

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from smoothlearn import Certificate


class Echo(ClassifierMixin, BaseEstimator):
    """Says the radius that it is asked for, or 1, times a factor."""

    def __init__(self, factor=1.0, norm=2, n_jobs=None):
        self.factor = factor
        self.norm = norm
        self.n_jobs = n_jobs

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.n_features_in_ = X.shape[1]
        return self

    def certify(self, X, *, radius=None, max_radius=None):
        self.asked_ = radius if max_radius is None else max_radius
        said = 1.0 if self.asked_ is None else self.asked_
        n_rows = len(X)
        return Certificate(
            label=np.repeat(self.classes_[:1], n_rows),
            radius=self.factor * np.broadcast_to(said, n_rows),
            abstained=np.zeros(n_rows, dtype=bool),
            norm=self.norm,
            confidence_level=0.999,
            units="input",
            n_features=self.n_features_in_,
            classes=self.classes_,
            procedure="fixed" if self.asked_ is None else "anytime",
            n_draws=np.full(n_rows, 100),
        )


@pytest.fixture
def echo():
    return Echo


@pytest.fixture
def check_same():
    """A function that compares two certificates to the last bit."""

    def check(one, other):
        for field in fields(Certificate):
            said, again = getattr(one, field.name), getattr(other, field.name)
            if isinstance(said, np.ndarray):
                assert said.dtype == again.dtype, field.name
                np.testing.assert_array_equal(said, again, err_msg=field.name, strict=True)
            else:
                assert said == again, field.name

    return check
