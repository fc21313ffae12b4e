"""scikit-learn classifiers with certified robustness."""

from smoothlearn.certificates import Certificate
from smoothlearn.denoisers.attractor import AttractorDenoiser
from smoothlearn.denoisers.deen import DEENDenoiser
from smoothlearn.denoisers.parzen import ParzenDenoiser
from smoothlearn.denoisers.walk_jump import WalkJumpDenoiser
from smoothlearn.displays.accuracy import CertifiedAccuracyDisplay
from smoothlearn.displays.denoising import DenoisingDisplay
from smoothlearn.displays.energy import EnergyDisplay
from smoothlearn.displays.spheres import SphereOverlapDisplay
from smoothlearn.displays.votes import VoteDistributionDisplay
from smoothlearn.jobs.certify import certify
from smoothlearn.jobs.exchange import read_certification_log, write_certification_log
from smoothlearn.locally_biased import LocallyBiasedSmoother
from smoothlearn.metrics import (
    CertifiedAccuracyScorer,
    average_certified_radius,
    certified_accuracy_score,
)
from smoothlearn.randomized import EmpiricalBayesSmoothedClassifier, RandomizedSmoothingClassifier
from smoothlearn.robustness import RobustAccuracy, robust_accuracy
from smoothlearn.theory.spheres import SphereOverlap, sphere_overlap
from smoothlearn.xhat import XHATClassifier

__version__ = "0.1.0.dev0"

__all__ = [
    "AttractorDenoiser",
    "Certificate",
    "CertifiedAccuracyDisplay",
    "CertifiedAccuracyScorer",
    "DEENDenoiser",
    "DenoisingDisplay",
    "EmpiricalBayesSmoothedClassifier",
    "EnergyDisplay",
    "LocallyBiasedSmoother",
    "ParzenDenoiser",
    "RandomizedSmoothingClassifier",
    "RobustAccuracy",
    "SphereOverlap",
    "SphereOverlapDisplay",
    "VoteDistributionDisplay",
    "WalkJumpDenoiser",
    "XHATClassifier",
    "average_certified_radius",
    "certified_accuracy_score",
    "certify",
    "read_certification_log",
    "robust_accuracy",
    "sphere_overlap",
    "write_certification_log",
]
