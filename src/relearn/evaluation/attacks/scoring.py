"""Which samples survive an attack: every image that fools is projected and read again.

What an attack says of itself does not count: its points are put back into the ball and the net
is asked once more. A sample that is wrong without an attack is never attacked and never robust.
Attacks may climb on a faster form of the net (``relearn.models.folded``), equal up to rounding; the
net itself says what is right and what is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from relearn.data.randomness import generator_of
from relearn.errors import DataError, EvidenceError
from relearn.evaluation.attacks.white_box import Attack, is_fooled, logits_at, measuring
from relearn.models.folded import folded

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relearn.data.ball import Ball

BATCH = 256
"""Images a pass, where nothing else is said."""


def clean_logits(
    model: nn.Module,
    images: Tensor,
    *,
    batch_size: int = BATCH,
    precision: str = "fp32",
) -> Tensor:
    """Return the logits of stored images, float32, shape (n, classes), on the CPU.

    Args:
        model: Pixels to logits.
        images: uint8, shape (n, channels, height, width).
        batch_size: Images a pass.
        precision: See ``measuring``.

    Raises:
        EvidenceError: A logit is not finite, or weights are not fp32.
    """
    with measuring(model, precision):
        parts = [
            logits_at(model, to_pixels(some, model)).cpu() for some in images.split(batch_size)
        ]
    logits = torch.cat(parts)
    _require_finite(logits)
    return logits


def correct_mask(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    batch_size: int = BATCH,
    precision: str = "fp32",
) -> Tensor:
    """Return where the net is right without an attack, bool, shape (n,), on the CPU.

    Args:
        model: Pixels to logits.
        images: uint8, shape (n, channels, height, width).
        labels: int64, shape (n,).
        batch_size: Images a pass.
        precision: See ``measuring``.

    Raises:
        DataError: The images are not uint8, none, or not as many as labels.
        EvidenceError: As ``clean_logits``.
    """
    _require_images(images, labels)
    logits = clean_logits(model, images, batch_size=batch_size, precision=precision)
    return ~is_fooled(logits, labels.cpu())


def attacked_pixels(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    attack: Attack,
    ball: Ball,
    seed: int,
    batch_size: int = BATCH,
    precision: str = "fp32",
) -> Tensor:
    """Return the attacked images, float32 in [0, 1], shape as ``images``, on the CPU.

    Every image is inside the ball around its original. The draws are a function of seed, kind of
    attack and number of the batch, so that ``batch_size`` belongs to the settings.

    Args:
        model: Pixels to logits.
        images: uint8, shape (n, channels, height, width).
        labels: int64, shape (n,).
        attack: Settings of the attack.
        ball: Where the points may lie.
        seed: Seed of everything random.
        batch_size: Images a pass.
        precision: See ``measuring``.

    Raises:
        DataError: As ``correct_mask``.
    """
    _require_images(images, labels)
    device = next(model.parameters()).device
    parts = []
    with measuring(model, precision):
        attacked = folded(model) if precision == "fp32" else model
        for number, block in enumerate(torch.arange(len(labels)).split(batch_size)):
            generator = generator_of(seed, f"attack.{type(attack).__name__}.{number}")
            pixels, truth = to_pixels(images[block], model), labels[block].to(device)
            points = attack.perturb(attacked, pixels, truth, ball=ball, generator=generator)
            parts.append(ball.project(points, pixels).cpu())
    return torch.cat(parts)


def robust_mask(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    attack: Attack,
    ball: Ball,
    seed: int,
    batch_size: int = BATCH,
    precision: str = "fp32",
) -> Tensor:
    """Return which samples are right before and after the attack, bool, shape (n,), on the CPU.

    Args:
        model: Pixels to logits.
        images: uint8, shape (n, channels, height, width).
        labels: int64, shape (n,).
        attack: Settings of the attack.
        ball: Where the points may lie.
        seed: Seed of everything random.
        batch_size: Images a pass.
        precision: ``fp32``; see ``measuring``.

    Raises:
        DataError: As ``correct_mask``.
        EvidenceError: As ``correct_mask``, or weights are not fp32.
    """
    kept: dict[str, Any] = {"batch_size": batch_size, "precision": precision}
    return both_masks(model, images, labels, attack=attack, ball=ball, seed=seed, **kept)[1]


def both_masks(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    attack: Attack,
    ball: Ball,
    seed: int,
    batch_size: int = BATCH,
    precision: str = "fp32",
) -> tuple[Tensor, Tensor]:
    """Return which samples are right before the attack, and which before and after it.

    Args:
        model: As for ``robust_mask``.
        images: As for ``robust_mask``.
        labels: As for ``robust_mask``.
        attack: As for ``robust_mask``.
        ball: As for ``robust_mask``.
        seed: As for ``robust_mask``.
        batch_size: As for ``robust_mask``.
        precision: As for ``robust_mask``.

    Returns:
        bool, shape (n,) each, on the CPU; the second is nowhere true where the first is not.

    Raises:
        DataError: As ``robust_mask``.
        EvidenceError: As ``robust_mask``.
    """
    right = correct_mask(model, images, labels, batch_size=batch_size, precision=precision)
    robust = right.clone()
    rows = right.nonzero().squeeze(1)
    if not len(rows):
        return right, robust
    points = attacked_pixels(
        *(model, images[rows], labels[rows]),
        attack=attack,
        ball=ball,
        seed=seed,
        batch_size=batch_size,
        precision=precision,
    )
    at: dict[str, Any] = {"batch_size": batch_size, "precision": precision}
    robust[rows] = correct_at(model, points, labels[rows], **at)
    return right, robust


def correct_at(
    model: nn.Module,
    points: Tensor,
    labels: Tensor,
    *,
    batch_size: int = BATCH,
    precision: str = "fp32",
) -> Tensor:
    """Return where the net is right at given points, bool, shape (n,), on the CPU.

    Args:
        model: Pixels to logits.
        points: float32 in [0, 1], shape (n, channels, height, width).
        labels: int64, shape (n,).
        batch_size: Images a pass.
        precision: See ``measuring``.

    Raises:
        EvidenceError: A logit is not finite.
    """
    device = next(model.parameters()).device
    with measuring(model, precision):
        logits = [logits_at(model, some.to(device)).cpu() for some in points.split(batch_size)]
    known = torch.cat(logits)
    _require_finite(known)
    return ~is_fooled(known, labels.cpu())


def to_pixels(images: Tensor, model: nn.Module) -> Tensor:
    """Return the images as float32 in [0, 1] on the net's device.

    Args:
        images: uint8, shape (batch, channels, height, width).
        model: The net.
    """
    return images.to(next(model.parameters()).device).float() / 255


def _require_images(images: Tensor, labels: Tensor) -> None:
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise DataError(
            f"robust accuracy: got images of {str(images.dtype)[6:]} with {images.ndim} axes, "
            "expected uint8 (n, channels, height, width); give them as they are stored"
        )
    if not len(images) or len(images) != len(labels):
        raise DataError(
            f"robust accuracy: got {len(images)} images and {len(labels)} labels, "
            "expected as many of both and at least one"
        )


def _require_finite(logits: Tensor) -> None:
    if not bool(logits.isfinite().all()):
        raise EvidenceError(
            "robust accuracy: the net gives logits that are not finite, so that attacks "
            "follow no gradient; its training has diverged, lower the learning rate"
        )
