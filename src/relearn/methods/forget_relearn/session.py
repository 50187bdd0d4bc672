"""One training with one seed: nets, images, and the books that are kept about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch

from relearn.data.ball import Ball
from relearn.errors import ParameterError
from relearn.evaluation.efficiency import Stopwatch
from relearn.evaluation.records import Intervention, Log
from relearn.methods.forget_relearn.consolidate import StableModel, decay_of
from relearn.methods.forget_relearn.roll_back import weights_of
from relearn.methods.forget_relearn.samples import draw_samples
from relearn.methods.forget_relearn.triggers import Trigger
from relearn.methods.forget_relearn.watch import Examiner, OverfittingAlarm, Recovery
from relearn.models.checkpoint import build, build_fresh
from relearn.models.heads import find_head
from relearn.models.layer_groups import GROUPS, choose_layers, group_of_tensor
from relearn.models.normalised import NormalisedNet

if TYPE_CHECKING:
    from torch import nn

    from relearn.data.images import Stream
    from relearn.methods.forget_relearn.arms import Training
    from relearn.methods.forget_relearn.config import ForgetRelearnConfig
    from relearn.models.checkpoint import Architecture, Checkpoint
    from relearn.training.device import Device

Weights = dict[str, torch.Tensor]


@dataclass
class Best:
    """The best evaluation of one kind of model on validation so far.

    Attributes:
        epoch: Epochs done.
        score: Robust accuracy on validation.
        weights: Of the model as it stood.
    """

    epoch: int
    score: float
    weights: Weights


@dataclass
class Books:
    """What is written down while training; plain numbers, rows and tensors.

    Attributes:
        curves: Kind of model to rows of (epoch, metric to value).
        best: Kind of model to its best evaluation.
        cycles: Number of a cycle to the kinds of model as they stood when it had relearnt.
        recoveries: One a forgetting.
        interventions: The ledger.
        pictures: Tensors for the before and after pictures.
        seen: Number of a forgetting to what its pictures measured.
        notes: Metric to value, measured once.
        sums: Since the last evaluation: sum of losses, of accuracies on attacked batches, and their
            number, float64, shape (3,), on the device, so that no step waits for it.
    """

    curves: dict[str, list[list[Any]]] = field(default_factory=dict)
    best: dict[str, Best] = field(default_factory=dict)
    cycles: dict[int, dict[str, Weights]] = field(default_factory=dict)
    recoveries: list[Recovery] = field(default_factory=list)
    interventions: list[Intervention] = field(default_factory=list)
    pictures: Weights = field(default_factory=dict)
    seen: dict[int, dict[str, float]] = field(default_factory=dict)
    notes: dict[str, float] = field(default_factory=dict)
    sums: torch.Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))

    def plain(self) -> dict[str, Any]:
        """Return what a resume point can keep."""
        return {
            "curves": self.curves,
            "best": {kind: vars(best) for kind, best in self.best.items()},
            "cycles": self.cycles,
            "recoveries": [asdict(one) for one in self.recoveries],
            "interventions": [one.as_row() for one in self.interventions],
            "pictures": self.pictures,
            "seen": self.seen,
            "notes": self.notes,
            "sums": self.sums,
        }

    @classmethod
    def from_plain(cls, state: Mapping[str, Any]) -> Books:
        """Return the books that ``plain`` described.

        Args:
            state: Read from a resume point.
        """
        return cls(
            curves={kind: list(rows) for kind, rows in state["curves"].items()},
            best={kind: Best(**told) for kind, told in state["best"].items()},
            cycles=dict(state["cycles"]),
            recoveries=[Recovery(**row) for row in state["recoveries"]],
            interventions=[Intervention(**row) for row in state["interventions"]],
            pictures=dict(state["pictures"]),
            seen=dict(state["seen"]),
            notes=dict(state["notes"]),
            sums=state["sums"].clone(),
        )


class Session:
    """Everything that changes while one training runs.

    Args:
        base: Architecture, and weights where ``start_from`` is ``base``; it keeps every bit.
        stream: Data of all arms.
        config: Knobs of the method.
        training: What is done.
        seed: Seed of the pair.
        device: Where to train.
        log: Live curves.

    Raises:
        ParameterError: Layers are not known, or early ones are not permitted.
    """

    def __init__(
        self,
        base: Checkpoint,
        stream: Stream,
        config: ForgetRelearnConfig,
        *,
        training: Training,
        seed: int,
        device: Device,
        log: Log,
    ) -> None:
        self.config, self.training, self.seed = config, training, seed
        self.device, self.log, self.base = device, log, base
        self.samples = draw_samples(stream, config.samples, seed=seed)
        self.architecture = replace(base.architecture, classes=self.samples.classes)
        self.model = device.place(start_of(base, self.architecture, config, seed=seed).train())
        self.net = self.as_pixels(self.model)
        self.first: Weights = weights_of(self.model) if self._rewinds else {}
        self.batches = self.samples.batches(config.train, seed=seed, device=device.name)
        self.ball = Ball(config.attack.norm, config.attack.epsilon)
        self.shares = forgotten_shares(self.model, training, head=config.head)
        self.trigger = Trigger(training.cycle or config.cycle, epochs=config.train.epochs)
        self.stable: StableModel | None = None
        self.average: StableModel | None = None
        self.alarm = OverfittingAlarm(config.monitor.alarm_fall)
        self.examiner = Examiner(
            self.samples, config.monitor, attack=config.attack, ball=self.ball, seed=seed
        )
        self.books = Books(sums=torch.zeros(3, dtype=torch.float64, device=device.name))
        self.watch = Stopwatch()
        self.where = f"forget_relearn: training {training.name}, seed {seed}"

    @property
    def _rewinds(self) -> bool:
        return self.training.treated and self.training.forget.initialisation == "rewind"

    def as_pixels(self, model: nn.Module) -> NormalisedNet:
        """Return the net that takes pixels in the range 0 to 1; it shares the parameters.

        Args:
            model: A net of the session's architecture.
        """
        return NormalisedNet(model, self.architecture.mean, self.architecture.std)

    def begin_average(self) -> None:
        """Start the moving average of plain adversarial training from the present weights."""
        decay = decay_of(self.config.average.memory_epochs, self.batches.steps_per_epoch)
        self.average = StableModel(self.model, decay=decay, young=True)

    def begin_stable(self) -> None:
        """Start the stable model from the student's present weights: the first consolidation."""
        consolidate = self.config.consolidate
        self.stable = StableModel(
            self.model,
            decay=decay_of(consolidate.memory_epochs, self.batches.steps_per_epoch),
            probability=consolidate.probability,
            copy_statistics=consolidate.batch_norm == "copy",
            seed=self.seed,
        )

    def kinds(self) -> dict[str, nn.Module]:
        """Return the models there are now: ``student``, ``average``, ``stable``."""
        found = {"student": self.model}
        if self.average is not None:
            found["average"] = self.average.net
        if self.stable is not None:
            found["stable"] = self.stable.net
        return found

    def state(self) -> dict[str, Any]:
        """Return what a resume point keeps."""
        return {
            "books": self.books.plain(),
            "trigger": self.trigger.state(),
            "alarm": asdict(self.alarm),
            "stable": self.stable.state() if self.stable else None,
            "average": self.average.state() if self.average else None,
            "seconds": self.watch.snapshot(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state`` returned.

        Args:
            state: Read from a resume point.
        """
        self.books = Books.from_plain(state["books"])
        self.books.sums = self.books.sums.to(self.device.name)
        self.trigger.restore(state["trigger"])
        self.alarm.restore(state["alarm"])
        if state["stable"] is not None:
            self.begin_stable()
            if self.stable is not None:
                self.stable.restore(state["stable"])
        if state["average"] is not None:
            self.begin_average()
            if self.average is not None:
                self.average.restore(state["average"])
        self.watch.seconds = dict(state["seconds"])


def start_of(
    base: Checkpoint, architecture: Architecture, config: ForgetRelearnConfig, *, seed: int
) -> nn.Module:
    """Return the net with its first weights.

    Args:
        base: Weights for ``start_from: base``.
        architecture: With one output a class.
        config: Knobs of the method.
        seed: Seed of the pair.
    """
    fresh = build_fresh(architecture, seed=seed)
    if config.start_from == "initialisation":
        return fresh
    model = build(base)
    if architecture.classes != base.architecture.classes:
        name = find_head(model, config.head).name
        model.set_submodule(name, fresh.get_submodule(name))
    return model


def forgotten_shares(model: nn.Module, training: Training, *, head: str) -> dict[str, float]:
    """Return the share of each tensor that one forgetting takes, by name of the tensor.

    Args:
        model: The net.
        training: What is forgotten; nothing for plain adversarial training.
        head: Name of the last layer; empty finds it.

    Raises:
        ParameterError: Layers are not known, or early ones are chosen without ``allow_early``.
    """
    if not training.treated:
        return {}
    forget = training.forget
    if forget.initialisation == "stable" and not training.stable:
        raise ParameterError(
            f"forget_relearn.forget.initialisation: stable takes values from the stable model, and "
            f"training {training.name} keeps none; use fresh, rewind or zero, or switch off "
            f"forget_relearn.trainings.{training.name}"
        )
    own = forget.fractions
    shares: dict[str, float] = {}
    for word, tensors in choose_layers(model, forget.layers, head=head).items():
        share = getattr(own, word) if word in GROUPS else None
        shares |= dict.fromkeys(tensors, forget.fraction if share is None else share)
    early = [t for t in shares if shares[t] and group_of_tensor(model, t, head=head) == "early"]
    if early and not forget.allow_early:
        raise ParameterError(
            f"forget_relearn.forget.layers: {forget.layers!r} would forget the early layers "
            f"({early[0]} first), which harms; choose later ones such as late+head, or set "
            "forget_relearn.forget.allow_early=true"
        )
    return shares | _biases(model, shares) if forget.include_bias else shares


def _biases(model: nn.Module, shares: Mapping[str, float]) -> dict[str, float]:
    names = {name for name, _ in model.named_parameters()}
    found = {name.removesuffix("weight") + "bias": share for name, share in shares.items()}
    return {name: share for name, share in found.items() if name in names and name not in shares}
