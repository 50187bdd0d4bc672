"""The net as it leaves the house: pixels in, class probabilities out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.errors import CheckpointError
from relearn.methods.lora_ipc.arm_result import LAST_NET
from relearn.models.inference import ClassProbabilities
from relearn.models.inference import inference_module as plain_module

if TYPE_CHECKING:
    from torch import nn

    from relearn.models.checkpoint import Checkpoint


def inference_module(checkpoint: Checkpoint) -> nn.Module:
    """Return the net of a checkpoint with its normalisation inside, in evaluation mode.

    The modules of all tasks are in its weights, so that it costs what the backbone costs.

    Args:
        checkpoint: Of an arm that answers with one net; its provenance names the classes learnt.

    Returns:
        A module from uint8 images (batch, channels, height, width) to probabilities
        (batch, classes), in the order in which the classes arrived.

    Raises:
        CheckpointError: The arm answers with more than this net, such as one that infers tasks, or
            the weights do not fit the architecture.
    """
    answers = checkpoint.provenance.get("answers", LAST_NET)
    if answers != LAST_NET:
        raise CheckpointError(
            f"lora_ipc: arm {checkpoint.provenance.get('arm')!r} answers with its {answers}, and "
            "this net alone would answer otherwise than was measured; roll out the arm without "
            "task inference, such as lorac_ipc"
        )
    return plain_module(checkpoint)


__all__ = ["ClassProbabilities", "inference_module"]
