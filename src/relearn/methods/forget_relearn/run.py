"""Running one training: batches that are attacked on the fly, the loop, and the cycle around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.errors import ParameterError
from relearn.evaluation.records import Log, no_log
from relearn.methods.forget_relearn.arms import Training, trainings_of
from relearn.methods.forget_relearn.cycle import Cycle
from relearn.methods.forget_relearn.deliver import deliver
from relearn.methods.forget_relearn.measure import require_enough_samples
from relearn.methods.forget_relearn.pictures import Pictures
from relearn.methods.forget_relearn.session import Session
from relearn.methods.forget_relearn.warm_start import WarmStart
from relearn.training.adversarial import AdversarialBatches, AdversarialLoss
from relearn.training.attack import Attack
from relearn.training.device import Device, open_device
from relearn.training.loop import Windows, fit
from relearn.training.optimizers import make_optimizer, make_schedule
from relearn.training.resume import NoResume
from relearn.training.weight_perturbation import WeightPerturbation

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from relearn.data.images import Stream
    from relearn.methods.forget_relearn.config import ForgetRelearnConfig
    from relearn.methods.forget_relearn.trained import Trained
    from relearn.models.checkpoint import Checkpoint
    from relearn.training.resume import ResumePoint


def train_one(  # noqa: PLR0913 - all but what is trained go by keyword
    base: Checkpoint,
    stream: Stream,
    config: ForgetRelearnConfig,
    *,
    training: str,
    seed: int,
    log: Log = no_log,
    resume: ResumePoint | None = None,
    device: Device | None = None,
    warmup: ResumePoint | None = None,
) -> Trained:
    """Run one training and return every model that it can deliver.

    Args:
        base: As for ``train_baseline``.
        stream: As for ``train_baseline``.
        config: As for ``train_baseline``.
        training: Name of a training, as in ``arms.trainings_of``.
        seed: As for ``train_baseline``.
        log: As for ``train_baseline``.
        resume: As for ``train_baseline``.
        device: As for ``train_baseline``.
        warmup: Where plain training leaves the end of the warm-up, and trainings that forget take
            it up, which changes nothing but the time; None shares none.

    Raises:
        ParameterError: The training is not switched on, or its settings do not fit net or images.
        TrainingError: The loss is not finite.
    """
    found = trainings_of(config)
    if training not in found:
        raise ParameterError(
            f"forget_relearn.trainings: {training!r} is not switched on; there are "
            f"{', '.join(found)}"
        )
    session = open_session(
        base, stream, config, training=found[training], seed=seed, device=device, log=log
    )
    with session.watch("total"):
        steps = _run(session, resume, warmup, stream.digest)
    return deliver(session, stream, steps=steps)


def open_session(
    base: Checkpoint,
    stream: Stream,
    config: ForgetRelearnConfig,
    *,
    training: Training,
    seed: int,
    device: Device | None = None,
    log: Log = no_log,
) -> Session:
    """Return a training that is ready to begin, after everything that can be refused was checked.

    Args:
        base: As for ``train_baseline``.
        stream: As for ``train_baseline``.
        config: As for ``train_baseline``.
        training: What is done.
        seed: As for ``train_baseline``.
        device: As for ``train_baseline``.
        log: As for ``train_baseline``.

    Raises:
        ParameterError: Layers, attack, samples or judging do not fit net or images.
    """
    place = device or open_device("cpu", "fp32")
    session = Session(base, stream, config, training=training, seed=seed, device=place, log=log)
    require_enough_samples(session.samples, config)
    return session


def attack_of(session: Session) -> Attack:
    """Return the attack inside training.

    Args:
        session: Its configuration says how far and in what steps.
    """
    attack = session.config.attack
    return Attack(
        session.ball,
        attack.step_size,
        attack.steps,
        restarts=attack.restarts,
        random_start=attack.random_start,
        batch_norm=attack.batch_norm,
    )


def _run(
    session: Session, resume: ResumePoint | None, warmup: ResumePoint | None, stream: str
) -> int:
    config, knobs = session.config, session.config.train
    told = config.loss
    loss = AdversarialLoss(
        told.name, told.trades_beta, told.fgsm_step_factor, knobs.label_smoothing
    )
    cycle = Cycle(session, loss, pictures=_pictures(session))
    batches = AdversarialBatches(
        session.batches,
        session.net,
        attack=attack_of(session),
        loss=loss,
        device=session.device,
        after_attack=cycle.after_attack,
        weights=_perturbation(session),
    )
    optimizer, schedule = _optimizer_of(session, batches.steps_per_epoch)
    state = fit(
        session.net,
        batches,
        cycle.loss,
        optimizer,
        epochs=knobs.epochs,
        windows=Windows(
            before_epoch=cycle.before_epoch,
            after_backward=batches.after_backward,
            after_step=cycle.after_step,
            after_epoch=cycle.after_epoch,
        ),
        resume=WarmStart(resume or NoResume(), warmup, session=session, cycle=cycle, stream=stream),
        schedule=schedule,
        device=session.device,
        max_gradient_norm=knobs.max_gradient_norm,
        progress=None,
        where=session.where,
        books=cycle,
    )
    return state.step


def _optimizer_of(session: Session, steps_per_epoch: int) -> tuple[Optimizer, LRScheduler]:
    knobs = session.config.train
    optimizer = make_optimizer(
        session.net.parameters(),
        name=knobs.optimizer,
        learning_rate=knobs.learning_rate,
        weight_decay=knobs.weight_decay,
        momentum=knobs.momentum,
    )
    schedule = make_schedule(
        optimizer,
        name=knobs.schedule,
        epochs=knobs.epochs,
        steps_per_epoch=steps_per_epoch,
        warmup_epochs=knobs.warmup_epochs,
    )
    return optimizer, schedule


def _perturbation(session: Session) -> WeightPerturbation | None:
    if not session.training.perturbed:
        return None
    awp = session.config.awp
    return WeightPerturbation(awp.gamma, from_epoch=awp.warmup_epochs)


def _pictures(session: Session) -> Pictures | None:
    monitor = session.config.monitor
    if not monitor.pictures or not session.training.treated:
        return None
    few = slice(None, monitor.picture_images)
    return Pictures(
        session.samples.validation.images[few],
        session.samples.validation.labels[few],
        attack=session.examiner.attack,
        ball=session.ball,
        seed=session.seed,
        head=session.config.head,
    )
