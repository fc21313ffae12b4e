"""scikit-learn's multilayer perceptrons as torch modules."""

from __future__ import annotations

from typing import Any

import torch
from sklearn.neural_network import MLPClassifier
from torch import nn

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "identity": nn.Identity,
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
}


def as_module(model: MLPClassifier) -> nn.Sequential:
    r"""The function :math:`z_L` of rows, :math:`z_{l+1} = a(z_l) W_l + b_l`, before the last link.

    Parameters
    ----------
    model : MLPClassifier
        Fitted, with weights W and b in ``coefs_`` and ``intercepts_`` and the activation a.

    Returns
    -------
    nn.Sequential
        In eval mode and double precision, with copies of the weights.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from smoothlearn.views.mlp import as_module
    >>> model = MLPClassifier((5,), tol=0.01, random_state=0)
    >>> as_module(model.fit(*load_iris(return_X_y=True)))
    Sequential(
      (0): Linear(in_features=4, out_features=5, bias=True)
      (1): ReLU()
      (2): Linear(in_features=5, out_features=3, bias=True)
    )
    """
    layers: list[nn.Module] = []
    for weights, offsets in zip(model.coefs_, model.intercepts_, strict=True):
        layers += [_linear(weights, offsets), _ACTIVATIONS[model.activation]()]
    return nn.Sequential(*layers[:-1]).eval().requires_grad_(False)


def _linear(weights: Any, offsets: Any) -> nn.Linear:
    layer = nn.utils.skip_init(nn.Linear, *weights.shape, dtype=torch.float64)
    layer.weight.data.copy_(torch.tensor(weights.T))
    layer.bias.data.copy_(torch.tensor(offsets))
    return layer
