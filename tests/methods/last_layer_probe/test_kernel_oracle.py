"""Our dual kernels agree with blocks that neural-tangents made (tests/oracle)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from relearn.methods.last_layer_probe.activations import activation_of
from relearn.methods.last_layer_probe.kernel import dual_kernel
from relearn.methods.last_layer_probe.skeleton import ConvLayer, Skeleton

STORED = json.loads(
    (Path(__file__).parents[2] / "oracle" / "neural_tangents_blocks.json").read_text("utf-8")
)
PARAMETERS = {
    "leaky_relu": {"negative_slope": 0.1},
    "gaussian": {"decay": 0.5},
}


def named(case):
    shape = case.get("depth") or f"{case['windows']}{case['strides']}{case['padding']}"
    return f"{case['kind']}-{case['activation']}-{shape}-{case['beta']}"


def skeleton_of(case):
    name = case["activation"]
    activation = activation_of(name, **PARAMETERS.get(name, {}))
    if case["kind"] == "fully_connected":
        return Skeleton.fully_connected(case["depth"], activation, case["beta"])
    layers = [
        ConvLayer(window=window, stride=stride, padding=case["padding"], activation=activation)
        for window, stride in zip(case["windows"], case["strides"], strict=True)
    ]
    return Skeleton.convolutional(layers, (6, 5), beta=case["beta"])


@pytest.mark.parametrize("case", STORED["cases"], ids=named)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_kernels_agree_with_neural_tangents(case, dtype):
    inputs = torch.tensor(case["inputs"], dtype=torch.float64)
    stored = torch.tensor(case["kernel"], dtype=torch.float64)

    ours = dual_kernel(skeleton_of(case), inputs, input_norm="none", dtype=dtype)

    apart = (ours.double() - stored).abs() / stored.max()
    if case["activation"] == "sign":
        # its dual is infinitely steep at 1, where neural-tangents rounds; E sign^2 = 1 is exact
        assert torch.equal(ours.diagonal(), torch.ones_like(ours.diagonal()))
        apart.fill_diagonal_(0)
    assert float(apart.max()) < 1e-5


def test_the_blocks_say_what_made_them():
    assert STORED["versions"].keys() >= {"python", "neural-tangents", "jax", "jaxlib", "tf2jax"}
    assert STORED["made_by"].endswith("make_neural_tangents_blocks.py")
    assert {case["kind"] for case in STORED["cases"]} == {"fully_connected", "convolutional"}
    assert len({case["activation"] for case in STORED["cases"]}) >= 10
