"""Adversarial weight perturbation: each training step is taken where the weights are worse.

v = gamma * ||w|| * g / ||g|| for each weight tensor w with the gradient g of the adversarial loss;
the step's gradient is taken at w + v and applied to w.

References:
    Wu, Xia, Wang, "Adversarial weight perturbation helps robust generalization", NeurIPS 2020,
    section 4, with one ascent step. The authors' code keeps a second net and takes
    v off after the optimizer's step; here the weights are put back before it, from a copy, so that
    no rounding adds up and weight decay sees the true weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from relearn.errors import ParameterError

if TYPE_CHECKING:
    from torch import nn

_TINY = 1e-12  # of a gradient without a direction


class WeightPerturbation:
    """Moves the weights up the loss, in place, and puts them back bit for bit.

    Biases and the scales of normalisation (one dimension) stay. The only extra memory is one copy
    of the weights that move.

    Args:
        gamma: Length of v over that of w, above 0; 0.01 in the authors' code.
        from_epoch: Epochs before it, counted from 0, train without; 0 = all with.

    Raises:
        ParameterError: ``gamma`` is not above 0 or ``from_epoch`` is negative.
    """

    def __init__(self, gamma: float, *, from_epoch: int = 0) -> None:
        if not gamma > 0:
            raise ParameterError(f"forget_relearn.awp.gamma: got {gamma}, expected above 0")
        if from_epoch < 0:
            raise ParameterError(
                f"forget_relearn.awp.warmup_epochs: got {from_epoch}, expected 0 or more"
            )
        self.gamma, self.from_epoch = gamma, from_epoch
        self._kept: list[tuple[Tensor, Tensor]] = []

    @property
    def active(self) -> bool:
        """Whether the weights are moved at present."""
        return bool(self._kept)

    def perturb(self, model: nn.Module, loss: Callable[[], Tensor]) -> None:
        """Add v to each weight tensor that is trained and has more than one dimension.

        No ``.grad`` is touched. The pass of ``loss`` may not move running statistics:
        ``relearn.training.attack.held_still`` sees to that.

        Args:
            model: The net that is trained.
            loss: Makes the forward pass at the present weights and returns a scalar.

        Raises:
            RuntimeError: The weights are moved already.
        """
        if self.active:
            raise RuntimeError("the weights are perturbed already; restore them first")
        weights = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
        gradients = torch.autograd.grad(loss(), weights)
        with torch.no_grad():
            self._kept = [(weight, weight.detach().clone()) for weight in weights]
            for weight, gradient in zip(weights, gradients, strict=True):
                length = weight.norm() / gradient.norm().clamp_(min=_TINY)
                weight.addcmul_(gradient, length, value=self.gamma)

    @torch.no_grad()
    def restore(self) -> None:
        """Put the weights back bit for bit; where none are moved nothing happens."""
        for weight, kept in self._kept:
            weight.copy_(kept)
        self._kept = []
