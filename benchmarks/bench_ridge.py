"""Speed and memory of the ridge path with exact leave-one-out, beside scikit-learn, in one run.

    python benchmarks/bench_ridge.py [--quick] [--threads N]

The peer is the installed scikit-learn's RidgeClassifierCV on the same features with the same 41
penalties; its features are handed over in float64, which it would make of them. The chosen penalty
and the predictions on fresh rows are compared. The streamed row reads as many rows as CIFAR-10 has
training images, draws them anew in each of two passes, keeps none, and holds the memory it took
against the bound stated before. ``--quick`` shows that everything works. The last line is one JSON
object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from machine import here
from ridge_work import BATCH, agreement
from side_by_side import Job, outcome
from table_row import Row, measured

from relearn.training.ridge_sums import memory_bound

WORK = "ridge_work"
PENALTIES = 41


@dataclass(frozen=True)
class Size:
    """How much is done in one repetition.

    Attributes:
        rows: Rows n of the path.
        width: Features p.
        classes: Classes.
        stream_rows: Rows of the stream.
        stream_width: Features of the stream.
        repetitions: Counted repetitions.
    """

    rows: int
    width: int
    classes: int
    stream_rows: int
    stream_width: int
    repetitions: int


WHOLE = Size(20_000, 512, 10, stream_rows=50_000, stream_width=2048, repetitions=3)
QUICK = Size(300, 20, 3, stream_rows=1500, stream_width=30, repetitions=1)


def rows(size: Size) -> Iterator[Row]:
    """Yield the rows of the table that are races.

    Args:
        size: How much is done.
    """
    work = {"rows": size.rows, "width": size.width, "classes": size.classes}
    yield Row(
        "kernel.ridge_path",
        "paths/CPU-s",
        Job(WORK, "path", work),
        Job(WORK, "peer", work),
        "fp64",
        5.0,
        f"{size.rows} x {size.width} features, {size.classes} classes, {PENALTIES} penalties, "
        "exact leave-one-out of each and the scores of the chosen one",
        against="scikit-learn RidgeClassifierCV",
    )
    stream = {"rows": size.stream_rows, "width": size.stream_width, "classes": size.classes}
    yield Row(
        "kernel.ridge_streamed",
        "rows/CPU-s",
        Job(WORK, "streamed", stream),
        None,
        "fp64",
        None,
        f"{size.stream_rows} x {size.stream_width} features in batches of {BATCH}, drawn "
        "anew in each of two passes (which is timed too)",
        against="nobody",
    )


def same_result(size: Size) -> dict[str, object]:
    """Return the row that compares choice and predictions.

    Args:
        size: How much is done.
    """
    found = agreement(size.rows, size.width, size.classes)
    return {
        "name": "kernel.ridge_same_result",
        **found,
        "same": abs(found["ours"] / found["peer"] - 1) < 1e-9 and found["equal_predictions"] == 1,
        "unit": "chosen penalty",
        "precision": "fp64",
        "against": "scikit-learn RidgeClassifierCV",
        "conditions": f"as kernel.ridge_path; predictions on {size.rows} fresh rows",
    }


def memory(size: Size) -> dict[str, object]:
    """Return the row that holds the memory of the stream against its bound.

    Args:
        size: How much is done.
    """
    work = {"rows": size.stream_rows, "width": size.stream_width, "classes": size.classes}
    bound = memory_bound(size.stream_width, size.classes, rows=size.stream_rows)
    bound += 2 * 8 * BATCH * size.stream_width  # the caller's batch and its float64 copy
    grown = outcome(Job(WORK, "streamed_megabytes", work), threads=1)
    return {
        "name": "kernel.ridge_streamed_memory",
        "ours": round(grown, 1),
        "bound": round(bound / 2**20, 1),
        "within_bound": grown <= bound / 2**20,
        "all_rows_at_once": round(8 * size.stream_rows * size.stream_width / 2**20, 1),
        "unit": "MiB above the process before",
        "precision": "fp64",
        "conditions": f"{size.stream_rows} x {size.stream_width} features, {PENALTIES} penalties",
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="accepted for make bench; the peer is installed")
    parser.add_argument("--quick", action="store_true", help="tiny: does everything work?")
    parser.add_argument("--threads", type=int, default=1, help="threads of each code")
    parser.add_argument("--rows", default="", help="only rows whose name holds this text")
    given = parser.parse_args(arguments)
    size = QUICK if given.quick else WHOLE
    machine, table = here(), []
    for row in rows(size):
        if given.rows in row.name:
            table.append(measured(row, repetitions=size.repetitions, threads=given.threads))
            last = table[-1]
            print(last["name"], last["ours"], last["peer"], last["ratio"], file=sys.stderr)
    if given.rows in "kernel.ridge_same_result":
        table.append(same_result(size))
    if given.rows in "kernel.ridge_streamed_memory":
        table.append(memory(size))
    result = {
        "name": "ridge",
        "quick": given.quick,
        "repetitions": size.repetitions,
        "threads": given.threads,
        **machine,
        "rows": table,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
