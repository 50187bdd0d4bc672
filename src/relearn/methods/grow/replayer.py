"""The second run: widened labels go through the student's forward and must be where they belong.

It answers the calls of ``Recorder`` from the tape. Whatever is not an intact copy of what the
teacher did raises ``Misfit``; what goes through is a proof that every operation of the student sees
copies of what the teacher's saw, and it says which columns read which copies.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from relearn.methods.grow.labels import COPIES, copies_of, ids_of
from relearn.methods.grow.matching import find, occurrence
from relearn.methods.grow.padding import LEVEL, ZERO, Padding
from relearn.methods.grow.recorder import FOLD
from relearn.methods.grow.tape import Misfit, Site, Table, Tape

if TYPE_CHECKING:
    from collections.abc import Callable

    from relearn.methods.grow.layout import Layout

_RANK = 1 << 30
_TWICE = 1 << 12


@dataclass(frozen=True)
class Columns:
    """Where a widened weight's columns come from.

    Attributes:
        index: Column of the teacher, shape (columns,); -1 for padding.
        ids: Identity that is read, shape (columns,); 0 for padding.
        copies: Which copy of it, shape (columns,); 0 for padding.
        free: Whether what is read is always 0, so that any weight will do; shape (columns,).
    """

    index: Tensor
    ids: Tensor
    copies: Tensor
    free: Tensor


@dataclass(frozen=True)
class Norm:
    """A normalisation of a padded stream.

    Attributes:
        module: Name of the module.
        ratio: a D / D': by how much the mean square shrinks.
    """

    module: str
    ratio: float


class Replayer:
    """Looks identities up and checks copies.

    Attributes:
        tape: Of the recording run.
        shapes: Shape of every parameter and buffer of the teacher.
        layout: How often each channel is copied, and the new rows of every parameter.
        columns: (parameter, axis) to where its new columns come from.
        norms: Gain or shift of a normalisation of a padded stream to how it must follow.
        sites: The operations again, with the student's costs.
        replaying: True here.
    """

    replaying = True

    def __init__(self, tape: Tape, layout: Layout, shapes: dict[str, tuple[int, ...]]) -> None:
        self.tape = tape
        self.shapes = shapes
        self.layout = layout
        self.columns: dict[tuple[str, int], Columns] = {}
        self.norms: dict[str, Norm] = {}
        self.sites: list[Site] = []
        self._cursor: dict[int, int] = {}

    def begin(self, name: str, module: str, line: str) -> Site:
        """Return the place of the next operation, which must be the recorded one."""
        index = len(self.sites)
        known = self.tape.sites[index] if index < len(self.tape.sites) else None
        site = Site(index, name, module, line)
        if known is None or (known.name, known.module) != (name, module):
            raise Misfit(site, torch.zeros(0), "the widened network takes another path")
        site.tables = known.tables
        self.sites.append(site)
        self._cursor[index] = 0
        return site

    def _table(self, site: Site) -> Table:
        at = self._cursor[site.index]
        self._cursor[site.index] = at + 1
        if at >= len(site.tables):
            raise Misfit(site, torch.zeros(0), "the widened network takes another path")
        return site.tables[at]

    def fresh(self, site: Site, operands: list[Tensor], *, writes: bool = False) -> Tensor:
        """Return the codes that the recorded operation made of these operands, copy by copy."""
        table = self._table(site)
        pads = self.layout.padding.among(operands[0])
        if not self.layout.padding.sizes or not bool(pads.any()):
            return self._made(site, table, operands)
        same = all(torch.equal(ids_of(o[pads]), ids_of(operands[0][pads])) for o in operands)
        if not same:
            ids = torch.cat([ids_of(o[pads]) for o in operands])
            raise Misfit(site, ids, "padding meets channels")
        result = torch.empty_like(operands[0])
        result[~pads] = self._made(site, table, [o[~pads] for o in operands])
        result[pads] = Padding.met(site.name, [o[pads] for o in operands], writes=writes)
        return result

    def _made(self, site: Site, table: Table, operands: list[Tensor]) -> Tensor:
        ids = [ids_of(codes) for codes in operands]
        key = ids[0]
        for known, other in zip(table.steps, ids[1:], strict=False):
            key = find(site, known, key, ids) * FOLD + other
        made = table.made[find(site, table.steps[-1], key, ids)]
        return made * COPIES + self._agreed(site, operands)

    def _agreed(self, site: Site, operands: list[Tensor]) -> Tensor:
        """Return the copy numbers, which must be the same for all operands."""
        copies = torch.stack([copies_of(codes) for codes in operands])
        if (copies != copies[:1]).any():
            wrong = (copies != copies[:1]).any(0)
            ids = torch.cat([ids_of(codes)[wrong] for codes in operands])
            raise Misfit(site, ids, "different copies of a channel meet")
        return copies[0]

    def plain(self, codes: Tensor) -> Tensor:
        """Return identities of the teacher's channels, 0 for padding, shape as ``codes``."""
        return ids_of(codes).masked_fill(self.layout.padding.among(codes), 0)

    def block(self, site: Site, groups: Tensor) -> None:
        """Check that each row, shape (groups, members), is an intact copy of a recorded block."""
        known = self._table(site).made
        ids, copies = ids_of(groups), copies_of(groups)
        order = known[:, 0].argsort()
        if ids.shape[1] != known.shape[1]:
            raise Misfit(site, ids.flatten(), "a head or group of channels changed its size")
        place = find(site, known[order, 0], ids[:, 0].contiguous(), [ids])
        intact = (ids == known[order[place]]).all() and (copies == copies[:, :1]).all()
        if not intact:
            raise Misfit(site, ids.flatten(), "a head or group of channels is not copied as one")

    def pair(self, site: Site, one: Tensor, other: Tensor) -> None:
        """Check that both, shape (n,) each, are copies of a recorded pair."""
        table = self._table(site)
        ids = torch.cat([ids_of(one), ids_of(other)])
        if one.shape != other.shape or (copies_of(one) != copies_of(other)).any():
            raise Misfit(site, ids, "different copies of a head or group meet")
        place = find(site, table.steps[0], ids_of(one).contiguous(), [ids])
        if (table.made[place] != ids_of(other)).any():
            raise Misfit(site, ids, "a head or group meets another one's channels")

    def width(self, site: Site, size: int) -> int:
        """Return the teacher's size that was recorded here."""
        return int(self._table(site).made[0])

    def numbers(self, site: Site, found: list[float], ids: Callable[[], Tensor]) -> None:
        """Check that an operation on these identities computes with the recorded numbers."""
        known = self._table(site).made
        if not torch.equal(
            known.nan_to_num(), torch.tensor(found, dtype=torch.float64).nan_to_num()
        ):
            raise Misfit(site, ids(), "computes with how many channels there are")

    def pieces(self, site: Site, number: int, codes: Tensor) -> None:
        """Check that codes are split into as many pieces as was recorded."""
        if number != int(self._table(site).made[0]):
            raise Misfit(site, ids_of(torch.unique(codes)), "gives another number of pieces")

    def whole(self, site: Site, codes: Tensor) -> None:
        """Check that all copies of the channels are among these codes."""
        every = torch.unique(codes)
        ids, found = torch.unique(ids_of(every), return_counts=True)
        if (found < self.layout.counts(ids)).any():
            raise Misfit(site, ids, "only some of a channel's copies are changed in place")

    def uniform(
        self, site: Site, codes: Tensor, norm: tuple[str, tuple[str, ...]] | None = None
    ) -> None:
        """Check that all channels are there equally often, shape (n,).

        Args:
            site: The operation.
            codes: Shape (n,).
            norm: The module and its parameters, if padding can be made up for there.
        """
        made = self._table(site).made
        known, before = torch.unique(made, return_counts=True)
        pads = self.layout.padding.among(codes)
        real = codes[~pads]
        found, after = torch.unique(ids_of(real), return_counts=True)
        if bool(pads.any()):
            self._padded(site, codes[pads], (len(real), len(made), norm))
        if not torch.equal(known, found) or (after * before[0] != before * after[0]).any():
            raise Misfit(site, known, "a normalisation sees some channels more often than others")

    def _padded(
        self, site: Site, pads: Tensor, task: tuple[int, int, tuple[str, tuple[str, ...]] | None]
    ) -> None:
        """Note how a normalisation must follow, if each padding holds the mean just once."""
        real, _channels, norm = task
        ids = ids_of(pads)
        wanted = self.layout.padding.within(self._known(site))
        level = bool((copies_of(pads) == LEVEL).all())
        if norm is None or not level or len(torch.unique(ids)) != len(ids) or wanted != len(ids):
            reason = "a normalisation needs all channels copied alike here"
            raise Misfit(site, ids, reason)
        for name in norm[1]:
            self.norms[name] = Norm(norm[0], real / (real + len(ids)))

    def _known(self, site: Site) -> Tensor:
        return site.tables[self._cursor[site.index] - 1].made

    def freeze(self, site: Site, codes: Tensor, reason: str) -> None:
        """Do nothing: what is frozen is single already."""

    def rows(self, name: str, axis: int) -> Tensor:
        """Return the codes of a widened parameter's rows along an axis."""
        return self.layout.rows(name, axis).codes

    def elements(self, site: Site, name: str, index: Tensor, partner: Tensor) -> Tensor:
        """Return codes of single numbers of a widened bare parameter, shape (n,)."""
        return self.layout.elements(name)[index]

    def read(self, site: Site, name: str, axis: int, *, codes: Tensor, ranks: Tensor) -> None:
        """Work out which column of the teacher each column comes from, and check it is complete."""
        pads = self.layout.padding.among(codes[0])
        kinds = copies_of(codes[0]).masked_fill(~pads, 0)
        found = self._matched(site, codes[:, ~pads], ranks[~pads])
        index = torch.full((len(pads),), -1)
        ids, copies = torch.zeros_like(index), torch.zeros_like(index)
        index[~pads], ids[~pads], copies[~pads] = found
        if (self.layout.padding.among(codes) != pads).any():
            raise Misfit(site, ids_of(codes[0][pads]), "padding meets channels")
        free = (kinds == ZERO) & pads
        self._keep(site, (name, axis), Columns(index, ids, copies, free))

    def constant(self, site: Site, name: str, axis: int, size: int) -> None:
        """Check that a weight has as many columns as there are numbers that no channel carries."""
        self._table(site)
        readings = self.tape.readings.get((name, axis))
        if readings and self.layout.size(readings[0].ids[0]) != size:
            raise Misfit(site, readings[0].ids.flatten(), "reads constants as well as channels")

    def _matched(self, site: Site, codes: Tensor, ranks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return for each column the teacher's column, the identity and the copy it reads."""
        table = self._table(site)
        known, old_ranks = table.made, table.steps[0]
        ids, copies = ids_of(codes), copies_of(codes)
        if len(ids) != len(known):
            raise Misfit(site, ids.flatten(), "other channels come by than before")
        old = known[0] * _RANK + old_ranks * _TWICE
        old = old + occurrence(old)
        new = ids[0] * _RANK + ranks * _TWICE
        new = new + occurrence(new * COPIES + copies[0], small=True)
        order = old.argsort()
        index = order[find(site, old[order], new, [ids])]
        if (ids != known[:, index]).any() or (copies != copies[:1]).any():
            raise Misfit(site, ids.flatten(), "columns read channels in another order")
        wanted = self.layout.counts(known[0])
        seen = torch.bincount(index, minlength=len(old))
        if (seen != wanted).any() or len(torch.unique(index * COPIES + copies[0])) != len(index):
            ids = known[:, seen != wanted]
            raise Misfit(site, ids.flatten(), "not every copy of a channel is read exactly once")
        return index, ids[0], copies[0]

    def _keep(self, site: Site, key: tuple[str, int], columns: Columns) -> None:
        earlier = self.columns.setdefault(key, columns)
        same = torch.equal(earlier.index, columns.index)
        if not (same and torch.equal(earlier.copies, columns.copies)):
            raise Misfit(site, columns.ids, "a shared weight reads copies in two orders")

    def heads(self, site: Site, module: str, width: int, codes: Tensor) -> None:
        """Do nothing: heads were counted when they were recorded."""

    def size(self, site: Site, number: int, codes: Tensor) -> None:
        """Do nothing: sizes were noted when they were recorded."""
