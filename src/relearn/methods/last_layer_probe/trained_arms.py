"""The arms that train more than the head: from scratch, from the base net, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.evaluation.classification import predict
from relearn.methods.last_layer_probe.arm_result import conclude_net
from relearn.methods.last_layer_probe.blocks import put_head
from relearn.methods.last_layer_probe.frozen_base import head_of, note_base
from relearn.methods.last_layer_probe.full_training import train_whole
from relearn.methods.last_layer_probe.judge import judge
from relearn.methods.last_layer_probe.net_training import Trained, Training
from relearn.methods.last_layer_probe.probing import last_head
from relearn.methods.last_layer_probe.unfreeze import Road, unfreeze
from relearn.models.checkpoint import build, build_fresh

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relearn.data.images import Split
    from relearn.evaluation.records import ArmResult
    from relearn.methods.last_layer_probe.config import LastLayerProbeConfig
    from relearn.methods.last_layer_probe.session import Session
    from relearn.models.checkpoint import Architecture
    from relearn.training.config import TrainConfig


def with_settings(
    config: LastLayerProbeConfig, *, rate: float, epochs: float
) -> LastLayerProbeConfig:
    """Return the knobs with another rate and length of the trained arms.

    Args:
        config: Knobs.
        rate: Factor on the learning rate, above 0.
        epochs: Factor on the epochs, above 0; one epoch is trained at least.
    """
    train = config.trained.train
    changed = train.model_copy(
        update={
            "learning_rate": float(f"{train.learning_rate * rate:.6g}"),
            "epochs": max(1, round(train.epochs * epochs)),
        }
    )
    trained = config.trained.model_copy(update={"train": changed})
    return config.model_copy(update={"trained": trained})


def run_full(session: Session) -> ArmResult:
    """Return a net trained as a whole, its best epoch on validation images kept.

    Args:
        session: Of the kind ``full`` or ``fine_tuned``.
    """
    net, architecture, found = _trained(session)
    return _judged(session, net, architecture, steps=found.steps, costs=found.costs())


def score_net(session: Session) -> tuple[float, float]:
    """Return the validation accuracy of a net trained as a whole, and the seconds it took.

    Args:
        session: Of the kind ``full`` or ``fine_tuned``, with the settings that are tried.
    """
    _, _, found = _trained(session)
    return found.validation_accuracy, session.watch.seconds["train"]


def run_unfrozen(session: Session) -> ArmResult:
    """Return the base net with its last blocks trained on from the probe's optimum.

    The first step that gains too little ends the road; what is kept may be the probe itself.

    Args:
        session: Of the kind ``unfrozen``.
    """
    told = session.config.trained.unfreeze
    net, architecture = _start(session)
    note_base(session, net)
    settings = session.config.trained.train.model_copy(
        update={"epochs": told.epochs, "learning_rate": told.learning_rate, "warmup_epochs": 0.0}
    )
    with session.watch("train"):
        found = unfreeze(
            net,
            _training(session, architecture, settings, batch_norm="frozen"),
            Road(
                most_steps=told.most_steps,
                layer_factor=told.layer_factor,
                smallest_gain=told.smallest_gain,
                sigmas=told.sigmas,
                budget_seconds=told.budget_seconds,
            ),
            head=head_of(session),
            device=session.device,
            log=session.log,
            resume=session.resume,
        )
    for row in (step.as_row() for step in found.steps):
        values = ("validation_accuracy", "gain", "standard_error", "needed", "kept")
        session.recorder.add(
            "unfreeze", int(row["blocks"]), {name: float(row[name]) for name in values}
        )
    costs = found.costs()
    return _judged(session, net, architecture, steps=int(costs["steps"]), costs=costs)


def _start(session: Session) -> tuple[nn.Module, Architecture]:
    """Return the net as training finds it: drawn afresh, or the base with the probe's head."""
    base = session.base
    architecture = base.architecture.with_classes(session.samples.classes)
    if session.arm.kind == "full":
        return build_fresh(architecture, seed=session.seed), architecture
    net = build(base)
    with session.watch("features"):
        solved = last_head(session)
    put_head(net, solved.weight.float(), solved.bias.float(), head_of(session))
    return net, architecture


def _trained(session: Session) -> tuple[nn.Module, Architecture, Trained]:
    net, architecture = _start(session)
    settings = session.config.trained.train
    if session.arm.kind == "fine_tuned":
        rate = settings.learning_rate * session.config.trained.fine_tuned_factor
        settings = settings.model_copy(update={"learning_rate": rate})
    with session.watch("train"):
        found = train_whole(
            net,
            _training(session, architecture, settings, batch_norm="learn"),
            head=head_of(session),
            device=session.device,
            log=session.log,
            resume=session.resume,
        )
    return net, architecture, found


def _training(
    session: Session, architecture: Architecture, settings: TrainConfig, *, batch_norm: str
) -> Training:
    return Training(
        architecture=architecture,
        train=session.samples.train,
        validation=session.samples.validation,
        settings=settings,
        seed=session.seed,
        batch_norm=batch_norm,
    )


def _judged(
    session: Session,
    net: nn.Module,
    architecture: Architecture,
    *,
    steps: int,
    costs: dict[str, float],
) -> ArmResult:
    with session.watch("judge"):
        validation, test = (
            _scores(net, architecture, split)
            for split in (session.samples.validation, session.samples.test)
        )
        judge(session, validation=validation, test=test, step=steps)
    own = {name: costs[name] for name in ("epochs", "steps", "train_flops", "validation_seconds")}
    return conclude_net(session, net, architecture, steps=steps, costs=own)


def _scores(net: nn.Module, architecture: Architecture, split: Split) -> Tensor:
    return predict(net, split.images, mean=architecture.mean, std=architecture.std).cpu()
