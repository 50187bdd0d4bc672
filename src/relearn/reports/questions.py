"""What is asked of the records, said before the run: headline, sham checks, further ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relearn.evaluation.config import EvidenceConfig
    from relearn.reports.config import CompareConfig, SecondaryConfig


@dataclass(frozen=True)
class Question:
    """What one comparison asks.

    Attributes:
        name: ``headline``, ``sham over baseline``, ``treated over sham`` or the name under
            ``compare.secondary``.
        method: Whose records answer it.
        task: Protocol, as in ``Record.task``.
        metric: As in ``Record.metric``.
        direction: ``higher`` or ``lower`` is better.
        baseline: Arm to beat.
        treated: Arm that is put to the test.
        confidence: Coverage of the interval.
        equivalence_margin: Half-width of "the same", in the metric's unit.
        minimum_seeds: Pairs below which the answer is a pilot.
    """

    name: str
    method: str
    task: str
    metric: str
    direction: str
    baseline: str
    treated: str
    confidence: float
    equivalence_margin: float
    minimum_seeds: int


SHAM = "sham over baseline"
OVER_SHAM = "treated over sham"


def headline_question(method: str, evidence: EvidenceConfig) -> Question:
    """Return the headline comparison of a method.

    Args:
        method: Such as ``zap``.
        evidence: What was said before the run.
    """
    return Question(
        name="headline",
        method=method,
        task=evidence.headline_task,
        metric=evidence.headline_metric,
        direction=evidence.direction,
        baseline=evidence.baseline_arm,
        treated=evidence.treated_arm,
        confidence=evidence.confidence,
        equivalence_margin=evidence.equivalence_margin,
        minimum_seeds=evidence.minimum_seeds,
    )


def _secondary(name: str, other: SecondaryConfig, headline: Question) -> Question:
    return replace(
        headline,
        name=name,
        task=other.task,
        metric=other.metric,
        direction=other.direction,
        baseline=other.baseline_arm,
        treated=other.treated_arm,
    )


def questions_of(
    method: str, evidence: EvidenceConfig, config: CompareConfig
) -> tuple[Question, list[Question], list[Question]]:
    """Return headline, sham checks and secondary questions of one method.

    The sham is compared with the baseline (does the same work without the idea help as well?) and
    with the treated arm (does the idea add anything to that work?).

    Args:
        method: Such as ``zap``.
        evidence: Headline, arms, margins.
        config: Holds the secondary comparisons of all methods.
    """
    headline = headline_question(method, evidence)
    shams = []
    # a sham that is the best cheap alternative is the baseline, and met in the headline already
    if evidence.sham_arm and evidence.sham_arm != evidence.baseline_arm:
        sham = evidence.sham_arm
        shams = [
            replace(headline, name=SHAM, treated=sham),
            replace(headline, name=OVER_SHAM, baseline=sham),
        ]
    others = [
        _secondary(name, other, headline)
        for name, other in config.secondary.items()
        if other.method == method
    ]
    # What is asked already, named twice, would be corrected for as two comparisons.
    asked = [replace(question, name="") for question in (headline, *shams)]
    return headline, shams, [o for o in others if replace(o, name="") not in asked]
