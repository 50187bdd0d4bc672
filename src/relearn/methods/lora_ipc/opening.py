"""What a training begins with: the backbone, the last layer of the stream, and what is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.data.randomness import generator_of
from relearn.methods.lora_ipc.arms import FULL, TASKWISE
from relearn.methods.lora_ipc.attachment import Settings
from relearn.methods.lora_ipc.bodies import FullBody, SharedBody, TaskwiseBody
from relearn.models.checkpoint import build
from relearn.models.heads import find_head, replace_head

if TYPE_CHECKING:
    from relearn.methods.lora_ipc.arms import Training
    from relearn.methods.lora_ipc.bodies import Body
    from relearn.methods.lora_ipc.config import LoraIpcConfig
    from relearn.methods.lora_ipc.samples import TaskStream
    from relearn.models.checkpoint import Checkpoint
    from relearn.training.device import Device


def open_body(
    base: Checkpoint,
    tasks: TaskStream,
    config: LoraIpcConfig,
    training: Training,
    *,
    seed: int,
    device: Device,
) -> Body:
    """Return what is trained, before its first task; it still computes the backbone's features.

    Args:
        base: The backbone; it keeps every bit.
        tasks: Says how many outputs and planned tasks there are.
        config: Knobs.
        training: What is trained, and how.
        seed: Seed of the pair: the fresh last layer is the same for all its trainings.
        device: Where to train.

    Raises:
        ParameterError: The backbone has no attention, or rank and tasks do not fit.
    """
    net = build(base)
    draw = generator_of(seed, "lora_ipc.last_layer")
    replace_head(net, tasks.outputs, initialisation="torch_default", generator=draw)
    net = device.place(net)
    knobs = config.lora
    if training.body == FULL:
        return FullBody(net, find_head(net).name, knobs.names)
    taskwise = training.body == TASKWISE
    apart = (training.orthogonality or config.orthogonality.mode) != "off"
    settings = Settings(
        kinds=knobs.names,
        rank=knobs.rank if taskwise else config.rivals.shared_rank,
        alpha=knobs.alpha,
        planned_tasks=tasks.planned if taskwise else 1,
        omega=config.omega.enabled and training.omega,
        initialisation=knobs.initialisation if apart else _alone(knobs.initialisation),
        k_uses_q_mask=knobs.k_uses_q_mask,
    )
    if taskwise:
        return TaskwiseBody(net, settings)
    return SharedBody(net, settings, outputs=range(tasks.outputs), seed=seed)


def _alone(initialisation: str) -> str:
    """Return how A begins where nothing keeps modules apart; an ablation must not begin apart."""
    return "orthonormal" if initialisation == "orthonormal_apart" else initialisation
