"""Units of lora_ipc: one training learns all tasks of one order of the classes.

A training delivers several arms, which differ in how its models are read (with inferred tasks, with
the last layer aligned); each of them has a folder of its own inside the unit's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.methods.lora_ipc.config import LoraIpcConfig
from relearn.training.config import ExecutionConfig

if TYPE_CHECKING:
    from relearn.data.images import Stream
    from relearn.evaluation.records import Log
    from relearn.execution import Unit
    from relearn.methods.lora_ipc.arms import Training
    from relearn.models.checkpoint import Checkpoint
    from relearn.tracking import RunHandle

FLOORS = ("data", "models", "training", "evaluation", "methods.lora_ipc")
METHOD = "lora_ipc"

_NOT_A_TRAININGS = {"trainings", "tuning", "gate", "evidence", "rates"}


@dataclass(frozen=True)
class TrainingJob:
    """What one training with one seed needs; plain and picklable.

    Attributes:
        base: The backbone that all trainings start from.
        stream: Frozen data.
        config: Knobs, with the rate chosen for the training.
        training: Name of the training.
        seed: Seed of the pair; it draws the order of the classes.
        execution: Device, precision, threads.
        handle: The parent run; None keeps curves in memory.
        label: Name of the unit and its child run; the training's name, or a candidate's.
        scoring: Only score the settings on validation images.
    """

    base: Checkpoint
    stream: Stream
    config: LoraIpcConfig
    training: str
    seed: int
    execution: ExecutionConfig
    handle: RunHandle | None
    label: str = ""
    scoring: bool = False


def training_unit(job: TrainingJob) -> Unit:
    """Return the unit of a training, addressed by its configuration, backbone, data and code.

    Args:
        job: What to do.
    """
    from relearn.execution import Unit, address_of
    from relearn.provenance import digest

    training = training_of(job)
    told = {
        "settings": settings_of(job.config),
        "rate": rate_of(job.config, training),
        "training": job.training,
        "deliveries": list(training.deliveries),
        "seed": job.seed,
        "scoring": job.scoring,
        "device": [job.execution.device, job.execution.precision],
        "base": job.base.digest,
    }
    address = address_of(config=digest(told), data=job.stream.digest, floors=FLOORS)
    return Unit(key=f"{job.label or job.training}.seed{job.seed}", address=address, payload=job)


def training_of(job: TrainingJob) -> Training:
    """Return what the job trains.

    Args:
        job: Names it.
    """
    from relearn.methods.lora_ipc.arms import trainings_of

    return trainings_of(job.config)[job.training]


def settings_of(config: LoraIpcConfig) -> dict[str, Any]:
    """Return the knobs that decide what any training comes to, the rate apart.

    Args:
        config: Knobs.
    """
    return config.model_dump(mode="json", exclude=_NOT_A_TRAININGS)


def rate_of(config: LoraIpcConfig, training: Training) -> float:
    """Return the factor on the learning rate that a training takes; 1 where it takes none.

    Args:
        config: Knobs.
        training: Its family names the factor.
    """
    return float(getattr(config.rates, training.family)) if training.family else 1.0


def run_training_unit(job: TrainingJob, folder: Path) -> None:
    """Learn all tasks and write every arm, with live curves in a run of its own.

    Args:
        job: What to do.
        folder: The unit's own folder.
    """
    from relearn.tracking import arm_run
    from relearn.training.memory import keep_freed_memory

    keep_freed_memory()
    told = settings_of(job.config) | {"rate": rate_of(job.config, training_of(job))}
    label = job.label or job.training
    with arm_run(job.handle, method=METHOD, arm=label, seed=job.seed, config=told) as run:
        if job.scoring:
            _score(job, folder, run.log)
        else:
            for path in _train(job, folder, run.log):
                run.artifact(path, f"checkpoints/{path.parent.name}")


def candidate(job: TrainingJob, *, factor: float) -> TrainingJob:
    """Return the job that scores one learning rate of the training.

    Args:
        job: The training's job.
        factor: Factor on the training's own rate.
    """
    from relearn.methods.lora_ipc.train import with_rate

    config = with_rate(job.config, training=job.training, factor=factor)
    label = f"{job.training}.rate_x{factor:g}"
    return replace(job, config=config, label=label, scoring=True)


def _train(job: TrainingJob, folder: Path, log: Log) -> list[Path]:
    from relearn.arm_store import save_arm
    from relearn.methods.lora_ipc.arm_result import deliver
    from relearn.methods.lora_ipc.run import train_one
    from relearn.pipelines.lora_ipc.training_store import save_trained
    from relearn.training.device import device_of
    from relearn.training.resume import ResumePoint

    resume = ResumePoint(folder / "resume.safetensors")
    device = device_of(job.execution, job.base.architecture)
    trained = train_one(
        job.base,
        job.stream,
        job.config,
        training=job.training,
        seed=job.seed,
        log=log,
        resume=resume,
        device=device,
    )
    save_trained(trained, folder)
    paths = []
    for arm in training_of(job).deliveries:
        (folder / arm).mkdir(exist_ok=True)
        result = deliver(trained, job.config, arm=arm, log=log, device=device)
        paths.append(save_arm(result, folder / arm))
    resume.clear()
    return paths


def _score(job: TrainingJob, folder: Path, log: Log) -> None:
    from relearn.arm_store import save_score
    from relearn.methods.lora_ipc.train import score_settings
    from relearn.training.device import device_of
    from relearn.training.resume import ResumePoint

    resume = ResumePoint(folder / "resume.safetensors")
    score, seconds = score_settings(
        job.base,
        job.stream,
        job.config,
        training=job.training,
        seed=job.seed,
        log=log,
        resume=resume,
        device=device_of(job.execution, job.base.architecture),
    )
    save_score(folder, score, seconds)
    resume.clear()
