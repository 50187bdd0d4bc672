"""The plan as a document: what will grow by how much, what will not and why. JSON, no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from relearn.methods.grow.spec import GrowthSpec
from relearn.provenance import digest

VERSION = 1


@dataclass(frozen=True)
class GroupPlan:
    """One channel group: layers that share their channels and can only grow together.

    Attributes:
        name: Name of the layer that writes it first, such as ``layer1.0.conv1``.
        writers: Names of all parameters' modules that write these channels, in order of use.
        readers: Names of the modules that read them.
        units: How many units can be copied one by one: channels, whole groups, heads.
        channels: Channels before, as the first writer counts them.
        new_units: Units afterwards (a uniform group of one unit counts its copies).
        new_channels: Channels afterwards.
        rule: ``free``, ``blocks`` (whole heads or convolution groups) or ``uniform`` (all alike).
        even: Whether every unit must be copied equally often for other reasons (a split in halves).
        padding: Further channels that hold the mean or zero (normalised streams only).
    """

    name: str
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    units: int
    channels: int
    new_units: int
    new_channels: int
    rule: str = "free"
    even: bool = False
    padding: int = 0

    @property
    def grows(self) -> bool:
        """Whether the group becomes wider."""
        return self.new_channels > self.channels


@dataclass(frozen=True)
class Refusal:
    """Something that stays as it is, and why.

    Attributes:
        group: Name of the channel group or module.
        operation: The operation that stands in the way, with the line that calls it.
        reason: One sentence.
    """

    group: str
    operation: str
    reason: str


@dataclass(frozen=True)
class Forecast:
    """What the growth costs.

    Attributes:
        parameters: Numbers in all parameters.
        flops: Floating-point operations of one forward pass for one example (a multiplication and
            an addition are two), of convolutions, linear layers and products of activations.
        latency_seconds: Seconds of one forward pass of the example, two images of it at most, from
            ``forecast_latency``; None if not measured.
    """

    parameters: int
    flops: int
    latency_seconds: float | None = None


@dataclass(frozen=True)
class GrowthPlan:
    """What will be done to a network; made by ``plan``, used by ``apply``.

    Attributes:
        spec: What was asked for.
        groups: The groups that can grow, in the order of the forward pass.
        refusals: The groups that cannot, and everything else that was left alone, with reasons.
        depth: Where layers will be put in: one plain record each.
        before: Cost of the teacher.
        after: Cost of the student, latency not measured.
        architecture: Digest over names and shapes of the teacher's parameters and buffers.
        inputs: Shapes and types of the example, from which the plan can be worked out again.
        version: Of this document's form.
    """

    spec: GrowthSpec
    groups: tuple[GroupPlan, ...]
    refusals: tuple[Refusal, ...]
    depth: tuple[Mapping[str, Any], ...]
    before: Forecast
    after: Forecast
    architecture: str
    inputs: Mapping[str, Any]
    version: int = VERSION
    analysis: Any = field(default=None, compare=False, repr=False)

    def to_plain(self) -> dict[str, Any]:
        """Return the plan as lists, dictionaries and numbers."""
        return {
            "version": self.version,
            "spec": self.spec.to_plain(),
            "groups": [asdict(group) for group in self.groups],
            "refusals": [asdict(refusal) for refusal in self.refusals],
            "depth": [dict(entry) for entry in self.depth],
            "before": asdict(self.before),
            "after": asdict(self.after),
            "architecture": self.architecture,
            "inputs": dict(self.inputs),
        }

    def to_json(self) -> str:
        """Return the plan as JSON text, the same for the same network and spec."""
        return json.dumps(self.to_plain(), sort_keys=True)

    @property
    def digest(self) -> str:
        """The sha256 over the plan, measured latencies left out."""
        plain = self.to_plain()
        for side in ("before", "after"):
            plain[side] = {k: v for k, v in plain[side].items() if k != "latency_seconds"}
        return digest(plain)

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> GrowthPlan:
        """Return the plan that ``to_plain`` wrote."""
        groups = (GroupPlan(**_tuples(entry)) for entry in plain["groups"])
        return cls(
            spec=GrowthSpec.of(plain["spec"]),
            groups=tuple(groups),
            refusals=tuple(Refusal(**entry) for entry in plain["refusals"]),
            depth=tuple(plain["depth"]),
            before=Forecast(**plain["before"]),
            after=Forecast(**plain["after"]),
            architecture=plain["architecture"],
            inputs=plain["inputs"],
            version=plain["version"],
        )

    @classmethod
    def from_json(cls, text: str) -> GrowthPlan:
        """Return the plan that ``to_json`` wrote."""
        return cls.of(json.loads(text))


def _tuples(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
