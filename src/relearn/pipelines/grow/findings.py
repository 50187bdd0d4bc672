"""What a reader must know before believing the table, one sentence each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from relearn.pipelines.grow.tables import TASK

if TYPE_CHECKING:
    import pandas as pd

    from relearn.methods.grow.config import GrowConfig

_SAME = 0.999


def findings_of(
    records: pd.DataFrame,
    selection: pd.DataFrame,
    headroom: Mapping[str, Any],
    config: GrowConfig,
) -> list[str]:
    """Return one sentence for each thing that limits what the table says.

    Args:
        records: Of the arms, with the rows of ``tables.reach_rows``.
        selection: Settings chosen for each arm.
        headroom: Advice whether to grow at all.
        config: Knobs.
    """
    return [
        *_advice(headroom),
        *_trigger(headroom, config),
        *_borders(selection),
        *_returned(records),
        *_dips(records),
        *_censored(records),
        *_siblings(records),
        *_exactness(config),
    ]


def speed_of(speed_up: Mapping[str, Any], break_even: Mapping[str, Any]) -> list[str]:
    """Return what growing saves, or does not, in one sentence each.

    Args:
        speed_up: As from ``tables.speed_up``.
        break_even: As from ``tables.break_even``.
    """
    found = []
    if speed_up:
        sunk, whole = (_factor(speed_up[k]) for k in ("teacher_sunk", "teacher_included"))
        bound = ", an upper bound" if speed_up["upper_bound"] else ""
        found.append(
            f"To the accuracy that {speed_up['rival']} held at its end, the grown net needs {sunk} "
            f"with the teacher there already, and {whole} with the teacher's training counted "
            f"({speed_up['pairs']} pairs, {speed_up['censored']} cut off{bound})."
        )
    if break_even:
        count = break_even["candidates"]
        found.append(
            f"From {count} design{'s' if count > 1 else ''} on, growing all of them from one "
            "teacher costs fewer FLOPs than each from scratch, the teacher counted."
            if count
            else "By these figures no number of designs makes growing them from one teacher "
            "cheaper than each from scratch."
        )
    return found


def _factor(told: Mapping[str, Any]) -> str:
    factor, low, high = (told[name] for name in ("factor", "low", "high"))
    if factor is None:
        return "none (it is there at once)"
    if factor >= 1:
        ends = f", {low:.2f} to {_end(high)}" if low else ""
        return f"{factor:.2f} times fewer FLOPs{ends}"
    ends = f", {0 if high is None else 1 / high:.2f} to {1 / low:.2f}" if low else ""
    return f"{1 / factor:.2f} times as many FLOPs{ends}"


def _end(value: float | None) -> str:
    return "any" if value is None else f"{value:.2f}"


def _advice(headroom: Mapping[str, Any]) -> list[str]:
    advice = "grow" if headroom["grow"] else "do not grow"
    return [f"Advice before the run: {advice}, because {'; '.join(headroom['reasons'])}."]


def _trigger(headroom: Mapping[str, Any], config: GrowConfig) -> list[str]:
    trigger = config.growth.trigger
    if trigger.when == "more_data":
        share = f"{100 * trigger.first_share:g} % of the training images"
        return [
            f"Growth was triggered by more data: the teachers had seen {share}, the arms see all."
        ]
    if trigger.when == "plateau":
        told = ", ".join(_stood_still(row) for row in headroom["teachers"])
        return [f"Growth was triggered where validation accuracy stood still: {told}."]
    return []


def _stood_still(teacher: Mapping[str, Any]) -> str:
    at = teacher["plateau_epoch"]
    where = f"epoch {at}" if at >= 0 else f"nowhere in {teacher['epochs']} epochs, grown after them"
    return f"seed {teacher['seed']} {where}"


def _borders(selection: pd.DataFrame) -> list[str]:
    taken = selection[selection["chosen"].astype(bool)]
    return [
        f"{row.arm}: the best rate (x{row.rate_factor:g}) lies at the border of its grid; raise "
        "grow.tuning.rate.widenings."
        for row in taken.itertuples()
        if bool(row.at_border)
    ]


def _returned(records: pd.DataFrame) -> list[str]:
    rows = _values(records, "abort", "aborted")
    return [
        f"{arm}: in {int(mine['value'].sum())} of {len(mine)} seeds the validation loss stayed "
        "above the teacher's, and the run returned to the teacher (grow.growth.abort)."
        for arm, mine in rows.groupby("arm", sort=False)
        if mine["value"].sum()
    ]


def _dips(records: pd.DataFrame) -> list[str]:
    back = _values(records, "dip", "recovered")
    depth = _values(records, "dip", "depth").groupby("arm")["value"].mean()
    return [
        f"{arm}: after a dip of {100 * depth[arm]:.1f} points on average it was not back at the "
        f"teacher's level in {int((mine['value'] == 0).sum())} of {len(mine)} seeds; lower "
        "its rate (grow.rates)."
        for arm, mine in back.groupby("arm", sort=False)
        if (mine["value"] == 0).any()
    ]


def _censored(records: pd.DataFrame) -> list[str]:
    rows = _values(records, TASK, "reached")
    return [
        f"{arm}: the final accuracy of the net from scratch was not reached in "
        f"{int((mine['value'] == 0).sum())} of {len(mine)} seeds; its steps are a lower bound, "
        "and a speed-up made of them an upper bound."
        for arm, mine in rows.groupby("arm", sort=False)
        if (mine["value"] == 0).any()
    ]


def _siblings(records: pd.DataFrame) -> list[str]:
    rows = _values(records, "unit_usage", "sibling_cosine")
    return [
        f"{arm}: copies are still almost equal (cosine {mean:.4f}): the new units do the work of "
        "the old ones; use grow.growth.copies.symmetry: zero_sum or train longer."
        for arm, mean in rows.groupby("arm", sort=False)["value"].mean().items()
        if mean > _SAME
    ]


def _exactness(config: GrowConfig) -> list[str]:
    if config.growth.copies.symmetry != "noise":
        return []
    return [
        "copies.symmetry: noise does not keep the function; the gate held it to a budget of "
        f"{100 * config.growth.gate.noise_budget:g} % of the largest output."
    ]


def _values(records: pd.DataFrame, task: str, metric: str) -> pd.DataFrame:
    return records[(records["task"] == task) & (records["metric"] == metric)]
