"""Knobs of the probe: what is refused, and what arms follow from them."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from tiny_probe import tiny_config

from relearn.errors import ParameterError
from relearn.methods.last_layer_probe.arms import arm_named, arms_of
from relearn.methods.last_layer_probe.bodies_config import numbers_in
from relearn.methods.last_layer_probe.described import skeleton_for
from relearn.methods.last_layer_probe.heads_config import PenaltiesConfig


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"samples__ways": 1}, "ways"),
        ({"samples__validation_images": 0}, "validation_images"),
        ({"samples__classes": "unseen", "samples__train_images": 0}, "train_images"),
        ({"arms__unfrozen": True}, "arms.unfrozen"),
        ({"arms__frozen": True}, "has seen images"),
        ({"arms__random": False, "arms__kernel": False}, "nothing is probed"),
        ({"bodies__fully_connected__widths": "64 64"}, "each once"),
        ({"bodies__fully_connected__depths": "1,3"}, "blanks"),
        ({"bodies__fully_connected__depths": ""}, "expected one"),
        ({"bodies__beta": 1.0}, "beta"),
        ({"curve__parts": "1"}, "2 or more"),
        ({"sensitivity__label_noise": "1.5"}, "below 1"),
        ({"initialisation__betas": "2"}, "betas"),
        ({"heads__ridge": {"lowest": -1.0, "highest": 1.0, "points": 3}}, "greater than 0"),
        ({"heads__ridge": {"lowest": 1.0, "highest": 0.1, "points": 3}}, "above lowest"),
    ],
)
def test_values_that_cannot_be_are_refused(changes, told):
    with pytest.raises(ValidationError, match=told):
        tiny_config(**changes)


def declared_graph(*layers: dict, grid: tuple[int, ...] = ()) -> dict:
    """Return the declaration of a graph; what is not read must stand there all the same."""
    relu = {"name": "relu"}
    return {
        "name": "graph",
        "fully_connected": {"depth": 1, "activation": relu, "beta": 0.0},
        "convolutional": {
            "layers": [{"window": 3, "stride": 1, "padding": "same", "activation": relu}],
            "pool_window": 0,
            "pool_stride": 1,
            "dense": 0,
            "beta": 0.0,
        },
        "graph": {"grid": list(grid), "layers": [{"activation": relu} | one for one in layers]},
    }


@pytest.mark.parametrize("grid", [(), (8, 8)])
def test_a_cyclic_skeleton_is_refused_before_anything_runs(grid):
    first = {"name": "a", "inputs": ["b"], "window": 3}
    graph = declared_graph(first, {"name": "b", "inputs": ["a"], "window": 3}, grid=grid)
    with pytest.raises(ValidationError, match=r"declared\.round\.graph[^/]*layers: cyclic"):
        tiny_config(bodies__declared={"round": graph})
    apart = declared_graph(*({"name": name, "window": 3} for name in "ab"), grid=grid)
    with pytest.raises(ValidationError, match=r"layers: disconnected, nobody sees a, b"):
        tiny_config(bodies__declared={"round": apart})
    fine = declared_graph({"name": "a", "window": 3}, grid=grid)
    with pytest.raises(ValidationError, match="does not begin with"):
        tiny_config(bodies__declared={"fc9": fine})


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        ({"window": 40, "padding": "valid"}, r"layers\.a\.window: got \[40, 40\]"),
        (
            {"window": 3, "activation": {"name": "rleu"}},
            r".*'rleu' .* did you mean relu",
        ),
    ],
)
def test_a_skeleton_that_cannot_be_built_is_named_as_in_the_parameters(layer, told):
    config = tiny_config(bodies__declared={"odd": declared_graph({"name": "a"} | layer)})
    arm = next(arm for arm in arms_of(config).values() if arm.body == "odd")
    with pytest.raises(ParameterError, match=rf"^last_layer_probe\.bodies\.declared\.odd: {told}"):
        skeleton_for(config, arm, side=8)


def test_numbers_come_from_text_in_their_order():
    assert numbers_in("4 2") == (4, 2)
    assert numbers_in("0.5 2", kind=float) == (0.5, 2.0)
    assert numbers_in("") == ()


def test_penalties_rise_geometrically_and_hit_both_ends():
    grid = PenaltiesConfig(lowest=1e-4, highest=1.0, points=5).values
    assert grid == pytest.approx((1e-4, 1e-3, 1e-2, 1e-1, 1.0))
    assert PenaltiesConfig(lowest=0.1, highest=0.1, points=1).values == (0.1,)


def test_the_ladder_goes_from_the_cheapest_rung_to_the_dearest_and_ends_with_controls():
    names = list(arms_of(tiny_config()))
    assert names == [
        "majority",
        "linear",
        "random_fc1_8",
        "random_fc1_64",
        "kernel_fc1",
        "full",
        "noise_body",
        "linear.permuted_labels",
        "kernel_fc1.permuted_labels",
    ]


def test_linear_is_always_there_and_rungs_can_be_left_out():
    few = tiny_config(
        arms__majority=False,
        arms__full=False,
        arms__kernel=False,
        arms__controls=False,
        evidence__sham_arm="",
    )
    assert list(arms_of(few)) == ["linear", "random_fc1_8", "random_fc1_64"]


def test_verdicts_are_validated_in_twelve_cases_or_more():
    arms = arms_of(tiny_config(compare="verdicts")).values()
    assert sum(arm.treated for arm in arms) >= 12
    assert {arm.condition for arm in arms} >= {"plain", "permuted_labels", "noisy_labels"}


def test_skeletons_are_compared_with_permuted_pixels_as_the_control():
    arms = arms_of(tiny_config(compare="skeletons"))
    for name in ("random_fc", "random_conv", "kernel_fc", "kernel_conv", "linear"):
        assert arms[f"{name}.permuted_pixels"].condition == "permuted_pixels"
        assert arms[name].condition == "plain"


def test_activations_and_first_weights_vary_one_thing_at_equal_width():
    config = tiny_config(compare="activations")
    random = [a for a in arms_of(config).values() if a.kind == "random"]
    assert {(a.replicas, a.body) for a in random} == {(16, "fc2")}
    assert [a.activation for a in random] == ["relu", "erf"]
    sweep = arms_of(tiny_config(compare="initialisation"))
    assert sweep["random_gain_1"].gain == 1
    assert sweep["random_beta_0.3"].beta == 0.3


def test_an_evidence_arm_that_is_not_switched_on_is_named():
    with pytest.raises(ParameterError, match="did you mean kernel_fc1"):
        arms_of(tiny_config(evidence__treated_arm="kernel_fc2"))
    with pytest.raises(ParameterError, match="did you mean full"):
        arm_named(tiny_config(), "ful")
