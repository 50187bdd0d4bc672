"""Costs: FLOPs and parameters counted by hand, seconds that add up."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from relearn.evaluation.efficiency import (
    Stopwatch,
    forward_flops,
    parameter_count,
    peak_memory_bytes,
)
from relearn.models.checkpoint import Architecture, build_fresh


def test_the_flops_of_a_perceptron_are_two_a_weight():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 5))
    assert forward_flops(net, (1, 8, 8)) == 2 * (64 * 16 + 16 * 5)
    assert parameter_count(net) == 64 * 16 + 16 + 16 * 5 + 5


def test_the_flops_of_a_convnet_by_hand():
    width, classes = 4, 6
    net = build_fresh(Architecture("convnet3", 1, 28, classes, {"width": width}), seed=0)
    # 28 -> conv 26 -> pool 13 -> conv 11 -> pool 5 -> conv 3, no padding, 3x3 kernels
    blocks = 26**2 * 9 * width + 11**2 * 9 * width**2 + 3**2 * 9 * width**2
    assert forward_flops(net, (1, 28, 28)) == 2 * (blocks + 9 * width * classes)


def test_counting_loads_no_compiler_and_counts_as_beside_a_loaded_one():
    code = (
        "import sys, torch\n"
        "if sys.argv[1] == 'loaded':\n"
        "    import torch._dynamo\n"
        "from relearn.evaluation.efficiency import forward_flops\n"
        "net = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 3), torch.nn.BatchNorm2d(3))\n"
        "print(forward_flops(net, (1, 8, 8)), 'torch._dynamo' in sys.modules)"
    )
    found = {
        road: subprocess.run(
            [sys.executable, "-c", code, road], capture_output=True, text=True, check=True
        ).stdout.split()
        for road in ("spared", "loaded")
    }
    flops = str(2 * 6**2 * 9 * 3)
    assert found == {"spared": [flops, "False"], "loaded": [flops, "True"]}


def test_counting_keeps_mode_and_weights():
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3)).train()
    before = {n: t.clone() for n, t in net.state_dict().items()}
    forward_flops(net, (1, 2, 2))
    assert net.training
    assert all(torch.equal(before[n], t) for n, t in net.state_dict().items())


def test_held_weights_are_not_counted_as_trainable():
    net = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    net[0].requires_grad_(False)
    assert parameter_count(net) == 3 * 2 + 2


def test_peak_memory_only_rises():
    before = peak_memory_bytes()
    block = torch.ones(32 * 1024 * 1024 // 4)
    assert float(block[-1]) == 1.0
    assert peak_memory_bytes() >= before > 10_000_000


def test_a_stopwatch_adds_up_by_name_also_after_an_error():
    watch = Stopwatch()
    for _ in range(2):
        with watch("a"):
            time.sleep(0.01)

    def fails():
        with watch("b"):
            raise ValueError("in between")

    with pytest.raises(ValueError, match="in between"):
        fails()
    assert watch.seconds["a"] >= 0.02
    assert 0 <= watch.seconds["b"] < watch.seconds["a"]


def test_a_snapshot_counts_blocks_that_are_still_open():
    watch = Stopwatch()
    with watch("whole"):
        time.sleep(0.02)
        kept = watch.snapshot()
        assert kept["whole"] >= 0.02
        assert "whole" not in watch.seconds
    assert watch.seconds["whole"] >= kept["whole"]
