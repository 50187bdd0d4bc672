"""Wires of the pipeline ``grow_explore``."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node

from relearn.pipelines.grow_explore import nodes

_ROOT = {name: name for name in ("base", "stream")}
_BLOCKS = ("grow", "grow_explore", "pretrain", "data", "seeds", "execution", "storage")
_KNOBS = {name: f"params:{name}" for name in _BLOCKS}


def create_pipeline() -> Pipeline:
    """Return the pipeline ``grow_explore``: which larger net is worth having."""
    return Pipeline(
        [
            node(
                nodes.search_designs,
                inputs={**_ROOT, **_KNOBS},
                outputs="table",
                name="search_designs",
            ),
            node(
                nodes.draw_front,
                inputs=["table"],
                outputs="figure",
                name="draw_front",
            ),
        ],
        namespace="grow_explore",
        inputs=set(_ROOT),
        parameters=set(_KNOBS.values()),
    )
