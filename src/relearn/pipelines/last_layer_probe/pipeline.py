"""Wires of the probe.

base, stream -> look_first -> choose_settings -> run_arms -> collect_results
             -> check_ledger, recommend -> recheck_bodies, check_controls, diagnose -> draw_figures
"""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline, node

from relearn.pipelines.last_layer_probe import nodes, reading

_METHOD = {"last_layer_probe": "params:last_layer_probe"}
_ROOT = {"base": "base", "stream": "stream", **_METHOD}
_PRESENT = {name: f"params:{name}" for name in ("pretrain", "data")}
_MACHINE = {name: f"params:{name}" for name in ("seeds", "execution", "storage")}
_RUN = {**_ROOT, **_MACHINE}


def create_pipeline() -> Pipeline:
    """Return the pipeline ``last_layer_probe``: climb the ladder, judge, recommend."""
    return Pipeline(
        [*_running(), *_judging(), *_telling()],
        namespace="last_layer_probe",
        inputs={"base", "stream"},
        parameters={*_METHOD.values(), *_PRESENT.values(), *_MACHINE.values()},
    )


def _running() -> list[Node]:
    """Return the nodes that compute, down to the tables."""
    return [
        node(
            nodes.look_first,
            inputs={**_ROOT, **_PRESENT, "seeds": "params:seeds"},
            outputs="before",
            name="look_first",
        ),
        node(
            nodes.choose_settings,
            inputs={**_RUN, "before": "before"},
            outputs="selection",
            name="choose_settings",
        ),
        node(
            nodes.run_arms,
            inputs={**_RUN, "selection": "selection"},
            outputs="units",
            name="run_arms",
        ),
        node(
            reading.collect_results,
            inputs=["units", "selection", "params:last_layer_probe"],
            outputs=["records", "costs", "interventions", "predictions"],
            name="collect_results",
        ),
    ]


def _judging() -> list[Node]:
    """Return the nodes that check, judge and recommend from what the tables hold."""
    tables = {name: name for name in ("records", "costs", "predictions")}
    return [
        node(
            reading.check_ledger,
            inputs=["units", "base"],
            outputs="ledger_check",
            name="check_ledger",
        ),
        node(
            reading.recommend,
            inputs={**tables, "before": "before", **_METHOD},
            outputs="recommendation",
            name="recommend",
        ),
        node(
            reading.recheck_bodies,
            inputs={
                "units": "units",
                "records": "records",
                "stream": "stream",
                **_METHOD,
                "storage": "params:storage",
            },
            outputs="recheck",
            name="recheck_bodies",
        ),
    ]


def _telling() -> list[Node]:
    """Return the nodes that explain and draw, and the one that may fail the run at its end."""
    return [
        node(
            reading.diagnose,
            inputs={
                "records": "records",
                "selection": "selection",
                "recommendation": "recommendation",
                "recheck": "recheck",
                "before": "before",
                **_METHOD,
            },
            outputs="diagnostics",
            name="diagnose",
        ),
        node(
            reading.draw_figures,
            inputs=["records", "recommendation", "before", "params:last_layer_probe"],
            outputs="overview_figure",
            name="draw_figures",
        ),
        node(
            reading.check_controls,
            inputs=["recommendation", "overview_figure", "params:last_layer_probe"],
            outputs="controls",
            name="check_controls",
        ),
    ]
