"""From the units of the map to its records and its table of paired differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.methods.zap.config import ZapConfig
from relearn.pipelines.zap_map.cells import CELL

if TYPE_CHECKING:
    import pandas as pd

METRICS = (("few_shot", "accuracy"), ("continual", "accuracy"))
"""Task and metric of the reported differences."""


def records_of(units: pd.DataFrame) -> pd.DataFrame:
    """Return the records of all units, with the columns of their condition before them.

    Args:
        units: Index of the units.
    """
    import pandas as pd

    from relearn.arm_store import load_rows

    told = [*CELL, "base_classes", "images_per_class", "shift_pixels"]
    frames = [
        pd.DataFrame(load_rows(Path(unit["path"]))["records"]).assign(**{n: unit[n] for n in told})
        for unit in units.to_dict("records")
    ]
    whole = pd.concat(frames, ignore_index=True)
    return whole[[*told, *(name for name in whole.columns if name not in told)]]


def table_of(units: pd.DataFrame, records: pd.DataFrame, zap: ZapConfig) -> pd.DataFrame:
    """Return one row for each condition and metric, in percent points of accuracy.

    Args:
        units: Index of the units.
        records: As from ``records_of``.
        zap: Names the arms and the confidence.

    Returns:
        Condition, sizes, metric, n, baseline, treated, difference, low, high, p_value, p_holm (over
        all rows of the table), shifts, resets, recovered_share, verified, seconds.
    """
    import pandas as pd

    from relearn.reports.paired import holm

    mine = dict(list(records.groupby(list(CELL), sort=False)))
    rows: list[dict[str, Any]] = []
    for key, group in units.groupby(list(CELL), sort=False):
        facts = _facts(group, mine[key], zap)
        for task, metric in METRICS:
            found = _difference(mine[key], zap, task=task, metric=metric)
            rows += [{**dict(zip(CELL, key, strict=True)), **found, **facts}] if found else []
    table = pd.DataFrame(rows)
    judged = table["p_value"].notna()
    table.loc[judged, "p_holm"] = holm(table.loc[judged, "p_value"].tolist())
    return table


def findings_of(records: pd.DataFrame, table: pd.DataFrame, zap: ZapConfig) -> dict[str, list[str]]:
    """Return sentences for each condition: borders, heads that never recovered, no reset at all.

    Args:
        records: As from ``records_of``.
        table: As from ``table_of``.
        zap: Knobs of the method.
    """
    import pandas as pd

    from relearn.pipelines.zap import study

    # shifts have no border: what is taken is one of two
    unsearched = pd.DataFrame({"arm": [], "rate_factor": [], "at_border": [], "chosen": []})
    resets = table.drop_duplicates(list(CELL)).set_index(list(CELL))["resets"].to_dict()
    found = {}
    for key, rows in records.groupby(list(CELL), sort=False):
        none = "no reset happened (zap.policy.settle_steps, zap_map.steps): both arms are the same."
        told = ", ".join(f"{level} {name}" for name, level in zip(CELL, key, strict=True))
        own = study.findings_of(rows, unsearched, zap)
        found[told] = own if resets[key] else [none, *own]
    return found


def _difference(
    records: pd.DataFrame, zap: ZapConfig, *, task: str, metric: str
) -> dict[str, Any] | None:
    """Return arms and paired difference of one condition in points; None where it is not run."""
    from relearn.reports.comparison import final_values
    from relearn.reports.paired import paired_interval

    final = final_values(records, task=task, metric=metric)
    if final.empty:
        return None
    wide = 100 * final.pivot_table(index="seed", columns="arm", values="value")
    baseline, treated = wide[zap.evidence.baseline_arm], wide[zap.evidence.treated_arm]
    found = paired_interval((treated - baseline).tolist(), zap.evidence.confidence)
    return {
        "metric": f"{task}.{metric}",
        "n": found.pairs,
        "baseline": baseline.mean(),
        "treated": treated.mean(),
        "difference": found.mean,
        "low": found.low,
        "high": found.high,
        "p_value": found.p_value,
        "p_holm": None,
    }


def _facts(units: pd.DataFrame, records: pd.DataFrame, zap: ZapConfig) -> dict[str, Any]:
    """Return what a reader must know about a condition before believing its difference."""
    from relearn.arm_store import load_rows
    from relearn.pipelines.zap.study import verify_units

    is_treated = units["arm"] == zap.evidence.treated_arm
    treated = [load_rows(Path(p)) for p in units[is_treated]["path"]]
    resets = [len({entry["step"] for entry in rows["interventions"]}) for rows in treated]
    check = verify_units([_named(unit) for unit in units.to_dict("records")])
    recovered = records[
        (records["task"] == "zap_shock_summary") & (records["metric"] == "recovered_share")
    ]
    return {
        "base_classes": units["base_classes"].iloc[0],
        "images_per_class": units["images_per_class"].iloc[0],
        "class_distance": units["class_distance"].mean(),
        "epochs": units["epochs"].iloc[0],
        "steps": units["steps"].iloc[0],
        "baseline_shift": units[~is_treated]["shift_pixels"].iloc[0],
        "treated_shift": units[is_treated]["shift_pixels"].iloc[0],
        "resets": sum(resets) / len(resets),
        "recovered_share": recovered["value"].mean(),
        "verified": check["orders_equal"] and not check["failed"],
        "seconds": sum(_seconds(p) for p in units["path"]),
    }


def _named(unit: Mapping[Any, Any]) -> tuple[str, int, Path]:
    """Return arm, seed and folder of a row of the index."""
    return str(unit["arm"]), int(unit["seed"]), Path(unit["path"])


def _seconds(path: str) -> float:
    from relearn.arm_store import load_rows

    costs: Sequence[dict[str, Any]] = load_rows(Path(path))["costs"]
    return sum(float(row["value"]) for row in costs if row["metric"] == "total_seconds")
