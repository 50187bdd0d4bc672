"""Tables of settings: every parameter under a root key, from its class and the base YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel

from relearn.parameters import Parameters

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

BOUNDS = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}"}


def settings_table(base: Path, root: str) -> str:
    """Return every parameter under ``root`` as a Markdown table.

    Args:
        base: Folder of the base environment.
        root: Key at the top of the parameters, such as ``zap``.

    Raises:
        KeyError: No such root key.
    """
    field = Parameters.model_fields[root]
    values: dict[str, Any] = {}
    for path in sorted(base.glob("parameters*.yml")):
        values |= yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    rows = ["| Parameter | Base value | Range | Meaning |", "|---|---|---|---|"]
    for name, found, meaning in _leaves(root, field, ""):
        cells = (f"`{name}`", _shown(_value(values, name)), _range(found), meaning)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*rows, ""])


def attributes(model: type[BaseModel]) -> dict[str, str]:
    """Return field to meaning, from the ``Attributes:`` of the class and of those it extends."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        ours = issubclass(kind, BaseModel) and kind is not BaseModel
        found |= _section(kind.__doc__ or "") if ours else {}
    return found


def _section(text: str) -> dict[str, str]:
    """Return the entries of a Google-style ``Attributes:`` section, lines joined."""
    _, _, body = text.partition("Attributes:\n")
    found: dict[str, str] = {}
    name = ""
    for line in body.splitlines():
        entry = re.match(r"^\s{8}(\w+): (.*)$", line)
        if entry:
            name = entry[1]
            found[name] = entry[2].strip()
        elif line.startswith(" " * 12) and name:
            found[name] += f" {line.strip()}"
    return {name: re.sub("``", "`", meaning) for name, meaning in found.items()}


def _leaves(name: str, field: FieldInfo, meaning: str) -> Iterator[tuple[str, FieldInfo, str]]:
    kind = field.annotation
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        yield name, field, meaning
        return
    told = attributes(kind)
    for key, child in kind.model_fields.items():
        yield from _leaves(f"{name}.{key}", child, told.get(key, ""))


def _value(values: Mapping[str, Any], name: str) -> Any:
    found: Any = values
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return ", ".join(value) or "none"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`" if text else '`""`'


def _range(field: FieldInfo) -> str:
    choices = _choices(field.annotation)
    if choices:
        return ", ".join(f"`{choice}`" for choice in choices)
    bounds = [
        text.format(f"{getattr(rule, key):g}")
        for rule in field.metadata
        for key, text in BOUNDS.items()
        if isinstance(getattr(rule, key, None), int | float)
    ]
    return ", ".join(bounds) or _kind(field.annotation)


def _choices(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) is Literal else ()


def _kind(kind: Any) -> str:
    if get_origin(kind) is Union:
        return " or ".join(_kind(part) for part in get_args(kind))
    if get_origin(kind) is dict:
        return "blocks by name"
    names = {bool: "`true`, `false`", str: "text", int: "whole number", float: "number"}
    return names.get(kind, "")
