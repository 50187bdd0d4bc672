"""The figures of one arm, read off its accuracies after each task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from relearn.evaluation import continual

if TYPE_CHECKING:
    from torch import Tensor


def accuracy_matrix(rows: Sequence[Sequence[float]]) -> Tensor:
    """Return a[t, j], the accuracy on task j after t + 1 tasks, zero where not learnt yet.

    Args:
        rows: After each evaluation the accuracy on each task learnt so far.
    """
    matrix = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.float64)
    for number, row in enumerate(rows):
        matrix[number, : len(row)] = torch.tensor(row, dtype=torch.float64)
    return matrix


def figures(rows: Sequence[Sequence[float]], learnt: Sequence[int]) -> dict[str, float]:
    """Return the figures of an arm by metric; those of the past only where there is one.

    ``forgetting`` takes the best of earlier evaluations without the last one and may be negative;
    ``forgetting_clamped`` takes it in and may not.

    Args:
        rows: As for ``accuracy_matrix``.
        learnt: Tasks learnt at each evaluation, rising.
    """
    matrix = accuracy_matrix(rows)
    found = {
        "final_average_accuracy": continual.average_accuracy(matrix),
        "average_incremental_accuracy": continual.average_incremental_accuracy(matrix, learnt),
        "learning_accuracy": continual.learning_accuracy(matrix, learnt),
    }
    if len(rows) > 1:
        found |= {
            "forgetting": continual.forgetting_of_earlier(matrix, learnt),
            "forgetting_clamped": continual.forgetting_clamped(matrix, learnt),
            "backward_transfer": continual.backward_transfer_of_earlier(matrix, learnt),
        }
    return found
