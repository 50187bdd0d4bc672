"""The layer: a frozen linear layer whose matrices have one low-rank module a task.

It takes the place of a ``Linear`` and composes its weight once a step. What is not trained in a
task (all earlier modules where omega is off, and everything of a frozen matrix) is folded into the
base of the steps once, when the task begins.

References:
    LoRAC-IPC, arXiv 2504.13407: the modules of all tasks are added, each weighted by a scalar that
    later tasks train.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from relearn.errors import ParameterError
from relearn.methods.lora_ipc.composition import LowRankLinear, column_weights, compose
from relearn.methods.lora_ipc.modules import AdaptedMatrix, Run, Snapshot
from relearn.methods.lora_ipc.products import linear, linear_into


class AdaptedLinear(nn.Module):
    """A linear layer whose matrices have modules; it computes what they compose to.

    Args:
        linear: The frozen layer; its weight and bias are shared, never written.
        matrices: Its matrices, in the order of their rows.

    Attributes:
        snapshot: The finished task whose composition answers.
        mixed: Runs of a batch that different compositions answer; None where one answers all.
        keeps: Composed weights of finished tasks that stay in memory, 1 or more.

    Raises:
        ParameterError: The input of a mixed pass has another first dimension than the tasks told.
    """

    def __init__(self, linear: nn.Linear, matrices: Sequence[AdaptedMatrix]) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.base_weight, self.bias = linear.weight, linear.bias
        self.matrices = nn.ModuleList(matrices)
        self.snapshot = Snapshot(-1)
        self.mixed: Sequence[Run] | None = None
        self._folded: Tensor = self.base_weight.detach()
        self.keeps = 1
        self._kept: dict[object, Tensor] = {}

    @property
    def parts(self) -> list[AdaptedMatrix]:
        """The matrices, in the order of their rows."""
        return [part for part in self.matrices if isinstance(part, AdaptedMatrix)]

    @property
    def weight(self) -> Tensor:
        """The effective weight (out_features, in_features), for code that reads it itself.

        Its gradient reaches the factors through plain operations.
        """
        if not self._learning():
            return self.at_rest(self.snapshot)
        return self._joined([(m.place.rows, self._piece(m)) for m in self.parts])

    def forward(self, x: Tensor) -> Tensor:
        """Return x W + bias of the present composition.

        Args:
            x: Shape (..., in_features).
        """
        device = x.device.type
        if torch.is_autocast_enabled(device):
            x = x.to(torch.get_autocast_dtype(device))
        if self.mixed is not None:
            return self._mixed(x, self.mixed)
        learning = self._learning()
        if not learning:
            return functional.linear(x, self.at_rest(self.snapshot).to(x.dtype), self._bias(x))
        if not torch.is_grad_enabled():
            return functional.linear(x, self._live(learning).to(x.dtype), self._bias(x))
        stacks = [matrix.stacks() for matrix in learning]
        given: list[Tensor | None] = []
        for matrix, (a, b, _) in zip(learning, stacks, strict=True):
            given += [matrix.a, matrix.b, matrix.omega, a, b]
        weight = self._composed(learning, stacks)
        parts = [matrix.part() for matrix in learning]
        result: Tensor = LowRankLinear.apply(x, weight, self.bias, parts, *given)
        return result

    def at_rest(self, snapshot: Snapshot) -> Tensor:
        """Return the effective weight after a finished task; ``keeps`` of them stay composed.

        Args:
            snapshot: Which composition.
        """
        key = (snapshot, self._place_of_base())
        if key not in self._kept:
            while len(self._kept) >= self.keeps:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = self.composed_at(snapshot)
        return self._kept[key]

    @torch.no_grad()
    def composed_at(self, snapshot: Snapshot) -> Tensor:
        """Return the same, composed anew.

        Args:
            snapshot: Which composition.
        """
        if not any(len(matrix.row(snapshot)) for matrix in self.parts):
            return self.base_weight.detach()
        pieces = [(m.place.rows, m.at_rest(self.base_of(m), snapshot)) for m in self.parts]
        return self._joined(pieces)

    def base_of(self, matrix: AdaptedMatrix) -> Tensor:
        """Return the frozen weight of one matrix, a view of shape (d_out, d_in).

        Args:
            matrix: One of ``parts``.
        """
        first, last = matrix.place.rows
        return self.base_weight.detach()[first:last]

    @torch.no_grad()
    def refresh(self, snapshot: Snapshot) -> None:
        """Fold what is not trained now into the base of the steps to come.

        Args:
            snapshot: The last finished task.
        """
        self.snapshot, self._kept, self.mixed = snapshot, {}, None
        folding = [m for m in self.parts if m.omega is None and m.tasks]
        if not folding:
            self._folded = self.base_weight.detach()
            return
        pieces = [(m.place.rows, m.at_rest(self.base_of(m), snapshot)) for m in folding]
        self._folded = self._joined(pieces)

    def _learning(self) -> list[AdaptedMatrix]:
        return [matrix for matrix in self.parts if matrix.learns]

    def _bias(self, x: Tensor) -> Tensor | None:
        return None if self.bias is None else self.bias.to(x.dtype)

    def _place_of_base(self) -> tuple[int, int]:
        return self.base_weight.data_ptr(), self.base_weight._version

    @torch.no_grad()
    def _composed(
        self, learning: list[AdaptedMatrix], stacks: list[tuple[Tensor, Tensor, Tensor]]
    ) -> Tensor:
        rows = [matrix.place.rows for matrix in learning]
        if rows == [(0, self.out_features)]:
            return compose(self._folded, *stacks[0])
        whole = self._folded.clone()
        for (first, last), (a, b, weights) in zip(rows, stacks, strict=True):
            whole[first:last].addmm_((b * weights.unsqueeze(1)).T, a.T)
        return whole

    def _live(self, learning: list[AdaptedMatrix]) -> Tensor:
        """Return the weight of the present step, composed anew.

        Nothing tells whether a factor has changed: fused optimizers leave its version as it is.
        """
        return self._composed(learning, [matrix.stacks() for matrix in learning])

    def _joined(self, pieces: list[tuple[tuple[int, int], Tensor]]) -> Tensor:
        """Return the whole weight of some rows, in order, and the base of all other rows."""
        found, done = [], 0
        for (first, last), piece in pieces:
            found += [self.base_weight.detach()[done:first], piece]
            done = last
        found.append(self.base_weight.detach()[done:])
        filled = [each for each in found if len(each)]
        return torch.cat(filled) if len(filled) > 1 else filled[0]

    def _piece(self, matrix: AdaptedMatrix) -> Tensor:
        first, last = matrix.place.rows
        piece = self._folded[first:last]
        if matrix.omega is not None:
            weights = column_weights(matrix.omega, tuple(matrix.ranks)) * matrix.scale
            piece = compose(piece, matrix.history_a, matrix.history_b, weights)
        if matrix.a is not None and matrix.b is not None:
            piece = piece + (matrix.a @ matrix.b).T * matrix.scale
        if matrix.observe is not None and piece.requires_grad:
            seen, observe = piece.detach(), matrix.observe
            piece.register_hook(lambda grad: observe(seen, grad))
        return piece

    def _mixed(self, x: Tensor, runs: Sequence[Run]) -> Tensor:
        """Return the outputs where each run of images has the composition of a task of its own."""
        images = runs[-1].last if runs else 0
        if x.shape[0] != images:
            raise ParameterError(
                f"lora_ipc.task_inference: {self.parts[0].place.layer} reads {x.shape[0]} rows, "
                f"expected one for each of {images} images; this net cuts images into "
                "windows, so run the images of one task at a time"
            )
        asked = {run.snapshot for run in runs}
        # what fits beside that of the first task, which every batch asks for, stays composed
        fits = len(asked) == 1 or len(asked) < self.keeps
        weight_of = self.at_rest if fits else self.composed_at
        rows = x[:1].numel() // self.in_features
        weights = {
            snapshot: weight_of(snapshot).to(x.dtype)
            for snapshot in asked
            if rows * sum(len(run) for run in runs if run.snapshot == snapshot) >= self._worth()
        }
        if len(runs) == 1 and weights:
            return linear(x, weights[runs[0].snapshot], self._bias(x))
        result = x.new_empty(*x.shape[:-1], self.out_features)
        for run in runs:
            own, into = x[run.first : run.last], result[run.first : run.last]
            self._write(own, into, run.snapshot, weights.get(run.snapshot))
        return result

    def _worth(self) -> float:
        """Return from how many rows on a composed weight costs less than products with factors."""
        return self.in_features * self.out_features / (self.in_features + self.out_features)

    def _write(self, x: Tensor, into: Tensor, snapshot: Snapshot, weight: Tensor | None) -> None:
        """Write the outputs of one composition, by its weight or, without one, by the factors."""
        if weight is not None:
            linear_into(x, weight, self._bias(x), into)
            return
        into.copy_(functional.linear(x, self.base_weight.to(x.dtype), self._bias(x)))
        for matrix in self.parts:
            (first, last), (a, b, weights) = matrix.place.rows, matrix.factors(snapshot)
            into[..., first:last] += (x @ a.to(x.dtype)) @ (weights.unsqueeze(1) * b).to(x.dtype)
