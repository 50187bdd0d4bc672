"""Arms run small: images and conditions, heads, checkpoints, ledger, what is refused."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_probe import plain, run, tiny_base, tiny_config, tiny_stream, value

from relearn.data.images import Split, Stream
from relearn.errors import CheckpointError, DataError, ParameterError
from relearn.methods.last_layer_probe.described import BodyDescription, drawn_body
from relearn.methods.last_layer_probe.heads import solve_ridge
from relearn.methods.last_layer_probe.inference import inference_module
from relearn.methods.last_layer_probe.ledger import verify
from relearn.methods.last_layer_probe.represent import pixel_rows
from relearn.methods.last_layer_probe.samples import (
    draw_samples,
    imbalanced_rows,
    rows_of_fewer,
)
from relearn.methods.last_layer_probe.special import look_at, reasons_of, suspicious_share
from relearn.methods.last_layer_probe.train import score_settings, with_settings
from relearn.training.closed_form import ridge_head


def unseen_stream() -> Stream:
    known = tiny_stream()
    names = {"train": "train", "validation": "selection_support", "test": "transfer_support"}
    splits = {new: known.splits[old] for old, new in names.items()}
    shifted = {n: Split(s.images, s.labels - int(n != "train")) for n, s in splits.items()}
    return Stream(shifted, known.class_names, known.task_of_class)


def test_ways_are_drawn_anew_for_each_seed_and_equal_within_one():
    config = tiny_config(samples__ways=2, samples__train_images=20, samples__validation_images=10)
    seeds = [draw_samples(tiny_stream(), config, seed=seed) for seed in range(6)]
    assert {len(drawn.class_names) for drawn in seeds} == {2}
    assert len({drawn.class_names for drawn in seeds}) > 1
    again = draw_samples(tiny_stream(), config, seed=3)
    assert again.order_digest == seeds[3].order_digest
    with pytest.raises(DataError, match=r"samples\.ways"):
        draw_samples(tiny_stream(), tiny_config(samples__ways=9), seed=0)


def test_unseen_classes_are_those_that_the_base_never_saw():
    given = {"samples__classes": "unseen", "samples__train_images": 20}
    config = tiny_config(**given, samples__validation_images=8)
    drawn = draw_samples(unseen_stream(), config, seed=0)
    assert drawn.class_numbers.tolist() == [0, 1, 3]
    with pytest.raises(DataError, match="split by class"):
        draw_samples(tiny_stream(), config, seed=0)


@pytest.mark.parametrize("condition", ["noisy_labels", "few_images", "permuted_pixels"])
def test_a_condition_changes_what_it_names_and_keeps_the_test_labels(condition):
    config = tiny_config()
    before = draw_samples(tiny_stream(), config, seed=0)
    after = draw_samples(tiny_stream(), config, seed=0, condition=condition)
    assert torch.equal(before.test.labels, after.test.labels)
    assert before.order_digest != after.order_digest
    if condition == "permuted_pixels":
        assert torch.equal(
            before.train.images.flatten(1).sort(1).values,
            after.train.images.flatten(1).sort(1).values,
        )
    if condition == "few_images":
        assert len(after.train) == 24
    if condition == "noisy_labels":
        wrong = (before.train.labels != after.train.labels).double().mean()
        assert float(wrong) == pytest.approx(0.3, abs=0.02)


def test_permuted_labels_keep_the_counts_of_every_class_in_every_part():
    config = tiny_config()
    before = draw_samples(tiny_stream(), config, seed=0)
    after = draw_samples(tiny_stream(), config, seed=0, condition="permuted_labels")
    for part in ("train", "validation", "test"):
        one, two = getattr(before, part).labels, getattr(after, part).labels
        assert torch.equal(torch.bincount(one), torch.bincount(two))
        assert not torch.equal(one, two)


def test_fewer_images_are_part_of_more_and_no_class_is_left_out():
    labels = torch.arange(4).repeat_interleave(10)
    few, more = (rows_of_fewer(labels, count, seed=0) for count in (8, 20))
    assert set(few.tolist()) <= set(more.tolist())
    assert torch.bincount(labels[few]).tolist() == [2, 2, 2, 2]


def test_imbalance_has_the_ratio_asked_for():
    labels = torch.arange(5).repeat_interleave(40)
    counts = torch.bincount(labels[imbalanced_rows(labels, 4.0, seed=1)])
    assert int(counts.max()) == 40
    assert int(counts.min()) == 10


def test_the_linear_baseline_is_the_better_of_two_heads():
    result = plain("linear")
    assert value(result, "head", "ridge") in (0.0, 1.0)
    for kinds in ("ridge", "logistic"):
        alone = run("random_fc1_64", heads__bodies=kinds)
        best = run("random_fc1_64", heads__bodies="best")
        assert value(best, "validation", "accuracy") >= value(alone, "validation", "accuracy")


def test_a_ridge_head_agrees_with_the_closed_form_of_one_penalty():
    features = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)).double()
    labels = torch.arange(40) % 3
    ridge = {"lowest": 0.1, "highest": 0.1, "points": 1}
    solved = solve_ridge(features, labels, tiny_config(heads__ridge=ridge), classes=3)
    penalty = 0.1 * 40 / 6  # times the mean eigenvalue, in units of the mean squared norm
    weight, bias = ridge_head(features, labels, classes=3, penalty=penalty)
    assert torch.allclose(solved.weight, weight.double(), atol=1e-5)
    assert torch.allclose(solved.bias, bias.double(), atol=1e-5)


def test_a_fold_of_one_class_is_refused():
    with pytest.raises(DataError, match="one class"):
        solve_ridge(torch.randn(5, 2), torch.zeros(5, dtype=torch.int64), tiny_config(), classes=2)


def test_an_image_of_zero_norm_is_refused_by_name():
    with pytest.raises(DataError, match="zero norm"):
        pixel_rows(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), "global")


def test_wider_bodies_do_better_and_the_kernel_is_their_limit():
    narrow, wide = (value(plain(f"random_fc1_{r}"), "test", "accuracy") for r in (8, 64))
    limit = value(plain("kernel_fc1"), "test", "accuracy")
    assert narrow < wide <= limit + 0.07
    errors = [value(plain(f"random_fc1_{r}"), "width_law", "rms") for r in (8, 64)]
    assert errors[0] > errors[1]


def test_controls_do_not_beat_chance_by_much():
    assert value(plain("noise_body"), "test", "accuracy") < 0.65
    assert value(plain("kernel_fc1.permuted_labels"), "test", "accuracy") < 0.65


def test_a_delivered_random_body_gives_the_recorded_answers():
    result = plain("random_fc1_64")
    test = draw_samples(tiny_stream(), tiny_config(), seed=0).test
    found = inference_module(result.checkpoint)(test.images).argmax(1)
    assert torch.equal(found, result.predictions["predicted"])


@pytest.mark.parametrize("norm", ["none", "pair", "patch", "global"])
def test_the_delivered_linear_head_reads_pixels_as_the_fit_did(norm):
    config = tiny_config(bodies__fully_connected__input_norm=norm)
    result = run("linear", bodies__fully_connected__input_norm=norm)
    test = draw_samples(tiny_stream(), config, seed=0).test
    assert torch.equal(
        inference_module(result.checkpoint)(test.images).argmax(1), result.predictions["predicted"]
    )


@pytest.mark.parametrize("arm", ["kernel_fc1", "noise_body", "majority"])
def test_what_cannot_be_rolled_out_says_why(arm):
    with pytest.raises(CheckpointError, match=f"last_layer_probe.{arm}"):
        inference_module(plain(arm).checkpoint)


def test_a_frozen_base_is_read_at_its_taps_and_its_row_names_its_body():
    given = {"samples__train_images": 0, "samples__validation_images": 0, "arms__frozen": True}
    result = run("frozen", **given)
    assert len([r for r in result.records if r.task == "tap" and r.metric == "accuracy"]) > 1
    [row] = result.interventions
    assert verify(row, result.checkpoint.architecture, base=tiny_base())
    other = dataclasses.replace(tiny_base(), provenance={"another": 1})
    assert not verify(row, result.checkpoint.architecture, base=other)


def test_a_row_that_was_tampered_with_does_not_verify():
    result = plain("random_fc1_64")
    [row] = result.interventions
    details = {**row.details, "options": {**row.details["options"], "seed": 77}}
    assert verify(row, result.checkpoint.architecture)
    assert not verify(dataclasses.replace(row, details=details), result.checkpoint.architecture)


def test_the_gain_scales_every_weight_of_a_body():
    [row] = plain("random_fc1_8").interventions
    body = BodyDescription.from_plain(row.details)
    twice = BodyDescription(body.kind, {**body.options, "gain": 2.0}, body.shape)
    pairs = zip(drawn_body(body).parameters(), drawn_body(twice).parameters(), strict=True)
    assert all(torch.allclose(2 * one, two) for one, two in list(pairs)[:1])


def test_a_base_that_nobody_trained_is_not_called_pretrained():
    from relearn.methods.last_layer_probe.train import run_arm

    given = {"samples__train_images": 0, "samples__validation_images": 0, "arms__frozen": True}
    raw = dataclasses.replace(tiny_base(), provenance={"epochs": 0, "weights": "none"})
    with pytest.raises(ParameterError, match="never trained"):
        run_arm(raw, tiny_stream(), tiny_config(**given), arm="frozen", seed=0)


def test_full_training_and_unfreezing_end_with_nets_that_answer():
    given = {
        "samples__train_images": 0,
        "samples__validation_images": 0,
        "arms__frozen": True,
        "arms__unfrozen": True,
        "arms__fine_tuned": True,
    }
    for arm in ("unfrozen", "fine_tuned", "full"):
        result = run(arm, **given)
        found = inference_module(result.checkpoint)(tiny_stream().split("test").images)
        assert torch.equal(found.argmax(1), result.predictions["predicted"])
    assert run("unfrozen", **given).interventions


def test_settings_scale_rate_and_length_and_scoring_reads_no_test_image():
    config = with_settings(tiny_config(), rate=3.0, epochs=0.5)
    assert config.trained.train.learning_rate == pytest.approx(0.009)
    assert config.trained.train.epochs == 1
    score, seconds = score_settings(tiny_base(), tiny_stream(), config, arm="full", seed=5)
    assert 0 <= score <= 1 < 1 + seconds


def test_features_and_kernels_that_memory_does_not_hold_are_refused_first():
    with pytest.raises(DataError, match=r"bodies\.memory_gigabytes"):
        run("random_fc1_64", bodies__memory_gigabytes=1e-6)
    with pytest.raises(DataError, match=r"kernel\.most_images"):
        run("kernel_fc1", kernel__memory_gigabytes=1e-4)


def test_landmarks_stand_for_many_images():
    given = {"kernel__most_images": 30, "kernel__landmarks": 60}
    few = run("kernel_fc1", **given)
    whole = plain("kernel_fc1")
    assert abs(value(few, "test", "accuracy") - value(whole, "test", "accuracy")) <= 0.1


def test_class_weights_and_sensitivity_have_an_effect():
    weighed = run("random_fc1_64", heads__class_weights="balanced")
    assert value(weighed, "test", "accuracy") > 0.5
    shaken = run("kernel_fc1", sensitivity__enabled=True)
    told = {r.metric: r.value for r in shaken.records if r.task == "sensitivity"}
    assert set(told) == {"label_noise_0.1", "label_noise_0.3", "imbalance_5", "gaussian_noise"}


def test_special_data_are_told_with_reasons():
    config = tiny_config(samples__train_images=60)
    looks = look_at(draw_samples(tiny_stream(), config, seed=0), seed=0)
    assert reasons_of(looks, config.special) == []
    odd = {"norm_spread": 0.9, "outlier_share": 0.5, "imbalance": 20.0}
    assert len(reasons_of(odd, config.special, suspicious=0.3)) == 4
    sure = torch.eye(3)
    assert suspicious_share(sure, torch.tensor([0, 1, 2])) == 0.0
    assert suspicious_share(sure, torch.tensor([1, 1, 2])) == pytest.approx(1 / 3)
