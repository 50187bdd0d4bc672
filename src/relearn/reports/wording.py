"""Numbers and verdicts in plain words, in English and Japanese, never beyond the interval.

Both languages are made from the same fields of one ``Decision``; a sentence about the size of a
gain always names the interval it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from relearn.reports.names import arm_title, metric_title

if TYPE_CHECKING:
    from collections.abc import Callable

    from relearn.evaluation.config import EvidenceConfig
    from relearn.reports.comparison import Comparison
    from relearn.reports.decision import Decision

_HEADS = {
    "adopt": "Adopt.",
    "hold": "Hold: keep the baseline for now.",
    "no benefit": "No benefit: keep the baseline.",
    "harmful": "Harmful: keep the baseline.",
    "not run": "Not run.",
    "not measured": "Not measured here.",
}


@dataclass(frozen=True)
class Scale:
    """How a metric is shown.

    Attributes:
        factor: What the stored value is multiplied by.
        unit: Unit of a value.
        points: Unit of a difference.
        digits: Digits after the point; None for three significant ones.
    """

    factor: float
    unit: str
    points: str
    digits: int | None

    def value(self, number: float | None) -> str:
        """Return a value with its unit, or a dash."""
        return "-" if number is None else f"{self._digits(number)}{_spaced(self.unit)}"

    def difference(self, number: float | None) -> str:
        """Return a signed difference with its unit, or a dash."""
        return "-" if number is None else f"{self._digits(number, '+')}{_spaced(self.points)}"

    def signed(self, number: float) -> str:
        """Return a signed number without unit."""
        return self._digits(number, "+")

    def _digits(self, number: float, sign: str = "") -> str:
        scaled = number * self.factor
        if self.digits is not None:
            scaled = round(scaled, self.digits) + 0.0  # no "-0.0"
            return f"{scaled:{sign}.{self.digits}f}"
        return f"{scaled:{sign}.3g}"


def _spaced(unit: str) -> str:
    return f" {unit}" if unit else ""


def scale_of(metric: str) -> Scale:
    """Return how a metric is shown: shares between 0 and 1 as percent, all else as it is.

    Args:
        metric: As in ``Record.metric``.
    """
    shares = ("accuracy", "forgetting", "transfer", "retention", "area", "share")
    if metric.endswith(shares):
        return Scale(100.0, "%", "points", 1)
    return Scale(1.0, "", "", None)


def interval_text(comparison: Comparison) -> str:
    """Return ``+4.9 points [+0.9, +8.9]``, or what stands in its place."""
    found = comparison.difference
    if found is None:
        return "-"
    scale = scale_of(comparison.question.metric)
    if found.low is None or found.high is None:
        return f"{scale.difference(found.mean)} (one pair: no interval)"
    ends = f"[{scale.signed(found.low)}, {scale.signed(found.high)}]"
    return f"{scale.difference(found.mean)} {ends}"


def ratio_text(ratio: float | None) -> str:
    """Return a cost ratio, or that it was not measured."""
    return "not measured" if ratio is None else f"{ratio:.2f}x training time"


def words_of(decision: Decision, evidence: EvidenceConfig) -> str:
    """Return the decision in a few plain sentences.

    Args:
        decision: As from ``decide``.
        evidence: Thresholds said before the run.
    """
    head = _HEADS[decision.verdict]
    if decision.verdict == "not run":
        return f"{head} There are no records of this method."
    if decision.verdict == "not measured":
        return f"{head} {decision.gate}"
    parts = [head, _facts(decision.headline)]
    parts += [_REASONS[code](decision, evidence) for code in decision.reasons]
    if decision.verdict == "adopt":
        parts.append(_cost(decision))
    if decision.headline.pilot and "pilot" not in decision.reasons:
        parts.append(_few_seeds(decision))
    return " ".join(part for part in parts if part)


def _facts(headline: Comparison) -> str:
    question, scale = headline.question, scale_of(headline.question.metric)
    before, after = (_average(v) for v in (headline.baseline_values, headline.treated_values))
    better = "" if question.direction == "higher" else " (lower is better)"
    count = len(headline.seeds)
    pairs = f"{count} paired seed{'s' if count > 1 else ''}"
    found = headline.difference
    width = f"{100 * question.confidence:g} % interval"
    text = (
        f"Over {pairs}, {metric_title(question.task, question.metric)}{better} was "
        f"{scale.value(before)} with {arm_title(question.baseline)} and {scale.value(after)} "
        f"with {arm_title(question.treated)}"
    )
    if found is None or found.low is None or found.high is None:
        return f"{text}."
    low, high = scale.signed(found.low), scale.difference(found.high)
    return f"{text}: {scale.difference(found.mean)}, {width} {low} to {high}."


def _average(values: tuple[float, ...]) -> float:
    return sum(values) / len(values)


def _smallest(evidence: EvidenceConfig) -> str:
    return scale_of(evidence.headline_metric).difference(evidence.smallest_difference).lstrip("+")


def _gain(decision: Decision, evidence: EvidenceConfig) -> str:
    gain = decision.headline.gain
    at_least = scale_of(evidence.headline_metric).difference(gain[1] if gain else None)
    return (
        f"The interval excludes zero, and the gain may be as small as {at_least.lstrip('+')}; "
        f"the mean reaches the {_smallest(evidence)} that were set as worth having."
    )


def _cost(decision: Decision) -> str:
    return f"It takes {decision.cost_ratio:.2f} times the baseline's training time."


def _few_seeds(decision: Decision) -> str:
    need = decision.headline.question.minimum_seeds
    return f"This is a pilot: a claim needs {need} paired seeds."


def _pilot(decision: Decision, _: EvidenceConfig) -> str:
    text = "The interval excludes zero, but this is a pilot"
    if decision.more_seeds is None:
        return f"{text}."
    return f"{text}: {_seeds(decision.more_seeds)} would make it a claim, if they agree."


def _inconclusive(decision: Decision, _: EvidenceConfig) -> str:
    text = "The interval includes zero, so these seeds show neither gain nor loss."
    return f"{text} {_more(decision)}"


def _more(decision: Decision) -> str:
    if decision.more_seeds is None:
        return "At this spread, more seeds than can be asked for would be needed to settle it."
    seeds = _seeds(decision.more_seeds)
    return f"About {seeds} would settle it if mean and spread stay as they are."


def _seeds(count: int) -> str:
    return f"{count} more paired seed{'s' if count > 1 else ''}"


def _sham(decision: Decision, _: EvidenceConfig) -> str:
    other = decision.over_sham
    if other is None:
        return ""
    return (
        f"The sham arm {arm_title(other.question.baseline)}, which does the same work without the "
        "idea, "
        f"cannot be told from it ({other.question.treated} minus sham: {interval_text(other)}), so "
        "the gain cannot be credited to the idea."
    )


def _sham_unknown(decision: Decision, _: EvidenceConfig) -> str:
    name = decision.over_sham.question.baseline if decision.over_sham else "sham"
    return f"The sham arm {name} that was set before the run has too few records to compare with."


def _too_costly(decision: Decision, evidence: EvidenceConfig) -> str:
    return (
        f"It takes {decision.cost_ratio:.2f} times the baseline's training time, above the "
        f"{evidence.largest_cost_ratio:g} times that were set as the limit."
    )


def _small(decision: Decision, evidence: EvidenceConfig) -> str:
    if decision.verdict == "no benefit":
        return f"The interval excludes a gain of {_smallest(evidence)}, the least that was wanted."
    return (
        f"A gain is shown, but its mean is below the {_smallest(evidence)} that were set as worth "
        "having, and the interval leaves open whether it reaches them."
    )


_REASONS: dict[str, Callable[[Decision, EvidenceConfig], str]] = {
    "gain": _gain,
    "pilot": _pilot,
    "holm": lambda d, e: (
        "With the other comparisons of this method counted in (Holm's correction), chance is not "
        "excluded."
    ),
    "cost": _too_costly,
    "cost unknown": lambda d, e: "Its cost was not measured, so the limit on cost is unchecked.",
    "sham": _sham,
    "sham unknown": _sham_unknown,
    "small": _small,
    "inconclusive": _inconclusive,
    "one pair": lambda d, e: f"One pair gives no interval. {_more(d)}",
    "no spread": lambda d, e: (
        "All pairs differ by exactly the same amount, so the seeds do not vary what they should; "
        "look at the seeds before believing it."
    ),
    "no change": lambda d, e: "Both arms gave the same value in every pair.",
    "same": lambda d, e: (
        "The whole interval lies within the margin that was set for calling the two the same."
    ),
    "loss": lambda d, e: "The whole interval lies on the worse side of zero.",
}
