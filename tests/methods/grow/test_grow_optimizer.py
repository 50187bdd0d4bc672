"""Moments that are carried over are those that the student's own gradients obey."""

from __future__ import annotations

import copy

import pytest
import torch
from grow_nets import classifier, images, random_net
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from relearn.methods.grow import apply, plan, transfer_optimizer
from relearn.methods.grow.faults import GrowthError
from relearn.methods.grow.spec import DepthSpec, GrowthSpec

INPUTS = images(1, count=6)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
NAMES = ["norm", "relu", "add", "strided", "squeeze", "depthwise", "cat", "norm", "gelu"]


def teacher_of(seed: int = 0) -> nn.Module:
    return random_net(NAMES, "flatten", seed=seed).train()


def gradients(net: nn.Module) -> list[torch.Tensor]:
    loss = nn.functional.cross_entropy(net(INPUTS), LABELS)
    return list(torch.autograd.grad(loss, list(net.parameters())))


def trained(teacher: nn.Module, optimizer: Optimizer, steps: int = 3) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(teacher(INPUTS), LABELS).backward()
        optimizer.step()


@pytest.mark.parametrize("symmetry", ["uneven", "none"])
@pytest.mark.parametrize("width", [1.5, 2.0, 3.0])
def test_first_moments_follow_the_students_own_gradients(symmetry: str, width: float) -> None:
    teacher = teacher_of()
    spec = GrowthSpec(width=width, symmetry=symmetry)
    student, record = apply(teacher, plan(teacher, INPUTS, spec), seed=0)
    optimizer = SGD(teacher.parameters(), lr=0.1, momentum=0.9)
    for parameter, gradient in zip(teacher.parameters(), gradients(teacher), strict=True):
        optimizer.state[parameter]["momentum_buffer"] = gradient

    carried = transfer_optimizer(optimizer, student, record, teacher=teacher)

    for parameter, wanted in zip(student.parameters(), gradients(student), strict=True):
        torch.testing.assert_close(
            carried.state[parameter]["momentum_buffer"], wanted, rtol=1e-9, atol=1e-12
        )


def test_second_moments_follow_the_square_of_the_students_gradients() -> None:
    teacher = teacher_of()
    student, record = apply(teacher, plan(teacher, INPUTS, GrowthSpec(width=1.5)), seed=0)
    optimizer = Adam(teacher.parameters(), lr=0.1)
    for parameter, gradient in zip(teacher.parameters(), gradients(teacher), strict=True):
        state = {"step": torch.tensor(5.0), "exp_avg": gradient, "exp_avg_sq": gradient**2}
        optimizer.state[parameter] = state

    carried = transfer_optimizer(optimizer, student, record, teacher=teacher)

    for parameter, wanted in zip(student.parameters(), gradients(student), strict=True):
        state = carried.state[parameter]
        assert float(state["step"]) == 5.0
        torch.testing.assert_close(state["exp_avg"], wanted, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(state["exp_avg_sq"], wanted**2, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW, RMSprop])
def test_kind_settings_and_groups_of_the_optimizer_are_kept(kind: type[Optimizer]) -> None:
    teacher = classifier().double().train()
    names = dict(teacher.named_parameters())
    slow = [p for n, p in names.items() if p.ndim == 1]
    fast = [p for n, p in names.items() if p.ndim > 1]
    groups = [{"params": fast, "lr": 0.01}, {"params": slow, "lr": 0.001, "weight_decay": 0.0}]
    optimizer = kind(groups, lr=0.01)
    trained(teacher, optimizer)
    student, record = apply(teacher, plan(teacher, INPUTS, GrowthSpec(width=1.5)), seed=0)

    carried = transfer_optimizer(optimizer, student, record, teacher=teacher)

    assert type(carried) is kind
    assert [g["lr"] for g in carried.param_groups] == [0.01, 0.001]
    assert [len(g["params"]) for g in carried.param_groups] == [len(fast), len(slow)]
    trained(student, carried, 1)


def test_an_unwidened_student_takes_the_very_same_step() -> None:
    teacher = teacher_of()
    optimizer = Adam(teacher.parameters(), lr=1e-2)
    trained(teacher, optimizer)
    student, record = apply(teacher, plan(teacher, INPUTS, GrowthSpec()), seed=0)
    carried = transfer_optimizer(optimizer, student, record, teacher=teacher)

    trained(teacher, optimizer, 2)
    trained(student, carried, 2)

    for one, other in zip(teacher.parameters(), student.parameters(), strict=True):
        assert torch.equal(one, other)


def test_layers_that_were_put_in_begin_without_a_state() -> None:
    teacher = teacher_of()
    optimizer = SGD(teacher.parameters(), lr=0.1, momentum=0.9)
    trained(teacher, optimizer, 1)
    spec = GrowthSpec(width=1.5, depth=(DepthSpec(place="after", path="3"),))
    student, record = apply(teacher, plan(teacher, INPUTS, spec), seed=0)

    carried = transfer_optimizer(optimizer, student, record, teacher=teacher)

    added = tuple(record.depth[0]["added"])
    for name, parameter in student.named_parameters():
        assert (parameter in carried.state) != name.startswith(added)
    assert sum(len(g["params"]) for g in carried.param_groups) == len(list(student.parameters()))


def test_fresh_units_begin_without_moments() -> None:
    teacher = teacher_of()
    optimizer = SGD(teacher.parameters(), lr=0.1, momentum=0.9)
    trained(teacher, optimizer, 1)
    spec = GrowthSpec(width=2.0, symmetry="fresh")
    student, record = apply(teacher, plan(teacher, INPUTS, spec), seed=0)

    carried = transfer_optimizer(optimizer, student, record, teacher=teacher)

    first = carried.state[student[0].weight]["momentum_buffer"]
    old = optimizer.state[teacher[0].weight]["momentum_buffer"]
    assert int((first.flatten(1).abs().sum(1) > 0).sum()) <= len(old)


def test_a_parameter_of_another_net_or_an_unknown_state_is_refused() -> None:
    teacher = teacher_of()
    student, record = apply(teacher, plan(teacher, INPUTS, GrowthSpec(width=1.5)), seed=0)
    other = copy.deepcopy(teacher)

    with pytest.raises(GrowthError, match="not the teacher's"):
        transfer_optimizer(SGD(other.parameters(), lr=0.1), student, record, teacher=teacher)
    optimizer = SGD(teacher.parameters(), lr=0.1)
    optimizer.state[teacher[0].weight]["curvature"] = torch.zeros_like(teacher[0].weight)
    with pytest.raises(GrowthError, match="curvature"):
        transfer_optimizer(optimizer, student, record, teacher=teacher)


def test_copies_part_in_training_unless_their_shares_are_even() -> None:
    apart = {}
    for symmetry in ("uneven", "zero_sum", "none"):
        teacher = teacher_of().eval()
        spec = GrowthSpec(width=2.0, mapping="balanced", symmetry=symmetry)
        student, _ = apply(teacher, plan(teacher, INPUTS, spec), seed=0)
        trained(student, SGD(student.parameters(), lr=0.05), 10)
        pairs = student[0].weight.detach().reshape(-1, 2, *student[0].weight.shape[1:])
        apart[symmetry] = float((pairs[:, 0] - pairs[:, 1]).abs().max())

    assert apart["none"] < 1e-12
    assert apart["uneven"] > 1e-4
    assert apart["zero_sum"] > 1e-6
