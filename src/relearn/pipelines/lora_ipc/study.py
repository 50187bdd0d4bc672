"""Reading the units: what each order of classes gave, the baseline, what is recommended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from relearn.errors import EvidenceError

if TYPE_CHECKING:
    import pandas as pd

    from relearn.methods.lora_ipc.config import LoraIpcConfig

ORDERED = (
    "final_average_accuracy",
    "average_incremental_accuracy",
    "forgetting",
    "backward_transfer",
    "learning_accuracy",
)
"""Metrics of the stream whose spread over the orders of classes is tabulated."""

_READINGS = ("_no_tap", "_tii", "_batch_wise")
"""Endings of arms that are further readings of a training."""


def orders_table(records: pd.DataFrame, config: LoraIpcConfig) -> pd.DataFrame:
    """Return what the order of classes does to each arm: mean, interval and extremes.

    Args:
        records: Of the arms; every seed is one order.
        config: The coverage of the interval is that of ``evidence``.

    Returns:
        Columns arm, metric, orders, mean, sd, low, high, lowest, highest.
    """
    import pandas as pd

    from relearn.reports.paired import paired_interval

    rows = records[(records["task"] == "test") & records["metric"].isin(ORDERED)]
    found = []
    for (arm, metric), mine in rows.groupby(["arm", "metric"], sort=False):
        values = [float(value) for value in mine["value"]]
        told = paired_interval(values, config.evidence.confidence)
        ends = {"low": told.low, "high": told.high, "lowest": min(values), "highest": max(values)}
        row = {"arm": arm, "metric": metric, "orders": told.pairs, "mean": told.mean, "sd": told.sd}
        found.append(row | ends)
    columns = ["arm", "metric", "orders", "mean", "sd", "low", "high", "lowest", "highest"]
    return pd.DataFrame(found, columns=columns)


def baseline_by_rule(
    records: pd.DataFrame, config: LoraIpcConfig
) -> tuple[str, list[dict[str, Any]]]:
    """Return the baseline, and every cheap alternative that could have been it.

    Args:
        records: Of the arms; only their validation rows are read.
        config: Names one arm, or the rule ``best_on_validation``.

    Returns:
        Name of the arm; rows of arm, validation score and chosen, best first.

    Raises:
        EvidenceError: None of the candidates has validation records.
    """
    from relearn.methods.lora_ipc.arms import candidates_of

    rows = records[(records["task"] == "validation")]
    rows = rows[rows["metric"] == "final_average_accuracy"]
    means = rows.groupby("arm", sort=False)["value"].mean()
    scores = means.sort_values(ascending=False, kind="stable")
    wanted = candidates_of(config)
    found = [str(arm) for arm in scores.index if arm in wanted]
    if not found:
        raise EvidenceError(
            f"lora_ipc.evidence.baseline_arm: none of {', '.join(wanted) or 'the candidates'} has "
            "validation records; run `kedro run --pipeline lora_ipc` with "
            "lora_ipc.trainings.lorac=true and lora_ipc.samples.validation_share above 0"
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
    config: LoraIpcConfig,
) -> dict[str, Any]:
    """Return what is recommended, against which baseline, and from which rows.

    Args:
        records: Of the arms.
        costs: Of the same.
        diagnostics: Nothing is recommended where they hold a gate; the cheap alternatives are
            repeated here.
        config: Knobs.
    """
    from relearn.reports.comparison import compare_arms
    from relearn.reports.questions import headline_question
    from relearn.reports.recommendation import verdict_of

    baseline, candidates = baseline_by_rule(records, config)
    evidence = config.evidence.model_copy(update={"baseline_arm": baseline})
    found = compare_arms(records, headline_question("lora_ipc", evidence))
    told: dict[str, Any] = {
        "study": "arms",
        "baseline_rule": config.evidence.baseline_arm,
        "baseline_arm": baseline,
        "baseline_candidates": candidates,
        "treated_arm": evidence.treated_arm,
        "seeds": list(found.seeds),
        "fresh_seeds": False,
        "cheap_alternatives": diagnostics["cheap_alternatives"],
        "seconds": _seconds(costs),
    }
    if diagnostics["gate"]:
        return {**told, "recommendation": f"nothing is claimed: {diagnostics['gate']}"}
    if found.difference is not None:
        told |= verdict_of(found.difference, evidence)
    return told


def _seconds(costs: pd.DataFrame) -> float:
    """Return what all trainings took; the arms of one share its costs."""
    rows = costs[costs["metric"] == "train_seconds"]
    plain = [not str(arm).endswith(_READINGS) for arm in rows["arm"]]
    return float(rows[plain]["value"].sum())
