"""Adding classes to a trained net: more rows, a short training, and what it did to the old classes.

A zapped net is meant to learn new classes quickly; this is how it is given them for good. The old
rows keep every bit when the head grows, the old numbering never changes, and what the training
takes from the old classes is measured on images that were never trained on. Not in the paper,
which replaces the head for every transfer.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relearn.errors import TrainingError
from relearn.evaluation.classification import predict
from relearn.evaluation.records import Intervention, Log, Record, Recorder, no_log
from relearn.methods.zap.extend_data import (
    NewClasses,
    OldClasses,
    divide_new_classes,
    names_of,
    old_classes,
    require_new_names,
    require_shape,
)
from relearn.methods.zap.extend_learn import Learner
from relearn.methods.zap.extend_report import Before, Outcome, report_of
from relearn.methods.zap.extend_rows import (
    Rows,
    add_rows,
    ledger_row,
    solve_rows,
    verify_extension,
)
from relearn.models.checkpoint import Checkpoint, build, capture
from relearn.provenance import digest, digest_tensors
from relearn.training.device import PLAIN_CPU, Device

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relearn.methods.zap.extend_config import AddClassesConfig
    from relearn.models.checkpoint import Architecture
    from relearn.models.heads import Head


@dataclass(frozen=True)
class ExtendResult:
    """What adding classes gives back.

    Attributes:
        checkpoint: The extended net, accepted or not.
        report: JSON: accuracies, regression, worst classes, confusions, ledger.
        records: The same numbers as rows.
        interventions: One row: the extension of the head.
    """

    checkpoint: Checkpoint
    report: dict[str, Any]
    records: list[Record]
    interventions: list[Intervention]

    @property
    def accepted(self) -> bool:
        """Whether the old classes lost no more than was allowed."""
        return bool(self.report["accepted"])


def extend_classes(
    start: Checkpoint,
    new: NewClasses,
    old: OldClasses,
    config: AddClassesConfig,
    *,
    device: Device = PLAIN_CPU,
    log: Log = no_log,
) -> ExtendResult:
    """Return the checkpoint with outputs for new classes, trained, and what that did to the old.

    The net stays in evaluation mode while it trains (batch-norm statistics are those of
    pre-training), so that with ``train: new_rows`` the old logits stay as they were.

    Args:
        start: The net to extend; it keeps every bit.
        new: From ``divide_new_classes``.
        old: From ``old_classes``.
        config: Knobs; paths are not read here.
        device: Where to train.
        log: Live curves.

    Raises:
        DataError: A name exists already, or the images have another shape.
        HeadNotFoundError: The net has no plain last layer.
        TrainingError: The loss is not finite.
    """
    names = names_of(start)
    require_new_names(names, new.names)
    architecture = start.architecture
    size = architecture.image_size
    require_shape(new.support.images, channels=architecture.in_channels, size=size)
    began = time.perf_counter()
    rows = Rows(len(names), len(new.names))
    model = device.place(build(start))
    judge = _Judge(architecture, rows, new, old)
    before = judge.old_logits(model)[:, : rows.first]
    head, entry = _grow(model, start, new, old, config=config, rows=rows)
    at_extension = judge.outcome(model)
    learner = Learner(model, head, rows, config=config, log=log)
    steps = learner.learn(new.support, old.train, architecture=architecture, device=device)
    after = judge.outcome(model)
    told = _provenance(start, entry, new, steps=steps, config=config)
    made = capture(model, architecture.with_classes(head.classes), told)
    report = report_of(
        Before(before, at_extension), after, names=names + new.names, new=new, old=old
    )
    report |= {
        "accepted": report["regression"] <= config.largest_regression,
        "largest_regression": config.largest_regression,
        "steps": steps,
        "seconds": round(time.perf_counter() - began, 3),
        "start": start.digest,
        "result": made.digest,
        "ledger": {"rows": 1, "verified": int(verify_extension(entry, start))},
        "settings": config.model_dump(mode="json"),
    }
    records = _records(report, entry, steps)
    log(steps, {row.metric: row.value for row in records if row.step == steps})
    return ExtendResult(made, report, records, [entry])


def require_accepted(report: Mapping[str, Any]) -> None:
    """Check that the extended net forgot no more than allowed and that its ledger verifies.

    Args:
        report: From ``extend_classes``.

    Raises:
        TrainingError: It forgot more, or the ledger's row does not verify.
    """
    if report["ledger"]["verified"] != report["ledger"]["rows"]:
        raise TrainingError(
            "add_classes: the ledger's row of the extension does not verify, so the checkpoint is "
            "not accepted; run the pipeline again"
        )
    if report["accepted"]:
        return
    settings = report["settings"]
    lost, allowed = report["regression"], report["largest_regression"]
    held = settings["train"] == "new_rows"
    remedy = "lower add_classes.epochs" if held else "set add_classes.train: new_rows"
    raise TrainingError(
        f"add_classes.largest_regression: accuracy on the old classes fell from "
        f"{report['old_accuracy_before']:.1%} to {report['old_accuracy_after']:.1%} "
        f"({100 * lost:.1f} points, allowed are {100 * allowed:.1f}), so the checkpoint is not "
        f"accepted; raise add_classes.replay_share (now {settings['replay_share']:g}), {remedy}, "
        "lower add_classes.learning_rate, or allow more"
    )


def _grow(
    model: nn.Module,
    start: Checkpoint,
    new: NewClasses,
    old: OldClasses,
    *,
    config: AddClassesConfig,
    rows: Rows,
) -> tuple[Head, Intervention]:
    """Extend the head and return it with the ledger's row."""
    name = str(start.provenance.get("head", ""))
    solved = None
    if config.initialisation == "ridge":
        solved = solve_rows(
            model,
            new.support,
            old.train,
            rows=rows,
            penalty=config.ridge_penalty,
            architecture=start.architecture,
            seed=config.seed,
            name=name,
        )
    head, told = add_rows(
        model,
        rows,
        initialisation=config.initialisation,
        seed=config.seed,
        solved=solved,
        name=name,
    )
    entry = ledger_row(
        told,
        rows,
        initialisation=config.initialisation,
        arm=str(start.provenance.get("arm", "base")),
        seed=config.seed,
        step=int(start.provenance.get("steps", 0)),
    )
    return head, entry


class _Judge:
    """Measures on the images that are never trained on."""

    def __init__(
        self, architecture: Architecture, rows: Rows, new: NewClasses, old: OldClasses
    ) -> None:
        self.architecture, self.rows, self.new, self.old = architecture, rows, new, old

    def _logits(self, model: nn.Module, images: Tensor) -> Tensor:
        shape = self.architecture
        return predict(model, images, mean=shape.mean, std=shape.std).cpu()

    def old_logits(self, model: nn.Module) -> Tensor:
        """Return the logits of the held-out images of old classes, shape (n, outputs)."""
        return self._logits(model, self.old.held_out.images)

    def outcome(self, model: nn.Module) -> Outcome:
        """Return what the net takes the held-out images for, among old and new classes."""
        total = self.rows.total
        on_new = self._logits(model, self.new.query.images)[:, :total]
        return Outcome(
            old=self.old_logits(model)[:, :total].argmax(1),
            new=on_new.argmax(1),
            first=self.rows.first,
        )


def _provenance(
    start: Checkpoint,
    entry: Intervention,
    new: NewClasses,
    *,
    steps: int,
    config: AddClassesConfig,
) -> dict[str, Any]:
    """Return the parent's provenance with what is new; the order of old names never changes."""
    parent = dict(start.provenance)
    names = [*names_of(start), *new.names]
    numbers = list(parent.get("class_numbers", ()))
    return parent | {
        "parent": start.digest,
        "add_classes": digest(config),
        "new_images": digest_tensors({"support": new.support.images, "query": new.query.images}),
        "class_names": names,
        # the source of the stream has no number for a class from elsewhere
        "class_numbers": numbers + [-1] * (len(names) - len(numbers)),
        "steps": int(parent.get("steps", 0)) + steps,
        "steps_since_intervention": steps,
        "interventions": int(parent.get("interventions", 0)) + 1,
        "head": entry.target.removesuffix(".weight"),
    }


def _records(report: Mapping[str, Any], entry: Intervention, steps: int) -> list[Record]:
    recorder = Recorder("zap", entry.arm, entry.seed)
    first = ("old_accuracy_before", "old_accuracy_at_extension", "new_accuracy_at_extension")
    last = ("old_accuracy_after", "new_accuracy", "regression", "largest_class_drop")
    recorder.add("add_classes", 0, {name: report[name] for name in first})
    recorder.add("add_classes", steps, {name: report[name] for name in last})
    return recorder.records


__all__ = [
    "ExtendResult",
    "NewClasses",
    "OldClasses",
    "divide_new_classes",
    "extend_classes",
    "old_classes",
    "require_accepted",
    "require_new_names",
    "verify_extension",
]
