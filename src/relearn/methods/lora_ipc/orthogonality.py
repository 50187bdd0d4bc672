"""Keeping the modules of all tasks in directions of their own, softly or exactly.

Soft, as in the paper: L = || [A_1 .. A_t]^T [A_1 .. A_t] - I ||_F for each matrix that learns, with
earlier factors fixed. The square of the norm is a sum over blocks,

    L^2 = c^2 + 2 || H^T A ||^2 + || A^T A - I ||^2,   c^2 = || H^T H - I ||^2,  H = [A_1 .. A_t-1],

so the Gram matrix of all columns is never made; c^2 is found once a task.

Hard: after each optimizer step A is projected off the span of H and replaced by the factor Q of
its QR decomposition, while B takes R. A B is then what it was, but for its part in the span of H.
The optimizer's moments of A and B are those of the step before; they are not rotated.

References:
    LoRAC-IPC, arXiv 2504.13407, the orthogonality loss. The official code has no decomposition: R
    is thought of as part of B. The hard way is ours.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from relearn.data.randomness import generator_of
from relearn.errors import TrainingError

if TYPE_CHECKING:
    from relearn.methods.lora_ipc.modules import AdaptedMatrix

INITIALISATIONS = ("official", "fan_in", "orthonormal", "orthonormal_apart")
"""How A begins: U(-1, 1) / sqrt(r), as the official code draws it; U(-1, 1) / sqrt(d_in), as LoRA
does; orthonormal columns; or these, orthogonal to those of earlier modules."""

_EPSILON = 1e-12  # the root has no derivative at 0, where A is orthonormal already


def first_factor(
    in_features: int, rank: int, initialisation: str, *, seed: int, door: str
) -> Tensor:
    """Return A for the start of a task, float32 on the CPU, shape (in_features, rank).

    Args:
        in_features: d_in.
        rank: Columns.
        initialisation: One of ``INITIALISATIONS``; the last two give normal numbers, which
            ``complement`` makes orthonormal.
        seed: Of the run.
        door: Name of the draw.
    """
    generator = generator_of(seed, door)
    if initialisation.startswith("orthonormal"):
        return torch.randn(in_features, rank, generator=generator)
    fan_in = rank if initialisation == "official" else in_features
    bound = fan_in**-0.5
    return torch.empty(in_features, rank).uniform_(-bound, bound, generator=generator)


@torch.no_grad()
def complement(a: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Return Q and R with Q R = (I - basis basis^T) A and Q^T [basis, Q] = [0, I].

    Args:
        a: Shape (d_in, rank).
        basis: Orthonormal columns, shape (d_in, columns).

    Returns:
        Q (d_in, rank) and R (rank, rank) with a diagonal that is not negative.

    Raises:
        TrainingError: A has no rank columns outside the span of the basis.
    """
    if a.shape[1] + basis.shape[1] > a.shape[0]:
        raise TrainingError(
            f"lora_ipc.lora.rank: {a.shape[1]} further orthogonal columns do not fit beside "
            f"{basis.shape[1]} of d_in = {a.shape[0]}; use a smaller rank"
        )
    outside = a - basis @ (basis.T @ a)
    q, r = torch.linalg.qr(outside)
    # the first projection leaves rounding errors as large as what it took away; the second none
    q, again = torch.linalg.qr(q - basis @ (basis.T @ q))
    r = again @ r
    signs = torch.where(r.diagonal() < 0, -1.0, 1.0).to(r)
    if not bool((r.diagonal().abs() > 10 * torch.finfo(a.dtype).eps * a.norm()).all()):
        raise TrainingError(
            "lora_ipc.orthogonality: a factor A has lost its rank outside the earlier modules; "
            "lower the learning rate"
        )
    return q * signs, signs.unsqueeze(1) * r


def basis_of(matrix: AdaptedMatrix) -> Tensor:
    """Return orthonormal columns that span the earlier factors A of a matrix, (d_in, columns).

    Args:
        matrix: Its earlier factors need not be orthonormal themselves.
    """
    history = matrix.history_a.detach()
    if not history.shape[1]:
        return history
    basis: Tensor = torch.linalg.qr(history)[0]
    return basis


class SoftOrthogonality:
    """The penalty of one task, with what is constant in it found once.

    Matrices of one shape are told together; their earlier factors are copied side by side.

    Args:
        matrices: All matrices; those without a present module count nothing.
    """

    def __init__(self, matrices: Iterable[AdaptedMatrix]) -> None:
        alike: dict[object, list[AdaptedMatrix]] = {}
        for matrix in matrices:
            if matrix.a is not None:
                shape = (matrix.history_a.shape, matrix.a.shape[1])
                alike.setdefault((shape, matrix.a.dtype, matrix.a.device), []).append(matrix)
        self._groups = [_Group(members) for members in alike.values()]

    def penalty(self) -> Tensor:
        """Return the sum of L over all matrices that have a present module, a scalar."""
        total = torch.zeros(())
        for group in self._groups:
            factors = [m.a for m in group.members if m.a is not None]
            if factors:
                total = total.to(factors[0]) + _Distance.apply(group, *factors)
        return total


class _Group:
    """Matrices of one shape: earlier factors (matrices, d_in, columns), c^2 (matrices,)."""

    def __init__(self, members: list[AdaptedMatrix]) -> None:
        self.members = members
        self.history = torch.stack([m.history_a for m in members])
        self.constant = torch.stack([_misfit(m.history_a) for m in members])


class _Distance(torch.autograd.Function):
    """The sum of L over matrices of one shape, with its gradient by hand.

    dL / dA = 2 (H H^T A + A (A^T A - I)) / L for each matrix, found transposed (``products``).
    """

    @staticmethod
    def forward(ctx: Any, group: _Group, *factors: Tensor) -> Tensor:
        """Return the sum, a scalar, from the factors A of the present modules."""
        a = torch.stack(factors)
        upright = a.mT
        cross = upright @ group.history
        own = upright @ a
        own.diagonal(dim1=1, dim2=2).sub_(1.0)
        squares = [each.square().sum((1, 2)) for each in (cross, own)]
        distances = (group.constant + 2 * squares[0] + squares[1] + _EPSILON).sqrt()
        slope = cross @ group.history.mT + own @ upright
        ctx.save_for_backward(slope.mul_((2 / distances).view(-1, 1, 1)))
        return distances.sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient of each factor."""
        (slope,) = ctx.saved_tensors
        return (None, *(slope * grads[0]).mT.unbind())


class HardOrthogonality:
    """Retraction after each step: A orthonormal and orthogonal to all earlier modules.

    Args:
        matrices: All matrices; those without a present module are left alone.
    """

    def __init__(self, matrices: Iterable[AdaptedMatrix]) -> None:
        self._terms = [(m, basis_of(m)) for m in matrices if m.a is not None]

    @torch.no_grad()
    def retract(self) -> None:
        """Replace A by Q and B by R B, in place.

        Raises:
            TrainingError: A factor has lost its rank.
        """
        for matrix, basis in self._terms:
            if matrix.a is not None and matrix.b is not None:
                q, r = complement(matrix.a, basis)
                matrix.a.copy_(q)
                matrix.b.copy_(r @ matrix.b)


@dataclass(frozen=True)
class OrthogonalityReport:
    """How orthogonal the modules of one matrix are.

    Attributes:
        name: Of the matrix.
        columns: Columns of all its factors A.
        distance: || A^T A - I ||_F over all of them.
        largest_cross_term: Largest | A_i^T A_j | between different modules.
        condition: Largest over smallest singular value of all columns.
        largest_cosine: Largest cosine between two columns of different modules, without its sign.
    """

    name: str
    columns: int
    distance: float
    largest_cross_term: float
    condition: float
    largest_cosine: float


@torch.no_grad()
def report_orthogonality(matrices: Iterable[AdaptedMatrix]) -> list[OrthogonalityReport]:
    """Return one report for each matrix that has a module, the present one included.

    Args:
        matrices: The matrices.
    """
    found = []
    for matrix in matrices:
        pieces = [matrix.history_a] + ([] if matrix.a is None else [matrix.a.detach()])
        columns = torch.cat(pieces, 1).double()
        if not columns.shape[1]:
            continue
        ranks = [*matrix.ranks, *([] if matrix.a is None else [matrix.a.shape[1]])]
        gram = columns.T @ columns
        lengths = columns.norm(dim=0).clamp(min=1e-300)
        owner = torch.arange(len(ranks)).repeat_interleave(torch.tensor(ranks))
        apart = owner.unsqueeze(0) != owner.unsqueeze(1)
        cross = gram.abs().cpu()[apart]
        cosines = (gram / torch.outer(lengths, lengths)).abs().cpu()[apart]
        singular = torch.linalg.svdvals(columns)
        found.append(
            OrthogonalityReport(
                matrix.place.name,
                int(columns.shape[1]),
                float((gram - torch.eye(len(gram)).to(gram)).norm()),
                float(cross.max()) if len(cross) else 0.0,
                float(singular.max() / singular.min().clamp(min=1e-300)),
                float(cosines.max()) if len(cosines) else 0.0,
            )
        )
    return found


def _misfit(columns: Tensor) -> Tensor:
    """Return || H^T H - I ||^2, a scalar."""
    gram = columns.T @ columns
    squares: Tensor = (gram - torch.eye(len(gram)).to(gram)).square().sum()
    return squares
