"""What may be set for training, pre-training and the machine. Imports no torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from relearn.models.config import ModelConfig
from relearn.strict import Strict


class TrainConfig(Strict):
    """How a net is trained on shuffled batches.

    Attributes:
        epochs: Passes over the training samples; 0 trains nothing.
        batch_size: Images a step; with several devices, of all of them together.
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        learning_rate: Highest rate of the schedule.
        weight_decay: L2 penalty (adam, sgd) or decoupled decay (adamw).
        momentum: Of sgd only; 0 to below 1.
        schedule: ``constant``; ``cosine`` falls to 0 at the end; ``step`` divides by ten after half
            and after three quarters of the steps; ``step_once`` after half only.
        warmup_epochs: Epochs in which the rate rises linearly from 0; part of ``epochs``.
        shift_pixels: Largest random shift of an image, either way; 0 = none.
        flip: Whether half of the images are mirrored.
        label_smoothing: Share of the target spread over all classes, 0 to below 1.
        max_gradient_norm: Gradients are scaled down to this norm; 0 = off.
    """

    epochs: int = Field(ge=0)
    batch_size: int = Field(ge=1)
    optimizer: Literal["adam", "adamw", "sgd"]
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    momentum: float = Field(ge=0, lt=1)
    schedule: Literal["constant", "cosine", "step", "step_once"]
    warmup_epochs: float = Field(ge=0)
    shift_pixels: int = Field(ge=0)
    flip: bool
    label_smoothing: float = Field(ge=0, lt=1)
    max_gradient_norm: float = Field(ge=0)

    @model_validator(mode="after")
    def _warmup_fits(self) -> Self:
        if self.warmup_epochs > self.epochs:
            raise ValueError(
                f"warmup_epochs: got {self.warmup_epochs:g}, expected at most epochs={self.epochs}"
            )
        return self


class GridConfig(Strict):
    """A geometric grid of learning rates that widens while its best value lies at a border.

    Attributes:
        centre: Middle of the grid.
        factor: Ratio of neighbours.
        points: Number of rates at the start.
        widenings: Rates that may be added, one at a time, beyond the border that won.
    """

    centre: float = Field(gt=0)
    factor: float = Field(gt=1)
    points: int = Field(ge=1)
    widenings: int = Field(ge=0)


class ExecutionConfig(Strict):
    """On what a run is computed; nothing here is part of a result's address.

    Attributes:
        device: ``auto`` takes a GPU where there is one, and says what it took.
        precision: Of training; ``auto`` chooses by device and width of the net. Accuracies are
            always measured in fp32.
        devices: Devices that share one pre-training (data parallel); 1 = no launch.
        workers: Processes over which the (arm, seed) units are spread.
        threads: Torch threads of each worker.
        backend: Whose processes: ``loky`` on this machine, ``ray`` on a cluster.
    """

    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "fp32", "bf16"]
    devices: int = Field(ge=1, le=1024)
    workers: int = Field(ge=1, le=4096)
    threads: int = Field(ge=1, le=1024)
    backend: Literal["loky", "ray"]


class PretrainConfig(Strict):
    """The base checkpoint that all methods start from.

    Attributes:
        model: Which net, and where its first weights come from.
        train: How it is trained on the base classes.
        average_decay: Decay of a moving average of the weights that is kept in place of the last
            ones, such as 0.99; 0 = the last ones.
    """

    model: ModelConfig
    train: TrainConfig
    average_decay: float = Field(ge=0, lt=1)
