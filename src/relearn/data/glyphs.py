"""The embedded many-class set: characters drawn from seeded Bezier strokes by imagined drawers.

A class is 1 to 4 cubic Bezier strokes. Each drawing moves every control point a little, and drawer
d applies its own affine hand to every character, so that drawing d of all classes shares a slant.
Ink is black (0) on white paper (255), as in Omniglot. Everything is a function of
(classes, drawings, seed, size); asking for more classes leaves the first ones as they were.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from relearn.data.randomness import generator_of
from relearn.provenance import digest, digest_tensors

NATIVE_SIZE = 28
JITTER = 0.035  # deviation of a control point, in units of the picture's side
HAND = 0.12  # deviation of a drawer's affine map; shifts are a quarter of it
STROKES = 4
POINTS = 28  # dots a stroke is set from: about one for each pixel of the longest
PEN = 0.026  # deviation of a dot's blur, in units of the side: strokes about two pixels wide
INK = 1.3  # density at which the middle of a line is three quarters black
_VERSION = 1
_CHUNK = 512


def draw_glyphs(
    classes: int, drawings: int, *, seed: int, size: int = NATIVE_SIZE
) -> tuple[Tensor, Tensor]:
    """Return drawn characters and their class numbers.

    Args:
        classes: Characters, 1 or more.
        drawings: Drawings of each, 1 or more.
        seed: Another seed is another alphabet.
        size: Height = width in pixels.

    Returns:
        uint8 images of shape (classes * drawings, 1, size, size), by class and then drawer, and
        int64 labels of shape (classes * drawings,).
    """
    control, weight = _control_points(classes, drawings, seed)
    hands = _hands(drawings, seed)
    basis, slope = _bernstein()
    images = torch.empty(classes * drawings, 1, size, size, dtype=torch.uint8)
    for first in range(0, len(control), _CHUNK):
        rows = torch.arange(first, min(first + _CHUNK, len(control)))
        moved = _apply_hand(control[rows], hands[rows % drawings])
        dots = torch.einsum("pk,nskd->nspd", basis, moved).flatten(1, 2)
        speed = torch.einsum("pk,nskd->nspd", slope, moved).norm(dim=-1) / POINTS
        images[rows, 0] = _ink(dots, (speed * weight[rows, :, None]).flatten(1), size)
    return images, torch.arange(classes).repeat_interleave(drawings)


def _control_points(classes: int, drawings: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return jittered control points (n, strokes, 4, 2) in the unit square, and which are drawn."""
    points = torch.empty(classes, drawings, STROKES, 4, 2)
    drawn = torch.empty(classes, drawings, STROKES)
    for number in range(classes):
        door = generator_of(seed, f"glyphs.class.{number}")
        skeleton = 0.16 + 0.68 * torch.rand(STROKES, 4, 2, generator=door)
        strokes = int(torch.randint(1, STROKES + 1, (1,), generator=door))
        jitter = torch.randn(drawings, STROKES, 4, 2, generator=door)
        points[number] = skeleton + JITTER * jitter
        drawn[number] = (torch.arange(STROKES) < strokes).float()
    return points.flatten(0, 1), drawn.flatten(0, 1)


def _hands(drawings: int, seed: int) -> Tensor:
    """Return each drawer's affine map about the middle of the picture, shape (drawings, 2, 3)."""
    hands = torch.empty(drawings, 2, 3)
    for number in range(drawings):
        noise = torch.randn(2, 3, generator=generator_of(seed, f"glyphs.drawer.{number}"))
        hands[number] = HAND * noise
    hands[:, :, 2] /= 4
    hands[:, :, :2] += torch.eye(2)
    return hands


def _apply_hand(points: Tensor, hands: Tensor) -> Tensor:
    """Return points (n, strokes, 4, 2) under affine maps (n, 2, 3) about (0.5, 0.5)."""
    turned = torch.einsum("nij,nskj->nski", hands[:, :, :2], points - 0.5)
    return turned + hands[:, None, None, :, 2] + 0.5


def _bernstein() -> tuple[Tensor, Tensor]:
    """Return the cubic Bernstein basis and its derivative at the dots, each (points, 4).

    B(t) = sum_k C(3,k) t^k (1-t)^(3-k) P_k, taken at the middle of equal steps of t.
    """
    t = (torch.arange(POINTS) + 0.5) / POINTS
    s = 1 - t
    basis = torch.stack([s**3, 3 * t * s**2, 3 * t**2 * s, t**3], 1)
    slope = 3 * torch.stack([-(s**2), s**2 - 2 * t * s, 2 * t * s - t**2, t**2], 1)
    return basis, slope


def _ink(dots: Tensor, weight: Tensor, size: int) -> Tensor:
    """Return the drawn pictures, uint8 (n, size, size).

    Each dot spreads a Gaussian, which is separable, so the density of a picture is one matrix
    product of its dots: rho(y, x) = sum_p w_p G(y - y_p) G(x - x_p). Weights are arc lengths, which
    makes a line equally dark wherever the pen was fast or slow. Ink = 1 - exp(-gain * rho).
    """
    pixels = (torch.arange(size) + 0.5) / size
    spread = max(PEN, 0.5 / size)  # never thinner than a pixel: antialiased at any size
    across = torch.exp(-0.5 * ((dots[:, :, 0, None] - pixels) / spread) ** 2)
    down = torch.exp(-0.5 * ((dots[:, :, 1, None] - pixels) / spread) ** 2)
    density = (down * weight[:, :, None]).transpose(1, 2) @ across
    # a straight line through a pixel has density spread * sqrt(2 pi), brought to INK
    ink = 1 - torch.exp(-INK / (spread * 2.5066283) * density)
    return (255 * (1 - ink)).round().to(torch.uint8)


def cached_glyphs(
    classes: int, drawings: int, *, seed: int, size: int, cache: Path
) -> tuple[Tensor, Tensor]:
    """Return the same as ``draw_glyphs``, drawn once and then kept in ``cache``.

    A damaged or foreign file is drawn again: the set is a function of its arguments.

    Args:
        classes: Characters, 1 or more.
        drawings: Drawings of each, 1 or more.
        seed: Another seed is another alphabet.
        size: Height = width in pixels.
        cache: Folder of the cache; made if absent.
    """
    key = digest([_VERSION, classes, drawings, seed, size])
    path = cache / f"glyphs-{key[:16]}.safetensors"
    kept = _read(path, key)
    if kept is None:
        images, labels = draw_glyphs(classes, drawings, seed=seed, size=size)
        kept = {"images": images, "labels": labels}
        _write(path, key, kept)
    return kept["images"], kept["labels"]


def _read(path: Path, key: str) -> dict[str, Tensor] | None:
    """Return the cached tensors, or None where the file is absent or not what it says."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in ("images", "labels")}
    except (SafetensorError, OSError):
        return None
    whole = about.get("key") == key and about.get("content") == digest_tensors(tensors)
    return tensors if whole else None


def _write(path: Path, key: str, tensors: dict[str, Tensor]) -> None:
    """Keep the tensors under a temporary name, then rename: never half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    save_file(tensors, partial, {"key": key, "content": digest_tensors(tensors)})
    partial.replace(path)
