"""Adversarial training as batches and a loss, for the loop that every training uses.

The batches are attacked on the fly against the present weights; the loss belongs to them. Three
recipes: ``pgd_at`` (Madry et al. 2018), ``trades`` (Zhang et al. 2019), ``fgsm_rs`` (Wong et al.
2020).

TRADES differs from the authors' code in two things. The clean and the perturbed images go through
the net as one batch, so that batch norm sees both together and there is one pass; and the attack
starts anywhere in the ball instead of close to the image.

References:
    Zhang et al., "Theoretically principled trade-off between robustness and accuracy", ICML 2019,
    equation 5 (beta = 1 / lambda). Wong, Rice, Kolter, "Fast is better than free", ICLR 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from relearn.data.randomness import generator_of
from relearn.errors import ParameterError, one_of
from relearn.training.attack import Attack, cross_entropy_of_each, held_still, perturb
from relearn.training.loop import EpochSource, LoopState

if TYPE_CHECKING:
    from torch import nn

    from relearn.training.attack import Objective
    from relearn.training.device import Device
    from relearn.training.weight_perturbation import WeightPerturbation

RECIPES = ("pgd_at", "trades", "fgsm_rs")

AfterAttack = Callable[[Tensor, Tensor, Tensor], None]
"""Given the clean pixels, the perturbed pixels and the labels of a batch."""


class OrderedSource(EpochSource, Protocol):
    """What is attacked: ``relearn.data.batches.Batches`` with mean 0 and deviation 1."""

    @property
    def order_digest(self) -> str:
        """Hex digest over the indices handed out so far."""
        ...


def divergence_of_each(clean: Tensor, perturbed: Tensor) -> Tensor:
    """Return KL(softmax(clean) || softmax(perturbed)) of each image, in fp32.

    Args:
        clean: Logits, shape (batch, classes).
        perturbed: Logits of the same images, same shape.

    Returns:
        0 or more, shape (batch,).
    """
    expected = functional.log_softmax(clean.float(), dim=1)
    found = functional.log_softmax(perturbed.float(), dim=1)
    return functional.kl_div(found, expected, reduction="none", log_target=True).sum(1)


@dataclass(frozen=True)
class AdversarialLoss:
    """Which images a step sees, what the attack on them raises, and what the step lowers.

    Attributes:
        name: ``pgd_at``: cross-entropy of the perturbed images; ``trades``: cross-entropy of the
            clean ones + beta * KL(clean || perturbed), the attack raises that KL; ``fgsm_rs``: as
            ``pgd_at`` with one long step from a random start.
        trades_beta: Weight of the KL, above 0; 6 in the paper's table of results.
        fgsm_step_factor: Step of ``fgsm_rs`` over the radius, above 0; 1.25 in the paper.
        label_smoothing: Share of the target spread over all classes, 0 to below 1; in what the step
            lowers, not in what the attack raises.

    Raises:
        ParameterError: The name is not known or a number is out of range.
    """

    name: str = "pgd_at"
    trades_beta: float = 6.0
    fgsm_step_factor: float = 1.25
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in RECIPES:
            raise one_of("forget_relearn.loss.name", self.name, RECIPES)
        for name in ("trades_beta", "fgsm_step_factor"):
            if not getattr(self, name) > 0:
                raise ParameterError(
                    f"forget_relearn.loss.{name}: got {getattr(self, name)}, expected above 0"
                )

    def attack_of(self, attack: Attack) -> Attack:
        """Return the attack that this recipe trains with.

        Args:
            attack: As configured; ``fgsm_rs`` keeps its ball and batch norm alone.

        Raises:
            ParameterError: ``trades`` without a random start, where the KL has no gradient.
        """
        if self.name == "fgsm_rs":
            step = self.fgsm_step_factor * attack.ball.epsilon
            return Attack(attack.ball, step, 1, batch_norm=attack.batch_norm)
        if self.name == "trades" and not attack.random_start:
            raise ParameterError(
                "forget_relearn.attack.random_start: got false, expected true with loss trades, "
                "whose attack has no gradient at the clean image"
            )
        return attack

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss over the images, in fp32.

        Args:
            logits: Shape (batch, classes), for ``trades`` (2 * batch, classes), clean first.
            labels: int64, shape (batch,).
        """
        logits = logits.float()
        if self.name != "trades":
            return functional.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        clean, perturbed = logits.chunk(2)
        entropy = functional.cross_entropy(clean, labels, label_smoothing=self.label_smoothing)
        return entropy + self.trades_beta * divergence_of_each(clean, perturbed).mean()

    def of_perturbed(self, logits: Tensor) -> Tensor:
        """Return the logits of the perturbed images among those of a step.

        Args:
            logits: As ``__call__`` takes them.

        Returns:
            Shape (batch, classes).
        """
        return logits.chunk(2)[1] if self.name == "trades" else logits

    def images_of(self, clean: Tensor, perturbed: Tensor) -> Tensor:
        """Return the images that a step sees.

        Args:
            clean: Pixels, shape (batch, channels, height, width).
            perturbed: Same shape.
        """
        return torch.cat([clean, perturbed]) if self.name == "trades" else perturbed


class AdversarialBatches:
    """Batches attacked on the fly against the present weights; an ``EpochSource`` of ``fit``.

    The noise of the attack is a function of (seed, name, epoch) of the inner batches.

    Args:
        inner: Yields plain pixels in 0..1.
        model: The net that is trained; takes pixels.
        attack: How far and in what steps.
        loss: The recipe; also the loss of ``fit``.
        device: Where, and in what precision and layout.
        after_attack: Called with clean pixels, perturbed pixels and labels before each step.
        weights: Adversarial weight perturbation; then ``after_backward`` must be a window of
            ``fit``.

    Raises:
        ParameterError: Attack and recipe do not go together.
    """

    def __init__(
        self,
        inner: OrderedSource,
        model: nn.Module,
        *,
        attack: Attack,
        loss: AdversarialLoss,
        device: Device,
        after_attack: AfterAttack | None = None,
        weights: WeightPerturbation | None = None,
    ) -> None:
        self.inner, self.model, self.device = inner, model, device
        self.seed, self.name = inner.seed, inner.name
        self.attack, self.loss = loss.attack_of(attack), loss
        self.after_attack, self.weights = after_attack, weights

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one epoch."""
        return self.inner.steps_per_epoch

    @property
    def order_digest(self) -> str:
        """Hex digest over the indices handed out so far; equal for arms that saw one order."""
        return self.inner.order_digest

    def replay(self, epoch: int) -> None:
        """Note the order of an epoch that was trained before, without any attack.

        Args:
            epoch: Number of the epoch.
        """
        self.inner.replay(epoch)

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the attacked batches of one epoch.

        Args:
            epoch: Number of the epoch; it decides order, augmentation and noise.

        Yields:
            Pixels, for ``trades`` the clean ones before the perturbed ones, and labels (batch,).

        Raises:
            DataError: The inner batches are no pixels in 0..1.
            ParameterError: A batch of one image, where batch norm wants a batch's statistics.
            RuntimeError: ``weights`` without ``after_backward`` among the windows.
        """
        noise = generator_of(self.seed, f"{self.name}.attack.{epoch}")
        weights = self.weights if self.weights and epoch >= self.weights.from_epoch else None
        for clean, labels in self.inner.epoch(epoch):
            clean = self.device.lay_out(clean)  # noqa: PLW2901 - the same pixels
            perturbed = self._perturbed(clean, labels, noise)
            if self.after_attack is not None:
                self.after_attack(clean, perturbed, labels)
            images = self.loss.images_of(clean, perturbed)
            if weights is not None:
                weights.perturb(self.model, partial(self._loss_of, images, labels))
            try:
                yield images, labels
                if weights is not None and weights.active:
                    raise RuntimeError("after_backward of the batches must be a window of fit")
            finally:
                if weights is not None:
                    weights.restore()

    def after_backward(self, state: LoopState) -> None:
        """Serve as a window of ``fit``: the weights are the true ones again.

        Args:
            state: Where the training stands.
        """
        if self.weights is not None:
            self.weights.restore()

    def _perturbed(self, clean: Tensor, labels: Tensor, noise: torch.Generator) -> Tensor:
        objective: Objective = cross_entropy_of_each
        if self.loss.name == "trades":
            expected = self._still_logits(clean)

            def objective(logits: Tensor, _labels: Tensor) -> Tensor:
                return divergence_of_each(expected, logits)

        return perturb(
            self.model,
            clean,
            labels,
            self.attack,
            generator=noise,
            device=self.device,
            objective=objective,
        )

    @torch.no_grad()
    def _still_logits(self, pixels: Tensor) -> Tensor:
        still = held_still(self.model, self.attack.batch_norm, images=len(pixels))
        with still, self.device.autocast():
            logits: Tensor = self.model(pixels)
        return logits

    def _loss_of(self, images: Tensor, labels: Tensor) -> Tensor:
        still = held_still(self.model, "batch", images=len(images), freeze=False)
        with still, self.device.autocast():
            logits = self.model(images)
        return self.loss(logits, labels)
