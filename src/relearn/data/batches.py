"""Batches that live on the device: the whole set in memory, order and augmentation from the seed.

The order, shifts and flips of an epoch are functions of (seed, name, epoch) drawn on the CPU, so
that they are the same on every device and for every batch size.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from relearn.data import augment
from relearn.data.randomness import generator_of
from relearn.errors import DataError, ParameterError


def to_float(
    images: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return ``(images / 255 - mean) / std``.

    Args:
        images: uint8, shape (batch, channels, height, width).
        mean: For each channel, in the unit range 0 to 1.
        std: For each channel, in the unit range 0 to 1.
        dtype: Type of the result.

    Raises:
        ParameterError: As many means or deviations as channels were not given.
    """
    return augment.normalise(images, mean, std, dtype)


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel, in the unit range 0 to 1.

    Args:
        images: uint8, shape (n, channels, height, width).

    Returns:
        Means and deviations, one number a channel; a constant channel has deviation 1.
    """
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in images.unbind(1):
        # a histogram is exact for 256 levels and needs no float copy of the whole set
        share = torch.bincount(channel.flatten(), minlength=256).double().cpu() / channel.numel()
        mean = float((share * levels).sum())
        variance = float((share * (levels - mean) ** 2).sum())
        means.append(mean)
        deviations.append(math.sqrt(variance) if variance > 0 else 1.0)
    return tuple(means), tuple(deviations)


class Batches:
    """Shuffled, augmented and normalised batches of a set held on the device.

    Args:
        images: uint8, shape (n, channels, height, width).
        labels: int64, shape (n,).
        batch_size: Images a step, 1 or more.
        seed: Seed of order and augmentation.
        name: Door of the randomness; another name gives an unrelated order.
        mean: For each channel, in the unit range 0 to 1.
        std: For each channel, in the unit range 0 to 1.
        shift: Largest shift in pixels, either way; 0 = none.
        flip: Whether half of the images are mirrored.
        device: Where the set lies and the batches come out.
        dtype: Type of the batches.
        drop_last: Whether an incomplete last batch is left out.

    Raises:
        DataError: There are no images, or not as many labels.
        ParameterError: ``batch_size`` is below 1 or leaves no batch.
    """

    def __init__(  # noqa: PLR0913 - the knobs of a loader, all by keyword
        self,
        images: Tensor,
        labels: Tensor,
        *,
        batch_size: int,
        seed: int,
        name: str = "train",
        mean: Sequence[float],
        std: Sequence[float],
        shift: int = 0,
        flip: bool = False,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        drop_last: bool = False,
    ) -> None:
        if len(images) == 0 or len(images) != len(labels):
            raise DataError(f"{name}: got {len(images)} images and {len(labels)} labels")
        if batch_size < 1 or (drop_last and batch_size > len(images)):
            raise ParameterError(
                f"batch_size: got {batch_size}, expected 1 to {len(images)} ({name} images)"
            )
        self.images, self.labels = images.to(device), labels.to(device)
        self.batch_size, self.seed, self.name = batch_size, seed, name
        self.mean, self.std, self.dtype = tuple(mean), tuple(std), dtype
        self.shift, self.flip, self.drop_last = shift, flip, drop_last
        self._background = augment.background_of(self.images) if shift else None
        self._order = hashlib.sha256()

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one epoch."""
        whole, rest = divmod(len(self.labels), self.batch_size)
        return whole + (1 if rest and not self.drop_last else 0)

    @property
    def order_digest(self) -> str:
        """Hex digest over the indices handed out so far; equal for arms that saw one order."""
        return self._order.hexdigest()

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of one epoch.

        Args:
            epoch: Number of the epoch; it decides order and augmentation.

        Yields:
            Float images (batch, channels, height, width) and int64 labels (batch,).
        """
        count, device = len(self.labels), self.images.device
        order = self._order_of(epoch)
        noise = generator_of(self.seed, f"{self.name}.augment.{epoch}")
        offsets = augment.draw_offsets(count, self.shift, noise) if self.shift else None
        flips = augment.draw_flips(count, noise) if self.flip else None
        placed = order.to(device)
        for step in range(self.steps_per_epoch):
            here = slice(step * self.batch_size, (step + 1) * self.batch_size)
            self._order.update(order[here].numpy().tobytes())
            yield (
                self._augmented(
                    placed[here],
                    None if offsets is None else offsets[here],
                    None if flips is None else flips[here],
                ),
                self.labels[placed[here]],
            )

    def replay(self, epoch: int) -> None:
        """Take the order of an epoch that was trained before into the order digest.

        Args:
            epoch: Number of the epoch.
        """
        order = self._order_of(epoch)
        taken = min(len(order), self.steps_per_epoch * self.batch_size)
        self._order.update(order[:taken].numpy().tobytes())

    def _order_of(self, epoch: int) -> Tensor:
        door = f"{self.name}.order.{epoch}"
        return torch.randperm(len(self.labels), generator=generator_of(self.seed, door))

    def _augmented(self, rows: Tensor, offsets: Tensor | None, flips: Tensor | None) -> Tensor:
        images = self.images[rows]
        if offsets is not None and self._background is not None:
            images = augment.shift(images, offsets, self._background[rows])
        if flips is not None:
            images = augment.flip(images, flips)
        return to_float(images, self.mean, self.std, self.dtype)

    def whole(self) -> tuple[Tensor, Tensor]:
        """Return all images, normalised and in stored order, and their labels.

        Returns:
            Float images (n, channels, height, width) and int64 labels (n,).
        """
        return to_float(self.images, self.mean, self.std, self.dtype), self.labels
