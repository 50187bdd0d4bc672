"""Normalisations, pools and reductions: what they do to each channel and what they mix."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from relearn.methods.grow.columns import columns, headlike, part_of, with_rows
from relearn.methods.grow.labels import Label, compact, only, positions, spread, varying
from relearn.methods.grow.value_rules import fresh_codes

if TYPE_CHECKING:
    from relearn.methods.grow.execution import Call, Execution
    from relearn.methods.grow.tape import Site

_BY_CHANNEL = {
    "batch_norm": ("running_mean", "running_var", "weight", "bias"),
    "instance_norm": ("running_mean", "running_var", "weight", "bias"),
}


def spatial(run: Execution, site: Site, call: Call) -> Any:
    """Hand channels on through a pool or a change of size; positions may mix, channels may not.

    Args:
        run: The run of the labels.
        site: The operation.
        call: The call with its labelled inputs.

    Returns:
        A result of the right shape, with its label.
    """
    x = call.value(0, "input")
    label = run.label(x)
    result = call.run()
    if not isinstance(label, Label) or not isinstance(result, Tensor):
        return run.unknown(site, call)
    dims = _spatial_dims(call, x.ndim)
    if set(varying(label.codes)) & dims or result.ndim != x.ndim:
        run.journal.freeze(site, label.codes, "mixes positions of different channels")
    kept = tuple(d for d in varying(label.codes) if d not in dims)
    return run.mark(result, _kept(run, site, label.codes, (kept, kept, tuple(result.shape))))


def _spatial_dims(call: Call, ndim: int) -> set[int]:
    if call.name == "pad":
        amounts = list(call.value(1, "pad"))
        pairs = range(len(amounts) // 2)
        return {ndim - 1 - i for i in pairs if amounts[2 * i] or amounts[2 * i + 1]}
    digit = re.findall(r"(\d)d", call.name)
    return set(range(ndim - int(digit[0]) if digit else 2, ndim))


def _kept(
    run: Execution, site: Site, codes: Tensor, frame: tuple[Any, Any, tuple[int, ...]]
) -> Label:
    """Return the label of an operation that keeps some dimensions of channels.

    Args:
        run: The run of the labels.
        site: The operation.
        codes: Of what came in.
        frame: Dimensions kept, where they are in the result, and the result's shape.
    """
    before, after, shape = frame
    if not before:
        made = run.journal.fresh(site, [codes.flatten()[:1]])
        return Label(made.expand(1).reshape(()).expand(shape), positions(shape, ()))
    made = fresh_codes(run, site, [only(codes, before)])
    return Label(compact(spread(made, after, shape)), positions(shape, after))


def reduction(run: Execution, site: Site, call: Call) -> Any:
    """Follow a mean, sum or maximum over some dimensions.

    Args:
        run: The run of the labels.
        site: The operation.
        call: The call with its labelled inputs.

    Returns:
        What the call gives, with its labels.
    """
    x = call.args[0] if call.args else call.kwargs["input"]
    label = run.label(x)
    position = 2 if "norm" in call.name else 1
    given = call.value(position, "dim", call.kwargs.get("axis"))
    if isinstance(given, Tensor) or not isinstance(label, Label):
        return run.unknown(site, call)
    result = call.run()
    dims = _dims(given, x.ndim)
    values = result if isinstance(result, Tensor) else result[0]
    codes = label.codes
    mixed = set(varying(codes)) & dims
    outer = tuple(d for d in varying(codes) if d not in dims)
    if mixed:
        _mix(run, site, codes, (outer, tuple(sorted(mixed)), call.name))
    shape = tuple(values.shape)
    if mixed and not outer:
        made = Label(torch.zeros((), dtype=torch.long).expand(shape), positions(shape, ()))
    else:
        gone = 0 if values.ndim == x.ndim else 1
        after = tuple(d - gone * sum(e < d for e in dims) for d in outer)
        made = _kept(run, site, codes, (outer, after, shape))
    for tensor in [result] if isinstance(result, Tensor) else result:
        run.mark(tensor, made)
    return result


def _dims(given: Any, ndim: int) -> set[int]:
    if given is None or (isinstance(given, (tuple, list)) and not given):
        return set(range(ndim))
    return {int(d) % ndim for d in (given if isinstance(given, (tuple, list)) else [given])}


def _mix(run: Execution, site: Site, codes: Tensor, frame: tuple[Any, Any, str]) -> None:
    """Note that channels are mixed: a head as a whole, all alike for a mean, else not at all."""
    outer, mixed, name = frame
    shape = tuple(codes.shape)
    rows = only(codes, (*sorted({*outer, *mixed}),), shape)
    order = sorted({*outer, *mixed})
    rows = rows.permute([order.index(d) for d in (*outer, *mixed)])
    count = int(torch.Size([shape[d] for d in outer]).numel())
    matrix = rows.reshape(count, -1)
    if name in {"amax", "amin", "max", "min", "any", "all"}:
        return
    if outer and headlike(run, matrix):
        run.journal.block(site, matrix)
    elif not outer and name == "mean":
        run.journal.uniform(site, matrix[0])
    else:
        run.journal.freeze(site, codes, f"{name} mixes all channels")


def along(run: Execution, site: Site, call: Call) -> Any:
    """Follow a softmax, a running sum or a normalisation along one dimension.

    Args:
        run: The run of the labels.
        site: The operation.
        call: The call with its labelled inputs.

    Returns:
        A result of the right shape, with its label.
    """
    x = call.args[0] if call.args else call.kwargs["input"]
    label = run.label(x)
    default = 1 if call.name == "normalize" else None
    given = call.value(2 if call.name == "normalize" else 1, "dim", default)
    if not isinstance(label, Label) or not isinstance(given, int):
        return run.unknown(site, call)
    dims, codes = {given % x.ndim}, label.codes
    mixed = set(varying(codes)) & dims
    outer = tuple(d for d in varying(codes) if d not in dims)
    if mixed:
        name = f"{call.name} along them" if call.name != "mean" else call.name
        _mix(run, site, codes, (outer, tuple(mixed), name))
    kept = varying(codes)
    return run.mark(call.run(), _kept(run, site, codes, (kept, kept, tuple(x.shape))))


def by_channel(run: Execution, site: Site, call: Call) -> Any:
    """Tie the rows of batch or instance norm to their channels.

    Args:
        run: The run of the labels.
        site: The operation.
        call: The call with its labelled inputs.

    Returns:
        A result of the right shape, with its label.
    """
    x = call.value(0, "input")
    label = run.label(x)
    values = [call.value(1 + i, n) for i, n in enumerate(_BY_CHANNEL[call.name])]
    if not isinstance(label, Label) or columns(label, 1) is None:
        return run.unknown(site, call)
    made = with_rows(run, site, label, axis=1, values=values)
    if made is None:
        return run.unknown(site, call, "its statistics are not parameters of the network")
    return run.mark(torch.zeros_like(x), made)


def prelu(run: Execution, site: Site, call: Call) -> Any:
    """Tie the slopes of a parametric rectifier to their channels.

    Args:
        run: The run of the labels.
        site: The operation.
        call: The call with its labelled inputs.

    Returns:
        A result of the right shape, with its label.
    """
    x, weight = call.value(0, "input"), call.value(1, "weight")
    label = run.label(x)
    if not isinstance(label, Label):
        return run.unknown(site, call)
    values = [] if weight.numel() == 1 else [weight]
    made = with_rows(run, site, label, axis=1, values=values)
    return run.unknown(site, call) if made is None else run.mark(torch.zeros_like(x), made)


def layer_norm(run: Execution, site: Site, call: Call) -> Any:
    """Follow layer or root-mean-square norm over the last dimension.

    Args:
        run: The run of the labels.
        site: The operation.
        call: The call with its labelled inputs.

    Returns:
        A result of the right shape, with its label.
    """
    x = call.value(0, "input")
    label = run.label(x)
    values = [call.value(2, "weight"), call.value(3, "bias") if "layer" in call.name else None]
    shape = call.value(1, "normalized_shape")
    if not isinstance(label, Label) or len(list(shape)) != 1:
        return run.unknown(site, call, "normalises over several dimensions at once")
    found = columns(label, -1)
    if found is None:
        return run.unknown(site, call, "normalises over positions")
    matrix = found[0]
    if headlike(run, matrix):
        run.journal.block(site, matrix)
        made = with_rows(run, site, label, axis=-1, values=[])
    else:
        run.journal.uniform(site, matrix[0], _norm(run, call, values))
        made = with_rows(run, site, label, axis=-1, values=values)
    if made is None:
        return run.unknown(site, call, "its gain is not a parameter of the network")
    return run.mark(torch.zeros_like(x), made)


def _norm(run: Execution, call: Call, values: list[Any]) -> tuple[str, tuple[str, ...]] | None:
    """Return module and parameters of a norm that can make up for padding; None if it cannot."""
    parts = [part_of(run, v) for v in values if v is not None]
    eps = call.value(4 if call.name == "layer_norm" else 3, "eps")
    if values[0] is None or eps is None or any(p is None or p[1] is not None for p in parts):
        return None
    return run.module, tuple(p[0] for p in parts if p is not None)


def group_norm(run: Execution, site: Site, call: Call) -> Any:
    """Follow group norm: whole groups are copied; a single group needs all copied alike.

    Args:
        run: The run of the labels.
        site: The operation.
        call: The call with its labelled inputs.

    Returns:
        A result of the right shape, with its label.
    """
    x, groups = call.value(0, "input"), int(call.value(1, "num_groups"))
    label = run.label(x)
    found = columns(label, 1) if isinstance(label, Label) else None
    if found is None or not isinstance(label, Label) or len(found[0]) > 1:
        return run.unknown(site, call)
    width = run.journal.width(site, x.shape[1] // groups)
    if run.journal.width(site, groups) == 1:
        run.journal.uniform(site, found[0][0])
    elif x.shape[1] % width == 0:
        run.journal.block(site, found[0][0].reshape(-1, width))
    made = with_rows(
        run, site, label, axis=1, values=[call.value(2, "weight"), call.value(3, "bias")]
    )
    if made is None:
        return run.unknown(site, call, "its gain is not a parameter of the network")
    return run.mark(torch.zeros_like(x), made)


RULES = {
    "batch_norm": by_channel,
    "instance_norm": by_channel,
    "prelu": prelu,
    "layer_norm": layer_norm,
    "rms_norm": layer_norm,
    "group_norm": group_norm,
}
