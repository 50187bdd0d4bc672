"""What may be set under ``grow_explore``: which larger designs are tried, and at what price."""

from __future__ import annotations

from pydantic import Field

from relearn.strict import Strict


class GrowExploreConfig(Strict):
    """Everything the ``grow_explore`` pipeline can be told besides ``grow`` itself.

    Attributes:
        parts: Consecutive parts of the net, each of which has a width factor of its own.
        step: Difference of neighbouring factors: 1, 1 + step, 1 + 2 step, ...
        levels: Number of factors, 1 included.
        most_layers: Most zero-gated blocks that each stage may get; 0 = widths only.
        trials: Designs that are proposed; one that was tried before costs nothing.
        budget: Training FLOPs of all designs together, in units of the teacher's training.
        epochs: Epochs for which each design is trained after it was grown.
    """

    parts: int = Field(ge=1, le=64)
    step: float = Field(gt=0, le=8)
    levels: int = Field(ge=2, le=16)
    most_layers: int = Field(ge=0, le=16)
    trials: int = Field(ge=1)
    budget: float = Field(gt=0)
    epochs: int = Field(ge=1)
