"""Made-up records for the tests of the reports: known differences, seeded noise."""

from __future__ import annotations

import numpy as np
import pandas as pd

from relearn.evaluation.config import EvidenceConfig
from relearn.reports.comparison import COLUMNS
from relearn.reports.config import CompareConfig, SecondaryConfig


def evidence(**changes: object) -> EvidenceConfig:
    """Return what a zap comparison asks, with changes."""
    fields = {
        "headline_task": "few_shot",
        "headline_metric": "accuracy",
        "direction": "higher",
        "baseline_arm": "iid",
        "treated_arm": "iid_zap",
        "sham_arm": "iid_moments",
        "smallest_difference": 0.01,
        "equivalence_margin": 0.005,
        "confidence": 0.95,
        "minimum_seeds": 5,
        "largest_cost_ratio": 1.5,
    }
    return EvidenceConfig(**{**fields, **changes})


def compare_config(**changes: object) -> CompareConfig:
    """Return how a comparison is computed, with changes."""
    fields = {
        "title": "Does it help on these images?",
        "bootstrap_from_seeds": 10,
        "bootstrap_draws": 2000,
        "bootstrap_seed": 0,
        "price_per_hour": 0.0,
        "currency": "USD",
        "japanese_summary": True,
        "secondary": {
            "continual": SecondaryConfig(
                method="zap",
                task="continual",
                metric="accuracy",
                direction="higher",
                baseline_arm="iid",
                treated_arm="iid_zap",
            )
        },
    }
    return CompareConfig(**{**fields, **changes})


def rows_of(values: dict[str, list[float]], *, task="few_shot", metric="accuracy", step=24):
    """Return final records: arm to one value per seed 0, 1, ..."""
    rows = [
        ("zap", arm, seed, task, step, metric, value)
        for arm, found in values.items()
        for seed, value in enumerate(found)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def zap_records(*, seeds: int = 5, gain: float = 0.05, spread: float = 0.01) -> pd.DataFrame:
    """Return curves of four arms: few-shot adaptation, continual transfer and pre-training."""
    generator = np.random.default_rng(0)
    final = {"iid": 0.54, "iid_zap": 0.54 + gain, "iid_moments": 0.542, "iid_shrink_perturb": 0.53}
    rows = []
    for arm, level in final.items():
        for seed in range(seeds):
            luck = generator.normal(0, spread)
            for step in (0, 6, 12, 18, 24):
                value = 0.01 + (level + luck) * (1 - np.exp(-step / 7)) / (1 - np.exp(-24 / 7))
                rows.append(("zap", arm, seed, "few_shot", step, "accuracy", value))
            for classes in (1, 10, 20, 50):
                value = level * (0.4 + 0.6 / np.sqrt(classes)) + luck
                rows.append(("zap", arm, seed, "continual", classes, "accuracy", value))
                rows.append(("zap", arm, seed, "continual", classes, "seen_accuracy", value))
            for step in range(0, 500, 50):
                value = 0.65 * (1 - np.exp(-step / 120)) + luck
                rows.append(("zap", arm, seed, "pretrain", step, "validation_accuracy", value))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def zap_costs(*, seeds: int = 5, ratio: float = 1.04) -> pd.DataFrame:
    """Return seconds and parameters of the same arms; the treated one costs ``ratio`` times."""
    factors = {"iid": 1.0, "iid_zap": ratio, "iid_moments": 1.01, "iid_shrink_perturb": 1.02}
    rows = []
    for arm, factor in factors.items():
        for seed in range(seeds):
            seconds = 21.0 * factor
            rows.append(("zap", arm, seed, "cost", 0, "train_seconds", seconds))
            rows.append(("zap", arm, seed, "cost", 0, "total_seconds", seconds + 9.0))
            rows.append(("zap", arm, seed, "cost", 0, "parameters", 310_432.0))
            rows.append(("zap", arm, seed, "cost", 0, "flops", 2.31e12))
            rows.append(("zap", arm, seed, "cost", 0, "peak_memory_bytes", 8.1e8))
    return pd.DataFrame(rows, columns=list(COLUMNS))
