"""Baseline beside treated: learn a stream of tasks, with or without freezing, and read the model.

Paper: LoRAC-IPC, arXiv 2504.13407. Arms of one seed share order of classes, images, batches, the
first last layer and the factors A that modules begin with; they differ in what is frozen, held or
composed. One training delivers several arms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.errors import ParameterError
from relearn.evaluation.records import ArmResult, Log, no_log
from relearn.methods.lora_ipc.arm_result import deliver
from relearn.methods.lora_ipc.arms import training_named, training_of
from relearn.methods.lora_ipc.run import train_one

if TYPE_CHECKING:
    from relearn.data.images import Stream
    from relearn.methods.lora_ipc.config import LoraIpcConfig
    from relearn.models.checkpoint import Checkpoint
    from relearn.training.device import Device
    from relearn.training.resume import ResumePoint


def train_baseline(
    base: Checkpoint,
    stream: Stream,
    config: LoraIpcConfig,
    *,
    arm: str,
    seed: int,
    log: Log = no_log,
    resume: ResumePoint | None = None,
    device: Device | None = None,
) -> ArmResult:
    """Learn the tasks of a seed without freezing anything, and read the model as one arm.

    Args:
        base: The backbone; it keeps every bit.
        stream: Frozen data of all arms.
        config: Knobs.
        arm: Name of an arm whose training freezes nothing, such as ``lorac``.
        seed: Seed of the pair: of the order of classes too.
        log: Live curves.
        resume: Where the training is kept after each task; None keeps nothing.
        device: Where to train; None is the plain CPU.

    Returns:
        The delivered net with records, costs and an empty ledger.

    Raises:
        ParameterError: No training delivers the arm, its training freezes matrices, or backbone,
            rank and tasks do not fit.
        DataError: The stream lacks classes or images.
        TrainingError: The loss is not finite.
    """
    chosen = training_of(config, arm)
    if chosen.treated:
        raise ParameterError(
            f"lora_ipc.evidence.baseline_arm: {arm!r} freezes matrices; name a plain arm"
        )
    trained = train_one(
        base,
        stream,
        config,
        training=chosen.name,
        seed=seed,
        log=log,
        resume=resume,
        device=device,
    )
    return deliver(trained, config, arm=arm, log=log, device=device)


def train_treated(
    base: Checkpoint,
    stream: Stream,
    config: LoraIpcConfig,
    *,
    arm: str,
    seed: int,
    log: Log = no_log,
    resume: ResumePoint | None = None,
    device: Device | None = None,
) -> ArmResult:
    """Learn the tasks of a seed, freezing matrices after them, and read the model as one arm.

    Args:
        base: As for ``train_baseline``.
        stream: As for ``train_baseline``.
        config: As for ``train_baseline``.
        arm: Name of an arm whose training freezes matrices, such as ``lorac_ipc``.
        seed: As for ``train_baseline``.
        log: As for ``train_baseline``.
        resume: As for ``train_baseline``.
        device: As for ``train_baseline``.

    Returns:
        The delivered net with records, costs and the ledger.

    Raises:
        ParameterError: No training delivers the arm, or its training freezes nothing.
        DataError: As for ``train_baseline``.
        TrainingError: As for ``train_baseline``.
    """
    chosen = training_of(config, arm)
    if not chosen.treated:
        raise ParameterError(
            f"lora_ipc.evidence.treated_arm: {arm!r} freezes nothing; name a treated arm"
        )
    trained = train_one(
        base,
        stream,
        config,
        training=chosen.name,
        seed=seed,
        log=log,
        resume=resume,
        device=device,
    )
    return deliver(trained, config, arm=arm, log=log, device=device)


def score_settings(
    base: Checkpoint,
    stream: Stream,
    config: LoraIpcConfig,
    *,
    training: str,
    seed: int,
    log: Log = no_log,
    resume: ResumePoint | None = None,
    device: Device | None = None,
) -> tuple[float, dict[str, float]]:
    """Return the validation score of a training under these settings, and its seconds.

    The score is the final average accuracy of the arm that bears the training's name; no choice is
    made on test images.

    Args:
        base: As for ``train_baseline``.
        stream: As for ``train_baseline``.
        config: Knobs with the rate that is tried.
        training: Name of the training.
        seed: A seed that is not reported on.
        log: As for ``train_baseline``.
        resume: As for ``train_baseline``.
        device: As for ``train_baseline``.

    Raises:
        ParameterError: There are no validation images.
    """
    trained = train_one(
        base,
        stream,
        config,
        training=training,
        seed=seed,
        log=log,
        resume=resume,
        device=device,
    )
    if training not in trained.validation:
        raise ParameterError(
            "lora_ipc.samples.validation_share: got 0, but a choice is to be made; give it a share"
        )
    own = trained.validation[training]
    score = sum(own) / len(own)
    log(trained.steps, {"selection_score": score})
    return score, {name: value for name, value in trained.costs.items() if "seconds" in name}


def with_rate(config: LoraIpcConfig, *, training: str, factor: float) -> LoraIpcConfig:
    """Return the configuration with another learning rate for a training's family.

    Args:
        config: Knobs of the method.
        training: Name of the training.
        factor: Factor on the rate that it has.

    Raises:
        ParameterError: The training trains nothing, or is not switched on.
    """
    family = training_named(config, training).family
    if not family:
        raise ParameterError(f"lora_ipc.tuning: {training} trains nothing and has no rate")
    own = float(getattr(config.rates, family)) * factor
    return config.model_copy(update={"rates": config.rates.model_copy(update={family: own})})


__all__ = ["deliver", "score_settings", "train_baseline", "train_one", "train_treated", "with_rate"]
