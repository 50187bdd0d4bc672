"""Two arms of one method, seed by seed: the paired difference, its interval and its cost.

Records are tables with the columns of ``relearn.evaluation.records.Record``: method, arm, seed,
task, step, metric, value. The final value of a metric for one arm and seed is the record with the
largest step of its task.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from relearn.errors import EvidenceError, near_miss
from relearn.reports.paired import (
    PairedInterval,
    bootstrap_interval,
    equivalence_p,
    holm,
    paired_interval,
)
from relearn.reports.questions import Question, questions_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from relearn.evaluation.config import EvidenceConfig
    from relearn.reports.config import CompareConfig

COLUMNS = ("method", "arm", "seed", "task", "step", "metric", "value")


@dataclass(frozen=True)
class Comparison:
    """The answer: one row of ``comparison.csv``. ``difference`` is treated minus baseline.

    Attributes:
        question: What was asked.
        status: ``measured``, ``not measured`` or ``not run``.
        reason: Why it is not measured; empty otherwise.
        seeds: Seeds of the pairs.
        baseline_values: Final value of the baseline, one per seed.
        treated_values: Final value of the treated arm, one per seed.
        difference: Mean difference and interval, in the metric's unit.
        p_holm: p after Holm's correction over the comparisons of the method.
        p_equivalence: p of two one-sided tests against the margin.
        bootstrap: Percentile interval, only from ten pairs on.
    """

    question: Question
    status: str
    reason: str = ""
    seeds: tuple[int, ...] = ()
    baseline_values: tuple[float, ...] = ()
    treated_values: tuple[float, ...] = ()
    difference: PairedInterval | None = None
    p_holm: float | None = None
    p_equivalence: float | None = None
    bootstrap: tuple[float, float] | None = field(default=None)

    @property
    def pilot(self) -> bool:
        """Whether there are fewer pairs than a claim needs."""
        return len(self.seeds) < self.question.minimum_seeds

    @property
    def equivalent(self) -> bool:
        """Whether the whole shown interval lies inside plus and minus the margin.

        Two one-sided tests at (1 - confidence) / 2 each say exactly this, so the word "same" never
        claims more than the interval on the page.
        """
        tail = (1 - self.question.confidence) / 2
        return self.p_equivalence is not None and self.p_equivalence < tail

    @property
    def gain(self) -> tuple[float, float, float] | None:
        """Mean, low and high, turned so that above 0 is better; None without an interval."""
        found = self.difference
        if found is None or found.low is None or found.high is None:
            return None
        if self.question.direction == "higher":
            return found.mean, found.low, found.high
        return -found.mean, -found.high, -found.low

    def as_row(self) -> dict[str, Any]:
        """Return the flat row that is written to ``comparison.csv``."""
        found = asdict(self.difference) if self.difference else {}
        boot = self.bootstrap or (None, None)
        return {
            **asdict(self.question),
            "status": self.status,
            "reason": self.reason,
            "pairs": len(self.seeds),
            "seeds": " ".join(str(seed) for seed in self.seeds),
            "label": _label(self),
            "baseline_mean": _mean(self.baseline_values),
            "baseline_sd": _sd(self.baseline_values),
            "treated_mean": _mean(self.treated_values),
            "treated_sd": _sd(self.treated_values),
            "difference": found.get("mean"),
            "low": found.get("low"),
            "high": found.get("high"),
            "sd_of_differences": found.get("sd"),
            "p_value": found.get("p_value"),
            "p_holm": self.p_holm,
            "p_equivalence": self.p_equivalence,
            "equivalent": self.equivalent,
            "bootstrap_low": boot[0],
            "bootstrap_high": boot[1],
        }


def _label(comparison: Comparison) -> str:
    if comparison.status != "measured":
        return comparison.status
    return "pilot" if comparison.pilot else "claim"


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _sd(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def check_records(records: pd.DataFrame, *, name: str) -> None:
    """Refuse a table that cannot be compared.

    Args:
        records: Columns as in ``COLUMNS``.
        name: Catalog entry that the message names, such as ``zap.records``.

    Raises:
        EvidenceError: A column is missing, a value is not finite, or a row occurs twice.
    """
    missing = [column for column in COLUMNS if column not in records.columns]
    if missing:
        raise EvidenceError(f"{name}: columns {', '.join(missing)} are missing; write it again")
    bad = records[~np.isfinite(records["value"].astype(float))]
    if len(bad):
        raise EvidenceError(
            f"{name}: {_where(bad)} is not a finite number ({len(bad)} such rows); "
            "a run with such a value is a failed run: run its pipeline again"
        )
    keys = [column for column in COLUMNS if column != "value"]
    twice = records[records.duplicated(keys, keep="first")]
    if len(twice):
        raise EvidenceError(
            f"{name}: {_where(twice)} occurs more than once ({len(twice)} rows too many); "
            "delete the table and run its pipeline again"
        )


def _where(rows: pd.DataFrame) -> str:
    row = rows.iloc[0]
    place = f"arm {row['arm']}, seed {row['seed']}, step {row['step']}"
    return f"{row['task']}.{row['metric']} of {place}"


def final_values(records: pd.DataFrame, *, task: str, metric: str) -> pd.DataFrame:
    """Return the value at the largest step, one row per arm and seed.

    Args:
        records: Columns as in ``COLUMNS``, of one method.
        task: Protocol.
        metric: Metric.

    Returns:
        Columns arm, seed, step, value.
    """
    rows = records[(records["task"] == task) & (records["metric"] == metric)]
    last = rows.sort_values("step", kind="stable").groupby(["arm", "seed"], sort=True).tail(1)
    return last[["arm", "seed", "step", "value"]].sort_values(["arm", "seed"], ignore_index=True)


def _values_of(final: pd.DataFrame, arm: str) -> dict[int, float]:
    rows = final[final["arm"] == arm]
    return {int(s): float(v) for s, v in zip(rows["seed"], rows["value"], strict=True)}


def _paired(question: Question, final: pd.DataFrame) -> tuple[dict[int, float], dict[int, float]]:
    """Return seed to value of both arms.

    Raises:
        EvidenceError: An arm is missing or the arms do not have the same seeds.
    """
    arms = sorted(set(final["arm"]))
    for role, arm in (("baseline_arm", question.baseline), ("treated_arm", question.treated)):
        if arm not in arms:
            raise EvidenceError(
                f"{question.method}.evidence.{role}: {question.method}.records have no "
                f"{question.task}.{question.metric} of arm {arm!r}{near_miss(arm, arms)} "
                f"(arms: {', '.join(arms) or 'none'}); name one of them or run "
                f"`kedro run --pipeline {question.method}` with that arm"
            )
    baseline, treated = _values_of(final, question.baseline), _values_of(final, question.treated)
    alone = sorted(set(baseline) ^ set(treated))
    if alone:
        lacking = question.treated if alone[0] in baseline else question.baseline
        raise EvidenceError(
            f"{question.method}.records: seeds without a partner: {', '.join(map(str, alone))} "
            f"(arm {lacking!r} lacks seed {alone[0]}); finish the pair with "
            f"`kedro run --pipeline {question.method}`"
        )
    return baseline, treated


def compare_arms(
    records: pd.DataFrame, question: Question, *, config: CompareConfig | None = None
) -> Comparison:
    """Return the paired difference of two arms over their seeds.

    Args:
        records: Columns as in ``COLUMNS``, of one method.
        question: Arms, metric, direction and coverage.
        config: Says from how many pairs a bootstrap is added; None for never.

    Raises:
        EvidenceError: Missing arm, seeds without a partner, duplicates, or values not finite.
    """
    check_records(records, name=f"{question.method}.records")
    final = final_values(records, task=question.task, metric=question.metric)
    baseline, treated = _paired(question, final)
    seeds = tuple(sorted(baseline))
    differences = [treated[seed] - baseline[seed] for seed in seeds]
    interval = paired_interval(differences, question.confidence)
    boot = None
    if config is not None and len(seeds) >= config.bootstrap_from_seeds:
        boot = bootstrap_interval(
            differences,
            confidence=question.confidence,
            draws=config.bootstrap_draws,
            seed=config.bootstrap_seed,
        )
    return Comparison(
        question=question,
        status="measured",
        seeds=seeds,
        baseline_values=tuple(baseline[seed] for seed in seeds),
        treated_values=tuple(treated[seed] for seed in seeds),
        difference=interval,
        p_equivalence=equivalence_p(interval, question.equivalence_margin),
        bootstrap=boot,
    )


def adjust_by_holm(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons with ``p_holm`` filled in over all those that have a p value.

    Args:
        comparisons: What was asked of one method, headline and secondary.
    """
    p_values = [c.difference.p_value if c.difference else None for c in comparisons]
    adjusted = iter(holm([p for p in p_values if p is not None]))
    pairs = zip(comparisons, p_values, strict=True)
    return [c if p is None else replace(c, p_holm=next(adjusted)) for c, p in pairs]


def _compare_if_there(
    records: pd.DataFrame, question: Question, config: CompareConfig
) -> Comparison:
    """Return the comparison, or a row that says which arm has no such records."""
    final = final_values(records, task=question.task, metric=question.metric)
    absent = {question.baseline, question.treated} - set(final["arm"])
    if absent:
        what = f"no {question.task}.{question.metric} of arm {' and '.join(sorted(absent))}"
        return Comparison(question, "not measured", reason=what)
    return compare_arms(records, question, config=config)


def compare_method(
    records: pd.DataFrame, *, method: str, evidence: EvidenceConfig, config: CompareConfig
) -> list[Comparison]:
    """Return headline, sham checks and secondary comparisons of one method, in this order.

    Only the headline must be there; what else has no records reads ``not measured``.

    Args:
        records: Columns as in ``COLUMNS``; empty for a method that was not run.
        method: Such as ``zap``.
        evidence: What was said before the run.
        config: Further comparisons and the bootstrap.

    Raises:
        EvidenceError: As ``compare_arms``.
    """
    headline, shams, others = questions_of(method, evidence, config)
    if records.empty:
        return [Comparison(headline, "not run", reason=f"no {method}.records")]
    asked = [compare_arms(records, headline, config=config)]
    asked += [_compare_if_there(records, question, config) for question in others]
    checks = [_compare_if_there(records, question, config) for question in shams]
    head, *rest = adjust_by_holm(asked)
    return [head, *checks, *rest]
