"""The rows that travel from the arms to the report: measurements, costs and interventions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from relearn.errors import TrainingError

Log = Callable[[int, Mapping[str, float]], None]
"""``log(step, {metric: value})``: a live curve, or nothing at all."""


def no_log(step: int, values: Mapping[str, float]) -> None:
    """Log nowhere: for library use and tests.

    Args:
        step: Where on the curve.
        values: Metric to value.
    """


@dataclass(frozen=True)
class Record:
    """One measured value.

    Attributes:
        method: Such as ``zap``.
        arm: Free label of the arm.
        seed: Seed of the pair.
        task: Protocol or phase, such as ``pretrain``, ``few_shot`` or ``continual``.
        step: Optimizer step, episode or class count, as the protocol defines it.
        metric: Field name such as ``accuracy``.
        value: Finite number.
    """

    method: str
    arm: str
    seed: int
    task: str
    step: int
    metric: str
    value: float

    def as_row(self) -> dict[str, Any]:
        """Return the row as a plain dictionary."""
        return asdict(self)


@dataclass(frozen=True)
class Intervention:
    """One change to weights outside the optimizer: the ledger's row.

    Attributes:
        method: Such as ``zap``.
        arm: Free label of the arm.
        seed: Seed of the pair.
        step: Optimizer steps done before the change.
        epoch: Epochs (or episodes) done before the change.
        kind: Such as ``reset_last_layer`` or ``shrink_and_perturb``.
        target: Name of the tensor changed.
        rows: Number of rows changed.
        trigger: Why now, such as ``every 1 epochs``.
        draw_seed: Seed from which the new values are drawn again.
        before_digest: Digest of the tensor before.
        after_digest: Digest of the tensor after.
        before_norm: Frobenius norm before.
        after_norm: Frobenius norm after.
        details: What a verifier needs besides: initialisation, scale, row numbers, shape.
    """

    method: str
    arm: str
    seed: int
    step: int
    epoch: int
    kind: str
    target: str
    rows: int
    trigger: str
    draw_seed: int
    before_digest: str
    after_digest: str
    before_norm: float
    after_norm: float
    details: Mapping[str, Any] = field(default_factory=dict)

    def as_row(self) -> dict[str, Any]:
        """Return the row as a plain dictionary (``details`` stays a mapping)."""
        return asdict(self)


class Recorder:
    """Collects the records of one arm and seed, refusing values that are not finite."""

    def __init__(self, method: str, arm: str, seed: int) -> None:
        self.method, self.arm, self.seed = method, arm, seed
        self.records: list[Record] = []

    def add(self, task: str, step: int, values: Mapping[str, float]) -> None:
        """Append one record for each metric.

        Args:
            task: Protocol or phase.
            step: Where on the protocol's own axis.
            values: Metric to value.

        Raises:
            TrainingError: A value is NaN or infinite.
        """
        for metric, value in values.items():
            if not math.isfinite(value):
                raise TrainingError(
                    f"{self.method}: {task}.{metric} of arm {self.arm}, seed {self.seed} is "
                    f"{value} at step {step}; lower the learning rate or look at the data"
                )
            self.records.append(
                Record(self.method, self.arm, self.seed, task, step, metric, float(value))
            )


@dataclass(frozen=True)
class ArmResult:
    """What training one arm with one seed gives back.

    Attributes:
        checkpoint: The trained net (a ``relearn.models.checkpoint.Checkpoint``).
        records: Measurements; equal bit for bit for equal seeds on CPU.
        costs: Seconds, FLOPs, memory, parameters; kept apart because they vary.
        interventions: The ledger's rows, in order.
        predictions: Column name to int64 tensor of one length: protocol, index, label, predicted.
        order_digest: Digest of the sample order consumed; equal for the arms of one pair.
        tensors: Other tensors to keep beside the checkpoint, such as pre-states for the ledger.
    """

    checkpoint: Any
    records: list[Record]
    costs: list[Record]
    interventions: list[Intervention]
    predictions: Mapping[str, Any]
    order_digest: str
    tensors: Mapping[str, Any] = field(default_factory=dict)
