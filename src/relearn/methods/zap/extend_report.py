"""What adding classes did, in numbers: learnt, forgotten, and mistaken for each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.zap.extend_data import NewClasses, OldClasses

_WORST = 10  # classes and confusions that are named one by one


@dataclass(frozen=True)
class Outcome:
    """What a net takes the held-out images for.

    Attributes:
        old: int64, shape (old images,): predicted row of the head.
        new: int64, shape (new images,).
        first: First row of the new classes.
    """

    old: Tensor
    new: Tensor
    first: int


@dataclass(frozen=True)
class Before:
    """What there was to lose.

    Attributes:
        logits: Of the held-out images of old classes, shape (n, old classes), before the head grew.
        extended: With the new rows in place and nothing trained.
    """

    logits: Tensor
    extended: Outcome


def report_of(
    before: Before,
    after: Outcome,
    *,
    names: Sequence[str],
    new: NewClasses,
    old: OldClasses,
) -> dict[str, Any]:
    """Return the report of an extension as JSON.

    regression = accuracy before - accuracy after on the same held-out images of old classes; its
    interval is that of a mean of paired differences (normal, 95 %).

    Args:
        before: Measured before training.
        after: Measured after it.
        names: All class names by row.
        new: New classes.
        old: Old classes.
    """
    truth, wanted = old.held_out.labels, new.query.labels + after.first
    was = (before.logits.argmax(1) == truth).double()
    stays = (after.old == truth).double()
    drops = _drops(was, stays, truth, names)
    return {
        "old_classes": after.first,
        "new_classes": list(new.names),
        "old_images": len(truth),
        "new_images_trained": len(new.support),
        "new_images": len(wanted),
        "dropped_images": new.dropped,
        "unchecked_classes": list(old.unchecked),
        "old_accuracy_before": float(was.mean()),
        "old_accuracy_at_extension": _share(before.extended.old == truth),
        "old_accuracy_after": float(stays.mean()),
        "regression": float(was.mean()) - float(stays.mean()),
        "regression_interval": _interval(was - stays),
        "new_accuracy_at_extension": _share(before.extended.new == wanted),
        "new_accuracy": _share(after.new == wanted),
        "new_class_accuracy": _class_accuracy(after.new == wanted, new),
        "largest_class_drop": drops[0]["drop"],
        "worst_drops": [row for row in drops[:_WORST] if row["drop"] > 0],
        "confusion": _confusion(after, truth, wanted),
        "crossings": _crossings(after, truth, wanted, names),
    }


def _share(hits: Tensor) -> float:
    return float(hits.double().mean())


def _interval(differences: Tensor) -> list[float]:
    """Return the 95 % interval of the mean of paired differences."""
    middle = float(differences.mean())
    spread = float(differences.std(correction=0))
    half = 1.96 * spread / len(differences) ** 0.5
    return [middle - half, middle + half]


def _drops(was: Tensor, stays: Tensor, truth: Tensor, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return accuracy before and after for each old class, the largest drop first."""
    rows: list[dict[str, Any]] = []
    for row in torch.unique(truth).tolist():
        here = truth == row
        before, after = float(was[here].mean()), float(stays[here].mean())
        rows.append(
            {
                "class": names[row],
                "images": int(here.sum()),
                "before": before,
                "after": after,
                "drop": before - after,
            }
        )
    return sorted(rows, key=lambda one: (-one["drop"], one["class"]))


def _class_accuracy(hits: Tensor, new: NewClasses) -> dict[str, float]:
    return {name: _share(hits[new.query.labels == i]) for i, name in enumerate(new.names)}


def _confusion(after: Outcome, truth: Tensor, wanted: Tensor) -> dict[str, dict[str, float]]:
    """Return, for images of old and of new classes, the shares taken for which kind."""
    return {
        "old": {
            "right": _share(after.old == truth),
            "another_old": _share((after.old < after.first) & (after.old != truth)),
            "a_new": _share(after.old >= after.first),
        },
        "new": {
            "right": _share(after.new == wanted),
            "another_new": _share((after.new >= after.first) & (after.new != wanted)),
            "an_old": _share(after.new < after.first),
        },
    }


def _crossings(
    after: Outcome, truth: Tensor, wanted: Tensor, names: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the most frequent mistakes between old and new classes."""
    labels, guesses = torch.cat([truth, wanted]), torch.cat([after.old, after.new])
    crossed = (labels < after.first) != (guesses < after.first)
    counted = Counter(zip(labels[crossed].tolist(), guesses[crossed].tolist(), strict=True))
    return [
        {"class": names[label], "taken_for": names[guess], "images": count}
        for (label, guess), count in counted.most_common(_WORST)
    ]
