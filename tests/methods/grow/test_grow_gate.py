"""The gate opens for the teacher's function and for nothing else."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch
from grow_nets import classifier, images
from torch import nn

from relearn.methods.grow import plan, random_pad, verify
from relearn.methods.grow.faults import FunctionChangedError
from relearn.methods.grow.labels import copies_of
from relearn.methods.grow.spec import DepthSpec, GrowthSpec
from relearn.methods.grow.widen import apply, widened_of
from relearn.provenance import digest_tensors

if TYPE_CHECKING:
    from relearn.methods.grow.record import GrowthRecord

INPUTS = images(3, count=6).float()


def grown(**asked: object) -> tuple[nn.Module, nn.Module, GrowthRecord]:
    teacher = classifier()
    planned = plan(teacher, INPUTS, GrowthSpec(**{"width": 2.0, **asked}))
    student, record = apply(teacher, planned, seed=1)
    return teacher, student, record


def refused(
    teacher: nn.Module, student: nn.Module, record: GrowthRecord | None
) -> FunctionChangedError:
    before = digest_tensors(student.state_dict()), digest_tensors(teacher.state_dict())
    with pytest.raises(FunctionChangedError) as caught:
        verify(teacher, student, INPUTS, record=record)
    assert before == (digest_tensors(student.state_dict()), digest_tensors(teacher.state_dict()))
    return caught.value


def test_the_gate_opens_for_a_grown_net_in_float64_float32_and_training() -> None:
    teacher, student, record = grown()

    report = verify(teacher, student, INPUTS, record=record)

    assert report.passed
    assert report.relative_float64 <= 1e-12
    assert report.rounding_ratio <= 4
    assert report.train_drift is not None
    assert report.train_drift <= 1e-11
    assert report.worst_share_error is not None
    assert report.worst_share_error <= 1e-12
    assert report.agreement == 1.0
    assert set(report.worst_by_input) == {"given", "noise", "zeros", "ten times"}


def test_the_gate_leaves_modes_and_weights_of_both_nets_alone() -> None:
    teacher, student, record = grown()
    teacher.train()
    teacher[1].eval()
    modes = [m.training for m in teacher.modules()]
    before = digest_tensors(teacher.state_dict()), digest_tensors(student.state_dict())

    verify(teacher, student, INPUTS, record=record)

    assert [m.training for m in teacher.modules()] == modes
    assert before == (digest_tensors(teacher.state_dict()), digest_tensors(student.state_dict()))


def test_a_column_that_is_not_divided_is_found_and_its_layer_named() -> None:
    teacher, student, record = grown()
    widened = widened_of(teacher, record)
    columns, rows = widened.columns["4.weight", 1], widened.layout.rows("4.weight", 0).index
    place = int(torch.nonzero(columns.copies == 1)[0])
    with torch.no_grad():
        student[4].weight[:, place] = teacher[4].weight[rows, columns.index[place]]

    error = refused(teacher, student, record)

    assert error.group == "4"
    assert "first layer that is off is 4" in str(error)


def test_statistics_of_one_copy_that_are_left_out_are_found() -> None:
    teacher, student, record = grown()
    rows = widened_of(teacher, record).layout.rows("1.running_mean", 0)
    place = int(torch.nonzero(copies_of(rows.codes) == 1)[0])
    student[1].running_mean[place] = 0.0
    student[1].running_var[place] = 1.0

    assert refused(teacher, student, record).group == "1"


def test_shares_in_float32_are_found() -> None:
    teacher, student, record = grown(width=1.5)
    widened = widened_of(teacher, record)
    columns, rows = widened.columns["4.weight", 1], widened.layout.rows("4.weight", 0).index
    copied = torch.bincount(columns.index)[columns.index] == 2
    assert bool(copied.any())
    third = torch.where(columns.copies == 0, torch.tensor(1 / 3), 1 - torch.tensor(1 / 3))
    with torch.no_grad():  # products of float32 numbers are rounded and do not sum to the weight
        whole = teacher[4].weight[rows][:, columns.index]
        wrong = whole * third.reshape(1, -1, 1, 1)
        student[4].weight.copy_(torch.where(copied.reshape(1, -1, 1, 1), wrong, student[4].weight))

    report = verify(teacher, student, INPUTS, record=record, strict=False)

    assert 1e-12 < report.relative_float64 < 1e-5
    assert not report.passed


def test_an_identity_kernel_off_its_centre_is_found() -> None:
    teacher = classifier()
    deeper = DepthSpec(place="after", path="2", kind="identity", norm=False)
    student, record = apply(teacher, plan(teacher, INPUTS, GrowthSpec(depth=(deeper,))), seed=0)
    verify(teacher, student, INPUTS, record=record)
    with torch.no_grad():
        student[2][1][0].weight.copy_(student[2][1][0].weight.roll(1, -1))

    refused(teacher, student, record)


def test_flattened_columns_in_the_wrong_order_are_found() -> None:
    teacher, student, record = grown()
    name = next(n for n, m in teacher.named_modules() if isinstance(m, nn.Linear))
    widened = widened_of(teacher, record)
    rows = widened.layout.rows(f"{name}.weight", 0).index
    old, layer = teacher.get_submodule(name), student.get_submodule(name)
    wrong = torch.arange(layer.in_features) * old.in_features // layer.in_features
    with torch.no_grad():  # every column beside its copy, instead of every channel's block
        layer.weight.copy_(old.weight[rows][:, wrong] * (old.in_features / layer.in_features))
    assert not torch.equal(wrong, widened.columns[f"{name}.weight", 1].index)

    assert refused(teacher, student, record).group == name


def test_random_padding_does_not_pass() -> None:
    teacher, _, record = grown()

    refused(teacher, random_pad(teacher, record, seed=0).eval(), record)


def test_the_papers_noise_is_told_and_held_to_its_budget() -> None:
    teacher, student, record = grown(symmetry="noise", noise=0.01)

    report = verify(teacher, student, INPUTS, record=record, limit=0.2)

    assert not record.exact
    assert report.passed
    assert 1e-6 < report.relative_float64 < 0.2
    refused(teacher, student, None)


def test_a_student_of_another_shape_is_refused() -> None:
    teacher, _, _ = grown()
    other = copy.deepcopy(teacher)
    other[-1] = nn.Linear(6, 4)

    assert refused(teacher, other, None).operation == "verify"


def test_a_student_that_cannot_run_is_refused() -> None:
    teacher, _, _ = grown()
    other = copy.deepcopy(teacher)
    other[0] = nn.Conv2d(3, 11, 3, padding=1)

    assert "forward fails" in str(refused(teacher, other, None))


def test_numbers_that_are_none_are_not_taken_for_rounding_where_a_stream_is_padded() -> None:
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(8, 6), nn.LayerNorm(6), nn.Linear(6, 3)).eval()
    inputs = torch.randn(4, 8)
    student, record = apply(teacher, plan(teacher, inputs, GrowthSpec(width=1.5)), seed=0)
    assert any(entry.padding for entry in record.maps)
    assert verify(teacher, student, inputs, record=record).passed
    for number in (float("nan"), 3.0):
        other = copy.deepcopy(student)
        with torch.no_grad():
            other[2].weight[0, 0] = number
        with pytest.raises(FunctionChangedError):
            verify(teacher, other, inputs, record=record)
