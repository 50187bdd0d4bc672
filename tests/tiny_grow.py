"""Growing small enough for tests: 8-pixel images, a perceptron that becomes twice as wide."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from relearn.data.images import Split, Stream
from relearn.methods.grow.config import GrowConfig
from relearn.methods.grow.pair import Pair, open_pair, teach
from relearn.methods.grow.train import run_arm
from relearn.models.checkpoint import Architecture, Checkpoint, build_fresh, capture

if TYPE_CHECKING:
    from relearn.evaluation.records import ArmResult
    from relearn.methods.grow.teacher import Teacher

SIZE, CLASSES = 8, 3
_ROOT = Path(__file__).resolve().parents[1]

_TINY: dict[str, Any] = {
    "samples": {"train_images": 60, "validation_images": 18},
    "teacher": {"width": 6, "train": {"epochs": 3, "batch_size": 12, "shift_pixels": 0}},
    "growth": {
        "gate": {"images": 8},
        "depth": {"calibration_images": 8},
        "copies": {"symmetry": "uneven"},
    },
    "arms": {"scratch": True, "random_pad": True, "distilled": True},
    "train": {"epochs": 2, "batch_size": 12, "shift_pixels": 0},
    "evaluation": {
        "every_steps": 3,
        "early_every": 2,
        "early_steps": 4,
        "latency_batch": 4,
        "latency_repeats": 1,
    },
    "tuning": {"enabled": False},
}


def tiny_config(**changes: Any) -> GrowConfig:
    """Return the parameters of base, shrunk, with changes such as ``train__epochs=3``."""
    text = (_ROOT / "conf/base/parameters_grow.yml").read_text(encoding="utf-8")
    plain = _merged(yaml.safe_load(text)["grow"], _TINY)
    for dotted, value in changes.items():
        *path, last = dotted.split("__")
        block = plain
        for name in path:
            block = block[name]
        block[last] = value
    return GrowConfig.model_validate(plain)


def base_config(**changes: Any) -> GrowConfig:
    """Return ``tiny_config`` with the base checkpoint as the teacher."""
    given = {
        "start_from": "base",
        "samples": {"train_images": 0, "validation_images": 0, "test_images": 0},
        "teacher__width": 0,
        "growth__keep_moments": False,
    }
    return tiny_config(**{**given, **changes})


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
        noise = 90 * torch.randn(len(labels), 1, SIZE, SIZE, generator=draw)
        return Split((prototypes[labels] + noise).clamp(0, 255).byte(), labels)

    splits = {"train": split(20), "validation": split(8), "test": split(8)}
    return Stream(splits, tuple(f"class {n}" for n in range(5)), torch.full((5,), -1))


def architecture(name: str = "mlp", **options: Any) -> Architecture:
    """Return a small net for the images of ``tiny_stream``."""
    given = options or {"width": 6, "depth": 2}
    return Architecture(name, 1, SIZE, CLASSES, given, (0.5,), (0.3,))


@cache
def tiny_base() -> Checkpoint:
    """Return a perceptron; its weights are those of seed 99."""
    return capture(build_fresh(architecture(), seed=99), architecture(), {})


@cache
def taught(seed: int = 0) -> Teacher:
    """Return the teacher of a seed under the tiny parameters, trained once for all tests."""
    return teach(tiny_base(), tiny_stream(), tiny_config(), seed=seed)


def opened(seed: int = 0, **changes: Any) -> Pair:
    """Return the pair of a seed with nets of its own, under changed parameters."""
    return open_pair(taught(seed), tiny_stream(), tiny_config(**changes), seed=seed)


def run(arm: str, *, seed: int = 0, **changes: Any) -> ArmResult:
    """Return what an arm gives under the tiny parameters with changes."""
    return run_arm(taught(seed), tiny_stream(), tiny_config(**changes), arm=arm, seed=seed)


@cache
def plain(arm: str) -> ArmResult:
    """Return what an arm gives under the tiny parameters, trained once for all tests."""
    return run(arm)


def value(result: ArmResult, task: str, metric: str) -> float:
    """Return the only value of one metric."""
    [found] = [r.value for r in result.records if (r.task, r.metric) == (task, metric)]
    return found


def curve(result: ArmResult, metric: str) -> dict[int, float]:
    """Return one curve: steps done to value."""
    rows = [r for r in result.records if (r.task, r.metric) == ("curve", metric)]
    return {r.step: r.value for r in rows}
