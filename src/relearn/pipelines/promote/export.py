"""A checkpoint as a program that runs without our code: uint8 images in, probabilities out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from relearn.errors import CheckpointError, one_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relearn.models.checkpoint import Checkpoint

_TOLERANCE = 1e-4  # of a probability; the export fuses operations, so last bits may differ


def inference_module(method: str, checkpoint: Checkpoint) -> nn.Module:
    """Return the method's module for inference: normalisation inside, probabilities out.

    Args:
        method: Method whose package offers ``inference_module``.
        checkpoint: A trained unit.

    Raises:
        ParameterError: The method is not one that can be rolled out.
    """
    from relearn.pipelines.promote.pipeline import METHODS

    if method not in METHODS:
        raise one_of("promote.method", method, METHODS)
    package = import_module(f"relearn.methods.{method}.inference")
    module: nn.Module = package.inference_module(checkpoint)
    return module


def example_of(checkpoint: Checkpoint) -> Tensor:
    """Return a batch of two images of noise, uint8 (2, channels, height, width).

    Two, because an example of one image would fix the batch size of the exported program at one.

    Args:
        checkpoint: Says channels and size.
    """
    import torch

    shape = checkpoint.architecture
    # a head that is kept without its body says itself what images the two together take
    told = checkpoint.provenance.get("image_shape", (shape.in_channels, shape.image_size))
    channels, side = (int(number) for number in told)
    size = (2, channels, side, side)
    noise = torch.randint(0, 256, size, generator=torch.Generator().manual_seed(0))
    return noise.to(torch.uint8)


def export_program(module: nn.Module, example: Tensor) -> Any:
    """Return the exported program with a free batch size, after checking it against the module.

    Args:
        module: Takes uint8 (n, channels, height, width), returns probabilities (n, classes).
        example: At least two images.

    Raises:
        CheckpointError: The exported program does not give what the module gives, or a row is no
            probability distribution.
    """
    import torch

    batch = torch.export.Dim("batch", min=1, max=65536)
    with torch.no_grad():  # a net may pool in another way while it is trained
        program = torch.export.export(module, (example,), dynamic_shapes=({0: batch},))
    exported = program.module()
    for images in (example[:1], torch.cat([example, example[:1].flip(-1)])):
        with torch.no_grad():
            expected, got = module(images), exported(images)
        if not torch.allclose(expected, got, atol=_TOLERANCE):
            raise CheckpointError("promote: the exported program differs from the trained net")
        if not torch.allclose(got.sum(1), torch.ones(len(images)), atol=1e-3):
            raise CheckpointError("promote: the outputs are no probabilities")
    return program
