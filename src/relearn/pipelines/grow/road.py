"""The road of the units: teachers, their growth before any training, then the arms."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.errors import StaleInputError

if TYPE_CHECKING:
    import pandas as pd

    from relearn.execution import Outcome
    from relearn.pipelines.grow.units import ArmJob, TeacherJob

_log = logging.getLogger(__name__)


def train_teachers(jobs: Sequence[TeacherJob], folder: Path) -> pd.DataFrame:
    """Train the teachers that are not there yet and return their index.

    Args:
        jobs: One a seed.
        folder: Where the units lie.

    Returns:
        Columns seed, path, digest (of the checkpoint file), reused.
    """
    import pandas as pd

    from relearn.execution import run_all
    from relearn.pipelines.grow.teacher_store import CHECKPOINT
    from relearn.pipelines.grow.units import run_teacher, teacher_unit

    units, told = [teacher_unit(job) for job in jobs], "grow: teachers"
    outcomes = run_all(run_teacher, units, jobs[0].execution, folder=folder, describe=told)
    say_reused("teachers", outcomes)
    return pd.DataFrame(
        [
            {"seed": job.seed, **_row(outcome, CHECKPOINT)}
            for job, outcome in zip(jobs, outcomes, strict=True)
        ]
    )


def first_jobs(jobs: Sequence[TeacherJob], teachers: pd.DataFrame) -> dict[int, ArmJob]:
    """Return for each seed a job from which those of its arms are made.

    Args:
        jobs: As for ``train_teachers``.
        teachers: As from ``train_teachers``.

    Raises:
        StaleInputError: The teachers were made from other parameters than the present ones.
    """
    from relearn.methods.grow.arms import arms_of
    from relearn.pipelines.grow.units import ArmJob

    columns = (teachers[name] for name in ("seed", "path", "digest"))
    there = {int(s): (str(p), str(d)) for s, p, d in zip(*columns, strict=True)}
    found = {}
    for job in jobs:
        if job.seed not in there:
            raise _stale(job)
        path, digest = there[job.seed]
        _require_present(job, Path(path))
        found[job.seed] = ArmJob(
            teacher=path,
            teacher_digest=digest,
            stream=job.stream,
            config=job.config,
            arm=next(iter(arms_of(job.config))),
            seed=job.seed,
            execution=job.execution,
            handle=job.handle,
        )
    return found


def train_arms(firsts: Mapping[int, ArmJob], selection: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """Train every arm with every seed and return the index of the units.

    Args:
        firsts: As from ``first_jobs``.
        selection: Settings chosen for each arm.
        folder: Where the units lie.

    Returns:
        Columns arm, seed, path, digest (of the checkpoint file), reused.
    """
    import pandas as pd

    from relearn.arm_store import CHECKPOINT
    from relearn.methods.grow.arms import arms_of
    from relearn.pipelines.grow.tuning import settled, train_all

    jobs = [
        settled(first, selection, arm) for first in firsts.values() for arm in arms_of(first.config)
    ]
    outcomes = train_all(jobs, folder, "grow: arms")
    say_reused("arms", outcomes)
    return pd.DataFrame(
        [
            {"arm": job.arm, "seed": job.seed, **_row(outcome, CHECKPOINT)}
            for job, outcome in zip(jobs, outcomes, strict=True)
        ]
    )


def say_reused(what: str, outcomes: Sequence[Outcome]) -> None:
    """Log how many units were there already.

    Args:
        what: What the units are.
        outcomes: Theirs.
    """
    kept = sum(outcome.reused for outcome in outcomes)
    made = len(outcomes) - kept
    _log.info(
        "grow: %d %s: %d were there and are reused, %d were made", len(outcomes), what, kept, made
    )


def _require_present(job: TeacherJob, folder: Path) -> None:
    """Refuse a teacher that lies elsewhere than the present parameters would put it."""
    from relearn.execution.unit_folder import UnitFolder
    from relearn.pipelines.grow.units import teacher_unit

    unit = teacher_unit(job)
    if UnitFolder.of(folder.parent.parent, unit.key, unit.address).path.name != folder.name:
        raise _stale(job)


def _stale(job: TeacherJob) -> StaleInputError:
    return StaleInputError(
        f"grow.teachers: the teacher of seed {job.seed} was made from other parameters, data or "
        "code than the present ones; run `kedro run --pipeline grow` again (same --env and "
        "--params)"
    )


def _row(outcome: Outcome, pinned: str) -> dict[str, Any]:
    from relearn.provenance import digest_file

    path = Path(outcome.path)
    return {"path": str(path), "digest": digest_file(path / pinned), "reused": outcome.reused}
