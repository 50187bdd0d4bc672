"""Nodes of adding classes: find the checkpoint, read the images, extend, and accept or refuse."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.data.config import DataConfig
from relearn.errors import DataError, ParameterError, StaleInputError, one_of
from relearn.methods.zap.extend_config import FROM_BASE, AddClassesConfig
from relearn.provenance import Provenance, digest
from relearn.training.config import ExecutionConfig

if TYPE_CHECKING:
    from pandas import DataFrame

    from relearn.data.images import LabelledImages, Stream
    from relearn.models.checkpoint import Architecture, Checkpoint
else:
    DataFrame = LabelledImages = Stream = Architecture = Checkpoint = Any

_log = logging.getLogger(__name__)
_PIPELINE = "add_classes"


def read_new_classes(
    *, base: Checkpoint, units: DataFrame, add_classes: AddClassesConfig, data: DataConfig
) -> tuple[Checkpoint, LabelledImages]:
    """Return the checkpoint to extend, and the images of the new classes in its shape.

    Args:
        base: The base checkpoint.
        units: Index of the zap units: columns arm, seed, path.
        add_classes: Which checkpoint, and where the images lie.
        data: How images become square, and what is refused.

    Raises:
        ParameterError: No path was given, or no such unit exists.
        CheckpointError: The checkpoint is missing, damaged or names no classes.
        DataError: The images cannot be used, or a class exists already.
    """
    from relearn.methods.zap.extend_data import names_of, require_new_names

    start = _checkpoint(base, units, add_classes)
    names = names_of(start)
    images = _images(start.architecture, add_classes, data)
    require_new_names(names, images.class_names)
    for refused in images.refused:
        _log.warning("skipped %s: %s", refused.file, refused.reason)
    _log.info(
        "add_classes: %d new classes (%d images) for a checkpoint with %d",
        len(images.class_names),
        len(images.labels),
        len(names),
    )
    made = Provenance(
        "add_classes_images",
        _PIPELINE,
        config=_digest(add_classes, data),
        inputs={"add_classes_start": start.digest},
        content=images.digest,
    )
    return start, replace(images, provenance=made)


def extend_checkpoint(
    *,
    start: Checkpoint,
    images: LabelledImages,
    stream: Stream,
    add_classes: AddClassesConfig,
    data: DataConfig,
    execution: ExecutionConfig,
) -> tuple[Checkpoint, dict[str, Any], DataFrame, DataFrame]:
    """Return the extended checkpoint, its report, its records and its ledger.

    Args:
        start: The checkpoint to extend.
        images: Of the new classes.
        stream: Images of the old classes.
        add_classes: Knobs.
        data: Only to see that the images belong to the present parameters.
        execution: Device and precision.

    Raises:
        StaleInputError: Images, checkpoint and stream do not belong together.
        DataError: A class has too few images.
        TrainingError: The loss is not finite.
    """
    import pandas as pd

    from relearn.methods.zap import extend
    from relearn.tracking import arm_run, current_run
    from relearn.training.device import device_of

    _require_present(start, images, add_classes, data)
    old = extend.old_classes(start, stream)
    new = extend.divide_new_classes(
        images,
        old,
        support_share=add_classes.support_share,
        support_per_class=add_classes.support_per_class,
        seed=add_classes.seed,
    )
    device = device_of(execution, start.architecture)
    told = add_classes.model_dump(mode="json")
    arm = str(start.provenance.get("arm", FROM_BASE))
    with arm_run(
        current_run(), method=_PIPELINE, arm=arm, seed=add_classes.seed, config=told
    ) as run:
        result = extend.extend_classes(start, new, old, add_classes, device=device, log=run.log)
    report = result.report | {"findings": _findings(result.report, start, stream)}
    for finding in report["findings"]:
        _log.warning("add_classes: %s", finding)
    ledger = [
        {**row.as_row(), "details": json.dumps(dict(row.details))} for row in result.interventions
    ]
    records = [row.as_row() for row in result.records]
    return result.checkpoint, report, pd.DataFrame(records), pd.DataFrame(ledger)


def accept_checkpoint(candidate: Checkpoint, report: dict[str, Any]) -> Checkpoint:
    """Return the extended checkpoint if it forgot no more than allowed.

    Args:
        candidate: The extended checkpoint.
        report: What was measured on it.

    Raises:
        TrainingError: It forgot more; the report stays, the accepted checkpoint is not written.
        StaleInputError: The report is about another checkpoint.
    """
    from relearn.methods.zap.extend import require_accepted

    if report["result"] != candidate.digest:
        raise StaleInputError(
            "add_classes_report: it is about another checkpoint than add_classes_candidate; "
            "run `kedro run --pipeline add_classes` again"
        )
    require_accepted(report)
    _log.info(
        "add_classes: accepted; %.1f %% on the new classes, %.1f points lost on the old",
        100 * report["new_accuracy"],
        100 * report["regression"],
    )
    return candidate


def _checkpoint(base: Checkpoint, units: DataFrame, add_classes: AddClassesConfig) -> Checkpoint:
    """Return the checkpoint that the parameters name."""
    from relearn.arm_store import CHECKPOINT
    from relearn.models.checkpoint import load_checkpoint

    if add_classes.checkpoint == FROM_BASE:
        return base
    if add_classes.checkpoint:
        return load_checkpoint(Path(add_classes.checkpoint).expanduser())
    if units.empty:
        raise ParameterError(
            "add_classes.checkpoint: is empty and there are no zap units; run "
            "`kedro run --pipeline zap` first, or give a checkpoint file or `base`"
        )
    arms = sorted(set(units["arm"].astype(str)))
    if add_classes.arm not in arms:
        raise one_of("add_classes.arm", add_classes.arm, arms)
    rows = units[units["arm"] == add_classes.arm]
    found = rows[rows["seed"].astype(int) == add_classes.seed]
    if found.empty:
        seeds = ", ".join(str(seed) for seed in sorted(rows["seed"]))
        raise ParameterError(
            f"add_classes.seed: there is no unit {add_classes.arm} with seed {add_classes.seed}; "
            f"seeds there: {seeds}"
        )
    return load_checkpoint(Path(str(found["path"].iloc[-1])) / CHECKPOINT)


def _images(
    architecture: Architecture, add_classes: AddClassesConfig, data: DataConfig
) -> LabelledImages:
    """Read the new images in the shape of the net; one class is enough."""
    from relearn.data.archive import ReadLimits
    from relearn.data.decode import ImageShape
    from relearn.data.image_folder import read_image_folder

    if not add_classes.source_path:
        raise ParameterError(
            "add_classes.source_path: is empty, expected a folder or zip with a folder for each "
            "new class; add --params add_classes.source_path=<folder or zip>"
        )
    channels: Any = architecture.in_channels
    try:
        images, _ = read_image_folder(
            Path(add_classes.source_path).expanduser(),
            shape=ImageShape(size=architecture.image_size, channels=channels, fit=data.image.fit),
            limits=ReadLimits(**data.limits.model_dump()),
            least_classes=1,
        )
    except DataError as error:
        # the reader names the parameter by which it is usually told where to read
        line = str(error).replace("data.source_path", "add_classes.source_path")
        raise DataError(line) from error
    return images


def _require_present(
    start: Checkpoint, images: LabelledImages, add_classes: AddClassesConfig, data: DataConfig
) -> None:
    made = images.provenance or Provenance("add_classes_images", _PIPELINE, config="")
    made.require(config=_digest(add_classes, data), inputs={"add_classes_start": start.digest})


def _digest(add_classes: AddClassesConfig, data: DataConfig) -> str:
    """Return the digest of what decides the images."""
    kept = add_classes.model_dump(include={"source_path", "checkpoint", "arm", "seed"})
    limits = data.limits.model_dump(exclude={"decode_workers"})
    return digest({**kept, "fit": data.image.fit, "limits": limits})


def _findings(report: dict[str, Any], start: Checkpoint, stream: Stream) -> list[str]:
    """Return one sentence for each thing a reader must know before believing the report."""
    found = []
    unchecked = report["unchecked_classes"]
    if unchecked:
        found.append(
            f"{len(unchecked)} old classes have no images in the stream, so they were neither "
            f"replayed nor checked: {', '.join(unchecked[:5])}."
        )
    if start.provenance.get("stream") != stream.digest:
        found.append(
            "The checkpoint was trained on another division of the data than the present stream: "
            "held-out images may be images it was trained on."
        )
    if report["regression_interval"][1] > report["largest_regression"] and report["accepted"]:
        found.append(
            f"With {report['old_images']} held-out images the loss may be as large as "
            f"{100 * report['regression_interval'][1]:.1f} points, more than is allowed."
        )
    if report["dropped_images"]:
        found.append(f"{report['dropped_images']} images were left out as copies of others.")
    return found
