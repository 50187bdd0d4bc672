"""The first run: labels go through the teacher and every operation notes what it ties together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from relearn.methods.grow.labels import COPIES, ids_of
from relearn.methods.grow.tape import Reading, Site, Table, Tape

if TYPE_CHECKING:
    from collections.abc import Callable

FOLD = 1 << 40
"""Above the number of identities; two keys are folded into one below 2^63."""


class Recorder:
    """Makes identities and notes ties; the widened run answers the same calls from its tape.

    Attributes:
        tape: What was found.
        shapes: Shape of every parameter and buffer.
        replaying: False here.
    """

    replaying = False

    def __init__(self, shapes: dict[str, tuple[int, ...]]) -> None:
        self.tape = Tape()
        self.shapes = shapes

    def begin(self, name: str, module: str, line: str) -> Site:
        """Return the place of the next operation."""
        site = Site(len(self.tape.sites), name, module, line)
        self.tape.sites.append(site)
        return site

    def fresh(self, site: Site, operands: list[Tensor], *, writes: bool = False) -> Tensor:
        """Return codes of new identities, one for each combination of operands, tied to them.

        Args:
            site: The operation.
            operands: Codes that meet at the same place, each of shape (n,).
            writes: Whether a layer writes these channels, row by row.

        Returns:
            Codes, shape (n,); 0 where every operand is 0.
        """
        ids = [ids_of(codes) for codes in operands]
        steps: list[Tensor] = []
        key = ids[0]
        for other in ids[1:]:
            known, place = torch.unique(key, return_inverse=True)
            steps.append(known)
            key = place * FOLD + other
        known, place = torch.unique(key, return_inverse=True)
        steps.append(known)
        one = torch.zeros(len(known), dtype=torch.long)
        one[place] = torch.arange(len(place))
        some = torch.stack([i[one] for i in ids])
        made = self.tape.ties.new(len(known), sources=some)
        made[(some == 0).all(0)] = 0
        for row in some:
            self.tape.ties.join("tied", row, made)
        alone = (some == 0).any(0) & (some != 0).any(0)
        if bool(alone.any()):
            reason = "meets numbers that no channel carries (a constant or the network's input)"
            self.tape.freeze(torch.cat([some[:, alone].flatten(), made[alone]]), site, reason)
        site.tables.append(Table(steps, made))
        return made[place] * COPIES

    def plain(self, codes: Tensor) -> Tensor:
        """Return identities of the teacher's channels, shape as ``codes``."""
        return ids_of(codes)

    def block(self, site: Site, groups: Tensor) -> None:
        """Note that each row of codes is copied only as a whole, in this order.

        Args:
            site: The operation.
            groups: Codes, shape (groups, members).
        """
        ids = ids_of(groups)
        if (ids == 0).any():
            self.tape.freeze(ids.flatten(), site, "a block holds numbers that no channel carries")
        site.tables.append(Table([ids.reshape(len(ids), -1)], ids))
        first = ids[:, :1].expand(ids.shape)
        self.tape.ties.join("block", first.flatten(), ids.flatten())

    def pair(self, site: Site, one: Tensor, other: Tensor) -> None:
        """Note that codes, shape (n,) each, are copied together."""
        ids, order = torch.sort(ids_of(one), stable=True)
        site.tables.append(Table([ids], ids_of(other)[order]))
        self.tape.ties.join("unit", ids_of(one), ids_of(other))

    def width(self, site: Site, size: int) -> int:
        """Return a size of the teacher, which the widened run is told again."""
        site.tables.append(Table([], torch.tensor([size])))
        return size

    def numbers(self, site: Site, found: list[float], _: Callable[[], Tensor]) -> None:
        """Note the numbers that an operation computes with."""
        site.tables.append(Table([], torch.tensor(found, dtype=torch.float64)))

    def pieces(self, site: Site, number: int, codes: Tensor) -> None:
        """Note into how many pieces these codes are split."""
        site.tables.append(Table([], torch.tensor([number])))

    def whole(self, site: Site, codes: Tensor) -> None:
        """Do nothing: there is one copy of each channel."""

    def uniform(
        self, site: Site, codes: Tensor, norm: tuple[str, tuple[str, ...]] | None = None
    ) -> None:
        """Note that all these codes, shape (n,), must be copied equally often.

        Args:
            site: The operation.
            codes: Shape (n,).
            norm: The module and its parameters, if padding can be made up for there.
        """
        ids = torch.unique(ids_of(codes))
        if (ids == 0).any():
            self.tape.freeze(ids, site, "normalises numbers that no channel carries")
        self.tape.ties.join("unit", ids[:1].expand(ids.shape), ids)
        self.tape.uniform.append((site, ids_of(codes)))
        site.tables.append(Table([], ids_of(codes)))

    def freeze(self, site: Site, codes: Tensor, reason: str) -> None:
        """Note that these channels stay single, and why."""
        self.tape.freeze(ids_of(codes), site, reason)

    def rows(self, name: str, axis: int) -> Tensor:
        """Return the codes of a parameter's rows along an axis, made when first asked for."""
        if (name, axis) not in self.tape.written:
            made = self.tape.ties.new(self.shapes[name][axis])
            self.tape.written[name, axis] = made
        return self.tape.written[name, axis] * COPIES

    def elements(self, site: Site, name: str, index: Tensor, partner: Tensor) -> Tensor:
        """Return codes of single numbers of a bare parameter, tied to the channels they meet.

        Args:
            site: The operation.
            name: The parameter.
            index: Places in the flattened parameter, shape (n,).
            partner: Codes that meet them, shape (n,).
        """
        count = int(torch.Size(self.shapes[name]).numel())
        table = self.tape.elements.setdefault(name, torch.zeros(count, dtype=torch.long))
        ids = ids_of(partner)
        missing = table[index] == 0
        if bool(missing.any()):
            known, place = torch.unique(ids[missing], return_inverse=True)
            made = self.tape.ties.new(len(known))
            table[index[missing]] = made[place]
        pairs = torch.unique(torch.stack([ids, table[index]]), dim=1)
        self.tape.ties.join("tied", pairs[0], pairs[1])
        if (pairs[0] == 0).any():
            self.freeze(site, pairs[1] * COPIES, "meets numbers that no channel carries")
        return table[index] * COPIES

    def read(self, site: Site, name: str, axis: int, *, codes: Tensor, ranks: Tensor) -> None:
        """Note which channels a weight's columns read.

        Args:
            site: The operation.
            name: The weight.
            axis: Its axis of columns.
            codes: Shape (rows, columns); several rows where different channels come by.
            ranks: Order of each column's position within its channel, shape (columns,).
        """
        ids = ids_of(codes)
        self._require(name, axis, ids.shape[1])
        for row in ids[1:]:
            self.tape.ties.join("tied", ids[0], row)
        some = (ids == 0).any(0) & (ids != 0).any(0)
        if bool(some.any()):
            reason = "shares columns with numbers that no channel carries"
            self.tape.freeze(ids[:, some].flatten(), site, reason)
        earlier = self.tape.readings.setdefault((name, axis), [])
        if earlier and earlier[0].ids.shape[1] == ids.shape[1]:
            self.tape.ties.join("tied", earlier[0].ids[0], ids[0])
        earlier.append(Reading(site, ids, ranks))
        site.tables.append(Table([ranks], ids))

    def constant(self, site: Site, name: str, axis: int, size: int) -> None:
        """Note that a weight's columns read so many numbers that no channel carries."""
        self._require(name, axis, size)
        site.tables.append(Table([], torch.tensor([size])))

    def _require(self, name: str, axis: int, size: int) -> None:
        """Check that a weight has as many columns as it reads; no product is computed here."""
        if size != self.shapes[name][axis]:
            raise ValueError(f"{name} reads {self.shapes[name][axis]} channels, {size} come in")

    def heads(self, site: Site, module: str, width: int, codes: Tensor) -> None:
        """Note the heads of an attention: codes of one channel of each, shape (heads,)."""
        self.tape.heads.append((module, len(codes), width, ids_of(codes)))

    def size(self, site: Site, number: int, codes: Tensor) -> None:
        """Note that a number in the call stands for the size of these codes, shape (n,)."""
        site.literals.append((number, ids_of(codes)))
