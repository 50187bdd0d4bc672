"""Statistics of paired differences, each by two roads."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from relearn.reports.paired import (
    bootstrap_interval,
    equivalence_p,
    holm,
    paired_interval,
    seeds_needed,
)

BEFORE = [0.658, 0.682, 0.680, 0.671, 0.665]
AFTER = [0.772, 0.772, 0.812, 0.760, 0.781]
DIFFERENCES = [b - a for a, b in zip(BEFORE, AFTER, strict=True)]


def test_the_interval_is_that_of_scipys_paired_test():
    found = paired_interval(DIFFERENCES, 0.95)
    other = stats.ttest_rel(AFTER, BEFORE)
    ends = other.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((ends.low, ends.high))
    assert found.p_value == pytest.approx(other.pvalue)


def test_the_interval_of_three_pairs_agrees_with_the_printed_table_of_student():
    # Omniglot, zero head, three seeds: differences .114, .090, .132; t(0.975, 2) = 4.303.
    found = paired_interval([0.114, 0.090, 0.132], 0.95)
    mean = 0.112
    half = 4.303 * 0.021071 / 3**0.5
    assert (found.mean, found.high) == pytest.approx((mean, mean + half), abs=1e-4)


def test_one_pair_has_no_interval():
    found = paired_interval([0.05], 0.95)
    assert (found.low, found.high, found.p_value, found.has_spread) == (None, None, None, False)
    assert equivalence_p(found, 0.1) is None


def test_equal_differences_have_no_spread_and_no_p():
    found = paired_interval([0.1 + 0.2, 0.3, 0.3], 0.95)
    assert not found.has_spread
    assert found.p_value is None


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=12), st.floats(0.01, 0.5))
@settings(deadline=None, max_examples=60)
def test_equivalence_says_what_the_interval_says(differences, margin):
    found = paired_interval(differences, 0.95)
    if not found.has_spread:
        return
    inside = -margin < found.low and found.high < margin
    assert (equivalence_p(found, margin) < 0.025) == inside


def test_equivalence_agrees_with_two_one_sided_tests_of_scipy():
    found = paired_interval(DIFFERENCES, 0.95)
    above = stats.ttest_1samp(DIFFERENCES, -0.2, alternative="greater").pvalue
    below = stats.ttest_1samp(DIFFERENCES, 0.2, alternative="less").pvalue
    assert equivalence_p(found, 0.2) == pytest.approx(max(above, below))


def test_holm_by_hand():
    # Sorted .01 .02 .03 .04: times 4 3 2 1 = .04 .06 .06 .04, made monotone: .04 .06 .06 .06
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_gives_the_smallest_p_bonferronis_and_lowers_none(p_values):
    adjusted = holm(p_values)
    assert min(adjusted) == min(1.0, len(p_values) * min(p_values))
    assert all(raw <= found <= 1 for raw, found in zip(p_values, adjusted, strict=True))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
def test_holm_keeps_the_order_of_p_values(p_values):
    adjusted = holm(p_values)
    order = np.argsort(p_values, kind="stable")
    assert (np.diff(np.asarray(adjusted)[order]) >= 0).all()


def test_the_bootstrap_comes_near_the_normal_interval_and_repeats_itself():
    values = list(np.random.default_rng(1).normal(0.05, 0.02, 40))
    low, high = bootstrap_interval(values, confidence=0.95, draws=5000, seed=3)
    half = 1.96 * np.std(values) / 40**0.5
    assert (low, high) == pytest.approx((np.mean(values) - half, np.mean(values) + half), abs=0.001)
    assert (low, high) == bootstrap_interval(values, confidence=0.95, draws=5000, seed=3)


def test_the_number_of_seeds_is_the_first_that_is_enough():
    count = seeds_needed(0.02, 0.015, 0.95)
    half = [stats.t.ppf(0.975, n - 1) * 0.02 / n**0.5 for n in (count - 1, count)]
    assert half[1] < 0.015 <= half[0]


def test_too_wide_a_spread_asks_for_no_number_of_seeds():
    assert seeds_needed(1.0, 0.001, 0.95) is None
