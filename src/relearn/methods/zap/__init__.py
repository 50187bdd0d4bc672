"""Zapping: re-initialise the last layer again and again while pre-training.

Frati, Traft, Clune, Cheney, "Reset It and Forget It", arXiv 2310.07996. Names are loaded when they
are first used, so that the configuration can be read without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "ZapConfig": "config",
    "reset_last_layer": "reset",
    "verify_reset": "reset",
    "clear_moments": "reset",
    "Policy": "policy",
    "few_shot_transfer": "few_shot",
    "sequential_transfer": "sequential",
    "Judge": "transfer",
    "train_baseline": "train",
    "train_treated": "train",
    "score_settings": "train",
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
