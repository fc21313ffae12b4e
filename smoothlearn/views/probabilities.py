"""Probabilities of classes: read of the outputs of a view, or given by ``predict_proba``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from smoothlearn.views.affine import FloatArray
from smoothlearn.views.linear import Linear
from smoothlearn.views.network import Head, Tensors

#: By how much probabilities of one row may miss the sum 1, or be below 0.
SLACK = 1e-3


@dataclass(frozen=True, eq=False)
class SoftReader:
    """A reader of outputs that decides by probabilities in place of class indices.

    Parameters
    ----------
    reader : Linear or Head
        How outputs are read for hard votes.
    link : callable
        From outputs to probabilities.
    """

    reader: Linear | Head
    link: Tensors

    def decide(self, outputs: torch.Tensor) -> torch.Tensor:
        """Probabilities of a batch of outputs, one column a class."""
        return as_distributions(self.link(outputs))

    def columns(self, outputs: torch.Tensor) -> torch.Tensor:
        """One score a class, as for hard votes."""
        return self.reader.columns(outputs)


def links(reader: Linear | Head) -> dict[str, Tensors]:
    """By name, what may make probabilities of the outputs that a reader reads."""
    known: dict[str, Tensors] = {"softmax": softmax, "identity": in_columns}
    if isinstance(reader, Head) and reader.is_users and reader.link is not None:
        users = reader.link
        known["users"] = lambda outputs: in_columns(users(outputs))
    return known


def softmax(outputs: torch.Tensor) -> torch.Tensor:
    """The softmax of one output a class; the sigmoid s of a single one of two, as 1 - s and s."""
    columns = outputs.reshape(len(outputs), -1)
    if columns.shape[1] == 1:
        columns = torch.cat([torch.zeros_like(columns), columns], dim=1)
    return torch.softmax(columns, dim=1)


def in_columns(outputs: torch.Tensor) -> torch.Tensor:
    """Outputs that are probabilities already; a single one p of two as 1 - p and p."""
    columns = outputs.reshape(len(outputs), -1)
    return torch.cat([1 - columns, columns], dim=1) if columns.shape[1] == 1 else columns


def as_distributions(p: torch.Tensor) -> torch.Tensor:
    """The probabilities of a batch, none below 0.

    A ValueError where one is NaN or below -SLACK, or a row misses the sum 1 by more than SLACK.
    """
    wrong = ~((p >= -SLACK).all(dim=1) & ((p.sum(dim=1) - 1).abs() <= SLACK))
    if bool(wrong.any()):
        raise ValueError(
            f"vote='soft' averages probabilities, and the base gives {p[wrong][0, :5].tolist()} "
            f"for a noisy row, with the sum {float(p[wrong][0].sum()):.4g}; use a base whose "
            "predict_proba is nonnegative and sums to 1 (of a skorch net, its loss or "
            "predict_nonlinearity decides that), or vote='hard'"
        )
    return p.clamp(min=0)


def predictor_probabilities(
    predict_proba: Callable[[Any], Any], n_classes: int, as_input: Callable[[FloatArray], Any]
) -> Tensors:
    """The function from a batch to what ``predict_proba`` says, on the CPU.

    ``as_input`` turns the batch, as a float64 array, into what ``predict_proba`` takes.
    """

    def vote(batch: torch.Tensor) -> torch.Tensor:
        said = np.asarray(predict_proba(as_input(batch.cpu().numpy().astype(np.float64))), float)
        if said.shape != (len(batch), n_classes):
            raise ValueError(
                f"vote='soft' needs one probability a class, and predict_proba gives an array of "
                f"shape {said.shape} for {len(batch)} rows and {n_classes} classes"
            )
        return as_distributions(torch.from_numpy(said).to(batch.device))

    return vote
