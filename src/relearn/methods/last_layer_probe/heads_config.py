"""How heads are fitted, and how bodies are trained where they are. Imports no torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from relearn.methods.last_layer_probe.bodies_config import numbers_in
from relearn.strict import Strict
from relearn.training.config import GridConfig, TrainConfig  # noqa: TC001 - pydantic


class PenaltiesConfig(Strict):
    """A geometric grid of penalties.

    Attributes:
        lowest: Smallest penalty; for ridge relative to the mean eigenvalue.
        highest: Largest penalty.
        points: Number of penalties.
    """

    lowest: float = Field(gt=0)
    highest: float = Field(gt=0)
    points: int = Field(ge=1)

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.highest < self.lowest or (self.points == 1) != (self.highest == self.lowest):
            raise ValueError(
                f"highest: got {self.highest:g} with lowest {self.lowest:g} and {self.points} "
                "points, expected above lowest (or equal with one point)"
            )
        return self

    @property
    def values(self) -> tuple[float, ...]:
        """The penalties, rising."""
        steps = max(1, self.points - 1)
        ratio = self.highest / self.lowest
        return tuple(self.lowest * ratio ** (k / steps) for k in range(self.points))


class HeadsConfig(Strict):
    """Convex heads: both have one optimum, no learning rate and no seed.

    Attributes:
        bodies: Head on the features of bodies; the linear baseline always tries both.
        class_weights: ``balanced``: every class weighs the same in ridge and logistic.
        select_by: What leaving one out minimises along the ridge path.
        ridge: Penalties of the path.
        logistic: Penalties that are tried on validation images; on whitened features.
        tolerance: Largest gradient entry at which the logistic head counts as solved.
    """

    bodies: Literal["ridge", "logistic", "best"]
    class_weights: Literal["none", "balanced"]
    select_by: Literal["squared_error", "accuracy"]
    ridge: PenaltiesConfig
    logistic: PenaltiesConfig
    tolerance: float = Field(gt=0, lt=1)


class TuningConfig(Strict):
    """The choice of rate and length of every trained arm, on validation images of other seeds.

    Attributes:
        enabled: Off: rate and epochs as under ``train``.
        seeds: Seeds the choice averages over; apart from those that are reported.
        rate: Factors on ``train.learning_rate``.
        epochs: Factors on ``train.epochs``, parted by blanks.
    """

    enabled: bool
    seeds: int = Field(ge=1)
    rate: GridConfig
    epochs: str

    @field_validator("epochs")
    @classmethod
    def _some(cls, text: str) -> str:
        if not numbers_in(text, kind=float):
            raise ValueError("expected one number or more, got none")
        return text


class UnfreezeConfig(Strict):
    """Stage 2: the last blocks are trained on from the probe's optimum.

    Attributes:
        most_steps: Largest number of blocks; 0 = all of them.
        epochs: Budget of each step.
        learning_rate: Of the head and the last block.
        layer_factor: Factor on it from a block to the one below.
        smallest_gain: Gain in validation accuracy below which unfreezing ends.
        sigmas: Standard errors that the gain must exceed too.
        budget_seconds: Training seconds after which no further step begins; 0 = no limit.
    """

    most_steps: int = Field(ge=0)
    epochs: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    layer_factor: float = Field(gt=0, le=1)
    smallest_gain: float = Field(ge=0, lt=1)
    sigmas: float = Field(ge=0)
    budget_seconds: float = Field(ge=0)


class TrainedConfig(Strict):
    """The arms that train more than the head.

    Attributes:
        train: How ``full`` and ``fine_tuned`` are trained.
        tuning: Choice of rate and length, equally for both.
        unfreeze: Stage 2.
        fine_tuned_factor: Factor on ``train.learning_rate`` for ``fine_tuned``, before tuning.
    """

    train: TrainConfig
    tuning: TuningConfig
    unfreeze: UnfreezeConfig
    fine_tuned_factor: float = Field(gt=0)
