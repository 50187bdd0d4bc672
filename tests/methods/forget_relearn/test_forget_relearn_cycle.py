"""The cycle around a training: what it does, and that it does nothing else."""

from __future__ import annotations

import pytest
import torch
from tiny_forget_relearn import (
    TRAININGS,
    curve,
    lean_config,
    plain,
    run,
    tiny_base,
    tiny_stream,
    weights,
)

from relearn.methods.forget_relearn import cycle as cycle_module
from relearn.methods.forget_relearn.arms import trainings_of
from relearn.methods.forget_relearn.consolidate import StableModel
from relearn.methods.forget_relearn.cycle import Cycle
from relearn.methods.forget_relearn.run import open_session, train_one
from relearn.models.checkpoint import build_fresh

FORGOTTEN = {"blocks.3.convolution.weight", "blocks.4.convolution.weight", "head.weight"}
NO_PULL = {"relearn__consistency": "none"}


def curves_until(trained, epoch: int) -> list:
    """Return all that was seen of the student up to an epoch; names of phases differ by nature."""
    rows = trained.curves["common"] + trained.curves["student"]
    hidden = ("phase",)
    return [
        [done, {k: v for k, v in row.items() if k not in hidden}]
        for done, row in rows
        if done <= epoch
    ]


def test_all_trainings_of_a_seed_agree_bit_for_bit_to_the_end_of_warm_up():
    alike = [name for name in TRAININGS if name != "awp"]
    first = curves_until(plain("pgd_at"), 2)
    assert first
    assert all(curves_until(plain(name), 2) == first for name in alike)
    assert curves_until(plain("forget_relearn"), 4) != curves_until(plain("pgd_at"), 4)


def test_all_trainings_of_a_seed_see_the_same_images_in_the_same_order():
    digests = {plain(name).order_digest for name in TRAININGS}
    assert len(digests) == 1
    assert run("pgd_at", seed=1).order_digest not in digests


@pytest.mark.parametrize("kind", ["fresh", "rewind", "zero", "stable"])
def test_nothing_forgotten_and_no_pull_is_plain_adversarial_training_bit_for_bit(kind):
    sham = run("share_zero", forget__initialisation=kind, **NO_PULL)
    assert torch.equal(weights(sham), weights(plain("pgd_at")))
    assert curves_until(sham, 6) == curves_until(plain("pgd_at"), 6)


@pytest.mark.parametrize(
    "changes",
    [
        {"relearn__weight": 0.0},
        {**NO_PULL, "roll_back__automatic": True},
        {**NO_PULL, "consolidate__probability": 0.5},
        {**NO_PULL, "monitor__pictures": False},
        {**NO_PULL, "forget__mask": "bernoulli", "forget__include_bias": True},
    ],
    ids=lambda changes: list(changes)[-1],
)
def test_the_machinery_of_the_sham_changes_no_weight_of_the_student(changes):
    assert torch.equal(weights(run("share_zero", **changes)), weights(plain("pgd_at")))


def test_the_pull_alone_changes_the_student():
    assert not torch.equal(weights(plain("share_zero")), weights(plain("pgd_at")))


def test_weight_perturbation_differs_from_the_first_step():
    one = run("awp", train__epochs=3, cycle__warmup_epochs=1, monitor__every_epochs=1)
    two = run("pgd_at", train__epochs=3, cycle__warmup_epochs=1, monitor__every_epochs=1)
    assert curve(one, "common", "train_loss")[1] != curve(two, "common", "train_loss")[1]
    late = run("awp", awp__warmup_epochs=5)
    assert curves_until(late, 5) == curves_until(plain("pgd_at"), 5)
    assert not torch.equal(weights(late), weights(plain("pgd_at")))


def test_phases_and_forgettings_are_where_the_cycle_says():
    found = run("forget_relearn", train__epochs=9, monitor__every_epochs=1, cycle__every_epochs=3)
    assert [row["epoch"] for row in found.recoveries] == [2.0, 5.0]
    assert {row.epoch for row in found.interventions} == {2, 5}
    assert {row.step for row in found.interventions} == {6, 15}
    phases = [int(p) for p in curve(found, "common", "phase").values()]
    assert phases == [0, 0, 2, 2, 1, 2, 2, 1, 1]
    assert {row.target for row in found.interventions} == FORGOTTEN
    assert (found.steps, found.steps_since_change) == (27, 12)


def test_a_forgetting_changes_the_chosen_layers_alone(monkeypatch):
    states = []
    real = cycle_module.forget

    def watched(model, optimizer, **given):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        rows = real(model, optimizer, **given)
        states.append((before, {n: v.clone() for n, v in model.state_dict().items()}))
        return rows

    monkeypatch.setattr(cycle_module, "forget", watched)
    run("forget_relearn", forget__fraction=0.5)
    assert len(states) == 2
    for before, after in states:
        assert {n for n in before if not torch.equal(before[n], after[n])} == FORGOTTEN
        changed = (before["head.weight"] != after["head.weight"]).float().mean()
        assert float(changed) == pytest.approx(0.5, abs=0.02)


def test_later_layer_forgetting_is_share_one_of_the_late_layers(monkeypatch):
    states = []
    real = cycle_module.forget

    def watched(model, optimizer, **given):
        rows = real(model, optimizer, **given)
        states.append({n: p.detach().clone() for n, p in model.named_parameters()})
        return rows

    monkeypatch.setattr(cycle_module, "forget", watched)
    found = run("forget_only", forget__fraction=1.0, forget__initialisation="rewind")
    first = dict(build_fresh(found.architecture, seed=0).named_parameters())
    for state in states:
        back = {n for n in state if torch.equal(state[n], first[n])}
        assert back == FORGOTTEN


def test_the_first_stable_model_is_the_student_at_the_end_of_warm_up():
    config = lean_config()
    session = open_session(
        tiny_base(),
        tiny_stream(),
        config,
        training=trainings_of(config)["forget_relearn"],
        seed=0,
    )
    session.begin_stable()
    student = session.model.state_dict()
    assert all(torch.equal(v, student[n]) for n, v in session.stable.weights().items())


def test_the_stable_model_takes_up_the_student_at_the_end_of_each_relearning_and_in_learning(
    monkeypatch,
):
    steps = []
    real = StableModel.update

    def watched(stable, student, *, step):
        steps.append(step)
        return real(stable, student, step=step)

    monkeypatch.setattr(StableModel, "update", watched)
    run("forget_relearn", train__epochs=9, cycle__every_epochs=3)
    # three steps an epoch; epochs 2 and 3 relearn, 4 learns, 5 and 6 relearn, 7 and 8 learn
    assert sorted({(step - 1) // 3 for step in steps}) == [3, 4, 6, 7, 8]
    assert len(steps) == 5 * 3


class Pulled(Exception):
    """Ends a training at the first batch of relearning."""


def relearning_batch(monkeypatch, **changes):
    """Return clean and perturbed pixels, stable logits and the session of one relearning batch."""
    caught = {}
    real = Cycle.after_attack

    def watched(cycle, clean, perturbed, labels):
        real(cycle, clean, perturbed, labels)
        if cycle.phase == "relearning":
            caught.update(clean=clean, perturbed=perturbed, cycle=cycle)
            raise Pulled

    monkeypatch.setattr(Cycle, "after_attack", watched)
    with pytest.raises(Pulled):
        run("forget_relearn", **changes)
    return caught


@pytest.mark.parametrize("shown", ["clean", "adversarial"])
def test_the_stable_model_answers_in_evaluation_mode_for_the_image_it_is_shown(monkeypatch, shown):
    caught = relearning_batch(monkeypatch, relearn__stable_input=shown)
    cycle = caught["cycle"]
    stable = cycle.session.as_pixels(cycle.session.stable.net)
    assert not stable.model.training
    with torch.no_grad():
        right = stable(caught["clean" if shown == "clean" else "perturbed"])
        other = stable(caught["perturbed" if shown == "clean" else "clean"])
    assert torch.equal(cycle._stable_logits, right)
    assert not torch.equal(cycle._stable_logits, other)


def test_the_stable_model_is_not_asked_outside_relearning(monkeypatch):
    asked = []
    real = Cycle.after_attack

    def watched(cycle, clean, perturbed, labels):
        real(cycle, clean, perturbed, labels)
        asked.append((cycle.phase, cycle._stable_logits is not None))

    monkeypatch.setattr(Cycle, "after_attack", watched)
    run("forget_relearn", train__epochs=9, cycle__every_epochs=3)
    assert set(asked) == {("warmup", False), ("learning", False), ("relearning", True)}


def test_the_loss_is_the_adversarial_loss_plus_the_weighted_distance(monkeypatch):
    cycle = relearning_batch(monkeypatch, relearn__weight=2.5)["cycle"]
    logits = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(12) % 3
    stable, noted = cycle._stable_logits, cycle.session.books.sums.clone()

    found = cycle.loss(logits, labels)

    adversarial = cycle.adversarial(logits, labels)
    expected = adversarial + 2.5 * (logits - stable).square().mean()
    assert torch.allclose(found, expected)
    gained = cycle.session.books.sums - noted  # the curve is of the adversarial loss alone
    assert float(gained[0]) == pytest.approx(float(adversarial))
    assert float(gained[1]) == pytest.approx(float((logits.argmax(1) == labels).float().mean()))


def test_live_curves_have_epochs_on_their_axis():
    seen = []
    train_one(
        tiny_base(),
        tiny_stream(),
        lean_config(),
        training="forget_relearn",
        seed=0,
        log=lambda step, values: seen.append((step, dict(values))),
    )
    assert {step for step, values in seen if "forgotten" in values} == {2, 4}
    assert {step for step, values in seen if "phase" in values} == {2, 4, 6}
    assert {"stable_validation_robust_accuracy", "dip"} <= {k for _, v in seen for k in v}
    dips = [values["dip"] for _, values in seen if "dip" in values]
    assert dips == [row["dip"] for row in plain("forget_relearn").recoveries]
