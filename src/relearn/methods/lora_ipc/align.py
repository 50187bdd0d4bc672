"""Classifier alignment: the last layer learns all classes again, from drawn features.

The tasks leave rows that were each trained among the classes of one task only; drawn features of
all classes bring them onto one scale. It is a branch of its own: the next task goes on from the
last layer as the tasks left it, so that one training can be read with and without alignment.
Cross-entropy over the present task's classes has no gradient for other rows, so that nothing else
is different from aligning in place.

References:
    SLCA, arXiv 2303.05118, and HiDe-Prompt, arXiv 2310.07234; the official code of LoRAC-IPC trains
    50 epochs of SGD at rate 0.005, momentum 0.9, decay 5e-4, falling as a cosine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from relearn.methods.lora_ipc.class_statistics import ClassStatistics, sample_features
from relearn.training.optimizers import make_optimizer

if TYPE_CHECKING:
    from relearn.methods.lora_ipc.stream_config import AlignmentConfig


def start_of_alignment(
    trained: Mapping[str, Tensor], aligned: Mapping[str, Tensor] | None, fresh: Sequence[int]
) -> dict[str, Tensor]:
    """Return the last layer that alignment begins with: new rows as trained, others as aligned.

    Args:
        trained: Weight and bias as the tasks left them.
        aligned: As the last alignment left them; None before the first.
        fresh: Labels of the present task.
    """
    if aligned is None:
        return {name: tensor.clone() for name, tensor in trained.items()}
    start = {name: tensor.clone() for name, tensor in aligned.items()}
    for name, tensor in start.items():
        tensor[list(fresh)] = trained[name][list(fresh)]
    return start


def align_head(
    start: Mapping[str, Tensor],
    statistics: Mapping[int, ClassStatistics],
    config: AlignmentConfig,
    *,
    seed: int,
    task: int,
) -> dict[str, Tensor]:
    """Return weight and bias after training on drawn features; other rows keep every bit.

    Args:
        start: Weight (outputs, features) and bias (outputs,), on the CPU.
        statistics: Label to the Gaussians of its features, of all classes learnt so far.
        config: Epochs, rate and number of draws.
        seed: Seed of the pair.
        task: Number of the task that has ended, for the door of the draw.
    """
    rows = torch.tensor(sorted(statistics))
    place = torch.zeros(len(start["weight"]), dtype=torch.int64)
    place[rows] = torch.arange(len(rows))
    trained = [start[name][rows].clone().requires_grad_() for name in start]
    optimizer = make_optimizer(
        trained,
        name="sgd",
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
    )
    for epoch in range(config.epochs):
        rate = config.learning_rate * (1 + math.cos(math.pi * epoch / config.epochs)) / 2
        optimizer.param_groups[0]["lr"] = rate
        door = f"lora_ipc.alignment.{task}.{epoch}"
        drawn, labels = sample_features(statistics, each=config.per_centroid, seed=seed, door=door)
        pairs = zip(drawn.split(config.batch_size), labels.split(config.batch_size), strict=True)
        for features, own in pairs:
            optimizer.zero_grad()
            logits = functional.linear(features, *trained)
            torch.autograd.backward(functional.cross_entropy(logits, place[own]))
            optimizer.step()
    found = {name: tensor.clone() for name, tensor in start.items()}
    for name, values in zip(found, trained, strict=True):
        found[name][rows] = values.detach()
    return found
