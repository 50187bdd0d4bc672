"""Choosing rate and length of the trained arms, on validation images of other seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from relearn.execution import Outcome
    from relearn.pipelines.last_layer_probe.units import Job

TUNING_SEEDS = 10_000
"""Offset of the seeds that choose, from those that are reported."""

_COLUMNS = (
    *("arm", "epochs_factor", "rate_factor", "score", "seeds", "seconds"),
    *("at_border", "chosen"),
)


def tuned_arms(job: Job) -> list[str]:
    """Return the arms whose settings are chosen.

    Args:
        job: Any job.
    """
    from relearn.methods.last_layer_probe.arms import TRAINED, arms_of

    arms = arms_of(job.config).values()
    return [arm.name for arm in arms if arm.kind in TRAINED and arm.condition == "plain"]


def tune(jobs: Sequence[Job], folder: Path) -> pd.DataFrame:
    """Return all candidates of all trained arms with their scores on validation images.

    Args:
        jobs: One a seed of the choice.
        folder: Where the units lie.

    Returns:
        One row a candidate, columns as in ``nodes.choose_settings``.
    """
    import pandas as pd

    from relearn.methods.last_layer_probe.bodies_config import numbers_in
    from relearn.training.choice import best_lines, search_rates

    tuning = jobs[0].config.trained.tuning
    lengths = numbers_in(tuning.epochs, kind=float)
    lines = [(arm, length) for arm in tuned_arms(jobs[0]) for length in lengths]
    found = search_rates(lines, partial(_scores, jobs, folder), tuning.rate)
    best = best_lines(found)
    rows = [
        (*line, rate, score, len(jobs), *rest)
        for line, searched in found.items()
        for rate, score, *rest in searched.rows(is_best=line in best)
    ]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _scores(
    all_seeds: Sequence[Job], folder: Path, points: Sequence[tuple[tuple[str, float], float]]
) -> list[list[tuple[float, float]]]:
    from relearn.execution import scores_of
    from relearn.pipelines.last_layer_probe.units import candidate

    jobs = [
        candidate(replace(job, arm=arm), rate=rate, epochs=epochs)
        for (arm, epochs), rate in points
        for job in all_seeds
    ]
    outcomes = run_units(jobs, folder, "last_layer_probe: settings")
    return scores_of(outcomes, each=len(all_seeds), seconds=float)


def untuned(job: Job) -> pd.DataFrame:
    """Return the table in which every trained arm keeps its settings, columns as from ``tune``.

    Args:
        job: Any job.
    """
    import pandas as pd

    rows = [(arm, 1.0, 1.0, None, 0, 0.0, False, True) for arm in tuned_arms(job)]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def settled(job: Job, selection: pd.DataFrame) -> Job:
    """Return the job with the settings chosen for its arm, where it is a trained one.

    Args:
        job: Of any arm. Under another condition an arm takes the settings of the plain one.
        selection: As from ``tune``.

    Raises:
        StaleInputError: The table of settings does not know the arm.
    """
    from relearn.execution import chosen_row
    from relearn.methods.last_layer_probe.arms import TRAINED, arm_named
    from relearn.methods.last_layer_probe.trained_arms import with_settings

    kind = arm_named(job.config, job.arm).kind
    if kind not in TRAINED:
        return job
    row = chosen_row(selection, pipeline="last_layer_probe", column="arm", name=kind)
    rate, epochs = float(row["rate_factor"]), float(row["epochs_factor"])
    return replace(job, config=with_settings(job.config, rate=rate, epochs=epochs))


def run_units(jobs: Sequence[Job], folder: Path, describe: str) -> list[Outcome]:
    """Return what came of the units, run over processes; whole ones are not run again.

    Args:
        jobs: One a unit; none gives none.
        folder: Where units lie.
        describe: Text of the progress bar.

    Returns:
        One outcome a job, in their order.
    """
    from relearn.execution import run_all
    from relearn.pipelines.last_layer_probe.units import run_unit, unit_of

    if not jobs:
        return []
    units = [unit_of(job) for job in jobs]
    return run_all(run_unit, units, jobs[0].execution, folder=folder, describe=describe)
