"""Pairing, refusals and the rows of the comparison."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from made_up import compare_config, evidence, rows_of, zap_records
from scipy import stats

from relearn.errors import EvidenceError
from relearn.reports.comparison import compare_arms, compare_method, final_values
from relearn.reports.questions import OVER_SHAM, SHAM, questions_of

IID = [0.658, 0.682, 0.680]
ZAP = [0.772, 0.772, 0.812]


def question(**changes):
    return questions_of("zap", evidence(**changes), compare_config())[0]


def test_the_difference_is_treated_minus_baseline_seed_by_seed():
    records = rows_of({"iid": IID, "iid_zap": ZAP}).sample(frac=1, random_state=0)
    found = compare_arms(records, question())
    assert found.difference.mean == pytest.approx(np.mean(ZAP) - np.mean(IID))
    assert found.difference.p_value == pytest.approx(stats.ttest_rel(ZAP, IID).pvalue)
    assert found.seeds == (0, 1, 2)


def test_the_final_value_is_the_one_at_the_largest_step():
    early = rows_of({"iid": [0.9], "iid_zap": [0.9]}, step=6)
    late = rows_of({"iid": [0.1], "iid_zap": [0.2]}, step=24)
    final = final_values(pd.concat([late, early]), task="few_shot", metric="accuracy")
    assert final["value"].tolist() == [0.1, 0.2]


def test_where_lower_is_better_a_fall_is_a_gain():
    records = rows_of({"iid": ZAP, "iid_zap": IID}, metric="forgetting")
    found = compare_arms(records, question(direction="lower", headline_metric="forgetting"))
    assert found.difference.mean < 0 < found.gain[0]
    assert found.gain[1:] == (-found.difference.high, -found.difference.low)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: r[~((r.arm == "iid_zap") & (r.seed == 2))], "seeds without a partner: 2"),
        (lambda r: r[r.arm != "iid_zap"], "did you mean|no few_shot.accuracy of arm 'iid_zap'"),
        (lambda r: pd.concat([r, r.head(1)]), "occurs more than once"),
        (lambda r: r.assign(value=np.nan), "not a finite number"),
        (lambda r: r.assign(value=np.inf), "not a finite number"),
        (lambda r: r.drop(columns="step"), "columns step are missing"),
    ],
)
def test_records_that_cannot_be_paired_are_refused_in_one_line(spoil, message):
    records = spoil(rows_of({"iid": IID, "iid_zap": ZAP}))
    with pytest.raises(EvidenceError, match=message) as caught:
        compare_arms(records, question())
    assert "\n" not in str(caught.value)


def test_a_misspelt_arm_gets_a_near_miss():
    records = rows_of({"iid": IID, "iid_zap": ZAP})
    with pytest.raises(EvidenceError, match=r"treated_arm.*did you mean iid_zap"):
        compare_arms(records, question(treated_arm="iid_zapp"))


def test_few_pairs_are_a_pilot_and_enough_are_a_claim():
    records = rows_of({"iid": IID, "iid_zap": ZAP})
    assert compare_arms(records, question()).as_row()["label"] == "pilot"
    assert compare_arms(records, question(minimum_seeds=3)).as_row()["label"] == "claim"


@pytest.mark.parametrize(("seeds", "expected"), [(9, False), (10, True)])
def test_a_bootstrap_appears_from_ten_pairs_on(seeds, expected):
    records = zap_records(seeds=seeds)
    found = compare_arms(records, question(), config=compare_config())
    assert (found.bootstrap is not None) == expected


def test_sham_and_secondary_rows_follow_the_headline():
    found = compare_method(
        zap_records(), method="zap", evidence=evidence(), config=compare_config()
    )
    assert [c.question.name for c in found] == ["headline", SHAM, OVER_SHAM, "continual"]


def test_holm_counts_headline_and_secondary_and_leaves_the_sham_out():
    found = compare_method(
        zap_records(), method="zap", evidence=evidence(), config=compare_config()
    )
    head, sham, over, continual = found
    raw = sorted([head.difference.p_value, continual.difference.p_value])
    assert sorted([head.p_holm, continual.p_holm]) == pytest.approx(
        [min(1, 2 * raw[0]), max(2 * raw[0], raw[1])]
    )
    assert sham.p_holm is None
    assert over.p_holm is None


def test_a_secondary_arm_without_records_reads_not_measured():
    records = zap_records()
    records = records[records["task"] != "continual"]
    last = compare_method(records, method="zap", evidence=evidence(), config=compare_config())[-1]
    assert last.status == "not measured"
    assert "continual.accuracy" in last.reason


def test_an_empty_table_reads_not_run():
    (found,) = compare_method(
        pd.DataFrame(), method="zap", evidence=evidence(), config=compare_config()
    )
    assert found.as_row()["label"] == "not run"
    assert found.as_row()["difference"] is None


def test_the_headline_named_again_counts_once():
    asked = evidence(headline_task="continual")
    found = compare_method(zap_records(), method="zap", evidence=asked, config=compare_config())
    assert [c.question.name for c in found] == ["headline", SHAM, OVER_SHAM]
    assert found[0].p_holm == found[0].difference.p_value
