"""Which channels belong together: three relations between identities, each wider than the last.

- *tied*: the same place in tensors that are added, multiplied or passed through (same layout);
- *block*: laid out next to each other and copied only as a whole (a head, a convolution group);
- *unit*: copied the same number of times.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Ties:
    """Pairs of identities, gathered while labels run, and their classes afterwards."""

    count: int = 1
    _origins: list[Tensor] = field(default_factory=lambda: [torch.zeros(1, dtype=torch.long)])
    _pairs: dict[str, list[Tensor]] = field(
        default_factory=lambda: {"tied": [], "block": [], "unit": []}
    )

    def new(self, number: int, *, sources: Tensor | None = None) -> Tensor:
        """Return fresh identities, shape (number,).

        Args:
            number: How many.
            sources: Identities they come from, shape (operands, number); None for the rows of a
                parameter.
        """
        fresh = torch.arange(self.count, self.count + number)
        origin = self._origin_of(number, sources)
        self._origins.append(origin)
        self.count += number
        return fresh

    def _origin_of(self, number: int, sources: Tensor | None) -> Tensor:
        if sources is None:
            return torch.full((number,), self.count)
        total = self.origins[sources[0]]
        for row in sources[1:]:  # a number that tells combinations apart, well below 2^63
            total = (total * 1_000_003 + self.origins[row]) % (1 << 40)
        return total

    @property
    def origins(self) -> Tensor:
        """For each identity a number of the parameters whose rows it comes from, shape (count,)."""
        if len(self._origins) > 1:
            self._origins = [torch.cat(self._origins)]
        return self._origins[0]

    def join(self, kind: str, one: Tensor, other: Tensor) -> None:
        """Put pairs of identities into one class.

        Args:
            kind: ``tied``, ``block`` or ``unit``.
            one: Identities, shape (n,); 0 joins nothing.
            other: Their partners, shape (n,).
        """
        real = (one != 0) & (other != 0) & (one != other)
        if bool(real.any()):
            self._pairs[kind].append(torch.stack([one[real], other[real]]))

    def roots(self) -> dict[str, Tensor]:
        """Return for each relation every identity's smallest companion, shape (count,)."""
        found: dict[str, Tensor] = {}
        pairs: list[Tensor] = []
        start = torch.arange(self.count)
        for kind in ("tied", "block", "unit"):
            pairs = pairs + self._pairs[kind]
            start = classes(start, pairs)
            found[kind] = start
        return found


def classes(start: Tensor, pairs: list[Tensor]) -> Tensor:
    """Return the smallest member of each connected class, by hooking and pointer jumping.

    Args:
        start: For each identity a member of its class, shape (count,).
        pairs: Identities that belong together, each of shape (2, n).
    """
    root = start.clone()
    if not pairs:
        return root
    one, other = torch.cat(pairs, dim=1)
    while True:
        low = torch.minimum(root[one], root[other])
        before = root.clone()
        root.scatter_reduce_(0, before[one], low, "amin")
        root.scatter_reduce_(0, before[other], low, "amin")
        while not torch.equal(root, root[root]):
            root = root[root]
        if torch.equal(root, before):
            return root
