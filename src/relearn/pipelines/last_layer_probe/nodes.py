"""Nodes of the ``last_layer_probe`` pipeline that compute; those that read are in ``reading``.

Kedro evaluates the annotations of nodes while it starts, so names that would import torch or pandas
stand for ``Any`` at run time and for themselves when types are checked.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.data.config import DataConfig
from relearn.methods.last_layer_probe.config import LastLayerProbeConfig
from relearn.parameters import SeedsConfig, StorageConfig
from relearn.training.config import ExecutionConfig, PretrainConfig

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pandas import DataFrame

    from relearn.data.images import Stream
    from relearn.models.checkpoint import Checkpoint
else:
    DataFrame = Stream = Checkpoint = Any

_log = logging.getLogger(__name__)


def look_first(
    *,
    base: Checkpoint,
    stream: Stream,
    last_layer_probe: LastLayerProbeConfig,
    pretrain: PretrainConfig,
    data: DataConfig,
    seeds: SeedsConfig,
) -> dict[str, Any]:
    """Say what depth, first weights and images promise, before anything is trained.

    Args:
        base: Net whose architecture and body are used.
        stream: Frozen data.
        last_layer_probe: Knobs.
        pretrain: Only to see that ``base`` belongs to the present parameters.
        data: Only to see that ``stream`` does.
        seeds: The first one's images are looked at.

    Returns:
        depth (by skeleton), initialisation (by layer), images, and warnings.

    Raises:
        ParameterError: A skeleton, activation or arm that cannot be; nothing was computed.
        DataError: The images do not suffice, or one has zero norm.
    """
    from relearn.methods.last_layer_probe.first_look import first_look
    from relearn.training.present import require_present

    require_present(base, stream, pretrain=pretrain, data=data)
    found = first_look(base, stream, last_layer_probe, seed=seeds.first)
    for warning in found["warnings"]:
        _log.warning("last_layer_probe: %s", warning)
    return found


def choose_settings(
    *,
    base: Checkpoint,
    stream: Stream,
    before: Mapping[str, Any],
    last_layer_probe: LastLayerProbeConfig,
    seeds: SeedsConfig,
    execution: ExecutionConfig,
    storage: StorageConfig,
) -> DataFrame:
    """Return every setting tried for the trained arms, and which one each takes.

    Args:
        base: As for ``look_first``.
        stream: As for ``look_first``.
        before: Only so that nothing is trained before it was said what depth promises.
        last_layer_probe: Knobs.
        seeds: The choice uses seeds apart from these.
        execution: Device and workers.
        storage: Where units lie.

    Returns:
        Columns arm, epochs_factor, rate_factor, score, seeds, seconds, at_border, chosen.
    """
    from relearn.pipelines.last_layer_probe import tuning

    start = seeds.first + tuning.TUNING_SEEDS
    fresh = range(start, start + last_layer_probe.trained.tuning.seeds)
    jobs = _jobs(base, stream, last_layer_probe, seeds=fresh, execution=execution)
    if not last_layer_probe.trained.tuning.enabled or not tuning.tuned_arms(jobs[0]):
        return tuning.untuned(jobs[0])
    return tuning.tune(jobs, _folder(storage, "tuning"))


def run_arms(
    *,
    base: Checkpoint,
    stream: Stream,
    selection: DataFrame,
    last_layer_probe: LastLayerProbeConfig,
    seeds: SeedsConfig,
    execution: ExecutionConfig,
    storage: StorageConfig,
) -> DataFrame:
    """Run and judge every arm with every seed; return the index of the units.

    Args:
        base: As for ``look_first``.
        stream: As for ``look_first``.
        selection: Settings chosen for the trained arms.
        last_layer_probe: Knobs.
        seeds: Seeds of the pairs.
        execution: Device and workers.
        storage: Where units lie.

    Returns:
        Columns arm, seed, path, digest (of the checkpoint file), reused.
    """
    from relearn.pipelines.last_layer_probe.road import run_arms as run

    jobs = _jobs(base, stream, last_layer_probe, seeds=seeds.all, execution=execution)
    return run(jobs, selection, _folder(storage, "arms"))


def _jobs(
    base: Checkpoint,
    stream: Stream,
    config: LastLayerProbeConfig,
    *,
    seeds: Iterable[int],
    execution: ExecutionConfig,
) -> list[Any]:
    """Return one job a seed; the arm is named later."""
    from relearn.methods.last_layer_probe.arms import arms_of
    from relearn.pipelines.last_layer_probe.units import Job
    from relearn.tracking import current_run

    first, handle = next(iter(arms_of(config))), current_run()
    return [Job(base, stream, config, first, seed, execution, handle) for seed in seeds]


def _folder(storage: StorageConfig, name: str) -> Path:
    return Path(storage.folder) / "06_models" / "last_layer_probe" / name
