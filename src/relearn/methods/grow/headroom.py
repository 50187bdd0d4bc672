"""Could a larger net help at all? Asked of the teacher before anything is grown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from relearn.data.randomness import seed_of
from relearn.methods.grow.fresh import fresh_student
from relearn.methods.grow.growing import grown_architecture
from relearn.methods.grow.samples import batches_of
from relearn.methods.grow.teacher import optimizer_of, score
from relearn.models.checkpoint import build_fresh
from relearn.training.device import Device, open_device
from relearn.training.loop import fit

if TYPE_CHECKING:
    from torch import nn

    from relearn.methods.grow.config import GrowConfig
    from relearn.methods.grow.growth_config import HeadroomConfig
    from relearn.methods.grow.pair import Pair
    from relearn.models.checkpoint import Architecture


@dataclass(frozen=True)
class Advice:
    """Whether to grow, and why.

    Attributes:
        grow: False advises against it.
        reasons: One sentence each.
        figures: What they rest on, means over the teachers.
    """

    grow: bool
    reasons: tuple[str, ...]
    figures: Mapping[str, float]

    def to_plain(self) -> dict[str, Any]:
        """Return the advice as plain data."""
        return {"grow": self.grow, "reasons": list(self.reasons), "figures": dict(self.figures)}


def advise(
    told: Sequence[Mapping[str, Any]], config: HeadroomConfig, *, gain: float | None = None
) -> Advice:
    """Return whether a larger net could help, from what the teachers' training told.

    Args:
        told: ``Teacher.told`` of each seed; at least one.
        config: What counts.
        gain: What the probe found; None where there was none.
    """
    figures = {
        name: sum(float(row[name]) for row in told) / len(told)
        for name in ("train_accuracy", "validation_accuracy")
    }
    error = 1 - figures["validation_accuracy"]
    figures["generalisation_gap"] = figures["train_accuracy"] - figures["validation_accuracy"]
    against = []
    if error < config.smallest_error:
        against.append(
            f"the validation error is {100 * error:.1f} %, below "
            f"{100 * config.smallest_error:g} %: there is nothing left to gain"
        )
    if figures["train_accuracy"] >= config.fitted:
        against.append(
            f"the teacher has {100 * figures['train_accuracy']:.1f} % of its training images right "
            f"and {100 * figures['validation_accuracy']:.1f} % of others: more or augmented images "
            "help, more capacity does not"
        )
    if gain is not None:
        figures["probe_gain"] = gain
        if gain < config.probe_gain:
            against.append(
                f"beside a fresh net of the teacher's size, one of the student's size gained "
                f"{100 * gain:+.1f} points, expected {100 * config.probe_gain:+g} or more"
            )
    reasons = against or [
        f"the validation error is {100 * error:.1f} % and the training error "
        f"{100 * (1 - figures['train_accuracy']):.1f} %: there is room for a larger net"
    ]
    return Advice(not against, tuple(reasons), figures)


def probe(pair: Pair, config: GrowConfig, *, device: Device | None = None) -> float:
    """Return what a fresh net of the student's size gains over one of the teacher's size.

    Both are trained for ``headroom.probe_epochs`` with the teacher's settings and judged on the
    validation images.

    Args:
        pair: Images, teacher and growth of one seed.
        config: Knobs of the method.
        device: Where to train; None is the plain CPU.
    """
    before = pair.teacher.checkpoint.architecture
    grown = pair.grown
    after = grown_architecture(before, grown.teacher, grown.student, grown.record)
    drawn = seed_of(pair.seed, "grow.probe")
    nets: list[tuple[nn.Module, Architecture]] = [
        (build_fresh(before, seed=drawn), before),
        fresh_student(before, after, pair.grown.student, seed=drawn),
    ]
    place = device or open_device("cpu", "fp32")
    small, large = (_probed(net, shape, pair, config, device=place) for net, shape in nets)
    return large - small


def _probed(
    net: nn.Module, architecture: Architecture, pair: Pair, config: GrowConfig, *, device: Device
) -> float:
    """Return the validation accuracy of a fresh net after the probe's few epochs."""
    train, split = config.teacher.train, pair.samples.train
    batches = batches_of(
        split, architecture, train, seed=pair.seed, name="probe", device=device.name
    )
    device.place(net.train())
    fit(
        net,
        batches,
        torch.nn.functional.cross_entropy,
        optimizer_of(net, train, train.learning_rate),
        epochs=config.growth.headroom.probe_epochs,
        device=device,
        max_gradient_norm=train.max_gradient_norm,
        progress="grow: headroom",
        where=f"grow.teacher: headroom, seed {pair.seed}",
    )
    return score(net, pair.samples.validation, architecture)[0]
