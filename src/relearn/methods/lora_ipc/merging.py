"""Leaving the modules behind: a plain net with everything in its weights, or the net as it came."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn

from relearn.methods.lora_ipc.attachment import plain_linear
from relearn.methods.lora_ipc.lora import AdaptedLinear

if TYPE_CHECKING:
    from relearn.methods.lora_ipc.adapters import Adapters


@torch.no_grad()
def merge(adapters: Adapters, task: int | None = None) -> nn.Module:
    """Return a plain net of its own that computes bit for bit what the model does after a task.

    One merged net is one snapshot: it answers as without task-id inference.

    Args:
        adapters: The modules; they and their net stay as they are.
        task: Number of a finished task; None is the last.

    Raises:
        TrainingError: A task has begun and not ended.
        ParameterError: The task has not been learnt.
    """
    before = adapters.layers[0].snapshot
    adapters.use(adapters.tasks - 1 if task is None else task)
    try:
        net = copy.deepcopy(adapters.model)
    finally:
        adapters.use(before.task, without=before.without)
    for name, module in list(net.named_modules()):
        if isinstance(module, AdaptedLinear):
            weight = module.composed_at(module.snapshot)
            net.set_submodule(name, plain_linear(module, weight, share=False))
    return net.requires_grad_(True)


def detach(adapters: Adapters) -> nn.Module:
    """Return the net as it came: its own linear layers and its own last layer.

    Args:
        adapters: The modules; they cannot be used any more.
    """
    adapters.abandon_task()
    adapters.set_head(adapters.first_head)
    for name, module in list(adapters.model.named_modules()):
        if isinstance(module, AdaptedLinear):
            own = plain_linear(module, module.base_weight, share=True)
            adapters.model.set_submodule(name, own)
    return adapters.model.requires_grad_(True)
