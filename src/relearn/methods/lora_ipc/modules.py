"""What one matrix has learnt: the factors of every task, and the weights they had when it ended.

The row of the bank of task t, with the factors up to t, is the model after task t; nothing else is
needed to come back to it.

References:
    LoRAC-IPC, arXiv 2504.13407. The official code makes the factors of all planned tasks at the
    start and hands them all to the optimizer; here a module exists from its task on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from relearn.methods.lora_ipc.composition import Observe, Part, column_weights, compose

if TYPE_CHECKING:
    from relearn.methods.lora_ipc.matrices import Place


@dataclass(frozen=True)
class Snapshot:
    """Which composition of the finished tasks is meant.

    Attributes:
        task: The model after this task; -1 is the backbone alone.
        without: Tasks whose modules are left out.
    """

    task: int
    without: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Run:
    """Images of a batch, one after the other, that one composition answers.

    Attributes:
        snapshot: Which composition.
        first: Place of the first image.
        last: Place of the last image + 1.
    """

    snapshot: Snapshot
    first: int
    last: int

    def __len__(self) -> int:
        """Return the number of images."""
        return self.last - self.first


def runs_of(tasks: Tensor) -> list[Run]:
    """Return the runs of images with one task.

    Args:
        tasks: For each image the number of a finished task, int64, shape (batch,).
    """
    known, counts = tasks.unique_consecutive(return_counts=True)
    ends = counts.cumsum(0).tolist()
    return [
        Run(Snapshot(task), last - count, last)
        for task, count, last in zip(known.tolist(), counts.tolist(), ends, strict=True)
    ]


class AdaptedMatrix(nn.Module):
    """The modules of one matrix.

    Attributes:
        place: Which matrix it is.
        scale: s = alpha / rank of the modules that training makes.
        tasks: For each module the task that made it.
        ranks: For each module its rank.
        bank: For each finished task the omega of the modules until then, float, on the CPU.
        frozen_after: Task after which the matrix keeps every bit; None while it learns.
        a: Present task's A (d_in, rank); None outside a task or where it gets no module.
        b: Present task's B (rank, d_out).
        omega: Weights of the earlier modules, trained now; None where they are not.

    Args:
        place: Which matrix.
        scale: s = alpha / rank.
        like: Tensor with the type and device of the factors.
    """

    history_a: Tensor
    history_b: Tensor
    a: nn.Parameter | None
    b: nn.Parameter | None
    omega: nn.Parameter | None

    def __init__(self, place: Place, scale: float, like: Tensor) -> None:
        super().__init__()
        self.place, self.scale = place, scale
        self.tasks: list[int] = []
        self.ranks: list[int] = []
        self.bank: list[Tensor] = []
        self.frozen_after: int | None = None
        self.register_buffer("history_a", like.new_empty(place.in_features, 0), False)
        self.register_buffer("history_b", like.new_empty(0, place.out_features), False)
        for name in ("a", "b", "omega"):
            self.register_parameter(name, None)
        self.observe: Observe | None = None

    @property
    def learns(self) -> bool:
        """Whether anything of the matrix is trained in the present task."""
        return self.a is not None or self.omega is not None

    def open(self, factors: tuple[Tensor, Tensor] | None, *, trains_omega: bool) -> None:
        """Begin a task: the present factors and the weights of the earlier modules are trained.

        Args:
            factors: A (d_in, rank) and B (rank, d_out); None gives no module.
            trains_omega: Whether omega is trained, going on from the last task's.
        """
        if factors is not None:
            self.a, self.b = (nn.Parameter(each.to(self.history_a)) for each in factors)
        if trains_omega and self.tasks:
            self.omega = nn.Parameter(self.bank[-1].to(self.history_a, copy=True))

    def close(self, task: int) -> None:
        """End a task: its factors join the earlier ones, its omega goes to the bank.

        Args:
            task: Number of the task that ends.
        """
        row = self.last_row() if self.omega is None else self.omega.detach().cpu()
        if self.a is not None and self.b is not None:
            self.append(task, self.a.detach(), self.b.detach())
            row = torch.cat([row, torch.ones_like(row[:1]) if len(row) else row.new_ones(1)])
        self.bank.append(row.clone())
        self.discard()

    def append(self, task: int, a: Tensor, b: Tensor) -> None:
        """Add a module to the earlier ones; the bank is left to the caller.

        Args:
            task: Task that made it.
            a: Shape (d_in, rank).
            b: Shape (rank, d_out).
        """
        self.history_a = torch.cat([self.history_a, a.to(self.history_a)], 1)
        self.history_b = torch.cat([self.history_b, b.to(self.history_b)], 0)
        self.tasks.append(task)
        self.ranks.append(int(a.shape[1]))

    def discard(self) -> None:
        """Forget what the present task has trained."""
        self.a = self.b = self.omega = None
        self.observe = None

    def truncate(self, tasks: int) -> None:
        """Drop the modules of all but the first tasks, and their rows of the bank.

        Args:
            tasks: Number of tasks that are kept, 0 or more.
        """
        kept = sum(task < tasks for task in self.tasks)
        columns = sum(self.ranks[:kept])
        self.history_a = self.history_a[:, :columns].clone()
        self.history_b = self.history_b[:columns].clone()
        del self.tasks[kept:], self.ranks[kept:], self.bank[tasks:]
        if self.frozen_after is not None and self.frozen_after >= tasks:
            self.frozen_after = None
        self.discard()

    def last_row(self) -> Tensor:
        """Return the last omega of the bank, shape (modules,); empty before the first task."""
        return self.bank[-1] if self.bank else torch.ones(0, dtype=self.history_a.dtype)

    def row(self, snapshot: Snapshot) -> Tensor:
        """Return omega of the modules in a snapshot, zero for those left out.

        Args:
            snapshot: Which composition.
        """
        if snapshot.task < 0:
            return self.last_row()[:0]
        row = self.bank[snapshot.task].clone()
        for number in range(len(row)):
            if self.tasks[number] in snapshot.without:
                row[number] = 0.0
        return row

    def factors(self, snapshot: Snapshot) -> tuple[Tensor, Tensor, Tensor]:
        """Return A (d_in, columns), B (columns, d_out) and s omega (columns,) of a snapshot.

        Args:
            snapshot: Which composition.
        """
        row = self.row(snapshot)
        ranks = tuple(self.ranks[: len(row)])
        columns = sum(ranks)
        weights = column_weights(row.to(self.history_a), ranks) * self.scale
        return self.history_a[:, :columns], self.history_b[:columns], weights

    def at_rest(self, base: Tensor, snapshot: Snapshot) -> Tensor:
        """Return the effective weight (d_out, d_in) of a snapshot; ``base`` itself if none is in.

        Args:
            base: The frozen weight, shape (d_out, d_in).
            snapshot: Which composition.
        """
        a, b, weights = self.factors(snapshot)
        return compose(base, a, b, weights) if len(weights) else base

    def stacks(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return A, B and s omega of what is composed in a step of the present task.

        Where omega is not trained the earlier modules are folded into the base, and only the
        present factors are left.
        """
        left, right, weights = [], [], []
        if self.omega is not None:
            left, right = [self.history_a], [self.history_b]
            weights = [column_weights(self.omega.detach(), tuple(self.ranks))]
        if self.a is not None and self.b is not None:
            left.append(self.a.detach())
            right.append(self.b.detach())
            weights.append(torch.ones_like(right[-1][:, 0]))
        if len(left) == 1:
            return left[0], right[0], weights[0] * self.scale
        return torch.cat(left, 1), torch.cat(right), torch.cat(weights) * self.scale

    def part(self) -> Part:
        """Return what the backward pass must know of the matrix."""
        return Part(
            rows=self.place.rows,
            ranks=() if self.omega is None else tuple(self.ranks),
            rank=0 if self.a is None else int(self.a.shape[1]),
            scale=self.scale,
            trains_omega=self.omega is not None,
            observe=self.observe,
        )
