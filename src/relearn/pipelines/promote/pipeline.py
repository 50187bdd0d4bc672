"""decision + units of the methods -> guard -> export -> registry, with an audit row."""

from __future__ import annotations

import warnings

from kedro.pipeline import Node, Pipeline

from relearn.pipelines.promote.nodes import roll_out

METHODS = ("zap", "forget_relearn", "grow", "lora_ipc", "last_layer_probe")
"""Methods whose units can be rolled out: one word per method that exists."""


def create_pipeline() -> Pipeline:
    """Return the wires of the roll-out."""
    units = {f"{method}_units": f"{method}.units" for method in METHODS}
    with warnings.catch_warnings():
        # Entries such as zap.units belong to the namespaces of the methods: meant, not a slip.
        warnings.filterwarnings("ignore", message="One or more dataset names contain")
        return Pipeline(
            [
                Node(
                    roll_out,
                    inputs={"promote": "params:promote", "decision": "decision", **units},
                    outputs="promotion",
                    name="roll_out",
                )
            ]
        )
