"""
Certificates of ten classes in three norms
==========================================

Locally biased smoothing was published for two classes. Here it has ten: the base compares the class
of the nearest bias point with its best rival, and the bias helps the former. An RBF support vector
machine on handwritten digits is certified against perturbations in the 1-, 2- and inf-norm, each
with a smoothed classifier of its own: the norm decides which norm of the gradient is the bias.

No noise and no draws are involved, and certificates hold with certainty. They are smaller than
those of randomized smoothing, as a bound of the curvature has to hold in the worst direction.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

from smoothlearn import CertifiedAccuracyDisplay, LocallyBiasedSmoother

NAMES = {1: "ℓ1", 2: "ℓ2", np.inf: "ℓ∞"}
COLOURS = {0.0: "#0072B2", 1.0: "#D55E00"}

# %%
# Pixels lie in [0, 1]. Three in ten training digits are bias points.
X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X / 16, y, test_size=500, stratify=y, random_state=0
)
smoother = LocallyBiasedSmoother(SVC(gamma=0.05, C=10), n_bias=0.3, random_state=0)
smoother.fit(X_train, y_train)

# %%
# The bias level is in the units of X, and so in those of each norm: one step of length 0.5 in the
# 2-norm is as long as one of 0.5 * 8 in the 1-norm, or of 0.5 / 8 in the inf-norm, if it is spread
# evenly over 64 pixels.
print("norm  alpha  clean  average radius")
figure, axes = plt.subplots(1, 3, figsize=(12, 4), layout="constrained", sharey=True)
for ax, (norm, name) in zip(axes, NAMES.items(), strict=True):
    for share, colour in COLOURS.items():
        alpha = share * {1: 2.0, 2: 0.5, np.inf: 0.06}[norm]
        certificate = smoother.set_params(norm=norm, alpha=alpha).certify(X_test)
        CertifiedAccuracyDisplay.from_certificate(
            certificate, y_test, name=f"α = {alpha:g}", ax=ax, color=colour
        )
        accuracy, average = certificate.accuracy(y_test), certificate.average_radius(y_test)
        print(f"{name:4}  {alpha:5.2f}  {accuracy:.3f}  {average:.4f}")
    ax.set(title=name, xlabel=f"{name} radius (pixels in [0, 1])")
    ax.label_outer()
if len(sys.argv) > 1:
    figure.savefig(sys.argv[1], dpi=150)
plt.show()
