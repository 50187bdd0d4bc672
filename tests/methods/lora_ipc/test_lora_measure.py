"""The figures of an arm."""

from __future__ import annotations

import pytest
from tiny_lora_ipc import delivered, figure, learnt

from relearn.methods.lora_ipc.measure import accuracy_matrix, figures

ROWS = [[0.9], [0.5, 0.8], [0.6, 0.9, 0.7]]


def test_the_figures_are_those_worked_out_by_hand():
    found = figures(ROWS, [1, 2, 3])
    assert found["final_average_accuracy"] == pytest.approx((0.6 + 0.9 + 0.7) / 3)
    assert found["average_incremental_accuracy"] == pytest.approx((0.9 + 0.65 + 2.2 / 3) / 3)
    assert found["learning_accuracy"] == pytest.approx((0.9 + 0.8 + 0.7) / 3)
    assert found["forgetting"] == pytest.approx((0.9 - 0.6 + 0.8 - 0.9) / 2)
    assert found["forgetting_clamped"] == pytest.approx((0.9 - 0.6 + 0.0) / 2)
    assert found["backward_transfer"] == pytest.approx((0.6 - 0.9 + 0.9 - 0.8) / 2)


def test_what_was_not_learnt_yet_is_zero_in_the_matrix():
    assert accuracy_matrix(ROWS)[0].tolist() == [0.9, 0.0, 0.0]


def test_one_evaluation_has_no_past():
    assert "forgetting" not in figures([[0.5, 0.6]], [2])


def test_records_hold_the_matrix_the_tables_and_the_costs():
    result, trained = delivered("lorac_ipc"), learnt("lorac_ipc")
    kinds = {r.task for r in result.records}
    tables = {"drift", "importance", "distance", "overlap", "condition", "largest_cross_term"}
    assert kinds >= {"test", "validation", "matrix", "curve", "similarity", *tables}
    matrix = {(r.step, r.metric): r.value for r in result.records if r.task == "matrix"}
    assert len(matrix) == 6
    assert matrix[3, "task_02"] == trained.accuracy["lorac_ipc"][2][1]
    drift = [r for r in result.records if r.task == "drift" and r.step == 2]
    assert {r.metric for r in drift} == set(trained.matrices["drift"][1])
    costs = {r.metric: r.value for r in result.costs}
    assert costs["factors_bytes"] <= costs["stored_bytes"]
    assert costs["bytes_per_task"] == pytest.approx(costs["stored_bytes"] / 3)
    assert costs["seconds_per_step"] * trained.steps == pytest.approx(costs["learn_seconds"])


def test_each_reading_has_figures_of_its_own():
    assert figure("lorac_ipc_tii", "task_id_accuracy") > 0.4
    tasks = {r.metric for r in delivered("lorac_ipc").records if r.task == "test"}
    assert "task_id_accuracy" not in tasks


def test_the_similarity_of_tasks_is_that_of_the_backbone_for_all_arms():
    one = [r.value for r in delivered("lorac_ipc").records if r.task == "similarity"]
    two = [r.value for r in delivered("ncm").records if r.task == "similarity"]
    assert one == pytest.approx(two, abs=1e-6)
    assert one[::4] == pytest.approx([1.0, 1.0, 1.0])
