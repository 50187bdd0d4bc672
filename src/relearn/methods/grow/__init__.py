"""Growing: widen and deepen a trained network without changing the function it computes.

Chen, Goodfellow, Shlens, "Net2Net: Accelerating Learning via Knowledge Transfer", arXiv 1511.05641.
Names are loaded when they are first used, so that the configuration can be read without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "GrowthSpec": "spec",
    "DepthSpec": "spec",
    "GrowthPlan": "document",
    "GroupPlan": "document",
    "Refusal": "document",
    "Forecast": "document",
    "GrowthRecord": "record",
    "VerifyReport": "report",
    "GrowthError": "faults",
    "plan": "planning",
    "forecast_latency": "latency",
    "apply": "widen",
    "replay": "widen",
    "verify": "verification",
    "transfer_optimizer": "optimizer_state",
    "random_pad": "controls",
    "random_layers": "controls",
    "GrowConfig": "config",
    "train_baseline": "train",
    "train_treated": "train",
    "run_arm": "train",
    "score_settings": "train",
    "teach": "pair",
    "open_pair": "pair",
    "advise": "headroom",
    "inference_module": "inference",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - the names are the keys above


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
