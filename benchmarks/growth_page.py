"""The page on the speed of growing, as text, from what ``bench_grow.py`` printed last."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_HEAD = """# Speed of growing

<!-- written by benchmarks/speed_page.py from benchmarks/results/grow.json; do not edit -->

`make bench PEER_GROW=<folder with torch-pruning>` measures this table, and `python
benchmarks/speed_page.py` writes this page from it. No other library widens a trained net without
changing its function, so there is nothing to race against: the goals are CPU seconds on one core,
said before. A figure is the median over repetitions, each in a process that has done the work once
before. The gate (`verify`) compares teacher and student in float64, float32 and training mode.
Memory is the largest during plan and apply over that of teacher and student together.
"""

_TAIL = """
torch-pruning's graph stands there for orientation: it finds which channels belong together by
running the net once, changes no weight, proves nothing, and takes what it does not know for
elementwise. What it would cost to grow with it is not measured.
"""

_COLUMNS = (
    "row",
    "plan and apply",
    "goal",
    "gate",
    "gate over growth",
    "goal",
    "memory",
    "goal",
    "torch-pruning's graph",
    "groups grown",
    "million parameters",
    "conditions",
)


def growth_page(result: Mapping[str, Any]) -> str:
    """Return the text of the page.

    Args:
        result: The JSON object that ``bench_grow.py`` prints last.
    """
    measured = (
        f"\nMeasured on {result['machine']}, torch {result['torch']}, {result['threads']} "
        f"thread(s), {result['repetitions']} repetitions, {result['date']}, commit "
        f"{result['commit']}. Load of the machine at the start: {_number(result['load'])} "
        "processes.\n"
    )
    return "".join([_HEAD, measured, "\n", _table(result["rows"]), _missed(result["rows"]), _TAIL])


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [_line(_COLUMNS), _line(["---"] * len(_COLUMNS))]
    for row in rows:
        before, after = (row[name] / 1e6 for name in ("parameters", "parameters_grown"))
        cells = [
            f"`{row['name']}`",
            f"**{_number(row['seconds'])}** s",
            _limit(row["goal"], " s"),
            f"{_number(row['verify_seconds'])} s",
            f"**{_number(row['verify_share'])}**",
            _limit(row["verify_goal"]),
            f"**{_number(row['memory_share'])}**",
            _limit(row["memory_goal"]),
            _number(row["torch_pruning_seconds"], " s"),
            f"{row['groups_grown']} of {row['groups']}",
            f"{before:.1f} to {after:.1f}",
            row["conditions"],
        ]
        lines.append(_line(cells))
    return "".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |\n"


def _missed(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return which goals were missed, or that none was; what was not measured meets none."""
    missed = [
        f"`{row['name']}`: {what} ({_number(row[value])}, at most {_number(row[goal])})"
        for row in rows
        for what, value, goal in (
            ("plan and apply", "seconds", "goal"),
            ("gate over growth", "verify_share", "verify_goal"),
            ("memory", "memory_share", "memory_goal"),
        )
        if row[goal] is not None and not (row[value] is not None and row[value] <= row[goal])
    ]
    return f"\nMissed: {'; '.join(missed)}.\n" if missed else "\nEvery goal is met.\n"


def _limit(value: float | None, unit: str = "") -> str:
    return "" if value is None else f"{_number(value)}{unit}"


def _number(value: float | None, unit: str = "") -> str:
    return "not measured" if value is None else f"{value:.4g}{unit}"
