"""Choosing rate and length of the trained arms, on validation images of other seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from relearn.execution import Outcome
    from relearn.pipelines.last_layer_probe.units import Job

TUNING_SEEDS = 10_000
"""Offset of the seeds that choose, from those that are reported."""

_COLUMNS = (
    *("arm", "epochs_factor", "rate_factor", "score", "seeds", "seconds"),
    *("at_border", "chosen"),
)


def tuned_arms(job: Job) -> list[str]:
    """Return the arms whose settings are chosen.

    Args:
        job: Any job.
    """
    from relearn.methods.last_layer_probe.arms import TRAINED, arms_of

    arms = arms_of(job.config).values()
    return [arm.name for arm in arms if arm.kind in TRAINED and arm.condition == "plain"]


def tune(jobs: Sequence[Job], folder: Path) -> pd.DataFrame:
    """Return all candidates of all trained arms with their scores on validation images.

    Args:
        jobs: One a seed of the choice.
        folder: Where the units lie.

    Returns:
        One row a candidate, columns as in ``nodes.choose_settings``.
    """
    import pandas as pd

    search = _Search(jobs, folder, tuned_arms(jobs[0]))
    search.run()
    return pd.DataFrame(search.rows(), columns=list(_COLUMNS))


def untuned(job: Job) -> pd.DataFrame:
    """Return the table in which every trained arm keeps its settings, columns as from ``tune``.

    Args:
        job: Any job.
    """
    import pandas as pd

    rows = [(arm, 1.0, 1.0, None, 0, 0.0, False, True) for arm in tuned_arms(job)]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


class _Search:
    """Grids of rates for every arm and length, widened together round by round."""

    def __init__(self, jobs: Sequence[Job], folder: Path, arms: Sequence[str]) -> None:
        from relearn.methods.last_layer_probe.bodies_config import numbers_in
        from relearn.training.choice import grid_rates

        self.jobs, self.folder = jobs, folder
        tuning = jobs[0].config.trained.tuning
        self.rate = tuning.rate
        self.lines = [(arm, e) for arm in arms for e in numbers_in(tuning.epochs, kind=float)]
        rate = self.rate
        self.grid = grid_rates(centre=rate.centre, factor=rate.factor, points=rate.points)
        self.scores: dict[tuple[str, float], dict[float, float]] = {n: {} for n in self.lines}
        self.seconds: dict[tuple[str, float, float], float] = {}

    def run(self) -> None:
        """Score the first grid of every line, then widen where a border wins."""
        from relearn.training.choice import next_rate

        self._score([(*line, rate) for line in self.lines for rate in self.grid])
        for _ in range(self.rate.widenings):
            further = [
                (*line, rate)
                for line in self.lines
                if (rate := next_rate(self.scores[line], factor=self.rate.factor))
            ]
            if not further:
                break
            self._score(further)

    def _score(self, points: Sequence[tuple[str, float, float]]) -> None:
        from relearn.pipelines.last_layer_probe.units import candidate

        jobs = [
            candidate(replace(job, arm=arm), rate=rate, epochs=epochs)
            for arm, epochs, rate in points
            for job in self.jobs
        ]
        found = [_read_score(o) for o in run_all(jobs, self.folder, "last_layer_probe: settings")]
        each = len(self.jobs)
        for number, (arm, epochs, rate) in enumerate(points):
            mine = found[number * each : (number + 1) * each]
            self.scores[arm, epochs][rate] = sum(score for score, _ in mine) / each
            self.seconds[arm, epochs, rate] = sum(seconds for _, seconds in mine)

    def rows(self) -> list[tuple[Any, ...]]:
        """Return one row a candidate; of several lengths the best one's choice is taken."""
        from relearn.training.choice import settle

        choices = {n: settle(self.scores[n], factor=self.rate.factor) for n in self.lines}
        rows = []
        for (arm, epochs), choice in choices.items():
            rivals = [c.score for (name, _), c in choices.items() if name == arm]
            first = next(n for n, c in choices.items() if n[0] == arm and c.score == max(rivals))
            for rate, score in sorted(choice.tried.items()):
                chosen = first == (arm, epochs) and rate == choice.rate
                border = chosen and choice.at_border and len(choice.tried) > 1
                spent = self.seconds[arm, epochs, rate]
                rows.append((arm, epochs, rate, score, len(self.jobs), spent, border, chosen))
        return rows


def settled(job: Job, selection: pd.DataFrame) -> Job:
    """Return the job with the settings chosen for its arm, where it is a trained one.

    Args:
        job: Of any arm. Under another condition an arm takes the settings of the plain one.
        selection: As from ``tune``.

    Raises:
        StaleInputError: The table of settings does not know the arm.
    """
    from relearn.errors import StaleInputError
    from relearn.methods.last_layer_probe.arms import TRAINED, arm_named
    from relearn.methods.last_layer_probe.trained_arms import with_settings

    kind = arm_named(job.config, job.arm).kind
    if kind not in TRAINED:
        return job
    rows = selection[(selection["arm"] == kind) & selection["chosen"].astype(bool)]
    if len(rows) != 1:
        raise StaleInputError(
            f"last_layer_probe.selection: has no settings for arm {kind!r}; run `kedro run "
            "--pipeline last_layer_probe` whole"
        )
    row = rows.iloc[0]
    rate, epochs = float(row["rate_factor"]), float(row["epochs_factor"])
    return replace(job, config=with_settings(job.config, rate=rate, epochs=epochs))


def run_all(jobs: Sequence[Job], folder: Path, describe: str) -> list[Outcome]:
    """Return what came of the units, run over processes; whole ones are not run again.

    Args:
        jobs: One a unit; none gives none.
        folder: Where units lie.
        describe: Text of the progress bar.

    Returns:
        One outcome a job, in their order.
    """
    from relearn.execution import map_units, require_all
    from relearn.pipelines.last_layer_probe.units import run_unit, unit_of

    if not jobs:
        return []
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
    require_all(outcomes, what="last_layer_probe")
    return outcomes


def _read_score(outcome: Outcome) -> tuple[float, float]:
    from relearn.arm_store import load_score

    score, seconds = load_score(Path(outcome.path))
    return score, float(seconds)
