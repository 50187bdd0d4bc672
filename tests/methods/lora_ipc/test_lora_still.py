"""Rivals that train nothing."""

from __future__ import annotations

import pytest
import torch
from tiny_lora_ipc import delivered, learn, learnt, tiny_base, tiny_config, tiny_stream

from relearn.errors import CheckpointError
from relearn.evaluation.classification import accuracy_of, predict
from relearn.methods.lora_ipc.inference import inference_module
from relearn.methods.lora_ipc.readings import chosen_of
from relearn.methods.lora_ipc.samples import draw_tasks
from relearn.methods.lora_ipc.still import nearest_mean, random_features
from relearn.models import heads
from relearn.models.checkpoint import build


def test_the_last_layer_of_nearest_means_chooses_the_nearest_mean():
    draw = torch.Generator().manual_seed(1)
    features, labels = torch.randn(40, 6, generator=draw), torch.arange(40) % 4
    asked = torch.randn(30, 6, generator=draw)
    means = torch.stack([features[labels == c].mean(0) for c in range(4)])
    layer = nearest_mean(features, labels, outputs=9)
    assert torch.equal(chosen_of(asked, layer, range(4)), torch.cdist(asked, means).argmin(1))
    assert bool((layer["weight"][4:] == 0).all())


def test_only_classes_learnt_so_far_are_chosen():
    layer = {"weight": torch.zeros(5, 2), "bias": torch.arange(5.0)}
    assert chosen_of(torch.zeros(3, 2), layer, [0, 2]).tolist() == [2, 2, 2]


def test_random_features_are_a_function_of_the_seed_and_none_are_the_features_themselves():
    features = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    assert random_features(features, 0, seed=0) is features
    one, two = (random_features(features, 50, seed=seed) for seed in (0, 1))
    assert one.shape == (4, 50)
    assert bool((one >= 0).all())
    assert not torch.equal(one, two)
    assert torch.equal(one, random_features(features, 50, seed=0))


@pytest.mark.parametrize("arm", ["raw_ncm", "ncm"])
def test_the_delivered_net_answers_as_was_measured(arm: str):
    checkpoint = delivered(arm).checkpoint
    shape, told = checkpoint.architecture, delivered(arm).predictions
    config = tiny_config()
    tasks = draw_tasks(tiny_stream(), config.tasks, config.samples, seed=0)
    images = torch.cat([split.images for split in tasks.test])
    logits = predict(build(checkpoint), images, mean=shape.mean, std=shape.std)
    assert torch.equal(logits.argmax(1), told["predicted"])
    rows = learnt(arm).accuracy[arm][-1]
    assert accuracy_of(logits, told["label"]) == pytest.approx(sum(rows) / len(rows))


def test_the_backbone_of_the_nearest_mean_is_the_base():
    checkpoint, base = delivered("ncm").checkpoint, tiny_base()
    same = [n for n in base.weights if not n.startswith("head.")]
    assert all(torch.equal(checkpoint.weights[name], base.weights[name]) for name in same)
    images = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    assert torch.equal(*(heads.features(build(each), images) for each in (checkpoint, base)))


def test_ridge_with_the_backbones_own_features_can_be_rolled_out_and_with_random_ones_not():
    assert delivered("ranpac").checkpoint.provenance["answers"] == "random features"
    with pytest.raises(CheckpointError, match="random features"):
        inference_module(delivered("ranpac").checkpoint)
    own = learn("ranpac", rivals__ridge_features=0)
    assert own.heads["plain"]["weight"].shape == (6, 16)


def test_the_penalty_is_one_of_those_offered_and_may_differ_from_task_to_task():
    chosen = [row["penalty"] for row in learnt("ranpac").curves]
    assert set(chosen) <= set(tiny_config().rivals.penalties)
    assert len(chosen) == 3
