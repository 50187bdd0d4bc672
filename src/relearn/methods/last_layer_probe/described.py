"""Bodies as plain data: from a label of the parameters to a skeleton, and to the same body again.

A random body is never stored. Its description (skeleton, replicas, gain, seed) makes it again, bit
by bit; that is what a checkpoint of a head keeps, and what the ledger is verified by.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from relearn.data.randomness import generator_of
from relearn.errors import ParameterError
from relearn.methods.last_layer_probe.arms import conv_label
from relearn.methods.last_layer_probe.network import random_network
from relearn.methods.last_layer_probe.skeleton import Skeleton
from relearn.methods.last_layer_probe.skeleton_config import SkeletonConfig
from relearn.methods.last_layer_probe.skeleton_graph import SKELETON

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relearn.methods.last_layer_probe.arms import Arm
    from relearn.methods.last_layer_probe.bodies_config import InputNorm
    from relearn.methods.last_layer_probe.config import LastLayerProbeConfig
    from relearn.methods.last_layer_probe.network import RandomNetwork
    from relearn.methods.last_layer_probe.session import Session


@dataclass(frozen=True)
class BodyDescription:
    """What makes a body again.

    Attributes:
        kind: ``pixels``, ``random``, ``noise``, ``kernel`` or ``base``.
        options: JSON; for ``random`` skeleton, replicas, gain, seed, input_norm, features.
        shape: Channels and side of the images in pixels.
    """

    kind: str
    options: Mapping[str, Any]
    shape: tuple[int, int]

    @property
    def label(self) -> str:
        """Name before a reader."""
        return str(self.options.get("label", self.kind))

    def to_plain(self) -> dict[str, Any]:
        """Return JSON."""
        return {"kind": self.kind, "options": dict(self.options), "shape": list(self.shape)}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> BodyDescription:
        """Return the description written by ``to_plain``.

        Args:
            plain: JSON.
        """
        channels, side = plain["shape"]
        return cls(str(plain["kind"]), dict(plain["options"]), (int(channels), int(side)))


def skeleton_config_of(config: LastLayerProbeConfig, arm: Arm) -> SkeletonConfig:
    """Return the skeleton of an arm as its declaration.

    Args:
        config: Knobs of the method.
        arm: With a body's label.
    """
    if arm.body in config.bodies.declared:
        return config.bodies.declared[arm.body]
    conv = config.bodies.convolutional
    chain = arm.body != conv_label(config)
    activation = {"name": arm.activation, "parameters": {}}
    layer = {
        "window": conv.window,
        "stride": conv.stride,
        "padding": "same",
        "activation": activation,
    }
    plain = {
        "name": "fully_connected" if chain else "convolutional",
        "fully_connected": {
            "depth": int(arm.body.removeprefix("fc")) if chain else 1,
            "activation": activation,
            "beta": arm.beta,
        },
        "convolutional": {
            "layers": [layer] * conv.layers,
            "pool_window": conv.pool if conv.pool > 1 else 0,
            "pool_stride": conv.pool,
            "dense": 0,
            "beta": arm.beta,
        },
    }
    return SkeletonConfig.model_validate(plain)


def input_norm_of(config: LastLayerProbeConfig, skeleton: SkeletonConfig) -> InputNorm:
    """Return how inputs are placed on spheres for a skeleton.

    Args:
        config: Knobs of the method.
        skeleton: Its declaration; graphs go with the convolutional ones.
    """
    chain = skeleton.name == "fully_connected"
    bodies = config.bodies
    return bodies.fully_connected.input_norm if chain else bodies.convolutional.input_norm


def skeleton_for(
    config: LastLayerProbeConfig, arm: Arm, *, side: int
) -> tuple[Skeleton, InputNorm]:
    """Return the skeleton of an arm for images of one size, and the norm of its input.

    Args:
        config: Knobs of the method.
        arm: With a body's label.
        side: Of the images in pixels.

    Raises:
        ParameterError: An activation that is not known, or a window that does not fit.
    """
    declared = skeleton_config_of(config, arm)
    try:
        return built(declared, side), input_norm_of(config, declared)
    except ParameterError as fault:
        own = f".declared.{arm.body}" if arm.body in config.bodies.declared else ""
        said = str(fault).removeprefix(f"{SKELETON}.")
        raise ParameterError(f"last_layer_probe.bodies{own}: {said}") from None


def built(declared: SkeletonConfig, side: int) -> Skeleton:
    """Return a skeleton over square images, or over one node for a chain.

    Args:
        declared: Its declaration.
        side: Of the images in pixels.
    """
    return Skeleton.from_config(declared, grid=(side, side))


def skeleton_of(session: Session) -> tuple[Skeleton, InputNorm]:
    """Return the skeleton of a session's arm, and the norm of its input.

    Args:
        session: Of a kind with a skeleton.
    """
    side = int(session.samples.train.images.shape[2])
    return skeleton_for(session.config, session.arm, side=side)


def described_random(session: Session) -> BodyDescription:
    """Return what makes the random body of an arm again.

    Args:
        session: Of the kind ``random``.
    """
    arm, config = session.arm, session.config
    images = session.samples.train.images
    channels, side = int(images.shape[1]), int(images.shape[2])
    declared = skeleton_config_of(config, arm)
    skeleton = built(declared, side)
    replicas = arm.replicas or _as_wide_as_convolutional(config, side)
    options = {
        "label": arm.body,
        "skeleton": declared.model_dump(mode="json"),
        "digest": skeleton.digest,
        "replicas": replicas,
        "gain": arm.gain,
        "seed": session.seed,
        "input_norm": input_norm_of(config, declared),
        "features": replicas * skeleton.outputs,
    }
    return BodyDescription("random", options, (channels, side))


def _as_wide_as_convolutional(config: LastLayerProbeConfig, side: int) -> int:
    """Return the features of the convolutional body of the study ``skeletons``."""
    from relearn.methods.last_layer_probe.arms import Arm

    conv = Arm("", "random", conv_label(config), activation=config.bodies.activation)
    skeleton, _ = skeleton_for(config, conv, side=side)
    return config.study.channels * skeleton.outputs


def drawn_body(body: BodyDescription) -> RandomNetwork:
    """Return the random network of a description, in evaluation mode.

    Args:
        body: Of the kind ``random``.

    Returns:
        A module whose ``body`` takes float images in 0..1, shape (n, channels, height, width), and
        gives features, shape (n, features).
    """
    told = body.options
    channels, side = body.shape
    skeleton = built(SkeletonConfig.model_validate(told["skeleton"]), side)
    net = random_network(
        skeleton,
        replicas=int(told["replicas"]),
        inputs_shape=(channels, side, side),
        seed=int(told["seed"]),
        classes=1,
        input_norm=told["input_norm"],
    )
    if told["gain"] != 1:
        with torch.no_grad():
            for weight in net.body.parameters():
                weight.mul_(float(told["gain"]))
    net.eval().requires_grad_(requires_grad=False)
    return net


def described_noise(session: Session) -> BodyDescription:
    """Return what makes the body of noise again.

    Args:
        session: Of the kind ``noise``.
    """
    images = session.samples.train.images
    options = {
        "label": "noise",
        "features": session.arm.replicas,
        "rows": len(images),
        "seed": session.seed,
    }
    return BodyDescription("noise", options, (int(images.shape[1]), int(images.shape[2])))


def noise_rows(body: BodyDescription, part: str, count: int) -> Tensor:
    """Return features that know nothing of the images, float32, shape (count, features).

    Args:
        body: Of the kind ``noise``.
        part: Of the images.
        count: Images in it.
    """
    draw = generator_of(int(body.options["seed"]), f"last_layer_probe.noise.{part}")
    return torch.randn(count, int(body.options["features"]), generator=draw)


def body_norm(net: nn.Module) -> float:
    """Return the Frobenius norm of all numbers of a net.

    Args:
        net: Any.
    """
    tensors = [t.detach() for t in (*net.parameters(), *net.buffers())]
    return float(sum(float(t.double().square().sum()) for t in tensors) ** 0.5)
