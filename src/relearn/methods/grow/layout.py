"""Where the copies stand: each channel's copies next to it, a block's copies next to the block.

This layout is closed under concatenation, addition, splitting and flattening, and it follows from
the counts alone, so that every layer can work it out for itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from relearn.methods.grow.labels import COPIES
from relearn.methods.grow.padding import Padding

if TYPE_CHECKING:
    from relearn.methods.grow.tape import Tape


@dataclass(frozen=True)
class Rows:
    """New rows of a parameter along one axis.

    Attributes:
        index: Row of the teacher, shape (rows,); -1 for padding.
        codes: Identity and copy, shape (rows,); of padding its own identity and kind.
    """

    index: Tensor
    codes: Tensor


class Layout:
    """The new rows of every parameter, for given counts.

    Args:
        tape: Of the recording run.
        roots: Classes of its ties.
        copies: For each identity (by its unit's root) how often it stands in the student.
        padding: Root of a normalised unit to its number of further channels.
    """

    def __init__(
        self,
        tape: Tape,
        roots: dict[str, Tensor],
        copies: Tensor,
        padding: dict[int, int] | None = None,
    ) -> None:
        self._tape = tape
        self._roots = roots
        self._copies = copies
        self._rows: dict[tuple[str, int], Rows] = {}
        self.padding = Padding(padding or {}, tape.ties.count, roots)

    def counts(self, ids: Tensor) -> Tensor:
        """Return how often each identity stands in the student, shape as ``ids``."""
        return self._copies[self._roots["unit"][ids]]

    def rows(self, name: str, axis: int) -> Rows:
        """Return the new rows of a parameter along an axis."""
        if (name, axis) not in self._rows:
            self._rows[name, axis] = self._expanded(self._tape.written[name, axis])
        return self._rows[name, axis]

    def _expanded(self, ids: Tensor) -> Rows:
        rows = self._copied(ids)
        for root, codes in self.padding.codes_in(ids):
            mine = self._roots["unit"][ids[rows.index.clamp(min=0)]] == root
            end = int(torch.nonzero(mine & (rows.index >= 0)).max()) + 1
            blank = torch.full((len(codes),), -1)
            index = torch.cat([rows.index[:end], blank, rows.index[end:]])
            rows = Rows(index, torch.cat([rows.codes[:end], codes, rows.codes[end:]]))
        return rows

    def _copied(self, ids: Tensor) -> Rows:
        counts = self.counts(ids)
        block = self._roots["block"][ids]
        if len(ids) < 2 or not (block[1:] == block[:-1]).any():
            index = torch.repeat_interleave(torch.arange(len(ids)), counts)
            first = torch.repeat_interleave(counts.cumsum(0) - counts, counts)
            return Rows(index, ids[index] * COPIES + torch.arange(len(index)) - first)
        index, copy = _by_blocks(block.tolist(), self._roots["tied"][ids].tolist(), counts.tolist())
        return Rows(index, ids[index] * COPIES + copy)

    def size(self, ids: Tensor) -> int:
        """Return how many channels these become, shape (n,), padding included."""
        return int(self.counts(ids).sum()) + self.padding.within(ids)

    def grown_axes(self, name: str, shape: tuple[int, ...]) -> dict[int, Rows]:
        """Return the new rows of a bare parameter along each axis on which its channels change.

        Args:
            name: The parameter.
            shape: Its shape in the teacher.
        """
        ids = self._tape.elements[name].reshape(shape)
        found = {}
        for axis in range(len(shape)):
            line = ids.movedim(axis, 0).reshape(shape[axis], -1)
            if bool((self.counts(line) > 1).any()) or self.padding.within(line.flatten()):
                known = line[:, (line != 0).all(0).int().argmax()]
                if bool((self.counts(line) == self.counts(known)[:, None])[line != 0].all()):
                    found[axis] = self._expanded(known)
        varied = {a: r for a, r in found.items() if self._changes(ids, a)}
        return varied

    def _changes(self, ids: Tensor, axis: int) -> bool:
        roots = self._roots["tied"][ids].movedim(axis, 0)
        met = (ids.movedim(axis, 0) != 0).reshape(len(roots), -1).all(0)
        line = roots.reshape(len(roots), -1)[:, met]
        return bool(line.numel() and (line != line[:1]).any())

    def elements(self, name: str) -> Tensor:
        """Return the codes of every number of a widened bare parameter, flattened."""
        shape = self.shape_of_elements[name]
        codes = self._tape.elements[name].reshape(shape) * COPIES
        for axis, rows in self.grown_axes(name, shape).items():
            sizes = [-1 if d == axis else 1 for d in range(len(shape))]
            copied = codes.index_select(axis, rows.index.clamp(min=0))
            copied = copied + rows.codes.remainder(COPIES).reshape(sizes)
            pads = (rows.index < 0).reshape(sizes)
            codes = torch.where(pads, rows.codes.reshape(sizes), copied)
        return codes.flatten()

    shape_of_elements: dict[str, tuple[int, ...]]


def _by_blocks(block: list[int], tied: list[int], counts: list[int]) -> tuple[Tensor, Tensor]:
    """Return rows and copy numbers when runs of one block are copied as a whole."""
    index: list[int] = []
    copies: list[int] = []
    start = 0
    while start < len(block):
        end, seen = start + 1, {tied[start]}
        while end < len(block) and block[end] == block[start] and tied[end] not in seen:
            seen.add(tied[end])
            end += 1
        for copy in range(counts[start]):
            index += range(start, end)
            copies += [copy] * (end - start)
        start = end
    return torch.tensor(index), torch.tensor(copies)
