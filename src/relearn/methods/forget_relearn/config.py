"""Every knob of forgetting and relearning, checked before anything runs.

Paper: "The Effectiveness of Random Forgetting for Robust Generalization" (FOMO), ICLR 2024,
arXiv 2402.11733. The authors published no code, and the settings could not be read: what stands in
``conf/base/parameters_forget_relearn.yml`` are our defaults.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from relearn.evaluation.config import BEST_ON_VALIDATION, EvidenceConfig
from relearn.methods.forget_relearn.adversarial_config import (
    AttackConfig,
    AverageConfig,
    LossConfig,
    SamplesConfig,
    WeightPerturbationConfig,
)
from relearn.methods.forget_relearn.cycle_config import (
    ConsolidateConfig,
    CycleConfig,
    ForgetConfig,
    RelearnConfig,
    RollBackConfig,
)
from relearn.methods.forget_relearn.judging_config import JudgingConfig, MonitorConfig
from relearn.strict import Strict
from relearn.training.config import GridConfig, TrainConfig

__all__ = ["BEST_ON_VALIDATION", "ForgetRelearnConfig"]


class TrainingsConfig(Strict):
    """Which trainings are run; each delivers one model or several, which are the arms.

    Attributes:
        pgd_at: Adversarial training to the end: arms ``pgd_at`` (last weights), ``pgd_at_stopped``
            (best on validation), ``pgd_at_ema`` and ``pgd_at_ema_stopped`` (moving average).
        awp: The same with adversarial weight perturbation: ``awp`` and ``awp_stopped``.
        share_zero: Sham: the whole cycle with nothing forgotten.
        forget_relearn: The method: ``forget_relearn`` (stable model), ``forget_relearn_student``,
            ``forget_relearn_stopped`` (stable model, best end of a relearning on validation).
        forget_early: Control: the same with the early layers.
        forget_only: Component: forgetting without stable model and consistency.
        stable_only: Component: the stable model alone, nothing forgotten, no consistency.
        forget_stable: Component: forgetting and stable model without consistency.
    """

    pgd_at: bool
    awp: bool
    share_zero: bool
    forget_relearn: bool
    forget_early: bool
    forget_only: bool
    stable_only: bool
    forget_stable: bool


class SchedulesConfig(Strict):
    """Learning-rate schedules that compete for each training.

    Attributes:
        constant: No fall.
        cosine: To zero at the end.
        step: A tenth from half, a hundredth from three quarters on.
        step_once: A tenth from half on.
    """

    constant: bool
    cosine: bool
    step: bool
    step_once: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Those that are switched on."""
        return tuple(name for name in type(self).model_fields if getattr(self, name))

    @model_validator(mode="after")
    def _one_at_least(self) -> Self:
        if not self.names:
            raise ValueError("none is switched on; leave at least one to choose from")
        return self


class TuningConfig(Strict):
    """The choice of schedule and rate on validation images, equally for every training.

    Attributes:
        enabled: Off: all trainings take ``train.schedule`` and ``train.learning_rate``.
        seeds: Seeds the choice averages over; apart from those that are reported.
        schedules: Schedules that compete.
        rate: Factors on ``train.learning_rate``.
    """

    enabled: bool
    seeds: int = Field(ge=1)
    schedules: SchedulesConfig
    rate: GridConfig


class SharesGrid(Strict):
    """Fractions of ``compare: fraction_length``: smallest * factor^k.

    Attributes:
        smallest: Smallest fraction.
        factor: Ratio of neighbours.
        count: Number of fractions.
    """

    smallest: float = Field(gt=0, le=1)
    factor: float = Field(gt=1)
    count: int = Field(ge=1)

    @property
    def values(self) -> tuple[float, ...]:
        """The fractions, rising."""
        return tuple(float(f"{self.smallest * self.factor**k:.6g}") for k in range(self.count))

    @model_validator(mode="after")
    def _below_one(self) -> Self:
        if self.values[-1] > 1:
            raise ValueError(
                f"count: the largest fraction would be {self.values[-1]:g}, expected at most 1; "
                "lower count, factor or smallest"
            )
        return self


class LengthsGrid(Strict):
    """Relearning lengths of ``compare: fraction_length``: shortest * factor^k epochs.

    Attributes:
        shortest: Shortest length, in epochs.
        factor: Ratio of neighbours.
        count: Number of lengths.
    """

    shortest: int = Field(ge=1)
    factor: int = Field(ge=2)
    count: int = Field(ge=1)

    @property
    def values(self) -> tuple[int, ...]:
        """The lengths, rising."""
        return tuple(self.shortest * self.factor**k for k in range(self.count))


class StudyConfig(Strict):
    """A/B studies inside the method.

    Attributes:
        fractions: Grid of ``compare: fraction_length``.
        lengths: Grid of ``compare: fraction_length``.
        confirm_seeds: Fresh seeds on which the winner meets the baseline again.
    """

    fractions: SharesGrid
    lengths: LengthsGrid
    confirm_seeds: int = Field(ge=2)


class ForgetRelearnConfig(Strict):
    """Everything the ``forget_relearn`` pipeline can be told.

    Attributes:
        start_from: ``initialisation``: each seed starts from fresh weights of the base checkpoint's
            architecture; ``base``: every training continues the base checkpoint's weights.
        compare: ``arms``: the trainings below; ``layers``, ``fraction_length`` or ``components``:
            the study of that name, with confirmation on fresh seeds.
        head: Name of the last layer; empty finds it.
        samples: Which images train, validate and test, and the label noise.
        trainings: Trainings for ``compare: arms``.
        train: Epochs, optimizer and schedule of every training.
        attack: The attack inside training.
        loss: What is minimised.
        awp: For the training ``awp``.
        average: For the arms ``pgd_at_ema``.
        cycle: When the phases begin.
        forget: What is forgotten.
        consolidate: How the stable model remembers.
        relearn: How the student is held to it.
        roll_back: Going back.
        monitor: What is watched.
        judging: What is measured on the test images.
        tuning: Choice of schedule and rate.
        study: The A/B studies.
        evidence: What is said before the run.
    """

    start_from: Literal["initialisation", "base"]
    compare: Literal["arms", "layers", "fraction_length", "components"]
    head: str
    samples: SamplesConfig
    trainings: TrainingsConfig
    train: TrainConfig
    attack: AttackConfig
    loss: LossConfig
    awp: WeightPerturbationConfig
    average: AverageConfig
    cycle: CycleConfig
    forget: ForgetConfig
    consolidate: ConsolidateConfig
    relearn: RelearnConfig
    roll_back: RollBackConfig
    monitor: MonitorConfig
    judging: JudgingConfig
    tuning: TuningConfig
    study: StudyConfig
    evidence: EvidenceConfig

    @model_validator(mode="after")
    def _run_is_long_enough(self) -> Self:
        cycle, epochs = self.cycle, self.train.epochs
        if cycle.warmup_epochs + cycle.relearn_epochs > epochs:
            raise ValueError(
                f"cycle.warmup_epochs: got {cycle.warmup_epochs}, expected at most "
                f"{epochs - cycle.relearn_epochs}: train.epochs={epochs} must hold the warm-up and "
                f"one relearning of cycle.relearn_epochs={cycle.relearn_epochs}"
            )
        if cycle.trigger == "list" and cycle.listed[-1] + cycle.relearn_epochs > epochs:
            raise ValueError(
                f"cycle.at_epochs: {cycle.listed[-1]} leaves {epochs - cycle.listed[-1]} of "
                f"train.epochs={epochs}, expected at least relearn_epochs={cycle.relearn_epochs}"
            )
        if self.attack.batch_norm == "batch" and self.train.batch_size < 2:
            raise ValueError(
                "train.batch_size: got 1, expected 2 or more: batch norm needs them in training"
            )
        return self

    @model_validator(mode="after")
    def _average_begins(self) -> Self:
        for name, begins in (
            ("average.from_epoch", self.average.from_epoch),
            ("awp.warmup_epochs", self.awp.warmup_epochs),
        ):
            if begins >= self.train.epochs:
                raise ValueError(
                    f"{name}: got {begins}, expected below train.epochs={self.train.epochs}: "
                    "it would never begin"
                )
        return self

    @model_validator(mode="after")
    def _lengths_fit(self) -> Self:
        if self.compare != "fraction_length":
            return self
        longest, left = self.study.lengths.values[-1], self.train.epochs - self.cycle.warmup_epochs
        if longest > left:
            raise ValueError(
                f"study.lengths: the longest is {longest}, expected at most {left}: train.epochs="
                f"{self.train.epochs} less cycle.warmup_epochs={self.cycle.warmup_epochs}"
            )
        if self.cycle.trigger == "list":
            raise ValueError(
                "cycle.trigger: got list with compare=fraction_length, whose lengths do not fit "
                "listed epochs; set interval, plateau or robust_gap"
            )
        return self

    @model_validator(mode="after")
    def _stable_model_is_there(self) -> Self:
        if self.roll_back.to_cycle and not self.roll_back.keep_cycles:
            raise ValueError("roll_back.keep_cycles: is 0, so that there is no cycle to go back to")
        return self
