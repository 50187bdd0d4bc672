"""Every knob of zapping, checked before anything runs.

Paper: Frati, Traft, Clune, Cheney, "Reset It and Forget It", arXiv 2310.07996. Values are in
``conf/base/parameters_zap.yml``; this file says what they mean and what range they have.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from relearn.evaluation.config import EvidenceConfig
from relearn.methods.zap.transfer_config import TransferConfig
from relearn.strict import Strict
from relearn.training.config import GridConfig, TrainConfig

Initialisation = Literal[
    "joint_fan_in", "kaiming_normal", "torch_default", "zeros", "normal", "match_row_norm"
]


class PlateauConfig(Strict):
    """When the training loss counts as standing still.

    Attributes:
        patience: Units (epochs or episodes) without gain before a reset.
        smallest_gain: Relative fall of the mean loss that counts as gain, such as 0.01.
    """

    patience: int = Field(ge=1)
    smallest_gain: float = Field(ge=0, lt=1)


class PolicyConfig(Strict):
    """When to reset, and how many rows of the last layer.

    Attributes:
        trigger: ``interval``: every ``every`` units; ``plateau``: when the loss stands still.
        unit: What ``every``, ``start`` and ``stop`` count.
        every: Units between two resets.
        start: Units that must be done before the first reset.
        stop: Units after which no reset happens; 0 means no limit.
        rows: Which rows of the last layer: ``all``, a random ``fraction`` of them, or the row of
            the ``sampled_class`` of an episode.
        fraction: Share of rows for ``rows: fraction``.
        decay: Factor on the share of rows from one reset to the next; 1 keeps it.
        settle_steps: No reset with fewer optimizer steps than this left to run, so that the net
            that is kept has always relearnt. Below one epoch, the last epoch is spared anyway.
        plateau: For ``trigger: plateau``.
    """

    trigger: Literal["interval", "plateau"]
    unit: Literal["epochs", "steps", "episodes"]
    every: int = Field(ge=1)
    start: int = Field(ge=0)
    stop: int = Field(ge=0)
    rows: Literal["all", "fraction", "sampled_class"]
    fraction: float = Field(gt=0, le=1)
    decay: float = Field(gt=0, le=1)
    settle_steps: int = Field(ge=1)
    plateau: PlateauConfig

    @model_validator(mode="after")
    def _rows_fit_unit(self) -> PolicyConfig:
        if self.rows == "sampled_class" and self.unit != "episodes":
            raise ValueError(
                "rows: sampled_class needs unit: episodes (i.i.d. batches sample none)"
            )
        if self.trigger == "plateau" and self.unit == "steps":
            raise ValueError("trigger: plateau is judged over epochs or episodes, not steps")
        return self


class ResetConfig(Strict):
    """What the reset rows become.

    Attributes:
        initialisation: ``joint_fan_in`` draws normal with std sqrt(2 / (rows * features)), as the
            official code does (almost zero when many rows are reset at once); ``kaiming_normal``
            std sqrt(2 / features); ``torch_default`` uniform +-1/sqrt(features); ``zeros``;
            ``normal`` with ``std``; ``match_row_norm`` random directions with each row's norm kept.
        std: Standard deviation for ``normal``.
        reset_bias: Also set the bias of the reset rows to 0 (official code: false).
        reset_moments: Also clear the optimizer's moments of the reset rows (official code: false).
    """

    initialisation: Initialisation
    std: float = Field(gt=0)
    reset_bias: bool
    reset_moments: bool


class BiasedConfig(Strict):
    """Extra steps right after a reset, on batches biased towards the reset classes.

    Attributes:
        steps: Optimizer steps; 0 for none. They come on top of the budget and are counted in cost.
        fraction: Share of each such batch drawn from the reset classes only.
        head_only: Train only the last layer during these steps.
    """

    steps: int = Field(ge=0)
    fraction: float = Field(ge=0, le=1)
    head_only: bool


class EpisodesConfig(Strict):
    """Alternating sequential and batch training (ASB) and its meta-gradient form.

    Attributes:
        episodes: Number of episodes.
        sequence_length: Images of one class learnt one at a time in the sequential phase.
        remember: Images drawn from all classes for the batch phase.
        remember_only: Leave the images of the sequence out of the batch phase.
        sample: ``single``: the sequence shows one class; ``uniform``: any (the control).
        inner_learning_rate: SGD rate of the sequential phase.
        outer_learning_rate: Adam rate of the batch phase.
        max_gradient_norm: Clip of the batch-phase gradient; 0 for none.
    """

    episodes: int = Field(ge=1)
    sequence_length: int = Field(ge=1)
    remember: int = Field(ge=1)
    remember_only: bool
    sample: Literal["single", "uniform"]
    inner_learning_rate: float = Field(ge=0)
    outer_learning_rate: float = Field(gt=0)
    max_gradient_norm: float = Field(ge=0)


class MetaConfig(EpisodesConfig):
    """Meta-ASB: the batch-phase gradient goes back through the sequential steps.

    Attributes:
        first_order: Leave out second derivatives (cheaper, approximate).
        inner_parameters: What the sequential phase adapts: ``all`` layers or the ``head``.
    """

    first_order: bool
    inner_parameters: Literal["all", "head"]


class TuningConfig(Strict):
    """The choice of pre-training settings, made on selection classes, equally for every arm.

    Attributes:
        enabled: Off: every arm takes ``train.learning_rate`` and ``train.shift_pixels`` as given.
        seeds: How many seeds the choice averages over; apart from the seeds that are reported.
        rate: Grid of factors on the arm's own pre-training rate (centre 1 = as configured).
        shift_pixels: Random shift tried beside none, in pixels; 0 tries none.
    """

    enabled: bool
    seeds: int = Field(ge=1)
    rate: GridConfig
    shift_pixels: int = Field(ge=0)


class ArmsConfig(Strict):
    """Which arms are trained: pre-training scheme, with and without the reset.

    Attributes:
        iid: Shuffled batches; the baseline.
        iid_zap: The same with resets.
        asb: Alternating sequential and batch phases.
        asb_zap: The same with resets.
        meta: ASB with the gradient through the sequential phase.
        meta_zap: The same with resets.
        iid_shrink_perturb: Sham: at the same moments every weight is shrunk and perturbed.
        iid_moments: Sham: at the same moments only the optimizer's moments of the head are cleared.
    """

    iid: bool
    iid_zap: bool
    asb: bool
    asb_zap: bool
    meta: bool
    meta_zap: bool
    iid_shrink_perturb: bool
    iid_moments: bool


class ShamConfig(Strict):
    """Shrink-and-perturb (Ash and Adams 2020): p <- shrink * p + perturb * fresh.

    Attributes:
        shrink: Factor on every weight.
        perturb: Factor on a freshly initialised net's weights.
    """

    shrink: float = Field(gt=0, le=1)
    perturb: float = Field(ge=0, le=1)


class MonitorConfig(Strict):
    """What is watched around a reset.

    Attributes:
        window: Steps averaged before a reset and while recovering.
        tolerance: Accuracy below the level before the reset that still counts as recovered.
        gradient_every: Steps between two records of gradient norms (each step near a reset).
    """

    window: int = Field(ge=1)
    tolerance: float = Field(ge=0, lt=1)
    gradient_every: int = Field(ge=1)


class FrequencyStudy(Strict):
    """Variants of ``compare: frequency``: reset every ``shortest`` * ``factor``^k units.

    Attributes:
        shortest: Shortest interval, in units of the policy.
        factor: Ratio of neighbouring intervals.
        variants: Number of intervals.
    """

    shortest: int = Field(ge=1)
    factor: int = Field(ge=2)
    variants: int = Field(ge=2)


class StudyConfig(Strict):
    """A/B studies inside the method.

    Attributes:
        pretraining: Scheme in which the variants compete.
        frequency: Variants of ``compare: frequency``.
        confirm_seeds: Fresh seeds on which the winner meets the baseline again.
    """

    pretraining: Literal["iid", "asb"]
    frequency: FrequencyStudy
    confirm_seeds: int = Field(ge=2)


class ZapConfig(Strict):
    """Everything the ``zap`` pipeline can be told.

    Attributes:
        start_from: ``initialisation``: each seed starts from fresh weights of the base checkpoint's
            architecture; ``base``: every arm continues the base checkpoint's own weights.
        compare: ``arms``: the arms below; ``frequency`` or ``initialisation``: the study of that
            name, with confirmation on fresh seeds.
        head: Name of the last layer; empty finds it.
        head_outputs: Outputs of the last layer, in pre-training and transfer; 0 gives one a class
            (the official code always has 1000).
        arms: Arms for ``compare: arms``.
        train: Pre-training in shuffled batches.
        asb: Episodes without meta-gradient.
        meta: Episodes with meta-gradient.
        policy: When i.i.d. pre-training resets.
        episode_policy: When ASB and meta-ASB reset.
        reset: What reset rows become.
        biased: Extra steps after a reset.
        sham: The shrink-and-perturb sham.
        tuning: Choice of pre-training settings.
        transfer: How arms are judged.
        monitor: What is watched around a reset.
        study: The A/B studies.
        evidence: What is said before the run.
    """

    start_from: Literal["initialisation", "base"]
    compare: Literal["arms", "frequency", "initialisation"]
    head: str
    head_outputs: int = Field(ge=0)
    arms: ArmsConfig
    train: TrainConfig
    asb: EpisodesConfig
    meta: MetaConfig
    policy: PolicyConfig
    episode_policy: PolicyConfig
    reset: ResetConfig
    biased: BiasedConfig
    sham: ShamConfig
    tuning: TuningConfig
    transfer: TransferConfig
    monitor: MonitorConfig
    study: StudyConfig
    evidence: EvidenceConfig

    @model_validator(mode="after")
    def _policies_fit(self) -> ZapConfig:
        if self.policy.unit == "episodes":
            raise ValueError("policy.unit: i.i.d. training has epochs and steps, no episodes")
        if self.episode_policy.unit == "epochs":
            raise ValueError("episode_policy.unit: ASB has episodes and steps, no epochs")
        return self
