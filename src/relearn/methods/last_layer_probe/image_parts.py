"""The images of one arm, part by part, with the shifted ones where sensitivity is measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.data.corruptions import corrupt
from relearn.methods.last_layer_probe.representation import PARTS

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.session import Session

SHIFTED = "shifted"
"""Test images after the corruption of ``sensitivity.shift``."""


def float_images(images: Tensor) -> Tensor:
    """Return the images in 0..1, float32.

    Args:
        images: uint8, shape (n, channels, height, width).
    """
    return images.float() / 255


def images_of(session: Session) -> dict[str, Tensor]:
    """Return the images of every part that is asked for, uint8.

    Args:
        session: Whose arm and knobs say whether shifted images are among them.
    """
    found = {part: getattr(session.samples, part).images for part in PARTS}
    if is_shaken(session):
        told = session.config.sensitivity
        found[SHIFTED] = corrupt(found["test"], told.shift, told.severity, seed=session.seed)
    return found


def is_shaken(session: Session) -> bool:
    """Return whether the arm's sensitivity is measured.

    Args:
        session: Linear, kernels and frozen nets on the images as they are.
    """
    asked = session.config.sensitivity.enabled and session.config.compare == "arms"
    plain = session.arm.condition == "plain"
    return asked and plain and session.arm.kind in ("linear", "kernel", "frozen")


def shape_of(session: Session) -> tuple[int, int]:
    """Return channels and side of the images.

    Args:
        session: Whose images.
    """
    images = session.samples.train.images
    return int(images.shape[1]), int(images.shape[2])
