"""Skeletons: wiring, size, depth, digest, configuration, and every way to be none."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from relearn.errors import ParameterError
from relearn.methods.last_layer_probe.activations import activation_of
from relearn.methods.last_layer_probe.skeleton import ConvLayer, Layer, Pool, Skeleton
from relearn.methods.last_layer_probe.skeleton_config import SkeletonConfig
from relearn.methods.last_layer_probe.skeleton_graph import span

RELU, ERF = activation_of("relu"), activation_of("erf")


def layer(name, *inputs, activation=RELU, **options):
    return Layer(name=name, inputs=inputs or ("input",), activation=activation, **options)


def conv(window=3, **options):
    return ConvLayer(window=window, activation=RELU, **options)


def test_size_counts_all_nodes_but_inputs_and_depth_the_longest_path():
    skeleton = Skeleton.convolutional(
        [conv(), conv(stride=2)], (28, 28), pool=Pool(window=2, stride=2), dense=1
    )
    assert skeleton.size == 28 * 28 + 14 * 14 + 7 * 7 + 1
    assert skeleton.depth == 4
    branches = (layer("a"), layer("b", "a"), layer("c", "input", "b"))
    assert Skeleton(branches).depth == 3
    assert Skeleton.fully_connected(5, RELU).size == 5


def test_layers_may_be_declared_in_any_order():
    one = Skeleton((layer("a"), layer("b", "a")))
    other = Skeleton((layer("b", "a"), layer("a")))
    assert [each.name for each in other.layers] == ["a", "b"]
    assert one.digest == other.digest


@pytest.mark.parametrize("length", [5, 6, 9])
@pytest.mark.parametrize("window", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_every_window_sees_something_and_together_they_begin_at_the_first_position(
    length, window, stride
):
    for padding in ("same", "valid", "zeros"):
        found = span(length, window=window, stride=stride, padding=padding)
        seen = [found.seen(output) for output in range(len(found.starts))]
        assert all(len(each) > 0 for each in seen)
        assert 0 in seen[0]
        assert len(seen) == (
            (length - window) // stride + 1 if padding == "valid" else -(-length // stride)
        )


def test_the_digest_follows_everything_but_names():
    plain = Skeleton.convolutional([conv()], (6, 6))
    renamed = Skeleton(
        (layer("other", window=(3, 3)),),
        (6, 6),
    )
    assert plain.digest == renamed.digest
    others = [
        Skeleton.convolutional([conv()], (6, 5)),
        Skeleton.convolutional([conv(2)], (6, 6)),
        Skeleton.convolutional([conv(stride=2)], (6, 6)),
        Skeleton.convolutional([conv(padding="zeros")], (6, 6)),
        Skeleton.convolutional([conv()], (6, 6), beta=0.1),
        Skeleton.convolutional([ConvLayer(window=3, activation=ERF)], (6, 6)),
        Skeleton.convolutional([conv()], (6, 6), dense=1),
        Skeleton((layer("a", positions=((0, 0),)),), (6, 6)),
        Skeleton((layer("a", positions=((0, 1),)),), (6, 6)),
    ]
    digests = {plain.digest, *(other.digest for other in others)}
    assert len(digests) == len(others) + 1


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((), "got none"),
        ((layer("a", "b"), layer("b", "a")), "cyclic, "),
        ((layer("a", "a"),), "cyclic, a -> a"),
        ((layer("a"), layer("b")), "disconnected, nobody sees a, b"),
        ((Layer(name="a", inputs=(), activation=RELU),), "disconnected, the layer sees nothing"),
        ((layer("a"), layer("a")), "two layers are called 'a'"),
        ((layer("input"),), "two layers are called 'input'"),
        ((layer("a", "inpt"),), "did you mean input?"),
        ((layer("a", "input", "input"),), "expected each layer once"),
        ((layer("a", window=(7, 3)),), "layers.a.window: got [7, 3], expected 1 to [6, 5]"),
        ((layer("a", window=(0, 3)),), "layers.a.window"),
        ((layer("a", window=(3, 3), stride=(0, 1)),), "layers.a.stride"),
        ((layer("a", window=(3, 3), positions=((0, 0),)),), "one of both"),
        ((layer("a", positions=((6, 0),)),), "rows 0 to 5"),
        ((layer("a", positions=((1, 0), (1, 0))),), "each position once"),
        ((layer("a", beta=1.5),), "layers.a.beta: got 1.5"),
        (
            (layer("a", window=(3, 3), stride=(2, 2)), layer("b", "a", "input", window=(2, 2))),
            "grids that differ",
        ),
    ],
)
def test_what_is_no_skeleton_is_refused_in_one_line(layers, message):
    with pytest.raises(ParameterError) as refused:
        Skeleton(tuple(layers), (6, 5))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_chains_of_nothing_are_refused():
    with pytest.raises(ParameterError, match="depth: got 0"):
        Skeleton.fully_connected(0, RELU)
    with pytest.raises(ParameterError, match="layers: got none"):
        Skeleton.convolutional([], (6, 6))
    with pytest.raises(ParameterError, match="at least one row"):
        Skeleton.convolutional([conv()], (0, 6))


def config(**changed):
    relu = {"name": "relu"}
    plain = {"window": 3, "stride": 1, "padding": "same", "activation": relu}
    whole = {
        "name": "convolutional",
        "fully_connected": {"depth": 3, "activation": relu, "beta": 0.1},
        "convolutional": {
            "layers": [plain, plain],
            "pool_window": 2,
            "pool_stride": 2,
            "dense": 1,
            "beta": 0.1,
        },
        "graph": {
            "layers": [
                {"name": "low", "window": 3, "activation": relu},
                {"name": "corner", "positions": [[0, 0], [5, 4]], "activation": relu},
                {"name": "top", "inputs": ["low", "corner"], "activation": relu, "beta": 0.5},
            ]
        },
    }
    return SkeletonConfig.model_validate(whole | changed)


def test_a_configuration_gives_the_skeleton_that_python_gives():
    chain = Skeleton.from_config(config(name="fully_connected"), grid=(6, 5))
    assert chain == Skeleton.fully_connected(3, RELU, 0.1)
    grid = Skeleton.from_config(config(), grid=(6, 5))
    assert grid == Skeleton.convolutional(
        [conv(), conv()], (6, 5), pool=Pool(window=2, stride=2), dense=1, beta=0.1
    )
    graph = Skeleton.from_config(config(name="graph"), grid=(6, 5))
    assert graph == Skeleton(
        (
            layer("low", window=(3, 3)),
            layer("corner", positions=((0, 0), (5, 4))),
            layer("top", "low", "corner", beta=0.5),
        ),
        (6, 5),
    )


def test_a_graph_with_a_grid_is_checked_before_anything_runs():
    relu = {"name": "relu"}
    ring = [
        {"name": "a", "inputs": ["b"], "activation": relu},
        {"name": "b", "inputs": ["a"], "activation": relu},
    ]
    with pytest.raises(ValidationError, match="cyclic"):
        config(graph={"layers": ring, "grid": [4, 4]})
    with pytest.raises(ValidationError, match="expected its layers"):
        config(name="graph", graph={"layers": []})
    with pytest.raises(ValidationError, match=r"expected \[height, width\]"):
        config(graph={"layers": [], "grid": [4]})
    with pytest.raises(ValidationError, match=r"expected \[row, column\]"):
        config(graph={"layers": [{"name": "a", "positions": [[1]], "activation": relu}]})


def test_an_unknown_activation_is_refused_with_its_near_miss():
    wrong = {"depth": 1, "activation": {"name": "rleu"}, "beta": 0.0}
    with pytest.raises(ParameterError, match="relu"):
        Skeleton.from_config(config(name="fully_connected", fully_connected=wrong), grid=(1, 1))


def test_the_configuration_is_read_without_torch():
    name = "relearn.methods.last_layer_probe.skeleton_config"
    code = f"import sys, {name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
