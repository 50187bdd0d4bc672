"""The report: one page a manager can read, then everything needed to check it.

``report.html`` is whole in itself (pictures inlined, no script, nothing fetched), prints on A4 and
reads on a telephone; ``report.md`` says the same without pictures. Both are made from plain data:
the content of ``decision.json``, the data card and what the methods left as diagnostics.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from relearn.reports.costs import cost_grid
from relearn.reports.plain_tables import divide
from relearn.reports.summary import HEADINGS, methods_of
from relearn.reports.wording import scale_of

if TYPE_CHECKING:
    from jinja2 import Environment

_LONGEST_LIST = 12
_ACCURACIES = {"accuracy", "robust", "clean"}  # words in the name of a column


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Attributes:
        title: Heading.
        caption: What is shown, with n and what the spread means.
        png: The bytes of the PNG.
    """

    title: str
    caption: str
    png: bytes

    @property
    def source(self) -> str:
        """The picture as a data address, so that the page needs no other file."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class MethodPart:
    """What a method left beside its records.

    Attributes:
        pictures: Figures of the method.
        diagnostics: Findings and numbers; a list of sentences under ``findings`` is printed as
            such, lists of rows as tables of their own, a text of several lines as it is, all else
            as one table.
        recommendation: What the method's own study recommends; the sentence stands under
            ``recommendation``, all else is a table.
        ledger: Result of the check of the ledger.
    """

    pictures: Sequence[Picture] = ()
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    recommendation: Mapping[str, Any] = field(default_factory=dict)
    ledger: Mapping[str, Any] = field(default_factory=dict)


def flat_rows(value: Mapping[str, Any], *, prefix: str = "") -> list[tuple[str, str]]:
    """Return nested plain data as rows of label and text, lists cut to a dozen entries.

    Args:
        value: JSON-like mapping.
        prefix: Put before every label.
    """
    rows: list[tuple[str, str]] = []
    for key, inner in value.items():
        label = f"{prefix}{str(key).replace('_', ' ')}"
        if isinstance(inner, Mapping):
            rows += flat_rows(inner, prefix=f"{label}: ")
        else:
            rows.append((label, _text(inner)))
    return rows


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if value is None or value == "":
        return "-"
    if isinstance(value, Mapping):
        return " ".join(f"{key.replace('_', ' ')} {_text(inner)}" for key, inner in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        shown = "; ".join(_text(v) for v in value[:_LONGEST_LIST])
        more = len(value) - _LONGEST_LIST
        return f"{shown} and {more} more" if more > 0 else shown or "none"
    return str(value)


def _cell(column: str, value: Any) -> str:
    """Return one value of a table; accuracies in percent, their differences in points."""
    words = set(column.split("_"))
    if not isinstance(value, float) or not words & _ACCURACIES:
        return _text(value)
    scale = scale_of("accuracy")
    return scale.difference(value) if "difference" in words else scale.value(value)


def _section(method: str, entry: Mapping[str, Any], part: MethodPart) -> dict[str, Any]:
    """Return what the templates need about one method that was run."""
    numbers = {k: v for k, v in part.diagnostics.items() if k not in ("findings", "gate")}
    divided = divide(numbers, shown=_cell)
    cost_heads, costs = cost_grid(entry["costs"])
    advice = {k: v for k, v in part.recommendation.items() if k != "recommendation"}
    return {
        "method": method,
        "entry": entry,
        "asked": entry.get("asked_shown", []),
        "cost_heads": cost_heads,
        "costs": costs,
        "pictures": part.pictures,
        "sentences": [str(text) for text in part.diagnostics.get("findings", ())],
        "diagnostics": flat_rows(divided.rest),
        "tables": divided.tables,
        "texts": divided.texts,
        "advice": part.recommendation.get("recommendation", ""),
        "recommendation": flat_rows(advice),
        "ledger": flat_rows(part.ledger),
    }


def report_content(
    decision: Mapping[str, Any],
    *,
    parts: Mapping[str, MethodPart],
    data_card: Mapping[str, Any],
    japanese: bool = False,
) -> dict[str, Any]:
    """Return what both templates are filled with.

    Args:
        decision: As from ``relearn.reports.summary.decision_document``.
        parts: Method to what it left beside its records.
        data_card: What the images are.
        japanese: Whether the first page ends with a summary in Japanese.
    """
    methods = methods_of(decision)
    run = {m: e for m, e in methods.items() if e["verdict"] != "not run"}
    return {
        "title": decision["title"],
        "headings": HEADINGS,
        "methods": methods,
        "run": run,
        "sections": [_section(m, e, parts.get(m, MethodPart())) for m, e in run.items()],
        "data_card": flat_rows(data_card),
        "provenance": flat_rows(decision["provenance"]),
        "japanese": [e["words_ja"] for e in run.values()] if japanese else [],
    }


def write_html(content: Mapping[str, Any], pictures: Sequence[Picture] = ()) -> str:
    """Return the report as one HTML page that fetches nothing.

    Args:
        content: As from ``report_content``.
        pictures: Figures over all methods, for the first pages.
    """
    template = _environment().from_string(_template("report.html.jinja"))
    return template.render(content, pictures=pictures)


def write_markdown(content: Mapping[str, Any]) -> str:
    """Return the report as Markdown, without pictures.

    Args:
        content: As from ``report_content``.
    """
    environment = _environment().overlay(autoescape=False)
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|").replace("\n", " ")
    return environment.from_string(_template("report.md.jinja")).render(content)


def _environment() -> Environment:
    from jinja2 import Environment, StrictUndefined

    return Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def _template(name: str) -> str:
    return files("relearn.reports").joinpath(name).read_text(encoding="utf-8")
