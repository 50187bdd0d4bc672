"""Speed of low-rank modules beside the official code and PEFT: same net, one run, taking turns.

    python benchmarks/bench_lora.py [--peer PATH] [--quick] [--threads N]

``--peer`` is a checkout of github.com/learninginvision/LoRAC-IPC (see ``lora_official.py``). The
rows beside PEFT need the package ``peft``, found through PYTHONPATH. What is not there is left out
of the comparison. ``--quick`` runs tiny nets and shows that everything works; its figures mean
nothing. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import here
from side_by_side import Job, outcome
from table_row import Row, measured

OURS, PEER, PEFT = "lora_work", "lora_official", "lora_peft"
TEN_PERCENT_MORE = 0.909  # 1 / 1.1
FINISHED = (1, 5, 9, 20)
LOGITS_MARGIN = 1e-5


@dataclass(frozen=True)
class Size:
    """The nets and how much is done.

    Attributes:
        wide: Net, batch and rank of ViT-B's width; two of its blocks.
        narrow: The same of a small ViT.
        stored: The whole ViT-B, for the bytes of a task.
        repetitions: Counted repetitions.
    """

    wide: dict[str, int]
    narrow: dict[str, int]
    stored: dict[str, int]
    repetitions: int


WHOLE = Size(
    wide={"dim": 768, "depth": 2, "image": 224, "patch": 16, "batch_size": 8, "rank": 16},
    narrow={"dim": 192, "depth": 6, "image": 64, "patch": 8, "batch_size": 32, "rank": 8},
    stored={"dim": 768, "depth": 12, "image": 224, "patch": 16, "rank": 16},
    repetitions=5,
)
_TINY = {"dim": 64, "depth": 1, "image": 16, "patch": 8, "batch_size": 32, "rank": 1}
QUICK = Size(
    wide=_TINY,
    narrow=_TINY,
    stored={name: value for name, value in _TINY.items() if name != "batch_size"},
    repetitions=1,
)
GOALS = {(9, "768"): 1.5, (9, "192"): 1.15}


def rows(size: Size, checkout: str | None, *, peft: bool) -> Iterator[Row]:
    """Yield the rows that are raced.

    Args:
        size: Nets and work.
        checkout: The official code; None leaves its column empty.
        peft: Whether the package is there.
    """
    for label, work in (("768", size.wide), ("192", size.narrow)):
        yield from _step_rows(label, work, checkout)
    for label, work in (("", size.narrow), ("_768", size.wide)):
        yield from _flat_rows(label, work)
    peer = Job(PEER, "inference", {"checkout": checkout, **size.narrow, "tasks": 9})
    yield Row(
        "lora.task_inference",
        "images/CPU-s",
        Job(OURS, "inference", {**size.narrow, "tasks": 9}),
        peer if checkout else None,
        "fp32",
        4.0,
        f"{_net(size.narrow)}, one batch of {size.narrow['batch_size']} images of 9 tasks, 90 "
        "classes of 4 centroids; ours two passes over the batch, the second without the images of "
        f"the first task, with the weights of 9 tasks composed before ({_composed(size.narrow, 9)} "
        "MB)",
    )
    for label, work in (("", size.wide), ("_192", size.narrow)):
        yield Row(
            f"lora.peft_one_adapter{label}",
            "images/CPU-s",
            Job(OURS, "step", {**work, "tasks": 0, "penalty": False}),
            Job(PEFT, "step", work) if peft else None,
            "fp32",
            1.0,
            f"{_net(work)}, training step of a first module without orthogonality; PEFT has one A "
            "for q, k and v, ours three",
            against="huggingface PEFT",
        )


def _step_rows(label: str, work: dict[str, int], checkout: str | None) -> Iterator[Row]:
    for tasks in FINISHED:
        given = {**work, "tasks": tasks}
        peer = Job(PEER, "step", {"checkout": checkout, **given}) if checkout else None
        variants: list[tuple[str, dict[str, Any], str]] = [("", {}, "nothing frozen")]
        if tasks == 9:
            variants.append(("_watched", {"watched": True}, "nothing frozen, importance watched"))
            frozen = {"freeze": 1 / 24}
            variants.append(("_frozen", frozen, "one of 24 matrices frozen after each task"))
        for suffix, more, said in variants:
            yield Row(
                f"lora.step_{tasks}_tasks_{label}{suffix}",
                "images/CPU-s",
                Job(OURS, "step", {**given, **more}),
                peer,
                "fp32",
                None if suffix else GOALS.get((tasks, label)),
                f"{_net(work)}, batch {work['batch_size']}, training step after {tasks} finished "
                f"task(s), orthogonality, omega trained, {said}; the official code watches "
                "importance in every step, ours in the last 40 of a task",
            )


def _flat_rows(label: str, work: dict[str, int]) -> Iterator[Row]:
    for suffix, more, said in (
        ("", {}, "omega of every earlier module trained, nothing frozen"),
        ("_frozen", {"freeze": 1 / 24}, "one of 24 matrices frozen after each task"),
        ("_folded", {"omega": False}, "omega off: earlier modules are folded into the weight"),
    ):
        yield Row(
            f"lora.step_1_over_20_tasks{label}{suffix}",
            "images/CPU-s",
            Job(OURS, "step", {**work, **more, "tasks": 20}),
            Job(OURS, "step", {**work, **more, "tasks": 1}),
            "fp32",
            TEN_PERCENT_MORE if not label and suffix != "_folded" else None,
            f"{_net(work)}, batch {work['batch_size']}, training step after 20 finished tasks over "
            f"one after 1; {said}; 0.91 is 10 percent more time",
            against="ours after 1 task",
        )


def _net(work: dict[str, int]) -> str:
    return (
        f"ViT of width {work['dim']}, {work['depth']} blocks, "
        f"{(work['image'] // work['patch']) ** 2 + 1} tokens, rank {work['rank']} on six matrices"
    )


def _composed(work: dict[str, int], tasks: int) -> int:
    """Return the megabytes of the composed weights of some tasks: 12 dim^2 numbers a block."""
    return round(tasks * work["depth"] * 12 * work["dim"] ** 2 * 4 / 1e6)


def plain_rows(size: Size, *, peft: bool) -> Iterator[dict[str, object]]:
    """Yield the rows that are no race: PEFT's logits beside ours, and stored bytes.

    Args:
        size: Nets.
        peft: Whether the package is there.
    """
    if peft:
        work = {**size.narrow, "tasks": 9}
        found = outcome(Job(PEFT, "logits", work), threads=1)
        yield {
            "name": "lora.peft_logits",
            "ours": found,
            "margin": LOGITS_MARGIN,
            "within_margin": found <= LOGITS_MARGIN,
            "unit": "largest difference of a logit",
            "precision": "fp32",
            "against": "huggingface PEFT with our export",
            "conditions": f"{_net(size.narrow)}, 9 tasks, one of 20 matrices frozen after each",
        }
    found = outcome(Job(OURS, "stored", size.stored), threads=1)
    yield {
        "name": "lora.stored_bytes",
        "ours": float(f"{found:.4g}"),
        "margin": 1.05,
        "within_margin": found <= 1.05,
        "unit": "bytes of the file over bytes of its factors",
        "precision": "fp32",
        "against": "the factors alone",
        "conditions": f"{_net(size.stored)}, 21 tasks of ten classes; with omega, last layers and "
        "header of the file, each task changing the rows of all classes so far",
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", metavar="PATH", help="checkout of the official code")
    parser.add_argument("--quick", action="store_true", help="tiny nets: does everything work?")
    parser.add_argument("--threads", type=int, default=1, help="threads of each code")
    parser.add_argument("--rows", default="", help="only rows whose name holds this text")
    given = parser.parse_args(arguments)
    place = "vits/comp_ilora_mask_allw_vision_transformer.py"
    if given.peer and not (Path(given.peer) / place).is_file():
        parser.error(f"--peer: {given.peer} is no checkout of LoRAC-IPC (no {place})")
    size = QUICK if given.quick else WHOLE
    peft = importlib.util.find_spec("peft") is not None
    if not peft:
        print("peft is not installed: its rows are not compared", file=sys.stderr)
    machine, table = here(), []
    for row in rows(size, given.peer, peft=peft):
        if given.rows in row.name:
            table.append(measured(row, repetitions=size.repetitions, threads=given.threads))
            last = table[-1]
            print(last["name"], last["ours"], last["peer"], last["ratio"], file=sys.stderr)
    if any(given.rows in name for name in ("lora.peft_logits", "lora.stored_bytes")):
        table += [row for row in plain_rows(size, peft=peft) if given.rows in str(row["name"])]
    result = {
        "name": "lora",
        "quick": given.quick,
        "repetitions": size.repetitions,
        "threads": given.threads,
        **machine,
        "rows": table,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
