"""Torch modules as graphs of known layers."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from smoothlearn.nn import layers
from smoothlearn.nn.layers import Curve, KinkedError, LinearMap, NoBoundError, Sum

Work = LinearMap | Curve | Sum
Shapes = dict[fx.Node, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class Step:
    """What is done to the results of earlier steps, and the shape of a row of the result."""

    work: Work | None
    parents: tuple[int, ...]
    shape: tuple[int, ...]


def run(steps: list[Step], rows: Tensor) -> list[Tensor]:
    """The results of all steps; the first of them is the input."""
    values = [rows]
    for step in steps[1:]:
        assert step.work is not None
        values.append(step.work(*(values[parent] for parent in step.parents)))
    return values


def plain_copy(module: nn.Module) -> nn.Module:
    """A float64 copy in eval mode on the CPU; a TypeError where the module cannot be copied."""
    try:
        copied = deepcopy(module)
    except RuntimeError as error:
        raise TypeError(
            f"{type(module).__name__} cannot be copied: {error}. Use "
            "torch.nn.utils.parametrizations in place of the older weight_norm and spectral_norm"
        ) from error
    return copied.cpu().double().eval().requires_grad_(False)


def trace(module: nn.Module) -> fx.GraphModule:
    """The module's operations, up to its first output where it has several.

    Raises
    ------
    KinkedError
        If the operations depend on the data, and a layer has a gradient that jumps.
    NoBoundError
        If the operations depend on the data.
    """
    try:
        traced = fx.symbolic_trace(nn.Sequential(module))
    except Exception as error:  # the module's own code has run on symbols
        for path, part in module.named_modules():
            if _kind(part) in layers.KINKED:
                raise _kinked(path, part) from error
        raise NoBoundError(
            f"{type(module).__name__} cannot be traced, so its layers are not known: {error}"
        ) from error
    output = _output(traced)
    if isinstance(output.args[0], tuple | list):
        output.args = (output.args[0][0],)
    traced.recompile()
    return traced


def strip(traced: fx.GraphModule, *names: str) -> str:
    """The name of the last operation if it is one of these, and it is then removed; else ""."""
    output = _output(traced)
    last: Any = output.args[0]
    if not isinstance(last, fx.Node) or not last.all_input_nodes:
        return ""
    part = _part(traced, last)
    name = _name(last) if part is None else type(part).__name__.lower()
    dim = getattr(part, "dim", _argument(last, 1, "dim", None))
    if name not in names or (name != "sigmoid" and dim not in (1, -1)):
        return ""
    output.args = (last.all_input_nodes[0],)
    traced.recompile()
    return name


def read(traced: fx.GraphModule, n_features: int) -> list[Step]:
    """The steps of a traced module that reads rows of ``n_features``.

    Raises
    ------
    KinkedError
        If a part has a gradient that jumps.
    NoBoundError
        If a part is not known.
    """
    nodes = _leading_to(_output(traced))
    for node in nodes:
        part = _part(traced, node)
        if _kind(part) in layers.KINKED or _name(node) in _KINKED:
            raise _kinked(_path(node), part)
    shapes = _shapes(traced, n_features)
    steps = [Step(None, (), (n_features,))]
    places = {node: 0 for node in nodes if node.op == "placeholder"}
    unknown: NoBoundError | None = None
    for node in nodes[:-1]:
        if node in places or node not in shapes:  # of no tensor of rows
            continue
        try:
            _append(steps, places, traced, node, shapes)
        except KinkedError:
            raise
        except NoBoundError as error:  # a part that comes later may have a kink
            unknown = unknown or error
            places[node] = 0
    if unknown is not None:
        raise unknown
    last = _output(traced).args[0]
    if not isinstance(last, fx.Node) or last not in places:
        raise NoBoundError("the module's output is not a tensor with a row for every row of X")
    return _needed(steps, places[last])


def _leading_to(last: fx.Node) -> list[fx.Node]:
    """A node behind all that it is computed from, in their order."""
    wanted = {last}
    for node in reversed(last.graph.nodes):
        if node in wanted:
            wanted.update(node.all_input_nodes)
    return [node for node in last.graph.nodes if node in wanted]


def _append(
    steps: list[Step],
    places: dict[fx.Node, int],
    traced: fx.GraphModule,
    node: fx.Node,
    shapes: Shapes,
) -> None:
    """Add the step of a node, and note where its result is found."""
    operands = [operand for operand in node.all_input_nodes if operand in shapes]
    if not operands or not set(operands) <= set(places):
        raise _unknown(traced, node)
    work = _work(traced, node, operands, shapes)
    if work is None:
        places[node] = places[operands[0]]
        return
    if isinstance(work, Sum):  # an operand may be added to itself
        operands = [operand for operand in node.args if isinstance(operand, fx.Node)]
    places[node] = len(steps)
    parents = tuple(places[operand] for operand in operands)
    steps.append(Step(work, parents, _of_row(shapes[node])))


def _work(
    traced: fx.GraphModule, node: fx.Node, operands: list[fx.Node], shapes: Shapes
) -> Work | None:
    """What a node does to its operands, None where it does nothing."""
    part, name = _part(traced, node), _name(node)
    kind = _kind(part)
    if name in ("add", "iadd", "sub", "isub"):
        return _sum(traced, node, -1.0 if "sub" in name else 1.0, shapes)
    if len(operands) != 1:
        raise _unknown(traced, node)
    if kind in layers.LAYERS:
        return _named(node, partial(layers.LAYERS[kind], part, shapes[operands[0]]))
    if name in _CURVES:
        return _named(node, partial(_CURVES[name], partial(_argument, node)))
    if kind in layers.RESHAPING or name in _RESHAPING:
        return layers.reshape(_of_row(shapes[node]))
    idle_dropout = name == "dropout" and not _argument(node, 2, "training", True)
    if kind in layers.IDLE or name == "contiguous" or idle_dropout:
        return None
    raise _unknown(traced, node)


def _of_row(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a row of the result, one number where it is a scalar."""
    return shape or (1,)


def _named(node: fx.Node, read_layer: Callable[[], Work]) -> Work:
    """The work of a layer, its name in front of what is said against it."""
    try:
        return read_layer()
    except NoBoundError as error:
        raise type(error)(f"{_path(node)}: {error}") from None


def _sum(traced: fx.GraphModule, node: fx.Node, sign: float, shapes: Shapes) -> Work:
    if len(node.args) != 2 or node.kwargs:
        raise _unknown(traced, node)
    left, right = node.args
    if isinstance(left, fx.Node) and isinstance(right, fx.Node):
        if any(shapes.get(operand) != shapes[node] for operand in (left, right)):
            raise _unknown(traced, node)
        return Sum((1.0, sign))
    if isinstance(left, fx.Node) and isinstance(right, int | float):
        return layers.diagonal(layers.number(1.0), layers.number(sign * right))
    if isinstance(left, int | float):
        return layers.diagonal(layers.number(sign), layers.number(left))
    raise _unknown(traced, node)


def _needed(steps: list[Step], last: int) -> list[Step]:
    """The steps that lead to one of them, which comes last."""
    needed, queue = {0}, [last]
    while queue:
        place = queue.pop()
        needed.add(place)
        queue += steps[place].parents
    kept = sorted(needed)
    new = {old: place for place, old in enumerate(kept)}
    return [
        Step(steps[old].work, tuple(new[p] for p in steps[old].parents), steps[old].shape)
        for old in kept
    ]


class _Recorder(fx.Interpreter):
    """Runs a traced module and notes the shapes of the tensors it computes."""

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__(traced)
        self.seen: Shapes = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor) and n.op != "get_attr":
            self.seen[n] = tuple(result.shape)
        return result


def _shapes(traced: fx.GraphModule, n_features: int) -> Shapes:
    """The shape of a row of the result of every node."""
    for n_rows in (5, 3):  # a layer may take a few rows for channels
        recorder = _Recorder(traced)
        try:
            recorder.run(torch.zeros(n_rows, n_features, dtype=torch.float64))
        except Exception as error:  # the module's own
            raise NoBoundError(f"the module does not run on float64 rows of X: {error}") from error
        for node, shape in recorder.seen.items():
            if not shape or shape[0] != n_rows:
                raise NoBoundError(
                    f"{_path(node)} gives an array of shape {shape} for {n_rows} rows"
                )
    return {node: shape[1:] for node, shape in recorder.seen.items()}


def _output(traced: fx.GraphModule) -> fx.Node:
    return next(node for node in reversed(traced.graph.nodes) if node.op == "output")


def _part(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def _kind(part: nn.Module | None) -> type:
    """The class of a layer, whatever computes its weights."""
    return type(None) if part is None else parametrize.type_before_parametrizations(part)


def _name(node: fx.Node) -> str:
    """The name of a function of Python's or torch's, or of a tensor's method, without a last _."""
    if node.op == "call_method":
        return str(node.target).removesuffix("_")
    owner = str(getattr(node.target, "__module__", None) or "torch")
    if node.op == "call_function" and owner.split(".")[0] in ("torch", "_operator", "builtins"):
        return str(getattr(node.target, "__name__", "")).removesuffix("_")
    return ""


def _argument(node: fx.Node, position: int, name: str, default: Any) -> Any:
    return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)


def _path(node: fx.Node) -> str:
    if node.op == "call_module":
        return str(node.target).removeprefix("0").removeprefix(".") or "module"
    return str(getattr(node.target, "__name__", node.target))


def _kinked(path: str, part: nn.Module | None) -> KinkedError:
    kind = "" if part is None else f" ({type(part).__name__})"
    return KinkedError(
        f"{path or 'module'}{kind}: its gradient jumps, so the gradient of the network has no "
        "Lipschitz constant; use a smooth layer, such as Softplus, SiLU, GELU, Tanh or AvgPool"
    )


def _unknown(traced: fx.GraphModule, node: fx.Node) -> NoBoundError:
    part = _part(traced, node)
    kind = "" if part is None else f" ({type(part).__name__})"
    return NoBoundError(f"{_path(node)}{kind}: no bound of its derivatives is known")


_CURVES: dict[str, Callable[[Callable[[int, str, Any], Any]], Curve]] = {
    "tanh": lambda argument: layers.TANH,
    "sigmoid": lambda argument: layers.SIGMOID,
    "silu": lambda argument: layers.SILU,
    "softplus": lambda argument: layers.softplus(
        argument(1, "beta", 1.0), argument(2, "threshold", 20.0)
    ),
    "gelu": lambda argument: layers.gelu(argument(1, "approximate", "none")),
    "elu": lambda argument: layers.elu(argument(1, "alpha", 1.0)),
}
_RESHAPING = ("flatten", "reshape", "view", "squeeze", "unsqueeze", "unflatten")
#: Functions and methods whose gradient jumps.
_KINKED = {
    "relu", "relu6", "leaky_relu", "prelu", "rrelu", "selu", "threshold", "hardtanh", "hardshrink",
    "hardsigmoid", "hardswish", "softshrink", "max_pool1d", "max_pool2d", "max_pool3d",
    "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "abs", "absolute",
    "clamp", "clip", "max", "min", "amax", "amin", "maximum", "minimum", "sign", "round",
}  # fmt: skip
