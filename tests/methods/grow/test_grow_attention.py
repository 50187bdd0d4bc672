"""Transformers: heads are copied whole, normalised streams by whole factors or with padding."""

from __future__ import annotations

import pytest
import timm
import torch
from grow_nets import off, randomised
from torch import Tensor, nn
from torchvision.models import VisionTransformer

from relearn.methods.grow import apply, plan, verify
from relearn.methods.grow.spec import SYMMETRY, GrowthSpec

IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def vision_transformer() -> nn.Module:
    torch.manual_seed(0)
    net = VisionTransformer(32, 8, 2, 4, 48, 96, num_classes=7)
    nn.init.normal_(net.heads.head.weight, std=0.2)
    return randomised(net, seed=0).eval()


class RootMeanSquare(nn.Module):
    """Pre-normalised blocks with RMSNorm, gated linear units and a learned scale."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Linear(5, 12)
        self.norms = nn.ModuleList(nn.RMSNorm(12, eps=1e-3) for _ in range(2))
        self.up = nn.ModuleList(nn.Linear(12, 16) for _ in range(2))
        self.down = nn.ModuleList(nn.Linear(8, 12) for _ in range(2))
        self.last = nn.RMSNorm(12, eps=1e-3)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.start(x)
        for norm, up, down in zip(self.norms, self.up, self.down, strict=True):
            gate, value = up(norm(x)).chunk(2, -1)
            x = x + down(nn.functional.silu(gate) * value)
        return self.head(self.last(x))


@pytest.mark.parametrize("width", [1.25, 1.5, 2.0, 2.5])
@pytest.mark.parametrize("symmetry", [s for s in SYMMETRY if s != "noise"])
def test_a_vision_transformer_grows_by_any_factor(width: float, symmetry: str) -> None:
    teacher = vision_transformer()

    planned = plan(teacher, IMAGES, GrowthSpec(width=width, symmetry=symmetry))
    student, record = apply(teacher, planned, seed=0)

    assert [r.group for r in planned.refusals] == ["heads.head"]
    assert student.hidden_dim == round(48 * width) == student.conv_proj.out_channels
    assert student.encoder.layers[0].self_attention.num_heads == round(4 * width)
    assert verify(teacher, student, IMAGES, record=record).passed


def test_naive_epsilon_or_gain_of_a_padded_norm_would_not_pass() -> None:
    teacher = vision_transformer()
    planned = plan(teacher, IMAGES, GrowthSpec(width=1.5))
    for attribute in ("eps", "weight"):
        student, record = apply(teacher, planned, seed=0)
        norm = student.encoder.ln
        if attribute == "eps":
            norm.eps = 1e-3
        else:
            with torch.no_grad():
                norm.weight.mul_(1.001)
        assert not verify(teacher, student, IMAGES, record=record, strict=False).passed


@pytest.mark.parametrize("width", [1.25, 1.5, 2.0])
def test_root_mean_square_norm_and_gated_units_grow(width: float) -> None:
    torch.manual_seed(0)
    teacher = randomised(RootMeanSquare(), seed=1).eval()
    x = torch.randn(4, 6, 5)

    planned = plan(teacher, x, GrowthSpec(width=width))
    student, record = apply(teacher, planned, seed=0)

    assert all(g.grows for g in planned.groups)
    assert student.last.normalized_shape == (round(12 * width),)
    assert verify(teacher, student, x, record=record).passed


def test_heads_alone_can_grow_where_the_forward_allows() -> None:
    torch.manual_seed(0)
    teacher = timm.create_model("vit_tiny_patch16_224", img_size=32, depth=2, num_classes=5)
    nn.init.normal_(teacher.head.weight, std=0.2)
    teacher.eval()

    planned = plan(teacher, IMAGES, GrowthSpec(groups={"blocks.0.mlp.fc1": 1.5}))
    student, _ = apply(teacher, planned, seed=0)

    assert student.blocks[0].mlp.fc1.out_features == 1152
    assert student.blocks[1].mlp.fc1.out_features == 768
    assert off(teacher.double(), student.double(), IMAGES.double()) <= 1e-12


def test_attention_weights_that_are_handed_out_keep_the_heads_single() -> None:
    class Shows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.head = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            mixed, weights = self.attention(x, x, x)
            return self.head(mixed) + weights.sum()

    planned = plan(Shows(), torch.zeros(2, 5, 8), GrowthSpec(width=2.0))

    refusal = next(r for r in planned.refusals if r.group == "attention")
    assert "averaged over heads" in refusal.reason


def test_an_encoder_layer_of_torch_with_norm_last_needs_a_whole_factor() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, norm_first=False)
    teacher = randomised(nn.Sequential(nn.Linear(4, 8), layer, nn.Linear(8, 3)), seed=0).eval()
    x = torch.randn(2, 5, 4)

    for width, grows in ((1.5, {"1.linear1"}), (2.0, {"0", "1.self_attn", "1.linear1"})):
        planned = plan(teacher, x, GrowthSpec(width=width))
        student, record = apply(teacher, planned, seed=0)
        assert {g.name for g in planned.groups if g.grows} == grows
        assert verify(teacher, student, x, record=record).passed
