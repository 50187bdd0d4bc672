"""Parts that run in training alone grow with what they read, or are listed with their reason."""

from __future__ import annotations

import pytest
import torch
from grow_nets import images, off, randomised
from torch import Tensor, nn
from torchvision.models import googlenet

from relearn.methods.grow import apply, plan, verify
from relearn.methods.grow.faults import UntraceableError
from relearn.methods.grow.spec import GrowthSpec
from relearn.provenance import digest_tensors

INPUTS = images(count=6)


class WithHelper(nn.Module):
    """A classifier that has a second head while it trains."""

    def __init__(self, *, pool: int = 1) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.helper = nn.Sequential(nn.AvgPool2d(pool), nn.Flatten(), nn.Linear(256, 6), nn.ReLU())
        self.helper_head = nn.Linear(6, 3)
        self.body = nn.Conv2d(4, 5, 3)
        self.head = nn.Linear(5, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        x = self.stem(x)
        told = self.head(torch.relu(self.body(x)).mean((2, 3)))
        if not self.training:
            return told
        self.calls += 1
        return told, self.helper_head(self.helper(x))


class WithSpare(nn.Module):
    """A classifier with a layer that nobody calls."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.spare = nn.Linear(4, 6), nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden(x)))


def teacher_with_helper() -> WithHelper:
    torch.manual_seed(0)
    return randomised(WithHelper(), seed=0).double().eval()


def test_a_head_that_runs_in_training_alone_grows_with_what_it_reads() -> None:
    teacher = teacher_with_helper()

    planned = plan(teacher, INPUTS, GrowthSpec(width=1.5))
    student, record = apply(teacher, planned, seed=0)

    assert {g.name for g in planned.groups if g.grows} == {"stem.0", "helper.2", "body"}
    assert {r.group for r in planned.refusals} == {"head", "helper_head"}
    report = verify(teacher, student, INPUTS, record=record)
    assert report.train_drift is not None
    assert report.train_drift <= 1e-12
    for one, other in zip(teacher.train()(INPUTS), student.train()(INPUTS), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_what_runs_in_training_alone_is_no_cost_of_the_forward_pass() -> None:
    teacher = teacher_with_helper()
    with_helper = plan(teacher, INPUTS, GrowthSpec(width=2.0))
    without = WithHelper().double()
    del without.helper, without.helper_head

    alone = plan(without, INPUTS, GrowthSpec(width=2.0))

    assert (with_helper.before.flops, with_helper.after.flops) == (
        alone.before.flops,
        alone.after.flops,
    )


@pytest.mark.parametrize("training", [True, False])
def test_following_a_net_into_training_changes_nothing_in_it(training: bool) -> None:
    teacher = teacher_with_helper().train(training)
    before = digest_tensors(teacher.state_dict())

    student, _ = apply(teacher, plan(teacher, INPUTS, GrowthSpec(width=1.5)), seed=0)

    assert digest_tensors(teacher.state_dict()) == before
    assert float(teacher.calls) == float(student.calls) == 0
    assert {m.training for m in teacher.modules()} == {training}


def test_a_part_that_cannot_run_on_the_example_is_refused_by_name_and_line() -> None:
    teacher = WithHelper(pool=20)

    with pytest.raises(UntraceableError, match=r"test_grow_at_rest\.py:\d+ .*helper\.2") as caught:
        plan(teacher, INPUTS.float(), GrowthSpec(width=1.5))

    assert caught.value.group == "helper.0"
    assert "rests in evaluation mode" in str(caught.value)
    assert "an example that the network can be trained on" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_layer_that_nobody_runs_is_listed_and_the_rest_grows() -> None:
    teacher = WithSpare().double().eval()
    x = torch.randn(3, 4, dtype=torch.float64)

    planned = plan(teacher, x, GrowthSpec(width=1.5))
    student, _ = apply(teacher, planned, seed=0)

    told = {r.group: r.reason for r in planned.refusals}
    assert told["spare"] == "evaluation and training do not run it"
    assert (student.hidden.out_features, student.spare.out_features) == (9, 6)
    assert off(teacher, student, x) <= 1e-12


def test_googlenet_with_its_auxiliary_heads_grows_and_trains_on() -> None:
    torch.manual_seed(0)
    teacher = randomised(googlenet(num_classes=5, aux_logits=True, init_weights=False), seed=0)
    x = torch.randn(4, 3, 64, 64)
    teacher.eval()

    planned = plan(teacher, x[:2], GrowthSpec(width=1.25))
    student, _ = apply(teacher, planned, seed=0)
    student.train()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01)
    before = {name: p.detach().clone() for name, p in student.named_parameters()}
    sum(o.logsumexp(1).sum() for o in student(x)).backward()
    optimizer.step()

    grown = {g.name for g in planned.groups if g.grows}
    assert {"aux1.conv.conv", "aux1.fc1", "aux2.conv.conv", "aux2.fc1"} <= grown
    still = [n for n, p in student.named_parameters() if torch.equal(p, before[n])]
    assert [n for n in still if n.startswith("aux")] == []
