"""Fitted networks as differentiable scores with bounds of how fast their gradients change."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from smoothlearn.nn import graph, layers
from smoothlearn.nn.curvature import Curvature
from smoothlearn.nn.graph import Step
from smoothlearn.nn.layers import NoBoundError
from smoothlearn.nn.rounding import forward_errors, rounding_errors
from smoothlearn.views.affine import Affine
from smoothlearn.views.expansion import Columns, Expansion
from smoothlearn.views.network import Network, as_network

FloatArray = NDArray[np.float64]
Function = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class SmoothNetwork:
    r"""A network's scores in float64, and what is known of their derivatives.

    The scores of two or more outputs are the outputs, before a last softmax; those of one output
    are 0 and the output before a last sigmoid, less that of the decision threshold.

    Parameters
    ----------
    score : callable
        From float64 rows (n, d) to scores (n, n_classes), differentiable.
    steps : list of Step or None
        The scores as known operations on rows; None where some are not known.
    refusal : NoBoundError or None
        Why there are no steps. A `KinkedError` one says that no gradient-Lipschitz constant exists;
        another, that one may exist but is not known.
    """

    score: Function
    steps: list[Step] | None
    refusal: NoBoundError | None
    _known: dict[float, Curvature] = field(default_factory=dict)

    def at(self, X: FloatArray, norm: float) -> Expansion:
        """The expansion around the rows of X, float64, for a threat in the p-norm.

        Its ``curvature``, ``slope`` and ``rounding`` raise the refusal where there is one.
        """
        rows = torch.from_numpy(np.array(X, dtype=np.float64))
        with torch.no_grad():
            scores = self.score(rows).numpy()
        return _Around(self, rows, norm).expansion(scores)

    def curvature(self, norm: float) -> Curvature:
        """The bounds for a norm, computed once; a TypeError where there are none."""
        if norm not in self._known:
            with torch.no_grad():
                self._known[norm] = Curvature(self.known_steps(), norm)
        return self._known[norm]

    def known_steps(self) -> list[Step]:
        """The steps; a TypeError with the refusal where there are none."""
        if self.steps is None:
            raise type(self.refusal or NoBoundError())(str(self.refusal))
        return self.steps


class _Around:
    """A network around rows; what does not depend on radii is computed once."""

    def __init__(self, network: SmoothNetwork, rows: Tensor, norm: float) -> None:
        self.network, self.rows, self.norm = network, rows, norm
        self._centres: dict[int, tuple[Tensor, Tensor]] | None = None

    def expansion(self, scores: FloatArray) -> Expansion:
        return Expansion(scores, self.gradient, self.curvature, self.slope, self.rounding)

    def gradient(self, first: Columns, second: Columns) -> FloatArray:
        with torch.inference_mode(False), torch.enable_grad():
            rows = self.rows.clone().requires_grad_()
            scores = self.network.score(rows)
            chosen = (torch.from_numpy(np.asarray(c, np.int64))[:, None] for c in (first, second))
            above, below = (scores.gather(1, columns) for columns in chosen)
            (slope,) = torch.autograd.grad((above - below).sum(), rows)
        return np.asarray(slope.numpy())

    @torch.no_grad()
    def curvature(self, first: Columns, second: Columns, radius: FloatArray) -> FloatArray:
        known = self.network.curvature(self.norm)
        if self._centres is None:
            steps = known.bounds.steps
            values = graph.run(steps, self.rows)
            errors = forward_errors(steps, values)
            inner = {steps[i].parents[0] for i in known.bounds.curves}
            self._centres = {i: (values[i], errors[i]) for i in inner}
        radius = np.broadcast_to(np.asarray(radius, np.float64), len(self.rows))
        return known.on_balls(first, second, self._centres, radius)

    @torch.no_grad()
    def slope(self, first: Columns, second: Columns) -> FloatArray:
        pairs = self.network.curvature(self.norm).pairs(first, second)
        return np.array([pair.slope for pair in pairs])

    @torch.no_grad()
    def rounding(self) -> tuple[FloatArray, FloatArray]:
        steps = self.network.known_steps()
        return rounding_errors(steps, graph.run(steps, self.rows), self.norm)


def as_smooth_network(model: Any, n_features: int) -> SmoothNetwork | None:
    """The fitted network as a differentiable score of raw inputs, or None if it is not one.

    Raises
    ------
    TypeError
        If the net's ``predict_nonlinearity`` is a function, which may change the order of classes,
        or if its module does not run in float64.
    ValueError
        If the module has not one output a class, or the threshold of two classes is not a
        probability between 0 and 1.
    """
    network = as_network(model, n_features)
    if network is None:
        return None
    if network.reader.is_users:
        raise TypeError(
            "predict_nonlinearity is a function, and may change the order of classes; "
            "use 'auto' or None"
        )
    module, refusal = graph.plain_copy(network.module), None
    _check_outputs(network, module)
    try:
        traced = graph.trace(module)
    except NoBoundError as error:
        return _see(network, module, "", error)
    tail = graph.strip(traced, *_tails(network))
    try:
        steps = graph.read(traced, network.front.shift.size)
    except NoBoundError as error:
        refusal = error
    else:
        if _agrees(network, lambda rows: graph.run(steps, rows)[-1], tail):
            return _known(network, steps, tail)
        refusal = NoBoundError(
            "the module computes something else than its layers: has it hooks, or layers that "
            "work in place?"
        )
    if _agrees(network, traced, tail):
        return _see(network, traced, tail, refusal)
    return _see(network, module, "", refusal)


def _tails(network: Network) -> tuple[str, ...]:
    """Last operations that keep the order of classes."""
    if not network.reader.is_binary:
        return ("softmax", "logsoftmax", "log_softmax")
    return () if network.reader.gives_logits else ("sigmoid",)


def _known(network: Network, inner: list[Step], tail: str) -> SmoothNetwork:
    steps = [Step(None, (), network.front.linear.shape[-1:])]
    if not _is_identity(network.front):
        steps.append(Step(_front(network.front), (0,), inner[0].shape))
    start = len(steps) - 1
    for step in inner[1:]:
        steps.append(replace(step, parents=tuple(parent + start for parent in step.parents)))
    n_outputs = math.prod(steps[-1].shape)
    if len(steps[-1].shape) != 1:
        steps.append(Step(layers.reshape((n_outputs,)), (len(steps) - 1,), (n_outputs,)))
    if network.reader.is_binary:
        column = layers.dense(_column(), torch.tensor([0.0, -_offset(network, tail)]).double())
        steps.append(Step(column, (len(steps) - 1,), (2,)))
    return SmoothNetwork(lambda rows: graph.run(steps, rows)[-1], steps, None)


def _see(
    network: Network, inner: nn.Module, tail: str, refusal: NoBoundError | None
) -> SmoothNetwork:
    """A view of a module as it is."""
    front = _front(network.front)
    offset = _offset(network, tail) if network.reader.is_binary else 0.0

    def score(rows: Tensor) -> Tensor:
        output = _outputs(inner, front(rows))
        if not network.reader.is_binary:
            return output
        return torch.cat([torch.zeros_like(output), output - offset], dim=1)

    return SmoothNetwork(score, None, refusal)


def _check_outputs(network: Network, module: nn.Module) -> None:
    try:
        zeros = torch.zeros(2, network.front.shift.size, dtype=torch.float64)
        n_outputs = _outputs(module, zeros).shape[1]
    except Exception as error:  # the module's own
        name = type(network.module).__name__
        raise TypeError(f"{name} does not run on float64 rows of X: {error}") from error
    n_needed = 1 if network.reader.is_binary else network.reader.n_classes
    if n_outputs != n_needed:
        raise ValueError(
            f"the network has {n_outputs} outputs and was fitted on "
            f"{network.reader.n_classes} classes; give it {n_needed}"
        )


def _outputs(module: Function | nn.Module, rows: Tensor) -> Tensor:
    output = module(rows)
    output = output[0] if isinstance(output, tuple | list) else output
    return torch.as_tensor(output).reshape(len(rows), -1)


def _offset(network: Network, tail: str) -> float:
    """The output at the threshold of two classes, of which skorch's is the probability."""
    threshold = float(network.reader.threshold or 0.0)
    if not network.reader.gives_logits and not tail:
        return threshold
    if not 0 < threshold < 1:
        raise ValueError(f"the net's threshold must be between 0 and 1, got {threshold}")
    return math.log(threshold) - math.log1p(-threshold)


def _column() -> Tensor:
    return torch.tensor([[0.0], [1.0]], dtype=torch.float64)


def _front(front: Affine) -> layers.LinearMap:
    linear, shift, sizes = front.linear, front.shift, front.absolute()
    kind = layers.diagonal if linear.ndim == 1 else layers.dense
    weight, offset, weight_sizes, offset_sizes = (
        torch.tensor(t, dtype=torch.float64) for t in (linear, shift, sizes.linear, sizes.shift)
    )
    return replace(
        kind(weight, offset),
        n_terms=4 * (linear.shape[-1] + 8),  # the map may be composed of several
        weight_sizes=weight_sizes,
        shift_sizes=offset_sizes,
    )


def _is_identity(front: Affine) -> bool:
    return front.linear.ndim == 1 and not (front.linear != 1).any() and not front.shift.any()


def _agrees(network: Network, scores: Function, tail: str) -> bool:
    """Whether the net itself computes these scores, up to the operation taken from its end."""
    probes = np.random.default_rng(0).standard_normal((32, network.front.shift.size))
    probes *= np.logspace(-2, 2, 32)[:, np.newaxis]
    rows = torch.tensor(probes, dtype=torch.float32)
    with torch.no_grad():
        said = _outputs(network.evaluate, rows).cpu()
        try:
            ours = _TAILS[tail](_outputs(scores, rows.double()))
        except RuntimeError:
            return False
    if said.shape != ours.shape:
        return False
    size = said.double().abs().amax(1, keepdim=True)
    return bool(((said - ours).abs() <= 1e-3 * size + 1e-5).all())


_TAILS: dict[str, Function] = {
    "": lambda scores: scores,
    "sigmoid": torch.sigmoid,
    "softmax": lambda scores: scores.softmax(1),
    "logsoftmax": lambda scores: scores.log_softmax(1),
    "log_softmax": lambda scores: scores.log_softmax(1),
}
