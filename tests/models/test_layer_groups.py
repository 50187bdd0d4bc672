import pytest
import torch
from torch import nn

from relearn.errors import HeadNotFoundError, ParameterError
from relearn.models.checkpoint import Architecture, build_fresh
from relearn.models.layer_groups import (
    GROUPS,
    choose_layers,
    group_of_tensor,
    stem_of,
    units_of,
)

TRANSFORMER = {
    "patch_size": 4,
    "width": 16,
    "depth": 3,
    "heads": 2,
    "mlp_ratio": 2.0,
    "stem": "convolution",
    "dropout": 0.0,
}
NETS = {
    "convnet3": {"width": 4},
    "convnet4": {"width": 4},
    "convnet5": {"width": 4},
    "mlp": {"width": 8, "depth": 3},
    "preact_resnet": {"width": 2, "depth": 18},
    "vision_transformer": TRANSFORMER,
    "timm:resnet10t": {},
    "timm:resnet18": {},
}
every_net = pytest.mark.parametrize("name", NETS)


def net(name, **options):
    """One of our nets, or of timm, for colour images of 32 pixels and 5 classes."""
    return build_fresh(Architecture(name, 3, 32, 5, NETS.get(name, {}) | options), seed=0)


def groups(model):
    found = {}
    for unit in units_of(model):
        found.setdefault(unit.group, []).append(unit.name)
    return found


@every_net
def test_every_weight_of_a_layer_stands_in_one_unit(name):
    model = net(name)
    listed = [weight for unit in units_of(model) for weight in unit.weights]
    # the second road: by kind of module instead of by shape
    layers = [n for n, m in model.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    assert sorted(listed) == sorted(f"{layer}.weight" for layer in layers)


@every_net
def test_units_stand_in_the_order_in_which_the_image_reaches_them(name):
    model, reached = net(name).eval(), []
    units = units_of(model)
    for unit in units:
        model.get_submodule(unit.name).register_forward_pre_hook(
            lambda module, inputs, name=unit.name: reached.append(name)
        )
    model(torch.rand(1, 3, 32, 32))
    assert reached == [unit.name for unit in units]


@every_net
def test_groups_follow_each_other_and_the_outer_ones_are_of_one_size(name):
    order = [unit.group for unit in units_of(net(name))]
    assert order == sorted(order, key=GROUPS.index)
    assert order.count("head") == 1
    assert order.count("early") == order.count("late") >= 1


@pytest.mark.parametrize("depth", range(12))
def test_an_outer_group_is_two_fifths_of_the_layers_and_never_takes_from_another(depth):
    order = [unit.group for unit in units_of(net("mlp", depth=depth))]
    assert len(order) == depth + 1
    assert abs(order.count("early") - 0.4 * depth) < 0.5 or depth == 1
    assert order.count("late") == (0 if depth == 1 else order.count("early"))


def test_late_of_an_18_layer_residual_net_is_its_third_and_fourth_stage():
    ours, timms = choose_layers(net("preact_resnet"), "late"), groups(net("timm:resnet18"))
    by_name = choose_layers(net("preact_resnet"), "stages.2+stages.3")
    assert ours["late"] == [*by_name["stages.2"], *by_name["stages.3"]]
    assert timms["late"] == ["layer3.0", "layer3.1", "layer4.0", "layer4.1"]


def test_the_groups_of_the_pilot_net():
    assert groups(net("convnet5")) == {
        "early": ["blocks.0", "blocks.1"],
        "middle": ["blocks.2"],
        "late": ["blocks.3", "blocks.4"],
        "head": ["head"],
    }


def test_a_backbone_in_one_module_is_looked_into():
    class Wrapped(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, images):
            return self.inner(images)

    model = net("preact_resnet")
    plain = units_of(model)
    assert [unit.name for unit in units_of(Wrapped(model))] == [f"inner.{u.name}" for u in plain]
    bare = net("timm:resnet18")
    below = nn.Sequential(bare, nn.ReLU(), nn.Linear(5, 2))
    names = [f"0.{unit.name}" for unit in units_of(bare)]
    assert [unit.name for unit in units_of(below)] == [*names, "2"]


def test_norms_of_any_shape_positions_and_bias_tables_are_no_weights():
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.LayerNorm([2, 6, 6]), nn.Flatten(), nn.Linear(72, 2)
    )
    assert [unit.weights for unit in units_of(model)] == [("0.weight",), ("3.weight",)]
    chosen = choose_layers(net("vision_transformer"), "all")
    assert not {"positions", "class_token"} & {name for names in chosen.values() for name in names}


def test_a_layer_used_twice_is_one_unit():
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(4, 2))
    assert [unit.name for unit in units_of(model)] == ["0", "3"]


def test_the_last_layer_may_be_named():
    model = net("convnet5")
    assert units_of(model, "head") == units_of(model)
    with pytest.raises(HeadNotFoundError, match="did you mean head"):
        units_of(model, "heat")


@every_net
def test_all_is_every_group_and_names_every_weight(name):
    model = net(name)
    chosen = choose_layers(model, "all")
    assert list(chosen) == [group for group in GROUPS if group in groups(model)]
    assert chosen == choose_layers(model, "+".join(chosen))


@every_net
def test_the_group_of_a_tensor_is_the_one_that_chooses_it(name):
    model = net(name)
    for group, weights in choose_layers(model, "all").items():
        assert {group_of_tensor(model, weight) for weight in weights} == {group}
    assert stem_of(model) == units_of(model)[0]


def test_a_module_stands_for_all_weights_inside_it_at_any_depth():
    model = net("preact_resnet")
    chosen = choose_layers(model, "stages.2 + stages.3.1.conv2 + head")
    inside = [f"stages.2.{name}" for name, p in model.stages[2].named_parameters() if p.ndim > 1]
    assert chosen == {
        "stages.2": inside,
        "stages.3.1.conv2": ["stages.3.1.conv2.weight"],
        "head": ["head.weight"],
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lat+head", r"'lat' is not known, did you mean late\? expected all, early, middle"),
        ("stage.2", r"did you mean stages\.2\?"),
        ("norm", r"'norm' has no weights"),
        ("stages.2.0.norm1", "has no weights"),
        ("", "'' is not known, expected all"),
        ("late+", "'' is not known"),
        ("late+late", "names 'late' twice"),
        ("late+stages.3", r"names stages\.3\.0\.conv1\.weight twice, by 'late' and 'stages\.3'"),
        ("head+all", r"names head\.weight twice"),
    ],
)
def test_a_text_that_names_no_layer_or_one_twice_is_refused_in_one_line(text, said):
    with pytest.raises(ParameterError, match=said) as caught:
        choose_layers(net("preact_resnet"), text)
    assert str(caught.value).startswith("forget_relearn.forget.layers: ")
    assert "\n" not in str(caught.value)


def test_a_group_that_a_net_lacks_is_refused_with_the_layers_it_has():
    with pytest.raises(ParameterError, match=r"no layer in group 'middle' .*blocks\.3\.0, head"):
        choose_layers(net("convnet4"), "middle+head")
    with pytest.raises(ParameterError, match=r"'norm\.weight' is no weight of a layer"):
        group_of_tensor(net("preact_resnet"), "norm.weight")
