"""Statistics of paired differences: Student's t, equivalence, Holm, bootstrap, seeds still needed.

Everything here takes one difference per seed (treated minus baseline, same seed, same data, same
order), so that what the seeds share cancels. The interval is Student's; a bootstrap over three
pairs excludes zero whenever three signs agree, one time in four by luck, and is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

MOST_SEEDS = 200
"""Beyond this number of pairs the answer to "how many more seeds" is "too many"."""


@dataclass(frozen=True)
class PairedInterval:
    """Mean of paired differences with Student's interval.

    Attributes:
        pairs: Number of pairs n.
        mean: Mean difference, in the metric's unit.
        sd: Standard deviation of the differences (n - 1 below the line); None for one pair.
        low: Lower end of the interval; None for one pair.
        high: Upper end of the interval; None for one pair.
        p_value: Two-sided p of "no difference"; None for one pair or when no pair differs from
            the others, because then there is no spread to judge by.
    """

    pairs: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None
    p_value: float | None

    @property
    def has_spread(self) -> bool:
        """Whether the pairs differ from each other at all."""
        return self.sd is not None and self.sd > 0


def _spread(values: NDArray[np.float64]) -> float:
    """Return the standard deviation, 0 where the values differ by rounding only."""
    sd = float(values.std(ddof=1))
    return 0.0 if sd <= 1e-12 * max(1.0, float(np.abs(values).max())) else sd


def paired_interval(differences: Sequence[float], confidence: float) -> PairedInterval:
    """Return mean and t interval: mean +- t(n - 1) * sd / sqrt(n).

    Args:
        differences: One number per pair, at least one.
        confidence: Coverage of the interval, between 0.5 and 1.
    """
    values = np.asarray(differences, dtype=np.float64)
    count, mean = len(values), float(values.mean())
    if count == 1:
        return PairedInterval(1, mean, None, None, None, None)
    sd = _spread(values)
    error = sd / np.sqrt(count)
    half = float(stats.t.ppf((1 + confidence) / 2, count - 1)) * error
    p_value = float(2 * stats.t.sf(abs(mean) / error, count - 1)) if error > 0 else None
    return PairedInterval(count, mean, sd, mean - half, mean + half, p_value)


def equivalence_p(interval: PairedInterval, margin: float) -> float | None:
    """Return the p of "the difference is at least as large as the margin" (two one-sided tests).

    Args:
        interval: Mean and spread of the paired differences.
        margin: Half-width of "the same", above 0, in the metric's unit.

    Returns:
        The larger of the two one-sided p values; None for one pair; 0 or 1 without any spread.

    References:
        Schuirmann 1987.
    """
    if interval.sd is None:
        return None
    if interval.sd == 0:
        return 0.0 if abs(interval.mean) < margin else 1.0
    error = interval.sd / float(np.sqrt(interval.pairs))
    free = interval.pairs - 1
    above = float(stats.t.sf((interval.mean + margin) / error, free))
    below = float(stats.t.cdf((interval.mean - margin) / error, free))
    return max(above, below)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p values, in the order given.

    With sorted p(1) <= ... <= p(m): adjusted(i) = max over j <= i of min(1, (m - j + 1) p(j)).

    Args:
        p_values: Any number of p values between 0 and 1.

    References:
        Holm 1979.
    """
    count = len(p_values)
    adjusted = [0.0] * count
    running = 0.0
    for rank, index in enumerate(sorted(range(count), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (count - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def bootstrap_interval(
    differences: Sequence[float], *, confidence: float, draws: int, seed: int
) -> tuple[float, float]:
    """Return the percentile interval of the mean over resampled pairs.

    Args:
        differences: One number per pair.
        confidence: Coverage of the interval.
        draws: Number of resamples.
        seed: Seed of the resampling.
    """
    values = np.asarray(differences, dtype=np.float64)
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, len(values), size=(draws, len(values)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(values[rows].mean(axis=1), [tail, 1 - tail])
    return float(low), float(high)


def seeds_needed(sd: float, half_width: float, confidence: float) -> int | None:
    """Return the number of pairs whose t interval would be narrower than ``half_width`` each side.

    It assumes that mean and spread stay as they are, so it is a plan and not a promise.

    Args:
        sd: Standard deviation of the paired differences seen so far.
        half_width: Largest half-width that would settle the question, above 0.
        confidence: Coverage of the interval.

    Returns:
        The smallest such number, at least 2; None when more than ``MOST_SEEDS`` would be needed.
    """
    counts = np.arange(2, MOST_SEEDS + 1)
    halves = stats.t.ppf((1 + confidence) / 2, counts - 1) * sd / np.sqrt(counts)
    enough = counts[halves < half_width]
    return int(enough[0]) if len(enough) else None
