"""The road of the units: train what is not trained yet, and index the arms inside."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from relearn.execution import Outcome
    from relearn.pipelines.lora_ipc.units import TrainingJob

_log = logging.getLogger(__name__)


def train_all(jobs: Sequence[TrainingJob], folder: Path, describe: str) -> list[Outcome]:
    """Return what came of the trainings, run over processes; whole ones are not run again.

    Args:
        jobs: One a unit; at least one.
        folder: Where units lie.
        describe: Text of the progress bar.

    Returns:
        One outcome a job, in their order.
    """
    from relearn.execution import run_all
    from relearn.pipelines.lora_ipc.units import run_training_unit, training_unit

    units = [training_unit(job) for job in jobs]
    return run_all(run_training_unit, units, jobs[0].execution, folder=folder, describe=describe)


def index_of(jobs: Sequence[TrainingJob], outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """Return one row for each arm of each training.

    Args:
        jobs: As given to ``train_all``.
        outcomes: As it gave back.

    Returns:
        Columns arm, seed, training, path, digest (of the checkpoint file), reused.
    """
    import pandas as pd

    from relearn.arm_store import CHECKPOINT
    from relearn.pipelines.lora_ipc.units import training_of
    from relearn.provenance import digest_file

    kept = sum(outcome.reused for outcome in outcomes)
    _log.info(
        "lora_ipc: %d trainings: %d were there and are reused, %d were made",
        *(len(outcomes), kept, len(outcomes) - kept),
    )
    return pd.DataFrame(
        [
            {
                "arm": arm,
                "seed": job.seed,
                "training": job.training,
                "path": str(outcome.path / arm),
                "digest": digest_file(outcome.path / arm / CHECKPOINT),
                "reused": outcome.reused,
            }
            for job, outcome in zip(jobs, outcomes, strict=True)
            for arm in training_of(job).deliveries
        ]
    )
