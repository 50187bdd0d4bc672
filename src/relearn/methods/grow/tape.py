"""The tape: what a run of the labels through a network left behind, operation by operation."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from relearn.methods.grow.ties import Ties


@dataclass
class Site:
    """One call of one operation.

    Attributes:
        index: Its number in the forward pass.
        name: The operation, such as ``conv2d``.
        module: Name of the module that calls it.
        line: File and line that call it.
        tables: Identities of inputs to identities of outputs, one per use within the operation.
        flops: Floating-point operations for the whole example.
        literals: Whole numbers in the call that stand for a size: (size, identities along it).
    """

    index: int
    name: str
    module: str
    line: str
    tables: list[Table] = field(default_factory=list)
    flops: int = 0
    literals: list[tuple[int, Tensor]] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.name} at {self.line}"


@dataclass
class Table:
    """Known combinations of identities and what each became.

    Attributes:
        steps: Sorted keys of each step of folding several operands into one key.
        made: Identities made, one per key of the last step.
    """

    steps: list[Tensor]
    made: Tensor


@dataclass
class Reading:
    """A weight's columns as the labels met them at one place.

    Attributes:
        site: Where.
        ids: Identities, shape (rows, columns): more than one row where different channels come by.
        ranks: Order of each column's position within its channel, shape (columns,).
        start: First column of the weight that is meant.
    """

    site: Site
    ids: Tensor
    ranks: Tensor
    start: int = 0


@dataclass
class Freeze:
    """Channels that must stay single, and why.

    Attributes:
        ids: The channels.
        site: The operation that stands in the way.
        reason: One sentence.
        shared: Whether what stands in the way is a parameter that is used in two ways.
    """

    ids: Tensor
    site: Site
    reason: str
    shared: bool = False


@dataclass
class Tape:
    """Everything a recording run found.

    Attributes:
        ties: Which identities belong together.
        sites: The operations in order.
        written: (parameter, axis) to the identities of its rows.
        elements: Bare parameter to the identities of its numbers, in its shape; 0 = not met.
        readings: (parameter, axis) to what was read there.
        freezes: What must stay as it is.
        uniform: Identities whose normalisation needs all of them copied alike, site by site.
        heads: Attention: module, number of heads, channels of a head, one identity of each head.
        unruled: Parameter that no rule could read to the place and the reason.
        trained_from: Number of the first operation that training mode adds; None where evaluation
            runs every part of the network.
    """

    ties: Ties = field(default_factory=Ties)
    sites: list[Site] = field(default_factory=list)
    written: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    elements: dict[str, Tensor] = field(default_factory=dict)
    readings: dict[tuple[str, int], list[Reading]] = field(default_factory=dict)
    freezes: list[Freeze] = field(default_factory=list)
    uniform: list[tuple[Site, Tensor]] = field(default_factory=list)
    heads: list[tuple[str, int, int, Tensor]] = field(default_factory=list)
    unruled: dict[str, tuple[Site, str]] = field(default_factory=dict)
    trained_from: int | None = None

    def flops(self, sites: list[Site]) -> int:
        """Return the floating-point operations of a forward pass in evaluation mode.

        Args:
            sites: Operations of this tape, or of a widened run that answers to it.
        """
        return sum(site.flops for site in sites[: self.trained_from])

    def freeze(self, ids: Tensor, site: Site, reason: str, *, shared: bool = False) -> None:
        """Note that channels must stay single, because a parameter is ``shared`` or otherwise."""
        real = torch.unique(ids[ids != 0])
        if real.numel():
            self.freezes.append(Freeze(real, site, reason, shared))


class Misfit(Exception):
    """A widened run found channels that are not where they should be; caught by the planner."""

    def __init__(self, site: Site, ids: Tensor, reason: str) -> None:
        super().__init__(f"{site}: {reason}")
        self.site = site
        self.ids = ids
        self.reason = reason
