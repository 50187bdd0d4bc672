"""The last-layer probe small enough for tests: 8-pixel images of three classes, a perceptron."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from tiny_grow import tiny_base, tiny_stream

from relearn.methods.last_layer_probe.config import LastLayerProbeConfig
from relearn.methods.last_layer_probe.train import run_arm

if TYPE_CHECKING:
    from relearn.evaluation.records import ArmResult

__all__ = ["plain", "run", "tiny_base", "tiny_config", "tiny_stream", "value"]

_ROOT = Path(__file__).resolve().parents[1]

_TINY: dict[str, Any] = {
    "samples": {"classes": "base", "ways": 0, "train_images": 60, "validation_images": 18},
    "arms": {"frozen": False, "controls": True},
    "bodies": {"fully_connected": {"depths": "1", "widths": "8 64"}},
    "heads": {"ridge": {"points": 9}, "logistic": {"points": 2}},
    "trained": {
        "train": {"epochs": 2, "batch_size": 20},
        "tuning": {"enabled": False},
        "unfreeze": {"epochs": 1},
    },
    "sensitivity": {"enabled": False},
    "depth_report": {"deepest": 6, "images": 16},
    "width_law": {"images": 20},
    "initialisation": {"images": 16},
    "recheck": {"images": 10},
    "study": {"activations": "relu erf", "width": 16, "few_images": 24, "channels": 2},
}


def tiny_config(**changes: Any) -> LastLayerProbeConfig:
    """Return the parameters of base, shrunk, with changes such as ``arms__full=False``."""
    text = (_ROOT / "conf/base/parameters_last_layer_probe.yml").read_text(encoding="utf-8")
    plain = _merged(yaml.safe_load(text)["last_layer_probe"], _TINY)
    for dotted, given in changes.items():
        *path, last = dotted.split("__")
        block = plain
        for name in path:
            block = block[name]
        block[last] = given
    return LastLayerProbeConfig.model_validate(plain)


def _merged(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    both = dict(low)
    for name, given in high.items():
        inside = isinstance(given, dict) and isinstance(low.get(name), dict)
        both[name] = _merged(low[name], given) if inside else given
    return both


def run(arm: str, *, seed: int = 0, **changes: Any) -> ArmResult:
    """Return what an arm gives under the tiny parameters with changes."""
    return run_arm(tiny_base(), tiny_stream(), tiny_config(**changes), arm=arm, seed=seed)


@cache
def plain(arm: str) -> ArmResult:
    """Return what an arm gives under the tiny parameters, run once for all tests."""
    return run(arm)


def value(result: ArmResult, task: str, metric: str) -> float:
    """Return the only value of one metric."""
    [found] = [r.value for r in result.records if (r.task, r.metric) == (task, metric)]
    return found
