"""When to forget: at an interval, on a plateau, on a robust gap, or at listed epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relearn.methods.forget_relearn.cycle_config import CycleConfig

LEARNING, RELEARNING = "learning", "relearning"
PHASES = {"warmup": 0, LEARNING: 1, RELEARNING: 2}
"""Numbers of the phases on the live curve ``phase``."""


class Trigger:
    """Decides before each epoch whether to forget, so that the last cycle always ends relearnt.

    Args:
        config: Knobs of the cycle.
        epochs: Epochs of the whole training.
    """

    def __init__(self, config: CycleConfig, *, epochs: int) -> None:
        self.config, self.epochs = config, epochs
        self.forgotten_at: list[int] = []
        self.best = float("-inf")
        self.waited = 0
        self.gap: float | None = None

    def due(self, epoch: int) -> str | None:
        """Return why to forget now, or None.

        Args:
            epoch: Epochs done.
        """
        config = self.config
        if epoch < config.warmup_epochs or self.epochs - epoch < config.relearn_epochs:
            return None
        since = epoch - self.forgotten_at[-1] if self.forgotten_at else None
        if since is not None and since < config.relearn_epochs:
            return None
        if config.trigger == "interval":
            waits = since is not None and since < config.every_epochs
            return None if waits else f"every {config.every_epochs} epochs"
        if config.trigger == "list":
            return "listed epoch" if epoch in config.listed else None
        if config.trigger == "plateau":
            stands = self.waited >= config.plateau.patience
            return f"no gain in {self.waited} evaluations" if stands else None
        wide = self.gap is not None and self.gap > config.robust_gap.largest
        return f"robust gap {self.gap:.3f}" if wide else None

    def forgot(self, epoch: int) -> None:
        """Note that the student has forgotten.

        Args:
            epoch: Epochs done.
        """
        self.forgotten_at.append(epoch)
        self.waited, self.gap, self.best = 0, None, float("-inf")

    def observe(self, *, train_robust: float, validation_robust: float) -> None:
        """Note an evaluation that was made while the student was not relearning.

        Args:
            train_robust: Robust accuracy on training images.
            validation_robust: Robust accuracy on validation images.
        """
        smoothing = self.config.robust_gap.smoothing
        gap = train_robust - validation_robust
        self.gap = gap if self.gap is None else smoothing * self.gap + (1 - smoothing) * gap
        if validation_robust > self.best + self.config.plateau.smallest_gain:
            self.best, self.waited = validation_robust, 0
        else:
            self.waited += 1

    def phase(self, epoch: int) -> str:
        """Return the phase of the epoch that begins: ``warmup``, ``learning`` or ``relearning``.

        Args:
            epoch: Epochs done; a forgetting at this epoch has been noted.
        """
        if epoch < self.config.warmup_epochs:
            return "warmup"
        since = self._since(epoch)
        inside = since is not None and since < self.config.relearn_epochs
        return RELEARNING if inside else LEARNING

    def consolidates(self, epoch: int) -> bool:
        """Return whether the stable model takes up the student in the epoch that begins.

        Args:
            epoch: Epochs done.
        """
        if epoch < self.config.warmup_epochs:
            return False
        since = self._since(epoch)
        last = self.config.relearn_epochs - self.config.consolidate_epochs
        return since is None or since >= last

    def relearnt(self, done: int) -> bool:
        """Return whether exactly now a relearning ends.

        Args:
            done: Epochs done.
        """
        return self._since(done) == self.config.relearn_epochs

    def settled(self, done: int) -> bool:
        """Return whether the student is not in the middle of a relearning.

        Args:
            done: Epochs done.
        """
        since = self._since(done)
        return since is None or since >= self.config.relearn_epochs

    def _since(self, epoch: int) -> int | None:
        past = [at for at in self.forgotten_at if at <= epoch]
        return epoch - past[-1] if past else None

    def state(self) -> dict[str, Any]:
        """Return what a resume point keeps."""
        return {
            "forgotten_at": self.forgotten_at,
            "best": None if self.best == float("-inf") else self.best,
            "waited": self.waited,
            "gap": self.gap,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state`` returned.

        Args:
            state: Read from a resume point.
        """
        self.forgotten_at = [int(n) for n in state["forgotten_at"]]
        self.best = float("-inf") if state["best"] is None else float(state["best"])
        self.waited, self.gap = int(state["waited"]), state["gap"]
