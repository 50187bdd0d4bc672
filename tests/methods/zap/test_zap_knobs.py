"""Every knob does something: flipped, it changes the weights or the records that it is about."""

from __future__ import annotations

import pytest
import torch
from tiny_zap import plain, run, weights

FLIPS = [
    ("iid_zap", {"policy__every": 2}),
    ("iid_zap", {"policy__start": 2}),
    ("iid_zap", {"policy__stop": 1}),
    ("iid_zap", {"policy__unit": "steps", "policy__every": 2}),
    ("iid_zap", {"policy__rows": "fraction", "policy__fraction": 0.5}),
    ("iid_zap", {"policy__decay": 0.4}),
    ("iid_zap", {"policy__settle_steps": 5}),
    (
        "iid_zap",
        {
            "policy__trigger": "plateau",
            "policy__plateau": {"patience": 1, "smallest_gain": 0.9},
        },
    ),
    ("iid_zap", {"reset__initialisation": "kaiming_normal"}),
    ("iid_zap", {"reset__initialisation": "normal", "reset__std": 0.3}),
    ("iid_zap", {"reset__reset_bias": True}),
    ("iid_zap", {"reset__reset_moments": True}),
    ("iid_zap", {"biased__steps": 2}),
    ("iid_shrink_perturb", {"sham__shrink": 0.9}),
    ("iid_shrink_perturb", {"sham__perturb": 0.9}),
    ("iid", {"train__epochs": 2}),
    ("iid", {"train__batch_size": 8}),
    ("iid", {"train__optimizer": "sgd"}),
    ("iid", {"train__learning_rate": 0.02}),
    ("iid", {"train__weight_decay": 0.1}),
    ("iid", {"train__schedule": "cosine"}),
    ("iid", {"train__warmup_epochs": 1.0}),
    ("iid", {"train__shift_pixels": 2}),
    ("iid", {"train__flip": True}),
    ("iid", {"train__label_smoothing": 0.2}),
    ("iid", {"train__max_gradient_norm": 0.01, "train__optimizer": "sgd"}),
    ("iid", {"start_from": "base"}),
    ("iid", {"head_outputs": 12}),
    ("asb", {"asb__episodes": 3}),
    ("asb", {"asb__sequence_length": 2}),
    ("asb", {"asb__remember": 6}),
    ("asb", {"asb__remember_only": True}),
    ("asb", {"asb__sample": "uniform"}),
    ("asb", {"asb__inner_learning_rate": 0.2}),
    ("asb", {"asb__outer_learning_rate": 0.01}),
    ("asb_zap", {"episode_policy__every": 2}),
    ("asb_zap", {"episode_policy__rows": "all"}),
    ("asb_zap", {"reset__initialisation": "zeros"}),
    ("meta", {"meta__first_order": True}),
    ("meta", {"meta__inner_parameters": "head"}),
    ("meta", {"meta__inner_learning_rate": 0.3}),
    ("meta_zap", {"episode_policy__stop": 1}),
]


@pytest.mark.parametrize(("arm", "changes"), FLIPS, ids=[f"{a}-{'-'.join(c)}" for a, c in FLIPS])
def test_each_training_knob_changes_the_trained_weights(arm, changes):
    before, after = weights(plain(arm)), weights(run(arm, **changes))
    assert before.shape != after.shape or not torch.equal(before, after)


JUDGED = [
    ({"transfer__few_shot__classes": 4}, "few_shot"),
    ({"transfer__few_shot__epochs": 3}, "few_shot"),
    ({"transfer__few_shot__batch_size": 2}, "few_shot"),
    ({"transfer__few_shot__evaluate_every": 2}, "few_shot"),
    ({"transfer__few_shot__heads__kaiming": True}, "few_shot"),
    ({"transfer__few_shot__heads__ridge": True}, "few_shot"),
    ({"transfer__few_shot__rate__points": 3}, "few_shot_choice"),
    ({"transfer__few_shot__rate__centre": 0.0001}, "few_shot"),
    ({"transfer__few_shot__rate__widenings": 2}, "few_shot_choice"),
    ({"transfer__few_shot__target_share": 0.01}, "few_shot"),
    ({"transfer__few_shot__freeze_backbone": True}, "few_shot"),
    ({"transfer__continual__classes": 4}, "continual"),
    ({"transfer__continual__enabled": False}, "continual"),
    ({"transfer__continual__evaluate_every": 3}, "continual"),
    ({"transfer__continual__heads__kaiming": True}, "continual"),
    ({"transfer__continual__rate__centre": 0.0001}, "continual"),
    ({"transfer__continual__freeze_backbone": True}, "continual"),
    ({"transfer__ridge__highest": 0.3}, "ridge"),
    ({"transfer__select_on": "test", "transfer__few_shot__rate__points": 3}, "few_shot_choice"),
    ({"monitor__gradient_every": 1}, "gradients"),
]


@pytest.mark.parametrize(("changes", "task"), JUDGED, ids=["-".join(c) for c, _ in JUDGED])
def test_each_judging_knob_changes_its_records_and_no_weight(changes, task):
    before, after = plain("iid"), run("iid", **changes)
    assert torch.equal(weights(before), weights(after))
    assert [r for r in before.records if r.task == task] != [
        r for r in after.records if r.task == task
    ]


@pytest.mark.parametrize("changes", [{"monitor__window": 1}, {"monitor__tolerance": 0.9}])
def test_each_monitor_knob_changes_the_shock_records(changes):
    def shocks(result):
        return [r for r in result.records if r.task.startswith(("zap_shock", "gradients"))]

    assert shocks(run("iid_zap", **changes)) != shocks(plain("iid_zap"))
