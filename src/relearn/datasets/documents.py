"""JSON documents, and the report that a manager reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.atomic import write_text
from relearn.datasets.files import FileDataset
from relearn.errors import DataError

if TYPE_CHECKING:
    from kedro_datasets._typing import JSONPreview, TablePreview


class JsonDataset(FileDataset):
    """A mapping or list of plain values; NaN and infinity are refused."""

    def __init__(
        self, *, filepath: str, optional: bool = False, metadata: dict[str, Any] | None = None
    ) -> None:
        """Remember where the document is.

        Args:
            filepath: Path of the file.
            optional: Whether a missing file loads as ``{"missing": True}``.
            metadata: See ``FileDataset``.
        """
        super().__init__(filepath=filepath, metadata=metadata)
        self.optional = optional

    def load(self) -> Any:
        """Return the document, ``{"missing": True}`` where it may be and is missing.

        Raises:
            DataError: The file is damaged, or missing and not optional.
        """
        if self.optional and not self.path.exists():
            return {"missing": True}
        return super().load()

    def preview(self) -> JSONPreview:
        """Return the text for kedro-viz."""
        return json.dumps(self.load())

    def _read(self, path: Path) -> Any:
        return json.loads(path.read_text(encoding="utf-8"))

    def _write(self, data: Any, path: Path) -> None:
        text = json.dumps(data, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
        path.write_text(text + "\n", encoding="utf-8")


class ReportDataset(FileDataset):
    """The report: ``html`` at the path, ``markdown`` and ``decision`` beside it.

    Saved from a mapping with the keys ``html``, ``markdown`` and, optionally, ``decision`` (a list
    of rows or a ``DataFrame``), which kedro-viz shows as a table, since it cannot show a page.
    """

    @property
    def files(self) -> list[Path]:
        """The page and what lies beside it."""
        return [self.path, *(_beside(self.path, end) for end in (".md", ".decision.json"))]

    def preview(self) -> TablePreview:
        """Return the decision as a table, and where the page is."""
        rows = self.load()["decision"] or [{"decision": "no row"}]
        columns = list(dict.fromkeys(name for row in rows for name in row))
        data = [[row.get(name) for name in columns] + [self.path.as_uri()] for row in rows]
        shown: Any = {"index": list(range(len(rows))), "columns": [*columns, "page"], "data": data}
        return shown

    def _read(self, path: Path) -> dict[str, Any]:
        decision = _beside(path, ".decision.json")
        return {
            "html": path.read_text(encoding="utf-8"),
            "markdown": _beside(path, ".md").read_text(encoding="utf-8"),
            "decision": json.loads(decision.read_text(encoding="utf-8")),
        }

    def _write(self, data: Mapping[str, Any], path: Path) -> None:
        unknown = set(data) - {"html", "markdown", "decision"}
        if unknown:
            raise DataError(f"{self.path}: a report has no part {sorted(unknown)}")
        rows = data.get("decision", [])
        rows = json.loads(rows.to_json(orient="records")) if hasattr(rows, "to_json") else rows
        # The page is renamed last: where it stands, its companions stand too.
        write_text(_beside(self.path, ".md"), data["markdown"])
        write_text(_beside(self.path, ".decision.json"), json.dumps(rows, indent=2))
        path.write_text(data["html"], encoding="utf-8")


def _beside(path: Path, ending: str) -> Path:
    return path.with_suffix(ending)
