"""What the parameters of lora_ipc refuse."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from tiny_lora_ipc import tiny_config

from relearn.methods.lora_ipc import matrices
from relearn.methods.lora_ipc.lora_config import MATRIX_KINDS


def test_the_kinds_of_the_parameters_are_those_of_the_nets():
    assert MATRIX_KINDS == matrices.KINDS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lora__kinds": "q,k,fc"}, "did you mean"),
        ({"lora__kinds": "q,q"}, "twice"),
        ({"rivals__ridge_penalties": "1,-1"}, "above 0"),
        ({"rivals__ridge_penalties": "a"}, "numbers"),
        ({"train__epochs": 0}, "epochs"),
        ({"tasks__count": 5, "tasks__planned": 3}, "planned"),
        ({"tasks__count": 2, "tasks__learn": 3}, "learn"),
        ({"samples__validation_share": 0.0}, "validation_share"),
        ({"freeze__share": 1.0}, "share"),
    ],
)
def test_unusable_values_are_refused_by_name(change: dict[str, object], message: str):
    with pytest.raises(ValidationError, match=message):
        tiny_config(**change)


def test_an_arm_that_leaks_the_task_boundary_is_never_a_headline():
    for role in ("baseline_arm", "treated_arm", "sham_arm"):
        with pytest.raises(ValidationError, match="leaks"):
            tiny_config(**{f"evidence__{role}": "lorac_ipc_batch_wise"})


def test_lists_may_have_spaces():
    config = tiny_config(lora__kinds="q, v", rivals__ridge_penalties="1e-2, 1")
    assert config.lora.names == ("q", "v")
    assert config.rivals.penalties == (0.01, 1.0)
