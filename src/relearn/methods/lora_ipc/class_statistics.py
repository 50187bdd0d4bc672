"""What is kept of a class instead of its images: a few Gaussians in feature space.

They stand in for old classes when the last layer is trained again (classifier alignment). Each
class is cut into centroids by k-means; a centroid keeps mean and variance of its members.

References:
    Classifier alignment as in SLCA, arXiv 2303.05118, and HiDe-Prompt, arXiv 2310.07234; the
    official code of LoRAC-IPC takes 10 centroids a class. It leaves out centroids with one member;
    here they are drawn with the smallest variance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from relearn.data.randomness import generator_of, seed_of
from relearn.errors import ParameterError

SMALLEST_VARIANCE = 1e-4
"""Added to each variance, as in the official code."""


@dataclass(frozen=True)
class ClassStatistics:
    """The Gaussians of one class.

    Attributes:
        means: Shape (centroids, features).
        variances: Without ``SMALLEST_VARIANCE``, shape (centroids, features).
        counts: Images of each centroid, int64, shape (centroids,).
    """

    means: Tensor
    variances: Tensor
    counts: Tensor


def describe_class(features: Tensor, *, centroids: int, seed: int, door: str) -> ClassStatistics:
    """Return the Gaussians of one class, at most one for each image.

    Args:
        features: Of its images, float, shape (images, features), at least one.
        centroids: 1 for one diagonal Gaussian; more are found by k-means.
        seed: Of the run.
        door: Name of the draw that k-means begins with.

    Raises:
        ParameterError: There are no images, or no centroids are wanted.
    """
    members = assign_centroids(features, centroids, seed=seed, door=door)
    groups = [features[members == number] for number in range(int(members.max()) + 1)]
    return ClassStatistics(
        torch.stack([group.mean(0) for group in groups]),
        torch.stack([group.var(0, unbiased=False) for group in groups]),
        torch.tensor([len(group) for group in groups]),
    )


def assign_centroids(features: Tensor, centroids: int, *, seed: int, door: str) -> Tensor:
    """Return for each image the number of its centroid, int64, shape (images,); none is empty.

    Args:
        features: Shape (images, features), at least one image.
        centroids: 1 or more; no more than images are used.
        seed: Of the run.
        door: Name of the draw.

    Raises:
        ParameterError: There are no images, or no centroids are wanted.
    """
    if centroids < 1:
        raise ParameterError(f"lora_ipc.centroids: got {centroids}, expected 1 or more")
    if not len(features):
        raise ParameterError("lora_ipc.tasks: a class has no training images; leave it out")
    wanted = min(centroids, len(features))
    if wanted == 1:
        return torch.zeros(len(features), dtype=torch.int64)
    from sklearn.cluster import KMeans

    state = seed_of(seed, door) % 2**32
    means = KMeans(n_clusters=wanted, n_init=1, random_state=state)
    found = torch.from_numpy(means.fit_predict(features.detach().cpu().double().numpy()))
    # equal features leave centroids without members
    numbers: Tensor = found.long().unique(return_inverse=True)[1]
    return numbers


def sample_features(
    statistics: Mapping[int, ClassStatistics], *, each: int, seed: int, door: str
) -> tuple[Tensor, Tensor]:
    """Return drawn features and their classes, shuffled: as many for each centroid of each class.

    Args:
        statistics: Class to its Gaussians.
        each: Draws from each centroid, 1 or more.
        seed: Of the run.
        door: Name of the draw.

    Returns:
        Features, shape (draws, features), and classes, int64, shape (draws,).

    Raises:
        ParameterError: There are no classes.
    """
    if not statistics:
        raise ParameterError("lora_ipc.alignment: no class has statistics; learn a task first")
    generator = generator_of(seed, door)
    means = torch.cat([own.means for own in statistics.values()])
    variances = torch.cat([own.variances for own in statistics.values()])
    counts = torch.tensor([len(own.means) for own in statistics.values()])
    owners = torch.tensor(list(statistics)).repeat_interleave(counts)
    noise = torch.randn((each, *means.shape), generator=generator).to(means)
    drawn = (means + noise * (variances + SMALLEST_VARIANCE).sqrt()).flatten(0, 1)
    order = torch.randperm(len(drawn), generator=generator)
    return drawn[order.to(drawn.device)], owners.repeat(each)[order]
