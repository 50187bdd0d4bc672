"""``python -m relearn.tracking init`` opens the store; ``ui`` shows it on this machine only."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from relearn.tracking.client import absolute_address, open_client, without_password


def storage_root() -> Path:
    """Return the storage root as the configuration has it, absolute."""
    return Path(os.environ.get("RELEARN_DATA") or "data").resolve()


def init() -> None:
    """Make the store under the storage root, so that the first run need not wait for it."""
    root = storage_root()
    root.mkdir(parents=True, exist_ok=True)
    open_client(absolute_address("", root)).search_experiments(max_results=1)


def page_of(store: str) -> str:
    """Return the page with the runs of the experiment that changed last.

    Args:
        store: Tracking address.
    """
    found = open_client(store).search_experiments(order_by=["last_update_time DESC"])
    ours = [experiment.experiment_id for experiment in found if experiment.name != "Default"]
    return f"#/experiments/{ours[0]}/runs" if ours else "#/experiments"


def ui(port: int, address: str) -> int:
    """Serve MLflow's pages on localhost until interrupted.

    Args:
        port: Port.
        address: Tracking address; empty = the store under the storage root.

    Returns:
        Exit status of the server.
    """
    store = absolute_address(address, storage_root())
    page = f"http://127.0.0.1:{port}/{page_of(store)}"
    sys.stdout.write(f"MLflow: {page}  ({without_password(store)}; Ctrl-C ends it)\n")
    sys.stdout.flush()
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    try:
        return subprocess.run(command, check=False).returncode  # noqa: S603 - fixed words
    except KeyboardInterrupt:
        return 0


def main(arguments: list[str] | None = None) -> int:
    """Return the exit status of the command.

    Args:
        arguments: Words after the program's name.
    """
    parser = argparse.ArgumentParser(prog="python -m relearn.tracking", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("init", help="open the store")
    shown = commands.add_parser("ui", help="show runs in the browser")
    shown.add_argument("--port", type=int, default=5000)
    shown.add_argument("--address", default="")
    asked = parser.parse_args(arguments)
    if asked.command == "ui":
        return ui(asked.port, asked.address)
    init()
    return 0


if __name__ == "__main__":
    sys.exit(main())
