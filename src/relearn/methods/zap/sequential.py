"""E1: unseen classes one after the other, one sample at a time, one pass, no replay.

A step on one image is bound by call overhead, not by arithmetic. On a GPU all settings that compete
(first weights of the head, learning rates) are therefore learnt side by side: their weights are
stacked and one ``torch.func.vmap`` over the gradient does the step of all of them. On a CPU calls
are cheap and one setting after the other is learnt: nearly twice as quick for three settings, and
for nine of a narrow net a fifth slower (``benchmarks/bench_zap.py``, rows ``zap.one_by_one``),
which is the price of numbers that do not depend on how many settings compete. The two roads agree
up to rounding (tested).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch.func import functional_call, grad, vmap
from torch.optim.adam import adam

from relearn.evaluation.classification import class_accuracy
from relearn.methods.zap.transfer_task import (
    TransferHead,
    TransferTask,
    logits_of,
    with_transfer_head,
)
from relearn.models.heads import find_head

if TYPE_CHECKING:
    from torch import Tensor, nn

_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8  # Adam's defaults, as in the official evaluation


@dataclass(frozen=True)
class Setting:
    """One competitor.

    Attributes:
        head: How the last layer starts; ``outputs``, ``alone`` and ``name`` are one for all.
        rate: Adam's learning rate.
    """

    head: TransferHead
    rate: float


@dataclass(frozen=True)
class SequentialResult:
    """What one setting reached.

    Attributes:
        learnt: Classes learnt at each evaluation.
        matrix: float64, shape (evaluations, classes): accuracy on each class's query samples.
        support_accuracy: Mean accuracy on the support samples at the end.
    """

    learnt: tuple[int, ...]
    matrix: Tensor
    support_accuracy: float


def sequential_transfer(
    model: nn.Module,
    task: TransferTask,
    settings: Sequence[Setting],
    *,
    seed: int,
    evaluate_every: int = 0,
) -> list[SequentialResult]:
    """Return one result a setting; ``model`` keeps every bit.

    Args:
        model: The pre-trained net; judged and trained in evaluation mode.
        task: Unseen classes, support samples sorted by class in the order of learning.
        settings: Heads and rates that compete.
        seed: Seed of the kaiming head.
        evaluate_every: Classes between evaluations; 0 evaluates at the end only.
    """
    if task.support.device.type == "cpu":
        one_each = [_Single(model, task, setting, seed=seed) for setting in settings]
        return [r for learner in one_each for r in _learn(learner, task, every=evaluate_every)]
    return _learn(_Stack(model, task, settings, seed=seed), task, every=evaluate_every)


class _Learner(Protocol):
    """One setting, or several that step together."""

    def step(self, x: Tensor, y: Tensor) -> None:
        """Take one Adam step on one sample (Kingma and Ba, algorithm 1)."""
        ...

    def logits(self, images: Tensor) -> list[Tensor]:
        """Return the logits of every setting, each of shape (n, outputs)."""
        ...


def _learn(learner: _Learner, task: TransferTask, *, every: int) -> list[SequentialResult]:
    """Learn class by class, evaluate now and then, and return one result a setting."""
    matrices: list[list[Tensor]] = []
    learnt: list[int] = []
    last = task.classes - 1
    for number in range(task.classes):
        for row in torch.nonzero(task.support_labels == number).flatten():
            learner.step(task.support[row : row + 1], task.support_labels[row : row + 1])
        wanted = every and (number == 0 or (number + 1) % every == 0)
        if wanted or number == last:
            learnt.append(number + 1)
            judged = learner.logits(task.query)
            matrices.append([class_accuracy(x, task.query_labels, task.classes) for x in judged])
    seen = [
        float(class_accuracy(x, task.support_labels, task.classes).mean())
        for x in learner.logits(task.support)
    ]
    return [
        SequentialResult(tuple(learnt), torch.stack(rows), share)
        for rows, share in zip(zip(*matrices, strict=True), seen, strict=True)
    ]


class _Single:
    """A copy of the net that learns with one setting."""

    def __init__(
        self, model: nn.Module, task: TransferTask, setting: Setting, *, seed: int
    ) -> None:
        self.net, self.rate = with_transfer_head(model, task, setting.head, seed=seed), setting.rate
        if setting.head.alone:
            self.net.requires_grad_(False)
            find_head(self.net, setting.head.name).module.requires_grad_(True)
        self.trained: list[Tensor] = [p for p in self.net.parameters() if p.requires_grad]
        self.first = [torch.zeros_like(p) for p in self.trained]
        self.second = [torch.zeros_like(p) for p in self.trained]
        self.steps = [torch.zeros((), device=p.device) for p in self.trained]

    def step(self, x: Tensor, y: Tensor) -> None:
        loss = torch.nn.functional.cross_entropy(self.net(x), y)
        # the functional form: the optimizer object's bookkeeping is a third of a small net's step
        gradients = torch.autograd.grad(loss, self.trained, materialize_grads=True)
        with torch.no_grad():
            adam(
                self.trained,
                list(gradients),
                self.first,
                self.second,
                [],
                self.steps,
                fused=True,
                amsgrad=False,
                beta1=_BETA1,
                beta2=_BETA2,
                lr=self.rate,
                weight_decay=0.0,
                eps=_EPSILON,
                maximize=False,
            )

    def logits(self, images: Tensor) -> list[Tensor]:
        return [logits_of(self.net, images)]


class _Stack:
    """Copies of one net, one a setting, with Adam's moments, stepped together."""

    def __init__(
        self,
        model: nn.Module,
        task: TransferTask,
        settings: Sequence[Setting],
        *,
        seed: int,
    ) -> None:
        nets = [with_transfer_head(model, task, s.head, seed=seed) for s in settings]
        self.net = nets[0]
        self.buffers = dict(self.net.named_buffers())
        self.names = [name for name, _ in self.net.named_parameters()]
        self.shapes = [p.shape for p in self.net.parameters()]
        self.sizes = [p.numel() for p in self.net.parameters()]
        flat = [torch.cat([p.detach().flatten() for p in net.parameters()]) for net in nets]
        # One matrix (settings, numbers): Adam is then a handful of calls, whatever the net.
        self.weights = torch.stack(flat).contiguous()
        self.first, self.second = torch.zeros_like(self.weights), torch.zeros_like(self.weights)
        self.rates = self.weights.new_tensor([s.rate for s in settings]).unsqueeze(1)
        self.mask: Tensor | None = None
        self.steps = 0
        self._gradient = vmap(grad(self._loss), in_dims=(0, None, None), randomness="error")
        if settings[0].head.alone:
            self.train_only(find_head(model, settings[0].head.name).name)

    def train_only(self, head: str) -> None:
        """Hold every number outside the last layer."""
        kept = [
            torch.full((size,), float(name.startswith(head + ".")))
            for name, size in zip(self.names, self.sizes, strict=True)
        ]
        self.mask = torch.cat(kept).to(self.weights)

    def _unflatten(self, flat: Tensor) -> dict[str, Tensor]:
        parts = flat.split(self.sizes)
        return {
            name: part.view(shape)
            for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }

    def _loss(self, flat: Tensor, x: Tensor, y: Tensor) -> Tensor:
        logits = functional_call(self.net, (self._unflatten(flat), self.buffers), (x,))
        return torch.nn.functional.cross_entropy(logits, y)

    def step(self, x: Tensor, y: Tensor) -> None:
        gradient = self._gradient(self.weights, x, y)
        if self.mask is not None:
            gradient = gradient * self.mask
        self.steps += 1
        self.first.lerp_(gradient, 1 - _BETA1)
        self.second.mul_(_BETA2).addcmul_(gradient, gradient, value=1 - _BETA2)
        scale = 1 / math.sqrt(1 - _BETA2**self.steps)
        denominator = self.second.sqrt().mul_(scale).add_(_EPSILON)
        rate = self.rates / (1 - _BETA1**self.steps)
        self.weights.sub_(rate * (self.first / denominator))

    def logits(self, images: Tensor) -> list[Tensor]:
        found = []
        with torch.no_grad():
            for flat in self.weights:
                state = (self._unflatten(flat), self.buffers)
                blocks = [functional_call(self.net, state, (x,)) for x in images.split(512)]
                found.append(torch.cat(blocks))
        return found
