"""stream -> pretrain_base -> draw_curve."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from relearn.pipelines.pretrain import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Return the pipeline; its datasets are those of the catalog, unprefixed."""
    blocks = ("pretrain", "data", "execution", "seeds", "storage")
    return Pipeline(
        [
            Node(
                nodes.pretrain_base,
                inputs={"stream": "stream", **{name: f"params:{name}" for name in blocks}},
                outputs=["base", "pretrain_records"],
                name="pretrain_base",
            ),
            Node(
                nodes.draw_curve,
                inputs="pretrain_records",
                outputs="pretrain_figure",
                name="draw_curve",
            ),
        ],
        namespace="pretrain",
        prefix_datasets_with_namespace=False,
        parameters={f"params:{name}" for name in blocks},
    )
