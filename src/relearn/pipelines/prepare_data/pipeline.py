"""source -> images -> splits -> stream, with a card that describes them."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from relearn.pipelines.prepare_data import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Return the pipeline; its datasets are those of the catalog, unprefixed."""
    return Pipeline(
        [
            Node(
                nodes.read_source,
                inputs="params:data",
                outputs=["raw_manifest", "images"],
                name="read_source",
            ),
            Node(
                nodes.split_source,
                inputs=["images", "params:data"],
                outputs=["splits", "duplicates"],
                name="split_source",
            ),
            Node(
                nodes.make_stream,
                inputs=["images", "splits", "params:data"],
                outputs="stream",
                name="make_stream",
            ),
            Node(
                nodes.describe_data,
                inputs={
                    "raw_manifest": "raw_manifest",
                    "images": "images",
                    "duplicates": "duplicates",
                    "stream": "stream",
                    "data": "params:data",
                },
                outputs=["data_card", "sample_grid"],
                name="describe_data",
            ),
        ],
        namespace="prepare_data",
        prefix_datasets_with_namespace=False,
    )
