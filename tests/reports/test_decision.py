"""Laws of the decision table and of the words that say it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import compare_config, evidence, rows_of

from relearn.reports.comparison import compare_method
from relearn.reports.decision import decide
from relearn.reports.names import TITLES
from relearn.reports.wording import scale_of, words_of
from relearn.reports.wording_ja import words_ja

NO_SHAM = {"sham_arm": "", "minimum_seeds": 5}
BASE = [0.50, 0.52, 0.49, 0.51, 0.50]


def decision_on(differences, *, cost_ratio=1.0, gate="", sham=None, **changes):
    asked = evidence(**{**NO_SHAM, **changes})
    base = [0.5 + 0.01 * (i % 3) for i in range(len(differences))]
    arms = {"iid": base, "iid_zap": [b + d for b, d in zip(base, differences, strict=True)]}
    if sham is not None:
        arms["iid_moments"] = [b + d for b, d in zip(base, sham, strict=True)]
    rows = compare_method(
        rows_of(arms), method="zap", evidence=asked, config=compare_config(secondary={})
    )
    return decide(rows, asked, cost_ratio=cost_ratio, gate=gate), asked


CLEAR = [0.050, 0.055, 0.045, 0.052, 0.048]
EXAMPLES = {
    "adopt": CLEAR,
    "hold": [0.05, -0.04, 0.06, -0.03, 0.02],
    "no benefit": [0.001, -0.001, 0.002, -0.002, 0.000],
    "harmful": [-d for d in CLEAR],
}


@pytest.mark.parametrize("verdict", EXAMPLES)
def test_each_verdict_has_its_case(verdict):
    assert decision_on(EXAMPLES[verdict])[0].verdict == verdict


def test_a_pilot_never_adopts_however_clear():
    found, _ = decision_on([0.050, 0.051, 0.052])
    assert (found.verdict, found.reasons, found.more_seeds) == ("hold", ("pilot",), 2)


def test_a_cost_above_the_limit_holds_a_clear_gain():
    found, asked = decision_on(CLEAR, cost_ratio=2.0)
    assert (found.verdict, found.reasons) == ("hold", ("cost",))
    assert "2.00 times" in words_of(found, asked)
    assert "1.5 times" in words_of(found, asked)


def test_a_cost_that_was_not_measured_holds_a_clear_gain():
    assert decision_on(CLEAR, cost_ratio=None)[0].reasons == ("cost unknown",)


def test_a_sham_that_gains_as_much_holds_and_says_so():
    found, asked = decision_on(CLEAR, sham=[d + 0.001 for d in CLEAR], sham_arm="iid_moments")
    assert (found.verdict, found.reasons) == ("hold", ("sham",))
    assert "cannot be credited to the idea" in words_of(found, asked)


def test_a_sham_that_gains_nothing_lets_it_pass():
    still = [0.001, -0.001, 0.002, 0.0, -0.002]
    assert decision_on(CLEAR, sham=still, sham_arm="iid_moments")[0].verdict == "adopt"


def test_a_sham_that_was_named_and_not_run_holds():
    assert decision_on(CLEAR, sham_arm="iid_moments")[0].reasons == ("sham unknown",)


def test_a_gain_below_the_smallest_difference_is_not_adopted():
    found, _ = decision_on(CLEAR, smallest_difference=0.053)
    assert (found.verdict, found.reasons) == ("hold", ("small",))
    assert decision_on(CLEAR, smallest_difference=0.2)[0].verdict == "no benefit"


def test_one_pair_holds():
    found, asked = decision_on([0.3])
    assert (found.verdict, found.reasons) == ("hold", ("one pair",))
    assert "no interval" in words_of(found, asked)


def test_arms_that_are_equal_in_every_pair_bring_no_benefit():
    assert decision_on([0.0] * 5)[0].reasons == ("no change",)


def test_a_gate_says_not_measured_and_why():
    found, asked = decision_on(CLEAR, gate="The backbone is no better than raw pixels.")
    assert found.verdict == "not measured"
    assert words_of(found, asked).endswith("raw pixels.")


def test_holm_can_hold_what_the_interval_alone_would_adopt():
    from dataclasses import replace

    found, asked = decision_on(CLEAR)
    doubtful = replace(found.headline, p_holm=0.2)
    assert decide([doubtful], asked, cost_ratio=1.0).reasons == ("holm",)


differences = st.lists(st.floats(-0.2, 0.2).map(lambda v: round(v, 4)), min_size=2, max_size=12)


@given(differences, st.floats(0.2, 3.0))
@settings(deadline=None, max_examples=150)
def test_no_verdict_is_stronger_than_its_interval(found, ratio):
    decision, asked = decision_on(found, cost_ratio=ratio)
    gain, delta = decision.headline.gain, asked.smallest_difference
    if decision.verdict == "adopt":
        assert gain[1] > 0
        assert gain[0] >= delta
        assert len(found) >= asked.minimum_seeds
        assert ratio <= asked.largest_cost_ratio
    if decision.verdict == "harmful":
        assert gain[2] < 0
    if decision.verdict == "no benefit":
        inside = gain[2] < asked.equivalence_margin and gain[1] > -asked.equivalence_margin
        assert gain[2] < delta or inside or set(found) == {0.0}
    assert decision.keeps_baseline == (decision.verdict != "adopt")


@given(differences)
@settings(deadline=None, max_examples=60)
def test_turning_the_metric_round_turns_no_verdict(found):
    higher, _ = decision_on(found)
    lower, _ = decision_on([-d for d in found], direction="lower")
    assert (higher.verdict, higher.reasons) == (lower.verdict, lower.reasons)


@given(differences, st.floats(0.2, 3.0))
@settings(deadline=None, max_examples=60)
def test_the_words_name_the_verdict_and_both_ends_of_the_interval(found, ratio):
    decision, asked = decision_on(found, cost_ratio=ratio)
    words, japanese = words_of(decision, asked), words_ja(decision)
    assert words.lower().startswith(decision.verdict)
    interval = decision.headline.difference
    scale = scale_of("accuracy")
    for end in (interval.low, interval.high):
        assert scale.signed(end) in words
        assert scale.signed(end) in japanese


def test_pilots_say_that_they_are_pilots_whatever_the_verdict():
    for values in ([0.05, 0.051, 0.052], [-0.05, -0.051, -0.052], [0.05, -0.05, 0.02]):
        found, asked = decision_on(values)
        assert "pilot" in words_of(found, asked)
        assert "予備試験" in words_ja(found)


def test_more_seeds_are_enough_if_mean_and_spread_stay():
    found, asked = decision_on([0.05, -0.01, 0.06, 0.00, 0.02])
    assert found.reasons == ("inconclusive",)
    from relearn.reports.paired import seeds_needed

    total = 5 + found.more_seeds
    sd, mean = found.headline.difference.sd, found.headline.difference.mean
    assert total == seeds_needed(sd, mean, 0.95)
    assert re.search(rf"About {found.more_seeds} more paired seeds?", words_of(found, asked))


def test_every_method_has_a_title_in_plain_words():
    from relearn.reports.config import METHODS

    assert set(TITLES) == set(METHODS)


def test_zero_is_never_shown_with_a_minus():
    assert scale_of("accuracy").difference(-0.0001) == "+0.0 points"
