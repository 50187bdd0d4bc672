"""The attack inside adversarial training: projected gradient ascent on the pixels, made cheap.

Only the gradient of the input is ever computed: the parameters are frozen meanwhile, so that no
backward pass multiplies for weights and nothing adds up in ``.grad``. The forward pass that only
reads the loss of the last point is made with several restarts alone. The net is left bit for bit as
it was: its mode, its running statistics, its flags. Dropout is off in an attack.

It runs in the precision of the training; robust accuracy is measured elsewhere, in fp32
(``relearn.evaluation.attacks``).

torch.compile is not offered, for it does not pay within a normal run: compiling took 30 s, and a
step of the attack then 0.93 to 1.04 of the time for PreActResNet-18 of width 64 (batch 128, bf16,
channels last), whose convolutions run as fast as large matrix products do, and 0.81 to 1.06 of it
(4 to 5 ms) for one of depth 8 and width 16 on 8 pixels (batch 50, fp32). Measured on one thread of
an AMD EPYC with AVX512-BF16, torch 2.15.

References:
    Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018,
    section 2.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from relearn.data.ball import require_pixels
from relearn.errors import ParameterError, one_of

if TYPE_CHECKING:
    from relearn.data.ball import Ball
    from relearn.training.device import Device

BATCH_NORM = ("batch", "running")

Objective = Callable[[Tensor, Tensor], Tensor]
"""From logits (batch, classes) and labels (batch,) to what shall grow, for each image (batch,)."""


@dataclass(frozen=True)
class Attack:
    """How far, in what steps and how often.

    Attributes:
        ball: Norm and radius.
        step_size: Length of a step in the ball's norm, above 0, in units of the 0..1 pixel range.
        steps: Gradients, 1 or more.
        restarts: Attempts, 1 or more; of each image the one with the largest loss is kept.
        random_start: Whether an attempt begins anywhere in the ball, else at the image.
        batch_norm: ``batch``: with the statistics of the attacked batch, as while training;
            ``running``: with the running statistics. Neither moves the running statistics.

    Raises:
        ParameterError: A value is out of range, or restarts would all be the same.
    """

    ball: Ball
    step_size: float
    steps: int
    restarts: int = 1
    random_start: bool = True
    batch_norm: str = "batch"

    def __post_init__(self) -> None:
        for name, value, least in (("steps", self.steps, 1), ("restarts", self.restarts, 1)):
            if value < least:
                raise ParameterError(
                    f"forget_relearn.attack.{name}: got {value}, expected {least} or more"
                )
        if not self.step_size > 0:
            raise ParameterError(
                f"forget_relearn.attack.step_size: got {self.step_size}, expected above 0"
            )
        if self.batch_norm not in BATCH_NORM:
            raise one_of("forget_relearn.attack.batch_norm", self.batch_norm, BATCH_NORM)
        if self.restarts > 1 and not self.random_start:
            raise ParameterError(
                f"forget_relearn.attack.restarts: got {self.restarts} without random_start, all of "
                "which would be the same; set random_start: true or restarts: 1"
            )


def cross_entropy_of_each(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of each image, in fp32.

    Args:
        logits: Shape (batch, classes).
        labels: int64, shape (batch,).
    """
    return nn.functional.cross_entropy(logits.float(), labels, reduction="none")


def perturb(
    model: nn.Module,
    pixels: Tensor,
    labels: Tensor,
    attack: Attack,
    *,
    generator: torch.Generator,
    device: Device,
    objective: Objective = cross_entropy_of_each,
) -> Tensor:
    """Return the images moved inside the ball so that the objective is large.

    The model is afterwards bit for bit as before, also when this raises.

    Args:
        model: Takes pixels in 0..1, such as a ``NormalisedNet``; lies on the device.
        pixels: Range 0..1, shape (batch, channels, height, width).
        labels: int64, shape (batch,).
        attack: How far and in what steps.
        generator: Of the CPU; draws the random starts.
        device: In what precision and layout the passes run.
        objective: What shall grow.

    Returns:
        Float pixels of the same shape, in the device's layout, without a graph.

    Raises:
        DataError: The images are no pixels in 0..1.
        ParameterError: One image alone, where batch norm wants the statistics of a batch.
    """
    require_pixels(pixels)
    centre = device.lay_out(pixels.detach())
    passes = _Passes(model, labels, attack, device, objective)
    with held_still(model, attack.batch_norm, images=len(labels)), torch.enable_grad():
        worst = passes.ascended(centre, generator)
        if attack.restarts == 1:
            return worst
        largest = passes.values(worst)
        for _ in range(attack.restarts - 1):
            other = passes.ascended(centre, generator)
            value = passes.values(other)
            better = value > largest
            worst = torch.where(better.view(-1, *[1] * (other.ndim - 1)), other, worst)
            largest = torch.where(better, value, largest)
    return worst


@dataclass(frozen=True)
class _Passes:
    """What every pass of one attack needs."""

    model: nn.Module
    labels: Tensor
    attack: Attack
    device: Device
    objective: Objective

    def ascended(self, centre: Tensor, generator: torch.Generator) -> Tensor:
        """Return the last point of one attempt."""
        attack = self.attack
        points = attack.ball.random_start(centre, generator) if attack.random_start else centre
        for _ in range(attack.steps):
            points = points.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(self._objective_at(points).sum(), points)
            points = attack.ball.ascend(points.detach(), centre, gradient, attack.step_size)
        return points

    @torch.no_grad()
    def values(self, points: Tensor) -> Tensor:
        """Return the objective of each point, shape (batch,)."""
        return self._objective_at(points)

    def _objective_at(self, points: Tensor) -> Tensor:
        with self.device.autocast():
            logits = self.model(points)
        return self.objective(logits, self.labels)


@contextmanager
def held_still(
    model: nn.Module, batch_norm: str, *, images: int, freeze: bool = True
) -> Iterator[None]:
    """Let passes inside the block leave no trace in the net.

    Running statistics do not move and dropout is off; with ``freeze`` no parameter gets a gradient.
    Afterwards every mode and flag is as before, also when the block raises.

    Args:
        model: Any net.
        batch_norm: ``batch`` or ``running``: whose statistics batch norm takes.
        images: In the batch.
        freeze: Whether parameters get no gradients.

    Raises:
        ParameterError: One image alone, where batch norm wants the statistics of a batch.
    """
    modules = list(model.modules())
    norms = [m for m in modules if isinstance(m, _BatchNorm)] if batch_norm == "batch" else []
    if norms and images < 2:
        raise ParameterError(
            f"forget_relearn.train.batch_size: an attack on a batch of {images} has no batch "
            "statistics, expected 2 or more; choose a size that leaves no single image in the last "
            "batch, or set forget_relearn.attack.batch_norm: running"
        )
    modes = [m.training for m in modules]
    tracked = [m.track_running_stats for m in norms]
    trained = [p for p in model.parameters() if p.requires_grad] if freeze else []
    try:
        for module in modules:
            module.training = False
        for norm in norms:  # without a track, torch neither reads nor moves running statistics
            norm.training, norm.track_running_stats = True, False
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode
        for norm, track in zip(norms, tracked, strict=True):
            norm.track_running_stats = track
        for parameter in trained:
            parameter.requires_grad_(True)
