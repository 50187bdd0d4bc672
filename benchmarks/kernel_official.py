"""neural-tangents at work on the dual kernels of ``kernel_work``, in a Python of its own.

Run by ``foreign_worker``, never by hand. To its advantage: it is jitted, compiling is not counted,
its inputs lie normalised in memory, and the clock stops when the kernel is there, on the CPU.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from neural_tangents import stax

MOMENT = 0.5  # E relu(g)^2: neural-tangents does not normalise activations


def dense(
    *, inputs: int, dimension: int, depth: int, own: bool, check: bool
) -> Callable[[], float]:
    """Prepare fully connected ReLU kernels of random inputs.

    Args:
        inputs: On each side.
        dimension: Of each.
        depth: Layers.
        own: The kernel of the inputs with themselves.
        check: Return a value of the kernel in place of the number of its entries.
    """
    x, y = (_unit(each) * math.sqrt(dimension) for each in _draw((2, inputs, dimension)))
    layers = []
    for level in range(depth):
        layers += [stax.Dense(1, math.sqrt(2) if level else 1.0), stax.Relu()]
    return _repetition(layers, x, None if own else y, check=check)


def grid(*, inputs: int, side: int, depth: int, own: bool, check: bool) -> Callable[[], float]:
    """Prepare convolutional ReLU kernels of random images, 3x3, read flat.

    Args:
        inputs: On each side.
        side: Pixels along each side, one channel.
        depth: Layers.
        own: As in ``dense``.
        check: Likewise.
    """
    x, y = _draw((2, inputs, side, side, 1))
    layers = []
    for level in range(depth):
        deviation = math.sqrt(2) if level else 1.0
        layers += [stax.Conv(1, (3, 3), padding="SAME", W_std=deviation), stax.Relu()]
    return _repetition([*layers, stax.Flatten()], x, None if own else y, check=check)


def _draw(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def _repetition(
    layers: list[Any], x: np.ndarray, y: np.ndarray | None, *, check: bool
) -> Callable[[], float]:
    kernel = stax.serial(*layers)[2]
    left = jax.device_put(x)
    right = None if y is None else jax.device_put(y)
    compiled = jax.jit(lambda a, b: kernel(a, b, "nngp"))

    def repetition() -> float:
        found = compiled(left, right).block_until_ready()
        return float(found[0, 1]) / MOMENT if check else float(found.size)

    return repetition


def _megabytes() -> float:
    listing = Path("/proc/self/status")
    if listing.exists():
        for line in listing.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return math.nan


def _say(value: Any) -> None:
    sys.stdout.write("\nSAYS " + json.dumps(value) + "\n")
    sys.stdout.flush()


def main() -> None:
    maker, options = sys.argv[1:]
    repetition = {"dense": dense, "grid": grid}[maker](**json.loads(options))
    _say((repetition(), _megabytes()))
    for line in sys.stdin:
        if line.strip() != "go":
            return
        busy, passed = time.process_time(), time.perf_counter()
        units = repetition()
        busy, passed = time.process_time() - busy, time.perf_counter() - passed
        _say((units, busy, passed, _megabytes()))


if __name__ == "__main__":
    main()
