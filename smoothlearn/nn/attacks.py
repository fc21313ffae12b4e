r"""Attacks: points near given rows where a loss is large, and losses of locally biased smoothing.

An attack knows its loss as a function from a batch to one number a row, and nothing else: labels,
models and noise that should stay the same during the attack are what that function remembers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from smoothlearn.nn.balls import Ball
from smoothlearn.nn.energies import leaf
from smoothlearn.theory.arguments import as_finite
from smoothlearn.theory.norms import dual

Rowwise = Callable[[torch.Tensor], torch.Tensor]


def projected_gradient(
    loss: Rowwise,
    X: torch.Tensor,
    *,
    epsilon: float | torch.Tensor,
    norm: float,
    n_steps: int = 10,
    step_size: float | None = None,
    n_restarts: int = 1,
    bounds: tuple[float, float] | None = None,
    success: Rowwise | None = None,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    r"""For every row x a point where the loss is large, with :math:`\|x' - x\|_p \le \epsilon`.

    .. math:: x'_{t+1} = \Pi\bigl(x'_t + \eta\, v_t\bigr), \quad
        v_t = \arg\max_{\|v\|_p \le 1} v^T \nabla\text{loss}(x'_t)

    with the projection onto the ball, :math:`\Pi`. The step v is the normalized gradient for
    p = 2, its sign for p = inf, and for p = 1 the sign of its largest entry alone. Of all points
    that are met, x among them, a row keeps the one with the largest loss.

    Parameters
    ----------
    loss : callable (n, ...) -> (n,)
        Differentiable; called with all rows, in their order. Its value for a row must not depend
        on the others. The parameters of its modules get no gradients.
    X : Tensor of shape (n, ...)
        Where the balls have their centers. It is left as it is.
    epsilon : float or Tensor of shape (n,)
        The radius, or one for every row.
    norm : 1, 2 or inf
        The norm of the ball: p.
    n_steps : int, default=10
    step_size : float, optional
        The length of a step, :math:`\eta`; by default 2.5 epsilon / n_steps.
    n_restarts : int, default=1
        The first start is x itself, the others are drawn uniformly from the ball.
    bounds : pair of float, optional
        The least and the largest value of an entry, as (0, 1) for pixels; by default none. Entries
        at a bound are left out of a step that would push them beyond it.
    success : callable (n, ...) -> (n,), optional
        Which points, bool, are good enough: a row prefers them to all others.
    generator : torch.Generator, optional
        The source of the random starts; by default they differ from call to call.

    Returns
    -------
    Tensor of the shape and dtype of X
        Within the ball as computed in float64, and without gradients.

    Raises
    ------
    ValueError, TypeError
        If an argument is out of range, X is not within the bounds, or the loss is not
        differentiable or has another shape.

    References
    ----------
    Madry et al. 2018, *Towards deep learning models resistant to adversarial attacks*, Eq. 2.1.

    Examples
    --------
    >>> import torch
    >>> from smoothlearn.nn.attacks import projected_gradient
    >>> slope = torch.tensor([3.0, 4.0])
    >>> projected_gradient(lambda x: x @ slope, torch.zeros(1, 2), epsilon=1.0, norm=2)
    tensor([[0.6000, 0.8000]])
    """
    _check_count("n_steps", n_steps)
    _check_count("n_restarts", n_restarts)
    ball = Ball(X, epsilon, norm, bounds)
    step = _step(ball, n_steps, step_size)
    if generator is None:
        generator = torch.Generator(X.device)
        generator.seed()
    best = ball.center.clone()
    best_value = best.new_full((len(best),), -torch.inf)
    done = torch.zeros_like(best_value, dtype=torch.bool)
    for restart in range(n_restarts):
        start = ball.draw(generator) if restart else ball.center
        for point, value in _climb(loss, X.shape, ball, start, step, n_steps):
            good = done if success is None else success(point.reshape(X.shape)).bool()
            better = (good & ~done) | ((good == done) & (value > best_value))
            best = torch.where(better[:, None], point, best)
            best_value = torch.where(better, value, best_value)
            done = done | good
    return best.reshape(X.shape)


def last_step(
    loss: Rowwise,
    X: torch.Tensor,
    *,
    epsilon: float | torch.Tensor,
    norm: float = 2,
    n_steps: int,
    step_size: float | None = None,
) -> torch.Tensor:
    """Where :func:`projected_gradient` from X itself arrives, better or not.

    What adversarial training attacks with: one gradient of the loss a step, and no more.

    Parameters
    ----------
    loss, X, epsilon, norm, n_steps, step_size
        As in :func:`projected_gradient`.

    Returns
    -------
    Tensor of the shape and dtype of X
        Within the ball as computed in float64, and without gradients.

    Examples
    --------
    >>> import torch
    >>> from smoothlearn.nn.attacks import last_step
    >>> last_step(lambda x: x[:, 0], torch.zeros(1, 2), epsilon=0.5, n_steps=2)
    tensor([[0.5000, 0.0000]])
    """
    _check_count("n_steps", n_steps)
    ball = Ball(X, epsilon, norm)
    step, point = _step(ball, n_steps, step_size), ball.center
    for _ in range(n_steps):
        point = _higher(loss, X.shape, ball, point, step)[0]
    return point.reshape(X.shape)


def attack_all(
    losses: Iterable[Rowwise], X: torch.Tensor, *, success: Rowwise, **settings: Any
) -> torch.Tensor:
    """For every row the first successful point of :func:`projected_gradient` on several losses.

    Parameters
    ----------
    losses : iterable of callables (n, ...) -> (n,)
        In the order in which they are tried.
    X : Tensor of shape (n, ...)
        The rows.
    success : callable (n, ...) -> (n,)
        Which points, bool, are adversarial.
    **settings
        As :func:`projected_gradient` takes them.

    Returns
    -------
    Tensor of the shape and dtype of X
        A row of X that is a success itself, or for which no point was found, stays as it is.

    Examples
    --------
    >>> import torch
    >>> from smoothlearn.nn.attacks import attack_all
    >>> losses = [lambda x: x[:, 0], lambda x: -x[:, 0]]
    >>> left = lambda x: x[:, 0] < -0.5
    >>> attack_all(losses, torch.zeros(1, 1), success=left, epsilon=1.0, norm=2)
    tensor([[-1.]])
    """
    found = X.detach().clone()
    done = success(found).bool()
    for loss in losses:
        if done.all():
            break
        points = projected_gradient(loss, X, success=success, **settings)
        new = success(points).bool() & ~done
        found[new] = points[new]
        done |= new
    return found


def smoothed_loss(scores: Rowwise, y: torch.Tensor, noise: torch.Tensor) -> Rowwise:
    r"""The loss :math:`-\log \frac1m \sum_j \mathrm{softmax}\,(s(x + \varepsilon_j))_k` of rows.

    It estimates :math:`-\log \Pi_k(x)`, where :math:`\Pi` is the soft classifier smoothed by
    noise, from m draws that stay the same wherever it is evaluated.

    Parameters
    ----------
    scores : callable (n * m, d) -> (n * m, n_classes)
        The logits s of noisy rows; the m copies of a row stand side by side.
    y : Tensor of shape (n,)
        The class k of every row, an index.
    noise : Tensor of shape (n, m, d)
        The draws :math:`\varepsilon_j` for every row.

    Returns
    -------
    callable (n, d) -> (n,)

    References
    ----------
    Saremi & Srivastava 2020, *Provable robust classification via learned smoothed densities*,
    Eq. 13 and 14; with the identity for a denoiser, Salman et al. 2019, *Provably robust deep
    learning via adversarially trained smoothed classifiers*, Eq. 5.

    Examples
    --------
    >>> import torch
    >>> from smoothlearn.nn.attacks import smoothed_loss
    >>> loss = smoothed_loss(lambda x: x, torch.tensor([0]), torch.zeros(1, 3, 2))
    >>> loss(torch.zeros(1, 2))  # log 2
    tensor([0.6931])
    """

    def loss(x: torch.Tensor) -> torch.Tensor:
        return mixture_loss(scores((x[:, None] + noise).flatten(0, 1)), y)

    return loss


def mixture_loss(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    r""":math:`-\log \frac1m \sum_j \mathrm{softmax}(s_j)_k`, of shape (n,), of m logits a row.

    They come as (n * m, n_classes), those of a row side by side; y holds the class k of every row.
    """
    n, m = len(y), len(logits) // len(y)
    own = logits.log_softmax(dim=1).reshape(n, m, -1)
    own = own.gather(2, y[:, None, None].expand(n, m, 1))[:, :, 0]
    return math.log(m) - own.logsumexp(dim=1)


def bias_lead(points: torch.Tensor, same: torch.Tensor) -> Rowwise:
    r"""How much nearer, :math:`\min_j \rho_j^2 - \min_i \rho_i^2`, the bias points of a class are.

    It is positive where the nearest-neighbor oracle names the row's class. Its gradient points
    from the nearest opponent j to the nearest bias point i of the class.

    Parameters
    ----------
    points : Tensor of shape (n_points, d)
        The bias points.
    same : Tensor of shape (n, n_points), bool
        For every row, which of them are of its class.
    """
    center = points.mean(dim=0)
    centered = points - center
    squares = centered.square().sum(dim=1)

    def lead(x: torch.Tensor) -> torch.Tensor:
        # The distances but for the square of x, which both have.
        distances = squares - 2 * (x.flatten(1) - center) @ centered.T
        nearest_same = distances.masked_fill(~same, torch.inf).amin(dim=1)
        return distances.masked_fill(same, torch.inf).amin(dim=1) - nearest_same

    return lead


def smoothed_margin(margin: Rowwise, lead: Rowwise, *, alpha: float, norm: float) -> Rowwise:
    r"""The margin of locally biased smoothing, :math:`m + \alpha\, y\, \|\nabla m\|_*`.

    The oracle's side y is the sign of the lead where the function is called. An attack on it
    differentiates the norm of the gradient, too.

    Parameters
    ----------
    margin : callable (n, ...) -> (n,)
        The base's score of a row's class less that of another; for two classes s g.
    lead : callable (n, ...) -> (n,)
        Positive where the oracle names the row's class: see :func:`bias_lead`.
    alpha : float
        The bias level.
    norm : 1, 2 or inf
        The norm of the threat; the gradient is measured in its dual.

    References
    ----------
    Anderson & Sojoudi 2022, *Certified robustness via locally biased randomized smoothing*, Eq. 5.
    """
    order, level = dual(norm), as_finite("alpha", alpha, zero=True)

    def smoothed(x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            point = x if x.requires_grad else leaf(x)
            value = margin(point)
            slope = torch.autograd.grad(value.sum(), point, create_graph=True)[0].flatten(1)
            length = torch.linalg.vector_norm(slope, order, dim=1)
            return value + level * lead(point).sign() * length

    return smoothed


def locally_biased_losses(
    margin: Rowwise, lead: Rowwise, *, alpha: float, norm: float
) -> dict[str, Rowwise]:
    r"""What to increase against :func:`smoothed_margin`, which takes the same arguments.

    The smoothed margin is negative where :math:`m + \alpha \|\nabla m\|_* < 0`, or where
    :math:`m - \alpha \|\nabla m\|_* < 0` and the oracle's lead is, too.

    Returns
    -------
    dict of str to callable (n, ...) -> (n,)
        ``base`` lowers the base's margin m alone, which is how the paper attacks. ``smoothed``
        lowers the smoothed margin, with the oracle of every point that it passes. ``oracle``
        lowers the lead, towards the nearest opponent. ``combined`` lowers the larger of the lead
        and :math:`m - \alpha \|\nabla m\|_*` until both are negative.
    """
    smoothed = smoothed_margin(margin, lead, alpha=alpha, norm=norm)
    opposed = smoothed_margin(margin, lambda x: x.new_full((len(x),), -1.0), alpha=alpha, norm=norm)
    return {
        "base": lambda x: -margin(x),
        "smoothed": lambda x: -smoothed(x),
        "oracle": lambda x: -lead(x),
        "combined": lambda x: -torch.maximum(lead(x), opposed(x)),
    }


def _check_count(name: str, count: Any) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"{name} must be an int >= 1, got {count!r}")


def _step(ball: Ball, n_steps: int, step_size: float | None) -> torch.Tensor:
    """The length of a step, one for all rows or one for each."""
    if step_size is None:
        return (2.5 / n_steps * ball.radius).to(ball.center.dtype)
    return torch.as_tensor(as_finite("step_size", step_size), dtype=ball.center.dtype)


def _climb(
    loss: Rowwise,
    shape: torch.Size,
    ball: Ball,
    point: torch.Tensor,
    step: torch.Tensor,
    n_steps: int,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The points on the way and their losses, the start and the last one among them."""
    for _ in range(n_steps):
        higher, value = _higher(loss, shape, ball, point, step)
        yield point, value
        point = higher
    yield point, _value_and_slope(loss, point.reshape(shape))[0]


def _higher(
    loss: Rowwise, shape: torch.Size, ball: Ball, point: torch.Tensor, step: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The next point, and the loss at this one."""
    value, slope = _value_and_slope(loss, point.reshape(shape))
    return ball.project(point + step * ball.steepest(slope.flatten(1), point)), value


def _value_and_slope(loss: Rowwise, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.inference_mode(False), torch.enable_grad():
        point = leaf(batch)
        value = loss(point)
        if value.shape != point.shape[:1]:
            raise ValueError(
                f"loss must give one number a row, of shape ({len(point)},), got shape "
                f"{tuple(value.shape)}"
            )
        if not value.requires_grad:
            raise ValueError("loss must be differentiable in its batch; it gave a constant")
        slope = torch.autograd.grad(value.sum(), point, allow_unused=True)[0]
        if slope is None:
            raise ValueError("loss must be differentiable in its batch; it does not depend on it")
    return value.detach(), torch.nan_to_num(slope)
