"""A zap small enough for tests: 8-pixel images, a perceptron, the parameters of base made tiny."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml

from relearn.data.images import Split, Stream
from relearn.methods.zap.config import ZapConfig
from relearn.methods.zap.train import train_baseline, train_treated
from relearn.models.checkpoint import Architecture, Checkpoint, build_fresh, capture

if TYPE_CHECKING:
    from relearn.evaluation.records import ArmResult

SIZE, BASE, SELECTION, TRANSFER = 8, 6, 5, 5
TRAIN, VALIDATION, SHOTS, QUERIES = 8, 3, 4, 4
_ROOT = Path(__file__).resolve().parents[1]

_ONE_RATE = {"centre": 0.01, "factor": 3.0, "points": 1, "widenings": 0}
_TINY: dict[str, Any] = {
    "arms": dict.fromkeys(
        (
            "iid",
            "iid_zap",
            "asb",
            "asb_zap",
            "meta",
            "meta_zap",
            "iid_shrink_perturb",
            "iid_moments",
        ),
        True,
    ),
    "train": {"epochs": 3, "batch_size": 16, "learning_rate": 0.01},
    "asb": {"episodes": 4, "sequence_length": 3, "remember": 8, "inner_learning_rate": 0.05},
    "meta": {"episodes": 4, "sequence_length": 3, "remember": 8, "inner_learning_rate": 0.05},
    "policy": {"settle_steps": 1},
    "episode_policy": {"settle_steps": 1},
    "tuning": {"enabled": False},
    "transfer": {
        "few_shot": {
            "classes": 3,
            "batch_size": 6,
            "rate": _ONE_RATE,
            "evaluate_every": 1,
            "heads": {"zero": True, "kaiming": False, "ridge": False},
        },
        "continual": {"classes": 3, "rate": _ONE_RATE, "evaluate_every": 1},
        "ridge": {"points": 2},
    },
    "monitor": {"window": 2, "gradient_every": 2},
    "study": {"frequency": {"variants": 2}, "confirm_seeds": 2},
    "evidence": {"minimum_seeds": 2},
}


def tiny_config(**changes: Any) -> ZapConfig:
    """Return the parameters of base, shrunk, with changes such as ``policy__every=2``."""
    text = (_ROOT / "conf/base/parameters_zap.yml").read_text(encoding="utf-8")
    plain = _merged(yaml.safe_load(text)["zap"], _TINY)
    for dotted, value in changes.items():
        *path, last = dotted.split("__")
        block = plain
        for name in path:
            block = block[name]
        block[last] = value
    return ZapConfig.model_validate(plain)


def _merged(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    both = dict(low)
    for name, value in high.items():
        inside = isinstance(value, dict) and isinstance(low.get(name), dict)
        both[name] = _merged(low[name], value) if inside else value
    return both


@cache
def tiny_stream(size: int = SIZE) -> Stream:
    """Return 16 noisy prototypes in three groups of classes; class numbers are not 0, 1, 2, ..."""
    draw = torch.Generator().manual_seed(11)
    prototypes = torch.randint(0, 256, (16, 1, size, size), generator=draw).float()

    def split(classes: torch.Tensor, each: int) -> Split:
        labels = classes.repeat_interleave(each)
        noise = 60 * torch.randn(len(labels), 1, size, size, generator=draw)
        return Split((prototypes[labels] + noise).clamp(0, 255).byte(), labels)

    numbers = torch.randperm(16, generator=draw)
    base, selection, transfer = (part.sort().values for part in numbers.split([6, 5, 5]))
    splits = {
        "train": split(base, TRAIN),
        "validation": split(base, VALIDATION),
        "selection_support": split(selection, SHOTS),
        "selection_query": split(selection, QUERIES),
        "transfer_support": split(transfer, SHOTS),
        "transfer_query": split(transfer, QUERIES),
    }
    tasks = torch.full((16,), -1)
    return Stream(splits, tuple(f"class {n}" for n in range(16)), tasks)


def tiny_architecture(classes: int = BASE) -> Architecture:
    """Return a perceptron of one hidden layer of 16."""
    return Architecture("mlp", 1, SIZE, classes, {"width": 16, "depth": 1}, (0.5,), (0.3,))


@cache
def tiny_base() -> Checkpoint:
    """Return a base checkpoint; its weights are those of seed 99."""
    architecture = tiny_architecture()
    return capture(build_fresh(architecture, seed=99), architecture, {})


def run(arm: str, *, seed: int = 0, **changes: Any) -> ArmResult:
    """Return what an arm gives under the tiny parameters with changes."""
    config = tiny_config(**changes)
    train = train_baseline if arm in ("iid", "asb", "meta") else train_treated
    return train(tiny_base(), tiny_stream(), config, arm=arm, seed=seed)


@cache
def plain(arm: str) -> ArmResult:
    """Return what an arm gives under the tiny parameters, trained once for all tests."""
    return run(arm)


def values(result: ArmResult, task: str, metric: str) -> list[float]:
    """Return the values of one metric in the order of its records."""
    return [r.value for r in result.records if (r.task, r.metric) == (task, metric)]


def weights(result: ArmResult) -> torch.Tensor:
    """Return all weights of the trained checkpoint in one row."""
    return torch.cat([t.flatten() for t in result.checkpoint.weights.values()])
