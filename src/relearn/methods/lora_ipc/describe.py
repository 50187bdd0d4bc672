"""What is kept of a task's images once it has ended: Gaussians, centroids, stored images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.data.images import Split
from relearn.methods.lora_ipc.class_statistics import describe_class
from relearn.methods.lora_ipc.samples import first_of_class, together
from relearn.methods.lora_ipc.task_inference import shape_of_class

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from relearn.methods.lora_ipc.readings import Reader
    from relearn.methods.lora_ipc.stream_config import AlignmentConfig, TaskInferenceConfig


def gaussians_of(
    reader: Reader, own: Split, classes: Sequence[int], config: AlignmentConfig, *, seed: int
) -> dict[int, dict[str, Tensor]]:
    """Return, for each class, the Gaussians of its features after its own task.

    Args:
        reader: Of the model after the task.
        own: Training images of the task.
        classes: Its labels.
        config: How many Gaussians a class.
        seed: Seed of the pair.
    """
    features, labels = reader.features(own.images), own.labels.cpu()
    found = {}
    for label in classes:
        door = f"lora_ipc.gaussians.{label}"
        mine = features[labels == label]
        found[label] = vars(describe_class(mine, centroids=config.centroids, seed=seed, door=door))
    return {label: dict(kept) for label, kept in found.items()}


def centroids_of(
    reader: Reader, own: Split, classes: Sequence[int], config: TaskInferenceConfig, *, seed: int
) -> dict[int, dict[str, Tensor]]:
    """Return, for each class, the centroids of its features after the first task.

    Args:
        reader: As for ``gaussians_of``.
        own: As for ``gaussians_of``.
        classes: As for ``gaussians_of``.
        config: How many centroids a class, and which covariance.
        seed: As for ``gaussians_of``.
    """
    features, labels = reader.first_features(own.images), own.labels.cpu()
    found = {}
    for label in classes:
        found[label] = vars(
            shape_of_class(
                features[labels == label],
                centroids=config.centroids,
                seed=seed,
                door=f"lora_ipc.centroids.{label}",
                covariance=config.covariance,
            )
        )
    return {label: dict(kept) for label, kept in found.items()}


def stored_with(memory: dict[str, Tensor], own: Split, per_class: int) -> dict[str, Tensor]:
    """Return the stored images with those of one more task.

    Args:
        memory: Images and labels so far; empty before the first task.
        own: Training images of the task.
        per_class: Images that are stored of each class.
    """
    fresh = first_of_class(own, per_class)
    if memory:
        fresh = together((Split(memory["images"], memory["labels"]), fresh))
    return {"images": fresh.images, "labels": fresh.labels}
