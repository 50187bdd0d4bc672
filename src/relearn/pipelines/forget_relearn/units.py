"""Units of forgetting and relearning: trainings, and the judgement of the models they deliver.

They stand apart because a training delivers several arms, and because other judging settings, or
going back to an earlier cycle, must never train anything again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.methods.forget_relearn.config import ForgetRelearnConfig
from relearn.training.config import ExecutionConfig

if TYPE_CHECKING:
    from relearn.data.images import Stream
    from relearn.evaluation.records import Log
    from relearn.execution import Unit
    from relearn.methods.forget_relearn.arms import Training
    from relearn.models.checkpoint import Checkpoint
    from relearn.tracking import RunHandle

FLOORS = ("data", "models", "training", "evaluation", "methods.forget_relearn")
WARMUP = "warmup.safetensors"
METHOD = "forget_relearn"
PAUSE = 10.0
"""Seconds of training that an interruption may cost."""

_NOT_TRAINED = {"judging", "evidence", "study", "trainings", "compare", "tuning"}
_CYCLE = {"cycle", "forget", "relearn"}  # the training's own ones, which may differ


@dataclass(frozen=True)
class TrainingJob:
    """What one training with one seed needs; plain and picklable.

    Attributes:
        base: Architecture, and weights where ``start_from`` is ``base``.
        stream: Frozen data.
        config: Knobs, with the training's own schedule and rate put in.
        training: Name of the training.
        seed: Seed of the pair.
        execution: Device, precision, threads.
        handle: The parent run; None keeps curves in memory.
        label: Name of the unit and its child run; the training's name, or a candidate's.
        scoring: Only score the settings on validation images.
        warmup: Folder of the plain training whose warm-up may be taken up; empty for none. It
            changes the time and nothing else, so that it is no part of the address.
    """

    base: Checkpoint
    stream: Stream
    config: ForgetRelearnConfig
    training: str
    seed: int
    execution: ExecutionConfig
    handle: RunHandle | None
    label: str = ""
    scoring: bool = False
    warmup: str = ""


@dataclass(frozen=True)
class JudgingJob:
    """What judging one arm with one seed needs.

    Attributes:
        trained: Job of the training that delivers the arm.
        arm: Name of the arm.
        folder: Where that training lies.
        digest: Its digest.
        surrogate: Folder of the training that lends its attacked images; empty for none.
        surrogate_digest: Digest of the same.
    """

    trained: TrainingJob
    arm: str
    folder: str
    digest: str
    surrogate: str = ""
    surrogate_digest: str = ""


def training_unit(job: TrainingJob) -> Unit:
    """Return the unit of a training, addressed by its own settings, data and code.

    Args:
        job: What to train.
    """
    from relearn.execution import Unit, address_of
    from relearn.provenance import digest

    training = _training(job)
    told = {
        "settings": _settings(job.config, training),
        "training": _plain(training),
        "seed": job.seed,
        # a score is read by the headline attack, a training by no judging at all
        "scoring": _score_attack(job.config) if job.scoring else False,
        "device": [job.execution.device, job.execution.precision],
        "architecture": str(job.base.architecture),
        "base": job.base.digest if job.config.start_from == "base" else "",
    }
    address = address_of(config=digest(told), data=job.stream.digest, floors=FLOORS)
    return Unit(key=f"{job.label or job.training}.seed{job.seed}", address=address, payload=job)


def judging_unit(job: JudgingJob) -> Unit:
    """Return the unit that judges an arm, addressed by its training and the judging settings.

    Args:
        job: What to judge.
    """
    from relearn.execution import Unit, address_of
    from relearn.provenance import digest

    config, execution = job.trained.config, job.trained.execution
    told = {
        "arm": job.arm,
        "trained": job.digest,
        "surrogate": job.surrogate_digest,
        "judging": digest(config.judging),
        "to_cycle": config.roll_back.to_cycle,
        "device": execution.device,
    }
    address = address_of(config=digest(told), data=job.trained.stream.digest, floors=FLOORS)
    return Unit(key=f"{job.arm}.seed{job.trained.seed}", address=address, payload=job)


def run_training(job: TrainingJob, folder: Path) -> None:
    """Train with one seed and write the training, with live curves in a run of its own.

    Args:
        job: What to do.
        folder: The unit's own folder.
    """
    from relearn.tracking import arm_run
    from relearn.training.memory import keep_freed_memory

    keep_freed_memory()
    name = f"training.{job.label or job.training}"
    told = _settings(job.config, _training(job)) | _plain(_training(job))
    with arm_run(job.handle, method=METHOD, arm=name, seed=job.seed, config=told) as run:
        (_score if job.scoring else _train)(job, folder, run.log)


def run_judging(job: JudgingJob, folder: Path) -> None:
    """Judge one arm and write its checkpoint, records, ledger and predictions.

    Args:
        job: What to do.
        folder: The unit's own folder.
    """
    from relearn.arm_store import save_arm
    from relearn.methods.forget_relearn.arm_result import judge
    from relearn.pipelines.forget_relearn.training_store import load_trained
    from relearn.tracking import arm_run
    from relearn.training.device import device_of
    from relearn.training.memory import keep_freed_memory

    keep_freed_memory()
    whole = job.trained
    told = whole.config.model_dump(exclude=_NOT_TRAINED - {"judging"})
    with arm_run(whole.handle, method=METHOD, arm=job.arm, seed=whole.seed, config=told) as run:
        result = judge(
            load_trained(Path(job.folder)),
            whole.stream,
            whole.config,
            arm=job.arm,
            log=run.log,
            device=device_of(whole.execution, whole.base.architecture),
            surrogate=load_trained(Path(job.surrogate)) if job.surrogate else None,
        )
        run.artifact(save_arm(result, folder), "checkpoints")


def candidate(job: TrainingJob, *, schedule: str, factor: float) -> TrainingJob:
    """Return the job that scores one candidate setting of the training.

    Args:
        job: The training's job.
        schedule: Schedule of the learning rate.
        factor: Factor on the learning rate.
    """
    from relearn.methods.forget_relearn.train import with_settings

    config = with_settings(job.config, schedule=schedule, rate_factor=factor)
    label = f"{job.training}.{schedule}.rate_x{factor:g}"
    return replace(job, config=config, label=label, scoring=True)


def _settings(config: ForgetRelearnConfig, training: Training) -> dict[str, Any]:
    """Return what decides the course of a training, apart from the training itself.

    What a training has no use for is left out: another fraction must not redo the baselines.
    """
    unused = _NOT_TRAINED | _CYCLE
    unused |= set() if training.treated else {"consolidate", "roll_back"}
    unused |= set() if training.perturbed else {"awp"}
    unused |= set() if training.average else {"average"}
    told = config.model_dump(exclude=unused)
    told.get("roll_back", {}).pop("to_cycle", None)  # the judge goes back, training does not
    return told


def _score_attack(config: ForgetRelearnConfig) -> list[float]:
    judging = config.judging
    return [judging.steps, judging.step_size, judging.restarts]


def _training(job: TrainingJob) -> Training:
    from relearn.methods.forget_relearn.arms import trainings_of

    return trainings_of(job.config)[job.training]


def _plain(training: Training) -> dict[str, Any]:
    kept = sorted(_CYCLE) if training.treated else []
    flags = {name: getattr(training, name) for name in ("stable", "average", "perturbed")}
    models = sorted(set(training.deliveries.values()))
    cycle = {name: getattr(training, name).model_dump() for name in kept}
    return {"name": training.name, "models": models, **flags, **cycle}


def _train(job: TrainingJob, folder: Path, log: Log) -> None:
    from relearn.methods.forget_relearn.run import train_one
    from relearn.pipelines.forget_relearn.training_store import save_trained
    from relearn.training.device import device_of
    from relearn.training.resume import ResumePoint

    trained = train_one(
        job.base,
        job.stream,
        job.config,
        training=job.training,
        seed=job.seed,
        log=log,
        resume=ResumePoint(folder / "resume.safetensors", pause_seconds=PAUSE),
        device=device_of(job.execution, job.base.architecture),
        warmup=ResumePoint((Path(job.warmup) if job.warmup else folder) / WARMUP),
    )
    save_trained(trained, folder)


def _score(job: TrainingJob, folder: Path, log: Log) -> None:
    from relearn.arm_store import save_score
    from relearn.methods.forget_relearn.train import score_settings
    from relearn.training.device import device_of
    from relearn.training.resume import ResumePoint

    score, seconds = score_settings(
        job.base,
        job.stream,
        job.config,
        training=job.training,
        seed=job.seed,
        log=log,
        resume=ResumePoint(folder / "resume.safetensors", pause_seconds=PAUSE),
        device=device_of(job.execution, job.base.architecture),
    )
    save_score(folder, score, seconds)
