"""Write a robust run: ``python docs/robust_page.py <folder of the profile> <page.md> [title]``.

Every number comes from the files of the run. Nothing is typed in by hand but the page's title.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd
from result_page import comparisons, findings, markdown_table, origin

from relearn.reports.comparison import final_values
from relearn.reports.paired import holm, paired_interval

METHOD = "forget_relearn"
_MEASURES = {
    "validation %": ("validation", "robust_accuracy"),
    "clean %": ("test", "clean_accuracy"),
    "PGD %": ("test", "robust_accuracy"),
    "AutoAttack (reduced) %": ("auto_attack", "robust_accuracy"),
    "Square %": ("square", "robust_accuracy"),
    "transfer %": ("transfer", "robust_accuracy"),
    "train PGD %": ("train", "robust_accuracy"),
    "corruptions %": ("corruption", "mean_accuracy"),
    "ECE %": ("calibration", "ece"),
}


def main() -> None:
    """Read the profile's files and write the page."""
    profile, page = Path(sys.argv[1]), Path(sys.argv[2])
    title = sys.argv[3] if len(sys.argv) > 3 else f"Forgetting and relearning on {profile.name}"
    reporting, output = profile / "08_reporting", profile / "07_model_output" / METHOD
    decision = json.loads((reporting / "decision.json").read_text(encoding="utf-8"))
    entry = decision["methods"][METHOD]
    records = pd.read_parquet(output / "records.parquet")
    explored = pd.read_parquet(output / "exploration.parquet")  # empty where nothing was studied
    tried = explored if len(explored) else records
    parts = [
        f"# {title}\n",
        origin(decision["provenance"], entry),
        "## What was asked, and the answer\n\n" + entry["words"],
        comparisons(pd.read_csv(reporting / "comparison.csv")),
        _arms(tried),
        _against(tried, "pgd_at"),
        _against(tried, str(entry["baseline_arm"])),
        _fresh(len(explored) > 0),
        _settings(profile / "06_models" / METHOD / "selection.csv"),
        _recoveries(records),
        _costs(pd.read_parquet(output / "costs.parquet")),
        findings(reporting / METHOD / "diagnostics.json", reporting / METHOD / "ledger_check.json"),
    ]
    page.write_text("\n\n".join(part.strip() for part in parts if part) + "\n", encoding="utf-8")


def _fresh(studied: bool) -> str:
    if not studied:
        return ""
    return (
        "## What follows\n\nThe tables above are of the seeds that chose. The answer, the paired "
        "differences and all that follows are of fresh seeds, on which the winner met the baseline "
        "again."
    )


def _arms(records: pd.DataFrame) -> str:
    means = {}
    for name, (task, metric) in _MEASURES.items():
        rows = records[(records["task"] == task) & (records["metric"] == metric)]
        means[name] = 100 * rows.groupby("arm")["value"].mean()
    header = [name for name, found in means.items() if len(found)]
    arms = list(dict.fromkeys(records["arm"]))
    rows = [
        [arm, *(f"{means[name][arm]:.1f}" if arm in means[name] else "-" for name in header)]
        for arm in arms
    ]
    note = (
        f"Means over {records['seed'].nunique()} seeds. Choices were made on validation; every "
        "attack was made in fp32 on an fp32 net. AutoAttack and Square saw fewer images than PGD; "
        "corruptions: mean over kinds and severities, clean images."
    )
    return f"## All arms\n\n{note}\n\n" + markdown_table(["arm", *header], rows)


def _against(records: pd.DataFrame, baseline: str) -> str:
    final = final_values(records, task="test", metric="robust_accuracy")
    wide = 100 * final.pivot_table(index="seed", columns="arm", values="value")
    arms = [arm for arm in dict.fromkeys(records["arm"]) if arm != baseline]
    found = {arm: paired_interval(list(wide[arm] - wide[baseline]), 0.95) for arm in arms}
    known = [arm for arm in arms if found[arm].p_value is not None]
    corrected = dict(zip(known, holm([found[arm].p_value or 1.0 for arm in known]), strict=True))
    rows = []
    for arm in arms:
        one = found[arm]
        ends = "-" if one.low is None else f"[{one.low:+.1f}, {one.high:+.1f}]"
        p_value = f"{corrected[arm]:.3g}" if arm in corrected else "-"
        rows.append([arm, f"{one.mean:+.1f}", ends, p_value])
    return (
        f"## Every arm against {baseline}, robust accuracy (PGD) on test images\n\n"
        + markdown_table(["arm", "difference, points", "95 %", "p Holm (this table)"], rows)
    )


def _settings(path: Path) -> str:
    tried = pd.read_csv(path)
    if tried["score"].isna().all():
        shown = ", ".join(sorted({str(name) for name in tried["schedule"]}))
        return f"## Settings\n\nOne schedule for every training: {shown}."
    rows = [
        [
            str(row.training),
            str(row.schedule),
            f"x{row.rate_factor:g}",
            f"{100 * row.score:.1f}",
            ("chosen" + (", at border" if row.at_border else "")) if row.chosen else "",
        ]
        for row in tried.itertuples()
    ]
    header = ["training", "schedule", "rate", "validation robust %", ""]
    return "## Settings tried, on seeds that are not reported\n\n" + markdown_table(header, rows)


def _recoveries(records: pd.DataFrame) -> str:
    rows = records[records["task"] == "recovery"]
    if rows.empty:
        return ""
    means = rows.pivot_table(index="arm", columns="metric", values="value", aggfunc="mean")
    counts = rows[rows["metric"] == "dip"].groupby("arm")["value"].size()
    back = rows[(rows["metric"] == "recovery_epochs") & (rows["value"] > 0)]
    epochs = back.groupby("arm")["value"].mean()
    lines = [
        [
            str(arm),
            str(counts[arm]),
            f"{100 * row['dip']:.1f}",
            f"{100 * row['recovered']:.0f}",
            f"{epochs[arm]:.1f}" if arm in epochs else "-",
        ]
        for arm, row in means.iterrows()
    ]
    header = ["arm", "forgettings", "dip, points", "recovered %", "epochs until then"]
    return "## Dips and recovery\n\nStudents, on validation images.\n\n" + markdown_table(
        header, lines
    )


def _costs(costs: pd.DataFrame) -> str:
    wide = costs.pivot_table(index="arm", columns="metric", values="value", aggfunc="mean")
    rows = [
        [
            str(arm),
            f"{row['train_seconds']:.0f}",
            f"{row['change_percent']:.1f}",
            f"{row['monitor_seconds'] + row['pictures_seconds']:.0f}",
            f"{row['judge_seconds']:.0f}",
        ]
        for arm, row in wide.iterrows()
    ]
    note = (
        "Seconds are means over seeds on a shared machine. Arms of one training share its time; "
        "the share of the cycle is forgetting, consolidation and the stable model's answers."
    )
    header = ["arm", "training s", "share of the cycle %", "watching s", "judging s"]
    return f"## Cost\n\n{note}\n\n" + markdown_table(header, rows)


if __name__ == "__main__":
    main()
