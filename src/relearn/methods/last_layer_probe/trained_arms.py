"""The arms that train more than the head: from scratch, from the base net, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.data.randomness import generator_of
from relearn.evaluation.classification import accuracy_of, predict
from relearn.methods.last_layer_probe.arm_result import conclude_net
from relearn.methods.last_layer_probe.judge import judge
from relearn.models.checkpoint import build, build_fresh
from relearn.models.heads import replace_head
from relearn.training.supervised import Task, train_classifier

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relearn.data.images import Split
    from relearn.evaluation.records import ArmResult
    from relearn.methods.last_layer_probe.config import LastLayerProbeConfig
    from relearn.methods.last_layer_probe.session import Session
    from relearn.models.checkpoint import Architecture
    from relearn.training.config import TrainConfig

_WHERE = "last_layer_probe.trained.train"


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
    """Return a net trained as a whole, judged on the test images once.

    Args:
        session: Of the kind ``full`` or ``fine_tuned``.
    """
    net, architecture, steps = _trained(session)
    with session.watch("judge"):
        validation, test = (
            _scores(net, architecture, split)
            for split in (session.samples.validation, session.samples.test)
        )
        judge(session, validation=validation, test=test, step=steps)
    costs = {"epochs": float(session.config.trained.train.epochs), "steps": float(steps)}
    return conclude_net(session, net, architecture, steps=steps, costs=costs)


def score_net(session: Session) -> tuple[float, float]:
    """Return the validation accuracy of a net trained as a whole, and the seconds it took.

    Args:
        session: Of the kind ``full`` or ``fine_tuned``, with the settings that are tried.
    """
    net, architecture, _ = _trained(session)
    held = session.samples.validation
    found = accuracy_of(_scores(net, architecture, held), held.labels)
    return found, session.watch.seconds["train"]


def run_unfrozen(session: Session) -> ArmResult:
    """Return the base net with its last blocks trained on from the probe's optimum.

    Args:
        session: Of the kind ``unfrozen``.
    """
    from relearn.methods.last_layer_probe.thawing import thaw

    return thaw(session)


def _trained(session: Session) -> tuple[nn.Module, Architecture, int]:
    net, architecture = _start(session)
    task = Task(
        architecture, session.samples.train, _settings(session), session.seed, where=_WHERE
    )
    session.device.place(net)
    with session.watch("train"):
        state = train_classifier(
            net, task, device=session.device, log=session.log, resume=session.resume
        )
    return net, architecture, state.step


def _start(session: Session) -> tuple[nn.Module, Architecture]:
    base, classes = session.base, session.samples.classes
    architecture = base.architecture.with_classes(classes)
    if session.arm.kind == "full":
        return build_fresh(architecture, seed=session.seed), architecture
    net = build(base)
    replace_head(
        net,
        classes,
        initialisation="zero",
        generator=generator_of(session.seed, "last_layer_probe.head"),
        name=str(base.provenance.get("head", "")),
    )
    return net, architecture


def _settings(session: Session) -> TrainConfig:
    trained = session.config.trained
    if session.arm.kind == "full":
        return trained.train
    rate = trained.train.learning_rate * trained.fine_tuned_factor
    return trained.train.model_copy(update={"learning_rate": rate})


def _scores(net: nn.Module, architecture: Architecture, split: Split) -> Tensor:
    return predict(net, split.images, mean=architecture.mean, std=architecture.std).cpu()
