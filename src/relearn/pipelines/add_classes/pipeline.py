"""Wires of adding classes.

base, zap.units -> read_new_classes -> extend_checkpoint -> accept_checkpoint -> added_checkpoint
                                       (with the stream)    (or one line that says why not)
"""

from __future__ import annotations

import warnings

from kedro.pipeline import Pipeline, node

from relearn.pipelines.add_classes import nodes

_PARAMETERS = {"params:add_classes", "params:data", "params:execution"}


def create_pipeline() -> Pipeline:
    """Return the pipeline ``add_classes``: extend a checkpoint and check what it forgot."""
    with warnings.catch_warnings():
        # The entry zap.units belongs to the namespace of a method: meant, not a slip.
        warnings.filterwarnings("ignore", message="One or more dataset names contain")
        return Pipeline(
            [
                node(
                    nodes.read_new_classes,
                    inputs={
                        "base": "base",
                        "units": "zap.units",
                        "add_classes": "params:add_classes",
                        "data": "params:data",
                    },
                    outputs=["add_classes_start", "add_classes_images"],
                    name="read_new_classes",
                ),
                node(
                    nodes.extend_checkpoint,
                    inputs={
                        "start": "add_classes_start",
                        "images": "add_classes_images",
                        "stream": "stream",
                        "add_classes": "params:add_classes",
                        "data": "params:data",
                        "execution": "params:execution",
                    },
                    outputs=[
                        "add_classes_candidate",
                        "add_classes_report",
                        "add_classes_records",
                        "add_classes_interventions",
                    ],
                    name="extend_checkpoint",
                ),
                node(
                    nodes.accept_checkpoint,
                    inputs=["add_classes_candidate", "add_classes_report"],
                    outputs="added_checkpoint",
                    name="accept_checkpoint",
                ),
            ],
            namespace="add_classes",
            prefix_datasets_with_namespace=False,
            parameters=_PARAMETERS,
        )
