"""Reading the units of zapping: the ledger's proof, the diagnostics, the winner of a study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from relearn.methods.zap.config import ZapConfig


def verify_units(units: Sequence[tuple[str, int, Path]]) -> dict[str, Any]:
    """Verify the ledgers of all units, and that arms of one seed and scheme saw one order.

    Args:
        units: Arm, seed and folder of each unit.

    Returns:
        As for ``nodes.check_ledger``.
    """
    from relearn.arm_store import CHECKPOINT, interventions_of, load_rows
    from relearn.methods.zap.ledger import verify
    from relearn.models.checkpoint import load_checkpoint

    failed: list[str] = []
    orders: dict[tuple[int, str], set[str]] = {}
    count = 0
    for arm, seed, folder in units:
        rows = load_rows(folder)
        scheme = arm.split("_", maxsplit=1)[0]
        orders.setdefault((seed, scheme), set()).add(rows["order_digest"])
        entries = interventions_of(rows)
        count += len(entries)
        architecture = load_checkpoint(folder / CHECKPOINT).architecture
        failed += [
            f"{entry.arm} seed {entry.seed}: {entry.kind} at step {entry.step}"
            for entry in entries
            if not verify(entry, architecture)
        ]
    return {
        "rows": count,
        "verified": count - len(failed),
        "failed": failed,
        "orders_equal": all(len(found) == 1 for found in orders.values()),
    }


def findings_of(records: pd.DataFrame, selection: pd.DataFrame, zap: ZapConfig) -> list[str]:
    """Return one sentence for each thing a reader must know before believing the table.

    Args:
        records: Of the arms that are compared.
        selection: Candidates of pre-training settings.
        zap: Knobs.
    """
    findings = _selection_findings(selection)
    for task in ("few_shot", "continual"):
        findings += _border_findings(records, task)
    findings += _recovery_findings(records)
    if zap.transfer.select_on == "test":
        findings.append(
            "Rates and heads were chosen on the classes that are reported (parity with the "
            "official evaluation): the figures are too optimistic and no decision rests on them."
        )
    return findings


def _selection_findings(selection: pd.DataFrame) -> list[str]:
    taken = selection[selection["chosen"].astype(bool)]
    return [
        f"{row.arm}: the best pre-training rate (x{row.rate_factor:g}) lies at the border of its "
        "grid; raise zap.tuning.rate.widenings."
        for row in taken.itertuples()
        if bool(row.at_border)
    ]


def _border_findings(records: pd.DataFrame, task: str) -> list[str]:
    rows = records[records["task"] == f"{task}_choice"]
    findings = []
    for arm, mine in rows.groupby("arm"):
        wide = mine.pivot_table(index="seed", columns="metric", values="value")
        heads = [str(c).removeprefix("chosen_") for c in wide if str(c).startswith("chosen_")]
        at_border = sum(
            int(((wide[f"chosen_{head}"] > 0) & (wide[f"rate_at_border_{head}"] > 0)).sum())
            for head in heads
        )
        if at_border:
            findings.append(
                f"{arm}: in {at_border} of {len(wide)} seeds the chosen {task} transfer rate lies "
                f"at the border of its grid; raise zap.transfer.{task}.rate.widenings."
            )
    return findings


def _recovery_findings(records: pd.DataFrame) -> list[str]:
    rows = records[
        (records["task"] == "zap_shock_summary") & (records["metric"] == "recovered_share")
    ]
    return [
        f"{arm}: after {100 * (1 - share):.0f} % of its resets the batch accuracy was not back to "
        "its old level before the next reset or the end; reset less often or raise the rate."
        for arm, share in rows.groupby("arm")["value"].mean().items()
        if share < 1
    ]


def selection_scores(records: pd.DataFrame) -> pd.Series[float]:
    """Return each arm's best few-shot score on the selection classes, averaged over seeds.

    Args:
        records: Rows of all arms.
    """
    rows = records[
        (records["task"] == "few_shot_choice") & records["metric"].str.startswith("score_")
    ]
    return rows.groupby(["arm", "seed"])["value"].max().groupby("arm").mean()


def winner_of(units: pd.DataFrame, zap: ZapConfig) -> str:
    """Return the variant with the best score on the selection classes.

    Args:
        units: Index of the units in which the variants competed.
        zap: Knobs.
    """
    from relearn.arm_store import tables_of
    from relearn.methods.zap.arms import baseline_of

    records = tables_of([Path(p) for p in units["path"]])["records"]
    scores = selection_scores(records).drop(baseline_of(zap))
    return str(scores.idxmax())


def recommendation_of(
    records: pd.DataFrame, costs: pd.DataFrame, exploration: pd.DataFrame, zap: ZapConfig
) -> dict[str, Any]:
    """Return what is recommended, and from which rows.

    Args:
        records: Of the arms, or of a study's confirmation on fresh seeds.
        costs: Of the same.
        exploration: Records of a study's variants; empty for ``compare: arms``.
        zap: Knobs.
    """
    from relearn.methods.zap.arms import baseline_of
    from relearn.reports.comparison import compare_arms
    from relearn.reports.questions import headline_question
    from relearn.reports.recommendation import verdict_of

    baseline = baseline_of(zap)
    treated = zap.evidence.treated_arm
    if zap.compare != "arms":
        treated = next(arm for arm in records["arm"].unique() if arm != baseline)
    evidence = zap.evidence.model_copy(update={"baseline_arm": baseline, "treated_arm": treated})
    found = compare_arms(records, headline_question("zap", evidence))
    told: dict[str, Any] = {
        "study": zap.compare,
        "baseline_arm": baseline,
        "treated_arm": treated,
        "seeds": list(found.seeds),
        "fresh_seeds": zap.compare != "arms",
    }
    if found.difference is not None:
        told |= verdict_of(found.difference, evidence)
    if zap.compare != "arms":
        told["variants"] = _variants(exploration, zap)
    told["seconds"] = float(costs[costs["metric"] == "total_seconds"]["value"].sum())
    return told


def _variants(exploration: pd.DataFrame, zap: ZapConfig) -> list[dict[str, Any]]:
    from relearn.reports.comparison import final_values

    final = final_values(
        exploration, task=zap.evidence.headline_task, metric=zap.evidence.headline_metric
    )
    means = final.groupby("arm")["value"].mean()
    scores = selection_scores(exploration)
    return [
        {"arm": str(arm), "selection_score": float(scores[arm]), "reported": float(means[arm])}
        for arm in scores.sort_values(ascending=False).index
    ]


def study_table(recommendation: Mapping[str, Any]) -> str:
    """Return a study's variants and what is recommended, as plain text for the terminal.

    Args:
        recommendation: As from ``recommendation_of`` for a study.
    """
    width = max(len(row["arm"]) for row in recommendation["variants"])
    lines = [f"{'Variant':<{width}}  Selection classes  Transfer classes"]
    lines += [
        f"{row['arm']:<{width}}  {100 * row['selection_score']:15.1f} %  "
        f"{100 * row['reported']:14.1f} %"
        for row in recommendation["variants"]
    ]
    ends = [recommendation[name] for name in ("difference", "low", "high")]
    told = ", ".join("-" if end is None else f"{100 * end:+.1f}" for end in ends)
    lines += [
        "",
        f"On {len(recommendation['seeds'])} fresh seeds {recommendation['treated_arm']} minus "
        f"{recommendation['baseline_arm']}: {told} points (mean, interval).",
        f"Recommended: {recommendation['recommendation']}.",
    ]
    return "\n".join(lines)
