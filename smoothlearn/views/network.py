"""Fitted skorch nets as functions from inputs to class indices on a device."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier
from torch import nn

from smoothlearn.views.affine import Affine, split_affine
from smoothlearn.views.copies import per_thread
from smoothlearn.views.linear import Linear

Tensors = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Network:
    """A skorch classifier behind an affine map.

    Parameters
    ----------
    front : Affine
        Scalers in front of the network.
    net : NeuralNet
        The fitted skorch net.
    """

    front: Affine
    net: NeuralNet

    @property
    def is_binary(self) -> bool:
        """Whether the net decides between two classes by one output and a threshold."""
        return getattr(self.net, "threshold", None) is not None

    @property
    def gives_logits(self) -> bool:
        """Whether skorch takes the sigmoid of the output before it is compared."""
        automatic = self.net.predict_nonlinearity == "auto"
        return automatic and isinstance(self.net.criterion_, nn.BCEWithLogitsLoss)

    def votes(self, device: torch.device) -> Tensors:
        """The function from a float32 batch of raw inputs to class indices on the device."""
        if not self.is_binary:
            scores = self._scores(device, _nonlinearity(self.net))
            return lambda batch: scores(batch).argmax(dim=1)
        outputs, probabilities = self._outputs(device), _probabilities(self.net)
        threshold = self.net.threshold
        return lambda batch: (probabilities(outputs(batch)).reshape(len(batch)) > threshold).long()

    def logits(self, device: torch.device) -> Tensors:
        """The function from a float32 batch of raw inputs to one score a class, differentiable.

        The class with the largest has the vote. Of two classes with one output the scores are 0
        and the output, less that at the threshold.
        """
        if not self.is_binary:
            return self._scores(device, _log_likelihood(self.net) or _nonlinearity(self.net))
        outputs, lead = self._outputs(device), _lead(self)

        def two_columns(batch: torch.Tensor) -> torch.Tensor:
            score = lead(outputs(batch)).reshape(len(batch), 1)
            return torch.cat([torch.zeros_like(score), score], dim=1)

        return two_columns

    def _outputs(self, device: torch.device) -> Tensors:
        """What the module gives for a batch of raw inputs, in eval mode."""
        module = deepcopy(self.net.module_).to(device).eval().requires_grad_(False)
        my_module = per_thread(module)
        front = _affine_layer(self.front, device)

        def outputs(batch: torch.Tensor) -> torch.Tensor:
            output: Any = my_module()(front(batch))
            return output[0] if isinstance(output, tuple) else output

        return outputs

    def _scores(self, device: torch.device, of_outputs: Tensors) -> Tensors:
        """The function from a batch to what argmax is taken of, (n, n_classes)."""
        outputs, n_classes = self._outputs(device), len(self.net.classes_)

        def scores(batch: torch.Tensor) -> torch.Tensor:
            columns = of_outputs(outputs(batch)).reshape(len(batch), -1)
            if columns.shape[1] != n_classes:
                raise ValueError(
                    f"the network has {columns.shape[1]} outputs and was fitted on {n_classes} "
                    "classes; give it one output a class"
                )
            return columns

        return scores


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

    A TypeError where its weights are not in single precision, which the rows are cast to.
    """
    split = split_affine(model, n_features)
    if split is None or not _predicts_like_skorch(split[1]):
        return None
    weights = split[1].module_.parameters()
    others = {weight.dtype for weight in weights if weight.is_floating_point()} - {torch.float32}
    if others:
        raise TypeError(f"nets have weights of torch.float32, the estimator's has {others}")
    return Network(*split)


def as_linear_network(model: Any, n_features: int) -> Linear | None:
    """The fitted net as a linear function of raw inputs, or None if it is not one layer."""
    network = as_network(model, n_features)
    if network is None or callable(network.net.predict_nonlinearity):
        return None
    module = network.net.module_
    layers = list(module) if type(module) is nn.Sequential else [module]
    if len(layers) == 2 and type(layers[0]) is nn.Flatten:
        layers = layers[1:]
    if len(layers) != 1 or type(layers[0]) is not nn.Linear:
        return None
    layer: Any = layers[0]
    weights = layer.weight.detach().cpu().numpy().astype(float)
    bias = layer.bias
    offsets = np.zeros(len(weights)) if bias is None else bias.detach().cpu().numpy().astype(float)
    view = Linear.plain(weights, offsets)
    if len(weights) != len(network.net.classes_) or not _computes(network.net, view):
        return None
    return view.behind(network.front)


def _computes(net: NeuralNet, view: Linear) -> bool:
    """Whether the net gives the scores of the view, whatever hooks its module has."""
    probes = np.random.default_rng(0).standard_normal((32, view.weights.shape[1]))
    probes *= np.logspace(-2, 2, 32)[:, np.newaxis]
    output = net.evaluation_step((torch.tensor(probes, dtype=torch.float32), None))
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


def _nonlinearity(net: NeuralNet) -> Tensors:
    """What argmax is taken of: skorch's own nonlinearities keep the order, a user's may not."""
    return net.predict_nonlinearity if callable(net.predict_nonlinearity) else nn.Identity()


def _log_likelihood(net: NeuralNetClassifier) -> Tensors | None:
    """The logarithm where skorch takes it of the module's probabilities in the loss, else None."""
    trained_so = type(net).get_loss is NeuralNetClassifier.get_loss
    if callable(net.predict_nonlinearity) or not trained_so:
        return None
    if not isinstance(net.criterion_, nn.NLLLoss):
        return None
    return lambda output: output.clamp(min=torch.finfo(output.dtype).tiny).log()


def _lead(network: Network) -> Tensors:
    """By how much the output of two classes is above that at the threshold."""
    threshold = network.net.threshold
    if network.gives_logits and 0 < threshold < 1:
        offset = math.log(threshold) - math.log1p(-threshold)
        return lambda output: output - offset
    probabilities = _probabilities(network.net)
    return lambda output: probabilities(output) - threshold


def _probabilities(net: NeuralNetBinaryClassifier) -> Tensors:
    if callable(net.predict_nonlinearity):
        return lambda output: net.predict_nonlinearity(output).reshape(len(output), -1)[:, -1]
    if net.predict_nonlinearity == "auto" and isinstance(net.criterion_, nn.BCEWithLogitsLoss):
        return torch.sigmoid
    return nn.Identity()
