"""What all tests share: one torch thread, figures off screen, no deadlines, small data sets."""

import os

os.environ["MPLBACKEND"] = "Agg"  # also for the processes that tests start

import numpy as np
import pytest
import torch
from hypothesis import settings
from sklearn.datasets import make_blobs

torch.set_num_threads(1)
settings.register_profile("smoothlearn", deadline=None)
settings.load_profile("smoothlearn")


@pytest.fixture
def two_blobs():
    """80 rows of two features in two classes, 0 and 1, that overlap a little."""
    X, y = make_blobs([40, 40], centers=np.array([[-1.0, 0.0], [1.0, 0.5]]), random_state=0)
    return X, y


@pytest.fixture
def three_blobs():
    """90 rows of three features in three classes, 0 to 2, that overlap a little."""
    centers = np.array([[-2.0, 0.0, 0.0], [2.0, 0.5, 0.0], [0.0, 2.0, 1.0]])
    X, y = make_blobs([30, 30, 30], centers=centers, random_state=0)
    return X, y
