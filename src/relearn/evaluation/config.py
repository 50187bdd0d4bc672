"""What is said before the run: headline, baseline, smallest difference that matters, rule."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from relearn.strict import Strict

BEST_ON_VALIDATION = "best_on_validation"
"""In place of a baseline arm: the best cheap alternative, picked by its score on validation."""


class EvidenceConfig(Strict):
    """The question a comparison answers, fixed before the run; its digest goes into the claim card.

    Attributes:
        headline_task: Protocol of the headline metric, as in ``Record.task``.
        headline_metric: Metric of the headline, as in ``Record.metric``.
        direction: Whether a higher or a lower value is better.
        baseline_arm: Arm to beat: the best cheap alternative, tuned like the treatment.
        treated_arm: Arm that is put to the test.
        sham_arm: Arm that does the same work without the idea; empty for none.
        smallest_difference: Smallest difference that matters, in the headline's unit.
        equivalence_margin: Half-width of "the same", in the headline's unit.
        confidence: Coverage of the interval.
        minimum_seeds: Pairs below which the row is called a pilot.
        largest_cost_ratio: Training seconds of treated over baseline above which it is held.
    """

    headline_task: str = Field(min_length=1)
    headline_metric: str = Field(min_length=1)
    direction: Literal["higher", "lower"]
    baseline_arm: str = Field(min_length=1)
    treated_arm: str = Field(min_length=1)
    sham_arm: str
    smallest_difference: float = Field(ge=0)
    equivalence_margin: float = Field(gt=0)
    confidence: float = Field(gt=0.5, lt=1)
    minimum_seeds: int = Field(ge=2)
    largest_cost_ratio: float = Field(gt=0)
