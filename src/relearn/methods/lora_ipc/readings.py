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
    ) -> dict[str, Answer]:
        """Return the answers of several readings, by arm.

        Args:
            images: uint8, of one task where a reading votes.
            readings: Arm to its reading.
            last_layers: Aligned or not to the last layer.
            shapes: Label to its centroids, where tasks are inferred.
            seen: Labels learnt so far, of which one is chosen.
        """
        features: dict[tuple[bool, bool], Tensor] = {}
        tasks: dict[tuple[bool, bool], Tensor] = {}
        for reading in readings.values():
            way = (reading.inferred, reading.voted)
            if way not in features:
                tasks[way] = self._tasks(images, reading, shapes)
                features[way] = self._of_tasks(images, tasks[way])
        found = {}
        for arm, reading in readings.items():
            way = (reading.inferred, reading.voted)
            layer = last_layers[reading.aligned]
            found[arm] = Answer(chosen_of(features[way], layer, seen), tasks[way])
        return found

    def _tasks(self, images: Tensor, reading: Reading, shapes: Mapping[int, ClassShape]) -> Tensor:
        if not reading.inferred:
            return torch.full((len(images),), -1)
        tasks = infer_tasks(self.first_features(images), shapes, self._taskwise().adapters.classes)
        if reading.voted:
            tasks = torch.cat([vote_over_batch(batch) for batch in tasks.split(self.voters)])
        return tasks

    def _of_tasks(self, images: Tensor, tasks: Tensor) -> Tensor:
        if not len(tasks) or int(tasks[0]) < 0:
            return self.features(images)
        adapters = self._taskwise().adapters
        found = []
        with evaluating(self.body.net):
            for block, own in zip(images.split(_BATCH), tasks.split(_BATCH), strict=True):
                with adapters.per_image(own):
                    found.append(self._last(self._input(block)).cpu())
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
