"""Nodes of the ``grow_explore`` pipeline: search and draw.

Kedro evaluates the annotations of nodes while it starts, so names that would import torch or pandas
stand for ``Any`` at run time and for themselves when types are checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.data.config import DataConfig
from relearn.methods.grow.config import GrowConfig
from relearn.methods.grow.explore_config import GrowExploreConfig
from relearn.parameters import SeedsConfig, StorageConfig
from relearn.training.config import ExecutionConfig, PretrainConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from relearn.data.images import Stream
    from relearn.models.checkpoint import Checkpoint
else:
    DataFrame = Figure = Stream = Checkpoint = Any


def search_designs(  # noqa: PLR0913 - the blocks of parameters it reads, all by keyword
    *,
    base: Checkpoint,
    stream: Stream,
    grow: GrowConfig,
    grow_explore: GrowExploreConfig,
    pretrain: PretrainConfig,
    data: DataConfig,
    seeds: SeedsConfig,
    execution: ExecutionConfig,
    storage: StorageConfig,
) -> DataFrame:
    """Train designs grown from one teacher and from one another, until the budget is spent.

    Args:
        base: As for ``grow``.
        stream: Frozen data.
        grow: Knobs of the method.
        grow_explore: Knobs of the exploration.
        pretrain: Only to see that ``base`` belongs to the present parameters.
        data: Only to see that ``stream`` does.
        seeds: The first one is the teacher's, and that of the proposals.
        execution: Device and workers.
        storage: Where units lie.

    Returns:
        One row a design, the teacher first: design, parent, parameters, forward_flops,
        latency_seconds, validation_accuracy, test_accuracy, train_flops, returned, on_front.
    """
    from relearn.pipelines.grow.units import TeacherJob
    from relearn.pipelines.grow_explore.search import Search
    from relearn.tracking import current_run
    from relearn.training.present import require_present

    require_present(base, stream, pretrain=pretrain, data=data)
    job = TeacherJob(base, stream, grow, seeds.first, execution, current_run())
    folder = Path(storage.folder) / "06_models"
    search = Search(job, grow_explore, teachers=folder / "grow/teachers")
    return search.run(folder / "grow_explore" / "designs")


def draw_front(table: DataFrame) -> Figure:
    """Return the picture of validation accuracy against latency, with the front.

    Args:
        table: As from ``search_designs``.
    """
    from relearn.reports.growth_figures import draw_front as draw

    return draw(table)
