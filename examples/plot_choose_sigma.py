"""
How much noise do the data bear?
================================

Before any classifier is trained, the distances between the rows say something about ``sigma``.
:func:`~smoothlearn.sphere_overlap` compares two scales of the noise on scikit-learn's 8 x 8
digits. From the first on, the spheres on which the noisy copies of two digits gather meet. From the
second on, noise carries a digit past the middle towards the nearest digit of another class.

Below, the certified accuracy of a smoothed classifier is measured at the same ``sigma``, so that
one sees how far this helps.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from smoothlearn import (
    EmpiricalBayesSmoothedClassifier,
    ParzenDenoiser,
    SphereOverlapDisplay,
    sphere_overlap,
)

SIGMAS = np.geomspace(0.1, 1.6, 9)
RADII = (0.0, 0.25, 0.5, 0.75)
N_DRAWS = 800

# %%
# The data: pixels in [0, 1], 150 digits held out.
X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X / 16, y, test_size=150, stratify=y, random_state=0
)


# %%
# The measurement: a linear classifier behind a Parzen denoiser, with few draws, at every sigma.
def certified_accuracies(sigma: float) -> list[float]:
    smoother = EmpiricalBayesSmoothedClassifier(
        LogisticRegression(max_iter=1000),
        denoiser=ParzenDenoiser(),
        sigma=sigma,
        n_certify_draws=N_DRAWS,
        random_state=0,
    )
    certificate = smoother.fit(X_train, y_train).certify(X_test)
    return [certificate.accuracy(y_test, radius) for radius in RADII]


measured = np.array([certified_accuracies(float(sigma)) for sigma in SIGMAS])

# %%
# The table, in percent: what the distances say, and what was measured.
overlap = sphere_overlap(X_train, y_train, sigma=SIGMAS)
print(f"{'':7}{'sphere':>9}{'noise':>9}  certified accuracy at radius")
print(f"{'sigma':7}{'meets':>9}{'crosses':>9}" + "".join(f"{radius:8.2f}" for radius in RADII))
for sigma, rows, crossing, accuracies in zip(
    SIGMAS, overlap.rows, overlap.crossing, measured, strict=True
):
    shares = "".join(f"{100 * accuracy:8.1f}" for accuracy in accuracies)
    print(f"{sigma:<7.2f}{100 * rows:9.1f}{100 * crossing:9.2f}{shares}")
for radius, accuracies in zip(RADII, measured.T, strict=True):
    print(f"best measured sigma at radius {radius}: {SIGMAS[accuracies.argmax()]:.2f}")

# %%
# The picture: the data above, the classifier below.
figure, (above, below) = plt.subplots(2, 1, figsize=(7, 7), sharex=True, layout="constrained")
display = SphereOverlapDisplay.from_data(X_train, y_train, sigma=np.geomspace(0.05, 2), ax=above)
one_percent = np.interp(0.01, display.overlap.crossing, display.overlap.sigma)
print(f"noise crosses in 1 % of the draws at sigma = {one_percent:.2f}")
for radius, accuracies, colour, marker in zip(
    RADII, measured.T, ("#555555", "#0072B2", "#009E73", "#E69F00"), "o^sD", strict=True
):
    below.plot(SIGMAS, accuracies, color=colour, marker=marker, label=f"radius {radius}")
for ax, place in ((above, "center right"), (below, "upper left")):
    ax.axvline(one_percent, color="#D55E00", linestyle="--", linewidth=1, label="1 % cross")
    ax.legend(fontsize="small", loc=place)
above.set(title="Digits: what the distances say", xlabel="")
below.set(
    title=f"Linear classifier, Parzen denoiser, {N_DRAWS} draws",
    xlabel="σ (pixels in [0, 1])",
    ylabel="Certified accuracy",
    ylim=(0, 1.02),
)

# %%
# A curve starts on the left where so few draws can certify its radius at all; that is the doing of
# the draws, not of the data (:doc:`/guide/sigma`). From there it stays level while the spheres of
# all digits come to meet, and it falls where the noise begins to cross. So the spheres that meet
# say little in 64 dimensions, and less in more. The crossing shows the order of magnitude of the
# largest ``sigma`` that is worth a try: here, where it is about 1 %, every radius has its best
# ``sigma`` or one hardly worse.
#
# It does not say how much is lost beyond. That depends on the classifier, which sees less than the
# distances do: at the largest ``sigma`` here it errs or abstains far more often than the noise
# crosses. Nor do the distances know the radius. Between the ``sigma`` that the draws need for the
# radius and the one where the noise crosses, only measuring helps:
# :ref:`sphx_glr_auto_examples_plot_grid_search_sigma.py`.
if len(sys.argv) > 1:
    figure.savefig(sys.argv[1], dpi=150)
plt.show()
