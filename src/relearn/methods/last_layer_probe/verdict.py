"""PASS, PROMISING, WEAK or FAIL: what a body earned, by thresholds that were said before.

The paper gives no thresholds; the rules are ours. With s the mean accuracy of the body's head, C
that of the linear baseline (or of the majority, if that is higher), T the target and se the
standard error of the paired difference:

    PASS        lower bound of s >= T
    FAIL        s - C <= sigmas * se, or s <= C
    PROMISING   T - s <= halfway * (T - C)
    WEAK        anything else

A body that is no better than pixels is a FAIL even where pixels reach the target: then the linear
head is what to ship, and the verdict is about the body.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from relearn.methods.last_layer_probe.judging_config import VerdictConfig

PASS, PROMISING, WEAK, FAIL = "PASS", "PROMISING", "WEAK", "FAIL"
LOWER = 0.05
"""Error probability of the one-sided lower bound."""


@dataclass(frozen=True)
class Earned:
    """What an arm earned beside its baseline, seed by seed.

    Attributes:
        scores: Test accuracy of the arm.
        baseline: Of the linear head on the same images, seed by seed.
        floor: Mean accuracy of the majority; 0 where it was not measured.
        images: Test images of a seed.
        sampling: Standard error of the mean difference from the choice of test images alone.
    """

    scores: Sequence[float]
    baseline: Sequence[float]
    floor: float
    images: int
    sampling: float

    @property
    def mean(self) -> float:
        """Mean accuracy s."""
        return sum(self.scores) / len(self.scores)

    @property
    def level(self) -> float:
        """What is to be beaten, C."""
        return max(self.floor, sum(self.baseline) / len(self.baseline))

    @property
    def error(self) -> float:
        """Standard error of s - C: over seeds or from the test images, whichever is larger.

        Three seeds that agree by luck would otherwise look certain.
        """
        gains = [a - b for a, b in zip(self.scores, self.baseline, strict=True)]
        return max(_standard_error(gains), self.sampling)

    @property
    def lower(self) -> float:
        """One-sided lower bound of s."""
        from scipy.stats import norm, t

        count = len(self.scores)
        total = max(1, count * self.images)
        chance = math.sqrt(self.mean * (1 - self.mean) / total) * float(norm.ppf(1 - LOWER))
        if count < 2:
            return self.mean - chance
        seeds = _standard_error(self.scores) * float(t.ppf(1 - LOWER, count - 1))
        return self.mean - max(seeds, chance)


@dataclass(frozen=True)
class Verdict:
    """A verdict and the figures that made it.

    Attributes:
        verdict: One of the four words.
        score: s.
        lower: Its lower bound.
        baseline: C.
        gain: s - C.
        error: se.
        needed: What the gain had to exceed.
        target: T.
        why: One sentence.
    """

    verdict: str
    score: float
    lower: float
    baseline: float
    gain: float
    error: float
    needed: float
    target: float
    why: str

    def to_plain(self) -> dict[str, Any]:
        """Return JSON."""
        return asdict(self)


def verdict_of(earned: Earned, config: VerdictConfig) -> Verdict:
    """Return the verdict on one body.

    Args:
        earned: What its head earned.
        config: Thresholds.
    """
    s, c, target = earned.mean, earned.level, config.target
    gain, needed = s - c, config.sigmas * earned.error
    word, why = _word(earned, config, gain=gain, needed=needed)
    return Verdict(word, s, earned.lower, c, gain, earned.error, needed, target, why)


def _word(earned: Earned, config: VerdictConfig, *, gain: float, needed: float) -> tuple[str, str]:
    s, c, target = earned.mean, earned.level, config.target
    if gain <= needed or gain <= 0:
        return FAIL, (
            f"{100 * gain:+.1f} points over the linear baseline, {100 * needed:.1f} were needed: "
            "the features are no better than pixels"
        )
    if earned.lower >= target:
        return PASS, f"the lower bound {100 * earned.lower:.1f} % reaches the target"
    rest, whole = target - s, target - c
    if rest <= config.halfway * whole:
        return PROMISING, (
            f"{100 * gain:+.1f} points over the linear baseline, {max(0.0, 100 * rest):.1f} points "
            "to the target"
        )
    return WEAK, (
        f"{100 * gain:+.1f} points over the linear baseline, but {100 * rest:.1f} points are left "
        f"of {100 * whole:.1f}"
    )


def sampling_error(
    right: Sequence[Sequence[bool]], baseline_right: Sequence[Sequence[bool]]
) -> float:
    """Return the standard error of the mean paired difference from the choice of test images.

    Args:
        right: For each seed, for each test image, whether the arm was right.
        baseline_right: Likewise for the baseline, on the same images.
    """
    total = 0.0
    for arm, other in zip(right, baseline_right, strict=True):
        gains = [float(a) - float(b) for a, b in zip(arm, other, strict=True)]
        total += _standard_error(gains) ** 2
    return math.sqrt(total) / max(1, len(right))


def _standard_error(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return math.sqrt(variance / len(values))
