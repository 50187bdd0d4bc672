"""Features of a frozen body, read in batches at any number of tap points in one pass.

Nothing but one batch need be in memory: what consumes the features (sums for ridge regression, a
file) takes them chunk by chunk. The pass ends at the deepest tap point, and the body is seen to
keep every bit and to be a function of each image alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from relearn.errors import DataError, ParameterError, TrainingError
from relearn.methods.last_layer_probe.bodies import frozen
from relearn.methods.last_layer_probe.feature_memory import feature_bytes
from relearn.training.progress import progress_bar

if TYPE_CHECKING:
    from relearn.data.images import Split
    from relearn.methods.last_layer_probe.bodies import Body
    from relearn.methods.last_layer_probe.tap_points import TapPoint

__all__ = [
    "MEMORY_BYTES",
    "extract",
    "feature_bytes",
    "labelled_features",
    "stream_features",
    "stream_into",
]

MEMORY_BYTES = 2 << 30
"""Most that ``extract`` holds unless more is allowed (our default)."""

_SAME = 1e-3
"""Largest relative difference of one image's features alone and among others: rounding is 1e-5."""


class Consumer(Protocol):
    """Takes features chunk by chunk, such as the sums of a streamed ridge regression."""

    def add(self, features: Tensor, labels: Tensor, /) -> object:
        """Take the features (batch, width) and labels (batch,) of one chunk."""
        ...


@dataclass
class _Catcher:
    """Catches what goes by at the tap points, and ends the pass once all is there."""

    taps: Sequence[TapPoint]
    caught: dict[str, Tensor] = field(default_factory=dict)

    def take(self, tap: TapPoint, value: Any) -> None:
        """Keep the first value; a later call of a shared module is another place."""
        if tap.name in self.caught:
            return
        self.caught[tap.name] = tap.pooled(value)
        if len(self.caught) == len(self.taps):
            raise _AllCaught


class _AllCaught(Exception):
    """Ends a forward pass, since what lies behind the last tap point is not wanted."""


def stream_features(
    body: Body,
    images: Tensor,
    taps: Sequence[TapPoint],
    *,
    batch: int = 256,
    dtype: torch.dtype = torch.float32,
    progress: str | None = None,
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """Yield the features of one batch of images after the other, in stored order.

    Args:
        body: The net; it keeps every bit and its mode.
        images: Shape (n, channels, height, width), as for ``Body.feed``.
        taps: Where the body is read.
        batch: Images a pass, 1 or more.
        dtype: Of the features.
        progress: Text before the progress bar; None shows none.

    Yields:
        The rows, and name of the tap point to features (rows, width) on the body's device.

    Raises:
        DataError: There are no images.
        ParameterError: No tap points, one twice, ``batch`` below 1, or a tap point not reached.
        TrainingError: The body was changed, its features are not finite, or those of an image
            depend on the images beside it or on chance.
    """
    _check(images, taps, batch)
    with frozen(body), _catching(body, taps) as catcher:
        _require_function(body, images[:batch], catcher)
        for start in progress_bar(range(0, len(images), batch), progress):
            rows = slice(start, min(start + batch, len(images)))
            found = _read(body, images[rows], catcher)
            _require_finite(found, rows)
            yield rows, {name: value.to(dtype) for name, value in found.items()}


def stream_into(
    body: Body,
    split: Split,
    consumers: Mapping[TapPoint, Consumer],
    *,
    batch: int = 256,
    progress: str | None = None,
) -> None:
    """Hand the features at each tap point to its consumer, chunk by chunk, in one pass.

    Args:
        body: The net.
        split: Images and labels.
        consumers: Tap point to what takes its features.
        batch: Images a pass.
        progress: Text before the progress bar; None shows none.

    Raises:
        DataError: As for ``stream_features``.
        ParameterError: As for ``stream_features``.
        TrainingError: As for ``stream_features``.
    """
    taps = list(consumers)
    for rows, found in stream_features(body, split.images, taps, batch=batch, progress=progress):
        for tap, consumer in consumers.items():
            features = found[tap.name]
            consumer.add(features, split.labels[rows].to(features.device))


def labelled_features(
    body: Body, split: Split, tap: TapPoint, *, batch: int = 256, progress: str | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield features and labels chunk by chunk, such as for a second pass over a streamed fit.

    Args:
        body: The net.
        split: Images and labels.
        tap: Where the body is read.
        batch: Images a pass.
        progress: Text before the progress bar; None shows none.

    Yields:
        Features (rows, width) and labels (rows,).

    Raises:
        DataError: As for ``stream_features``.
        ParameterError: As for ``stream_features``.
        TrainingError: As for ``stream_features``.
    """
    stream = stream_features(body, split.images, [tap], batch=batch, progress=progress)
    for rows, found in stream:
        yield found[tap.name], split.labels[rows].to(found[tap.name].device)


def extract(
    body: Body,
    images: Tensor,
    taps: Sequence[TapPoint],
    *,
    batch: int = 256,
    dtype: torch.dtype = torch.float32,
    memory_bytes: int = MEMORY_BYTES,
    progress: str | None = None,
) -> dict[str, Tensor]:
    """Return all features at all tap points, shape (n, width) each, on the CPU.

    Args:
        body: The net.
        images: As for ``stream_features``.
        taps: Where the body is read.
        batch: Images a pass.
        dtype: Of the features.
        memory_bytes: Most that they may take; it is foretold before anything is run.
        progress: Text before the progress bar; None shows none.

    Raises:
        DataError: They would take more memory, or there are no images.
        ParameterError: As for ``stream_features``.
        TrainingError: As for ``stream_features``.
    """
    needed = feature_bytes(taps, len(images), dtype)
    if needed > memory_bytes:
        raise DataError(
            f"last_layer_probe.features: {len(images)} images at {len(taps)} tap points take "
            f"{needed / 2**30:.2f} GiB, more than the {memory_bytes / 2**30:.2f} GiB allowed; "
            "stream them, lower last_layer_probe.features.widest, or name fewer tap points"
        )
    whole = {tap.name: torch.empty(len(images), tap.width, dtype=dtype) for tap in taps}
    stream = stream_features(body, images, taps, batch=batch, dtype=dtype, progress=progress)
    for rows, found in stream:
        for name, value in found.items():
            whole[name][rows] = value.cpu()
    return whole


def _check(images: Tensor, taps: Sequence[TapPoint], batch: int) -> None:
    if len(images) == 0:
        raise DataError("last_layer_probe.features: got no images, expected 1 or more")
    if batch < 1:
        raise ParameterError(f"last_layer_probe.features.batch: got {batch}, expected 1 or more")
    names = [tap.name for tap in taps]
    if not names or len(set(names)) < len(names):
        raise ParameterError(
            f"last_layer_probe.features.taps: got {names}, expected one or more, none of them twice"
        )


@contextmanager
def _catching(body: Body, taps: Sequence[TapPoint]) -> Iterator[_Catcher]:
    """Hold hooks on the modules at which the tap points lie."""
    catcher = _Catcher(taps)
    modules = dict(body.net.named_modules())
    handles = []
    for tap in taps:
        module = modules[tap.module]
        if tap.side == "input":
            # the default binds this tap; a closure would see the last one
            handles.append(
                module.register_forward_pre_hook(lambda m, taken, t=tap: catcher.take(t, taken[0]))
            )
        else:
            handles.append(
                module.register_forward_hook(lambda m, taken, given, t=tap: catcher.take(t, given))
            )
    try:
        yield catcher
    finally:
        for handle in handles:
            handle.remove()


def _read(body: Body, images: Tensor, catcher: _Catcher) -> dict[str, Tensor]:
    catcher.caught = {}
    try:
        body.net(body.feed(images))
    except _AllCaught:
        return catcher.caught
    missing = [tap.name for tap in catcher.taps if tap.name not in catcher.caught]
    raise ParameterError(
        f"last_layer_probe.features.taps: {missing[0]!r} is not reached in the forward pass; name "
        "another tap point"
    )


def _require_function(body: Body, images: Tensor, catcher: _Catcher) -> None:
    """Refuse a body that gives an image other features among other images, or another time."""
    few = images[: max(1, min(2, len(images) - 1))]
    among, alone = _read(body, images, catcher), _read(body, few, catcher)
    for name, value in alone.items():
        other = among[name][: len(few)]
        scale = float(other.abs().max()) + torch.finfo(torch.float32).tiny
        if float((value - other).abs().max()) > _SAME * scale:
            raise TrainingError(
                f"last_layer_probe.features: at {name!r} the features of an image depend on the "
                "images beside it or on chance; a frozen body must be a function of the image "
                "(give its batch norm running statistics, and switch dropout off)"
            )


def _require_finite(found: Mapping[str, Tensor], rows: slice) -> None:
    for name, value in found.items():
        if not bool(torch.isfinite(value).all()):
            raise TrainingError(
                f"last_layer_probe.features: at {name!r} images {rows.start} to {rows.stop - 1} "
                "have features that are NaN or infinite; look at the weights and at the "
                "normalisation of the images"
            )
