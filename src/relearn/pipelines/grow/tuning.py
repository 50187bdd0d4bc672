"""Choosing each arm's learning rate on validation images, with the same budget for every arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from relearn.execution import Outcome
    from relearn.methods.grow.config import GrowConfig
    from relearn.pipelines.grow.units import ArmJob

TUNING_SEEDS = 10_000
"""Offset of the seeds that choose, from those that are reported."""

_COLUMNS = ("arm", "rate_factor", "score", "seeds", "seconds", "at_border", "chosen")


def tune(firsts: Mapping[int, ArmJob], folder: Path) -> pd.DataFrame:
    """Return all candidates of all arms with their scores on validation images.

    Args:
        firsts: Seed of the choice to a job whose teacher, stream and knobs serve all candidates.
        folder: Where the units lie.

    Returns:
        One row a candidate, columns as in ``nodes.choose_settings``.
    """
    import pandas as pd

    from relearn.methods.grow.arms import arms_of
    from relearn.training.choice import search_rates

    config = next(iter(firsts.values())).config
    found = search_rates(arms_of(config), partial(_scores, firsts, folder), config.tuning.rate)
    rows = [
        (arm, rate, score, len(firsts), *rest)
        for arm, line in found.items()
        for rate, score, *rest in line.rows()
    ]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _scores(
    firsts: Mapping[int, ArmJob], folder: Path, points: Sequence[tuple[str, float]]
) -> list[list[tuple[float, float]]]:
    from relearn.execution import scores_of
    from relearn.pipelines.grow.units import candidate

    jobs = [
        candidate(replace(first, arm=arm, seed=seed), factor=rate)
        for arm, rate in points
        for seed, first in firsts.items()
    ]
    outcomes = train_all(jobs, folder, "grow: settings")
    return scores_of(outcomes, each=len(firsts), seconds=lambda spent: spent["train"])


def untuned(config: GrowConfig) -> pd.DataFrame:
    """Return the table in which every arm keeps the rate it has, columns as from ``tune``.

    Args:
        config: Knobs of the method.
    """
    import pandas as pd

    from relearn.methods.grow.arms import arms_of

    rows = [(arm, 1.0, None, 0, 0.0, False, True) for arm in arms_of(config)]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def settled(first: ArmJob, selection: pd.DataFrame, arm: str) -> ArmJob:
    """Return the job of one arm with the rate chosen for it.

    Args:
        first: A job of the same seed.
        selection: As from ``tune``.
        arm: Name of the arm.

    Raises:
        StaleInputError: The table of settings does not know the arm.
    """
    from relearn.execution import chosen_row
    from relearn.methods.grow.train import with_rate

    row = chosen_row(selection, pipeline="grow", column="arm", name=arm)
    factor = float(row["rate_factor"])
    return replace(first, config=with_rate(first.config, arm=arm, factor=factor), arm=arm)


def train_all(jobs: Sequence[ArmJob], folder: Path, describe: str) -> list[Outcome]:
    """Return what came of the arms, run over processes; whole ones are not run again.

    Args:
        jobs: One a unit; at least one.
        folder: Where units lie.
        describe: Text of the progress bar.

    Returns:
        One outcome a job, in their order.
    """
    from relearn.execution import run_all
    from relearn.pipelines.grow.units import arm_unit, run_arm_unit

    units = [arm_unit(job) for job in jobs]
    return run_all(run_arm_unit, units, jobs[0].execution, folder=folder, describe=describe)
