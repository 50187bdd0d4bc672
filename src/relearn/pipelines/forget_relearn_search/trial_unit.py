"""One setting with one seed: trained as any other, scored by its stable model on validation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relearn.execution import Unit
    from relearn.pipelines.forget_relearn.units import TrainingJob

STABLE = "stable"
"""The delivered model whose robust accuracy on validation images is the score."""


def trial_unit(job: TrainingJob) -> Unit:
    """Return the unit that scores a setting, addressed as its training and by how it is scored.

    Args:
        job: Training of one setting with one seed.
    """
    from dataclasses import replace

    from relearn.pipelines.forget_relearn.units import training_unit
    from relearn.provenance import digest

    unit = training_unit(replace(job, scoring=True))
    judging = job.config.judging
    told = digest([STABLE, judging.steps, judging.step_size, judging.restarts])
    return replace(unit, address={**unit.address, "score": told}, payload=job)


def run_trial(job: TrainingJob, folder: Path) -> None:
    """Train one setting and write the score of its stable model, live in a run of its own.

    Args:
        job: What to do.
        folder: The unit's own folder.
    """
    from relearn.arm_store import SCORE
    from relearn.atomic import write_text
    from relearn.methods.forget_relearn.arm_result import validation_scores
    from relearn.methods.forget_relearn.run import train_one
    from relearn.pipelines.forget_relearn.units import METHOD
    from relearn.tracking import arm_run
    from relearn.training.device import device_of
    from relearn.training.memory import keep_freed_memory
    from relearn.training.resume import ResumePoint

    keep_freed_memory()
    name, device = f"search.{job.label}", device_of(job.execution, job.base.architecture)
    told = {"cycle": job.config.cycle.model_dump(), "forget": job.config.forget.model_dump()}
    with arm_run(job.handle, method=METHOD, arm=name, seed=job.seed, config=told) as run:
        trained = train_one(
            job.base,
            job.stream,
            job.config,
            training=job.training,
            seed=job.seed,
            log=run.log,
            resume=ResumePoint(folder / "resume.safetensors"),
            device=device,
        )
        scores = validation_scores(trained, job.stream, job.config, device=device)
        run.log(job.config.train.epochs, {"search_score": scores[STABLE]})
        seconds = {name: value for name, value in trained.costs.items() if "seconds" in name}
        whole = {"score": scores[STABLE], "scores": scores, "seconds": seconds}
        write_text(folder / SCORE, json.dumps(whole))


def read_trial(folder: Path) -> tuple[float, float]:
    """Return the score of a finished unit, and the seconds it took.

    Args:
        folder: The unit's own folder.
    """
    from relearn.arm_store import load_score

    score, seconds = load_score(folder)
    return score, float(seconds["total_seconds"])
