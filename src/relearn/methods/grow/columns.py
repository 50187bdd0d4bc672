"""What a layer reads and writes: the channels along a dimension, its parameters' rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from relearn.methods.grow.labels import (
    Label,
    ParameterView,
    compact,
    only,
    positions,
    ranks,
    spread,
    varying,
)
from relearn.methods.grow.value_rules import fresh_codes

if TYPE_CHECKING:
    from relearn.methods.grow.execution import Execution
    from relearn.methods.grow.tape import Site

Part = tuple[str, Tensor | None]


def columns(label: Label, dim: int) -> tuple[Tensor, Tensor] | None:
    """Return the channels along a dimension and the order of their positions.

    Args:
        label: Of an activation.
        dim: The dimension.

    Returns:
        Codes, shape (rows, size): one row for each different choice of channels that comes by; and
        ranks, shape (size,). None where the dimension holds positions of one channel, not channels.
    """
    codes = label.codes.movedim(dim, -1)
    dims = varying(codes)
    last = codes.ndim - 1
    outer = tuple(d for d in dims if d != last)
    if last not in dims and outer and codes.shape[last] > 1:
        return None
    matrix = only(codes, (*outer, last), tuple(codes.shape)).reshape(-1, codes.shape[last])
    if len(matrix) > 1:
        new = torch.ones(len(matrix), dtype=torch.bool)
        new[1:] = (matrix[1:] != matrix[:-1]).any(1)
        matrix = matrix[new]
    order = _ranks(label.pos.movedim(dim, -1))
    return None if order is None else (matrix, order)


def _ranks(pos: Tensor) -> Tensor | None:
    """Return the order of positions along the last dimension; None if it differs by place."""
    dims = varying(pos)
    last = pos.ndim - 1
    size = pos.shape[last]
    if last not in dims:
        return torch.zeros(size, dtype=torch.long)
    outer = tuple(d for d in dims if d != last)
    matrix = only(pos, (*outer, last)).reshape(-1, size)
    offsets = compact(matrix - matrix[:, :1])
    if len(matrix) > 1 and offsets.stride(0) != 0:
        return None
    return ranks(matrix[0])


def part_of(run: Execution, value: Tensor | None) -> Part | None:
    """Return a parameter's name and which of its rows are meant; None if it is not a parameter.

    Args:
        run: The run of the labels.
        value: A parameter, or rows cut out of one.
    """
    view = run.label(value)
    if value is None or not isinstance(view, ParameterView):
        return None
    if view.index is None:
        return view.name, None
    width = int(torch.Size(value.shape[1:]).numel())
    flat = view.index.reshape(len(view.index), -1)
    rows = flat[:, 0].div(width, rounding_mode="floor")
    whole = rows[:, None] * width + torch.arange(width)
    return (view.name, rows) if torch.equal(flat, whole) else None


def row_codes(run: Execution, part: Part) -> Tensor:
    """Return the codes of a parameter's rows along its first axis, shape (rows,).

    Args:
        run: The run of the labels.
        part: Name of the parameter, and which of its rows; None for all.
    """
    codes = run.journal.rows(part[0], 0)
    return codes if part[1] is None else codes[part[1]]


def with_rows(
    run: Execution, site: Site, label: Label, *, axis: int, values: list[Any]
) -> Label | None:
    """Return the label after an operation with one number of each parameter for each channel.

    Args:
        run: The run of the labels.
        site: The operation.
        label: Of the activation.
        axis: Its dimension of channels.
        values: Parameters and buffers of one number per channel; None is left out.

    Returns:
        None if one of the values is not a parameter of the network.
    """
    shape = tuple(label.codes.shape)
    axis = axis % len(shape)
    parts = [part_of(run, v) for v in values if v is not None]
    if any(part is None for part in parts):
        return None
    dims = tuple(sorted({*varying(label.codes), *((axis,) if shape[axis] > 1 or parts else ())}))
    operands = [only(label.codes, dims, shape)]
    for part in parts:
        rows = row_codes(run, part) if part is not None else torch.zeros(0)
        if len(rows) != shape[axis]:
            return None
        sizes = [shape[axis] if d == axis else 1 for d in dims]
        operands.append(rows.reshape(sizes).expand([shape[d] for d in dims]))
    codes = fresh_codes(run, site, operands)
    return Label(compact(spread(codes, dims, shape)), positions(shape, dims))


def headlike(run: Execution, matrix: Tensor) -> bool:
    """Return whether rows of codes are parts of one layer's channels, such as heads.

    Rows from different layers (a class token beside patches) are alternatives, not parts.

    Args:
        run: The run of the labels.
        matrix: Codes, shape (rows, members).
    """
    origins = run.journal.tape.ties.origins[run.journal.plain(matrix)]
    return len(matrix) > 1 and bool((origins == origins[:1]).all())
