"""Freezing in a stream, and rows that prove it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tiny_lora_ipc import delivered, learn, learnt, tiny_base

from relearn.methods.lora_ipc.freezing import verify
from relearn.methods.lora_ipc.ledger import verify_frozen
from relearn.methods.lora_ipc.state import restore_state
from relearn.models.checkpoint import build

TREATED = ["lorac_ipc", "lorac_ipc_random", "lorac_ipc_sequential", "lorac_ipc_hard"]


def frozen_after(arm: str) -> dict[str, int]:
    return {row.target: row.details["task"] for row in learnt(arm).ledger}


@pytest.mark.parametrize("arm", TREATED)
def test_a_frozen_matrix_does_not_drift_any_more_and_others_do(arm: str):
    drift, frozen = learnt(arm).matrices["drift"], frozen_after(arm)
    assert len(frozen) == 3
    for task, row in enumerate(drift):
        still = {name for name, value in row.items() if value == 0}
        assert still == {name for name, after in frozen.items() if after < task}


@pytest.mark.parametrize("arm", TREATED)
def test_every_row_is_made_again_alone_with_the_net_and_with_the_modules(arm: str):
    trained, result = learnt(arm), delivered(arm)
    body = trained.body
    adapters = restore_state(build(tiny_base()), body["tensors"], body["header"], where="test")
    for row in result.interventions:
        assert verify(row, result.checkpoint.architecture)
        assert verify(row, result.checkpoint.architecture, checkpoint=result.checkpoint)
        assert verify_frozen(row, adapters)


def test_a_row_that_was_tampered_with_is_found():
    result = delivered("lorac_ipc")
    row, shape = result.interventions[1], result.checkpoint.architecture
    lowest = min(row.details["scores"], key=row.details["scores"].get)
    for changed in (
        replace(row, target=lowest),
        replace(row, target="9.q"),
        replace(row, after_digest="0" * 64),
        replace(row, details={**row.details, "place": 7}),
        replace(row, details={**row.details, "digests_since": ["0" * 64]}),
    ):
        assert not verify(changed, shape)
    random = delivered("lorac_ipc_random").interventions[0]
    assert verify(random, shape)
    assert not verify(replace(random, draw_seed=5), shape)


def test_a_weight_that_was_changed_afterwards_is_found():
    result = delivered("lorac_ipc")
    row = result.interventions[0]
    weights = {name: tensor + 1 for name, tensor in result.checkpoint.weights.items()}
    other = replace(result.checkpoint, weights=weights)
    assert not verify(row, other.architecture, checkpoint=other)


def test_freezing_can_be_rare_or_off_and_the_share_counts():
    assert learn("lorac_ipc", freeze__share=0.0).ledger == []
    once = learn("lorac_ipc", freeze__when="first_task")
    assert {row.details["task"] for row in once.ledger} == {0}
    second = learn("lorac_ipc", freeze__when="every", freeze__every=2)
    assert {row.details["task"] for row in second.ledger} == {1}
    many = learn("lorac_ipc", freeze__share=0.25)
    assert [row["frozen_matrices"] for row in many.curves] == [3, 6, 9]


def test_all_matrices_may_end_frozen_and_the_last_layer_learns_on():
    trained = learn("lorac_ipc", freeze__share=0.99)
    assert [row["frozen_matrices"] for row in trained.curves] == [12, 12, 12]
    assert set(trained.matrices["drift"][2].values()) == {0.0}
    assert trained.curves[2]["trained_parameters"] == 6 * 16 + 6


def test_the_controls_freeze_as_many_but_not_by_importance():
    assert [*frozen_after("lorac_ipc_sequential")] == ["0.q", "0.k", "0.v"]
    assert [*frozen_after("lorac_ipc_random")] != [*frozen_after("lorac_ipc")]
    sizes = {len(frozen_after(arm)) for arm in TREATED}
    assert sizes == {3}


@pytest.mark.parametrize("rule", ["sensitivity", "fisher", "gradient_norm"])
def test_other_rules_rank_by_other_scores(rule: str):
    trained = learn("lorac_ipc", importance__rule=rule)
    assert {row.details["rule"] for row in trained.ledger} == {rule}
    assert trained.matrices["importance"][0] != learnt("lorac_ipc").matrices["importance"][0]


def test_the_window_decides_which_steps_are_looked_at():
    one = learn("lorac_ipc", importance__window_steps=1)
    assert one.matrices["importance"][0] != learnt("lorac_ipc").matrices["importance"][0]
    assert one.accuracy["lorac_ipc"][0] == learnt("lorac_ipc").accuracy["lorac_ipc"][0]
