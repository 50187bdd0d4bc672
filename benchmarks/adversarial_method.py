"""What the method costs beside plain adversarial training, and what an attack costs its judge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from adversarial_work import MEAN, STD

from relearn.data.ball import Ball
from relearn.data.glyphs import draw_glyphs
from relearn.data.images import Split, Stream
from relearn.evaluation.attacks import scoring
from relearn.evaluation.attacks.pgd import Pgd
from relearn.methods.forget_relearn.config import ForgetRelearnConfig
from relearn.methods.forget_relearn.run import train_one
from relearn.methods.forget_relearn.watch import Examiner, Reading
from relearn.models.checkpoint import Architecture, build_fresh, capture
from relearn.models.normalised import NormalisedNet
from relearn.training.device import open_device
from relearn.training.memory import keep_freed_memory

if TYPE_CHECKING:
    from side_by_side import Repetition

PARAMETERS = Path(__file__).resolve().parents[1] / "conf" / "base" / "parameters_forget_relearn.yml"
CLASSES, DRAWINGS = 10, 180

PILOT = Architecture("convnet5", 1, 8, CLASSES, {"width": 16}, MEAN[:1], STD[:1])
"""The net of the pilot on digits."""

LARGER = Architecture("preact_resnet", 3, 32, CLASSES, {"width": 16, "depth": 18}, MEAN, STD)
"""A quarter of the width of the papers' net, on images of their size."""


def training(*, name: str, larger: bool, monitored: bool, epochs: int) -> Repetition:
    """Prepare a training with the parameters of base, the cycle scaled to the epochs.

    Args:
        name: ``forget_relearn`` or ``pgd_at``.
        larger: The larger net in bf16, with batches of 64 and attacks of 10 steps.
        monitored: Whether accuracies are measured while training, and pictures taken.
        epochs: Of the training.
    """
    keep_freed_memory()
    if not monitored:
        Examiner.read = lambda *_, **__: Reading(0.5, 0.5)
    made = LARGER if larger else PILOT
    device = open_device(
        "cpu", "bf16" if larger else "fp32", batch_norm_width_hint=made.batch_norm_width
    )
    base = capture(build_fresh(made, seed=0), made, {})
    stream, config = _stream(made), _config(larger, monitored, epochs)

    def repetition() -> float:
        train_one(base, stream, config, training=name, seed=0, device=device)
        return 1.0

    return repetition


def judging(*, images: int, steps: int, folded: bool) -> Repetition:
    """Prepare an attack of the judge on the pilot's net, in a ball in which no image is fooled.

    Args:
        images: That are attacked, all of them in each step.
        steps: Of PGD.
        folded: Whether the attack climbs on the folded net, as in a measurement.
    """
    keep_freed_memory()
    if not folded:
        scoring.folded = lambda net: net
    draw = torch.Generator().manual_seed(0)
    net = NormalisedNet(build_fresh(PILOT, seed=0), PILOT.mean, PILOT.std).eval()
    net = net.to(memory_format=torch.channels_last)
    pixels = torch.randint(0, 256, (images, 1, 8, 8), generator=draw, dtype=torch.uint8)
    labels = scoring.clean_logits(net, pixels).argmax(1)
    attack, ball = Pgd(1e-7, steps), Ball("linf", 1e-6)

    def repetition() -> float:
        scoring.attacked_pixels(net, pixels, labels, attack=attack, ball=ball, seed=0)
        return float(images)

    return repetition


def _config(larger: bool, monitored: bool, epochs: int) -> ForgetRelearnConfig:
    raw: dict[str, Any] = yaml.safe_load(PARAMETERS.read_text(encoding="utf-8"))["forget_relearn"]
    warmup = round(epochs * raw["cycle"]["warmup_epochs"] / raw["train"]["epochs"])
    raw["train"]["epochs"], raw["cycle"]["warmup_epochs"] = epochs, warmup
    raw["monitor"]["pictures"] = monitored
    if larger:
        raw["samples"] |= {"train_images": 256}
        raw["train"] |= {"batch_size": 64}
        raw["attack"] |= {"epsilon": 8 / 255, "step_size": 2 / 255, "steps": 10}
    return ForgetRelearnConfig.model_validate(raw)


def _stream(made: Architecture) -> Stream:
    images, labels = draw_glyphs(CLASSES, DRAWINGS, seed=0, size=made.image_size)
    images = images.expand(-1, made.in_channels, -1, -1).contiguous()
    third = torch.arange(len(labels)) % 3
    names = ("train", "validation", "test")
    splits = {n: Split(images[third == i], labels[third == i]) for i, n in enumerate(names)}
    return Stream(splits, tuple(map(str, range(CLASSES))), torch.zeros(CLASSES, dtype=torch.int64))
