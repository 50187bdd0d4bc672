"""Choosing a learning rate on a grid that widens while the best value lies at its border."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """The rate that was chosen, and whether the grid was wide enough to say so.

    Attributes:
        rate: The best rate.
        score: Its score.
        at_border: The best rate is still the lowest or highest tried: the choice is not settled.
        tried: Every rate tried, to its score.
    """

    rate: float
    score: float
    at_border: bool
    tried: Mapping[float, float]


def grid_rates(*, centre: float, factor: float, points: int) -> list[float]:
    """Return ``points`` rates around ``centre``, ``factor`` apart, rising.

    Args:
        centre: Middle of the grid (the lower of the two middles for an even number of points).
        factor: Ratio of neighbours, above 1.
        points: Number of rates.
    """
    below = (points - 1) // 2
    return [_rounded(centre * factor ** (k - below)) for k in range(points)]


def next_rate(tried: Mapping[float, float], *, factor: float) -> float | None:
    """Return the rate beyond the border that won, or None when the best rate lies inside.

    A tie between a border and an inner rate counts as inside.

    Args:
        tried: Rate to score; higher is better.
        factor: Ratio of neighbours.
    """
    rates = sorted(tried)
    best = max(tried.values())
    inner = [r for r in rates[1:-1] if tried[r] == best]
    if inner:
        return None
    if tried[rates[-1]] == best:
        return _rounded(rates[-1] * factor)
    return _rounded(rates[0] / factor)


def settle(tried: Mapping[float, float], *, factor: float) -> Choice:
    """Return the choice that the scores so far make.

    Args:
        tried: Rate to score; higher is better.
        factor: Ratio of neighbours.
    """
    best = max(tried.values())
    open_end = next_rate(tried, factor=factor) is not None
    rates = [r for r in sorted(tried) if tried[r] == best]
    inner = [r for r in rates if min(tried) < r < max(tried)]
    rate = (inner or rates)[0]
    return Choice(rate, best, at_border=open_end, tried=dict(tried))


def choose_rate(
    score: Callable[[Sequence[float]], Sequence[float]],
    *,
    centre: float,
    factor: float,
    points: int,
    widenings: int,
) -> Choice:
    """Return the best rate of a grid that widens, at most ``widenings`` times, at a winning border.

    Args:
        score: Takes rates, returns their scores (higher is better), all at once.
        centre: Middle of the first grid.
        factor: Ratio of neighbours.
        points: Rates of the first grid.
        widenings: Rates that may be added.
    """
    rates = grid_rates(centre=centre, factor=factor, points=points)
    tried = dict(zip(rates, score(rates), strict=True))
    for _ in range(widenings):
        further = next_rate(tried, factor=factor)
        if further is None:
            break
        tried[further] = score([further])[0]
    return settle(tried, factor=factor)


def _rounded(rate: float) -> float:
    """Round to 6 significant digits, so that 0.003 / 3 is 0.001 and keys compare equal."""
    return float(f"{rate:.6g}")
