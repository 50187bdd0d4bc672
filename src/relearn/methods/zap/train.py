"""Baseline beside treated: pre-train, judge on unseen classes, and hand back what was found.

Paper: Frati, Traft, Clune, Cheney, "Reset It and Forget It", arXiv 2310.07996. Arms of one seed
share initialisation, sample order and transfer classes; a treated arm differs in its resets alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from relearn.errors import ParameterError
from relearn.evaluation.efficiency import forward_flops, parameter_count, peak_memory_bytes
from relearn.evaluation.records import ArmResult, Log, Recorder, no_log
from relearn.methods.zap.arms import Arm, arm_named
from relearn.methods.zap.episodes import pretrain_episodes
from relearn.methods.zap.iid import pretrain_iid
from relearn.methods.zap.session import Session
from relearn.methods.zap.transfer import Judge
from relearn.models.checkpoint import Checkpoint, capture
from relearn.provenance import digest
from relearn.training.device import Device, open_device

if TYPE_CHECKING:
    from relearn.data.images import Stream
    from relearn.methods.zap.config import ZapConfig
    from relearn.training.resume import ResumePoint


def train_baseline(
    base: Checkpoint,
    stream: Stream,
    config: ZapConfig,
    *,
    arm: str,
    seed: int,
    log: Log = no_log,
    resume: ResumePoint | None = None,
    device: Device | None = None,
) -> ArmResult:
    """Pre-train without touching the weights outside the optimizer, and judge the net.

    Args:
        base: Architecture, and weights for ``start_from: base``; it keeps every bit.
        stream: Frozen data of all arms.
        config: Knobs, with this arm's pre-training settings already put in.
        arm: Name of an arm without a change, such as ``iid``.
        seed: Seed of the pair.
        log: Live curves.
        resume: Where training is kept while it runs; None keeps nothing.
        device: Where to train; None is the plain CPU.

    Returns:
        The trained checkpoint with records, costs and an empty ledger.

    Raises:
        ParameterError: The arm is not switched on, or changes weights.
        TrainingError: The loss is not finite.
    """
    chosen = arm_named(config, arm)
    if chosen.treated:
        raise ParameterError(f"zap.evidence.baseline_arm: {arm!r} resets weights; name a plain arm")
    session = _open(base, stream, config, chosen, seed=seed, log=log, device=device)
    _pretrain(session, resume)
    return _conclude(session, stream)


def train_treated(
    base: Checkpoint,
    stream: Stream,
    config: ZapConfig,
    *,
    arm: str,
    seed: int,
    log: Log = no_log,
    resume: ResumePoint | None = None,
    device: Device | None = None,
) -> ArmResult:
    """Pre-train with the arm's change whenever its policy says so, and judge the net.

    Args:
        base: As for ``train_baseline``.
        stream: As for ``train_baseline``.
        config: As for ``train_baseline``.
        arm: Name of an arm with a change, such as ``iid_zap``.
        seed: As for ``train_baseline``.
        log: As for ``train_baseline``.
        resume: As for ``train_baseline``.
        device: As for ``train_baseline``.

    Returns:
        The trained checkpoint with records, costs and the ledger.

    Raises:
        ParameterError: The arm is not switched on, or changes nothing.
        TrainingError: The loss is not finite.
    """
    chosen = arm_named(config, arm)
    if not chosen.treated:
        raise ParameterError(f"zap.evidence.treated_arm: {arm!r} changes nothing; name a zap arm")
    session = _open(base, stream, config, chosen, seed=seed, log=log, device=device)
    _pretrain(session, resume)
    return _conclude(session, stream)


def score_settings(
    base: Checkpoint,
    stream: Stream,
    config: ZapConfig,
    *,
    arm: str,
    seed: int,
    log: Log = no_log,
    resume: ResumePoint | None = None,
    device: Device | None = None,
) -> tuple[float, dict[str, float]]:
    """Return the score on the selection classes that these settings earn, and what they cost.

    The transfer classes are not looked at (unless ``transfer.select_on`` is ``test``).

    Args:
        base: As for ``train_baseline``.
        stream: As for ``train_baseline``.
        config: As for ``train_baseline``.
        arm: Name of any arm that is switched on.
        seed: A seed that is not reported on.
        log: As for ``train_baseline``.
        resume: As for ``train_baseline``.
        device: As for ``train_baseline``.
    """
    chosen = arm_named(config, arm)
    session = _open(base, stream, config, chosen, seed=seed, log=log, device=device)
    _pretrain(session, resume)
    with session.watch("judge"):
        score = _judge(session, stream).selection_score()
    log(session.steps, {"selection_score": score})
    return score, dict(session.watch.seconds)


def with_settings(config: ZapConfig, *, rate_factor: float, shift_pixels: int) -> ZapConfig:
    """Return the configuration with other pre-training settings, for all schemes alike.

    Args:
        config: Knobs.
        rate_factor: Factor on the rate of i.i.d. training and on the outer rate of episodes.
        shift_pixels: Random shift of the images of batches and episodes, in pixels.
    """
    train = config.train.model_copy(
        update={
            "learning_rate": config.train.learning_rate * rate_factor,
            "shift_pixels": shift_pixels,
        }
    )
    asb, meta = (
        block.model_copy(update={"outer_learning_rate": block.outer_learning_rate * rate_factor})
        for block in (config.asb, config.meta)
    )
    return config.model_copy(update={"train": train, "asb": asb, "meta": meta})


def _open(
    base: Checkpoint,
    stream: Stream,
    config: ZapConfig,
    arm: Arm,
    *,
    seed: int,
    log: Log,
    device: Device | None,
) -> Session:
    place = device or open_device("cpu", "fp32")
    return Session(base, stream, config, arm=arm, seed=seed, device=place, log=log)


def _pretrain(session: Session, resume: ResumePoint | None) -> None:
    """Run the arm's scheme; ASB draws its own episodes, i.i.d. its own batches."""
    with session.watch("total_pretraining"):
        if session.arm.pretraining == "iid":
            pretrain_iid(session, resume=resume)
        else:
            pretrain_episodes(session, resume=resume)
    session.monitor.write(session.recorder)


def _judge(session: Session, stream: Stream) -> Judge:
    return Judge(
        session.model,
        session.architecture,
        stream,
        session.config.transfer,
        seed=session.seed,
        outputs=session.config.head_outputs,
        head_name=session.config.head,
        device=session.device.name,
    )


def _conclude(session: Session, stream: Stream) -> ArmResult:
    with session.watch("judge"):
        tensors = _judge(session, stream).judge(session.recorder)
    finals = {r.metric: r.value for r in session.recorder.records if r.task == "few_shot"}
    session.log(session.steps, {f"few_shot_{name}": value for name, value in finals.items()})
    predictions = {name: tensors.pop(f"few_shot.{name}") for name in ("label", "predicted")}
    return ArmResult(
        checkpoint=capture(session.model, session.architecture, _provenance(session, stream)),
        records=session.recorder.records,
        costs=_costs(session),
        interventions=session.changer.interventions,
        predictions=predictions,
        order_digest=session.order_digest,
        tensors=tensors,
    )


def _provenance(session: Session, stream: Stream) -> dict[str, Any]:
    names = [stream.class_names[int(c)] for c in session.base_classes]
    return {
        "method": "zap",
        "arm": session.arm.name,
        "seed": session.seed,
        "config": digest(session.config),
        "stream": stream.digest,
        "steps": session.steps,
        "steps_since_intervention": session.steps_since_change,
        "interventions": len(session.changer.interventions),
        "settle_steps": session.arm.policy.settle_steps,
        "head": session.head.name,
        "class_names": names,
        "class_numbers": [int(c) for c in session.base_classes],
        "order_digest": session.order_digest,
    }


def _costs(session: Session) -> list[Any]:
    size = session.architecture.image_size
    image = (session.architecture.in_channels, size, size)
    seconds = session.watch.seconds
    training = seconds["total_pretraining"] - seconds.get("validation", 0.0)
    change = seconds.get("change", 0.0)
    recorder = Recorder("zap", session.arm.name, session.seed)
    recorder.add(
        "cost",
        0,
        {
            "train_seconds": training,
            "change_seconds": change,
            "change_percent": 100 * change / training,
            "validation_seconds": seconds.get("validation", 0.0),
            "judge_seconds": seconds["judge"],
            "total_seconds": seconds["total_pretraining"] + seconds["judge"],
            "extra_steps": float(session.extra_steps),
            "parameters": float(parameter_count(session.model)),
            "forward_flops": float(forward_flops(session.model, image)),
            "peak_memory_bytes": float(peak_memory_bytes(session.device.name)),
        },
    )
    return recorder.records


__all__ = ["score_settings", "train_baseline", "train_treated", "with_settings"]
