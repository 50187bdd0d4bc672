"""Baseline beside treated: a convex head on pixels, and one on a frozen body; then more training.

Paper: Daniely, Frostig, Singer, arXiv 1602.05897: random frozen layers and a trained last layer do
as well as the dual kernel. Arms of one seed share the images; a head has no seed and no rate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.errors import ParameterError
from relearn.evaluation.records import ArmResult, Log, no_log
from relearn.methods.last_layer_probe.arm_result import conclude_majority, conclude_probe
from relearn.methods.last_layer_probe.arms import TRAINED, arm_named
from relearn.methods.last_layer_probe.judge import judge
from relearn.methods.last_layer_probe.probing import majority_scores, probe
from relearn.methods.last_layer_probe.session import Session, open_session
from relearn.methods.last_layer_probe.trained_arms import (
    run_full,
    run_unfrozen,
    score_net,
    with_settings,
)

if TYPE_CHECKING:
    from relearn.data.images import Stream
    from relearn.methods.last_layer_probe.config import LastLayerProbeConfig
    from relearn.models.checkpoint import Checkpoint
    from relearn.training.device import Device
    from relearn.training.resume import ResumePoint


def train_baseline(
    base: Checkpoint,
    stream: Stream,
    config: LastLayerProbeConfig,
    *,
    arm: str,
    seed: int,
    log: Log = no_log,
    resume: ResumePoint | None = None,
    device: Device | None = None,
) -> ArmResult:
    """Run an arm without a frozen body: majority, linear on pixels, or a net trained as a whole.

    Args:
        base: Architecture of ``full``, weights of ``fine_tuned``; it keeps every bit.
        stream: Frozen data of all arms.
        config: Knobs.
        arm: Name of such an arm, usually ``linear``.
        seed: Seed of the pair.
        log: Live curves.
        resume: Where training is kept while it runs; None keeps nothing.
        device: Where to work; None is the plain CPU.

    Returns:
        The head or net with records, costs and an empty ledger.

    Raises:
        ParameterError: The arm is not switched on, or has a frozen body.
        DataError: The images do not suffice, or one has zero norm.
        TrainingError: The loss is not finite.
    """
    if arm_named(config, arm).treated:
        raise ParameterError(
            f"last_layer_probe.evidence.baseline_arm: {arm!r} has a frozen body; name a plain arm"
        )
    return run_arm(base, stream, config, arm=arm, seed=seed, log=log, resume=resume, device=device)


def train_treated(
    base: Checkpoint,
    stream: Stream,
    config: LastLayerProbeConfig,
    *,
    arm: str,
    seed: int,
    log: Log = no_log,
    resume: ResumePoint | None = None,
    device: Device | None = None,
) -> ArmResult:
    """Run an arm whose body is left frozen, or thawed from there.

    Args:
        base: As for ``train_baseline``; its body is that of ``frozen`` and ``unfrozen``.
        stream: As for ``train_baseline``.
        config: As for ``train_baseline``.
        arm: Name of such an arm, such as ``random_fc1_1024``.
        seed: As for ``train_baseline``.
        log: As for ``train_baseline``.
        resume: As for ``train_baseline``.
        device: As for ``train_baseline``.

    Returns:
        The head or net with records, costs and the ledger.

    Raises:
        ParameterError: The arm is not switched on, or has no frozen body.
        DataError: The images do not suffice, one has zero norm, or memory would not.
        TrainingError: The loss is not finite, or a frozen body was changed.
    """
    if not arm_named(config, arm).treated:
        raise ParameterError(
            f"last_layer_probe.evidence.treated_arm: {arm!r} has no frozen body; name a probe"
        )
    return run_arm(base, stream, config, arm=arm, seed=seed, log=log, resume=resume, device=device)


def run_arm(
    base: Checkpoint,
    stream: Stream,
    config: LastLayerProbeConfig,
    *,
    arm: str,
    seed: int,
    log: Log = no_log,
    resume: ResumePoint | None = None,
    device: Device | None = None,
) -> ArmResult:
    """Run any arm that is switched on.

    Args:
        base: As for ``train_baseline``.
        stream: As for ``train_baseline``.
        config: As for ``train_baseline``.
        arm: Its name.
        seed: As for ``train_baseline``.
        log: As for ``train_baseline``.
        resume: As for ``train_baseline``.
        device: As for ``train_baseline``.

    Returns:
        As for ``train_baseline`` and ``train_treated``.
    """
    session = open_session(
        base, stream, config, arm=arm, seed=seed, log=log, resume=resume, device=device
    )
    kind = session.arm.kind
    if kind == "majority":
        return _majority(session)
    if kind in TRAINED:
        return run_full(session)
    if kind == "unfrozen":
        return run_unfrozen(session)
    return conclude_probe(session, probe(session))


def score_settings(
    base: Checkpoint,
    stream: Stream,
    config: LastLayerProbeConfig,
    *,
    arm: str,
    seed: int,
    log: Log = no_log,
    resume: ResumePoint | None = None,
    device: Device | None = None,
) -> tuple[float, float]:
    """Return the validation accuracy that a trained arm earns with these settings, and the seconds.

    The test images are not looked at.

    Args:
        base: As for ``train_baseline``.
        stream: As for ``train_baseline``.
        config: With the settings, see ``with_settings``.
        arm: ``full`` or ``fine_tuned``.
        seed: Apart from those that are reported.
        log: As for ``train_baseline``.
        resume: As for ``train_baseline``.
        device: As for ``train_baseline``.
    """
    session = open_session(
        base, stream, config, arm=arm, seed=seed, log=log, resume=resume, device=device
    )
    return score_net(session)


def _majority(session: Session) -> ArmResult:
    with session.watch("train"):
        bias, validation, test = majority_scores(session)
    with session.watch("judge"):
        judge(session, validation=validation, test=test)
    return conclude_majority(session, bias)


__all__ = ["run_arm", "score_settings", "train_baseline", "train_treated", "with_settings"]
