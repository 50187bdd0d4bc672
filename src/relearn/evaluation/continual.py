"""Measures of continual learning, read off one accuracy matrix.

The matrix ``a`` has one row for each evaluation and one column for each task (or class), in the
order in which the tasks are learnt: ``a[i, j]`` is the accuracy on task j once ``learnt[i]`` tasks
have been learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def average_accuracy(matrix: Tensor) -> float:
    """Return the mean over all tasks after the last evaluation.

    Args:
        matrix: Shape (evaluations, tasks), 0 to 1.
    """
    return float(matrix[-1].mean())


def seen_accuracy(matrix: Tensor, learnt: Sequence[int]) -> Tensor:
    """Return, for each evaluation, the mean accuracy over the tasks learnt so far.

    Args:
        matrix: Shape (evaluations, tasks).
        learnt: Tasks learnt at each evaluation, 1 or more, rising.

    Returns:
        Shape (evaluations,): the retention curve.
    """
    return torch.stack([row[:n].mean() for row, n in zip(matrix, learnt, strict=True)])


def forgetting(matrix: Tensor, learnt: Sequence[int]) -> float:
    """Return the mean over tasks of (best accuracy since the task was learnt - final accuracy).

    F = mean_j (max_{i: learnt_i > j} a[i, j] - a[last, j]), never negative. Tasks that no
    evaluation but the last has seen count as 0, as in Chaudhry et al. 2018.

    Args:
        matrix: Shape (evaluations, tasks).
        learnt: Tasks learnt at each evaluation, rising.
    """
    learnt_at = torch.tensor(list(learnt)).unsqueeze(1)
    tasks = torch.arange(matrix.shape[1]).unsqueeze(0)
    known = (learnt_at > tasks) & (tasks < learnt_at[-1])
    best = matrix.masked_fill(~known, -1.0).amax(0)
    lost = (best - matrix[-1])[tasks[0] < int(learnt_at[-1])]
    return float(lost.mean())


def backward_transfer(matrix: Tensor, learnt: Sequence[int]) -> float:
    """Return the mean over tasks of (final accuracy - accuracy at its first evaluation).

    Positive when later tasks help earlier ones (Lopez-Paz and Ranzato 2017, equation 3, with the
    first evaluation that has seen a task standing for "just after it was learnt").

    Args:
        matrix: Shape (evaluations, tasks).
        learnt: Tasks learnt at each evaluation, rising.
    """
    changes = []
    for task in range(int(learnt[-1])):
        first = next(i for i, n in enumerate(learnt) if n > task)
        changes.append(matrix[-1, task] - matrix[first, task])
    return float(torch.stack(changes).mean())
