"""Choosing schedule and rate, with the same budget for every training, on validation images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from relearn.execution import Outcome
    from relearn.pipelines.forget_relearn.units import TrainingJob

TUNING_SEEDS = 10_000
"""Offset of the seeds that choose, from those that are reported."""

_COLUMNS = (
    "training",
    "schedule",
    "rate_factor",
    "score",
    "seeds",
    "seconds",
    "at_border",
    "chosen",
)


def tune(first: TrainingJob, folder: Path) -> pd.DataFrame:
    """Return all candidates of all trainings with their scores on validation images.

    Args:
        first: A job whose base, stream, knobs and execution serve all candidates.
        folder: Where the units lie.

    Returns:
        One row a candidate, columns as in ``nodes.choose_settings``.
    """
    import pandas as pd

    from relearn.methods.forget_relearn.arms import trainings_of

    config = first.config
    names = list(trainings_of(config))
    if not config.tuning.enabled:
        rows = [(name, config.train.schedule, 1.0, None, 0, 0.0, False, True) for name in names]
        return pd.DataFrame(rows, columns=list(_COLUMNS))
    search = _Search(first, folder, names)
    search.run()
    return pd.DataFrame(search.rows(), columns=list(_COLUMNS))


class _Search:
    """Grids of all trainings and schedules, widened together round by round."""

    def __init__(self, first: TrainingJob, folder: Path, names: Sequence[str]) -> None:
        from relearn.training.choice import grid_rates

        self.first, self.folder, self.names = first, folder, names
        self.tuning = first.config.tuning
        self.schedules = self.tuning.schedules.names
        rate = self.tuning.rate
        self.grid = grid_rates(centre=rate.centre, factor=rate.factor, points=rate.points)
        self.scores: dict[tuple[str, str], dict[float, float]] = {}
        self.seconds: dict[tuple[str, str, float], float] = {}

    def run(self) -> None:
        """Score the first grid of every training and schedule, then widen where a border wins."""
        from relearn.training.choice import next_rate

        lines = [(name, schedule) for name in self.names for schedule in self.schedules]
        self._score([(*line, rate) for line in lines for rate in self.grid])
        for _ in range(self.tuning.rate.widenings):
            further = [
                (*line, rate)
                for line in lines
                if (rate := next_rate(self.scores[line], factor=self.tuning.rate.factor))
            ]
            if not further:
                break
            self._score(further)

    def _score(self, points: Sequence[tuple[str, str, float]]) -> None:
        from relearn.pipelines.forget_relearn.units import candidate

        start, seeds = self.first.seed + TUNING_SEEDS, self.tuning.seeds
        jobs = [
            candidate(
                replace(self.first, training=name, seed=start + k), schedule=schedule, factor=rate
            )
            for name, schedule, rate in points
            for k in range(seeds)
        ]
        found = [_read_score(o) for o in train_all(jobs, self.folder, "forget_relearn: settings")]
        for number, (name, schedule, rate) in enumerate(points):
            mine = found[number * seeds : (number + 1) * seeds]
            mean = sum(score for score, _ in mine) / len(mine)
            self.scores.setdefault((name, schedule), {})[rate] = mean
            self.seconds[name, schedule, rate] = sum(seconds for _, seconds in mine)

    def rows(self) -> list[tuple[Any, ...]]:
        """Return one row a candidate."""
        from relearn.training.choice import settle

        rows = []
        for name in self.names:
            settled = {
                schedule: settle(self.scores[name, schedule], factor=self.tuning.rate.factor)
                for schedule in self.schedules
            }
            best = max(self.schedules, key=lambda schedule: settled[schedule].score)
            for schedule, choice in settled.items():
                for rate, score in sorted(choice.tried.items()):
                    chosen = schedule == best and rate == choice.rate
                    # One point is no grid: nothing was searched, so nothing lies at a border.
                    border = chosen and choice.at_border and len(choice.tried) > 1
                    spent = self.seconds[name, schedule, rate]
                    told = (name, schedule, rate, score, self.tuning.seeds, spent, border, chosen)
                    rows.append(told)
        return rows


def settled(first: TrainingJob, selection: pd.DataFrame, name: str, seed: int) -> TrainingJob:
    """Return the job of one training and seed with the settings chosen for the training.

    Args:
        first: A job whose base, stream, knobs and execution serve all.
        selection: As from ``tune``.
        name: Name of the training.
        seed: Seed of the pair.

    Raises:
        StaleInputError: The table of settings does not know the training.
    """
    from relearn.errors import StaleInputError
    from relearn.methods.forget_relearn.train import with_settings

    rows = selection[(selection["training"] == name) & selection["chosen"].astype(bool)]
    if len(rows) != 1:
        raise StaleInputError(
            f"forget_relearn.selection: has no settings for training {name!r}; run "
            "`kedro run --pipeline forget_relearn` whole"
        )
    row = rows.iloc[0]
    config = with_settings(
        first.config,
        schedule=str(row["schedule"]),
        rate_factor=float(row["rate_factor"]),
    )
    return replace(first, config=config, training=name, seed=seed)


def train_all(jobs: Sequence[TrainingJob], folder: Path, describe: str) -> list[Outcome]:
    """Run the trainings that are not whole yet, over processes, and return all outcomes.

    Args:
        jobs: One a unit; at least one.
        folder: Where units lie.
        describe: Text of the progress bar.
    """
    from relearn.execution import map_units, require_all
    from relearn.pipelines.forget_relearn.units import run_training, training_unit

    execution = jobs[0].execution
    outcomes = map_units(
        run_training,
        [training_unit(job) for job in jobs],
        folder=folder,
        workers=execution.workers,
        threads=execution.threads,
        backend=execution.backend,
        describe=describe,
    )
    require_all(outcomes, what="forget_relearn")
    return outcomes


def _read_score(outcome: Outcome) -> tuple[float, float]:
    from relearn.arm_store import load_score

    score, seconds = load_score(Path(outcome.path))
    return score, float(seconds["total_seconds"])
