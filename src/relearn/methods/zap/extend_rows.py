"""More rows in the last layer, and the ledger's row that proves the old ones kept every bit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from relearn.data.batches import to_float
from relearn.data.randomness import generator_of, seed_of
from relearn.evaluation.classification import evaluating
from relearn.evaluation.records import Intervention
from relearn.methods.zap.reset import draw_rows
from relearn.models.checkpoint import build
from relearn.models.heads import Head, extend_head, features, find_head
from relearn.provenance import digest_tensors
from relearn.training.closed_form import ridge_head

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relearn.data.images import Split
    from relearn.models.checkpoint import Architecture, Checkpoint

_DRAWS = {"zero": "zeros", "kaiming": "kaiming_normal"}
_RIDGE_IMAGES = 2000  # old images that say what is not a new class: more changes little
_BLOCK = 512
_SMALLEST_GAIN = 1e-3  # of one-hot targets; below it the features tell nothing


@dataclass(frozen=True)
class Rows:
    """Which rows of the head are old and which are new.

    Attributes:
        first: Number of old rows; the first new row.
        count: New rows.
    """

    first: int
    count: int

    @property
    def total(self) -> int:
        """Rows that stand for a class."""
        return self.first + self.count

    @property
    def new(self) -> slice:
        """The new rows."""
        return slice(self.first, self.total)


@torch.no_grad()
def add_rows(
    model: nn.Module,
    rows: Rows,
    *,
    initialisation: str,
    seed: int,
    solved: tuple[Tensor, Tensor] | None = None,
    name: str = "",
) -> tuple[Head, dict[str, Any]]:
    """Give the head its new rows and return it with what a verifier needs.

    Outputs beyond the old classes that stand for nothing (a head padded for parity) are used first.

    Args:
        model: The net; its head is exchanged where it has too few outputs.
        rows: Old and new rows.
        initialisation: ``zero``, ``kaiming`` or ``ridge``.
        seed: Of the draw.
        solved: Weight (count, features) and bias (count,), for ``ridge``.
        name: Name of the head; empty finds it.

    Raises:
        HeadNotFoundError: The net has no plain last layer.
    """
    old = find_head(model, name)
    before = _parts(old, slice(None))
    missing = max(0, rows.total - old.classes)
    generator = generator_of(seed, "add_classes.head")  # draws values that are written over
    head = extend_head(model, missing, generator=generator, name=old.name, initialisation="zero")
    draw_seed = seed_of(seed, f"add_classes.{rows.first}.{rows.count}")
    weight, bias = solved or _drawn(rows.count, head.features, initialisation, draw_seed)
    place = head.module.weight
    place[rows.new] = weight.to(place).view_as(place[rows.new])
    if head.module.bias is not None:
        head.module.bias[rows.new] = bias.to(place)
    told = {
        "target": f"{head.name}.weight",
        "draw_seed": draw_seed,
        "before": before,
        "after": _parts(head, slice(None)),
        "old_before": {part: value[: rows.first] for part, value in before.items()},
        "old_after": _parts(head, slice(0, rows.first)),
        "new": _parts(head, rows.new),
    }
    return head, told


def ledger_row(
    told: Mapping[str, Any],
    rows: Rows,
    *,
    initialisation: str,
    arm: str,
    seed: int,
    step: int,
) -> Intervention:
    """Return the ledger's row of an extension.

    Args:
        told: What ``add_rows`` returned.
        rows: Old and new rows.
        initialisation: Of the new rows.
        arm: Label of the checkpoint.
        seed: Of the extension.
        step: Optimizer steps of the checkpoint before it.
    """
    return Intervention(
        method="zap",
        arm=arm,
        seed=seed,
        step=step,
        epoch=0,
        kind="extend_head",
        target=told["target"],
        rows=rows.count,
        trigger="add_classes",
        draw_seed=told["draw_seed"],
        before_digest=digest_tensors(told["before"]),
        after_digest=digest_tensors(told["after"]),
        before_norm=float(told["before"]["weight"].norm()),
        after_norm=float(told["after"]["weight"].norm()),
        details={
            "initialisation": initialisation,
            "first_row": rows.first,
            "outputs_before": len(told["before"]["weight"]),
            "outputs": len(told["after"]["weight"]),
            "features": int(told["after"]["weight"].shape[1]),
            "bias": "bias" in told["after"],
            "old_rows_before": digest_tensors(told["old_before"]),
            "old_rows_after": digest_tensors(told["old_after"]),
            "new_rows": digest_tensors(told["new"]),
        },
    )


def verify_extension(entry: Intervention, start: Checkpoint | None = None) -> bool:
    """Return whether an extension was what its ledger row says.

    The old rows had one digest before and after. New rows that were drawn are drawn again from the
    seed. With the checkpoint that was extended at hand, the head before, and for drawn rows the
    whole head after, are made again too. Rows that were solved (``ridge``) cannot be drawn: their
    digest stands in the row.

    Args:
        entry: A row of the ledger of kind ``extend_head``.
        start: The checkpoint that was extended.
    """
    told = entry.details
    if told["old_rows_before"] != told["old_rows_after"]:
        return False
    drawn = told["initialisation"] in _DRAWS
    if drawn and digest_tensors(_redrawn(entry)) != told["new_rows"]:
        return False
    if start is None:
        return True
    name = entry.target.removesuffix(".weight")
    before = _parts(find_head(build(start), name), slice(None))
    if digest_tensors(before) != entry.before_digest:
        return False
    return not drawn or digest_tensors(_remade(before, entry)) == entry.after_digest


@torch.no_grad()
def solve_rows(
    model: nn.Module,
    new: Split,
    old: Split,
    *,
    rows: Rows,
    penalty: float,
    architecture: Architecture,
    seed: int,
    name: str = "",
) -> tuple[Tensor, Tensor]:
    """Return weight (count, features) and bias (count,) of new rows by ridge regression.

    The solution is then stretched into the scale of the old logits, so that both can compete: on
    the support images the mean logit of the own class is the mean of the best old logit there plus
    the margin by which old images are told apart; on old images the mean new logit is the mean
    logit of a wrong class.

    Args:
        model: The net before the extension, in evaluation mode.
        new: Support images; labels are positions among the new classes.
        old: Training images of old classes; labels are rows of the head.
        rows: Old and new rows.
        penalty: Relative to the mean squared feature norm.
        architecture: Its mean and std normalise the images.
        seed: Of the choice of old images.
        name: Name of the head; empty finds it.
    """
    chosen = torch.randperm(len(old), generator=generator_of(seed, "add_classes.ridge"))
    chosen = chosen[:_RIDGE_IMAGES]
    on_old, old_logits = _read(model, old.images[chosen], architecture, name)
    on_new, new_logits = _read(model, new.images, architecture, name)
    labels = new.labels.to(on_new.device)
    weight, bias = ridge_head(
        torch.cat([on_new, on_old]),
        torch.cat([labels, labels.new_full((len(chosen),), rows.count)]),
        classes=rows.count + 1,
        penalty=penalty,
    )
    weight, bias = weight[:-1], bias[:-1]
    margin, low = _margin(old_logits[:, : rows.first], old.labels[chosen].to(on_new.device))
    high = float(new_logits[:, : rows.first].amax(1).mean()) + margin
    own = float((on_new @ weight.T + bias).gather(1, labels.unsqueeze(1)).mean())
    other = float((on_old @ weight.T + bias).mean())
    stretch = (high - low) / max(own - other, _SMALLEST_GAIN)
    return stretch * weight, stretch * (bias - other) + low


def _margin(logits: Tensor, labels: Tensor) -> tuple[float, float]:
    """Return by how much the own class's logit leads, and the mean logit of a wrong class."""
    own = logits.gather(1, labels.unsqueeze(1)).squeeze(1)
    wrong = logits.scatter(1, labels.unsqueeze(1), -torch.inf).amax(1)
    low = float((logits.sum(1) - own).mean()) / max(1, logits.shape[1] - 1)
    lead = float((own - wrong).mean()) if logits.shape[1] > 1 else 1.0
    return max(lead, 0.0), low


def _read(
    model: nn.Module, images: Tensor, architecture: Architecture, name: str
) -> tuple[Tensor, Tensor]:
    """Return features (n, d) and logits (n, outputs) of uint8 images."""
    device = next(model.parameters()).device
    found, logits = [], []
    with evaluating(model):
        for block in images.split(_BLOCK):
            x = to_float(block.to(device), architecture.mean, architecture.std)
            found.append(features(model, x, name))
            logits.append(model(x))
    return torch.cat(found), torch.cat(logits)


def _drawn(count: int, width: int, initialisation: str, draw_seed: int) -> tuple[Tensor, Tensor]:
    weight = draw_rows(
        torch.zeros(count, width),
        initialisation=_DRAWS[initialisation],
        std=1.0,
        generator=generator_of(draw_seed, "values"),
    )
    return weight, torch.zeros(count)


def _redrawn(entry: Intervention) -> dict[str, Tensor]:
    told = entry.details
    features_read = int(told["features"])
    weight, bias = _drawn(entry.rows, features_read, told["initialisation"], entry.draw_seed)
    return {"weight": weight} | ({"bias": bias} if told["bias"] else {})


def _remade(before: dict[str, Tensor], entry: Intervention) -> dict[str, Tensor]:
    """Return the head after the extension, from the head before and the redrawn rows."""
    first, outputs = int(entry.details["first_row"]), int(entry.details["outputs"])
    made = {}
    for part, fresh in _redrawn(entry).items():
        whole = torch.zeros(outputs, *before[part].shape[1:])
        whole[: len(before[part])] = before[part]
        whole[first : first + entry.rows] = fresh
        made[part] = whole
    return made


def _parts(head: Head, rows: slice) -> dict[str, Tensor]:
    """Return copies of weight (rows, features) and bias (rows,), on the CPU."""
    parts = {"weight": head.module.weight.detach().flatten(1)}
    if head.module.bias is not None:
        parts["bias"] = head.module.bias.detach()
    return {part: value[rows].to("cpu", copy=True) for part, value in parts.items()}
