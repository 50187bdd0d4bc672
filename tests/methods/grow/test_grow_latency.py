"""A plan can tell how much slower the grown net will be."""

from __future__ import annotations

import pytest
import torch
from grow_nets import classifier, images
from torch import nn

from relearn.methods.grow import forecast_latency, plan
from relearn.methods.grow.document import GrowthPlan
from relearn.methods.grow.faults import SpecError
from relearn.methods.grow.spec import DepthSpec, GrowthSpec
from relearn.provenance import digest_tensors


def test_a_far_larger_net_is_forecast_to_be_slower_and_nothing_changes() -> None:
    teacher = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64)).train()
    before = digest_tensors(teacher.state_dict())
    planned = plan(teacher, torch.zeros(2, 64), GrowthSpec(width=24.0))

    told = forecast_latency(teacher, planned, repeats=3)

    assert planned.before.latency_seconds is None
    assert 0 < told.before.latency_seconds < told.after.latency_seconds
    assert told.digest == planned.digest
    assert GrowthPlan.from_json(told.to_json()).after == told.after
    assert (digest_tensors(teacher.state_dict()), teacher.training) == (before, True)


def test_layers_that_need_calibration_are_timed_too() -> None:
    teacher = classifier()
    deeper = DepthSpec(place="after", path="2", kind="identity")
    planned = plan(teacher, images().float(), GrowthSpec(depth=(deeper,)))

    assert forecast_latency(teacher, planned, repeats=1).after.latency_seconds > 0


def test_no_pass_is_no_measurement() -> None:
    teacher = classifier()

    with pytest.raises(SpecError, match="repeats: got 0"):
        forecast_latency(teacher, plan(teacher, images().float(), GrowthSpec()), repeats=0)
