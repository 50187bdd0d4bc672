"""What a finished training hands on: every model, told plainly, and statistics measured anew."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_forget_relearn import (
    curve,
    judged,
    lean_config,
    plain,
    run,
    tiny_base,
    tiny_stream,
    weights,
)

from relearn.data.randomness import generator_of
from relearn.errors import ParameterError
from relearn.methods.forget_relearn.arm_result import judge, validation_scores
from relearn.methods.forget_relearn.arms import trainings_of
from relearn.methods.forget_relearn.deliver import settings_digest
from relearn.methods.forget_relearn.recalibrate import recalibrate
from relearn.methods.forget_relearn.run import open_session
from relearn.methods.forget_relearn.train import score_settings, with_settings
from relearn.methods.forget_relearn.trained import Trained
from relearn.models.checkpoint import build_fresh

MODELS = {
    "pgd_at": {"last", "best", "average", "average_best"},
    "awp": {"last", "best"},
    "forget_relearn": {"last", "best", "stable", "stable_best"},
    "forget_only": {"last", "best"},
}


@pytest.mark.parametrize("training", MODELS)
def test_a_training_delivers_every_model_that_its_arms_are(training):
    found = plain(training)
    assert {name for name in found.models if "." not in name} == MODELS[training]
    assert found.models.keys() == found.epochs.keys()
    wanted = trainings_of(lean_config())[training].deliveries.values()
    assert set(wanted) <= MODELS[training]


@pytest.mark.parametrize("training", ["pgd_at", "forget_relearn"])
def test_what_is_told_plainly_makes_the_training_again(training):
    found = plain(training)
    told, tensors = found.plain()
    again = Trained.from_plain(json.loads(json.dumps(told)), tensors)
    assert again.architecture == found.architecture
    assert again.interventions == found.interventions
    assert again.plain()[0] == told
    assert all(torch.equal(v, tensors[n]) for n, v in again.plain()[1].items() if "cka" not in n)
    arm = {"pgd_at": "pgd_at_ema"}.get(training, training)
    one = judged(training, arm)
    two = judge(again, tiny_stream(), lean_config(), arm=arm)
    assert one.records == two.records
    assert one.interventions == two.interventions


def test_the_best_models_are_those_of_the_best_epoch_on_validation():
    found = run("pgd_at", monitor__every_epochs=1)
    for kind, model in (("student", "best"), ("average", "average_best")):
        course = curve(found, kind, "validation_robust_accuracy")
        best = max(course.values())
        assert found.epochs[model] == min(e for e, value in course.items() if value == best)


def test_only_ends_of_a_relearning_can_be_the_best_of_a_training_that_forgets():
    found = run("forget_relearn", monitor__every_epochs=1)
    middle = {3, 5}  # forgets at 2 and 4, relearns two epochs
    assert middle < curve(found, "stable", "validation_robust_accuracy").keys()
    assert found.epochs["stable_best"] not in middle
    assert found.epochs["best"] not in middle


def test_a_stopped_model_is_the_last_one_where_the_last_epoch_was_best():
    found = plain("pgd_at")
    if found.epochs["best"] == 6:
        assert torch.equal(weights(found, "best"), weights(found))
    early = {name: found.epochs[name] for name in found.models if found.epochs[name] < 6}
    assert all(not torch.equal(weights(found, n), weights(found)) for n in early)


def test_another_training_than_that_of_the_arm_is_refused():
    says = "arm 'pgd_at' is delivered by pgd_at, got the finished training awp"
    with pytest.raises(ParameterError, match=says):
        judge(plain("awp"), tiny_stream(), lean_config(), arm="pgd_at")


def test_settings_are_scored_by_the_best_arm_on_validation_as_the_judge_measures_it():
    config = lean_config()
    score, seconds = score_settings(
        tiny_base(), tiny_stream(), config, training="forget_relearn", seed=0
    )
    arms = ("forget_relearn", "forget_relearn_student", "forget_relearn_stopped")
    wanted = ("validation", "robust_accuracy")
    judgements = [
        r.value
        for arm in arms
        for r in judged("forget_relearn", arm).records
        if (r.task, r.metric) == wanted
    ]
    assert score == max(judgements)
    assert seconds["total_seconds"] > 0


def test_a_model_that_is_no_arm_is_not_scored():
    found = validation_scores(plain("forget_relearn"), tiny_stream(), lean_config())
    assert set(found) == {"stable", "last", "stable_best"}
    only = validation_scores(plain("forget_only"), tiny_stream(), lean_config())
    assert set(only) == {"last"}


def test_settings_of_the_training_and_of_nothing_else_have_an_address():
    first = settings_digest(lean_config())
    outside = [
        {"judging__steps": 3},
        {"roll_back__to_cycle": 1},
        {"trainings__awp": False},
        {"compare": "layers"},
        {"evidence__smallest_difference": 0.5},
    ]
    inside = [
        {"roll_back__keep_cycles": 1},
        {"monitor__steps": 3},
        {"train__epochs": 7},
        {"forget__fraction": 0.2},
    ]
    assert {settings_digest(lean_config(**c)) for c in outside} == {first}
    assert all(settings_digest(lean_config(**c)) != first for c in inside)
    changed = with_settings(lean_config(), schedule="cosine", rate_factor=3.0)
    assert (changed.train.schedule, changed.train.learning_rate) == ("cosine", pytest.approx(0.3))


def test_recalibrated_statistics_are_the_mean_over_one_pass():
    config = lean_config()
    training = trainings_of(config)["forget_relearn"]
    session = open_session(tiny_base(), tiny_stream(), config, training=training, seed=0)
    given = plain("forget_relearn").models["stable"]

    found = recalibrate(session, given)

    net = build_fresh(session.architecture, seed=0).eval()
    net.load_state_dict(dict(given))
    pixels = session.samples.train.images.float() / 255
    noise = generator_of(0, "forget_relearn.recalibrate")
    passes = [pixels, session.ball.random_start(pixels, noise)]
    with torch.no_grad():  # the first layer sees no other statistics
        seen = [net.blocks[0].convolution((p - 0.5) / 0.3) for p in passes]
    means = torch.stack([x.mean((0, 2, 3)) for x in seen]).mean(0)
    spreads = torch.stack([x.var((0, 2, 3)) for x in seen]).mean(0)
    assert torch.allclose(found["blocks.0.norm.running_mean"], means, atol=1e-5)
    assert torch.allclose(found["blocks.0.norm.running_var"], spreads, atol=1e-5)
    learnt = {name for name, _ in net.named_parameters()}
    assert all(torch.equal(found[name], given[name]) for name in learnt)
    assert not torch.equal(found["blocks.4.norm.running_var"], given["blocks.4.norm.running_var"])


def test_only_stable_models_are_recalibrated():
    found, before = run("forget_relearn", consolidate__recalibrate=True), plain("forget_relearn")
    changed = {n for n in before.models if not torch.equal(weights(found, n), weights(before, n))}
    assert changed == {"stable", "stable_best", "cycle1.stable", "cycle2.stable"}
    assert found.curves == before.curves


def test_pictures_of_every_moment_are_handed_on():
    found = plain("forget_relearn")
    moments = {name.rpartition(".")[0] for name in found.pictures if name.startswith("cycle")}
    times = ("before", "forgotten", "relearnt")
    assert moments == {f"cycle{k}.{moment}" for k in (1, 2) for moment in times}
    assert found.pictures["cka"].shape == (2, 2)
    assert {"newly_wrong", "newly_right", "cka_after_relearning"} <= found.recoveries[0].keys()
    assert plain("pgd_at").pictures == {}


def test_seconds_of_the_change_are_part_of_the_training_and_looking_is_not():
    costs = plain("forget_relearn").costs
    parts = ("forget_seconds", "consistency_seconds", "consolidation_seconds")
    change = sum(costs[name] for name in parts)
    assert 0 < change < costs["train_seconds"]
    assert costs["change_percent"] == pytest.approx(100 * change / costs["train_seconds"])
    looking = costs["monitor_seconds"] + costs["pictures_seconds"]
    assert costs["train_seconds"] + looking == pytest.approx(costs["total_seconds"])
