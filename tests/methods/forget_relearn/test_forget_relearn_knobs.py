"""Every knob does something: flipped, it changes the model or the books that it is about."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from tiny_forget_relearn import run, weights

SHORT = {"train__epochs": 4, "monitor__pictures": False}
FLIPS = [
    ("forget_relearn", {"forget__fraction": 0.3}),
    ("forget_relearn", {"forget__layers": "head"}),
    ("forget_relearn", {"forget__fractions__late": 0.5}),
    ("forget_relearn", {"forget__mask": "bernoulli"}),
    ("forget_relearn", {"forget__initialisation": "zero"}),
    ("forget_relearn", {"forget__initialisation": "rewind"}),
    ("forget_relearn", {"forget__fraction": 0.5, "forget__include_bias": True}),
    ("forget_relearn", {"forget__clear_momentum": False}),
    ("forget_relearn", {"cycle__warmup_epochs": 1}),
    ("forget_relearn", {"cycle__consolidate_epochs": 2}),
    ("forget_relearn", {"cycle__relearn_epochs": 1, "cycle__every_epochs": 1}),
    ("forget_relearn", {"consolidate__memory_epochs": 1.0}),
    ("forget_relearn", {"consolidate__probability": 0.4}),
    ("forget_relearn", {"consolidate__batch_norm": "copy"}),
    ("forget_relearn", {"consolidate__recalibrate": True}),
    ("forget_relearn", {"relearn__consistency": "kl"}),
    ("forget_relearn", {"relearn__consistency": "none"}),
    ("forget_relearn", {"relearn__weight": 3.0}),
    ("forget_relearn", {"relearn__consistency": "kl", "relearn__temperature": 3.0}),
    ("forget_relearn", {"relearn__stable_input": "clean"}),
    ("forget_relearn", {"start_from": "base"}),
    ("pgd_at", {"average__memory_epochs": 0.5}),
    ("pgd_at", {"average__from_epoch": 2}),
    ("awp", {"awp__gamma": 0.05}),
    ("awp", {"awp__warmup_epochs": 2}),
    ("pgd_at", {"train__batch_size": 18}),
    ("pgd_at", {"train__learning_rate": 0.05}),
    ("pgd_at", {"train__weight_decay": 0.01}),
    ("pgd_at", {"train__momentum": 0.5}),
    ("pgd_at", {"train__schedule": "cosine"}),
    ("pgd_at", {"train__warmup_epochs": 1.0}),
    ("pgd_at", {"train__shift_pixels": 1}),
    ("pgd_at", {"train__flip": True}),
    ("pgd_at", {"train__label_smoothing": 0.2}),
    ("pgd_at", {"train__max_gradient_norm": 0.01}),
    ("pgd_at", {"attack__epsilon": 0.2}),
    ("pgd_at", {"attack__step_size": 0.02}),
    ("pgd_at", {"attack__steps": 3}),
    ("pgd_at", {"attack__restarts": 2}),
    ("pgd_at", {"attack__random_start": False}),
    ("pgd_at", {"attack__batch_norm": "running"}),
    ("pgd_at", {"samples__label_noise": 0.3}),
    ("pgd_at", {"samples__train_images": 24}),
    ("pgd_at", {"loss__name": "trades", "loss__trades_beta": 1.0}),
    ("pgd_at", {"loss__name": "fgsm_rs", "loss__fgsm_step_factor": 0.5}),
]
BESIDE = {  # what the flip is compared with, where that is not the method as it stands
    "forget__include_bias": {"forget__fraction": 0.5},  # of three biases a tenth is none
    "relearn__temperature": {"relearn__consistency": "kl"},
    "loss__trades_beta": {"loss__name": "trades"},
    "loss__fgsm_step_factor": {"loss__name": "fgsm_rs"},
}


@cache
def compared(training: str, *knobs: tuple[str, str]) -> torch.Tensor:
    return everything(training, dict(knobs))


def everything(training: str, changes: dict) -> torch.Tensor:
    found = run(training, **{**SHORT, **changes})
    return torch.cat([weights(found, name) for name in sorted(found.models)])


@pytest.mark.parametrize(
    ("training", "changes"),
    FLIPS,
    ids=["-".join(f"{k}={v}" for k, v in c.items()) for _, c in FLIPS],
)
def test_each_training_knob_changes_the_models(training, changes):
    beside = BESIDE.get(list(changes)[-1], {})
    before, after = compared(training, *sorted(beside.items())), everything(training, changes)
    assert before.shape != after.shape or not torch.equal(before, after)


def test_a_list_of_the_epochs_of_an_interval_is_the_interval():
    listed = {"cycle__trigger": "list", "cycle__at_epochs": "2"}
    assert torch.equal(compared("forget_relearn"), everything("forget_relearn", listed))
