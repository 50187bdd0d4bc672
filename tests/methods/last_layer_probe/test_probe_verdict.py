"""The verdict, what the gaps say, what follows, and the re-check of bodies that changed."""

from __future__ import annotations

import math

import pytest
from tiny_probe import tiny_config

from relearn.methods.last_layer_probe.arms import arms_of
from relearn.methods.last_layer_probe.ladder import (
    Gap,
    best_probe,
    mismatch,
    neighbours,
    rungs_of,
    said_of,
)
from relearn.methods.last_layer_probe.learning_curve import rises
from relearn.methods.last_layer_probe.recheck import recheck, seal_of
from relearn.methods.last_layer_probe.recommendation import next_step, projected_seconds, savings
from relearn.methods.last_layer_probe.verdict import Earned, sampling_error, verdict_of
from relearn.methods.last_layer_probe.width_law import slope_of

CONFIG = tiny_config().verdict.model_copy(update={"target": 0.9})


def judged(scores, baseline, *, sampling=0.001, floor=0.0, images=1000):
    return verdict_of(Earned(scores, baseline, floor, images, sampling), CONFIG)


@pytest.mark.parametrize(
    ("scores", "baseline", "word"),
    [
        ((0.95, 0.951, 0.949), (0.80, 0.801, 0.799), "PASS"),
        ((0.87, 0.871, 0.869), (0.80, 0.801, 0.799), "PROMISING"),
        ((0.82, 0.821, 0.819), (0.80, 0.801, 0.799), "WEAK"),
        ((0.80, 0.801, 0.799), (0.80, 0.799, 0.801), "FAIL"),
        ((0.70, 0.701, 0.699), (0.80, 0.801, 0.799), "FAIL"),
        ((0.99, 0.991, 0.989), (0.99, 0.991, 0.989), "FAIL"),
    ],
)
def test_the_verdict_follows_its_rules(scores, baseline, word):
    assert judged(scores, baseline).verdict == word


def test_a_pass_needs_the_lower_bound_and_not_the_mean():
    told = judged((0.91, 0.89, 0.92), (0.80, 0.78, 0.81))
    assert told.score > CONFIG.target > told.lower
    assert told.verdict == "PROMISING"


def test_few_test_images_make_the_same_gain_a_fail():
    sure, unsure = (0.86, 0.86, 0.86), (0.85, 0.85, 0.85)
    assert judged(sure, unsure, sampling=0.001).verdict == "WEAK"
    assert judged(sure, unsure, sampling=0.02).verdict == "FAIL"


def test_the_majority_is_to_be_beaten_too():
    assert judged((0.60, 0.60, 0.60), (0.50, 0.50, 0.50), floor=0.62).verdict == "FAIL"


def test_one_seed_is_judged_by_its_test_images():
    told = judged((0.95,), (0.80,), sampling=0.01, images=400)
    assert told.lower == pytest.approx(0.95 - 1.6449 * math.sqrt(0.95 * 0.05 / 400), abs=1e-4)
    assert told.error == 0.01


def test_the_sampling_error_is_that_of_a_paired_difference():
    right, other = [[True, True, False, False]], [[True, False, False, False]]
    gains = [0.0, 1.0, 0.0, 0.0]
    mean = sum(gains) / 4
    sd = math.sqrt(sum((g - mean) ** 2 for g in gains) / 3)
    assert sampling_error(right, other) == pytest.approx(sd / 2)
    assert sampling_error(right * 2, other * 2) == pytest.approx(sd / 2 / math.sqrt(2))


def test_the_best_on_validation_stands_for_its_rung_and_controls_never_do():
    arms = arms_of(tiny_config())
    scores = dict.fromkeys(arms, 0.5) | {"random_fc1_64": 0.8, "kernel_fc1.permuted_labels": 1.0}
    rungs = rungs_of(arms, scores)
    assert rungs["random"] == "random_fc1_64"
    assert best_probe(arms, scores) == "random_fc1_64"
    assert "noise" not in rungs
    assert best_probe(arms, dict.fromkeys(arms, 0.5)) == "random_fc1_8"  # equals: the cheaper one
    pairs = [pair[:2] for pair in neighbours(rungs, "random_fc1_64")]
    assert pairs == [("linear", "random"), ("random", "kernel"), ("probe", "full")]


def test_gaps_speak_only_when_they_are_clear():
    assert "limit is not reached" in said_of(("random", "kernel"), 0.1, clear=True)
    assert "reached their limit" in said_of(("random", "kernel"), 0.1, clear=False)
    assert "ends below the best one" in said_of(("frozen", "unfrozen"), -0.1, clear=True)


@pytest.mark.parametrize(
    ("over_pixels", "over_random", "level"),
    [
        ((0.02, True), (0.0, False), False),
        ((-0.002, False), (0.023, True), False),  # the limit beats pixels
        ((-0.03, True), (0.01, True), True),  # the limit is over random bodies, below pixels
        ((0.005, False), (0.005, False), True),
        ((-0.03, True), (0.0, False), True),
    ],
)
def test_pixels_count_as_unbeaten_only_where_the_limit_does_not_beat_them(
    over_pixels, over_random, level
):
    pairs = (("linear", "r", *over_pixels), ("r", "k", *over_random))
    gaps = [Gap(below, above, mean, None, None, clear, "") for below, above, mean, clear in pairs]
    rungs = {"linear": "linear", "random": "r", "kernel": "k"}
    assert bool(mismatch(rungs, gaps)) == level
    assert mismatch({"linear": "linear"}, []) == ""


def test_the_next_step_follows_from_verdict_curve_and_data():
    good = judged((0.95, 0.951, 0.949), (0.8, 0.8, 0.8))
    bad = judged((0.8, 0.8, 0.8), (0.8, 0.8, 0.8))
    quiet = {"kernel_fails": False, "few": False, "rising": False, "special": []}
    assert "ship the head" in next_step(good, **quiet)
    assert "linear head" in next_step(bad, **quiet)
    assert "buy data" in next_step(bad, **{**quiet, "rising": True})
    assert "labels" in next_step(bad, **{**quiet, "kernel_fails": True, "few": True})
    assert "special (odd)" in next_step(good, **{**quiet, "special": ["odd"]})


def test_costs_of_the_next_stage_come_from_what_was_measured():
    config = tiny_config()
    costs = {
        "full": {"train_seconds": 40.0, "epochs": 2.0, "tuning_seconds": 60.0},
        "kernel_fc1": {"train_seconds": 1.0},
    }
    assert projected_seconds(config, costs, blocks=3) == {"full": 40.0, "unfrozen_at_most": 60.0}
    assert projected_seconds(config, {}, blocks=3) == {}
    assert savings(costs, "kernel_fc1")["seconds_saved"] == 99.0
    assert savings({}, "kernel_fc1") == {}


def test_a_curve_rises_only_beyond_its_noise():
    assert rises([0.03, 0.031, 0.029], sigmas=2.0)
    assert not rises([0.03, -0.02, 0.01], sigmas=2.0)
    assert not rises([0.03], sigmas=2.0)


def test_the_slope_of_a_power_law_is_its_exponent():
    widths = [64.0, 256.0, 1024.0]
    assert slope_of(widths, [3 * w**-0.5 for w in widths]) == pytest.approx(-0.5)


def seal(*, gain=1.0, replicas=64, accuracy=0.9, data="d", seed=0):
    options = {"gain": gain, "replicas": replicas, "seed": seed, "digest": "s"}
    body = {"kind": "random", "options": options, "shape": [1, 8]}
    return seal_of(body, data=data, accuracy={0: accuracy, 1: accuracy}, images=100)


def test_a_body_is_checked_again_when_initialisation_or_architecture_changed():
    config = tiny_config().recheck
    assert recheck(None, seal(), config)["status"] == "new"
    assert recheck(seal(data="other"), seal(), config)["status"] == "new"
    assert recheck(seal(seed=3), seal(), config) == {"status": "unchanged", "changed": []}
    other = recheck(seal(gain=2.0), seal(), config)
    assert (other["status"], other["changed"]) == ("holds", ["initialisation"])
    wider = recheck(seal(replicas=8, accuracy=0.5), seal(), config)
    assert (wider["status"], wider["changed"]) == ("changed", ["architecture"])
    assert wider["difference"] == pytest.approx(0.4)
