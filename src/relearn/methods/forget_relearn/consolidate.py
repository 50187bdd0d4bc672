"""Consolidation: a stable model takes up the student slowly and so keeps what forgetting erases.

Paper: arXiv 2402.11733, figure 2 (b): the stable model is a moving average of the student's weights
that is brought up to date once the student has relearnt.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from relearn.data.randomness import generator_of

if TYPE_CHECKING:
    from torch import Tensor, nn


def decay_of(memory_epochs: float, steps_per_epoch: int) -> float:
    """Return the decay whose memory is so many epochs: 1 - 1 / (memory_epochs * steps), at least 0.

    Args:
        memory_epochs: Above 0.
        steps_per_epoch: Updates an epoch.
    """
    return max(0.0, 1.0 - 1.0 / (memory_epochs * steps_per_epoch))


class StableModel:
    """phi <- d * phi + (1 - d) * theta, where theta is the student and phi the stable model.

    Args:
        student: The net whose present weights are the first stable ones; it is not kept.
        decay: d, 0 to below 1.
        probability: Chance that an update is made.
        copy_statistics: Take the student's batch-norm statistics in place of averaging them.
        seed: Of the chance.
        young: Begin with a short memory, min(d, (1 + t) / (10 + t)) at update t, so that untrained
            weights do not linger.
    """

    def __init__(
        self,
        student: nn.Module,
        *,
        decay: float,
        probability: float = 1.0,
        copy_statistics: bool = False,
        seed: int = 0,
        young: bool = False,
    ) -> None:
        self.decay, self.probability, self.seed, self.young = decay, probability, seed, young
        self.net = copy.deepcopy(student).eval().requires_grad_(False)
        self.updates = 0
        buffers = {name for name, _ in self.net.named_buffers()}
        self._copied = {
            name
            for name, value in self.net.state_dict().items()
            if not value.is_floating_point() or (copy_statistics and name in buffers)
        }

    @torch.no_grad()
    def update(self, student: nn.Module, *, step: int) -> bool:
        """Take the student's present weights up and return whether it was done.

        Args:
            student: After a step of its optimizer.
            step: Optimizer steps done; it decides the chance.
        """
        if self.probability < 1.0:
            door = generator_of(self.seed, f"forget_relearn.consolidate.{step}")
            if float(torch.rand((), generator=door)) >= self.probability:
                return False
        own, new = self.net.state_dict(), student.state_dict()
        mixed = [name for name in own if name not in self._copied]
        decay = self.decay
        if self.young:
            decay = min(decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_([own[n] for n in mixed], [new[n] for n in mixed], 1.0 - decay)
        for name in self._copied:
            own[name].copy_(new[name])
        self.updates += 1
        return True

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the stable weights and statistics by name."""
        return {name: value.detach().clone() for name, value in self.net.state_dict().items()}

    def state(self) -> dict[str, Any]:
        """Return what a resume point keeps."""
        return {"updates": self.updates, "weights": self.weights()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state`` returned.

        Args:
            state: Read from a resume point.
        """
        self.updates = int(state["updates"])
        self.net.load_state_dict(state["weights"])
