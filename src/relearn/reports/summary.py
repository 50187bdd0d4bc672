"""The decisions as plain data for ``decision.json``, and as a short table for the terminal.

``python -m relearn.reports.summary <decision.json>`` prints the table again.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.provenance import digest
from relearn.reports.config import METHODS
from relearn.reports.costs import cost_of, one_per_training
from relearn.reports.names import TITLES, arm_title, metric_title
from relearn.reports.wording import interval_text, ratio_text, scale_of, words_of
from relearn.reports.wording_ja import words_ja

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from relearn.evaluation.config import EvidenceConfig
    from relearn.reports.comparison import Comparison
    from relearn.reports.decision import Decision

_WIDTH = 100  # columns of running text in a terminal

HEADINGS = {
    "method": "Method",
    "headline": "Headline metric",
    "baseline": "Baseline",
    "treated": "Treated",
    "difference": "Paired difference [interval]",
    "seeds": "Pairs",
    "cost": "Cost",
    "decision": "Decision",
}
"""Columns of the table of methods, with what stands above them."""


def method_entry(
    decision: Decision,
    evidence: EvidenceConfig,
    *,
    comparisons: Sequence[Comparison],
    costs: pd.DataFrame,
) -> dict[str, Any]:
    """Return everything the report says about one method, as plain data.

    Args:
        decision: As from ``decide``.
        evidence: What was said before the run.
        comparisons: As from ``compare_method``, headline first.
        costs: As from ``cost_table``.
    """
    row = decision.headline.as_row()
    named = (evidence.baseline_arm, evidence.treated_arm, evidence.sham_arm)
    return {
        "title": TITLES.get(decision.method, decision.method),
        "verdict": decision.verdict,
        "reasons": list(decision.reasons),
        "label": row["label"],
        "words": words_of(decision, evidence),
        "words_ja": words_ja(decision),
        "headline": f"{evidence.headline_task}.{evidence.headline_metric}",
        "baseline_arm": evidence.baseline_arm,
        "treated_arm": evidence.treated_arm,
        "sham_arm": evidence.sham_arm,
        **{key: row[key] for key in ("baseline_mean", "treated_mean", "difference", "low", "high")},
        "pairs": row["pairs"],
        "seeds": list(decision.headline.seeds),
        "cost_ratio": decision.cost_ratio,
        "train_seconds": {
            arm: cost_of(costs, arm=arm) for arm in (evidence.baseline_arm, evidence.treated_arm)
        },
        "more_seeds": decision.more_seeds,
        "shown": _shown(decision),
        "asked": evidence.model_dump(mode="json"),
        "asked_shown": _asked(evidence),
        "asked_digest": digest(evidence),
        "comparisons": [shown_comparison(c) for c in comparisons],
        "costs": json.loads(one_per_training(costs, named=named).to_json(orient="records")),
    }


def _asked(evidence: EvidenceConfig) -> list[tuple[str, str]]:
    """Return what was said before the run as rows of label and text, with units."""
    scale = scale_of(evidence.headline_metric)
    title = metric_title(evidence.headline_task, evidence.headline_metric)
    smallest = scale.difference(evidence.smallest_difference).lstrip("+")
    margin = scale.difference(evidence.equivalence_margin).lstrip("+")
    return [
        ("headline metric", f"{title}, {evidence.direction} is better"),
        ("baseline arm", arm_title(evidence.baseline_arm)),
        ("treated arm", arm_title(evidence.treated_arm)),
        ("sham arm", arm_title(evidence.sham_arm) or "none"),
        ("smallest difference that matters", smallest),
        ("called the same within", f"± {margin}"),
        ("interval", f"{100 * evidence.confidence:g} %, Student's t over pairs"),
        ("pairs needed for a claim", str(evidence.minimum_seeds)),
        ("largest training time", f"{evidence.largest_cost_ratio:g} times the baseline"),
    ]


def absent_entry(method: str) -> dict[str, Any]:
    """Return the entry of a method that has no records and no parameters yet."""
    shown = dict.fromkeys(HEADINGS, "-") | {"method": method, "decision": "not run"}
    return {
        "title": TITLES.get(method, method),
        "verdict": "not run",
        "reasons": [],
        "label": "not run",
        "words": "Not run. There are no records of this method.",
        "words_ja": f"{method}: 未実施。",
        "shown": shown,
        "comparisons": [],
        "costs": [],
    }


def _shown(decision: Decision) -> dict[str, str]:
    question, row = decision.headline.question, decision.headline.as_row()
    scale = scale_of(question.metric)
    measured = decision.headline.status == "measured" and not decision.gate
    pilot = " (pilot)" if measured and decision.headline.pilot else ""
    return {
        "method": decision.method,
        "headline": metric_title(question.task, question.metric),
        "baseline": scale.value(row["baseline_mean"]) if measured else "-",
        "treated": scale.value(row["treated_mean"]) if measured else "-",
        "difference": interval_text(decision.headline) if measured else "-",
        "seeds": str(row["pairs"]) if measured else "-",
        "cost": ratio_text(decision.cost_ratio) if measured else "-",
        "decision": f"{decision.verdict}{pilot}",
    }


def _chance(p_value: float) -> str:
    return "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"


def shown_comparison(comparison: Comparison) -> dict[str, str]:
    """Return one comparison as display strings for the report's table."""
    question, row = comparison.question, comparison.as_row()
    scale = scale_of(question.metric)
    holm = row["p_holm"]
    boot = comparison.bootstrap
    return {
        "name": question.name,
        "metric": metric_title(question.task, question.metric),
        "arms": f"{question.treated} minus {question.baseline}",
        "baseline": scale.value(row["baseline_mean"]),
        "treated": scale.value(row["treated_mean"]),
        "difference": interval_text(comparison) if not comparison.reason else comparison.reason,
        "bootstrap": f"[{scale.signed(boot[0])}, {scale.signed(boot[1])}]" if boot else "-",
        "p_holm": "-" if holm is None else _chance(holm),
        "same": "yes" if comparison.equivalent else "-",
        "pairs": str(row["pairs"]),
        "label": row["label"],
    }


def decision_document(
    entries: Mapping[str, Mapping[str, Any]], *, title: str, provenance: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what ``decision.json`` holds: one entry for each of the five methods, in their order.

    Args:
        entries: Method to entry; methods without one read "not run".
        title: Headline of the report.
        provenance: Commit, command, machine and digests.
    """
    methods = {method: dict(entries.get(method) or absent_entry(method)) for method in METHODS}
    return {"title": title, "methods": methods, "provenance": dict(provenance)}


def methods_of(decision: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries in the order of the five methods: a JSON file may have sorted them.

    Args:
        decision: As from ``decision_document``, or read again from ``decision.json``.
    """
    return {method: decision["methods"][method] for method in METHODS}


def short_table(decision: Mapping[str, Any]) -> str:
    """Return the table of methods as plain text, fit for a terminal of 120 columns.

    Args:
        decision: As from ``decision_document``.
    """
    columns = ("method", "baseline", "treated", "difference", "cost", "decision")
    heads = {**HEADINGS, "difference": "Difference [interval]"}
    rows = [[heads[column] for column in columns]]
    rows += [[entry["shown"][name] for name in columns] for entry in methods_of(decision).values()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def closing_words(decision: Mapping[str, Any]) -> str:
    """Return the sentences under the table: the decision of each method that was run."""
    run = {m: e for m, e in methods_of(decision).items() if e["verdict"] != "not run"}
    return "\n\n".join(
        textwrap.fill(f"{method}: {entry['words']}", _WIDTH) for method, entry in run.items()
    )


def closing_message(decision: Mapping[str, Any], *, report: Path | None = None) -> str:
    """Return what a run ends with: table, words, where the report lies, what to type next.

    Args:
        decision: As from ``decision_document``.
        report: Path of ``report.html``; None leaves the line out.
    """
    where = [f"Report:  {report}"] if report else []
    after = ["Next:    make ui (runs and live curves), make viz (the road of the data)"]
    return "\n".join([short_table(decision), "", closing_words(decision), "", *where, *after])


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table of a ``decision.json``; return the exit code.

    Args:
        arguments: Command line without the program; None reads ``sys.argv``.
    """
    parser = argparse.ArgumentParser(prog="python -m relearn.reports.summary", description=__doc__)
    parser.add_argument("decision", type=Path, help="path of decision.json")
    path = parser.parse_args(arguments).decision
    if not path.is_file():
        sys.stderr.write(f"{path}: not there; run `kedro run --pipeline compare` first\n")
        return 1
    decision = json.loads(path.read_text(encoding="utf-8"))
    sys.stdout.write(closing_message(decision, report=path.with_name("report.html")) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
