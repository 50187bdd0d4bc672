"""Pre-training in shuffled batches: against a plain loop, and what each knob changes."""

from __future__ import annotations

import pytest
import torch
from tiny_zap import plain, run, tiny_base, tiny_config, tiny_stream, values, weights

from relearn.data.batches import Batches
from relearn.data.randomness import generator_of
from relearn.errors import ParameterError, TrainingError
from relearn.methods.zap.reset import reset_last_layer
from relearn.methods.zap.train import score_settings, train_baseline, with_settings
from relearn.models.checkpoint import build, build_fresh


def by_hand(*, zapped: bool, draw_seeds: list[int]) -> torch.Tensor:
    """Return the weights of a plain loop that resets the head before each epoch but the first."""
    config = tiny_config().train
    split = tiny_stream().split("train")
    pixels = split.of_classes(split.classes)
    batches = Batches(pixels.images, pixels.labels, batch_size=16, seed=0, mean=(0.5,), std=(0.3,))
    net = build_fresh(tiny_base().architecture, seed=0).train()
    adam = torch.optim.Adam(net.parameters(), lr=config.learning_rate)
    for epoch in range(config.epochs):
        if zapped and epoch:
            reset_last_layer(
                net.head,
                rows=torch.arange(6),
                initialisation="joint_fan_in",
                generator=generator_of(draw_seeds[epoch - 1], "values"),
            )
        for x, y in batches.epoch(epoch):
            adam.zero_grad()
            torch.nn.functional.cross_entropy(net(x), y).backward()
            adam.step()
    return torch.cat([t.flatten() for t in net.state_dict().values()])


def test_the_baseline_is_a_plain_loop():
    assert torch.allclose(weights(plain("iid")), by_hand(zapped=False, draw_seeds=[]), atol=1e-6)


def test_the_treated_arm_is_the_same_loop_with_resets_between_epochs():
    result = plain("iid_zap")
    seeds = [entry.draw_seed for entry in result.interventions]
    assert [(e.epoch, e.step) for e in result.interventions] == [(1, 3), (2, 6)]
    expected = by_hand(zapped=True, draw_seeds=seeds)
    assert torch.allclose(weights(result), expected, atol=1e-6)


def test_training_learns_and_the_records_tell_it():
    train = values(plain("iid"), "pretrain", "train_accuracy")
    assert len(train) == 3
    assert train[-1] > 0.6 > train[0]
    held_out = values(plain("iid"), "pretrain", "validation_accuracy")
    gaps = values(plain("iid"), "pretrain", "generalisation_gap")
    assert gaps == pytest.approx([a - b for a, b in zip(train, held_out, strict=True)])


def test_resets_shock_the_treated_arm_and_no_other():
    drops = values(plain("iid_zap"), "zap_shock", "accuracy_drop")
    assert len(drops) == 2
    assert max(drops) > 0.2
    assert values(plain("iid"), "zap_shock", "accuracy_drop") == []


def test_the_checkpoint_is_never_younger_than_the_settling_steps():
    for settle in (1, 4, 7, 100):
        result = run("iid_zap", policy__settle_steps=settle)
        told = result.checkpoint.provenance
        assert told["steps_since_intervention"] >= min(settle, told["steps"])
        assert told["settle_steps"] == settle
    assert result.interventions == []


def test_weights_of_base_are_taken_up_when_asked():
    fresh = run("iid", train__epochs=1, train__learning_rate=1e-12)
    kept = run("iid", train__epochs=1, train__learning_rate=1e-12, start_from="base")
    base = torch.cat([t.flatten() for t in tiny_base().weights.values()])
    assert torch.allclose(weights(kept), base, atol=1e-9)
    assert not torch.allclose(weights(fresh), base, atol=1e-3)


def test_a_wider_head_starts_fresh_and_the_backbone_of_base_stays():
    result = run(
        "iid", train__epochs=1, train__learning_rate=1e-12, start_from="base", head_outputs=9
    )
    found = result.checkpoint.weights
    assert found["head.weight"].shape == (9, 16)
    name = "hidden.0.weight"
    assert torch.allclose(found[name], tiny_base().weights[name], atol=1e-9)
    assert build(result.checkpoint)(torch.zeros(2, 1, 8, 8)).shape == (2, 9)


def test_zapped_rows_beyond_the_classes_have_no_samples_to_lean_on():
    result = run(
        "iid_zap",
        head_outputs=60,
        policy__rows="fraction",
        policy__fraction=0.02,
        biased__steps=2,
        biased__fraction=0.5,
    )
    assert len(result.interventions) == 2


def test_biased_steps_are_counted_as_cost_and_may_hold_the_backbone():
    both = run("iid_zap", biased__steps=2, biased__head_only=False)
    head = run("iid_zap", biased__steps=2, biased__head_only=True)
    for result in (both, head):
        assert {r.metric: r.value for r in result.costs}["extra_steps"] == 4.0
    assert not torch.equal(weights(both), weights(head))
    full = run(
        "iid_zap",
        biased__steps=2,
        biased__fraction=1.0,
        policy__rows="fraction",
        policy__fraction=0.3,
    )
    none = run(
        "iid_zap",
        biased__steps=2,
        biased__fraction=0.0,
        policy__rows="fraction",
        policy__fraction=0.3,
    )
    assert not torch.equal(weights(full), weights(none))


def test_resets_by_steps_may_fall_inside_an_epoch_but_not_at_the_end():
    result = run("iid_zap", policy__unit="steps", policy__every=1)
    assert [e.step for e in result.interventions] == list(range(1, 9))
    assert [e.epoch for e in result.interventions] == [0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("rate", [1e38])
def test_a_loss_that_is_not_finite_names_arm_seed_and_epoch(rate):
    with pytest.raises(TrainingError) as caught:
        run("iid", seed=5, train__learning_rate=rate, train__optimizer="sgd")
    text = str(caught.value)
    assert "arm iid, seed 5" in text
    assert "epoch 1" in text
    assert "learning_rate" in text
    assert len(text.splitlines()) == 1


def test_a_missing_validation_split_leaves_out_its_figures_alone():
    import dataclasses

    stream = tiny_stream()
    splits = {n: s for n, s in stream.splits.items() if n != "validation"}
    bare = dataclasses.replace(stream, splits=splits)
    config = tiny_config()
    result = train_baseline(tiny_base(), bare, config, arm="iid", seed=0)
    assert torch.equal(weights(result), weights(plain("iid")))
    assert values(result, "pretrain", "validation_accuracy") == []
    assert len(values(result, "pretrain", "train_accuracy")) == 3


def test_too_few_unseen_classes_are_told_with_the_parameter():
    with pytest.raises(ParameterError, match=r"zap\.transfer\.few_shot\.classes: 6 asked"):
        run("iid", transfer__few_shot__classes=6)


def test_settings_scale_every_scheme_alike():
    config = tiny_config()
    found = with_settings(config, rate_factor=3.0, shift_pixels=1)
    assert found.train.learning_rate == pytest.approx(3 * config.train.learning_rate)
    assert found.asb.outer_learning_rate == pytest.approx(3 * config.asb.outer_learning_rate)
    assert found.meta.outer_learning_rate == pytest.approx(3 * config.meta.outer_learning_rate)
    assert found.train.shift_pixels == 1
    assert with_settings(config, rate_factor=1.0, shift_pixels=0) == config


def test_the_score_of_settings_looks_at_selection_classes_alone():
    import dataclasses

    stream = tiny_stream()
    noise = {
        name: dataclasses.replace(s, images=torch.zeros_like(s.images))
        if name.startswith("transfer")
        else s
        for name, s in stream.splits.items()
    }
    blind = dataclasses.replace(stream, splits=noise)
    scores = [
        score_settings(tiny_base(), data, tiny_config(), arm="iid_zap", seed=0)[0]
        for data in (stream, blind)
    ]
    assert scores[0] == scores[1]
    told = values(plain("iid_zap"), "few_shot_choice", "score_zero_head")
    assert scores[0] == told[0]
