"""Write a run of the probe: ``python docs/probe_page.py <profile folder> <page.md> [title]``.

Every number comes from the files of the run. Nothing is typed in by hand but the page's title.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from result_page import comparisons, findings, markdown_table, origin, outcome_cells

from relearn.reports.paired import paired_interval

METHOD = "last_layer_probe"


def main() -> None:
    """Read the profile's files and write the page."""
    profile, page = Path(sys.argv[1]), Path(sys.argv[2])
    title = sys.argv[3] if len(sys.argv) > 3 else f"The last-layer probe on {profile.name}"
    reporting, output = profile / "08_reporting", profile / "07_model_output" / METHOD
    decision = json.loads((reporting / "decision.json").read_text(encoding="utf-8"))
    entry = decision["methods"][METHOD]
    told = json.loads((reporting / METHOD / "recommendation.json").read_text(encoding="utf-8"))
    records = pd.read_parquet(output / "records.parquet")
    costs = pd.read_parquet(output / "costs.parquet")
    parts = [
        f"# {title}\n",
        origin(decision["provenance"], entry),
        "## What was asked, and the answer\n\n" + entry["words"],
        comparisons(pd.read_csv(reporting / "comparison.csv")),
        _arms(records, costs, told["verdicts"]),
        _permuted(records),
        _gaps(told["gaps"]),
        _tried(pd.read_csv(profile / "06_models" / METHOD / "selection.csv")),
        _regret(told.get("regret")),
        _width_law(records),
        *_asides(json.loads((reporting / METHOD / "diagnostics.json").read_text("utf-8"))),
        findings(reporting / METHOD / "diagnostics.json", reporting / METHOD / "ledger_check.json"),
    ]
    page.write_text("\n\n".join(part.strip() for part in parts if part) + "\n", encoding="utf-8")


def _wide(records: pd.DataFrame) -> pd.DataFrame:
    rows = records[(records["task"] == "test") & (records["metric"] == "accuracy")]
    return 100 * rows.pivot_table(index="seed", columns="arm", values="value")


def _interval(differences: list[float]) -> str:
    found = paired_interval(differences, 0.95)
    ends = "-" if found.low is None else f"[{found.low:+.1f}, {found.high:+.1f}]"
    return f"{found.mean:+.1f} {ends}"


def _arms(records: pd.DataFrame, costs: pd.DataFrame, verdicts: dict[str, Any]) -> str:
    wide = _wide(records)
    seconds = costs[costs["metric"] == "train_seconds"].groupby("arm")["value"].mean()
    rows = []
    for arm in dict.fromkeys(records["arm"]):
        base = "linear" + arm[arm.index(".") :] if "." in arm else "linear"
        beside = base in wide and base != arm
        rows.append(
            [
                arm,
                f"{wide[arm].mean():.1f}",
                _interval(list(wide[arm] - wide[base])) if beside else "-",
                f"{seconds.get(arm, float('nan')):.2f}",
                str(verdicts.get(arm, {}).get("verdict", "-")),
            ]
        )
    note = (
        f"Means over {len(wide)} seeds, each with images and bodies of its own. The difference is "
        "to the linear head on the same images, with its 95 % interval over pairs; seconds "
        "are those of features and fit on a shared machine, without tuning."
    )
    header = ["arm", "test %", "over linear, points", "training s", "verdict"]
    return f"## All arms\n\n{note}\n\n" + markdown_table(header, rows)


def _permuted(records: pd.DataFrame) -> str:
    wide, mark = _wide(records), ".permuted_pixels"
    plain = [arm for arm in wide if f"{arm}{mark}" in wide]
    if not plain:
        return ""
    rows = [
        [
            arm,
            f"{wide[arm].mean():.1f}",
            f"{wide[arm + mark].mean():.1f}",
            _interval(list(wide[arm + mark] - wide[arm])),
        ]
        for arm in plain
    ]
    note = "One fixed permutation of the pixels of every image takes away what is near what."
    header = ["body", "plain %", "permuted %", "permuted minus plain, points"]
    return f"## Control: permuted pixels\n\n{note}\n\n" + markdown_table(header, rows)


def _gaps(gaps: list[dict[str, Any]]) -> str:
    if not gaps:
        return ""
    rows = [
        [
            f"{gap['above']} - {gap['below']}",
            f"{100 * gap['mean']:+.1f} [{100 * gap['low']:+.1f}, {100 * gap['high']:+.1f}]",
            "yes" if gap["clear"] else "no",
        ]
        for gap in gaps
    ]
    note = (
        "A rung is stood for by its arm that is best on validation images. `frozen` reads the best "
        "tap point of the base net; `unfrozen` has to start at the last one."
    )
    header = ["rungs", "points", "clear"]
    return f"## Gaps between rungs\n\n{note}\n\n" + markdown_table(header, rows)


def _tried(selection: pd.DataFrame) -> str:
    """Return the settings of the trained arms, all of them tried on seeds that are not reported."""
    tried = selection[selection["score"].notna()]
    if tried.empty:
        return ""
    rows = []
    for row in tried.itertuples():
        score, mark = outcome_cells(row)
        rows.append([row.arm, f"x{row.epochs_factor:.3g}", f"x{row.rate_factor:.3g}", score, mark])
    header = ["arm", "epochs", "rate", "validation %", ""]
    return "## Settings tried, on seeds that are not reported\n\n" + markdown_table(header, rows)


def _asides(told: dict[str, Any]) -> list[str]:
    """Return the tables of hints and of disturbances; none where they were not measured."""
    parts = []
    if told["hints"]:
        rows = [
            [name, f"{hint['pairs']} {hint['over']}", f"{hint['rank_correlation']:+.2f}"]
            for name, hint in told["hints"].items()
            if hint["rank_correlation"] is not None
        ]
        note = (
            "Spearman's rank correlation of each score with the test accuracy, over the arms that "
            "have it, or over the seeds where one arm has it. Hints, never the verdict."
        )
        header = ["score", "ranked", "rank correlation"]
        parts.append(f"## Transferability scores\n\n{note}\n\n" + markdown_table(header, rows))
    if told["sensitivity"]:
        names = [name for name in told["sensitivity"][0] if name != "arm"]
        rows = [
            [row["arm"], *(f"{100 * row[name]:.1f}" for name in names)]
            for row in told["sensitivity"]
        ]
        note = "Test accuracy in percent, and the points that each disturbance takes from it."
        header = ["arm", *(name.replace("_", " ") for name in names)]
        parts.append(f"## When the data are worse\n\n{note}\n\n" + markdown_table(header, rows))
    return parts


def _regret(told: dict[str, Any] | None) -> str:
    if not told:
        return ""
    rows = [
        [
            case["images"],
            case["body"],
            case["verdict"],
            case["shipped"],
            *(f"{100 * case[name]:.1f}" for name in ("linear", "head", "full", "regret")),
            f"{case['seconds_saved']:.1f}",
        ]
        for case in told["cases"]
    ]
    note = (
        "Each verdict was followed: PASS ships the body's head, FAIL the linear one, WEAK the "
        "better of both on validation images, PROMISING trains in full and ships the better of "
        "that and the head on validation images. Regret is what that loses against the best of the "
        "three. Accuracies are means over seeds, of test images."
    )
    header = ["images", "body", "verdict", "shipped", "linear %", "head %", "full %"]
    return f"## Is the verdict right? {len(rows)} cases\n\n{note}\n\n" + markdown_table(
        [*header, "regret, points", "seconds saved"], rows
    )


def _width_law(records: pd.DataFrame) -> str:
    rows = records[(records["task"] == "width_law") & (records["metric"] == "rms")]
    if rows.empty:
        return ""
    body = rows["arm"].str.removeprefix("random_").str.rsplit("_", n=1).str[0]
    rows = rows.assign(body=body, width=np.log(rows["step"]), error=np.log(rows["value"]))
    lines = []
    for name, group in rows.groupby("body", sort=False):
        found = [float(np.polyfit(g["width"], g["error"], 1)[0]) for _, g in group.groupby("seed")]
        told = paired_interval(found, 0.95)
        ends = "-" if told.low is None else f"[{told.low:.2f}, {told.high:.2f}]"
        lines.append([str(name), f"{told.mean:.2f}", ends])
    note = (
        "Slope of log RMS error of the empirical kernel against log r, one fit a seed; "
        "theory: -0.5."
    )
    return f"## Width law\n\n{note}\n\n" + markdown_table(["skeleton", "slope", "95 %"], lines)


if __name__ == "__main__":
    main()
