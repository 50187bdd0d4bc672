"""Speed of zapping beside the official code: same net, same images, one run, taking turns.

    python benchmarks/bench_zap.py [--peer PATH] [--quick] [--threads N]

``--peer`` is a checkout of github.com/uvm-neurobotics-lab/reset-it-and-forget-it; it needs the
packages ``higher`` and ``pyyaml-include<2`` on PYTHONPATH, and gets nothing else (see
``zap_official.py``). Without it only our own figures are taken. ``--quick`` runs tiny nets and
shows that everything works; its figures mean nothing. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from machine import here
from side_by_side import Job
from table_row import Row, measured

OURS, PEER = "zap_work", "zap_official"


@dataclass(frozen=True)
class Size:
    """How much is done in one repetition.

    Attributes:
        wide: Channels of the paper's net.
        narrow: Channels of our pilot's net.
        batch: Images a step in the i.i.d. rows.
        steps: Steps of one repetition, wide net.
        episodes: ASB episodes of one repetition, wide net.
        classes: Classes of the continual evaluation.
        shots: Images of each that are learnt.
        repetitions: Counted repetitions.
    """

    wide: int
    narrow: int
    batch: int
    steps: int
    episodes: int
    classes: int
    shots: int
    repetitions: int


WHOLE = Size(
    wide=256, narrow=32, batch=256, steps=2, episodes=2, classes=100, shots=2, repetitions=5
)
QUICK = Size(wide=4, narrow=2, batch=20, steps=1, episodes=1, classes=2, shots=1, repetitions=1)
MORE = 5  # a narrow net does so many times the work in one repetition


def rows(size: Size, checkout: str | None) -> Iterator[Row]:
    """Yield the rows of the table.

    Args:
        size: How much is done.
        checkout: The official code; None leaves the other column empty.
    """
    yield from _iid_rows(size, checkout)
    yield from _asb_rows(size, checkout)
    yield from _continual_rows(size, checkout)
    yield from _inference_rows(size, checkout)
    yield from _memory_rows(size)
    yield from _pool_rows(size)
    yield from _stacking_rows(size)


def _peer(checkout: str | None, maker: str, **options: int) -> Job | None:
    return Job(PEER, maker, {"checkout": checkout, **options}) if checkout else None


def _images(steps: int, batch: int) -> int:
    return -(-steps * batch // 20) * 20


def _iid_rows(size: Size, checkout: str | None) -> Iterator[Row]:
    wide = {
        "width": size.wide,
        "batch_size": size.batch,
        "images": _images(size.steps, size.batch),
    }
    narrow = wide | {
        "width": size.narrow,
        "images": _images(MORE * size.steps, size.batch),
    }
    for name, options, precision, goal in (
        ("zap.iid_bf16", wide, "bf16", 3.0),
        ("zap.iid_fp32", wide, "fp32", 1.3),
        ("zap.iid_narrow", narrow, "fp32", None),
    ):
        yield Row(
            name,
            "images/CPU-s",
            Job(OURS, "iid", {**options, "precision": precision}),
            _peer(checkout, "iid", **options),
            precision,
            goal,
            f"width {options['width']}, batch {size.batch}, 1000 logits, an epoch of "
            f"{options['images']} images; each with its own loader and its own log",
        )


def _asb_rows(size: Size, checkout: str | None) -> Iterator[Row]:
    images = _images(MORE, 60)
    wide = {"width": size.wide, "images": images, "episodes": size.episodes}
    narrow = {"width": size.narrow, "images": images, "episodes": MORE * size.episodes}
    for name, options, precision, goal in (
        ("zap.asb", wide, "bf16", 1.5),
        ("zap.asb_fp32", wide, "fp32", None),
        ("zap.asb_narrow", narrow, "fp32", None),
    ):
        yield Row(
            name,
            "episodes/CPU-s",
            Job(OURS, "asb", {**options, "precision": precision}),
            _peer(checkout, "asb", **options),
            precision,
            goal,
            f"width {options['width']}, 1000 logits, zap, 20 SGD steps of 1 image, one Adam step "
            "of 84",
        )


def _continual_rows(size: Size, checkout: str | None) -> Iterator[Row]:
    task = {"classes": size.classes, "shots": size.shots}
    for name, width, outputs, rates, goal in (
        ("zap.continual_eval", size.wide, size.classes, 1, 2.0),
        ("zap.continual_eval_equal_work", size.wide, 1000, 1, None),
        ("zap.continual_eval_narrow", size.narrow, size.classes, 1, None),
        ("zap.continual_eval_narrow_sweep", size.narrow, size.classes, 9, None),
    ):
        ours = {**task, "width": width, "outputs": outputs, "rates": rates}
        each = f"; {rates} rates, images of all of them" if rates > 1 else ""
        yield Row(
            name,
            "images/CPU-s",
            Job(OURS, "continual", ours),
            _peer(checkout, "continual", width=width, **task),
            "fp32",
            goal,
            f"width {width}, {size.classes} classes x {size.shots} images, Adam steps of 1 image, "
            f"judged at the end; our head {outputs} outputs, official 1000{each}",
        )


def _inference_rows(size: Size, checkout: str | None) -> Iterator[Row]:
    for name, width, images in (
        ("zap.inference", size.wide, _images(size.steps, size.batch)),
        ("zap.inference_narrow", size.narrow, _images(MORE * size.steps, size.batch)),
    ):
        options = {"width": width, "images": images}
        yield Row(
            name,
            "images/CPU-s",
            Job(OURS, "inference", options),
            _peer(checkout, "inference", **options),
            "fp32",
            None,
            f"width {width}, forward passes over {images} stored images",
        )


def _memory_rows(size: Size) -> Iterator[Row]:
    for name, width, steps, batch in (
        ("zap.kept_memory_narrow", size.narrow, MORE * size.steps, 64),
        ("zap.kept_memory", size.wide, size.steps, 64),
    ):
        options = {
            "width": width,
            "batch_size": batch,
            "images": _images(steps, batch),
            "precision": "fp32",
        }
        ours = Job(OURS, "iid", options)
        yield Row(
            name,
            "images/CPU-s",
            ours,
            replace(ours, options={**options, "keep_memory": False}),
            "fp32",
            None,
            f"width {width}, batch {batch}: freed memory kept in the process, over handed back",
            against="ours without it",
        )


def _pool_rows(size: Size) -> Iterator[Row]:
    for name, width, steps in (
        ("zap.own_pool_narrow", size.narrow, 4 * MORE * size.steps),
        ("zap.own_pool", size.wide, size.steps),
    ):
        options = {
            "width": width,
            "batch_size": 64,
            "images": _images(steps, 64),
            "precision": "fp32",
        }
        ours = Job(OURS, "iid", options)
        yield Row(
            name,
            "images/CPU-s",
            ours,
            replace(ours, options={**options, "own_pool": False}),
            "fp32",
            None,
            f"width {width}, batch 64: our max-pool, over torch's",
            against="ours without it",
        )


def _stacking_rows(size: Size) -> Iterator[Row]:
    for rates in (3, 9):
        work = {"width": size.narrow, "classes": min(20, size.classes), "rates": rates}
        yield Row(
            f"zap.one_by_one_{rates}",
            "images/CPU-s",
            Job(OURS, "continual", {**work, "shots": 2, "outputs": work["classes"]}),
            Job(OURS, "side_by_side", work),
            "fp32",
            None,
            f"width {size.narrow}, continual evaluation of {rates} rates: one after the other, "
            "over stacked and stepped together",
            against="ours stacked",
        )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", metavar="PATH", help="checkout of the official code")
    parser.add_argument("--quick", action="store_true", help="tiny nets: does everything work?")
    parser.add_argument("--threads", type=int, default=1, help="threads of each code")
    parser.add_argument("--rows", default="", help="only rows whose name holds this text")
    given = parser.parse_args(arguments)
    if given.peer and not (Path(given.peer) / "anml.py").is_file():
        parser.error(f"--peer: {given.peer} is no checkout of reset-it-and-forget-it (no anml.py)")
    size = QUICK if given.quick else WHOLE
    machine, table = here(), []
    for row in rows(size, given.peer):
        if given.rows in row.name:
            table.append(measured(row, repetitions=size.repetitions, threads=given.threads))
            last = table[-1]
            print(last["name"], last["ours"], last["peer"], last["ratio"], file=sys.stderr)
    result = {
        "name": "zap",
        "quick": given.quick,
        "repetitions": size.repetitions,
        "threads": given.threads,
        **machine,
        "rows": table,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
