"""A code in an environment of its own, timed like the others: it waits, and works when told.

The script is run by another Python and speaks lines: each that begins with ``SAYS`` is one JSON
object for us; whatever else its libraries print is theirs.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
SAYS = "SAYS "


class ForeignWorker:
    """A process of another Python that does a repetition when told.

    Attributes:
        first: What the first repetition returned.
        megabytes: Largest memory of the process so far; NaN where nobody tells.
    """

    def __init__(
        self, python: str, module: str, maker: str, *, options: Mapping[str, Any], threads: int
    ) -> None:
        command = [python, str(FOLDER / f"{module}.py"), maker, json.dumps(dict(options))]
        self._process = subprocess.Popen(
            command,
            env=_environment(threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.first, self.megabytes = self._receive()

    def rates(self) -> tuple[float, float]:
        """Return the units per CPU second, and per second on the clock, of one repetition."""
        self._tell("go")
        units, busy, passed, self.megabytes = self._receive()
        return units / busy, units / passed

    def close(self) -> None:
        """End the process."""
        self._tell("stop")
        self._process.wait(timeout=60)
        self._let_go()

    def _let_go(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _tell(self, word: str) -> None:
        if self._process.stdin is None:
            raise RuntimeError("the process has no input")
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def _receive(self) -> Any:
        heard: deque[str] = deque(maxlen=20)
        for line in self._process.stdout or ():
            if line.startswith(SAYS):
                return json.loads(line.removeprefix(SAYS))
            heard.append(line)
        self._process.wait(timeout=60)
        self._let_go()
        raise RuntimeError("a benchmark process of another Python ended:\n" + "".join(heard))


def _environment(threads: int) -> dict[str, str]:
    """Return our environment with so many threads for its libraries, and none of our paths."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    many = "true" if threads > 1 else "false"
    xla = f"--xla_cpu_multi_thread_eigen={many} intra_op_parallelism_threads={threads}"
    return kept | {
        "OMP_NUM_THREADS": str(threads),
        "XLA_FLAGS": xla,
        "JAX_PLATFORMS": "cpu",
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
