"""Locally biased smoothing: deterministic certificates from a gradient and nearest neighbours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.frozen import FrozenEstimator

from smoothlearn.augmentation import pick_fit_params
from smoothlearn.bases import check_view, differentiable_view, fit_base
from smoothlearn.bias_points import (
    check_n_bias,
    choose_bias_points,
    content_keys,
    distinct_rows,
)
from smoothlearn.certificates import Certificate
from smoothlearn.nn.randomness import spawn_seeds
from smoothlearn.smoothed_rows import SmoothedRows
from smoothlearn.smoother import MetaSmoother
from smoothlearn.theory.arguments import as_finite, as_question
from smoothlearn.theory.locally_biased import LINKS
from smoothlearn.theory.neighbors import keep_radii, nearest
from smoothlearn.theory.norms import check_norm
from smoothlearn.views.affine import FloatArray

RADII = ("tight", "paper")

_BLOCK = 128  # what a kernel machine computes for so many rows stays in the cache

_LARGEST = 1e140


class LocallyBiasedSmoother(MetaSmoother):
    r"""The classifier :math:`\mathrm{sign}\,(g(x) + \alpha\,\hat y(x)\,\|\nabla g(x)\|_*)`,
    certified.

    Here g is the score of a differentiable base and :math:`\hat y(x)`, the direction oracle, the
    label of the nearest among some training points held out for it, the bias points [1]_. The score
    is pushed towards the oracle's class by what it could gain over a distance :math:`\alpha`.
    With :math:`\alpha = 0` this is the base, with :math:`\alpha \to \infty` the 1-nearest
    neighbour wherever the gradient is not 0. Certificates are computed, not estimated: their
    ``confidence_level`` is 1.

    With more than two classes the base's best rival b of the oracle's class is compared with it:
    the label is the oracle's where :math:`g_{\hat y} - g_b + \alpha\|\nabla(g_{\hat y} - g_b)\|_*`
    is positive, and b elsewhere.

    Parameters
    ----------
    estimator : classifier
        The base: a linear classifier (``coef_``), an SVC or NuSVC with a built-in kernel, or a
        skorch net, also behind affine scalers or PCA in a pipeline. Certificates need an activation
        with a bounded second derivative: a net with ReLU or max-pooling predicts, but does not
        certify. It is fitted on the rows that are no bias points. In a ``FrozenEstimator`` it is
        not refitted, and all rows are bias points. For an SVC of more than two classes, the score
        of a class is the sum of its one-against-one scores, whose argmax is not always the label of
        ``SVC.predict``.
    alpha : float
        Bias level :math:`\alpha \ge 0`, in the units of X.
    norm : 1, 2 or inf
        The p of the p-norm of perturbations: the gradient is measured in its dual norm, the radius
        in it. The nearest neighbour is always the Euclidean one.
    n_bias : float or int
        Share of the distinct rows of every class that become bias points, or their number in all.
        They are chosen by a hash of their content, so that weights, copies and the order of rows
        make no difference.
    link : {"logit", "probability"}
        g is the base's score f itself (its log-odds or decision function), or
        :math:`1/(1 + e^{-f}) - 1/2`, which saturates. These are two different smoothed classifiers.
        The gradient of the latter vanishes where the base is sure, so that the oracle only decides
        where it is not, and ``alpha`` may be in the hundreds; for a linear base use "logit".
    gradient_lipschitz : "auto" or float
        Bound on how fast the gradient of f, or of any difference of two scores, changes, from the
        norm to its dual. "auto" computes it from the base, on balls around each row where that is
        better than in all of space. A number is taken as given, and recorded in the certificate as
        its ``assumption``.
    radius : {"tight", "paper"}
        The largest sound radius we know, or the published one of Theorem 6 and 8, for comparison;
        the latter is for two classes.
    random_state : int, RandomState or None
        Seeds the choice of bias points, and every ``random_state`` inside that is None.

    Attributes
    ----------
    estimator_ : classifier
        The fitted base.
    classes_ : ndarray of shape (n_classes,)
    bias_points_ : ndarray of shape (n_points, d)
        The distinct bias points, in an order that does not depend on that of the rows of X.
    bias_labels_ : ndarray of shape (n_points,)
    n_features_in_ : int
    feature_names_in_ : ndarray of shape (d,)
        If X was a data frame.

    Notes
    -----
    ``alpha``, ``norm``, ``link``, ``gradient_lipschitz`` and ``radius`` have no part in ``fit`` and
    can be set afterwards.

    References
    ----------
    .. [1] Anderson & Sojoudi 2022, "Certified robustness via locally biased randomized smoothing",
       L4DC, Eq. 4 and 5, Theorems 6 and 8.

    Examples
    --------
    >>> from sklearn.datasets import make_moons
    >>> from sklearn.svm import SVC
    >>> from smoothlearn import LocallyBiasedSmoother
    >>> X, y = make_moons(200, noise=0.15, random_state=0)
    >>> smoother = LocallyBiasedSmoother(SVC(gamma=2), alpha=0.5, random_state=0).fit(X, y)
    >>> certificate = smoother.certify(X)
    >>> certificate.confidence_level
    1.0
    >>> round(certificate.accuracy(y, radius=0.2), 1)
    0.9
    """

    def __init__(
        self,
        estimator: Any,
        *,
        alpha: float = 1.0,
        norm: float = 2,
        n_bias: float = 0.1,
        link: str = "logit",
        gradient_lipschitz: str | float = "auto",
        radius: str = "tight",
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.alpha = alpha
        self.norm = norm
        self.n_bias = n_bias
        self.link = link
        self.gradient_lipschitz = gradient_lipschitz
        self.radius = radius
        self.random_state = random_state

    def fit(self, X: Any, y: Any, **fit_params: Any) -> Self:
        """Hold out bias points and fit the base on the other rows.

        Parameters
        ----------
        X : array_like or data frame of shape (n, d)
        y : array_like of shape (n,)
            Labels of any type; at least two classes.
        **fit_params
            Routed to the base's ``fit`` with scikit-learn's metadata routing.

        Returns
        -------
        self

        Raises
        ------
        ValueError, TypeError
            If X is not finite, y has one class, a parameter is out of range, a class would have no
            bias point or no other row, or the base has no gradient that can be read off it.
        """
        self.__dict__.pop("bias_points_", None)
        self._check_settings()
        check_n_bias(self.n_bias)
        routed = self._route(fit_params)
        X, y = self._check_training(X, y)
        _check_size(X)
        seeds = spawn_seeds(self.random_state, ("bias", "estimator"))
        classes, indices = np.unique(y, return_inverse=True)
        keys = content_keys(X, seeds["bias"])
        held = np.ones(len(X), dtype=bool)
        if not isinstance(self.estimator, FrozenEstimator):
            held = choose_bias_points(keys, indices, classes, self.n_bias)
        self.estimator_, self.classes_ = fit_base(
            self.estimator,
            X if held.all() else X[~held],
            y if held.all() else y[~held],
            as_given=self._as_given,
            columns=self._columns(),
            device=torch.device("cpu"),
            seed=seeds["estimator"],
            fit_params=pick_fit_params(routed, ~held),
        )
        view = differentiable_view(self.estimator_, X.shape[1])
        check_view(view, self.estimator_, self.classes_, X, self._as_given)
        missing = np.setdiff1d(self.classes_, classes)
        if missing.size:
            raise ValueError(
                f"the frozen estimator knows the classes {missing[:5].tolist()}, of which X has no "
                "row; every class needs a bias point"
            )
        points = np.flatnonzero(held)
        points = points[distinct_rows(keys[held], indices[held])]
        self.bias_labels_ = y[points]
        self.bias_points_ = X[points]
        return self

    def decision_function(self, X: Any) -> FloatArray:
        r"""The smoothed score :math:`g^\mu`.

        Parameters
        ----------
        X : array_like or data frame of shape (n, d)

        Returns
        -------
        ndarray of shape (n,) or (n, n_classes)
            For two classes :math:`g + \alpha \hat y \|\nabla g\|_*`, positive for the second one.
            For more, one column a class, the largest for the label: the scores of the base with
            :math:`\alpha\|\nabla(g_{\hat y} - g_b)\|_*` added to the oracle's; with
            link="probability" less the score of the rival b.
        """
        X = self._check_rows(X)
        self._check_settings()
        oracle = self._oracle(X)
        decisions = [smoothed.decide(oracle[rows])[0] for rows, smoothed in self._smoothed(X)]
        shape = (0,) if len(self.classes_) == 2 else (0, len(self.classes_))
        return np.concatenate([np.zeros(shape), *decisions])

    def predict(self, X: Any) -> NDArray[Any]:
        """The label that the smoothed score gives.

        Parameters
        ----------
        X : array_like or data frame of shape (n, d)

        Returns
        -------
        ndarray of shape (n,)
        """
        labels = _labels(self.decision_function(X))
        return self.classes_[labels]

    def certify(
        self, X: Any, *, radius: ArrayLike | None = None, max_radius: ArrayLike | None = None
    ) -> Certificate:
        r"""Labels, and radii within which no perturbation changes them.

        With :math:`R_\pm` the radii within which :math:`g \pm \alpha\|\nabla g\|_*` keeps the sign
        of :math:`g^\mu`, and :math:`r_{\mathrm{data}}` the one within which the oracle keeps its
        label, the radius for two classes is :math:`\max(R_-, \min(R_+, r_{\mathrm{data}}))` where
        the oracle has the same sign, and :math:`R_-` elsewhere.

        Parameters
        ----------
        X : array_like or data frame of shape (n, d)
            No rows give an empty certificate.
        radius, max_radius : float or array_like of shape (n,), optional
            What of the certificate is asked for. All of it costs no more.

        Returns
        -------
        Certificate
            Exact, with radii in the units of X and ``norm``.

        Raises
        ------
        TypeError
            If the base has a part whose gradient has no Lipschitz constant, or none that is known.
        ValueError
            If radius is "paper" and there are more than two classes.

        References
        ----------
        Anderson & Sojoudi 2022, Theorems 6 and 8, made tight.
        """
        X = self._check_rows(X)
        as_question(radius, max_radius, len(X))
        self._check_settings()
        published = self.radius == "paper"
        if published and len(self.classes_) > 2:
            raise ValueError(
                f"radius='paper' is for two classes, and there are {len(self.classes_)}; use "
                "radius='tight'"
            )
        one_nearest = {"same_class": 1} if published else {}
        bias = self._bias_indices()
        index, _, avoid = keep_radii(
            X, self.bias_points_, bias, len(self.classes_), self.norm, **one_nearest
        )
        oracle = bias[index]
        label, radius = np.zeros(len(X), dtype=np.intp), np.zeros(len(X))
        for rows, smoothed in self._smoothed(X):
            decision, rival = smoothed.decide(oracle[rows])
            label[rows] = _labels(decision)
            seen = label[rows], oracle[rows], rival, avoid[rows]
            radius[rows] = smoothed.published(*seen) if published else smoothed.tight(*seen)
        return Certificate(
            label=self.classes_[label],
            radius=radius,
            abstained=radius == 0,
            norm=self.norm,
            confidence_level=1.0,
            units="input",
            n_features=self.n_features_in_,
            classes=self.classes_,
            procedure="exact",
            assumption=self._assumption(),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "bias_points_")

    def _check_rows(self, X: Any) -> FloatArray:
        rows = super()._check_rows(X)
        _check_size(rows)
        return rows

    def _check_settings(self) -> None:
        as_finite("alpha", self.alpha, zero=True)
        check_norm(self.norm)
        if self.link not in LINKS:
            raise ValueError(f"link must be one of {LINKS}, got {self.link!r}")
        if self.radius not in RADII:
            raise ValueError(f"radius must be one of {RADII}, got {self.radius!r}")
        given: Any = self.gradient_lipschitz
        if given != "auto":
            as_finite("gradient_lipschitz", given, zero=True)

    def _assumption(self) -> str | None:
        if self.gradient_lipschitz == "auto":
            return None
        given = f"gradient_lipschitz={self.gradient_lipschitz} for the {self.norm}-norm"
        return f"{given} was given, not computed"

    def _bias_indices(self) -> NDArray[np.intp]:
        return (self.bias_labels_[:, np.newaxis] == self.classes_).argmax(axis=1)

    def _oracle(self, X: FloatArray) -> NDArray[np.intp]:
        return self._bias_indices()[nearest(X, self.bias_points_)]

    def _smoothed(self, X: FloatArray) -> Iterator[tuple[slice, SmoothedRows]]:
        """The rows in blocks, with their smoothed scores."""
        view, given = differentiable_view(self.estimator_, self.n_features_in_), None
        if self.gradient_lipschitz != "auto":
            given = float(self.gradient_lipschitz)
        for start in range(0, len(X), _BLOCK):
            rows = slice(start, min(start + _BLOCK, len(X)))
            expansion = view.at(X[rows], self.norm)
            yield rows, SmoothedRows(expansion, self.alpha, self.norm, self.link, given)


def _check_size(X: FloatArray) -> None:
    largest = max(X.max(initial=0.0), -X.min(initial=0.0))
    if largest > _LARGEST:
        raise ValueError(
            f"X must not exceed {_LARGEST:g}, got {largest:g}: squares of it are not numbers; "
            "divide it by a constant"
        )


def _labels(decisions: FloatArray) -> NDArray[np.intp]:
    if decisions.ndim == 1:
        return (decisions > 0).astype(np.intp)
    return decisions.argmax(axis=1)
