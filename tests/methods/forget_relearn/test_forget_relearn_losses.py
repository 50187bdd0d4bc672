"""Every recipe, norm and net goes through the whole of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_forget_relearn import curve, lean_config, plain, run, tiny_base, tiny_stream, weights

from relearn.methods.forget_relearn.arm_result import judge
from relearn.methods.forget_relearn.ledger import verify
from relearn.methods.forget_relearn.run import train_one
from relearn.models.checkpoint import Architecture, build_fresh, capture

WHOLE = [
    {"loss__name": "trades"},
    {"loss__name": "trades", "relearn__consistency": "kl", "relearn__stable_input": "clean"},
    {"loss__name": "fgsm_rs"},
    {"attack__norm": "l2", "attack__epsilon": 1.5, "attack__step_size": 0.5},
    {"attack__restarts": 2, "attack__batch_norm": "running"},
    {"train__optimizer": "adamw", "train__learning_rate": 0.01},
    {"train__shift_pixels": 1, "train__flip": True, "samples__label_noise": 0.2},
]


@pytest.mark.parametrize("changes", WHOLE, ids=lambda c: "-".join(map(str, c.values())))
def test_every_recipe_trains_forgets_relearns_and_is_judged(changes):
    found = run("forget_relearn", **changes)
    assert not torch.equal(weights(found, "stable"), weights(plain("forget_relearn"), "stable"))
    assert [row["epoch"] for row in found.recoveries] == [2.0, 4.0]
    assert all(verify(row, found.architecture) for row in found.interventions)
    result = judge(found, tiny_stream(), lean_config(**changes), arm="forget_relearn")
    tests = {r.metric: r.value for r in result.records if r.task == "test"}
    assert 0 <= tests["robust_accuracy"] <= tests["clean_accuracy"] <= 1


@pytest.mark.parametrize("loss", ["trades", "fgsm_rs"])
def test_nothing_forgotten_and_no_pull_is_the_plain_recipe_bit_for_bit(loss):
    changes = {"loss__name": loss, "relearn__consistency": "none"}
    assert torch.equal(weights(run("share_zero", **changes)), weights(run("pgd_at", **changes)))


def test_the_alarm_of_catastrophic_overfitting_is_for_the_single_step_alone(monkeypatch):
    from relearn.methods.forget_relearn import observe

    asked = []
    monkeypatch.setattr(
        observe, "catastrophic_overfitting", lambda *given, fall: bool(asked.append(given) or True)
    )
    assert run("pgd_at").notes["catastrophic_overfitting_epoch"] == -1
    assert asked == []
    found = run("pgd_at", loss__name="fgsm_rs")
    assert found.notes["catastrophic_overfitting_epoch"] == 2.0
    single, pgd = asked[-1]
    assert single == list(curve(found, "common", "train_batch_robust_accuracy").values())
    assert pgd == list(curve(found, "common", "student_train_robust_accuracy").values())


def test_a_net_without_batch_norm_goes_the_same_way():
    shape = Architecture("mlp", 1, 8, 3, {"width": 8, "depth": 2}, (0.5,), (0.3,))
    base = capture(build_fresh(shape, seed=5), shape, {})
    config = lean_config(consolidate__recalibrate=True)
    found = train_one(base, tiny_stream(), config, training="forget_relearn", seed=0)
    assert {row.target for row in found.interventions} == {"hidden.2.weight", "head.weight"}
    assert all(verify(row, found.architecture) for row in found.interventions)
    # nothing to recalibrate: the stable model of the last cycle is the one at the end
    assert torch.equal(weights(found, "stable"), weights(found, "cycle2.stable"))


def test_a_base_with_other_classes_gets_a_fresh_last_layer_of_the_right_size():
    shape = replace(tiny_base().architecture, classes=7)
    base = capture(build_fresh(shape, seed=5), shape, {})
    for start in ("base", "initialisation"):
        config = lean_config(start_from=start, train__epochs=4)
        found = train_one(base, tiny_stream(), config, training="forget_relearn", seed=0)
        assert found.models["stable"]["head.weight"].shape[0] == 3
        assert found.architecture.classes == 3


def test_training_learns():
    found = run("pgd_at", train__epochs=20, cycle__warmup_epochs=4)
    robust = curve(found, "student", "validation_robust_accuracy")
    assert max(robust.values()) > 0.6  # chance: a third
    loss = list(curve(found, "common", "train_loss").values())
    assert loss[-1] < 0.6 * loss[0]
