"""The digest of source files: what a unit's result depends on besides its configuration and data.

Standard library only. The git commit would be too much: a change to a report would redo trainings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parents[1]


def code_digest(packages: Sequence[str]) -> str:
    """Return the digest over the Python files of some packages of ``relearn``.

    Args:
        packages: Dotted names below ``relearn``, such as ``data`` or ``methods.zap``.

    Raises:
        FileNotFoundError: There is no such package or module.
    """
    return _digest(tuple(sorted(set(packages))))


@cache
def _digest(packages: tuple[str, ...]) -> str:
    total = hashlib.sha256()
    for package in packages:
        for path in _files(package):
            total.update(path.relative_to(_ROOT).as_posix().encode() + b"\0")
            total.update(path.read_bytes() + b"\0")
    return total.hexdigest()


def _files(package: str) -> list[Path]:
    place = _ROOT.joinpath(*package.split("."))
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    if not files or not files[0].exists():
        raise FileNotFoundError(f"no package or module relearn.{package}")
    return files
