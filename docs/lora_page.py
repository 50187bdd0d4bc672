"""Write a run of low-rank modules: ``python docs/lora_page.py <profile folder> <page.md> [title]``.

Every number comes from the files of the run. Nothing is typed in by hand but the page's title.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from result_page import comparisons, findings, markdown_table, origin, outcome_cells

from relearn.reports import continual_tables
from relearn.reports.continual_figures import drift_table
from relearn.reports.paired import paired_interval

METHOD, TREATED = "lora_ipc", "lorac_ipc"
_FIGURES = {
    "final %": "final_average_accuracy",
    "incremental %": "average_incremental_accuracy",
    "forgetting (authors)": "forgetting",
    "forgetting (never below 0)": "forgetting_clamped",
    "backward transfer": "backward_transfer",
    "learning %": "learning_accuracy",
    "task id %": "task_id_accuracy",
}
_COSTS = {
    "trained parameters": ("trained_parameters", 1.0, ",.0f"),
    "stored KB": ("stored_bytes", 1e3, ",.0f"),
    "KB a task": ("bytes_per_task", 1e3, ",.1f"),
    "ms a step": ("seconds_per_step", 1e-3, ",.1f"),
    "training s": ("train_seconds", 1.0, ",.1f"),
    "peak memory MB": ("peak_memory_bytes", 1e6, ",.0f"),
}
_ORTHOGONALITY = {"_hard": "hard", "_no_ortho": "off"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the profile's files and write the page."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    profile, page = Path(given[0]), Path(given[1])
    title = given[2] if len(given) > 2 else f"Task after task on {profile.name}"
    reporting, output = profile / "08_reporting", profile / "07_model_output" / METHOD
    decision = json.loads((reporting / "decision.json").read_text(encoding="utf-8"))
    entry = decision["methods"][METHOD]
    tables = {
        name: pd.read_parquet(output / f"{name}.parquet")
        for name in ("records", "costs", "interventions")
    }
    told = json.loads((reporting / METHOD / "diagnostics.json").read_text(encoding="utf-8"))
    parts = [
        f"# {title}\n",
        origin(decision["provenance"], entry),
        "## What was asked, and the answer\n\n" + entry["words"],
        _base(told["base"]),
        comparisons(pd.read_csv(reporting / "comparison.csv")),
        *sections(**tables),
        _settings(pd.read_csv(profile / "06_models" / METHOD / "selection.csv")),
        findings(reporting / METHOD / "diagnostics.json", reporting / METHOD / "ledger_check.json"),
    ]
    page.write_text("\n\n".join(part.strip() for part in parts if part) + "\n", encoding="utf-8")


def sections(
    *, records: pd.DataFrame, costs: pd.DataFrame, interventions: pd.DataFrame
) -> list[str]:
    """Return the sections that are made from the tables of a run.

    Args:
        records: Of all arms and seeds.
        costs: Of the same.
        interventions: The ledger.
    """
    return [
        _arms(records),
        _against_all(records),
        _orders(records),
        _orthogonality(records, costs),
        _importance(records, interventions),
        _drift(records),
        _similarity(records),
        _costs(costs),
    ]


def _base(told: dict[str, Any]) -> str:
    verdict = "strong enough" if told["strong"] else f"too weak: {told['reason']}"
    return (
        f"## The backbone\n\nNearest class mean on {told['classes']} unseen classes "
        f"({told['asked']}): {100 * told['backbone']:.1f} % on its features, "
        f"{100 * told['raw_pixels']:.1f} % on raw pixels; {verdict}."
    )


def _wide(records: pd.DataFrame, metric: str) -> pd.DataFrame:
    rows = records[(records["task"] == "test") & (records["metric"] == metric)]
    return 100 * rows.pivot_table(index="seed", columns="arm", values="value")


def _mean(values: Sequence[float], *, sign: str = "") -> str:
    """Return the mean with its 95 % interval."""
    found = paired_interval(list(values), 0.95)
    if found.low is None:
        return f"{found.mean:{sign}.1f}"
    return f"{found.mean:{sign}.1f} [{found.low:{sign}.1f}, {found.high:{sign}.1f}]"


def _arms(records: pd.DataFrame) -> str:
    wide = {name: _wide(records, metric) for name, metric in _FIGURES.items()}
    drift, frozen = (_wide(records, name) / 100 for name in ("mean_drift", "frozen_matrices"))
    rows = []
    for arm in dict.fromkeys(records["arm"]):
        cells = [_mean(own[arm].dropna()) if arm in own else "-" for own in wide.values()]
        moved = f"{drift[arm].mean():.3g}" if arm in drift else "-"
        held = f"{frozen[arm].mean():.0f}" if arm in frozen else "-"
        rows.append([arm, *cells, moved, held])
    note = (
        f"Means over {records['seed'].nunique()} seeds, each with its own order of the classes, "
        "with the 95 % interval; among all classes learnt so far. Forgetting of the authors: the "
        "best before the last task minus the end, which may be negative. Arms in `_batch_wise` "
        "are told where a task ends; they are no headline."
    )
    header = ["arm", *_FIGURES, "drift", "frozen"]
    return f"## All arms\n\n{note}\n\n" + markdown_table(header, rows)


def _against_all(records: pd.DataFrame) -> str:
    metrics = ("final_average_accuracy", "forgetting")
    wide = [_wide(records, metric) for metric in metrics]
    if TREATED not in wide[0]:
        return ""
    rows = [
        [
            arm,
            *(
                _mean((own[TREATED] - own[arm]).dropna(), sign="+") if arm in own else "-"
                for own in wide
            ),
        ]
        for arm in dict.fromkeys(records["arm"])
        if arm != TREATED and arm in wide[0]
    ]
    note = (
        f"{TREATED} minus the arm, seed by seed, points, with the 95 % interval, not corrected for "
        "their number. `_random`: as many matrices frozen at random (sham); `_no_ortho`, `_hard`, "
        "`_no_omega`: ablations by training; `_no_tap`, `_tii`: the same training read otherwise."
    )
    header = ["arm", "final accuracy", "forgetting"]
    return f"## {TREATED} against every arm\n\n{note}\n\n" + markdown_table(header, rows)


def _orders(records: pd.DataFrame) -> str:
    rows = []
    for row in continual_tables.order_rows(records):
        cells = [row["arm"], str(row["orders"])]
        for name in ("accuracy", "forgetting_accuracy"):
            low, high = row[f"lowest_{name}"], row[f"highest_{name}"]
            ends = "-" if low is None else f"{100 * low:.1f} to {100 * high:.1f}"
            cells += [_percent(row[name]), _percent(row[f"sd_of_{name}"]), ends]
        rows.append(cells)
    header = ["arm", "orders", "final %", "sd", "range"]
    return "## Sensitivity to the order of classes\n\n" + markdown_table(
        [*header, "forgetting", "sd", "range"], rows
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _orthogonality(records: pd.DataFrame, costs: pd.DataFrame) -> str:
    found = continual_tables.orthogonality_rows(records, costs)
    if not found:
        return ""
    rows = [
        [
            row["arm"],
            next((m for end, m in _ORTHOGONALITY.items() if row["arm"].endswith(end)), "as set"),
            f"{row['largest_cosine']:.2g} ({row['matrix']})",
            f"{row['mean_distance']:.3g}",
            f"{row['largest_condition']:.3g}",
            "-" if row["seconds_over_off"] is None else f"{row['seconds_over_off']:.2f}x",
        ]
        for row in found
    ]
    note = (
        "After the last task, over all seeds. Cosine: the largest between columns of A of two "
        "tasks, and in which matrix; distance: the mean of || A^T A - I ||_F; `as set`: "
        "`lora_ipc.orthogonality.mode`. Seconds: over those of the same training without "
        "orthogonality, on a shared machine."
    )
    header = ["arm", "orthogonality", "largest cosine", "distance", "condition", "seconds"]
    return f"## Orthogonality\n\n{note}\n\n" + markdown_table(header, rows)


def _importance(records: pd.DataFrame, interventions: pd.DataFrame) -> str:
    found = continual_tables.stability_rows(records, interventions)
    if not found:
        return ""
    rows = [
        [
            row["arm"],
            str(row["seeds"]),
            _number(row["rank_correlation"]),
            f"{row['frozen']:.0f}",
            _number(row["frozen_overlap"]),
            _number(row["overlap_by_chance"]),
        ]
        for row in found
    ]
    note = (
        "Do seeds agree on which matrices matter? Spearman's correlation of the importance after "
        "the first task, and the share that the frozen sets have in common (Jaccard), beside that "
        "of random sets of this size; means over pairs of seeds."
    )
    header = ["arm", "seeds", "rank correlation", "frozen", "overlap", "by chance"]
    return f"## Stability of the ranking\n\n{note}\n\n" + markdown_table(header, rows)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _drift(records: pd.DataFrame) -> str:
    parts = []
    for arm in (TREATED, "lorac"):
        rows = records[(records["task"] == "drift") & (records["arm"] == arm)]
        if rows.empty:
            continue
        wide = drift_table(records, arm=arm)
        lines = [[str(block), *(f"{v:.3g}" for v in row)] for block, row in wide.iterrows()]
        parts.append(f"{arm}:\n\n" + markdown_table(["block", *map(str, wide.columns)], lines))
    note = "|| W^(t) - W^(t-1) ||_F^2 of every matrix, summed over tasks, mean over seeds."
    return "\n\n".join(["## Drift", note, *parts]) if parts else ""


def _similarity(records: pd.DataFrame) -> str:
    rows = [
        [row["seed"], *(f"{row[name]:.2f}" for name in ("mean_cosine", "lowest", "highest"))]
        for row in continual_tables.similarity_rows(records)
    ]
    if not rows:
        return ""
    note = "Cosine between the mean features of two tasks, on the backbone before any of them."
    header = ["seed (order)", "mean", "lowest", "highest"]
    return f"## How alike the tasks are\n\n{note}\n\n" + markdown_table(header, rows)


def _settings(tried: pd.DataFrame) -> str:
    rows = []
    for row in tried.itertuples():
        score, mark = outcome_cells(row)
        rows.append([row.family, f"x{row.rate_factor:g}", score, mark])
    header = ["family", "learning rate", "validation %", ""]
    return "## Rates tried, on seeds that are not reported\n\n" + markdown_table(header, rows)


def _costs(costs: pd.DataFrame) -> str:
    wide = costs.pivot_table(index="arm", columns="metric", values="value", aggfunc="mean")
    rows = []
    for arm, row in wide.reindex(dict.fromkeys(costs["arm"])).iterrows():
        values = [(row.get(name, float("nan")), unit, form) for name, unit, form in _COSTS.values()]
        cells = ["-" if pd.isna(v) else f"{v / unit:{form}}" for v, unit, form in values]
        rows.append([str(arm), *cells])
    note = (
        "Means over seeds, on a shared machine; arms that read one training share its costs. "
        "Stored: everything beside the backbone (modules, last layers, what is kept of classes)."
    )
    return f"## Cost\n\n{note}\n\n" + markdown_table(["arm", *_COSTS], rows)


if __name__ == "__main__":
    main()
