"""Which images one pair learns from, is chosen on, and is judged on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from relearn.data.batches import Batches
from relearn.data.images import Split
from relearn.data.label_noise import noisy_labels
from relearn.data.randomness import generator_of
from relearn.data.redraw import base_classes, redraw

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.data.images import Stream
    from relearn.methods.forget_relearn.adversarial_config import SamplesConfig
    from relearn.training.config import TrainConfig


@dataclass(frozen=True)
class Samples:
    """The images of one seed; labels count from 0.

    Attributes:
        train: Images with the labels that are learnt, wrong ones included.
        validation: Images with true labels: all choices are made on them.
        test: Images with true labels, read by the judge alone.
        wrong: Where a training label was replaced, bool, shape (train,).
        class_names: In the order of the labels.
        class_numbers: Class numbers of the stream, int64, shape (classes,).
    """

    train: Split
    validation: Split
    test: Split
    wrong: Tensor
    class_names: tuple[str, ...]
    class_numbers: Tensor

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def batches(self, train: TrainConfig, *, seed: int, device: str) -> Batches:
        """Return shuffled and augmented batches of pixels in the range 0 to 1.

        Args:
            train: Batch size and augmentation.
            seed: Seed of the pair.
            device: Where the images shall lie.
        """
        channels = int(self.train.images.shape[1])
        return Batches(
            self.train.images,
            self.train.labels,
            batch_size=train.batch_size,
            seed=seed,
            mean=(0.0,) * channels,
            std=(1.0,) * channels,
            shift=train.shift_pixels,
            flip=train.flip,
            device=device,
            # a rest of one image has no statistics for batch norm
            drop_last=len(self.train) % train.batch_size == 1,
        )


def draw_samples(stream: Stream, config: SamplesConfig, *, seed: int) -> Samples:
    """Return the images of one seed; equal for all arms of the pair.

    Args:
        stream: Frozen data of all arms.
        config: How many images, and the share of wrong labels.
        seed: Seed of the pair.

    Raises:
        ParameterError: There are too few images.
        DataError: The stream has no validation or test split where its splits are kept.
    """
    splits = redraw(
        stream,
        train_images=config.train_images,
        validation_images=config.validation_images,
        seed=seed,
    )
    numbers = base_classes(stream)
    train = splits["train"]
    labels, wrong = noisy_labels(
        train.labels, share=config.label_noise, classes=len(numbers), seed=seed
    )
    return Samples(
        train=Split(train.images, labels),
        validation=_shuffled(splits["validation"], seed=seed, door="validation"),
        test=_first(_shuffled(splits["test"], seed=seed, door="test"), config.test_images),
        wrong=wrong,
        class_names=tuple(stream.class_names[int(n)] for n in numbers),
        class_numbers=numbers,
    )


def _shuffled(split: Split, *, seed: int, door: str) -> Split:
    """Return the images in another order, so that the first few are of all classes."""
    generator = generator_of(seed, f"forget_relearn.samples.{door}")
    order = torch.randperm(len(split), generator=generator)
    return Split(split.images[order], split.labels[order])


def _first(split: Split, count: int) -> Split:
    return Split(split.images[: count or None], split.labels[: count or None])
