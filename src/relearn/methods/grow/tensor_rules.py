"""Products written by hand: a bare matrix, and sums over named indices."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from relearn.methods.grow.columns import columns
from relearn.methods.grow.labels import (
    Label,
    ParameterView,
    compact,
    ids_of,
    positions,
    spread,
)
from relearn.methods.grow.value_rules import index_of

if TYPE_CHECKING:
    from relearn.methods.grow.execution import Call, Execution
    from relearn.methods.grow.tape import Site


def times_matrix(run: Execution, site: Site, call: Call, pair: tuple[Tensor, Tensor]) -> Any:
    """Follow ``x W`` or ``x W^T`` with a bare parameter W.

    Args:
        run: The run of the labels.
        site: The operation.
        call: The call with its labelled inputs.
        pair: An activation (..., in) and a matrix (in, out).

    Returns:
        A result of the right shape, with its label.
    """
    x, weight = pair
    label, view = run.label(x), run.label(weight)
    written = _axis_written(weight, view)
    found = columns(label, -1) if isinstance(label, Label) else None
    if written is None or found is None or not isinstance(view, ParameterView):
        return run.unknown(site, call, "a product with something that is not an activation")
    rows = run.journal.rows(view.name, written)
    if bool((ids_of(found[0]) != 0).any()):
        run.journal.read(site, view.name, 1 - written, codes=found[0], ranks=found[1])
    else:
        run.journal.constant(site, view.name, 1 - written, x.shape[-1])
    codes = run.journal.fresh(site, [rows], writes=True)
    shape = (*x.shape[:-1], len(rows))
    site.flops += 2 * prod(shape) * x.shape[-1]
    last = (len(shape) - 1,)
    made = Label(compact(spread(codes, last, shape)), positions(shape, last))
    return run.mark(x.new_zeros(shape), made)


def _axis_written(weight: Tensor, view: Any) -> int | None:
    """Return the axis of a parameter whose rows a product writes; None if it is no whole matrix."""
    if weight.ndim != 2 or not isinstance(view, ParameterView):
        return None
    if view.index is None:
        return 1
    index = index_of(weight, view)
    plain = torch.arange(index.numel())
    if torch.equal(index, plain.reshape(index.shape)):
        return 1
    return 0 if torch.equal(index, plain.reshape(index.shape[::-1]).t()) else None


def einsum(run: Execution, site: Site, call: Call) -> Any:
    """Follow a sum over named indices of two activations, as a product of matrices.

    Args:
        run: The run of the labels.
        site: The operation.
        call: The call with its labelled inputs.

    Returns:
        A result of the right shape, with its label.
    """
    equation, operands = call.args[0], list(call.args[1:])
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = list(operands[0])
    names = _names(equation, operands) if isinstance(equation, str) else None
    if names is None or not all(isinstance(run.label(t), Label) for t in operands):
        return run.unknown(site, call)
    one, other, wanted = names
    both = [n for n in one if n in other and n in wanted]
    summed = [n for n in one if n in other and n not in wanted]
    left, right = ([n for n in side if n not in both + summed] for side in (one, other))
    sizes = dict(zip(one + other, (*operands[0].shape, *operands[1].shape), strict=True))
    with run:
        first = _folded(operands[0], [one.index(n) for n in (*both, *left, *summed)], len(summed))
        second = _folded(
            operands[1], [other.index(n) for n in (*both, *right, *summed)], len(summed)
        )
        mixed = torch.matmul(
            first.flatten(len(both), -2), second.flatten(len(both), -2).transpose(-1, -2)
        )
        mixed = mixed.unflatten(-1, [sizes[n] for n in right] or [1])
        place = mixed.ndim - max(len(right), 1) - 1
        mixed = mixed.unflatten(place, [sizes[n] for n in left] or [1])
        mixed = mixed.flatten(-2) if not right else mixed
        mixed = mixed.flatten(len(both) - 1, len(both)) if not left and both else mixed
        made = [*both, *left, *right]
        return mixed.permute([made.index(n) for n in wanted])


def _folded(tensor: Tensor, order: list[int], summed: int) -> Tensor:
    """Return a tensor with its summed dimensions last and as one."""
    return tensor.permute(order).flatten(len(order) - summed)


def _names(equation: str, operands: list[Tensor]) -> tuple[str, str, str] | None:
    """Return the indices of two operands and of the result; None where there is more to it."""
    sides, arrow, wanted = equation.replace(" ", "").partition("->")
    one, _, other = sides.partition(",")
    plain = arrow and len(operands) == 2 and "." not in equation and "," not in other
    single = all(len(set(side)) == len(side) for side in (one, other, wanted))
    alone = set(one) ^ set(other)
    if (
        not plain
        or not single
        or not alone <= set(wanted)
        or not set(one) & set(other) - set(wanted)
    ):
        return None
    return one, other, wanted
