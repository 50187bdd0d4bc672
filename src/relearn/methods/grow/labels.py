"""Labels: whole numbers that run through a network in place of activations.

Every activation carries two tensors of its own shape: ``codes`` says which channel's value stands
at a place, and ``pos`` which of that channel's positions. Operations that only move numbers are
executed on the labels as they are, so that no operation needs an index formula of its own. A code
is identity * COPIES + copy; the copy is 0 until a network is widened. Identity 0 is a number that
no channel carries: it cannot be copied. Places with the same number are kept with stride 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

COPIES = 1 << 20
"""Above the largest number of copies of one channel."""


@dataclass(frozen=True)
class Label:
    """What an activation carries.

    Attributes:
        codes: Identity and copy of each number, int64, shape of the activation.
        pos: Position within the channel, int64, shape of the activation.
    """

    codes: Tensor
    pos: Tensor

    def moved(self, move: Callable[[Tensor], Tensor]) -> Label:
        """Return the label after an operation that only moves numbers."""
        return Label(compact(move(self.codes)), compact(move(self.pos)))


@dataclass(frozen=True)
class ParameterView:
    """A parameter or buffer, or a rearrangement of its numbers.

    Attributes:
        name: Its name in the network.
        index: For each number its place in the flattened parameter; None for the whole as it is.
    """

    name: str
    index: Tensor | None = None


@dataclass(frozen=True)
class Output:
    """What a module handed out in the run of the labels.

    Attributes:
        shape: Of the activation.
        axis: Its dimension of channels.
        made_by: Operation that made it, and its bounds.
        calls: How often the module ran.
    """

    shape: tuple[int, ...]
    axis: int
    made_by: tuple[str, float, float] | None
    calls: int = 1


def ids_of(codes: Tensor) -> Tensor:
    """Return the identities of codes."""
    return codes.div(COPIES, rounding_mode="floor")


def copies_of(codes: Tensor) -> Tensor:
    """Return the copy numbers of codes."""
    return codes.remainder(COPIES)


def constant(shape: tuple[int, ...]) -> Label:
    """Return the label of numbers that no channel carries."""
    nothing = torch.zeros((), dtype=torch.long).expand(shape)
    return Label(nothing, nothing)


def compact(values: Tensor) -> Tensor:
    """Return the same values with stride 0 along every dimension on which they do not change."""
    for dim, size in enumerate(values.shape):
        if size > 1 and values.stride(dim) != 0:
            first = values.narrow(dim, 0, 1)
            if bool((values == first).all()):
                values = first.expand(values.shape)
    return values


def varying(values: Tensor) -> tuple[int, ...]:
    """Return the dimensions along which compact values change."""
    return tuple(d for d, n in enumerate(values.shape) if n > 1 and values.stride(d) != 0)


def only(values: Tensor, dims: tuple[int, ...], shape: tuple[int, ...] | None = None) -> Tensor:
    """Return the values along some dimensions, index 0 along the others, shape (sizes of dims).

    Args:
        values: Any shape.
        dims: Dimensions to keep, ascending.
        shape: The full shape that size-1 dimensions are expanded to.
    """
    for dim in range(values.ndim):
        if dim not in dims:
            values = values.narrow(dim, 0, 1)
    values = values.permute([*dims, *(d for d in range(values.ndim) if d not in dims)])
    values = values.reshape([values.shape[i] for i in range(len(dims))])
    return values if shape is None else values.expand([shape[d] for d in dims])


def spread(values: Tensor, dims: tuple[int, ...], shape: tuple[int, ...]) -> Tensor:
    """Return values along some dimensions as a tensor of the whole shape; undoes ``only``.

    Args:
        values: What stands along ``dims``, in their order.
        dims: Their dimensions in the whole shape, ascending.
        shape: The whole shape.
    """
    sizes = [shape[d] if d in dims else 1 for d in range(len(shape))]
    return values.reshape(sizes).expand(shape)


def positions(shape: tuple[int, ...], dims: tuple[int, ...]) -> Tensor:
    """Return a position for every place, the same along the given dimensions of channels.

    Args:
        shape: Of the activation.
        dims: Its dimensions of channels.
    """
    sizes = [1 if d in dims else n for d, n in enumerate(shape)]
    count = int(torch.Size(sizes).numel())
    return torch.arange(count).reshape(sizes).expand(shape)


def aligned(values: Tensor, ndim: int) -> Tensor:
    """Return values with leading dimensions of size 1, as broadcasting adds them.

    Args:
        values: Any shape.
        ndim: Number of dimensions wanted, at least as many as there are.
    """
    return values.reshape((1,) * (ndim - values.ndim) + tuple(values.shape))


def ranks(row: Tensor) -> Tensor:
    """Return for each entry the order in which its value is met first, shape (n,)."""
    _, inverse = torch.unique(row, return_inverse=True)
    count = int(inverse.max()) + 1 if row.numel() else 0
    first = torch.full((count,), row.numel()).scatter_reduce(
        0, inverse, torch.arange(row.numel()), "amin"
    )
    order = torch.empty_like(first)
    order[first.argsort()] = torch.arange(count)
    return order[inverse]
