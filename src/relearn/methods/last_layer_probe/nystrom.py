"""Nystrom features: what a few landmarks know of a dual kernel that is too large to be held.

With landmarks z_1 .. z_m out of the inputs and the eigen-decomposition K_mm = V diag(e) V',

    F = K_nm V_k diag(e_k)^(-1/2),      F F' = K_nm K_mm^+ K_mn,

over the k eigenvalues that are not lost in rounding. With all inputs as landmarks F F' is K itself.
Williams and Seeger, "Using the Nystrom Method to Speed Up Kernel Machines", NIPS 2000.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from relearn.data.randomness import generator_of
from relearn.errors import ParameterError
from relearn.methods.last_layer_probe.kernel import dual_kernel

if TYPE_CHECKING:
    from torch import Tensor

    from relearn.methods.last_layer_probe.input_norm import InputNorm
    from relearn.methods.last_layer_probe.skeleton import Skeleton

LOST = {torch.float32: 1e-6, torch.float64: 1e-13}
"""Eigenvalues below this share of the largest are rounding."""


@dataclass(frozen=True)
class Nystrom:
    """A map from inputs to features whose inner products approximate a dual kernel.

    Attributes:
        skeleton: Whose kernel.
        landmarks: The inputs it rests on, shape (m, ...).
        root: V_k diag(e_k)^(-1/2), shape (m, k).
        input_norm: As in ``dual_kernel``.
        patch: Likewise.
    """

    skeleton: Skeleton
    landmarks: Tensor
    root: Tensor
    input_norm: InputNorm | None
    patch: int

    def features(self, x: Tensor) -> Tensor:
        """Return the features of inputs, which may be given in batches.

        Args:
            x: As in ``dual_kernel``.

        Returns:
            Shape (n, k), in the precision of ``root``.
        """
        kernel = dual_kernel(
            self.skeleton,
            x,
            self.landmarks,
            input_norm=self.input_norm,
            patch=self.patch,
            dtype=self.root.dtype,
        )
        return kernel @ self.root


def nystrom_map(
    skeleton: Skeleton,
    x: Tensor,
    *,
    landmarks: int,
    seed: int,
    input_norm: InputNorm | None = None,
    patch: int = 3,
    dtype: torch.dtype = torch.float32,
) -> Nystrom:
    """Return the map that rests on landmarks drawn from inputs without putting any back.

    Args:
        skeleton: Whose kernel.
        x: Inputs for training, shape (n, ...).
        landmarks: m, from 1 to n.
        seed: Of the draw.
        input_norm: As in ``dual_kernel``.
        patch: Likewise.
        dtype: Likewise; the decomposition is always in float64.

    Raises:
        ParameterError: More landmarks than inputs, or none.
    """
    if not 1 <= landmarks <= len(x):
        raise ParameterError(
            f"last_layer_probe.nystrom.landmarks: got {landmarks}, expected 1 to {len(x)}, the "
            "number of inputs"
        )
    generator = generator_of(seed, "last_layer_probe.landmarks")
    chosen = torch.randperm(len(x), generator=generator)[:landmarks].sort().values
    points = x[chosen.to(x.device)].detach()
    kernel = dual_kernel(skeleton, points, input_norm=input_norm, patch=patch, dtype=dtype)
    values, vectors = torch.linalg.eigh(kernel.double())
    kept = values > LOST[dtype] * values[-1]
    root = vectors[:, kept] / values[kept].sqrt()
    return Nystrom(skeleton, points, root.to(dtype), input_norm, patch)


def nystrom_features(
    skeleton: Skeleton,
    x: Tensor,
    *,
    landmarks: int,
    seed: int,
    input_norm: InputNorm | None = None,
    patch: int = 3,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return features of all inputs that rest on landmarks among them.

    Args:
        skeleton: As in ``nystrom_map``.
        x: Likewise.
        landmarks: Likewise.
        seed: Likewise.
        input_norm: Likewise.
        patch: Likewise.
        dtype: Likewise.

    Returns:
        Shape (n, k) with k at most the number of landmarks.

    Raises:
        ParameterError: As ``nystrom_map``.
    """
    found = nystrom_map(
        skeleton,
        x,
        landmarks=landmarks,
        seed=seed,
        input_norm=input_norm,
        patch=patch,
        dtype=dtype,
    )
    return found.features(x)
