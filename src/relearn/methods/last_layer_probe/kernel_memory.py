"""How much memory each road to a kernel head takes, said before any of it is allocated.

    exact            K and its eigen-decomposition: K, eigenvectors, two work arrays   4 n^2
    cholesky         K and its factor                                                  2 n^2
    nystrom          n x k features, three arrays of m x m in float64                  n m
    random_features  Gram matrix and factor of p features in float64, one batch        2 p^2

The kernel between training and test inputs, n m numbers, comes on top of the first two. Measured
peaks are in the tests; the forecast is meant to be above them by less than a factor 2.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from relearn.errors import ParameterError, one_of

if TYPE_CHECKING:
    from relearn.methods.last_layer_probe.skeleton import Skeleton

Road = Literal["exact", "cholesky", "nystrom", "random_features"]
PARAMETER = "last_layer_probe.kernel"
WORK = 256 << 20
"""Bytes for tiles, batches and the libraries' own work space."""


@dataclass(frozen=True, kw_only=True)
class StreamSizes:
    """How much the road of random features takes at a time.

    Attributes:
        replicas: r of the random features.
        batch: Inputs of one batch.
        chunk: Replicas whose weights are held at a time.
    """

    replicas: int = 1024
    batch: int = 1024
    chunk: int = 256


@dataclass(frozen=True)
class Forecast:
    """Memory of each road.

    Attributes:
        bytes: For each road, the largest memory at a time, with the inputs as vectors.
        limit: Bytes that may be used.
        inputs: n, for training.
        others: m, for testing.
        kernel_values: n (n + 1) / 2 + n m kernel values times the positions of all layers: what the
            exact kernel costs in evaluations of a dual.
    """

    bytes: Mapping[Road, int]
    limit: int
    inputs: int
    others: int
    kernel_values: int

    @property
    def fitting(self) -> tuple[Road, ...]:
        """The roads that fit, the most exact one first."""
        return tuple(road for road, size in self.bytes.items() if size <= self.limit)

    def require(self, road: Road) -> None:
        """Raise an error unless a road fits, before anything is allocated.

        Args:
            road: The one that is to be taken.

        Raises:
            ParameterError: It does not fit, or there is no such road; the message says which do.
        """
        if road not in self.bytes:
            raise one_of(f"{PARAMETER}.road", road, self.bytes)
        if self.bytes[road] <= self.limit:
            return
        listed = ", ".join(f"{name} ({_gb(self.bytes[name])})" for name in self.fitting)
        remedy = f"expected a road that fits: {listed}" if listed else "expected fewer inputs"
        raise ParameterError(
            f"{PARAMETER}.road: {road} needs {_gb(self.bytes[road])} for {self.inputs} and "
            f"{self.others} inputs, {_gb(self.limit)} may be used; {remedy}"
        )


def forecast(
    skeleton: Skeleton,
    n: int,
    m: int = 0,
    *,
    dimension: int,
    dtype: torch.dtype = torch.float32,
    landmarks: int = 2000,
    stream: StreamSizes | None = None,
    limit: int | None = None,
) -> Forecast:
    """Return the memory that each road to a kernel head would take.

    Args:
        skeleton: Whose kernel.
        n: Inputs for training, at least 1.
        m: Inputs for testing.
        dimension: Numbers in one input as given to the input nodes, over all positions.
        dtype: Of the kernel.
        landmarks: Of the Nystrom road; not more than n are taken.
        stream: Of the random features; None: the defaults of ``StreamSizes``.
        limit: Bytes that may be used; None: nine tenths of ``free_memory()``.

    Raises:
        ParameterError: No input.
    """
    if n < 1 or m < 0:
        raise ParameterError(
            f"{PARAMETER}: got {n} and {m} inputs, expected 1 or more and 0 or more"
        )
    size = torch.empty(0, dtype=dtype).element_size()
    nodes = sum(skeleton.positions(layer.name) for layer in skeleton.layers)
    vectors = (n + m) * (2 * dimension + 3 * nodes) * size + WORK
    sizes = StreamSizes() if stream is None else stream
    few = min(landmarks, n)
    features = sizes.replicas * skeleton.outputs
    streamed = stream_bytes(
        skeleton,
        dimension=dimension,
        replicas=sizes.replicas,
        batch=sizes.batch,
        chunk=sizes.chunk,
    )
    roads: dict[Road, int] = {
        "exact": 4 * n * n * size + n * m * size + vectors,
        "cholesky": 2 * n * n * size + n * m * size + vectors,
        "nystrom": 2 * max(n, m) * few * size + 4 * few * few * 8 + vectors,
        "random_features": 2 * min(features, n) ** 2 * 8 + streamed,
    }
    limit = int(0.9 * free_memory()) if limit is None else limit
    return Forecast(roads, limit, n, m, (n * (n + 1) // 2 + n * m) * nodes)


def require_room(
    skeleton: Skeleton, x: torch.Tensor, y: torch.Tensor | None, *, dtype: torch.dtype
) -> None:
    """Raise an error if a kernel does not fit into memory, before any of it is allocated.

    Args:
        skeleton: Whose kernel.
        x: Inputs on the left.
        y: On the right; None: those on the left.
        dtype: Of the kernel.

    Raises:
        ParameterError: It does not fit; the message says what does.
    """
    n, m = len(x), len(x if y is None else y)
    needed = n * m * torch.empty(0, dtype=dtype).element_size() + WORK
    if needed < 2 * WORK or x.device.type != "cpu":
        return
    dimension = x[0].numel()
    found = forecast(skeleton, n, 0 if y is None else m, dimension=dimension, dtype=dtype)
    if needed > found.limit:
        listed = ", ".join(f"{r} ({_gb(found.bytes[r])})" for r in found.fitting) or "fewer inputs"
        raise ParameterError(
            f"{PARAMETER}: {n} x {m} values need {_gb(needed)}, {_gb(found.limit)} may be used; "
            f"expected what fits: {listed}"
        )


def stream_bytes(
    skeleton: Skeleton, *, dimension: int, replicas: int, batch: int, chunk: int = 256
) -> int:
    """Return the bytes that streamed features of float32 take, whatever the number of inputs.

    Args:
        skeleton: Which.
        dimension: Numbers in one input, over all positions.
        replicas: r.
        batch: Inputs of a batch.
        chunk: Replicas whose weights are held at a time.

    Returns:
        Activations of all layers of a batch, the weights of a chunk while they are drawn, and what
        a layer's inputs take side by side.
    """
    activations = replicas * sum(skeleton.positions(layer.name) for layer in skeleton.layers)
    widest = max(
        _fan_in(skeleton, place, dimension, replicas) for place in range(len(skeleton.layers))
    )
    return 4 * (2 * batch * (activations + 2 * dimension) + 3 * chunk * widest) + WORK


def _fan_in(skeleton: Skeleton, place: int, dimension: int, replicas: int) -> int:
    """Return at least the weights into one replica of a layer's node."""
    layer = skeleton.layers[place]
    known = {each.name for each in skeleton.layers}
    total = 0
    for name in layer.inputs:
        positions = skeleton.positions(name)
        channels = replicas if name in known else -(-dimension // positions)
        window = layer.window
        total += channels * (positions if window is None else window[0] * window[1])
    return total


def free_memory() -> int:
    """Return the bytes that this process may still take on the host.

    The smaller one of what the machine has free and what is left of the control group's limit.
    """
    listing = Path("/proc/meminfo")
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if listing.exists():
        rows = dict(line.split(":", 1) for line in listing.read_text(encoding="ascii").splitlines())
        free = int(rows["MemAvailable"].split()[0]) * 1024
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists():
        text = limit.read_text(encoding="ascii").strip()
        if text.isdigit():
            free = min(free, int(text) - int(used.read_text(encoding="ascii")))
    return max(free, 0)


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
