"""What the screen shows of an error: one line that names the parameter or file and the remedy."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from relearn.atomic import write_text
from relearn.errors import RelearnError

_FULL = ("No space left on device", "disk is full", "Disk quota exceeded", "File too large")
_FULL_CODES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def line_of(error: BaseException) -> str:
    """Return the line that a user reads.

    Args:
        error: What a node, dataset or hook has raised, possibly wrapped by Kedro.
    """
    chain = list(_chain(error))
    if any(_is_full(one) for one in chain):
        named = next((getattr(one, "filename", None) for one in chain if _is_full(one)), None)
        place = f" for {named}" if named else ""
        return (
            f"no space left on the disk{place}; free some, or set RELEARN_DATA to a folder on "
            "another disk, and run the same command again: finished units are kept"
        )
    ours = next(
        (one for one in chain if isinstance(one, RelearnError | click.ClickException)), None
    )
    if ours is not None:
        return str(ours.message if isinstance(ours, click.ClickException) else ours)
    first = (str(error).strip() or "no message").splitlines()[0]
    return f"{type(error).__name__}: {first}"


def is_expected(error: BaseException) -> bool:
    """Tell whether the line says all a user needs, so that no traceback need be named."""
    return any(
        _is_full(one) or isinstance(one, RelearnError | click.ClickException)
        for one in _chain(error)
    )


def keep_traceback(error: BaseException, folder: Path) -> Path | None:
    """Write the traceback into ``folder`` and return its path; None where even that fails.

    Args:
        error: What was raised.
        folder: Folder for it; it is made.
    """
    name = f"traceback-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}.txt"
    try:
        write_text(folder / name, "".join(traceback.format_exception(error)))
    except OSError:
        return None  # the disk is full or read-only: the line on the screen must do
    return folder / name


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def _is_full(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _FULL_CODES:
        return True
    return any(text in str(error) for text in _FULL)
