"""Where figures come from: commit, command and machine, as rows for the report."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path


def origin_of_run() -> dict[str, str]:
    """Return commit, command, machine and Python of the present process."""
    command = [Path(sys.argv[0]).name, *sys.argv[1:]]
    return {
        "commit": _commit(),
        "command": shlex.join(command),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
    }


def _commit() -> str:
    """Return the commit and whether files differ from it; says so where there is no git."""
    head = _git("rev-parse", "HEAD")
    if not head:
        return "unknown (no git repository)"
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return f"{head[:12]} ({'with uncommitted changes' if changed else 'clean'})"


def _git(*arguments: str) -> str:
    program = shutil.which("git")
    if program is None:
        return ""
    done = subprocess.run(  # noqa: S603 - fixed words, no shell
        [program, *arguments], capture_output=True, text=True, check=False, timeout=10
    )
    return done.stdout.strip() if done.returncode == 0 else ""
