"""The unseen classes an arm is judged on, and the first weights of the head that learns them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from relearn.data.batches import to_float
from relearn.data.randomness import generator_of
from relearn.data.tasks import draw_classes
from relearn.errors import ParameterError
from relearn.evaluation.classification import evaluating
from relearn.models.heads import features, find_head
from relearn.training.closed_form import ridge_head

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relearn.data.images import Stream


@dataclass(frozen=True)
class TransferTask:
    """A few labelled samples of unseen classes, and others that score what was learnt.

    Attributes:
        support: Normalised float images, shape (classes * shots, channels, height, width), sorted
            by class in the order in which the classes are learnt.
        support_labels: int64, 0..classes-1.
        query: Normalised float images that are never trained on.
        query_labels: int64.
        classes: Number of classes.
    """

    support: Tensor
    support_labels: Tensor
    query: Tensor
    query_labels: Tensor
    classes: int


def draw_transfer_task(
    stream: Stream,
    *,
    pool: str,
    classes: int,
    seed: int,
    name: str,
    mean: Sequence[float],
    std: Sequence[float],
    device: str = "cpu",
) -> TransferTask:
    """Return a task of ``classes`` unseen classes in a random order, a function of (seed, name).

    Args:
        stream: Holds ``<pool>_support`` and ``<pool>_query``.
        pool: ``selection`` or ``transfer``.
        classes: Classes to draw.
        seed: Seed of the pair: every arm of one seed gets the same task.
        name: Door of the draw, such as ``few_shot``.
        mean: Mean of each channel, in units of 0..1.
        std: Standard deviation of each channel.
        device: Torch device string.

    Raises:
        ParameterError: The pool has fewer classes.
    """
    support, query = stream.split(f"{pool}_support"), stream.split(f"{pool}_query")
    if classes > len(support.classes):
        raise ParameterError(
            f"zap.transfer.{name}.classes: {classes} asked, but the stream has "
            f"{len(support.classes)} {pool} classes; lower it or raise data.split.{pool}_classes"
        )
    chosen = draw_classes(support.classes, classes, seed=seed, name=f"{name}.{pool}")
    few, many = support.of_classes(chosen), query.of_classes(chosen)
    return TransferTask(
        support=to_float(few.images, mean, std).to(device),
        support_labels=few.labels.to(device),
        query=to_float(many.images, mean, std).to(device),
        query_labels=many.labels.to(device),
        classes=classes,
    )


@dataclass(frozen=True)
class TransferHead:
    """The last layer with which a transfer starts.

    Attributes:
        start: First weights: ``zero``, ``kaiming`` (std sqrt(2 / features), bias 0) or ``ridge``.
        outputs: Number of outputs; 0 means one a class.
        penalty: Relative penalty of the ridge solution.
        alone: Train only this layer and hold the backbone.
        name: Name of the last layer in the net; empty finds it.
    """

    start: str
    outputs: int = 0
    penalty: float = 1e-2
    alone: bool = False
    name: str = ""


def with_transfer_head(
    model: nn.Module, task: TransferTask, head: TransferHead, *, seed: int
) -> nn.Module:
    """Return a copy of ``model``, in evaluation mode, whose last layer fits the task.

    Args:
        model: The pre-trained net; kept as it is.
        task: The classes to come.
        head: How the last layer starts.
        seed: Seed of the kaiming draw.

    Raises:
        ParameterError: Fewer outputs than classes, or an unknown start.
    """
    width = head.outputs or task.classes
    if width < task.classes:
        raise ParameterError(
            f"zap.head_outputs: {width} is below the {task.classes} classes of the task"
        )
    net = copy.deepcopy(model).eval()
    old = find_head(net, head.name)
    inputs = int(old.module.weight.shape[1])
    fresh = _empty_like(old.module, width)
    with torch.no_grad():
        fresh.weight.zero_()
        fresh.bias.zero_()
        if head.start == "kaiming":
            draw = torch.randn(width, inputs, generator=generator_of(seed, "transfer_head"))
            fresh.weight.copy_((draw * (2 / inputs) ** 0.5).view_as(fresh.weight))
        elif head.start == "ridge":
            weight, bias = solve_ridge(net, task, penalty=head.penalty, head_name=head.name)
            fresh.weight[: task.classes] = weight.view_as(fresh.weight[: task.classes])
            fresh.bias[: task.classes] = bias
        elif head.start != "zero":
            raise ParameterError(
                f"zap.transfer.few_shot.heads: {head.start!r} is not a known start"
            )
    net.set_submodule(old.name, fresh)
    return net


def _empty_like(old: nn.Module, width: int) -> Any:
    """Return a last layer of the same kind, with a bias, whose weights are yet to be written.

    Made without storage first, because a plain constructor draws from the global random numbers.
    """
    weight = old.get_parameter("weight")
    inputs, kind = int(weight.shape[1]), {"device": "meta", "dtype": weight.dtype}
    fresh: nn.Module
    if isinstance(old, torch.nn.Conv2d):
        fresh = torch.nn.Conv2d(inputs, width, 1, **kind)  # type: ignore[arg-type]
    else:
        fresh = torch.nn.Linear(inputs, width, **kind)  # type: ignore[arg-type]
    return fresh.to_empty(device=weight.device)


def solve_ridge(
    model: nn.Module, task: TransferTask, *, penalty: float, head_name: str = ""
) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the ridge head on the support samples' features.

    Args:
        model: The pre-trained net.
        task: Its support samples are used.
        penalty: Relative penalty.
        head_name: Name of the last layer; empty finds it.
    """
    with evaluating(model):
        found = torch.cat([features(model, x, head_name) for x in task.support.split(512)])
    return ridge_head(found, task.support_labels, classes=task.classes, penalty=penalty)


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """Return the logits of normalised float images, in blocks, shape (n, outputs).

    Args:
        model: In the mode in which it is to be judged.
        images: Float, shape (n, channels, height, width).
    """
    with evaluating(model):
        return torch.cat([model(block).float() for block in images.split(512)])
