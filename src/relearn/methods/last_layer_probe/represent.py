"""From images to what a head sees, for every kind of arm whose body stays as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from relearn.errors import DataError
from relearn.methods.last_layer_probe.described import (
    BodyDescription,
    body_norm,
    described_noise,
    described_random,
    drawn_body,
    noise_rows,
    skeleton_of,
)
from relearn.methods.last_layer_probe.freezing import note_frozen
from relearn.methods.last_layer_probe.frozen_base import read_taps
from relearn.methods.last_layer_probe.image_parts import float_images, images_of, shape_of
from relearn.methods.last_layer_probe.input_norm import embed
from relearn.methods.last_layer_probe.kernel import dual_kernel
from relearn.methods.last_layer_probe.kernel_memory import forecast
from relearn.methods.last_layer_probe.nystrom import nystrom_map
from relearn.methods.last_layer_probe.representation import (
    Features,
    Kernels,
    Representation,
    kinds_of,
)
from relearn.provenance import digest_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.bodies_config import InputNorm
    from relearn.methods.last_layer_probe.network import RandomNetwork
    from relearn.methods.last_layer_probe.session import Session
    from relearn.methods.last_layer_probe.skeleton import Skeleton

_BATCH = 256
_GIGA = 1e9


@dataclass(frozen=True)
class Represented:
    """Images as a head sees them, and the body that made them so.

    Attributes:
        options: Representations that compete on validation images, by tap point; one but for
            frozen base nets.
        body: What the checkpoint says about the body.
    """

    options: Mapping[str, Representation]
    body: BodyDescription


def represent(session: Session) -> Represented:
    """Return what the arm's head is fitted to, and write the ledger's row.

    Args:
        session: Of a kind whose body stays as it is.

    Raises:
        DataError: An image of zero norm, or more memory than allowed.
        ParameterError: The skeleton does not fit the images.
    """
    makers: Mapping[str, Callable[[Session], Represented]] = {
        "linear": _pixels,
        "random": _random,
        "noise": _noise,
        "kernel": _kernel,
        "frozen": lambda given: Represented(*read_taps(given)),
    }
    return makers[session.arm.kind](session)


def pixel_rows(images: Tensor, norm: InputNorm) -> Tensor:
    """Return images as one vector each, normalised as the bodies' input is.

    Args:
        images: uint8, shape (n, channels, height, width).
        norm: As in ``bodies.fully_connected.input_norm``.

    Returns:
        Float32, shape (n, d).

    Raises:
        DataError: An image of zero norm.
    """
    from relearn.methods.last_layer_probe.activations import activation_of
    from relearn.methods.last_layer_probe.skeleton import Skeleton

    whole = Skeleton.fully_connected(1, activation_of("identity"))
    return embed(float_images(images), whole, norm).vectors.flatten(0, 1)[0]


def _pixels(session: Session) -> Represented:
    norm = session.config.bodies.fully_connected.input_norm
    parts = {part: pixel_rows(images, norm) for part, images in images_of(session).items()}
    kinds = kinds_of(session.config, linear=True)
    body = BodyDescription("pixels", {"input_norm": norm}, shape_of(session))
    return Represented({"pixels": Features(parts, kinds)}, body)


def _random(session: Session) -> Represented:
    body = described_random(session)
    net = drawn_body(body)
    found = images_of(session)
    _require_room(session, sum(len(images) for images in found.values()), body.options["features"])
    parts = {part: _read(net, images) for part, images in found.items()}
    state = dict(net.named_parameters()) | dict(net.named_buffers())
    note_frozen(session, body, digest_tensors(state), body_norm(net))
    return Represented({body.label: Features(parts, kinds_of(session.config))}, body)


def _read(net: RandomNetwork, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([net.body(float_images(block)) for block in images.split(_BATCH)])


def _require_room(session: Session, rows: int, width: int) -> None:
    allowed = session.config.bodies.memory_gigabytes
    needed = 4 * rows * width / _GIGA
    if needed > allowed:
        raise DataError(
            f"last_layer_probe.bodies.memory_gigabytes: {rows} images with {width} features of "
            f"{session.arm.name} take {needed:.2f} GB, more than the {allowed:g} allowed; raise "
            "it, lower the widths, or let the kernel stand for them"
        )


def _noise(session: Session) -> Represented:
    body = described_noise(session)
    counts = {part: len(images) for part, images in images_of(session).items()}
    parts = {part: noise_rows(body, part, count) for part, count in counts.items()}
    note_frozen(
        session, body, digest_tensors({"train": parts["train"]}), float(parts["train"].norm())
    )
    return Represented({body.label: Features(parts, kinds_of(session.config))}, body)


def _kernel(session: Session) -> Represented:
    told, config = session.arm, session.config
    skeleton, norm = skeleton_of(session)
    found = {part: float_images(images) for part, images in images_of(session).items()}
    body = BodyDescription(
        "kernel",
        {"skeleton": skeleton.digest, "input_norm": norm, "label": told.body},
        shape_of(session),
    )
    train = found["train"]
    if len(train) > config.kernel.most_images:
        rests_on = nystrom_map(
            skeleton,
            train,
            landmarks=min(config.kernel.landmarks, len(train)),
            seed=session.seed,
            input_norm=norm,
        )
        parts = {part: rests_on.features(images) for part, images in found.items()}
        return Represented({body.label: Features(parts, kinds_of(config))}, body)
    _require_kernel_room(session, skeleton, {part: len(x) for part, x in found.items()})
    values = {
        part: dual_kernel(
            skeleton,
            images,
            None if part == "train" else train,
            input_norm=norm,
            block=config.kernel.block,
            dtype=torch.float64,
        )
        for part, images in found.items()
    }
    return Represented({body.label: Kernels(values)}, body)


def _require_kernel_room(session: Session, skeleton: Skeleton, counts: Mapping[str, int]) -> None:
    """Refuse a kernel before it is allocated, and say what fits in its place."""
    told, (channels, side) = session.config.kernel, shape_of(session)
    asked = forecast(
        skeleton,
        counts["train"],
        sum(counts.values()) - counts["train"],
        dimension=channels * side * side,
        dtype=torch.float64,
        landmarks=told.landmarks,
        limit=int(told.memory_gigabytes * _GIGA),
    )
    needed = asked.bytes["exact"]
    if needed > asked.limit:
        fits = "fit" if "nystrom" in asked.fitting else "would not fit either"
        raise DataError(
            f"last_layer_probe.kernel.memory_gigabytes: the kernel of {counts['train']} training "
            f"images takes {needed / _GIGA:.1f} GB, more than the {told.memory_gigabytes:g} "
            f"allowed; raise it, or set last_layer_probe.kernel.most_images below "
            f"{counts['train']} so that landmarks stand for them, which {fits} "
            f"({asked.bytes['nystrom'] / _GIGA:.1f} GB)"
        )
