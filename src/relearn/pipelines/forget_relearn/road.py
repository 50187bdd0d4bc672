"""The road of the units: train every training, then judge every arm that they deliver."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.errors import StaleInputError

if TYPE_CHECKING:
    import pandas as pd

    from relearn.execution import Outcome
    from relearn.pipelines.forget_relearn.units import JudgingJob, TrainingJob

_log = logging.getLogger(__name__)
_SHOWN = 4  # names in a line of the log

PLAIN = "pgd_at"
"""Training whose warm-up the others take up."""

SURROGATE = "pgd_at"
"""Training, and arm, whose attacked images are tried on the others."""


def train_models(
    first: TrainingJob, selection: pd.DataFrame, folder: Path, *, pairs: Iterable[tuple[str, int]]
) -> pd.DataFrame:
    """Train what is not trained yet and return the index of the trainings.

    Args:
        first: A job whose base, stream, knobs and execution serve all.
        selection: Settings chosen for each training.
        folder: Where the units lie.
        pairs: Training and seed of each.

    Returns:
        Columns training, seed, path, digest, reused.
    """
    import pandas as pd

    from relearn.pipelines.forget_relearn.tuning import settled
    from relearn.training_store import TOLD

    jobs = [settled(first, selection, name, seed) for name, seed in pairs]
    outcomes = _train_plain_first(jobs, folder)
    _say_reused("trainings", outcomes)
    return pd.DataFrame(
        [
            {"training": job.training, "seed": job.seed, **_row(outcome, TOLD)}
            for job, outcome in zip(jobs, outcomes, strict=True)
        ]
    )


def _train_plain_first(jobs: Sequence[TrainingJob], folder: Path) -> list[Outcome]:
    """Train, plain trainings first, so that the others of a seed may take up their warm-up.

    None waits for another: a training that finds no warm-up yet makes its own, which costs time
    and changes nothing, so that no worker is ever idle.
    """
    from relearn.pipelines.forget_relearn.tuning import train_all

    order = sorted(range(len(jobs)), key=lambda place: jobs[place].training != PLAIN)
    ends = {job.seed: _folder_of(job, folder) for job in jobs if job.training == PLAIN}
    given = [
        job if job.training == PLAIN else replace(job, warmup=ends.get(job.seed, ""))
        for job in (jobs[place] for place in order)
    ]
    made = train_all(given, folder, "forget_relearn: trainings")
    return [made[order.index(place)] for place in range(len(jobs))]


def _folder_of(job: TrainingJob, folder: Path) -> str:
    from relearn.execution.unit_folder import UnitFolder
    from relearn.pipelines.forget_relearn.units import training_unit

    unit = training_unit(job)
    return str(UnitFolder.of(folder, unit.key, unit.address).path)


def judge_arms(
    first: TrainingJob,
    selection: pd.DataFrame,
    trained_units: pd.DataFrame,
    folder: Path,
    *,
    arms: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Judge what is not judged yet and return the index of the arms.

    Args:
        first: As for ``train_models``.
        selection: As for ``train_models``.
        trained_units: As from ``train_models``.
        folder: Where the units lie.
        arms: Only these; None for all that the trainings deliver.

    Returns:
        Columns arm, seed, path, digest (of the checkpoint file), reused.

    Raises:
        StaleInputError: The trainings were made from other parameters than the present ones.
    """
    import pandas as pd

    from relearn.arm_store import CHECKPOINT
    from relearn.execution import run_all
    from relearn.pipelines.forget_relearn.units import judging_unit, run_judging

    jobs = _judging_jobs(first, selection, trained_units, arms)
    units = [judging_unit(job) for job in jobs]
    told = "forget_relearn: arms"
    outcomes = run_all(run_judging, units, first.execution, folder=folder, describe=told)
    _say_reused("judgements", outcomes)
    return pd.DataFrame(
        [
            {"arm": job.arm, "seed": job.trained.seed, **_row(outcome, CHECKPOINT)}
            for job, outcome in zip(jobs, outcomes, strict=True)
        ]
    )


def _judging_jobs(
    first: TrainingJob,
    selection: pd.DataFrame,
    trained_units: pd.DataFrame,
    arms: Sequence[str] | None,
) -> list[JudgingJob]:
    from relearn.methods.forget_relearn.arms import trainings_of
    from relearn.pipelines.forget_relearn.tuning import settled
    from relearn.pipelines.forget_relearn.units import JudgingJob

    trainings = trainings_of(first.config)
    columns = (trained_units[name] for name in ("training", "seed", "path", "digest"))
    rows = {
        (str(name), int(seed)): (str(path), str(digest))
        for name, seed, path, digest in zip(*columns, strict=True)
    }
    jobs: list[JudgingJob] = []
    for (name, seed), (path, digest) in rows.items():
        _require_known(name, trainings)
        job = settled(first, selection, name, seed)
        _require_present(job, Path(path))
        lender = rows.get((SURROGATE, seed)) if first.config.judging.transfer else None
        plain = JudgingJob(job, "", path, digest)
        lent = plain
        if lender is not None:
            lent = replace(plain, surrogate=lender[0], surrogate_digest=lender[1])
        jobs += [
            replace(plain if arm == SURROGATE else lent, arm=arm)
            for arm in trainings[name].deliveries
            if arms is None or arm in arms
        ]
    return jobs


def _require_known(name: str, trainings: Iterable[str]) -> None:
    if name not in trainings:
        raise StaleInputError(
            f"forget_relearn.trained_units: holds training {name!r}, which the present parameters "
            "do not ask for; run `kedro run --pipeline forget_relearn` whole"
        )


def _require_present(job: TrainingJob, folder: Path) -> None:
    """Refuse a training that lies elsewhere than the present parameters would put it."""
    from relearn.execution.unit_folder import UnitFolder
    from relearn.pipelines.forget_relearn.units import training_unit

    unit = training_unit(job)
    if UnitFolder.of(folder.parent.parent, unit.key, unit.address).path.name != folder.name:
        raise StaleInputError(
            f"forget_relearn.trained_units: training {job.training}, seed {job.seed} was made from "
            "other parameters, data or code than the present ones; run `kedro run --pipeline "
            "forget_relearn` again (same --env and --params)"
        )


def _row(outcome: Outcome, pinned: str) -> dict[str, Any]:
    from relearn.provenance import digest_file

    path = Path(outcome.path)
    return {"path": str(path), "digest": digest_file(path / pinned), "reused": outcome.reused}


def _say_reused(what: str, outcomes: Sequence[Outcome]) -> None:
    kept = [outcome.key for outcome in outcomes if outcome.reused]
    shown = ", ".join(kept[:_SHOWN]) + (", ..." if len(kept) > _SHOWN else "")
    _log.info(
        "forget_relearn: %d %s: %d were there and are reused%s, %d were made",
        *(len(outcomes), what, len(kept), f" ({shown})" if kept else ""),
        len(outcomes) - len(kept),
    )
