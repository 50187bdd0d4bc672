"""What is asked before any task is learnt: can this backbone carry a claim?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relearn.data.images import Stream
    from relearn.methods.lora_ipc.config import LoraIpcConfig
    from relearn.models.checkpoint import Checkpoint
    from relearn.training.config import ExecutionConfig


def strength_of(
    base: Checkpoint,
    stream: Stream,
    config: LoraIpcConfig,
    *,
    execution: ExecutionConfig,
) -> dict[str, Any]:
    """Return how the backbone's features compare with raw pixels on classes it has never seen.

    Args:
        base: The backbone.
        stream: Frozen data.
        config: Margin, and whether a weak backbone stops the run.
        execution: Device.

    Raises:
        ParameterError: The backbone has no attention.
        EvidenceError: It is too weak, and ``gate.refuse`` holds.
    """
    from relearn.methods.lora_ipc.base_gate import base_strength
    from relearn.training.device import device_of

    device = device_of(execution, base.architecture)
    return base_strength(base, stream, config, device=device).to_plain()
