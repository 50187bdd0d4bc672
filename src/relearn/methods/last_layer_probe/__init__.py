"""Last-layer probe: what fixed features and a convex head earn, with dual kernels as the reference.

Daniely, Frostig, Singer, "Toward Deeper Understanding of Neural Networks: The Power of
Initialization and a Dual View on Expressivity", arXiv 1602.05897. Names are loaded when they are
first used, so that the configuration can be read without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_HOMES = {
    "Activation": "activations",
    "activation_of": "activations",
    "activation_from": "activations",
    "known_activations": "activations",
    "depth_report": "depth_report",
    "correlation_curve": "depth",
    "fixed_point": "depth",
    "Skeleton": "skeleton",
    "SkeletonConfig": "skeleton_config",
    "dual_kernel": "kernel",
    "nystrom_features": "nystrom",
    "random_network": "network",
    "stream_features": "random_features",
    "normalised_init_": "normalised_init",
    "init_table": "init_table",
    "unclassified": "init_report",
    "init_sensitivity": "init_table",
    "Body": "bodies",
    "body_of": "bodies",
    "tap_points": "tap_points",
    "extract": "features",
    "FeatureCache": "feature_cache",
    "unfreeze": "unfreeze",
    "train_whole": "full_training",
    "Verdict": "verdict",
    "verdict_of": "verdict",
    "LastLayerProbeConfig": "config",
    "train_baseline": "train",
    "train_treated": "train",
    "run_arm": "train",
    "score_settings": "train",
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
