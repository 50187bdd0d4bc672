"""When to forget: never too early, never too late, never within a relearning."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from relearn.methods.forget_relearn.cycle_config import CycleConfig
from relearn.methods.forget_relearn.triggers import Trigger
from relearn.training.resume import pack, unpack


def cycle(**changes) -> CycleConfig:
    plain = {
        "warmup_epochs": 4,
        "trigger": "interval",
        "every_epochs": 3,
        "relearn_epochs": 2,
        "consolidate_epochs": 1,
        "at_epochs": "",
        "plateau": {"patience": 2, "smallest_gain": 0.01},
        "robust_gap": {"largest": 0.2, "smoothing": 0.5},
    }
    return CycleConfig.model_validate(plain | changes)


def course(config: CycleConfig, epochs: int, seen=None) -> Trigger:
    """Return the trigger after a run in which each epoch is evaluated while it is settled."""
    trigger = Trigger(config, epochs=epochs)
    for epoch in range(epochs):
        if trigger.due(epoch):
            trigger.forgot(epoch)
        if seen and trigger.settled(epoch + 1):
            train, validation = seen[epoch % len(seen)]
            trigger.observe(train_robust=train, validation_robust=validation)
    return trigger


def test_an_interval_begins_after_warm_up_and_leaves_room_for_the_last_relearning():
    assert course(cycle(), 15).forgotten_at == [4, 7, 10, 13]
    assert course(cycle(), 14).forgotten_at == [4, 7, 10]
    assert course(cycle(warmup_epochs=0), 7).forgotten_at == [0, 3]
    assert course(cycle(warmup_epochs=13), 15).forgotten_at == [13]


def test_a_list_is_followed():
    listed = cycle(trigger="list", at_epochs="11  4 7")
    assert course(listed, 15).forgotten_at == [4, 7, 11]
    assert Trigger(listed, epochs=15).due(4) == "listed epoch"


def test_a_plateau_forgets_after_its_patience_and_counts_again_after_each_forgetting():
    config = cycle(trigger="plateau", warmup_epochs=2)
    rising = [(0.9, 0.1 * n) for n in range(10)]
    assert course(config, 10, rising).forgotten_at == []
    # best at 1 evaluation, 2 without gain; afresh from the end of relearning: a best, then 2
    assert course(config, 12, [(0.9, 0.5)]).forgotten_at == [3, 7]


@pytest.mark.parametrize(("gain", "forgets"), [(0.004, True), (0.02, False)])
def test_a_gain_below_the_smallest_is_none(gain, forgets):
    config = cycle(trigger="plateau", warmup_epochs=0)
    slow = [(0.9, 0.1 + gain * n) for n in range(4)]
    assert bool(course(config, 6, slow).forgotten_at) == forgets


def test_the_gap_is_smoothed_and_begins_afresh_after_a_forgetting():
    config = cycle(trigger="robust_gap", warmup_epochs=0)
    trigger = Trigger(config, epochs=20)
    trigger.observe(train_robust=0.5, validation_robust=0.4)
    assert trigger.due(1) is None
    trigger.observe(train_robust=0.7, validation_robust=0.4)  # 0.5 * 0.1 + 0.5 * 0.3
    assert trigger.gap == pytest.approx(0.2)
    assert trigger.due(2) is None
    trigger.observe(train_robust=0.7, validation_robust=0.4)
    assert trigger.gap == pytest.approx(0.25)
    assert trigger.due(3) == "robust gap 0.250"
    trigger.forgot(3)
    assert (trigger.gap, trigger.due(4), trigger.due(5)) == (None, None, None)
    trigger.observe(train_robust=0.9, validation_robust=0.4)
    assert trigger.due(5) == "robust gap 0.500"


def test_a_negative_gap_never_forgets():
    config = cycle(trigger="robust_gap", warmup_epochs=0)
    assert course(config, 12, [(0.2, 0.6)]).forgotten_at == []


@st.composite
def runs(draw):
    relearn = draw(st.integers(1, 5))
    warmup = draw(st.integers(0, 8))
    epochs = warmup + relearn + draw(st.integers(0, 20))
    trigger = draw(st.sampled_from(["interval", "plateau", "robust_gap", "list"]))
    gaps = draw(st.lists(st.integers(relearn, relearn + 4), min_size=0, max_size=3))
    first = warmup + draw(st.integers(0, 3))
    listed = [first + sum(gaps[:n]) for n in range(len(gaps) + 1)]
    config = cycle(
        warmup_epochs=warmup,
        trigger=trigger,
        relearn_epochs=relearn,
        every_epochs=relearn + draw(st.integers(0, 4)),
        consolidate_epochs=draw(st.integers(1, relearn)),
        at_epochs=" ".join(map(str, listed)),
        plateau={"patience": draw(st.integers(1, 3)), "smallest_gain": 0.01},
    )
    share = st.floats(0, 1)
    return config, epochs, draw(st.lists(st.tuples(share, share), min_size=1, max_size=9))


@given(runs())
@settings(max_examples=150, deadline=None)
def test_every_cycle_ends_relearnt_whatever_the_trigger(given_run):
    config, epochs, seen = given_run
    trigger = course(config, epochs, seen)

    at = trigger.forgotten_at
    assert all(epoch >= config.warmup_epochs for epoch in at)
    assert all(b - a >= config.relearn_epochs for a, b in pairwise(at))
    assert all(epoch + config.relearn_epochs <= epochs for epoch in at)
    assert trigger.settled(epochs)
    if config.trigger == "interval":
        assert at[0] == config.warmup_epochs
        assert all(b - a == config.every_epochs for a, b in pairwise(at))
    if config.trigger == "list":
        assert at == [e for e in config.listed if e + config.relearn_epochs <= epochs]


@given(runs())
@settings(max_examples=80, deadline=None)
def test_phases_follow_the_forgettings_and_consolidation_the_end_of_each_relearning(given_run):
    config, epochs, seen = given_run
    trigger = course(config, epochs, seen)

    for epoch in range(epochs):
        inside = [a for a in trigger.forgotten_at if a <= epoch < a + config.relearn_epochs]
        warm = epoch < config.warmup_epochs
        phase = "warmup" if warm else "relearning" if inside else "learning"
        assert trigger.phase(epoch) == phase
        waits = bool(inside) and epoch - inside[0] < config.relearn_epochs - (
            config.consolidate_epochs
        )
        assert trigger.consolidates(epoch) == (not warm and not waits)
        ends = [a + config.relearn_epochs for a in trigger.forgotten_at]
        assert trigger.relearnt(epoch) == (epoch in ends and epoch not in trigger.forgotten_at)


def test_a_restored_trigger_goes_on_as_if_nothing_had_happened():
    config = cycle(trigger="plateau", warmup_epochs=0)
    for done in range(1, 9):
        whole = course(config, done, [(0.9, 0.5), (0.8, 0.55), (0.7, 0.4)])
        resumed = Trigger(config, epochs=done)
        resumed.restore(unpack(*pack(whole.state())))
        assert vars(resumed) == vars(whole)


BAD = [
    ({"every_epochs": 1}, r"every_epochs: got 1, expected at least relearn_epochs=2"),
    ({"consolidate_epochs": 3}, r"consolidate_epochs: got 3, expected at most relearn_epochs=2"),
    ({"at_epochs": "80,100"}, "at_epochs"),
    ({"at_epochs": "-4"}, "at_epochs"),
    ({"trigger": "list"}, r"at_epochs: is empty"),
    ({"trigger": "list", "at_epochs": "3 8"}, r"at_epochs: got 3, expected at least warmup_epochs"),
    ({"trigger": "list", "at_epochs": "5 6"}, r"at_epochs: 5 and 6 are closer than relearn_epochs"),
    ({"trigger": "sometimes"}, "trigger"),
    ({"warmup_epochs": -1}, "warmup_epochs"),
]


@pytest.mark.parametrize(("changes", "says"), BAD, ids=[str(list(c.values())) for c, _ in BAD])
def test_cycles_that_could_not_relearn_are_refused(changes, says):
    with pytest.raises(ValidationError, match=says):
        cycle(**changes)
