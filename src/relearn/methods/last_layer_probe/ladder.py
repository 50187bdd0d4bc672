"""The ladder: one arm stands for each rung, and what the gaps between neighbours say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relearn.methods.last_layer_probe.arms import Arm

RUNGS = ("majority", "linear", "random", "kernel", "frozen", "unfrozen", "full", "fine_tuned")
"""Kinds of arms from the cheapest to the dearest."""


@dataclass(frozen=True)
class Gap:
    """The difference between two neighbouring rungs.

    Attributes:
        below: Arm of the lower rung.
        above: Arm of the upper rung.
        mean: Accuracy of the upper minus that of the lower one.
        low: Lower end of its interval; None with one seed.
        high: Upper end; None with one seed.
        clear: Whether the interval leaves out zero and the gap exceeds the noise.
        says: One sentence.
    """

    below: str
    above: str
    mean: float
    low: float | None
    high: float | None
    clear: bool
    says: str

    def to_plain(self) -> dict[str, Any]:
        """Return JSON."""
        return asdict(self)


def rungs_of(arms: Mapping[str, Arm], validation: Mapping[str, float]) -> dict[str, str]:
    """Return rung to the arm that stands for it: the best on validation images.

    Args:
        arms: All that were run, by name.
        validation: Arm to mean validation accuracy; equals go to the cheaper arm.
    """
    found: dict[str, str] = {}
    for rung in RUNGS:
        there = [
            arm.name
            for arm in arms.values()
            if arm.kind == rung and arm.condition == "plain" and arm.name in validation
        ]
        if there:
            found[rung] = max(there, key=lambda name: validation[name])
    return found


def best_probe(arms: Mapping[str, Arm], validation: Mapping[str, float]) -> str:
    """Return the last-layer arm that is best on validation images; empty where none was run.

    Args:
        arms: All that were run, by name.
        validation: Arm to mean validation accuracy; equals go to the cheaper arm.
    """
    there = [a.name for a in arms.values() if a.is_probe and a.name in validation]
    return max(there, key=lambda name: validation[name]) if there else ""


_SAYS = {
    ("linear", "random"): (
        "random features carry what pixels do not: the last layer is worth training on them",
        "random features at these widths add nothing to pixels",
        "random features lose something that pixels have: widen, or read the contrast too",
    ),
    ("random", "kernel"): (
        "wider random bodies would gain: the limit is not reached",
        "random bodies have reached their limit: more width is wasted",
        "the limit is below its own approximation: look at the penalty and the number of images",
    ),
    ("kernel", "frozen"): (
        "pre-training matters: its features carry more than any random body of these skeletons",
        "pre-training adds nothing to random features here",
        "the base net's features fit these images less well than random ones: another base",
    ),
    ("frozen", "unfrozen"): (
        "the last blocks are worth training on",
        "unfreezing adds nothing: ship the head",
        "unfreezing, which starts at the last tap point, ends below the best one: ship its head",
    ),
    ("probe", "full"): (
        "full training pays: budget for it",
        "full training adds nothing to a trained last layer here",
        "full training is worse than a trained last layer on so few images",
    ),
    ("full", "fine_tuned"): (
        "starting from the base net pays",
        "starting from the base net makes no difference",
        "starting from the base net harms",
    ),
}
"""Lower and upper rung to what a clear gain, no clear gap and a clear loss say."""


def neighbours(rungs: Mapping[str, str], probe: str) -> list[tuple[str, str, str, str]]:
    """Return the pairs of rungs that are compared: names of the two, arms of the two.

    Args:
        rungs: As from ``rungs_of``.
        probe: The best last-layer arm, which is set against full training.
    """
    arms = {**rungs, "probe": probe} if probe else dict(rungs)
    return [(low, high, arms[low], arms[high]) for low, high in _SAYS if {low, high} <= set(arms)]


def said_of(pair: tuple[str, str], mean: float, *, clear: bool) -> str:
    """Return what a gap says.

    Args:
        pair: Lower and upper rung.
        mean: Upper minus lower.
        clear: Whether it is more than noise.
    """
    gain, nothing, loss = _SAYS[pair]
    if not clear:
        return nothing
    return gain if mean > 0 else loss


def mismatch(rungs: Mapping[str, str], gaps: Sequence[Gap]) -> str:
    """Return a sentence where neither random bodies nor their limit beat pixels; empty otherwise.

    The limit beats pixels where it is clearly over random bodies and the two gaps add up to a gain.

    Args:
        rungs: As from ``rungs_of``.
        gaps: Between neighbours.
    """
    linear, random, kernel = (rungs.get(name) for name in ("linear", "random", "kernel"))
    if random is None:
        return ""
    over = {(gap.below, gap.above): gap for gap in gaps}
    first, second = over.get((str(linear), random)), over.get((random, str(kernel)))
    gain = first.mean if first else 0.0
    if first and first.clear and gain > 0:
        return ""
    if second and second.clear and second.mean > 0 and gain + second.mean > 0:
        return ""
    return (
        "neither random features nor their limit beat pixels: the skeletons do not suit these "
        "images, or the task is linear"
    )
