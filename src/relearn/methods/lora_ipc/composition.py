"""The effective weight of a matrix and the gradients of its factors, without a dense detour.

With rows x of the input, s = alpha / r, earlier factors A_i (d_in, r), B_i (r, d_out) with their
weights omega_i, and the factors A, B of the present task:

    W = W_0 + s (sum_i omega_i A_i B_i + A B)                      composed once a step
    y = x W,   dx = g W^T
    dA = s x^T (g B^T),   dB = s (x A)^T g,   domega_i = s <(x A_i)^T g, B_i>

The products x [A_1 .. A] of all matrices that read the same x are one, and so are the products with
g: two large products instead of two small ones a module. Where dW = x^T g is wanted anyway
(importance), or is the cheaper way, the same gradients come from it: dA = s dW B^T, dB = s A^T dW,
domega_i = s <A_i^T dW, B_i>. Either way omega costs a step about rows x columns x (d_in + d_out)
products, or rows x d_in x d_out; only folding the earlier modules (omega off, or the matrix frozen)
is free. Rows of g that are zero are left out of all products but W x (``products``).

Weights are stored as torch stores them, (d_out, d_in), so W below is the transpose of W above.

References:
    LoRAC-IPC, arXiv 2504.13407, the composition of modules; the official code composes all earlier
    products densely in each step and keeps them for the gradient of omega, which this avoids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from relearn.methods.lora_ipc.products import living_rows, times

Observe = Callable[[Tensor, Tensor], None]
"""``observe(weight, gradient)`` of one matrix, both (d_out, d_in)."""

DENSE_FROM = 0.8
"""Multiplications through the factors over those through dW, from which dW is the faster way."""


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

    @property
    def skipped(self) -> int:
        """Columns of the earlier factors whose gradient nobody wants."""
        return 0 if self.trains_omega else self.history

    def is_dense(self, rows: int, in_features: int, out_features: int) -> bool:
        """Return whether the gradients go through dW.

        Args:
            rows: Of the input.
            in_features: d_in.
            out_features: d_out.
        """
        columns = 2 * self.rank + (self.history if self.trains_omega else 0)
        thin = rows * columns * (in_features + out_features)
        dense = (rows + columns) * in_features * out_features
        return self.observe is not None or thin > DENSE_FROM * dense


def column_weights(omega: Tensor, ranks: tuple[int, ...]) -> Tensor:
    """Return each module's weight once for each of its columns, shape (sum of ranks,).

    Args:
        omega: Shape (modules,).
        ranks: Rank of each module.
    """
    if len(set(ranks)) == 1:
        return omega.unsqueeze(1).expand(-1, ranks[0]).reshape(-1)
    many = torch.tensor(ranks, dtype=torch.int64, device=omega.device)
    return omega.repeat_interleave(many)


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
        alive = living_rows(grads[0])
        if alive is not None:
            grad, rows = grad[alive], rows[alive]
        with torch.autocast(x.device.type, enabled=False):
            grad_x = _spread(times(grad, weight), alive, x) if ctx.needs_input_grad[0] else None
            found = _gradients(ctx.parts, rows, grad, (stacks[::2], stacks[1::2]), weight=weight)
        return (grad_x, None, None, None, *found)


def _spread(found: Tensor, alive: Tensor | None, x: Tensor) -> Tensor:
    """Return the gradient of x, zero in the rows that are not in it."""
    if alive is None:
        return found.view_as(x)
    whole = found.new_zeros(x.shape)
    whole.view(-1, x.shape[-1])[alive] = found
    return whole


def _gradients(
    parts: Sequence[Part],
    rows: Tensor,
    grad: Tensor,
    factors: tuple[Sequence[Tensor], Sequence[Tensor]],
    *,
    weight: Tensor,
) -> list[Tensor | None]:
    """Return, part by part, the gradients of A, B and omega, and none for both stacks."""
    found: dict[int, list[Tensor | None]] = {}
    thin = []
    for number, part in enumerate(parts):
        first, last = part.rows
        a, b = (each[number] for each in factors)
        if part.is_dense(len(rows), a.shape[0], b.shape[1]):
            own = grad[:, first:last].T @ rows
            found[number] = _dense(part, own, (a, b), weight[first:last])
        else:
            thin.append((number, part, (a, b)))
    told = _thin([(part, stacks) for _, part, stacks in thin], rows, grad)
    found |= {number: own for (number, _, _), own in zip(thin, told, strict=True)}
    return [each for number in range(len(parts)) for each in (*found[number], None, None)]


def _dense(
    part: Part, grad_weight: Tensor, factors: tuple[Tensor, Tensor], weight: Tensor
) -> list[Tensor | None]:
    """Return the gradients of A, B and omega from that of the weight, (d_out, d_in)."""
    if part.observe is not None:
        part.observe(weight, grad_weight)
    a, b = factors
    product = a[:, part.skipped :].T @ grad_weight.T  # (columns, d_out), as B lies in memory
    grad_a = (b[part.history :] @ grad_weight).T * part.scale if part.rank else None
    return [grad_a, *_from_product(part, product, b)]


def _thin(
    parts: Sequence[tuple[Part, tuple[Tensor, Tensor]]], rows: Tensor, grad: Tensor
) -> list[list[Tensor | None]]:
    """Return the same gradients of some parts from products with their factors alone.

    Every product has its few columns as rows, see ``products``.
    """
    if not parts:
        return []
    own = [grad[:, part.rows[0] : part.rows[1]] for part, _ in parts]
    left = times(_beside([a[:, part.skipped :] for part, (a, _) in parts]).T, rows.T)
    right = [
        times(b[part.history :], each.T) for (part, (_, b)), each in zip(parts, own, strict=True)
    ]
    below = right[0] if len(right) == 1 else torch.cat(right)
    grads_a = times(below, rows).split([part.rank for part, _ in parts])
    widths = [a.shape[1] - part.skipped for part, (a, _) in parts]
    found = []
    for number, each in enumerate(left.split(widths)):
        part, (_, b) = parts[number]
        product = times(each, own[number])  # of A^T dW, without dW
        grad_a = grads_a[number].T * part.scale if part.rank else None
        found.append([grad_a, *_from_product(part, product, b)])
    return found


def _from_product(part: Part, product: Tensor, b: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of B and omega from A^T dW, shape (columns, d_out)."""
    grad_b = grad_omega = None
    if part.rank:
        grad_b = product[part.history - part.skipped :] * part.scale
    if part.trains_omega:
        columns = torch.linalg.vecdot(product[: part.history], b[: part.history])
        grad_omega = _by_module(columns, part.ranks) * part.scale
    return grad_b, grad_omega


def _beside(pieces: Sequence[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces), 1)


def _by_module(columns: Tensor, ranks: tuple[int, ...]) -> Tensor:
    if len(set(ranks)) == 1:
        return columns.view(len(ranks), -1).sum(1)
    return torch.stack([each.sum() for each in columns.split(list(ranks))])
