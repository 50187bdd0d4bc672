"""Speed and memory of reading a frozen body: as many images as CIFAR-10 trains on, in one pass.

    python benchmarks/bench_features.py [--images PATH] [--quick] [--threads N]

A pre-activation ResNet-8 is read at two tap points, and the features go into the sums of a ridge
fit. What that adds to the memory of the process is held against the bound that is stated before.
``--images`` names a folder or zip of CIFAR-10 with ``train/`` in it; without it the pixels are
drawn, on which neither time nor memory depends. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from features_work import BATCH, NAME, TAPS, bound_megabytes
from machine import here
from side_by_side import Job, outcome
from table_row import Row, measured

from relearn.data.archive import ReadLimits
from relearn.data.decode import ImageShape
from relearn.data.image_folder import read_image_folder

Size = dict[str, Any]
WORK = "features_work"
WHOLE: Size = {"images": 50_000, "side": 32, "width": 16}
QUICK: Size = {"images": 300, "side": 8, "width": 4}


def training_images(path: Path, side: int, folder: Path) -> str:
    """Return a file with the training images of a data set and their labels.

    Args:
        path: Folder or zip with ``train/`` in it.
        side: Pixels along each side.
        folder: Where the file is written.
    """
    shape = ImageShape(size=side, channels=3)
    found, _ = read_image_folder(path, shape=shape, limits=ReadLimits())
    part = found.part_names.index("train") if "train" in found.part_names else 0
    mine, kept = found.part == part, folder / "images.npz"
    np.savez(kept, images=found.images[mine].numpy(), labels=found.labels[mine].numpy())
    return str(kept)


def memory(size: Size) -> dict[str, object]:
    """Return the row that holds the memory against its bound.

    Args:
        size: Images, side in pixels, width of the body, and the file of the images, if any.
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


def _conditions(size: Size) -> str:
    what = "training images of CIFAR-10" if size.get("kept") else "drawn images"
    return (
        f"{size['images']} {what} of {size['side']} pixels, {NAME} of depth 8 and width "
        f"{size['width']}, tap points {' and '.join(TAPS)}, batches of {BATCH}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="accepted for make bench; there is no peer to this one")
    parser.add_argument("--quick", action="store_true", help="tiny: does everything work?")
    parser.add_argument("--threads", type=int, default=1, help="threads of the process")
    parser.add_argument("--images", metavar="PATH", help="folder or zip of CIFAR-10")
    given = parser.parse_args(arguments)
    size = dict(QUICK if given.quick else WHOLE)
    machine, repetitions = here(), 1 if given.quick else 3
    with tempfile.TemporaryDirectory() as folder:
        if given.images:
            size["kept"] = training_images(Path(given.images), size["side"], Path(folder))
        row = Row(
            *("kernel.features", "images/CPU-s", Job(WORK, "streamed", size), None, "fp32", None),
            _conditions(size),
            against="nobody",
        )
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
