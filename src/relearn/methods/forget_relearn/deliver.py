"""From a training that has ended to plain data: every model it can deliver, and its books."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from relearn.methods.forget_relearn.arms import (
    AVERAGE,
    AVERAGE_BEST,
    BEST,
    LAST,
    STABLE,
    STABLE_BEST,
)
from relearn.methods.forget_relearn.recalibrate import recalibrate
from relearn.methods.forget_relearn.roll_back import weights_of
from relearn.methods.forget_relearn.trained import Trained
from relearn.methods.forget_relearn.watch import NEVER
from relearn.provenance import digest

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.data.images import Stream
    from relearn.methods.forget_relearn.config import ForgetRelearnConfig
    from relearn.methods.forget_relearn.session import Session

_LAST_OF = {"student": LAST, "average": AVERAGE, "stable": STABLE}
_BEST_OF = {"student": BEST, "average": AVERAGE_BEST, "stable": STABLE_BEST}
_OUTSIDE_TRAINING = {"compare", "trainings", "judging", "tuning", "study", "evidence"}
Models = dict[str, dict[str, "Tensor"]]


def deliver(session: Session, stream: Stream, *, steps: int) -> Trained:
    """Return the finished training; stable models are recalibrated where that is asked for.

    Args:
        session: Nets and books after the last epoch.
        stream: Frozen data of all arms.
        steps: Optimizer steps done.
    """
    models, epochs = _models(session)
    notes = {"robust_overfitting_epoch": float(session.alarm.epoch)}
    notes |= {"peak_robust_accuracy": session.alarm.peak}
    changes = session.books.interventions
    return Trained(
        name=session.training.name,
        seed=session.seed,
        architecture=session.architecture,
        models=models,
        epochs=epochs,
        curves=session.books.curves,
        recoveries=_recoveries(session),
        notes={"catastrophic_overfitting_epoch": float(NEVER), **notes, **session.books.notes},
        costs=_costs(session, steps),
        interventions=changes,
        pictures=session.books.pictures,
        order_digest=session.batches.order_digest,
        steps=steps,
        steps_since_change=steps - max((one.step for one in changes), default=0),
        stream=stream.digest,
        settings=settings_digest(session.config),
    )


def settings_digest(config: ForgetRelearnConfig) -> str:
    """Return the digest of what a training depends on; how it is judged does not count.

    Args:
        config: Knobs of the method.
    """
    return digest(training_settings(config))


def training_settings(config: ForgetRelearnConfig) -> dict[str, Any]:
    """Return the knobs that a training depends on, as plain data.

    Args:
        config: Knobs of the method.
    """
    told: dict[str, Any] = config.model_dump(exclude=_OUTSIDE_TRAINING)
    told["roll_back"] = {k: v for k, v in told["roll_back"].items() if k != "to_cycle"}
    return told


def _models(session: Session) -> tuple[Models, dict[str, int]]:
    models: Models = {}
    epochs: dict[str, int] = {}
    for kind, net in session.kinds().items():
        models[_LAST_OF[kind]] = weights_of(net)
        epochs[_LAST_OF[kind]] = session.config.train.epochs
        best = session.books.best[kind]
        models[_BEST_OF[kind]], epochs[_BEST_OF[kind]] = best.weights, best.epoch
    for recovery in session.books.recoveries:
        for kind, weights in session.books.cycles.get(recovery.cycle, {}).items():
            name = f"cycle{recovery.cycle}.{kind}"
            models[name] = weights
            epochs[name] = recovery.epoch + session.trigger.config.relearn_epochs
    if session.config.consolidate.recalibrate:
        for name in models:
            if name.endswith((STABLE, STABLE_BEST)):
                models[name] = recalibrate(session, models[name])
    return models, epochs


def _recoveries(session: Session) -> list[dict[str, float]]:
    rows = []
    for recovery in session.books.recoveries:
        seen = session.books.seen.get(recovery.cycle, {})
        rows.append({**recovery.values(), **seen})
    return rows


def _costs(session: Session, steps: int) -> dict[str, float]:
    seconds = session.watch.seconds
    apart = seconds.get("monitor", 0.0) + seconds.get("pictures", 0.0)
    training = seconds["total"] - apart
    change = sum(seconds.get(name, 0.0) for name in ("forget", "consistency", "consolidation"))
    return {
        "train_seconds": training,
        "forget_seconds": seconds.get("forget", 0.0),
        "consistency_seconds": seconds.get("consistency", 0.0),
        "consolidation_seconds": seconds.get("consolidation", 0.0),
        "monitor_seconds": seconds.get("monitor", 0.0),
        "pictures_seconds": seconds.get("pictures", 0.0),
        "total_seconds": seconds["total"],
        "change_percent": 100 * change / training,
        "steps": float(steps),
    }
