"""The arm as it leaves the house: pixels in, class probabilities out, the body drawn again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from relearn.errors import CheckpointError
from relearn.methods.last_layer_probe.described import BodyDescription, drawn_body
from relearn.models import inference
from relearn.models.checkpoint import build

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.models.checkpoint import Checkpoint

_TINY = 1e-12


class _Pixels(nn.Module):
    """Every image as one vector, of length 1 with ``global``.

    Args:
        norm: As in ``bodies.fully_connected.input_norm``.
    """

    def __init__(self, norm: str) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, images: Tensor) -> Tensor:
        """Return vectors (batch, d).

        Args:
            images: Float in 0..1, shape (batch, channels, height, width).
        """
        rows = images.flatten(1)
        if self.norm == "pair":
            angle = rows * (torch.pi / 2)
            rows = torch.cat([angle.cos(), angle.sin()], dim=1) / rows.shape[1] ** 0.5
        elif self.norm == "patch":
            rows = torch.cat([rows, torch.ones_like(rows[:, :1])], dim=1)
        if self.norm in ("global", "patch"):
            rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(_TINY)
        return rows


class ProbeProbabilities(nn.Module):
    """Body, head and softmax in one module without branches on the data.

    Args:
        body: Float images in 0..1 to features (batch, p).
        head: A net that reads them as (batch, p, 1, 1) and gives logits.
    """

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.body, self.head = body, head

    def forward(self, images: Tensor) -> Tensor:
        """Return probabilities (batch, classes).

        Args:
            images: uint8, shape (batch, channels, height, width), range 0 to 255.
        """
        features = self.body(images.float() / 255)
        return torch.softmax(self.head(features[:, :, None, None]), dim=1)


def inference_module(checkpoint: Checkpoint) -> nn.Module:
    """Return what answers for an arm, in evaluation mode.

    Args:
        checkpoint: From ``train_baseline`` or ``train_treated``.

    Returns:
        A module from uint8 images (batch, channels, height, width) to probabilities
        (batch, classes), in the order of ``provenance["class_names"]``.

    Raises:
        CheckpointError: The arm cannot be rolled out, and why: a kernel, a body of noise, or a base
            net read before its last features.
    """
    told = checkpoint.provenance
    if told.get("not_promotable"):
        raise CheckpointError(f"last_layer_probe.{told['arm']}: {told['not_promotable']}")
    if "body" not in told:
        return inference.inference_module(checkpoint)
    body = BodyDescription.from_plain(told["body"])
    if body.kind == "random":
        return ProbeProbabilities(drawn_body(body).body, build(checkpoint)).eval()
    return ProbeProbabilities(_Pixels(str(body.options["input_norm"])), build(checkpoint)).eval()
