"""Layers with weights: they read channels with their columns and write channels with their rows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from relearn.methods.grow.columns import Part, columns, part_of, row_codes
from relearn.methods.grow.labels import (
    Label,
    compact,
    constant,
    ids_of,
    only,
    positions,
    spread,
    varying,
)
from relearn.methods.grow.tape import Misfit

if TYPE_CHECKING:
    from relearn.methods.grow.execution import Call, Execution
    from relearn.methods.grow.tape import Site


def linear(run: Execution, site: Site, call: Call) -> Any:
    """Note what ``x W^T + b`` reads and writes.

    Args:
        run: The run of the labels.
        site: The operation.
        call: The call with its labelled inputs.

    Returns:
        A result of the right shape, with its label.
    """
    x = call.value(0, "input")
    weight, bias = call.value(1, "weight"), call.value(2, "bias")
    parts = part_of(run, weight), part_of(run, bias)
    label = run.input_label(x)
    if not isinstance(label, Label) or parts[0] is None or (bias is not None and parts[1] is None):
        return run.unknown(site, call, "its weight is not a parameter but worked out on the way")
    return affine(run, site, x, (parts[0], parts[1]))


def affine(run: Execution, site: Site, x: Tensor, parts: tuple[Part, Part | None]) -> Tensor:
    """Return zeros with the label of a linear layer's output.

    Args:
        run: The run of the labels.
        site: The operation.
        x: Input with a label, shape (..., features).
        parts: Weight and bias by name and rows.

    Raises:
        TypeError: The input has no label.
    """
    label = run.input_label(x)
    if not isinstance(label, Label):
        raise TypeError("a linear layer needs a labelled input")
    rows = row_codes(run, parts[0])
    others = [row_codes(run, part) for part in parts[1:] if part is not None]
    shape = (*x.shape[:-1], len(rows))
    site.flops += 2 * int(torch.Size(shape).numel()) * x.shape[-1]
    result = x.new_zeros(shape)
    found = columns(label, -1)
    if found is None:
        reason = "mixes positions, not channels; its width is a number of positions"
        run.journal.freeze(site, run.journal.fresh(site, [rows, *others]), reason)
        if x.ndim - 1 in varying(label.codes):
            run.journal.freeze(site, label.codes, "reads positions that differ from place to place")
            return run.mark(result, constant(shape))
        dims = tuple(d for d in varying(label.codes) if d != x.ndim - 1)
        codes = run.journal.fresh(site, [only(label.codes, dims).flatten()])
        return run.mark(result, Label(spread(codes, dims, shape), positions(shape, dims)))
    _read(run, site, parts[0][0], found)
    codes = run.journal.fresh(site, [rows, *others], writes=True)
    last = (len(shape) - 1,)
    return run.mark(result, Label(compact(spread(codes, last, shape)), positions(shape, last)))


def _read(run: Execution, site: Site, name: str, found: tuple[Tensor, Tensor]) -> None:
    matrix, order = found
    if bool((ids_of(matrix) != 0).any()):
        run.journal.read(site, name, 1, codes=matrix, ranks=order)
    else:
        run.journal.constant(site, name, 1, matrix.shape[1])


def convolution(run: Execution, site: Site, call: Call) -> Any:
    """Note what a convolution reads and writes.

    Args:
        run: The run of the labels.
        site: The operation.
        call: The call with its labelled inputs.

    Returns:
        A result of the right shape, with its label.
    """
    x, weight, bias = (call.value(i, n) for i, n in enumerate(("input", "weight", "bias")))
    spatial = int(re.findall(r"\d", call.name)[0])
    label, part = run.input_label(x), part_of(run, weight)
    beside = part_of(run, bias)
    whole = part is not None and part[1] is None and (bias is None or beside is not None)
    if not isinstance(label, Label) or not whole or part is None or x.ndim != spatial + 2:
        return run.unknown(site, call, "its weight is not a parameter but worked out on the way")
    found = columns(label, 1)
    if found is None:
        return run.unknown(site, call, "its channels are positions of another layer's channels")
    biases = [row_codes(run, beside)] if beside is not None else []
    if "transpose" in call.name:
        return _transposed(run, site, call, (label, found, part[0], biases))
    groups = run.journal.width(site, int(call.value(6, "groups", 1)))
    rows = run.journal.rows(part[0], 0)
    if groups == 1:
        _read(run, site, part[0], found)
        codes = run.journal.fresh(site, [rows, *biases], writes=True)
        inner = x.shape[1]
    else:
        inner = run.journal.shapes[part[0]][1]
        codes = grouped(run, site, found[0], (rows, biases, groups, inner))
    size = (len(rows), inner, *weight.shape[2:])
    return _written(run, site, call, (size, codes))


def grouped(
    run: Execution, site: Site, matrix: Tensor, layer: tuple[Tensor, list[Tensor], int, int]
) -> Tensor:
    """Return the codes that a grouped convolution writes; whole groups are copied.

    Args:
        run: The run of the labels.
        site: The operation.
        matrix: Codes of the channels that come in, shape (rows, channels).
        layer: Codes of its rows, those of its bias, its number of groups, channels in per group.

    Raises:
        Misfit: What comes in and what goes out would grow apart.
    """
    rows, biases, groups, inner = layer
    if len(matrix) > 1:
        for row in matrix:
            run.journal.freeze(site, row, "a grouped convolution meets different channels")
    incoming = matrix[0]
    outer = run.journal.width(site, len(rows) // groups)
    if len(incoming) * outer != len(rows) * inner:
        ids = ids_of(torch.cat([incoming, rows]))
        raise Misfit(site, ids, "in and out of a grouped convolution would grow apart")
    if inner == 1 and outer == 1:
        return run.journal.fresh(site, [incoming, rows, *biases])
    read, written = incoming.reshape(-1, inner), rows.reshape(-1, outer)
    run.journal.block(site, read)
    run.journal.block(site, written)
    run.journal.pair(site, read[:, 0], written[:, 0])
    return run.journal.fresh(site, [rows, *biases], writes=True)


def _transposed(
    run: Execution, site: Site, call: Call, layer: tuple[Label, Any, str, list[Tensor]]
) -> Any:
    """Note a transposed convolution, whose weight is (in, out / groups, ...)."""
    _, (matrix, order), name, biases = layer
    if int(call.value(6, "groups", 1)) != 1:
        return run.unknown(site, call, "a transposed convolution with groups")
    rows = run.journal.rows(name, 1)
    if bool((ids_of(matrix) != 0).any()):
        run.journal.read(site, name, 0, codes=matrix, ranks=order)
    codes = run.journal.fresh(site, [rows, *biases], writes=True)
    weight = call.value(1, "weight")
    size = (matrix.shape[1], len(rows), *weight.shape[2:])
    return _written(run, site, call, (size, codes))


def _written(run: Execution, site: Site, call: Call, layer: tuple[Any, Tensor]) -> Any:
    """Return zeros of the right shape with the label of what a convolution writes."""
    size, codes = layer
    x = call.value(0, "input")
    away = torch.empty(x.shape, device="meta"), torch.empty(size, device="meta")
    names: tuple[str, ...] = ("stride", "padding", "dilation")
    options = {n: call.value(3 + i, n) for i, n in enumerate(names)}
    groups = x.shape[1] // size[1]
    if "transpose" in call.name:
        names = ("stride", "padding", "output_padding", "groups", "dilation")
        options = {n: call.value(3 + i, n) for i, n in enumerate(names)}
        groups = 1
    given = {k: v for k, v in options.items() if v is not None} | {"groups": groups}
    shape = tuple(getattr(F, call.name)(*away, **given).shape)
    site.flops += 2 * int(torch.Size(shape).numel()) * (int(torch.Size(size[1:]).numel()))
    dims = (1,)
    label = Label(compact(spread(codes, dims, shape)), positions(shape, dims))
    return run.mark(x.new_zeros(shape), label)


def embedding(run: Execution, site: Site, call: Call) -> Any:
    """Note that an embedding writes the columns of its table.

    Args:
        run: The run of the labels.
        site: The operation.
        call: The call with its labelled inputs.

    Returns:
        A result of the right shape, with its label.
    """
    index, part = call.value(0, "input"), part_of(run, call.value(1, "weight"))
    if part is None or part[1] is not None:
        return run.unknown(site, call, "its table is not a parameter")
    rows = run.journal.rows(part[0], 1)
    codes = run.journal.fresh(site, [rows], writes=True)
    shape = (*index.shape, len(rows))
    last = (len(shape) - 1,)
    weight = call.value(1, "weight")
    label = Label(compact(spread(codes, last, shape)), positions(shape, last))
    return run.mark(weight.new_zeros(shape), label)


RULES = {
    "linear": linear,
    "embedding": embedding,
    **{f"conv{d}d": convolution for d in (1, 2, 3)},
    **{f"conv_transpose{d}d": convolution for d in (1, 2, 3)},
}
