"""Write ``docs/results/speed.md`` from ``benchmarks/results/zap.json``.

python benchmarks/speed_page.py            write the page
python benchmarks/speed_page.py --check    write nothing; fail if the page is stale
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
RESULT = PROJECT / "benchmarks" / "results" / "zap.json"
PAGE = PROJECT / "docs" / "results" / "speed.md"

_HEAD = """# Speed of zapping

<!-- written by benchmarks/speed_page.py from benchmarks/results/zap.json; do not edit -->

`make bench PEER=<checkout of uvm-neurobotics-lab/reset-it-and-forget-it>` measures this table, and
`python benchmarks/speed_page.py` writes this page from it. Both codes run the same net (the weights
of one give the same function in the other, which is checked first) on the same images, in processes
of their own that take turns. A figure is the median over repetitions; a ratio is the median of the
ratios of neighbours, and above 1 ours is faster. Time is CPU time, which with one thread on an idle
machine is time on the clock; the ratio by the clock stands beside it. A plus after a commit means
that files differed from it, and two commits that the tree moved while the benchmark ran.
"""

_TAIL = """
The official code is run to its advantage: its images lie decoded in memory, its calls to wandb cost
nothing, its models are not read from files, and the episodes in which it computes extra figures for
its log are left out. Its shipped precision is fp32; it has no other. Our side trains through the
same doors as `kedro run --pipeline zap`, with everything written down that a run writes down.

What makes the difference: GroupNorm with one channel a group in place of InstanceNorm2d (the same
function), a max-pool whose maxima and indices are vectorised (bit for bit the same values and
gradients), fused Adam, images kept as bytes in memory, no forward pass for the log alone, freed
memory kept in the process, bf16 products where the processor has them, and in the continual
evaluation a head of the task's size. At equal work in fp32 the convolutions are the floor.
"""


def speed_page(result: Mapping[str, Any]) -> str:
    """Return the text of the page.

    Args:
        result: The JSON object that ``bench_zap.py`` prints last.
    """
    conditions = [
        f"\nMeasured on {result['machine']}, torch {result['torch']}, "
        f"{result['threads']} thread(s), {result['repetitions']} repetitions, {result['date']}, "
        f"commit {result['commit']}. Load of the machine at the start: "
        f"{_number(result['load'])} processes.\n"
    ]
    beside = [r for r in result["rows"] if r["against"] == "official code"]
    within = [r for r in result["rows"] if r["against"] != "official code"]
    parts = [
        _HEAD,
        *conditions,
        "\n## Beside the official code\n\n",
        _table(beside),
        _short_of(beside),
        _TAIL,
    ]
    if within:
        parts += ["\n## Ours with and without one of its means\n\n", _table(within)]
    return "".join(parts)


def _short_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return which goals were missed, or that none was."""
    judged = [r for r in rows if r["goal"] and r["ratio"]]
    if not judged:
        return ""
    missed = [f"`{r['name']}` ({r['ratio']:.2f} of {_number(r['goal'])})" for r in judged]
    missed = [text for text, r in zip(missed, judged, strict=True) if r["ratio"] < r["goal"]]
    return f"\nBelow its goal: {', '.join(missed)}.\n" if missed else "\nEvery goal is met.\n"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = (
        "| row | ours | other | ratio | range | by the clock | goal | unit | precision "
        "| conditions |\n"
    )
    lines = [head, "|---|---|---|---|---|---|---|---|---|---|\n"]
    for row in rows:
        low, high = row["ratio_range"] or (None, None)
        between = f"{low:.2f} to {high:.2f}" if low is not None else "not measured"
        cells = [
            f"`{row['name']}`",
            _number(row["ours"]),
            _number(row["peer"]),
            f"**{row['ratio']:.2f}**" if row["ratio"] else "not measured",
            between,
            f"{row['ratio_by_the_clock']:.2f}" if row["ratio_by_the_clock"] else "not measured",
            _number(row["goal"]) if row["goal"] else "",
            row["unit"],
            row["precision"],
            row["conditions"],
        ]
        lines.append("| " + " | ".join(cells) + " |\n")
    return "".join(lines)


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if stale")
    given = parser.parse_args(arguments)
    text = speed_page(json.loads(RESULT.read_text(encoding="utf-8")))
    if not given.check:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        print(
            "docs/results/speed.md is stale: run python benchmarks/speed_page.py", file=sys.stderr
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
