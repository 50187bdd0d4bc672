"""The stable model is the moving average that the formula says."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from relearn.data.randomness import generator_of
from relearn.methods.forget_relearn.consolidate import StableModel, decay_of
from relearn.training.resume import pack, unpack


def net(seed: int = 0) -> nn.Module:
    """Return a net with randomised statistics: defaults hide forgotten copies."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        model[1].running_mean.normal_()
        model[1].running_var.uniform_(0.5, 2.0)
        model[1].num_batches_tracked.fill_(seed + 3)
    return model


def followed(count: int, **options) -> tuple[StableModel, list[nn.Module]]:
    students = [net(seed) for seed in range(count + 1)]
    stable = StableModel(students[0], **options)
    for step, student in enumerate(students[1:], start=1):
        stable.update(student, step=step)
    return stable, students


def test_the_stable_weights_are_the_closed_form_of_the_moving_average():
    count, decay = 6, 0.7
    stable, students = followed(count, decay=decay)

    states = [student.state_dict() for student in students]
    for name, value in stable.weights().items():
        if not value.is_floating_point():
            assert torch.equal(value, states[-1][name])
            continue
        terms = [(1 - decay) * decay ** (count - t) * states[t][name].double() for t in range(1, 7)]
        expected = decay**count * states[0][name].double() + sum(terms)
        assert torch.allclose(value.double(), expected, atol=1e-6)


def test_copied_statistics_are_the_last_student_s_and_weights_are_averaged():
    stable, students = followed(3, decay=0.9, copy_statistics=True)
    averaged, _ = followed(3, decay=0.9)
    last, found = students[-1].state_dict(), stable.weights()
    buffers = {name for name, _ in students[-1].named_buffers()}
    assert all(torch.equal(found[name], last[name]) for name in buffers)
    for name, value in averaged.weights().items():
        assert (name in buffers and value.is_floating_point()) != torch.equal(value, found[name])


def test_a_young_average_forgets_untrained_weights():
    stable, students = followed(4, decay=0.999, young=True)
    weight = students[0][0].weight.detach().double()
    for t, student in enumerate(students[1:]):
        decay = min(0.999, (1 + t) / (10 + t))
        weight = decay * weight + (1 - decay) * student[0].weight.detach().double()
    assert torch.allclose(stable.net[0].weight.double(), weight, atol=1e-6)


def test_an_update_is_made_with_its_probability_by_a_door_of_its_own():
    student = net(1)
    stable = StableModel(net(), decay=0.99, probability=0.3, seed=5)
    made = [stable.update(student, step=step) for step in range(400)]
    assert sum(made) == stable.updates
    assert 80 < sum(made) < 160  # 120 expected, deviation 9
    again = StableModel(net(), decay=0.99, probability=0.3, seed=5)
    assert [again.update(student, step=step) for step in range(400)] == made
    doors = [generator_of(5, f"forget_relearn.consolidate.{step}") for step in range(400)]
    assert [float(torch.rand((), generator=d)) < 0.3 for d in doors] == made


def test_updates_move_no_global_random_number():
    before = torch.get_rng_state()
    StableModel(net(), decay=0.5, probability=0.5).update(net(1), step=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_student_is_neither_kept_nor_changed_and_the_stable_model_takes_no_gradient():
    student = net().train()
    stable = StableModel(student, decay=0.5)
    copied, weights = copy.deepcopy(student.state_dict()), stable.weights()
    stable.update(net(1), step=1)
    assert all(torch.equal(v, copied[n]) for n, v in student.state_dict().items())
    assert student.training
    assert not stable.net.training
    assert not any(p.requires_grad for p in stable.net.parameters())
    assert all(p.requires_grad for p in student.parameters())
    assert not torch.equal(weights["0.weight"], stable.weights()["0.weight"])


def test_a_restored_stable_model_goes_on_as_if_nothing_had_happened():
    whole, cut = (StableModel(net(), decay=0.999, young=True) for _ in range(2))
    for model in (whole, cut):
        model.update(net(1), step=1)
    resumed = StableModel(net(7), decay=0.999, young=True)
    resumed.restore(unpack(*pack(cut.state())))
    for model in (whole, resumed):
        model.update(net(2), step=2)
    assert all(torch.equal(v, resumed.weights()[n]) for n, v in whole.weights().items())


@pytest.mark.parametrize(("memory", "steps", "decay"), [(2, 391, 1 - 1 / 782), (1, 1, 0.0)])
def test_the_decay_remembers_so_many_epochs(memory, steps, decay):
    assert decay_of(memory, steps) == pytest.approx(decay)


def test_a_memory_shorter_than_a_step_copies_the_student():
    assert decay_of(0.01, 3) == 0.0
    stable, students = followed(2, decay=0.0)
    assert all(torch.equal(v, stable.weights()[n]) for n, v in students[-1].state_dict().items())


def test_what_was_learnt_a_memory_ago_still_weighs_a_third():
    decay, steps = decay_of(4.0, 50), 4 * 50
    assert decay**steps == pytest.approx(0.368, abs=0.002)
