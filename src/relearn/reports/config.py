"""Knobs of the comparison, of the report and of the roll-out; free of torch and pandas."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from relearn.strict import Strict

METHODS = ("zap", "forget_relearn", "grow", "lora_ipc", "last_layer_probe")
"""The five methods, in the order in which the report shows them."""


class SecondaryConfig(Strict):
    """One further comparison, stated before the run and reported beside the headline.

    Attributes:
        method: Whose records are read.
        task: Protocol, as in ``Record.task``.
        metric: As in ``Record.metric``.
        direction: Whether a higher or a lower value is better.
        baseline_arm: Arm that is compared against.
        treated_arm: Arm that is put to the test.
    """

    method: str = Field(min_length=1)
    task: str = Field(min_length=1)
    metric: str = Field(min_length=1)
    direction: Literal["higher", "lower"]
    baseline_arm: str = Field(min_length=1)
    treated_arm: str = Field(min_length=1)


class CompareConfig(Strict):
    """How the comparison is computed and the report written.

    Attributes:
        title: Headline of the report.
        bootstrap_from_seeds: Pairs from which a bootstrap interval is shown beside Student's t.
        bootstrap_draws: Resamples of that bootstrap.
        bootstrap_seed: Its seed.
        price_per_hour: Price of one hour of this machine; 0 shows no money.
        currency: Unit of the price.
        japanese_summary: Whether the first page ends with a summary in Japanese.
        secondary: Name to further comparison; together with the headline of the same method they
            are corrected by Holm.
    """

    title: str = Field(min_length=1)
    bootstrap_from_seeds: int = Field(ge=10)
    bootstrap_draws: int = Field(ge=1000)
    bootstrap_seed: int = Field(ge=0)
    price_per_hour: float = Field(ge=0)
    currency: str = Field(min_length=1)
    japanese_summary: bool
    secondary: dict[str, SecondaryConfig]


class PromoteConfig(Strict):
    """Which trained unit is rolled out, and what must hold first.

    Attributes:
        action: ``register`` a unit as challenger, make the challenger ``champion``, or
            ``roll_back`` to the champion before.
        method: Method of the unit.
        arm: Arm of the unit.
        seed: Seed of the unit.
        model_name: Name in the registry; empty for ``relearn-<method>``.
        require_decision: ``adopt`` refuses a method whose decision is another one; ``any`` goes on
            and writes into the audit row that it did.
        reason: Why, in the operator's words; needed with ``require_decision: any``.
        minimum_steps_after_intervention: Optimizer steps that a unit must have trained since the
            last change to its weights outside the optimizer.
    """

    action: Literal["register", "champion", "roll_back"]
    method: str = Field(min_length=1)
    arm: str = Field(min_length=1)
    seed: int = Field(ge=0)
    model_name: str
    require_decision: Literal["adopt", "any"]
    reason: str
    minimum_steps_after_intervention: int = Field(ge=0)
