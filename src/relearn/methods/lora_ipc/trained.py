"""All that a training has learnt and written down, after any number of tasks. Plain data only.

The same thing is the resume point after each task, the start from which further tasks are learnt
months later, and what arms are made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from relearn.evaluation.records import Intervention
from relearn.methods.lora_ipc.class_statistics import ClassStatistics
from relearn.methods.lora_ipc.task_inference import ClassShape
from relearn.models.checkpoint import Architecture
from relearn.training.resume import pack, unpack

if TYPE_CHECKING:
    from torch import Tensor

Curve = dict[str, float]
"""Metric, or name of a matrix, to value."""


@dataclass
class Trained:
    """What one training with one seed has come to.

    Attributes:
        name: Name of the training.
        seed: Seed of the pair.
        stream: Digest of the stream.
        settings: Digest of the configuration.
        architecture: Of the delivered net, as plain JSON.
        class_names: Of the labels learnt so far, in their order.
        class_numbers: Their numbers in the stream.
        tasks: For each learnt task its labels; for a joint training one task.
        learnt: At each evaluation, how many tasks of the stream had been learnt.
        body: State of what is trained.
        held: State of what holds it to its past; empty for none.
        heads: ``plain`` and, once aligned, ``aligned``: weight and bias of the last layer.
        statistics: Label to means, variances and counts of its Gaussians.
        shapes: Label to means and whitening of its centroids.
        memory: Stored images and labels of rehearsal; empty for none.
        net: Weights of the delivered net but for its last layer's; empty while tasks are learnt.
        accuracy: Arm to the accuracy on each task at each evaluation.
        task_accuracy: Arm to the share of rightly inferred tasks at each evaluation.
        validation: Arm to the accuracy on each task's validation images at the end.
        predictions: Arm to label, predicted, task and inferred task of every test image at the end.
        curves: For each task what was measured while and after it was learnt.
        matrices: Kind of table (``drift``, ``importance``, ``distance``, ...) to one row a task,
            of name of the matrix to value.
        similarity: Cosine between class means of tasks, features of the backbone.
        interventions: The ledger.
        costs: Seconds and counts by name, added up over tasks.
        orders: For each task the digest of the sample order.
        steps: Optimizer steps done.
    """

    name: str
    seed: int
    stream: str
    settings: str
    architecture: dict[str, Any]
    class_names: list[str] = field(default_factory=list)
    class_numbers: list[int] = field(default_factory=list)
    tasks: list[list[int]] = field(default_factory=list)
    learnt: list[int] = field(default_factory=list)
    body: dict[str, Any] = field(default_factory=dict)
    held: dict[str, Any] = field(default_factory=dict)
    heads: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    statistics: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    shapes: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    memory: dict[str, Tensor] = field(default_factory=dict)
    net: dict[str, Tensor] = field(default_factory=dict)
    accuracy: dict[str, list[list[float]]] = field(default_factory=dict)
    task_accuracy: dict[str, list[float]] = field(default_factory=dict)
    validation: dict[str, list[float]] = field(default_factory=dict)
    predictions: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    curves: list[Curve] = field(default_factory=list)
    matrices: dict[str, list[Curve]] = field(default_factory=dict)
    similarity: list[list[float]] = field(default_factory=list)
    interventions: list[dict[str, Any]] = field(default_factory=list)
    costs: dict[str, float] = field(default_factory=dict)
    orders: list[str] = field(default_factory=list)
    steps: int = 0

    @property
    def shape(self) -> Architecture:
        """Architecture of the delivered net."""
        plain = dict(self.architecture)
        plain |= {name: tuple(plain.get(name, ())) for name in ("mean", "std", "growth")}
        return Architecture(**plain)

    @property
    def ledger(self) -> list[Intervention]:
        """The ledger's rows; their ``arm`` is the training's name."""
        return [Intervention(**row) for row in self.interventions]

    def gaussians(self) -> dict[int, ClassStatistics]:
        """Return the Gaussians of every class learnt so far."""
        return {label: ClassStatistics(**kept) for label, kept in self.statistics.items()}

    def centroids(self) -> dict[int, ClassShape]:
        """Return the centroids of every class learnt so far."""
        return {label: ClassShape(**kept) for label, kept in self.shapes.items()}

    def state(self) -> dict[str, Any]:
        """Return all fields by name, for a resume point."""
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def plain(self) -> tuple[Any, dict[str, Tensor]]:
        """Return a JSON document and tensors by name, from which ``from_plain`` makes it again."""
        return pack(self.state())

    @classmethod
    def from_plain(cls, told: Any, tensors: Mapping[str, Tensor]) -> Trained:
        """Return what ``plain`` described.

        Args:
            told: The JSON document.
            tensors: By name.
        """
        return cls(**unpack(told, tensors))
