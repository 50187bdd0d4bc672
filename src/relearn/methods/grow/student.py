"""The student's weights: rows gathered, columns gathered and split without rounding error.

Net2Net, section 3.1: U1[j] = W1[g(j)], U2[:, j] = a_j W2[:, g(j)] with the shares a of a unit's
copies summing to 1. In floating point such shares do not sum to the weight again. So each weight is
taken apart exactly: with R what is left, u = a R is replaced by R - fl(R - u), and fl(R - u) stays
(both differences are exact, Sterbenz 1974); the copies' weights sum to the teacher's in real
numbers, and the student is exact in the teacher's own precision.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn

from relearn.methods.grow.attributes import apply_edits, layer_edits

if TYPE_CHECKING:
    from relearn.methods.grow.replayer import Columns
    from relearn.methods.grow.widened import Widened


@dataclass(frozen=True)
class Shares:
    """The share of every copy.

    Attributes:
        table: Row of ``values`` for each unit's root, int64, shape (identities,).
        values: Shares in float64, shape (units, most copies); row 0 is (1, 0, ...).
        symmetry: How copies are told apart.
        noise: Relative size of the noise of ``noise`` and ``zero_sum``.
    """

    table: Tensor
    values: Tensor
    symmetry: str
    noise: float

    def of(self, roots: Tensor, copies: Tensor) -> Tensor:
        """Return the shares of copies of units, shape as ``roots``."""
        return self.values[self.table[roots], copies]


def build_student(
    model: nn.Module, widened: Widened, shares: Shares, generator: Generator
) -> nn.Module:
    """Return the grown network; the teacher is only read.

    Args:
        model: The teacher.
        widened: A growth that fits.
        shares: Of every copy.
        generator: For noise and fresh units.
    """
    ready: dict[int, object] = {}
    named = [*model.named_parameters(), *model.named_buffers()]
    # the largest first, while little else is there: what each needs meanwhile is no peak then
    for name, tensor in sorted(named, key=lambda entry: -entry[1].numel()):
        grown = _grown(name, tensor.detach(), (widened, shares, generator))
        if isinstance(tensor, nn.Parameter):
            grown = nn.Parameter(grown, requires_grad=tensor.requires_grad)
        ready[id(tensor)] = grown
    student = copy.deepcopy(model, ready)
    apply_edits(student, [*widened.edits, *layer_edits(model, widened)])
    return student


def _grown(name: str, tensor: Tensor, task: tuple[Widened, Shares, Generator]) -> Tensor:
    """Return one parameter or buffer of the student."""
    widened, shares, generator = task
    result = tensor
    if not tensor.is_floating_point():
        return tensor.clone()
    for axis, rows in widened.rows(name, tuple(tensor.shape)).items():
        if len(rows.index) == tensor.shape[axis]:
            continue
        result = _rows(result, (name, axis), (tensor, widened))
        if shares.symmetry == "fresh" and tensor.ndim > 1 and name in _layers(widened):
            result = _refreshed(result, axis, widened.refreshable(rows), generator)
    for (known, axis), columns in widened.columns.items():
        if known == name and len(columns.index) != tensor.shape[axis]:
            result = split_columns(result, axis, columns, (widened, shares, generator))
    return result.clone() if result is tensor else result.contiguous()


def _rows(weight: Tensor, place: tuple[str, int], task: tuple[Tensor, Widened]) -> Tensor:
    """Return a parameter with its rows copied, and padded where its stream is."""
    (name, axis), (tensor, widened) = place, task
    rows = widened.rows(name, tuple(tensor.shape))[axis]
    result = weight.index_select(axis, rows.index.clamp(min=0))
    pads = torch.nonzero(rows.index < 0).flatten()
    if not len(pads):
        return result
    norm = widened.norms.get(name)
    if norm is not None:
        gain = math.sqrt(norm.ratio) if name in widened.gains else 1.0
        return (result.double() * gain).to(result).index_fill_(axis, pads, 0.0)
    if name in widened.level_zero:
        return result.index_fill_(axis, pads, 0.0)
    mine = torch.unique(rows.index[rows.index >= 0])  # a padded stream fills the whole axis
    mean = weight.index_select(axis, mine).double().mean(axis, keepdim=True).to(result)
    sizes = [len(pads) if d == axis else n for d, n in enumerate(mean.shape)]
    return result.index_copy_(axis, pads, mean.expand(sizes).contiguous())


def _layers(widened: Widened) -> set[str]:
    return {name for name, _ in widened.columns}


def _refreshed(weight: Tensor, axis: int, fresh: Tensor, generator: Generator) -> Tensor:
    """Return a weight whose copied rows are drawn anew, with the deviation of the others."""
    shape = list(weight.shape)
    shape[axis] = int(fresh.sum())
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64).to(weight)
    where = torch.nonzero(fresh).flatten()
    return weight.index_copy(axis, where, drawn * weight.std())


def split_columns(
    weight: Tensor, axis: int, columns: Columns, task: tuple[Widened, Shares, Generator]
) -> Tensor:
    """Return a weight with its columns copied and split; copies sum to the original exactly.

    Args:
        weight: Teacher's weight, its rows copied already.
        axis: Axis of columns.
        columns: Where each new column comes from.
        task: The growth, the shares, and the source of noise.
    """
    widened, shares, generator = task
    roots = widened.analysis.roots["unit"][columns.ids]
    counts = widened.layout.counts(columns.ids)
    result = weight.index_select(axis, columns.index.clamp(min=0))
    _fill(result, axis, columns, (weight, generator))
    if shares.symmetry == "none" and bool(((counts & (counts - 1)) == 0).all()):
        return _scaled(result, axis, 1.0 / counts.double())
    left: Tensor | None = None
    for number in range(int(counts.max())):
        now = torch.nonzero((columns.copies == number) & (counts > 1)).flatten()
        if not len(now):
            continue
        whole = weight.index_select(axis, columns.index[now]) if left is None else left
        last = counts[now] == number + 1
        part = shares.of(roots[now], columns.copies[now])
        rest = sum(
            (shares.of(roots[now], torch.full_like(now, k)) for k in range(number)), part * 0
        )
        share = torch.where(last, 1.0, part / (1 - rest).clamp(min=1e-300))
        given, over = _taken(whole, axis, share, (shares, generator))
        result.index_copy_(axis, now, given)
        if bool((~last).any()):
            following = columns.index[now][~last]
            left = over.index_select(axis, torch.nonzero(~last).flatten())
            order = torch.nonzero((columns.copies == number + 1) & (counts > 1)).flatten()
            left = left.index_select(axis, _matching(following, columns.index[order]))
    if shares.symmetry == "noise":
        _disturb(result, axis, columns, (shares, generator))
    return result


def _fill(result: Tensor, axis: int, columns: Columns, task: tuple[Tensor, Generator]) -> None:
    """Set the columns that read padding, in place: 0, or drawn where it is always 0."""
    weight, generator = task
    pads = torch.nonzero(columns.index < 0).flatten()
    if len(pads):
        result.index_fill_(axis, pads, 0.0)
    free = torch.nonzero(columns.free).flatten()
    if len(free):
        shape = [len(free) if d == axis else n for d, n in enumerate(result.shape)]
        # float32 whatever the net's precision, so that a growth in float64 draws the same numbers
        drawn = torch.randn(shape, generator=generator, dtype=torch.float32).to(result)
        result.index_copy_(axis, free, drawn.mul_(float(weight.double().std())))


def _matching(have: Tensor, want: Tensor) -> Tensor:
    """Return where each wanted column stands among those at hand."""
    order = have.argsort()
    return order[torch.searchsorted(have[order], want)]


def _scaled(weight: Tensor, axis: int, factors: Tensor) -> Tensor:
    sizes = [-1 if d == axis else 1 for d in range(weight.ndim)]
    return weight.mul_(factors.to(weight).reshape(sizes))


def _taken(
    whole: Tensor, axis: int, share: Tensor, task: tuple[Shares, Generator]
) -> tuple[Tensor, Tensor]:
    """Return a share of some columns and what is left over; both sum to the whole exactly."""
    shares, generator = task
    sizes = [-1 if d == axis else 1 for d in range(whole.ndim)]
    part = share.reshape(sizes).to(whole.dtype)
    if shares.symmetry == "zero_sum":
        drawn = torch.randn(whole.shape, generator=generator, dtype=torch.float64).to(whole)
        part = torch.where(part < 1, (part * (1 + shares.noise * drawn)).clamp(0.0, 1.0), part)
    over = whole * part
    torch.sub(whole, over, out=over)
    return whole - over, over


def _disturb(result: Tensor, axis: int, columns: Columns, task: tuple[Shares, Generator]) -> None:
    """Add the paper's noise to the copies' columns, in place; the function changes a little."""
    shares, generator = task
    copied = torch.nonzero(columns.copies > 0).flatten()
    shape = list(result.shape)
    shape[axis] = len(copied)
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64).to(result)
    result.index_add_(axis, copied, drawn * (shares.noise * result.std()))
