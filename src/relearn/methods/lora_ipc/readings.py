"""Asking one trained model in several ways: with or without aligned head, with or without tasks.

The features of an image are computed once for each composition; the last layers are products on top
of them, so that four readings cost two passes and the one that tasks are inferred from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from relearn.data.batches import to_float
from relearn.evaluation.classification import evaluating
from relearn.methods.lora_ipc.bodies import TaskwiseBody
from relearn.methods.lora_ipc.task_inference import (
    ClassShape,
    by_task,
    features_after_first_task,
    infer_tasks,
    vote_over_batch,
)
from relearn.models import heads

if TYPE_CHECKING:
    from relearn.methods.lora_ipc.arms import Reading
    from relearn.methods.lora_ipc.bodies import Body
    from relearn.models.checkpoint import Architecture

_BATCH = 256
HeadState = Mapping[str, Tensor]
"""Weight (outputs, features) and bias (outputs,), on the CPU."""


@dataclass(frozen=True)
class Answer:
    """What one reading says of some images.

    Attributes:
        predicted: Labels, int64, shape (images,).
        tasks: Inferred tasks, int64, shape (images,); -1 where none was inferred.
    """

    predicted: Tensor
    tasks: Tensor


class Reader:
    """Answers for images, by any reading.

    Args:
        body: What has been trained, between tasks.
        architecture: Its mean and standard deviation normalise the images.
        voters: Images of a batch whose vote decides, for the reading that leaks.
    """

    def __init__(self, body: Body, architecture: Architecture, *, voters: int) -> None:
        self.body, self.architecture, self.voters = body, architecture, voters

    def features(self, images: Tensor) -> Tensor:
        """Return features of the last composition, on the CPU, shape (images, features).

        Args:
            images: uint8, shape (images, channels, height, width).
        """
        found = []
        with evaluating(self.body.net):
            for block in images.split(_BATCH):
                found.append(self._last(self._input(block)).cpu())
        return torch.cat(found)

    def first_features(self, images: Tensor) -> Tensor:
        """Return features of length 1 after the first task, on the CPU, shape (images, features).

        Args:
            images: uint8, shape (images, channels, height, width).
        """
        adapters = self._taskwise().adapters
        with evaluating(self.body.net):
            blocks = [self._input(block) for block in images.split(_BATCH)]
            found = [features_after_first_task(adapters, block).cpu() for block in blocks]
        return torch.cat(found)

    def answer(
        self,
        images: Tensor,
        readings: Mapping[str, Reading],
        *,
        last_layers: Mapping[bool, HeadState],
        shapes: Mapping[int, ClassShape],
        seen: Sequence[int],
        sizes: Sequence[int],
        first: Tensor | None,
    ) -> dict[str, Answer]:
        """Return the answers of several readings, by arm.

        Args:
            images: uint8, shape (images, channels, height, width), task after task.
            readings: Arm to its reading.
            last_layers: Aligned or not to the last layer.
            shapes: Label to its centroids, where tasks are inferred.
            seen: Labels learnt so far, of which one is chosen.
            sizes: Images of each task; read only by the reading that leaks where a task ends.
            first: As from ``first_features``; None where no reading infers tasks.
        """
        ways = {(reading.inferred, reading.voted) for reading in readings.values()}
        tasks = {(False, False): torch.full((len(images),), -1)}
        if first is not None:
            own = infer_tasks(first, shapes, self._taskwise().adapters.classes)
            voted = [self._voted(batch) for batch in own.split(list(sizes))]
            tasks |= {(True, False): own, (True, True): torch.cat(voted)}
        features = {
            way: self._of_tasks(images, tasks[way]) if way[0] else self.features(images)
            for way in sorted(ways)
        }
        found = {}
        for arm, reading in readings.items():
            way, layer = (reading.inferred, reading.voted), last_layers[reading.aligned]
            found[arm] = Answer(chosen_of(features[way], layer, seen), tasks[way])
        return found

    def _voted(self, tasks: Tensor) -> Tensor:
        return torch.cat([vote_over_batch(batch) for batch in tasks.split(self.voters)])

    def _of_tasks(self, images: Tensor, tasks: Tensor) -> Tensor:
        adapters = self._taskwise().adapters
        found = []
        with evaluating(self.body.net):
            for block, own in zip(images.split(_BATCH), tasks.split(_BATCH), strict=True):
                found.append(by_task(adapters, self._input(block), own, self._last).cpu())
        return torch.cat(found)

    def _last(self, images: Tensor) -> Tensor:
        return heads.features(self.body.net, images, self.body.head_name).float()

    def _input(self, images: Tensor) -> Tensor:
        place = next(self.body.net.parameters()).device
        return to_float(images.to(place), self.architecture.mean, self.architecture.std)

    def _taskwise(self) -> TaskwiseBody:
        if not isinstance(self.body, TaskwiseBody):
            raise TypeError("only a model with a module each task has tasks to infer")
        return self.body


def chosen_of(features: Tensor, layer: HeadState, seen: Sequence[int]) -> Tensor:
    """Return the label with the largest logit among those learnt, int64, shape (images,).

    Args:
        features: Shape (images, features).
        layer: The last layer.
        seen: Labels learnt so far.
    """
    rows = torch.tensor(list(seen))
    logits = functional.linear(features, layer["weight"][rows], layer["bias"][rows])
    return rows[logits.argmax(1)]
