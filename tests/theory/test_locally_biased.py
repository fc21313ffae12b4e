"""Radii against brute force and exact arithmetic; certificates of quadratics against attacks.

A sound certificate is never broken, so that these tests raise no false alarm for any seed. Parts of
a certificate that are known to be wrong are put in at the end, to see that attacks notice.
"""

import itertools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from scipy.special import expit

from smoothlearn.theory.locally_biased import (
    LINKS,
    bias,
    combine,
    published_radius,
    radius_against,
    radius_on_balls,
    radius_with,
    sigmoid_slope,
    smoothed_score,
)
from smoothlearn.theory.neighbors import keep_radii

ALPHAS = (0.0, 0.3, 1.0, 5.0, 20.0)
CHORDS = 0.01  # what the chords of radius_with may cost, in units of f


def situations(n, seed=0, spread=1.5):
    """Margins of both signs, gradient norms and curvatures over some orders of magnitude."""
    rng = np.random.default_rng(seed)
    G, L = np.exp(rng.normal(0, spread, (2, n)))
    G[::11] = 0
    return rng.normal(0, 3, n) * np.exp(rng.normal(0, 1, n)), G, L


def beta(norm, alpha, link):
    """What the oracle adds to f."""
    return np.arcsinh(alpha * norm) if link == "probability" else alpha * norm


def area(G, L, t, end):
    """The integral of min(G + L s, end + L (t - s)) over 0 < s < t, as two trapezoids."""
    peak = (G + end + L * t) / 2
    turn = np.divide(peak - G, L, out=np.zeros(np.broadcast(peak, L).shape), where=L > 0)
    return (G + peak) / 2 * turn + (end + peak) / 2 * (t - turn)


def least_with(m, G, L, t, alpha, link):
    """The least of f + beta at a distance t over the gradient norms there can be, by two grids."""
    low, high = np.maximum(G - L * t, 0), G + L * t
    for _ in range(2):
        end = low + np.linspace(0, 1, 801)[:, np.newaxis] * (high - low)
        value = m - area(G, L, t, end) + beta(end, alpha, link)
        best = value.argmin(axis=0)
        rows = np.arange(len(m))
        low, high = end[np.maximum(best - 1, 0), rows], end[np.minimum(best + 1, 800), rows]
    return value.min(axis=0)


def least_against(m, G, L, t, alpha, link):
    """The least of f - beta at a distance t: f falls most where the gradient grows most."""
    end = G + L * t
    return m - area(G, L, t, end) - beta(end, alpha, link)


def test_the_trapezoids_are_the_integral():
    _, G, L = situations(50)
    t = np.linspace(0.01, 3, 50)
    for z in (-1.0, -0.4, 0.3, 1.0):
        end = np.maximum(G + z * L * t, 0)
        s = np.linspace(0, 1, 20001)[:, np.newaxis] * t
        slopes = np.minimum(G + L * s, end + L * (t - s))
        np.testing.assert_allclose(area(G, L, t, end), np.trapezoid(slopes, s, axis=0), rtol=1e-6)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize(
    ("radius", "least"), [(radius_against, least_against), (radius_with, least_with)]
)
def test_radii_are_the_first_roots_of_the_definition(radius, least, alpha, link):
    m, G, L = situations(300)
    r = radius(m, G, L, alpha, link)
    sign = 1 if radius is radius_with else -1
    positive = m + sign * beta(G, alpha, link) > 0
    np.testing.assert_array_equal(r > 0, positive)
    m, G, L, r = (values[positive] for values in (m, G, L, r))
    scale = 1e-9 * (np.abs(m) + beta(G + L * r, alpha, link))
    for share in np.linspace(0.02, 1, 25):
        assert np.all(least(m, G, L, share * r, alpha, link) > -scale)
    lost = CHORDS if radius is radius_with and link == "probability" and alpha else 0
    assert np.all(least(m, G, L, r, alpha, link) <= lost + scale)
    assert np.all(least(m, G, L, r * (1 + 1e-6), alpha, link) < lost + scale)


def worst_path(m, G, L, t, alpha, link, n_steps=4000):
    """f and |f'| along a line, n_steps from 0 to t, of a function that falls as far as it can."""
    low, high = np.maximum(G - L * t, 0), G + L * t
    ends = low + np.linspace(0, 1, 4001)[:, np.newaxis] * (high - low)
    end = ends[(beta(ends, alpha, link) - area(G, L, t, ends)).argmin(axis=0), np.arange(len(m))]
    s = np.linspace(0, 1, n_steps + 1)[:, np.newaxis] * t
    slope = np.minimum(G + L * s, end + L * (t - s))
    steps = (slope[1:] + slope[:-1]) / 2 * np.diff(s, axis=0)
    return m - np.concatenate([np.zeros((1, len(m))), np.cumsum(steps, axis=0)]), slope, s


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_no_larger_radius_with_holds_for_all_functions_of_one_variable(alpha, link):
    """A function with this m, G and L whose smoothed score changes sign just beyond the radius."""
    m, G, L = situations(200, seed=1)
    positive = m + beta(G, alpha, link) > 0
    m, G, L = m[positive], G[positive], L[positive]
    r = radius_with(m, G, L, alpha, link)
    f, slope, s = worst_path(m, G, L, r * (1 + 1e-3), alpha, link)
    np.testing.assert_allclose(slope[0], G)
    assert np.all(np.abs(np.diff(slope, axis=0)) <= L * np.diff(s, axis=0) * (1 + 1e-6) + 1e-12)
    smoothed = f + beta(slope, alpha, link)
    lost = CHORDS if link == "probability" and alpha else 0
    assert np.all(smoothed[-1] < lost + 1e-6 * (np.abs(m) + alpha * G))
    within = s <= r
    assert np.all(
        smoothed[within] > -1e-6 * np.broadcast_to(np.abs(m) + alpha * G, s.shape)[within]
    )


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("alpha", ALPHAS)
def test_no_larger_radius_against_holds_for_all_functions_of_one_variable(alpha, link):
    """f = m - G s - L s^2 / 2, against the oracle."""
    m, G, L = situations(200, seed=2)
    r = radius_against(m, G, L, alpha, link)
    beyond = np.maximum(r, 1e-9) * (1 + 1e-6)
    smoothed = m - G * beyond - L * beyond**2 / 2 - beta(G + L * beyond, alpha, link)
    assert np.all(smoothed < 1e-9 * (1 + np.abs(m)))


def exact_least_with(m, G, L, t, alpha):
    """The least of f + alpha |grad f| in rational numbers: convex in the gradient's last norm."""
    m, G, L, t, alpha = (Fraction(float(value)) for value in (m, G, L, t, alpha))
    end = G
    if L > 0:
        end = min(max(G + L * (t - 2 * alpha), G - L * t, Fraction(0)), G + L * t)
    peak = (G + end + L * t) / 2
    turn = (peak - G) / L if L > 0 else t
    return m - (G + peak) / 2 * turn - (end + peak) / 2 * (t - turn) + alpha * end


def exact_least_against(m, G, L, t, alpha):
    m, G, L, t, alpha = (Fraction(float(value)) for value in (m, G, L, t, alpha))
    return m - G * t - L * t * t / 2 - alpha * (G + L * t)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize(
    ("radius", "least"), [(radius_against, exact_least_against), (radius_with, exact_least_with)]
)
def test_no_rounding_error_enlarges_a_radius(radius, least, alpha):
    """Exactly, for curvatures from 1e-300 to 1e12: the textbook root is wrong at 1e-12."""
    m, G, _ = situations(30, seed=3)
    for L in (0.0, 1e-300, 1e-200, 1e-100, 1e-17, 1e-12, 1e-8, 1e-3, 1.0, 1e4, 1e12):
        r = radius(m, G, np.full(30, L), alpha, "logit")
        for i in np.flatnonzero((r > 0) & np.isfinite(r)):
            assert least(m[i], G[i], L, r[i], alpha) >= 0
            assert least(m[i], G[i], L, r[i] * (1 + 1e-9), alpha) <= 0


def test_the_textbook_root_would_certify_too_much():
    m, G, L, alpha = 1.0, 1.0, 1e-12, 0.5
    B, M = G + alpha * L, m - alpha * G
    textbook = (np.sqrt(B**2 + 2 * L * M) - B) / L
    assert exact_least_against(m, G, L, textbook, alpha) < 0


@pytest.mark.parametrize("scale", [1e-250, 1e-170, 1e-20, 1e20, 1e140])
@pytest.mark.parametrize("alpha", [0.3, 5.0])
def test_radii_do_not_depend_on_the_units_of_f(scale, alpha):
    m, G, L = situations(100)
    for radius in (radius_against, radius_with):
        expected = radius(m, G, L, alpha, "logit")
        found = radius(m * scale, G * scale, L * scale, alpha, "logit")
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def three_branches(m, G, L, alpha, t):
    """f + alpha |grad f| at a distance t for L > 0, by its three branches."""
    M = m + alpha * G
    first = M - (G + alpha * L) * t + L * t**2 / 2
    middle = m - G * t / 2 - L * t**2 / 4 + G**2 / (4 * L)
    last = M - G * t - L / 2 * ((t - alpha) ** 2 + alpha**2)
    rest = np.where((t >= G / L) & (t <= 2 * alpha - G / L), middle, last)
    return np.where(t <= np.minimum(alpha, G / L), first, rest)


@pytest.mark.parametrize("alpha", ALPHAS)
def test_radius_with_is_the_root_of_three_quadratics(alpha):
    m, G, L = situations(400, seed=4)
    r = radius_with(m, G, L, alpha, "logit")
    inside = r > 0
    m, G, L, r = m[inside], G[inside], L[inside], r[inside]
    scale = np.abs(m) + alpha * G + L * r**2
    np.testing.assert_allclose(three_branches(m, G, L, alpha, r) / scale, 0, atol=1e-10)
    in_first = r <= np.minimum(alpha, G / L)
    in_middle = (r >= G / L) & (r <= 2 * alpha - G / L)
    if alpha > 0:
        assert in_first.any()
        assert in_middle.any()
        assert np.any(~in_first & ~in_middle)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 5.0])
def test_the_smoothed_score_has_the_sign_of_f_with_its_bias(alpha):
    f, G, _ = situations(500, seed=5)
    for oracle in (-1.0, 1.0):
        for link in LINKS:
            smoothed = smoothed_score(f, G, np.full(500, oracle), alpha, link)
            expected = f + oracle * beta(G, alpha, link)
            np.testing.assert_array_equal(np.sign(smoothed), np.sign(expected))
            np.testing.assert_allclose(bias(G, alpha, link), beta(G, alpha, link))


def test_the_link_probability_smooths_the_sigmoid():
    f, G, _ = situations(200, seed=6)
    step = 1e-6
    slope = (expit(f + step) - expit(f - step)) / (2 * step)
    np.testing.assert_allclose(sigmoid_slope(f), slope, atol=1e-9)
    smoothed = smoothed_score(f, G, -np.ones(200), 2.0, "probability")
    np.testing.assert_allclose(smoothed, expit(f) - 0.5 - 2 * slope * G, atol=1e-6)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("radius", [radius_against, radius_with])
def test_a_flat_gradient_gives_the_linear_radius(radius, link):
    m, G, _ = situations(100)
    G = np.maximum(G, 0.1)
    sign = 1 if radius is radius_with else -1
    for alpha in ALPHAS:
        linear = np.maximum(m + sign * beta(G, alpha, link), 0) / G
        for L in (0.0, 1e-200, 1e-12):
            found = radius(m, G, np.full(100, L), alpha, link)
            np.testing.assert_allclose(found, linear, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("link", LINKS)
def test_without_a_bias_both_radii_are_the_bases(link):
    m, G, L = situations(200)
    m = np.abs(m)
    base = 2 * m / (G + np.sqrt(G**2 + 2 * L * m))
    for radius in (radius_against, radius_with):
        np.testing.assert_allclose(radius(m, G, L, 0.0, link), base, rtol=1e-9)
        assert np.all(radius(-m, G, L, 0.0, link) == 0)


def test_radii_shrink_with_the_curvature():
    m, G, L = situations(200, seed=7)
    for radius, link in [(radius_with, "logit"), *((radius_against, link) for link in LINKS)]:
        for alpha in ALPHAS:
            radii = [radius(m, G, L * step, alpha, link) for step in (0, 1e-6, 0.1, 1, 1.5, 1e6)]
            assert np.all(np.diff(radii, axis=0) <= 1e-9 * radii[0])


@pytest.mark.parametrize("link", LINKS)
def test_the_bias_helps_or_harms_the_more_the_larger_alpha_is(link):
    m, G, L = situations(200, seed=8)
    helped = [radius_with(m, G, L, alpha, link) for alpha in ALPHAS]
    harmed = [radius_against(m, G, L, alpha, link) for alpha in ALPHAS]
    tolerance = 1e-9 if link == "logit" else 0.02
    for smaller, larger in itertools.pairwise(helped):
        assert np.all(larger >= smaller * (1 - tolerance))
    for larger, smaller in itertools.pairwise(harmed):
        assert np.all(larger >= smaller * (1 - 1e-9))


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("alpha", [*ALPHAS, 1e-12, 1e6])
@pytest.mark.parametrize("radius", [radius_against, radius_with])
def test_extremes_give_radii_without_a_warning(radius, alpha, link):
    values = [0.0, 5e-324, 1e-300, 1e-200, 1e-12, 1.0, 1e12, 1e100]
    margins = [*values, *(-value for value in values)]
    m, G, L = (grid.ravel() for grid in np.meshgrid(margins, values, [*values, np.inf]))
    r = radius(m, G, L, alpha, link)
    assert np.all(r >= 0)
    assert np.all(r[np.inf == L] == 0)
    flat = (G == 0) & (L == 0)
    np.testing.assert_array_equal(r[flat], np.where(m[flat] > 0, np.inf, 0))
    linear = (L == 0) & (G > 0) & (r > 0)
    with np.errstate(over="ignore"):
        expected = (m + (1 if radius is radius_with else -1) * beta(G, alpha, link))[linear]
        assert np.all(r[linear] <= expected / G[linear])
    for unknown in ((np.nan, 1.0, 1.0), (1.0, np.nan, 1.0), (1.0, 1.0, np.nan)):
        assert radius(*np.array(unknown)[:, np.newaxis], alpha, link) == 0


def test_the_published_radius_is_its_closed_form_and_no_larger_than_ours():
    m, G, L = situations(300, seed=9)
    for alpha in ALPHAS:
        B = alpha * L + G
        for radius, sign in ((radius_with, 1), (radius_against, -1)):
            smoothed = m + sign * alpha * G
            published = published_radius(smoothed, G, L, alpha)
            closed = (np.sqrt(B**2 + 4 * L * np.maximum(smoothed, 0)) - B) / (2 * L)
            np.testing.assert_allclose(published, closed, rtol=1e-6, atol=1e-12)
            assert np.all(published <= radius(m, G, L, alpha, "logit") * (1 + 1e-9))
            linear = published_radius(smoothed[1:5], G[1:5], np.zeros(4), alpha)
            np.testing.assert_allclose(linear, np.maximum(smoothed, 0)[1:5] / G[1:5])


def jumps(ball):
    """From 0.1 to 50 at 1, and without a bound from 7 on."""
    return np.where(ball < 1, 0.1, np.where(ball < 7, 50.0, np.inf))


@pytest.mark.parametrize(
    "curvature",
    [
        jumps,
        lambda ball: 0.2 * ball,
        lambda ball: ball**3,
        lambda ball: np.minimum(np.exp(np.minimum(ball, 50.0)), 1e3) - 1,
        lambda ball: np.where(ball > 0, np.inf, 0.0),
        lambda ball: np.full_like(ball, 0.7),
    ],
)
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_balls_give_the_best_of_their_radii(curvature, alpha):
    m, G, _ = situations(100, seed=10, spread=0.7)

    def radius(L):
        return radius_with(m, G, L, alpha, "logit")

    found = radius_on_balls(radius, curvature, 100)
    with np.errstate(invalid="ignore"):
        assert np.all(found <= radius(curvature(found)) * (1 + 1e-9))
    balls = np.concatenate([np.linspace(0, 10, 1001), [50, np.inf]])
    scan = np.max([np.minimum(R, radius(curvature(np.full(100, R)))) for R in balls], axis=0)
    np.testing.assert_array_less(0.99 * scan - 0.001, found)


def test_a_curvature_that_jumps_certifies_no_further_than_where_it_jumps():
    """f = 1 - t/2 up to t = 1, and then falls as fast as can be: its sign changes soon after."""
    one = np.ones(1)
    found = radius_on_balls(
        lambda L: radius_against(one, one / 2, L, 0.0, "logit"),
        lambda ball: np.where(ball <= 1, 0.0, 1e6),
        1,
    )
    assert 0.999 < found[0] <= 1


def combined_by_loops(label, oracle, avoid, against, plain, favoured, rival_plain):
    """The formula, class by class."""
    classes, r = range(avoid.shape[1]), []
    for i, c in enumerate(label):
        reach = [0.0 if k == oracle[i] else avoid[i, k] for k in classes]
        r.append(min(max(against[i, k], min(reach[k], plain[i, k])) for k in classes if k != c))
        if c == oracle[i]:
            keep = min(reach[k] for k in classes if k != c)
            helped = min(max(favoured[i, k], rival_plain[i, k]) for k in classes if k != c)
            r[-1] = max(r[-1], min(keep, helped))
    return r


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_radii_of_pairs_are_combined_as_the_formula_says(n_classes):
    rng = np.random.default_rng(0)
    label, oracle = rng.integers(0, n_classes, (2, 300))
    avoid, *radii = rng.exponential(size=(5, 300, n_classes)) * rng.integers(0, 2, (5, 300, 1))
    avoid[::7] = np.inf
    names = ("against", "plain", "favoured", "rival_plain")
    parts = dict(zip(names, radii, strict=True))
    expected = combined_by_loops(label, oracle, avoid, **parts)
    np.testing.assert_array_equal(combine(label, oracle, avoid, **parts), expected)


def test_two_classes_need_the_oracle_only_where_it_agrees():
    rng = np.random.default_rng(1)
    label, oracle = rng.integers(0, 2, (2, 300))
    rows, other = np.arange(300), 1 - label
    minus, base, plus, avoid = np.sort(rng.exponential(size=(4, 300, 2)), axis=0)[[0, 1, 2, 3]]
    avoid = rng.permutation(avoid)
    found = combine(
        label, oracle, avoid, against=minus, plain=base, favoured=plus, rival_plain=0 * plus
    )
    helped = np.minimum(plus, avoid)[rows, other]
    expected = np.maximum(minus[rows, other], np.where(label == oracle, helped, 0))
    np.testing.assert_array_equal(found, expected)


@dataclass(frozen=True, eq=False)
class Quadratics:
    """Scores x' H x / 2 + a' x + b of every class, n times, at n rows; bias points for all."""

    hessians: np.ndarray
    slopes: np.ndarray
    offsets: np.ndarray
    X: np.ndarray
    points: np.ndarray
    labels: np.ndarray

    @property
    def n_classes(self):
        return self.offsets.shape[1]

    def expand(self, Z):
        """Scores (n, m, n_classes) and gradients (n, m, n_classes, d) at Z (n, m, d)."""
        bent = np.einsum("nkij,nmj->nmki", self.hessians, Z)
        slopes = self.slopes[:, np.newaxis]
        scores = ((bent / 2 + slopes) * Z[:, :, np.newaxis]).sum(axis=-1)
        return scores + self.offsets[:, np.newaxis], bent + slopes


def quadratics(n, n_classes, n_features, seed):
    """Of which a fifth is linear, with copies among the bias points, some of another class."""
    rng = np.random.default_rng(seed)
    shape = (n, n_classes, n_features)
    hessians = rng.normal(size=(*shape, n_features))
    hessians += hessians.swapaxes(-1, -2)
    hessians *= rng.choice([0.0, 0.1, 0.3, 1.0, 2.0], n)[:, np.newaxis, np.newaxis, np.newaxis]
    n_points = rng.integers(n_classes + 1, 10)
    points, labels = rng.normal(0, 1.5, (n_points, n_features)), np.arange(n_points) % n_classes
    points[-1] = points[seed % 2 - 2]
    return Quadratics(
        hessians,
        rng.normal(size=shape),
        rng.normal(size=shape[:2]),
        rng.normal(size=(n, n_features)),
        points,
        labels,
    )


def at(columns, k):
    """Of the third axis of (n, m, n_classes, ...), entry k (n, m)."""
    k = k.reshape(k.shape + (1,) * (columns.ndim - 2))
    return np.take_along_axis(columns, k, axis=2).squeeze(2)


def length(v, norm):
    return np.linalg.norm(v, ord=norm, axis=-1)


def dual_length(v, norm):
    return length(v, {1: np.inf, 2: 2, np.inf: 1}[norm])


def decide(problem, Z, norm, alpha, link):
    """The label, the oracle and the base's best rival of it, by Eq. 5 on the pair of the last."""
    scores, gradients = problem.expand(Z)
    distance = ((Z[:, :, np.newaxis] - problem.points) ** 2).sum(axis=-1)
    oracle = problem.labels[distance.argmin(axis=-1)]
    named = np.arange(problem.n_classes) == oracle[..., np.newaxis]
    rival = np.where(named, -np.inf, scores).argmax(axis=-1)
    g = at(scores, oracle) - at(scores, rival)
    push = alpha * dual_length(at(gradients, oracle) - at(gradients, rival), norm)
    if link == "probability":
        g, push = expit(g) - 0.5, expit(g) * expit(-g) * push
    return np.where(g + push > 0, oracle, rival), oracle, rival


def exact_constant(H, norm):
    """The operator norm of matrices (n, d, d) from the norm to its dual."""
    if norm == 2:
        return np.linalg.norm(H, 2, axis=(1, 2))
    if norm == 1:
        return np.abs(H).max(axis=(1, 2))
    signs = np.array(list(itertools.product([-1, 1], repeat=H.shape[1])))
    return np.abs(signs @ H).sum(axis=-1).max(axis=-1)


def leads(problem, norm, gap=dual_length):
    """How far point j stays farther than point i, (n, i, j); 0 for copies."""
    rho = ((problem.X[:, np.newaxis] - problem.points) ** 2).sum(axis=-1)
    lead = rho[:, np.newaxis] - rho[:, :, np.newaxis]
    between = gap(problem.points[:, np.newaxis] - problem.points, norm)
    return np.divide(lead, 2 * between, out=np.zeros_like(lead), where=between > 0)


def min_max(problem, norm, gap=dual_length):
    """The radius (n, n_classes) to which, for each j of class k, some i of another is nearer."""
    table = leads(problem, norm, gap)
    columns = [
        table[:, problem.labels != k][:, :, problem.labels == k].max(axis=1).min(axis=1)
        for k in range(problem.n_classes)
    ]
    return np.maximum(np.stack(columns, axis=1), 0)


def from_neighbors(problem, norm):
    return keep_radii(problem.X, problem.points, problem.labels, problem.n_classes, norm)[-1]


def certify(
    problem,
    norm,
    alpha,
    link,
    *,
    gradient_length=dual_length,
    constant=exact_constant,
    avoid=min_max,
    against=radius_against,
    favoured=radius_with,
    combined=combine,
):
    """Labels and radii (n,); the arguments by name are parts that can be wrong."""
    x = problem.X[:, np.newaxis]
    label, oracle, rival = (k[:, 0] for k in decide(problem, x, norm, alpha, link))
    scores, gradients = (values[:, 0] for values in problem.expand(x))
    rows = np.arange(len(label))

    def table(radius, first, level):
        return np.stack(
            [
                radius(
                    scores[rows, first] - scores[:, k],
                    gradient_length(gradients[rows, first] - gradients[:, k], norm),
                    constant(problem.hessians[rows, first] - problem.hessians[:, k], norm),
                    level,
                    link,
                )
                for k in range(problem.n_classes)
            ],
            axis=1,
        )

    return label, combined(
        label,
        oracle,
        avoid(problem, norm),
        against=table(against, label, alpha),
        plain=table(radius_against, label, 0.0),
        favoured=table(favoured, label, alpha),
        rival_plain=table(radius_against, rival, 0.0),
    )


def steepest(v, norm):
    """The direction along which v grows fastest, for the norm."""
    if norm == 1:
        return np.sign(v) * (np.abs(v) == np.abs(v).max(axis=-1, keepdims=True))
    return np.sign(v) if norm == np.inf else v


def directions(problem, norm, rng):
    """Random ones, signs, along differences of gradients, to bias points and their bisectors."""
    n, d = problem.X.shape
    gradients = problem.expand(problem.X[:, np.newaxis])[1][:, 0]
    slopes = (gradients[:, :, np.newaxis] - gradients[:, np.newaxis]).reshape(n, -1, d)
    to_points = problem.points - problem.X[:, np.newaxis]
    nearest = length(to_points, 2).argmin(axis=1)
    bisectors = problem.points - problem.points[nearest][:, np.newaxis]
    parts = [
        rng.normal(size=(n, 6, d)),
        rng.choice([-1.0, 1.0], (n, 4, d)),
        steepest(slopes, norm),
        to_points,
        steepest(bisectors, norm),
    ]
    v = np.concatenate(parts, axis=1)
    v[np.abs(v).max(axis=-1) == 0] = 1.0
    return v / length(v, norm)[..., np.newaxis]


def attack(problem, norm, alpha, link, seed, **wrong):
    """How many points within a radius were tried, and how many rows have another label there."""
    label, radius = certify(problem, norm, alpha, link, **wrong)
    assert not np.isnan(radius).any()
    sizes = np.multiply.outer(np.minimum(radius, 1e3), [0.3, 0.7, 0.999])
    v = directions(problem, norm, np.random.default_rng(seed))
    deltas = (sizes[:, :, np.newaxis, np.newaxis] * v[:, np.newaxis]).reshape(
        len(v), -1, v.shape[-1]
    )
    found = decide(problem, problem.X[:, np.newaxis] + deltas, norm, alpha, link)[0]
    broken = (found != label[:, np.newaxis]) & (radius > 0)[:, np.newaxis]
    return np.count_nonzero(radius > 0) * deltas.shape[1], np.count_nonzero(broken.any(axis=1))


def total(norm, n_classes, link, **wrong):
    """Points tried and rows broken, over values of alpha and numbers of features."""
    counts = []
    for i, alpha in enumerate(ALPHAS):
        problem = quadratics(100, n_classes, 1 + (i + n_classes) % 4, seed=i)
        counts.append(attack(problem, norm, alpha, link, i, **wrong))
    return np.sum(counts, axis=0)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("n_classes", [2, 3, 4])
@pytest.mark.parametrize("norm", [1, 2, np.inf])
@pytest.mark.parametrize("avoid", [min_max, from_neighbors])
def test_no_attack_breaks_a_certificate(avoid, norm, n_classes, link):
    tried, broken = total(norm, n_classes, link, avoid=avoid)
    assert tried > 20_000
    assert broken == 0


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("norm", [1, 2, np.inf])
def test_no_row_of_a_fine_grid_breaks_a_certificate(norm, n_classes, link):
    """And certificates reach a good part of the way to the nearest row with another label."""
    problem = quadratics(40, n_classes, 2, seed=11)
    axis = np.linspace(-3, 3, 61)
    deltas = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    size = length(deltas, norm)
    Z = problem.X[:, np.newaxis] + deltas
    for alpha in (1.0, 5.0):
        label, radius = certify(problem, norm, alpha, link)
        changed = decide(problem, Z, norm, alpha, link)[0] != label[:, np.newaxis]
        nearest = np.where(changed, size, np.inf).min(axis=1)
        assert np.all(radius <= nearest)
        inside = np.isfinite(nearest)
        assert np.mean(radius[inside] / nearest[inside]) > 0.4


@pytest.mark.parametrize("norm", [1, 2, np.inf])
def test_no_certificate_is_smaller_than_the_published_one(norm):
    for i, alpha in enumerate(ALPHAS):
        problem = quadratics(200, 2, 3, seed=20 + i)
        label, radius = certify(problem, norm, alpha, "logit")
        x = problem.X[:, np.newaxis]
        oracle = decide(problem, x, norm, alpha, "logit")[1][:, 0]
        scores, gradients = (values[:, 0] for values in problem.expand(x))
        rows, other = np.arange(200), 1 - label
        f = scores[rows, label] - scores[rows, other]
        G = dual_length(gradients[:, 1] - gradients[:, 0], norm)
        L = exact_constant(problem.hessians[:, 1] - problem.hessians[:, 0], norm)
        smoothed = smoothed_score(f, G, np.where(oracle == label, 1.0, -1.0), alpha, "logit")
        nearest = length(x - problem.points, 2).argmin(axis=1)
        opponents = problem.labels != oracle[:, np.newaxis]
        data = np.where(opponents, leads(problem, norm)[rows, nearest], np.inf).min(axis=1)
        published = np.minimum(published_radius(smoothed, G, L, alpha), data)
        assert np.all(published <= radius * (1 + 1e-9) + 1e-12)


def farthest_of_both(problem, norm):
    """The maximum over both points of Theorem 6."""
    table = leads(problem, norm)
    own = [problem.labels == k for k in range(problem.n_classes)]
    return np.stack([table[:, ~k][:, :, k].max(axis=(1, 2), initial=0) for k in own], axis=1)


def only_the_nearest_opponent(problem, norm):
    table, rho = leads(problem, norm), length(problem.X[:, np.newaxis] - problem.points, 2)
    columns = []
    for k in range(problem.n_classes):
        j = np.where(problem.labels == k, rho, np.inf).argmin(axis=1)
        columns.append(table[np.arange(len(j)), :, j][:, problem.labels != k].max(axis=1))
    return np.maximum(np.stack(columns, axis=1), 0)


def although_they_disagree(label, oracle, avoid, **radii):
    """Help for the label within the radius in which the oracle stays, whatever it says."""
    named = np.arange(avoid.shape[1]) == oracle[:, np.newaxis]
    keep = np.where(named, np.inf, avoid).min(axis=1, keepdims=True)
    return combine(label, label, np.broadcast_to(keep, avoid.shape), **radii)


def although_the_base_may_fall(label, oracle, avoid, *, plain, **radii):
    return combine(label, oracle, avoid, plain=np.full_like(plain, np.inf), **radii)


def although_third_classes_may_rise(label, oracle, avoid, *, rival_plain, **radii):
    third = np.where(rival_plain > 0, np.inf, 0)
    return combine(label, oracle, avoid, rival_plain=third, **radii)


def first_branch(m, G, L, alpha, link):
    M, B = m + alpha * G, G + alpha * L
    return np.maximum(2 * M / (B + np.sqrt(np.maximum(B**2 - 2 * L * M, 0))), 0)


def without_alpha_L(m, G, L, alpha, link):
    return radius_against(m - alpha * G, G, L, 0.0, "logit")


WRONG = {
    "no data term": {"avoid": lambda problem, norm: np.inf * (min_max(problem, norm) + 1)},
    "factor 2 missing": {"avoid": lambda problem, norm: 2 * min_max(problem, norm)},
    "maximum over i and j": {"avoid": farthest_of_both},
    "nearest opponent only": {"avoid": only_the_nearest_opponent},
    "norm itself for x_i - x_j": {"avoid": lambda problem, norm: min_max(problem, norm, length)},
    "norm itself for the gradient": {"gradient_length": length},
    "L = 0": {"constant": lambda H, norm: 0 * exact_constant(H, norm)},
    "L halved": {"constant": lambda H, norm: exact_constant(H, norm) / 2},
    "spectral norm": {"constant": lambda H, norm: np.linalg.norm(H, 2, axis=(1, 2))},
    "largest sum of a row": {"constant": lambda H, norm: np.abs(H).sum(axis=-1).max(axis=-1)},
    "first branch only": {"favoured": first_branch},
    "no alpha L": {"against": without_alpha_L},
    "no inverse sinh": {"favoured": lambda *args: radius_with(*args[:-1], "logit")},
    "help against the oracle": {"combined": although_they_disagree},
    "no radius of the base": {"combined": although_the_base_may_fall},
    "no third class": {"combined": although_third_classes_may_rise},
}


@pytest.mark.parametrize("name", WRONG)
def test_attacks_break_certificates_with_a_wrong_part(name):
    """In the inf-norm, the only one for which each of these is wrong."""
    broken = 0
    for n_classes, link in itertools.product((3, 4), LINKS):
        with np.errstate(divide="ignore", invalid="ignore"):
            broken += total(np.inf, n_classes, link, **WRONG[name])[1]
    assert broken >= 5
