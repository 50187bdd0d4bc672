"""Wires of operating a model of lora_ipc.

base, stream, lora_ipc.units -> act -> lora_ipc_operate.checkpoint, .report, .interventions
"""

from __future__ import annotations

import warnings

from kedro.pipeline import Pipeline, node

from relearn.pipelines.lora_ipc_operate import nodes

_TOLD = ("lora_ipc", "lora_ipc_operate", "data", "execution", "storage")


def create_pipeline() -> Pipeline:
    """Return the pipeline ``lora_ipc_operate``: one action on one model."""
    with warnings.catch_warnings():
        # The entry lora_ipc.units belongs to the namespace of a method: meant, not a slip.
        warnings.filterwarnings("ignore", message="One or more dataset names contain")
        return Pipeline(
            [
                node(
                    nodes.act,
                    inputs={
                        "base": "base",
                        "stream": "stream",
                        "units": "lora_ipc.units",
                        **{name: f"params:{name}" for name in _TOLD},
                    },
                    outputs=["checkpoint", "report", "interventions"],
                    name="act",
                ),
            ],
            namespace="lora_ipc_operate",
            inputs={"base", "stream", "lora_ipc.units"},
            parameters={f"params:{name}" for name in _TOLD},
        )
