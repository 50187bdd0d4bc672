"""Numbers that modules keep about their own size: they follow the parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from relearn.methods.grow.groups import Analysis
    from relearn.methods.grow.layout import Layout
    from relearn.methods.grow.widened import Widened

HEADS = ("num_heads", "n_heads", "heads", "num_attention_heads", "n_head", "nhead")
TOTALS = ("embed_dim", "attn_dim", "all_head_size", "inner_dim", "kdim", "vdim")


@dataclass(frozen=True)
class Edit:
    """An attribute of a module that changes.

    Attributes:
        module: Name of the module.
        attribute: Name of the attribute.
        before: Its value in the teacher.
        after: Its value in the student.
    """

    module: str
    attribute: str
    before: Any
    after: Any


def sizes_in_modules(model: nn.Module, analysis: Analysis, layout: Layout) -> list[Edit]:
    """Return the edits that the forward itself needs: heads, and sizes it writes into shapes.

    Args:
        model: The teacher; it is only read.
        analysis: What the labels found.
        layout: Of the student.
    """
    edits: dict[tuple[str, str], Edit] = {}
    modules = dict(model.named_modules())
    for path, heads, width, ids in analysis.tape.heads:
        after = int(layout.counts(ids).sum()) * heads // len(ids)
        for name, module in _upwards(modules, path):
            if any(type(getattr(module, a, None)) is int for a in HEADS):
                before = _heads(module, heads)
                new = after * before // heads if heads else after
                _add(edits, name, module, (HEADS, before, new))
                _add(edits, name, module, (TOTALS, before * width, new * width))
                break
    for site in analysis.tape.sites:
        for number, ids in site.literals:
            after = _expected(analysis, layout, ids)
            if after != number:
                _add_nearest(edits, _upwards(modules, site.module), number, after)
    for name, module in modules.items():
        checked = _checked(name, module)
        if checked is not None and (checked[1], 0) in analysis.tape.written:
            before = getattr(module, checked[0])
            after = len(layout.rows(checked[1], 0).index)
            _add(edits, name, module, ((checked[0],), before, after))
    return list(edits.values())


def _checked(name: str, module: nn.Module) -> tuple[str, str] | None:
    """Return the size that a layer of torch checks its input by, and a parameter as wide."""
    prefix = f"{name}." if name else ""
    if isinstance(module, nn.modules.instancenorm._InstanceNorm) and module.affine:
        return "num_features", f"{prefix}weight"
    if isinstance(module, nn.Transformer) and isinstance(module.encoder, nn.TransformerEncoder):
        return "d_model", f"{prefix}encoder.layers.0.norm1.weight"
    return None


def _add_nearest(
    edits: dict[Any, Edit], upwards: list[tuple[str, nn.Module]], number: int, after: int
) -> None:
    """Note a new size in the innermost module that keeps the old one."""
    for name, module in upwards:
        names = tuple(a for a, v in vars(module).items() if v is number or v == number)
        names = tuple(a for a in names if type(vars(module)[a]) is int)
        if names:
            _add(edits, name, module, (names, number, after))
            return


def _heads(module: nn.Module, heads: int) -> int:
    """Return the number of heads a module counts: batches may be folded into what was seen."""
    for attribute in HEADS:
        value = getattr(module, attribute, None)
        if type(value) is int and value > 0 and heads % value == 0:
            return value
    return heads


def _add(
    edits: dict[Any, Edit], name: str, module: nn.Module, change: tuple[Any, int, int]
) -> None:
    attributes, before, after = change
    for attribute in attributes:
        value = vars(module).get(attribute)
        if type(value) is int and value == before and after != before:
            edits.setdefault((name, attribute), Edit(name, attribute, before, after))


def _upwards(modules: dict[str, nn.Module], path: str) -> list[tuple[str, nn.Module]]:
    """Return a module and what contains it, innermost first."""
    found = []
    while True:
        if path in modules:
            found.append((path, modules[path]))
        if not path:
            return found
        path = path.rpartition(".")[0]


def _expected(analysis: Analysis, layout: Layout, ids: torch.Tensor) -> int:
    """Return the size that a dimension with these channels will have."""
    block = analysis.roots["block"][ids]
    if len(ids) > 1 and bool((block == block[0]).all()):
        return len(ids)
    return layout.size(ids)


def apply_edits(model: nn.Module, edits: list[Edit]) -> None:
    """Put the new values into the modules of a network.

    Args:
        model: The network; its modules are changed.
        edits: Attributes that change.
    """
    modules = dict(model.named_modules())
    for edit in edits:
        setattr(modules[edit.module], edit.attribute, edit.after)


def layer_edits(model: nn.Module, widened: Widened) -> list[Edit]:
    """Return the edits of standard layers, whose attributes only tell their parameters' shapes.

    Args:
        model: The teacher; it is only read.
        widened: The growth on labels.
    """
    edits = []
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        own: dict[str, torch.Tensor] = dict(module.named_parameters(recurse=False))
        own |= dict(module.named_buffers(recurse=False))
        shapes = {n: widened.shape(prefix + n, tuple(p.shape)) for n, p in own.items()}
        wanted = _sizes(module, shapes)
        for attribute, after in wanted.items():
            before = getattr(module, attribute)
            if before != after:
                edits.append(Edit(name, attribute, before, after))
    return edits


_FOLLOW = {
    "out_features": ("weight", 0),
    "in_features": ("weight", 1),
    "embedding_dim": ("weight", 1),
    "num_features": ("weight", 0),
    "num_parameters": ("weight", 0),
    "embed_dim": ("in_proj_weight", 1),
    "kdim": ("in_proj_weight", 1),
    "vdim": ("in_proj_weight", 1),
}
"""Attributes that tell the size of a parameter along an axis."""


def _sizes(module: nn.Module, shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    """Return the attributes of a layer that follow from its new shapes."""
    weight = shapes.get("weight", shapes.get("running_mean"))
    if isinstance(module, nn.modules.conv._ConvNd) and weight is not None:
        return _convolution(module, weight)
    if isinstance(module, nn.GroupNorm) and weight is not None:
        groups = module.num_groups
        groups = groups * weight[0] // module.num_channels if groups > 1 else 1
        return {"num_channels": weight[0], "num_groups": groups}
    found: dict[str, Any] = {}
    if hasattr(module, "normalized_shape") and weight is not None:
        found["normalized_shape"] = weight
    for attribute, (name, axis) in _FOLLOW.items():
        shape = weight if name == "weight" else shapes.get(name)
        known = getattr(module, name, getattr(module, "running_mean", None))
        if shape is None or not isinstance(known, torch.Tensor) or axis >= known.ndim:
            continue
        if getattr(module, attribute, None) == known.shape[axis]:
            found[attribute] = shape[axis]
    return found


def _convolution(module: Any, weight: tuple[int, ...]) -> dict[str, int]:
    if module.transposed:
        return {"in_channels": weight[0], "out_channels": weight[1] * module.groups}
    groups = module.groups
    groups = groups * weight[0] // module.weight.shape[0] if groups > 1 else 1
    return {"in_channels": weight[1] * groups, "out_channels": weight[0], "groups": groups}
