"""Which memory layout and precision trains a convolutional net fastest, by net and width.

One thread, whole training steps (forward, backward, fused Adam) on 28-pixel images of convnet3,
which normalises single channels, and of two nets with batch norm.
The rounds of all variants are interleaved, so that a busy machine hits all of them alike, and the
best round of each counts. Prints one JSON line last; ``ratio`` is the images per second over those
of fp32 in channels-first layout at the same width.
"""

from __future__ import annotations

import argparse
import json
import platform
import time

import torch

from relearn.models.checkpoint import Architecture, build_fresh
from relearn.training.device import Device, cpu_multiplies_bf16, open_device
from relearn.training.memory import keep_freed_memory
from relearn.training.optimizers import make_optimizer

BATCH = 64
CLASSES = 300
OPTIONS: dict[str, dict[str, int]] = {"convnet3": {}, "convnet5": {}, "preact_resnet": {"depth": 8}}


class Variant:
    """One net with its optimizer in one layout and precision."""

    def __init__(self, net: str, width: int, precision: str, *, channels_last: bool) -> None:
        opened = open_device("cpu", precision)
        self.device = Device("cpu", precision, channels_last, opener=opened.opener)
        self.best = 0.0
        architecture = Architecture(net, 1, 28, CLASSES, {"width": width, **OPTIONS[net]})
        self.net = self.device.place(build_fresh(architecture, seed=0)).train()
        self.optimizer = make_optimizer(
            self.net.parameters(), name="adam", learning_rate=1e-3, weight_decay=0.0, momentum=0.0
        )
        self.images = self.device.lay_out(torch.rand(BATCH, 1, 28, 28))
        self.labels = torch.arange(BATCH) % CLASSES

    def step(self) -> None:
        """Train one step."""
        self.optimizer.zero_grad(set_to_none=True)
        with self.device.autocast():
            logits = self.net(self.images)
        torch.nn.functional.cross_entropy(logits.float(), self.labels).backward()
        self.optimizer.step()

    def round(self, seconds: float) -> None:
        """Train for some time and keep the images per second if they are the most so far."""
        begin, steps = time.perf_counter(), 0
        while steps == 0 or time.perf_counter() - begin < seconds:
            self.step()
            steps += 1
        self.best = max(self.best, BATCH * steps / (time.perf_counter() - begin))


def measure(net: str, width: int, rounds: int, seconds: float) -> list[dict[str, object]]:
    """Return one row for each layout and precision of one net at one width."""
    variants = [
        Variant(net, width, precision, channels_last=last)
        for precision in ("fp32", "bf16")
        for last in (False, True)
    ]
    for variant in variants:
        variant.step()  # the first step chooses kernels
    for _ in range(rounds):
        for variant in variants:
            variant.round(seconds)
    return [
        {
            "net": net,
            "width": width,
            "precision": v.device.precision,
            "layout": "channels_last" if v.device.channels_last else "channels_first",
            "images_per_second": round(v.best, 1),
            "ratio": round(v.best / variants[0].best, 2),
        }
        for v in variants
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--peer", help="accepted for make bench; there is no peer to this one")
    parser.add_argument("--widths", default="16,32,64,128,256")
    parser.add_argument("--batch-norm-widths", default="8,16,32,64")
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as units do
    rounds, seconds = (2, 0.5) if given.quick else (4, 1.5)
    rows = [
        row
        for net in OPTIONS
        for width in (given.widths if net == "convnet3" else given.batch_norm_widths).split(",")
        for row in measure(net, int(width), rounds, seconds)
    ]
    result = {
        "name": "layout",
        "unit": "images/s",
        "batch": BATCH,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, bf16 instructions: {cpu_multiplies_bf16()}",
        "rows": rows,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
