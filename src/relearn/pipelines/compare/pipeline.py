"""records of five methods, costs of those that exist -> comparison -> decision -> report.

A method that was not run has an empty table and reads "not run". What a method leaves besides its
records (diagnostics, recommendation, ledger check) is optional too.
"""

from __future__ import annotations

import warnings

from kedro.pipeline import Node, Pipeline

from relearn.pipelines.compare.nodes import compare_records, draw_comparison, write_report
from relearn.reports.config import METHODS

CONFIGURED = {m: f"params:{m}" for m in METHODS}
"""Method to its parameters, which hold its evidence."""

LEFT_BESIDE = ("interventions", "ledger_check", "recommendation", "diagnostics")


def create_pipeline() -> Pipeline:
    """Return the wires of the comparison."""
    with warnings.catch_warnings():
        # Entries such as zap.records belong to the namespaces of the methods: meant, not a slip.
        warnings.filterwarnings("ignore", message="One or more dataset names contain")
        return _wires()


def _wires() -> Pipeline:
    records = {f"{m}_records": f"{m}.records" for m in METHODS}
    costs = {f"{m}_costs": f"{m}.costs" for m in CONFIGURED}
    beside = {f"{m}_{name}": f"{m}.{name}" for m in CONFIGURED for name in LEFT_BESIDE}
    asked = {"compare": "params:compare", **CONFIGURED}
    told = {f"{m}_recommendation": f"{m}.recommendation" for m in CONFIGURED}
    gates = {f"{m}_diagnostics": f"{m}.diagnostics" for m in CONFIGURED}
    nodes = [
        Node(
            compare_records,
            inputs={**asked, **records, **costs, **told, **gates},
            outputs=["comparison", "decision"],
            name="compare_records",
        ),
        Node(
            draw_comparison,
            inputs={**asked, **records, **costs, **told},
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
                **records,
                **beside,
            },
            outputs="report",
            name="write_report",
        ),
    ]
    inputs = {*records.values(), *costs.values(), *beside.values(), "data_card"}
    outputs = {"comparison", "decision", "difference_figure", "cost_figure", "report"}
    return Pipeline(
        nodes,
        namespace="compare",
        inputs=inputs,
        outputs=outputs,
        parameters={*asked.values(), "params:storage"},
        prefix_datasets_with_namespace=False,
    )
