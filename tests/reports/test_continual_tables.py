"""Tables of tasks learnt one after the other, from records that were made up by hand."""

from __future__ import annotations

import pandas as pd
import pytest

from relearn.reports.continual_figures import drift_table
from relearn.reports.continual_tables import (
    order_rows,
    orthogonality_rows,
    similarity_rows,
    stability_rows,
)


def table(*rows):
    columns = ["arm", "seed", "task", "step", "metric", "value"]
    return pd.DataFrame(rows, columns=columns)


def frozen(*rows):
    made = pd.DataFrame(rows, columns=["arm", "seed", "target"])
    return made.assign(kind="freeze_matrix")


def test_an_order_is_a_seed_and_readings_of_a_training_are_left_out():
    rows = []
    for seed, accuracy, lost in ((0, 0.5, 0.1), (1, 0.7, 0.3)):
        for arm in ("lorac", "lorac_tii"):
            rows.append((arm, seed, "test", 3, "final_average_accuracy", accuracy))
            rows.append((arm, seed, "test", 3, "forgetting", lost))
        rows.append(("joint", seed, "test", 3, "final_average_accuracy", 0.9))
    lorac, joint = order_rows(table(*rows))
    assert (lorac["arm"], lorac["orders"]) == ("lorac", 2)
    assert lorac["accuracy"] == pytest.approx(0.6)
    assert lorac["sd_of_accuracy"] == pytest.approx(0.02**0.5)
    assert (lorac["lowest_forgetting_accuracy"], lorac["highest_accuracy"]) == (0.1, 0.7)
    assert joint["sd_of_accuracy"] == 0
    assert joint["forgetting_accuracy"] is None


def test_one_order_has_no_spread():
    (row,) = order_rows(table(("a", 0, "test", 1, "final_average_accuracy", 0.5)))
    assert row["sd_of_accuracy"] is None


def test_orthogonality_is_that_of_the_last_task_and_costs_are_over_none():
    rows = [
        (arm, 0, name, step, matrix, value * factor)
        for arm, factor in (("lorac_ipc", 1.0), ("lorac_ipc_no_ortho", 3.0))
        for name in ("largest_cosine", "distance", "condition")
        for step, matrix, value in ((1, "0.q", 9.0), (2, "0.q", 0.1), (2, "0.k", 0.3))
    ]
    costs = table(
        ("lorac_ipc", 0, "cost", 0, "train_seconds", 6.0),
        ("lorac_ipc_no_ortho", 0, "cost", 0, "train_seconds", 4.0),
    )
    soft, off = orthogonality_rows(table(*rows), costs)
    assert (soft["matrix"], soft["largest_cosine"]) == ("0.k", 0.3)
    assert soft["mean_distance"] == pytest.approx(0.2)
    assert soft["seconds_over_off"] == pytest.approx(1.5)
    assert off["largest_condition"] == pytest.approx(0.9)
    assert off["seconds_over_off"] == 1
    alone = orthogonality_rows(table(*rows[:9]), costs[:1])
    assert alone[0]["seconds_over_off"] is None


def test_similarity_counts_each_pair_of_tasks_once():
    cosines = [[1.0, 0.2, -0.4], [0.2, 1.0, 0.8], [-0.4, 0.8, 1.0]]
    rows = [
        (arm, 7, "similarity", one + 1, f"task_{other + 1:02d}", value)
        for arm in ("a", "b")
        for one, line in enumerate(cosines)
        for other, value in enumerate(line)
    ]
    (row,) = similarity_rows(table(*rows))
    assert row["mean_cosine"] == pytest.approx(0.2)
    assert (row["seed"], row["lowest"], row["highest"]) == ("7", -0.4, 0.8)
    assert similarity_rows(table()) == []


def test_seeds_that_freeze_the_same_overlap_fully_and_others_not():
    rows = [
        ("lorac_ipc", seed, "importance", 1, f"0.{n}", value)
        for seed, values in ((0, (1, 2, 3, 4)), (1, (10, 20, 30, 40)))
        for n, value in enumerate(values)
    ]
    ledger = frozen(*[("lorac_ipc", seed, f"0.{n}") for seed in (0, 1) for n in (0, 1)])
    (row,) = stability_rows(table(*rows), ledger)
    assert row["rank_correlation"] == pytest.approx(1)
    assert (row["frozen"], row["frozen_overlap"]) == (2, 1)
    assert row["overlap_by_chance"] == pytest.approx(1 / 3)
    apart = frozen(("lorac_ipc", 0, "0.0"), ("lorac_ipc", 1, "0.1"))
    assert stability_rows(table(*rows), apart)[0]["frozen_overlap"] == 0
    assert stability_rows(table(*rows), frozen(("lorac_ipc", 0, "0.0")))[0]["seeds"] == 1
    assert stability_rows(table(*rows), pd.DataFrame()) == []


def test_drift_is_summed_over_tasks_and_averaged_over_seeds():
    rows = [
        ("lorac", seed, "drift", step, "1.fc1", value)
        for seed, step, value in ((0, 1, 1.0), (0, 2, 2.0), (1, 1, 5.0), (1, 2, 0.0))
    ]
    assert drift_table(table(*rows), arm="lorac").loc[1, "fc1"] == 4
