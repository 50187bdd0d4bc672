"""What happens around a reset: the drop in accuracy, how soon it is made good, gradient norms.

Batch accuracy and loss are by-products of training, so watching them costs no forward pass.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import nn

    from relearn.evaluation.records import Recorder


@dataclass
class Shock:
    """One reset as the training batches saw it.

    Attributes:
        step: Optimizer steps before the reset.
        before: Mean batch accuracy over the window before it.
        after: Accuracy of the first batch after it.
        recovery_steps: Steps until the window's mean was back; None while it was not.
        watched_steps: Steps watched, until recovery, the next reset or the end.
    """

    step: int
    before: float
    after: float | None = None
    recovery_steps: int | None = None
    watched_steps: int = 0


class ResetMonitor:
    """Follows batch accuracy across resets.

    Args:
        window: Steps averaged before a reset and while recovering.
        tolerance: Accuracy below the level before that still counts as recovered.
        gradient_every: Steps between two records of gradient norms.
    """

    def __init__(self, *, window: int, tolerance: float, gradient_every: int) -> None:
        self.window, self.tolerance = window, tolerance
        self.gradient_every = gradient_every
        self.recent: deque[float] = deque(maxlen=window)
        self.shocks: list[Shock] = []
        self._open: Shock | None = None
        self._batches_since = window + 1

    def reset_done(self, step: int) -> None:
        """Note a reset after ``step`` optimizer steps; an unrecovered one before it is closed."""
        before = sum(self.recent) / len(self.recent) if self.recent else 0.0
        self._open = Shock(step, before)
        self.shocks.append(self._open)
        self.recent.clear()
        self._batches_since = 0

    def batch(self, accuracy: float) -> None:
        """Note the accuracy of one training batch."""
        self.recent.append(accuracy)
        self._batches_since += 1
        shock = self._open
        if shock is None:
            return
        shock.watched_steps += 1
        if shock.after is None:
            shock.after = accuracy
        full = len(self.recent) == self.window
        if full and sum(self.recent) / self.window >= shock.before - self.tolerance:
            shock.recovery_steps = shock.watched_steps
            self._open = None

    def state(self) -> dict[str, Any]:
        """Return what a resume point must keep."""
        return {
            "recent": list(self.recent),
            "shocks": [vars(shock) for shock in self.shocks],
            "batches_since": self._batches_since,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up the state kept by ``state``; the last reset stays open unless made good."""
        self.recent = deque(state["recent"], maxlen=self.window)
        self.shocks = [Shock(**row) for row in state["shocks"]]
        self._batches_since = int(state["batches_since"])
        last = self.shocks[-1] if self.shocks else None
        self._open = last if last is not None and last.recovery_steps is None else None

    def wants_gradients(self, number: int) -> bool:
        """Return whether gradient norms are recorded now: on the grid, or near a reset.

        Args:
            number: Steps (i.i.d.) or episodes done.
        """
        return self._batches_since <= self.window or number % self.gradient_every == 0

    def write(self, recorder: Recorder) -> None:
        """Append one row a reset, and the share that recovered, to the records."""
        for shock in self.shocks:
            values = {"accuracy_before": shock.before, "watched_steps": float(shock.watched_steps)}
            if shock.after is not None:
                values["accuracy_drop"] = shock.before - shock.after
            if shock.recovery_steps is not None:
                values["recovery_steps"] = float(shock.recovery_steps)
            values["recovered"] = float(shock.recovery_steps is not None)
            recorder.add("zap_shock", shock.step, values)
        if self.shocks:
            share = sum(s.recovery_steps is not None for s in self.shocks) / len(self.shocks)
            recorder.add("zap_shock_summary", len(self.shocks), {"recovered_share": share})


def gradient_norms(model: nn.Module, head: nn.Module) -> dict[str, float]:
    """Return the Euclidean norms of the present gradients of head and backbone.

    A norm that is not finite is left out: the training loop stops at the loss that is not, and
    its message names the epoch.

    Args:
        model: The whole net, after a backward pass.
        head: Its last layer.
    """
    of_head = {id(p) for p in head.parameters()}
    groups: dict[str, list[torch.Tensor]] = {"head_norm": [], "backbone_norm": []}
    for parameter in model.parameters():
        if parameter.grad is not None:
            name = "head_norm" if id(parameter) in of_head else "backbone_norm"
            groups[name].append(parameter.grad)
    norms = {n: torch.nn.utils.get_total_norm(g) for n, g in groups.items() if g}
    return {name: float(value) for name, value in norms.items() if math.isfinite(float(value))}
