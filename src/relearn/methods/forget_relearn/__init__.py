"""Forgetting and relearning: cycles that cure robust overfitting in adversarial training.

"The Effectiveness of Random Forgetting for Robust Generalization" (FOMO), ICLR 2024, arXiv
2402.11733. Names are loaded when they are first used, so that the configuration can be read without
torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "ForgetRelearnConfig": "config",
    "draw_mask": "forget",
    "forget_weights": "forget",
    "StableModel": "consolidate",
    "consistency_loss": "relearn",
    "Trigger": "triggers",
    "train_one": "run",
    "judge": "arm_result",
    "train_baseline": "train",
    "train_treated": "train",
    "score_settings": "train",
    "forecast": "forecast",
    "inference_module": "inference",
    "verify": "ledger",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605 - the names are the keys above


def __getattr__(name: str) -> Any:
    """Load a public name from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
