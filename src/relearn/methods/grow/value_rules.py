"""Operations that treat every number by itself: they tie the channels that meet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from relearn.methods.grow.labels import (
    Label,
    ParameterView,
    aligned,
    only,
    positions,
    spread,
    varying,
)

if TYPE_CHECKING:
    from relearn.methods.grow.execution import Call, Execution
    from relearn.methods.grow.tape import Site


def elementwise(run: Execution, site: Site, call: Call) -> Any:
    """Note ties between everything that meets at the same place.

    Args:
        run: The run of the labels.
        site: The operation.
        call: The call with its labelled inputs.

    Returns:
        A result of the right shape, with its label.
    """
    operands = [*call.args, *call.kwargs.values()]
    given = [t for t in operands if isinstance(t, Tensor)]
    views = [run.label(t) for t in given]
    if len(given) == 1 and isinstance(views[0], ParameterView):
        return run.mark(call.run(), views[0])
    shape = tuple(torch.broadcast_shapes(*(t.shape for t in given)))
    label = combined(run, site, given, shape)
    result = call.run()
    if not isinstance(result, Tensor) or tuple(result.shape) != shape:
        return run.unknown(site, call)
    return run.mark(result, label)


def combined(
    run: Execution, site: Site, given: list[Tensor], shape: tuple[int, ...]
) -> Label | ParameterView | None:
    """Return the label of an elementwise combination that broadcasts to ``shape``.

    Args:
        run: The run of the labels.
        site: The operation.
        given: Tensors that meet.
        shape: What they broadcast to.
    """
    labels = [(t, run.label(t)) for t in given]
    known = [aligned_codes(k, len(shape)) for _, k in labels if isinstance(k, Label)]
    if not known:
        return of_parameters(run, site, labels, shape)
    dims = tuple(sorted({d for codes in known for d in varying(codes)}))
    parts = []
    for codes in known:
        own = varying(codes)
        if own == dims or (own and _alternatives(run, known, frame=(own, dims, shape))):
            parts.append(only(codes, dims, shape))
        else:
            _broadcast(run, site, codes, known=known, frame=(own, dims, shape))
    partner = parts[0] if parts else None
    for tensor, view in labels:
        if isinstance(view, ParameterView):
            part = _parameter(run, site, (tensor, view), partner=partner, frame=(dims, shape))
            parts += [] if part is None else [part]
        elif view is None:
            _plain(run, site, tensor, known=known, frame=(dims, shape))
    if not parts:  # different channels along different dimensions: an outer product
        for codes in known:
            run.journal.freeze(site, codes, "channels meet other channels across dimensions")
        return Label(torch.zeros((), dtype=torch.long).expand(shape), positions(shape, ()))
    codes = fresh_codes(run, site, parts)
    return Label(spread(codes, dims, shape), positions(shape, dims))


def aligned_codes(label: Label, ndim: int) -> Tensor:
    """Return a label's codes with leading dimensions of size 1.

    Args:
        label: Of an activation.
        ndim: Number of dimensions wanted.
    """
    return aligned(label.codes, ndim)


def fresh_codes(run: Execution, site: Site, parts: list[Tensor]) -> Tensor:
    """Return new codes for operands of one shape; repeated rows are worked out once.

    Args:
        run: The run of the labels.
        site: The operation.
        parts: Codes of the operands, which broadcast to one shape.
    """
    stack = torch.stack(list(torch.broadcast_tensors(*parts)))
    if stack.ndim < 3 or stack.shape[1] < 2:
        made = run.journal.fresh(site, list(stack.reshape(len(stack), -1)))
        return made.reshape(stack.shape[1:])
    rows = stack.reshape(len(stack), stack.shape[1], -1)
    new = torch.ones(rows.shape[1], dtype=torch.bool)
    new[1:] = (rows[:, 1:] != rows[:, :-1]).any(2).any(0)
    kept = rows[:, new]
    made = run.journal.fresh(site, list(kept.reshape(len(kept), -1)))
    return made.reshape(kept.shape[1:])[new.long().cumsum(0) - 1].reshape(stack.shape[1:])


def _by_own(codes: Tensor, frame: tuple[Any, Any, Any]) -> Tensor:
    """Return codes as rows: one for each place along the dimensions an operand has of its own."""
    own, dims, shape = frame
    rest = [i for i, d in enumerate(dims) if d not in own]
    groups = only(codes, dims, shape).permute([*(dims.index(d) for d in own), *rest])
    return groups.reshape(int(torch.Size([shape[d] for d in own]).numel()), -1)


def _alternatives(run: Execution, known: list[Tensor], *, frame: tuple[Any, Any, Any]) -> bool:
    """Return whether others change by place only because different layers' channels come by.

    A class token beside patches is such: what is added to both is tied to both.
    """
    others = [c for c in known if varying(c) == frame[1]]
    origins = run.journal.tape.ties.origins
    for other in others:
        found = origins[run.journal.plain(_by_own(other, frame))]
        if bool((found != found[:, :1]).any()):
            return True
    return False


def _broadcast(
    run: Execution, site: Site, codes: Tensor, *, known: list[Tensor], frame: tuple[Any, Any, Any]
) -> None:
    """Note an operand that stands for several channels of another, such as a gate of a head."""
    own, dims, shape = frame
    if not own:
        if codes.shape[dims[0] if dims else 0] == 1 or bool((codes != 0).any()):
            run.journal.freeze(site, codes, "one channel is spread over many")
        return
    others = [c for c in known if varying(c) == dims]
    for other in others:
        rows = _by_own(other, frame)
        run.journal.block(site, rows)
        run.journal.pair(site, only(codes, own, shape).flatten(), rows[:, 0])


def _parameter(
    run: Execution,
    site: Site,
    operand: tuple[Tensor, ParameterView],
    *,
    partner: Tensor | None,
    frame: tuple[Any, Any],
) -> Tensor | None:
    """Return codes of a bare parameter's numbers along the channels they meet."""
    dims, shape = frame
    tensor, view = operand
    sizes = aligned(torch.empty(tensor.shape, device="meta"), len(shape)).shape
    own = tuple(d for d in dims if sizes[d] > 1)
    if not own or partner is None:
        return None
    index = index_of(tensor, view)
    index = aligned(index, len(shape)).expand(shape)
    met = tuple(d for d in range(len(shape)) if d in dims or (sizes[d] > 1 and shape[d] > 1))
    whole = only(index, met, shape)
    other = spread(partner, dims, shape)
    other = only(other, met, shape)
    codes = run.journal.elements(site, view.name, whole.flatten(), other.flatten())
    codes = codes.reshape([shape[d] for d in met])
    keep = tuple(i for i, d in enumerate(met) if d in dims)
    return only(codes, keep)


def index_of(tensor: Tensor, view: ParameterView) -> Tensor:
    """Return for each number its place in the flattened parameter.

    Args:
        tensor: A parameter, or a rearrangement of its numbers.
        view: What is known of it.
    """
    if view.index is not None:
        return view.index
    return torch.arange(tensor.numel()).reshape(tensor.shape)


def _plain(
    run: Execution, site: Site, tensor: Tensor, *, known: list[Tensor], frame: tuple[Any, Any]
) -> None:
    """Freeze channels that meet a tensor with a number for each of them."""
    dims, shape = frame
    sizes = (1,) * (len(shape) - tensor.ndim) + tuple(tensor.shape)
    if any(sizes[d] > 1 for d in dims):
        for codes in known:
            run.journal.freeze(site, codes, "meets a constant with a number for each channel")


def of_parameters(
    run: Execution,
    site: Site,
    labels: list[tuple[Tensor, Label | ParameterView | None]],
    shape: tuple[int, ...],
) -> Label | ParameterView:
    """Return the label of parameters that meet each other before any activation.

    Args:
        run: The run of the labels.
        site: The operation.
        labels: Each operand and what is known of it.
        shape: What they broadcast to.
    """
    views = [(t, k) for t, k in labels if isinstance(k, ParameterView)]
    same = [(t, k) for t, k in views if tuple(t.shape) == shape]
    if len(views) == 1 and same and all(t.numel() == 1 for t, k in labels if k is None):
        tensor, view = same[0]
        return ParameterView(view.name, index_of(tensor, view))
    for _, view in views:
        run.spoilt.setdefault(view.name, (site, "parameters are combined before they are used"))
    return Label(torch.zeros((), dtype=torch.long).expand(shape), positions(shape, ()))
