"""The ball in which an attack may move an image, and the pixel range that it may not leave.

Pixels are floats in 0..1, so that a radius means the same for every data set; what a net takes off
and divides by lies inside the net (``relearn.models.normalised.NormalisedNet``).

References:
    Madry et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018,
    section 2.1 (the saddle point) and its projected gradient steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from relearn.errors import DataError, ParameterError, one_of

NORMS = ("linf", "l2")
_TINY = 1e-12  # of a gradient whose unit vector is no direction


@dataclass(frozen=True)
class Ball:
    """All points no further than ``epsilon`` from an image, and inside the pixel range 0..1.

    Attributes:
        norm: ``linf`` (largest change of a pixel) or ``l2`` (Euclidean length over all pixels).
        epsilon: Radius above 0, in units of the 0..1 pixel range; at most 1 for ``linf``.

    Raises:
        ParameterError: The norm is not known or the radius is unusable.
    """

    norm: str
    epsilon: float

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise one_of("forget_relearn.attack.norm", self.norm, NORMS)
        too_large = self.norm == "linf" and self.epsilon > 1
        if not self.epsilon > 0 or too_large:
            raise ParameterError(
                f"forget_relearn.attack.epsilon: got {self.epsilon}, expected above 0"
                f"{' and at most 1' if self.norm == 'linf' else ''} in units of the 0..1 pixel "
                "range; 8 of 255 grey levels are 0.0314"
            )

    def random_start(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Return points drawn uniformly from the ball, then clamped to 0..1.

        Args:
            pixels: Centres, range 0..1, shape (batch, ...).
            generator: Of the CPU, so that every device gets the same points.

        Returns:
            Shape and memory layout of ``pixels``.
        """
        shape = pixels.shape
        if self.norm == "linf":
            noise = torch.rand(shape, generator=generator).mul_(2).sub_(1).mul_(self.epsilon)
        else:
            noise = torch.randn(shape, generator=generator)
            # the share of a ball's volume within r of its centre is r ** dimensions
            volume = torch.rand(shape[0], generator=generator)
            radius = self.epsilon * volume ** (1 / noise[0].numel())
            noise.mul_(_per_image(radius / _lengths(noise), noise))
        return torch.empty_like(pixels).copy_(noise).add_(pixels).clamp_(0, 1)

    def project(self, points: Tensor, pixels: Tensor) -> Tensor:
        """Return the nearest points of the ball, clamped to 0..1.

        The clamp goes towards the centre in every pixel, so that the result is in the ball as well.

        Args:
            points: Any values, shape (batch, ...).
            pixels: Centres, range 0..1, same shape.

        Returns:
            New points of that shape.
        """
        if self.norm == "linf":
            low, high = pixels - self.epsilon, pixels + self.epsilon
            return torch.clamp(points, low, high).clamp_(0, 1)
        away = points - pixels
        shrink = (self.epsilon / _lengths(away)).clamp_(max=1)
        return away.mul_(_per_image(shrink, away)).add_(pixels).clamp_(0, 1)

    def ascend(self, points: Tensor, pixels: Tensor, gradient: Tensor, step_size: float) -> Tensor:
        """Return the points one step of steepest ascent further, projected.

        Args:
            points: Where the gradient was taken, shape (batch, ...).
            pixels: Centres, range 0..1, same shape.
            gradient: Of what shall grow, same shape; where it is zero nothing moves.
            step_size: Length of the step in this norm, in units of the 0..1 pixel range.

        Returns:
            New points of that shape.
        """
        if self.norm == "linf":
            return self.project(points.add(gradient.sign(), alpha=step_size), pixels)
        unit = _per_image(step_size / _lengths(gradient), gradient)
        return self.project(torch.addcmul(points, gradient, unit), pixels)


def require_pixels(images: Tensor) -> None:
    """Return if the images are floats in 0..1; reading the range waits for a GPU.

    Args:
        images: Shape (batch, channels, height, width).

    Raises:
        DataError: They are not, such as images that are normalised already.
    """
    if not images.is_floating_point():
        raise DataError(
            f"attack: got {images.dtype} images, expected floats in 0..1; divide by 255"
        )
    low, high = (float(bound) for bound in images.detach().aminmax())
    if not (low >= 0 and high <= 1):
        raise DataError(
            f"forget_relearn.attack: got pixels from {low:.4g} to {high:.4g}, expected 0..1; move "
            "the normalisation (mean, std) into the model with NormalisedNet"
        )


def _lengths(values: Tensor) -> Tensor:
    """Return the Euclidean length of each image, never zero."""
    lengths: Tensor = torch.linalg.vector_norm(values.flatten(1), dim=1)
    return lengths.clamp_(min=_TINY)


def _per_image(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))
