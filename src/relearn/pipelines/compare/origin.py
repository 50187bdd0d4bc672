"""Where figures come from: commit, command and machine, as rows for the report."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def origin_of_run() -> dict[str, str]:
    """Return commit, command, machine and Python of the present process."""
    from relearn.tracking.parent import identifying_tags

    tags = identifying_tags(Path.cwd())
    commit = tags.get("mlflow.source.git.commit", "")[:12]
    state = "with uncommitted changes" if tags.get("git.dirty") == "true" else "clean"
    return {
        "commit": f"{commit} ({state})" if commit else "unknown (no git repository)",
        "command": tags["relearn.command"],
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
    }
