"""What a pipeline recommends from a paired difference: the treated arm, or the baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relearn.evaluation.config import EvidenceConfig
    from relearn.reports.paired import PairedInterval


def verdict_of(difference: PairedInterval, evidence: EvidenceConfig) -> dict[str, Any]:
    """Return difference, interval and recommendation as plain data.

    Args:
        difference: Treated minus baseline, over the pairs.
        evidence: Direction, smallest difference, treated arm, and the pairs a claim needs.
    """
    sign = 1.0 if evidence.direction == "higher" else -1.0
    ends = sorted(sign * end for end in (difference.low, difference.high) if end is not None)
    matters = sign * difference.mean >= evidence.smallest_difference
    helps = bool(ends) and ends[0] > 0 and matters
    text = f"use {evidence.treated_arm}" if helps else "no benefit shown: keep the baseline"
    if difference.pairs < evidence.minimum_seeds:
        text += f" (pilot: {difference.pairs} pairs, a claim needs {evidence.minimum_seeds})"
    return {
        "difference": difference.mean,
        "low": difference.low,
        "high": difference.high,
        "recommendation": text,
    }
