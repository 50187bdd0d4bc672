"""Nodes of the ``forget_relearn_search`` pipeline: try settings, propose one, draw.

Kedro evaluates the annotations of nodes while it starts, so names that would import torch or pandas
stand for ``Any`` at run time and for themselves when types are checked.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.data.config import DataConfig
from relearn.methods.forget_relearn.config import ForgetRelearnConfig
from relearn.methods.forget_relearn.search_config import ForgetRelearnSearchConfig
from relearn.parameters import SeedsConfig, StorageConfig
from relearn.training.config import ExecutionConfig, PretrainConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from relearn.data.images import Stream
    from relearn.models.checkpoint import Checkpoint
else:
    DataFrame = Figure = Stream = Checkpoint = Any

_log = logging.getLogger(__name__)


def check_choices(
    *,
    base: Checkpoint,
    stream: Stream,
    forget_relearn: ForgetRelearnConfig,
    forget_relearn_search: ForgetRelearnSearchConfig,
    pretrain: PretrainConfig,
    data: DataConfig,
    seeds: SeedsConfig,
) -> dict[str, Any]:
    """Refuse what cannot be searched before anything is trained, and return what is searched.

    Args:
        base: Architecture, and weights where trainings continue them.
        stream: Frozen data.
        forget_relearn: The present setting.
        forget_relearn_search: Choices and budget.
        pretrain: Only to see that ``base`` belongs to the present parameters.
        data: Only to see that ``stream`` does.
        seeds: Seeds that are reported, from which those of the search stand apart.
    """
    from relearn.methods.forget_relearn.search_space import search_space, with_choice
    from relearn.pipelines.forget_relearn.checks import require_runnable
    from relearn.pipelines.forget_relearn_search.study import SEARCH_SEEDS
    from relearn.training.present import require_present

    require_present(base, stream, pretrain=pretrain, data=data)
    space = search_space(forget_relearn, forget_relearn_search)
    for layers in space.layers:
        config = with_choice(forget_relearn, {**space.present, "layers": layers})
        require_runnable(base, stream, config, seed=seeds.first + SEARCH_SEEDS)
    ranges = {name: list(value) for name, value in vars(space).items() if name != "present"}
    return {**ranges, "present": space.present, "first_seed": seeds.first + SEARCH_SEEDS}


def try_settings(
    *,
    base: Checkpoint,
    stream: Stream,
    choices: dict[str, Any],
    forget_relearn: ForgetRelearnConfig,
    forget_relearn_search: ForgetRelearnSearchConfig,
    seeds: SeedsConfig,
    execution: ExecutionConfig,
    storage: StorageConfig,
) -> DataFrame:
    """Return every setting that was tried, with its score on validation images.

    Args:
        base: As for ``check_choices``.
        stream: As for ``check_choices``.
        choices: Only so that nothing is trained before it was checked.
        forget_relearn: The present setting, which is the first trial.
        forget_relearn_search: Choices and budget.
        seeds: Seeds that are reported.
        execution: Device and workers.
        storage: Where the study and its units lie.

    Returns:
        Columns as ``study.COLUMNS``.
    """
    from relearn.methods.forget_relearn.search_space import SEARCHED, search_space
    from relearn.pipelines.forget_relearn.units import TrainingJob
    from relearn.pipelines.forget_relearn_search.study import search_table
    from relearn.tracking import current_run

    first = TrainingJob(
        base, stream, forget_relearn, SEARCHED, seeds.first, execution, current_run()
    )
    folder = Path(storage.folder) / "06_models" / "forget_relearn_search"
    space = search_space(forget_relearn, forget_relearn_search)
    return search_table(first, forget_relearn_search, space, folder)


def propose_setting(
    trials: DataFrame,
    forget_relearn: ForgetRelearnConfig,
    forget_relearn_search: ForgetRelearnSearchConfig,
) -> dict[str, Any]:
    """Return the proposal, which a person reads, confirms on fresh seeds, and may put in.

    Args:
        trials: As from ``try_settings``.
        forget_relearn: The present setting.
        forget_relearn_search: Choices and budget.
    """
    from relearn.methods.forget_relearn.search_space import search_space
    from relearn.pipelines.forget_relearn_search.proposal import propose

    space = search_space(forget_relearn, forget_relearn_search)
    found = propose(trials, forget_relearn, forget_relearn_search, space)
    verdict = "keep the present setting" if found["keeps_present"] else found["yaml"]
    _log.info(
        "forget_relearn_search: %d trials, %.0f s; score %.3f, at present %.3f; proposed: %s\n%s",
        *(found["trials"], found["seconds"], found["proposed"]["score"]),
        *(found["present"]["score"], verdict, found["warning"]),
    )
    return found


def draw_scores(trials: DataFrame) -> Figure:
    """Return the scores by trial, and by each choice.

    Args:
        trials: As from ``try_settings``.
    """
    from relearn.methods.forget_relearn.search_space import CHOICES
    from relearn.reports.search_figure import draw_search

    return draw_search(trials, choices=CHOICES)
