"""Distillation: the student learns from the labels and from the teacher's outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


class WithTeacher(nn.Module):
    """Student and teacher side by side; only the student is trained, kept and switched over.

    Args:
        student: Is trained.
        teacher: Is asked; in evaluation mode, without gradients.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self.student = student
        self._asked = (teacher.eval(),)  # in a tuple: no part of this module's state

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of both, (batch, classes) each.

        Args:
            images: Float, shape (batch, channels, height, width).
        """
        with torch.no_grad():
            told = self._asked[0](images)
        return self.student(images), told


@dataclass(frozen=True)
class DistilledLoss:
    """(1 - w) CE(s, y) + w T^2 KL(softmax(t / T) || softmax(s / T)).

    Attributes:
        temperature: T.
        weight: w.
        label_smoothing: Of the cross-entropy.

    References:
        Hinton, Vinyals, Dean 2015, arXiv 1503.02531, section 2.
    """

    temperature: float
    weight: float
    label_smoothing: float

    def __call__(self, logits: tuple[Tensor, Tensor], labels: Tensor) -> Tensor:
        """Return the mean loss of a batch.

        Args:
            logits: Of student and teacher, (batch, classes) each.
            labels: int64, shape (batch,).
        """
        student, teacher = (part.float() for part in logits)
        own = functional.cross_entropy(student, labels, label_smoothing=self.label_smoothing)
        towards = functional.kl_div(
            functional.log_softmax(student / self.temperature, dim=1),
            functional.log_softmax(teacher / self.temperature, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        return (1 - self.weight) * own + self.weight * self.temperature**2 * towards
