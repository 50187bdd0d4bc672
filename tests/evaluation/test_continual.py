"""Measures of continual learning on matrices worked out by hand, and their laws."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relearn.errors import ParameterError
from relearn.evaluation.continual import (
    average_accuracy,
    average_incremental_accuracy,
    backward_transfer,
    backward_transfer_of_earlier,
    forgetting,
    forgetting_clamped,
    forgetting_of_earlier,
    learning_accuracy,
    seen_accuracy,
)

# Rows: after 1, 2 and 3 tasks; columns: accuracy on tasks 0, 1, 2.
MATRIX = torch.tensor([[0.9, 0.1, 0.0], [0.5, 0.8, 0.2], [0.6, 0.4, 0.7]], dtype=torch.float64)
LEARNT = (1, 2, 3)


def test_the_average_is_that_of_the_last_row():
    assert average_accuracy(MATRIX) == pytest.approx((0.6 + 0.4 + 0.7) / 3)


def test_seen_accuracy_counts_the_tasks_learnt_so_far():
    found = seen_accuracy(MATRIX, LEARNT)
    assert found.tolist() == pytest.approx([0.9, (0.5 + 0.8) / 2, (0.6 + 0.4 + 0.7) / 3])


def test_forgetting_is_best_since_learnt_less_final():
    # task 0: .9 - .6; task 1: .8 - .4; task 2: .7 - .7
    assert forgetting(MATRIX, LEARNT) == pytest.approx((0.3 + 0.4 + 0.0) / 3)


def test_backward_transfer_is_final_less_first():
    # task 0: .6 - .9; task 1: .4 - .8; task 2: 0
    assert backward_transfer(MATRIX, LEARNT) == pytest.approx((-0.3 - 0.4) / 3)


def test_a_lucky_score_before_a_task_was_learnt_is_not_forgotten():
    matrix = torch.tensor([[0.9, 0.9], [0.9, 0.5]], dtype=torch.float64)
    assert forgetting(matrix, (1, 2)) == 0.0
    assert backward_transfer(matrix, (1, 2)) == 0.0


def test_evaluations_now_and_then_judge_a_task_from_the_first_that_has_seen_it():
    matrix = torch.tensor(
        [[1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.75, 0.0], [0.25, 0.75, 0.25, 1.0]], dtype=torch.float64
    )
    learnt = (1, 3, 4)
    assert seen_accuracy(matrix, learnt).tolist() == pytest.approx([1.0, 1.75 / 3, 2.25 / 4])
    assert forgetting(matrix, learnt) == pytest.approx((0.75 + 0.0 + 0.5 + 0.0) / 4)
    assert backward_transfer(matrix, learnt) == pytest.approx((-0.75 + 0.25 - 0.5 + 0.0) / 4)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), tasks=st.integers(1, 6))
def test_forgetting_agrees_with_a_plain_loop_and_bounds_backward_transfer(seed, tasks):
    draw = torch.Generator().manual_seed(seed)
    matrix = torch.rand(tasks, tasks, generator=draw, dtype=torch.float64)
    learnt = tuple(range(1, tasks + 1))
    lost = [
        max(float(matrix[row, task]) for row in range(task, tasks)) - float(matrix[-1, task])
        for task in range(tasks)
    ]
    found = forgetting(matrix, learnt)
    assert found == pytest.approx(sum(lost) / tasks)
    assert found >= 0
    assert found >= -backward_transfer(matrix, learnt) - 1e-12
    assert seen_accuracy(matrix, learnt)[-1] == pytest.approx(average_accuracy(matrix))


def test_nothing_changes_nothing_is_forgotten():
    matrix = torch.full((4, 4), 0.5, dtype=torch.float64)
    assert forgetting(matrix, (1, 2, 3, 4)) == 0.0
    assert backward_transfer(matrix, (1, 2, 3, 4)) == 0.0


def test_forgetting_of_earlier_tasks_leaves_the_last_model_out_of_the_best():
    # task 0: max(.9, .5) - .6; task 1: .8 - .4; the last task is not counted
    assert forgetting_of_earlier(MATRIX, LEARNT) == pytest.approx((0.3 + 0.4) / 2)
    better = torch.tensor([[0.5, 0.0], [0.7, 0.9]], dtype=torch.float64)
    assert forgetting_of_earlier(better, (1, 2)) == pytest.approx(-0.2)
    assert forgetting_clamped(better, (1, 2)) == 0.0
    assert backward_transfer_of_earlier(better, (1, 2)) == pytest.approx(0.2)


def test_learning_accuracy_is_the_first_look_at_each_task():
    assert learning_accuracy(MATRIX, LEARNT) == pytest.approx((0.9 + 0.8 + 0.7) / 3)
    # two tasks are seen for the first time at one evaluation
    assert learning_accuracy(MATRIX[1:], (2, 3)) == pytest.approx((0.5 + 0.8 + 0.7) / 3)


def test_incremental_accuracy_is_the_mean_of_the_retention_curve():
    expected = (0.9 + 0.65 + 1.7 / 3) / 3
    assert average_incremental_accuracy(MATRIX, LEARNT) == pytest.approx(expected)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), tasks=st.integers(2, 6))
def test_the_conventions_differ_by_what_they_count(seed, tasks):
    draw = torch.Generator().manual_seed(seed)
    matrix = torch.rand(tasks, tasks, generator=draw, dtype=torch.float64)
    learnt = tuple(range(1, tasks + 1))
    lost = [
        max(float(matrix[row, task]) for row in range(task, tasks - 1)) - float(matrix[-1, task])
        for task in range(tasks - 1)
    ]
    assert forgetting_of_earlier(matrix, learnt) == pytest.approx(sum(lost) / (tasks - 1))
    clamped = forgetting_clamped(matrix, learnt)
    assert clamped == pytest.approx(sum(max(0.0, each) for each in lost) / (tasks - 1))
    assert clamped == pytest.approx(forgetting(matrix, learnt) * tasks / (tasks - 1))
    scaled = backward_transfer(matrix, learnt) * tasks / (tasks - 1)
    assert backward_transfer_of_earlier(matrix, learnt) == pytest.approx(scaled)
    # what was learnt, less what transfer took, is what is left of all tasks
    left = learning_accuracy(matrix, learnt) + backward_transfer(matrix, learnt)
    assert left == pytest.approx(average_accuracy(matrix))


@pytest.mark.parametrize(
    "measure", [forgetting_of_earlier, forgetting_clamped, backward_transfer_of_earlier]
)
def test_one_task_has_no_earlier_ones(measure):
    with pytest.raises(ParameterError, match=r"two tasks or more|expected 2 or more"):
        measure(torch.ones(1, 1), (1,))
