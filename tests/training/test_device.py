import subprocess
import sys

import pytest
import torch
from torch import nn

from relearn.errors import ParameterError, TrainingError
from relearn.models.architectures import Architecture, build_fresh, build_net
from relearn.training import device as module
from relearn.training.config import ExecutionConfig
from relearn.training.device import (
    BF16_FROM_BATCH_NORM_WIDTH,
    BF16_FROM_WIDTH,
    PLAIN_CPU,
    Device,
    device_of,
    open_device,
)
from relearn.training.randomness import isolated, seed_of


def test_a_cpu_needs_no_fabric_and_no_torchvision():
    code = (
        "import sys\n"
        "from relearn.training.device import open_device\n"
        "import relearn.training.loop, relearn.training.supervised\n"
        "open_device('cpu', 'fp32'); open_device('cpu', 'bf16')\n"
        "heavy = {'lightning_fabric', 'torchvision', 'timm', 'mlflow', 'kedro', 'pandas'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_cuda_asked_for_and_absent_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(TrainingError, match=r"execution\.device: cuda was asked for but"):
        open_device("cuda", "auto")
    with pytest.raises(TrainingError, match=r"execution\.device"):
        open_device("cuda:3", "fp32")


def test_auto_says_what_it_took(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for width, bf16, expected in (
        (BF16_FROM_WIDTH, True, "bf16"),
        (BF16_FROM_WIDTH - 1, True, "fp32"),
        (0, True, "fp32"),
        (256, False, "fp32"),
    ):
        monkeypatch.setattr(module, "cpu_multiplies_bf16", lambda bf16=bf16: bf16)
        found = open_device("auto", "auto", width_hint=width)
        assert found.precision == expected
        assert found.describe().startswith(f"cpu, {expected}, channels first (auto: ")


def test_auto_leaves_vision_transformers_in_fp32_on_a_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(module, "cpu_multiplies_bf16", lambda: True)
    execution = ExecutionConfig(
        device="auto", precision="auto", devices=1, workers=1, threads=1, backend="loky"
    )
    for name, expected in (("vision_transformer", "fp32"), ("convnet3", "bf16")):
        architecture = Architecture(name, 1, 28, 5, {"width": 96})
        assert device_of(execution, architecture).precision == expected


def test_nets_with_batch_norm_lie_channels_last_on_a_cpu_and_auto_says_why(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for width, bf16, expected, why in (
        (BF16_FROM_BATCH_NORM_WIDTH, True, "bf16", "width 16 is 16 or more"),
        (BF16_FROM_BATCH_NORM_WIDTH - 1, True, "fp32", "nets with batch norm of width 16 on"),
        (256, False, "fp32", "this CPU has no bf16 instructions"),
    ):
        monkeypatch.setattr(module, "cpu_multiplies_bf16", lambda bf16=bf16: bf16)
        found = open_device("auto", "auto", batch_norm_width_hint=width)
        assert found.precision == expected
        assert found.describe().startswith(f"cpu, {expected}, channels last (auto: ")
        assert why in found.reason
    for precision in ("fp32", "bf16"):
        assert open_device("cpu", precision, batch_norm_width_hint=8).channels_last
        assert not open_device("cpu", precision, width_hint=256).channels_last


def test_an_architecture_tells_the_width_of_nets_with_batch_norm():
    """The list of names against what is built."""
    for name, options in (
        ("preact_resnet", {"width": 16, "depth": 8}),
        ("convnet5", {"width": 16}),
        ("convnet3", {"width": 16}),
        ("mlp", {"width": 16, "depth": 2}),
    ):
        architecture = Architecture(name, 3, 32, 10, options)
        norms = [m for m in build_net(architecture).modules() if isinstance(m, nn.BatchNorm2d)]
        assert architecture.batch_norm_width == (16 if norms else 0)


def test_unknown_names_suggest_the_near_miss():
    with pytest.raises(ParameterError, match=r"execution\.device: 'cudaa' .* did you mean cuda"):
        open_device("cudaa", "fp32")
    with pytest.raises(ParameterError, match=r"execution\.precision: 'bf17' .* did you mean bf16"):
        open_device("cpu", "bf17")


def test_bf16_computes_in_bf16_and_keeps_fp32_weights():
    found = open_device("cpu", "bf16")
    net = found.place(nn.Linear(4, 4))
    with found.autocast():
        assert net(torch.rand(2, 4)).dtype == torch.bfloat16
    assert net(torch.rand(2, 4)).dtype == torch.float32
    assert net.weight.dtype == torch.float32


def test_bf16_on_a_cpu_is_what_fabric_would_compute_bit_for_bit():
    """Fabric is the other road: a net with batch norm, its logits and its gradients."""
    from lightning_fabric import Fabric

    net = build_fresh(Architecture("convnet5", 1, 8, 10, {"width": 8}), seed=0)
    images = torch.rand(6, 1, 8, 8)
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    found = []
    for opened in (open_device("cpu", "bf16").autocast, fabric.autocast):
        with opened():
            logits = net(images)
        gradients = torch.autograd.grad(logits.float().square().sum(), list(net.parameters()))
        found.append((logits, *gradients))
    assert all(torch.equal(own, theirs) for own, theirs in zip(*found, strict=True))


def test_the_plain_cpu_changes_nothing():
    net = nn.Linear(4, 4)
    with PLAIN_CPU.autocast():
        assert PLAIN_CPU.place(net)(torch.rand(2, 4)).dtype == torch.float32


def test_the_memory_layout_changes_no_logits():
    net = build_fresh(Architecture("convnet3", 1, 28, 5, {"width": 4}), seed=0)
    x = torch.rand(3, 1, 28, 28)
    expected = net(x)
    last = Device("cpu", "fp32", channels_last=True)
    placed = last.place(net)
    assert placed.blocks[1][0].weight.is_contiguous(memory_format=torch.channels_last)
    # rounding alone: up to 2e-5 over 300 draws of the images
    torch.testing.assert_close(placed(last.lay_out(x)), expected, atol=1e-4, rtol=1e-5)
    every_other = torch.rand(6, 1, 28, 28)[::2]
    assert torch.equal(PLAIN_CPU.lay_out(every_other), every_other)


def test_isolated_numbers_are_a_function_of_seed_and_name_and_leave_no_trace():
    before = torch.random.get_rng_state()
    draws = []
    for seed, name in ((1, "a"), (1, "a"), (1, "b"), (2, "a")):
        with isolated(seed, name):
            draws.append(torch.rand(3))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[3])
    assert torch.equal(before, torch.random.get_rng_state())
    assert seed_of(1, "a") != seed_of(1, "b")
