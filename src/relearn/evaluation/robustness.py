"""Clean, robust, transfer and corruption accuracy.

Whatever precision trained the net, the net and the attack are in fp32 here. Data are stored
images (uint8) and labels; the net takes pixels in [0, 1] (``NormalisedNet``). Whether a robust
accuracy can be believed is told by ``gradient_masking``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from relearn.evaluation.attacks.scoring import (
    BATCH,
    attacked_pixels,
    correct_at,
    correct_mask,
    robust_mask,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relearn.data.ball import Ball
    from relearn.evaluation.attacks.pgd import Pgd
    from relearn.evaluation.attacks.white_box import Attack


def clean_accuracy(
    model: nn.Module, images: Tensor, labels: Tensor, *, batch_size: int = BATCH
) -> float:
    """Return the share of samples that are right without an attack, 0 to 1.

    Args:
        model: Pixels to logits.
        images: uint8, shape (n, channels, height, width).
        labels: int64, shape (n,).
        batch_size: Images a pass.

    Raises:
        DataError: The images are not uint8, none, or not as many as labels.
        EvidenceError: A logit is not finite.
    """
    return share(correct_mask(model, images, labels, batch_size=batch_size))


def robust_accuracy(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    attack: Attack,
    ball: Ball,
    seed: int,
    batch_size: int = BATCH,
) -> float:
    """Return the share of samples that are right with and without the attack, 0 to 1.

    Args:
        model: Pixels to logits.
        images: uint8, shape (n, channels, height, width).
        labels: int64, shape (n,).
        attack: Settings of the attack, such as ``Pgd(2 / 255, 10)``.
        ball: Where the attacked images may lie.
        seed: Seed of everything random.
        batch_size: Images a pass; it belongs to the settings, because each batch has its draws.

    Raises:
        DataError: As ``clean_accuracy``.
        EvidenceError: As ``clean_accuracy``, or weights are not fp32.
    """
    kept: dict[str, Any] = {"attack": attack, "ball": ball, "seed": seed, "batch_size": batch_size}
    return share(robust_mask(model, images, labels, **kept))


def share(mask: Tensor) -> float:
    """Return the share of true entries, 0 to 1.

    Args:
        mask: bool, shape (n,).
    """
    return float(mask.double().mean())


def class_shares(mask: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the share of true entries in each class, float64, (classes,); NaN without a sample.

    Args:
        mask: bool, shape (n,), as from ``robust_mask``.
        labels: int64, shape (n,), in 0..classes-1.
        classes: Number of classes.
    """
    labels, hits = labels.cpu(), mask.cpu().double()
    count = labels.bincount(minlength=classes).double()
    return labels.bincount(weights=hits, minlength=classes) / count


def transfer_mask(
    model: nn.Module,
    surrogate: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    attack: Pgd,
    ball: Ball,
    seed: int,
    batch_size: int = BATCH,
) -> Tensor:
    """Return which samples of ``model`` survive the attack on another net, bool, shape (n,).

    The attack climbs to its last step, because a point that just fools the surrogate carries over
    badly.

    Args:
        model: The net that is judged; pixels to logits.
        surrogate: The net that is attacked.
        images: uint8, shape (n, channels, height, width).
        labels: int64, shape (n,).
        attack: Settings; ``stop_early`` is taken as False.
        ball: Where the attacked images may lie.
        seed: Seed of everything random.
        batch_size: Images a pass.

    Raises:
        DataError: As ``clean_accuracy``.
        EvidenceError: As ``robust_accuracy``.
    """
    right = correct_mask(model, images, labels, batch_size=batch_size)
    whole = replace(attack, stop_early=False)
    settings: dict[str, Any] = {"ball": ball, "seed": seed, "batch_size": batch_size}
    points = attacked_pixels(surrogate, images, labels, attack=whole, **settings)
    return right & correct_at(model, points, labels, batch_size=batch_size)


def bf16_difference(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    attack: Attack,
    ball: Ball,
    seed: int,
    batch_size: int = BATCH,
) -> float:
    """Return robust accuracy as bf16 would have told it, minus that in fp32, -1 to 1.

    Args:
        model: Pixels to logits, with fp32 weights.
        images: uint8, shape (n, channels, height, width).
        labels: int64, shape (n,).
        attack: Settings of the attack, the same in both.
        ball: Where the attacked images may lie.
        seed: Seed of everything random, the same in both.
        batch_size: Images a pass.

    Raises:
        DataError: As ``clean_accuracy``.
        EvidenceError: As ``robust_accuracy``.
    """
    kept: dict[str, Any] = {"attack": attack, "ball": ball, "seed": seed, "batch_size": batch_size}
    short, full = (
        share(robust_mask(model, images, labels, precision=precision, **kept))
        for precision in ("bf16", "fp32")
    )
    return short - full


class Corrupt(Protocol):
    """Makes corrupted images, such as ``relearn.data.corruptions.corrupt``."""

    def __call__(self, images: Tensor, name: str, severity: int, *, seed: int) -> Tensor:
        """Return the images corrupted, uint8, shape as ``images``."""
        ...


def corruption_accuracy(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    corrupt: Corrupt,
    names: Iterable[str],
    severities: Sequence[int],
    seed: int,
) -> dict[tuple[str, int], float]:
    """Return the clean accuracy on corrupted images, 0 to 1, by (name, severity).

    Args:
        model: Pixels to logits.
        images: uint8, shape (n, channels, height, width).
        labels: int64, shape (n,).
        corrupt: Makes the corrupted images.
        names: Kinds of corruption.
        severities: Strengths of each.
        seed: Seed of everything random.

    Raises:
        DataError: As ``clean_accuracy``.
        EvidenceError: As ``clean_accuracy``.
    """
    return {
        (name, severity): clean_accuracy(model, corrupt(images, name, severity, seed=seed), labels)
        for name in names
        for severity in severities
    }
