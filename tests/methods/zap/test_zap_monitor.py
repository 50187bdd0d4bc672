"""What is seen around a reset, on sequences made by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from relearn.evaluation.records import Recorder
from relearn.methods.zap.monitor import ResetMonitor, gradient_norms


def watch(batches: list[float | str], *, window: int = 2, tolerance: float = 0.0) -> ResetMonitor:
    """Return a monitor that has seen accuracies, and resets where a text stands."""
    monitor = ResetMonitor(window=window, tolerance=tolerance, gradient_every=5)
    step = 0
    for item in batches:
        if isinstance(item, str):
            monitor.reset_done(step)
        else:
            monitor.batch(item)
            step += 1
    return monitor


def test_the_drop_and_the_recovery_steps_of_a_plain_dip():
    (shock,) = watch([0.5, 0.7, 0.9, "reset", 0.1, 0.5, 0.8, 0.8, 0.9]).shocks
    assert shock.step == 3
    assert shock.before == pytest.approx(0.8)  # mean of the last two
    assert shock.after == 0.1
    # the mean of two is back at .8 after the third and fourth batch
    assert shock.recovery_steps == 4
    assert shock.watched_steps == 4


def test_the_tolerance_lets_recovery_come_sooner():
    dip = [0.8, 0.8, "reset", 0.2, 0.6, 0.8, 0.8]
    assert watch(dip).shocks[0].recovery_steps == 4
    assert watch(dip, tolerance=0.11).shocks[0].recovery_steps == 3
    assert watch(dip, tolerance=0.41).shocks[0].recovery_steps == 2


def test_recovery_is_not_judged_before_the_window_is_full():
    (shock,) = watch([0.2, 0.2, 0.2, "reset", 0.9, 0.9, 0.9], window=3).shocks
    assert shock.recovery_steps == 3


def test_a_reset_that_is_not_made_good_says_so():
    first, second = watch([0.8, 0.8, "reset", 0.1, 0.1, "reset", 0.9, 0.9]).shocks
    assert first.recovery_steps is None
    assert first.watched_steps == 2
    assert second.before == pytest.approx(0.1)
    assert second.recovery_steps == 2


def test_the_rows_tell_drop_recovery_and_the_share_made_good():
    monitor = watch([0.8, 0.8, "reset", 0.1, 0.1, "reset", 0.9, 0.9])
    recorder = Recorder("zap", "iid_zap", 0)
    monitor.write(recorder)
    rows = {(r.task, r.step, r.metric): r.value for r in recorder.records}
    assert rows["zap_shock", 2, "accuracy_drop"] == pytest.approx(0.7)
    assert rows["zap_shock", 2, "recovered"] == 0.0
    assert ("zap_shock", 2, "recovery_steps") not in rows
    assert rows["zap_shock", 4, "accuracy_drop"] == pytest.approx(-0.8)
    assert rows["zap_shock", 4, "recovery_steps"] == 2.0
    assert rows["zap_shock_summary", 2, "recovered_share"] == 0.5


def test_without_resets_nothing_is_written():
    recorder = Recorder("zap", "iid", 0)
    watch([0.1, 0.2]).write(recorder)
    assert recorder.records == []


def test_gradients_are_wanted_on_the_grid_and_near_a_reset():
    monitor = watch([0.5] * 3)
    assert [n for n in range(11) if monitor.wants_gradients(n)] == [0, 5, 10]
    monitor.reset_done(3)
    near = []
    for number in range(3, 9):
        near.append(monitor.wants_gradients(number))
        monitor.batch(0.5)
    assert near == [True, True, True, False, False, False]  # 5 and the window of 2 after step 3


def test_a_monitor_goes_on_from_its_kept_state():
    batches: list[float | str] = [0.8, 0.8, "reset", 0.1, 0.4, 0.8, 0.9, "reset", 0.2, 0.9, 0.9]
    for cut in range(len(batches)):
        first = watch(batches[:cut])
        second = watch([])
        second.restore(first.state())
        step = sum(not isinstance(b, str) for b in batches[:cut])
        for item in batches[cut:]:
            for monitor in (first, second):
                if isinstance(item, str):
                    monitor.reset_done(step)
                else:
                    monitor.batch(item)
            step += not isinstance(item, str)
            assert first.wants_gradients(1) == second.wants_gradients(1)
        assert first.shocks == second.shocks
        assert first.shocks == watch(batches).shocks


def test_gradient_norms_of_head_and_backbone_by_hand():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    for number, parameter in enumerate(net.parameters(), start=1):
        parameter.grad = torch.full_like(parameter, float(number))
    found = gradient_norms(net, net[1])
    # backbone: 4 ones and 2 twos; head: 2 threes and 1 four
    assert found["backbone_norm"] == pytest.approx((4 * 1 + 2 * 4) ** 0.5)
    assert found["head_norm"] == pytest.approx((2 * 9 + 1 * 16) ** 0.5)


def test_a_held_backbone_has_no_norm_and_an_infinite_one_is_left_to_the_loss():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    net[1].weight.grad = torch.ones(1, 2)
    assert set(gradient_norms(net, net[1])) == {"head_norm"}
    net[0].weight.grad = torch.full((2, 2), float("inf"))
    assert set(gradient_norms(net, net[1])) == {"head_norm"}
