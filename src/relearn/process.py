"""Who is at work: the identity of a process, which survives in lock files and in tags of runs.

Standard library only, so that every floor may import it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Identity:
    """One process on one machine, told apart from a later one with the same number.

    Attributes:
        pid: Process number.
        host: Name of the machine.
        start: When the process began, in the kernel's own count; empty where it is not told.
    """

    pid: int
    host: str
    start: str

    def as_row(self) -> dict[str, Any]:
        """Return a plain dictionary."""
        return asdict(self)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Identity:
        """Return the identity that ``as_row`` wrote down."""
        return cls(int(row["pid"]), str(row["host"]), str(row.get("start", "")))

    def is_surely_dead(self) -> bool:
        """Tell whether the process is known to be gone; false for other machines."""
        if self.host != socket.gethostname():
            return False
        return not _exists(self.pid) or (bool(self.start) and _start(self.pid) != self.start)


def this_process() -> Identity:
    """Return the identity of the present process."""
    return Identity(os.getpid(), socket.gethostname(), _start(os.getpid()))


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # it lives, under another user
    return _state(pid) != "Z"


def _fields(pid: int) -> list[str]:
    """Return the fields of /proc/<pid>/stat after the name; none where there is no /proc."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _state(pid: int) -> str:
    return next(iter(_fields(pid)), "")


def _start(pid: int) -> str:
    fields = _fields(pid)
    return fields[19] if len(fields) > 19 else ""
