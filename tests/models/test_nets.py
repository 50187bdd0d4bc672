from itertools import pairwise

import pytest
import torch
from torch import nn

from relearn.errors import ParameterError
from relearn.models.checkpoint import Architecture, build_fresh
from relearn.models.config import DEPTHS, ModelConfig
from relearn.models.preact_resnet import _STAGES, PreactResNet

TRANSFORMER = {
    "patch_size": 4,
    "width": 16,
    "depth": 2,
    "heads": 2,
    "mlp_ratio": 2.0,
    "stem": "patch",
    "dropout": 0.0,
}
NETS = {
    "convnet3": {"width": 8},
    "convnet4": {"width": 8},
    "convnet5": {"width": 4},
    "mlp": {"width": 8, "depth": 2},
    "preact_resnet": {"width": 4, "depth": 14},
    "vision_transformer": TRANSFORMER,
}
BLOCKS = {
    "convnet": {"width": 32},
    "mlp": {"width": 64, "depth": 1},
    "preact_resnet": {"width": 16, "depth": 18},
    "vision_transformer": TRANSFORMER,
}


def architecture(name, *, channels=1, size=28, classes=5, **options):
    return Architecture(name, channels, size, classes, NETS.get(name, {}) | options)


def model_config(**changes):
    given = {"name": "convnet3", "weights": "none", "weights_path": "", "head": "", **BLOCKS}
    return ModelConfig.model_validate(given | changes)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 32)])
def test_every_net_takes_grey_and_colour_images_and_gives_a_logit_a_class(name, channels, size):
    net = build_fresh(architecture(name, channels=channels, size=size), seed=0)
    assert net(torch.rand(2, channels, size, size)).shape == (2, 5)


@pytest.mark.parametrize("name", NETS)
def test_weights_are_a_function_of_the_seed_and_global_numbers_stay(name):
    before = torch.random.get_rng_state()
    first, again, other = (build_fresh(architecture(name), seed=s) for s in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)
    )
    assert any(
        not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True)
    )


@pytest.mark.parametrize("name", NETS)
def test_every_parameter_gets_a_gradient(name):
    net = build_fresh(architecture(name), seed=0)
    net(torch.rand(4, 1, 28, 28)).square().sum().backward()
    missing = [n for n, p in net.named_parameters() if p.grad is None]
    assert missing == []


def test_convnet3_of_the_paper_has_its_feature_size_and_parameter_count():
    # official code, sanml with 256 channels and 1000 logits: 2304 features, 3.49 million numbers
    net = build_fresh(architecture("convnet3", classes=1000, width=256), seed=0)
    assert net.head.in_features == 2304
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 2) == 3.49


def test_convnet4_of_the_paper_has_its_feature_size():
    net = build_fresh(architecture("convnet4", channels=3, size=84, width=256), seed=0)
    assert net.head.in_features == 6400


@pytest.mark.parametrize("size", [4, 5, 8, 28])
def test_convnet5_halves_the_map_twice_and_takes_images_of_any_size(size):
    net = build_fresh(architecture("convnet5", size=size, width=4), seed=0)
    maps = net.blocks(torch.rand(2, 1, size, size))
    assert maps.shape == (2, 16, -(-size // 4), -(-size // 4))
    assert net(torch.rand(2, 1, size, size)).shape == (2, 5)


def test_convnet5_has_the_weights_of_its_five_convolutions_and_one_linear_layer():
    net = build_fresh(architecture("convnet5", channels=3, width=16, classes=10), seed=0)
    sides = (3, 16, 16, 32, 64, 64)
    convolutions = sum(9 * a * b for a, b in pairwise(sides))
    norms = sum(2 * b for b in sides[1:])
    count = sum(p.numel() for p in net.parameters())
    assert count == convolutions + norms + 64 * 10 + 10


def test_group_norm_of_single_channels_is_instance_norm():
    group, instance = nn.GroupNorm(6, 6).double(), nn.InstanceNorm2d(6, affine=True).double()
    with torch.no_grad():
        for a, b in zip(group.parameters(), instance.parameters(), strict=True):
            a.copy_(torch.randn(6))
            b.copy_(a)
    x = torch.randn(4, 6, 5, 7, dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_(True)
    ours, theirs = group(x), instance(y)
    torch.testing.assert_close(ours, theirs)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    torch.testing.assert_close(group.weight.grad, instance.weight.grad)


@pytest.mark.parametrize(("name", "smallest"), [("convnet3", 22), ("convnet4", 16)])
def test_an_image_too_small_for_the_net_is_refused_with_the_smallest_that_fits(name, smallest):
    build_fresh(architecture(name, size=smallest), seed=0)(torch.rand(2, 1, smallest, smallest))
    with pytest.raises(ParameterError, match=rf"data\.image\.size: 8 .* use {smallest} or more"):
        build_fresh(architecture(name, size=8), seed=0)


@pytest.mark.parametrize("depth", DEPTHS)
def test_a_residual_net_has_the_depth_that_was_asked_for(depth):
    net = PreactResNet(in_channels=1, classes=2, width=1, depth=depth)
    weighted = [
        m
        for m in net.modules()
        if isinstance(m, nn.Linear) or getattr(m, "kernel_size", 0) == (3, 3)
    ]
    assert len(weighted) == depth
    assert set(DEPTHS) == set(_STAGES)


def test_a_residual_block_without_convolutions_is_the_identity():
    net = build_fresh(architecture("preact_resnet"), seed=0)
    block = net.stages[0][1]
    nn.init.zeros_(block.conv2.weight)
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(block(x), x)


def test_attention_is_the_written_formula():
    block = build_fresh(architecture("vision_transformer"), seed=0).blocks[0].attention
    tokens = torch.randn(2, 5, 16)
    q, k, v = block.qkv(tokens).view(2, 5, 3, 2, 8).unbind(2)
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / 8**0.5
    mixed = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v).reshape(2, 5, 16)
    torch.testing.assert_close(block(tokens), block.projection(mixed))


def test_a_convolutional_stem_gives_as_many_tokens_as_patches():
    grids = [
        build_fresh(architecture("vision_transformer", stem=stem), seed=0).stem(
            torch.rand(1, 1, 28, 28)
        )
        for stem in ("patch", "convolution")
    ]
    assert grids[0].shape == grids[1].shape == (1, 16, 7, 7)


def test_the_pooled_stem_gives_five_by_five_tokens_and_its_statistics_rest_once_frozen():
    net = build_fresh(architecture("vision_transformer", stem="pooled"), seed=0).train()
    images = torch.rand(8, 1, 28, 28)
    assert net.stem(images).shape == (8, 16, 5, 5)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    moved = [norm.running_mean.clone() for norm in norms]
    assert all(mean.abs().sum() > 0 for mean in moved)
    net.stem.requires_grad_(False)
    maps = net.stem(images)
    assert all(torch.equal(n.running_mean, m) for n, m in zip(norms, moved, strict=True))
    torch.testing.assert_close(maps, net.eval().stem(images))


def test_an_image_too_small_for_the_pooled_stem_is_refused():
    with pytest.raises(ParameterError, match=r"patch_size: 8 is too much .* images of 12 pixels"):
        build_fresh(
            architecture("vision_transformer", size=12, stem="pooled", patch_size=8), seed=0
        )


def test_patches_that_do_not_divide_the_image_are_refused():
    with pytest.raises(ParameterError, match="patch_size: 5 does not divide the image of 28"):
        build_fresh(architecture("vision_transformer", patch_size=5), seed=0)


def test_an_unknown_net_is_refused_with_a_near_miss():
    with pytest.raises(ParameterError, match="did you mean convnet3"):
        build_fresh(architecture("convnet_3"), seed=0)
    with pytest.raises(ValueError, match="did you mean convnet3"):
        model_config(name="convnet_3")


def test_options_of_another_net_are_refused():
    with pytest.raises(ParameterError, match=r"options .* do not fit the net"):
        build_fresh(Architecture("mlp", 1, 28, 5, {"widht": 3}), seed=0)


def test_the_name_chooses_the_block_of_options():
    assert model_config(name="convnet4").options() == {"width": 32}
    assert model_config(name="convnet5").options() == {"width": 32}
    assert model_config(name="mlp").options() == {"width": 64, "depth": 1}
    assert model_config(name="timm:resnet18").options() == {}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights": "timm"}, "weights: timm has none for name: convnet3"),
        ({"weights": "file"}, "weights_path: got ''"),
        ({"weights_path": "x.pt"}, "a path belongs to weights: file"),
        ({"name": "timm:"}, "'timm:' is not known"),
        ({"vision_transformer": TRANSFORMER | {"heads": 3}}, "expected a multiple of heads=3"),
        (
            {"vision_transformer": TRANSFORMER | {"stem": "convolution", "patch_size": 6}},
            "expected a power of two",
        ),
        (
            {"vision_transformer": TRANSFORMER | {"stem": "pooled", "patch_size": 1}},
            "expected a power of two from 2 on",
        ),
    ],
)
def test_model_parameters_that_do_not_go_together_are_refused(changes, said):
    with pytest.raises(ValueError, match=said):
        model_config(**changes)


def test_a_net_of_timm_is_built_for_our_images():
    net = build_fresh(Architecture("timm:resnet10t", 1, 32, 7), seed=0)
    assert net(torch.rand(2, 1, 32, 32)).shape == (2, 7)
    net = build_fresh(Architecture("timm:vit_tiny_patch16_224", 3, 32, 7), seed=0)
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 7)


def test_an_unknown_net_of_timm_is_refused_with_a_near_miss():
    with pytest.raises(ParameterError, match="timm has no net 'resnet18x', did you mean resnet"):
        build_fresh(Architecture("timm:resnet18x", 1, 32, 7), seed=0)


def test_weights_that_cannot_be_fetched_are_one_line(monkeypatch):
    import timm

    from relearn.errors import CheckpointError
    from relearn.models.weights import start_net

    def offline(*args, **kwargs):
        raise OSError("We couldn't connect to 'https://huggingface.co'\nlong story")

    monkeypatch.setattr(timm, "create_model", offline)
    net = Architecture("timm:resnet18", 3, 32, 7)
    with pytest.raises(CheckpointError, match=r"could not be fetched .* weights: file") as caught:
        start_net(net, weights="timm", seed=0)
    assert "\n" not in str(caught.value)
