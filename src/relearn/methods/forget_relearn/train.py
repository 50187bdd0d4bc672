"""Baseline beside treated: train against attacks, with or without forgetting, and judge.

Paper: arXiv 2402.11733. Arms of one seed share images, label noise, initialisation, sample order
and attack noise; a treated training differs in its cycle alone. One training delivers several arms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.errors import ParameterError
from relearn.evaluation.records import ArmResult, Log, no_log
from relearn.methods.forget_relearn.arm_result import judge, validation_scores
from relearn.methods.forget_relearn.arms import training_of
from relearn.methods.forget_relearn.run import open_session, train_one

if TYPE_CHECKING:
    from relearn.data.images import Stream
    from relearn.methods.forget_relearn.config import ForgetRelearnConfig
    from relearn.models.checkpoint import Checkpoint
    from relearn.training.device import Device
    from relearn.training.resume import ResumePoint


def train_baseline(
    base: Checkpoint,
    stream: Stream,
    config: ForgetRelearnConfig,
    *,
    arm: str,
    seed: int,
    log: Log = no_log,
    resume: ResumePoint | None = None,
    device: Device | None = None,
) -> ArmResult:
    """Train against attacks without touching weights outside the optimizer, and judge the model.

    Args:
        base: Architecture, and weights for ``start_from: base``; it keeps every bit.
        stream: Frozen data of all arms.
        config: Knobs.
        arm: Name of an arm that forgets nothing, such as ``pgd_at_stopped``.
        seed: Seed of the pair.
        log: Live curves.
        resume: Where training is kept while it runs; None keeps nothing.
        device: Where to train; None is the plain CPU.

    Returns:
        The delivered model with records, costs and an empty ledger.

    Raises:
        ParameterError: No training delivers the arm, or its training forgets.
        TrainingError: The loss is not finite.
    """
    chosen = training_of(config, arm)
    if chosen.treated:
        raise ParameterError(
            f"forget_relearn.evidence.baseline_arm: {arm!r} forgets weights; name a plain arm"
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
    return judge(trained, stream, config, arm=arm, log=log, device=device)


def train_treated(
    base: Checkpoint,
    stream: Stream,
    config: ForgetRelearnConfig,
    *,
    arm: str,
    seed: int,
    log: Log = no_log,
    resume: ResumePoint | None = None,
    device: Device | None = None,
) -> ArmResult:
    """Train against attacks through cycles of forgetting and relearning, and judge the model.

    Args:
        base: As for ``train_baseline``.
        stream: As for ``train_baseline``.
        config: As for ``train_baseline``.
        arm: Name of an arm whose training forgets, such as ``forget_relearn``.
        seed: As for ``train_baseline``.
        log: As for ``train_baseline``.
        resume: As for ``train_baseline``.
        device: As for ``train_baseline``.

    Returns:
        The delivered model with records, costs and the ledger.

    Raises:
        ParameterError: No training delivers the arm, or its training forgets nothing.
        TrainingError: The loss is not finite.
    """
    chosen = training_of(config, arm)
    if not chosen.treated:
        raise ParameterError(
            f"forget_relearn.evidence.treated_arm: {arm!r} forgets nothing; name a treated arm"
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
    return judge(trained, stream, config, arm=arm, log=log, device=device)


def score_settings(
    base: Checkpoint,
    stream: Stream,
    config: ForgetRelearnConfig,
    *,
    training: str,
    seed: int,
    log: Log = no_log,
    resume: ResumePoint | None = None,
    device: Device | None = None,
) -> tuple[float, dict[str, float]]:
    """Return the best validation robust accuracy of what a training delivers, and the seconds.

    The test images are not looked at. Every training is scored by the best model it can deliver.

    Args:
        base: As for ``train_baseline``.
        stream: As for ``train_baseline``.
        config: Knobs with the settings that are tried.
        training: Name of the training.
        seed: A seed that is not reported on.
        log: As for ``train_baseline``.
        resume: As for ``train_baseline``.
        device: As for ``train_baseline``.
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
    scores = validation_scores(trained, stream, config, device=device)
    best = max(scores.values())
    log(config.train.epochs, {"selection_score": best})
    return best, {name: value for name, value in trained.costs.items() if "seconds" in name}


def with_settings(
    config: ForgetRelearnConfig, *, schedule: str, rate_factor: float
) -> ForgetRelearnConfig:
    """Return the configuration with another schedule and rate.

    Args:
        config: Knobs.
        schedule: Name of the schedule.
        rate_factor: Factor on the learning rate.
    """
    rate = config.train.learning_rate * rate_factor
    train_config = config.train.model_copy(update={"schedule": schedule, "learning_rate": rate})
    return config.model_copy(update={"train": train_config})


__all__ = [
    "judge",
    "open_session",
    "score_settings",
    "train_baseline",
    "train_one",
    "train_treated",
    "with_settings",
]
