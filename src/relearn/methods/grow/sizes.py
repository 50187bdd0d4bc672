"""How wide each group becomes: factors, multiples, whole factors, and heads that fill a stream."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from relearn.methods.grow.document import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from relearn.methods.grow.groups import Analysis, Group

Size = tuple[int, int]


def new_sizes(analysis: Analysis, factors: Mapping[str, float], multiple: int) -> dict[str, Size]:
    """Return units and padding of each group afterwards; what cannot have its factor is frozen.

    Args:
        analysis: Groups and ties; a group that cannot grow by its factor gets its refusal.
        factors: Name of each group that can grow to its factor.
        multiple: Channels are to be a multiple of this where the group allows.
    """
    streams = _streams(analysis)
    found: dict[str, Size] = {}
    for group in analysis.groups:
        if group.frozen is not None:
            continue
        if group.rule == "uniform" or group.even:
            widths = [w for head, (stream, w) in streams.items() if stream == group.name]
            step = math.lcm(multiple, *widths)
            size = _whole(group, factors[group.name], step)
            if size is not None:
                found[group.name] = size
        else:
            found[group.name] = (_rounded(group, factors[group.name], multiple), 0)
    by_name = {g.name: g for g in analysis.groups}
    for head, (stream, width) in streams.items():
        same = head in factors and factors[head] == factors.get(stream)
        if same and head in found and stream in found and not by_name[head].even:
            units, padding = found[stream]
            channels = len(by_name[stream].rows) * units // len(by_name[stream].units)
            found[head] = ((channels + padding) // width, 0)
    return found


def _whole(group: Group, factor: float, step: int) -> Size | None:
    """Return the size of a group whose units are all copied alike, padded if it can be."""
    units, channels = len(group.units), len(group.rows)
    whole = round(factor)
    if abs(whole - factor) <= 1e-9:
        return whole * units, 0
    if group.paddable and not group.even:
        target = math.ceil(math.floor(channels * factor + 0.5) / step) * step
        return target // channels * units, target % channels
    group.frozen = Refusal(
        group.name,
        "widen",
        f"all its channels must be copied alike, so its factor must be whole; {factor} was asked, "
        f"{math.ceil(factor)} would do",
    )
    return None


def _rounded(group: Group, factor: float, multiple: int) -> int:
    """Return how many units a group has afterwards."""
    units, channels = len(group.units), len(group.rows)
    target = math.floor(units * factor + 0.5)
    step = multiple // math.gcd(multiple, channels // units)
    return units if target == units else math.ceil(target / step) * step


def _streams(analysis: Analysis) -> dict[str, tuple[str, int]]:
    """Return for each group of heads the stream it fills, and the channels of a head."""
    unit = analysis.roots["unit"]
    found = {}
    for _, _, width, ids in analysis.tape.heads:
        head = _holding(analysis, unit[ids])
        if head is None:
            continue
        for stream in analysis.groups:
            if (
                stream.rule == "uniform"
                and len(head.units) * width == len(stream.rows)
                and set(head.writers) & set(stream.readers)
            ):
                found[head.name] = (stream.name, width)
    return found


def _holding(analysis: Analysis, roots: torch.Tensor) -> Group | None:
    return next((g for g in analysis.groups if torch.isin(g.units, roots).any()), None)
