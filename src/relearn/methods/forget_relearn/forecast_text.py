"""A forecast as a text that a person reads before deciding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_COLUMNS = ("Training", "Epochs", "One epoch", "Training", "Watching", "Judging", "Extra")


def text_of(told: Mapping[str, Any]) -> str:
    """Return the forecast as a table and a few sentences.

    Args:
        told: As from ``forecast``, without the text.
    """
    rows = [_COLUMNS, *(_cells(name, row) for name, row in told["trainings"].items())]
    widths = [max(len(row[k]) for row in rows) for k in range(len(_COLUMNS))]
    lines = ["Forecast for one seed of each training:"]
    for row in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([f"{row[0]:<{widths[0]}}", *cells]))
    lines += ["", f"With {told['seeds']} seed(s) on {told['workers']} worker(s), {told['device']}:"]
    lines.append(
        f"  {duration(told['wall_seconds'])} in all ({_stages(told)}); "
        f"{duration(told['cpu_seconds'])} of processor time."
    )
    if told["extra_percent"] is not None:
        lines.append(
            f"  Forgetting and relearning trains {told['extra_percent']:+.0f} % longer than plain "
            "adversarial training."
        )
    if told["price"]:
        lines.append(f"  Price: {told['price']:.2f} {told['currency']}".rstrip() + ".")
    lines.append(f"Assumed: {'; '.join(told['assumptions'])}.")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """Return a duration in at most two units, such as ``1 h 23 min``.

    Args:
        seconds: 0 or more.
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s" if seconds >= 0.05 else f"{1000 * seconds:.0f} ms"
    whole = round(seconds)
    minutes, hours = whole // 60, whole // 3600
    if not minutes:
        return f"{whole} s"
    if not hours:
        return f"{minutes} min {whole % 60} s"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if days else f"{hours} h {minutes % 60} min"


def _cells(name: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    extra = row["extra_percent"]
    seconds = ("seconds_per_epoch", "train_seconds", "monitor_seconds", "judge_seconds")
    return (
        name,
        str(row["epochs"]),
        *(duration(row[column]) for column in seconds),
        "-" if extra is None else f"{extra:+.0f} %",
    )


def _stages(told: Mapping[str, Any]) -> str:
    names = ("tuning", "training", "judging", "confirming")
    found = {name: told[f"{name}_seconds"] for name in names}
    return ", ".join(f"{name} {duration(spent)}" for name, spent in found.items() if spent)
