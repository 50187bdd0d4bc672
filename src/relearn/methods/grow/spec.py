"""What is asked for: how much wider, where, how much deeper, and how the copies are told apart.

Standard library only, so that configuration and pipelines can build a ``GrowthSpec`` without torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any

from relearn.errors import near_miss
from relearn.methods.grow.faults import SpecError

MAPPINGS = ("random", "balanced", "importance")
SYMMETRY = ("uneven", "zero_sum", "noise", "none", "fresh")
LAYERS = ("identity", "residual")
PLACES = ("after", "append", "auto")


@dataclass(frozen=True)
class DepthSpec:
    """Layers to be put in.

    Attributes:
        place: ``after`` a module, ``append`` to a container (``nn.Sequential``), or ``auto``: the
            same number at the end of every stage (container of equal blocks), the last one too.
        path: Name of the module or container, such as ``layer3``; empty for ``auto``.
        layers: How many, at least 1 (for ``auto``: at each stage).
        kind: ``identity`` (exact after an idempotent activation only) or ``residual`` (x + f(x)
            with the last layer of f zero, exact in training too).
        kernel: Odd size of the kernel of new convolutions, in pixels.
        norm: Whether the new layers carry batch norm; an identity layer's is calibrated.
    """

    place: str = "auto"
    path: str = ""
    layers: int = 1
    kind: str = "residual"
    kernel: int = 3
    norm: bool = True

    def __post_init__(self) -> None:
        _one_of("depth.place", self.place, PLACES)
        _one_of("depth.kind", self.kind, LAYERS)
        if self.layers < 1:
            raise SpecError(f"depth.layers: got {self.layers}, expected at least 1")
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise SpecError(
                f"depth.kernel: got {self.kernel}, expected an odd number: an even kernel has no "
                "centre, so no identity",
                group=self.path,
                operation="deepen",
            )
        if self.place != "auto" and not self.path:
            raise SpecError(f"depth.path: is empty, place {self.place!r} needs a module's name")


@dataclass(frozen=True)
class GrowthSpec:
    """How a network is to grow.

    Attributes:
        width: Factor for every group that can grow exactly, at least 1; 1 leaves the width alone.
        groups: Pattern of module names (``layer4.*``) to factor; goes before ``width``. A pattern
            that meets nothing, or only what cannot grow, is an error.
        multiple_of: New channel counts are rounded to a multiple of this where the group allows.
        depth: Layers to be put in after widening.
        mapping: Which units are copied: ``random``, ``balanced`` or ``importance`` (those with the
            largest product of incoming and outgoing norm).
        symmetry: How copies are told apart: ``uneven`` shares of the outgoing weights, ``zero_sum``
            noise on them, ``noise`` (the paper's; not exact), ``none``, or ``fresh`` units with
            nothing going out.
        noise: For ``noise`` and ``zero_sum``: standard deviation, relative to that of the weights.
    """

    width: float = 1.0
    groups: Mapping[str, float] = field(default_factory=dict)
    multiple_of: int = 1
    depth: tuple[DepthSpec, ...] = ()
    mapping: str = "random"
    symmetry: str = "uneven"
    noise: float = 0.01

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", MappingProxyType(dict(self.groups)))
        object.__setattr__(self, "depth", tuple(self.depth))
        for name, factor in {"width": self.width, **self.groups}.items():
            _at_least_one(name, factor)
        _one_of("mapping", self.mapping, MAPPINGS)
        _one_of("symmetry", self.symmetry, SYMMETRY)
        if self.multiple_of < 1:
            raise SpecError(f"multiple_of: got {self.multiple_of}, expected at least 1")
        if not 0 <= self.noise < math.inf:
            raise SpecError(f"noise: got {self.noise}, expected a number of at least 0")

    def __reduce__(self) -> tuple[Any, ...]:
        return (GrowthSpec.of, (self.to_plain(),))

    def to_plain(self) -> dict[str, Any]:
        """Return the same as lists, dictionaries and numbers, for JSON."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        depth = [{f.name: getattr(d, f.name) for f in fields(d)} for d in self.depth]
        return plain | {"groups": dict(self.groups), "depth": depth}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> GrowthSpec:
        """Return the spec that ``to_plain`` wrote, or that a parameters file holds.

        Raises:
            SpecError: A name is not known, or a value has no meaning.
        """
        _known("", plain, cls)
        for entry in plain.get("depth", ()):
            _known("depth.", entry, DepthSpec)
        depth = tuple(DepthSpec(**entry) for entry in plain.get("depth", ()))
        return cls(**{**plain, "depth": depth})


def _known(prefix: str, plain: Mapping[str, Any], kind: type) -> None:
    names = [f.name for f in fields(kind)]
    for name in plain:
        if name not in names:
            raise SpecError(
                f"{prefix}{name}: is not known,{near_miss(name, names)} "
                f"expected one of {', '.join(names)}"
            )


def _one_of(name: str, got: str, options: tuple[str, ...]) -> None:
    if got not in options:
        raise SpecError(
            f"{name}: {got!r} is not known,{near_miss(got, options)} "
            f"expected one of {', '.join(options)}"
        )


def _at_least_one(name: str, factor: float) -> None:
    if not 1 <= factor < math.inf:
        group = "" if name == "width" else name
        shown = "width" if name == "width" else f"groups[{name}]"
        raise SpecError(
            f"{shown}: got factor {factor}, expected at least 1: a network is grown, not cut",
            group=group,
            operation="widen",
        )
