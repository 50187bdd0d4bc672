"""The conditions of the map "when does zapping pay", and the reduced data of each.

Our own study, in no paper: the transfer and selection classes stay as they are, so that all
conditions are judged on the same unseen classes; only what is pre-trained on is made smaller, or
more alike. A smaller draw is part of the larger one, so that neighbours differ in one thing alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import torch

from relearn.data.images import Split, Stream
from relearn.data.randomness import generator_of
from relearn.data.tasks import draw_classes
from relearn.errors import ParameterError

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.zap.config import PolicyConfig, ZapConfig
    from relearn.methods.zap.map_config import ZapMapConfig

_BASE_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Condition:
    """One cell of the map.

    Attributes:
        classes: ``few`` or ``many`` base classes.
        images: ``few`` or ``many`` training images a class.
        similarity: ``random`` base classes, or those ``alike`` an anchor class.
    """

    classes: str
    images: str
    similarity: str

    @property
    def name(self) -> str:
        """A label for folders and runs."""
        return f"{self.classes}_classes.{self.images}_images.{self.similarity}"


def conditions() -> list[Condition]:
    """Return all conditions, in the order of the table."""
    sides = ("few", "many")
    return [Condition(*levels) for levels in product(sides, sides, ("random", "alike"))]


def reduced_stream(
    stream: Stream, condition: Condition, sizes: ZapMapConfig, *, seed: int
) -> Stream:
    """Return the stream with fewer base classes and fewer images of each; the rest is untouched.

    Args:
        stream: All data.
        condition: Which cell of the map.
        sizes: What few and many mean.
        seed: Classes and images are drawn anew for each seed of a pair.

    Raises:
        ParameterError: The stream has fewer classes, or a class has fewer images.
    """
    count, images = (
        getattr(sizes.classes, condition.classes),
        getattr(sizes.images, condition.images),
    )
    train = stream.split("train")
    if count > len(train.classes):
        raise ParameterError(
            f"zap_map.classes.{condition.classes}: got {count}, but the stream has "
            f"{len(train.classes)} base classes; lower it or raise data.split.base_classes"
        )
    choose = alike_classes if condition.similarity == "alike" else random_classes
    chosen = choose(train, count, seed=seed)
    splits = dict(stream.splits)
    for name in _BASE_SPLITS:
        if name in splits:
            splits[name] = _thinned(splits[name], chosen, images, seed=seed, name=name)
    short = images - int(torch.bincount(splits["train"].labels)[chosen].min())
    if short > 0:
        raise ParameterError(
            f"zap_map.images.{condition.images}: got {images}, but a base class has only "
            f"{images - short} training images; lower it or raise data.split.train_share"
        )
    return Stream(splits, stream.class_names, stream.task_of_class)


def random_classes(split: Split, count: int, *, seed: int) -> Tensor:
    """Return ``count`` classes drawn at random, int64; a smaller count gives the first of them.

    Args:
        split: Base classes.
        count: Classes.
        seed: Seed of the draw.
    """
    return draw_classes(split.classes, count, seed=seed, name="zap_map.random")


def alike_classes(split: Split, count: int, *, seed: int) -> Tensor:
    """Return a random anchor class and those nearest to it by the distance of mean images.

    Args:
        split: Base classes.
        count: Classes, the anchor included.
        seed: Seed of the anchor.

    Returns:
        int64, shape (count,), nearest first; of two at one distance the lower number.
    """
    anchor = draw_classes(split.classes, 1, seed=seed, name="zap_map.anchor")
    means = mean_images(split, split.classes)
    away = (means - means[split.classes == anchor]).norm(dim=1)
    return split.classes[away.argsort(stable=True)[:count]]


def mean_images(split: Split, classes: Tensor) -> Tensor:
    """Return the mean image of each class, float64 in 0..255, shape (classes, pixels).

    Args:
        split: Images.
        classes: int64, shape (classes,).
    """
    rows = [split.images[split.labels == c].flatten(1).double().mean(0) for c in classes]
    return torch.stack(rows)


def class_distance(split: Split, classes: Tensor) -> float:
    """Return how far apart the classes are: root mean square over pixels and pairs of classes.

    The distance is that of their mean images, in grey levels 0..255. It says whether ``alike``
    classes are alike.

    Args:
        split: All images of the base classes, so that few images do not add noise.
        classes: int64, at least two.
    """
    means = mean_images(split, classes)
    distances = torch.pdist(means) / math.sqrt(means.shape[1])
    return float(distances.square().mean().sqrt())


def _thinned(split: Split, classes: Tensor, images: int, *, seed: int, name: str) -> Split:
    """Return at most ``images`` samples of each class; a smaller draw is part of a larger one."""
    kept = []
    for number in classes.sort().values:
        rows = torch.nonzero(split.labels == number).flatten()
        draw = generator_of(seed, f"zap_map.images.{name}.{int(number)}")
        kept.append(rows[torch.randperm(len(rows), generator=draw)[:images]].sort().values)
    chosen = torch.cat(kept)
    return Split(split.images[chosen], split.labels[chosen])


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """Return the optimizer steps of one pass; the last batch may be smaller.

    Args:
        samples: Images that train.
        batch_size: Images a step.
    """
    return -(-samples // batch_size)


def config_of(config: ZapConfig, sizes: ZapMapConfig, samples: int) -> ZapConfig:
    """Return the knobs of a condition: only two arms, as many steps as in every other condition.

    Args:
        config: Knobs of ``zap``; of its arms the baseline and the treated one are kept.
        sizes: Knobs of the map.
        samples: Training images of the condition.

    Raises:
        ParameterError: ``zap`` is set to something that the map cannot vary.
    """
    _require_mappable(config)
    passes = round(sizes.steps / steps_per_epoch(samples, config.train.batch_size))
    epochs = max(sizes.smallest_epochs, passes)
    evidence = config.evidence.model_copy(update={"sham_arm": ""})
    pair = (evidence.baseline_arm, evidence.treated_arm)
    on = {name: name in pair for name in type(config.arms).model_fields}
    policy = _matched(config, sizes) if sizes.resets == "matched" else config.policy
    return config.model_copy(
        update={
            "arms": config.arms.model_copy(update=on),
            "train": config.train.model_copy(update={"epochs": epochs}),
            "policy": policy,
            "evidence": evidence,
        }
    )


def _matched(config: ZapConfig, sizes: ZapMapConfig) -> PolicyConfig:
    """Return the policy in steps, as it falls in the largest condition."""
    policy = config.policy
    if policy.unit == "steps":
        return policy
    if policy.trigger != "interval":
        raise ParameterError(
            "zap_map.resets: matched needs zap.policy.trigger: interval; a plateau has no length"
        )
    largest = sizes.classes.many * sizes.images.many
    epoch = steps_per_epoch(largest, config.train.batch_size)
    lengths = {name: getattr(policy, name) * epoch for name in ("every", "start", "stop")}
    return policy.model_copy(update={"unit": "steps", **lengths})


def _require_mappable(config: ZapConfig) -> None:
    if config.start_from != "initialisation":
        raise ParameterError(
            f"zap.start_from: {config.start_from} has seen all base classes, so that no condition "
            "of zap_map would be smaller; set it to initialisation"
        )
    if config.compare != "arms":
        raise ParameterError(f"zap.compare: got {config.compare}, zap_map expects arms")
    if config.train.warmup_epochs > 0:
        raise ParameterError(
            "zap.train.warmup_epochs: an epoch has another length in each condition of zap_map; "
            "set it to 0"
        )
