"""Training the cells of the map: two arms for each condition and seed, on data of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.methods.zap.map_config import ZapMapConfig
from relearn.pipelines.zap.units import Job

if TYPE_CHECKING:
    import pandas as pd

    from relearn.data.images import Stream
    from relearn.methods.zap.map_stream import Condition

CELL = ("classes", "images", "similarity")
"""Columns that name a condition."""


@dataclass(frozen=True)
class Cell:
    """One condition with one seed: its reduced data and the knobs that fit them.

    Attributes:
        condition: Which cell of the map.
        job: Job of the baseline, with the reduced stream.
    """

    condition: Condition
    job: Job

    @property
    def names(self) -> dict[str, Any]:
        """Columns that name the cell."""
        levels = {name: getattr(self.condition, name) for name in CELL}
        return {**levels, "seed": self.job.seed}

    def facts(self, whole: Stream) -> dict[str, Any]:
        """Return what the cell is: sizes, distance of its classes, epochs, steps.

        Args:
            whole: The stream that the cell was taken from.
        """
        from relearn.methods.zap.map_stream import class_distance, steps_per_epoch

        train, config = self.job.stream.split("train"), self.job.config.train
        return {
            **self.names,
            "base_classes": len(train.classes),
            "images_per_class": len(train) // len(train.classes),
            "class_distance": class_distance(whole.split("train"), train.classes),
            "epochs": config.epochs,
            "steps": config.epochs * steps_per_epoch(len(train), config.batch_size),
        }

    def of_arm(self, arm: str, shift: int) -> Job:
        """Return the job of one arm with a random shift in pixels.

        Args:
            arm: Baseline or treated arm.
            shift: Pixels; 0 for none.
        """
        from relearn.methods.zap.train import with_settings

        config = with_settings(self.job.config, rate_factor=1.0, shift_pixels=shift)
        return replace(self.job, config=config, arm=arm, label=f"{self.condition.name}.{arm}")


def cells_of(first: Job, sizes: ZapMapConfig, seeds: Iterable[int]) -> Iterator[Cell]:
    """Yield the cell of every condition and seed.

    Args:
        first: Whole stream, base, knobs of ``zap`` and execution.
        sizes: What few and many mean.
        seeds: Each draws its own classes and images, and is the seed of a pair.
    """
    from relearn.methods.zap.map_stream import conditions, config_of, reduced_stream

    for condition, seed in product(conditions(), seeds):
        stream = reduced_stream(first.stream, condition, sizes, seed=seed)
        config = config_of(first.config, sizes, len(stream.split("train")))
        job = replace(first, stream=stream, config=config, seed=seed)
        yield Cell(condition, job)


def arms_of(first: Job) -> tuple[str, str]:
    """Return the two arms of the map: baseline and treated."""
    evidence = first.config.evidence
    return evidence.baseline_arm, evidence.treated_arm


def score_shifts(first: Job, sizes: ZapMapConfig, folder: Path) -> pd.DataFrame:
    """Return the shifts tried for each condition and arm, and which one is taken.

    Args:
        first: As for ``cells_of``; ``seed`` is the first seed that is reported.
        sizes: Its ``tune_shift`` says whether shifts compete on the selection classes.
        folder: Where the scored units lie.

    Returns:
        Columns of ``CELL``, then arm, shift_pixels, score (mean over seeds apart), chosen.
    """
    import pandas as pd

    from relearn.methods.zap.map_stream import conditions
    from relearn.pipelines.zap.nodes import TUNING_SEEDS

    keys = [*CELL, "arm", "shift_pixels"]
    tuning, given = first.config.tuning, first.config.train.shift_pixels
    if not sizes.tune_shift:
        cells = [(c.classes, c.images, c.similarity) for c in conditions()]
        rows = [(*cell, arm, given, None, True) for cell in cells for arm in arms_of(first)]
        return pd.DataFrame(rows, columns=[*keys, "score", "chosen"])
    seeds = range(first.seed + TUNING_SEEDS, first.seed + TUNING_SEEDS + tuning.seeds)
    tried = product(
        cells_of(first, sizes, seeds), arms_of(first), sorted({0, given, tuning.shift_pixels})
    )
    jobs, names = [], []
    for cell, arm, shift in tried:
        job = cell.of_arm(arm, shift)
        jobs.append(replace(job, label=f"{job.label}.shift{shift}", scoring=True))
        names.append({**cell.names, "arm": arm, "shift_pixels": shift})
    scores = pd.DataFrame(names).assign(score=_scores(jobs, folder))
    means = scores.groupby(keys, sort=False, as_index=False)["score"].mean()
    best = means.groupby([*CELL, "arm"])["score"].idxmax()
    return means.assign(chosen=means.index.isin(best))


def train_cells(
    first: Job, sizes: ZapMapConfig, *, plan: pd.DataFrame, selection: pd.DataFrame, folder: Path
) -> pd.DataFrame:
    """Train both arms of every condition and seed; return the index of the units.

    Args:
        first: As for ``cells_of``.
        sizes: Knobs of the map.
        plan: One row a cell, as from ``Cell.facts``.
        selection: As from ``score_shifts``.
        folder: Where units lie.

    Returns:
        Columns of the plan, then arm, shift_pixels, path, digest, reused.
    """
    import pandas as pd

    from relearn.pipelines.zap.tuning import train_units

    taken = selection[selection["chosen"].astype(bool)]
    shifts = taken.set_index([*CELL, "arm"])["shift_pixels"].to_dict()
    jobs, rows = [], []
    for cell in cells_of(first, sizes, sorted(plan["seed"].unique().tolist())):
        for arm in arms_of(first):
            levels = tuple(cell.names[name] for name in CELL)
            jobs.append(cell.of_arm(arm, int(shifts[*levels, arm])))
            rows.append({**cell.names, "shift_pixels": shifts[*levels, arm]})
    index = train_units(jobs, folder, describe="zap_map: conditions")
    units = pd.concat([pd.DataFrame(rows), index.drop(columns="seed")], axis=1)
    return plan.merge(units, on=[*CELL, "seed"], validate="one_to_many")


def _scores(jobs: Sequence[Job], folder: Path) -> list[float]:
    from relearn.arm_store import load_score
    from relearn.pipelines.zap.tuning import train_all

    outcomes = train_all(jobs, folder, "zap_map: shifts")
    return [load_score(Path(outcome.path))[0] for outcome in outcomes]
