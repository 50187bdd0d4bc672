"""Bytes to pixels: one image, or many in parallel with a progress bar.

Transparent pixels lie on white; 16-bit grey is brought to 8 bits; a turned photograph is set
upright as its EXIF tag says; of an animation the first picture is taken. Sizes change by Lanczos.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from tqdm import tqdm

from relearn.errors import DataError

if TYPE_CHECKING:
    from relearn.data.archive import ImageFiles, ReadLimits

Pixels = npt.NDArray[np.uint8]
_TASK = 64  # images a thread takes at once: keeps the overhead of futures small
_BAR_AFTER_SECONDS = 3.0


@dataclass(frozen=True)
class ImageShape:
    """What every image is brought to; fields as in ``data.image``.

    Attributes:
        size: Height = width in pixels; 0 = as it is.
        channels: 1, 3, or 0 = as it is.
        fit: ``crop`` cuts the middle square out, ``stretch`` changes the aspect.
    """

    size: int = 0
    channels: int = 0
    fit: Literal["crop", "stretch"] = "crop"


@dataclass(frozen=True)
class Decoded:
    """One file: its pixels, or the reason why there are none.

    Attributes:
        pixels: uint8 (height, width) or (height, width, 3); None if refused.
        checksum: sha256 of the file's bytes; empty if they could not be read.
        reason: Short phrase if refused.
    """

    pixels: Pixels | None
    checksum: str
    reason: str = ""


def fit_image(image: Image.Image, shape: ImageShape) -> Pixels:
    """Return the pixels of an open image, brought to ``shape``.

    Args:
        image: Of any mode but floating point.
        shape: Wanted size, channels and fit.

    Returns:
        uint8, shape (height, width) for grey, (height, width, 3) for RGB.

    Raises:
        ValueError: The mode is not one of a picture.
    """
    plain = _plain(image)
    wanted = {0: plain.mode, 1: "L", 3: "RGB"}[shape.channels]
    plain = plain if plain.mode == wanted else plain.convert(wanted)
    square = (shape.size, shape.size)
    if shape.size and plain.size != square:
        if shape.fit == "crop":
            plain = ImageOps.fit(plain, square, Image.Resampling.LANCZOS)
        else:
            plain = plain.resize(square, Image.Resampling.LANCZOS)
    return np.array(plain)


def _plain(image: Image.Image) -> Image.Image:
    """Return the image in mode L or RGB."""
    mode = image.mode
    if mode in ("L", "RGB"):
        return image
    if mode.startswith("I"):
        values = np.asarray(image, dtype=np.int64)
        scaled = values // 257 if values.max(initial=0) > 255 or mode != "I" else values
        return Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8))
    if mode == "F":
        raise ValueError("floating-point pixels")
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        paper = Image.new("RGBA", seen.size, "white")
        flat = Image.alpha_composite(paper, seen)
        return flat.convert("L" if mode in ("LA", "La") else "RGB")
    return image.convert("L" if mode in ("1", "LA", "La") else "RGB")


def decode_bytes(data: bytes, shape: ImageShape, *, max_pixels: int) -> Pixels:
    """Return the pixels of an encoded image.

    Args:
        data: A whole PNG, JPEG, BMP, GIF, WebP or TIFF file.
        shape: Wanted size, channels and fit.
        max_pixels: Width times height allowed.

    Raises:
        DataError: The image has more pixels than allowed.
        Exception: Whatever Pillow raises on damaged bytes.
    """
    try:
        image = Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as fault:
        raise DataError(f"is a decompression bomb ({fault})") from fault
    with image:
        width, height = image.size
        if width * height > max_pixels:
            raise DataError(
                f"has {width}x{height} pixels, allowed are {max_pixels} (data.limits.max_pixels)"
            )
        if shape.size:  # JPEG only: decode at a fraction that is still twice as fine as wanted
            image.draft(None, (2 * shape.size, 2 * shape.size))
        return fit_image(ImageOps.exif_transpose(image), shape)


def _decode_one(files: ImageFiles, name: str, shape: ImageShape, max_pixels: int) -> Decoded:
    checksum = ""
    try:
        data = files.read(name)
        checksum = hashlib.sha256(data).hexdigest()
        return Decoded(decode_bytes(data, shape, max_pixels=max_pixels), checksum)
    except DataError as fault:
        raise DataError(f"data.source_path: {files.origin}: {name} {fault}; remove it") from fault
    except MemoryError:
        raise
    except Exception as fault:  # damaged bytes make Pillow and zipfile raise nearly anything
        reason = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
        return Decoded(None, checksum, reason.split("<_io")[0].strip()[:120])


def decode_files(files: ImageFiles, shape: ImageShape, limits: ReadLimits) -> list[Decoded]:
    """Return what each file holds, in the order of ``files.names``.

    Args:
        files: What to read.
        shape: Wanted size, channels and fit.
        limits: Threads, pixels of one image and bytes of all.

    Raises:
        DataError: An image is a decompression bomb, or all together take too many bytes.
    """

    def task(names: Sequence[str]) -> list[Decoded]:
        return [_decode_one(files, name, shape, limits.max_pixels) for name in names]

    workers = limits.decode_workers or _cores()
    tasks = [files.names[i : i + _TASK] for i in range(0, len(files.names), _TASK)]
    decoded: list[Decoded] = []
    total = 0
    bar = tqdm(  # none where nobody looks: in logs and tests
        total=len(files.names), desc="reading images", delay=_BAR_AFTER_SECONDS, disable=None
    )
    with ThreadPoolExecutor(workers) as pool, bar:
        for done in _mapped(pool, task, tasks):
            decoded += done
            total += sum(one.pixels.nbytes for one in done if one.pixels is not None)
            _require_fits(files, total, limits)
            bar.update(len(done))
    return decoded


def _mapped(
    pool: ThreadPoolExecutor,
    task: Callable[[Sequence[str]], list[Decoded]],
    tasks: list[Sequence[str]],
) -> Iterator[list[Decoded]]:
    """Yield results in order; drop what has not begun as soon as the caller gives up."""
    waiting = [pool.submit(task, names) for names in tasks]
    try:
        for future in waiting:
            yield future.result()
    finally:
        for future in waiting:
            future.cancel()


def _require_fits(files: ImageFiles, total: int, limits: ReadLimits) -> None:
    if total > limits.max_total_bytes:
        raise DataError(
            f"data.limits.max_total_bytes: the images of {files.origin} decode to more than "
            f"{limits.max_total_bytes} bytes; set data.image.size smaller, or raise it"
        )


def _cores() -> int:
    """Return the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
