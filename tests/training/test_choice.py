"""Choosing a rate on a grid that widens: laws for any score."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relearn.training.choice import (
    best_lines,
    choose_rate,
    grid_rates,
    next_rate,
    search_rates,
    settle,
)
from relearn.training.config import GridConfig

GRIDS = {
    "centre": st.sampled_from([0.003, 0.01, 0.3, 1.0]),
    "factor": st.sampled_from([2.0, 3.0, 10.0]),
    "points": st.integers(1, 5),
}


def peaked(at: float) -> Callable[[Sequence[float]], list[float]]:
    return lambda rates: [-abs(math.log(rate / at)) for rate in rates]


@settings(max_examples=100, deadline=None)
@given(**GRIDS)
def test_a_grid_rises_by_its_factor_and_holds_its_centre(centre, factor, points):
    rates = grid_rates(centre=centre, factor=factor, points=points)
    assert len(rates) == points
    assert rates[(points - 1) // 2] == pytest.approx(centre, rel=1e-5)
    assert all(b / a == pytest.approx(factor, rel=1e-5) for a, b in itertools.pairwise(rates))


@settings(max_examples=150, deadline=None)
@given(**GRIDS, exponent=st.floats(-6, 6), widenings=st.integers(0, 12))
def test_the_choice_is_the_best_rate_tried_and_knows_its_border(
    centre, factor, points, exponent, widenings
):
    score = peaked(centre * factor**exponent)
    choice = choose_rate(score, centre=centre, factor=factor, points=points, widenings=widenings)
    assert points <= len(choice.tried) <= points + widenings
    assert choice.score == max(choice.tried.values()) == choice.tried[choice.rate]
    inside = min(choice.tried) < choice.rate < max(choice.tried)
    assert choice.at_border is not inside
    rates = sorted(choice.tried)
    assert all(b / a == pytest.approx(factor, rel=1e-4) for a, b in itertools.pairwise(rates))


@settings(max_examples=60, deadline=None)
@given(**GRIDS, exponent=st.integers(-4, 4))
def test_enough_widenings_find_the_peak_wherever_it_lies(centre, factor, points, exponent):
    at = centre * factor**exponent
    choice = choose_rate(peaked(at), centre=centre, factor=factor, points=points, widenings=12)
    assert choice.rate == pytest.approx(at, rel=1e-3)
    assert not choice.at_border


def test_no_rate_is_scored_twice_and_a_settled_grid_is_not_widened():
    asked: list[float] = []

    def score(rates):
        asked.extend(rates)
        return peaked(0.01)(rates)

    choose_rate(score, centre=0.01, factor=3.0, points=3, widenings=5)
    assert len(asked) == 3
    asked.clear()
    choose_rate(score, centre=1.0, factor=3.0, points=3, widenings=9)
    assert len(asked) == len(set(asked))


def test_a_tie_of_border_and_middle_is_inside():
    tried = {0.1: 0.5, 0.3: 0.5, 1.0: 0.2}
    assert next_rate(tried, factor=3.0) is None
    choice = settle(tried, factor=3.0)
    assert (choice.rate, choice.at_border) == (0.3, False)


def test_the_grid_widens_on_the_side_that_won():
    assert next_rate({0.1: 0.2, 0.3: 0.4, 0.9: 0.6}, factor=3.0) == pytest.approx(2.7)
    assert next_rate({0.1: 0.7, 0.3: 0.4, 0.9: 0.6}, factor=3.0) == pytest.approx(0.1 / 3, rel=1e-4)
    assert next_rate({0.1: 0.2, 0.3: 0.8, 0.9: 0.6}, factor=3.0) is None


def test_without_widenings_a_winning_border_is_told():
    choice = choose_rate(peaked(10.0), centre=0.01, factor=3.0, points=3, widenings=0)
    assert (choice.rate, choice.at_border) == (pytest.approx(0.03), True)


def test_rates_are_round_numbers_so_that_arms_share_keys():
    assert grid_rates(centre=0.003, factor=3.0, points=3) == [0.001, 0.003, 0.009]


PEAKS = {("plain", 0): 0.01, ("plain", 2): 1.0, ("other", 0): 9.0}


@settings(max_examples=60, deadline=None)
@given(**GRIDS, widenings=st.integers(0, 4))
def test_a_search_of_many_lines_chooses_as_each_line_would_alone(centre, factor, points, widenings):
    grid = GridConfig(centre=centre, factor=factor, points=points, widenings=widenings)

    def score(asked):  # two seeds, of which the mean counts
        values = [peaked(PEAKS[line])([rate])[0] for line, rate in asked]
        return [[(value - 1, 2.0), (value + 1, 3.0)] for value in values]

    found = search_rates(PEAKS, score, grid)

    assert list(found) == list(PEAKS)
    for line, at in PEAKS.items():
        alone = choose_rate(
            peaked(at), centre=centre, factor=factor, points=points, widenings=widenings
        )
        choice = found[line].choice
        assert (choice.rate, choice.at_border) == (alone.rate, alone.at_border)
        assert dict(choice.tried) == pytest.approx(dict(alone.tried))
        assert found[line].seconds == dict.fromkeys(alone.tried, 5.0)


def test_a_search_asks_for_all_lines_at_once_and_stops_where_none_wants_more():
    asked = []

    def score(points):
        asked.append([line for line, _ in points])
        return [[(peaked(PEAKS[line])([rate])[0], 1.0)] for line, rate in points]

    search_rates(PEAKS, score, GridConfig(centre=1.0, factor=3.0, points=3, widenings=9))

    assert [len(lines) for lines in asked[:2]] == [9, 2]  # ("plain", 2) is settled at once
    assert ("plain", 2) not in {line for lines in asked[1:] for line in lines}
    assert len(asked) < 10


def test_rows_tell_the_chosen_rate_of_the_line_that_is_taken_alone():
    def score(points):
        return [[(peaked(PEAKS[line])([rate])[0], 1.0)] for line, rate in points]

    grid = GridConfig(centre=1.0, factor=3.0, points=3, widenings=0)
    found = search_rates(PEAKS, score, grid)
    best = best_lines(found)

    assert best == {("plain", 2), ("other", 0)}
    assert [row[3:] for row in found["plain", 2].rows()] == [(False, f) for f in (0, 1, 0)]
    assert [row[3:] for row in found["other", 0].rows()] == [(False, 0), (False, 0), (True, 1)]
    assert not any(any(row[3:]) for row in found["plain", 0].rows(is_best=False))
    assert [row[0] for row in found["plain", 2].rows()] == sorted(found["plain", 2].seconds)


def test_of_equal_lines_the_first_is_the_best_and_one_point_lies_at_no_border():
    grid = GridConfig(centre=1.0, factor=3.0, points=1, widenings=0)
    found = search_rates([("a", 1), ("a", 2)], lambda points: [[(0.5, 1.0)]] * len(points), grid)

    assert best_lines(found) == {("a", 1)}
    assert found["a", 1].rows() == [(1.0, 0.5, 1.0, False, True)]
