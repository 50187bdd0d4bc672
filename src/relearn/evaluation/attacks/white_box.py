"""The net as an attack sees it: evaluation mode, true fp32, gradients of the input alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch

from relearn.errors import EvidenceError, one_of

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from relearn.data.ball import Ball


class Attack(Protocol):
    """What every attack's frozen settings can do."""

    def perturb(
        self,
        model: nn.Module,
        pixels: Tensor,
        labels: Tensor,
        *,
        ball: Ball,
        generator: Generator,
    ) -> Tensor:
        """Return points of the ball, shape as ``pixels``: those that fool the net where found.

        Call it inside ``measuring``.

        Args:
            model: Pixels in [0, 1] to logits.
            pixels: float32 in [0, 1], shape (batch, channels, height, width).
            labels: int64, shape (batch,).
            ball: Where the points may lie.
            generator: CPU generator of everything random.
        """
        ...


@contextmanager
def measuring(model: nn.Module, precision: str = "fp32") -> Iterator[None]:
    """Hold the net in evaluation mode and in one precision; its modes and switches come back.

    In ``fp32`` autocast is off and so is the shortened fp32 (TF32, bf16) of GPUs and oneDNN.

    Args:
        model: The net, with fp32 weights.
        precision: ``fp32``, or ``bf16`` to see what a measurement in autocast would have said.

    Raises:
        EvidenceError: Weights are not fp32.
        ParameterError: The precision is not known.
    """
    if precision not in ("fp32", "bf16"):
        raise one_of("precision", precision, ("fp32", "bf16"))
    _require_fp32(model)
    modes = {module: module.training for module in model.modules()}
    kind = next(model.parameters()).device.type
    with ExitStack() as stack:
        for switch in _shortened() if precision == "fp32" else ():
            stack.callback(setattr, switch, "fp32_precision", switch.fp32_precision)
            switch.fp32_precision = "ieee"
        stack.callback(_give_back, modes)
        model.eval()
        bf16 = precision == "bf16"
        stack.enter_context(torch.autocast(kind, dtype=torch.bfloat16, enabled=bf16))
        yield


def _shortened() -> tuple[Any, ...]:
    """Return the switches that let torch compute fp32 products in fewer bits."""
    backends: Any = torch.backends
    return (
        *(backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn),
        *(backends.mkldnn.matmul, backends.mkldnn.conv, backends.mkldnn.rnn),
    )


def _give_back(modes: dict[nn.Module, bool]) -> None:
    for module, training in modes.items():
        module.training = training


def _require_fp32(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and parameter.dtype != torch.float32:
            raise EvidenceError(
                f"robust accuracy: the weights {name!r} are {str(parameter.dtype)[6:]}, expected "
                "float32, because robustness is measured in fp32; call .float() on the net first"
            )


def climb(
    model: nn.Module, points: Tensor, loss: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, losses and the gradient of the losses at some points; weights get none.

    Args:
        model: Pixels to logits.
        points: Shape (batch, channels, height, width).
        loss: From logits to one number a sample.

    Returns:
        Shapes (batch, classes), (batch,) and as ``points``, all detached, fp32.
    """
    points = points.detach().requires_grad_()
    with torch.enable_grad():
        logits = model(points).float()
        losses = loss(logits)
        (gradient,) = torch.autograd.grad(losses.sum(), points)
    return logits.detach(), losses.detach(), gradient


@torch.no_grad()
def logits_at(model: nn.Module, points: Tensor) -> Tensor:
    """Return the logits without a graph, fp32, shape (batch, classes).

    Args:
        model: Pixels to logits.
        points: Shape (batch, channels, height, width).
    """
    logits: Tensor = model(points)
    return logits.float()


def is_fooled(logits: Tensor, labels: Tensor) -> Tensor:
    """Return where the largest logit is not the label's, bool, shape (batch,).

    Args:
        logits: Shape (batch, classes).
        labels: int64, shape (batch,).
    """
    return logits.argmax(1) != labels


def per_sample(values: Tensor) -> Tensor:
    """Return one number a sample in a shape that stretches over images, (batch, 1, 1, 1).

    Args:
        values: Shape (batch,).
    """
    return values.view(-1, 1, 1, 1)


def length(change: Tensor, norm: str) -> Tensor:
    """Return the length of each sample's change, shape (batch,).

    Args:
        change: Shape (batch, channels, height, width).
        norm: ``linf`` or ``l2``.
    """
    flat = change.flatten(1)
    return flat.abs().amax(1) if norm == "linf" else flat.norm(dim=1)
