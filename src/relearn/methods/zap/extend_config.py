"""What may be set when new classes are added to a trained checkpoint. Imports no torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from relearn.strict import Strict

FROM_BASE = "base"
"""The value of ``add_classes.checkpoint`` that stands for the base checkpoint."""


class AddClassesConfig(Strict):
    """Everything the ``add_classes`` pipeline can be told.

    Attributes:
        source_path: Folder or zip with one class folder or more; empty = none given yet.
        checkpoint: Which checkpoint is extended: empty = the zap unit of ``arm`` and ``seed``;
            ``base`` = the base checkpoint; else a checkpoint file.
        arm: Arm of the zap unit.
        seed: Seed of the zap unit; also of the division, the order and the new rows.
        support_share: Share of the images of a new class that train; the others score.
        support_per_class: Images of a new class that train; 0 = ``support_share`` of them.
        initialisation: First values of the new rows: ``zero``; ``kaiming`` N(0, 2 / features),
            bias 0; ``ridge``: least squares on the features, in the scale of the old logits.
        ridge_penalty: Penalty relative to the mean squared feature norm, for ``ridge``.
        protocol: ``batches``: shuffled, ``epochs`` passes; ``sequential``: class after class, one
            image a step, one pass.
        train: What the optimizer may change: the ``new_rows`` of the head, the whole ``head``, or
            ``all`` weights.
        epochs: Passes over the new images for ``batches``; 0 leaves the first values.
        batch_size: Images a step for ``batches``, replayed ones included.
        learning_rate: Adam's rate.
        replay_share: Share of the trained images that are training images of old classes.
        balance: Weigh new and replayed images so that every class counts the same, however many
            images of it are shown; without it a few new classes are guessed too often.
        largest_regression: Accuracy on the old classes, 0 to 1, that may be lost.
    """

    source_path: str
    checkpoint: str
    arm: str = Field(min_length=1)
    seed: int = Field(ge=0)
    support_share: float = Field(gt=0, lt=1)
    support_per_class: int = Field(ge=0)
    initialisation: Literal["zero", "kaiming", "ridge"]
    ridge_penalty: float = Field(gt=0)
    protocol: Literal["batches", "sequential"]
    train: Literal["new_rows", "head", "all"]
    epochs: int = Field(ge=0)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    replay_share: float = Field(ge=0, lt=1)
    balance: bool
    largest_regression: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _batch_holds_new_images(self) -> Self:
        new = self.batch_size * (1 - self.replay_share)
        if self.protocol == "batches" and new < 0.5:
            raise ValueError(
                f"replay_share: {self.replay_share:g} of batch_size {self.batch_size} leaves no "
                "place for a new image; lower it or raise batch_size"
            )
        return self
