"""Knobs of the cycle: when to forget, what, how the stable model remembers, how to relearn."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal, Self

from pydantic import Field, model_validator

from relearn.strict import Strict


class PlateauTrigger(Strict):
    """Forget when validation stands still; read for ``trigger: plateau``.

    Attributes:
        patience: Evaluations without gain.
        smallest_gain: Robust accuracy that counts as gain, such as 0.005.
    """

    patience: int = Field(ge=1)
    smallest_gain: float = Field(ge=0, lt=1)


class GapTrigger(Strict):
    """Forget when training runs ahead of validation; read for ``trigger: robust_gap``.

    Attributes:
        largest: Smoothed (train - validation) robust accuracy above which to forget.
        smoothing: Weight of the past in the moving average of the gap, 0 to below 1.
    """

    largest: float = Field(gt=0, lt=1)
    smoothing: float = Field(ge=0, lt=1)


class CycleConfig(Strict):
    """When the phases begin: learning, then again and again forgetting and relearning.

    Attributes:
        warmup_epochs: Epochs of plain adversarial training before the first consolidation; nothing
            is forgotten before.
        trigger: ``interval``: every ``every_epochs``; ``plateau``; ``robust_gap``; ``list``: at
            ``at_epochs``.
        every_epochs: Epochs from one forgetting to the next, at least ``relearn_epochs``.
        relearn_epochs: Length of relearning; no forgetting happens within it, nor with fewer epochs
            left, so that the last cycle always ends relearnt.
        consolidate_epochs: Last epochs of relearning in which the stable model takes up the
            student; as many as ``relearn_epochs`` means always.
        at_epochs: For ``trigger: list``: numbers of epochs done, with spaces between, such as
            ``80 100 120``; not a YAML list, because ``--params`` splits at commas.
        plateau: For ``trigger: plateau``.
        robust_gap: For ``trigger: robust_gap``.
    """

    warmup_epochs: int = Field(ge=0)
    trigger: Literal["interval", "plateau", "robust_gap", "list"]
    every_epochs: int = Field(ge=1)
    relearn_epochs: int = Field(ge=1)
    consolidate_epochs: int = Field(ge=1)
    at_epochs: str = Field(pattern=r"^[0-9 ]*$")
    plateau: PlateauTrigger
    robust_gap: GapTrigger

    @property
    def listed(self) -> tuple[int, ...]:
        """The epochs of ``at_epochs``, rising."""
        return tuple(sorted({int(text) for text in self.at_epochs.split()}))

    @model_validator(mode="after")
    def _phases_fit(self) -> Self:
        if self.every_epochs < self.relearn_epochs:
            raise ValueError(
                f"every_epochs: got {self.every_epochs}, expected at least relearn_epochs="
                f"{self.relearn_epochs}: a cycle that is cut short never relearns"
            )
        if self.consolidate_epochs > self.relearn_epochs:
            raise ValueError(
                f"consolidate_epochs: got {self.consolidate_epochs}, expected at most "
                f"relearn_epochs={self.relearn_epochs}"
            )
        if self.trigger == "list":
            self._list_fits()
        return self

    def _list_fits(self) -> None:
        epochs = self.listed
        if not epochs:
            raise ValueError("at_epochs: is empty; name the epochs, such as 80 100 120")
        if epochs[0] < self.warmup_epochs:
            raise ValueError(
                f"at_epochs: got {epochs[0]}, expected at least warmup_epochs={self.warmup_epochs}"
            )
        for one, two in pairwise(epochs):
            if two - one < self.relearn_epochs:
                raise ValueError(
                    f"at_epochs: {one} and {two} are closer than relearn_epochs="
                    f"{self.relearn_epochs}, so that the first could not finish its relearning"
                )


class FractionsConfig(Strict):
    """Own share of a group of layers where it differs from ``fraction``; null = ``fraction``.

    Attributes:
        early: First two fifths of the layers.
        middle: Between early and late.
        late: Last two fifths, without the head.
        head: The last layer.
    """

    early: float | None = Field(ge=0, le=1)
    middle: float | None = Field(ge=0, le=1)
    late: float | None = Field(ge=0, le=1)
    head: float | None = Field(ge=0, le=1)


class ForgetConfig(Strict):
    """What is forgotten.

    Attributes:
        layers: Groups (``early``, ``middle``, ``late``, ``head``, ``all``) or names of layers,
            joined by ``+``, such as ``late+head``.
        fraction: Share of each chosen weight tensor that is forgotten; 0 is the sham, 1 with
            ``late`` is later-layer forgetting.
        fractions: Own shares of single groups.
        mask: ``exact``: exactly that share; ``bernoulli``: each weight with that probability.
        initialisation: ``fresh`` draws anew as the net was drawn, ``rewind`` takes the first
            weights, ``zero``, ``stable`` takes those of the stable model.
        include_bias: Also forget the bias of the chosen layers; never batch norm.
        clear_momentum: Set the optimizer's momentum of forgotten weights to zero.
        allow_early: Permit layers of the group ``early``, the input stem above all.
    """

    layers: str = Field(min_length=1)
    fraction: float = Field(ge=0, le=1)
    fractions: FractionsConfig
    mask: Literal["exact", "bernoulli"]
    initialisation: Literal["fresh", "rewind", "zero", "stable"]
    include_bias: bool
    clear_momentum: bool
    allow_early: bool

    @model_validator(mode="after")
    def _own_shares_are_read(self) -> Self:
        words = {word.strip() for word in self.layers.split("+")}
        for group, share in self.fractions:
            if share is not None and words != {"all"} and group not in words:
                raise ValueError(
                    f"fractions.{group}: got {share:g}, but layers={self.layers!r} does not name "
                    f"that group; add it to layers, or set fractions.{group}: null"
                )
        return self


class ConsolidateConfig(Strict):
    """How the stable model remembers.

    Attributes:
        memory_epochs: Epochs of consolidation it remembers: decay = 1 - 1 / (memory_epochs * steps
            an epoch).
        probability: Chance that a step of the consolidation phase updates it.
        batch_norm: ``average`` keeps moving averages of the running statistics, ``copy`` takes the
            student's.
        recalibrate: Measure the running statistics anew before the stable model is delivered, with
            one pass over training images, as they are and at random points of the ball; its curves
            and the choice of its best epoch are of the model before that.
    """

    memory_epochs: float = Field(gt=0)
    probability: float = Field(gt=0, le=1)
    batch_norm: Literal["average", "copy"]
    recalibrate: bool


class RelearnConfig(Strict):
    """How the student is held to the stable model while it relearns.

    Attributes:
        consistency: ``mse`` between logits, ``kl`` between softened outputs, or ``none``.
        weight: Weight of the consistency loss beside the adversarial loss.
        temperature: Of ``kl``; the loss carries its square.
        stable_input: What the stable model sees: the ``adversarial`` or the ``clean`` image.
    """

    consistency: Literal["mse", "kl", "none"]
    weight: float = Field(ge=0)
    temperature: float = Field(gt=0)
    stable_input: Literal["adversarial", "clean"]


class RollBackConfig(Strict):
    """Going back to the state before a forgetting, by itself or because a person says so.

    Attributes:
        automatic: Go back where relearning has not recovered within ``relearn_epochs``.
        tolerance: Robust accuracy on validation that may be missing after relearning.
        to_cycle: Deliver the models as they stood after this cycle; 0 = the last.
        keep_cycles: States of the last so many cycles that are kept for it.
    """

    automatic: bool
    tolerance: float = Field(ge=0, lt=1)
    to_cycle: int = Field(ge=0)
    keep_cycles: int = Field(ge=0)
