"""The official code at work: uvm-neurobotics-lab/reset-it-and-forget-it, from a checkout.

Nothing of it is copied: its own functions run, on its own nets and samplers. What it needs to run
today is put in from outside, always to its advantage: wandb and gdown, which it imports, do nothing
at all; images lie decoded in memory, as its cache holds them from the second epoch on; models are
handed over without the way through a file. Packages beside those of this project: ``higher`` and
``pyyaml-include<2``, found through PYTHONPATH.
"""

from __future__ import annotations

import copy
import os
import sys
import tempfile
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from zap_work import DRAWINGS, LOGITS, SIDE, architecture, pictures

from relearn.models.checkpoint import build_fresh

if TYPE_CHECKING:
    from side_by_side import Repetition

SHAPE = (1, SIDE, SIDE)
RATE = 1e-4  # it changes no time, so it may be one that is surely stable


def iid(*, checkout: str, width: int, batch_size: int, images: int) -> Repetition:
    """Prepare one epoch of its i.i.d. training: its loader, its step, its own log."""
    official = _imported(checkout)
    sampler = official.iid_sampler(_Pictures(images), _Pictures(images), batch_size)
    model = official.model(width)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    log = official.logging.StandardLog("bench", model, {}, 100, 1 << 30, False, {})
    state = {"step": 1}

    def repetition() -> float:
        state["step"] = official.iid.run_one_epoch(
            sampler, model, optimizer, log, 1, state["step"], device="cpu"
        )
        return float(images)

    return repetition


def asb(*, checkout: str, width: int, images: int, episodes: int) -> Repetition:
    """Prepare ASB episodes as its training loop runs them, without the ones it prints about."""
    official = _imported(checkout)
    sampler = official.episode_sampler(_Pictures(images), _Pictures(images), seed=0)
    model = official.model(width)
    config = {"train_cycles": 1}
    inner = torch.optim.SGD(model.parameters(), lr=1e-3)
    outer = torch.optim.Adam(model.parameters(), lr=1e-3)
    log = official.logging.MetaLearningLog("bench", model, {}, 10, 0, 1 << 30, False, {})

    def repetition() -> float:
        for _ in range(episodes):
            episode = sampler.sample_train(val_size=0, device="cpu")
            official.utils.lobotomize(model.classifier.linear, episode.train_class)
            # number 1: every tenth episode costs it three more forward passes for its log
            official.anml.run_sequential_episode(
                config, episode, model, inner, outer, log, 1, verbose=0
            )
        return float(episodes)

    return repetition


def continual(*, checkout: str, width: int, classes: int, shots: int) -> Repetition:
    """Prepare its continual evaluation with one rate: image by image, then judged."""
    official = _imported(checkout)
    model = official.model(width)
    official.anml.load_model = lambda *_: copy.deepcopy(model)
    sampler = official.episode_sampler(_Pictures(1 * DRAWINGS), _Pictures(classes * DRAWINGS), 0)
    config = {
        "model": "in memory",
        "classes": classes,
        "train_examples": shots,
        "test_examples": 1,
        "reinit_params": "classifier.linear",
        "opt_params": "all",
        "lr": RATE,
    }

    def repetition() -> float:
        official.anml.test_train(sampler, SHAPE, dict(config), "cpu")
        return float(classes * shots)

    return repetition


def inference(*, checkout: str, width: int, images: int) -> Repetition:
    """Prepare its accuracy over batches of 256."""
    official = _imported(checkout)
    model = official.model(width)
    stored, labels = pictures(images)
    batches = list(zip((stored.float() / 255).split(256), labels.split(256), strict=True))

    def repetition() -> float:
        official.logging.overall_accuracy(model, batches, "cpu")
        return float(images)

    return repetition


class _Pictures:
    """The same images in the shape in which its samplers want them."""

    def __init__(self, images: int) -> None:
        stored, labels = pictures(images)
        self.items = list(zip((stored.float() / 255).unbind(0), labels.unbind(0), strict=True))
        self.class_index = list(np.arange(images).reshape(-1, DRAWINGS))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.items[index]


class _Official:
    """Its modules, imported from the checkout."""

    def __init__(self) -> None:
        import anml
        import datasets.ContinualMetaLearningSampler as episodes
        import datasets.IIDSampler as shuffled
        import iid
        import models
        import utils
        from utils import logging

        self.anml, self.iid, self.utils, self.logging = anml, iid, utils, logging
        self._models, self._shuffled, self._episodes = models, shuffled, episodes

    def iid_sampler(self, train: _Pictures, test: _Pictures, batch_size: int) -> Any:
        return self._shuffled.IIDSampler(train, test, batch_size, seed=0)

    def episode_sampler(self, train: _Pictures, test: _Pictures, seed: int) -> Any:
        return self._episodes.ContinualMetaLearningSampler(train, test, seed)

    def model(self, width: int) -> Any:
        """Return its net, after checking that with the same weights it is our function."""
        arguments = {
            "encoder": "convnet",
            "encoder_args": {
                "num_blocks": 3,
                "num_filters": width,
                "padding": 0,
                "pool_size": [2, 2, 0],
            },
            "classifier": "linear-classifier",
            "classifier_args": {"num_classes": LOGITS},
        }
        model, _ = self._models.make_from_config(
            {"model": "classifier", "model_args": arguments}, SHAPE, "cpu"
        )
        _require_same_function(model, width)
        return model


def _require_same_function(model: Any, width: int) -> None:
    ours = build_fresh(architecture(width), seed=0)
    with torch.no_grad():
        # both nets list their parameters in the order of the layers
        for mine, theirs in zip(ours.parameters(), model.parameters(), strict=True):
            mine.copy_(theirs)
        images = pictures(2 * DRAWINGS)[0].float() / 255
        torch.testing.assert_close(ours(images), model(images), rtol=1e-3, atol=1e-4)


def _imported(checkout: str) -> _Official:
    """Import the official code; it writes into the working directory, so that is a new one."""
    for name in ("wandb", "gdown"):
        silent = types.ModuleType(name)
        silent.__dict__.update({"log": _nothing, "watch": _nothing, "run": None})
        sys.modules[name] = silent
    sys.path.insert(0, str(Path(checkout).resolve()))
    os.chdir(tempfile.mkdtemp(prefix="bench_zap_"))
    return _Official()


def _nothing(*_: Any, **__: Any) -> None:
    """Take anything and do nothing."""
