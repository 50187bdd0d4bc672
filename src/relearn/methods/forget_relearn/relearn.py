"""Relearning: the adversarial loss, and beside it a pull of the student towards the stable model.

Paper: arXiv 2402.11733, figure 2 (d). Which distance, which input and which weight the paper uses
could not be read: all are knobs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

from relearn.errors import ParameterError

if TYPE_CHECKING:
    from torch import Tensor


def consistency_loss(
    student: Tensor, stable: Tensor, *, kind: str, temperature: float = 1.0
) -> Tensor:
    """Return how far the student's outputs lie from the stable model's, a scalar in fp32.

    ``mse``: mean over samples and classes of (z - z_s)^2. ``kl``: T^2 * KL(softmax(z_s / T) ||
    softmax(z / T)), mean over samples, with z the student's and z_s the stable model's logits.

    Args:
        student: Logits, shape (batch, classes); the gradient goes here.
        stable: Logits, same shape, without gradient.
        kind: ``mse`` or ``kl``.
        temperature: T, above 0.

    Raises:
        ParameterError: ``kind`` is not known.
    """
    student, stable = student.float(), stable.float()
    if kind == "mse":
        return functional.mse_loss(student, stable)
    if kind != "kl":
        raise ParameterError(
            f"forget_relearn.relearn.consistency: got {kind!r}, expected mse, kl or none"
        )
    divergence = functional.kl_div(
        functional.log_softmax(student / temperature, dim=1),
        functional.log_softmax(stable / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * temperature**2
