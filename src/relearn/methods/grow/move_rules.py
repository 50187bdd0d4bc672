"""Operations that only move numbers: executed on the labels as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from relearn.methods.grow.labels import Label, ParameterView, compact, positions, varying
from relearn.methods.grow.value_rules import index_of

if TYPE_CHECKING:
    from relearn.methods.grow.execution import Call, Execution
    from relearn.methods.grow.tape import Site


def keep(run: Execution, site: Site, call: Call) -> Any:
    """Hand the label on.

    Args:
        run: The run of the labels.
        site: The operation.
        call: The call with its labelled inputs.

    Returns:
        A result of the right shape, with its label.
    """
    result = call.run()
    label = run.label(call.args[0])
    if isinstance(result, Tensor) and tuple(result.shape) == tuple(call.args[0].shape):
        return run.mark(result, label)
    return run.unknown(site, call)


def move(run: Execution, site: Site, call: Call) -> Any:
    """Move the labels as the numbers are moved.

    Args:
        run: The run of the labels.
        site: The operation.
        call: The call with its labelled inputs.

    Returns:
        What the call gives, with its labels.
    """
    source = call.args[0] if call.args else call.kwargs["input"]
    label = run.label(source)
    rest = list(call.args[1:])
    by_label = any(isinstance(run.label(t), Label) for t in _flat(rest) if t is not source)
    by_type = call.name == "view" and any(isinstance(a, torch.dtype) for a in rest)
    if label is None or (by_label and call.name not in {"expand_as", "view_as", "reshape_as"}):
        return run.unknown(site, call)
    if by_type:
        return run.unknown(site, call)
    result = call.run()
    if isinstance(label, ParameterView):
        moved = _again(call, index_of(source, label))
        return _each(result, moved, lambda r, m: run.mark(r, ParameterView(label.name, m)))
    codes, pos = _again(call, label.codes), _again(call, label.pos)
    pairs: Any = (codes, pos)
    if isinstance(codes, (tuple, list)):
        run.journal.pieces(site, len(codes), label.codes)
        pairs = list(zip(codes, pos, strict=True))
    done = _each(result, pairs, lambda r, m: run.mark(r, Label(compact(m[0]), compact(m[1]))))
    _note_sizes(run, site, call, done)
    return done


def _flat(values: Any) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += _flat(value)
    return found


def _again(call: Call, values: Tensor) -> Any:
    """Return what the operation does to another tensor of the same shape."""
    kwargs = {k: v for k, v in call.kwargs.items() if k != "input"}
    if call.name == "get T":
        return values.permute(*range(values.ndim - 1, -1, -1))
    if call.name == "get mT":
        return values.transpose(-2, -1)
    if call.name in {"view", "view_as", "reshape_as"}:
        rest = call.args[1:]
        shape = rest[0].shape if rest and isinstance(rest[0], Tensor) else rest
        return values.reshape(*shape) if shape else values.reshape(**kwargs)
    return call.func(values, *call.args[1:], **kwargs)


def _each(result: Any, moved: Any, mark: Any) -> Any:
    if isinstance(result, (tuple, list)):
        done = [mark(r, m) for r, m in zip(result, moved, strict=True)]
        return done if isinstance(result, list) else tuple(done)
    return mark(result, moved)


def _note_sizes(run: Execution, site: Site, call: Call, result: Any) -> None:
    """Note numbers in the call that stand for sizes along which channels change."""
    pieces = call.name == "split" and isinstance(result, tuple)
    if pieces and isinstance(call.value(1, "split_size"), int):
        _note_split(run, site, call, result[0])
    if call.name == "__getitem__" and isinstance(result, Tensor):
        _note_slices(run, site, call, result)
    if not isinstance(result, Tensor) or call.name not in {"view", "reshape", "expand"}:
        return
    given: Any = call.args[1:]
    given = given[0] if len(given) == 1 and isinstance(given[0], (tuple, list)) else given
    label = run.label(result)
    if not isinstance(label, Label) or len(given) != result.ndim:
        return
    for dim in varying(label.codes):
        if isinstance(given[dim], int) and given[dim] == result.shape[dim]:
            run.journal.size(site, int(given[dim]), _line(label, dim))


def _line(label: Label, dim: int) -> Tensor:
    """Return the codes along one dimension, at the first place of the others."""
    line = label.codes
    for other in range(line.ndim):
        if other != dim:
            line = line.narrow(other, 0, 1)
    return line.flatten()


def _note_slices(run: Execution, site: Site, call: Call, result: Tensor) -> None:
    """Note numbers at which a slice of the first channels ends."""
    index = call.args[1] if isinstance(call.args[1], tuple) else (call.args[1],)
    label = run.label(result)
    if not isinstance(label, Label) or not all(isinstance(part, slice) for part in index):
        return
    for dim, part in enumerate(index):
        first = part.start in {None, 0} and part.step in {None, 1}
        if first and isinstance(part.stop, int) and part.stop == result.shape[dim]:
            run.journal.size(site, part.stop, _line(label, dim))


def _note_split(run: Execution, site: Site, call: Call, first: Tensor) -> None:
    """Note the size of the pieces of a split along channels."""
    dim = int(call.value(2, "dim", 0)) % first.ndim
    label = run.label(first)
    if isinstance(label, Label) and dim in varying(label.codes):
        run.journal.size(site, int(call.value(1, "split_size")), _line(label, dim))


def join(run: Execution, site: Site, call: Call) -> Any:
    """Put labels side by side.

    Args:
        run: The run of the labels.
        site: The operation.
        call: The call with its labelled inputs.

    Returns:
        A result of the right shape, with its label.
    """
    pieces = list(call.value(0, "tensors"))
    axis = int(call.value(1, "dim", call.kwargs.get("axis", 0)))
    result = call.run()
    if call.name == "stack":
        labels = [_piece(run, site, t, pieces=pieces, axis=result.ndim) for t in pieces]
        axis = axis % result.ndim
        codes = torch.stack([k.codes for k in labels], axis)
        pos = torch.stack([k.pos for k in labels], axis)
        return run.mark(result, Label(compact(codes), compact(pos)))
    axis = axis % result.ndim
    if not any(isinstance(run.label(t), Label) for t in pieces):
        return run.unknown(site, call)
    labels = [_piece(run, site, t, pieces=pieces, axis=axis) for t in pieces]
    codes = torch.cat([k.codes for k in labels], axis)
    pos = torch.cat([k.pos for k in labels], axis)
    return run.mark(result, Label(compact(codes), compact(pos)))


def _piece(run: Execution, site: Site, tensor: Tensor, *, pieces: list[Tensor], axis: int) -> Label:
    """Return the label of one piece; a bare parameter takes the channels of its neighbours."""
    known = run.label(tensor)
    if isinstance(known, Label):
        return known
    shape = tuple(tensor.shape)
    nothing = Label(torch.zeros((), dtype=torch.long).expand(shape), positions(shape, ()))
    beside = next((k for t in pieces if isinstance(k := run.label(t), Label)), None)
    if beside is None or known is None:
        return nothing
    codes = beside.codes
    if axis < codes.ndim:
        codes = codes.narrow(axis, 0, 1)
    dims = varying(codes)
    if not dims or any(shape[d] != codes.shape[d] for d in dims):
        return nothing
    whole = codes.expand([*codes.shape]) if axis >= codes.ndim else codes.expand(shape)
    index = index_of(tensor, known)
    made = run.journal.elements(site, known.name, index.flatten(), whole.flatten())
    return Label(compact(made.reshape(shape)), positions(shape, dims))
