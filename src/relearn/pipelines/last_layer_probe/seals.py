"""Seals of bodies, kept beside the units from one run to the next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from relearn.methods.last_layer_probe.config import LastLayerProbeConfig


def recheck_arms(
    units: pd.DataFrame,
    records: pd.DataFrame,
    config: LastLayerProbeConfig,
    *,
    data: str,
    folder: Path,
) -> dict[str, Any]:
    """Compare the bodies of all arms with their seals, and seal them anew.

    Args:
        units: Index of the arms.
        records: With the accuracies on the small set.
        config: How many images, and what counts as a change.
        data: Digest of the images and of how they are drawn.
        folder: Where seals lie, one file an arm.

    Returns:
        Arm to what ``methods.last_layer_probe.recheck.recheck`` tells.
    """
    from relearn.atomic import write_text
    from relearn.methods.last_layer_probe.recheck import recheck, seal_of
    from relearn.provenance import digest

    folder.mkdir(parents=True, exist_ok=True)
    images = digest({"stream": data, "samples": config.samples.model_dump()})
    found: dict[str, Any] = {}
    for arm, rows in units.groupby("arm", sort=False):
        body = _body_of(Path(str(rows["path"].iloc[0])))
        if body is None:
            continue
        few = config.recheck.images
        accuracy = _small_set(records, str(arm))
        seal = seal_of(body, data=images, accuracy=accuracy, images=few)
        place = folder / f"{arm}.json"
        found[str(arm)] = recheck(_read(place), seal, config.recheck)
        write_text(place, json.dumps(seal, indent=1, sort_keys=True))
    return found


def _body_of(folder: Path) -> dict[str, Any] | None:
    """Return what makes an arm's body again; None for arms that have none."""
    from relearn.arm_store import CHECKPOINT, load_rows
    from relearn.models.checkpoint import load_checkpoint

    told = load_checkpoint(folder / CHECKPOINT).provenance.get("body")
    if told is not None:
        return dict(told) if told["kind"] not in ("none", "pixels") else None
    entries = load_rows(folder)["interventions"]
    return dict(entries[0]["details"]) if entries else None


def _small_set(records: pd.DataFrame, arm: str) -> dict[int, float]:
    rows = records[(records["arm"] == arm) & (records["task"] == "small_set")]
    return {int(s): float(v) for s, v in zip(rows["seed"], rows["value"], strict=True)}


def _read(place: Path) -> dict[str, Any] | None:
    """Return the seal of an earlier run; None where there is none, or one that cannot be read."""
    try:
        found: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found
