"""Max-pool of 2x2 with stride 2 that is quick on a CPU and equals torch's own, bit for bit.

torch's kernel looks at one pixel after the other and branches on each. Maxima of strided views are
vectorised instead, and the indices that the gradient needs follow from three comparisons with the
maximum. What it gives depends on how well the branches can be foreseen: a few percent of a training
step on line drawings, whose paper is flat, and a tenth to a quarter on photographs
(``benchmarks/bench_zap.py``, rows ``zap.own_pool``, on drawings).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_FROM_NUMBERS = 1 << 17
"""Numbers in the maps from which indices are found by comparison; below, the calls cost more."""


class HalvingPool(nn.Module):
    """Max-pool of 2x2 with stride 2; a last odd row or column is left out, as in ``MaxPool2d``."""

    def forward(self, maps: Tensor) -> Tensor:
        """Return maps of half the side, shape (batch, channels, height // 2, width // 2).

        Args:
            maps: Shape (batch, channels, height, width).
        """
        if maps.device.type != "cpu":
            return nn.functional.max_pool2d(maps, 2)
        if not torch.is_grad_enabled():
            return _largest(maps)
        if maps.numel() < _FROM_NUMBERS or not maps.is_contiguous():
            return nn.functional.max_pool2d(maps, 2)
        pooled: Tensor = _Halving.apply(maps)[0]
        return pooled


class _Halving(torch.autograd.Function):
    """The pool with its gradient, over the last two dimensions, whatever lies before them."""

    @staticmethod
    def forward(maps: Tensor) -> tuple[Tensor, Tensor]:
        """Return the pooled maps and where in each map the largest numbers lie."""
        pooled = _largest(maps)
        return pooled, _indices(maps, pooled)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        """Keep the indices, and not the maps, for the gradient."""
        ctx.side = inputs[0].shape[-2:]
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> Tensor:
        """Return the gradient put where the largest numbers were, zero elsewhere."""
        (indices,) = ctx.saved_tensors
        like = gradient.new_empty((*gradient.shape[:-2], *ctx.side))  # read for its shape alone
        spread: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(
            gradient.contiguous(), like, [2, 2], [2, 2], [0, 0], [1, 1], False, indices
        )
        return spread

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], maps: Tensor) -> tuple[Any, tuple[int, int]]:
        """Return the outputs for a stack of batches, which the arithmetic does not mind."""
        return _Halving.apply(maps.movedim(in_dims[0], 0)), (0, 0)


def _largest(maps: Tensor) -> Tensor:
    height, width = maps.shape[-2] // 2 * 2, maps.shape[-1] // 2 * 2
    rows = torch.maximum(maps[..., 0:height:2, :], maps[..., 1:height:2, :])
    return torch.maximum(rows[..., 0:width:2], rows[..., 1:width:2])


def _indices(maps: Tensor, pooled: Tensor) -> Tensor:
    """Return int64 positions in the flattened map; of equal numbers the first, as torch does."""
    side = maps.shape[-1]
    height, width = pooled.shape[-2] * 2, pooled.shape[-1] * 2
    # each is 1 where the pixel, and all before it, are below the maximum
    not_first = maps[..., 0:height:2, 0:width:2] != pooled
    not_second = (maps[..., 0:height:2, 1:width:2] != pooled).logical_and_(not_first)
    not_third = (maps[..., 1:height:2, 0:width:2] != pooled).logical_and_(not_second)
    # steps from the first pixel: 1 to the second, side - 1 more to the third, 1 more to the fourth
    small = torch.int16 if side < 1 << 14 else torch.int64  # a quarter of the memory to go through
    steps = not_first.to(small).add_(not_second.to(small), alpha=side - 1).add_(not_third.to(small))
    rows = torch.arange(0, height, 2, device=maps.device).unsqueeze(1)
    return steps.to(torch.int64).add_(rows * side + torch.arange(0, width, 2, device=maps.device))
