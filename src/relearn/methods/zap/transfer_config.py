"""How an arm of zapping is judged on classes it has never seen: the knobs of E1, E2 and E3.

E1, E2, E3 are the names of the protocols in the docs page: continual transfer, few-shot transfer,
and the closed-form head.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from relearn.strict import Strict
from relearn.training.config import GridConfig  # noqa: TC001 - pydantic reads the annotation


def _none_or_two(count: int) -> int:
    if count == 1:
        raise ValueError("got 1, expected 2 or more classes, or 0 for all there are")
    return count


ClassCount = Annotated[int, Field(ge=0), AfterValidator(_none_or_two)]
"""A number of classes to tell apart; 0 stands for all there are."""


class HeadsConfig(Strict):
    """Which first weights of the transfer head compete on the selection classes.

    Attributes:
        zero: All zeros.
        kaiming: Normal with std sqrt(2 / features), bias 0 (official code).
        ridge: The ridge solution on the support samples.
    """

    zero: bool
    kaiming: bool
    ridge: bool

    @model_validator(mode="after")
    def _one_at_least(self) -> HeadsConfig:
        if not self.names:
            raise ValueError("at least one of zero, kaiming, ridge must be true")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the heads that compete."""
        return tuple(n for n in ("zero", "kaiming", "ridge") if getattr(self, n))


class FewShotConfig(Strict):
    """E2: transfer in shuffled batches, and E3: the ridge head without any training.

    Attributes:
        classes: Unseen classes, 2 or more, drawn anew for each seed; 0 takes as many as the smaller
            of the selection and transfer pools has.
        epochs: Passes over the support samples.
        batch_size: Support samples a step.
        rate: Grid of Adam rates, chosen on the selection classes for each head.
        evaluate_every: Steps between two points of the adaptation curve.
        freeze_backbone: Train only the head.
        heads: Heads that compete.
        target_share: Steps-to-target counts the steps to this share of the final accuracy.
    """

    classes: ClassCount
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    rate: GridConfig
    evaluate_every: int = Field(ge=1)
    freeze_backbone: bool
    heads: HeadsConfig
    target_share: float = Field(gt=0, le=1)


class ContinualConfig(Strict):
    """E1: unseen classes one after the other, one pass, one sample at a time, no replay.

    Attributes:
        enabled: Run it.
        classes: Unseen classes, 2 or more, drawn and ordered anew for each seed; 0 as above.
        rate: Grid of Adam rates, chosen on the selection classes for each head.
        evaluate_every: Classes between two evaluations over all classes.
        freeze_backbone: Train only the head.
        heads: Heads that compete (``ridge`` is not offered: it has seen every class at once).
    """

    enabled: bool
    classes: ClassCount
    rate: GridConfig
    evaluate_every: int = Field(ge=1)
    freeze_backbone: bool
    heads: HeadsConfig

    @model_validator(mode="after")
    def _no_ridge(self) -> ContinualConfig:
        if self.heads.ridge:
            raise ValueError("heads.ridge: a ridge head has seen every class; set it to false here")
        return self


class RidgeConfig(Strict):
    """Penalties of the ridge head, chosen on the selection classes.

    Attributes:
        lowest: Smallest penalty, relative to the mean squared feature norm.
        highest: Largest penalty.
        points: Number of penalties, geometrically spaced.
    """

    lowest: float = Field(gt=0)
    highest: float = Field(gt=0)
    points: int = Field(ge=2)

    @model_validator(mode="after")
    def _ordered(self) -> RidgeConfig:
        if self.highest <= self.lowest:
            raise ValueError("highest must be above lowest")
        return self


class TransferConfig(Strict):
    """How an arm is judged on classes that it has never seen.

    Attributes:
        select_on: ``validation``: rates and heads are chosen on the selection classes and
            reported on the transfer classes; ``test``: chosen on the transfer classes themselves,
            as the official evaluation does (parity only, too optimistic).
        few_shot: E2.
        continual: E1.
        ridge: E3.
    """

    select_on: Literal["validation", "test"]
    few_shot: FewShotConfig
    continual: ContinualConfig
    ridge: RidgeConfig
