"""E2: how fast, and how well, a net learns unseen classes from shuffled batches.

Official protocol: head drawn anew, Adam, one epoch over the support samples in batches; accuracy on
the query samples along the way. We differ in that the first weights of the head compete (they
decide the size and sometimes the sign of the effect) and that rates are chosen on other classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from relearn.data.randomness import generator_of
from relearn.evaluation.classification import accuracy_of
from relearn.methods.zap.transfer_task import (
    TransferHead,
    TransferTask,
    logits_of,
    with_transfer_head,
)
from relearn.models.heads import find_head
from relearn.training.optimizers import make_optimizer

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class AdaptationCurve:
    """Accuracy on the query samples while the support samples are learnt.

    Attributes:
        steps: Optimizer steps done at each point; the first is 0.
        accuracy: Query accuracy at each point, 0 to 1.
        support_accuracy: Accuracy on the support samples at the end.
        predicted: int64, shape (queries,), predicted classes at the end.
    """

    steps: tuple[int, ...]
    accuracy: tuple[float, ...]
    support_accuracy: float
    predicted: Tensor

    @property
    def final(self) -> float:
        """Query accuracy at the end."""
        return self.accuracy[-1]

    def steps_to(self, share: float) -> int:
        """Return the first step at which ``share`` of the final accuracy is reached."""
        reached = zip(self.steps, self.accuracy, strict=True)
        return next(step for step, value in reached if value >= share * self.final)

    def area(self) -> float:
        """Return the mean accuracy along the curve (trapezoids over steps), 0 to 1."""
        x, y = torch.tensor(self.steps, dtype=torch.float64), torch.tensor(self.accuracy)
        return float(torch.trapezoid(y.double(), x) / max(1.0, float(x[-1])))


def few_shot_transfer(
    model: nn.Module,
    task: TransferTask,
    head: TransferHead,
    *,
    rate: float,
    seed: int,
    epochs: int = 1,
    batch_size: int = 64,
    evaluate_every: int = 0,
) -> AdaptationCurve:
    """Return the adaptation curve of a copy of ``model`` on ``task``; ``model`` keeps every bit.

    The net stays in evaluation mode (batch-norm statistics are those of pre-training), as in the
    official code.

    Args:
        model: The pre-trained net.
        task: Unseen classes.
        head: How the last layer starts, and whether it is trained alone.
        rate: Adam's learning rate.
        seed: Seed of the batch order and of the head's draw.
        epochs: Passes over the support samples.
        batch_size: Samples a step.
        evaluate_every: Steps between points of the curve; 0 records the two ends only.
    """
    net = with_transfer_head(model, task, head, seed=seed)
    trained = net
    if head.alone:
        net.requires_grad_(False)
        trained = find_head(net, head.name).module.requires_grad_(True)
    optimizer = make_optimizer(
        trained.parameters(), name="adam", learning_rate=rate, weight_decay=0.0, momentum=0.0
    )
    order = generator_of(seed, "few_shot.order")
    steps, curve, done = [0], [accuracy_of(logits_of(net, task.query), task.query_labels)], 0
    for _ in range(epochs):
        shuffled = torch.randperm(len(task.support), generator=order)
        for rows in shuffled.split(batch_size):
            _step(net, optimizer, task.support[rows], task.support_labels[rows])
            done += 1
            if evaluate_every and done % evaluate_every == 0:
                steps.append(done)
                curve.append(accuracy_of(logits_of(net, task.query), task.query_labels))
    logits = logits_of(net, task.query)
    if steps[-1] != done:
        steps.append(done)
        curve.append(accuracy_of(logits, task.query_labels))
    seen = accuracy_of(logits_of(net, task.support), task.support_labels)
    return AdaptationCurve(tuple(steps), tuple(curve), seen, logits.argmax(1).cpu())


def _step(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    torch.nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()
