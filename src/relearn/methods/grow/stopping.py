"""When a training ends before its last epoch: at a plateau, or far from its teacher."""

from __future__ import annotations

import math
from collections.abc import Mapping


class Stopped(Exception):
    """A window has ended the training; weights and books are as they stand."""


class Plateau:
    """Watches validation accuracy until it stands still.

    Args:
        patience: Evaluations without gain; 0 never stands still.
        smallest_gain: Rise of the best accuracy that counts as gain.
    """

    def __init__(self, *, patience: int, smallest_gain: float) -> None:
        self.patience, self.smallest_gain = patience, smallest_gain
        self.best, self.waited, self.reached = -math.inf, 0, -1

    def stands_still(self, accuracy: float, epoch: int) -> bool:
        """Return whether accuracy has stood still for ``patience`` evaluations.

        Args:
            accuracy: Of the validation images.
            epoch: Epochs done.
        """
        gained = accuracy - self.best >= self.smallest_gain and accuracy > self.best
        self.waited = 0 if gained else self.waited + 1
        self.best = accuracy if gained else self.best
        if self.patience and self.waited >= self.patience:
            self.reached = epoch
        return self.reached >= 0

    def state(self) -> dict[str, float]:
        """Return plain numbers for a resume point; -1 stands for no accuracy yet."""
        return {"best": max(self.best, -1.0), "waited": self.waited, "reached": self.reached}

    def restore(self, state: Mapping[str, float]) -> None:
        """Take up what ``state`` returned."""
        best = float(state["best"])
        self.best = best if best >= 0 else -math.inf
        self.waited, self.reached = int(state["waited"]), int(state["reached"])


class Abort:
    """Counts evaluations in which a grown net's validation loss lies above its teacher's.

    Args:
        level: Loss of the teacher, in nats.
        patience: Evaluations in a row that end the training; 0 never does.
        tolerance: Loss above the level that still counts as level.
        grace_steps: Steps in which nothing is counted.
    """

    def __init__(self, level: float, *, patience: int, tolerance: float, grace_steps: int) -> None:
        self.level, self.patience = level, patience
        self.tolerance, self.grace_steps = tolerance, grace_steps
        self.above = 0

    def due(self, loss: float, step: int) -> bool:
        """Return whether the net has stayed worse for ``patience`` evaluations in a row.

        Args:
            loss: Validation loss now.
            step: Optimizer steps since growth.
        """
        if step <= self.grace_steps:
            return False
        self.above = self.above + 1 if loss > self.level + self.tolerance else 0
        return bool(self.patience) and self.above >= self.patience
