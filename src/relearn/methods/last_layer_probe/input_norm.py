"""How real inputs become the unit vectors that a skeleton expects at its input nodes.

Daniely, Frostig, Singer, arXiv 1602.05897, take every coordinate x^i from a unit sphere.
Four ways there; where the vectors are not unit ones, the kernel goes by their true lengths.

    global   x sqrt(positions) / |x|: each sample as a whole; its overall contrast is lost
    patch    the patch around each position, with a constant 1 behind it, over its length
    pair     each value t in [0, 1] becomes (cos(pi t / 2), sin(pi t / 2)) / sqrt(channels)
    none     the values as they are
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch.nn.functional import unfold

from relearn.errors import DataError, ParameterError, one_of
from relearn.methods.last_layer_probe.homogeneity import degree_of

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.skeleton import Skeleton

InputNorm = Literal["global", "patch", "pair", "none"]
PARAMETER = "last_layer_probe.input_norm"


@dataclass(frozen=True)
class Embedded:
    """Inputs as vectors at the positions of the input nodes.

    Attributes:
        vectors: Shape (height, width, n, dimension).
        unit: Whether every vector has length 1.
    """

    vectors: Tensor
    unit: bool


def default_norm(skeleton: Skeleton) -> InputNorm:
    """Return ``global`` where one node sees the input, ``none`` where all is 1-homogeneous.

    With a 1-homogeneous activation (ReLU) and no bias the length of an input only scales the
    kernel; any other grid skeleton gets ``patch``.

    Args:
        skeleton: Whose input is meant.
    """
    if skeleton.grid == (1, 1):
        return "global"
    scales = all(degree_of(layer.activation) == 1 and layer.beta == 0 for layer in skeleton.layers)
    return "none" if scales else "patch"


def embed(x: Tensor, skeleton: Skeleton, norm: InputNorm, *, patch: int = 3) -> Embedded:
    """Return inputs as the vectors that the input nodes of a skeleton see, checked.

    Args:
        x: Finite floating numbers; shape (n, channels, height, width) with the skeleton's grid, or
            (n, ...) where one node sees it all.
        skeleton: Whose input nodes are meant.
        norm: As above.
        patch: Pixels along each side of a patch, odd; only read by ``patch`` on a grid.

    Returns:
        The vectors, in the precision of ``x``.

    Raises:
        DataError: A shape that does not fit, NaN, or an input of zero norm.
        ParameterError: An unknown norm, an even patch, or values outside 0..1 with ``pair``.
    """
    check_inputs(x, skeleton, norm, patch=patch)
    placed = place(x, skeleton, norm, patch=patch)
    unit = norm in ("pair", "patch") or (norm == "global" and skeleton.grid == (1, 1))
    return Embedded(placed.permute(2, 3, 0, 1).contiguous(), unit)


def place(x: Tensor, skeleton: Skeleton, norm: InputNorm, *, patch: int = 3) -> Tensor:
    """Return inputs as vectors without a check, so that a network can be exported with it.

    Args:
        x: As in ``embed``.
        skeleton: Likewise.
        norm: Likewise.
        patch: Likewise.

    Returns:
        Shape (n, dimension, height, width).
    """
    flat = skeleton.grid == (1, 1)
    images = x.flatten(1)[:, :, None, None] if flat else x
    if norm == "pair":
        return _pairs(images)
    if norm == "patch":
        return _patches(images, 1 if flat else patch)
    if norm == "global":
        positions = skeleton.grid[0] * skeleton.grid[1]
        length = images.flatten(1).norm(dim=1).div(math.sqrt(positions))
        images = images / length[:, None, None, None]
    return images


def check_inputs(
    x: Tensor,
    skeleton: Skeleton,
    norm: InputNorm,
    *,
    patch: int = 3,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Return the lengths of inputs, or raise an error where they cannot be placed.

    Args:
        x: As in ``embed``.
        skeleton: Likewise.
        norm: Likewise.
        patch: Likewise.
        dtype: Of the lengths; None: that of ``x``.

    Returns:
        Shape (n,).

    Raises:
        DataError: As ``embed``.
        ParameterError: Likewise.
    """
    if norm not in get_args(InputNorm):
        raise one_of(PARAMETER, norm, get_args(InputNorm))
    if patch < 1 or patch % 2 == 0:
        raise ParameterError(f"last_layer_probe.patch: got {patch}, expected an odd number >= 1")
    _check(x, skeleton)
    lengths = _lengths(x, norm, dtype)
    if norm != "pair":
        return lengths
    low, high = (float(each) for each in x.detach().aminmax())
    if low < 0 or high > 1:
        raise ParameterError(
            f"{PARAMETER}: pair needs values from 0 to 1, got {low:g} to {high:g}; expected pixels "
            "in 0..1, or input_norm: patch"
        )
    return lengths


def _check(x: Tensor, skeleton: Skeleton) -> None:
    fits = x.dim() >= 2 if skeleton.grid == (1, 1) else x.shape[2:] == torch.Size(skeleton.grid)
    if not fits or x.numel() == 0:
        wanted = (
            "(n, features...)"
            if skeleton.grid == (1, 1)
            else f"(n, channels, {skeleton.grid[0]}, {skeleton.grid[1]})"
        )
        raise DataError(
            f"last_layer_probe: got inputs of shape {tuple(x.shape)}, expected {wanted}"
        )
    if not x.is_floating_point():
        raise DataError(
            f"last_layer_probe: got inputs of {x.dtype}, expected floating numbers; divide bytes "
            "by 255 first"
        )


def _lengths(x: Tensor, norm: InputNorm, dtype: torch.dtype | None) -> Tensor:
    dtype = dtype or x.dtype
    wide = torch.promote_types(x.dtype, dtype)
    flat = x.detach().flatten(1)
    lengths: Tensor = torch.linalg.vector_norm(flat, dim=1, dtype=wide).to(dtype)
    if not bool(torch.isfinite(lengths).all()):
        raise DataError(
            "last_layer_probe: got NaN, infinite or overflowing inputs, expected finite numbers"
        )
    empty = (lengths == 0).nonzero().flatten().tolist()
    if empty and norm in ("global", "none"):
        first = ", ".join(str(index) for index in empty[:5])
        raise DataError(
            f"{PARAMETER}: {len(empty)} inputs have zero norm (index {first}), which {norm!r} "
            "cannot place on a sphere; expected other inputs, or input_norm: patch or pair"
        )
    return lengths


def _pairs(images: Tensor) -> Tensor:
    angle = images * (math.pi / 2)
    return torch.cat([angle.cos(), angle.sin()], dim=1) / math.sqrt(images.shape[1])


def _patches(images: Tensor, side: int) -> Tensor:
    """Return patches with a 1 behind, each of length 1; beyond the border there is 0."""
    height, width = images.shape[2:]
    if side > 1:
        columns = unfold(images, side, padding=side // 2)
        images = columns.unflatten(2, (height, width))
    whole = torch.cat([images, torch.ones_like(images[:, :1])], dim=1)
    lengths: Tensor = whole.norm(dim=1, keepdim=True)
    return whole / lengths
