"""Padding: a normalised stream that grows by a broken factor gets channels that hold its mean.

With D channels, a copies of each and k further channels, D' = a D + k. If the further channels hold
the mean of the D, layer norm sees the same mean and a variance a D / D' times as large; a gain of
sqrt(a D / D') and eps times a D / D' undo that, and a gain of 0 makes the further channels 0. For
root-mean-square norm the further channels hold 0. Readers' columns of channels that are 0 are free.
LEMON (arXiv 2310.07999) calls this average expansion.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from relearn.methods.grow.labels import COPIES, copies_of, ids_of

if TYPE_CHECKING:
    from collections.abc import Iterator

LEVEL, ZERO, SPOILT = 0, 1, 2
"""What padding holds: the mean (or 0 before a root-mean-square norm), 0, or anything."""

FIXED_AT_ZERO = frozenset(
    ["relu", "relu6", "gelu", "silu", "tanh", "hardswish", "elu", "leaky_relu", "mish", "selu"]
)
"""Activations with f(0) = 0."""

LINEAR = frozenset(
    ["add", "sub", "neg", "dropout", "mean", "avg_pool2d", "adaptive_avg_pool2d", "interpolate"]
)
"""Operations under which the mean of the channels stays their mean."""


@dataclass
class Padding:
    """Identities of padding; they begin above those of channels.

    Attributes:
        sizes: Root of a normalised unit to its number of further channels.
        base: First identity of padding.
        roots: Classes of the ties.
    """

    sizes: dict[int, int]
    base: int
    roots: dict[str, Tensor]
    _members: dict[int, int] = field(default_factory=dict)

    def _channels(self, root: int) -> int:
        """Return how many channels a padded unit has, counted once."""
        if root not in self._members:
            mine = self.roots["tied"][self.roots["unit"] == root]
            self._members[root] = len(torch.unique(mine))
        return self._members[root]

    def _whole(self, ids: Tensor) -> Iterator[tuple[int, int]]:
        """Yield the root and start of each padded unit all of whose channels are among ids."""
        start = self.base
        if self.sizes:
            unit, tied = self.roots["unit"][ids], self.roots["tied"]
        for root, size in self.sizes.items():
            mine = unit == root
            if mine.any():
                met, counts = torch.unique(tied[ids[mine]], return_counts=True)
                if len(met) == self._channels(root) and bool((counts == counts[0]).all()):
                    yield root, start
            start += size

    def codes_in(self, ids: Tensor) -> Iterator[tuple[int, Tensor]]:
        """Yield for each padded unit among ids, shape (n,), its root and its padding's codes."""
        for root, start in self._whole(ids):
            yield root, torch.arange(start, start + self.sizes[root]) * COPIES + LEVEL

    def within(self, ids: Tensor) -> int:
        """Return how many further channels belong to these, shape (n,)."""
        total = 0
        for root, _ in self._whole(ids):
            mine = self.roots["tied"][ids[self.roots["unit"][ids] == root]]
            total += self.sizes[root] * (len(mine) // len(torch.unique(mine)))
        return total

    def among(self, codes: Tensor) -> Tensor:
        """Return which codes are padding, shape as ``codes``."""
        return ids_of(codes) >= self.base

    def owners(self, ids: Tensor) -> Tensor:
        """Return identities with padding replaced by its unit's root, shape as ``ids``."""
        result = ids.clone()
        start = self.base
        for root, size in self.sizes.items():
            result[(ids >= start) & (ids < start + size)] = root
            start += size
        return result

    @staticmethod
    def met(name: str, operands: list[Tensor], *, writes: bool) -> Tensor:
        """Return the codes of padding after an operation, shape (n,).

        Args:
            name: The operation.
            operands: Codes of padding that meets, each of shape (n,).
            writes: Whether a layer writes it, row by row.
        """
        kinds = torch.stack([copies_of(codes) for codes in operands])
        alike = (kinds == kinds[:1]).all(0)
        if name in {"layer_norm", "rms_norm"}:
            made = torch.full_like(kinds[0], ZERO)
        elif writes or name in LINEAR:
            made = torch.where(alike, kinds[0], SPOILT)
        elif name in {"mul", "div"}:
            kept = kinds[0] if len(operands) == 1 else torch.full_like(kinds[0], SPOILT)
            made = torch.where((kinds == ZERO).any(0), ZERO, kept)
        elif name in FIXED_AT_ZERO:
            made = torch.where(kinds[0] == ZERO, ZERO, SPOILT)
        else:
            made = torch.full_like(kinds[0], SPOILT)
        return ids_of(operands[0]) * COPIES + made
