"""Every knob of growing, checked before anything runs.

Paper: Chen, Goodfellow, Shlens, "Net2Net: Accelerating Learning via Knowledge Transfer", ICLR 2016,
arXiv 1511.05641. Its settings could not be read: what stands in ``conf/base/parameters_grow.yml``
are our defaults, and this file says what they mean and what range they have.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from relearn.evaluation.config import BEST_ON_VALIDATION, EvidenceConfig
from relearn.methods.grow.growth_config import GrowthConfig
from relearn.strict import Strict
from relearn.training.config import GridConfig, TrainConfig


class SamplesConfig(Strict):
    """Which images of the base classes train, validate and test.

    Attributes:
        train_images: Images that train, drawn anew for each seed from all splits of the base
            classes together; 0 keeps the stream's own train, validation and test splits.
        validation_images: Images on which all choices are made; all others are the test. 0 together
            with ``train_images``.
        test_images: So many of the test images are read, drawn anew for each seed; 0 = all.
    """

    train_images: int = Field(ge=0)
    validation_images: int = Field(ge=0)
    test_images: int = Field(ge=0)

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.train_images == 0) != (self.validation_images == 0):
            raise ValueError(
                "validation_images: expected 0 together with train_images: 0, and above 0 otherwise"
            )
        return self


class TeacherConfig(Strict):
    """The net that is grown.

    Attributes:
        width: Width of the teacher, in place of that of ``pretrain.model``; 0 keeps that one.
        train: How it is trained; not read with ``start_from: base``.
    """

    width: int = Field(ge=0, le=65_536)
    train: TrainConfig


class ArmsConfig(Strict):
    """Which arms are trained.

    Attributes:
        grown: The teacher, grown and trained on.
        scratch: A fresh net of the student's shape for as many steps as the student.
        scratch_total: The same for as many FLOPs as teacher and student together.
        random_pad: Control: the teacher's weights in the corner, the rest drawn; width only.
        random_layers: Control: the new layers drawn by their default; depth only.
        teacher_continued: Sham: the teacher trained on for as many FLOPs as the student.
        distilled: As ``scratch``, with the teacher's outputs as further targets.
    """

    grown: bool
    scratch: bool
    scratch_total: bool
    random_pad: bool
    random_layers: bool
    teacher_continued: bool
    distilled: bool


class RatesConfig(Strict):
    """Factor on ``train.learning_rate`` for each arm; with tuning the middle of its grid.

    Attributes:
        grown: For the arm of this name.
        scratch: Likewise.
        scratch_total: Likewise.
        random_pad: Likewise.
        random_layers: Likewise.
        teacher_continued: Likewise.
        distilled: Likewise.
    """

    grown: float = Field(gt=0)
    scratch: float = Field(gt=0)
    scratch_total: float = Field(gt=0)
    random_pad: float = Field(gt=0)
    random_layers: float = Field(gt=0)
    teacher_continued: float = Field(gt=0)
    distilled: float = Field(gt=0)


class DistillationConfig(Strict):
    """The loss of the arm ``distilled``: (1 - weight) CE + weight T^2 KL(teacher || student).

    Attributes:
        temperature: T, by which both logits are divided.
        weight: Share of the teacher's part.
    """

    temperature: float = Field(gt=0)
    weight: float = Field(gt=0, le=1)


class EvaluationConfig(Strict):
    """What is measured, and how often.

    Attributes:
        every_steps: Optimizer steps between two evaluations on the validation images.
        early_every: The same within the first ``early_steps``, where a dip would be.
        early_steps: Steps that count as early.
        sustained: Evaluations in a row that must lie at or above a target to have reached it.
        delta: Rise above the teacher's validation accuracy that is a target; 0 takes twice the
            standard error of that accuracy.
        recovered_within: Accuracy below the teacher's that counts as recovered.
        calibration_bins: Bins of the calibration error.
        latency_batch: Images a forward pass when latency is measured.
        latency_repeats: Passes, of which the median is taken.
    """

    every_steps: int = Field(ge=1)
    early_every: int = Field(ge=1)
    early_steps: int = Field(ge=0)
    sustained: int = Field(ge=1)
    delta: float = Field(ge=0, lt=1)
    recovered_within: float = Field(ge=0, lt=1)
    calibration_bins: int = Field(ge=2)
    latency_batch: int = Field(ge=1)
    latency_repeats: int = Field(ge=1)


class TuningConfig(Strict):
    """The choice of each arm's learning rate on validation images, equally for every arm.

    Attributes:
        enabled: Off: every arm takes its factor of ``rates``.
        seeds: Seeds the choice averages over; apart from those that are reported.
        rate: Grid of factors on the arm's own rate (centre 1 = as in ``rates``).
    """

    enabled: bool
    seeds: int = Field(ge=1)
    rate: GridConfig


class GrowConfig(Strict):
    """Everything the ``grow`` pipeline can be told.

    Attributes:
        start_from: ``initialisation``: each seed trains a teacher of its own; ``base``: the teacher
            is the base checkpoint.
        samples: Which images.
        teacher: The net that is grown.
        growth: What is grown, and when.
        arms: Which arms are trained.
        train: How student and arms are trained.
        rates: Learning rate of each arm.
        distillation: For the arm ``distilled``.
        evaluation: What is measured.
        tuning: Choice of learning rates.
        evidence: What is said before the run.
    """

    start_from: Literal["initialisation", "base"]
    samples: SamplesConfig
    teacher: TeacherConfig
    growth: GrowthConfig
    arms: ArmsConfig
    train: TrainConfig
    rates: RatesConfig
    distillation: DistillationConfig
    evaluation: EvaluationConfig
    tuning: TuningConfig
    evidence: EvidenceConfig

    @model_validator(mode="after")
    def _teacher_fits(self) -> Self:
        if self.train.epochs < 1:
            raise ValueError(
                "train.epochs: got 0, expected 1 or more: growth alone teaches nothing"
            )
        if self.start_from == "initialisation":
            if self.teacher.train.epochs < 1:
                raise ValueError("teacher.train.epochs: got 0, expected 1 or more")
            return self
        if self.samples.train_images:
            raise ValueError(
                "samples.train_images: expected 0 with start_from: base, whose net has seen the "
                "stream's training images; drawn anew, some of them would be tested"
            )
        if self.growth.keep_moments:
            raise ValueError(
                "growth.keep_moments: expected false with start_from: base, which is kept without "
                "its optimizer"
            )
        if self.growth.trigger.when != "trained":
            raise ValueError(
                "growth.trigger.when: expected trained with start_from: base, which is trained"
            )
        if self.teacher.width:
            raise ValueError("teacher.width: expected 0 with start_from: base, whose net is given")
        return self

    @model_validator(mode="after")
    def _controls_fit(self) -> Self:
        if self.arms.random_layers and not any(self.growth.depth.layers.values()):
            raise ValueError("arms.random_layers: needs growth.depth.layers; there are none")
        if self.teacher.train.optimizer != self.train.optimizer and self.growth.keep_moments:
            raise ValueError(
                f"growth.keep_moments: moments of {self.teacher.train.optimizer} mean nothing to "
                f"{self.train.optimizer}; use one optimizer for both, or set false"
            )
        return self


__all__ = ["BEST_ON_VALIDATION", "GrowConfig"]
