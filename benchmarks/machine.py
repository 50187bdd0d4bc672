"""What a figure was measured on, for the JSON line of every benchmark."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from pathlib import Path

import torch

PROJECT = Path(__file__).resolve().parents[1]


def here() -> dict[str, object]:
    """Return torch's version, the processor and how busy it is, the day and the commit.

    It is asked for before the work begins, so that a tree that changes meanwhile cannot pass for
    the one that was measured.
    """
    return {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "load": _load(),
        "bf16_instructions": bool(_capabilities().get("avx512_bf16")),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": _commit(),
    }


def _load() -> float | None:
    """Return how many processes wanted a core in the last minute; None where nobody counts."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None


def _capabilities() -> dict[str, bool]:
    ask = getattr(torch.cpu, "get_capabilities", None)
    return ask() if ask else {}


def _processor() -> str:
    """Return the name that the kernel gives the processor."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    """Return the short commit, with a plus where files differ from it; empty outside git."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    return done.stdout.strip()
