"""Forgetting and relearning small enough for tests: 8-pixel images, a narrow net, few epochs."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from relearn.data.images import Split, Stream
from relearn.methods.forget_relearn.arm_result import judge
from relearn.methods.forget_relearn.config import ForgetRelearnConfig
from relearn.methods.forget_relearn.run import train_one
from relearn.models.checkpoint import Architecture, Checkpoint, build_fresh, capture

if TYPE_CHECKING:
    from relearn.evaluation.records import ArmResult
    from relearn.methods.forget_relearn.trained import Trained

SIZE, CLASSES = 8, 3
TRAININGS = ("pgd_at", "awp", "share_zero", "forget_relearn", "forget_early", "forget_only")
_ROOT = Path(__file__).resolve().parents[1]

_TINY: dict[str, Any] = {
    "samples": {"train_images": 36, "validation_images": 18, "label_noise": 0.0},
    "trainings": {"awp": True},
    "train": {"epochs": 6, "batch_size": 12},
    "attack": {"epsilon": 0.1, "step_size": 0.05, "steps": 2},
    "cycle": {"warmup_epochs": 2, "every_epochs": 2, "relearn_epochs": 2, "consolidate_epochs": 1},
    "monitor": {"every_epochs": 2, "images": 12, "steps": 2, "picture_images": 8},
    "judging": {
        "steps": 2,
        "step_size": 0.05,
        "auto_attack": {"version": "none"},
        "square_images": 8,
        "square_queries": 5,
        "corruption_images": 4,
        "masking": {"images": 10, "steps": 11, "restarts": 2, "queries": 5},
    },
}


def tiny_config(**changes: Any) -> ForgetRelearnConfig:
    """Return the parameters of base, shrunk, with changes such as ``cycle__every_epochs=3``."""
    text = (_ROOT / "conf/base/parameters_forget_relearn.yml").read_text(encoding="utf-8")
    plain = _merged(yaml.safe_load(text)["forget_relearn"], _TINY)
    for dotted, value in changes.items():
        *path, last = dotted.split("__")
        block = plain
        for name in path:
            block = block[name]
        block[last] = value
    return ForgetRelearnConfig.model_validate(plain)


def lean_config(**changes: Any) -> ForgetRelearnConfig:
    """Return ``tiny_config`` with every training on and the judge's slow measures off."""
    off = {
        "judging__masking": {**tiny_config().judging.masking.model_dump(), "enabled": False},
        "judging__square_images": 0,
        "judging__corruption_images": 0,
        "judging__bf16_images": 0,
    }
    on = {f"trainings__{name}": True for name in TRAININGS}
    return tiny_config(**{**on, **off, **changes})


def _merged(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    both = dict(low)
    for name, value in high.items():
        inside = isinstance(value, dict) and isinstance(low.get(name), dict)
        both[name] = _merged(low[name], value) if inside else value
    return both


@cache
def tiny_stream() -> Stream:
    """Return noisy prototypes of three classes; class numbers are not 0, 1, 2, ..."""
    draw = torch.Generator().manual_seed(11)
    prototypes = torch.randint(0, 256, (5, 1, SIZE, SIZE), generator=draw).float()

    def split(each: int) -> Split:
        labels = torch.tensor([1, 2, 4]).repeat_interleave(each)
        noise = 60 * torch.randn(len(labels), 1, SIZE, SIZE, generator=draw)
        return Split((prototypes[labels] + noise).clamp(0, 255).byte(), labels)

    splits = {"train": split(16), "validation": split(8), "test": split(8)}
    return Stream(splits, tuple(f"class {n}" for n in range(5)), torch.full((5,), -1))


@cache
def tiny_base() -> Checkpoint:
    """Return a narrow net with batch normalisation; its weights are those of seed 99."""
    shape = Architecture("convnet5", 1, SIZE, CLASSES, {"width": 4}, (0.5,), (0.3,))
    return capture(build_fresh(shape, seed=99), shape, {})


def run(training: str, *, seed: int = 0, **changes: Any) -> Trained:
    """Return what a training leaves behind under the lean parameters with changes."""
    return train_one(
        tiny_base(), tiny_stream(), lean_config(**changes), training=training, seed=seed
    )


@cache
def plain(training: str) -> Trained:
    """Return what a training leaves behind under the lean parameters, trained once for all."""
    return run(training)


@cache
def judged(training: str, arm: str) -> ArmResult:
    """Return an arm under the lean parameters, judged once for all tests."""
    return judge(plain(training), tiny_stream(), lean_config(), arm=arm)


def weights(trained: Trained, model: str = "last") -> torch.Tensor:
    """Return all weights and statistics of one model in one row."""
    return torch.cat([t.flatten().double() for t in trained.models[model].values()])


def curve(trained: Trained, kind: str, metric: str) -> dict[int, float]:
    """Return one curve: epochs done to value."""
    return {int(epoch): row[metric] for epoch, row in trained.curves[kind]}
