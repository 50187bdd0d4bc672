"""Which arms there are, and how each is read."""

from __future__ import annotations

import pytest
from tiny_lora_ipc import tiny_config

from relearn.errors import ParameterError
from relearn.methods.lora_ipc.arms import (
    arms_of,
    candidates_of,
    training_named,
    training_of,
    trainings_of,
)
from relearn.methods.lora_ipc.rivals_config import TrainingsConfig
from relearn.methods.lora_ipc.train import with_rate


def test_every_switch_makes_the_training_of_its_name():
    assert set(trainings_of(tiny_config())) == set(TrainingsConfig.model_fields)


def test_one_training_is_read_in_four_ways_and_the_leaking_one_only_where_asked():
    readings = trainings_of(tiny_config())["lorac_ipc"].deliveries
    assert list(readings) == [
        "lorac_ipc",
        "lorac_ipc_no_tap",
        "lorac_ipc_tii",
        "lorac_ipc_tii_no_tap",
    ]
    assert readings["lorac_ipc"].aligned
    assert not readings["lorac_ipc"].inferred
    leaking = tiny_config(task_inference__batch_wise=True)
    assert training_of(leaking, "lorac_ipc_batch_wise").deliveries["lorac_ipc_batch_wise"].voted


def test_without_alignment_or_inference_the_arm_keeps_its_name():
    plain = tiny_config(alignment__enabled=False, task_inference__enabled=False)
    found = trainings_of(plain)["lorac_ipc"].deliveries
    assert {name: reading.aligned for name, reading in found.items()} == {"lorac_ipc": False}


def test_only_trainings_that_freeze_are_treated():
    treated = {name for name, t in trainings_of(tiny_config()).items() if t.treated}
    assert treated == {name for name in TrainingsConfig.model_fields if "ipc" in name}


def test_the_rule_takes_the_cheap_alternatives_that_are_switched_on():
    rule = {"evidence__baseline_arm": "best_on_validation"}
    assert candidates_of(tiny_config(**rule)) == ("ncm", "ranpac", "shared_lora", "lorac")
    assert "ranpac" not in candidates_of(tiny_config(**rule, trainings__ranpac=False))
    assert candidates_of(tiny_config(evidence__baseline_arm="ncm")) == ("ncm",)


def test_arms_named_as_evidence_must_be_switched_on():
    with pytest.raises(ParameterError, match="sham_arm"):
        arms_of(tiny_config(trainings__lorac_ipc_random=False))
    with pytest.raises(ParameterError, match="did you mean lorac_ipc"):
        training_of(tiny_config(), "lorac_icp")
    with pytest.raises(ParameterError, match="not switched on"):
        training_named(tiny_config(trainings__ewc=False), "ewc")


def test_a_rate_is_that_of_a_family_and_a_rival_without_training_has_none():
    config = with_rate(tiny_config(), training="lorac_ipc_hard", factor=3.0)
    assert config.rates.lorac_ipc == 3.0
    assert config.rates.lorac == 1.0
    with pytest.raises(ParameterError, match="no rate"):
        with_rate(tiny_config(), training="ncm", factor=3.0)
