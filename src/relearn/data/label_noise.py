"""Wrong labels put in on purpose: what a small net then learns by heart, it learns at a price."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from relearn.data.randomness import generator_of
from relearn.errors import ParameterError

if TYPE_CHECKING:
    from torch import Tensor

_PARAMETER = "forget_relearn.samples.label_noise"


def noisy_labels(labels: Tensor, *, share: float, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return labels of which a share is wrong, and which.

    Symmetric noise: the samples are drawn without regard to their class, and each gets one of the
    other classes, all equally likely. Draws enter at the doors ``label_noise.samples`` and
    ``label_noise.classes``; a larger share keeps every change of a smaller one.

    Args:
        labels: int64, shape (n,), 0 to ``classes`` - 1.
        share: Share of wrong labels, 0 to 1; exactly ``round(share * n)`` are changed.
        classes: Number of classes.
        seed: Seed of the draw.

    Returns:
        The labels as a new tensor, and bool, shape (n,): which were changed.

    Raises:
        ParameterError: The share is outside 0 to 1, a label outside the classes, or there is no
            other class to change to.
    """
    if not 0 <= share <= 1:
        raise ParameterError(f"{_PARAMETER}: got {share}, expected a share from 0 to 1")
    if share > 0 and classes < 2:
        raise ParameterError(
            f"{_PARAMETER}: got {share} with {classes} class, but a wrong label needs another "
            "class; set it to 0, or use images of two or more classes"
        )
    if labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ParameterError(
            f"{_PARAMETER}: labels run from {int(labels.min())} to {int(labels.max())}, expected "
            f"0 to {classes - 1}; renumber them first"
        )
    count = labels.numel()
    order = torch.randperm(count, generator=generator_of(seed, "label_noise.samples"))
    changed = torch.zeros(count, dtype=torch.bool)
    changed[order[: round(share * count)]] = True
    # one step for every sample, changed or not, so that it does not depend on the share
    steps = torch.randint(
        1, max(2, classes), (count,), generator=generator_of(seed, "label_noise.classes")
    )
    changed, steps = changed.to(labels.device), steps.to(labels)
    return torch.where(changed, (labels + steps) % classes, labels), changed
