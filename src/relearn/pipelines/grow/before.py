"""What happens before any arm is trained: headroom, plan and gate, for the teachers at hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.errors import EvidenceError
from relearn.methods.grow.config import GrowConfig
from relearn.training.config import ExecutionConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from relearn.data.images import Stream
    from relearn.methods.grow.teacher import Teacher


def headroom_of(
    stream: Stream, teachers: pd.DataFrame, grow: GrowConfig, execution: ExecutionConfig
) -> dict[str, Any]:
    """Return the advice whether to grow, and when each teacher was ready to be grown.

    Where a probe is asked for, it is made on the first seed.

    Args:
        stream: Frozen data.
        teachers: Index of the teachers.
        grow: Knobs.
        execution: Device of the probe.

    Raises:
        EvidenceError: The advice is not to grow, and ``growth.headroom.stop`` holds.
    """
    from relearn.methods.grow.headroom import advise, probe
    from relearn.methods.grow.pair import open_pair
    from relearn.training.device import device_of

    loaded, headroom = list(_loaded(teachers)), grow.growth.headroom
    gain = None
    if headroom.probe_epochs:
        seed, teacher = loaded[0]
        device = device_of(execution, teacher.checkpoint.architecture)
        gain = probe(open_pair(teacher, stream, grow, seed=seed), grow, device=device)
    advice = advise([teacher.told for _, teacher in loaded], headroom, gain=gain)
    if headroom.stop and not advice.grow:
        raise EvidenceError(
            f"grow.growth.headroom: do not grow: {'; '.join(advice.reasons)}; to grow all the same "
            "set grow.growth.headroom.stop=false"
        )
    teachers_told = [
        {"seed": seed, **{name: teacher.told[name] for name in ("epochs", "plateau_epoch")}}
        for seed, teacher in loaded
    ]
    return {**advice.to_plain(), "teachers": teachers_told}


def plan_of(
    stream: Stream, teachers: pd.DataFrame, grow: GrowConfig
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the plan as a table, and the forecast, for the first teacher.

    Args:
        stream: Frozen data.
        teachers: Index of the teachers.
        grow: Knobs.
    """
    from relearn.methods.grow.forecast import forecast_of
    from relearn.methods.grow.pair import open_pair
    from relearn.pipelines.grow.tables import plan_table

    seed, teacher = next(_loaded(teachers))
    pair = open_pair(teacher, stream, grow, seed=seed)
    return plan_table(pair.grown.record.plan), forecast_of(pair, grow)


def verification_of(stream: Stream, teachers: pd.DataFrame, grow: GrowConfig) -> dict[str, Any]:
    """Return what the gate found for every teacher.

    Args:
        stream: Frozen data.
        teachers: Index of the teachers.
        grow: Knobs.
    """
    from relearn.methods.grow.growing import told_of
    from relearn.methods.grow.pair import open_pair

    seeds = {}
    for seed, teacher in _loaded(teachers):
        grown = open_pair(teacher, stream, grow, seed=seed).grown
        seeds[str(seed)] = {
            **told_of(grown.report),
            "record_digest": grown.record.digest,
            "teacher_digest": grown.record.teacher_digest,
            "exact": grown.record.exact,
        }
    return {"passed": True, "seeds": seeds}


def _loaded(teachers: pd.DataFrame) -> Iterator[tuple[int, Teacher]]:
    from relearn.pipelines.grow.teacher_store import load_teacher

    for seed, path in zip(teachers["seed"], teachers["path"], strict=True):
        yield int(seed), load_teacher(Path(path))
