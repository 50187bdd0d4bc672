"""Augmentation of a whole batch at once: shift and flip, drawn from a generator, then normalise.

Works on uint8 or float batches of shape (batch, channels, height, width) on any device. Drawing and
doing are apart, so that the draws are made once on the CPU and do not depend on the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from relearn.errors import ParameterError


def draw_offsets(count: int, pixels: int, generator: torch.Generator) -> Tensor:
    """Return shifts (down, right), each uniform over -pixels to +pixels.

    Args:
        count: Number of images.
        pixels: Largest shift, 0 or more.
        generator: CPU generator that is consumed.

    Returns:
        int64, shape (count, 2).
    """
    return torch.randint(-pixels, pixels + 1, (count, 2), generator=generator)


def draw_flips(count: int, generator: torch.Generator) -> Tensor:
    """Return which images to mirror, each with probability one half.

    Args:
        count: Number of images.
        generator: CPU generator that is consumed.

    Returns:
        bool, shape (count,).
    """
    return torch.randint(0, 2, (count,), generator=generator).bool()


def background_of(images: Tensor) -> Tensor:
    """Return the median of the border pixels: what a shift moves in from outside.

    Args:
        images: Any real type, shape (n, channels, height, width).

    Returns:
        Of the same type, shape (n, channels).
    """
    sides = (images[..., 0, :], images[..., -1, :], images[..., :, 0], images[..., :, -1])
    border = torch.cat(sides, dim=-1)
    background: Tensor = border.median(dim=-1).values
    return background


def shift(images: Tensor, offsets: Tensor, background: Tensor | None = None) -> Tensor:
    """Return images moved by whole pixels, with the background moved in.

    Args:
        images: Any type, shape (batch, channels, height, width).
        offsets: int64, shape (batch, 2): pixels down and right, of either sign.
        background: Of the images' type, shape (batch, channels); by default the border's median.

    Returns:
        A new tensor of the images' shape and type.
    """
    batch, channels, height, width = images.shape
    fill = background_of(images) if background is None else background
    reach = int(offsets.abs().max()) if batch else 0
    if reach == 0:
        return images.clone()
    padded = fill[:, :, None, None].repeat(1, 1, height + 2 * reach, width + 2 * reach)
    padded[:, :, reach : reach + height, reach : reach + width] = images
    start = reach - offsets.to(images.device)
    # out[b, c, y, x] = padded[b, c, start_y + y, start_x + x], as one flat gather
    stride_y, stride_c = width + 2 * reach, (height + 2 * reach) * (width + 2 * reach)
    steps = torch.arange(max(batch, channels, height, width), device=images.device)
    first = steps[:batch] * channels * stride_c + start[:, 0] * stride_y + start[:, 1]
    window = (steps[:height, None] * stride_y + steps[:width]).flatten()
    rows = first[:, None] + steps[:channels] * stride_c
    flat = rows[:, :, None] + window
    return padded.flatten()[flat.flatten()].view(batch, channels, height, width)


def flip(images: Tensor, mask: Tensor) -> Tensor:
    """Return images with those of ``mask`` mirrored left to right.

    Args:
        images: Any type, shape (batch, channels, height, width).
        mask: bool, shape (batch,).
    """
    return torch.where(mask.to(images.device)[:, None, None, None], images.flip(-1), images)


def normalise(
    images: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return ``(images / 255 - mean) / std``.

    Args:
        images: Range 0 to 255, shape (batch, channels, height, width).
        mean: For each channel, in the unit range 0 to 1.
        std: For each channel, above 0, in the same unit.
        dtype: Type of the result; the arithmetic is in float32.

    Raises:
        ParameterError: As many means or deviations as channels were not given.
    """
    channels = images.shape[1]
    if len(mean) != channels or len(std) != channels:
        raise ParameterError(
            f"data.image.channels: images have {channels}, but the normalisation has "
            f"{len(mean)} means and {len(std)} deviations; use images of the checkpoint's channels"
        )
    scale = torch.tensor([1 / (255 * s) for s in std], device=images.device)[:, None, None]
    offset = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=images.device)[
        :, None, None
    ]
    return torch.addcmul(offset, images.to(torch.float32), scale).to(dtype)
