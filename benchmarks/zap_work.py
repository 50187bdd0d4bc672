"""The images that both codes train on, and our own code at work on them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from relearn.data.glyphs import draw_glyphs
from relearn.data.images import Split, Stream
from relearn.evaluation.classification import predict
from relearn.evaluation.records import no_log
from relearn.methods.zap.arms import arm_named
from relearn.methods.zap.config import ZapConfig
from relearn.methods.zap.episodes import pretrain_episodes
from relearn.methods.zap.iid import pretrain_iid
from relearn.methods.zap.sequential import Setting, _learn, _Stack, sequential_transfer
from relearn.methods.zap.session import Session
from relearn.methods.zap.transfer_task import TransferHead, TransferTask
from relearn.models import pooling
from relearn.models.checkpoint import Architecture, build_fresh, capture
from relearn.training.device import open_device
from relearn.training.memory import keep_freed_memory

if TYPE_CHECKING:
    from side_by_side import Repetition

SIDE = 28
DRAWINGS = 20  # of each character, as in Omniglot
LOGITS = 1000  # of the official nets
OFFICIAL_RATES = (0.055, 0.01, 0.0055, 1e-3, 7e-4, 4e-4, 1e-4, 7e-5, 4e-5)
PARAMETERS = Path(__file__).resolve().parents[1] / "conf" / "base" / "parameters_zap.yml"


def pictures(images: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return drawn characters, uint8 (n, 1, 28, 28), 20 of each, and their class numbers.

    Args:
        images: How many, a multiple of 20.
    """
    return draw_glyphs(images // DRAWINGS, DRAWINGS, seed=0, size=SIDE)


def architecture(width: int, classes: int = LOGITS) -> Architecture:
    """Return the convnet of the paper's Omniglot runs."""
    return Architecture("convnet3", 1, SIDE, classes, {"width": width}, (0.0,), (1.0,))


def iid(
    *,
    width: int,
    batch_size: int,
    images: int,
    precision: str,
    keep_memory: bool = True,
    own_pool: bool = True,
) -> Repetition:
    """Prepare one epoch of shuffled batches with everything that a user's run writes down."""
    if keep_memory:
        keep_freed_memory()
    if not own_pool:
        pooling._FROM_NUMBERS = sys.maxsize  # torch's own for maps of any size
    changes = {"train": {"epochs": 1, "batch_size": batch_size}}
    session = _session(width, images, precision, arm="iid", changes=changes)

    def repetition() -> float:
        pretrain_iid(session, resume=None)
        return float(images)

    return repetition


def asb(*, width: int, images: int, episodes: int, precision: str) -> Repetition:
    """Prepare ASB episodes with resets: 20 steps of one image, one step of 84."""
    keep_freed_memory()
    changes = {"asb": {"episodes": episodes, "inner_learning_rate": 1e-3}}
    session = _session(width, images, precision, arm="asb_zap", changes=changes)

    def repetition() -> float:
        pretrain_episodes(session, resume=None)
        return float(episodes)

    return repetition


def continual(*, width: int, classes: int, shots: int, outputs: int, rates: int) -> Repetition:
    """Prepare the evaluation that learns ``classes`` classes image by image, and then judges."""
    keep_freed_memory()
    model = build_fresh(architecture(width), seed=0)
    task = _task(classes, shots)
    head = TransferHead("kaiming", outputs=outputs)
    settings = [Setting(head, rate) for rate in OFFICIAL_RATES[-rates:]]

    def repetition() -> float:
        sequential_transfer(model, task, settings, seed=0)
        return float(classes * shots * rates)

    return repetition


def side_by_side(*, width: int, classes: int, rates: int) -> Repetition:
    """Prepare the same on the road that a GPU takes: all rates stacked, stepped together."""
    keep_freed_memory()
    task = _task(classes, 2)
    head = TransferHead("kaiming", outputs=classes)
    settings = [Setting(head, rate) for rate in OFFICIAL_RATES[-rates:]]
    model = build_fresh(architecture(width), seed=0)

    def repetition() -> float:
        _learn(_Stack(model, task, settings, seed=0), task, every=0)
        return float(2 * classes * rates)

    return repetition


def inference(*, width: int, images: int) -> Repetition:
    """Prepare forward passes over stored images."""
    keep_freed_memory()
    model = build_fresh(architecture(width), seed=0)
    stored, _ = pictures(images)

    def repetition() -> float:
        predict(model, stored, mean=(0.0,), std=(1.0,))
        return float(images)

    return repetition


def _session(
    width: int, images: int, precision: str, *, arm: str, changes: dict[str, dict[str, Any]]
) -> Session:
    raw = yaml.safe_load(PARAMETERS.read_text(encoding="utf-8"))["zap"]
    raw["head_outputs"] = LOGITS
    raw["arms"] = {name: True for name in raw["arms"]}
    for part, values in changes.items():
        raw[part] |= values
    config = ZapConfig(**raw)
    split = Split(*pictures(images))
    stream = Stream({"train": split}, ("",) * len(split.classes), torch.zeros(len(split.classes)))
    made = architecture(width)
    base = capture(build_fresh(made, seed=0), made, {})
    device = open_device("cpu", precision, width_hint=width)
    return Session(
        base, stream, config, arm=arm_named(config, arm), seed=0, device=device, log=no_log
    )


def _task(classes: int, shots: int) -> TransferTask:
    images, labels = pictures(classes * DRAWINGS)
    drawing = torch.arange(len(labels)) % DRAWINGS
    support, query = drawing < shots, drawing == DRAWINGS - 1
    floats = images.float() / 255
    return TransferTask(floats[support], labels[support], floats[query], labels[query], classes)
