"""Class-incremental learning with one low-rank module a task, and important matrices frozen.

LoRAC-IPC, arXiv 2504.13407. Names are loaded when they are first used, so that the configuration
can be read without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Adapters": "adapters",
    "Settings": "attachment",
    "merge": "merging",
    "detach": "merging",
    "predict": "task_inference",
    "roll_back": "ledger",
    "save_state": "state",
    "load_state": "state",
    "export_peft": "peft_format",
    "import_peft": "peft_format",
    "LoraIpcConfig": "config",
    "train_baseline": "train",
    "train_treated": "train",
    "train_one": "run",
    "deliver": "arm_result",
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
