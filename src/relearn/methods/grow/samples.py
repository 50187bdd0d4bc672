"""Which images one pair learns from, is chosen on, and is judged on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from relearn.data.batches import Batches
from relearn.data.images import Split
from relearn.data.randomness import generator_of
from relearn.data.redraw import base_classes, redraw

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.data.images import Stream
    from relearn.methods.grow.config import SamplesConfig
    from relearn.models.checkpoint import Architecture
    from relearn.training.config import TrainConfig


@dataclass(frozen=True)
class Samples:
    """The images of one seed; labels count from 0.

    Attributes:
        train: What student and arms learn from.
        first: What the teacher learns from: ``train``, or a share of it.
        validation: All choices are made on these.
        test: Read by the judge alone.
        class_names: In the order of the labels.
        class_numbers: Class numbers of the stream, int64, shape (classes,).
    """

    train: Split
    first: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    class_numbers: Tensor

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def draw_samples(
    stream: Stream, config: SamplesConfig, *, seed: int, first_share: float = 1.0
) -> Samples:
    """Return the images of one seed; equal for all arms of the pair.

    Args:
        stream: Frozen data of all arms.
        config: How many images.
        seed: Seed of the pair.
        first_share: Share of each class's training images that the teacher sees, at least one.

    Raises:
        DataError: There are too few images, or a split that is to be kept is not there.
    """
    splits = redraw(
        stream,
        train_images=config.train_images,
        validation_images=config.validation_images,
        seed=seed,
        block="grow.samples",
    )
    numbers = base_classes(stream)
    return Samples(
        train=splits["train"],
        first=_share_of(splits["train"], first_share, seed=seed),
        validation=splits["validation"],
        test=_few_of(splits["test"], config.test_images, seed=seed),
        class_names=tuple(stream.class_names[int(n)] for n in numbers),
        class_numbers=numbers,
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
        name: Door of the order: teacher and students see unrelated orders.
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
        # a rest of one image has no statistics for batch norm
        drop_last=len(split) > train.batch_size and len(split) % train.batch_size == 1,
    )


def _few_of(split: Split, count: int, *, seed: int) -> Split:
    """Return so many images drawn at random, in stored order; all for 0, or if there are less."""
    if not 0 < count < len(split):
        return split
    order = torch.randperm(len(split), generator=generator_of(seed, "grow.test_images"))
    rows = order[:count].sort().values
    return Split(split.images[rows], split.labels[rows])


def _share_of(split: Split, share: float, *, seed: int) -> Split:
    """Return the share of every class, drawn at random, in stored order."""
    if share >= 1:
        return split
    kept = []
    for number in split.classes:
        rows = torch.nonzero(split.labels == number).flatten()
        order = generator_of(seed, f"grow.first_share.{int(number)}")
        chosen = torch.randperm(len(rows), generator=order)[: max(1, round(share * len(rows)))]
        kept.append(rows[chosen])
    rows = torch.cat(kept).sort().values
    return Split(split.images[rows], split.labels[rows])
