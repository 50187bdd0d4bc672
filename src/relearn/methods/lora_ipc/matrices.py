"""Which matrices of a vision transformer get low-rank modules: q, k, v, o, fc1, fc2 of each block.

They are found by the structure that timm's nets and our own share: an attention module has one
linear layer ``qkv`` for queries, keys and values, or three of their own; the perceptron of the same
block holds two linear layers. A net in which they are not so plain is refused rather than guessed
at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from relearn.errors import ParameterError, one_of

KINDS = ("q", "k", "v", "o", "fc1", "fc2")
"""Kinds of matrices, in the order in which a block uses them."""

_SEPARATE = (("q_proj", "k_proj", "v_proj"), ("q", "k", "v"), ("to_q", "to_k", "to_v"))
_OUTPUTS = ("proj", "projection", "out_proj", "to_out")


@dataclass(frozen=True)
class Place:
    """One matrix inside a net.

    Attributes:
        kind: One of ``KINDS``.
        block: Number of the block, from the image to the logits.
        layer: Name of the linear layer that holds it, as in ``named_modules``.
        rows: First and last + 1 row of the layer's weight (out_features, in_features).
        in_features: d_in.
    """

    kind: str
    block: int
    layer: str
    rows: tuple[int, int]
    in_features: int

    @property
    def name(self) -> str:
        """Block and kind, such as ``3.fc1``."""
        return f"{self.block}.{self.kind}"

    @property
    def out_features(self) -> int:
        """d_out."""
        return self.rows[1] - self.rows[0]


def find_matrices(model: nn.Module, kinds: Sequence[str] = KINDS) -> tuple[Place, ...]:
    """Return the places of all matrices of the given kinds, block by block.

    Args:
        model: A vision transformer of ours or of timm.
        kinds: Some of ``KINDS``, at least one.

    Raises:
        ParameterError: A kind is not known, none is given, the net has no attention, or a block
            lacks a linear layer for one of the kinds.
    """
    wanted = check_kinds(kinds)
    found: list[Place] = []
    for block, name in enumerate(_attention_names(model)):
        here = {place.kind: place for place in _places(model, name, block)}
        missing = [kind for kind in wanted if kind not in here]
        if missing:
            raise ParameterError(
                f"lora_ipc.lora.kinds: block {block} of {type(model).__name__} ({name}) has no "
                f"linear layer for {', '.join(missing)}, only for {', '.join(here)}; name these"
            )
        found += [here[kind] for kind in wanted]
    if not found:
        raise ParameterError(
            f"pretrain.model.name: {type(model).__name__} has no attention with a linear layer "
            "qkv; lora_ipc needs a vision transformer such as vision_transformer or "
            "timm:vit_tiny_patch16_224"
        )
    return tuple(found)


def check_kinds(kinds: Sequence[str]) -> tuple[str, ...]:
    """Return the kinds without repetition, in the order of ``KINDS``.

    Args:
        kinds: Names of kinds.

    Raises:
        ParameterError: A kind is not known, or none is given.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise one_of("lora_ipc.lora.kinds", kind, KINDS)
    if not kinds:
        raise ParameterError(f"lora_ipc.lora.kinds: got none, expected some of {', '.join(KINDS)}")
    return tuple(kind for kind in KINDS if kind in kinds)


def _attention_names(model: nn.Module) -> list[str]:
    return [name for name, module in model.named_modules() if name and _inputs(module)]


def _inputs(attention: nn.Module) -> tuple[str, ...]:
    """Return the names of the linear layers that make queries, keys and values; empty if none."""
    fused = getattr(attention, "qkv", None)
    if isinstance(fused, nn.Linear) and fused.out_features % 3 == 0:
        return ("qkv",)
    for names in _SEPARATE:
        if all(isinstance(getattr(attention, name, None), nn.Linear) for name in names):
            return names
    return ()


def _places(model: nn.Module, name: str, block: int) -> Iterator[Place]:
    attention = model.get_submodule(name)
    names = _inputs(attention)
    if len(names) == 1:
        yield from _thirds(attention.get_submodule("qkv"), f"{name}.qkv", block)
    else:
        for kind, own in zip("qkv", names, strict=True):
            yield _whole(attention.get_submodule(own), f"{name}.{own}", kind=kind, block=block)
    for own in _OUTPUTS:
        if isinstance(getattr(attention, own, None), nn.Linear):
            yield _whole(attention.get_submodule(own), f"{name}.{own}", kind="o", block=block)
            break
    parent = name.rpartition(".")[0]
    for kind, path in zip(("fc1", "fc2"), _perceptron(model, parent, name), strict=False):
        yield _whole(model.get_submodule(path), path, kind=kind, block=block)


def _thirds(layer: nn.Module, name: str, block: int) -> Iterator[Place]:
    width, inputs = _sizes(layer)
    third = width // 3
    for number, kind in enumerate("qkv"):
        yield Place(kind, block, name, (number * third, (number + 1) * third), inputs)


def _whole(layer: nn.Module, name: str, *, kind: str, block: int) -> Place:
    outputs, inputs = _sizes(layer)
    return Place(kind, block, name, (0, outputs), inputs)


def _sizes(layer: nn.Module) -> tuple[int, int]:
    outputs, inputs = layer.get_parameter("weight").shape
    return int(outputs), int(inputs)


def _perceptron(model: nn.Module, parent: str, attention: str) -> tuple[str, ...]:
    """Return the names of the two linear layers of the perceptron beside an attention module."""
    block = model.get_submodule(parent)
    for own, module in block.named_children():
        path = f"{parent}.{own}" if parent else own
        if path == attention:
            continue
        linear = _two_linear(module)
        if linear:
            return tuple(f"{path}.{name}" for name in linear)
    return ()


def _two_linear(module: nn.Module) -> tuple[str, ...]:
    named = ("fc1", "fc2")
    if all(isinstance(getattr(module, name, None), nn.Linear) for name in named):
        return named
    if isinstance(module, nn.Sequential):
        return _pair(name for name, m in module.named_children() if isinstance(m, nn.Linear))
    return ()


def _pair(names: Iterable[str]) -> tuple[str, ...]:
    found = tuple(names)
    return found if len(found) == 2 else ()
