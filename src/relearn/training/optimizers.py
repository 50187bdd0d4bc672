"""Optimizers in their fastest form, and learning-rate schedules by optimizer step."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.lr_scheduler import LambdaLR

from relearn.errors import ParameterError, one_of
from relearn.uncompiled import is_compiler_loaded, spare_compiler

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

_FUSED_ON = ("cpu", "cuda")
_NOT_COMPILED = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
"""Methods of every optimizer that torch keeps out of compiled code."""


def make_optimizer(
    params: Iterable[Tensor],
    *,
    name: str,
    learning_rate: float,
    weight_decay: float,
    momentum: float,
) -> Optimizer:
    """Return an optimizer; its step is one fused kernel where torch has it.

    Args:
        params: What is trained.
        name: ``adam``, ``adamw`` or ``sgd``.
        learning_rate: Highest rate.
        weight_decay: L2 penalty (adam, sgd) or decoupled decay (adamw).
        momentum: Of sgd only.

    Raises:
        ParameterError: The optimizer is not known, or there is nothing to train.
    """
    trained = [p for p in params if p.requires_grad]
    if not trained:
        raise ParameterError("train.optimizer: the net has no weights that can be trained")
    settings: dict[str, Any] = {"lr": learning_rate, "weight_decay": weight_decay}
    settings["fused"] = all(p.is_floating_point() and p.device.type in _FUSED_ON for p in trained)
    makers: dict[str, Callable[..., Optimizer]] = {
        "adam": _uncompiled(torch.optim.Adam),
        "adamw": _uncompiled(torch.optim.AdamW),
        "sgd": partial(_uncompiled(torch.optim.SGD), momentum=momentum),
    }
    if name not in makers:
        raise one_of("train.optimizer", name, makers)
    return makers[name](trained, **settings)


def _uncompiled(kind: type[Optimizer]) -> Callable[..., Optimizer]:
    """Return the same optimizer without the import of torch's compiler: four seconds a process."""
    if is_compiler_loaded():
        return kind
    for name in _NOT_COMPILED:
        spare_compiler(getattr(torch.optim.Optimizer, name))
    step = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), {"step": step})


def make_schedule(
    optimizer: Optimizer,
    *,
    name: str,
    epochs: int,
    steps_per_epoch: int,
    warmup_epochs: float = 0.0,
) -> LambdaLR:
    """Return a schedule whose ``step()`` is called after every step of the optimizer.

    With t = steps done, T = all steps, W = warm-up steps, the rate is the highest rate times
    (t + 1) / W while t < W, then: ``constant`` 1; ``cosine`` (1 + cos(pi (t - W) / (T - W))) / 2;
    ``step`` 1, 0.1 from T / 2 on, 0.01 from 3 T / 4 on; ``step_once`` 1, 0.1 from T / 2 on.

    Args:
        optimizer: Its rates are those that are scaled.
        name: ``constant``, ``cosine``, ``step`` or ``step_once``.
        epochs: Epochs of the whole training.
        steps_per_epoch: Steps of each.
        warmup_epochs: Epochs of linear rise; may be a fraction.

    Raises:
        ParameterError: The schedule is not known.
    """
    total = max(1, epochs * steps_per_epoch)
    warmup = round(warmup_epochs * steps_per_epoch)

    def cosine(done: int) -> float:
        share = (done - warmup) / max(1, total - warmup)
        return (1 + math.cos(math.pi * min(1.0, share))) / 2

    def step(done: int) -> float:
        return 0.1 ** ((2 * done >= total) + (4 * done >= 3 * total))

    shapes: dict[str, Callable[[int], float]] = {
        "constant": lambda done: 1.0,
        "cosine": cosine,
        "step": step,
        "step_once": lambda done: 0.1 ** (2 * done >= total),
    }
    if name not in shapes:
        raise one_of("train.schedule", name, shapes)
    shape = shapes[name]
    return LambdaLR(optimizer, lambda done: (done + 1) / warmup if done < warmup else shape(done))
