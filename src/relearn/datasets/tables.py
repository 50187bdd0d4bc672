"""Tables as CSV or parquet, which may be declared optional."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relearn.atomic import write_text
from relearn.datasets.files import FileDataset
from relearn.errors import DataError

if TYPE_CHECKING:
    from kedro_datasets._typing import TablePreview
    from pandas import DataFrame

_PREVIEW_ROWS = 40


class TableDataset(FileDataset):
    """A ``DataFrame`` whose ``attrs`` (such as its provenance) come back with it.

    Parquet holds the attrs itself; beside a CSV they stand in ``<file>.attrs.json``.
    """

    def __init__(
        self, *, filepath: str, optional: bool = False, metadata: dict[str, Any] | None = None
    ) -> None:
        """Remember where the table is.

        Args:
            filepath: Path that ends in ``.csv`` or ``.parquet``.
            optional: Whether a missing file loads as an empty table with ``attrs["missing"]``
                true instead of being an error.
            metadata: See ``FileDataset``.

        Raises:
            DataError: The path has another ending.
        """
        super().__init__(filepath=filepath, metadata=metadata)
        self.optional = optional
        if self.path.suffix not in (".csv", ".parquet"):
            raise DataError(f"{filepath}: a table ends in .csv or .parquet")

    def load(self) -> DataFrame:
        """Return the table; an empty one marked missing where that is allowed.

        Raises:
            DataError: The file is damaged, or missing and not optional.
        """
        if self.optional and not self.path.exists():
            import pandas as pd

            empty = pd.DataFrame()
            empty.attrs["missing"] = True
            return empty
        return super().load()

    def save(self, data: DataFrame) -> None:
        """Write the table, and beside a CSV its attrs.

        Args:
            data: Any table; its index is not kept.
        """
        if self._attrs_path is not None:  # first, so that no new table stands with old attrs
            self._attrs_path.unlink(missing_ok=True)
        super().save(data)
        if self._attrs_path is not None and data.attrs:
            write_text(self._attrs_path, json.dumps(data.attrs, sort_keys=True))

    def preview(self, nrows: int = _PREVIEW_ROWS) -> TablePreview:
        """Return the first rows for kedro-viz.

        Args:
            nrows: Number of rows shown.
        """
        table = self.load().head(nrows)
        shown: Any = json.loads(table.to_json(orient="split", index=False, default_handler=str))
        return {"index": list(range(len(table))), **shown}

    @property
    def _attrs_path(self) -> Path | None:
        if self.path.suffix == ".parquet":
            return None
        return self.path.with_name(f"{self.path.name}.attrs.json")

    def _read(self, path: Path) -> DataFrame:
        import pandas as pd

        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        table = pd.read_csv(path, keep_default_na=False, na_values=["NaN"])
        if self._attrs_path is not None and self._attrs_path.exists():
            table.attrs.update(json.loads(self._attrs_path.read_text(encoding="utf-8")))
        return table

    def _write(self, data: DataFrame, path: Path) -> None:
        if path.suffix == ".parquet":
            data.to_parquet(path, index=False)
        else:
            data.to_csv(path, index=False, na_rep="NaN", lineterminator="\n")
