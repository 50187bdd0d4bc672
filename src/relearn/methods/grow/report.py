"""What the gate found: whether the student computes the teacher's function, and where not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

LIMIT_FLOAT64 = 1e-12
"""Largest difference in float64, relative to the largest output."""

LIMIT_ROUNDING = 4.0
"""Largest difference in float32, as a multiple of the teacher's own rounding error."""


@dataclass(frozen=True)
class VerifyReport:
    """Differences between teacher and student on the same inputs.

    Attributes:
        passed: Whether the student may be trained on.
        relative_float64: max|student - teacher| / max|teacher| in float64, evaluation mode.
        limit_float64: What it may be.
        rounding_ratio: max|student32 - teacher64| over the teacher's own max|teacher32 - teacher64|
            (plus 1e-7 of the largest output).
        limit_rounding: What it may be.
        relative_float32: max|student32 - teacher32| / max|teacher32|.
        train_drift: The relative float64 difference in training mode, dropout off; told, not
            judged. None if it was not asked for or the nets cannot be run in training mode.
        worst_share_error: From the record: largest distance of a sum of shares from 1; None without
            a record.
        first_bad_layer: Name of the first module whose output is not the teacher's, copied; empty
            if all are or none was found.
        agreement: Share of examples with the same largest output, in 0..1.
        inputs: Number of examples that were run.
        worst_by_input: Relative float64 difference on each kind of input: given, noise, ...
        seconds: Of the whole check.
    """

    passed: bool
    relative_float64: float
    rounding_ratio: float
    relative_float32: float
    train_drift: float | None
    worst_share_error: float | None
    first_bad_layer: str
    agreement: float
    inputs: int
    worst_by_input: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    limit_float64: float = LIMIT_FLOAT64
    limit_rounding: float = LIMIT_ROUNDING

    def to_plain(self) -> dict[str, Any]:
        """Return the report as a dictionary for JSON."""
        return asdict(self)
