"""The road of the units, and the table of what came of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from relearn.pipelines.last_layer_probe.units import Job

_log = logging.getLogger(__name__)


def run_arms(jobs: Sequence[Job], selection: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Run every arm with every seed and return the index of the units.

    Args:
        jobs: One a seed.
        selection: Settings chosen for the trained arms.
        folder: Where the units lie.

    Returns:
        Columns arm, seed, path, digest (of the checkpoint file), reused.
    """
    import pandas as pd

    from relearn.arm_store import CHECKPOINT
    from relearn.methods.last_layer_probe.arms import arms_of
    from relearn.pipelines.last_layer_probe.tuning import run_units, settled
    from relearn.provenance import digest_file

    arms = arms_of(jobs[0].config)
    every = [settled(replace(job, arm=arm), selection) for job in jobs for arm in arms]
    outcomes = run_units(every, folder, "last_layer_probe: arms")
    kept = sum(outcome.reused for outcome in outcomes)
    made = len(outcomes) - kept
    _log.info("last_layer_probe: %d units were there and are reused, %d were made", kept, made)
    return pd.DataFrame(
        [
            {
                "arm": job.arm,
                "seed": job.seed,
                "path": str(outcome.path),
                "digest": digest_file(Path(outcome.path) / CHECKPOINT),
                "reused": outcome.reused,
            }
            for job, outcome in zip(every, outcomes, strict=True)
        ]
    )
