"""Wires of the pipeline ``forget_relearn_search``."""

from __future__ import annotations

from kedro.pipeline import Pipeline, node

from relearn.pipelines.forget_relearn_search import nodes

_ROOT = {name: name for name in ("base", "stream")}
_KNOBS = {name: f"params:{name}" for name in ("forget_relearn", "forget_relearn_search")}
_PLACE = {name: f"params:{name}" for name in ("seeds", "execution", "storage")}
_PRESENT = {name: f"params:{name}" for name in ("pretrain", "data", "seeds")}


def create_pipeline() -> Pipeline:
    """Return the pipeline ``forget_relearn_search``: which setting of forgetting to propose."""
    return Pipeline(
        [
            node(
                nodes.check_choices,
                inputs={**_ROOT, **_KNOBS, **_PRESENT},
                outputs="choices",
                name="check_choices",
            ),
            node(
                nodes.try_settings,
                inputs={**_ROOT, **_KNOBS, **_PLACE, "choices": "choices"},
                outputs="trials",
                name="try_settings",
            ),
            node(
                nodes.propose_setting,
                inputs={**_KNOBS, "trials": "trials"},
                outputs="proposal",
                name="propose_setting",
            ),
            node(nodes.draw_scores, inputs="trials", outputs="scores_figure", name="draw_scores"),
        ],
        namespace="forget_relearn_search",
        inputs=set(_ROOT),
        parameters={*_KNOBS.values(), *_PLACE.values(), *_PRESENT.values()},
    )
