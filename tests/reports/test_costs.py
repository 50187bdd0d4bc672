"""Costs: ratios to the baseline, and what is missing stays missing."""

from __future__ import annotations

import pandas as pd
import pytest
from made_up import zap_costs

from relearn.errors import EvidenceError
from relearn.reports.costs import cost_grid, cost_of, cost_ratio, cost_table, one_per_training


def test_the_ratio_is_the_mean_over_that_of_the_baseline():
    table = cost_table(zap_costs(ratio=1.25), method="zap", baseline="iid")
    assert cost_ratio(table, arm="iid_zap") == pytest.approx(1.25)
    assert cost_ratio(table, arm="iid") == pytest.approx(1.0)
    assert cost_of(table, arm="iid") == pytest.approx(21.0)


def test_costs_that_were_not_measured_have_no_ratio():
    assert cost_ratio(cost_table(pd.DataFrame(), method="zap", baseline="iid"), arm="x") is None
    table = cost_table(zap_costs(), method="zap", baseline="not there")
    assert cost_ratio(table, arm="iid_zap") is None


def test_a_baseline_cost_of_zero_has_no_ratio():
    costs = zap_costs().assign(value=0.0)
    assert cost_ratio(cost_table(costs, method="zap", baseline="iid"), arm="iid_zap") is None


def test_a_cost_that_is_not_finite_is_refused():
    costs = zap_costs()
    costs.loc[0, "value"] = float("nan")
    with pytest.raises(EvidenceError, match=r"zap\.costs"):
        cost_table(costs, method="zap", baseline="iid")


def test_the_reading_table_has_a_cell_per_arm_and_bytes_in_mebibytes():
    table = cost_table(zap_costs(), method="zap", baseline="iid").to_dict("records")
    heads, rows = cost_grid(table)
    rows = dict(rows)
    assert len(rows["train seconds"]) == len(heads) == 4
    assert rows["peak memory"][0] == "772 MiB (1.00x)"


def test_many_arms_stand_below_each_other_with_the_same_cells():
    table = cost_table(zap_costs(), method="zap", baseline="iid").to_dict("records")
    heads, rows = cost_grid(table)
    abreast = {
        (label, arm): c for label, cells in rows for arm, c in zip(heads, cells, strict=True)
    }
    more = [
        row | {"arm": f"{row['arm']}_{k}", "mean": row["mean"] * (1 + k)}
        for row in table
        for k in range(2)
    ]

    heads, rows = cost_grid(more)

    below = {(b, a): c for a, cells in rows for b, c in zip(heads, cells, strict=True)}
    assert [label for label, _ in rows] == list(dict.fromkeys(row["arm"] for row in more))
    assert {
        (h, a.removesuffix("_0")): c for (h, a), c in below.items() if a.endswith("_0")
    } == abreast


def test_shares_and_times_too_short_to_feel_have_no_ratio():
    rows = [
        ("iid", "change_percent", 0.007),
        ("iid_zap", "change_percent", 2.7),
        ("iid", "forget_seconds", 0.0016),
        ("iid_zap", "forget_seconds", 0.08),
        ("iid", "train_seconds", 10.0),
        ("iid_zap", "train_seconds", 12.0),
    ]
    like = zap_costs(ratio=1.0).iloc[0].to_dict()
    costs = pd.DataFrame(
        [like | {"arm": arm, "metric": metric, "value": value} for arm, metric, value in rows]
    )
    table = cost_table(costs, method="zap", baseline="iid")
    told = {m: cost_ratio(table, arm="iid_zap", metric=m) for m in table["metric"]}
    assert told == {
        "change_percent": None,
        "forget_seconds": None,
        "train_seconds": pytest.approx(1.2),
    }


def test_a_training_read_otherwise_is_left_out_but_where_it_is_named():
    like = zap_costs().iloc[0].to_dict()
    spent = {"lorac": 10.0, "lorac_tii": 10.0, "lorac_hard": 11.0, "ncm": 10.0}
    rows = [like | {"arm": arm, "value": value} for arm, value in spent.items()]
    table = cost_table(pd.DataFrame(rows), method="lora_ipc", baseline="lorac")
    assert set(one_per_training(table)["arm"]) == {"lorac", "lorac_hard", "ncm"}
    assert set(one_per_training(table, named=("lorac_tii",))["arm"]) == set(spent)
