"""Knobs of the automatic choice; what is found is a proposal and is never applied by itself."""

from __future__ import annotations

from typing import Self

from pydantic import Field, field_validator, model_validator

from relearn.strict import Strict


class FractionRange(Strict):
    """Shares that compete, drawn evenly on the logarithmic scale.

    Attributes:
        smallest: Smallest share, above 0.
        largest: Largest share, at most 1.
    """

    smallest: float = Field(gt=0, le=1)
    largest: float = Field(gt=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.smallest > self.largest:
            raise ValueError(
                f"smallest: got {self.smallest:g}, expected at most largest={self.largest:g}"
            )
        return self


class EpochsRange(Strict):
    """Lengths of relearning that compete.

    Attributes:
        shortest: Shortest length, in epochs.
        longest: Longest length, in epochs.
    """

    shortest: int = Field(ge=1)
    longest: int = Field(ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.shortest > self.longest:
            raise ValueError(
                f"shortest: got {self.shortest}, expected at most longest={self.longest}"
            )
        return self


class WarmupRange(Strict):
    """Lengths of the warm-up that compete, as a share of ``train.epochs``.

    Attributes:
        smallest: Smallest share.
        largest: Largest share, below 1.
    """

    smallest: float = Field(ge=0, lt=1)
    largest: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.smallest > self.largest:
            raise ValueError(
                f"smallest: got {self.smallest:g}, expected at most largest={self.largest:g}"
            )
        return self


class TriggersConfig(Strict):
    """Triggers that compete; their own knobs stay as they are under ``forget_relearn.cycle``.

    Attributes:
        interval: As soon as a relearning is over, or with the present pause.
        plateau: When validation stands still.
        robust_gap: When training runs ahead of validation.
    """

    interval: bool
    plateau: bool
    robust_gap: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Those that are switched on."""
        return tuple(name for name in type(self).model_fields if getattr(self, name))

    @model_validator(mode="after")
    def _one_at_least(self) -> Self:
        if not self.names:
            raise ValueError("none is switched on; leave at least one to choose from")
        return self


class ForgetRelearnSearchConfig(Strict):
    """Everything the ``forget_relearn_search`` pipeline can be told.

    Attributes:
        trials: Settings that are tried, the present one among them.
        seconds: Seconds of training in all, added up over workers, after which no trial begins.
        seed: Of the sampler; the same seed proposes the same settings, killed or not.
        random_trials: First trials that are drawn evenly, before the sampler learns from scores.
        at_once: Trials drawn together, so that workers stay busy; the outcome depends on it, and
            not on the number of workers.
        seeds: Seeds each setting is scored on; apart from those that tune, confirm and report.
        prune: Leave out the further seeds of a setting that lies below the median of the others.
        layers: What is forgotten, choices with spaces between, each as in ``forget.layers``.
        fraction: Share of each chosen weight tensor.
        relearn_epochs: Length of relearning; the pause after it, and the consolidated share of it,
            stay as at present.
        warmup: Length of the warm-up.
        trigger: When to forget.
    """

    trials: int
    seconds: float
    seed: int = Field(ge=0)
    random_trials: int = Field(ge=1)
    at_once: int = Field(ge=1)
    seeds: int = Field(ge=1)
    prune: bool
    layers: str = Field(min_length=1)
    fraction: FractionRange
    relearn_epochs: EpochsRange
    warmup: WarmupRange
    trigger: TriggersConfig

    @property
    def layer_choices(self) -> tuple[str, ...]:
        """The choices of ``layers``, each once."""
        return tuple(dict.fromkeys(self.layers.split()))

    @field_validator("trials")
    @classmethod
    def _trials_left(cls, value: int) -> int:
        if value < 2:
            raise ValueError(
                f"got {value}, expected 2 or more: the present setting is the first trial, and "
                "another one must stand against it"
            )
        return value

    @field_validator("seconds")
    @classmethod
    def _seconds_left(cls, value: float) -> float:
        if not value > 0:
            raise ValueError(f"got {value:g}, expected above 0: there is no time to try anything")
        return value

    @model_validator(mode="after")
    def _something_to_choose(self) -> Self:
        if not self.layer_choices:
            raise ValueError("layers: is empty; name what is forgotten, such as late+head late")
        settled = (
            len(self.layer_choices) == len(self.trigger.names) == 1
            and self.fraction.smallest == self.fraction.largest
            and self.relearn_epochs.shortest == self.relearn_epochs.longest
            and self.warmup.smallest == self.warmup.largest
        )
        if settled:
            raise ValueError(
                "every choice has one value only, so that nothing is left to search; widen layers, "
                "fraction, relearn_epochs, warmup or trigger"
            )
        return self
