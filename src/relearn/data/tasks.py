"""Draws of classes and samples: the class-incremental order, few-shot draws, episodes.

Everything is indices; no image is copied here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from relearn.data.randomness import generator_of
from relearn.errors import DataError

if TYPE_CHECKING:
    from relearn.data.images import Split


def draw_classes(classes: Tensor, count: int, *, seed: int, name: str) -> Tensor:
    """Return ``count`` of the classes, drawn without replacement and in random order.

    A smaller count gives the first of what a larger one gives.

    Args:
        classes: int64, shape (k,), class numbers without repetition.
        count: 1 to k.
        seed: Seed of the draw.
        name: Door of the draw.

    Returns:
        int64, shape (count,).

    Raises:
        DataError: There are fewer classes than asked for.
    """
    if not 0 < count <= len(classes):
        raise DataError(
            f"data.split: {count} classes asked for ({name}), the split has {len(classes)}; "
            "ask for fewer, or give it more classes"
        )
    order = torch.randperm(len(classes), generator=generator_of(seed, name))
    return classes[order[:count]]


def task_order(classes: Tensor, tasks: int, *, seed: int) -> list[Tensor]:
    """Return the classes of each task of a class-incremental order.

    Args:
        classes: int64, shape (k,), class numbers without repetition.
        tasks: 1 to k; sizes differ by one class at most, the larger ones first.
        seed: Seed of the order.

    Returns:
        One int64 tensor of class numbers for each task.

    Raises:
        DataError: There are more tasks than classes.
    """
    if not 0 < tasks <= len(classes):
        raise DataError(
            f"data.split.tasks: got {tasks}, expected 1 to {len(classes)}, the number of classes "
            "in the class-incremental order"
        )
    order = draw_classes(classes, len(classes), seed=seed, name="split.tasks")
    return list(torch.tensor_split(order, tasks))


@dataclass(frozen=True)
class Episode:
    """One episode of alternating sequential and batch training, as rows of a split.

    Attributes:
        class_number: The class drawn; with zap the one whose row is reset.
        sequence: int64, shape (sequence_length,): rows learned one at a time.
        remember: int64, shape (remember,): rows that join the sequence in the batch.
    """

    class_number: int
    sequence: Tensor
    remember: Tensor

    @property
    def batch(self) -> Tensor:
        """Rows of the batch phase: the sequence, then the remembered ones."""
        return torch.cat([self.sequence, self.remember])


def draw_episode(
    split: Split,
    *,
    generator: torch.Generator,
    sequence_length: int = 20,
    remember: int = 64,
    sampling: Literal["single", "uniform"] = "single",
) -> Episode:
    """Return the rows of one episode.

    The class is uniform over the classes that occur. ``single``: the sequence is drawn from that
    class without replacement, with replacement only if it has fewer images. ``uniform``: it is
    drawn from all images, as a control. The remembered images are drawn from all images without
    replacement.

    Args:
        split: Training images; read for its labels only.
        generator: CPU generator that is consumed.
        sequence_length: Images learned one at a time, 1 or more.
        remember: Images that join them in the batch, 0 or more.
        sampling: Where the sequence comes from.

    Raises:
        DataError: More images are to be remembered than the split has.

    References:
        arXiv 2310.07996, alternating sequential and batch learning.
    """
    if remember > len(split):
        raise DataError(
            f"data.split: an episode remembers {remember} images, the split has {len(split)}; "
            "remember fewer, or use more images"
        )
    drawn = int(torch.randint(len(split.classes), (1,), generator=generator))
    number = int(split.classes[drawn])
    everything = len(split)
    pool = torch.nonzero(split.labels == number).flatten().cpu() if sampling == "single" else None
    size = everything if pool is None else len(pool)
    if size < sequence_length:
        places = torch.randint(size, (sequence_length,), generator=generator)
    else:
        places = torch.randperm(size, generator=generator)[:sequence_length]
    return Episode(
        class_number=number,
        sequence=places if pool is None else pool[places],
        remember=torch.randperm(everything, generator=generator)[:remember],
    )
