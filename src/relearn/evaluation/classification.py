"""Accuracy of a net on stored images, in batches, without touching its mode or its weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from relearn.data.batches import to_float

if TYPE_CHECKING:
    from torch import Tensor, nn

_BATCH = 512


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Hold ``model`` in evaluation mode without gradients, and give its mode back afterwards."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def predict(
    model: nn.Module,
    images: Tensor,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    batch_size: int = _BATCH,
) -> Tensor:
    """Return the logits, float32, shape (n, classes), on the model's device.

    Args:
        model: Takes float images (batch, channels, height, width).
        images: uint8, shape (n, channels, height, width), any device.
        mean: Mean of each channel, in units of 0..1.
        std: Standard deviation of each channel.
        batch_size: Images a forward pass.
    """
    device = next(model.parameters()).device
    with evaluating(model):
        parts = [
            model(to_float(block.to(device), mean, std)).float()
            for block in images.split(batch_size)
        ]
    return torch.cat(parts)


def accuracy_of(logits: Tensor, labels: Tensor) -> float:
    """Return the share of rows whose largest logit is the label, 0 to 1.

    Args:
        logits: Shape (n, classes).
        labels: int64, shape (n,).
    """
    hits = logits.argmax(1).cpu() == labels.cpu()
    return float(hits.double().mean())


def class_accuracy(logits: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the accuracy inside each class, float64, shape (classes,); NaN where it has no sample.

    Args:
        logits: Shape (n, outputs).
        labels: int64, shape (n,), in 0..classes-1.
        classes: Number of classes.
    """
    labels = labels.cpu()
    hits = (logits.argmax(1).cpu() == labels).double()
    count = torch.bincount(labels, minlength=classes).double()
    return torch.bincount(labels, weights=hits, minlength=classes) / count
