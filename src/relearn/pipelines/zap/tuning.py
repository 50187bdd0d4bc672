"""Choosing pre-training settings, with the same budget for every arm, and training many units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from relearn.execution import Outcome
    from relearn.methods.zap.config import ZapConfig
    from relearn.pipelines.zap.units import Job

_COLUMNS = (
    "arm",
    "rate_factor",
    "shift_pixels",
    "score",
    "seeds",
    "seconds",
    "at_border",
    "chosen",
)


def tune(first: Job, folder: Path) -> pd.DataFrame:
    """Return all candidates of all arms with their scores on the selection classes.

    Args:
        first: A job whose base, stream, knobs and execution serve all candidates.
        folder: Where the units lie.

    Returns:
        One row a candidate, columns as in ``nodes.choose_settings``.
    """
    import pandas as pd

    from relearn.methods.zap.arms import arms_of
    from relearn.training.choice import best_lines, search_rates

    config = first.config
    arms = list(arms_of(config))
    if not config.tuning.enabled:
        kept = [(arm, 1.0, config.train.shift_pixels, None, 0, 0.0, False, True) for arm in arms]
        return pd.DataFrame(kept, columns=list(_COLUMNS))
    lines = [(arm, shift) for arm in arms for shift in _shifts(config)]
    found = search_rates(lines, partial(_scores, first, folder), config.tuning.rate)
    best = best_lines(found)
    rows = [
        (arm, rate, shift, score, config.tuning.seeds, *rest)
        for (arm, shift), line in found.items()
        for rate, score, *rest in line.rows(is_best=(arm, shift) in best)
    ]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _shifts(config: ZapConfig) -> list[int]:
    """Return the shifts that are tried: none, the usual one and that of the tuning."""
    tried = {config.train.shift_pixels, config.tuning.shift_pixels}
    return sorted({0, *tried}) if config.tuning.shift_pixels else sorted(tried)[:1]


def _scores(
    first: Job, folder: Path, points: Sequence[tuple[tuple[str, int], float]]
) -> list[list[tuple[float, float]]]:
    from relearn.execution import scores_of
    from relearn.pipelines.zap.nodes import TUNING_SEEDS
    from relearn.pipelines.zap.units import candidate

    start, seeds = first.seed + TUNING_SEEDS, first.config.tuning.seeds
    jobs = [
        candidate(replace(first, arm=arm, seed=start + k), factor=rate, shift=shift)
        for (arm, shift), rate in points
        for k in range(seeds)
    ]
    outcomes = train_all(jobs, folder, "zap: settings")
    return scores_of(outcomes, each=seeds, seconds=lambda spent: spent["total_pretraining"])


def settled(first: Job, selection: pd.DataFrame, arm: str, seed: int) -> Job:
    """Return the job of one arm and seed with the settings chosen for the arm.

    Args:
        first: A job whose base, stream, knobs and execution serve all.
        selection: As from ``tune``.
        arm: Name of the arm.
        seed: Seed of the pair.

    Raises:
        StaleInputError: The table of settings does not know the arm.
    """
    from relearn.execution import chosen_row
    from relearn.methods.zap.train import with_settings

    row = chosen_row(selection, pipeline="zap", column="arm", name=arm)
    config = with_settings(
        first.config,
        rate_factor=float(row["rate_factor"]),
        shift_pixels=int(row["shift_pixels"]),
    )
    return replace(first, config=config, arm=arm, seed=seed)


def train_units(jobs: Sequence[Job], folder: Path, *, describe: str) -> pd.DataFrame:
    """Run the jobs over processes and return their index.

    Args:
        jobs: One a unit.
        folder: Where units lie.
        describe: Text of the progress bar.

    Returns:
        Columns arm, seed, path, digest (of the checkpoint file), reused.
    """
    import pandas as pd

    from relearn.arm_store import CHECKPOINT
    from relearn.provenance import digest_file

    rows = [
        {
            "arm": job.arm,
            "seed": job.seed,
            "path": str(outcome.path),
            "digest": digest_file(Path(outcome.path) / CHECKPOINT),
            "reused": outcome.reused,
        }
        for job, outcome in zip(jobs, train_all(jobs, folder, describe), strict=True)
    ]
    return pd.DataFrame(rows)


def train_all(jobs: Sequence[Job], folder: Path, describe: str) -> list[Outcome]:
    """Return what came of the jobs, run over processes; whole ones are not run again.

    Args:
        jobs: One a unit; at least one.
        folder: Where units lie.
        describe: Text of the progress bar.
    """
    from relearn.execution import run_all
    from relearn.pipelines.zap.units import run_unit, unit_of

    units = [unit_of(job) for job in jobs]
    return run_all(run_unit, units, jobs[0].execution, folder=folder, describe=describe)
