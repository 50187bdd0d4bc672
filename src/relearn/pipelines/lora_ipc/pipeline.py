"""Wires of learning tasks one after the other with low-rank modules.

base, stream -> check_base -> choose_settings -> train_models -> collect_results
             -> check_ledger, diagnose -> recommend -> draw_figures
"""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline, node

from relearn.pipelines.lora_ipc import nodes, reading

_METHOD = {"lora_ipc": "params:lora_ipc"}
_ROOT = {"base": "base", "stream": "stream", **_METHOD}
_PRESENT = {name: f"params:{name}" for name in ("pretrain", "data")}
_MACHINE = {name: f"params:{name}" for name in ("seeds", "execution", "storage")}
_RUN = {**_ROOT, **_MACHINE}


def create_pipeline() -> Pipeline:
    """Return the pipeline ``lora_ipc``: tasks in many orders, with and without frozen matrices."""
    return Pipeline(
        [*_training(), *_reading()],
        namespace="lora_ipc",
        inputs={"base", "stream"},
        parameters={*_METHOD.values(), *_PRESENT.values(), *_MACHINE.values()},
    )


def _training() -> list[Node]:
    """Return the nodes that ask about the backbone, choose settings and train."""
    return [
        node(
            nodes.check_base,
            inputs={**_ROOT, **_PRESENT, "execution": "params:execution"},
            outputs="base_check",
            name="check_base",
        ),
        node(
            nodes.choose_settings,
            inputs={**_RUN, "base_check": "base_check"},
            outputs="selection",
            name="choose_settings",
        ),
        node(
            nodes.train_models,
            inputs={**_RUN, "selection": "selection"},
            outputs="units",
            name="train_models",
        ),
        node(
            reading.collect_results,
            inputs=["units", "params:lora_ipc"],
            outputs=["records", "costs", "interventions", "predictions", "orders"],
            name="collect_results",
        ),
    ]


def _reading() -> list[Node]:
    """Return the nodes that check, explain, recommend and draw what the tables hold."""
    return [
        node(
            reading.check_ledger,
            inputs=["base", "units"],
            outputs="ledger_check",
            name="check_ledger",
        ),
        node(
            reading.diagnose,
            inputs={
                "records": "records",
                "costs": "costs",
                "interventions": "interventions",
                "selection": "selection",
                "base_check": "base_check",
                "lora_ipc": "params:lora_ipc",
            },
            outputs="diagnostics",
            name="diagnose",
        ),
        node(
            reading.recommend,
            inputs=["records", "costs", "diagnostics", "params:lora_ipc"],
            outputs="recommendation",
            name="recommend",
        ),
        node(
            reading.draw_figures,
            inputs=["records", "recommendation"],
            outputs="overview_figure",
            name="draw_figures",
        ),
    ]
