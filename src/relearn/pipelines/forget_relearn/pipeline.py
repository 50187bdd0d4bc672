"""Wires of forgetting and relearning.

base, stream -> estimate_cost -> choose_settings -> train_models -> judge_arms -> confirm_winner
             -> collect_results -> check_ledger, diagnose -> recommend; draw_figures
"""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline, node

from relearn.pipelines.forget_relearn import nodes, reading

_METHOD = {"forget_relearn": "params:forget_relearn"}
_ROOT = {"base": "base", "stream": "stream", **_METHOD}
_PRESENT = {name: f"params:{name}" for name in ("pretrain", "data", "compare")}
_MACHINE = {name: f"params:{name}" for name in ("seeds", "execution")}
_RUN = {**_ROOT, **_MACHINE, "storage": "params:storage"}


def create_pipeline() -> Pipeline:
    """Return the pipeline ``forget_relearn``: adversarial training with and without forgetting."""
    return Pipeline(
        [*_training(), *_judging(), *_reading(), *_drawing()],
        namespace="forget_relearn",
        inputs={"base", "stream"},
        parameters={*_METHOD.values(), *_PRESENT.values(), *_MACHINE.values(), "params:storage"},
    )


def _training() -> list[Node]:
    """Return the nodes that say what it takes, choose settings and train."""
    return [
        node(
            nodes.estimate_cost,
            inputs={**_ROOT, **_PRESENT, **_MACHINE},
            outputs="forecast",
            name="estimate_cost",
        ),
        node(
            nodes.choose_settings,
            inputs={**_RUN, "forecast": "forecast"},
            outputs="selection",
            name="choose_settings",
        ),
        node(
            nodes.train_models,
            inputs={**_RUN, "selection": "selection"},
            outputs="trained_units",
            name="train_models",
        ),
    ]


def _judging() -> list[Node]:
    """Return the nodes that judge the arms, confirm a study's winner, and make the tables."""
    return [
        node(
            nodes.judge_arms,
            inputs={**_RUN, "selection": "selection", "trained_units": "trained_units"},
            outputs="units",
            name="judge_arms",
        ),
        node(
            nodes.confirm_winner,
            inputs={**_RUN, "selection": "selection", "units": "units"},
            outputs="confirmed_units",
            name="confirm_winner",
        ),
        node(
            reading.collect_results,
            inputs=["units", "confirmed_units", "params:forget_relearn"],
            outputs=["records", "costs", "interventions", "predictions", "exploration"],
            name="collect_results",
        ),
    ]


def _reading() -> list[Node]:
    """Return the nodes that check, explain and recommend from what the tables hold."""
    return [
        node(
            reading.check_ledger,
            inputs=["units", "confirmed_units"],
            outputs="ledger_check",
            name="check_ledger",
        ),
        node(
            reading.diagnose,
            inputs={
                **{name: name for name in ("records", "costs", "selection", "forecast")},
                **_METHOD,
            },
            outputs="diagnostics",
            name="diagnose",
        ),
        node(
            reading.recommend,
            inputs={
                **{name: name for name in ("records", "costs", "exploration", "diagnostics")},
                **_METHOD,
            },
            outputs="recommendation",
            name="recommend",
        ),
    ]


def _drawing() -> list[Node]:
    """Return the nodes that draw."""
    return [
        node(
            reading.draw_figures,
            inputs=["records", "interventions", "exploration", "params:forget_relearn"],
            outputs="overview_figure",
            name="draw_figures",
        ),
        node(
            reading.draw_before_after,
            inputs=["units", "confirmed_units", "params:forget_relearn"],
            outputs=["before_after_figure", "changed_samples"],
            name="draw_before_after",
        ),
    ]
