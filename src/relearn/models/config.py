"""What may be set under ``pretrain.model`` in the parameters. Imports no torch."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from relearn.errors import near_miss
from relearn.strict import Strict

NAMES = ("convnet3", "convnet4", "convnet5", "mlp", "preact_resnet", "vision_transformer")
"""Our own nets; besides these, ``timm:<name>`` stands for any net of timm."""

TIMM = "timm:"
"""Prefix of a net of timm."""

DEPTHS = (8, 10, 14, 18, 20, 26, 32, 34, 44, 56)
"""Depths in which ``preact_resnet`` exists."""


class ConvnetConfig(Strict):
    """The plain convolutional nets; read for ``convnet3``, ``convnet4`` and ``convnet5``.

    Attributes:
        width: Channels of every block, 1 to 4096; 256 in the zapping paper. For ``convnet5`` those
            of its first two blocks; the last two have four times as many.
    """

    width: int = Field(ge=1, le=4096)


class MlpConfig(Strict):
    """Fully connected layers on the flattened image; read where ``name`` is ``mlp``.

    Attributes:
        width: Units of each hidden layer.
        depth: Hidden layers; 0 leaves a linear classifier.
    """

    width: int = Field(ge=1, le=65_536)
    depth: int = Field(ge=0, le=64)


class ResnetConfig(Strict):
    """Residual net with normalisation before convolution; read for ``preact_resnet``.

    Attributes:
        width: Channels of the first stage; each later stage has twice those of the one before.
        depth: Layers with weights: 18 and 34 have four stages, 14, 20, 26, 32, 44, 56 three.
    """

    width: int = Field(ge=1, le=1024)
    depth: Literal[8, 10, 14, 18, 20, 26, 32, 34, 44, 56]


class TransformerConfig(Strict):
    """A small vision transformer; read where ``name`` is ``vision_transformer``.

    Attributes:
        patch_size: Height and width of a patch in pixels; the image size is a multiple of it.
        width: Size of a token, a multiple of ``heads``.
        depth: Blocks of attention and perceptron.
        heads: Attention heads.
        mlp_ratio: Hidden units of a block's perceptron over ``width``.
        stem: ``patch`` cuts patches out by one strided convolution; ``convolution`` halves the
            image by 3x3 convolutions until a pixel is a patch (a power of two); ``pooled`` has as
            many 3x3 convolutions without a border, each with batch norm and max pooling, so that 28
            pixels at patch_size 4 give 5 x 5 tokens.
        dropout: Share of units dropped while training, 0 to below 1.
    """

    patch_size: int = Field(ge=1, le=64)
    width: int = Field(ge=1, le=4096)
    depth: int = Field(ge=1, le=64)
    heads: int = Field(ge=1, le=64)
    mlp_ratio: float = Field(gt=0, le=16)
    stem: Literal["patch", "convolution", "pooled"]
    dropout: float = Field(ge=0, lt=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width: got {self.width}, expected a multiple of heads={self.heads}")
        least = {"patch": 1, "convolution": 1, "pooled": 2}[self.stem]
        halves = self.stem != "patch" and self.patch_size & (self.patch_size - 1)
        if halves or self.patch_size < least:
            raise ValueError(
                f"patch_size: got {self.patch_size}, expected a power of two from {least} on "
                f"for stem: {self.stem} (each convolution halves the image)"
            )
        return self


class ModelConfig(Strict):
    """Which net, and where its first weights come from.

    Attributes:
        name: One of our nets, or ``timm:<name>``.
        weights: ``none`` draws them, ``timm`` takes timm's pre-trained ones, ``file`` reads
            ``weights_path``.
        weights_path: A safetensors or state-dict (.pt) file for ``weights: file``; empty = none.
        head: Name of the last layer inside the net; empty = it is found.
        convnet: Read for convnet3, convnet4 and convnet5.
        mlp: Read for mlp.
        preact_resnet: Read for preact_resnet.
        vision_transformer: Read for vision_transformer.
    """

    name: str = Field(min_length=1)
    weights: Literal["none", "timm", "file"]
    weights_path: str
    head: str
    convnet: ConvnetConfig
    mlp: MlpConfig
    preact_resnet: ResnetConfig
    vision_transformer: TransformerConfig

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in NAMES and not (name.startswith(TIMM) and len(name) > len(TIMM)):
            raise ValueError(
                f"{name!r} is not known,{near_miss(name, NAMES)} "
                f"expected one of {', '.join(NAMES)} or {TIMM}<name>"
            )
        return name

    @model_validator(mode="after")
    def _weights_exist(self) -> Self:
        if self.weights == "timm" and not self.name.startswith(TIMM):
            raise ValueError(
                f"weights: timm has none for name: {self.name}; use none, file, "
                f"or a net of timm such as name: {TIMM}resnet18"
            )
        if (self.weights == "file") != bool(self.weights_path):
            raise ValueError(
                f"weights_path: got {self.weights_path!r} with weights: {self.weights}; "
                "a path belongs to weights: file, and only to it"
            )
        return self

    def options(self) -> dict[str, Any]:
        """Return the options of the net that ``name`` chooses, as ``Architecture.options``."""
        if self.name.startswith(TIMM):
            return {}
        block = self.convnet if self.name.startswith("convnet") else getattr(self, self.name)
        found: dict[str, Any] = block.model_dump()
        return found
