"""The images that both codes train on adversarially, and our own code at work on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from relearn.data.ball import Ball
from relearn.data.batches import Batches
from relearn.data.glyphs import draw_glyphs
from relearn.data.randomness import generator_of
from relearn.evaluation.attacks.pgd import Pgd
from relearn.evaluation.robustness import robust_accuracy
from relearn.models.checkpoint import Architecture, build_fresh
from relearn.models.normalised import NormalisedNet
from relearn.training.adversarial import AdversarialBatches, AdversarialLoss
from relearn.training.attack import Attack
from relearn.training.device import Device, open_device
from relearn.training.loop import fit
from relearn.training.memory import keep_freed_memory
from relearn.training.optimizers import make_optimizer, make_schedule

if TYPE_CHECKING:
    from side_by_side import Repetition
    from torch.optim import Optimizer

SIDE, CLASSES = 32, 10
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)  # of CIFAR-10, as the official code
LEVEL = 1 / 255
PAPER = Attack(Ball("linf", 8 * LEVEL), 2 * LEVEL, 10)
"""As the official defaults."""

SMALL = Attack(Ball("linf", 0.15), 0.04, 7)
SMALL_BATCH, SMALL_SIDE = 50, 16
TRAINED, JUDGED = 30, 50  # drawings of each class
EVERY_PIXEL = {"mean": (0.0,) * 3, "std": (1.0,) * 3}


def pictures(images: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return noise in three colours, uint8 (n, 3, 32, 32), and class numbers.

    Args:
        images: How many.
    """
    draw = generator_of(0, "bench.pictures")
    shape = (images, 3, SIDE, SIDE)
    stored = torch.randint(0, 256, shape, generator=draw, dtype=torch.uint8)
    return stored, torch.arange(images) % CLASSES


def architecture() -> Architecture:
    """Return the net of the papers' CIFAR runs, 11.17 million parameters."""
    options = {"width": 64, "depth": 18}
    return Architecture("preact_resnet", 3, SIDE, CLASSES, options, MEAN, STD)


def step(*, batch_size: int, steps: int, precision: str) -> Repetition:
    """Prepare one training step on a batch attacked with PGD, through the loop of every training.

    Args:
        batch_size: Images.
        steps: Gradients of the attack.
        precision: ``bf16`` or ``fp32``.
    """
    keep_freed_memory()
    made = architecture()
    device = open_device("cpu", precision, batch_norm_width_hint=made.batch_norm_width)
    net = device.place(NormalisedNet(build_fresh(made, seed=0), MEAN, STD))
    inner = Batches(
        *pictures(batch_size), batch_size=batch_size, seed=0, shift=4, flip=True, **EVERY_PIXEL
    )
    attack = Attack(PAPER.ball, PAPER.step_size, steps)
    loss = AdversarialLoss("pgd_at")
    source = AdversarialBatches(inner, net, attack=attack, loss=loss, device=device)
    optimizer = _official_sgd(net)

    def repetition() -> float:
        fit(net, source, loss, optimizer, epochs=1, device=device)
        return 1.0

    return repetition


class Attacked(Protocol):
    """Makes batches attacked with one code's attack."""

    def __call__(
        self, inner: Batches, net: NormalisedNet, attack: Attack, device: Device
    ) -> AdversarialBatches:
        """Return the batches; ``fit`` trains ``net`` with them."""
        ...


def trained(*, precision: str, epochs: int, seeds: int) -> Repetition:
    """Prepare short trainings with our attack; what they return is the robust accuracy.

    Args:
        precision: ``bf16`` or ``fp32``.
        epochs: Of each training.
        seeds: Trainings, over which the mean is taken.
    """
    return short_trainings(_ours, precision=precision, epochs=epochs, seeds=seeds)


def short_trainings(attacked: Attacked, *, precision: str, epochs: int, seeds: int) -> Repetition:
    """Prepare trainings of a small net that differ in the attack's code alone.

    Args:
        attacked: Makes the batches.
        precision: ``bf16`` or ``fp32``; the judge is always in fp32.
        epochs: Of each training.
        seeds: Trainings, over which the mean is taken.
    """

    def repetition() -> float:
        found = [_robust(attacked, precision, epochs, seed) for seed in range(seeds)]
        return sum(found) / seeds

    return repetition


def _robust(attacked: Attacked, precision: str, epochs: int, seed: int) -> float:
    options = {"width": 16, "depth": 8}
    made = Architecture("preact_resnet", 3, SMALL_SIDE, CLASSES, options, MEAN, STD)
    device = open_device("cpu", precision, batch_norm_width_hint=made.batch_norm_width)
    net = NormalisedNet(build_fresh(made, seed=seed), MEAN, STD)
    device.place(net)
    (train, labels), test = _drawings(seed)
    inner = Batches(train, labels, batch_size=SMALL_BATCH, seed=seed, **EVERY_PIXEL)
    source = attacked(inner, net, SMALL, device)
    optimizer = _official_sgd(net)
    schedule = make_schedule(
        optimizer,
        name="cosine",
        epochs=epochs,
        steps_per_epoch=source.steps_per_epoch,
        warmup_epochs=0.0,
    )
    loss = AdversarialLoss("pgd_at")
    fit(net, source, loss, optimizer, epochs=epochs, schedule=schedule, device=device)
    net.eval()
    judge = Pgd(SMALL.step_size, 20)
    return robust_accuracy(net, *test, attack=judge, ball=SMALL.ball, seed=0)


def _drawings(
    seed: int,
) -> tuple[tuple[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]:
    """Return characters in three equal colours: those that are learnt and those that judge."""
    each = TRAINED + JUDGED
    images, labels = draw_glyphs(CLASSES, each, seed=seed, size=SMALL_SIDE)
    learnt = torch.arange(len(labels)) % each < TRAINED
    images = images.expand(-1, 3, -1, -1).contiguous()
    return (images[learnt], labels[learnt]), (images[~learnt], labels[~learnt])


def _ours(inner: Batches, net: NormalisedNet, attack: Attack, device: Device) -> AdversarialBatches:
    loss = AdversarialLoss("pgd_at")
    return AdversarialBatches(inner, net, attack=attack, loss=loss, device=device)


def _official_sgd(net: NormalisedNet) -> Optimizer:
    return make_optimizer(
        net.parameters(), name="sgd", learning_rate=0.1, weight_decay=5e-4, momentum=0.9
    )
