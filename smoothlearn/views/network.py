"""Fitted networks, of skorch or scikit-learn, as functions from inputs to scores on a device."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from smoothlearn.views.affine import Affine, FloatArray, split_affine
from smoothlearn.views.copies import per_thread
from smoothlearn.views.linear import Linear
from smoothlearn.views.mlp import as_module

Tensors = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Head:
    """How the outputs of a module are read.

    Parameters
    ----------
    n_classes : int
    threshold : float or None
        The second of two classes wins where one output exceeds it; None where the largest of
        ``n_classes`` outputs wins.
    link : callable or None
        What is taken of the outputs before they are compared.
    logs : bool
        Whether the outputs are probabilities, and their logarithms what the module was trained on.
    """

    n_classes: int
    threshold: float | None = None
    link: Tensors | None = None
    logs: bool = False

    @property
    def is_binary(self) -> bool:
        """Whether two classes are told apart by one output and a threshold."""
        return self.threshold is not None

    @property
    def gives_logits(self) -> bool:
        """Whether the threshold is that of the sigmoid of the output."""
        return self.link is torch.sigmoid

    @property
    def is_users(self) -> bool:
        """Whether a function of the user's, which may change the order of classes, comes last."""
        return self.link is not None and not self.gives_logits

    def decide(self, outputs: torch.Tensor) -> torch.Tensor:
        """Class indices of a batch of outputs."""
        if self.threshold is None:
            return self._table(outputs, self._linked).argmax(dim=1)
        return (self._probability(outputs) > self.threshold).long()

    def columns(self, outputs: torch.Tensor) -> torch.Tensor:
        """One score a class, the largest of which has the vote, of a batch of outputs.

        Of two classes with one output the scores are 0 and the output, less that at the threshold.
        """
        if self.threshold is None:
            return self._table(outputs, _log if self.logs else self._linked)
        score = self._lead(outputs).reshape(len(outputs), 1)
        return torch.cat([torch.zeros_like(score), score], dim=1)

    def _linked(self, outputs: torch.Tensor) -> torch.Tensor:
        return outputs if self.link is None else self.link(outputs)

    def _table(self, outputs: torch.Tensor, read: Tensors) -> torch.Tensor:
        columns = read(outputs).reshape(len(outputs), -1)
        if columns.shape[1] != self.n_classes:
            raise ValueError(
                f"the network has {columns.shape[1]} outputs and was fitted on {self.n_classes} "
                "classes; give it one output a class"
            )
        return columns

    def _probability(self, outputs: torch.Tensor) -> torch.Tensor:
        if self.is_users:
            return self._linked(outputs).reshape(len(outputs), -1)[:, -1]
        return self._linked(outputs).reshape(len(outputs))

    def _lead(self, outputs: torch.Tensor) -> torch.Tensor:
        """By how much the output of two classes is above that at the threshold."""
        threshold = float(self.threshold or 0.0)
        if self.gives_logits and 0 < threshold < 1:
            return outputs - (math.log(threshold) - math.log1p(-threshold))
        return self._probability(outputs) - threshold


@dataclass(frozen=True, eq=False)
class Network:
    """A fitted network behind an affine map.

    Parameters
    ----------
    front : Affine
        Scalers in front of the network.
    module : nn.Module
        The fitted module.
    reader : Head
        How its outputs are read.
    evaluate : callable
        What the fitted model itself gives for a float32 batch behind the front.
    """

    front: Affine
    module: nn.Module
    reader: Head
    evaluate: Tensors

    def outputs(self, device: torch.device) -> Tensors:
        """The function from a float32 batch of raw inputs to what the module gives."""
        outputs = module_outputs(self.for_votes(), device)
        front = _affine_layer(self.front, device)
        return lambda batch: outputs(front(batch))

    def votes(self, device: torch.device) -> Tensors:
        """The function from a float32 batch of raw inputs to class indices on the device."""
        outputs = self.outputs(device)
        return lambda batch: self.reader.decide(outputs(batch))

    def logits(self, device: torch.device) -> Tensors:
        """The function from a float32 batch of raw inputs to one score a class, differentiable.

        The class with the largest has the vote.
        """
        outputs = self.outputs(device)
        return lambda batch: self.reader.columns(outputs(batch))

    def for_votes(self) -> nn.Module:
        """A copy of the module in single precision and eval mode, on the CPU."""
        module = deepcopy(self.module).cpu().eval().requires_grad_(False)
        double = {weight.dtype for weight in module.parameters()} == {torch.float64}
        return module.float() if double else module


def first_output(output: Any) -> torch.Tensor:
    """A module's output, the first of several, with a direction for rows."""
    return torch.atleast_1d(output[0] if isinstance(output, tuple) else output)


def module_outputs(module: nn.Module, device: torch.device) -> Tensors:
    """A module as a function that threads may call at once: its first output of a batch."""
    my_module = per_thread(module.to(device))
    return lambda batch: first_output(my_module()(batch))


def final_estimator(model: Any) -> Any:
    """The last estimator inside pipelines, searches and frozen or wrapping estimators."""
    if isinstance(model, Pipeline):
        return final_estimator(model.steps[-1][1])
    if isinstance(model, NeuralNet) or not hasattr(model, "estimator"):
        return model
    return final_estimator(model.estimator)


def is_network(model: Any) -> bool:
    """Whether a skorch net is what learns inside the model: it sees float32 X and integer y."""
    return isinstance(final_estimator(model), NeuralNet)


def target_dtype(model: Any) -> type[np.generic]:
    """The dtype of class indices that the net is fitted with: its loss asks for it."""
    binary = isinstance(final_estimator(model), NeuralNetBinaryClassifier)
    return np.float32 if binary else np.int64


def as_network(model: Any, n_features: int) -> Network | None:
    """The fitted model as a network of raw inputs, or None if it is not one.

    A TypeError where the weights of a skorch net are not in single precision, which the rows are
    cast to.
    """
    split = split_affine(model, n_features)
    if split is None:
        return None
    front, final = split
    if type(final) is MLPClassifier:
        return _of_mlp(front, final)
    return _of_net(front, final) if _predicts_like_skorch(final) else None


def _of_mlp(front: Affine, model: MLPClassifier) -> Network | None:
    """The view of a perceptron, whose weights are in double precision; None if multilabel."""
    n_classes = len(model.classes_)
    if model.n_outputs_ == 1 and n_classes == 2:
        head = Head(2, 0.5, torch.sigmoid)
    elif model.out_activation_ == "softmax":
        head = Head(n_classes)
    else:
        return None
    module = as_module(model)
    return Network(front, module, head, lambda batch: module(batch.double()))


def _of_net(front: Affine, net: NeuralNet) -> Network:
    weights = net.module_.parameters()
    others = {weight.dtype for weight in weights if weight.is_floating_point()} - {torch.float32}
    if others:
        raise TypeError(f"nets have weights of torch.float32, the estimator's has {others}")
    binary = getattr(net, "threshold", None) is not None
    threshold = net.threshold if binary else None
    head = Head(len(net.classes_), threshold, _link(net, binary), _logs(net))
    return Network(front, net.module_, head, lambda batch: net.evaluation_step((batch, None)))


def as_linear_network(model: Any, n_features: int) -> Linear | None:
    """The fitted network as a linear function of raw inputs, or None if it is not one layer."""
    network = as_network(model, n_features)
    if network is None or network.reader.is_users:
        return None
    module = network.module
    layers = list(module) if type(module) is nn.Sequential else [module]
    if len(layers) == 2 and type(layers[0]) is nn.Flatten:
        layers = layers[1:]
    if len(layers) != 1 or type(layers[0]) is not nn.Linear:
        return None
    view = Linear.plain(*layer_arrays(layers[0]))
    if len(view.weights) != network.reader.n_classes or not _computes(network, view):
        return None
    return view.behind(network.front)


def layer_arrays(layer: nn.Linear) -> tuple[FloatArray, FloatArray]:
    """Weights and offsets of a linear layer in float64, offsets 0 where it has no bias."""
    weights = layer.weight.detach().cpu().double().numpy()
    if layer.bias is None:
        return weights, np.zeros(len(weights))
    return weights, layer.bias.detach().cpu().double().numpy()


def _computes(network: Network, view: Linear) -> bool:
    """Whether the model gives the scores of the view, whatever hooks its module has."""
    probes = np.random.default_rng(0).standard_normal((32, view.weights.shape[1]))
    probes *= np.logspace(-2, 2, 32)[:, np.newaxis]
    with torch.no_grad():
        output = network.evaluate(torch.tensor(probes, dtype=torch.float32))
    said, scores = output.cpu().numpy(), view.scores(probes)
    return said.shape == scores.shape and np.allclose(said, scores, rtol=1e-3, atol=1e-4)


def _predicts_like_skorch(net: Any) -> bool:
    """Whether the net is a classifier that predicts as skorch's own classes do."""
    for kind in (NeuralNetBinaryClassifier, NeuralNetClassifier):
        if isinstance(net, kind):
            methods = ("predict", "predict_proba", "forward_iter", "evaluation_step", "infer")
            return all(getattr(type(net), name) is getattr(kind, name) for name in methods)
    return False


def _affine_layer(front: Affine, device: torch.device) -> Tensors:
    linear = torch.tensor(front.linear, dtype=torch.float32, device=device)
    shift = torch.tensor(front.shift, dtype=torch.float32, device=device)
    if not (front.linear != 1).any() and not front.shift.any() and front.linear.ndim == 1:
        return lambda batch: batch
    if front.linear.ndim == 1:
        return lambda batch: torch.addcmul(shift, batch, linear)
    return lambda batch: torch.addmm(shift, batch, linear.T)


def _link(net: NeuralNet, binary: bool) -> Tensors | None:
    """What decides: skorch's own nonlinearities keep the order of classes, a user's may not."""
    if callable(net.predict_nonlinearity):
        link: Tensors = net.predict_nonlinearity
        return link
    automatic = net.predict_nonlinearity == "auto"
    if binary and automatic and isinstance(net.criterion_, nn.BCEWithLogitsLoss):
        return torch.sigmoid
    return None


def _logs(net: NeuralNetClassifier) -> bool:
    """Whether skorch takes the logarithm of the module's outputs in the loss."""
    trained_so = type(net).get_loss is NeuralNetClassifier.get_loss
    if callable(net.predict_nonlinearity) or not trained_so:
        return False
    return isinstance(net.criterion_, nn.NLLLoss)


def _log(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.clamp(min=torch.finfo(outputs.dtype).tiny).log()
