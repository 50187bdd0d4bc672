"""What to do next, from the verdict, the gaps, the learning curve and the costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from relearn.methods.last_layer_probe.verdict import FAIL, PASS, PROMISING

if TYPE_CHECKING:
    from relearn.methods.last_layer_probe.config import LastLayerProbeConfig
    from relearn.methods.last_layer_probe.verdict import Verdict

FEW_A_CLASS = 50
"""Training images of a class below which failing of everything speaks for data, not for bodies."""


def next_step(
    verdict: Verdict, *, kernel_fails: bool, few: bool, rising: bool, special: Sequence[str]
) -> str:
    """Return what to do next, in one or two sentences.

    Args:
        verdict: On the best last-layer arm.
        kernel_fails: Whether the dual kernel does not beat pixels either.
        few: Whether the classes have few training images.
        rising: Whether the learning curve still rises.
        special: Reasons why the data are special; empty for none.
    """
    if verdict.verdict == PASS:
        text = "Stop here: ship the head, and keep the digest of its body."
    elif verdict.verdict == PROMISING:
        text = "Go to stage 2: unfreeze the last blocks from this optimum, or train in full."
    elif verdict.verdict == FAIL:
        text = _after_fail(kernel_fails=kernel_fails, few=few, rising=rising)
    else:
        text = (
            "Try another body, input norm, activation or skeleton once; then stage 2 with a capped "
            "budget."
        )
    if rising and verdict.verdict not in (PASS, FAIL):
        text += " The learning curve still rises: more labelled images are worth a try first."
    if special:
        text += f" The data are special ({'; '.join(special)}): do not carry this verdict over."
    return text


def _after_fail(*, kernel_fails: bool, few: bool, rising: bool) -> str:
    if rising:
        return "Do not invest in this body: the learning curve still rises, so buy data first."
    if kernel_fails and few:
        return (
            "Do not invest in this body: its limit fails too, with few images of a class. Look at "
            "data and labels first."
        )
    return "Do not invest in this body: ship the linear head, or probe another body."


def projected_seconds(
    config: LastLayerProbeConfig, costs: Mapping[str, Mapping[str, float]], *, blocks: int
) -> dict[str, float]:
    """Return the training seconds that the next stage would take, from what was measured.

    Args:
        config: Budget of unfreezing, length of full training.
        costs: Arm to metric to mean over seeds.
        blocks: Steps of unfreezing that there may be.

    Returns:
        Stage to seconds: ``full`` as measured, and ``unfrozen`` where full training was measured
        (an epoch of it is an upper bound of an epoch with some blocks frozen).
    """
    full = costs.get("full", {}).get("train_seconds")
    if full is None:
        return {}
    epoch = full / max(1.0, costs["full"].get("epochs", float(config.trained.train.epochs)))
    unfreeze = config.trained.unfreeze
    steps = min(blocks, unfreeze.most_steps) if unfreeze.most_steps else blocks
    return {"full": full, "unfrozen_at_most": epoch * unfreeze.epochs * max(1, steps)}


def savings(costs: Mapping[str, Mapping[str, float]], probe: str) -> dict[str, float]:
    """Return what the probe took beside full training with its tuning.

    Args:
        costs: Arm to metric to mean over seeds.
        probe: The best last-layer arm.
    """
    spent = costs.get(probe, {}).get("train_seconds")
    full = costs.get("full", {}).get("train_seconds")
    if spent is None or full is None:
        return {}
    tuned = full + costs["full"].get("tuning_seconds", 0.0)
    return {
        "probe_seconds": spent,
        "full_seconds": full,
        "full_seconds_with_tuning": tuned,
        "seconds_saved": tuned - spent,
    }
