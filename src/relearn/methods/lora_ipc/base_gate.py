"""Is a backbone good enough for anything to be claimed? Its nearest class mean against raw pixels.

Both are asked about unseen classes that no task will bring: those on which choices are made. Where
``data.split.selection_classes: null`` keeps none of them apart, they are asked about the classes of
the tasks, by the images that train: a half teaches, the other half asks, and no test image is read.
A backbone whose features tell classes apart no better than pixels do carries no evidence, whatever
is added to it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.nn import functional

from relearn.data.batches import to_float
from relearn.data.images import Split
from relearn.data.randomness import generator_of
from relearn.errors import DataError, EvidenceError
from relearn.evaluation.classification import accuracy_of, evaluating
from relearn.methods.lora_ipc.matrices import find_matrices
from relearn.methods.lora_ipc.still import nearest_mean
from relearn.models import heads
from relearn.models.checkpoint import build

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.data.images import Stream
    from relearn.methods.lora_ipc.config import LoraIpcConfig
    from relearn.models.checkpoint import Checkpoint
    from relearn.training.device import Device

_BATCH = 256


@dataclass(frozen=True)
class BaseStrength:
    """What a backbone is worth before any task.

    Attributes:
        backbone: Accuracy of the nearest class mean of its features, 0 to 1.
        raw_pixels: The same of pixels.
        classes: Classes that were told apart.
        asked: Which these are: ``kept apart`` or ``of the tasks``.
        margin: How far the backbone must be above raw pixels.
        strong: Whether it is.
        reason: Why nothing is claimed; empty where it is strong.
    """

    backbone: float
    raw_pixels: float
    classes: int
    asked: Literal["kept apart", "of the tasks"]
    margin: float
    strong: bool
    reason: str

    def to_plain(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def base_strength(
    base: Checkpoint, stream: Stream, config: LoraIpcConfig, *, device: Device | None = None
) -> BaseStrength:
    """Return how a backbone compares with raw pixels on classes it has never seen.

    Args:
        base: The backbone.
        stream: With ``selection_support`` and ``selection_query``, or with ``transfer_support``.
        config: ``gate`` and the kinds of matrices.
        device: Where features are computed; None is the plain CPU.

    Raises:
        ParameterError: The backbone has no attention, or lacks a kind of matrix.
        EvidenceError: It is too weak, and ``gate.refuse`` holds.
        DataError: The stream has no unseen classes.
    """
    kept_apart = "selection_support" in stream.splits
    taught, asked = _kept_apart(stream) if kept_apart else _halves(stream)
    classes = taught.classes
    net = build(base)
    find_matrices(net, config.lora.names)
    net = net if device is None else device.place(net)
    features = [_features(net, split, base) for split in (taught, asked)]
    pixels = [split.images.float().flatten(1) / 255 for split in (taught, asked)]
    labels = [torch.searchsorted(classes, split.labels) for split in (taught, asked)]
    found = _share(features, labels, classes=len(classes))
    raw = _share(pixels, labels, classes=len(classes))
    margin = config.gate.above_raw_pixels
    strong = found - raw >= margin
    reason = "" if strong else _reason(found, raw, margin)
    if config.gate.refuse and not strong:
        raise EvidenceError(
            f"lora_ipc.gate: {reason} Pre-train longer, or set lora_ipc.gate.refuse=false to see "
            "the table all the same"
        )
    return BaseStrength(
        found,
        raw,
        len(classes),
        "kept apart" if kept_apart else "of the tasks",
        margin,
        strong,
        reason,
    )


def _kept_apart(stream: Stream) -> tuple[Split, Split]:
    return stream.split("selection_support"), stream.split("selection_query")


def _halves(stream: Stream) -> tuple[Split, Split]:
    """Return two halves of the images that train tasks, each with every class."""
    whole = stream.split("transfer_support")
    taught = torch.zeros(len(whole), dtype=torch.bool)
    for number in whole.classes:
        rows = torch.nonzero(whole.labels == number).flatten()
        if len(rows) < 2:
            raise DataError(
                f"data.split.support_per_class: class {int(number)} has one image, and the "
                "question whether the base is good enough needs two; raise it, or keep classes "
                "apart with data.split.selection_classes"
            )
        drawn = torch.randperm(len(rows), generator=generator_of(int(number), "lora_ipc.gate"))
        taught[rows[drawn[: len(rows) // 2]]] = True
    halves = [Split(whole.images[part], whole.labels[part]) for part in (taught, ~taught)]
    return halves[0], halves[1]


def _share(values: list[Tensor], labels: list[Tensor], *, classes: int) -> float:
    """Return the accuracy of the nearest class mean."""
    layer = nearest_mean(values[0], labels[0], outputs=classes)
    return accuracy_of(functional.linear(values[1], layer["weight"], layer["bias"]), labels[1])


def _features(net: torch.nn.Module, split: Split, base: Checkpoint) -> Tensor:
    shape, place = base.architecture, next(net.parameters()).device
    found = []
    with evaluating(net):
        for block in split.images.split(_BATCH):
            images = to_float(block.to(place), shape.mean, shape.std)
            found.append(heads.features(net, images).float().cpu())
    return torch.cat(found)


def _reason(found: float, raw: float, margin: float) -> str:
    return (
        f"Base too weak, nothing claimed: nearest class mean on unseen classes is "
        f"{100 * found:.1f} % with the backbone and {100 * raw:.1f} % with raw pixels, and "
        f"{100 * margin:.0f} points above them are asked for."
    )
