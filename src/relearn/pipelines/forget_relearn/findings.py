"""What a reader must know before believing the table, one sentence or one row each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from relearn.methods.forget_relearn.config import ForgetRelearnConfig

BEST_LAST = {
    "pgd_at": ("pgd_at_stopped", "pgd_at"),
    "awp": ("awp_stopped", "awp"),
    "forget_relearn": ("forget_relearn_stopped", "forget_relearn"),
}
"""Training to the arm that is best on validation and the arm at the end."""


def findings_of(
    records: pd.DataFrame, selection: pd.DataFrame, config: ForgetRelearnConfig
) -> list[str]:
    """Return one sentence for each thing a reader must know before believing the table.

    Args:
        records: Of the arms that are compared.
        selection: Candidates of schedule and rate.
        config: Knobs.
    """
    return [
        *_border_findings(selection),
        *_overfitting_findings(records),
        *_recovery_findings(_one_arm_each(records, config)),
        *_attack_findings(records, config),
    ]


def _border_findings(selection: pd.DataFrame) -> list[str]:
    taken = selection[selection["chosen"].astype(bool)]
    return [
        f"{row.training}: the best rate (x{row.rate_factor:g}, schedule {row.schedule}) lies at "
        "the border of its grid; raise forget_relearn.tuning.rate.widenings."
        for row in taken.itertuples()
        if bool(row.at_border)
    ]


def _overfitting_findings(records: pd.DataFrame) -> list[str]:
    found = []
    alarms = values_of(records, "alarm", "robust_overfitting_epoch")
    plain = alarms[alarms["arm"].isin(BEST_LAST["pgd_at"])].drop_duplicates("seed")
    raised = plain[plain["value"] >= 0]["value"]
    if len(raised):
        found.append(
            f"pgd_at: robust overfitting in {len(raised)} of {len(plain)} seeds (alarm at epoch "
            f"{raised.mean():.0f} on average): validation fell while training rose."
        )
    elif len(plain):
        found.append(
            "pgd_at: no robust overfitting was seen in any seed, so that forgetting has little to "
            "mend here; train longer, on fewer images, or accept the plain arms."
        )
    one_step = values_of(records, "alarm", "catastrophic_overfitting_epoch")
    for arm, rows in one_step[one_step["value"] >= 0].groupby("arm", sort=False):
        found.append(
            f"{arm}: catastrophic overfitting to the one-step attack in {len(rows)} seed(s), from "
            f"epoch {rows['value'].min():.0f} on; use forget_relearn.loss.name=pgd_at."
        )
    return found


def _one_arm_each(records: pd.DataFrame, config: ForgetRelearnConfig) -> pd.DataFrame:
    """Return the rows of one arm for each training: its arms share the forgettings."""
    from relearn.methods.forget_relearn.arms import trainings_of

    there = set(records["arm"])
    first = [
        next((arm for arm in training.deliveries if arm in there), "")
        for training in trainings_of(config).values()
    ]
    return records[records["arm"].isin(first)]


def _recovery_findings(records: pd.DataFrame) -> list[str]:
    found = []
    for arm, rows in values_of(records, "recovery", "recovered").groupby("arm", sort=False):
        lost = int((rows["value"] == 0).sum())
        if lost:
            found.append(
                f"{arm}: {lost} of {len(rows)} forgettings did not recover before the next one or "
                "the end; forget less (forget.fraction) or relearn longer (cycle.relearn_epochs)."
            )
    for arm, rows in values_of(records, "recovery", "rolled_back").groupby("arm", sort=False):
        if rows["value"].sum():
            found.append(
                f"{arm}: {int(rows['value'].sum())} of {len(rows)} forgettings were rolled back."
            )
    return found


def _attack_findings(records: pd.DataFrame, config: ForgetRelearnConfig) -> list[str]:
    found = []
    cascade = config.judging.auto_attack
    if cascade.version == "reduced":
        found.append(
            "AutoAttack ran in its reduced version (APGD-CE and APGD-T with three targets), which "
            "is weaker than the standard one: its figures must not stand beside published ones."
        )
    halves = values_of(records, "test", "bf16_difference")
    if len(halves):
        found.append(
            "Robust accuracy is measured in fp32; the same attack in bf16 would have told up to "
            f"{100 * halves['value'].abs().max():.1f} points else."
        )
    return found


def values_of(records: pd.DataFrame, task: str, metric: str) -> pd.DataFrame:
    """Return the rows of one metric.

    Args:
        records: Rows of all arms.
        task: As in ``Record.task``.
        metric: As in ``Record.metric``.
    """
    return records[(records["task"] == task) & (records["metric"] == metric)]


def best_last(records: pd.DataFrame) -> list[dict[str, Any]]:
    """Return best, last and difference of each training that delivers both, mean over seeds.

    A small difference alone proves nothing: what counts is the last value.

    Args:
        records: Of the arms that are compared; the test rows are read.
    """
    means = {
        metric: values_of(records, "test", metric).groupby("arm")["value"].mean()
        for metric in ("robust_accuracy", "clean_accuracy")
    }
    rows = []
    for training, (best, last) in BEST_LAST.items():
        if not {best, last} <= set(means["robust_accuracy"].index):
            continue
        row: dict[str, Any] = {"training": training, "best_arm": best, "last_arm": last}
        for metric, mean in means.items():
            word = metric.partition("_")[0]
            row |= {f"{word}_best": float(mean[best]), f"{word}_last": float(mean[last])}
            row[f"{word}_difference"] = float(mean[best] - mean[last])
        rows.append(row)
    return rows


def masked_gradients(records: pd.DataFrame) -> list[str]:
    """Return the checks against masked gradients that failed, in words; empty where all held.

    Each check allows what chance may do on the images of one seed. Of the seeds of an arm the means
    are compared: of hundreds of single checks a few fail by chance alone.

    Args:
        records: With rows of the task ``masking``.
    """
    rows = records[records["task"] == "masking"]
    means = rows.pivot_table(index="arm", columns="metric", values="value", sort=False)
    return [
        f"{arm} {check} {row[check]:+.3f} (allowed {row[f'{check}_allowed']:.3f})"
        for arm, row in means.iterrows()
        for check in means.columns
        if f"{check}_allowed" in means.columns and row[check] > row[f"{check}_allowed"]
    ]


def spending(
    costs: pd.DataFrame, forecast: Mapping[str, Any], config: ForgetRelearnConfig
) -> dict[str, Any]:
    """Return what it truly took, beside the forecast, and what forgetting costs over plain.

    Args:
        costs: Of the arms that are compared; the arms of one training share its training costs.
        forecast: As from ``methods/forget_relearn/forecast.py``.
        config: Knobs.
    """
    from relearn.methods.forget_relearn.arms import trainings_of

    means = costs.groupby(["arm", "metric"])["value"].mean()
    told: dict[str, Any] = {
        "forecast_seconds": forecast["wall_seconds"],
        "forecast_cpu_seconds": forecast["cpu_seconds"],
        "forecast_extra_percent": forecast["extra_percent"],
        "train_seconds": {},
    }
    sums = costs.groupby(["arm", "metric"])["value"].sum()
    judged = float(costs[costs["metric"] == "judge_seconds"]["value"].sum())
    spent = judged
    for name, training in trainings_of(config).items():
        arm = next((a for a in training.deliveries if a in set(costs["arm"])), None)
        if arm is None:
            continue
        spent += float(sums.get((arm, "total_seconds"), 0.0))
        told["train_seconds"][name] = float(means.get((arm, "train_seconds"), 0.0))
    plain = told["train_seconds"].get("pgd_at")
    if plain:
        told["extra_percent"] = {
            name: 100 * (seconds / plain - 1) for name, seconds in told["train_seconds"].items()
        }
    changes = costs[costs["metric"] == "change_percent"].groupby("arm")["value"].mean()
    told["change_percent"] = {str(arm): float(value) for arm, value in changes.items()}
    return {**told, "judge_seconds": judged, "seconds": spent}
