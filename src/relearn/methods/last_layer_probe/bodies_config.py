"""Which bodies are probed: skeletons, widths, activation. Imports no torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from relearn.methods.last_layer_probe.skeleton_config import SkeletonConfig  # noqa: TC001 - pydantic
from relearn.strict import Strict

InputNorm = Literal["global", "patch", "pair", "none"]


def numbers_in(text: str, *, kind: type[int] | type[float] = int) -> tuple[float, ...]:
    """Return the numbers of a text such as ``64 256``, as they stand.

    ``--params`` splits at commas, so that a user cannot give lists.

    Args:
        text: Numbers parted by blanks; empty for none.
        kind: Whole numbers or any.

    Raises:
        ValueError: A part is no number of this kind, is not above 0, or occurs twice.
    """
    try:
        found = tuple(kind(part) for part in text.split())
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise ValueError(f"expected {what} parted by blanks, got {text!r}") from None
    if any(number <= 0 for number in found) or len(set(found)) < len(found):
        raise ValueError(f"expected numbers above 0, each once, got {text!r}")
    return found


def _whole(text: str) -> str:
    numbers_in(text)
    return text


class FullyConnectedBodiesConfig(Strict):
    """Chains of fully connected layers on the flattened image.

    Attributes:
        depths: Layers of each body, parted by blanks, such as ``1 3``; empty = no such bodies.
        widths: Replicas r of each random body, parted by blanks; every depth has all of them.
        input_norm: ``global``: each image is brought to length 1, which drops its contrast;
            ``patch``: every pixel with a 1 behind it, over its length; ``pair``: every pixel as an
            angle; ``none``: pixels in 0..1 as they are. The linear baseline reads them alike.
    """

    depths: str
    widths: str
    input_norm: InputNorm

    _checked = field_validator("depths", "widths")(_whole)


class ConvolutionalBodiesConfig(Strict):
    """Layers of windows on the grid of pixels, average pooling, all positions read side by side.

    Attributes:
        enabled: Whether such bodies are probed.
        layers: Layers of windows.
        window: Side of a window in pixels.
        stride: Step of the windows of every layer.
        pool: Side of the average pooling behind the last layer; 1 = none.
        channels: Replicas r of each random body, parted by blanks; each gives r features at every
            position that is left.
        input_norm: As for fully connected bodies; ``patch`` takes 3 x 3 pixels.
    """

    enabled: bool
    layers: int = Field(ge=1, le=16)
    window: int = Field(ge=1, le=31)
    stride: int = Field(ge=1, le=16)
    pool: int = Field(ge=1, le=64)
    channels: str
    input_norm: InputNorm

    _checked = field_validator("channels")(_whole)


class BodiesConfig(Strict):
    """Random bodies and their dual kernels.

    Attributes:
        activation: Of every layer, such as ``relu``, ``tanh`` or ``gelu``; each is divided by its
            own root mean square, so that E s(g)^2 = 1.
        beta: Share of the bias in the variance of a pre-activation.
        gain: Factor on the normalised standard deviation of all weights; 1 = normalised.
        fully_connected: Chains.
        convolutional: Windows on the image.
        declared: Further skeletons by name, each a chain, convolutions or any graph of layers.
        declared_replicas: Replicas r of their random bodies, parted by blanks.
        memory_gigabytes: What the features of a body may take; a forecast above it is refused
            before anything is drawn.
    """

    activation: str = Field(min_length=1)
    beta: float = Field(ge=0, lt=1)
    gain: float = Field(gt=0, le=16)
    fully_connected: FullyConnectedBodiesConfig
    convolutional: ConvolutionalBodiesConfig
    declared: dict[str, SkeletonConfig]
    declared_replicas: str
    memory_gigabytes: float = Field(gt=0)

    _checked = field_validator("declared_replicas")(_whole)

    @model_validator(mode="after")
    def _some_body(self) -> Self:
        clash = [n for n in self.declared if not n.isidentifier() or n.startswith(("fc", "conv"))]
        if clash:
            raise ValueError(
                f"declared.{clash[0]}: expected a name of letters, digits and underscores that "
                "does not begin with fc or conv"
            )
        chains = self.fully_connected.depths.split()
        if not chains and not self.convolutional.enabled and not self.declared:
            raise ValueError("fully_connected.depths: got none, expected one without other bodies")
        return self


class KernelConfig(Strict):
    """The dual kernel: the limit of wide random bodies.

    Attributes:
        block: Rows computed at a time.
        most_images: Training images above which landmarks stand for them (Nystroem).
        landmarks: Their number.
        memory_gigabytes: What the kernel may take; a forecast above it is refused before anything
            is allocated, with the road that fits.
    """

    block: int = Field(ge=1)
    most_images: int = Field(ge=2)
    landmarks: int = Field(ge=2)
    memory_gigabytes: float = Field(gt=0)
