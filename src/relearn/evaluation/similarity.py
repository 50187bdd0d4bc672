"""How alike two nets are: their features, where those lie in one plane, what they get wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from relearn.errors import EvidenceError
from relearn.evaluation.attacks.scoring import BATCH, to_pixels
from relearn.evaluation.attacks.white_box import measuring
from relearn.models.heads import features, find_head
from relearn.models.normalised import NormalisedNet

if TYPE_CHECKING:
    from torch import Tensor, nn


def penultimate_features(model: nn.Module, images: Tensor, *, batch_size: int = BATCH) -> Tensor:
    """Return what the last layer reads, float32, shape (n, features), on the CPU.

    Args:
        model: Pixels to logits.
        images: uint8, shape (n, channels, height, width).
        batch_size: Images a pass.

    Raises:
        HeadNotFoundError: The net has no plain last layer.
        EvidenceError: Weights are not fp32.
    """
    if isinstance(model, NormalisedNet):  # timm's nets know their last layer, the wrapper does not
        name = f"model.{find_head(model.model).name}".rstrip(".")
    else:
        name = find_head(model).name
    with measuring(model), torch.no_grad():
        parts = [
            features(model, to_pixels(some, model), name).float().cpu()
            for some in images.split(batch_size)
        ]
    return torch.cat(parts)


def linear_cka(first: Tensor, second: Tensor) -> float:
    """Return ||Y'X||^2 / (||X'X|| ||Y'Y||) of the centred features, 0 (unlike) to 1 (alike).

    It stays the same when either set is rotated, reflected or scaled as a whole.

    Args:
        first: X, shape (n, features).
        second: Y, of the same n samples, shape (n, other features).

    Raises:
        EvidenceError: Different numbers of samples, or features that are the same for all.

    References:
        Kornblith et al. 2019, arXiv 1905.00414, section 3 (linear kernel).
    """
    if len(first) != len(second):
        raise EvidenceError(
            f"linear CKA: got features of {len(first)} and {len(second)} samples, expected the "
            "same samples in both"
        )
    one, other = _kernel(first), _kernel(second)
    size = one.norm() * other.norm()
    if not float(size) > 0:
        raise EvidenceError(
            "linear CKA: the features of one net are the same for all samples, so that they have "
            "no likeness to measure; the net is dead, look at its training"
        )
    return float((one * other).sum() / size)


def _kernel(values: Tensor) -> Tensor:
    """Return XX' of the centred features: <XX', YY'> = ||Y'X||^2."""
    centred = values.detach().cpu().double()
    centred = centred - centred.mean(0)
    return centred @ centred.T


@dataclass(frozen=True)
class Plane:
    """The two directions in which one set of features varies most, kept for other sets.

    Attributes:
        middle: Mean of the features it was fitted on, float64, shape (features,).
        axes: Orthonormal columns, float64, shape (features, 2); the entry of largest size in each
            is positive, so that pictures are never mirrored.
        shares: Share of the variance along each axis, 0 to 1.
    """

    middle: Tensor
    axes: Tensor
    shares: tuple[float, float]

    def place(self, values: Tensor) -> Tensor:
        """Return the coordinates on the fixed axes, float64, shape (n, 2).

        Args:
            values: Shape (n, features).
        """
        return (values.detach().cpu().double() - self.middle) @ self.axes


def fit_plane(values: Tensor) -> Plane:
    """Return the plane of the first two principal components.

    Args:
        values: Shape (n, features), 2 or more of both.

    Raises:
        EvidenceError: Too few samples or features, or they do not vary.
    """
    if min(values.shape) < 2:
        raise EvidenceError(
            f"principal components: got {values.shape[0]} samples of {values.shape[1]} features, "
            "expected 2 or more of both; use a wider net or more samples"
        )
    wide = values.detach().cpu().double()
    middle = wide.mean(0)
    _, sizes, directions = torch.linalg.svd(wide - middle, full_matrices=False)
    total = float(sizes.square().sum())
    if not total > 0:
        raise EvidenceError(
            "principal components: the features are the same for all samples; the net is dead, "
            "look at its training"
        )
    axes = directions[:2].T
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    first, second = (float(share) for share in sizes[:2].square() / total)
    return Plane(middle, axes * largest.sign(), (first, second))


def confusion_matrix(predictions: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return how often each class (row) is taken for each (column), int64, (classes, classes).

    Args:
        predictions: int64, shape (n,).
        labels: int64, shape (n,).
        classes: Number of classes.
    """
    pairs = labels.cpu() * classes + predictions.cpu()
    return pairs.bincount(minlength=classes**2).view(classes, classes)


@dataclass(frozen=True)
class Change:
    """What another net does differently on the same samples.

    Attributes:
        newly_wrong: Rows that only the first net has right, int64.
        newly_right: Rows that only the second net has right, int64.
        confusion: Confusion matrix of the second minus that of the first, int64.
    """

    newly_wrong: Tensor
    newly_right: Tensor
    confusion: Tensor


def compare_predictions(before: Tensor, after: Tensor, labels: Tensor, *, classes: int) -> Change:
    """Return the samples and the confusions that changed from one net to another.

    Args:
        before: Predictions of the first net, int64, shape (n,).
        after: Predictions of the second net, int64, shape (n,).
        labels: int64, shape (n,).
        classes: Number of classes.
    """
    before, after, labels = before.cpu(), after.cpu(), labels.cpu()
    was, now = before == labels, after == labels
    confusion = confusion_matrix(after, labels, classes) - confusion_matrix(before, labels, classes)
    return Change((was & ~now).nonzero().squeeze(1), (now & ~was).nonzero().squeeze(1), confusion)
