"""Which layer of a student is the first whose output is not the teacher's, copied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from relearn.methods.grow.faults import GrowthError

if TYPE_CHECKING:
    from relearn.methods.grow.record import GrowthRecord

_OFF = 1e-9
"""Relative float64 difference of a layer's output above which it is off."""


def first_bad_layer(
    pair: tuple[nn.Module, nn.Module], call: tuple[Any, Any], record: GrowthRecord | None
) -> str:
    """Return the name of the first layer whose output is off; empty if none was found.

    Args:
        pair: Teacher and student in float64, in evaluation mode.
        call: Arguments for both.
        record: Of the growth; without it only layers of unchanged size are compared.
    """
    teacher, student = pair
    rows = {} if record is None else _rows_of(teacher, record)
    try:
        one, other = _layers(teacher, call), _layers(student, call)
    except (RuntimeError, ValueError):
        return ""
    for name, outputs in one.items():
        found = other.get(name if record is None else record.new_name(name), [])
        for left, right in zip(outputs, found, strict=False):
            both = _alike(left, right, rows.get(name))
            if both is not None and not _close(*both):
                return name
    return ""


def _rows_of(teacher: nn.Module, record: GrowthRecord) -> dict[str, Tensor]:
    """Return for each module the teacher's channel that each of the student's is a copy of."""
    from relearn.methods.grow.widen import widened_of

    try:
        widened = widened_of(teacher, record)
    except GrowthError:
        return {}
    found = {}
    for name, axis in widened.analysis.tape.written:
        if axis == 0 and name.endswith(".weight"):
            found[name.rpartition(".")[0]] = widened.layout.rows(name, axis).index
    return found


def _layers(net: nn.Module, call: tuple[Any, Any]) -> dict[str, list[Tensor]]:
    """Return the outputs of all layers with weights, in the order in which they ran."""
    seen: dict[str, list[Tensor]] = {}
    handles = []
    for name, module in net.named_modules():
        if next(module.children(), None) is None and next(module.parameters(), None) is not None:

            def keep(_: nn.Module, __: Any, output: Any, name: str = name) -> None:
                if isinstance(output, Tensor):
                    seen.setdefault(name, []).append(output.detach())

            handles.append(module.register_forward_hook(keep))
    try:
        with torch.no_grad():
            net(*call[0], **call[1])
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _alike(left: Tensor, right: Tensor, index: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """Return the teacher's output with its channels copied, and the student's without padding."""
    if left.shape == right.shape:
        return left, right
    if index is None or left.ndim != right.ndim:
        return None
    axes = [d for d, (a, b) in enumerate(zip(left.shape, right.shape, strict=True)) if a != b]
    if len(axes) != 1 or right.shape[axes[0]] != len(index):
        return None
    real = torch.nonzero(index >= 0).flatten()
    return left.index_select(axes[0], index[real]), right.index_select(axes[0], real)


def _close(wanted: Tensor, found: Tensor) -> bool:
    scale = float(wanted.abs().max()) if wanted.numel() else 0.0
    return bool(
        ((wanted - found).abs().max() if wanted.numel() else torch.zeros(())) <= _OFF * scale
    )
