"""
Tabular data: three classifiers, two rulers
===========================================

Any scikit-learn classifier can be smoothed. Here a linear one, a random forest and gradient-boosted
trees are certified on the breast cancer data, whose 30 columns are of different kinds: the area of
a cell nucleus in the hundreds, the fractal dimension of its outline in hundredths.

That makes the units matter, and they depend on where the scaler stands (:doc:`/guide/sigma`).
Inside the base, the same noise is added to all raw columns, and a radius is in their units. Before
the smoother, noise and radius are in standard deviations of the columns. The two answer different
questions.
"""

import sys

import matplotlib.pyplot as plt
from sklearn.base import ClassifierMixin
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from smoothlearn import CertifiedAccuracyDisplay, RandomizedSmoothingClassifier, certify

RAW_SIGMA = 20.0
SCALED_SIGMA = 0.5
MULTIPLES = (0, 0.5, 1, 1.5, 2)

# %%
# The data, and what the same noise is to different columns.
X, y = load_breast_cancer(return_X_y=True, as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
spread = X_train.std()
for column in (spread.idxmax(), spread.idxmin()):
    print(
        f"{column}: standard deviation {spread[column]:.3g}, "
        f"noise of {RAW_SIGMA:g} is {RAW_SIGMA / spread[column]:.2g} of them"
    )

# %%
# Three bases. The votes of a forest cost a walk through every tree for every draw, so it is small
# and the draws are few. Noisy copies of the training rows teach every base what it will see.
bases = {
    "logistic regression": LogisticRegression(),
    "random forest": RandomForestClassifier(n_estimators=20, random_state=0),
    "gradient boosting": HistGradientBoostingClassifier(max_iter=30, random_state=0),
}
settings = {"n_augment": 20, "n_certify_draws": 1000, "random_state": 0}


# %%
# The scaler inside the base: raw units.
def scaled_inside(base: ClassifierMixin) -> RandomizedSmoothingClassifier:
    return RandomizedSmoothingClassifier(
        make_pipeline(StandardScaler(), base), sigma=RAW_SIGMA, **settings
    )


# %%
# The scaler before the smoother: standard deviations, read with ``units="smoother"``.
def scaled_before(base: ClassifierMixin) -> Pipeline:
    return make_pipeline(
        StandardScaler(), RandomizedSmoothingClassifier(base, sigma=SCALED_SIGMA, **settings)
    )


# %%
# Certify the 171 rows held out, and print the certified accuracy in percent.
readings = {
    "raw units": (scaled_inside, RAW_SIGMA, "input"),
    "standard deviations": (scaled_before, SCALED_SIGMA, "smoother"),
}
certificates = {}
for reading, (placed, sigma, units) in readings.items():
    print(f"\n{'radius in ' + reading:<30}" + "".join(f"{k * sigma:8g}" for k in MULTIPLES))
    for name, base in bases.items():
        certificate = certify(placed(base).fit(X_train, y_train), X_test, units=units)
        certificates[reading, name] = certificate
        accuracies = (100 * certificate.accuracy(y_test, k * sigma) for k in MULTIPLES)
        print(f"{name:<30}" + "".join(f"{accuracy:8.1f}" for accuracy in accuracies))

# %%
# The picture. The linear classifier has no dotted line: two classes need no draws there, and its
# radii are exact.
figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), sharey=True, layout="constrained")
for ax, (reading, (_, sigma, _)) in zip(axes, readings.items(), strict=True):
    for name, colour in zip(bases, ("#0072B2", "#D55E00", "#009E73"), strict=True):
        CertifiedAccuracyDisplay.from_certificate(
            certificates[reading, name], y_test, name=name, ax=ax, color=colour
        )
    ax.set(title=f"σ = {sigma:g} {reading}", xlabel=f"ℓ2 radius ({reading})", xlim=(0, 3 * sigma))
axes[1].set_ylabel("")

# %%
# The panels have different rulers and do not compare. On the left the noise drowns the narrow
# columns, and the bases have learned from the noisy copies to go by the wide ones. The ball that is
# certified there is thousands of standard deviations wide along the narrowest column and a few
# hundredths of one along the widest: it is mostly a statement about areas, and right where all
# columns are measured with one ruler. On the right every column counts alike, which is mostly what
# is meant by a small change of such a row.
#
# The curves of the trees end where so few draws end: more draws move the dotted lines to the right.
if len(sys.argv) > 1:
    figure.savefig(sys.argv[1], dpi=150)
plt.show()
