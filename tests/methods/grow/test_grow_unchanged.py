"""Whatever is refused, the teacher keeps every bit, its mode and its sizes."""

from __future__ import annotations

import pytest
import torch
from grow_nets import TiedWords, classifier, images
from torch import nn

from relearn.methods.grow import GrowthError, GrowthSpec, apply, plan, verify
from relearn.methods.grow.spec import DepthSpec
from relearn.provenance import digest_tensors

INPUTS = images().float()
WORDS = torch.tensor([[1, 2], [3, 4]])


class Stops(nn.Module):
    """A layer behind which the forward ends in an error, or in a choice by value."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.inner, self.kind = classifier(), kind

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.inner(x)
        if self.kind == "chooses" and x.sum() > 0:
            return -x
        return x.nowhere() if self.kind == "fails" else x


def spoilt_student():
    def run(teacher: nn.Module) -> None:
        student, record = apply(teacher, plan(teacher, INPUTS, GrowthSpec(width=2.0)), seed=0)
        with torch.no_grad():
            next(student.parameters()).add_(1)
        verify(teacher, student, INPUTS, record=record)

    return run


def planned(**spec):
    return lambda teacher: plan(teacher, INPUTS, GrowthSpec(**spec))


def deeper(**depth):
    return lambda teacher: apply(
        teacher, plan(teacher, INPUTS, GrowthSpec(depth=(DepthSpec(**depth),))), seed=0
    )


REFUSED = {
    "factor below 1": (classifier, planned(width=0.5)),
    "unknown group": (classifier, planned(groups={"nothing": 2.0})),
    "output asked to grow": (classifier, lambda t: planned(groups={str(len(t) - 1): 2.0})(t)),
    "input asked to grow": (classifier, planned(groups={"input": 2.0})),
    "shared parameters asked to grow": (
        TiedWords,
        lambda t: plan(t, WORDS, GrowthSpec(groups={"words": 2.0})),
    ),
    "identity behind what is not idempotent": (
        classifier,
        deeper(place="after", path="0", kind="identity"),
    ),
    "forward fails": (lambda: Stops("fails"), planned(width=2.0)),
    "forward chooses": (lambda: Stops("chooses"), planned(width=2.0)),
    "half precision": (lambda: classifier().half(), planned(width=2.0)),
    "even kernel": (classifier, deeper(place="after", path="2", kernel=2)),
    "no such place": (classifier, deeper(place="after", path="nowhere")),
    "no calibration": (classifier, deeper(place="after", path="2", kind="identity")),
    "another function": (classifier, spoilt_student()),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("make", "run"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_changes_nothing(make, run, training: bool) -> None:
    teacher = make().train(training)
    kept = [m.training for m in teacher.modules()], str(teacher), len(list(teacher.buffers()))
    before = digest_tensors(teacher.state_dict())

    with pytest.raises(GrowthError) as caught:
        run(teacher)

    assert caught.value.group
    assert caught.value.operation
    assert "\n" not in str(caught.value)

    assert digest_tensors(teacher.state_dict()) == before
    assert kept == (
        [m.training for m in teacher.modules()],
        str(teacher),
        len(list(teacher.buffers())),
    )
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in teacher.modules())
