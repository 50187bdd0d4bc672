"""Every knob of class-incremental learning with low-rank modules, checked before anything runs.

Paper: LoRAC-IPC, arXiv 2504.13407. Its text could not be read: what stands in ``conf/paper`` are
the official scripts' settings. Values are in ``conf/base/parameters_lora_ipc.yml``; this file says
what they mean and what range they have.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from relearn.evaluation.config import BEST_ON_VALIDATION, EvidenceConfig
from relearn.methods.lora_ipc.lora_config import (
    FreezeConfig,
    ImportanceConfig,
    LoraConfig,
    OmegaConfig,
    OrthogonalityConfig,
)
from relearn.methods.lora_ipc.rivals_config import (
    RatesConfig,
    RivalsConfig,
    TrainingsConfig,
)
from relearn.methods.lora_ipc.stream_config import (
    AlignmentConfig,
    RehearsalConfig,
    SamplesConfig,
    TaskInferenceConfig,
    TasksConfig,
)
from relearn.strict import Strict
from relearn.training.config import GridConfig, TrainConfig

LEAKING = "_batch_wise"
"""Ending of the arms whose test batches give away where a task ends."""


class GateConfig(Strict):
    """Whether the backbone is good enough for anything to be claimed.

    Attributes:
        above_raw_pixels: Accuracy of its nearest class mean on unseen classes above that of raw
            pixels, 0 to 1; below it the base is too weak and nothing is claimed.
        refuse: Whether a weak base stops the run; off: it is reported only.
    """

    above_raw_pixels: float = Field(ge=0, lt=1)
    refuse: bool


class TuningConfig(Strict):
    """The choice of learning rates on validation images, with the same budget for each family.

    Attributes:
        enabled: Off: every training takes its factor of ``rates``.
        seeds: Seeds the choice averages over; apart from those that are reported.
        rate: Grid of factors on the family's own rate (centre 1 = as in ``rates``).
    """

    enabled: bool
    seeds: int = Field(ge=1)
    rate: GridConfig


class LoraIpcConfig(Strict):
    """Everything the ``lora_ipc`` pipeline can be told.

    Attributes:
        tasks: How the transfer classes become tasks.
        samples: Which images.
        lora: The factors.
        omega: Weights of earlier modules.
        orthogonality: How modules are kept apart.
        importance: How matrices are ranked.
        freeze: How many are frozen, and when.
        train: How a task is learnt; its rate is that of the factors and the last layer.
        alignment: The last layer's training on drawn features.
        task_inference: Reading a model by inferred tasks.
        rehearsal: Stored images, for the arms that have some.
        rivals: What the method is compared with.
        trainings: What is trained.
        rates: Learning rate of each family of trainings.
        tuning: Choice of learning rates.
        gate: Whether the backbone will do.
        evidence: What is said before the run.
    """

    tasks: TasksConfig
    samples: SamplesConfig
    lora: LoraConfig
    omega: OmegaConfig
    orthogonality: OrthogonalityConfig
    importance: ImportanceConfig
    freeze: FreezeConfig
    train: TrainConfig
    alignment: AlignmentConfig
    task_inference: TaskInferenceConfig
    rehearsal: RehearsalConfig
    rivals: RivalsConfig
    trainings: TrainingsConfig
    rates: RatesConfig
    tuning: TuningConfig
    gate: GateConfig
    evidence: EvidenceConfig

    @model_validator(mode="after")
    def _learns(self) -> Self:
        if self.train.epochs < 1:
            raise ValueError("train.epochs: got 0, expected 1 or more")
        if self.tasks.planned and self.tasks.count > self.tasks.planned:
            raise ValueError(
                f"tasks.planned: got {self.tasks.planned}, expected at least "
                f"tasks.count = {self.tasks.count}, or 0"
            )
        if self.tasks.count and self.tasks.learn > self.tasks.count:
            raise ValueError(
                f"tasks.learn: got {self.tasks.learn}, expected at most "
                f"tasks.count = {self.tasks.count}"
            )
        return self

    @model_validator(mode="after")
    def _validates(self) -> Self:
        chosen = {
            "tuning.enabled": self.tuning.enabled,
            "trainings.ranpac": self.trainings.ranpac,
            "evidence.baseline_arm": self.evidence.baseline_arm == BEST_ON_VALIDATION,
        }
        for name, needs in chosen.items():
            if needs and not self.samples.validation_share:
                raise ValueError(
                    f"samples.validation_share: got 0, but {name} makes a choice on validation "
                    "images; give it a share"
                )
        return self

    @model_validator(mode="after")
    def _no_headline_leaks(self) -> Self:
        for name in ("baseline_arm", "treated_arm", "sham_arm"):
            if str(getattr(self.evidence, name)).endswith(LEAKING):
                raise ValueError(
                    f"evidence.{name}: {getattr(self.evidence, name)} is answered batch by batch, "
                    "which leaks where a task ends; it may stand in tables but not be a headline"
                )
        return self


__all__ = ["BEST_ON_VALIDATION", "LEAKING", "GateConfig", "LoraIpcConfig", "TuningConfig"]
