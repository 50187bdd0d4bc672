"""Every knob of the last-layer probe, checked before anything runs.

Paper: Daniely, Frostig, Singer, "Toward Deeper Understanding of Neural Networks: The Power of
Initialization and a Dual View on Expressivity", NeurIPS 2016, arXiv 1602.05897. It proves theorems
and, as far as could be seen, holds no experiments: protocol and thresholds are ours.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from relearn.evaluation.config import BEST_ON_VALIDATION, EvidenceConfig
from relearn.methods.last_layer_probe.bodies_config import BodiesConfig, KernelConfig
from relearn.methods.last_layer_probe.heads_config import HeadsConfig, TrainedConfig
from relearn.methods.last_layer_probe.judging_config import (
    CurveConfig,
    DepthReportConfig,
    InitialisationConfig,
    RecheckConfig,
    SensitivityConfig,
    SpecialConfig,
    VerdictConfig,
    WidthLawConfig,
)
from relearn.strict import Strict

BEST_PROBE = BEST_ON_VALIDATION
"""In place of a treated arm: the best last-layer rung, picked by its score on validation."""


class SamplesConfig(Strict):
    """Which images train, validate and test.

    Attributes:
        classes: ``base``: those the base net was pre-trained on; ``unseen``: the selection and
            transfer classes of a split by class, which it has never seen.
        ways: So many of these classes, drawn anew for each seed; 0 = all of them.
        train_images: Images that train, drawn anew for each seed from all images of these classes;
            0 keeps the stream's own train, validation and test splits; only with ``base``.
        validation_images: Images on which all choices are made; all others are the test. 0 together
            with ``train_images``.
        test_images: So many of the test images are read, drawn anew for each seed; 0 = all.
    """

    classes: Literal["base", "unseen"]
    ways: int = Field(ge=0)
    train_images: int = Field(ge=0)
    validation_images: int = Field(ge=0)
    test_images: int = Field(ge=0)

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if self.classes == "unseen" and not self.train_images:
            raise ValueError("train_images: got 0, expected above 0 with classes: unseen")
        if self.ways == 1:
            raise ValueError("ways: got 1, expected 0 or at least 2 classes")
        if (self.train_images == 0) != (self.validation_images == 0):
            raise ValueError(
                "validation_images: expected 0 together with train_images: 0, and above 0 otherwise"
            )
        return self


class ArmsConfig(Strict):
    """Which rungs of the ladder are climbed; linear is always there.

    Attributes:
        majority: The most frequent class.
        random: Frozen random bodies, each depth and width, and a convex head.
        kernel: The dual kernel of each skeleton, and ridge.
        frozen: The base net frozen at every tap point, and a convex head.
        unfrozen: Its last blocks trained on from that optimum, step by step.
        full: The base net's architecture trained from scratch.
        fine_tuned: The base net trained on as a whole.
        controls: Permuted labels and a body of noise, which must end in FAIL.
    """

    majority: bool
    random: bool
    kernel: bool
    frozen: bool
    unfrozen: bool
    full: bool
    fine_tuned: bool
    controls: bool

    @property
    def need_base(self) -> tuple[str, ...]:
        """Those switched on that use the weights of the base net."""
        return tuple(n for n in ("frozen", "unfrozen", "fine_tuned") if getattr(self, n))


class StudyConfig(Strict):
    """What the studies vary; see ``compare``.

    Attributes:
        activations: Names for ``activations``, parted by blanks; the first is the reference.
        width: Replicas r of the random bodies there, the same for all; also in ``initialisation``.
        depth: Layers of them.
        channels: Channels of the random convolutional body in ``skeletons``; the fully connected
            one gets as many features.
        label_noise: Share of wrong labels of the noisy case in ``verdicts``.
        few_images: Training images of the small case in ``verdicts``.
        largest_regret: Regret of the verdicts, in accuracy, above which a finding says so.
    """

    activations: str = Field(min_length=1)
    width: int = Field(ge=1)
    depth: int = Field(ge=1)
    channels: int = Field(ge=1)
    label_noise: float = Field(gt=0, lt=1)
    few_images: int = Field(ge=4)
    largest_regret: float = Field(gt=0, lt=1)


class LastLayerProbeConfig(Strict):
    """Everything the ``last_layer_probe`` pipeline can be told.

    Attributes:
        compare: ``arms``: the ladder. Studies: ``activations`` at equal width; ``skeletons``: fully
            connected against convolutional, with permuted pixels as the control;
            ``initialisation``: gain and bias share; ``verdicts``: is the verdict right?
        samples: Which images.
        arms: Which rungs.
        bodies: Random bodies and their skeletons.
        kernel: Their limit.
        heads: Convex heads.
        trained: Arms that train more than the head.
        curve: Fewer images.
        sensitivity: Wrong labels, rare classes, shifted images.
        special: When data are called special.
        depth_report: Before training.
        width_law: Error of the empirical kernel against width.
        initialisation: Check of the base net's first weights.
        verdict: Thresholds.
        recheck: Small set for bodies that changed.
        study: What studies vary.
        evidence: What is said before the run.
    """

    compare: Literal["arms", "activations", "skeletons", "initialisation", "verdicts"]
    samples: SamplesConfig
    arms: ArmsConfig
    bodies: BodiesConfig
    kernel: KernelConfig
    heads: HeadsConfig
    trained: TrainedConfig
    curve: CurveConfig
    sensitivity: SensitivityConfig
    special: SpecialConfig
    depth_report: DepthReportConfig
    width_law: WidthLawConfig
    initialisation: InitialisationConfig
    verdict: VerdictConfig
    recheck: RecheckConfig
    study: StudyConfig
    evidence: EvidenceConfig

    @model_validator(mode="after")
    def _arms_fit(self) -> Self:
        if self.arms.unfrozen and not self.arms.frozen:
            raise ValueError("arms.unfrozen: needs arms.frozen, from whose optimum it goes on")
        if not self.arms.random and not self.arms.kernel and not self.arms.frozen:
            raise ValueError("arms: expected one of random, kernel and frozen: nothing is probed")
        redrawn = self.samples.classes == "base" and self.samples.train_images
        if redrawn and self.arms.need_base:
            raise ValueError(
                f"arms.{self.arms.need_base[0]}: the base net has seen images of these classes; "
                "drawn anew, some of them would be tested. Use samples.classes: unseen, or "
                "samples.train_images: 0 and validation_images: 0"
            )
        return self


__all__ = ["BEST_ON_VALIDATION", "BEST_PROBE", "LastLayerProbeConfig"]
