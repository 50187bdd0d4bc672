"""From images to what a head sees, for every kind of arm, and the ledger's row of what was frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from relearn.data.corruptions import corrupt
from relearn.errors import DataError
from relearn.evaluation.records import Intervention
from relearn.methods.last_layer_probe.bodies import Body, body_digest
from relearn.methods.last_layer_probe.described import (
    BodyDescription,
    body_norm,
    described_noise,
    described_random,
    drawn_body,
    noise_rows,
    skeleton_of,
)
from relearn.methods.last_layer_probe.features import extract
from relearn.methods.last_layer_probe.input_norm import embed
from relearn.methods.last_layer_probe.kernel import dual_kernel
from relearn.methods.last_layer_probe.kernel_memory import forecast
from relearn.methods.last_layer_probe.nystrom import nystrom_map
from relearn.methods.last_layer_probe.representation import (
    PARTS,
    Features,
    Kernels,
    Representation,
    kinds_of,
)
from relearn.methods.last_layer_probe.tap_points import tap_points
from relearn.models.checkpoint import build
from relearn.provenance import digest_tensors

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.bodies_config import InputNorm
    from relearn.methods.last_layer_probe.session import Session
    from relearn.methods.last_layer_probe.skeleton import Skeleton

SHIFTED = "shifted"
"""Test images after the corruption of ``sensitivity.shift``."""

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
        "frozen": _frozen,
    }
    return makers[session.arm.kind](session)


def float_images(images: Tensor) -> Tensor:
    """Return the images in 0..1, float32.

    Args:
        images: uint8, shape (n, channels, height, width).
    """
    return images.float() / 255


def images_of(session: Session) -> dict[str, Tensor]:
    """Return the images of every part that is asked for, uint8.

    Args:
        session: Whose arm and knobs say whether shifted images are among them.
    """
    found = {part: getattr(session.samples, part).images for part in PARTS}
    if is_shaken(session):
        told = session.config.sensitivity
        found[SHIFTED] = corrupt(found["test"], told.shift, told.severity, seed=session.seed)
    return found


def is_shaken(session: Session) -> bool:
    """Return whether the arm's sensitivity is measured.

    Args:
        session: Linear, kernels and frozen nets on the images as they are.
    """
    asked = session.config.sensitivity.enabled and session.config.compare == "arms"
    plain = session.arm.condition == "plain"
    return asked and plain and session.arm.kind in ("linear", "kernel", "frozen")


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
    body = BodyDescription("pixels", {"input_norm": norm}, _shape(session))
    return Represented({"pixels": Features(parts, kinds)}, body)


def _random(session: Session) -> Represented:
    body = described_random(session)
    net = drawn_body(body)
    found = images_of(session)
    _require_room(session, sum(len(images) for images in found.values()), body.options["features"])
    parts = {part: _read(net, images) for part, images in found.items()}
    state = dict(net.named_parameters()) | dict(net.named_buffers())
    _note(session, body, digest_tensors(state), body_norm(net))
    return Represented({body.label: Features(parts, kinds_of(session.config))}, body)


def _read(net: torch.nn.Module, images: Tensor) -> Tensor:
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
    _note(session, body, digest_tensors({"train": parts["train"]}), float(parts["train"].norm()))
    return Represented({body.label: Features(parts, kinds_of(session.config))}, body)


def _kernel(session: Session) -> Represented:
    told, config = session.arm, session.config
    skeleton, norm = skeleton_of(session)
    found = {part: float_images(images) for part, images in images_of(session).items()}
    body = BodyDescription(
        "kernel",
        {"skeleton": skeleton.digest, "input_norm": norm, "label": told.body},
        _shape(session),
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


def _require_kernel_room(
    session: Session, skeleton: Skeleton, counts: Mapping[str, int]
) -> None:
    """Refuse a kernel before it is allocated, and say what fits in its place."""
    told, (channels, side) = session.config.kernel, _shape(session)
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


def _frozen(session: Session) -> Represented:
    base = session.base
    body = Body(build(base), base.architecture.mean, base.architecture.std, _head_of(session))
    taps = tap_points(body, session.samples.train.images[:2])
    digest = body_digest(body)
    found = {
        part: extract(body, images, taps, batch=_BATCH)
        for part, images in images_of(session).items()
    }
    told = BodyDescription("base", {"digest": digest, "base": base.digest}, _shape(session))
    _note(session, told, digest, body_norm(body.net))
    kinds = kinds_of(session.config)
    options: dict[str, Representation] = {
        tap.name: Features({part: rows[tap.name] for part, rows in found.items()}, kinds)
        for tap in taps
    }
    return Represented(options, told)


def _head_of(session: Session) -> str:
    return str(session.base.provenance.get("head", ""))


def _shape(session: Session) -> tuple[int, int]:
    images = session.samples.train.images
    return int(images.shape[1]), int(images.shape[2])


def _note(session: Session, body: BodyDescription, digest: str, norm: float) -> None:
    """Write that the body is frozen: the same before and after the head was fitted."""
    session.interventions.append(
        Intervention(
            method=session.recorder.method,
            arm=session.arm.name,
            seed=session.seed,
            step=0,
            epoch=0,
            kind="freeze_body",
            target=body.label,
            rows=0,
            trigger="probe",
            draw_seed=session.seed,
            before_digest=digest,
            after_digest=digest,
            before_norm=norm,
            after_norm=norm,
            details=body.to_plain(),
        )
    )

