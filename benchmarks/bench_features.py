"""Speed and memory of reading a frozen body: as many images as CIFAR-10 trains on, in one pass.

    python benchmarks/bench_features.py [--quick] [--threads N]

A pre-activation ResNet-8 is read at two tap points, and the features go into the sums of a ridge
fit. What that adds to the memory of the process is held against the bound that is stated before.
The pixels are drawn: neither time nor memory depends on them. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from features_work import BATCH, NAME, TAPS, bound_megabytes
from machine import here
from side_by_side import Job, outcome
from table_row import Row, measured

WORK = "features_work"
WHOLE = {"images": 50_000, "side": 32, "width": 16}
QUICK = {"images": 300, "side": 8, "width": 4}


def memory(size: dict[str, int]) -> dict[str, object]:
    """Return the row that holds the memory against its bound.

    Args:
        size: Images, side in pixels, width of the body.
    """
    bound = bound_megabytes(**size)
    grown = outcome(Job(WORK, "streamed_megabytes", size), threads=1)
    return {
        "name": "kernel.features_memory",
        "ours": round(grown, 1),
        "bound": round(bound, 1),
        "within_bound": grown <= bound,
        "unit": "MiB above the process and its images",
        "precision": "fp32, sums fp64",
        "conditions": _conditions(size),
    }


def _conditions(size: dict[str, int]) -> str:
    return (
        f"{size['images']} images of {size['side']} pixels, {NAME} of depth 8 and width "
        f"{size['width']}, tap points {' and '.join(TAPS)}, batches of {BATCH}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="accepted for make bench; there is no peer to this one")
    parser.add_argument("--quick", action="store_true", help="tiny: does everything work?")
    parser.add_argument("--threads", type=int, default=1, help="threads of the process")
    given = parser.parse_args(arguments)
    size = QUICK if given.quick else WHOLE
    machine = here()
    row = Row(
        *("kernel.features", "images/CPU-s", Job(WORK, "streamed", size), None, "fp32", None),
        _conditions(size),
        against="nobody",
    )
    repetitions = 1
    table = [measured(row, repetitions=repetitions, threads=given.threads), memory(size)]
    result = {
        "name": "features",
        "quick": given.quick,
        "repetitions": repetitions,
        "threads": given.threads,
        **machine,
        "rows": table,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
