"""The tasks of one seed: which classes arrive when, and which of their images train and judge.

Labels count in the order in which the classes arrive, so that the classes of the first tasks are
the first outputs of the last layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from relearn.data.batches import Batches
from relearn.data.images import Split
from relearn.data.randomness import generator_of
from relearn.data.tasks import task_order
from relearn.errors import DataError, ParameterError

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.data.images import Stream
    from relearn.methods.lora_ipc.stream_config import SamplesConfig, TasksConfig
    from relearn.models.checkpoint import Architecture
    from relearn.training.config import TrainConfig


@dataclass(frozen=True)
class TaskStream:
    """The tasks of one seed.

    Attributes:
        classes: For each task its labels, rising.
        learnt: Tasks that are learnt, the first ones.
        outputs: Outputs of the last layer.
        planned: Tasks that there must be room for.
        class_numbers: Number in the stream of each label, int64, shape (labels,).
        class_names: Name of each label.
        train: For each task its training images; labels as in ``classes``.
        validation: For each task the images that choices are made on; empty without a share.
        test: For each task the images that are reported.
    """

    classes: tuple[tuple[int, ...], ...]
    learnt: int
    outputs: int
    planned: int
    class_numbers: Tensor
    class_names: tuple[str, ...]
    train: tuple[Split, ...]
    validation: tuple[Split, ...]
    test: tuple[Split, ...]

    def seen(self, task: int) -> tuple[int, ...]:
        """Return the labels of all tasks up to one.

        Args:
            task: Its number, from 0.
        """
        return tuple(label for own in self.classes[: task + 1] for label in own)


def draw_tasks(
    stream: Stream, tasks: TasksConfig, samples: SamplesConfig, *, seed: int
) -> TaskStream:
    """Return the tasks of one seed; equal for all arms of the pair.

    Args:
        stream: Frozen data of all arms; read are its transfer classes.
        tasks: How classes become tasks.
        samples: How many images.
        seed: Seed of the pair: of the order of classes and of the draw of images.

    Raises:
        DataError: The stream has no transfer classes, or a class is left without images.
        ParameterError: There are more tasks than classes, or the last layer has no room.
    """
    support, query = stream.split("transfer_support"), stream.split("transfer_query")
    order = _order(stream, support.classes, tasks, seed=seed)
    numbers = torch.cat(order)
    labels = torch.arange(len(numbers)).split([len(own) for own in order])
    taught = [_divided(support, number, samples, seed=seed) for number in numbers.tolist()]
    tested = [_asked(query, number, samples, seed=seed) for number in numbers.tolist()]
    return TaskStream(
        classes=tuple(tuple(own.tolist()) for own in labels),
        learnt=_within("learn", tasks.learn, len(order)),
        outputs=_at_least("outputs", tasks.outputs, len(numbers), "classes"),
        planned=_at_least("planned", tasks.planned, len(order), "tasks"),
        class_numbers=numbers,
        class_names=tuple(stream.class_names[number] for number in numbers.tolist()),
        train=tuple(_joined(support, [taught[n][0] for n in own.tolist()], own) for own in labels),
        validation=tuple(
            _joined(support, [taught[n][1] for n in own.tolist()], own) for own in labels
        ),
        test=tuple(_joined(query, [tested[n] for n in own.tolist()], own) for own in labels),
    )


def batches_of(
    split: Split,
    architecture: Architecture,
    train: TrainConfig,
    *,
    seed: int,
    name: str,
    device: str,
) -> Batches:
    """Return shuffled, augmented and normalised batches.

    Args:
        split: Images and labels.
        architecture: Its mean and standard deviation normalise the images.
        train: Batch size and augmentation.
        seed: Seed of the pair.
        name: Door of the order.
        device: Where the images lie.
    """
    return Batches(
        split.images,
        split.labels,
        batch_size=train.batch_size,
        seed=seed,
        name=name,
        mean=architecture.mean,
        std=architecture.std,
        shift=train.shift_pixels,
        flip=train.flip,
        device=device,
    )


def together(splits: tuple[Split, ...]) -> Split:
    """Return the images of several tasks as one split.

    Args:
        splits: At least one.
    """
    return Split(
        torch.cat([each.images for each in splits]), torch.cat([each.labels for each in splits])
    )


def first_of_class(split: Split, count: int) -> Split:
    """Return the first images of each class, in stored order.

    Args:
        split: Images and labels; a task's images lie in random order within a class.
        count: Images a class, 1 or more.
    """
    rows = [torch.nonzero(split.labels == label).flatten()[:count] for label in split.classes]
    kept = torch.cat(rows)
    return Split(split.images[kept], split.labels[kept])


def _order(stream: Stream, classes: Tensor, tasks: TasksConfig, *, seed: int) -> list[Tensor]:
    given = stream.task_of_class[classes]
    count = tasks.count or int(given.max()) + 1
    if tasks.order == "stream" or not tasks.count:
        if bool((given < 0).any()):
            raise DataError(
                "lora_ipc.tasks: the stream gives its transfer classes no tasks; set "
                "lora_ipc.tasks.count and an order other than stream"
            )
        if tasks.order == "stream":
            return _as_given(classes, given, tasks)
    if count > len(classes):
        raise ParameterError(
            f"lora_ipc.tasks.count: got {count}, expected at most {len(classes)}, the number of "
            "transfer classes"
        )
    if tasks.order == "natural":
        return list(torch.tensor_split(classes, count))
    return task_order(classes, count, seed=seed)


def _as_given(classes: Tensor, given: Tensor, tasks: TasksConfig) -> list[Tensor]:
    found = [classes[given == task] for task in given.unique()]
    if tasks.count not in (0, len(found)):
        raise ParameterError(
            f"lora_ipc.tasks.count: got {tasks.count}, but the stream has {len(found)} tasks; set "
            "0, or another order than stream"
        )
    return found


def _divided(
    split: Split, number: int, samples: SamplesConfig, *, seed: int
) -> tuple[Tensor, Tensor]:
    """Return the rows of a class that train and those that validate."""
    rows = _shuffled(split, number, seed=seed, door="support")
    share = samples.validation_share
    held = max(1, round(share * len(rows))) if share else 0
    if held >= len(rows):
        raise DataError(
            f"lora_ipc.samples.validation_share: class {number} has {len(rows)} images, of which "
            f"{held} would validate; lower the share, or raise data.split.support_per_class"
        )
    return rows[held:][: samples.train_per_class or None], rows[:held]


def _asked(split: Split, number: int, samples: SamplesConfig, *, seed: int) -> Tensor:
    rows = _shuffled(split, number, seed=seed, door="query")
    if not len(rows):
        raise DataError(
            f"data.split: transfer class {number} has no test images; lower "
            "data.split.support_per_class"
        )
    return rows[: samples.test_per_class or None]


def _shuffled(split: Split, number: int, *, seed: int, door: str) -> Tensor:
    rows = torch.nonzero(split.labels == number).flatten().cpu()
    generator = generator_of(seed, f"lora_ipc.samples.{door}.{number}")
    return rows[torch.randperm(len(rows), generator=generator)]


def _joined(split: Split, rows: list[Tensor], labels: Tensor) -> Split:
    chosen = torch.cat(rows)
    sizes = torch.tensor([len(own) for own in rows])
    return Split(split.images[chosen], labels.repeat_interleave(sizes))


def _within(name: str, value: int, count: int) -> int:
    if value > count:
        raise ParameterError(
            f"lora_ipc.tasks.{name}: got {value}, but the stream has {count} tasks; lower it, or "
            "set 0 for all"
        )
    return value or count


def _at_least(name: str, value: int, needed: int, what: str) -> int:
    if 0 < value < needed:
        raise ParameterError(
            f"lora_ipc.tasks.{name}: got {value}, expected at least {needed}, the number of "
            f"{what} of the stream, or 0 for just these"
        )
    return value or needed


__all__ = ["TaskStream", "batches_of", "draw_tasks", "first_of_class", "together"]
