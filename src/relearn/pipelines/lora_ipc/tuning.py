"""Choosing the learning rate of each family of trainings on validation images, alike for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

    search = _Search(first, folder, seeds)
    search.run()
    return pd.DataFrame(search.rows(), columns=list(_COLUMNS))


class _Search:
    """Grids of all families, widened together round by round, so that workers stay busy."""

    def __init__(self, first: TrainingJob, folder: Path, seeds: Sequence[int]) -> None:
        from relearn.training.choice import grid_rates

        self.first, self.folder, self.seeds = first, folder, seeds
        self.families = families_of(first.config)
        self.rate = rate = first.config.tuning.rate
        self.grid = grid_rates(centre=rate.centre, factor=rate.factor, points=rate.points)
        self.scores: dict[str, dict[float, float]] = {family: {} for family in self.families}
        self.seconds: dict[tuple[str, float], float] = {}

    def run(self) -> None:
        """Score the first grid of every family, then widen where a border wins."""
        from relearn.training.choice import next_rate

        self._score([(family, rate) for family in self.families for rate in self.grid])
        for _ in range(self.rate.widenings):
            further = [
                (family, rate)
                for family in self.families
                if (rate := next_rate(self.scores[family], factor=self.rate.factor))
            ]
            if not further:
                break
            self._score(further)

    def _score(self, points: Sequence[tuple[str, float]]) -> None:
        from relearn.arm_store import load_score
        from relearn.pipelines.lora_ipc.road import train_all
        from relearn.pipelines.lora_ipc.units import candidate

        jobs = [
            candidate(replace(self.first, training=self.families[family], seed=seed), factor=rate)
            for family, rate in points
            for seed in self.seeds
        ]
        outcomes = train_all(jobs, self.folder, "lora_ipc: settings")
        told = [load_score(Path(outcome.path)) for outcome in outcomes]
        each = len(self.seeds)
        for number, (family, rate) in enumerate(points):
            mine = told[number * each : (number + 1) * each]
            self.scores[family][rate] = sum(score for score, _ in mine) / each
            self.seconds[family, rate] = sum(took["learn_seconds"] for _, took in mine)

    def rows(self) -> list[tuple[Any, ...]]:
        """Return one row a candidate."""
        from relearn.training.choice import settle

        rows: list[tuple[Any, ...]] = []
        for family, speaker in self.families.items():
            choice = settle(self.scores[family], factor=self.rate.factor)
            for rate, score in sorted(choice.tried.items()):
                chosen = rate == choice.rate
                # One point is no grid: nothing was searched, so nothing lies at a border.
                border = chosen and choice.at_border and len(choice.tried) > 1
                spent, count = self.seconds[family, rate], len(self.seeds)
                rows.append((family, speaker, rate, score, count, spent, border, chosen))
        return rows


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
    from relearn.errors import StaleInputError
    from relearn.methods.lora_ipc.arms import trainings_of
    from relearn.methods.lora_ipc.train import with_rate

    job = replace(first, training=training, seed=seed)
    family = trainings_of(first.config)[training].family
    if not family:
        return job
    rows = selection[(selection["family"] == family) & selection["chosen"].astype(bool)]
    if len(rows) != 1:
        raise StaleInputError(
            f"lora_ipc.selection: has no settings for family {family!r}; run "
            "`kedro run --pipeline lora_ipc` whole"
        )
    factor = float(rows.iloc[0]["rate_factor"])
    return replace(job, config=with_rate(first.config, training=training, factor=factor))
