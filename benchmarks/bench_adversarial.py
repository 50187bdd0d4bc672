"""Speed of adversarial training beside the official code: same net, same images, taking turns.

    python benchmarks/bench_adversarial.py [--peer PATH] [--quick] [--threads 1,2]

``--peer`` is a checkout of github.com/locuslab/robust_overfitting; it gets nothing else (see
``adversarial_official.py``). Without it only our own figures are taken. ``--quick`` makes tiny
batches and shows that everything works; its figures mean nothing. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from machine import here
from side_by_side import Job, outcome
from table_row import Row, measured

OURS, PEER, METHOD = "adversarial_work", "adversarial_official", "adversarial_method"
PRODUCTS = "adversarial_products"
FIVE_PERCENT_MORE = 0.952  # 1 / 1.05
MARGIN = 0.04
"""Robust accuracies no further apart count as the same; said before anything was measured."""


@dataclass(frozen=True)
class Size:
    """How much is done.

    Attributes:
        batch: Images a step.
        steps: Gradients of the attack.
        epochs: Of each short training.
        seeds: Short trainings of each kind.
        pilot_epochs: Of a training of forget_relearn with the pilot's net.
        larger_epochs: The same with the larger net.
        repetitions: Counted repetitions.
    """

    batch: int
    steps: int
    epochs: int
    seeds: int
    pilot_epochs: int
    larger_epochs: int
    repetitions: int


WHOLE = Size(
    batch=128, steps=10, epochs=20, seeds=3, pilot_epochs=150, larger_epochs=10, repetitions=3
)
QUICK = Size(batch=4, steps=2, epochs=1, seeds=1, pilot_epochs=11, larger_epochs=0, repetitions=1)


def rows(size: Size, checkout: str | None, *, threads: int) -> Iterator[Row]:
    """Yield the rows that are raced.

    Args:
        size: How much is done.
        checkout: The official code; None leaves the other column empty.
        threads: Of each process.
    """
    work, peer = _one_step(size, checkout)
    for precision, goal in (("bf16", 6.0), ("fp32", 1.7)):
        yield Row(
            f"adversarial.step_{precision}{'' if threads == 1 else f'_{threads}_threads'}",
            "steps/CPU-s",
            Job(OURS, "step", {**work, "precision": precision}),
            peer,
            precision,
            goal,
            f"PreActResNet-18 (11.17 M parameters), batch {size.batch}, PGD-{size.steps}, batch "
            f"norm with batch statistics, {threads} thread(s); ours with loading and augmentation; "
            "the official code also computes the gradients of all weights in each step of the "
            "attack, one forward pass more for restarts, and one on clean images for its log",
        )


def _one_step(size: Size, checkout: str | None) -> tuple[dict[str, int], Job | None]:
    """Return how large a step is, and the official code's."""
    work = {"batch_size": size.batch, "steps": size.steps}
    return work, Job(PEER, "step", {"checkout": checkout, **work}) if checkout else None


def bound_rows(size: Size, checkout: str | None) -> Iterator[Row]:
    """Yield the rows of the convolutions alone, which bound what any code can reach here.

    Args:
        size: How much is done.
        checkout: The official code; None leaves the other column empty.
    """
    work, peer = _one_step(size, checkout)
    for precision in ("bf16", "fp32"):
        yield Row(
            f"adversarial.bound_{precision}",
            "steps/CPU-s",
            Job(PRODUCTS, "step", {**work, "precision": precision}),
            peer,
            precision,
            None,
            f"the convolutions alone of such a step, {size.steps} times forwards and back to the "
            "pixels and once to all weights, 1 thread: no batch norm, no ReLU, no optimizer",
        )


def method_rows(size: Size) -> Iterator[Row]:
    """Yield the rows of what forget_relearn costs over plain adversarial training.

    Args:
        size: How much is done.
    """
    pilot = "convnet5 of width 16, 8 pixels, 150 images, PGD-7, fp32"
    larger = "PreActResNet-18 of width 16, 32 pixels, 256 images, PGD-10, bf16"
    for name, net, epochs, monitored, goal in (
        ("", larger, size.larger_epochs, False, FIVE_PERCENT_MORE),
        ("_pilot", pilot, size.pilot_epochs, False, FIVE_PERCENT_MORE),
        ("_pilot_monitored", pilot, size.pilot_epochs, True, None),
    ):
        options = {"larger": net is larger, "monitored": monitored, "epochs": epochs}
        seen = "with pictures and accuracies while training" if monitored else "nothing measured"
        if epochs:
            yield Row(
                f"adversarial.forget_relearn_overhead{name}",
                "trainings/CPU-s",
                Job(METHOD, "training", {**options, "name": "forget_relearn"}),
                Job(METHOD, "training", {**options, "name": "pgd_at"}),
                "bf16" if net is larger else "fp32",
                goal,
                f"a whole training over one of pgd_at with its moving average: {net}, {epochs} "
                f"epochs, relearning in {'half' if net is larger else 'not quite half'} of them, "
                f"{seen}; 0.95 is 5 percent more time",
                against="plain adversarial training",
            )


def judging_rows(size: Size) -> Iterator[Row]:
    """Yield the row of what folding the attacked net saves the judge.

    Args:
        size: How much is done.
    """
    for images in (256, 50):
        work = {"images": images, "steps": 2 * size.steps}
        yield Row(
            f"adversarial.judging_{images}_images",
            "images/CPU-s",
            Job(METHOD, "judging", {**work, "folded": True}),
            Job(METHOD, "judging", {**work, "folded": False}),
            "fp32",
            None,
            f"convnet5 of width 16, PGD-{2 * size.steps} on {images} images of 8 pixels, none of "
            "which is fooled: on the folded net over on the net as it is",
            against="the net as it is",
        )


def same_results(size: Size, checkout: str | None) -> Iterator[dict[str, object]]:
    """Yield the rows that compare robust accuracies after the same short training.

    Args:
        size: How much is done.
        checkout: The official code; None leaves its row out.
    """
    options = {"epochs": size.epochs, "seeds": size.seeds}
    ours = {
        precision: outcome(Job(OURS, "trained", {**options, "precision": precision}), threads=1)
        for precision in ("fp32", "bf16")
    }
    others = [("adversarial.same_result_bf16", "bf16", ours["fp32"], "ours in fp32")]
    if checkout:
        theirs = outcome(Job(PEER, "trained", {"checkout": checkout, **options}), threads=1)
        others.append(("adversarial.same_result_peer", "fp32", theirs, "official attack"))
    for name, precision, other, against in others:
        yield {
            "name": name,
            "ours": ours[precision],
            "peer": other,
            "margin": MARGIN,
            "within_margin": abs(ours[precision] - other) <= MARGIN,
            "unit": "robust accuracy",
            "precision": precision,
            "against": against,
            "conditions": f"mean of {size.seeds} seeds, PreActResNet-8 of width 16, 300 drawn "
            f"characters of 16 pixels, {size.epochs} epochs of PGD-7 at linf 0.15; judged in fp32 "
            "with PGD-20 on 500 others",
        }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", metavar="PATH", help="checkout of the official code")
    parser.add_argument("--quick", action="store_true", help="tiny batches: does everything work?")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, by commas")
    parser.add_argument("--rows", default="", help="only rows whose name holds this text")
    given = parser.parse_args(arguments)
    if given.peer and not (Path(given.peer) / "train_cifar.py").is_file():
        parser.error(
            f"--peer: {given.peer} is no checkout of robust_overfitting (no train_cifar.py)"
        )
    size = QUICK if given.quick else WHOLE
    machine, table = here(), []
    several = [int(threads) for threads in given.threads.split(",")]
    raced = [(row, n) for n in several for row in rows(size, given.peer, threads=n)]
    alone = [*bound_rows(size, given.peer), *method_rows(size), *judging_rows(size)]
    for row, threads in [*raced, *((row, 1) for row in alone)]:
        if given.rows in row.name:
            figures = measured(row, repetitions=size.repetitions, threads=threads)
            table.append({**figures, "threads": threads})
            print(row.name, figures["ours"], figures["peer"], figures["ratio"], file=sys.stderr)
    if given.rows in "adversarial.same_result":
        table += same_results(size, given.peer)
    result = {
        "name": "adversarial",
        "quick": given.quick,
        "repetitions": size.repetitions,
        **machine,
        "rows": table,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
