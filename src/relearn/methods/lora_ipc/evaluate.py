"""What is measured after each task: accuracies of all readings, drift, orthogonality, ranking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from relearn.methods.lora_ipc.orthogonality import report_orthogonality
from relearn.methods.lora_ipc.readings import Answer

if TYPE_CHECKING:
    from relearn.data.images import Split
    from relearn.methods.lora_ipc.adapters import Adapters
    from relearn.methods.lora_ipc.arms import Reading
    from relearn.methods.lora_ipc.modules import AdaptedMatrix
    from relearn.methods.lora_ipc.readings import Reader
    from relearn.methods.lora_ipc.trained import Curve, Trained


def ask(
    reader: Reader,
    trained: Trained,
    readings: Mapping[str, Reading],
    splits: Sequence[Split],
    *,
    first: dict[int, Tensor] | None = None,
) -> list[dict[str, Answer]]:
    """Return, for each split, the answers of every reading by arm.

    Args:
        reader: Of what has been trained.
        trained: Its last layers, centroids and the labels learnt so far.
        readings: Arm to its reading.
        splits: Images of one task each.
        first: Place of a split to its features after the first task, from which tasks are inferred;
            they never change, so that what is missing is computed once and put there.
    """
    known = {} if first is None else first
    seen = [label for own in trained.tasks for label in own]
    plain = trained.heads["plain"]
    sizes = [len(split) for split in splits]
    whole = reader.answer(
        torch.cat([split.images for split in splits]),
        readings,
        last_layers={False: plain, True: trained.heads.get("aligned", plain)},
        shapes=trained.centroids(),
        seen=seen,
        sizes=sizes,
        first=_first(reader, known, splits) if any(r.inferred for r in readings.values()) else None,
    )
    parts = {
        arm: zip(answer.predicted.split(sizes), answer.tasks.split(sizes), strict=True)
        for arm, answer in whole.items()
    }
    return [{arm: Answer(*next(part)) for arm, part in parts.items()} for _ in splits]


def _first(reader: Reader, known: dict[int, Tensor], splits: Sequence[Split]) -> Tensor:
    for place, split in enumerate(splits):
        if place not in known:
            known[place] = reader.first_features(split.images)
    return torch.cat([known[place] for place in range(len(splits))])


def accuracies(
    answers: Sequence[Mapping[str, Answer]], splits: Sequence[Split]
) -> dict[str, list[float]]:
    """Return, by arm, the accuracy on each split.

    Args:
        answers: For each split.
        splits: With their labels.
    """
    pairs = list(zip(answers, splits, strict=True))
    return {
        arm: [_share(own[arm].predicted == split.labels.cpu()) for own, split in pairs]
        for arm in (answers[0] if answers else {})
    }


def task_accuracies(answers: Sequence[Mapping[str, Answer]]) -> dict[str, float]:
    """Return, for each arm that infers tasks, the share of images whose task was found.

    Args:
        answers: For each task, in order, those to its images.
    """
    found = {}
    for arm in answers[0] if answers else {}:
        hits = [own[arm].tasks == task for task, own in enumerate(answers)]
        if not any(bool((own[arm].tasks < 0).any()) for own in answers):
            found[arm] = _share(torch.cat(hits))
    return found


def as_predictions(
    answers: Sequence[Mapping[str, Answer]], splits: Sequence[Split]
) -> dict[str, dict[str, Tensor]]:
    """Return, by arm, one row for each image: index, label, predicted, task, inferred task.

    Args:
        answers: For each task, in order.
        splits: Their images.
    """
    labels = torch.cat([split.labels.cpu() for split in splits])
    sizes = torch.tensor([len(split) for split in splits])
    common = {
        "index": torch.arange(len(labels)),
        "label": labels,
        "task": torch.arange(len(splits)).repeat_interleave(sizes),
    }
    return {
        arm: {
            **common,
            "predicted": torch.cat([own[arm].predicted for own in answers]),
            "inferred_task": torch.cat([own[arm].tasks for own in answers]),
        }
        for arm in answers[0]
    }


def drift_between(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> Curve:
    """Return || W^(t) - W^(t-1) ||_F^2 of each matrix.

    Args:
        before: Effective weights after the previous task.
        after: Effective weights after this one.
    """
    return {
        name: float((weight.double() - before[name].double()).square().sum())
        for name, weight in after.items()
    }


@torch.no_grad()
def overlap(matrix: AdaptedMatrix) -> float:
    """Return the mean | A_i^T A_j | over the columns of different modules; 0 with one module.

    Args:
        matrix: Between tasks.
    """
    columns = matrix.history_a.double()
    if len(matrix.ranks) < 2:
        return 0.0
    owner = torch.arange(len(matrix.ranks)).repeat_interleave(torch.tensor(matrix.ranks))
    apart = owner.unsqueeze(0) != owner.unsqueeze(1)
    return float((columns.T @ columns).abs().cpu()[apart].mean())


def tables_of(adapters: Adapters) -> dict[str, Curve]:
    """Return by kind of table, and name of the matrix, how orthogonal the modules are.

    Args:
        adapters: Between tasks.
    """
    reports = report_orthogonality(adapters.matrices.values())
    return {
        "distance": {one.name: one.distance for one in reports},
        "largest_cross_term": {one.name: one.largest_cross_term for one in reports},
        "largest_cosine": {one.name: one.largest_cosine for one in reports},
        "condition": {one.name: one.condition for one in reports},
        "overlap": {name: overlap(matrix) for name, matrix in adapters.matrices.items()},
    }


def similarity_of_tasks(features: Sequence[Tensor]) -> list[list[float]]:
    """Return the cosine between the mean features of tasks, all features' mean taken off.

    Args:
        features: For each task, of the backbone, shape (images, features).
    """
    centre = torch.cat(list(features)).mean(0)
    means = torch.stack([own.mean(0) - centre for own in features]).double()
    unit = torch.nn.functional.normalize(means)
    found: list[list[float]] = (unit @ unit.T).tolist()
    return found


def _share(hits: Tensor) -> float:
    return float(hits.double().mean())
