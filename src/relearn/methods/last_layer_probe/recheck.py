"""A body that changed is measured again on a small set before its verdict is carried over.

A seal says which initialisation and architecture an arm had, and what its head earned on the small
set. When a later run has another digest, the seal of before and the present one are compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from relearn.provenance import digest

if TYPE_CHECKING:
    from relearn.methods.last_layer_probe.judging_config import RecheckConfig

UNCHANGED, NEW, HOLDS, CHANGED = "unchanged", "new", "holds", "changed"


def seal_of(
    body: Mapping[str, Any], *, data: str, accuracy: Mapping[int, float], images: int
) -> dict[str, Any]:
    """Return the seal of an arm.

    Args:
        body: What makes its body again, in one seed; the seed itself does not count.
        data: Digest of the images.
        accuracy: Seed to accuracy on the small set.
        images: Of the small set.
    """
    options = {k: v for k, v in body.get("options", {}).items() if k not in ("seed", "rows")}
    initialisation = {k: options.pop(k) for k in ("gain", "digest", "base") if k in options}
    return {
        "architecture": digest({"kind": body["kind"], "options": options, "shape": body["shape"]}),
        "initialisation": digest(initialisation),
        "data": data,
        "accuracy": {str(seed): value for seed, value in accuracy.items()},
        "images": images,
    }


def recheck(
    before: Mapping[str, Any] | None, now: Mapping[str, Any], config: RecheckConfig
) -> dict[str, Any]:
    """Return whether what an arm earned before still holds.

    Args:
        before: Seal of the same arm and data from an earlier run; None where there is none.
        now: Present seal.
        config: Standard errors that count.

    Returns:
        status (``new``, ``unchanged``, ``holds`` or ``changed``), what changed, and for a body that
        changed the accuracies on the small set with their difference and its standard error.
    """
    if before is None or before["data"] != now["data"]:
        return {"status": NEW, "changed": []}
    changed = [part for part in ("architecture", "initialisation") if before[part] != now[part]]
    if not changed:
        return {"status": UNCHANGED, "changed": []}
    was, present = _mean(before), _mean(now)
    pooled = (was + present) / 2
    count = int(now["images"]) * max(1, min(len(before["accuracy"]), len(now["accuracy"])))
    # unpaired: the old answers image by image are not kept, so that this errs towards "holds"
    error = math.sqrt(max(pooled * (1 - pooled), 1 / count) * 2 / count)
    differs = abs(present - was) > config.sigmas * error
    return {
        "status": CHANGED if differs else HOLDS,
        "changed": changed,
        "accuracy_before": was,
        "accuracy": present,
        "difference": present - was,
        "standard_error": error,
    }


def _mean(seal: Mapping[str, Any]) -> float:
    values = [float(value) for value in seal["accuracy"].values()]
    return sum(values) / len(values)
