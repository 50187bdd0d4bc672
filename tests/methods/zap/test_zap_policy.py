"""When a reset happens: the schedule as a table, and its laws for any setting."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from tiny_zap import tiny_config

from relearn.data.randomness import generator_of
from relearn.methods.zap.config import PolicyConfig
from relearn.methods.zap.policy import Policy, choose_rows


def policy(**changes) -> Policy:
    plain = tiny_config().policy.model_dump() | {"settle_steps": 1}
    return Policy(PolicyConfig.model_validate(plain | changes))


def fired(made: Policy, epochs: int, *, steps_per_epoch: int = 4) -> list[int]:
    """Return the units before which a reset was done, as training would ask for them."""
    when = []
    for done in range(epochs):
        if made.due(done, steps_left=(epochs - done) * steps_per_epoch):
            made.fired()
            when.append(done)
    return when


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"every": 1}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ({"every": 3}, [3, 6, 9]),
        ({"every": 2, "start": 3}, [3, 5, 7, 9]),
        ({"every": 2, "start": 1}, [1, 3, 5, 7, 9]),
        ({"every": 1, "stop": 4}, [1, 2, 3, 4]),
        ({"every": 2, "start": 2, "stop": 5}, [2, 4]),
        ({"every": 10}, []),
        ({"every": 1, "settle_steps": 8}, [1, 2, 3, 4, 5, 6, 7, 8]),
        ({"every": 1, "settle_steps": 9}, [1, 2, 3, 4, 5, 6, 7]),
        ({"every": 1, "settle_steps": 1000}, []),
    ],
)
def test_resets_come_when_the_knobs_say(changes, expected):
    assert fired(policy(**changes), 10) == expected


@settings(max_examples=150, deadline=None)
@given(
    every=st.integers(1, 7),
    start=st.integers(0, 9),
    stop=st.integers(0, 12),
    settle=st.integers(1, 30),
    epochs=st.integers(1, 15),
    steps=st.integers(1, 6),
)
def test_never_before_the_first_epoch_nor_after_the_last(every, start, stop, settle, epochs, steps):
    made = policy(every=every, start=start, stop=stop, settle_steps=settle)
    when = fired(made, epochs, steps_per_epoch=steps)
    assert all(1 <= unit < epochs for unit in when)
    assert all(unit >= start for unit in when)
    assert all(stop == 0 or unit <= stop for unit in when)
    assert all((epochs - unit) * steps >= settle for unit in when)
    assert all(b - a == every for a, b in itertools.pairwise(when))
    assert made.due(epochs, steps_left=0) is None


def test_the_official_main_setting_resets_all_rows_before_every_epoch_but_the_first():
    made = policy(every=1, rows="all", decay=1.0)
    assert fired(made, 5) == [1, 2, 3, 4]
    due = made.due(1, steps_left=4)
    assert due is not None
    assert (due.share, due.trigger) == (1.0, "every 1 epochs")


def test_the_share_of_rows_decays_from_reset_to_reset():
    made = policy(rows="fraction", fraction=0.8, decay=0.5)
    shares = []
    for done in (1, 2, 3):
        due = made.due(done, steps_left=9)
        assert due is not None
        shares.append(due.share)
        made.fired()
    assert shares == pytest.approx([0.8, 0.4, 0.2])
    full = policy(rows="all", fraction=0.3).due(1, steps_left=9)
    assert full is not None
    assert full.share == 1.0


def test_a_plateau_fires_after_its_patience_and_starts_afresh():
    made = policy(trigger="plateau", plateau={"patience": 2, "smallest_gain": 0.1})
    when = []
    for done, loss in enumerate([1.0, 0.8, 0.79, 0.78, 0.5, 0.49, 0.48, 0.2], start=1):
        made.observe(loss)
        due = made.due(done, steps_left=100)
        if due is not None:
            assert "plateau of 2 epochs" in due.trigger
            made.fired()
            when.append(done)
    # .79 and .78 gain less than a tenth on .8; afterwards .5 opens a new search, .49 and .48 end it
    assert when == [4, 7]


def test_a_loss_that_keeps_falling_is_no_plateau():
    made = policy(trigger="plateau", plateau={"patience": 1, "smallest_gain": 0.01})
    for done in range(1, 20):
        made.observe(0.9**done)
        assert made.due(done, steps_left=100) is None


def test_a_policy_goes_on_from_its_kept_state():
    changes = {"trigger": "plateau", "rows": "fraction", "fraction": 0.9, "decay": 0.5}
    whole, before = policy(**changes), policy(**changes)
    losses = [1.0, 1.0, 0.99, 0.5, 0.5, 0.5]
    answers = []
    for done, loss in enumerate(losses, start=1):
        whole.observe(loss)
        answers.append(whole.due(done, steps_left=9))
        if answers[-1]:
            whole.fired()
    for cut in range(len(losses)):
        before, told = policy(**changes), []
        for done, loss in enumerate(losses, start=1):
            if done == cut + 1:
                after = policy(**changes)
                after.restore(before.state())
                before = after
            before.observe(loss)
            told.append(before.due(done, steps_left=9))
            if told[-1]:
                before.fired()
        assert told == answers


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"rows": "sampled_class", "unit": "epochs"}, "sampled_class"),
        ({"trigger": "plateau", "unit": "steps"}, "plateau"),
        ({"every": 0}, "every"),
        ({"fraction": 0.0}, "fraction"),
        ({"settle_steps": 0}, "settle_steps"),
        ({"evry": 1}, "evry"),
    ],
)
def test_a_policy_that_means_nothing_is_refused(changes, part):
    with pytest.raises(ValidationError, match=part):
        policy(**changes)


@pytest.mark.parametrize(
    ("changes", "part"),
    [({"policy__unit": "episodes"}, "policy.unit"), ({"episode_policy__unit": "epochs"}, "unit")],
)
def test_each_scheme_counts_in_its_own_units(changes, part):
    with pytest.raises(ValidationError, match=part):
        tiny_config(**changes)


@settings(max_examples=100, deadline=None)
@given(total=st.integers(1, 40), share=st.floats(0.001, 1.0), seed=st.integers(0, 2**31))
def test_chosen_rows_are_the_asked_number_sorted_and_without_repetition(total, share, seed):
    rows = choose_rows(total, share, generator_of(seed, "rows"))
    assert len(rows) == max(1, min(total, round(share * total)))
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert 0 <= int(rows.min()) <= int(rows.max()) < total


def test_every_row_is_chosen_equally_often():
    count = torch.zeros(10)
    for seed in range(2000):
        count[choose_rows(10, 0.3, generator_of(seed, "rows"))] += 1
    # binomial(2000, .3): five standard deviations are 102
    assert float((count - 600).abs().max()) < 102
