"""What a curve tells: targets, dips, areas."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relearn.errors import ParameterError
from relearn.methods.grow.reach import area_under, dip_of, steps_to

CURVES = st.lists(st.floats(0, 1), min_size=2, max_size=12)


def test_a_single_crossing_is_not_reaching():
    steps, values = [0, 10, 20, 30, 40, 50], [0.4, 0.6, 0.4, 0.6, 0.7, 0.6]
    assert steps_to(steps, values, target=0.5, sustained=1).steps == 10
    found = steps_to(steps, values, target=0.5, sustained=3)
    assert (found.reached, found.steps) == (True, 30)


def test_a_run_that_never_got_there_is_cut_off_at_its_length():
    found = steps_to([0, 10, 20], [0.1, 0.2, 0.9], target=0.5, sustained=2)
    assert (found.reached, found.steps) == (False, 20)


@given(CURVES, st.floats(0, 1))
def test_a_lower_target_is_never_reached_later(values, target):
    steps = list(range(len(values)))
    high = steps_to(steps, values, target=target, sustained=2)
    low = steps_to(steps, values, target=target / 2, sustained=2)
    assert low.steps <= high.steps
    assert low.reached >= high.reached


def test_the_dip_is_what_lies_before_the_recovery():
    steps, values = [0, 5, 10, 15, 20], [0.8, 0.6, 0.8, 0.82, 0.5]
    found = dip_of(steps, values, level=0.8, tolerance=0.0, sustained=2)
    assert (round(found.depth, 6), found.step, found.recovered, found.steps) == (0.2, 5, True, 10)


def test_no_dip_is_a_dip_of_zero():
    found = dip_of([0, 5], [0.8, 0.9], level=0.8, tolerance=0.0, sustained=1)
    assert (found.depth, found.step, found.recovered, found.steps) == (0.0, 0, True, 0)


@given(CURVES)
def test_the_area_lies_between_lowest_and_highest_value(values):
    steps = [3 * n for n in range(len(values))]
    for until in (1, steps[-1], steps[-1] + 7):
        assert min(values) - 1e-9 <= area_under(steps, values, until=until) <= max(values) + 1e-9


def test_the_area_of_a_line_is_its_middle_and_is_cut_off_inside_a_step():
    assert area_under([0, 10], [0.0, 1.0], until=10) == pytest.approx(0.5)
    assert area_under([0, 10], [0.0, 1.0], until=5) == pytest.approx(0.25)
    assert area_under([0, 10], [0.0, 1.0], until=20) == pytest.approx(0.75)


def test_an_empty_curve_is_refused():
    with pytest.raises(ParameterError, match="curve"):
        steps_to([], [], target=0.5, sustained=1)
    with pytest.raises(ParameterError, match="until"):
        area_under([0, 1], [0, 1], until=0)
