"""What is read off several arms at once: steps to scratch's final, speed-up; and the plan."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from relearn.methods.grow.config import GrowConfig
    from relearn.methods.grow.document import GrowthPlan

RIVALS = ("scratch", "scratch_total")
"""Arms whose final accuracy is the target, in this order of preference."""

TASK = "reach_scratch"
_PLAN = ("group", "change", "before", "after", "rule", "writers", "readers", "reason")


def plan_table(plan: GrowthPlan) -> pd.DataFrame:
    """Return one row for each group that grows or stays, for each refusal, and each new layer.

    Args:
        plan: As from ``relearn.methods.grow.plan``.

    Returns:
        Columns group, change (grows, stays, refused, new layer), before, after (channels), rule,
        writers, readers, reason.
    """
    import pandas as pd

    rows: list[tuple[Any, ...]] = [
        (
            group.name,
            "grows" if group.grows else "stays",
            group.channels,
            group.new_channels,
            group.rule,
            " ".join(group.writers),
            " ".join(group.readers),
            "",
        )
        for group in plan.groups
    ]
    rows += [
        (refusal.group, "refused", None, None, "", "", "", f"{refusal.operation}: {refusal.reason}")
        for refusal in plan.refusals
    ]
    rows += [
        (
            str(entry.get("path", "")),
            "new layer",
            None,
            None,
            str(entry.get("kind", "")),
            "",
            "",
            "",
        )
        for entry in plan.depth
    ]
    return pd.DataFrame(rows, columns=list(_PLAN))


def reach_rows(records: pd.DataFrame, costs: pd.DataFrame, config: GrowConfig) -> pd.DataFrame:
    """Return for each arm and seed when it reached the final accuracy of the net from scratch.

    The target is what the arm ``scratch`` (else ``scratch_total``) of the same seed held at its
    end: the lowest of as many last evaluations as must lie at or above a target. A run that did not
    reach it is cut off, not left out: ``reached`` is 0 and ``steps`` is what it was given.

    Args:
        records: Of all arms, with their curves.
        costs: Of the same.
        config: Knobs.

    Returns:
        Rows as in the records, task ``reach_scratch``: target, reached, steps, flops (of this
        training) and total_flops (the teacher's training counted where it was needed).
    """
    import pandas as pd

    from relearn.methods.grow.reach import steps_to

    rival = next((arm for arm in RIVALS if arm in set(records["arm"])), None)
    curves = records[(records["task"] == "curve") & (records["metric"] == "validation_accuracy")]
    each, taught = _flops_per_step(records), _taught(costs)
    found, sustained = [], config.evaluation.sustained
    for (arm, seed), rows in curves.groupby(["arm", "seed"], sort=False):
        mine = curves[(curves["arm"] == rival) & (curves["seed"] == seed)]
        if mine.empty:
            continue
        target = float(mine.sort_values("step")["value"].tail(sustained).min())
        line = rows.sort_values("step")
        reach = steps_to(
            line["step"].tolist(), line["value"].tolist(), target=target, sustained=sustained
        )
        flops = reach.steps * each[arm, seed]
        told = {
            "target": target,
            "reached": float(reach.reached),
            "steps": float(reach.steps),
            "flops": flops,
            "total_flops": flops + taught[arm, seed],
        }
        last = int(line["step"].iloc[-1])
        found += [("grow", arm, seed, TASK, last, name, value) for name, value in told.items()]
    return pd.DataFrame(found, columns=list(records.columns))


def speed_up(records: pd.DataFrame, config: GrowConfig) -> dict[str, Any]:
    """Return how many times fewer FLOPs the treated arm needs than the net from scratch.

    For each pair the treated arm's FLOPs to scratch's final accuracy are taken as a share of
    scratch's FLOPs to the same; the factor is 1 over the mean share, and its ends are 1 over those
    of Student's interval. (The mean of the factors themselves would be infinite as soon as one
    teacher is as good as scratch's end before any training.) No pair is left out: where the treated
    arm was cut off before it got there its whole training counts, which is less than it needs, so
    that the factor is then an upper bound.

    Args:
        records: With the rows of ``reach_rows``.
        config: Names the treated arm and the confidence.

    Returns:
        Empty without an arm from scratch that learns; else rival, pairs, censored (pairs that were
        cut off), upper_bound, and for teacher_sunk and teacher_included: share, factor, low, high
        (None where there is none, or it is infinite).
    """
    from relearn.reports.paired import paired_interval

    rows = records[records["task"] == TASK]
    rival = next((arm for arm in RIVALS if arm in set(rows["arm"])), None)
    treated = config.evidence.treated_arm
    if rival is None or treated not in set(rows["arm"]):
        return {}
    wide = rows.pivot_table(index="seed", columns=["arm", "metric"], values="value").dropna()
    wide = wide[wide[rival]["flops"] > 0]  # a net that never rose above its start has no speed
    if wide.empty:
        return {}
    censored = int((wide[treated]["reached"] == 0).sum())
    told: dict[str, Any] = {
        "rival": rival,
        "pairs": len(wide),
        "censored": censored,
        "upper_bound": censored > 0,
    }
    for name, metric in (("teacher_sunk", "flops"), ("teacher_included", "total_flops")):
        shares = wide[treated][metric] / wide[rival][metric]
        found = paired_interval(list(shares), config.evidence.confidence)
        told[name] = {
            "share": found.mean,
            "factor": _over(found.mean),
            "low": _over(found.high),
            "high": _over(found.low),
        }
    return told


def _over(share: float | None) -> float | None:
    """Return 1 over a share; None without one, or where it is not above 0."""
    return 1 / share if share is not None and share > 0 else None


def break_even(records: pd.DataFrame, costs: pd.DataFrame, config: GrowConfig) -> dict[str, Any]:
    """Return from how many candidate designs on one teacher costs less than each from scratch.

    N candidates cost T + N G from one teacher and N S from scratch, so that N > T / (S - G).

    Args:
        records: With the rows of ``reach_rows``.
        costs: Of the same arms.
        config: Names the treated arm.

    Returns:
        Empty without an arm from scratch; else teacher_flops, grown_flops, scratch_flops (means of
        FLOPs to scratch's final accuracy) and candidates, None where growing never pays or was cut
        off before it got there.
    """
    rows = records[records["task"] == TASK]
    rival = next((arm for arm in RIVALS if arm in set(rows["arm"])), None)
    treated = config.evidence.treated_arm
    if rival is None or treated not in set(rows["arm"]):
        return {}
    means = rows.groupby(["arm", "metric"])["value"].mean()
    taught = _taught(costs)
    teacher = [value for (arm, _), value in taught.items() if arm == treated]
    told = {
        "teacher_flops": sum(teacher) / len(teacher),
        "grown_flops": float(means[treated, "flops"]),
        "scratch_flops": float(means[rival, "flops"]),
    }
    saved = told["scratch_flops"] - told["grown_flops"]
    whole = means[treated, "reached"] == 1 and means[rival, "reached"] == 1
    pays = whole and saved > 0
    count = math.floor(told["teacher_flops"] / saved) + 1 if pays else None
    return {**told, "candidates": count}


def _flops_per_step(records: pd.DataFrame) -> dict[Any, float]:
    rows = records[(records["task"] == "curve") & (records["metric"] == "flops")]
    rows = rows[rows["step"] > 0]
    each = (rows["value"] / rows["step"]).groupby([rows["arm"], rows["seed"]]).first()
    return dict(each.items())


def _taught(costs: pd.DataFrame) -> dict[Any, float]:
    """Return the FLOPs of the teacher's training where an arm needed it, else 0."""
    wide = costs.pivot_table(index=["arm", "seed"], columns="metric", values="value")
    taught = wide["train_flops"] - wide["student_train_flops"]
    return dict(taught.items())


def plain_forecast(forecast: Mapping[str, Any]) -> str:
    """Return the forecast as plain text for the terminal.

    Args:
        forecast: As from ``forecasts.forecast_of``.
    """
    before, after = forecast["before"], forecast["after"]
    lines = [
        f"{forecast['grows']} of {forecast['groups']} groups grow, {forecast['refused']} refusals "
        "(grow.plan has the reasons)",
        f"parameters {before['parameters']:,} -> {after['parameters']:,}, FLOPs of one image "
        f"{before['flops']:,} -> {after['flops']:,}, latency of {forecast['latency_batch']} images "
        f"{1e3 * before['latency_seconds']:.1f} -> {1e3 * after['latency_seconds']:.1f} ms",
        "epochs: " + ", ".join(f"{arm} {n}" for arm, n in forecast["epochs"].items()),
    ]
    return "\n".join(lines)
