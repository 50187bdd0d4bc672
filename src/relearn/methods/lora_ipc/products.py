"""Products of gradients and of mixed batches in the form that a CPU makes fastest; exact in fp32.

Three things decide the speed of a small net beside the number of multiplications:

- A product with a few columns is several times slower as (many rows x few columns) than transposed,
  as (few rows x many columns); ``composition`` writes all of them that way.
- oneDNN multiplies two float32 matrices 10 to 20 percent faster than the BLAS that ``@`` asks. W x
  of a step stays with torch, so that a task begins with every bit of the outputs there were.
- A net that answers from its class token alone has gradients in its last block that are zero in
  all other rows; products with these rows need not be made.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def times(left: Tensor, right: Tensor) -> Tensor:
    """Return left @ right, by oneDNN where torch has it: on a CPU, in float32.

    Both ways round each sum alike but for the order of its terms.

    Args:
        left: Shape (rows, n).
        right: Shape (n, columns).
    """
    if not (_fits(left) and _fits(right)):
        return left @ right
    found: Tensor = torch.ops.mkldnn._linear_pointwise(left, right.T, None, "none", [], "")
    return found


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return x W + bias, by oneDNN like ``times``; where gradients are asked for, by torch.

    Args:
        x: Shape (..., d_in).
        weight: W as torch stores it, shape (d_out, d_in).
        bias: Shape (d_out,), or None.
    """
    rows = x.reshape(-1, x.shape[-1])
    if torch.is_grad_enabled() or not (_fits(rows) and _fits(weight)):
        return functional.linear(x, weight, bias)
    found: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return found.view(*x.shape[:-1], weight.shape[0])


def linear_into(x: Tensor, weight: Tensor, bias: Tensor | None, into: Tensor) -> None:
    """Write x W + bias, straight into its place where that is the faster way.

    Args:
        x: Shape (..., d_in).
        weight: Shape (d_out, d_in).
        bias: Shape (d_out,), or None.
        into: Shape (..., d_out), contiguous.
    """
    out_features, in_features = weight.shape
    if torch.is_grad_enabled() or bias is None or out_features < in_features:
        into.copy_(linear(x, weight, bias))
        return
    torch.addmm(bias, x.reshape(-1, in_features), weight.T, out=into.view(-1, out_features))


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


def _fits(matrix: Tensor) -> bool:
    """Return whether oneDNN is fast with a matrix: columns of a wider one cost it a hundredfold."""
    known = matrix.device.type == "cpu" and matrix.dtype == torch.float32 and matrix.numel() > 0
    whole = matrix.is_contiguous() or matrix.T.is_contiguous()
    return known and whole and _HAS_PRODUCT and torch.backends.mkldnn.is_available()


_HAS_PRODUCT = hasattr(torch.ops.mkldnn, "_linear_pointwise")
