"""Common corruptions at five severities: what happens to images without an adversary.

The kinds are those of Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common
Corruptions and Perturbations", ICLR 2019, without weather. We differ: the strengths below are our
own defaults after their idea of five steps, so that figures cannot be set beside published ones.
Lengths are in pixels of an image of up to 32 pixels and grow with larger ones; beyond the border
the outermost pixels go on.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from relearn.data.randomness import generator_of
from relearn.errors import ParameterError, one_of

SEVERITIES = (1, 2, 3, 4, 5)
"""From hardly visible to barely recognisable."""

_COLOUR = 3
_GREY_OF_RGB = (0.299, 0.587, 0.114)  # ITU-R BT.601
_SIDE = 32


def names_for(channels: int) -> tuple[str, ...]:
    """Return the corruptions that change images of so many channels.

    Args:
        channels: Colour channels; ``saturation`` needs three.
    """
    return tuple(name for name in NAMES if name != "saturation" or channels == _COLOUR)


def corrupt(images: Tensor, name: str, severity: int, *, seed: int) -> Tensor:
    """Return corrupted images.

    What is drawn is a function of (seed, name, severity) and of the place in the batch, so that a
    whole set is corrupted in one call. The mean squared distance to the images rises with severity
    (tested from 8 pixels on; on fewer, neighbouring severities of ``pixelate`` can change places).

    Args:
        images: uint8, shape (n, channels, height, width).
        name: One of ``names_for(channels)``.
        severity: 1 to 5.
        seed: Seed of the draws; the corruptions that draw nothing do not use it.

    Returns:
        uint8 of the same shape, on the same device.

    Raises:
        ParameterError: Name or severity is not known, or the corruption needs colour.
    """
    known = names_for(images.shape[1])
    if name not in known:
        if name in NAMES:
            raise ParameterError(
                f"corruption: {name!r} needs images of {_COLOUR} channels, got "
                f"{images.shape[1]}; expected one of {', '.join(known)}"
            )
        raise one_of("corruption", name, known)
    if severity not in SEVERITIES:
        raise ParameterError(f"severity: got {severity}, expected a whole number from 1 to 5")
    if not len(images):
        return images.clone()
    change, strengths = _CORRUPTIONS[name]
    generator = generator_of(seed, f"corruption.{name}.{severity}")
    pixels = images.cpu().float() / 255
    changed = change(pixels, strengths[severity - 1], generator)
    return changed.clamp(0, 1).mul(255).round().to(torch.uint8).to(images.device)


Corruption = Callable[[Tensor, float, torch.Generator], Tensor]
"""(pixels 0 to 1, strength, generator) -> pixels, clamped by the caller."""


def _gaussian_noise(pixels: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    return pixels + deviation * torch.randn(pixels.shape, generator=generator)


def _shot_noise(pixels: Tensor, photons: float, generator: torch.Generator) -> Tensor:
    """Count photons, of which a white pixel sends so many on average."""
    return torch.poisson(pixels * photons, generator=generator) / photons


def _impulse_noise(pixels: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Make half of a share of the numbers black and the other half white."""
    drawn = torch.rand(pixels.shape, generator=generator)
    return torch.where(drawn < share, (drawn < share / 2).to(pixels), pixels)


def _speckle_noise(pixels: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    return pixels + pixels * deviation * torch.randn(pixels.shape, generator=generator)


def _gaussian_blur(pixels: Tensor, deviation: float, _: torch.Generator) -> Tensor:
    deviation *= _scale(pixels)
    distance = _distances(pixels, reach=math.ceil(3 * deviation))
    return _convolved(pixels, torch.exp(-0.5 * (distance / deviation) ** 2))


def _defocus_blur(pixels: Tensor, radius: float, _: torch.Generator) -> Tensor:
    """Average over a disk, whose border pixels count in part."""
    radius *= _scale(pixels)
    distance = _distances(pixels, reach=math.ceil(radius))
    return _convolved(pixels, (radius + 0.5 - distance).clamp(0, 1))


def _motion_blur(pixels: Tensor, length: float, generator: torch.Generator) -> Tensor:
    """Average over a line of the given length, in a direction of its own for each image."""
    length *= _scale(pixels)
    angle = torch.rand(len(pixels), generator=generator) * math.pi
    direction = torch.stack([angle.cos(), angle.sin()], 1)
    count = 2 * math.ceil(length) + 1
    moved = torch.zeros_like(pixels)
    for step in torch.linspace(-length / 2, length / 2, count).tolist():
        moved += _moved(pixels, direction * step)
    return moved / count


def _contrast(pixels: Tensor, kept: float, _: torch.Generator) -> Tensor:
    mean = pixels.mean((1, 2, 3), keepdim=True)
    return mean + kept * (pixels - mean)


def _brightness(pixels: Tensor, added: float, _: torch.Generator) -> Tensor:
    return pixels + added


def _saturation(pixels: Tensor, kept: float, _: torch.Generator) -> Tensor:
    grey = (pixels * torch.tensor(_GREY_OF_RGB)[:, None, None]).sum(1, keepdim=True)
    return grey + kept * (pixels - grey)


def _pixelate(pixels: Tensor, side: float, _: torch.Generator) -> Tensor:
    """Show the image in square cells of the given side; a pixel between two cells mixes them."""
    side *= _scale(pixels)
    rows, columns = (_in_cells(count, side).to(pixels) for count in pixels.shape[-2:])
    return rows @ pixels @ columns.T


def _in_cells(count: int, side: float) -> Tensor:
    """Return the matrix (count, count) that averages a line of pixels over cells."""
    first = torch.arange(math.ceil(count / side))[:, None] * side
    pixel = torch.arange(count)
    # how much of each pixel lies in each cell
    inside = (torch.minimum(first + side, pixel + 1) - torch.maximum(first, pixel)).clamp(min=0)
    return inside.T @ (inside / inside.sum(1, keepdim=True))


def _jpeg(pixels: Tensor, quality: float, _: torch.Generator) -> Tensor:
    """Compress every image; one of other than one or three channels by its single channels."""
    whole = pixels if pixels.shape[1] == _COLOUR else pixels.flatten(0, 1)[:, None]
    pictures = (whole * 255).round().to(torch.uint8).movedim(1, -1).numpy()
    packed = np.stack([_through_jpeg(picture, int(quality)) for picture in pictures])
    return torch.from_numpy(packed).movedim(-1, 1).reshape(pixels.shape).float() / 255


def _through_jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    """Return a picture (height, width, 1 or 3) as it comes back from a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(picture if picture.shape[-1] == _COLOUR else picture[..., 0]).save(
        file, "JPEG", quality=quality
    )
    return np.asarray(Image.open(file)).reshape(picture.shape)


def _scale(pixels: Tensor) -> float:
    return max(1.0, max(pixels.shape[-2:]) / _SIDE)


def _distances(pixels: Tensor, *, reach: int) -> Tensor:
    """Return the distance from the middle of a square kernel, in pixels."""
    steps = torch.arange(-reach, reach + 1).to(pixels)
    return torch.hypot(steps[:, None], steps[None, :])


def _convolved(pixels: Tensor, kernel: Tensor) -> Tensor:
    """Return every channel averaged with the weights of one square kernel."""
    channels, reach = pixels.shape[1], kernel.shape[0] // 2
    padded = functional.pad(pixels, [reach] * 4, mode="replicate")
    weights = (kernel / kernel.sum()).expand(channels, 1, *kernel.shape)
    return functional.conv2d(padded, weights, groups=channels)


def _moved(pixels: Tensor, offsets: Tensor) -> Tensor:
    """Return images moved by (right, down), shape (n, 2), in parts of a pixel by interpolation."""
    height, width = pixels.shape[-2:]
    moves = torch.eye(2).repeat(len(pixels), 1, 1)
    # positions run from -1 to 1 over the image
    shares = -2 * offsets / torch.tensor([float(width), float(height)])
    grid = functional.affine_grid(
        torch.cat([moves, shares[:, :, None]], 2), list(pixels.shape), align_corners=False
    )
    return functional.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


_CORRUPTIONS: dict[str, tuple[Corruption, tuple[float, ...]]] = {
    "gaussian_noise": (_gaussian_noise, (0.05, 0.09, 0.14, 0.20, 0.30)),  # deviation
    "shot_noise": (_shot_noise, (80, 35, 16, 8, 4)),  # photons of a white pixel
    "impulse_noise": (_impulse_noise, (0.02, 0.05, 0.09, 0.15, 0.24)),  # share of numbers
    "speckle_noise": (_speckle_noise, (0.12, 0.20, 0.30, 0.45, 0.65)),  # deviation at white
    "gaussian_blur": (_gaussian_blur, (0.5, 0.7, 1.0, 1.4, 2.0)),  # deviation in pixels
    "defocus_blur": (_defocus_blur, (0.6, 0.9, 1.3, 1.8, 2.5)),  # radius in pixels
    "motion_blur": (_motion_blur, (1.5, 2.5, 3.5, 5.0, 7.0)),  # length in pixels
    "contrast": (_contrast, (0.75, 0.60, 0.45, 0.30, 0.15)),  # share kept
    "brightness": (_brightness, (0.08, 0.15, 0.23, 0.32, 0.42)),  # added
    "saturation": (_saturation, (0.75, 0.55, 0.35, 0.18, 0.0)),  # share kept
    "pixelate": (_pixelate, (1.2, 1.5, 2.0, 2.7, 4.0)),  # side of a cell in pixels
    "jpeg": (_jpeg, (70, 45, 25, 14, 7)),  # quality
}

NAMES = tuple(_CORRUPTIONS)
"""All corruptions; ``names_for`` tells which of them apply."""
