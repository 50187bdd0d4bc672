"""What all methods of a profile have left so far, read as one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset, DatasetError

from relearn.datasets.documents import JsonDataset
from relearn.datasets.tables import TableDataset

if TYPE_CHECKING:
    from relearn.datasets.files import FileDataset

TABLES = ("records", "costs", "interventions")
"""Files ``07_model_output/<method>/<name>.parquet``."""

DOCUMENTS = ("ledger_check", "recommendation", "diagnostics")
"""Files ``08_reporting/<method>/<name>.json``."""


class ResultsDataset(AbstractDataset[Any, Any]):
    """Tables and documents of every method that was run; it is only read.

    A road of one method reads the other methods' results as one entry, so that its picture shows
    what it makes and not six entries for each method that it does not run.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Remember where the profile is.

        Args:
            filepath: Folder ``07_model_output`` of the profile; ``08_reporting`` lies beside it.
            metadata: Keys of kedro-viz; ``made_by`` as in ``FileDataset``.
        """
        self._path = Path(filepath)
        self.metadata = metadata or {}

    def load(self) -> dict[str, Any]:
        """Return ``<method>_<name>`` to table or document, of those that are there.

        Raises:
            DataError: One of them is damaged.
        """
        tables = {
            f"{path.parent.name}_{path.stem}": _of_method(TableDataset, path)
            for path in sorted(self._path.glob("*/*.parquet"))
            if path.stem in TABLES
        }
        documents = {
            f"{path.parent.name}_{path.stem}": _of_method(JsonDataset, path)
            for path in sorted(self._path.parent.glob("08_reporting/*/*.json"))
            if path.stem in DOCUMENTS
        }
        return {**tables, **documents}

    def save(self, data: Any) -> None:
        """Refuse: every method saves its own.

        Args:
            data: Not written.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError("results_so_far: is only read; every method saves its own results")

    def _exists(self) -> bool:
        return True  # no result yet is a result too

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}


def _of_method(kind: type[FileDataset], path: Path) -> Any:
    """Return what lies at ``<method>/<name>``; the method is what makes it again if damaged."""
    return kind(filepath=str(path), metadata={"made_by": path.parent.name}).load()
