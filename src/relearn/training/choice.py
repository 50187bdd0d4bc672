"""Choosing a learning rate on a grid that widens while the best value lies at its border."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from relearn.training.config import GridConfig

Line = TypeVar("Line", bound=Hashable)
"""What has a grid of its own, such as an arm, or an arm under one schedule."""


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


@dataclass(frozen=True)
class Searched:
    """What came of one line of a search.

    Attributes:
        choice: The rate that was chosen, and all that were tried.
        seconds: Every rate tried, to what its trainings took together.
    """

    choice: Choice
    seconds: Mapping[float, float]

    def rows(self, *, is_best: bool = True) -> list[tuple[float, float, float, bool, bool]]:
        """Return (rate, score, seconds, at_border, chosen) of every rate tried, rising.

        Args:
            is_best: Whether this line is the one that is taken, of several.
        """
        rows = []
        for rate, score in sorted(self.choice.tried.items()):
            chosen = is_best and rate == self.choice.rate
            # One point is no grid: nothing was searched, so nothing lies at a border.
            at_border = chosen and self.choice.at_border and len(self.choice.tried) > 1
            rows.append((rate, score, self.seconds[rate], at_border, chosen))
        return rows


def search_rates(
    lines: Iterable[Line],
    score: Callable[[Sequence[tuple[Line, float]]], Sequence[Sequence[tuple[float, float]]]],
    grid: GridConfig,
) -> dict[Line, Searched]:
    """Return what came of the grids of all lines, widened together so that workers stay busy.

    Args:
        lines: All different.
        score: Takes points (line, rate) and returns, for each, (score, seconds) of every seed;
            higher is better, and the mean counts.
        grid: The first rates, and how often one may be added beyond a border that wins.
    """
    tried: dict[Line, dict[float, float]] = {line: {} for line in lines}
    seconds: dict[Line, dict[float, float]] = {line: {} for line in tried}
    rates = grid_rates(centre=grid.centre, factor=grid.factor, points=grid.points)
    points = [(line, rate) for line in tried for rate in rates]
    for left in range(grid.widenings, -1, -1):
        for (line, rate), told in zip(points, score(points), strict=True):
            tried[line][rate] = fmean(value for value, _ in told)
            seconds[line][rate] = sum(spent for _, spent in told)
        further = ((line, next_rate(tried[line], factor=grid.factor)) for line in tried)
        points = [(line, rate) for line, rate in further if rate is not None]
        if not (left and points):
            break
    return {
        line: Searched(settle(scores, factor=grid.factor), seconds[line])
        for line, scores in tried.items()
    }


def best_lines(found: Mapping[tuple[str, Any], Searched]) -> set[tuple[str, Any]]:
    """Return, for each name, its line with the highest score; of equal ones the first.

    Args:
        found: Lines (name, setting) to what came of them.
    """
    best: dict[str, tuple[str, Any]] = {}
    for line, searched in found.items():
        held = best.setdefault(line[0], line)
        if searched.choice.score > found[held].choice.score:
            best[line[0]] = line
    return set(best.values())


def _rounded(rate: float) -> float:
    """Round to 6 significant digits, so that 0.003 / 3 is 0.001 and keys compare equal."""
    return float(f"{rate:.6g}")
