"""records of five methods, costs of those that exist -> comparison -> decision -> report.

A method that was not run has an empty table and reads "not run". What a method leaves besides its
records (diagnostics, recommendation, ledger check) is optional too.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from kedro.pipeline import Node, Pipeline

from relearn.pipelines.compare.nodes import compare_records, draw_comparison, write_report
from relearn.reports.config import METHODS

CONFIGURED = {m: f"params:{m}" for m in METHODS}
"""Method to its parameters, which hold its evidence."""

KEPT = "results_so_far"
"""What all methods left before, as one entry."""

LEFT_BESIDE = ("interventions", "ledger_check", "recommendation", "diagnostics")


def create_pipeline(*methods: str) -> Pipeline:
    """Return the wires of the comparison.

    Args:
        methods: Those whose results are entries of their own, such as the one of a road; what
            the others left before is then read as one, ``results_so_far``. None = all methods.
    """
    with warnings.catch_warnings():
        # Entries such as zap.records belong to the namespaces of the methods: meant, not a slip.
        warnings.filterwarnings("ignore", message="One or more dataset names contain")
        return _wires(methods or METHODS, {} if not methods else {KEPT: KEPT})


def _wires(methods: Sequence[str], kept: dict[str, str]) -> Pipeline:
    records = {f"{m}_records": f"{m}.records" for m in methods}
    costs = {f"{m}_costs": f"{m}.costs" for m in methods}
    beside = {f"{m}_{name}": f"{m}.{name}" for m in methods for name in LEFT_BESIDE}
    asked = {"compare": "params:compare", **CONFIGURED}
    told = {f"{m}_recommendation": f"{m}.recommendation" for m in methods}
    gates = {f"{m}_diagnostics": f"{m}.diagnostics" for m in methods}
    nodes = [
        Node(
            compare_records,
            inputs={**asked, **kept, **records, **costs, **told, **gates},
            outputs=["comparison", "decision"],
            name="compare_records",
        ),
        Node(
            draw_comparison,
            inputs={**asked, **kept, **records, **costs, **told},
            outputs=["difference_figure", "cost_figure"],
            name="draw_comparison",
        ),
        Node(
            write_report,
            inputs={
                "compare": "params:compare",
                "storage": "params:storage",
                "decision": "decision",
                "data_card": "data_card",
                "difference_figure": "difference_figure",
                "cost_figure": "cost_figure",
                **kept,
                **records,
                **beside,
            },
            outputs="report",
            name="write_report",
        ),
    ]
    inputs = {*kept, *records.values(), *costs.values(), *beside.values(), "data_card"}
    outputs = {"comparison", "decision", "difference_figure", "cost_figure", "report"}
    return Pipeline(
        nodes,
        namespace="compare",
        inputs=inputs,
        outputs=outputs,
        parameters={*asked.values(), "params:storage"},
        prefix_datasets_with_namespace=False,
    )
