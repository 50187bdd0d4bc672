import pytest
import torch
from torch import nn

from relearn.errors import HeadNotFoundError, ParameterError
from relearn.models.checkpoint import Architecture, build_fresh
from relearn.models.heads import extend_head, features, find_head, replace_head


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def torchvision_net(name):
    import torchvision

    settings = {"aux_logits": True} if name in ("inception_v3", "googlenet") else {}
    return torchvision.models.get_model(name, weights=None, num_classes=7, **settings)


def timm_net(name):
    import timm

    return timm.create_model(name, pretrained=False, num_classes=7)


FEW = [
    (torchvision_net, "resnet18", "fc"),
    (torchvision_net, "squeezenet1_1", "classifier.1"),
    (torchvision_net, "mobilenet_v3_small", "classifier.3"),
    (timm_net, "resnet10t", "fc"),
]
MANY = [
    (torchvision_net, "vgg11", "classifier.6"),
    (torchvision_net, "alexnet", "classifier.6"),
    (torchvision_net, "vit_b_16", "heads.head"),
    (torchvision_net, "densenet121", "classifier"),
    (torchvision_net, "googlenet", "fc"),
    (torchvision_net, "inception_v3", "fc"),
    (torchvision_net, "swin_t", "head"),
    (torchvision_net, "convnext_tiny", "classifier.2"),
    (torchvision_net, "efficientnet_b0", "classifier.1"),
    (torchvision_net, "regnet_y_400mf", "fc"),
    (torchvision_net, "shufflenet_v2_x0_5", "fc"),
    (torchvision_net, "mnasnet0_5", "classifier.1"),
    (timm_net, "vit_tiny_patch16_224", "head"),
    (timm_net, "convnext_atto", "head.fc"),
    (timm_net, "mobilenetv3_small_050", "classifier"),
    (timm_net, "efficientnet_lite0", "classifier"),
    (timm_net, "resnetv2_50", "head.fc"),
    (timm_net, "swin_tiny_patch4_window7_224", "head.fc"),
    (timm_net, "mixer_s32_224", "head"),
    (timm_net, "vgg11", "head.fc"),
    (timm_net, "regnetx_002", "head.fc"),
]


def assert_is_last_layer(net, name, *, size):
    """With weights 0 and biases 0, 1, 2, ... the logits of any image are those biases."""
    head = find_head(net)
    assert (head.name, head.classes) == (name, 7)
    with torch.no_grad():
        head.module.weight.zero_()
        head.module.bias.copy_(torch.arange(7.0))
        assert torch.equal(net.eval()(torch.rand(1, 3, size, size)), torch.arange(7.0)[None])


@pytest.mark.parametrize(("make", "name", "layer"), FEW)
def test_the_last_layer_is_found_by_itself(make, name, layer):
    assert_is_last_layer(make(name), layer, size=64)


@pytest.mark.full
@pytest.mark.parametrize(("make", "name", "layer"), MANY)
def test_the_last_layer_of_many_architectures_is_found_by_itself(make, name, layer):
    assert_is_last_layer(make(name), layer, size=224)


def small_net():
    return build_fresh(Architecture("convnet3", 1, 28, 5, {"width": 4}), seed=0)


def test_a_layer_can_be_named():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2), nn.LayerNorm(2))
    assert find_head(net, "2").module is net[2]


def test_a_net_that_does_not_end_in_a_linear_layer_is_refused_with_candidates():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2), nn.LayerNorm(2))
    with pytest.raises(HeadNotFoundError, match=r"ends in '3'.*possible last layers: 0, 2"):
        find_head(net)


def test_a_backbone_without_head_is_refused():
    net = torchvision_net("resnet18")
    net.fc = nn.Identity()
    with pytest.raises(HeadNotFoundError, match=r"ends in 'layer4\.1\.bn2'"):
        find_head(net)
    bare = timm_net("resnet10t")
    bare.reset_classifier(0)
    with pytest.raises(HeadNotFoundError, match="get_classifier gives Identity"):
        find_head(bare)


def test_an_unknown_name_suggests_the_near_miss():
    with pytest.raises(HeadNotFoundError, match="no layer is called 'heda', did you mean head"):
        find_head(small_net(), "heda")


def test_a_layer_of_the_wrong_kind_is_refused():
    with pytest.raises(HeadNotFoundError, match=r"'blocks\.0\.0' is a Conv2d, expected a Linear"):
        find_head(small_net(), "blocks.0.0")


def test_a_head_that_shares_its_weights_is_refused():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(7, 3)
            self.head = nn.Linear(3, 7)
            self.head.weight = self.embedding.weight

    with pytest.raises(HeadNotFoundError, match=r"shared with 'embedding\.weight'"):
        find_head(Tied())


def test_features_are_what_the_last_layer_reads():
    net, x = small_net().eval(), torch.rand(3, 1, 28, 28)
    found = features(net, x)
    assert found.shape == (3, find_head(net).features)
    torch.testing.assert_close(net.head(found), net(x))
    assert not net.head._forward_pre_hooks


def test_features_of_a_convolutional_head_give_its_mean_logits():
    net = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 1))
    x = torch.rand(2, 1, 8, 8)
    found = features(net, x)
    logits = found @ net[2].weight.flatten(1).T + net[2].bias
    torch.testing.assert_close(logits, net(x).mean((2, 3)))


def test_replacing_the_head_leaves_every_other_bit():
    net = small_net()
    before = {k: v.clone() for k, v in net.state_dict().items() if not k.startswith("head")}
    head = replace_head(net, 9, initialisation="kaiming", generator=generator())
    assert head.module is net.head
    assert net(torch.rand(1, 1, 28, 28)).shape == (1, 9)
    assert all(torch.equal(net.state_dict()[k], v) for k, v in before.items())


@pytest.mark.parametrize(
    ("initialisation", "deviation"),
    [("zero", 0.0), ("kaiming", (2 / 400) ** 0.5), ("torch_default", (1 / 1200) ** 0.5)],
)
def test_a_fresh_head_has_the_scale_of_its_initialisation(initialisation, deviation):
    net = nn.Sequential(nn.Linear(400, 2))
    head = replace_head(net, 300, initialisation=initialisation, generator=generator())
    assert float(head.module.weight.detach().std()) == pytest.approx(deviation, rel=0.01)
    again = replace_head(net, 300, initialisation=initialisation, generator=generator())
    assert torch.equal(head.module.weight, again.module.weight)


def test_an_unknown_initialisation_is_refused():
    with pytest.raises(ParameterError, match="did you mean kaiming"):
        replace_head(small_net(), 3, initialisation="kaming", generator=generator())


@pytest.mark.parametrize("kind", ["linear", "convolution", "without bias"])
def test_an_extended_head_gives_the_old_logits_beside_the_new(kind):
    last = {
        "linear": nn.Linear(6, 4),
        "convolution": nn.Conv2d(6, 4, 1),
        "without bias": nn.Linear(6, 4, bias=False),
    }[kind]
    net = nn.Sequential(nn.Identity(), last)
    x = torch.randn(2, 6, 1, 1) if kind == "convolution" else torch.randn(2, 6)
    before, rows = net(x), last.weight.detach().clone()
    head = extend_head(net, 3, generator=generator())
    assert torch.equal(head.module.weight[:4], rows)
    assert torch.equal(net(x)[:, :4], before)
    assert net(x).shape[1] == 7


def test_timm_is_told_of_the_new_number_of_classes():
    net = timm_net("resnet10t")
    extend_head(net, 3, generator=generator())
    assert net.num_classes == 10
    assert net.eval()(torch.rand(1, 3, 32, 32)).shape == (1, 10)
