"""
The energy of two spirals
=========================

Noise of standard deviation sigma turns the density of the data into a smoother one. Its negative
logarithm is the energy φ, and the field -∇φ points to where data are: the Bayes estimator
x̂(y) = y - σ²∇φ(y) is one step of length σ² along it (Saremi & Srivastava 2020, Eq. 1).

Two spirals show what the noise level does to the energy. One energy is a network
(:class:`~smoothlearn.DEENDenoiser`), which saw noisy copies of the rows. The other is that of the
training rows themselves, in closed form (:class:`~smoothlearn.ParzenDenoiser`).
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
from sklearn.frozen import FrozenEstimator
from sklearn.neighbors import NearestNeighbors

from smoothlearn import AttractorDenoiser, DEENDenoiser, EnergyDisplay, ParzenDenoiser
from smoothlearn.datasets import make_spirals

#: Noise levels, and the steps in which to draw the energy at each, in nats.
SHADES = {0.6: np.arange(0, 13, 1), 1.5: np.arange(0, 2.6, 0.2)}

# %%
# The data: two arms, about 3.3 apart, and as many new rows to measure on.
X, y = make_spirals(600, noise=0.3, n_turns=1.5, random_state=0)
arm = np.array(["first arm", "second arm"])[y]
X_new, _ = make_spirals(600, noise=0.3, n_turns=1.5, random_state=1)
arms, _ = make_spirals(5000, noise=None, n_turns=1.5, random_state=0)
nearest_arm = NearestNeighbors(n_neighbors=1).fit(arms)

# %%
# Both energies at both levels, the learned ones by a shorter training than the default.
training = {"max_epochs": 400, "batch_size": 300, "lr": 0.01, "validation_fraction": 0}
energies = {
    (sigma, name): denoiser.fit(X)
    for sigma in SHADES
    for name, denoiser in {
        "learned": DEENDenoiser(sigma, random_state=0, **training),
        "Parzen": ParzenDenoiser(sigma),
    }.items()
}

# %%
# From a training row the flow y' = -∇φ(y) runs downhill to an attractor, a local minimum of the
# energy. :class:`~smoothlearn.AttractorDenoiser` finds those of the rows that it is fitted on; here
# we need nothing else of it. A third of the rows will do. The valleys of a learned energy are so
# flat that the flow takes many steps.
figure, axes = plt.subplots(2, 2, figsize=(10, 8.6), layout="constrained")
attractors = {}
for ax, ((sigma, name), energy) in zip(axes.flat, energies.items(), strict=True):
    flow = AttractorDenoiser(
        ParzenDenoiser(),
        FrozenEstimator(energy),
        sigma=2 * sigma,
        max_steps=2000,
        random_state=0,
    ).fit(X[::3])
    attractors[sigma, name] = flow.attractors_
    EnergyDisplay.from_estimator(flow, X, arm, eps=2, ax=ax, levels=SHADES[sigma])
    ax.set_title(f"{name} energy, σ = {sigma}: {len(flow.attractors_)} attractors")
    ax.get_legend().remove()
figure.legend(
    *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, markerscale=1.2
)

# %%
# The arms are valleys. At the small noise level there are ridges between them, and the field points
# to the nearer arm. At the large one, where the noise is nearly as wide as half the gap, the arms
# blur to one plateau on which the field is weak, and wells have merged. Of the many wells that
# chance put into these rows, the network keeps half at the small level: it smooths along the arms.
#
# Samples: a Langevin walk on the learned energy, then x̂ from where it ends. The Parzen density
# needs no walk, for a draw from it is a training row with noise.
sampled, axes = plt.subplots(2, 2, figsize=(8, 8), layout="constrained", sharex=True, sharey=True)
print("sigma  energy   squared error  attractors  distance from the arms, mean")
for ax, ((sigma, name), energy) in zip(axes.flat, energies.items(), strict=True):
    walk = {"n_steps": 300} if name == "learned" else {}
    samples = energy.sample(600, random_state=0, **walk)
    distance = nearest_arm.kneighbors(samples)[0].mean()
    error = -2 * energy.score(X_new)
    print(f"{sigma:<6} {name:8} {error:13.3f} {len(attractors[sigma, name]):11} {distance:10.2f}")
    ax.scatter(*X.T, s=8, color="#BBBBBB", label="training rows")
    ax.scatter(*samples.T, s=8, color="#0072B2", label="samples")
    ax.set(title=f"{name} energy, σ = {sigma}", aspect="equal")
    ax.label_outer()
sampled.legend(
    *axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, markerscale=2
)
print(f"training rows {nearest_arm.kneighbors(X)[0].mean():35.2f}")

# %%
# The squared error of x̂ on new rows says that both energies are about equally good. Samples show
# what they hold. They are not draws from the density of the data, but from that of x̂ of noisy
# rows: at the small noise level nearer to the arms than the data are, at the large one in between.
# There x̂ is an average of both arms, and on neither.
if len(sys.argv) > 1:
    figure.savefig(sys.argv[1], dpi=150)
plt.show()
