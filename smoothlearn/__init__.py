"""scikit-learn classifiers with certified robustness."""

from smoothlearn.certificates import Certificate
from smoothlearn.denoisers import DEENDenoiser, ParzenDenoiser
from smoothlearn.displays import CertifiedAccuracyDisplay
from smoothlearn.jobs import certify
from smoothlearn.locally_biased import LocallyBiasedSmoother
from smoothlearn.metrics import (
    CertifiedAccuracyScorer,
    average_certified_radius,
    certified_accuracy_score,
)
from smoothlearn.randomized import EmpiricalBayesSmoothedClassifier, RandomizedSmoothingClassifier
from smoothlearn.robustness import RobustAccuracy, robust_accuracy
from smoothlearn.xhat import XHATClassifier

__version__ = "0.1.0.dev0"

__all__ = [
    "Certificate",
    "CertifiedAccuracyDisplay",
    "CertifiedAccuracyScorer",
    "DEENDenoiser",
    "EmpiricalBayesSmoothedClassifier",
    "LocallyBiasedSmoother",
    "ParzenDenoiser",
    "RandomizedSmoothingClassifier",
    "RobustAccuracy",
    "XHATClassifier",
    "average_certified_radius",
    "certified_accuracy_score",
    "certify",
    "robust_accuracy",
]
