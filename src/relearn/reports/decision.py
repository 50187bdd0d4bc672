"""The decision: adopt, hold, no benefit or harmful, by rules that were said before the run.

The rules look at the interval and never at the mean alone. In the order in which they are asked:

1. no records                                             -> not run
2. a gate said that the effect cannot exist here          -> not measured
3. fewer than two pairs, or pairs without any spread      -> hold (or no benefit, if all are equal)
4. the whole interval is on the worse side of zero        -> harmful, keep the baseline
5. the whole interval is below the smallest difference
   that matters, or inside the equivalence margin         -> no benefit, keep the baseline
6. the interval excludes zero, the mean reaches the
   smallest difference, and every guard passes            -> adopt
7. anything else                                          -> hold

Guards of rule 6: enough seeds for a claim, Holm's correction, cost ratio, and the sham arm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from relearn.reports.paired import MOST_SEEDS, seeds_needed
from relearn.reports.questions import OVER_SHAM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relearn.evaluation.config import EvidenceConfig
    from relearn.reports.comparison import Comparison

Verdict = Literal["adopt", "hold", "no benefit", "harmful", "not run", "not measured"]

KEEP = ("no benefit", "harmful", "hold")
"""Verdicts after which the baseline stays in service."""

SEEDS_HELP = {"inconclusive", "pilot", "one pair"}
"""Reasons that more pairs may remove; a real but small gain may stay small, a cost stays a cost."""


@dataclass(frozen=True)
class Decision:
    """What to do about one method, and why.

    Attributes:
        method: Such as ``zap``.
        verdict: One of the six words.
        reasons: Short codes, most important first, of which the words are made: ``gain``,
            ``pilot``, ``holm``, ``cost``, ``cost unknown``, ``sham``, ``sham unknown``,
            ``small``, ``inconclusive``, ``one pair``, ``no spread``, ``no change``, ``same``,
            ``loss``, ``gate``.
        headline: The comparison decided upon.
        over_sham: Treated arm against the sham; None without one.
        cost_ratio: Training seconds of treated over baseline; None when not measured.
        more_seeds: Pairs still to add before the question would be settled, if mean and spread
            stay as they are; None when not to be said or more than can be asked.
        gate: Why it was not measured; empty otherwise.
    """

    method: str
    verdict: Verdict
    reasons: tuple[str, ...]
    headline: Comparison
    over_sham: Comparison | None = None
    cost_ratio: float | None = None
    more_seeds: int | None = None
    gate: str = ""

    @property
    def keeps_baseline(self) -> bool:
        """Whether a measured baseline stays in service."""
        return self.verdict in KEEP


def decide(
    comparisons: Sequence[Comparison],
    evidence: EvidenceConfig,
    *,
    cost_ratio: float | None = None,
    gate: str = "",
) -> Decision:
    """Return the decision on one method.

    Args:
        comparisons: As from ``compare_method``: the headline first.
        evidence: Thresholds said before the run.
        cost_ratio: Training seconds of treated over baseline; None when not measured.
        gate: Why a gate stopped the measurement; empty when none did.
    """
    headline = comparisons[0]
    over_sham = next((c for c in comparisons if c.question.name == OVER_SHAM), None)
    draft = Decision(
        method=headline.question.method,
        verdict="hold",
        reasons=(),
        headline=headline,
        over_sham=over_sham,
        cost_ratio=cost_ratio,
        gate=gate,
    )
    if gate:
        return replace(draft, verdict="not measured", reasons=("gate",))
    if headline.status != "measured":
        return replace(draft, verdict="not run", reasons=())
    verdict, reasons = _judge(draft, evidence)
    more = _more_seeds(draft, evidence) if SEEDS_HELP & set(reasons) else None
    return replace(draft, verdict=verdict, reasons=reasons, more_seeds=more)


def _judge(draft: Decision, evidence: EvidenceConfig) -> tuple[Verdict, tuple[str, ...]]:
    """Rules 3 to 7 of the module's head."""
    found, gain = draft.headline.difference, draft.headline.gain
    if found is None or gain is None or not found.has_spread:
        return _judge_without_spread(draft)
    mean, low, high = gain
    if high < 0:
        return "harmful", ("loss",)
    if high < evidence.smallest_difference or draft.headline.equivalent:
        return "no benefit", ("same" if draft.headline.equivalent else "small",)
    if low <= 0:
        return "hold", ("inconclusive",)
    failed = _failed_guards(draft, evidence) if mean >= evidence.smallest_difference else ("small",)
    return ("hold", failed) if failed else ("adopt", ("gain",))


def _judge_without_spread(draft: Decision) -> tuple[Verdict, tuple[str, ...]]:
    """Rule 3: nothing to build an interval from."""
    found = draft.headline.difference
    if found is None or found.sd is None:
        return "hold", ("one pair",)
    return ("no benefit", ("no change",)) if found.mean == 0 else ("hold", ("no spread",))


def _failed_guards(draft: Decision, evidence: EvidenceConfig) -> tuple[str, ...]:
    """Return the codes of the guards that a clear gain does not pass."""
    ratio, adjusted = draft.cost_ratio, draft.headline.p_holm
    guards = {
        "pilot": draft.headline.pilot,
        "holm": adjusted is not None and adjusted > 1 - evidence.confidence,
        "sham": draft.over_sham is not None and _sham_gains_as_much(draft.over_sham),
        "sham unknown": draft.over_sham is not None and draft.over_sham.gain is None,
        "cost": ratio is not None and ratio > evidence.largest_cost_ratio,
        "cost unknown": ratio is None,
    }
    return tuple(code for code, failed in guards.items() if failed)


def _sham_gains_as_much(over_sham: Comparison) -> bool:
    """Whether the interval of treated over sham does not lie above zero."""
    return over_sham.gain is not None and over_sham.gain[1] <= 0


def _more_seeds(draft: Decision, evidence: EvidenceConfig) -> int | None:
    """Return how many pairs to add; None when more than ``MOST_SEEDS`` would be needed."""
    found, gain = draft.headline.difference, draft.headline.gain
    have = len(draft.headline.seeds)
    if found is None or gain is None or not found.sd:
        return max(evidence.minimum_seeds - have, 1)
    target = _half_width_that_settles(gain[0], evidence)
    total = seeds_needed(found.sd, target, evidence.confidence) if target > 0 else None
    if total is None or total > MOST_SEEDS:
        return None
    return max(total, evidence.minimum_seeds, have + 1) - have


def _half_width_that_settles(mean: float, evidence: EvidenceConfig) -> float:
    """Return the largest half-width with which the present mean would leave ``hold``.

    A mean that reaches the smallest difference waits for an interval above zero; a smaller one
    for an interval below the smallest difference, or below zero.
    """
    if mean >= evidence.smallest_difference:
        return mean
    return max(evidence.smallest_difference - mean, -mean)
