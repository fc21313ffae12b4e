"""The probabilities of a fitted base, which soft votes average: where they come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray

from smoothlearn.bases import base_probabilities, base_view, probe_rows
from smoothlearn.nn.randomness import private_torch_rng
from smoothlearn.views.affine import FloatArray
from smoothlearn.views.linear import Linear
from smoothlearn.views.probabilities import links

#: Within which probabilities that are computed in two ways agree.
_NEAR = 1e-4


def trusted_link(
    base: Any,
    kind: str,
    classes: NDArray[Any],
    X: FloatArray,
    *,
    as_given: Callable[[FloatArray], Any],
    sigma: float,
    seed: int,
) -> str:
    """What makes the probabilities of a base: one of the ``links`` of its outputs.

    A link is trusted if it gives what ``predict_proba`` gives, on training rows with and without
    noise. "predict_proba" where none does, or nothing is known of the outputs of the base.
    """
    view = base_view(base, kind, X.shape[1])
    if view is None or not hasattr(base, "predict_proba"):
        return "predict_proba"
    rows = probe_rows(X, sigma, seed)
    probes = torch.from_numpy(rows)
    try:
        with private_torch_rng(seed):
            said = base_probabilities(base, classes, as_given)(probes)
    except Exception:  # the base's own, which soft votes will meet and others never
        return "predict_proba"
    if isinstance(view, Linear):
        outputs = torch.from_numpy(view.scores(rows))
    else:
        outputs = view.outputs(torch.device("cpu"))(probes.float())
    for name, link in links(view.reader).items():
        p = link(outputs).double()
        if p.shape == said.shape and torch.allclose(p, said, rtol=0, atol=_NEAR):
            return name
    return "predict_proba"


def check_probabilities(
    base: Any, classes: NDArray[Any], X: FloatArray, *, as_given: Callable[[FloatArray], Any]
) -> None:
    """Ask a base for probabilities of some rows, with and without company.

    Raises
    ------
    TypeError
        If it has no ``predict_proba``.
    ValueError
        If that does not give distributions over the classes, or they depend on the other rows or on
        chance.
    """
    votes = base_probabilities(base, classes, as_given)
    probes = torch.from_numpy(X)
    with private_torch_rng(0):
        said, turned = votes(probes), votes(probes.flip(0)).flip(0)
        alone = votes(probes[::7])
    for one, other in ((said, turned), (said[::7], alone)):
        if not torch.allclose(one, other, rtol=0, atol=_NEAR):
            raise ValueError(
                f"the predict_proba of estimator={base!r} gives the same rows other probabilities "
                "in another order or company: they depend on chance or on the other rows, and soft "
                "votes would not be independent; use a base that looks at the row alone, or "
                "vote='hard'"
            )
