"""Speed and memory of growing: plan and apply, and the gate, for two large nets on one core.

    python benchmarks/bench_grow.py [--peer PATH] [--quick]

No other library widens a trained net, so there are goals in seconds and nothing to race against.
``--peer`` is a folder with torch-pruning (``pip install --no-deps --target PATH torch-pruning``),
whose graph build is printed for orientation: it finds groups of channels too, and changes no
weight. ``--quick`` takes smaller nets and shows that everything works; its figures mean nothing.
Seconds are CPU seconds. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grow_work
from machine import here
from side_by_side import Job, outcome, race

WORK = "grow_work"
VERIFY_GOAL = 3.0
"""Seconds of the gate over those of plan and apply, at most."""
MEMORY_GOAL = 1.2
"""Largest memory over that of teacher and student together, at most."""


@dataclass(frozen=True)
class Growth:
    """One line of the table.

    Attributes:
        name: Of the row.
        net: Name of a net of torchvision.
        goal: CPU seconds of plan and apply, at most; None for none.
        side: Pixels of an image.
    """

    name: str
    net: str
    goal: float | None
    side: int = grow_work.SIDE


WHOLE = (
    Growth("grow.resnet50", "resnet50", 3.0),
    Growth("grow.vit_b16", "vit_b_16", 5.0),
)
QUICK = (Growth("grow.squeezenet", "squeezenet1_1", None),)


def measured(row: Growth, *, repetitions: int, peer: str | None) -> dict[str, object]:
    """Run one row and return it as plain values.

    Args:
        row: What is grown.
        repetitions: Counted repetitions of each work.
        peer: Folder of torch-pruning; None leaves its column empty.
    """
    options = {"net": row.net, "side": row.side}
    seconds = _seconds("growth", options, repetitions)
    gate = _seconds("verification", options, repetitions)
    share = outcome(Job(WORK, "memory", options), threads=1)
    other = _seconds("graph", {**options, "peer": peer}, repetitions) if peer else None
    return {
        "name": row.name,
        "seconds": _short(seconds),
        "goal": row.goal,
        "verify_seconds": _short(gate),
        "verify_share": _short(gate / seconds),
        "verify_goal": VERIFY_GOAL,
        "memory_share": None if math.isnan(share) else _short(share),
        "memory_goal": MEMORY_GOAL,
        "torch_pruning_seconds": _short(other),
        **grow_work.sizes(row.net, row.side),
        "unit": "CPU-s",
        "precision": "fp32, the gate in fp64 too",
        "conditions": f"{row.net} of torchvision, {grow_work.IMAGES} images of {row.side} pixels, "
        f"every group that can grow by {grow_work.FACTOR}",
    }


def _seconds(maker: str, options: dict[str, object], repetitions: int) -> float:
    """Return the median CPU seconds of one repetition, after one that is not counted."""
    return 1 / race(Job(WORK, maker, options), None, repetitions=repetitions, threads=1).ours


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def rows(table: Sequence[Growth], wanted: str) -> Iterator[Growth]:
    """Yield the rows whose name holds a text.

    Args:
        table: All rows.
        wanted: The text; empty takes all.
    """
    yield from (row for row in table if wanted in row.name)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", metavar="PATH", help="folder with torch-pruning")
    parser.add_argument("--quick", action="store_true", help="a small net: does everything work?")
    parser.add_argument("--rows", default="", help="only rows whose name holds this text")
    parser.add_argument("--repetitions", type=int, default=3, help="counted repetitions")
    given = parser.parse_args(arguments)
    if given.peer and not (Path(given.peer) / "torch_pruning").is_dir():
        parser.error(f"--peer: {given.peer} does not hold torch-pruning (no torch_pruning)")
    machine, table = here(), []
    repetitions = 1 if given.quick else given.repetitions
    for row in rows(QUICK if given.quick else WHOLE, given.rows):
        found = measured(row, repetitions=repetitions, peer=given.peer)
        table.append(found)
        print(
            f"{row.name}: {found['seconds']} s, the gate {found['verify_seconds']} s, memory "
            f"{found['memory_share']} of both nets, torch-pruning's graph "
            f"{found['torch_pruning_seconds']} s",
            file=sys.stderr,
        )
    result = {
        "name": "grow",
        "quick": given.quick,
        "repetitions": repetitions,
        "threads": 1,
        **machine,
        "rows": table,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
