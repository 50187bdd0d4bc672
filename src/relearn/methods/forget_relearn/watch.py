"""What is seen of a training while it runs: curves, robust overfitting, and recovery."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from relearn.data.images import Split
from relearn.data.randomness import generator_of
from relearn.evaluation.attacks.pgd import Pgd
from relearn.evaluation.attacks.scoring import both_masks

if TYPE_CHECKING:
    from torch import nn

    from relearn.data.ball import Ball
    from relearn.methods.forget_relearn.adversarial_config import AttackConfig
    from relearn.methods.forget_relearn.judging_config import MonitorConfig
    from relearn.methods.forget_relearn.samples import Samples

NEVER = -1
"""Stands for an epoch or a count that never came."""


@dataclass(frozen=True)
class Reading:
    """Accuracies on one split, 0 to 1.

    Attributes:
        clean: On images as they are.
        robust: On images that were attacked.
    """

    clean: float
    robust: float


class Examiner:
    """Measures nets on training and validation images; never on test images.

    Args:
        samples: Images of the pair.
        monitor: How many images and steps.
        attack: Attack inside training; its step size is used.
        ball: Where attacked images may lie.
        seed: Seed of the pair.
    """

    def __init__(
        self,
        samples: Samples,
        monitor: MonitorConfig,
        *,
        attack: AttackConfig,
        ball: Ball,
        seed: int,
    ) -> None:
        few = monitor.images or None
        self.splits = {
            "train": _some(samples.train, monitor.images, seed=seed),
            "validation": samples.validation,
            "few": Split(samples.validation.images[:few], samples.validation.labels[:few]),
        }
        self.attack = Pgd(step_size=attack.step_size, steps=monitor.steps)
        self.ball, self.seed = ball, seed

    def read(self, net: nn.Module, split: str) -> Reading:
        """Return clean and robust accuracy of a net, in fp32 and evaluation mode.

        Args:
            net: Takes pixels; it is left as it was.
            split: ``train`` (with the labels that are learnt), ``validation``, or ``few`` for its
                first ``monitor.images`` images.
        """
        chosen = self.splits[split]
        clean, robust = both_masks(
            net, chosen.images, chosen.labels, attack=self.attack, ball=self.ball, seed=self.seed
        )
        return Reading(float(clean.double().mean()), float(robust.double().mean()))


def _some(split: Split, count: int, *, seed: int) -> Split:
    """Return so many images of a split that may be sorted by class; 0 = all, as they stand."""
    if not 0 < count < len(split):
        return split
    generator = generator_of(seed, "forget_relearn.monitor.train")
    rows = torch.randperm(len(split), generator=generator)[:count]
    return Split(split.images[rows], split.labels[rows])


@dataclass
class Recovery:
    """One forgetting and what came after it, in robust accuracy of the student on validation.

    Attributes:
        cycle: Number of the forgetting, from 1.
        epoch: Epochs done before it.
        before: Just before.
        after: Just after, before any step.
        epochs: Epochs until recovered; ``NEVER`` while it is not.
        relearnt: When relearning ended; None before.
        rolled_back: Whether the state before was taken up again.
    """

    cycle: int
    epoch: int
    before: float
    after: float
    epochs: int = NEVER
    relearnt: float | None = None
    rolled_back: bool = False

    def observe(self, robust: float, *, epochs: int, within: float) -> None:
        """Note an evaluation so many epochs after the forgetting.

        Args:
            robust: Robust accuracy.
            epochs: Epochs since the forgetting.
            within: Accuracy that may be missing.
        """
        if self.epochs == NEVER and robust >= self.before - within:
            self.epochs = epochs

    def values(self) -> dict[str, float]:
        """Return the finished row as metrics."""
        relearnt = self.after if self.relearnt is None else self.relearnt
        return {
            "epoch": float(self.epoch),
            "before": self.before,
            "after_forgetting": self.after,
            "after_relearning": relearnt,
            "dip": self.before - self.after,
            "recovered": float(self.epochs != NEVER),
            "recovery_epochs": float(self.epochs),
            "rolled_back": float(self.rolled_back),
        }


@dataclass
class OverfittingAlarm:
    """Robust overfitting: validation has fallen from its peak while training went on rising.

    Attributes:
        fall: Fall of the validation robust accuracy that raises the alarm.
        peak: Best validation robust accuracy so far.
        train_at_peak: Training robust accuracy at that moment.
        epoch: Epoch of the alarm; ``NEVER`` while there is none.
    """

    fall: float
    peak: float = field(default=-1.0)
    train_at_peak: float = field(default=0.0)
    epoch: int = field(default=NEVER)

    def observe(self, *, epoch: int, train: Reading, validation: Reading) -> bool:
        """Note an evaluation and return whether it raises the alarm, which happens once.

        Args:
            epoch: Epochs done.
            train: On training images.
            validation: On validation images.
        """
        if validation.robust > self.peak:
            self.peak, self.train_at_peak = validation.robust, train.robust
            return False
        fallen = self.peak - validation.robust >= self.fall and train.robust > self.train_at_peak
        if fallen and self.epoch == NEVER:
            self.epoch = epoch
            return True
        return False

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up kept values.

        Args:
            state: Fields by name.
        """
        self.peak, self.train_at_peak = float(state["peak"]), float(state["train_at_peak"])
        self.epoch = int(state["epoch"])
