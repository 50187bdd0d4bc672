"""Choosing schedule and rate, with the same budget for every training, on validation images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from relearn.execution import Outcome
    from relearn.pipelines.forget_relearn.units import TrainingJob

TUNING_SEEDS = 10_000
"""Offset of the seeds that choose, from those that are reported."""

_COLUMNS = (
    "training",
    "schedule",
    "rate_factor",
    "score",
    "seeds",
    "seconds",
    "at_border",
    "chosen",
)


def tune(first: TrainingJob, folder: Path) -> pd.DataFrame:
    """Return all candidates of all trainings with their scores on validation images.

    Args:
        first: A job whose base, stream, knobs and execution serve all candidates.
        folder: Where the units lie.

    Returns:
        One row a candidate, columns as in ``nodes.choose_settings``.
    """
    import pandas as pd

    from relearn.methods.forget_relearn.arms import trainings_of
    from relearn.training.choice import best_lines, search_rates

    config = first.config
    names = list(trainings_of(config))
    if not config.tuning.enabled:
        kept = [(name, config.train.schedule, 1.0, None, 0, 0.0, False, True) for name in names]
        return pd.DataFrame(kept, columns=list(_COLUMNS))
    lines = [(name, schedule) for name in names for schedule in config.tuning.schedules.names]
    found = search_rates(lines, partial(_scores, first, folder), config.tuning.rate)
    best = best_lines(found)
    rows = [
        (*line, rate, score, config.tuning.seeds, *rest)
        for line, searched in found.items()
        for rate, score, *rest in searched.rows(is_best=line in best)
    ]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _scores(
    first: TrainingJob, folder: Path, points: Sequence[tuple[tuple[str, str], float]]
) -> list[list[tuple[float, float]]]:
    from relearn.execution import scores_of
    from relearn.pipelines.forget_relearn.units import candidate

    start, seeds = first.seed + TUNING_SEEDS, first.config.tuning.seeds
    jobs = [
        candidate(replace(first, training=name, seed=start + k), schedule=schedule, factor=rate)
        for (name, schedule), rate in points
        for k in range(seeds)
    ]
    outcomes = train_all(jobs, folder, "forget_relearn: settings")
    return scores_of(outcomes, each=seeds, seconds=lambda spent: spent["total_seconds"])


def settled(first: TrainingJob, selection: pd.DataFrame, name: str, seed: int) -> TrainingJob:
    """Return the job of one training and seed with the settings chosen for the training.

    Args:
        first: A job whose base, stream, knobs and execution serve all.
        selection: As from ``tune``.
        name: Name of the training.
        seed: Seed of the pair.

    Raises:
        StaleInputError: The table of settings does not know the training.
    """
    from relearn.execution import chosen_row
    from relearn.methods.forget_relearn.train import with_settings

    row = chosen_row(selection, pipeline="forget_relearn", column="training", name=name)
    config = with_settings(
        first.config,
        schedule=str(row["schedule"]),
        rate_factor=float(row["rate_factor"]),
    )
    return replace(first, config=config, training=name, seed=seed)


def train_all(jobs: Sequence[TrainingJob], folder: Path, describe: str) -> list[Outcome]:
    """Run the trainings that are not whole yet, over processes, and return all outcomes.

    Args:
        jobs: One a unit; at least one.
        folder: Where units lie.
        describe: Text of the progress bar.
    """
    from relearn.execution import run_all
    from relearn.pipelines.forget_relearn.units import run_training, training_unit

    units = [training_unit(job) for job in jobs]
    return run_all(run_training, units, jobs[0].execution, folder=folder, describe=describe)
