"""Reading the units: the ledger's proof, the baseline by rule, what is recommended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.errors import EvidenceError

if TYPE_CHECKING:
    import pandas as pd

    from relearn.methods.grow.config import GrowConfig


def verify_units(
    units: Sequence[tuple[str, int, Path]], teachers: Mapping[int, Path]
) -> dict[str, Any]:
    """Verify every row of the ledgers on the teachers' own weights, and the order of each seed.

    Args:
        units: Arm, seed and folder of each unit.
        teachers: Seed to folder of the teacher.

    Returns:
        As for ``nodes.check_ledger``.
    """
    from relearn.arm_store import CHECKPOINT, interventions_of, load_rows
    from relearn.methods.grow.ledger import verify
    from relearn.models.checkpoint import load_checkpoint

    failed: list[str] = []
    orders: dict[int, set[str]] = {}
    count = 0
    for arm, seed, folder in units:
        rows = load_rows(folder)
        if rows["order_digest"]:
            orders.setdefault(seed, set()).add(rows["order_digest"])
        entries = interventions_of(rows)
        count += len(entries)
        if not entries:
            continue
        architecture = load_checkpoint(folder / CHECKPOINT).architecture
        teacher = load_checkpoint(teachers[seed] / CHECKPOINT)
        failed += [
            f"{arm} seed {seed}: {entry.kind} at step {entry.step}"
            for entry in entries
            if not verify(entry, architecture, teacher=teacher)
        ]
    return {
        "rows": count,
        "verified": count - len(failed),
        "failed": failed,
        "orders_equal": all(len(found) == 1 for found in orders.values()),
    }


def baseline_by_rule(records: pd.DataFrame, config: GrowConfig) -> tuple[str, list[dict[str, Any]]]:
    """Return the baseline, and every cheap alternative that could have been it.

    Args:
        records: Of the arms; only their validation rows are read.
        config: Names one arm, or the rule ``best_on_validation``.

    Returns:
        Name of the arm; rows of arm, validation_accuracy and chosen, best first.

    Raises:
        EvidenceError: None of the candidates has validation records.
    """
    from relearn.methods.grow.arms import candidates_of

    rows = records[(records["task"] == "validation") & (records["metric"] == "accuracy")]
    means = rows.groupby("arm", sort=False)["value"].mean()
    scores = means.sort_values(ascending=False, kind="stable")
    wanted = candidates_of(config)
    found = [str(arm) for arm in scores.index if arm in wanted]
    if not found:
        raise EvidenceError(
            f"grow.evidence.baseline_arm: none of {', '.join(wanted) or 'the candidates'} has "
            "validation records; run `kedro run --pipeline grow` with grow.arms.scratch_total=true"
        )
    told = [
        {"arm": arm, "validation_accuracy": float(scores[arm]), "chosen": arm == found[0]}
        for arm in found
    ]
    return found[0], told


def recommendation_of(
    records: pd.DataFrame,
    costs: pd.DataFrame,
    diagnostics: Mapping[str, Any],
    config: GrowConfig,
) -> dict[str, Any]:
    """Return what is recommended, against which baseline, and from which rows.

    Args:
        records: Of the arms.
        costs: Of the same.
        diagnostics: Its speed-up and break-even are repeated here.
        config: Knobs.
    """
    from relearn.reports.comparison import compare_arms
    from relearn.reports.questions import headline_question
    from relearn.reports.recommendation import verdict_of

    baseline, candidates = baseline_by_rule(records, config)
    evidence = config.evidence.model_copy(update={"baseline_arm": baseline})
    found = compare_arms(records, headline_question("grow", evidence))
    told: dict[str, Any] = {
        "study": "arms",
        "baseline_rule": config.evidence.baseline_arm,
        "baseline_arm": baseline,
        "baseline_candidates": candidates,
        "treated_arm": evidence.treated_arm,
        "seeds": list(found.seeds),
        "fresh_seeds": False,
        "speed_up": diagnostics["speed_up"],
        "break_even": diagnostics["break_even"],
        "seconds": float(costs[costs["metric"] == "total_seconds"]["value"].sum()),
    }
    if found.difference is not None:
        told |= verdict_of(found.difference, evidence)
    return told
