"""Knobs of what is watched during training and measured after it."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from relearn.strict import Strict

SMALLEST_AUTO_ATTACK = 50
"""Test images below which a share of survivors is not worth telling."""


class MonitorConfig(Strict):
    """What is watched while training; always on training and validation images, in fp32.

    Attributes:
        every_epochs: Epochs between two evaluations; the end of each relearning has its own.
        images: Training images that are attacked, and validation images around a forgetting; 0 =
            all. Curves and choices are of all validation images.
        steps: Steps of the evaluating attack.
        alarm_fall: Fall of the validation robust accuracy from its peak, while training goes on
            rising, that raises the alarm of robust overfitting.
        recovered_within: Robust accuracy below the level before a forgetting that still counts as
            recovered.
        pictures: Keep features and predictions around each forgetting, for the before and after
            pictures.
        picture_images: Validation images they show.
    """

    every_epochs: int = Field(ge=1)
    images: int = Field(ge=0)
    steps: int = Field(ge=1)
    alarm_fall: float = Field(gt=0, lt=1)
    recovered_within: float = Field(ge=0, lt=1)
    pictures: bool
    picture_images: int = Field(ge=2)


class AutoAttackConfig(Strict):
    """The cascade of attacks, each on what the ones before have left.

    Attributes:
        version: ``standard``: APGD-CE, APGD-T, FAB-T, Square; ``reduced``: APGD-CE and APGD-T with
            3 targets, called reduced wherever it is shown; ``none``.
        images: Test images attacked, ``SMALLEST_AUTO_ATTACK`` or more; 0 = all.
    """

    version: Literal["standard", "reduced", "none"]
    images: int = Field(ge=0)

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.version != "none" and 0 < self.images < SMALLEST_AUTO_ATTACK:
            raise ValueError(
                f"images: got {self.images}, expected {SMALLEST_AUTO_ATTACK} or more (fewer tell "
                "the share too coarsely), or 0 for all; set version: none to leave it out"
            )
        return self


class MaskingConfig(Strict):
    """Checks that the gradients are not masked; one that fails fails the run.

    Attributes:
        enabled: Whether they are made.
        images: Test images they use.
        steps: Steps of the long attack, which must not help the model.
        restarts: Random starts, which must not help it either.
        queries: Queries of the black-box attack, which must be no stronger than the gradient's.
        huge_epsilon: Radius, in every pixel, at which hardly anything may survive.
        survivors: Robust accuracy allowed there.
    """

    enabled: bool
    images: int = Field(ge=10)
    steps: int = Field(ge=11)
    restarts: int = Field(ge=2)
    queries: int = Field(ge=1)
    huge_epsilon: float = Field(gt=0, le=1)
    survivors: float = Field(ge=0, lt=1)


class JudgingConfig(Strict):
    """How a trained model is measured on the test images, once; fp32 model, fp32 attack.

    Attributes:
        steps: Steps of the headline attack.
        step_size: Length of its steps.
        restarts: Its random starts.
        auto_attack: The cascade.
        square_images: Test images for Square alone; 0 = not measured.
        square_queries: Its queries for each image.
        transfer: Whether attacked images of the baseline are tried on the model.
        corruption_images: Test images for the common corruptions; 0 = not measured.
        calibration_bins: Bins of the expected calibration error.
        bf16_images: Test images for the headline attack in bf16, to print the difference; 0 = none.
        masking: Checks against masked gradients.
    """

    steps: int = Field(ge=1)
    step_size: float = Field(gt=0)
    restarts: int = Field(ge=1)
    auto_attack: AutoAttackConfig
    square_images: int = Field(ge=0)
    square_queries: int = Field(ge=1)
    transfer: bool
    corruption_images: int = Field(ge=0)
    calibration_bins: int = Field(ge=2)
    bf16_images: int = Field(ge=0)
    masking: MaskingConfig
