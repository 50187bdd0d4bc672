"""Reading the units: the ledger's proof, the baseline by rule, the winner of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.errors import EvidenceError

if TYPE_CHECKING:
    import pandas as pd

    from relearn.methods.forget_relearn.config import ForgetRelearnConfig

FRESH_SEEDS = 20_000
"""Offset of the seeds that confirm a study's winner, from those in which it competed."""


def verify_units(units: Sequence[tuple[str, int, Path]]) -> dict[str, Any]:
    """Verify every row of the ledgers, and that all trainings of one seed saw one order.

    Args:
        units: Arm, seed and folder of each judged unit.

    Returns:
        As for ``nodes.check_ledger``.
    """
    from relearn.arm_store import CHECKPOINT, interventions_of, load_rows
    from relearn.methods.forget_relearn.ledger import is_proven_by_mask_alone, verify
    from relearn.models.checkpoint import load_checkpoint

    failed: list[str] = []
    orders: dict[int, set[str]] = {}
    count = by_mask = 0
    for arm, seed, folder in units:
        rows = load_rows(folder)
        orders.setdefault(seed, set()).add(rows["order_digest"])
        entries = interventions_of(rows)
        count += len(entries)
        by_mask += sum(map(is_proven_by_mask_alone, entries))
        if not entries:
            continue
        architecture = load_checkpoint(folder / CHECKPOINT).architecture
        failed += [
            f"{arm} seed {seed}: {entry.kind} of {entry.target} at step {entry.step}"
            for entry in entries
            if not verify(entry, architecture)
        ]
    return {
        "rows": count,
        "verified": count - len(failed),
        "by_mask_alone": by_mask,
        "failed": failed,
        "orders_equal": all(len(found) == 1 for found in orders.values()),
    }


def validation_scores(records: pd.DataFrame) -> pd.Series[float]:
    """Return each arm's robust accuracy on validation images, averaged over seeds, best first.

    Args:
        records: Rows of all arms.
    """
    rows = records[(records["task"] == "validation") & (records["metric"] == "robust_accuracy")]
    means = rows.groupby("arm", sort=False)["value"].mean()
    return means.sort_values(ascending=False, kind="stable")


def baseline_by_rule(
    records: pd.DataFrame, config: ForgetRelearnConfig
) -> tuple[str, list[dict[str, Any]]]:
    """Return the baseline, and every cheap alternative that could have been it.

    Args:
        records: Of the arms that compete; only their validation rows are read.
        config: Names one arm, or the rule ``best_on_validation``.

    Returns:
        Name of the arm; rows of arm, validation_robust_accuracy and chosen, best first.

    Raises:
        EvidenceError: None of the candidates has validation records.
    """
    from relearn.methods.forget_relearn.arms import candidates_of

    scores = validation_scores(records)
    wanted = candidates_of(config)
    found = [arm for arm in scores.index if arm in wanted]
    if not found:
        raise EvidenceError(
            f"forget_relearn.evidence.baseline_arm: none of {', '.join(wanted) or 'the candidates'}"
            " has validation records; run `kedro run --pipeline forget_relearn` with "
            "forget_relearn.trainings.pgd_at=true"
        )
    rows = [
        {
            "arm": str(arm),
            "validation_robust_accuracy": float(scores[arm]),
            "chosen": arm == found[0],
        }
        for arm in found
    ]
    return str(found[0]), rows


def winner_of(records: pd.DataFrame, config: ForgetRelearnConfig) -> str:
    """Return the variant of a study with the best robust accuracy on validation images.

    Args:
        records: Of the arms that competed.
        config: Knobs.
    """
    variants = _variants_of(config)
    scores = validation_scores(records)
    return str(next(arm for arm in scores.index if arm in variants))


def pair_of(units: pd.DataFrame, config: ForgetRelearnConfig) -> tuple[str, str]:
    """Return baseline and winner of a study, from the units in which they competed.

    Args:
        units: Index of the judged units.
        config: Knobs.
    """
    from relearn.arm_store import tables_of

    records = tables_of([Path(p) for p in units["path"]])["records"]
    return baseline_by_rule(records, config)[0], winner_of(records, config)


def recommendation_of(
    records: pd.DataFrame,
    costs: pd.DataFrame,
    exploration: pd.DataFrame,
    config: ForgetRelearnConfig,
) -> dict[str, Any]:
    """Return what is recommended, against which baseline, and from which rows.

    Args:
        records: Of the arms, or of a study's confirmation on fresh seeds.
        costs: Of the same.
        exploration: Records of a study's variants; empty for ``compare: arms``.
        config: Knobs.
    """
    from relearn.reports.comparison import compare_arms
    from relearn.reports.questions import headline_question
    from relearn.reports.recommendation import verdict_of

    study = config.compare != "arms"
    competed = exploration if study else records
    baseline, candidates = baseline_by_rule(competed, config)
    treated = winner_of(competed, config) if study else config.evidence.treated_arm
    update = {"baseline_arm": baseline, "treated_arm": treated}
    evidence = config.evidence.model_copy(update=update)
    found = compare_arms(records, headline_question("forget_relearn", evidence))
    told: dict[str, Any] = {
        "study": config.compare,
        "baseline_rule": config.evidence.baseline_arm,
        "baseline_arm": baseline,
        "baseline_candidates": candidates,
        "treated_arm": treated,
        "seeds": list(found.seeds),
        "fresh_seeds": study,
        "seconds": float(costs[costs["metric"] == "total_seconds"]["value"].sum()),
    }
    if found.difference is not None:
        told |= verdict_of(found.difference, evidence)
    if study:
        told["variants"] = _variants(exploration, config)
    return told


def _variants_of(config: ForgetRelearnConfig) -> set[str]:
    from relearn.methods.forget_relearn.arms import trainings_of

    treated = [training for training in trainings_of(config).values() if training.treated]
    return {arm for training in treated for arm in training.deliveries}


def _variants(exploration: pd.DataFrame, config: ForgetRelearnConfig) -> list[dict[str, Any]]:
    from relearn.reports.comparison import final_values

    evidence = config.evidence
    final = final_values(exploration, task=evidence.headline_task, metric=evidence.headline_metric)
    means = final.groupby("arm")["value"].mean()
    scores = validation_scores(exploration)
    return [
        {"arm": str(arm), "selection_score": float(scores[arm]), "reported": float(means[arm])}
        for arm in scores.index
    ]


def study_table(recommendation: Mapping[str, Any]) -> str:
    """Return a study's variants and what is recommended, as plain text for the terminal.

    Args:
        recommendation: As from ``recommendation_of`` for a study.
    """
    width = max(len(row["arm"]) for row in recommendation["variants"])
    lines = [f"{'Variant':<{width}}  Validation      Test"]
    lines += [
        f"{row['arm']:<{width}}  {100 * row['selection_score']:8.1f} %  "
        f"{100 * row['reported']:6.1f} %"
        for row in recommendation["variants"]
    ]
    ends = [recommendation.get(name) for name in ("difference", "low", "high")]
    told = ", ".join("-" if end is None else f"{100 * end:+.1f}" for end in ends)
    lines += [
        "",
        f"On {len(recommendation['seeds'])} fresh seeds {recommendation['treated_arm']} minus "
        f"{recommendation['baseline_arm']}: {told} points (mean, interval).",
        f"Recommended: {recommendation.get('recommendation', 'nothing: there is one pair')}.",
    ]
    return "\n".join(lines)
