"""Choosing each arm's learning rate on validation images, with the same budget for every arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from relearn.execution import Outcome
    from relearn.methods.grow.config import GrowConfig
    from relearn.pipelines.grow.units import ArmJob

TUNING_SEEDS = 10_000
"""Offset of the seeds that choose, from those that are reported."""

_COLUMNS = ("arm", "rate_factor", "score", "seeds", "seconds", "at_border", "chosen")


def tune(firsts: Mapping[int, ArmJob], folder: Path) -> pd.DataFrame:
    """Return all candidates of all arms with their scores on validation images.

    Args:
        firsts: Seed of the choice to a job whose teacher, stream and knobs serve all candidates.
        folder: Where the units lie.

    Returns:
        One row a candidate, columns as in ``nodes.choose_settings``.
    """
    import pandas as pd

    from relearn.methods.grow.arms import arms_of

    config = next(iter(firsts.values())).config
    search = _Search(firsts, folder, list(arms_of(config)))
    search.run()
    return pd.DataFrame(search.rows(), columns=list(_COLUMNS))


def untuned(config: GrowConfig) -> pd.DataFrame:
    """Return the table in which every arm keeps the rate it has, columns as from ``tune``.

    Args:
        config: Knobs of the method.
    """
    import pandas as pd

    from relearn.methods.grow.arms import arms_of

    rows = [(arm, 1.0, None, 0, 0.0, False, True) for arm in arms_of(config)]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


class _Search:
    """Grids of all arms, widened together round by round, so that workers stay busy."""

    def __init__(self, firsts: Mapping[int, ArmJob], folder: Path, arms: Sequence[str]) -> None:
        from relearn.training.choice import grid_rates

        self.firsts, self.folder, self.arms = firsts, folder, arms
        self.rate = next(iter(firsts.values())).config.tuning.rate
        rate = self.rate
        self.grid = grid_rates(centre=rate.centre, factor=rate.factor, points=rate.points)
        self.scores: dict[str, dict[float, float]] = {arm: {} for arm in arms}
        self.seconds: dict[tuple[str, float], float] = {}

    def run(self) -> None:
        """Score the first grid of every arm, then widen where a border wins."""
        from relearn.training.choice import next_rate

        self._score([(arm, rate) for arm in self.arms for rate in self.grid])
        for _ in range(self.rate.widenings):
            further = [
                (arm, rate)
                for arm in self.arms
                if (rate := next_rate(self.scores[arm], factor=self.rate.factor))
            ]
            if not further:
                break
            self._score(further)

    def _score(self, points: Sequence[tuple[str, float]]) -> None:
        from relearn.pipelines.grow.units import candidate

        jobs = [
            candidate(replace(first, arm=arm, seed=seed), factor=rate)
            for arm, rate in points
            for seed, first in self.firsts.items()
        ]
        found = [_read_score(o) for o in train_all(jobs, self.folder, "grow: settings")]
        each = len(self.firsts)
        for number, (arm, rate) in enumerate(points):
            mine = found[number * each : (number + 1) * each]
            self.scores[arm][rate] = sum(score for score, _ in mine) / each
            self.seconds[arm, rate] = sum(seconds for _, seconds in mine)

    def rows(self) -> list[tuple[Any, ...]]:
        """Return one row a candidate."""
        from relearn.training.choice import settle

        rows = []
        for arm in self.arms:
            choice = settle(self.scores[arm], factor=self.rate.factor)
            for rate, score in sorted(choice.tried.items()):
                chosen = rate == choice.rate
                # One point is no grid: nothing was searched, so nothing lies at a border.
                border = chosen and choice.at_border and len(choice.tried) > 1
                spent = self.seconds[arm, rate]
                rows.append((arm, rate, score, len(self.firsts), spent, border, chosen))
        return rows


def settled(first: ArmJob, selection: pd.DataFrame, arm: str) -> ArmJob:
    """Return the job of one arm with the rate chosen for it.

    Args:
        first: A job of the same seed.
        selection: As from ``tune``.
        arm: Name of the arm.

    Raises:
        StaleInputError: The table of settings does not know the arm.
    """
    from relearn.errors import StaleInputError
    from relearn.methods.grow.train import with_rate

    rows = selection[(selection["arm"] == arm) & selection["chosen"].astype(bool)]
    if len(rows) != 1:
        raise StaleInputError(
            f"grow.selection: has no settings for arm {arm!r}; run `kedro run --pipeline grow` "
            "whole"
        )
    factor = float(rows.iloc[0]["rate_factor"])
    return replace(first, config=with_rate(first.config, arm=arm, factor=factor), arm=arm)


def train_all(jobs: Sequence[ArmJob], folder: Path, describe: str) -> list[Outcome]:
    """Return what came of the arms, run over processes; whole ones are not run again.

    Args:
        jobs: One a unit; at least one.
        folder: Where units lie.
        describe: Text of the progress bar.

    Returns:
        One outcome a job, in their order.
    """
    from relearn.execution import map_units, require_all
    from relearn.pipelines.grow.units import arm_unit, run_arm_unit

    execution = jobs[0].execution
    outcomes = map_units(
        run_arm_unit,
        [arm_unit(job) for job in jobs],
        folder=folder,
        workers=execution.workers,
        threads=execution.threads,
        backend=execution.backend,
        describe=describe,
    )
    require_all(outcomes, what="grow")
    return outcomes


def _read_score(outcome: Outcome) -> tuple[float, float]:
    from relearn.arm_store import load_score

    score, seconds = load_score(Path(outcome.path))
    return score, float(seconds["train"])
