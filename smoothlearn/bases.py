"""The base classifier of a smoother: fitted, then seen as votes on a device."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, NuSVC
from sklearn.utils.validation import check_is_fitted
from skorch import NeuralNet

from smoothlearn.augmentation import copy_fit_params, keep_copies_together
from smoothlearn.denoisers.base import Denoise, Projected
from smoothlearn.nn.first_layer import project_network
from smoothlearn.nn.layers import NoBoundError
from smoothlearn.nn.lipschitz import as_smooth_network
from smoothlearn.nn.randomness import private_torch_rng, seed_nested
from smoothlearn.nn.voting import Vote
from smoothlearn.views.affine import Affine, FloatArray, split_affine
from smoothlearn.views.copies import per_thread
from smoothlearn.views.expansion import Differentiable, Expansion
from smoothlearn.views.kernel import as_kernel
from smoothlearn.views.linear import Linear, as_linear, noise_factor
from smoothlearn.views.network import (
    Head,
    Network,
    Tensors,
    as_linear_network,
    as_network,
    is_network,
    target_dtype,
)
from smoothlearn.views.predictor import check_same_columns, predictor_votes
from smoothlearn.views.probabilities import SoftReader, links, predictor_probabilities

Votes = Callable[[torch.Tensor], torch.Tensor]
Reader = Linear | Head | SoftReader

_PROBES = 200
_DEPENDS = (
    "the estimator predicts the same rows differently in another order or company: its {} depend "
    "on chance or on the other rows, and its {}; use one whose predict is a function of the row"
)
_TIES = 0.01


def check_base(estimator: Any) -> None:
    """Raise a TypeError unless the estimator can be a base."""
    usable = not isinstance(estimator, type) and hasattr(estimator, "fit")
    if not usable or not is_classifier(estimator):
        raise TypeError(
            f"estimator must be a classifier, got {estimator!r}; wrap a torch module in skorch's "
            "NeuralNetClassifier"
        )


def fit_base(
    estimator: Any,
    X: FloatArray,
    y: NDArray[Any],
    *,
    as_given: Callable[[FloatArray], Any],
    columns: Any,
    device: torch.device,
    seed: int,
    fit_params: dict[str, Any],
    n_copies: int = 1,
) -> tuple[Any, NDArray[Any]]:
    """The fitted clone of a base and its classes, or a frozen base as it is.

    A net sees float32 rows and class indices, anything else rows ``as_given`` and y unchanged.
    ``columns`` are the names of the columns of X, or None. X has ``n_copies`` of every row, one
    below the other; y and ``fit_params`` speak of the rows.
    """
    if isinstance(estimator, FrozenEstimator):
        return estimator, _frozen_classes(estimator, X, y, columns)
    base = clone(estimator)
    seed_nested(base, seed)
    keep_copies_together(base, y, n_copies)
    fit_params = copy_fit_params(fit_params, len(y), n_copies)
    y = np.tile(y, n_copies)
    classes, indices = np.unique(y, return_inverse=True)
    if not is_network(base):
        base.fit(as_given(X), y, **fit_params)
        return base, np.asarray(getattr(base, "classes_", classes))
    if target_dtype(base) is np.float32 and len(classes) > 2:
        raise ValueError(f"a NeuralNetBinaryClassifier has two classes, y {len(classes)}")
    with private_torch_rng(seed, device):
        base.fit(X.astype(np.float32), indices.astype(target_dtype(base)), **fit_params)
    return base, classes


def trusted_kind(
    base: Any,
    classes: NDArray[Any],
    X: FloatArray,
    *,
    as_given: Callable[[FloatArray], Any],
    sigma: float,
    seed: int,
) -> str:
    """How a fitted base votes: "linear", "network", or by its ``predict``, "labels" or "indices".

    A structure that was read off the base is trusted if its votes are those of ``predict``, on
    training rows with and without noise.

    Raises
    ------
    ValueError
        If ``predict`` depends on the other rows or on chance: votes would not be independent.
    """
    rows = probe_rows(X, sigma, seed)
    spoken = "indices" if _predicts_indices(base) else "labels"
    probes, cpu = torch.from_numpy(rows), torch.device("cpu")
    with private_torch_rng(seed):
        predict = base_votes(base, spoken, classes, X.shape[1], cpu, as_given)
        said = predict(probes)
        _check_rowwise(said, predict(probes.flip(0)).flip(0))
        _check_rowwise(said[::7], predict(probes[::7]))
        linear = linear_view(base, X.shape[1])
        if linear is not None and _mostly_equal(torch.from_numpy(linear.labels(rows)), said):
            return "linear"
        network = as_network(base, X.shape[1])
        if network is not None and _mostly_equal(network.votes(cpu)(probes.float()), said):
            return "network"
    return spoken


def probe_rows(X: FloatArray, sigma: float, seed: int) -> FloatArray:
    """Some of the rows, then the same with noise."""
    rng = np.random.default_rng(seed)
    rows = X[rng.permutation(len(X))[:_PROBES]]
    return np.concatenate([rows, rows + sigma * rng.standard_normal(rows.shape)])


def linear_view(base: Any, n_features: int) -> Linear | None:
    """The base as a linear function of the rows, None if it is not one."""
    return as_linear(base, n_features) or as_linear_network(base, n_features)


def differentiable_view(base: Any, n_features: int) -> Differentiable:
    """The base as a function whose gradient is known.

    Raises
    ------
    TypeError
        If no structure with a gradient can be read off the base.
    """
    for read in (linear_view, as_kernel, as_smooth_network):
        view = read(base, n_features)
        if view is not None:
            return view
    raise TypeError(
        f"estimator={base!r} has no gradient that can be read off it; use a linear classifier with "
        "coef_, an SVC or NuSVC with a built-in kernel, an MLPClassifier or a skorch net, alone or "
        "behind affine steps (scalers, PCA, column selection) in a pipeline"
    )


def check_view(
    view: Differentiable,
    base: Any,
    classes: NDArray[Any],
    X: FloatArray,
    as_given: Callable[[FloatArray], Any],
) -> None:
    """Compare what was read off a base with the base itself, on training rows.

    Raises
    ------
    ValueError
        If scores are not finite, depend on the other rows or on chance, or give other labels than
        ``predict``. Of an SVC with more than two classes the labels may differ.
    """
    rows = X[:: max(1, len(X) // _PROBES)]
    expansion = view.at(rows, 2)
    scores, slack = expansion.scores, _rounding(expansion)
    if not np.isfinite(scores).all():
        raise ValueError(f"the scores of the fitted estimator={base!r} are not finite")
    again = view.at(rows[::-1], 2).scores[::-1]
    try:
        single = np.concatenate([view.at(row[np.newaxis], 2).scores for row in rows[::7]])
    except (ValueError, RuntimeError) as error:  # batch statistics of one row
        raise ValueError(_DEPENDS.format("scores", "certificates would not hold")) from error
    for one, other, near in ((scores, again, slack), (scores[::7], single, slack[::7])):
        if np.any(np.abs(one - other) > near[:, np.newaxis]):
            raise ValueError(_DEPENDS.format("scores", "certificates would not hold"))
    front_and_final = split_affine(base, X.shape[1])
    if len(classes) > 2 and front_and_final and isinstance(front_and_final[1], SVC | NuSVC):
        return
    ordered = np.sort(scores, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > slack  # ties are broken in many ways
    labels = torch.from_numpy(scores[clear].argmax(axis=1))
    said = torch.from_numpy(base_labels(base, classes, rows[clear], as_given))
    if clear.any() and not _mostly_equal(labels, said):
        raise ValueError(
            f"the predict of the fitted estimator={base!r} gives other labels than the scores that "
            "were read off it; does it change its rows, or its predictions?"
        )


def _rounding(expansion: Expansion) -> FloatArray:
    """More than the differences of scores can err by."""
    try:
        known = 2 * expansion.rounding()[0]
    except NoBoundError:
        known = np.zeros(len(expansion.scores))
    return np.asarray(known + 1e-6 * np.abs(expansion.scores).max(initial=0.0))


def base_view(base: Any, kind: str, n_features: int) -> Linear | Network | None:
    """The structure of a base of this kind, None where its ``predict`` is all that is known."""
    if kind == "linear":
        return linear_view(base, n_features)
    return as_network(base, n_features) if kind == "network" else None


def base_votes(
    base: Any,
    kind: str,
    classes: NDArray[Any],
    n_features: int,
    device: torch.device,
    as_given: Callable[[FloatArray], Any],
    n_threads: int = 1,
) -> Votes:
    """The function from a batch to class indices, which ``n_threads`` threads may call at once.

    On the device where the structure of the base is known, else its own ``predict`` on the CPU.
    """
    view = base_view(base, kind, n_features)
    if view is not None:
        return view.votes(device)
    spoken = np.arange(len(classes)) if kind == "indices" else classes
    predict = _asked(base, "predict", n_threads)
    return _undisturbed(base, predictor_votes(predict, spoken, _as_input(base, as_given)))


def base_probabilities(
    base: Any,
    classes: NDArray[Any],
    as_given: Callable[[FloatArray], Any],
    n_threads: int = 1,
) -> Votes:
    """The function from a batch to what ``predict_proba`` says, for ``n_threads`` threads at once.

    Raises
    ------
    TypeError
        If the base has none.
    """
    if not hasattr(base, "predict_proba"):
        raise TypeError(
            f"vote='soft' averages probabilities, and estimator={base!r} has no predict_proba; "
            "use one that has, a CalibratedClassifierCV around it, or vote='hard'"
        )
    say = _asked(base, "predict_proba", n_threads)
    return _undisturbed(base, predictor_probabilities(say, len(classes), _as_input(base, as_given)))


def _asked(base: Any, method: str, n_threads: int) -> Callable[[Any], Any]:
    """A method of the base, of a copy for every thread where there are more than one."""
    model = per_thread(base) if n_threads > 1 else lambda: base
    return lambda X: getattr(model(), method)(X)


def _as_input(base: Any, as_given: Callable[[FloatArray], Any]) -> Callable[[FloatArray], Any]:
    """What the methods of a base take for an array."""
    if is_network(base):
        return lambda X: X.astype(np.float32)
    return as_given if hasattr(base, "feature_names_in_") else np.asarray


def _undisturbed(base: Any, votes: Votes) -> Votes:
    """Votes of a base that leave the global generator of torch alone."""
    if not is_network(base):
        return votes

    def vote(batch: torch.Tensor) -> torch.Tensor:
        with private_torch_rng(0):  # data loaders draw from the global generator
            return votes(batch)

    return vote


def base_logits(base: Any, kind: str, n_features: int, device: torch.device) -> Tensors:
    """The function from a float32 batch to one score a class, differentiable, the largest wins.

    Raises
    ------
    TypeError
        If the base votes by its ``predict``, which has no gradient.
    """
    view = base_view(base, kind, n_features)
    if view is None:
        raise TypeError(
            f"estimator={base!r} has no gradient that can be read off it; use a linear classifier "
            "with coef_, an MLPClassifier or a skorch net, alone or behind affine steps (scalers, "
            "PCA, column selection) in a pipeline"
        )
    return view.logits(device)


def base_labels(
    base: Any, classes: NDArray[Any], X: FloatArray, as_given: Callable[[FloatArray], Any]
) -> NDArray[np.intp]:
    """What the base itself says about rows, as class indices."""
    if not len(X):
        return np.zeros(0, dtype=np.intp)
    spoken = "indices" if _predicts_indices(base) else "labels"
    votes = base_votes(base, spoken, classes, X.shape[1], torch.device("cpu"), as_given)
    return votes(torch.tensor(X)).numpy()


@dataclass(frozen=True, eq=False)
class Ballot:
    """What the engine needs to count the votes of a smoother.

    Parameters
    ----------
    vote : callable
        Noisy batch and generator to class indices, or to probabilities, one column a class.
    rows : ndarray of shape (n, r)
        The points that the noise is added to: rows of X, or a projection of them.
    noise : float or ndarray of shape (r, k)
        As in ``count_votes``.
    displacement : ndarray of shape (n,)
        How far rounding moved every row of X.
    scores : callable or None
        Noisy batch and generator to one score a class, differentiable, the largest of which has
        the vote. None where a base is known by its ``predict`` alone.
    """

    vote: Vote
    rows: NDArray[np.floating]
    noise: float | NDArray[np.floating]
    displacement: FloatArray
    scores: Vote | None = None

    def of(self, rows: NDArray[np.intp]) -> Ballot:
        """The ballot of some of the rows."""
        return replace(self, rows=self.rows[rows], displacement=self.displacement[rows])


def make_ballot(
    X: FloatArray,
    *,
    base: Any,
    kind: str,
    classes: NDArray[Any],
    denoiser: Any,
    sigma: float,
    device: torch.device,
    as_given: Callable[[FloatArray], Any],
    n_threads: int,
    link: str | None = None,
) -> Ballot:
    """The votes of a base behind a denoiser (or None) on the rows of X.

    Where a projection of the rows decides, the votes are cast on it. Else, where torch computes,
    rows are float32; an unknown base gets them as they are. Votes are hard without a ``link``, and
    else the probabilities that it makes of outputs, or those that "predict_proba" says.
    """
    denoise = None if denoiser is None else denoiser.denoise_on(device)
    view = None if link == "predict_proba" else base_view(base, kind, X.shape[1])
    if view is None:
        if link is None:
            votes = base_votes(base, kind, classes, X.shape[1], device, as_given, n_threads)
        else:
            votes = base_probabilities(base, classes, as_given, n_threads)
        rows, displacement = as_votes(X, sigma, single=denoise is not None)
        return Ballot(_behind(denoise, votes), rows, sigma, displacement)
    reader = view.reader if link is None else SoftReader(view.reader, links(view.reader)[link])
    projected = _project(view, denoiser, device)
    if projected is not None:
        single = isinstance(view, Network) or denoiser is not None
        return projected_ballot(X, projected, reader, sigma, single=single)
    outputs = _behind(denoise, view.outputs(device))
    return read_ballot(outputs, reader, sigma, *as_votes(X, sigma))


def read_ballot(
    outputs: Vote,
    reader: Reader,
    noise: float | NDArray[np.floating],
    rows: NDArray[np.floating],
    displacement: FloatArray,
) -> Ballot:
    """Votes and scores that are read of the outputs of noisy batches."""
    return Ballot(
        lambda batch, generator: reader.decide(outputs(batch, generator)),
        rows,
        noise,
        displacement,
        lambda batch, generator: reader.columns(outputs(batch, generator)),
    )


def projected_ballot(
    X: FloatArray,
    projected: Projected,
    reader: Reader,
    sigma: float,
    *,
    single: bool = True,
) -> Ballot:
    """Votes on a projection of the rows, with noise of its dimension and the same law.

    Of scores that are compared as they are, the law must hold in double precision: rows of weights
    may have more in common than they differ by.
    """
    projection, outputs = projected
    noise = sigma * noise_factor(projection.linear)
    with np.errstate(over="ignore", invalid="ignore"):
        alone = [projection(row) for row in X[:, np.newaxis]]  # last digits depend on company
    points = np.reshape(alone, (len(X), len(projection.shift)))
    return read_ballot(
        lambda batch, _: outputs(batch),
        reader,
        noise.astype(np.float32) if single else noise,
        points,
        _overflow(points),
    )


def _project(view: Linear | Network, denoiser: Any, device: torch.device) -> Projected | None:
    """A projection of the rows that decides the votes, and the outputs as a function of it."""
    if isinstance(view, Network) and denoiser is None:
        return project_network(view.front, view.for_votes(), device)
    if isinstance(view, Network):
        return None
    if denoiser is None:
        return Affine(view.weights, view.offsets), lambda scores: scores
    project: Callable[..., Projected | None] = getattr(denoiser, "project_on", lambda *_: None)
    return project(view.centred(), device)


def _behind(denoise: Denoise | None, outputs: Tensors) -> Vote:
    """What a function gives for denoised batches."""
    if denoise is None:
        return lambda batch, _: outputs(batch)
    return lambda batch, generator: outputs(denoise(batch, generator))


def as_votes(
    X: FloatArray, sigma: float, *, single: bool = True, stacklevel: int = 7
) -> tuple[NDArray[np.floating], FloatArray]:
    """Rows in the precision that votes are computed in, and how far rounding moved each of them.

    It warns so many levels up where the noise is lost to rounding.
    """
    with np.errstate(over="ignore"):
        rows: NDArray[np.floating] = X.astype(np.float32) if single else X
        displacement = np.linalg.norm(X - rows, axis=1) * (1 + 1e-12)
    _warn_coarse(rows, sigma, stacklevel)
    return rows, displacement


def _overflow(points: FloatArray) -> FloatArray:
    """An infinite displacement of rows whose projection single precision does not hold."""
    largest = np.abs(points).max(axis=1, initial=0.0)
    return np.where(largest < np.finfo(np.float32).max, 0.0, np.inf)


def _warn_coarse(rows: NDArray[Any], sigma: float, stacklevel: int) -> None:
    """Warn where adding the noise to numbers of this size loses it to rounding."""
    size = float(np.max(np.abs(rows), initial=0.0))
    if size * np.finfo(rows.dtype).eps > 0.01 * sigma:
        warnings.warn(
            f"sigma={sigma} is coarse in {rows.dtype} beside features as large as {size:.3g}; "
            "scale the features, or the votes are not those of Gaussian noise",
            UserWarning,
            stacklevel=stacklevel,
        )


def _predicts_indices(base: Any) -> bool:
    """Whether ``predict`` gives class indices: it does for nets, whatever else they stand in."""
    if not isinstance(base, FrozenEstimator):
        return is_network(base)  # fitted here, on indices
    split = base.estimator
    while not isinstance(split, NeuralNet):
        if isinstance(split, Pipeline):
            split = split.steps[-1][1]
        elif hasattr(split, "best_estimator_"):
            split = split.best_estimator_
        else:
            return False
    return True


def _check_rowwise(said: torch.Tensor, again: torch.Tensor) -> None:
    if not _mostly_equal(said, again):
        raise ValueError(_DEPENDS.format("predictions", "votes would not be independent"))


def _mostly_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal but for near ties, which rounding decides."""
    return bool((one != other).double().mean() <= _TIES)


def _frozen_classes(
    estimator: FrozenEstimator, X: FloatArray, y: NDArray[Any], columns: Any
) -> NDArray[Any]:
    check_is_fitted(estimator, "classes_")
    check_same_columns("estimator", estimator, X, columns)
    classes = np.asarray(estimator.classes_)
    numbered = classes.dtype.kind in "iu" and _predicts_indices(estimator)
    if numbered and not np.array_equal(classes, np.arange(len(classes))):
        raise ValueError(
            f"the frozen net predicts indices, and its classes are {classes.tolist()}; fit it on "
            "0, 1, ..., or name its classes otherwise"
        )
    unknown = np.setdiff1d(y, classes)
    if unknown.size:
        raise ValueError(
            f"y has labels that the frozen estimator does not know: {unknown[:5].tolist()}; it "
            f"knows {classes[:10].tolist()}"
        )
    return classes
