"""Measures of continual learning, read off one accuracy matrix.

The matrix ``a`` has one row for each evaluation and one column for each task (or class), in the
order in which the tasks are learnt: ``a[i, j]`` is the accuracy on task j once ``learnt[i]`` tasks
have been learnt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from relearn.errors import ParameterError

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
        changes.append(matrix[-1, task] - matrix[_first_seen(learnt, task), task])
    return float(torch.stack(changes).mean())


def forgetting_of_earlier(matrix: Tensor, learnt: Sequence[int]) -> float:
    """Return the mean over all tasks but the last of (best accuracy before the end - final).

    F = 1/(T-1) sum_{j<T} (max_{i<last, learnt_i > j} a[i, j] - a[last, j]): the last evaluation
    is not among those the best is taken of, so that a task which is best at the end counts as less
    than zero. This is the convention of HiDe-Prompt and LoRAC-IPC.

    Args:
        matrix: Shape (evaluations, tasks).
        learnt: Tasks learnt at each evaluation, rising; at least two evaluations.

    Raises:
        ParameterError: There is no evaluation before the last, or none that has seen an earlier
            task.
    """
    best = _best_of_earlier(matrix[:-1], learnt[:-1], int(learnt[-1]))
    return float((best - matrix[-1, : len(best)]).mean())


def forgetting_clamped(matrix: Tensor, learnt: Sequence[int]) -> float:
    """Return the same with the last evaluation among those the best is taken of.

    F = 1/(T-1) sum_{j<T} (max_{i, learnt_i > j} a[i, j] - a[last, j]), never negative. This is the
    convention of PILOT; ``forgetting`` takes the mean over all T tasks instead.

    Args:
        matrix: Shape (evaluations, tasks).
        learnt: Tasks learnt at each evaluation, rising; at least two evaluations.

    Raises:
        ParameterError: As for ``forgetting_of_earlier``.
    """
    best = _best_of_earlier(matrix[:-1], learnt[:-1], int(learnt[-1]))
    return float((best - matrix[-1, : len(best)]).clamp(min=0).mean())


def backward_transfer_of_earlier(matrix: Tensor, learnt: Sequence[int]) -> float:
    """Return the mean over all tasks but the last of (final - accuracy at its first evaluation).

    BWT = 1/(T-1) sum_{j<T} (a[last, j] - a[j, j]) (Lopez-Paz and Ranzato 2017, equation 3);
    ``backward_transfer`` takes the mean over all T tasks instead.

    Args:
        matrix: Shape (evaluations, tasks).
        learnt: Tasks learnt at each evaluation, rising; at least two tasks.

    Raises:
        ParameterError: Fewer than two tasks have been learnt.
    """
    tasks = int(learnt[-1])
    if tasks < 2:
        raise ParameterError(f"backward transfer: got {tasks} task(s), expected 2 or more")
    first = [_first_seen(learnt, task) for task in range(tasks - 1)]
    changes = [matrix[-1, task] - matrix[row, task] for task, row in enumerate(first)]
    return float(torch.stack(changes).mean())


def learning_accuracy(matrix: Tensor, learnt: Sequence[int]) -> float:
    """Return the mean accuracy of each task at its first evaluation: what could be learnt.

    Args:
        matrix: Shape (evaluations, tasks).
        learnt: Tasks learnt at each evaluation, rising.
    """
    first = [_first_seen(learnt, task) for task in range(int(learnt[-1]))]
    return float(torch.stack([matrix[row, task] for task, row in enumerate(first)]).mean())


def average_incremental_accuracy(matrix: Tensor, learnt: Sequence[int]) -> float:
    """Return the mean over evaluations of the mean accuracy on the tasks learnt so far.

    Args:
        matrix: Shape (evaluations, tasks).
        learnt: Tasks learnt at each evaluation, rising.
    """
    return float(seen_accuracy(matrix, learnt).mean())


def _first_seen(learnt: Sequence[int], task: int) -> int:
    return next(row for row, count in enumerate(learnt) if count > task)


def _best_of_earlier(before: Tensor, learnt: Sequence[int], tasks: int) -> Tensor:
    """Return the best accuracy before the end of each task but those learnt last."""
    seen = int(learnt[-1]) if len(learnt) else 0
    if seen < 1:
        raise ParameterError(
            f"forgetting: {tasks} task(s) and no evaluation before the last; evaluate after each "
            "task, and learn two tasks or more"
        )
    known = torch.tensor(list(learnt)).unsqueeze(1) > torch.arange(seen).unsqueeze(0)
    return before[:, :seen].masked_fill(~known.to(before.device), -1.0).amax(0)
