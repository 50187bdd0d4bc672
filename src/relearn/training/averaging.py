"""A moving average of the weights, which often judges better than the last ones.

References:
    Polyak and Juditsky 1992 for averaging; the exponential form as in Tarvainen and Valpola,
    "Mean teachers", NeurIPS 2017, section 3, with the average of few steps kept young.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch import nn

    from relearn.training.loop import LoopState


class WeightAverage:
    """Exponential moving average of all parameters and running statistics.

    After step t: average <- d * average + (1 - d) * weights, d = min(decay, (1 + t) / (10 + t)),
    so that the first weights do not linger. Batch-norm means and variances are averaged alike;
    counters are copied.

    Args:
        model: Its present weights are the first average.
        decay: Largest d, 0 to below 1.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self.average = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take the present weights into the average.

        Args:
            model: The net, after a step of its optimizer.
        """
        weight = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        present = model.state_dict()
        mixed = [k for k, v in present.items() if v.is_floating_point()]
        torch._foreach_lerp_([self.average[k] for k in mixed], [present[k] for k in mixed], weight)
        for name, value in present.items():
            if not value.is_floating_point():
                self.average[name].copy_(value)

    def after_step(self, state: LoopState) -> None:
        """Serve as a window of ``fit``.

        Args:
            state: Where the training stands.
        """
        self.update(state.model)

    @contextmanager
    def swapped_in(self, model: nn.Module) -> Iterator[None]:
        """Hold the average in the net inside the block, and its own weights afterwards.

        Args:
            model: The net that is averaged.
        """
        own = {k: v.detach().clone() for k, v in model.state_dict().items()}
        model.load_state_dict(self.average)
        try:
            yield
        finally:
            model.load_state_dict(own)

    def state(self) -> dict[str, Any]:
        """Return what a resume point keeps."""
        return {"steps": self.steps, "average": self.average}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what ``state`` returned.

        Args:
            state: Read from a resume point.
        """
        self.steps = int(state["steps"])
        kept: Mapping[str, Tensor] = state["average"]
        for name, value in kept.items():
            self.average[name].copy_(value)
