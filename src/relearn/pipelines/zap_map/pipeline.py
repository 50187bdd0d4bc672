"""Wires of the pipeline ``zap_map``."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node

from relearn.pipelines.zap_map import nodes

_ROOT = {name: name for name in ("base", "stream")}
_KNOBS = {name: f"params:{name}" for name in ("zap", "zap_map")}
_PLACE = {name: f"params:{name}" for name in ("execution", "storage")}
_PRESENT = {name: f"params:{name}" for name in ("pretrain", "data", "seeds")}


def create_pipeline() -> Pipeline:
    """Return the pipeline ``zap_map``: where zapping pays, over the size and kind of data."""
    return Pipeline(
        [
            node(
                nodes.plan_conditions,
                inputs={**_ROOT, **_KNOBS, **_PRESENT},
                outputs="plan",
                name="plan_conditions",
            ),
            node(
                nodes.choose_shifts,
                inputs={**_ROOT, **_KNOBS, **_PLACE, "plan": "plan"},
                outputs="selection",
                name="choose_shifts",
            ),
            node(
                nodes.train_conditions,
                inputs={**_ROOT, **_KNOBS, **_PLACE, "plan": "plan", "selection": "selection"},
                outputs="units",
                name="train_conditions",
            ),
            node(
                nodes.collect_records,
                inputs=["units", "params:zap", "params:zap_map"],
                outputs="records",
                name="collect_records",
            ),
            node(
                nodes.tabulate,
                inputs=["units", "records", "params:zap"],
                outputs="table",
                name="tabulate",
            ),
            node(
                nodes.diagnose,
                inputs=["records", "table", "params:zap"],
                outputs="diagnostics",
                name="diagnose",
            ),
            node(
                nodes.draw_figure,
                inputs=["table", "params:zap"],
                outputs="figure",
                name="draw_figure",
            ),
        ],
        namespace="zap_map",
        inputs=set(_ROOT),
        parameters={*_KNOBS.values(), *_PLACE.values(), *_PRESENT.values()},
    )
