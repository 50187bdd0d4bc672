"""Products of a backward pass in the form that a CPU makes fastest; all are exact in fp32.

Three things decide the speed of a small net beside the number of multiplications:

- A product with a few columns is several times slower as (many rows x few columns) than transposed,
  as (few rows x many columns); ``composition`` writes all of them that way.
- oneDNN multiplies two float32 matrices 10 to 20 percent faster than the BLAS that ``@`` asks.
- A net that answers from its class token alone has gradients in its last block that are zero in
  all other rows; products with these rows need not be made.
"""

from __future__ import annotations

import torch
from torch import Tensor


def times(left: Tensor, right: Tensor) -> Tensor:
    """Return left @ right, by oneDNN where torch has it: on a CPU, in float32.

    Both ways round each sum alike but for the order of its terms.

    Args:
        left: Shape (rows, n).
        right: Shape (n, columns).
    """
    if not _fits(left) or not left.numel():
        return left @ right
    found: Tensor = torch.ops.mkldnn._linear_pointwise(left, right.T, None, "none", [], "")
    return found


def living_rows(grad: Tensor) -> Tensor | None:
    """Return the numbers of the rows that are not zero throughout, if these are at most half.

    The first image is asked before all of them, so that a dense gradient costs nothing. None where
    most rows live, where images have no rows, and on a GPU, whose answer would be waited for.

    Args:
        grad: Gradient of a layer's output, shape (images, ..., features).
    """
    if grad.ndim < 3 or not len(grad) or grad.device.type != "cpu":
        return None
    if _mostly(_lives(grad[0])):
        return None
    lives = _lives(grad)
    return None if _mostly(lives) else lives.nonzero().flatten()


def _lives(grad: Tensor) -> Tensor:
    return grad.reshape(-1, grad.shape[-1]).abs().amax(1) != 0


def _mostly(lives: Tensor) -> bool:
    return 2 * int(lives.count_nonzero()) > len(lives)


def _fits(tensor: Tensor) -> bool:
    known = tensor.device.type == "cpu" and tensor.dtype == torch.float32
    return known and torch.backends.mkldnn.is_available() and _HAS_PRODUCT


_HAS_PRODUCT = hasattr(torch.ops.mkldnn, "_linear_pointwise")
