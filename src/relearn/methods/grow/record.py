"""The record of a growth: enough to build the student's structure again and to audit each copy.

A grown network is no longer what its class builds. It is kept as record and state dict, and built
again by ``replay``; modules are never pickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relearn.methods.grow.document import GrowthPlan
from relearn.provenance import digest


@dataclass(frozen=True)
class GroupMap:
    """What became of the units of one group.

    Attributes:
        name: Name of the group.
        copies: For each unit how often it stands in the student, at least 1.
        shares: For each unit the share of each of its copies; each list sums to 1. Everything that
            reads the group uses these shares.
        padding: Further channels that hold the mean (layer norm) or zero (root-mean-square norm).
    """

    name: str
    copies: tuple[int, ...]
    shares: tuple[tuple[float, ...], ...]
    padding: int = 0

    @property
    def mapping(self) -> tuple[int, ...]:
        """For each unit of the student the unit of the teacher it is a copy of."""
        return tuple(i for i, count in enumerate(self.copies) for _ in range(count))


@dataclass(frozen=True)
class GrowthRecord:
    """What was done to a network.

    Attributes:
        plan: What was planned.
        seed: Seed of the maps, the shares and what was drawn.
        maps: One entry for each group that grew.
        depth: The layers that were put in: path, kind, width, the renaming of parameters, and the
            numbers with which batch norm of identity layers was calibrated.
        teacher_digest: sha256 over the teacher's parameters and buffers.
        student_digest: The same over the student's right after growing.
        certificate: The static proof: ``consumers`` checked, ``worst_share_error`` (largest
            distance of a sum of shares from 1), and with new layers ``worst_layer_error`` (how far
            one of them is from handing on what it gets).
        exact: Whether the function is kept exactly (not with ``noise``).
    """

    plan: GrowthPlan
    seed: int
    maps: tuple[GroupMap, ...]
    depth: tuple[Mapping[str, Any], ...]
    teacher_digest: str
    student_digest: str
    certificate: Mapping[str, float]
    exact: bool = True

    def new_name(self, name: str) -> str:
        """Return a module's or parameter's name in the student, where layers were put in.

        Args:
            name: Its name in the teacher.
        """
        for entry in self.depth:
            for before, after in dict(entry["renamed"]).items():
                if name == before or name.startswith(f"{before}."):
                    name = after + name[len(before) :]
        return name

    def to_plain(self) -> dict[str, Any]:
        """Return the record as lists, dictionaries and numbers."""
        maps = [
            {
                "name": entry.name,
                "copies": list(entry.copies),
                "shares": [list(shares) for shares in entry.shares],
                "padding": entry.padding,
            }
            for entry in self.maps
        ]
        return {
            "plan": self.plan.to_plain(),
            "seed": self.seed,
            "maps": maps,
            "depth": [dict(entry) for entry in self.depth],
            "teacher_digest": self.teacher_digest,
            "student_digest": self.student_digest,
            "certificate": dict(self.certificate),
            "exact": self.exact,
        }

    def to_json(self) -> str:
        """Return the record as JSON text; shares keep all their digits."""
        return json.dumps(self.to_plain(), sort_keys=True)

    @property
    def digest(self) -> str:
        """The sha256 over the record."""
        return digest(self.to_plain())

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> GrowthRecord:
        """Return the record that ``to_plain`` wrote."""
        maps = tuple(
            GroupMap(
                entry["name"],
                tuple(entry["copies"]),
                tuple(tuple(shares) for shares in entry["shares"]),
                entry["padding"],
            )
            for entry in plain["maps"]
        )
        rest = {k: v for k, v in plain.items() if k not in {"plan", "maps", "depth"}}
        plan = GrowthPlan.of(plain["plan"])
        return cls(plan=plan, maps=maps, depth=tuple(plain["depth"]), **rest)

    @classmethod
    def from_json(cls, text: str) -> GrowthRecord:
        """Return the record that ``to_json`` wrote."""
        return cls.of(json.loads(text))
