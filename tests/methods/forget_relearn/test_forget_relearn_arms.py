"""Which trainings there are, what each delivers, and what the studies vary."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_forget_relearn import (
    TRAININGS,
    curve,
    judged,
    lean_config,
    plain,
    run,
    tiny_config,
    weights,
)

from relearn.errors import ParameterError
from relearn.methods.forget_relearn.arms import (
    arms_of,
    candidates_of,
    training_of,
    trainings_of,
)

COMPARE = ("arms", "layers", "fraction_length", "components")
SHORT = {"study__lengths": {"shortest": 1, "factor": 2, "count": 2}}


def study(name: str, **changes):
    return trainings_of(lean_config(compare=name, **SHORT, **changes))


@pytest.mark.parametrize("name", COMPARE)
def test_every_arm_is_delivered_once_and_found_again(name):
    config = lean_config(compare=name, **SHORT)
    arms = arms_of(config)
    assert len(arms) == len(set(arms))
    for training in trainings_of(config).values():
        for arm in training.deliveries:
            assert training_of(config, arm) == training
    assert next(iter(trainings_of(config))) == "pgd_at"


def test_trainings_that_are_switched_off_are_not_there():
    config = tiny_config(trainings__awp=False)
    assert set(trainings_of(config)) == {"pgd_at", "forget_relearn"}
    assert set(trainings_of(lean_config())) == set(TRAININGS)


def test_an_unknown_arm_is_refused_with_a_near_miss():
    with pytest.raises(ParameterError, match=r"'forget_relearned', did you mean forget_relearn\?"):
        training_of(lean_config(), "forget_relearned")


@pytest.mark.parametrize("name", ["baseline_arm", "treated_arm", "sham_arm"])
def test_an_arm_of_the_evidence_that_nobody_delivers_is_refused_with_a_near_miss(name):
    says = rf"forget_relearn\.evidence\.{name}: 'share_zer' .* did you mean share_zero\?"
    with pytest.raises(ParameterError, match=says):
        trainings_of(lean_config(**{f"evidence__{name}": "share_zer"}))


def test_best_on_validation_needs_a_candidate():
    none = {f"trainings__{name}": False for name in ("pgd_at", "awp")}
    with pytest.raises(ParameterError, match="best_on_validation"):
        trainings_of(lean_config(**none))
    assert trainings_of(lean_config(trainings__pgd_at=False))


def test_the_baseline_is_picked_among_the_cheap_alternatives_or_named():
    rule = candidates_of(lean_config())
    assert rule == ("pgd_at_stopped", "pgd_at_ema", "pgd_at_ema_stopped", "awp", "awp_stopped")
    assert candidates_of(tiny_config(trainings__awp=False)) == rule[:3]
    assert candidates_of(lean_config(evidence__baseline_arm="pgd_at")) == ("pgd_at",)
    assert candidates_of(lean_config(compare="layers")) == rule[:3]


def test_the_sham_and_the_controls_differ_from_the_method_in_one_thing():
    found = trainings_of(lean_config(forget__fractions__late=0.3))
    method = found["forget_relearn"]
    alike = {"name": "forget_relearn", "deliveries": method.deliveries}
    sham, early, only = (found[n] for n in ("share_zero", "forget_early", "forget_only"))
    assert replace(sham, **alike, forget=method.forget) == method
    assert sham.forget.fraction == 0.0
    assert set(sham.forget.fractions.model_dump().values()) == {None}
    assert replace(early, **alike, forget=method.forget) == method
    assert (early.forget.layers, early.forget.allow_early) == ("early", True)
    assert only.forget == method.forget
    assert (only.stable, only.relearn.consistency) == (False, "none")


def test_the_study_of_layers_varies_the_layers_alone():
    found = study("layers")
    layers = [t.forget.layers for t in found.values() if t.treated]
    assert layers == ["early", "middle", "late", "head", "all"]
    assert {t.forget.fraction for t in found.values()} == {lean_config().forget.fraction}


def test_the_study_of_fraction_and_length_is_the_grid():
    found = [t for t in study("fraction_length").values() if t.treated]
    pairs = [(t.forget.fraction, t.cycle.relearn_epochs) for t in found]
    assert pairs == [(f, n) for f in (0.025, 0.05, 0.1, 0.2) for n in (1, 2)]
    for training in found:
        cycle = training.cycle
        assert cycle.every_epochs == cycle.relearn_epochs >= cycle.consolidate_epochs >= 1


def test_the_study_of_components_takes_them_away_one_by_one():
    told = {
        t.name: (t.forget.fraction > 0, t.stable, t.relearn.consistency != "none")
        for t in study("components").values()
        if t.treated
    }
    assert told == {
        "forget_only": (True, False, False),
        "stable_only": (False, True, False),
        "forget_stable": (True, True, False),
        "share_zero": (False, True, True),
        "forget_relearn": (True, True, True),
    }


def test_all_components_together_are_the_method_and_share_its_unit():
    one, two = (
        trainings_of(config) for config in (lean_config(compare="components"), lean_config())
    )
    alike = one.keys() & two.keys()
    assert alike == {"pgd_at", "forget_only", "share_zero", "forget_relearn"}
    assert all(one[name] == two[name] for name in alike)


def test_a_stable_model_alone_leaves_the_student_as_it_was():
    one = run("stable_only", compare="components")
    assert torch.equal(weights(one), weights(plain("pgd_at")))


@pytest.mark.parametrize(
    ("training", "arm", "kind"),
    [
        ("pgd_at", "pgd_at_stopped", "student"),
        ("pgd_at", "pgd_at_ema", "average"),
        ("forget_relearn", "forget_relearn", "stable"),
        ("forget_relearn", "forget_relearn_student", "student"),
    ],
)
def test_an_arm_shows_the_curves_of_its_own_kind_of_model(training, arm, kind):
    found = {
        r.step: r.value
        for r in judged(training, arm).records
        if (r.task, r.metric) == ("curve", "validation_robust_accuracy")
    }
    assert found == curve(plain(training), kind, "validation_robust_accuracy")


def test_the_records_of_an_arm_are_those_that_were_agreed():
    def found(training: str, arm: str) -> dict[str, set[str]]:
        told: dict[str, set[str]] = {}
        for record in judged(training, arm).records:
            told.setdefault(record.task, set()).add(record.metric)
        return told

    treated, base = found("forget_relearn", "forget_relearn"), found("pgd_at", "pgd_at_stopped")
    assert treated.keys() - base.keys() == {"recovery"}
    assert {"phase", "robust_gap", "learning_rate", "train_loss"} <= treated["curve"]
    assert {"dip", "recovered", "recovery_epochs", "rolled_back"} <= treated["recovery"]
    assert {"clean_accuracy", "robust_accuracy", "delivered_epoch"} <= treated["test"]
    assert treated["train"] == {"clean_accuracy", "robust_accuracy", "robust_gap"}
    assert treated["calibration"] == {"ece", "nll", "brier", "adversarial_ece"}
    assert "robust_overfitting_epoch" in treated["alarm"]
