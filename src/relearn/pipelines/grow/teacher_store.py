"""A finished teacher on disk: its checkpoint, and its optimizer's moments beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from relearn.errors import CheckpointError

if TYPE_CHECKING:
    from relearn.methods.grow.teacher import Teacher

CHECKPOINT, BESIDE = "checkpoint.safetensors", "teacher.safetensors"


def save_teacher(teacher: Teacher, folder: Path) -> Path:
    """Write a teacher and return the path of its checkpoint.

    Args:
        teacher: At rest.
        folder: The unit's own folder.

    Raises:
        OSError: The folder cannot be written, or the disk is full.
    """
    from relearn.models.checkpoint import save_checkpoint
    from relearn.training.resume import ResumePoint

    save_checkpoint(teacher.checkpoint, folder / CHECKPOINT)
    ResumePoint(folder / BESIDE, key=teacher.checkpoint.digest).save(teacher.plain())
    return folder / CHECKPOINT


def load_teacher(folder: Path) -> Teacher:
    """Return the teacher that ``save_teacher`` has written.

    Args:
        folder: The unit's own folder.

    Raises:
        CheckpointError: A file is missing or damaged, or the two do not belong together.
    """
    from relearn.methods.grow.teacher import Teacher
    from relearn.models.checkpoint import load_checkpoint
    from relearn.training.resume import ResumePoint

    checkpoint = load_checkpoint(folder / CHECKPOINT)
    found = ResumePoint(folder / BESIDE, key=checkpoint.digest).load()
    if found is None:
        raise CheckpointError(
            f"{folder / BESIDE}: is missing, damaged or of another teacher; delete the folder and "
            "run `kedro run --pipeline grow` again (same --env and --params)"
        )
    return Teacher(checkpoint, found["optimizer"], found["told"])
