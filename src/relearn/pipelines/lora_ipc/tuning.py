"""Choosing the learning rate of each family of trainings on validation images, alike for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from relearn.methods.lora_ipc.config import LoraIpcConfig
    from relearn.pipelines.lora_ipc.units import TrainingJob

TUNING_SEEDS = 10_000
"""Offset of the seeds that choose, from those that are reported."""

_COLUMNS = ("family", "training", "rate_factor", "score", "seeds", "seconds", "at_border", "chosen")


def families_of(config: LoraIpcConfig) -> dict[str, str]:
    """Return each family of trainings that are switched on, and the training that speaks for it.

    Args:
        config: Knobs; the training that delivers the treated arm speaks for its family, so that the
            sham does not choose for it; of the others the first one.
    """
    from relearn.methods.lora_ipc.arms import trainings_of

    found: dict[str, str] = {}
    for name, training in trainings_of(config).items():
        if training.family and config.evidence.treated_arm in training.deliveries:
            found[training.family] = name
        elif training.family:
            found.setdefault(training.family, name)
    return found


def untuned(config: LoraIpcConfig) -> pd.DataFrame:
    """Return the table in which every family keeps the rate it has, columns as from ``tune``.

    Args:
        config: Knobs of the method.
    """
    import pandas as pd

    rows = [
        (family, speaker, 1.0, None, 0, 0.0, False, True)
        for family, speaker in families_of(config).items()
    ]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def tune(first: TrainingJob, folder: Path, *, seeds: Sequence[int]) -> pd.DataFrame:
    """Return all candidates of all families with their scores on validation images.

    Args:
        first: A job whose backbone, stream, knobs and execution serve all candidates.
        folder: Where the units lie.
        seeds: Of the choice, apart from those that are reported.

    Returns:
        One row a candidate, columns as in ``nodes.choose_settings``.
    """
    import pandas as pd

    from relearn.training.choice import search_rates

    families, rate = families_of(first.config), first.config.tuning.rate
    found = search_rates(families, partial(_scores, first, folder, seeds), rate)
    rows = [
        (family, families[family], rate, score, len(seeds), *rest)
        for family, line in found.items()
        for rate, score, *rest in line.rows()
    ]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _scores(
    first: TrainingJob,
    folder: Path,
    seeds: Sequence[int],
    points: Sequence[tuple[str, float]],
) -> list[list[tuple[float, float]]]:
    from relearn.execution import scores_of
    from relearn.pipelines.lora_ipc.road import train_all
    from relearn.pipelines.lora_ipc.units import candidate

    families = families_of(first.config)
    jobs = [
        candidate(replace(first, training=families[family], seed=seed), factor=rate)
        for family, rate in points
        for seed in seeds
    ]
    outcomes = train_all(jobs, folder, "lora_ipc: settings")
    return scores_of(outcomes, each=len(seeds), seconds=lambda took: took["learn_seconds"])


def settled(first: TrainingJob, selection: pd.DataFrame, training: str, seed: int) -> TrainingJob:
    """Return the job of one training with the rate chosen for its family.

    Args:
        first: A job whose backbone, stream, knobs and execution serve all.
        selection: As from ``tune``.
        training: Name of the training.
        seed: Of the pair.

    Raises:
        StaleInputError: The table of settings does not know the family.
    """
    from relearn.execution import chosen_row
    from relearn.methods.lora_ipc.arms import trainings_of
    from relearn.methods.lora_ipc.train import with_rate

    job = replace(first, training=training, seed=seed)
    family = trainings_of(first.config)[training].family
    if not family:
        return job
    row = chosen_row(selection, pipeline="lora_ipc", column="family", name=family)
    factor = float(row["rate_factor"])
    return replace(job, config=with_rate(first.config, training=training, factor=factor))
