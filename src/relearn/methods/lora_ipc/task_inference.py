"""Finding out to which task an image belongs, and answering with the model after that task.

The features of all images are those after the first task, of length 1. Each class is described by
a few centroids mu with a covariance; an image belongs to the task of the class whose centroid is
nearest by (f - mu)^T P (f - mu). All images of a batch then go through the net in one pass, sorted
by task, each task with a weight composed once for all its images.

References:
    LoRAC-IPC, arXiv 2504.13407, and its official code: 4 centroids, covariance + 1e-4 I, shrunk by
    its mean variance, brought to correlation form before it is inverted. The official code runs
    the net once for every image and composes all weights anew each time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from relearn.errors import ParameterError, one_of
from relearn.methods.lora_ipc.class_statistics import SMALLEST_VARIANCE, assign_centroids
from relearn.models import heads

if TYPE_CHECKING:
    from relearn.methods.lora_ipc.adapters import Adapters

COVARIANCES = ("correlation", "diagonal")
"""``correlation``: whole covariance in correlation form, as the official code; ``diagonal``:
variances alone, which needs features instead of features^2 numbers a centroid."""

PER_IMAGE = "per image"
"""Each image is answered by itself: the only way that may be a headline."""

BATCH_WISE = "batch-wise: leaks the task boundary"
"""All images of a batch get the task that most of them seem to have. If test batches hold one task
each, that tells the net where a task ends; such figures stand apart and never in a headline."""


@dataclass(frozen=True)
class ClassShape:
    """One class as task inference knows it.

    Attributes:
        means: Shape (centroids, features).
        whitening: L with P = L L^T, shape (centroids, features, features), or (centroids,
            features) for a diagonal P.
    """

    means: Tensor
    whitening: Tensor


@dataclass(frozen=True)
class Prediction:
    """The answer for a batch.

    Attributes:
        logits: Of the last layer, minus infinity for classes not learnt, (batch, outputs).
        classes: Chosen class of each image, int64, shape (batch,).
        tasks: Task whose model answered, int64, shape (batch,).
        protocol: ``PER_IMAGE`` or ``BATCH_WISE``.
    """

    logits: Tensor
    classes: Tensor
    tasks: Tensor
    protocol: str


def shape_of_class(
    features: Tensor, *, centroids: int, seed: int, door: str, covariance: str = "correlation"
) -> ClassShape:
    """Return centroids and covariances of one class.

    Args:
        features: Of its images after the first task, of length 1, shape (images, features).
        centroids: At most so many; 4 in the official code.
        seed: Of the run.
        door: Name of the draw that k-means begins with.
        covariance: One of ``COVARIANCES``.

    Raises:
        ParameterError: There are no images, or the covariance is not known.
    """
    if covariance not in COVARIANCES:
        raise one_of("lora_ipc.task_inference.covariance", covariance, COVARIANCES)
    members = assign_centroids(features, centroids, seed=seed, door=door)
    groups = [features[members == number] for number in range(int(members.max()) + 1)]
    whiten = _whitening if covariance == "correlation" else _inverse_deviation
    return ClassShape(
        torch.stack([group.mean(0) for group in groups]), torch.stack(list(map(whiten, groups)))
    )


def infer_tasks(
    features: Tensor, shapes: Mapping[int, ClassShape], tasks: Sequence[Sequence[int]]
) -> Tensor:
    """Return for each image the task of the nearest class, int64, shape (batch,).

    Args:
        features: After the first task, of length 1, shape (batch, features).
        shapes: Class to its centroids.
        tasks: For each task its classes.

    Raises:
        ParameterError: A class of a task has not been described.
    """
    missing = [label for classes in tasks for label in classes if label not in shapes]
    if missing or not tasks:
        raise ParameterError(
            f"lora_ipc.task_inference: class {missing[0] if missing else '-'} has no centroids; "
            "describe the classes of every task (shape_of_class)"
        )
    owners = [task for task, classes in enumerate(tasks) for _ in classes]
    distances = [_nearest(features, shapes[label]) for classes in tasks for label in classes]
    nearest = torch.stack(distances, 1).argmin(1)
    return torch.tensor(owners, device=features.device)[nearest]


def vote_over_batch(tasks: Tensor) -> Tensor:
    """Return the most frequent task for every image; see ``BATCH_WISE`` for why that leaks.

    Args:
        tasks: Task of each image, int64, shape (batch,).
    """
    found, counts = tasks.unique(return_counts=True)
    winner: Tensor = found[counts.argmax()]
    return winner.expand(len(tasks)).clone()


@torch.no_grad()
def features_after_first_task(adapters: Adapters, images: Tensor) -> Tensor:
    """Return features of length 1 of the model after the first task, shape (batch, features).

    Args:
        adapters: With at least one finished task.
        images: Shape (batch, channels, height, width).

    Raises:
        ParameterError: No task has been learnt.
        TrainingError: A task has begun and not ended.
    """
    return functional.normalize(_after_first_task(adapters, images))


def by_task(
    adapters: Adapters, images: Tensor, tasks: Tensor, ask: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return what is asked of each image by the model after its own task, in one pass.

    Args:
        adapters: With at least one finished task.
        images: Shape (batch, channels, height, width).
        tasks: For each image the number of a finished task, int64, shape (batch,).
        ask: The net or a part of it; it is given all images at once, sorted by task.

    Raises:
        ParameterError: A task has not been learnt.
        TrainingError: A task has begun and not ended.
    """
    order = tasks.argsort(stable=True)
    with adapters.per_image(tasks[order].cpu()):
        found = ask(images[order.to(images.device)])
    return found[order.argsort().to(found.device)]


@torch.no_grad()
def predict(
    adapters: Adapters,
    images: Tensor,
    shapes: Mapping[int, ClassShape],
    *,
    batch_wise: bool = False,
) -> Prediction:
    """Return the answers for a batch that may mix all tasks, in two passes over it.

    Images of the first task need no second one.

    Args:
        adapters: With at least one finished task; the net is in the mode it is to answer in.
        images: Shape (batch, channels, height, width).
        shapes: Class to its centroids.
        batch_wise: Whether the tasks of the batch are put to the vote (``BATCH_WISE``).

    Raises:
        ParameterError: No task has been learnt, or a class has not been described.
        TrainingError: A task has begun and not ended.
    """
    features = _after_first_task(adapters, images)
    tasks = infer_tasks(functional.normalize(features), shapes, adapters.classes)
    if batch_wise:
        tasks = vote_over_batch(tasks)
    later = tasks.nonzero().flatten()  # the others have been through their model just now
    if len(later):
        features[later] = by_task(adapters, images[later], tasks[later], _features_of(adapters))
    logits = adapters.head(features)
    seen = [label for classes in adapters.classes for label in classes]
    logits = only_classes(logits, seen)
    return Prediction(logits, logits.argmax(1), tasks, BATCH_WISE if batch_wise else PER_IMAGE)


def _after_first_task(adapters: Adapters, images: Tensor) -> Tensor:
    with adapters.per_image(torch.zeros(len(images), dtype=torch.int64)):
        return _features_of(adapters)(images)


def _features_of(adapters: Adapters) -> Callable[[Tensor], Tensor]:
    return lambda images: heads.features(adapters.model, images, adapters.head_name)


def only_classes(logits: Tensor, classes: Sequence[int]) -> Tensor:
    """Return the logits with minus infinity for all other classes.

    Over the classes of the present task this is what local cross-entropy is taken of; over all
    classes learnt so far, what an answer is chosen from.

    Args:
        logits: Shape (batch, outputs).
        classes: Outputs that stay.
    """
    kept = torch.zeros(logits.shape[1], dtype=torch.bool, device=logits.device)
    kept[list(classes)] = True
    return logits.masked_fill(~kept, -torch.inf)


def _whitening(group: Tensor) -> Tensor:
    """Return L with L L^T the inverse of the shrunk covariance in correlation form."""
    centred = group.double() - group.double().mean(0)
    covariance = centred.T @ centred / max(1, len(group) - 1)
    identity = torch.eye(group.shape[1], dtype=torch.float64, device=group.device)
    covariance = covariance + SMALLEST_VARIANCE * identity
    covariance = covariance + covariance.diagonal().mean() * identity
    deviation = covariance.diagonal().sqrt()
    lower = torch.linalg.cholesky(covariance / torch.outer(deviation, deviation))
    inverse: Tensor = torch.linalg.solve_triangular(lower, identity, upper=False)
    return inverse.T.to(group).contiguous()


def _inverse_deviation(group: Tensor) -> Tensor:
    """Return 1 / deviation of each feature, shrunk by the mean variance."""
    variance = group.var(0, unbiased=len(group) > 1) + SMALLEST_VARIANCE
    return (variance + variance.mean()).rsqrt()


def _nearest(features: Tensor, shape: ClassShape) -> Tensor:
    """Return the squared distance to the nearest centroid of a class, shape (batch,)."""
    difference = features.unsqueeze(0) - shape.means.unsqueeze(1)
    if shape.whitening.ndim == 2:
        white = difference * shape.whitening.unsqueeze(1)
    else:
        white = difference @ shape.whitening
    nearest: Tensor = white.square().sum(2).amin(0)
    return nearest
