"""Speed of dual kernels beside neural-tangents: same kernels, same inputs, taking turns.

    python benchmarks/bench_kernel.py [--peer PYTHON | --build FOLDER] [--quick] [--threads N]

neural-tangents needs an older jax and brings TensorFlow (2.7 GB), so that it lives in an
environment of its own: ``--build FOLDER`` makes one, ``--peer PYTHON`` names the Python of one.
Without either only our own figures are taken. ``--quick`` makes tiny kernels and shows that
everything works; its figures mean nothing. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from machine import here
from side_by_side import Job, outcome
from table_row import Row, measured

OURS, PEER = "kernel_work", "kernel_official"
PACKAGES = ("neural-tangents==0.6.5", "jax==0.5.3", "jaxlib==0.5.3", "tf2jax==0.3.7")
"""The newest that go together; with jax 0.6 neural-tangents fails to import."""
APART = 1e-4
"""Largest relative difference of one entry; both are float32."""


@dataclass(frozen=True)
class Size:
    """How much is done in one repetition.

    Attributes:
        vectors: Inputs on each side of the fully connected kernel.
        dimension: Of each.
        depth: Its layers.
        images: Inputs on each side of the convolutional kernel.
        side: Pixels along each side.
        repetitions: Counted repetitions.
    """

    vectors: int
    dimension: int
    depth: int
    images: int
    side: int
    repetitions: int


WHOLE = Size(vectors=1000, dimension=784, depth=3, images=100, side=28, repetitions=9)
QUICK = Size(vectors=20, dimension=10, depth=2, images=4, side=6, repetitions=1)


def rows(size: Size, python: str | None) -> Iterator[Row]:
    """Yield the rows of the table.

    Args:
        size: How much is done.
        python: That of neural-tangents; None leaves the other column empty.
    """
    vectors = {"inputs": size.vectors, "dimension": size.dimension, "depth": size.depth}
    images = {"inputs": size.images, "side": size.side, "depth": 2}
    deep = vectors | {"depth": 10 * size.depth}
    for name, maker, options, own, goal in (
        ("kernel.fc", "dense", vectors, False, 5.0),
        ("kernel.fc_own", "dense", vectors, True, None),
        ("kernel.fc_deep", "dense", deep, False, None),
        ("kernel.conv", "grid", images, False, 2.0),
        ("kernel.conv_own", "grid", images, True, None),
    ):
        work = {**options, "own": own, "check": False}
        yield Row(
            name,
            "entries/CPU-s",
            Job(OURS, maker, work),
            Job(PEER, maker, work, python=python) if python else None,
            "fp32",
            goal,
            _conditions(maker, options, own=own),
            against="neural-tangents 0.6.5, jax 0.5.3, jitted",
        )


def _conditions(maker: str, options: dict[str, int], *, own: bool) -> str:
    count = options["inputs"]
    pairs = f"{count} inputs with themselves" if own else f"{count} x {count} inputs"
    if maker == "dense":
        return f"fully connected, {options['depth']} x ReLU, {pairs} of {options['dimension']}"
    side = options["side"]
    return f"{options['depth']} convolutions 3x3 with ReLU, read flat, {pairs} of {side} x {side}"


def require_same_kernels(row: Row) -> None:
    """Raise an error unless both codes give the same entry.

    Args:
        row: With a peer.

    Raises:
        RuntimeError: They differ.
    """
    if row.peer is None:
        return
    ours, peer = (
        outcome(replace(job, options={**job.options, "check": True}), threads=1)
        for job in (row.ours, row.peer)
    )
    if not math.isclose(ours, peer, rel_tol=APART, abs_tol=APART):
        raise RuntimeError(f"{row.name}: our entry is {ours}, that of neural-tangents {peer}")


def build(folder: Path) -> str:
    """Make the environment of neural-tangents and return its Python.

    Args:
        folder: Where; what is there already is kept.
    """
    python = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(python), "-m", "pip", "install", "-q", *PACKAGES], check=True)
    return str(python)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    peer = parser.add_mutually_exclusive_group()
    peer.add_argument("--peer", metavar="PYTHON", help="Python that imports neural_tangents")
    peer.add_argument("--build", metavar="FOLDER", help="make the environment of the peer there")
    parser.add_argument("--quick", action="store_true", help="tiny kernels: does everything work?")
    parser.add_argument("--threads", type=int, default=1, help="threads of each code")
    parser.add_argument("--rows", default="", help="only rows whose name holds this text")
    given = parser.parse_args(arguments)
    if given.peer and not Path(given.peer).is_file():
        parser.error(f"--peer: {given.peer} is no file, expected the Python of an environment")
    size = QUICK if given.quick else WHOLE
    python = build(Path(given.build)) if given.build else given.peer
    machine, table = here(), []
    for row in rows(size, python):
        if given.rows in row.name:
            if row.goal is not None:  # one row of each kind; starting the peer takes long
                require_same_kernels(row)
            table.append(measured(row, repetitions=size.repetitions, threads=given.threads))
            last = table[-1]
            print(last["name"], last["ours"], last["peer"], last["ratio"], file=sys.stderr)
    result = {
        "name": "kernel",
        "quick": given.quick,
        "repetitions": size.repetitions,
        "threads": given.threads,
        "peer_packages": list(PACKAGES) if python else [],
        **machine,
        "rows": table,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
