"""What became of an arm: its curve read, and its net judged on the test images, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from relearn.evaluation.calibration import (
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
)
from relearn.evaluation.classification import accuracy_of, class_accuracy, predict
from relearn.methods.grow.arms import FRESH, GROWN
from relearn.methods.grow.reach import area_under, dip_of, steps_to
from relearn.methods.grow.siblings import sibling_cosine
from relearn.methods.grow.teacher import score
from relearn.models.checkpoint import build

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from relearn.data.images import Split
    from relearn.methods.grow.pair import Pair
    from relearn.methods.grow.student_run import StudentRun
    from relearn.models.checkpoint import Architecture


def judge(run: StudentRun, pair: Pair) -> Mapping[str, Tensor]:
    """Write every measure of a finished arm and return its predictions.

    Args:
        run: The arm; its recorder takes the measures.
        pair: Images, teacher and growth.

    Returns:
        index, label, predicted and teacher (what the teacher predicts): int64, shape (test,).
    """
    read_curve(run)
    add = run.recorder.add
    final = score(run.net, pair.samples.validation, run.architecture)
    add("validation", run.steps, {"accuracy": final[0], "loss": final[1]})
    if run.arm.start == GROWN:
        _judge_growth(run, pair)
    return _judge_test(run, pair)


def read_curve(run: StudentRun) -> None:
    """Write what the arm's curve tells: the start, the dip, the target, the area.

    Args:
        run: The arm.
    """
    rows = {
        metric: [(r.step, r.value) for r in run.recorder.records if r.metric == metric]
        for metric in ("validation_accuracy", "validation_loss")
    }
    steps, accuracy = (list(part) for part in zip(*rows["validation_accuracy"], strict=True))
    level = float(run.teacher.told["validation_accuracy"])
    start = {
        "accuracy": accuracy[0],
        "loss": rows["validation_loss"][0][1],
        "teacher_accuracy": level,
        "teacher_loss": float(run.teacher.told["validation_loss"]),
        "drift": accuracy[0] - level,
    }
    run.recorder.add("start", 0, start)
    _judge_target(run, steps, accuracy, level=level)
    _judge_area(run, steps, accuracy)
    if run.arm.start != FRESH:
        _judge_dip(run, steps, accuracy, level=level)


def _judge_target(
    run: StudentRun, steps: Sequence[int], accuracy: Sequence[float], *, level: float
) -> None:
    target = min(1.0, level + delta_of(run))
    often = run.config.evaluation
    reach = steps_to(steps, accuracy, target=target, sustained=often.sustained)
    told = {
        "target": target,
        "reached": float(reach.reached),
        "steps": float(reach.steps),
        "flops": reach.steps * run.flops_per_step,
    }
    run.recorder.add("reach_teacher", run.steps, told)


def _judge_area(run: StudentRun, steps: Sequence[int], accuracy: Sequence[float]) -> None:
    """Write the area over the student's steps and over its FLOPs, in which all arms compare."""
    whole = run.student_steps
    flops = [step * run.flops_per_step for step in steps]
    budget = whole * run.student_flops_per_step
    told = {
        "validation_area": area_under(steps, accuracy, until=whole),
        "validation_flops_area": area_under(flops, accuracy, until=budget),
    }
    run.recorder.add("area", run.steps, told)


def _judge_dip(
    run: StudentRun, steps: Sequence[int], accuracy: Sequence[float], *, level: float
) -> None:
    often = run.config.evaluation
    dip = dip_of(
        steps,
        accuracy,
        level=level,
        tolerance=often.recovered_within,
        sustained=often.sustained,
    )
    told = {
        "depth": dip.depth,
        "at_step": float(dip.step),
        "recovered": float(dip.recovered),
        "recovery_steps": float(dip.steps),
    }
    run.recorder.add("dip", run.steps, told)


def delta_of(run: StudentRun) -> float:
    """Return the rise above the teacher's accuracy that counts: as set, or twice its error.

    The error is that of a share p of n images, sqrt(p (1 - p) / n).

    Args:
        run: The arm.
    """
    set_to = run.config.evaluation.delta
    share, images = float(run.teacher.told["validation_accuracy"]), len(run.samples.validation)
    return set_to or 2 * (share * (1 - share) / images) ** 0.5


def _judge_growth(run: StudentRun, pair: Pair) -> None:
    """Write the gate's findings, whether copies parted, and whether the net was given up."""
    report, add = pair.grown.report, run.recorder.add
    found = {
        "relative_float64": report.relative_float64,
        "rounding_ratio": report.rounding_ratio,
        "relative_float32": report.relative_float32,
        "agreement": report.agreement,
    }
    if report.train_drift is not None:
        found["train_drift"] = report.train_drift
    add("gate", 0, found)
    add("abort", run.steps, {"aborted": float(run.returned_at >= 0)})
    if run.returned_at < 0:
        for name, value in sibling_cosine(run.net, pair.grown.record).items():
            add("unit_usage", run.steps, {name: value})


def _judge_test(run: StudentRun, pair: Pair) -> Mapping[str, Tensor]:
    test, add, step = pair.samples.test, run.recorder.add, run.steps
    logits = _logits(run.net, test, run.architecture)
    before = run.teacher.checkpoint
    told = _logits(run.device.place(build(before)), test, before.architecture)
    accuracy = accuracy_of(logits, test.labels)
    loss = negative_log_likelihood(logits, test.labels)
    add("test", step, {"accuracy": accuracy, "loss": loss})
    trained = score(run.net, pair.samples.train, run.architecture)[0]
    add("train", step, {"accuracy": trained, "generalisation_gap": trained - accuracy})
    bins = run.config.evaluation.calibration_bins
    add(
        "calibration",
        step,
        {
            "ece": expected_calibration_error(logits, test.labels, bins=bins),
            "nll": loss,
            "brier": brier_score(logits, test.labels),
        },
    )
    add("regression", step, flips(logits, told, test.labels, classes=pair.samples.classes))
    return {
        "index": torch.arange(len(test)),
        "label": test.labels,
        "predicted": logits.argmax(1),
        "teacher": told.argmax(1),
    }


def flips(after: Tensor, before: Tensor, labels: Tensor, *, classes: int) -> dict[str, float]:
    """Return how often a net is right where another was wrong, and the other way round.

    Args:
        after: Logits of the net, shape (n, classes).
        before: Logits of the net it replaces, shape (n, classes).
        labels: int64, shape (n,).
        classes: Number of classes.

    Returns:
        Shares of all images: negative_flips_share (right before, wrong now), positive_flips_share,
        agreement_share (same prediction); and worst_class_fall, the largest fall of the accuracy
        of one class, 0 or more.
    """
    now, was = after.argmax(1) == labels, before.argmax(1) == labels
    fall = class_accuracy(before, labels, classes) - class_accuracy(after, labels, classes)
    return {
        "negative_flips_share": float((was & ~now).double().mean()),
        "positive_flips_share": float((now & ~was).double().mean()),
        "agreement_share": float((after.argmax(1) == before.argmax(1)).double().mean()),
        "worst_class_fall": max(0.0, float(fall.nan_to_num(0.0).max())),
    }


def _logits(net: nn.Module, split: Split, architecture: Architecture) -> Tensor:
    return predict(net, split.images, mean=architecture.mean, std=architecture.std).cpu()
