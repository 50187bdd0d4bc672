"""Plain data as a reader meets it: tables where rows share their fields, texts, and the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_MOST_ROWS = 40


@dataclass(frozen=True)
class RowTable:
    """Rows of equal fields.

    Attributes:
        title: What they are.
        columns: Heads.
        rows: One text for each head.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass
class Divided:
    """Plain data, divided by how it is shown.

    Attributes:
        tables: Lists of rows.
        texts: Title and text of several lines.
        rest: What remains, nested as it was.
    """

    tables: list[RowTable] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    rest: dict[str, Any] = field(default_factory=dict)


def divide(
    value: Mapping[str, Any], *, shown: Callable[[str, Any], str], prefix: str = ""
) -> Divided:
    """Return tables, long texts, and what is neither.

    A table is a list of mappings, or a mapping of two mappings or more with the same fields, whose
    names become the first column; or several mappings beside each other that speak of the same
    names, which become its columns.

    Args:
        value: JSON-like mapping.
        shown: How one value is written, from the name of its column and the value.
        prefix: Put before every title.
    """
    found = Divided()
    beside = _beside(value)
    if beside:
        names = dict.fromkeys(name for inner in beside.values() for name in inner)
        side = [{"": name, **{k: v.get(name) for k, v in beside.items()}} for name in names]
        found.tables.append(_table(prefix.removesuffix(": ") or "by name", side, shown))
    for key, inner in value.items():
        if key in beside:
            continue
        title = f"{prefix}{str(key).replace('_', ' ')}"
        rows = _rows_of(inner)
        if rows:
            found.tables.append(_table(title, rows, shown))
        elif isinstance(inner, Mapping):
            deeper = divide(inner, shown=shown, prefix=f"{title}: ")
            found.tables += deeper.tables
            found.texts += deeper.texts
            found.rest |= {key: deeper.rest} if deeper.rest or not inner else {}
        elif isinstance(inner, str) and "\n" in inner.strip():
            found.texts.append((title, inner.strip("\n")))
        else:
            found.rest[key] = inner
    return found


def _beside(value: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the inner mappings of plain values that share names with another of them."""
    flat = {
        key: inner
        for key, inner in value.items()
        if isinstance(inner, Mapping)
        and inner
        and all(isinstance(one, int | float | str) for one in inner.values())
    }
    known = Counter(name for inner in flat.values() for name in inner)
    return {key: inner for key, inner in flat.items() if any(known[name] > 1 for name in inner)}


def _rows_of(value: Any) -> list[Mapping[str, Any]]:
    """Return the value as rows; empty where it is none."""
    if isinstance(value, Mapping):
        inner = list(value.values())
        alike = len(inner) > 1 and all(isinstance(row, Mapping) and row for row in inner)
        if not alike or len({frozenset(row) for row in inner}) > 1:
            return []
        return [{"": name, **row} for name, row in value.items()]
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        return list(value) if all(isinstance(row, Mapping) for row in value) else []
    return []


def _table(
    title: str, rows: Sequence[Mapping[str, Any]], shown: Callable[[str, Any], str]
) -> RowTable:
    """Return the rows with names before numbers, and simple names before compound ones."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    named = {c for c in columns if any(isinstance(row.get(c), str) for row in rows)}
    columns.sort(key=lambda column: (column not in named, column in named and "_" in column))
    body = [
        tuple(shown(column, row.get(column)) for column in columns) for row in rows[:_MOST_ROWS]
    ]
    more = len(rows) - _MOST_ROWS
    if more > 0:
        body.append((f"and {more} more", *[""] * (len(columns) - 1)))
    return RowTable(title, tuple(column.replace("_", " ") for column in columns), tuple(body))
