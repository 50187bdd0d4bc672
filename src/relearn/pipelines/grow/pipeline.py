"""Wires of growing.

base, stream -> train_teachers -> check_headroom -> plan_growth -> verify_growth
             -> choose_settings -> train_arms -> collect_results
             -> check_ledger, diagnose -> recommend -> draw_figures
"""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline, node

from relearn.pipelines.grow import nodes, reading

_METHOD = {"grow": "params:grow"}
_ROOT = {"base": "base", "stream": "stream", **_METHOD}
_PRESENT = {name: f"params:{name}" for name in ("pretrain", "data")}
_MACHINE = {name: f"params:{name}" for name in ("seeds", "execution", "storage")}
_RUN = {**_ROOT, **_MACHINE}


def create_pipeline() -> Pipeline:
    """Return the pipeline ``grow``: grow a teacher behind a gate, and train every arm on."""
    return Pipeline(
        [*_before(), *_training(), *_reading()],
        namespace="grow",
        inputs={"base", "stream"},
        parameters={*_METHOD.values(), *_PRESENT.values(), *_MACHINE.values()},
    )


def _before() -> list[Node]:
    """Return the nodes up to the gate: nothing larger than a teacher is trained in them."""
    teachers = {"stream": "stream", "teachers": "teachers", **_METHOD}
    return [
        node(
            nodes.train_teachers,
            inputs={**_RUN, **_PRESENT},
            outputs="teachers",
            name="train_teachers",
        ),
        node(
            nodes.check_headroom,
            inputs={**teachers, "execution": "params:execution"},
            outputs="headroom",
            name="check_headroom",
        ),
        node(
            nodes.plan_growth,
            inputs={**teachers, "headroom": "headroom"},
            outputs=["plan", "forecast"],
            name="plan_growth",
        ),
        node(
            nodes.verify_growth,
            inputs={**teachers, "forecast": "forecast"},
            outputs="verification",
            name="verify_growth",
        ),
    ]


def _training() -> list[Node]:
    """Return the nodes that choose settings and train, down to the tables."""
    return [
        node(
            nodes.choose_settings,
            inputs={**_RUN, "verification": "verification"},
            outputs="selection",
            name="choose_settings",
        ),
        node(
            nodes.train_arms,
            inputs={**_RUN, "teachers": "teachers", "selection": "selection"},
            outputs="units",
            name="train_arms",
        ),
        node(
            reading.collect_results,
            inputs=["units", "params:grow"],
            outputs=["records", "costs", "interventions", "predictions"],
            name="collect_results",
        ),
    ]


def _reading() -> list[Node]:
    """Return the nodes that check, explain, recommend and draw what the tables hold."""
    return [
        node(
            reading.check_ledger,
            inputs=["units", "teachers"],
            outputs="ledger_check",
            name="check_ledger",
        ),
        node(
            reading.diagnose,
            inputs={
                **{name: name for name in ("records", "costs", "selection", "headroom")},
                **_METHOD,
            },
            outputs="diagnostics",
            name="diagnose",
        ),
        node(
            reading.recommend,
            inputs=["records", "costs", "diagnostics", "params:grow"],
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
