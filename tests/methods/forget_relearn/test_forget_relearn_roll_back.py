"""Going back: by itself where a forgetting did not recover, and to a cycle that a person names."""

from __future__ import annotations

import pytest
import torch
from tiny_forget_relearn import lean_config, plain, run, tiny_stream, weights

from relearn.errors import ParameterError
from relearn.methods.forget_relearn import cycle as cycle_module
from relearn.methods.forget_relearn.arm_result import judge
from relearn.methods.forget_relearn.ledger import ROLL_BACK, verify
from relearn.provenance import digest_tensors

BACK = {"roll_back__automatic": True, "roll_back__tolerance": 0.0, "forget__fraction": 1.0}


def copied(state) -> dict:
    model, steps = state.model, state.optimizer.state_dict()["state"]
    return {
        "weights": {n: v.clone() for n, v in model.state_dict().items()},
        "momentum": {n: s["momentum_buffer"].clone() for n, s in steps.items()},
        "rate": state.optimizer.param_groups[0]["lr"],
    }


@pytest.fixture
def moments(monkeypatch):
    """Note the student, its optimizer and the stable model before a forgetting and after going."""
    seen: dict[str, list] = {"kept": [], "left": [], "taken": [], "stable": []}
    keep, back = cycle_module.keep, cycle_module.go_back

    def kept(session, state):
        seen["kept"].append(copied(state))
        seen["stable"].append(session.stable.weights())
        return keep(session, state)

    def gone(session, state, recovery, **given):
        recovery.relearnt = recovery.before - 0.5
        seen["left"].append(copied(state))
        back(session, state, recovery, **given)
        seen["taken"].append(copied(state))
        seen["stable"].append(session.stable.weights())

    monkeypatch.setattr(cycle_module, "keep", kept)
    monkeypatch.setattr(cycle_module, "go_back", gone)
    return seen


def always_lost(monkeypatch):
    """Let every relearning end below the level before: the dip is there, the rest is luck."""
    real = cycle_module.Cycle._follow_recovery

    def worse(cycle, done, *, relearnt):
        real(cycle, done, relearnt=relearnt)
        if relearnt:
            cycle.session.books.recoveries[-1].before = 2.0

    monkeypatch.setattr(cycle_module.Cycle, "_follow_recovery", worse)


def test_going_back_takes_up_exactly_what_was_before_the_forgetting(moments, monkeypatch):
    always_lost(monkeypatch)
    run("forget_relearn", **BACK)

    assert len(moments["kept"]) == len(moments["taken"]) == 2
    for kept, left, taken in zip(*(moments[n] for n in ("kept", "left", "taken")), strict=True):
        for what in ("weights", "momentum"):
            assert all(torch.equal(v, taken[what][n]) for n, v in kept[what].items())
            assert not all(torch.equal(v, left[what][n]) for n, v in kept[what].items())
        assert taken["rate"] == left["rate"]  # the schedule goes on
    before, after = moments["stable"][0], moments["stable"][1]
    assert all(torch.equal(v, after[n]) for n, v in before.items())


def test_going_back_is_written_down_and_proves_itself(monkeypatch):
    always_lost(monkeypatch)
    found = run("forget_relearn", **BACK)

    rows = [row for row in found.interventions if row.kind == ROLL_BACK]
    assert [(row.epoch, row.details["cycle"]) for row in rows] == [(4, 1), (6, 2)]
    assert all(verify(row, found.architecture) for row in found.interventions)
    assert all(row.before_digest != row.after_digest for row in rows)
    assert [row["rolled_back"] for row in found.recoveries] == [1.0, 1.0]
    assert found.steps_since_change == 0
    # it went back to where it had been at the end of warm-up, twice
    assert len({row.after_digest for row in rows}) == 1
    assert digest_tensors(found.models["last"]) == rows[-1].after_digest


def test_a_row_of_going_back_that_was_tampered_with_does_not_verify(monkeypatch):
    from dataclasses import replace

    always_lost(monkeypatch)
    found = run("forget_relearn", **BACK)
    row = next(row for row in found.interventions if row.kind == ROLL_BACK)
    assert not verify(replace(row, after_digest=row.before_digest), found.architecture)
    assert not verify(
        replace(row, details={**row.details, "kept_digest": "0" * 64}), found.architecture
    )


def test_a_forgetting_that_recovered_is_kept():
    found = run("share_zero", roll_back__automatic=True, roll_back__tolerance=0.99)
    assert not any(row.kind == ROLL_BACK for row in found.interventions)
    assert torch.equal(weights(found), weights(plain("share_zero")))


@pytest.mark.parametrize("keep", [0, 1, 2])
def test_so_many_cycles_are_kept_and_no_more(keep):
    found = run("forget_relearn", train__epochs=8, roll_back__keep_cycles=keep)
    kept = {name.partition(".")[0] for name in found.models if "." in name}
    assert kept == {f"cycle{3 - n}" for n in range(keep)}
    names = {f"{cycle}.{model}" for cycle in kept for model in ("last", "stable")}
    assert names == {name for name in found.models if "." in name}
    assert all(found.epochs[name] == 2 + 2 * int(name[5]) for name in names)


def test_the_models_of_the_last_cycle_are_those_at_the_end():
    found = plain("forget_relearn")
    for model in ("last", "stable"):
        assert torch.equal(weights(found, f"cycle2.{model}"), weights(found, model))
        assert not torch.equal(weights(found, f"cycle1.{model}"), weights(found, model))


def test_the_models_of_a_cycle_are_those_of_a_training_that_ended_there():
    early = run("forget_relearn", train__epochs=4, train__schedule="constant")
    late = run("forget_relearn", train__epochs=6, train__schedule="constant")
    for model in ("last", "stable"):
        assert torch.equal(weights(late, f"cycle1.{model}"), weights(early, model))


@pytest.mark.parametrize("arm", ["forget_relearn", "forget_relearn_student"])
def test_a_named_cycle_is_delivered(arm):
    config = lean_config(roll_back__to_cycle=1)
    found = judge(plain("forget_relearn"), tiny_stream(), config, arm=arm)
    told = found.checkpoint.provenance
    name = "cycle1.last" if arm.endswith("student") else "cycle1.stable"
    assert (told["model"], told["epochs"]) == (name, 4)
    kept = plain("forget_relearn").models[name]
    assert all(torch.equal(v, kept[n]) for n, v in found.checkpoint.weights.items())
    delivered = [r.value for r in found.records if r.metric == "delivered_epoch"]
    assert delivered == [4.0]


@pytest.mark.parametrize("arm", ["pgd_at", "pgd_at_stopped", "pgd_at_ema", "awp"])
def test_plain_training_knows_no_cycles_and_is_delivered_as_it_ended(arm):
    training = "awp" if arm == "awp" else "pgd_at"
    one, two = (
        judge(plain(training), tiny_stream(), lean_config(roll_back__to_cycle=cycle), arm=arm)
        for cycle in (0, 2)
    )
    assert one.records == two.records


def test_a_cycle_that_was_not_kept_is_refused_with_what_there_is():
    found = run("forget_relearn", train__epochs=8, roll_back__keep_cycles=2)
    says = r"forget_relearn\.roll_back\.to_cycle: got 1, .* has kept cycle2, cycle3; raise"
    with pytest.raises(ParameterError, match=says):
        judge(found, tiny_stream(), lean_config(roll_back__to_cycle=1), arm="forget_relearn")


@pytest.mark.parametrize("training", ["forget_relearn", "forget_only"])
def test_a_training_that_never_forgot_has_no_cycle_to_go_back_to(training):
    never = {"cycle__trigger": "robust_gap", "cycle__robust_gap__largest": 0.99}
    found = run(training, **never)
    assert found.recoveries == []
    with pytest.raises(ParameterError, match="has kept none"):
        judge(found, tiny_stream(), lean_config(roll_back__to_cycle=1), arm=training)
