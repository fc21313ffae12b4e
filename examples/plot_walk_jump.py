"""
Walk-jump sampling behind the Bayes estimator
=============================================

The Bayes estimator x̂ of a noisy row is an average over the clean rows that it may have come from,
and looks like one. Saremi & Srivastava (2020, arXiv:2005.04504, section 4.2) propose to go on from
there: a Langevin walk on an energy of less noise σ', y ← y - h∇φ(y) + √(2h) ε, and a second Bayes
estimate from where it ends, the jump. Their Figure 6 shows it. Here it is for scikit-learn's 8 x 8
digits, and with ``SMOOTHLEARN_DATA`` set to a folder of MNIST, with the numbers of the paper for a
part of MNIST.

One step h belongs in the drift and, as √(2h), in the noise. With the paper's δ = 0.001 and h = δ²
the walk would hardly move; here it is h = δ.
"""

import os
import sys

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits, make_moons
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from smoothlearn import DEENDenoiser, DenoisingDisplay, ParzenDenoiser, WalkJumpDenoiser
from smoothlearn.datasets import load_mnist

N_IMAGES = 12
LENGTHS = (0, 10, 30, 100, 300, 1000)

# %%
# The data, with pixels in [0, 1].
if "SMOOTHLEARN_DATA" in os.environ:
    X_train, y_train = load_mnist(return_X_y=True)
    X_test, y_test = load_mnist(subset="test", return_X_y=True)
    X_train, y_train, X_test, y_test = X_train[::4], y_train[::4], X_test[:150], y_test[:150]
    image_shape, epochs = (28, 28), {"jump": 16, "walk": 16}
    sigma, walk_sigma, step_size = 0.6, 0.05, 0.001
else:
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X / 16, y, test_size=150, stratify=y, random_state=0
    )
    image_shape, epochs = (8, 8), {"jump": 60, "walk": 150}
    sigma, walk_sigma, step_size = 0.4, 0.15, "auto"

# %%
# Two energies, one for each noise level. They are learned once and then shared by walks of several
# lengths. The noise of a walk depends on the row and the seed alone, so that a longer walk goes on
# where a shorter one ends.
jump = DEENDenoiser(sigma, max_epochs=epochs["jump"], random_state=0).fit(X_train)
walk = DEENDenoiser(walk_sigma, max_epochs=epochs["walk"], random_state=0).fit(X_train)
walkers = {
    n_steps: WalkJumpDenoiser(
        FrozenEstimator(jump),
        FrozenEstimator(walk),
        sigma=sigma,
        step_size=step_size,
        n_steps=n_steps,
        random_state=0,
    ).fit(X_train)
    for n_steps in LENGTHS
}

# %%
# Figure 6: one image, noisy copies of it, their Bayes estimates, the ends of walks of a hundred
# steps, and the jumps.
display = DenoisingDisplay.from_estimator(
    walkers[100], X_test[:1], n_noisy=N_IMAGES, image_shape=image_shape, random_state=0
)
display.ax_.set_title(f"σ = {sigma}, σ' = {walk_sigma}, 100 steps")
figure = display.figure_

# %%
# The jumps are sharper than the Bayes estimates, as sharp as digits are. That does not make them
# right: what the noise has hidden is made up, for each copy in another way, and some have left the
# class.
#
# How long should the walk be? Below are other images, a noisy copy of each, and the jumps from ever
# longer walks.
noisy = X_test + sigma * np.random.default_rng(0).standard_normal(X_test.shape)
stages = {n_steps: walker.stages(noisy) for n_steps, walker in walkers.items()}
lines = {"clean": X_test, "denoised": stages[0]["denoised"]}
lines |= {f"{n_steps} steps": stages[n_steps]["jumped"] for n_steps in LENGTHS[1:]}
DenoisingDisplay.from_stages(
    {name: rows[:N_IMAGES] for name, rows in lines.items()}, image_shape=image_shape
)

# %%
# The walk forgets its start. The table has, for all test images, the squared error of the jump, its
# distance from the nearest training image, and how often its three nearest neighbors there have the
# right label. "Length" is the time hτ of the walk in units of σ'².
neighbors = KNeighborsClassifier(3).fit(X_train, y_train)


def describe(rows):
    error = np.sum((rows - X_test) ** 2, axis=1).mean()
    distance = neighbors.kneighbors(rows, 1)[0].mean()
    return f"{error:10.2f}{distance:10.2f}{100 * neighbors.score(rows, y_test):12.1f}"


print(f"{'':12}{'length':>8}{'sq. error':>10}{'distance':>10}{'right, %':>12}")
print(f"{'clean':20}{describe(X_test)}")
print(f"{'denoised':20}{describe(stages[0]['denoised'])}")
for n_steps, walker in walkers.items():
    print(f"{n_steps:4} steps  {walker.walk_length_:8.1f}{describe(stages[n_steps]['jumped'])}")

# %%
# A jump straight from x̂ sharpens it a little. From there on the error grows and labels are lost,
# the more the longer the walk: classes mix, as after long enough they must. Meanwhile the jumps
# stay as near to training digits as test digits are. So the walk is no better denoiser. It trades
# an average of digits for one of them, and for a while this is mostly one of the right class. What
# that does to certificates is told in :doc:`/guide/walk_jump`.
#
# In the plane one sees how. One point of a moon, eight noisy copies, and walks of three lengths.
# The share of jumps that are on the other moon is counted among 300 copies.
moons, moon = make_moons(400, noise=0.05, random_state=0)
moon_of = KNeighborsClassifier(3).fit(moons, moon)
point = np.array([[0.5, 0.85]])
copies = point + 0.3 * np.random.default_rng(0).standard_normal((300, 2))
plane, axes = plt.subplots(1, 3, figsize=(13, 3.4), layout="constrained")
for ax, n_steps in zip(axes, (10, 100, 1000), strict=True):
    walker = WalkJumpDenoiser(
        ParzenDenoiser(), ParzenDenoiser(0.1), sigma=0.3, n_steps=n_steps, random_state=0
    ).fit(moons)
    ax.scatter(*moons.T, s=4, color="#CCCCCC", zorder=0)
    DenoisingDisplay.from_estimator(walker, point, n_noisy=8, random_state=1, ax=ax)
    crossed = 100 * moon_of.predict(walker.transform(copies)).mean()
    ax.set_title(f"{n_steps} steps: {crossed:.0f} % on the other moon")
    ax.get_legend().remove()
plane.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)

# %%
# Where the copies leave two moons possible, x̂ lies between them. The walk leads onto one, the jump
# to its middle. A longer walk wanders along the moon, which is no harm to a classifier of moons;
# then more and more of the jumps are on the other one.
#
# A walk that forgets its start needs none. Samples from scratch start from a Gaussian with the mean
# and the spread of noisy rows, here on the energies of both noise levels.
scratch = {
    f"σ' = {walk_sigma}, {n_steps} steps": walk.sample(N_IMAGES, n_steps=n_steps, random_state=0)
    for n_steps in (0, 10, 100, 1000)
}
scratch[f"σ = {sigma}, 1000 steps"] = jump.sample(N_IMAGES, random_state=0)
DenoisingDisplay.from_stages(scratch, image_shape=image_shape, vmin=0, vmax=1)

# %%
# Both energies of the 8 x 8 digits lead to digits, the one of less noise to sharper ones. On MNIST,
# with the numbers of the paper and a minute of training for each energy, walks are less tame. The
# jumps after 100 steps are rougher than x̂, and fewer are right, 86.7 percent against 91.3. Some
# walks of 1,000 steps leave the images for good, and from scratch those at σ' = 0.05 find none: the
# network saw points within so little noise of the data, and knows nothing of the space around. At
# σ = 0.6 they find digits. (2026-11-21, x86-64, torch 2.13.0 with one thread.)
if len(sys.argv) > 1:
    figure.savefig(sys.argv[1], dpi=150)
plt.show()
