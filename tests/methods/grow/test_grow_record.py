"""Plans and records are documents: deterministic, readable, and enough to build the student."""

from __future__ import annotations

import json

import pytest
import torch
from grow_nets import classifier, images, off
from torch.utils.flop_counter import FlopCounterMode

import relearn.methods.grow as package
from relearn.methods.grow import GrowthPlan, GrowthRecord, apply, plan, replay
from relearn.methods.grow.draw import draw_by_kind, draw_copies, draw_shares
from relearn.methods.grow.faults import ReplayError
from relearn.methods.grow.spec import DepthSpec, GrowthSpec
from relearn.provenance import digest_tensors

INPUTS = images().float()
SPEC = GrowthSpec(width=1.5, groups={"3.inner": 2.0}, multiple_of=2)


def test_a_plan_is_the_same_for_the_same_net_and_spec() -> None:
    one, other = (plan(classifier(), INPUTS, SPEC) for _ in range(2))

    assert one.to_json() == other.to_json()
    assert one.digest == other.digest
    assert one.digest != plan(classifier(), INPUTS, GrowthSpec(width=1.5)).digest


def test_a_plan_does_not_depend_on_weights_or_values() -> None:
    one = plan(classifier(seed=0), INPUTS, SPEC)

    assert one.digest == plan(classifier(seed=1), INPUTS * 3, SPEC).digest


def test_a_plan_read_from_text_grows_the_same_student() -> None:
    teacher = classifier()
    planned = plan(teacher, INPUTS, SPEC)

    student, record = apply(teacher, planned, seed=4)
    again, other = apply(teacher, GrowthPlan.from_json(planned.to_json()), seed=4)

    assert record.to_json() == other.to_json()
    assert digest_tensors(student.state_dict()) == digest_tensors(again.state_dict())


def test_a_plan_forecasts_parameters_and_operations_exactly() -> None:
    teacher = classifier()
    planned = plan(teacher, INPUTS, SPEC)
    student, _ = apply(teacher, planned, seed=0)

    for net, told in ((teacher, planned.before), (student, planned.after)):
        with FlopCounterMode(display=False) as counted, torch.no_grad():
            net(INPUTS[:1])
        assert told.parameters == sum(p.numel() for p in net.parameters())
        assert told.flops == counted.get_total_flops()


def test_a_pattern_goes_before_the_general_factor_and_multiples_are_kept() -> None:
    planned = plan(classifier(), INPUTS, SPEC)

    sizes = {g.name: (g.channels, g.new_channels) for g in planned.groups}

    assert sizes["3.inner"] == (8, 16)
    assert sizes["0"] == (6, 10)


def test_another_seed_draws_another_student_of_the_same_shape() -> None:
    teacher = classifier()
    planned = plan(teacher, INPUTS, SPEC)

    one, other = (apply(teacher, planned, seed=s)[0] for s in (0, 1))

    assert [p.shape for p in one.parameters()] == [p.shape for p in other.parameters()]
    assert digest_tensors(one.state_dict()) != digest_tensors(other.state_dict())


def test_a_fresh_net_takes_the_students_weights_after_replay() -> None:
    teacher = classifier(seed=0)
    depth = (DepthSpec("after", "2", kind="identity", layers=2), DepthSpec("after", "5"))
    planned = plan(teacher, INPUTS, GrowthSpec(width=2.0, depth=depth))
    student, record = apply(teacher, planned, seed=0, calibration=INPUTS)
    text = json.dumps(json.loads(record.to_json()))

    rebuilt = replay(classifier(seed=9), GrowthRecord.from_json(text))
    rebuilt.load_state_dict(student.state_dict())

    assert off(student.eval(), rebuilt.eval(), INPUTS) == 0.0
    assert record.exact


def test_a_record_is_refused_by_another_architecture() -> None:
    _, record = apply(classifier(), plan(classifier(), INPUTS, SPEC), seed=0)

    with pytest.raises(ReplayError):
        replay(classifier(width=7), record)


def test_maps_name_the_teachers_unit_of_every_copy() -> None:
    teacher = classifier()
    student, record = apply(teacher, plan(teacher, INPUTS, GrowthSpec(width=2.0)), seed=0)
    first = next(m for m in record.maps if m.name == "0")

    assert torch.equal(student[0].weight, teacher[0].weight[list(first.mapping)])


@pytest.mark.parametrize("mapping", ["random", "balanced", "importance"])
def test_every_unit_stays_and_the_total_is_as_asked(mapping: str) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = torch.arange(10.0)

    counts = draw_copies(10, 24, mapping=mapping, generator=generator, importance=weights)

    assert int(counts.sum()) == 24
    assert int(counts.min()) >= 1
    if mapping != "random":
        assert set(counts.tolist()) == {2, 3}
    if mapping == "importance":
        assert torch.nonzero(counts == 3).flatten().tolist() == [6, 7, 8, 9]


def test_kinds_of_units_grow_by_the_same_factor_whatever_is_drawn() -> None:
    kinds = torch.tensor([5] * 4 + [7] * 6)

    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        counts = draw_by_kind(kinds, 15, mapping="random", generator=generator)
        assert (int(counts[:4].sum()), int(counts[4:].sum())) == (6, 9)


@pytest.mark.parametrize("symmetry", ["uneven", "zero_sum", "noise", "none", "fresh"])
def test_shares_of_a_unit_sum_to_one(symmetry: str) -> None:
    counts = torch.tensor([1, 2, 3, 7])

    shares = draw_shares(counts, symmetry=symmetry, generator=torch.Generator().manual_seed(1))

    assert [len(s) for s in shares] == [1, 2, 3, 7]
    assert all(abs(sum(s) - 1) < 1e-15 for s in shares)
    assert (len(set(shares[3])) > 2) == (symmetry == "uneven")


def test_every_public_name_of_the_package_loads() -> None:
    for name in package.__all__:
        assert getattr(package, name) is not None
