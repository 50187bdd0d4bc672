"""The effective weight of a matrix and the gradients of its factors, without a dense detour.

With rows x of the input, s = alpha / r, earlier factors A_i (d_in, r), B_i (r, d_out) with their
weights omega_i, and the factors A, B of the present task:

    W = W_0 + s (sum_i omega_i A_i B_i + A B)                      composed once a step
    y = x W,   dx = g W^T
    dA = s x^T (g B^T),   dB = s (x A)^T g,   domega_i = s sum((x A_i) * (g B_i^T))

Where dW = x^T g is wanted anyway (importance), or is the cheaper way, the same gradients come from
it: dA = s dW B^T, dB = s A^T dW, domega_i = s <A_i^T dW, B_i>.

Weights are stored as torch stores them, (d_out, d_in), so W below is the transpose of W above.

References:
    LoRAC-IPC, arXiv 2504.13407, the composition of modules; the official code composes all earlier
    products densely in each step and keeps them for the gradient of omega, which this avoids.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

Observe = Callable[[Tensor, Tensor], None]
"""``observe(weight, gradient)`` of one matrix, both (d_out, d_in)."""

DENSE_FROM = 0.5
"""Products with all factors beside one dense product, from which the dense way is the faster."""


@dataclass(frozen=True)
class Part:
    """What the backward pass must know of one matrix of a linear layer.

    Attributes:
        rows: First and last + 1 row of the layer's weight.
        ranks: Rank of each earlier module that the matrix has.
        rank: Rank of the present module; 0 if the matrix gets none.
        scale: s = alpha / r.
        trains_omega: Whether the weights of the earlier modules are trained.
        observe: Called with weight and its gradient, where importance is watched.
    """

    rows: tuple[int, int]
    ranks: tuple[int, ...]
    rank: int
    scale: float
    trains_omega: bool
    observe: Observe | None = None

    @property
    def history(self) -> int:
        """Columns of the earlier factors."""
        return sum(self.ranks)

    def is_dense(self, in_features: int, out_features: int) -> bool:
        """Return whether the gradients go through dW.

        Args:
            in_features: d_in.
            out_features: d_out.
        """
        columns = self.rank + (self.history if self.trains_omega else 0)
        thin, dense = columns * (in_features + out_features), in_features * out_features
        return self.observe is not None or thin > DENSE_FROM * dense


def column_weights(omega: Tensor, ranks: tuple[int, ...]) -> Tensor:
    """Return each module's weight once for each of its columns, shape (sum of ranks,).

    Args:
        omega: Shape (modules,).
        ranks: Rank of each module.
    """
    times = torch.tensor(ranks, dtype=torch.int64, device=omega.device)
    return omega.repeat_interleave(times)


def compose(base: Tensor, a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """Return base + (A diag(weights) B)^T, a new tensor of shape (d_out, d_in).

    Args:
        base: Shape (d_out, d_in).
        a: All factors A side by side, shape (d_in, columns).
        b: All factors B below each other, shape (columns, d_out).
        weights: s omega of each column, shape (columns,).
    """
    return torch.addmm(base, (b * weights.unsqueeze(1)).T, a.T)


class LowRankLinear(torch.autograd.Function):
    """A linear layer whose weight was composed, with the gradients of its factors by hand.

    Inputs: x (..., d_in); the composed weight (d_out, d_in); bias or None; the parts; then for each
    part A (d_in, r), B (r, d_out), omega (modules,) or None where not trained, and all its factors
    A (d_in, columns) and B (columns, d_out) side by side, earlier ones first.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, *rest: Any) -> Tensor:
        """Return x W + bias, shape (..., d_out)."""
        bias, parts, *factors = rest
        stacks = [factors[5 * number + place] for number in range(len(parts)) for place in (3, 4)]
        with torch.autocast(x.device.type, enabled=False):
            weight = weight.to(x.dtype)
            result = functional.linear(x, weight, None if bias is None else bias.to(x.dtype))
        ctx.parts = parts
        ctx.save_for_backward(x, weight, *(stack.to(x.dtype) for stack in stacks))
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x and, part by part, of A, B and omega."""
        x, weight, *stacks = ctx.saved_tensors
        grad = grads[0].reshape(-1, weight.shape[0])
        rows = x.reshape(-1, x.shape[-1])
        with torch.autocast(x.device.type, enabled=False):
            grad_x = (grad @ weight).view_as(x) if ctx.needs_input_grad[0] else None
            found: list[Tensor | None] = []
            for number, part in enumerate(ctx.parts):
                first, last = part.rows
                a, b = stacks[2 * number], stacks[2 * number + 1]
                own = grad[:, first:last]
                if part.is_dense(a.shape[0], b.shape[1]):
                    found += _dense(part, own.T @ rows, (a, b), weight[first:last])
                else:
                    found += _thin(part, rows, own, (a, b))
                found += [None, None]
        return (grad_x, None, None, None, *found)


def _dense(
    part: Part, grad_weight: Tensor, factors: tuple[Tensor, Tensor], weight: Tensor
) -> list[Tensor | None]:
    """Return the gradients of A, B and omega from that of the weight, (d_out, d_in)."""
    if part.observe is not None:
        part.observe(weight, grad_weight)
    (a, b), history, scale = factors, part.history, part.scale
    skipped = 0 if part.trains_omega else history
    product = a[:, skipped:].T @ grad_weight.T  # (columns, d_out), as B lies in memory
    grad_a = grad_b = grad_omega = None
    if part.rank:
        grad_a = (b[history:] @ grad_weight).T * scale
        grad_b = product[history - skipped :] * scale
    if part.trains_omega:
        columns = (product[:history] * b[:history]).sum(1)
        grad_omega = _by_module(columns, part.ranks) * scale
    return [grad_a, grad_b, grad_omega]


def _thin(
    part: Part, rows: Tensor, grad: Tensor, factors: tuple[Tensor, Tensor]
) -> list[Tensor | None]:
    """Return the same gradients from products with the factors alone."""
    (a, b), history, scale = factors, part.history, part.scale
    skipped = 0 if part.trains_omega else history
    left, right = rows @ a[:, skipped:], grad @ b[skipped:].T
    grad_a = grad_b = grad_omega = None
    if part.rank:
        grad_a = (rows.T @ right[:, history - skipped :]) * scale
        grad_b = (left[:, history - skipped :].T @ grad) * scale
    if part.trains_omega:
        columns = (left[:, :history] * right[:, :history]).sum(0)
        grad_omega = _by_module(columns, part.ranks) * scale
    return [grad_a, grad_b, grad_omega]


def _by_module(columns: Tensor, ranks: tuple[int, ...]) -> Tensor:
    if len(set(ranks)) == 1:
        return columns.view(len(ranks), -1).sum(1)
    return torch.stack([each.sum() for each in columns.split(list(ranks))])
