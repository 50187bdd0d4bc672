"""Choosing pre-training settings, with the same budget for every arm, and training many units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from relearn.execution import Outcome
    from relearn.pipelines.zap.units import Job

_COLUMNS = (
    "arm",
    "rate_factor",
    "shift_pixels",
    "score",
    "seeds",
    "seconds",
    "at_border",
    "chosen",
)


def tune(first: Job, folder: Path) -> pd.DataFrame:
    """Return all candidates of all arms with their scores on the selection classes.

    Args:
        first: A job whose base, stream, knobs and execution serve all candidates.
        folder: Where the units lie.

    Returns:
        One row a candidate, columns as in ``nodes.choose_settings``.
    """
    import pandas as pd

    from relearn.methods.zap.arms import arms_of

    config = first.config
    arms = list(arms_of(config))
    if not config.tuning.enabled:
        rows = [(arm, 1.0, config.train.shift_pixels, None, 0, 0.0, False, True) for arm in arms]
        return pd.DataFrame(rows, columns=list(_COLUMNS))
    search = _Search(first, folder, arms)
    search.run()
    return pd.DataFrame(search.rows(), columns=list(_COLUMNS))


class _Search:
    """Grids of all arms, widened together round by round, so that workers stay busy."""

    def __init__(self, first: Job, folder: Path, arms: Sequence[str]) -> None:
        from relearn.training.choice import grid_rates

        self.first, self.folder, self.arms = first, folder, arms
        self.tuning = first.config.tuning
        shifts = {first.config.train.shift_pixels, self.tuning.shift_pixels}
        self.shifts = sorted({0, *shifts}) if self.tuning.shift_pixels else sorted(shifts)[:1]
        rate = self.tuning.rate
        self.grid = grid_rates(centre=rate.centre, factor=rate.factor, points=rate.points)
        self.scores: dict[tuple[str, int], dict[float, float]] = {}
        self.seconds: dict[tuple[str, int, float], float] = {}

    def run(self) -> None:
        """Score the first grid of every arm and shift, then widen where a border wins."""
        from relearn.training.choice import next_rate

        lines = [(arm, shift) for arm in self.arms for shift in self.shifts]
        self._score([(arm, shift, rate) for arm, shift in lines for rate in self.grid])
        for _ in range(self.tuning.rate.widenings):
            further = [
                (arm, shift, rate)
                for arm, shift in lines
                if (rate := next_rate(self.scores[arm, shift], factor=self.tuning.rate.factor))
            ]
            if not further:
                break
            self._score(further)

    def _score(self, points: Sequence[tuple[str, int, float]]) -> None:
        from relearn.pipelines.zap.nodes import TUNING_SEEDS
        from relearn.pipelines.zap.units import candidate

        start = self.first.seed + TUNING_SEEDS
        jobs = [
            candidate(replace(self.first, arm=arm, seed=start + k), factor=rate, shift=shift)
            for arm, shift, rate in points
            for k in range(self.tuning.seeds)
        ]
        found = [_read_score(o) for o in _mapped(jobs, self.folder, "zap: settings")]
        for number, (arm, shift, rate) in enumerate(points):
            mine = found[number * self.tuning.seeds : (number + 1) * self.tuning.seeds]
            mean = sum(score for score, _ in mine) / len(mine)
            self.scores.setdefault((arm, shift), {})[rate] = mean
            self.seconds[arm, shift, rate] = sum(seconds for _, seconds in mine)

    def rows(self) -> list[tuple[Any, ...]]:
        """Return one row a candidate."""
        from relearn.training.choice import settle

        rows = []
        for arm in self.arms:
            settled = {
                shift: settle(self.scores[arm, shift], factor=self.tuning.rate.factor)
                for shift in self.shifts
            }
            best = max(self.shifts, key=lambda shift: settled[shift].score)
            for shift, choice in settled.items():
                for rate, score in sorted(choice.tried.items()):
                    chosen = shift == best and rate == choice.rate
                    # One point is no grid: nothing was searched, so nothing lies at a border.
                    border = chosen and choice.at_border and len(choice.tried) > 1
                    spent = self.seconds[arm, shift, rate]
                    told = (arm, rate, shift, score, self.tuning.seeds, spent, border, chosen)
                    rows.append(told)
        return rows


def settled(first: Job, selection: pd.DataFrame, arm: str, seed: int) -> Job:
    """Return the job of one arm and seed with the settings chosen for the arm.

    Args:
        first: A job whose base, stream, knobs and execution serve all.
        selection: As from ``tune``.
        arm: Name of the arm.
        seed: Seed of the pair.

    Raises:
        StaleInputError: The table of settings does not know the arm.
    """
    from relearn.errors import StaleInputError
    from relearn.methods.zap.train import with_settings

    rows = selection[(selection["arm"] == arm) & selection["chosen"].astype(bool)]
    if len(rows) != 1:
        raise StaleInputError(
            f"zap.selection: has no settings for arm {arm!r}; run `kedro run --pipeline zap` whole"
        )
    row = rows.iloc[0]
    config = with_settings(
        first.config,
        rate_factor=float(row["rate_factor"]),
        shift_pixels=int(row["shift_pixels"]),
    )
    return replace(first, config=config, arm=arm, seed=seed)


def train_units(jobs: Sequence[Job], folder: Path, *, describe: str) -> pd.DataFrame:
    """Run the jobs over processes and return their index.

    Args:
        jobs: One a unit.
        folder: Where units lie.
        describe: Text of the progress bar.

    Returns:
        Columns arm, seed, path, digest (of the checkpoint file), reused.
    """
    import pandas as pd

    from relearn.arm_store import CHECKPOINT
    from relearn.provenance import digest_file

    rows = [
        {
            "arm": job.arm,
            "seed": job.seed,
            "path": str(outcome.path),
            "digest": digest_file(Path(outcome.path) / CHECKPOINT),
            "reused": outcome.reused,
        }
        for job, outcome in zip(jobs, _mapped(jobs, folder, describe), strict=True)
    ]
    return pd.DataFrame(rows)


def _mapped(jobs: Sequence[Job], folder: Path, describe: str) -> list[Outcome]:
    from relearn.execution import map_units, require_all
    from relearn.pipelines.zap.units import run_unit, unit_of

    execution = jobs[0].execution
    outcomes = map_units(
        run_unit,
        [unit_of(job) for job in jobs],
        folder=folder,
        workers=execution.workers,
        threads=execution.threads,
        backend=execution.backend,
        describe=describe,
    )
    require_all(outcomes, what="zap")
    return outcomes


def _read_score(outcome: Outcome) -> tuple[float, float]:
    from relearn.arm_store import load_score

    score, seconds = load_score(Path(outcome.path))
    return score, float(seconds["total_pretraining"])
