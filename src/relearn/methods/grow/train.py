"""Baseline beside treated: a teacher, what it grows to, and each arm trained on from there.

Paper: Chen, Goodfellow, Shlens, "Net2Net", arXiv 1511.05641. Arms of one seed share images, teacher
and sample order; they differ in where their net comes from and in the budget that stands for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.errors import ParameterError
from relearn.evaluation.records import ArmResult, Log, no_log
from relearn.methods.grow.arm_result import conclude
from relearn.methods.grow.arms import arm_named, rate_factor
from relearn.methods.grow.pair import Pair, open_pair, teach
from relearn.methods.grow.student_run import StudentRun
from relearn.methods.grow.teacher import score
from relearn.training.device import Device, open_device
from relearn.training.resume import ResumePoint

if TYPE_CHECKING:
    from relearn.data.images import Stream
    from relearn.methods.grow.config import GrowConfig
    from relearn.methods.grow.teacher import Teacher
    from relearn.models.checkpoint import Checkpoint


def train_baseline(
    base: Checkpoint,
    stream: Stream,
    config: GrowConfig,
    *,
    arm: str,
    seed: int,
    log: Log = no_log,
    resume: ResumePoint | None = None,
    device: Device | None = None,
) -> ArmResult:
    """Train the seed's teacher and an arm whose weights only the optimizer changes, and judge it.

    Args:
        base: Architecture, and the teacher itself with ``start_from: base``; it keeps every bit.
        stream: Frozen data of all arms.
        config: Knobs.
        arm: Name of an arm that grows nothing, such as ``scratch_total``.
        seed: Seed of the pair.
        log: Live curves.
        resume: Where training is kept while it runs; None keeps nothing.
        device: Where to train; None is the plain CPU.

    Returns:
        The trained net with records, costs and an empty ledger.

    Raises:
        ParameterError: The arm is not switched on, or grows a net.
        GrowthError: The teacher cannot grow as asked, so that no arm is comparable.
        TrainingError: The loss is not finite.
    """
    if arm_named(config, arm).treated:
        raise ParameterError(f"grow.evidence.baseline_arm: {arm!r} grows a net; name a plain arm")
    teacher = _taught(base, stream, config, seed=seed, resume=resume, device=device)
    return run_arm(
        teacher, stream, config, arm=arm, seed=seed, log=log, resume=resume, device=device
    )


def train_treated(
    base: Checkpoint,
    stream: Stream,
    config: GrowConfig,
    *,
    arm: str,
    seed: int,
    log: Log = no_log,
    resume: ResumePoint | None = None,
    device: Device | None = None,
) -> ArmResult:
    """Train the seed's teacher, grow it, train on from there, and judge the net.

    Args:
        base: As for ``train_baseline``.
        stream: As for ``train_baseline``.
        config: As for ``train_baseline``.
        arm: Name of an arm whose net is made from the teacher, such as ``grown``.
        seed: As for ``train_baseline``.
        log: As for ``train_baseline``.
        resume: As for ``train_baseline``.
        device: As for ``train_baseline``.

    Returns:
        The trained net with records, costs and the ledger.

    Raises:
        ParameterError: The arm is not switched on, or grows nothing.
        GrowthError: The teacher cannot grow as asked.
        FunctionChangedError: The grown net computes another function; nothing was trained.
        TrainingError: The loss is not finite.
    """
    if not arm_named(config, arm).treated:
        raise ParameterError(f"grow.evidence.treated_arm: {arm!r} grows nothing; name a grown arm")
    teacher = _taught(base, stream, config, seed=seed, resume=resume, device=device)
    return run_arm(
        teacher, stream, config, arm=arm, seed=seed, log=log, resume=resume, device=device
    )


def run_arm(
    teacher: Teacher,
    stream: Stream,
    config: GrowConfig,
    *,
    arm: str,
    seed: int,
    log: Log = no_log,
    resume: ResumePoint | None = None,
    device: Device | None = None,
) -> ArmResult:
    """Train and judge one arm of a seed whose teacher is there already.

    Args:
        teacher: Of this seed.
        stream: As for ``train_baseline``.
        config: As for ``train_baseline``.
        arm: Name of any arm that is switched on.
        seed: As for ``train_baseline``.
        log: As for ``train_baseline``.
        resume: As for ``train_baseline``.
        device: As for ``train_baseline``.

    Returns:
        The trained net, or the teacher where a grown net was given up; with records and costs.
    """
    run, pair = _trained(
        teacher, stream, config, arm=arm, seed=seed, log=log, resume=resume, device=device
    )
    return conclude(run, pair, stream)


def score_settings(
    teacher: Teacher,
    stream: Stream,
    config: GrowConfig,
    *,
    arm: str,
    seed: int,
    log: Log = no_log,
    resume: ResumePoint | None = None,
    device: Device | None = None,
) -> tuple[float, dict[str, float]]:
    """Return the last validation accuracy that an arm earns with these settings, and the seconds.

    The test images are not looked at.

    Args:
        teacher: Of this seed.
        stream: As for ``train_baseline``.
        config: Knobs with the rate that is tried.
        arm: Name of any arm that is switched on.
        seed: A seed that is not reported on.
        log: As for ``train_baseline``.
        resume: As for ``train_baseline``.
        device: As for ``train_baseline``.
    """
    run, pair = _trained(
        teacher, stream, config, arm=arm, seed=seed, log=log, resume=resume, device=device
    )
    found = score(run.net, pair.samples.validation, run.architecture)[0]
    log(run.steps, {"selection_score": found})
    return found, dict(run.watch.seconds)


def with_rate(config: GrowConfig, *, arm: str, factor: float) -> GrowConfig:
    """Return the configuration with another learning rate for one arm.

    Args:
        config: Knobs.
        arm: Name of the arm.
        factor: Factor on the rate it has.
    """
    own = rate_factor(config, arm) * factor
    rates = config.rates.model_copy(update={arm: own})
    return config.model_copy(update={"rates": rates})


def _trained(
    teacher: Teacher,
    stream: Stream,
    config: GrowConfig,
    *,
    arm: str,
    seed: int,
    log: Log,
    resume: ResumePoint | None,
    device: Device | None,
) -> tuple[StudentRun, Pair]:
    place = device or open_device("cpu", "fp32")
    pair = open_pair(teacher, stream, config, seed=seed)
    run = StudentRun(arm_named(config, arm), pair, config, device=place, log=log)
    run.train(resume)
    return run, pair


def _taught(
    base: Checkpoint,
    stream: Stream,
    config: GrowConfig,
    *,
    seed: int,
    resume: ResumePoint | None,
    device: Device | None,
) -> Teacher:
    """Return the teacher, kept beside the arm's own resume point while it is trained."""
    kept = None
    if resume is not None:
        kept = ResumePoint(resume.path.with_name(f"teacher.{resume.path.name}"), resume.key)
    return teach(base, stream, config, seed=seed, resume=kept, device=device)


__all__ = ["run_arm", "score_settings", "train_baseline", "train_treated", "with_rate"]
