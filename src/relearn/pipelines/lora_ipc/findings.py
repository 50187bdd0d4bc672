"""What a reader must know before believing the table, one sentence or one row each."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from relearn.methods.lora_ipc.config import LoraIpcConfig

STREAM, ACCURACY = "test", "final_average_accuracy"
CHEAP = ("ncm", "ranpac", "shared_lora", "lorac")
"""Alternatives to freezing that cost no more: the best of them stands beside the headline."""


def findings_of(
    records: pd.DataFrame,
    selection: pd.DataFrame,
    base_check: Mapping[str, Any],
    config: LoraIpcConfig,
) -> list[str]:
    """Return one sentence for each thing that limits what the table says.

    Args:
        records: Of the arms.
        selection: Settings chosen for each family.
        base_check: Strength of the backbone.
        config: Knobs.
    """
    return [
        *_base(base_check),
        *_borders(selection),
        *_rivals(records, config),
        *_leaks(records),
        *_frozen(records, config),
        *_ranking(records, config),
        *_compatible(config),
    ]


def cheap_rows(records: pd.DataFrame) -> list[dict[str, Any]]:
    """Return final average accuracy and forgetting of the cheap alternatives, best first.

    Args:
        records: Of the arms.
    """
    means = means_of(records, ACCURACY)
    lost = means_of(records, "forgetting")
    found = [arm for arm in means.index if str(arm) in CHEAP]
    return [
        {"arm": str(arm), ACCURACY: float(means[arm]), "forgetting": _number(lost.get(arm))}
        for arm in found
    ]


def means_of(records: pd.DataFrame, metric: str) -> pd.Series[float]:
    """Return the mean over seeds of a metric of the whole stream, highest first.

    Args:
        records: Of the arms.
        metric: Of the task ``test``.
    """
    rows = records[(records["task"] == STREAM) & (records["metric"] == metric)]
    means = rows.groupby("arm", sort=False)["value"].mean()
    return means.sort_values(ascending=False, kind="stable")


def ranking_stability(records: pd.DataFrame, *, arm: str) -> float | None:
    """Return the mean rank correlation of the matrices' importance between seeds.

    The importance of a matrix is taken after the first task, when all seeds still have all of them.

    Args:
        records: With the task ``importance``: step = number of the task, metric = the matrix.
        arm: Whose.

    Returns:
        Spearman's rho, mean over pairs of seeds; None with fewer than two seeds.
    """
    rows = records[(records["task"] == "importance") & (records["arm"] == arm)]
    first = rows[rows["step"] == rows["step"].min()] if len(rows) else rows
    wide = first.pivot_table(index="metric", columns="seed", values="value")
    pairs = list(combinations(wide.columns, 2))
    if not pairs:
        return None
    found = [float(wide[one].corr(wide[two], method="spearman")) for one, two in pairs]
    return sum(found) / len(found)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _base(base_check: Mapping[str, Any]) -> list[str]:
    return [] if base_check["strong"] else [str(base_check["reason"])]


def _borders(selection: pd.DataFrame) -> list[str]:
    taken = selection[selection["chosen"].astype(bool)]
    return [
        f"{row.family}: the best rate (x{row.rate_factor:g}) lies at the border of its grid; raise "
        "lora_ipc.tuning.rate.widenings."
        for row in taken.itertuples()
        if bool(row.at_border)
    ]


def _rivals(records: pd.DataFrame, config: LoraIpcConfig) -> list[str]:
    """Say which cheap alternative ends above the treated arm, whatever the headline says."""
    means = means_of(records, ACCURACY)
    treated = config.evidence.treated_arm
    if treated not in means:
        return []
    above = [arm for arm in means.index if arm in CHEAP and means[arm] > means[treated]]
    told = ", ".join(f"{arm} {100 * means[arm]:.1f} %" for arm in above)
    if not above:
        return []
    return [
        f"Cheaper and better at the end than {treated} ({100 * means[treated]:.1f} % final average "
        f"accuracy): {told}."
    ]


def _leaks(records: pd.DataFrame) -> list[str]:
    from relearn.methods.lora_ipc.config import LEAKING

    arms = [arm for arm in dict.fromkeys(records["arm"]) if str(arm).endswith(LEAKING)]
    if not arms:
        return []
    return [
        f"{', '.join(arms)}: answered batch by batch, each batch from one task. That gives away "
        "where a task ends; these rows must not stand beside others."
    ]


def _frozen(records: pd.DataFrame, config: LoraIpcConfig) -> list[str]:
    from relearn.methods.lora_ipc.lora_config import MATRIX_KINDS

    rows = records[(records["task"] == STREAM) & (records["metric"] == "frozen_matrices")]
    count = rows[rows["arm"] == config.evidence.treated_arm]["value"]
    drift = records[records["task"] == "drift"]
    total = drift["metric"].nunique() or len(MATRIX_KINDS)
    if not len(count) or not count.mean():
        return []
    return [
        f"{config.evidence.treated_arm}: {count.mean():.0f} of {total} matrices are frozen at the "
        f"end ({100 * count.mean() / total:.0f} %; the paper's setting leaves 30 of 72, 42 %)."
    ]


def _ranking(records: pd.DataFrame, config: LoraIpcConfig) -> list[str]:
    found = ranking_stability(records, arm=config.evidence.treated_arm)
    if found is None:
        return []
    return [
        f"The importance of matrices after the first task agrees between seeds with a rank "
        f"correlation of {found:.2f} (1: the same ranking; 0: none)."
    ]


def _compatible(config: LoraIpcConfig) -> list[str]:
    if not config.lora.k_uses_q_mask:
        return []
    return [
        "lora.k_uses_q_mask repeats an error of the official code: k learns on where only k is "
        "frozen, so that a matrix called frozen may move."
    ]
