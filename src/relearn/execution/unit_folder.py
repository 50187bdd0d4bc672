"""The folder of one unit: its lock while it is worked on, its marker when it is whole."""

from __future__ import annotations

import json
import logging
import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relearn.atomic import PREFIX, write_text
from relearn.errors import LockedError
from relearn.process import Identity, this_process
from relearn.provenance import digest, digest_file

log = logging.getLogger(__name__)

MARKER, LOCK, FAILURE = "done.json", "lock.json", "failure.txt"
_NOT_RESULTS = (MARKER, LOCK, FAILURE)
RESUME = "resume"
"""Files whose name begins so belong to an unfinished unit and are no result."""


@dataclass(frozen=True)
class UnitFolder:
    """Where one unit writes.

    Attributes:
        path: The folder.
        key: The unit's key.
        address: What decides its result, part to digest.
    """

    path: Path
    key: str
    address: Mapping[str, str]

    @classmethod
    def of(cls, folder: Path, key: str, address: Mapping[str, str]) -> UnitFolder:
        """Return the folder of a unit below ``folder``; nothing is written.

        Args:
            folder: Parent of all units.
            key: The unit's key.
            address: What decides its result.
        """
        return cls(folder / key / digest(dict(address))[:16], key, dict(address))

    def is_finished(self) -> bool:
        """Tell whether all files that the marker lists are there as they were written."""
        marker = self.path / MARKER
        if not marker.exists():
            return False
        try:
            files: dict[str, str] = json.loads(marker.read_text(encoding="utf-8"))["files"]
            damaged = [n for n, d in files.items() if digest_file(self.path / n) != d]
        except (OSError, ValueError, KeyError) as error:
            damaged = [f"{MARKER} ({error})"]
        if damaged:
            log.warning("%s: damaged (%s); done again", self.key, ", ".join(damaged))
            marker.unlink(missing_ok=True)
        return not damaged

    def say_why(self) -> None:
        """Log which part of the address changed, where the unit was finished at another address."""
        finished = [m for m in self.path.parent.glob(f"*/{MARKER}") if m.parent != self.path]
        if not finished:
            return
        latest = max(finished, key=lambda marker: marker.stat().st_mtime)
        try:
            before = json.loads(latest.read_text(encoding="utf-8"))["address"]
        except (OSError, ValueError, KeyError):
            return
        changed = [part for part, now in self.address.items() if before.get(part) != now]
        log.info("%s: done again because %s changed", self.key, " and ".join(changed))

    def refuse_living_holder(self) -> None:
        """Check that no other living process works on the unit.

        Raises:
            LockedError: Names the process and machine.
        """
        holder = self._holder()
        if holder is None or holder == this_process() or holder.is_surely_dead():
            return
        raise LockedError(
            f"{self.path}: process {holder.pid} on {holder.host} is working on {self.key}; wait "
            f"for it, or delete {LOCK} there if that process is gone"
        )

    def drop_dead_lock(self) -> None:
        """Remove the lock of a process that was killed after the unit was whole."""
        holder = self._holder()
        if holder is not None and holder.is_surely_dead():
            (self.path / LOCK).unlink(missing_ok=True)

    def is_begun(self) -> bool:
        """Tell whether a process has begun on the unit and not come to an end."""
        return (self.path / LOCK).exists()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock inside the block; it is given back when the block ends.

        Raises:
            LockedError: Another living process holds it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self._take()
        try:
            yield
        finally:
            (self.path / LOCK).unlink(missing_ok=True)

    def finish(self) -> None:
        """Write the marker: from now on the unit is whole."""
        (self.path / FAILURE).unlink(missing_ok=True)
        for left in [*self.path.rglob(f"{PREFIX}*"), *self.path.glob(f"{RESUME}*")]:
            if left.is_file():
                left.unlink()
        files = {
            path.relative_to(self.path).as_posix(): digest_file(path)
            for path in sorted(self.path.rglob("*"))
            if path.is_file() and path.name not in _NOT_RESULTS
        }
        told = {"key": self.key, "address": dict(self.address), "files": files}
        write_text(self.path / MARKER, json.dumps(told, indent=1, sort_keys=True))

    def note_failure(self, error: Exception) -> None:
        """Keep the traceback beside the unit's files; a full disk is no second fault.

        Args:
            error: What the unit raised.
        """
        text = "".join(traceback.format_exception(error))
        try:
            write_text(self.path / FAILURE, text)
        except OSError as fault:
            log.warning("%s: the traceback could not be kept (%s)", self.key, fault)

    def _take(self) -> None:
        """Create the lock file, which only one process can do; replace that of a dead one."""
        text = json.dumps(this_process().as_row())
        for _ in range(2):
            try:
                handle = os.open(self.path / LOCK, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                self.refuse_living_holder()
                (self.path / LOCK).unlink(missing_ok=True)
                continue
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            return
        raise LockedError(f"{self.path}: two processes began on {self.key} at once; try again")

    def _holder(self) -> Identity | None:
        try:
            row: Any = json.loads((self.path / LOCK).read_text(encoding="utf-8"))
            return Identity.from_row(row)
        except (OSError, ValueError, KeyError):
            return None  # no lock, or one cut short when the machine went down
