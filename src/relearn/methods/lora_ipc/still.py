"""Rivals that train nothing: nearest class mean, and ridge regression on random features.

References:
    Ridge on random features of a frozen backbone: RanPAC, McDonnell et al. 2023, arXiv 2307.02251.
    It sums Gram matrices task by task; solving on all images so far gives the same weights.
    The nearest mean is written as a last layer: 2 mu f - || mu ||^2 is largest where || f - mu ||
    is smallest.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from relearn.data.batches import to_float
from relearn.data.randomness import generator_of
from relearn.methods.lora_ipc import evaluate
from relearn.methods.lora_ipc.bodies import FullBody
from relearn.methods.lora_ipc.readings import Answer, Reader, chosen_of
from relearn.models.architectures import Architecture
from relearn.models.checkpoint import build
from relearn.models.heads import find_head
from relearn.training.closed_form import ridge_head

if TYPE_CHECKING:
    from relearn.data.images import Split
    from relearn.methods.lora_ipc.arms import Training
    from relearn.methods.lora_ipc.config import LoraIpcConfig
    from relearn.methods.lora_ipc.samples import TaskStream
    from relearn.methods.lora_ipc.trained import Trained
    from relearn.models.checkpoint import Checkpoint
    from relearn.training.device import Device


@dataclass(frozen=True)
class _Known:
    """Features and labels of the images of each task."""

    train: list[tuple[Tensor, Tensor]]
    validation: list[tuple[Tensor, Tensor]]
    test: list[tuple[Tensor, Tensor]]


def learn_still(
    base: Checkpoint,
    tasks: TaskStream,
    config: LoraIpcConfig,
    *,
    training: Training,
    trained: Trained,
    device: Device,
) -> Trained:
    """Return the books of a rival that trains nothing, task after task.

    Args:
        base: The backbone; it keeps every bit.
        tasks: What is learnt.
        config: Knobs.
        training: ``raw_ncm``, ``ncm`` or ``ranpac``.
        trained: Name, seed and digests; what is learnt is written into it.
        device: Where features are computed.
    """
    begun = time.perf_counter()
    known, net = _features(base, tasks, config, training=training, trained=trained, device=device)
    layers = []
    for task in range(tasks.learnt):
        seen = tasks.seen(task)
        if training.name == "ranpac":
            layer, penalty = _ridge(known, task, seen, config, outputs=tasks.outputs)
            trained.curves.append({"penalty": penalty})
        else:
            layer = nearest_mean(*_joined(known.train[: task + 1]), outputs=tasks.outputs)
            trained.curves.append({})
        layers.append(layer)
        trained.tasks.append(list(tasks.classes[task]))
        trained.learnt.append(task + 1)
    seconds = time.perf_counter() - begun
    _judge(known, tasks, layers, trained)
    trained.class_names = list(tasks.class_names[: len(seen)])
    trained.class_numbers = tasks.class_numbers[: len(seen)].tolist()
    trained.heads["plain"] = layers[-1]
    trained.net = net
    trained.costs |= {"learn_seconds": seconds}
    return trained


def nearest_mean(features: Tensor, labels: Tensor, *, outputs: int) -> dict[str, Tensor]:
    """Return weight and bias of the last layer that chooses the nearest class mean.

    Args:
        features: Shape (images, features).
        labels: int64, shape (images,).
        outputs: Rows of the layer; those without images are zero.
    """
    weight = torch.zeros(outputs, features.shape[1])
    bias = torch.zeros(outputs)
    for label in labels.unique().tolist():
        mean = features[labels == label].mean(0)
        weight[label], bias[label] = 2 * mean, -mean.square().sum()
    return {"weight": weight, "bias": bias}


def random_features(features: Tensor, count: int, *, seed: int) -> Tensor:
    """Return relu(f W) with W drawn normal, shape (images, count); the features for 0.

    Args:
        features: f, shape (images, features).
        count: Random features.
        seed: Seed of the pair.
    """
    if not count:
        return features
    generator = generator_of(seed, "lora_ipc.random_features")
    width = features.shape[1]
    return torch.relu(features @ (torch.randn(width, count, generator=generator) / width**0.5))


def _features(
    base: Checkpoint,
    tasks: TaskStream,
    config: LoraIpcConfig,
    *,
    training: Training,
    trained: Trained,
    device: Device,
) -> tuple[_Known, dict[str, Tensor]]:
    """Return the features of all images, and the weights of the net that has them."""
    net = build(base)
    body = FullBody(device.place(net), find_head(net).name, config.lora.names)
    reader = Reader(body, base.architecture, voters=1)
    count = config.rivals.ridge_features if training.name == "ranpac" else 0

    def of(split: Split) -> tuple[Tensor, Tensor]:
        if not len(split):
            return torch.zeros(0), split.labels
        if training.name == "raw_ncm":
            shape = base.architecture
            return to_float(split.images, shape.mean, shape.std).flatten(1), split.labels
        found = random_features(reader.features(split.images), count, seed=trained.seed)
        return found, split.labels

    chosen = [own[: tasks.learnt] for own in (tasks.train, tasks.validation, tasks.test)]
    known = _Known(*([of(split) for split in splits] for splits in chosen))
    trained.similarity = evaluate.similarity_of_tasks(
        [reader.features(split.images) for split in chosen[0]]
    )
    if training.name == "raw_ncm":
        trained.architecture = asdict(_pixels(base.architecture, tasks.outputs))
        return known, {}
    return known, {name: t.detach().cpu().clone() for name, t in net.state_dict().items()}


def _ridge(
    known: _Known, task: int, seen: Sequence[int], config: LoraIpcConfig, *, outputs: int
) -> tuple[dict[str, Tensor], float]:
    """Return the last layer whose penalty is best on the validation images so far."""
    features, labels = _joined(known.train[: task + 1])
    held, truth = _joined(known.validation[: task + 1])
    best: tuple[float, float, dict[str, Tensor]] | None = None
    for penalty in sorted(config.rivals.penalties, reverse=True):
        weight, bias = ridge_head(features, labels, classes=outputs, penalty=penalty)
        layer = {"weight": weight, "bias": bias}
        score = float((chosen_of(held, layer, seen) == truth).double().mean())
        if best is None or score > best[0]:
            best = (score, penalty, layer)
    if best is None:
        raise ValueError("there are no penalties")
    return best[2], best[1]


def _judge(
    known: _Known, tasks: TaskStream, layers: Sequence[dict[str, Tensor]], trained: Trained
) -> None:
    arm = trained.name

    def ask(pairs: Sequence[tuple[Tensor, Tensor]], task: int) -> list[dict[str, Answer]]:
        rows = [chosen_of(features, layers[task], tasks.seen(task)) for features, _ in pairs]
        return [{arm: Answer(own, torch.full_like(own, -1))} for own in rows]

    last = len(layers) - 1
    trained.accuracy[arm] = []
    for task in range(len(layers)):
        answers = ask(known.test[: task + 1], task)
        found = evaluate.accuracies(answers, tasks.test[: task + 1])
        trained.accuracy[arm] += [found[arm]]
    trained.predictions = evaluate.as_predictions(ask(known.test, last), tasks.test[: last + 1])
    if all(len(labels) for _, labels in known.validation):
        answers = ask(known.validation, last)
        trained.validation = evaluate.accuracies(answers, tasks.validation[: last + 1])


def _joined(pairs: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.cat([features for features, _ in pairs]), torch.cat([own for _, own in pairs])


def _pixels(architecture: Architecture, outputs: int) -> Architecture:
    """Return the net without hidden layers: one row of pixels for each class."""
    return Architecture(
        "mlp",
        architecture.in_channels,
        architecture.image_size,
        outputs,
        {"width": 1, "depth": 0},
        architecture.mean,
        architecture.std,
    )
