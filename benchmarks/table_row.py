"""One line of a table of speeds: what is raced against what, and the plain values it gives."""

from __future__ import annotations

import math
from dataclasses import dataclass

from side_by_side import Job, race


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: Such as ``zap.iid_bf16``.
        unit: What is counted per second.
        ours: Our work.
        peer: The other code's; None compares with nothing.
        precision: Ours; the official code has fp32 alone.
        goal: Ratio that the project set itself; None for rows without.
        conditions: What a reader must know.
        against: ``official`` or what else the ratio is over.
    """

    name: str
    unit: str
    ours: Job
    peer: Job | None
    precision: str
    goal: float | None
    conditions: str
    against: str = "official code"


def measured(row: Row, *, repetitions: int, threads: int) -> dict[str, object]:
    """Run one row and return it as plain values."""
    found = race(row.ours, row.peer, repetitions=repetitions, threads=threads)

    def short(value: float | None) -> float | None:
        return None if value is None else float(f"{value:.4g}")

    return {
        "name": row.name,
        "ours": short(found.ours),
        "peer": short(found.peer),
        "ratio": short(found.ratio),
        "ratio_range": [short(found.lowest), short(found.highest)] if found.ratio else None,
        "ratio_by_the_clock": short(found.clock_ratio),
        "goal": row.goal,
        "unit": row.unit,
        "precision": row.precision,
        "megabytes": [None if math.isnan(each) else round(each) for each in found.megabytes],
        "against": row.against,
        "conditions": row.conditions,
    }
