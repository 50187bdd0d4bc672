"""Where training runs and in what precision; ``auto`` is a stated choice, never a silent one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from relearn.errors import TrainingError, one_of

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relearn.models.architectures import Architecture
    from relearn.training.config import ExecutionConfig

BF16_FROM_WIDTH = 64
"""Channels from which ``auto`` trains in bf16 on a CPU that multiplies bf16 numbers.

Source: ``benchmarks/results/layout.json`` (``benchmarks/bench_layout.py``, convnet3, one thread).
Images per second of bf16 over fp32: width 16 1.07, 32 1.07, 64 1.19, 128 1.36, 256 1.47; below 64
that is within the noise. Channels last is slower at every width (0.7 in fp32,
0.14 to 0.29 in bf16), because of the normalisation of single channels, so that a CPU never uses it
for such a net. On a GPU, bf16 and channels last are the usual choice; there it was not measured.

Vision transformers stay in fp32: of four blocks behind a pooled stem, 28 pixels, batch 64, one
thread, bf16 trains at 0.81 of the speed of fp32 at width 64, 0.90 at 96 and 1.15 at 192, seconds of
processor time; their matrices are too small for more.
"""

BF16_FROM_BATCH_NORM_WIDTH = 16
"""As ``BF16_FROM_WIDTH``, for nets with batch norm, which a CPU runs in channels last.

Source: steps of PGD-5 adversarial training, one thread, AMD EPYC with AVX512-BF16. Speed over fp32
in channels first, for channels last in fp32 and in bf16. convnet5, 8 pixels: width 8 1.15 and 1.12,
16 1.18 and 1.33, 32 1.21 and 1.61, 64 1.04 and 1.63; 28 pixels: 8 1.28 and 1.49, 16 1.20 and 1.80,
64 1.13 and 2.12. preact_resnet of depth 8, 8 pixels: 8 1.10 and 1.11, 16 1.23 and 1.34, 64 1.07 and
1.73; 28 pixels: 8 1.32 and 1.59, 16 1.17 and 1.83, 64 1.18 and 2.17. Plain training agrees
(``benchmarks/results/layout.json``).
"""

_CPU_BF16 = partial(torch.autocast, "cpu", dtype=torch.bfloat16)


@dataclass(frozen=True)
class Device:
    """One device, a precision and a memory layout.

    Attributes:
        name: As torch spells it, such as ``cpu`` or ``cuda:0``.
        precision: ``fp32`` or ``bf16`` (weights stay fp32, convolutions and products are bf16).
        channels_last: Whether images and convolutions lie with the channels innermost.
        reason: Why, where it was left to us; else empty.
        opener: Makes the context in which forward passes run.
    """

    name: str
    precision: str
    channels_last: bool = False
    reason: str = ""
    opener: Callable[[], AbstractContextManager[Any]] = nullcontext

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which forward passes run."""
        return self.opener()

    def place(self, model: nn.Module) -> nn.Module:
        """Move the net, in place, to the device and into the layout, and return it.

        Args:
            model: Any net; an optimizer made before keeps its parameters.
        """
        return model.to(device=self.name, memory_format=self._layout)  # type: ignore[call-overload,no-any-return]

    def lay_out(self, images: Tensor) -> Tensor:
        """Return the images in the device's memory layout.

        Args:
            images: Shape (batch, channels, height, width).
        """
        return images.to(memory_format=self._layout)

    def describe(self) -> str:
        """Return one line: device, precision, layout, and why."""
        layout = "channels last" if self.channels_last else "channels first"
        return f"{self.name}, {self.precision}, {layout}{self.reason and f' ({self.reason})'}"

    @property
    def _layout(self) -> torch.memory_format:
        return torch.channels_last if self.channels_last else torch.preserve_format


PLAIN_CPU = Device("cpu", "fp32")
"""The CPU in fp32; in no precision does a CPU need Lightning Fabric."""


def open_device(
    device: str, precision: str, *, width_hint: int = 0, batch_norm_width_hint: int = 0
) -> Device:
    """Return the device that the parameters ask for.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:<number>``.
        precision: ``auto``, ``fp32`` or ``bf16``.
        width_hint: Channels of the net's convolutions, for ``precision: auto``; 0 = not known.
        batch_norm_width_hint: First channels of a net with batch norm, which decide on precision
            and layout in place of ``width_hint``; 0 = a net without.

    Raises:
        TrainingError: ``cuda`` was asked for and is not there.
        ParameterError: Device or precision is not known.
    """
    name = _device_name(device)
    if precision not in ("auto", "fp32", "bf16"):
        raise one_of("execution.precision", precision, ("auto", "fp32", "bf16"))
    widths = (width_hint, batch_norm_width_hint)
    chosen, reason = (precision, "") if precision != "auto" else _precision(name, *widths)
    if name == "cpu" and chosen == "fp32":
        return Device("cpu", "fp32", batch_norm_width_hint > 0, reason)
    channels_last = batch_norm_width_hint > 0 if name == "cpu" else chosen == "bf16"
    # Fabric would open the same context, and takes four seconds to be imported in each process
    opener = _CPU_BF16 if name == "cpu" else _fabric_autocast(name, chosen)
    return Device(name, chosen, channels_last, reason, opener)


def device_of(execution: ExecutionConfig, architecture: Architecture) -> Device:
    """Return where, in what precision and layout a net of this architecture is trained.

    Args:
        execution: What the parameters ask for.
        architecture: Its widths decide what ``auto`` means.

    Raises:
        TrainingError: As ``open_device``.
        ParameterError: As ``open_device``.
    """
    return open_device(
        execution.device,
        execution.precision,
        width_hint=architecture.width,
        batch_norm_width_hint=architecture.batch_norm_width,
    )


def _device_name(device: str) -> str:
    there = torch.cuda.is_available()
    if device == "auto":
        return "cuda:0" if there else "cpu"
    if device == "cpu":
        return "cpu"
    if device != "cuda" and not device.startswith("cuda:"):
        raise one_of("execution.device", device, ("auto", "cpu", "cuda"))
    if not there:
        raise TrainingError(
            "execution.device: cuda was asked for but torch finds no GPU on this machine; "
            "use auto or cpu, or look at the driver with nvidia-smi"
        )
    return device if ":" in device else "cuda:0"


def _precision(name: str, width: int, batch_norm_width: int) -> tuple[str, str]:
    """Return the precision for ``auto`` and the reason."""
    if name.startswith("cuda"):
        able = torch.cuda.is_bf16_supported()
        return ("bf16", "auto: this GPU has bf16") if able else ("fp32", "auto: no bf16 here")
    if not cpu_multiplies_bf16():
        return "fp32", "auto: this CPU has no bf16 instructions"
    kind, least = "convnets", BF16_FROM_WIDTH
    if batch_norm_width > 0:
        kind, least, width = "nets with batch norm", BF16_FROM_BATCH_NORM_WIDTH, batch_norm_width
    if width < least:
        return "fp32", f"auto: bf16 is known to pay for {kind} of width {least} on"
    return "bf16", f"auto: width {width} is {least} or more"


def cpu_multiplies_bf16() -> bool:
    """Return whether the CPU has instructions for products of bf16 numbers."""
    ask = getattr(torch.cpu, "get_capabilities", None)
    able = ask() if ask else {}  # an older torch cannot tell: then fp32
    return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def _fabric_autocast(name: str, precision: str) -> Callable[[], AbstractContextManager[Any]]:
    """Return the autocast of Lightning Fabric for one GPU; Fabric is imported here only."""
    from lightning_fabric import Fabric

    # Fabric announces the precision that `describe` tells already
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric = Fabric(
        accelerator="cuda",
        devices=[int(name.partition(":")[2] or 0)],
        precision="bf16-mixed" if precision == "bf16" else "32-true",
    )
    opened: Callable[[], AbstractContextManager[Any]] = fabric.autocast
    return opened
