"""Write a run of growing: ``python docs/grown_page.py <folder of the profile> <page.md> [title]``.

Every number comes from the files of the run. Nothing is typed in by hand but the page's title.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from result_page import comparisons, findings, markdown_table, origin, outcome_cells

METHOD = "grow"
_SHARES = {
    "test %": ("test", "accuracy"),
    "validation %": ("validation", "accuracy"),
    "mean while training %": ("area", "validation_area"),
    "at the start %": ("start", "accuracy"),
    "dip, points": ("dip", "depth"),
    "ECE %": ("calibration", "ece"),
    "negative flips %": ("regression", "negative_flips_share"),
}
_COSTS = {
    "parameters": ("parameters", 1.0, ",.0f"),
    "training GFLOPs": ("train_flops", 1e9, ",.0f"),
    "of these the teacher's": ("teacher", 1e9, ",.0f"),
    "training s": ("train_seconds", 1.0, ",.0f"),
    "latency ms": ("latency_seconds", 1e-3, ",.1f"),
}


def main() -> None:
    """Read the profile's files and write the page."""
    profile, page = Path(sys.argv[1]), Path(sys.argv[2])
    title = sys.argv[3] if len(sys.argv) > 3 else f"Growing on {profile.name}"
    reporting, output = profile / "08_reporting", profile / "07_model_output" / METHOD
    decision = json.loads((reporting / "decision.json").read_text(encoding="utf-8"))
    entry = decision["methods"][METHOD]
    records = pd.read_parquet(output / "records.parquet")
    parts = [
        f"# {title}\n",
        origin(decision["provenance"], entry),
        "## What was asked, and the answer\n\n" + entry["words"],
        comparisons(pd.read_csv(reporting / "comparison.csv")),
        _arms(records),
        _speed_up(json.loads((reporting / METHOD / "recommendation.json").read_text("utf-8"))),
        _gate(records),
        _settings(pd.read_csv(profile / "06_models" / METHOD / "selection.csv")),
        _costs(pd.read_parquet(output / "costs.parquet")),
        findings(reporting / METHOD / "diagnostics.json", reporting / METHOD / "ledger_check.json"),
    ]
    page.write_text("\n\n".join(part.strip() for part in parts if part) + "\n", encoding="utf-8")


def _mean(records: pd.DataFrame, task: str, metric: str) -> pd.Series:
    rows = records[(records["task"] == task) & (records["metric"] == metric)]
    return rows.groupby("arm")["value"].mean()


def _arms(records: pd.DataFrame) -> str:
    means = {name: 100 * _mean(records, *place) for name, place in _SHARES.items()}
    arms = list(dict.fromkeys(records["arm"]))
    rows = [
        [arm, *(f"{means[name][arm]:.1f}" if arm in means[name] else "-" for name in _SHARES)]
        for arm in arms
    ]
    note = (
        f"Means over {records['seed'].nunique()} seeds. Negative flips: test images that the "
        "teacher had right and the arm has wrong."
    )
    return f"## All arms\n\n{note}\n\n" + markdown_table(["arm", *_SHARES], rows)


def _speed_up(told: dict[str, Any]) -> str:
    found = told["speed_up"]
    rows = []
    for name, key in (("not counted", "teacher_sunk"), ("counted", "teacher_included")):
        one = found[key]
        factor = "none needed" if one["factor"] is None else f"{one['factor']:.2f}x"
        ends = "-" if one["low"] is None else f"[{one['low']:.2f}, {one['high']:.2f}]"
        rows.append([name, factor, ends])
    bound = " The factor is an upper bound." if found["upper_bound"] else ""
    note = (
        f"FLOPs of {found['rival']} over those of the grown net, until the grown net holds what "
        f"{found['rival']} held at its end: {found['pairs']} pairs, {found['censored']} of which "
        f"never got there within their budget.{bound}"
    )
    header = ["teacher's training", "fewer FLOPs", "95 %"]
    return f"## Speed-up\n\n{note}\n\n" + markdown_table(header, rows)


def _gate(records: pd.DataFrame) -> str:
    rows = records[(records["task"] == "gate") & (records["arm"] == "grown")]
    worst = rows.groupby("metric")["value"].max()
    told = (
        f"Largest relative difference to the teacher over all seeds: "
        f"{worst['relative_float64']:.1e} in float64; in float32 {worst['rounding_ratio']:.2f} "
        f"times the teacher's own rounding; in training mode {worst['train_drift']:.1e}."
    )
    return f"## Before training\n\n{told}"


def _settings(tried: pd.DataFrame) -> str:
    rows = []
    for row in tried.itertuples():
        score, mark = outcome_cells(row)
        rows.append([row.arm, f"x{row.rate_factor:g}", score, mark])
    header = ["arm", "learning rate", "validation %", ""]
    return "## Rates tried, on seeds that are not reported\n\n" + markdown_table(header, rows)


def _costs(costs: pd.DataFrame) -> str:
    wide = costs.pivot_table(index="arm", columns="metric", values="value", aggfunc="mean")
    wide["teacher"] = wide["train_flops"] - wide["student_train_flops"]
    rows = [
        [str(arm), *(f"{row[name] / unit:{form}}" for name, unit, form in _COSTS.values())]
        for arm, row in wide.iterrows()
    ]
    note = "Means over seeds; seconds and latency on a shared machine."
    return f"## Cost\n\n{note}\n\n" + markdown_table(["arm", *_COSTS], rows)


if __name__ == "__main__":
    main()
