"""Learning tasks one after the other, small enough for tests: 8-pixel images, three tasks."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from relearn.data.images import Split, Stream
from relearn.methods.lora_ipc.arm_result import deliver
from relearn.methods.lora_ipc.arms import training_of
from relearn.methods.lora_ipc.config import LoraIpcConfig
from relearn.methods.lora_ipc.run import train_one
from relearn.models.checkpoint import Architecture, Checkpoint, build_fresh, capture

if TYPE_CHECKING:
    from relearn.evaluation.records import ArmResult
    from relearn.methods.lora_ipc.trained import Trained

SIZE, TASKS = 8, 3
CLASSES = (1, 2, 4, 5, 7, 8)
_ROOT = Path(__file__).resolve().parents[1]

_TINY: dict[str, Any] = {
    "lora": {"rank": 2},
    "importance": {"window_steps": 2},
    "train": {"epochs": 2, "batch_size": 8, "shift_pixels": 0, "learning_rate": 0.05},
    "alignment": {"epochs": 2, "per_centroid": 4},
    "rehearsal": {"per_class": 2},
    "rivals": {
        "shared_rank": 2,
        "ridge_features": 20,
        "ridge_penalties": "1e-2,1",
        "ewc_images": 4,
    },
    "tuning": {"enabled": False},
    "gate": {"refuse": False},
}


def tiny_config(**changes: Any) -> LoraIpcConfig:
    """Return the parameters of base, shrunk, with changes such as ``train__epochs=3``."""
    text = (_ROOT / "conf/base/parameters_lora_ipc.yml").read_text(encoding="utf-8")
    plain = _merged(yaml.safe_load(text)["lora_ipc"], _TINY)
    plain["trainings"] = dict.fromkeys(plain["trainings"], True)
    for dotted, value in changes.items():
        *path, last = dotted.split("__")
        block = plain
        for name in path:
            block = block[name]
        block[last] = value
    return LoraIpcConfig.model_validate(plain)


def _merged(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    both = dict(low)
    for name, value in high.items():
        inside = isinstance(value, dict) and isinstance(low.get(name), dict)
        both[name] = _merged(low[name], value) if inside else value
    return both


@cache
def tiny_stream() -> Stream:
    """Return noisy prototypes; six transfer classes in three tasks, two classes seen before."""
    draw = torch.Generator().manual_seed(11)
    prototypes = torch.randint(0, 256, (9, 1, SIZE, SIZE), generator=draw).float()

    def split(classes: tuple[int, ...], each: int) -> Split:
        labels = torch.tensor(classes).repeat_interleave(each)
        noise = 40 * torch.randn(len(labels), 1, SIZE, SIZE, generator=draw)
        return Split((prototypes[labels] + noise).clamp(0, 255).byte(), labels)

    splits = {
        "train": split((0, 3), 6),
        "transfer_support": split(CLASSES, 10),
        "transfer_query": split(CLASSES, 5),
    }
    tasks = torch.tensor([-1, 0, 1, -1, 2, 0, -1, 1, 2])
    return Stream(splits, tuple(f"class {n}" for n in range(9)), tasks)


@cache
def tiny_base() -> Checkpoint:
    """Return a vision transformer of two blocks, twelve matrices; its weights are drawn."""
    options = {
        "patch_size": 4,
        "width": 16,
        "depth": 2,
        "heads": 2,
        "mlp_ratio": 2,
        "stem": "convolution",
        "dropout": 0.0,
    }
    shape = Architecture("vision_transformer", 1, SIZE, 2, options, (0.5,), (0.3,))
    net = build_fresh(shape, seed=99)
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():  # the net's own small weights make a function that is almost constant
        for parameter in net.parameters():
            if parameter.ndim > 1:
                parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.2)
    return capture(net, shape, {})


def learn(training: str, *, seed: int = 0, resume: Any = None, **changes: Any) -> Trained:
    """Return what a training comes to under the tiny parameters with changes."""
    config = tiny_config(**changes)
    return train_one(
        tiny_base(), tiny_stream(), config, training=training, seed=seed, resume=resume
    )


@cache
def learnt(training: str) -> Trained:
    """Return what a training comes to under the tiny parameters, learnt once for all tests."""
    return learn(training)


@cache
def delivered(arm: str) -> ArmResult:
    """Return an arm under the tiny parameters, learnt once for all tests."""
    config = tiny_config()
    return deliver(learnt(training_of(config, arm).name), config, arm=arm)


def figure(arm: str, metric: str, task: str = "test") -> float:
    """Return one figure of an arm."""
    [value] = [r.value for r in delivered(arm).records if (r.task, r.metric) == (task, metric)]
    return value
