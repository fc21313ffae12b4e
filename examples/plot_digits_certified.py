"""
Certified accuracy on handwritten digits
========================================

A linear classifier of scikit-learn's 8 x 8 digits, pixels in [0, 1], smoothed in three ways with
the same noise: plain randomized smoothing, and empirical Bayes smoothing with a learned (DEEN) and
with the closed-form (Parzen) denoiser. The fourth curve is the exact robustness of the linear
classifier itself, by its margin: a deterministic certificate of another classifier, as a yardstick.

Bands are 95 % intervals for the sampling of the test digits. Dotted: the largest radius that the
number of draws can certify.
"""

import os
import platform
import sys
import time
from datetime import date
from importlib.metadata import version

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from smoothlearn import (
    Certificate,
    CertifiedAccuracyDisplay,
    DEENDenoiser,
    EmpiricalBayesSmoothedClassifier,
    ParzenDenoiser,
    RandomizedSmoothingClassifier,
)

SIGMA = 0.5
RADII = (0.0, 0.25, 0.5, 0.75, 1.0)

# %%
# The data: 1,297 digits to train on, 500 held out.
X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X / 16, y, test_size=500, stratify=y, random_state=0
)

# %%
# The smoothers share their settings. The base is fitted on clean digits in all of them.
base = LogisticRegression(max_iter=1000)
settings = {"sigma": SIGMA, "n_certify_draws": 10_000, "n_jobs": -1, "random_state": 0}
smoothers = {
    "vanilla": RandomizedSmoothingClassifier(base, **settings),
    "empirical Bayes, DEEN": EmpiricalBayesSmoothedClassifier(
        base, denoiser=DEENDenoiser(), **settings
    ),
    "empirical Bayes, Parzen": EmpiricalBayesSmoothedClassifier(
        base, denoiser=ParzenDenoiser(), **settings
    ),
}


# %%
# The margin of a linear classifier with several classes: the distance to the nearest boundary.
def margin_certificate(linear: LogisticRegression) -> Certificate:
    scores = linear.decision_function(X_test)
    winner = scores.argmax(axis=1)
    gaps = scores[np.arange(len(scores)), winner, np.newaxis] - scores
    normals = linear.coef_[winner][:, np.newaxis] - linear.coef_
    lengths = np.linalg.norm(normals, axis=2)
    distances = np.divide(gaps, lengths, out=np.full_like(gaps, np.inf), where=lengths > 0)
    return Certificate(
        label=linear.classes_[winner],
        radius=distances.min(axis=1),
        abstained=np.zeros(len(scores), dtype=bool),
        norm=2,
        confidence_level=1.0,
        units="input",
        n_features=X.shape[1],
        classes=linear.classes_,
        procedure="exact",
    )


# %%
# Fit and certify.
certificates = {}
seconds = {}
for name, smoother in smoothers.items():
    start = time.perf_counter()
    certificates[name] = smoother.fit(X_train, y_train).certify(X_test)
    seconds[name] = time.perf_counter() - start
certificates["margin of the linear base"] = margin_certificate(smoothers["vanilla"].estimator_)

# %%
# The table: certified accuracy in percent at a few radii.
print(f"sigma = {SIGMA}, {settings['n_certify_draws']} draws, confidence level 0.999, 500 digits")
print(f"{'l2 radius':<27}" + "".join(f"{radius:>7}" for radius in RADII) + "      s")
for name, certificate in certificates.items():
    row = "".join(f"{100 * certificate.accuracy(y_test, radius):7.1f}" for radius in RADII)
    print(f"{name:<27}{row}{seconds.get(name, 0):7.1f}")
packages = ("smoothlearn", "scikit-learn", "torch", "numpy")
print(", ".join(f"{package} {version(package)}" for package in packages), end=", ")
print(f"Python {platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores", end=", ")
print(date.today().isoformat())

# %%
# The picture.
colours = ("#0072B2", "#D55E00", "#009E73", "#555555")
styles = ("-", "-", "-", "--")
figure, ax = plt.subplots(figsize=(7, 4.5), layout="constrained")
for (name, certificate), colour, style in zip(certificates.items(), colours, styles, strict=True):
    CertifiedAccuracyDisplay.from_certificate(
        certificate, y_test, name=name, ax=ax, color=colour, linestyle=style
    )
ax.set_title(f"Handwritten digits, linear classifier, σ = {SIGMA}")
ax.set_xlabel("ℓ2 radius (pixels in [0, 1])")
if len(sys.argv) > 1:
    figure.savefig(sys.argv[1], dpi=150)
plt.show()
