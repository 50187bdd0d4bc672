"""Nodes of pretrain: see that the stream is the present one, train the base, draw its curve.

Kedro evaluates the annotations of nodes while it starts, so names that would import torch or pandas
stand for ``Any`` at run time and for themselves when types are checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.data.config import DataConfig
from relearn.errors import StaleInputError
from relearn.parameters import SeedsConfig, StorageConfig
from relearn.provenance import Provenance, digest
from relearn.training.config import ExecutionConfig, PretrainConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from relearn.data.images import Stream
    from relearn.models.checkpoint import Checkpoint
else:
    Checkpoint = DataFrame = Figure = Stream = Any


def pretrain_base(
    *,
    stream: Stream,
    pretrain: PretrainConfig,
    data: DataConfig,
    execution: ExecutionConfig,
    seeds: SeedsConfig,
    storage: StorageConfig,
) -> tuple[Checkpoint, DataFrame]:
    """Return the base checkpoint and the records of its training.

    A base that was trained before with the same parameters, data and code is taken as it is; an
    interrupted training goes on.

    Args:
        stream: Frozen data.
        pretrain: Net, weights and training.
        data: Only to see that ``stream`` belongs to the present parameters.
        execution: Device and precision.
        seeds: The first one is the seed of the base.
        storage: Where the unit lies while it trains.

    Raises:
        StaleInputError: The stream was made with other parameters.
        TrainingError: The training failed.
    """
    import pandas as pd

    from relearn.execution import map_units, require_all
    from relearn.pipelines.pretrain.base_checkpoint import Job, load_unit, run_unit, unit_of
    from relearn.tracking import current_run

    _require_present(stream, data)
    job = Job(stream, pretrain, execution, seeds.first, current_run())
    outcomes = map_units(
        run_unit,
        [unit_of(job)],
        folder=Path(storage.folder) / "06_models" / "pretrain",
        workers=1,
        threads=execution.threads,
        backend="loky",
        describe="pretrain",
    )
    require_all(outcomes, what="pretrain")
    base, rows = load_unit(Path(outcomes[0].path))
    records = pd.DataFrame(rows)
    records.attrs["provenance"] = Provenance(
        "pretrain_records", "pretrain", config=digest(pretrain), inputs={"stream": stream.digest}
    ).to_json()
    return base, records


def draw_curve(records: DataFrame) -> Figure:
    """Return the figure of loss and accuracy over the steps of pre-training.

    Args:
        records: Rows with columns step, metric and value.
    """
    from matplotlib.figure import Figure as Canvas

    figure = Canvas(figsize=(7.2, 2.8), layout="constrained")
    panels = {"train_loss": "loss", "accuracy": "accuracy"}
    for axes, (kind, title) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        chosen = records[records["metric"].str.endswith(kind)]
        for metric, rows in chosen.groupby("metric"):
            name = str(metric).replace("_", " ")
            axes.plot(rows["step"], rows["value"], marker=".", label=name)
        axes.set_xlabel("optimizer steps")
        axes.set_ylabel(title)
        if len(chosen):
            axes.legend(frameon=False)
    figure.suptitle("Pre-training of the base checkpoint", fontsize=10)
    return figure


def _require_present(stream: Stream, data: DataConfig) -> None:
    if stream.provenance is None:
        raise StaleInputError(
            "stream: it is not said which parameters made it; "
            "run `kedro run --pipeline prepare_data` again (same --env and --params)"
        )
    stream.provenance.require(config=data.stream_digest())
