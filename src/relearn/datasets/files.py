"""What all our datasets share: one local file, written atomically, with faults in one line."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from relearn.atomic import written_atomically
from relearn.errors import DataError, RelearnError


class FileDataset(AbstractDataset[Any, Any]):
    """One file on a local disk.

    A subclass reads and writes a plain path; this class sees to it that the file is whole or
    absent, and that a missing or damaged one is reported with the pipeline that makes it.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Remember where the file is.

        Args:
            filepath: Path of the file; Kedro makes it absolute.
            metadata: ``made_by`` names the pipeline that makes the file; kedro-viz and the
                tracking hook read their own keys.
        """
        self._path = Path(filepath)
        self.metadata = metadata or {}

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self._path

    @property
    def files(self) -> list[Path]:
        """What is uploaded as an artifact."""
        return [self._path]

    def load(self) -> Any:
        """Return what the file holds.

        Raises:
            DataError: The file is missing or damaged; names it and the pipeline to run.
        """
        if not self._path.exists():
            raise DataError(f"{self._path}: not there; {self.remedy('first')}")
        try:
            return self._read(self._path)
        except RelearnError as error:
            raise DataError(f"{error}; {self.remedy('again')}") from error
        except MemoryError:
            raise
        except Exception as error:
            raise DataError(
                f"{self._path}: damaged ({_first_line(error)}); {self.remedy('again')}"
            ) from error

    def save(self, data: Any) -> None:
        """Write ``data`` so that the file is either whole or as it was before.

        Args:
            data: What the subclass can write.
        """
        with written_atomically(self._path) as temporary:
            self._write(data, temporary)

    def remedy(self, when: str) -> str:
        """Return what to type to have the file made.

        Args:
            when: ``first`` or ``again``.
        """
        maker = self.metadata.get("made_by")
        option = f" --pipeline {maker}" if maker else ""
        return f"run `kedro run{option}` {when} (same --env and --params)"

    @abstractmethod
    def _read(self, path: Path) -> Any:
        """Return what the file at ``path`` holds."""

    @abstractmethod
    def _write(self, data: Any, path: Path) -> None:
        """Write ``data`` to ``path``."""

    def _exists(self) -> bool:
        return self._path.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:200]
