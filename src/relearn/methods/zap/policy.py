"""When to zap. The schedule is a pure function of what has been done, so resuming cannot shift it.

Paper: arXiv 2310.07996, section on zapping (the main setting resets every row before every epoch
but the first). We differ in that a reset too close to the end is left out for any policy, so that a
just-zapped net is never kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from relearn.methods.zap.config import PolicyConfig


@dataclass(frozen=True)
class Due:
    """A reset that is due now.

    Attributes:
        trigger: Why, in words, for the ledger.
        share: Share of the rows to reset, 0 to 1.
    """

    trigger: str
    share: float


@dataclass
class Policy:
    """Answers, before each unit of training, whether to reset now.

    Attributes:
        config: The knobs.
        resets: Resets done so far (decides the decayed share).
        best_loss: Lowest mean loss seen, for the plateau trigger.
        since_best: Units without gain.
    """

    config: PolicyConfig
    resets: int = 0
    best_loss: float = field(default=float("inf"))
    since_best: int = 0

    def due(self, done: int, *, steps_left: int) -> Due | None:
        """Return the reset that is due after ``done`` units, or None.

        Args:
            done: Units (epochs, steps or episodes) finished so far.
            steps_left: Optimizer steps still to run.
        """
        config = self.config
        outside = done < max(1, config.start) or (config.stop > 0 and done > config.stop)
        if outside or steps_left < config.settle_steps:
            return None
        if config.trigger == "plateau":
            if self.since_best < config.plateau.patience:
                return None
            trigger = f"plateau of {self.since_best} {config.unit}"
        else:
            if (done - config.start) % config.every:
                return None
            trigger = f"every {config.every} {config.unit}"
        base = config.fraction if config.rows == "fraction" else 1.0
        return Due(trigger, base * config.decay**self.resets)

    def fired(self) -> None:
        """Note that the reset was done."""
        self.resets += 1
        self.best_loss, self.since_best = float("inf"), 0

    def observe(self, mean_loss: float) -> None:
        """Note the mean training loss of one finished unit, for the plateau trigger.

        Args:
            mean_loss: Mean loss over the unit.
        """
        if mean_loss < self.best_loss * (1 - self.config.plateau.smallest_gain):
            self.best_loss, self.since_best = mean_loss, 0
        else:
            self.since_best += 1

    def state(self) -> dict[str, float]:
        """Return what a resume point must keep."""
        return {
            "resets": float(self.resets),
            "best_loss": min(self.best_loss, 1e300),
            "since_best": float(self.since_best),
        }

    def restore(self, state: dict[str, float]) -> None:
        """Take up the state kept by ``state``."""
        self.resets, self.since_best = int(state["resets"]), int(state["since_best"])
        self.best_loss = state["best_loss"]


def choose_rows(total: int, share: float, generator: Generator) -> Tensor:
    """Return the row numbers to reset, sorted, int64: uniformly drawn, without replacement.

    Args:
        total: Rows of the last layer.
        share: Share to reset; at least one row is.
        generator: Seeded source of the draw.
    """
    count = max(1, min(total, round(share * total)))
    if count == total:
        return torch.arange(total)
    return torch.randperm(total, generator=generator)[:count].sort().values
