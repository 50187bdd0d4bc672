"""Wires of zapping.

base, stream -> choose_settings -> train_arms -> confirm_winner -> collect_results
             -> check_ledger, diagnose, draw_figures, recommend
"""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline, node

from relearn.pipelines.zap import nodes

_PARAMETERS = {
    f"params:{name}" for name in ("zap", "pretrain", "data", "seeds", "execution", "storage")
}


_RUN = {
    "base": "base",
    "stream": "stream",
    "zap": "params:zap",
    "seeds": "params:seeds",
    "execution": "params:execution",
    "storage": "params:storage",
}


def create_pipeline() -> Pipeline:
    """Return the pipeline ``zap``: pre-train with and without resets, and judge the transfer."""
    return Pipeline(
        [*_training(), *_reading()],
        namespace="zap",
        inputs={"base", "stream"},
        parameters=_PARAMETERS,
    )


def _training() -> list[Node]:
    """Return the nodes that choose settings and train, down to the tables."""
    return [
        node(
            nodes.choose_settings,
            inputs={**_RUN, "pretrain": "params:pretrain", "data": "params:data"},
            outputs="selection",
            name="choose_settings",
        ),
        node(
            nodes.train_arms,
            inputs={**_RUN, "selection": "selection"},
            outputs="units",
            name="train_arms",
        ),
        node(
            nodes.confirm_winner,
            inputs={**_RUN, "selection": "selection", "units": "units"},
            outputs="confirmed_units",
            name="confirm_winner",
        ),
        node(
            nodes.collect_results,
            inputs=["units", "confirmed_units", "params:zap"],
            outputs=["records", "costs", "interventions", "predictions", "exploration"],
            name="collect_results",
        ),
    ]


def _reading() -> list[Node]:
    """Return the nodes that check, explain, recommend and draw what the tables hold."""
    return [
        node(
            nodes.check_ledger,
            inputs=["units", "confirmed_units"],
            outputs="ledger_check",
            name="check_ledger",
        ),
        node(
            nodes.diagnose,
            inputs=["records", "selection", "params:zap"],
            outputs="diagnostics",
            name="diagnose",
        ),
        node(
            nodes.recommend,
            inputs=["records", "costs", "exploration", "params:zap"],
            outputs="recommendation",
            name="recommend",
        ),
        node(
            nodes.draw_figures,
            inputs=["records", "interventions", "exploration", "params:zap"],
            outputs="overview_figure",
            name="draw_figures",
        ),
    ]
