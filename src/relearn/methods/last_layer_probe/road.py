"""How far unfreezing may go, and what its steps have brought."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.net_training import Trained


@dataclass(frozen=True)
class Road:
    """How far unfreezing may go.

    Attributes:
        most_steps: Largest number of blocks; 0 = all of them.
        layer_factor: Factor on the rate from a block to the one below, above 0 to 1; 1 / 2.6 is
            usual.
        smallest_gain: Gain in validation accuracy below which the road ends, 0 to 1.
        sigmas: Standard errors that the gain must exceed too.
        budget_seconds: No step begins after so many seconds of training; 0 = no limit.
        budget_flops: No step begins that would exceed so many FLOPs of training; 0 = no limit.
    """

    most_steps: int = 0
    layer_factor: float = 1 / 2.6
    smallest_gain: float = 0.005
    sigmas: float = 2.0
    budget_seconds: float = 0.0
    budget_flops: float = 0.0


@dataclass(frozen=True)
class UnfreezeStep:
    """One step, or the probe itself as step 0.

    Attributes:
        blocks: Blocks trained besides the head.
        trained: The training; None for the probe.
        trained_parameters: Numbers trained, 0 for the probe.
        validation_accuracy: 0 to 1.
        gain: In validation accuracy over the best before it; 0 for the probe.
        standard_error: Of the gain, over validation images.
        needed: What the gain had to exceed.
        seconds: Of its training.
        flops: Of its training.
        kept: Whether it took the place of the best before it.
    """

    blocks: int
    trained: Trained | None
    trained_parameters: int
    validation_accuracy: float
    gain: float
    standard_error: float
    needed: float
    seconds: float
    flops: float
    kept: bool

    def as_row(self) -> dict[str, Any]:
        """Return the row as a plain dictionary, without the training."""
        return {name: value for name, value in vars(self).items() if name != "trained"}


@dataclass(frozen=True)
class Unfrozen:
    """A road that has ended; the net holds the kept weights.

    Attributes:
        kept_blocks: Blocks of the kept step; 0 is the probe itself.
        steps: In order, the probe first.
        stopped_because: ``gain``, ``budget_seconds``, ``budget_flops`` or ``all steps done``.
        start_digest: Digest of the body at the start, to which a roll-back leads.
        end_digest: Digest of the kept body; equal to the start's where the probe was kept.
    """

    kept_blocks: int
    steps: tuple[UnfreezeStep, ...]
    stopped_because: str
    start_digest: str
    end_digest: str

    def costs(self) -> dict[str, float]:
        """Return what the whole road cost, by metric; steps that were not kept are counted."""
        trained = [step.trained.costs() for step in self.steps if step.trained is not None]
        names = ("epochs", "steps", "train_seconds", "validation_seconds", "train_flops")
        sums = {name: math.fsum(costs[name] for costs in trained) for name in names}
        most = max((step.trained_parameters for step in self.steps), default=0)
        return {**sums, "trained_parameters": float(most)}


def paired_error(first: Tensor, second: Tensor) -> float:
    """Return the standard error of the mean difference of two accuracies on the same images.

    sqrt(sum (d - mean d)^2 / (n (n - 1))), d = first - second; infinite for a single image.

    Args:
        first: Bool, shape (n,).
        second: Bool, shape (n,).
    """
    count = len(first)
    if count < 2:
        return math.inf
    return float((first.double() - second.double()).std(correction=1)) / math.sqrt(count)


def probe_step(hits: Tensor) -> UnfreezeStep:
    """Return the probe as step 0, which nothing has been spent on.

    Args:
        hits: Whether each validation image is classified rightly, bool, shape (n,).
    """
    return UnfreezeStep(
        blocks=0,
        trained=None,
        trained_parameters=0,
        validation_accuracy=float(hits.double().mean()),
        gain=0.0,
        standard_error=0.0,
        needed=0.0,
        seconds=0.0,
        flops=0.0,
        kept=True,
    )
