"""What may be set under ``zap_map``: where, and on how much data, zapping is tried. No torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from relearn.strict import Strict


class ClassesConfig(Strict):
    """The two numbers of base classes of the map.

    Attributes:
        few: Base classes of the small side, 2 or more.
        many: Base classes of the large side, more than ``few``.
    """

    few: int = Field(ge=2)
    many: int = Field(ge=3)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.few >= self.many:
            raise ValueError(f"few: got {self.few}, expected less than many={self.many}")
        return self


class ImagesConfig(Strict):
    """The two numbers of training images of each base class.

    Attributes:
        few: Images of the small side, 1 or more.
        many: Images of the large side, more than ``few``.
    """

    few: int = Field(ge=1)
    many: int = Field(ge=2)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.few >= self.many:
            raise ValueError(f"few: got {self.few}, expected less than many={self.many}")
        return self


class ZapMapConfig(Strict):
    """Everything the ``zap_map`` pipeline can be told besides ``zap`` itself.

    Attributes:
        classes: Numbers of base classes.
        images: Numbers of training images a class.
        steps: Optimizer steps of every condition, rounded to whole epochs.
        smallest_epochs: Epochs that every condition has at least, so that a reset can happen.
        resets: ``policy`` keeps ``zap.policy`` as it is: with a reset every epoch, a small
            condition resets every few steps. ``matched`` counts in steps: every condition resets
            as often, and with as many steps in between, as the largest one does.
        tune_shift: No shift and ``zap.tuning.shift_pixels`` compete on the selection classes, with
            the same budget for both arms of every condition; otherwise ``zap.train.shift_pixels``.
    """

    classes: ClassesConfig
    images: ImagesConfig
    steps: int = Field(ge=2)
    smallest_epochs: int = Field(ge=2)
    resets: Literal["policy", "matched"]
    tune_shift: bool
