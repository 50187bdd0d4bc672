"""Files that are either whole or absent: written under another name, flushed, then renamed.

Standard library only, so that every floor may import it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = ".writing-"
"""Files with this prefix are unfinished and never read."""


@contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Hand out a temporary path that takes the place of ``path`` when the block ends well.

    If the block raises, or the process is killed, ``path`` keeps what it held before.

    Args:
        path: The file to be; its folder is made.

    Raises:
        OSError: The folder cannot be written, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = f"{PREFIX}{socket.gethostname()}-"
    temporary = path.with_name(f"{mine}{os.getpid()}-{path.name}")
    _sweep(path, mine)
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` so that ``path`` is either whole or as it was.

    Args:
        path: The file to be.
        text: Its content, stored as UTF-8.
    """
    with written_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _sweep(path: Path, mine: str) -> None:
    """Delete what killed processes of this machine have left of the same file."""
    for left in path.parent.glob(f"{mine}*-{path.name}"):
        pid = left.name.removeprefix(mine).split("-", maxsplit=1)[0]
        if pid.isdecimal() and not _lives(int(pid)):
            left.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _flush(path: Path) -> None:
    """Push a file, or the entry of a renamed file in its folder, down to the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
