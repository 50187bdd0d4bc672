"""Which images one seed learns from, chooses on and is judged on; and the conditions of studies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from relearn.data.images import Split, Stream
from relearn.data.label_noise import noisy_labels
from relearn.data.randomness import generator_of
from relearn.data.redraw import BASE_SPLITS, base_classes, redraw
from relearn.errors import DataError, one_of
from relearn.provenance import digest_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.config import LastLayerProbeConfig, SamplesConfig

PLAIN = "plain"
CONDITIONS = (PLAIN, "noisy_labels", "few_images", "permuted_pixels", "permuted_labels")
"""What may be done to the images or labels of a seed before anything is probed."""

_UNSEEN = ("selection_support", "selection_query", "transfer_support", "transfer_query")
_BLOCK = "last_layer_probe.samples"


@dataclass(frozen=True)
class Samples:
    """The images of one seed under one condition; labels count from 0.

    Attributes:
        train: What every head and net learns from.
        validation: All choices are made on these.
        test: Read once, by the finished arm.
        class_names: In the order of the labels.
        class_numbers: Class numbers of the stream, int64, shape (classes,).
        order_digest: Of the training images in their order; equal for the arms of a seed.
    """

    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    class_numbers: Tensor
    order_digest: str

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def draw_samples(
    stream: Stream, config: LastLayerProbeConfig, *, seed: int, condition: str = PLAIN
) -> Samples:
    """Return the images of one seed; equal for all arms of one condition.

    Args:
        stream: Frozen data of all arms.
        config: How many images of which classes; how strong the conditions are.
        seed: Seed of the pair.
        condition: One of ``CONDITIONS``.

    Raises:
        DataError: There are too few images or classes, or a split that is to be kept is not there.
        ParameterError: The condition is not known.
    """
    if condition not in CONDITIONS:
        raise one_of("last_layer_probe condition", condition, CONDITIONS)
    wanted = config.samples
    source = _of_ways(_of_classes(stream, wanted), wanted.ways, seed=seed)
    splits = redraw(
        source,
        train_images=wanted.train_images,
        validation_images=wanted.validation_images,
        seed=seed,
        block=_BLOCK,
    )
    numbers = base_classes(source)
    if len(numbers) < 2:
        raise DataError(f"{_BLOCK}.classes: got {len(numbers)} class, expected two or more")
    drawn = Samples(
        train=splits["train"],
        validation=splits["validation"],
        test=_few_of(splits["test"], wanted.test_images, seed=seed, door="test"),
        class_names=tuple(stream.class_names[int(n)] for n in numbers),
        class_numbers=numbers,
        order_digest="",
    )
    changed = _under(drawn, condition, config, seed=seed)
    order = {"images": changed.train.images, "labels": changed.train.labels}
    return replace(changed, order_digest=digest_tensors(order))


def _of_classes(stream: Stream, config: SamplesConfig) -> Stream:
    """Return the stream, or one whose base splits hold the classes that the base net never saw."""
    if config.classes == "base":
        return stream
    there = [name for name in _UNSEEN if name in stream.splits]
    if not there:
        raise DataError(
            f"{_BLOCK}.classes: unseen needs classes apart, which a split by class makes "
            "(data.split.by: class); with data.split.by: sample use classes: base"
        )
    parts = [stream.splits[name] for name in there]
    pooled = Split(torch.cat([p.images for p in parts]), torch.cat([p.labels for p in parts]))
    return Stream({"train": pooled}, stream.class_names, stream.task_of_class)


def _of_ways(stream: Stream, ways: int, *, seed: int) -> Stream:
    """Return the stream with so many of its base classes, drawn by the seed; 0 keeps all."""
    if not ways:
        return stream
    classes = base_classes(stream)
    if ways > len(classes):
        raise DataError(
            f"{_BLOCK}.ways: got {ways}, expected at most {len(classes)}, the classes there are"
        )
    draw = generator_of(seed, "last_layer_probe.ways")
    taken = classes[torch.randperm(len(classes), generator=draw)[:ways]]
    splits = {
        name: _only(stream.splits[name], taken) for name in BASE_SPLITS if name in stream.splits
    }
    return Stream(splits, stream.class_names, stream.task_of_class)


def _only(split: Split, classes: Tensor) -> Split:
    kept = torch.isin(split.labels, classes)
    return Split(split.images[kept], split.labels[kept])


def _few_of(split: Split, count: int, *, seed: int, door: str) -> Split:
    if not 0 < count < len(split):
        return split
    draw = generator_of(seed, f"last_layer_probe.{door}")
    rows = torch.randperm(len(split), generator=draw)[:count].sort().values
    return Split(split.images[rows], split.labels[rows])


def _under(drawn: Samples, condition: str, config: LastLayerProbeConfig, *, seed: int) -> Samples:
    if condition == "noisy_labels":
        share = config.study.label_noise
        return replace(
            drawn,
            train=mislabelled(drawn.train, share=share, classes=drawn.classes, seed=seed),
            validation=mislabelled(drawn.validation, share=share, classes=drawn.classes, seed=seed),
        )
    if condition == "few_images":
        return replace(drawn, train=fewer(drawn.train, config.study.few_images, seed=seed))
    if condition == "permuted_pixels":
        order = _pixel_order(drawn.train.images, seed)
        return _each(drawn, lambda split, _: Split(_reordered(split.images, order), split.labels))
    if condition == "permuted_labels":
        return _each(drawn, lambda split, name: _relabelled(split, name, seed))
    return drawn


def _each(drawn: Samples, change) -> Samples:  # type: ignore[no-untyped-def] # noqa: ANN001
    named = {name: getattr(drawn, name) for name in ("train", "validation", "test")}
    return replace(drawn, **{name: change(split, name) for name, split in named.items()})


def _pixel_order(images: Tensor, seed: int) -> Tensor:
    """Return one fixed order of all pixels, the same for every image of the seed."""
    pixels = int(images.shape[2] * images.shape[3])
    return torch.randperm(pixels, generator=generator_of(seed, "last_layer_probe.pixels"))


def _reordered(images: Tensor, order: Tensor) -> Tensor:
    return images.flatten(2)[:, :, order].reshape(images.shape)


def _relabelled(split: Split, name: str, seed: int) -> Split:
    draw = generator_of(seed, f"last_layer_probe.labels.{name}")
    return Split(split.images, split.labels[torch.randperm(len(split), generator=draw)])


def mislabelled(split: Split, *, share: float, classes: int, seed: int) -> Split:
    """Return the split with a share of wrong labels.

    Args:
        split: Labels from 0.
        share: Of wrong labels, 0 to 1.
        classes: Number of classes.
        seed: Seed of the draw.
    """
    labels, _ = noisy_labels(split.labels, share=share, classes=classes, seed=seed)
    return Split(split.images, labels)


def fewer(split: Split, count: int, *, seed: int) -> Split:
    """Return so many images, each class with its share and at least two of every class.

    Args:
        split: Labels from 0.
        count: Images; the result may hold a few more, since no class is left out.
        seed: Seed of the draw; more images keep those there were.
    """
    return Split(
        *(t[rows_of_fewer(split.labels, count, seed=seed)] for t in (split.images, split.labels))
    )


def rows_of_fewer(labels: Tensor, count: int, *, seed: int) -> Tensor:
    """Return the rows that ``fewer`` keeps, int64, rising.

    Args:
        labels: int64, shape (n,).
        count: As for ``fewer``.
        seed: As for ``fewer``.
    """
    share = min(1.0, count / len(labels))
    rows = []
    for number in torch.unique(labels):
        members = torch.nonzero(labels == number).flatten()
        draw = generator_of(seed, f"last_layer_probe.fewer.{int(number)}")
        order = torch.randperm(len(members), generator=draw)
        rows.append(members[order[: max(min(2, len(members)), round(share * len(members)))]])
    return torch.cat(rows).sort().values


def imbalanced_rows(labels: Tensor, ratio: float, *, seed: int) -> Tensor:
    """Return rows whose class frequencies fall geometrically to 1 / ratio, at least two a class.

    Args:
        labels: int64, shape (n,), 0 to classes - 1.
        ratio: Most over least frequent class, 1 or more.
        seed: Seed of the draw, and of which class is rare.
    """
    classes = torch.unique(labels)
    rank = torch.randperm(len(classes), generator=generator_of(seed, "last_layer_probe.rare"))
    rows = []
    for number, place in zip(classes, rank.tolist(), strict=True):
        members = torch.nonzero(labels == number).flatten()
        kept = len(members) * ratio ** (-place / max(1, len(classes) - 1))
        draw = generator_of(seed, f"last_layer_probe.imbalance.{int(number)}")
        order = torch.randperm(len(members), generator=draw)
        rows.append(members[order[: max(min(2, len(members)), round(kept))]])
    return torch.cat(rows).sort().values
