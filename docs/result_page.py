"""Write the page of one run: ``python docs/result_page.py <folder of the profile> <page.md>``.

A page called ``zap_map.md`` shows the map of that profile instead of its comparison.

Every number comes from the files of the run. Nothing is typed in by hand but the page's title.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from relearn.reports.paired import paired_interval
from relearn.reports.wording import scale_of


def main() -> None:
    """Read the profile's files and write the page."""
    profile, page = Path(sys.argv[1]), Path(sys.argv[2])
    title = sys.argv[3] if len(sys.argv) > 3 else f"Zapping on {profile.name}"
    if page.stem == "zap_map":
        page.write_text(_map_page(profile, title), encoding="utf-8")
        return
    decision = json.loads((profile / "08_reporting" / "decision.json").read_text(encoding="utf-8"))
    output, reporting = profile / "07_model_output" / "zap", profile / "08_reporting"
    records = pd.read_parquet(output / "records.parquet")
    parts = [
        f"# {title}\n",
        origin(decision["provenance"], decision["methods"]["zap"]),
        "## What was asked, and the answer\n\n" + decision["methods"]["zap"]["words"],
        comparisons(pd.read_csv(reporting / "comparison.csv")),
        _heads(records),
        _settings(pd.read_csv(profile / "06_models" / "zap" / "selection.csv")),
        _training(records),
        findings(reporting / "zap" / "diagnostics.json", reporting / "zap" / "ledger_check.json"),
    ]
    exploration = pd.read_parquet(output / "exploration.parquet")
    if len(exploration):
        parts.insert(4, "## Exploration\n\nThe variants before the confirmation.\n")
        parts.insert(5, _heads(exploration))
    page.write_text("\n\n".join(part.strip() for part in parts) + "\n", encoding="utf-8")


def _map_page(profile: Path, title: str) -> str:
    folder = profile / "08_reporting" / "zap_map"
    rows = []
    for row in pd.read_csv(folder / "table.csv").itertuples():
        cell = f"{row.classes} ({row.base_classes}) x {row.images} ({row.images_per_class})"
        found = f"{row.difference:+.1f} [{row.low:+.1f}, {row.high:+.1f}]"
        means = [f"{row.baseline:.1f}", f"{row.treated:.1f}"]
        rows.append([cell, row.similarity, row.metric, str(row.n), *means, found])
    told = json.loads((folder / "diagnostics.json").read_text(encoding="utf-8"))
    findings = [f"- {cell}: {line}" for cell, lines in told.items() for line in lines]
    header = ["classes x images", "similarity", "metric", "pairs", "baseline %", "treated %"]
    table = markdown_table([*header, "difference, points"], rows)
    return f"# {title}\n\n{table}\n\n## Diagnostics\n\n" + "\n".join(findings) + "\n"


def origin(told: dict[str, object], entry: dict[str, object]) -> str:
    """Return where the figures come from, as a list."""
    wanted = ("command", "commit", "dirty", "machine", "date", "seeds")
    shown = {name: re.sub(r"=/[^,` ]*", "=<path>", str(told.get(name, ""))) for name in wanted}
    lines = [f"- {name}: `{text}`" for name, text in shown.items() if text]
    return "\n".join([*lines, f"- rule: `{entry.get('asked_digest', '-')}`"])


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def comparisons(table: pd.DataFrame) -> str:
    """Return the comparisons that were asked for, as a section."""
    rows = []
    for row in table[table["status"] == "measured"].itertuples():
        scale = scale_of(row.metric)
        ends = f"[{scale.signed(row.low)}, {scale.signed(row.high)}]"
        interval = f"{scale.difference(row.difference)} {ends}"
        means = [scale.value(row.baseline_mean), scale.value(row.treated_mean)]
        holm = "-" if pd.isna(row.p_holm) else f"{row.p_holm:.3g}"
        arms = f"{row.treated} - {row.baseline}"
        rows.append([row.name, f"{row.task}.{row.metric}", arms, *means, interval, holm])
    header = [
        "question",
        "metric",
        "arms",
        "baseline",
        "treated",
        "difference",
        "p Holm",
    ]
    return "## Paired differences\n\n" + markdown_table(header, rows)


def _heads(records: pd.DataFrame) -> str:
    kinds = {
        "few-shot, zero head": ("few_shot", "accuracy_zero_head"),
        "few-shot, kaiming head": ("few_shot", "accuracy_kaiming_head"),
        "few-shot, ridge head": ("few_shot", "accuracy_ridge_head"),
        "closed form": ("ridge", "accuracy"),
        "continual, zero head": ("continual", "accuracy_zero_head"),
        "continual, kaiming head": ("continual", "accuracy_kaiming_head"),
    }
    last = records.sort_values("step").groupby(["arm", "seed", "task", "metric"])["value"].last()
    rows, arms = [], list(dict.fromkeys(records["arm"]))
    shown = [
        k for k, (t, m) in kinds.items() if ((records.task == t) & (records.metric == m)).any()
    ]
    for arm in arms:
        cells = [arm]
        for name in shown:
            values = [last[arm, s, *kinds[name]] for s in last[arm].index.unique("seed")]
            found = paired_interval(values, 0.95)
            spread = "" if found.low is None else f" ± {100 * (found.high - found.mean):.1f}"
            cells.append(f"{100 * found.mean:.1f}{spread}")
        rows.append(cells)
    note = (
        "Percent on the transfer classes, each head with the rate that was best on the selection "
        "classes; ±: 95 % t."
    )
    return f"## By first weights of the transfer head\n\n{note}\n\n" + markdown_table(
        ["arm", *shown], rows
    )


def outcome_cells(row: Any) -> tuple[str, str]:
    """Return how a tried setting scored, in percent, and whether it was chosen."""
    score = "-" if pd.isna(row.score) else f"{100 * row.score:.1f}"
    mark = ("chosen" + (", at border" if row.at_border else "")) if row.chosen else ""
    return score, mark


def _settings(selection: pd.DataFrame) -> str:
    rows = []
    for row in selection.itertuples():
        score, mark = outcome_cells(row)
        rows.append([row.arm, f"x{row.rate_factor:g}", str(row.shift_pixels), score, mark])
    header = ["arm", "pre-training rate", "shift, pixels", "selection classes %", ""]
    return "## Settings tried, on seeds that are not reported\n\n" + markdown_table(header, rows)


def _training(records: pd.DataFrame) -> str:
    last = records[records["task"] == "pretrain"].sort_values("step")
    last = last.groupby(["arm", "seed", "metric"])["value"].last().groupby(["arm", "metric"]).mean()
    rows = []
    for arm in dict.fromkeys(records["arm"]):
        names = ("train_accuracy", "validation_accuracy", "generalisation_gap")
        cells = [f"{100 * last[arm, n]:.1f}" if (arm, n) in last.index else "-" for n in names]
        shocks = records[(records["arm"] == arm) & (records["task"] == "zap_shock")]
        means = shocks.groupby("metric")["value"].mean()
        drop = f"{100 * means['accuracy_drop']:.1f}" if "accuracy_drop" in means else "-"
        steps = f"{means['recovery_steps']:.0f}" if "recovery_steps" in means else "-"
        share = f"{100 * means['recovered']:.0f}" if "recovered" in means else "-"
        rows.append([arm, *cells, drop, steps, share])
    header = ["arm", "train %", "validation %", "gap", "shock, points", "recovery, steps"]
    return "## Pre-training\n\nMeans over seeds.\n\n" + markdown_table(
        [*header, "recovered %"], rows
    )


def findings(diagnostics: Path, ledger: Path) -> str:
    """Return what a reader must know, and the proof of the ledger, as a section."""
    told = json.loads(diagnostics.read_text(encoding="utf-8"))["findings"]
    check = json.loads(ledger.read_text(encoding="utf-8"))
    orders = "the same" if check["orders_equal"] else "NOT the same"
    proof = (
        f"{check['verified']} of {check['rows']} interventions verified; arms of one seed and "
        f"scheme saw {orders} order of samples."
    )
    lines = [f"- {line}" for line in [*told, proof]]
    return "## Diagnostics\n\n" + "\n".join(lines)


if __name__ == "__main__":
    main()
