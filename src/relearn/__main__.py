"""``python -m relearn`` is ``kedro run``, from anywhere inside the project."""

from __future__ import annotations

import sys


def main() -> None:
    """Run Kedro's command line with ``run`` before the arguments given."""
    from kedro.framework.cli.cli import main as kedro

    sys.argv = ["kedro", "run", *sys.argv[1:]]
    kedro()


if __name__ == "__main__":
    main()
