"""Knobs of the stream of tasks, of the last layer, and of how tasks are inferred.

Imports no torch.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from relearn.strict import Strict


class TasksConfig(Strict):
    """How the transfer classes become tasks.

    Attributes:
        count: Tasks of the stream; 0 = as many as ``data.split.tasks`` made.
        order: ``seeded``: every seed has a class order of its own; ``natural``: by class number,
            as the official code; ``stream``: that of the stream, the same for all seeds.
        learn: Tasks that are learnt, the first ones; 0 = all. The rest may be added later.
        planned: Tasks that there must be room for; 0 = as many as the stream has.
        outputs: Outputs of the last layer; 0 = one for each class of the stream.
    """

    count: int = Field(ge=0)
    order: Literal["seeded", "natural", "stream"]
    learn: int = Field(ge=0)
    planned: int = Field(ge=0)
    outputs: int = Field(ge=0)


class SamplesConfig(Strict):
    """Which images of a class train, validate and test; drawn anew for each seed.

    Attributes:
        validation_share: Share of ``transfer_support`` that validates, in each class at least one
            image if above 0; on these all choices are made.
        train_per_class: Images a class that train, at most; 0 = all that are left.
        test_per_class: Images of ``transfer_query`` a class that test, at most; 0 = all.
    """

    validation_share: float = Field(ge=0, lt=1)
    train_per_class: int = Field(ge=0)
    test_per_class: int = Field(ge=0)


class AlignmentConfig(Strict):
    """Training the last layer again after each task, on drawn features.

    Attributes:
        enabled: Off: the arms keep the last layer as the tasks left it.
        first_task: Also after the first task, whose last layer has no others to be aligned with,
            but may be far from ready where modules want a low rate; off in the official code.
        centroids: Gaussians a class, found by k-means.
        epochs: Passes; each draws anew.
        per_centroid: Features drawn from each Gaussian for a pass.
        batch_size: Drawn features a step.
        learning_rate: Of SGD, falling as a cosine.
        momentum: Of SGD.
        weight_decay: L2 penalty.
    """

    enabled: bool
    first_task: bool
    centroids: int = Field(ge=1)
    epochs: int = Field(ge=1)
    per_centroid: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    learning_rate: float = Field(gt=0)
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)


class TaskInferenceConfig(Strict):
    """Finding the task of an image, so that the model after that task answers.

    Attributes:
        enabled: Whether arms that end in ``_tii`` are there too: the same trainings read so.
        centroids: Centroids a class.
        covariance: ``correlation`` (official) or ``diagonal``, which needs less memory.
        batch_wise: Whether arms that end in ``_batch_wise`` are there too: a vote over test
            batches of one task, which leaks where tasks end; never a headline.
        batch_wise_images: Images of such a batch.
    """

    enabled: bool
    centroids: int = Field(ge=1)
    covariance: Literal["correlation", "diagonal"]
    batch_wise: bool
    batch_wise_images: int = Field(ge=1)


class RehearsalConfig(Strict):
    """Images of earlier classes that arms ending in ``_rehearsal`` train on again.

    Attributes:
        per_class: Images kept of each class.
    """

    per_class: int = Field(ge=1)


__all__ = [
    "AlignmentConfig",
    "RehearsalConfig",
    "SamplesConfig",
    "TaskInferenceConfig",
    "TasksConfig",
]
