"""A tracking server that can be killed: as much of MLflow's REST as a run needs, in one process."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """MLflow's own server on localhost, over an SQLite store.

    Args:
        store: The SQLite file.
        port: Where it listens.
    """

    def __init__(self, store: Path, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
            *("--port", str(port), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{store}"),
            *("--artifacts-destination", str(store.parent / "served")),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._process = subprocess.Popen(
            self._command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        end = time.monotonic() + 90
        while time.monotonic() < end:
            try:
                urllib.request.urlopen(f"{self.address}/health", timeout=1).close()  # noqa: S310
                return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise TimeoutError("the tracking server did not start")

    def kill(self) -> None:
        """Kill the server and what it has started."""
        if self._process is None:
            return
        import os
        import signal

        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
