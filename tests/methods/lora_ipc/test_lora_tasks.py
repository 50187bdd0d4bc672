"""Tasks come, go, are rolled back, left out and merged; what is frozen keeps every bit."""

from __future__ import annotations

import pytest
import torch
from tiny_lora import CLASSES, answers, images, learn_task, tiny_adapters, tiny_vit, train_steps

from relearn.data.randomness import generator_of
from relearn.errors import ParameterError, TrainingError
from relearn.methods.lora_ipc.ledger import (
    drift,
    effective_weight,
    freeze_entries,
    roll_back,
    verify_frozen,
)
from relearn.methods.lora_ipc.merging import detach, merge
from relearn.methods.lora_ipc.state import state_digest
from relearn.models.heads import extend_head

ROW = {"arm": "lorac_ipc", "seed": 0, "step": 3, "epoch": 1}


@pytest.fixture(params=[True, False], ids=["omega trained", "omega off"])
def three_tasks(request):
    """Return modules of three tasks, and the answers after each."""
    adapters = tiny_adapters(omega=request.param)
    seen = []
    for freeze in (["0.q"], ["0.v", "1.fc1"], []):
        learn_task(adapters, freeze=freeze)
        seen.append(answers(adapters.model))
    return adapters, seen


def test_rolling_back_gives_the_very_answers_of_that_time(three_tasks):
    adapters, seen = three_tasks
    for task in (1, 0, -1):
        adapters.roll_back(task)
        expected = seen[task] if task >= 0 else answers(tiny_vit())
        assert torch.equal(answers(adapters.model), expected)
        assert adapters.tasks == task + 1
    assert adapters.frozen == {}
    assert all(m.history_a.shape[1] == 0 for m in adapters.matrices.values())


def test_looking_back_changes_nothing(three_tasks):
    adapters, seen = three_tasks
    for task in (0, 1, 2):
        adapters.use(task)
        assert torch.equal(answers(adapters.model), seen[task])
    adapters.use(-1)
    assert torch.equal(answers(adapters.model), answers(tiny_vit()))
    adapters.use(2)
    assert torch.equal(answers(adapters.model), seen[2])


def test_the_same_task_after_a_roll_back_gives_the_same_model(three_tasks):
    adapters, seen = three_tasks
    adapters.roll_back(0)
    learn_task(adapters, freeze=["0.v", "1.fc1"])
    learn_task(adapters)
    assert torch.equal(answers(adapters.model), seen[2])


def test_a_merged_net_answers_the_same_bits_and_is_a_plain_net(three_tasks):
    adapters, seen = three_tasks
    for task in (0, 2):
        plain = merge(adapters, task)
        assert [name for name, _ in plain.named_modules()] == [
            name for name, _ in tiny_vit().named_modules()
        ]
        assert torch.equal(answers(plain), seen[task])
    assert torch.equal(answers(adapters.model), seen[2])
    assert torch.equal(answers(merge(adapters)), seen[2])


def test_the_backbone_is_never_written(three_tasks):
    adapters, _ = three_tasks
    expected = tiny_vit().state_dict()
    found = detach(adapters).state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_frozen_matrix_keeps_every_bit_over_later_tasks():
    adapters = tiny_adapters()
    learn_task(adapters, freeze=["0.q", "1.fc2"])
    entries = freeze_entries(
        adapters, {n: 1.0 for n in adapters.matrices} | {"0.q": 3.0}, rule="sensitivity", row=ROW
    )
    before = {n: effective_weight(adapters, n, 0).clone() for n in adapters.matrices}
    assert [entry.target for entry in entries] == ["0.q", "1.fc2"]
    assert (entries[0].details["place"], entries[0].details["of"]) == (1, 12)
    for _ in range(2):
        learn_task(adapters)
        assert all(verify_frozen(entry, adapters) for entry in entries)
    after = {n: effective_weight(adapters, n, 2) for n in adapters.matrices}
    still = {name for name in before if torch.equal(before[name], after[name])}
    assert still == {"0.q", "1.fc2"}
    moved = drift(adapters, 2)
    assert {name for name, value in moved.items() if value == 0} == still
    assert all(entry.as_row()["before_digest"] == entry.after_digest for entry in entries)


def test_a_frozen_matrix_that_was_touched_does_not_verify():
    adapters = tiny_adapters()
    learn_task(adapters, freeze=["0.q"])
    (entry,) = freeze_entries(adapters, dict.fromkeys(adapters.matrices, 1.0), rule="r", row=ROW)
    learn_task(adapters)
    adapters.matrices["0.q"].history_b[0, 0] += 1e-6
    assert not verify_frozen(entry, adapters)
    adapters.matrices["0.q"].history_b[0, 0] -= 1e-6
    adapters.matrices["0.q"].frozen_after = None
    assert not verify_frozen(entry, adapters)


def test_each_matrix_has_a_mask_of_its_own():
    for frozen, free in (("0.q", "0.k"), ("0.k", "0.q")):
        adapters = tiny_adapters()
        learn_task(adapters, freeze=[frozen])
        learn_task(adapters)
        moved = drift(adapters, 1)
        assert moved[frozen] == 0
        assert moved[free] > 0


def test_the_official_error_is_repeated_only_where_it_is_asked_for():
    adapters = tiny_adapters(k_uses_q_mask=True)
    learn_task(adapters, freeze=["0.k", "1.q"])
    adapters.begin_task([2, 3], seed=5)
    frozen, free = adapters.matrices["0.k"], adapters.matrices["1.k"]
    assert frozen.a is not None
    assert frozen.omega is None
    assert free.a is None
    assert free.omega is not None
    train_steps(adapters)
    adapters.finish_task()
    # the weight of a k that is called frozen moves; the other one can move its omega alone
    assert drift(adapters, 1)["0.k"] > 0
    assert free.tasks == [0]
    assert adapters.matrices["1.q"].tasks == [0]


def test_omega_goes_on_from_the_last_task_and_is_kept_for_each():
    adapters = tiny_adapters()
    for task in range(3):
        learn_task(adapters)
        rows = adapters.matrices["1.o"].bank
        assert [len(row) for row in rows] == list(range(1, task + 2))
        assert float(rows[-1][-1]) == 1
    first, second, third = adapters.matrices["1.o"].bank
    assert float(second[0]) != 1
    assert float(third[0]) != float(second[0])
    adapters.begin_task([6, 7], seed=5)
    torch.testing.assert_close(adapters.matrices["1.o"].omega.detach(), third)
    assert float(first[0]) == 1


def test_the_last_module_left_out_is_the_model_without_it():
    adapters = tiny_adapters(omega=False)
    learn_task(adapters)
    weights = [effective_weight(adapters, name, 0) for name in adapters.matrices]
    learn_task(adapters)
    last = answers(adapters.model)
    with adapters.disabled(1):
        found = [m.at_rest for layer in adapters.layers for m in layer.parts]
        assert len(found) == len(weights)
        assert not torch.equal(answers(adapters.model), last)
        for layer in adapters.layers:
            rows = [effective_weight(adapters, m.place.name, 0) for m in layer.parts]
            torch.testing.assert_close(layer.weight, torch.cat(rows))
    assert torch.equal(answers(adapters.model), last)


def test_a_task_that_was_killed_leaves_the_model_before_it():
    adapters = tiny_adapters()
    learn_task(adapters)
    before, digest = answers(adapters.model), state_digest(adapters)
    adapters.begin_task([2, 3], seed=5)
    train_steps(adapters)
    adapters.abandon_task()
    assert torch.equal(answers(adapters.model), before)
    assert state_digest(adapters) == digest
    assert adapters.factors() == adapters.omegas() == []


def test_factors_are_drawn_from_the_seed_and_a_door_for_each():
    found = []
    for seed in (1, 1, 2):
        adapters = tiny_adapters()
        adapters.begin_task([0, 1], seed=seed)
        found.append({n: m.a.detach().clone() for n, m in adapters.matrices.items()})
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert not any(torch.equal(found[0][name], found[2][name]) for name in found[0])
    assert not torch.equal(found[0]["0.q"], found[0]["0.k"])


def test_a_last_layer_that_grew_is_small_again_after_a_roll_back():
    adapters = tiny_adapters()
    learn_task(adapters)
    before = answers(adapters.model)
    extend_head(adapters.model, 2, generator=generator_of(0, "rows"))
    adapters.begin_task([8, 9], seed=5)
    train_steps(adapters)
    adapters.finish_task()
    assert answers(adapters.model).shape[1] == CLASSES + 2
    adapters.roll_back(0)
    assert torch.equal(answers(adapters.model), before)


def test_the_head_kept_is_the_one_aligned_after_the_task():
    adapters = tiny_adapters()
    learn_task(adapters)
    with torch.no_grad():
        adapters.head.weight.add_(1)
    aligned = answers(adapters.model)
    adapters.keep_head()
    learn_task(adapters)
    adapters.roll_back(0)
    assert torch.equal(answers(adapters.model), aligned)


def test_a_roll_back_says_what_it_dropped():
    adapters = tiny_adapters()
    learn_task(adapters)
    digest = state_digest(adapters)
    learn_task(adapters)
    entry = roll_back(adapters, 0, row=ROW)
    assert (entry.kind, entry.rows) == ("roll_back", 1)
    assert entry.after_digest == digest == state_digest(adapters) != entry.before_digest
    assert entry.before_norm != entry.after_norm > 0


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ([], "has no classes"),
        ([1, 2], "class 1 of task 2 stands in two places"),
        ([3, 3], "class 3 of task 2 stands in two places"),
        ([7, 8], "has class 8, but the last layer has outputs 0 to 7"),
        ([-1], "has class -1"),
    ],
)
def test_classes_that_cannot_be_learnt_are_refused(classes, says):
    adapters = tiny_adapters()
    learn_task(adapters)
    with pytest.raises(ParameterError, match=says):
        adapters.begin_task(classes, seed=0)
    assert adapters.open_classes is None


def test_more_tasks_than_planned_are_refused():
    adapters = tiny_adapters(planned_tasks=1)
    learn_task(adapters)
    with pytest.raises(ParameterError, match=r"tasks.planned: got 1, and 1 tasks are done"):
        adapters.begin_task([2, 3], seed=0)


@pytest.mark.parametrize(("task", "says"), [(-2, "past the first task"), (1, "expected -1")])
def test_tasks_that_were_not_learnt_are_refused(task, says):
    adapters = tiny_adapters()
    learn_task(adapters)
    for ask in (adapters.roll_back, adapters.use, lambda each: merge(adapters, each)):
        with pytest.raises(ParameterError, match=says):
            ask(task)
    assert adapters.tasks == 1


def test_matrices_that_cannot_be_frozen_are_refused():
    adapters = tiny_adapters()
    learn_task(adapters, freeze=["0.q"])
    adapters.begin_task([2, 3], seed=0)
    with pytest.raises(ParameterError, match=r"frozen already"):
        adapters.finish_task(["0.q"])
    with pytest.raises(ParameterError, match=r"'0.qq' is no matrix, did you mean 0.q"):
        adapters.finish_task(["0.qq"])
    adapters.finish_task(["0.k"])
    assert adapters.frozen == {"0.q": 0, "0.k": 1}


def test_what_needs_rest_is_refused_while_a_task_is_open():
    adapters = tiny_adapters()
    with pytest.raises(TrainingError, match="no task has begun"):
        adapters.finish_task()
    with pytest.raises(TrainingError, match="no task has been learnt"):
        adapters.keep_head()
    adapters.begin_task([0, 1], seed=0)
    for ask in (
        lambda: adapters.use(-1),
        lambda: adapters.roll_back(-1),
        lambda: adapters.begin_task([2], seed=0),
        lambda: merge(adapters),
        lambda: adapters.per_image(torch.zeros(6, dtype=torch.int64)).__enter__(),
        adapters.keep_head,
    ):
        with pytest.raises(TrainingError, match="finish or abandon"):
            ask()


def test_the_mixed_pass_gives_each_image_the_model_of_its_own_task():
    adapters = tiny_adapters()
    learn_task(adapters, freeze=["0.k"])
    learn_task(adapters)
    learn_task(adapters)
    tasks = torch.tensor([2, 0, 1, -1, 0, 2])
    with adapters.per_image(tasks):
        found = answers(adapters.model)
    head = adapters.heads[2]
    for task in (-1, 0, 1, 2):
        adapters.use(task)
        adapters.set_head(head)
        expected = answers(adapters.model)
        torch.testing.assert_close(found[tasks == task], expected[tasks == task])
    assert len(images()) == len(tasks)


@pytest.mark.parametrize("kinds", [("q", "v"), ("k", "fc1"), ("v",)])
@pytest.mark.parametrize("omega", [True, False])
def test_a_fused_layer_may_have_modules_on_some_of_its_matrices_alone(kinds, omega):
    adapters = tiny_adapters(kinds=kinds, omega=omega)
    seen = [learn_task(adapters, freeze=["0." + kinds[0]]), learn_task(adapters)]
    last = answers(adapters.model)
    assert torch.equal(answers(merge(adapters)), last)
    with adapters.per_image(torch.full((6,), 1)):
        torch.testing.assert_close(answers(adapters.model), last)
    adapters.roll_back(0)
    assert seen == [0, 1]
    assert not torch.equal(answers(adapters.model), last)
