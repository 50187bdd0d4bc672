"""The study: settings are asked of a seeded sampler, scored as units, and told back, to a budget.

Every draw is a function of (seed, trials finished), and the study lies in a file of JSON lines, so
that one that was killed goes on as if it had not been: finished units are taken as they are.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.errors import TrainingError
from relearn.pipelines.forget_relearn_search.study_file import (
    distributions,
    make_sampler,
    open_study,
    study_digest,
)

if TYPE_CHECKING:
    import optuna
    import pandas as pd

    from relearn.execution import Outcome
    from relearn.methods.forget_relearn.search_config import ForgetRelearnSearchConfig
    from relearn.methods.forget_relearn.search_space import SearchSpace
    from relearn.pipelines.forget_relearn.units import TrainingJob

SEARCH_SEEDS = 30_000
"""Offset of the seeds that search, apart from those that are reported, tune and confirm."""

COLUMNS = (
    *("number", "state", "present", "score", "scores", "seeds", "seconds"),
    *("layers", "fraction", "relearn_epochs", "warmup_epochs", "trigger", "reason"),
)
_log = logging.getLogger(__name__)
_SCORED = ("COMPLETE", "PRUNED")


def search_table(
    first: TrainingJob, search: ForgetRelearnSearchConfig, space: SearchSpace, folder: Path
) -> pd.DataFrame:
    """Try settings until the budget is spent and return one row for each.

    Args:
        first: A job whose base, stream, knobs and execution serve all; its seed is the first that
            is reported.
        search: Budget and sampler.
        space: What may be chosen.
        folder: Where the study and its units lie.

    Returns:
        Columns number, state (``complete``, ``pruned``, ``fail``), present, score (mean over seeds,
        NaN where it failed), scores (one a seed, with spaces between), seeds, seconds, the choice,
        and the reason of a failure.

    Raises:
        TrainingError: The present setting could not be trained.
    """
    import pandas as pd

    study = _Study(first, search, space, folder)
    study.run()
    return pd.DataFrame(study.rows(), columns=list(COLUMNS))


@dataclass
class _Trial:
    """One setting on its way.

    Attributes:
        inner: The study's own trial.
        choice: The setting.
        scores: One a seed so far.
        seconds: Spent so far.
        reason: Why it failed; empty while it did not.
        pruned: Whether the further seeds are left out.
    """

    inner: optuna.Trial
    choice: dict[str, Any]
    scores: list[float]
    seconds: float = 0.0
    reason: str = ""
    pruned: bool = False

    @property
    def goes_on(self) -> bool:
        return not self.reason and not self.pruned


class _Study:
    """One study and its file."""

    def __init__(
        self,
        first: TrainingJob,
        search: ForgetRelearnSearchConfig,
        space: SearchSpace,
        folder: Path,
    ) -> None:
        self.first, self.search, self.space = first, search, space
        self.folder = folder / "units"
        folder.mkdir(parents=True, exist_ok=True)
        name = study_digest(first, search, space)[:16]
        self.study = open_study(folder / f"study-{name}.jsonl", prune=search.prune)
        self._take_up()

    def run(self) -> None:
        """Try settings until trials or seconds are spent."""
        while (left := self.search.trials - len(self.finished())) > 0:
            spent = sum(row.user_attrs["seconds"] for row in self.finished())
            if spent >= self.search.seconds:
                _log.info("forget_relearn_search: %.0f s are spent; no further trial", spent)
                return
            self._score(self._asked(min(left, self.search.at_once)))

    def finished(self) -> list[optuna.trial.FrozenTrial]:
        """Return the trials that came to an end, by their numbers; not those that were killed."""
        trials = self.study.get_trials(deepcopy=False)
        return [t for t in trials if t.state.name in _SCORED or t.user_attrs.get("reason")]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a finished trial."""
        rows = []
        for number, trial in enumerate(self.finished()):
            told = trial.user_attrs
            scores: Sequence[float] = told["scores"]
            rows.append(
                {
                    "number": number,
                    "state": trial.state.name.lower(),
                    "present": told["choice"] == self.space.present,
                    "score": sum(scores) / len(scores) if scores else float("nan"),
                    "scores": " ".join(f"{score:.6g}" for score in scores),
                    "seeds": len(scores),
                    "seconds": told["seconds"],
                    **told["choice"],
                    "reason": told["reason"],
                }
            )
        return rows

    def _take_up(self) -> None:
        """Put what a killed process left unfinished in the queue again.

        Its finished units are found again, so that only what was being trained is lost.
        """
        import optuna

        trials = self.study.get_trials(deepcopy=False)
        if not trials:
            self.study.enqueue_trial(self.space.present)
        for trial in [t for t in trials if t.state == optuna.trial.TrialState.RUNNING]:
            self.study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            params = trial.system_attrs.get("fixed_params") or trial.params
            if set(params) == set(self.space.present) and not trial.user_attrs.get("reason"):
                self.study.enqueue_trial(params)

    def _asked(self, count: int) -> list[_Trial]:
        from relearn.data.randomness import seed_of
        from relearn.methods.forget_relearn.search_space import rounded

        asked, done = [], len(self.finished())
        for place in range(done, done + count):
            seed = seed_of(self.search.seed, f"forget_relearn_search.{done}.{place}")
            self.study.sampler = make_sampler(seed, random_trials=self.search.random_trials)
            trial = self.study.ask(distributions(self.space))
            drawn = dict(trial.params)
            choice = drawn if drawn == self.space.present else rounded(drawn)
            asked.append(_Trial(trial, choice, []))
        return asked

    def _score(self, batch: Sequence[_Trial]) -> None:
        """Score a batch seed by seed, and leave out further seeds of what lies too low."""
        for step in range(self.search.seeds):
            running = [trial for trial in batch if trial.goes_on]
            for trial, outcome in zip(running, self._outcomes(running, step), strict=True):
                self._note(trial, outcome, step)
        for trial in batch:
            self._tell(trial)

    def _note(self, trial: _Trial, outcome: Outcome, step: int) -> None:
        from relearn.pipelines.forget_relearn_search.trial_unit import read_trial

        present = trial.choice == self.space.present
        if not outcome.ok:
            trial.reason = outcome.reason
            if present:
                raise TrainingError(f"forget_relearn: the present setting fails: {outcome.reason}")
            return
        score, seconds = read_trial(Path(outcome.path))
        trial.scores.append(score)
        trial.seconds += seconds
        trial.inner.report(sum(trial.scores) / len(trial.scores), step)
        last = step == self.search.seeds - 1
        trial.pruned = not present and not last and trial.inner.should_prune()

    def _tell(self, trial: _Trial) -> None:
        import optuna

        state = optuna.trial.TrialState
        for name in ("choice", "scores", "seconds", "reason"):
            trial.inner.set_user_attr(name, getattr(trial, name))
        if trial.reason:
            self.study.tell(trial.inner, state=state.FAIL)
        elif trial.pruned:
            self.study.tell(trial.inner, state=state.PRUNED)
        else:
            self.study.tell(trial.inner, sum(trial.scores) / len(trial.scores))

    def _outcomes(self, trials: Sequence[_Trial], step: int) -> list[Outcome]:
        """Return what came of each setting with one seed; one drawn twice is trained once."""
        from relearn.execution import map_units
        from relearn.methods.forget_relearn.search_space import SEARCHED, label_of, with_choice
        from relearn.pipelines.forget_relearn_search.trial_unit import run_trial, trial_unit

        seed, execution = self.first.seed + SEARCH_SEEDS + step, self.first.execution
        jobs = {
            label_of(trial.choice): replace(
                self.first,
                config=with_choice(self.first.config, trial.choice),
                training=SEARCHED,
                seed=seed,
                label=label_of(trial.choice),
            )
            for trial in trials
        }
        outcomes = map_units(
            run_trial,
            [trial_unit(job) for job in jobs.values()],
            folder=self.folder,
            workers=execution.workers,
            threads=execution.threads,
            backend=execution.backend,
            describe="forget_relearn_search: trials",
        )
        by_label = dict(zip(jobs, outcomes, strict=True))
        return [by_label[label_of(trial.choice)] for trial in trials]
