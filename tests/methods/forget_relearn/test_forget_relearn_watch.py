"""What is seen while training: recovery, the alarm, and no test image ever."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_forget_relearn import curve, lean_config, plain, run, tiny_base, tiny_stream, weights

from relearn.data.ball import Ball
from relearn.data.images import Split, Stream
from relearn.methods.forget_relearn import session as session_module
from relearn.methods.forget_relearn.cycle import Cycle
from relearn.methods.forget_relearn.samples import draw_samples
from relearn.methods.forget_relearn.train import score_settings, train_one
from relearn.methods.forget_relearn.watch import (
    NEVER,
    Examiner,
    OverfittingAlarm,
    Reading,
    Recovery,
)


def alarmed(readings: list[tuple[float, float]], fall: float = 0.1) -> OverfittingAlarm:
    """Return the alarm after pairs of (training, validation) robust accuracy, one an epoch."""
    alarm = OverfittingAlarm(fall)
    raised = [
        alarm.observe(epoch=n, train=Reading(1.0, train), validation=Reading(1.0, validation))
        for n, (train, validation) in enumerate(readings, start=1)
    ]
    assert raised == [n == alarm.epoch for n in range(1, len(readings) + 1)]
    return alarm


def test_the_alarm_is_raised_once_where_validation_falls_while_training_rises():
    alarm = alarmed([(0.3, 0.3), (0.5, 0.5), (0.6, 0.45), (0.7, 0.375), (0.8, 0.2)])
    assert (alarm.epoch, alarm.peak, alarm.train_at_peak) == (4, 0.5, 0.5)


@pytest.mark.parametrize(
    "readings",
    [
        [(0.3, 0.3), (0.4, 0.4), (0.5, 0.5)],  # both rise
        [(0.5, 0.5), (0.4, 0.3), (0.3, 0.1)],  # both fall: collapse, not overfitting
        [(0.5, 0.5), (0.6, 0.45), (0.9, 0.42)],  # too small a fall
        [(0.5, 0.0), (0.9, 0.0)],  # nothing was ever robust
    ],
)
def test_other_courses_raise_no_alarm(readings):
    assert alarmed(readings).epoch == NEVER


def test_a_new_peak_counts_from_there():
    alarm = alarmed([(0.5, 0.5), (0.6, 0.45), (0.8, 0.6), (0.7, 0.45), (0.9, 0.45)])
    assert (alarm.epoch, alarm.peak) == (5, 0.6)


def test_a_restored_alarm_goes_on():
    alarm, again = alarmed([(0.5, 0.5), (0.7, 0.2)]), OverfittingAlarm(0.1)
    again.restore(vars(alarm))
    assert again == alarm
    assert not again.observe(epoch=9, train=Reading(1, 0.9), validation=Reading(1, 0.1))


def test_recovery_counts_the_epochs_until_the_level_before_is_reached_again():
    recovery = Recovery(cycle=1, epoch=10, before=0.5, after=0.1)
    for epochs, robust in enumerate([0.2, 0.479, 0.48, 0.3, 0.6], start=1):
        recovery.observe(robust, epochs=epochs, within=0.02)
    recovery.relearnt = 0.6
    told = recovery.values()
    assert (told["recovered"], told["recovery_epochs"]) == (1.0, 3.0)
    assert (told["dip"], told["after_relearning"]) == (0.4, 0.6)


def test_one_that_never_recovers_says_so():
    recovery = Recovery(cycle=2, epoch=10, before=0.5, after=0.1)
    recovery.observe(0.4, epochs=1, within=0.02)
    recovery.relearnt = 0.4
    told = recovery.values()
    assert (told["recovered"], told["recovery_epochs"], told["rolled_back"]) == (0.0, NEVER, 0.0)


def test_a_forgetting_that_costs_nothing_has_no_dip_and_recovers_at_once():
    told = plain("share_zero").recoveries
    assert told
    for row in told:
        assert (row["dip"], row["before"]) == (0.0, row["after_forgetting"])
        assert row["cka_after_forgetting"] == pytest.approx(1.0)


def noise_like(split: Split) -> Split:
    draw = torch.Generator().manual_seed(77)
    images = torch.randint(0, 256, split.images.shape, generator=draw, dtype=torch.uint8)
    return Split(images, split.labels[torch.randperm(len(split), generator=draw)])


def own_splits(poisoned: bool) -> tuple[object, Stream]:
    config = lean_config(samples__train_images=0, samples__validation_images=0)
    splits = dict(tiny_stream().splits)
    if poisoned:
        splits["test"] = noise_like(splits["test"])
    return config, replace(tiny_stream(), splits=splits)


@pytest.mark.parametrize("training", ["pgd_at", "forget_relearn"])
def test_test_images_are_never_read_while_training_and_choosing(training):
    found = []
    for poisoned in (False, True):
        config, stream = own_splits(poisoned)
        trained = train_one(tiny_base(), stream, config, training=training, seed=0)
        score, _ = score_settings(tiny_base(), stream, config, training=training, seed=0)
        found.append((trained, score))
    (one, score), (two, other) = found
    assert score == other
    assert one.curves == two.curves
    assert one.recoveries == two.recoveries
    assert one.interventions == two.interventions
    assert one.models.keys() == two.models.keys()
    assert all(torch.equal(weights(one, name), weights(two, name)) for name in one.models)


def test_redrawn_test_images_are_not_read_either(monkeypatch):
    def poisoned(stream, config, *, seed):
        samples = draw_samples(stream, config, seed=seed)
        return type(samples)(**{**vars(samples), "test": noise_like(samples.test)})

    monkeypatch.setattr(session_module, "draw_samples", poisoned)
    found = run("forget_relearn")
    assert found.curves == plain("forget_relearn").curves
    assert torch.equal(weights(found, "stable"), weights(plain("forget_relearn"), "stable"))


def test_monitored_training_images_are_of_all_classes_where_the_split_is_sorted():
    config = lean_config(samples__train_images=0, samples__validation_images=0)
    samples = draw_samples(tiny_stream(), config.samples, seed=0)
    assert samples.train.labels.tolist() == sorted(samples.train.labels.tolist())
    examiner = Examiner(
        samples, config.monitor, attack=config.attack, ball=Ball("linf", 0.1), seed=0
    )
    chosen = examiner.splits["train"]
    assert len(chosen) == config.monitor.images == 12
    assert len(set(chosen.labels.tolist())) == samples.classes
    assert {len(split) for split in examiner.splits.values()} == {12, len(samples.validation)}


def test_zero_monitored_images_means_all():
    config = lean_config(monitor__images=0)
    samples = draw_samples(tiny_stream(), config.samples, seed=0)
    examiner = Examiner(
        samples, config.monitor, attack=config.attack, ball=Ball("linf", 0.1), seed=0
    )
    assert torch.equal(examiner.splits["train"].images, samples.train.images)
    assert len(examiner.splits["few"]) == len(samples.validation)


def test_looking_on_more_often_changes_no_weight():
    often = run(
        "forget_relearn", monitor__every_epochs=1, monitor__steps=4, monitor__pictures=False
    )
    seldom = plain("forget_relearn")
    assert len(often.curves["common"]) > len(seldom.curves["common"])
    for name in ("last", "stable"):
        assert torch.equal(weights(often, name), weights(seldom, name))


def test_the_gap_is_the_difference_of_the_two_robust_curves():
    found = plain("forget_relearn")
    names = ("robust_gap", "student_train_robust_accuracy", "student_validation_robust_accuracy")
    gap, train_robust, validation = (curve(found, "common", name) for name in names)
    assert gap == {epoch: train_robust[epoch] - validation[epoch] for epoch in gap}
    assert curve(found, "student", "validation_robust_accuracy") == validation


@pytest.mark.parametrize(("training", "seen"), [("pgd_at", 6), ("forget_relearn", 4)])
def test_the_alarm_does_not_hear_of_the_dip_after_a_forgetting(training, seen, monkeypatch):
    heard = []
    observe = OverfittingAlarm.observe

    def noted(self, *, epoch, train, validation):
        heard.append(epoch)
        return observe(self, epoch=epoch, train=train, validation=validation)

    monkeypatch.setattr(OverfittingAlarm, "observe", noted)
    found = run(training, monitor__every_epochs=1)
    assert len(curve(found, "common", "robust_gap")) == 6
    assert len(heard) == seen
    if training == "forget_relearn":  # forgets after epochs 2 and 4, relearns for two epochs
        assert heard == [1, 2, 4, 6]


def read_anew(cycle, _state):
    return cycle.session.examiner.read(cycle.session.net, "few").robust


def test_what_a_relearning_ended_with_is_what_the_next_forgetting_begins_with(monkeypatch):
    reads = []
    read = Examiner.read

    def noted(self, net, split):
        reads.append(split)
        return read(self, net, split)

    monkeypatch.setattr(Examiner, "read", noted)
    once = run("forget_relearn")
    looked = reads.count("few")
    monkeypatch.setattr(Cycle, "_before", read_anew)
    reads.clear()
    twice = run("forget_relearn")
    assert once.recoveries == twice.recoveries
    assert len(once.recoveries) == 2
    assert reads.count("few") == looked + 1  # before the second forgetting


def test_a_roll_back_makes_the_end_of_a_relearning_count_no_more(monkeypatch):
    from test_forget_relearn_roll_back import BACK, always_lost

    always_lost(monkeypatch)
    changes = {**BACK, "train__epochs": 6}
    once = run("forget_relearn", seed=1, **changes)
    monkeypatch.setattr(Cycle, "_before", read_anew)
    assert once.recoveries == run("forget_relearn", seed=1, **changes).recoveries
    assert any(row["rolled_back"] for row in once.recoveries)
