"""Random networks, streamed features and landmarks against the dual kernel; forecasts."""

from __future__ import annotations

import pytest
import torch

from relearn.errors import DataError, ParameterError
from relearn.methods.last_layer_probe import kernel_memory, random_layer
from relearn.methods.last_layer_probe.activations import activation_of
from relearn.methods.last_layer_probe.kernel import dual_kernel
from relearn.methods.last_layer_probe.kernel_memory import (
    StreamSizes,
    forecast,
    free_memory,
    stream_bytes,
)
from relearn.methods.last_layer_probe.network import random_network
from relearn.methods.last_layer_probe.nystrom import nystrom_features, nystrom_map
from relearn.methods.last_layer_probe.random_features import empirical_kernel, stream_features
from relearn.methods.last_layer_probe.skeleton import ConvLayer, Layer, Pool, Skeleton

RELU, GELU = activation_of("relu"), activation_of("gelu")
GRID = (5, 4)


def layer(name, *inputs, activation=RELU, **options):
    return Layer(name=name, inputs=inputs, activation=activation, **options)


SKELETONS = {
    "chain": Skeleton.fully_connected(2, GELU, 0.2),
    "conv": Skeleton.convolutional(
        [ConvLayer(window=3, activation=RELU), ConvLayer(window=2, activation=GELU, stride=2)],
        GRID,
        pool=Pool(window=2, stride=1),
        dense=1,
        beta=0.1,
    ),
    "zeros": Skeleton.convolutional(
        [
            ConvLayer(window=3, activation=RELU, padding="zeros"),
            ConvLayer(window=2, activation=RELU, padding="valid"),
        ],
        GRID,
    ),
    "graph": Skeleton(
        (
            layer("a", "input", activation=GELU, window=(3, 2)),
            layer("b", "a", "input", window=(2, 3), stride=(2, 2), beta=0.3),
            layer("c", "input", positions=((0, 0), (3, 3))),
            layer("d", "b", "c"),
        ),
        GRID,
    ),
}
every_skeleton = pytest.mark.parametrize("name", SKELETONS)


def images(n=5):
    return torch.rand(n, 2, *GRID, generator=torch.Generator().manual_seed(0))


def features(skeleton, x, *, replicas, seed=0, **options):
    (found,) = stream_features(skeleton, [x], replicas=replicas, seed=seed, **options)
    return found


@every_skeleton
@pytest.mark.parametrize("norm", ["pair", "none"])
def test_the_empirical_kernel_is_the_dual_kernel_on_average(name, norm):
    skeleton, x, replicas = SKELETONS[name], images(3), 256
    dual = dual_kernel(skeleton, x, input_norm=norm, dtype=torch.float64)
    drawn = []
    for seed in range(40):
        found = features(skeleton, x, replicas=replicas, seed=seed, input_norm=norm).double()
        drawn.append(empirical_kernel(found, found, replicas=replicas))
    every = torch.stack(drawn)
    error = every.std(dim=0) / len(drawn) ** 0.5
    # width 256 leaves a bias of order depth / 256 in deep layers, far below the error here
    assert float(((every.mean(dim=0) - dual) / error).abs().max()) < 4.5
    assert float((error / dual).max()) < 0.06


def test_the_distance_to_the_dual_kernel_falls_with_the_root_of_the_width():
    skeleton, x = Skeleton.fully_connected(1, RELU), torch.randn(60, 20)
    dual = dual_kernel(skeleton, x)
    widths, logs = (64, 256, 1024, 4096), []
    for width in widths:
        apart = []
        for seed in range(4):
            found = features(skeleton, x, replicas=width, seed=seed)
            apart.append((empirical_kernel(found, found, replicas=width) - dual).square().mean())
        logs.append(float(torch.stack(apart).mean().sqrt().log()))
    steps = torch.tensor(widths, dtype=torch.float64).log()
    steps -= steps.mean()
    slope = float((steps * torch.tensor(logs)).sum() / steps.square().sum())
    assert -0.6 < slope < -0.4


@every_skeleton
def test_streamed_features_are_the_bodys_whatever_the_chunk(name):
    skeleton, x = SKELETONS[name], images(7)
    network = random_network(skeleton, replicas=150, inputs_shape=(2, *GRID), seed=3, classes=4)
    body = network.body(x).detach()

    assert body.shape == (7, 150 * skeleton.outputs)
    for chunk in (1_000, 64, 37):
        batches = stream_features(skeleton, x.split(3), replicas=150, seed=3, chunk=chunk)
        assert torch.allclose(torch.cat(list(batches)), body, atol=1e-5)


def test_streaming_never_holds_more_weights_than_a_chunk(monkeypatch):
    asked = []
    draw = random_layer.RandomLayer.draw

    def watched(self, rows, *, seed):
        asked.append(len(rows))
        return draw(self, rows, seed=seed)

    monkeypatch.setattr(random_layer.RandomLayer, "draw", watched)
    features(SKELETONS["conv"], images(), replicas=100, chunk=16)
    assert max(asked) == 16
    assert sum(asked) == 100 * len(SKELETONS["conv"].layers)


def test_features_are_drawn_one_batch_at_a_time():
    taken = []

    def batches():
        for number in range(3):
            taken.append(number)
            yield images(2)

    stream = stream_features(SKELETONS["chain"], batches(), replicas=4, seed=0)
    next(stream)
    assert taken == [0]


def test_equal_seeds_give_equal_bits_and_others_other_networks():
    x = images()
    one, same, other = (
        random_network(SKELETONS["conv"], replicas=8, inputs_shape=(2, *GRID), seed=seed, classes=3)
        for seed in (1, 1, 2)
    )
    torch.manual_seed(123)
    assert torch.equal(one.body(x), same.body(x))
    assert not torch.equal(one.body(x), other.body(x))


def test_a_zero_head_says_nothing_and_another_has_scores_of_variance_one():
    x = images(4)
    options = {"replicas": 512, "inputs_shape": (2, *GRID), "classes": 2000, "input_norm": "pair"}
    silent = random_network(SKELETONS["conv"], seed=0, **options)
    loud = random_network(SKELETONS["conv"], seed=0, zero_head=False, **options)
    assert torch.equal(silent(x), torch.zeros(4, 2000))
    assert float(loud(x).detach().var()) == pytest.approx(1, abs=0.25)


@every_skeleton
def test_every_layer_has_mean_square_one_on_unit_inputs(name):
    skeleton = SKELETONS[name]
    network = random_network(
        skeleton, replicas=1024, inputs_shape=(2, *GRID), seed=0, classes=1, input_norm="pair"
    )
    squares = []
    for module in network.body.layers:
        module.register_forward_hook(lambda *call: squares.append(call[2].square().mean()))
    with torch.no_grad():
        network.body(images(4))
    expected = 1.0 if name != "zeros" else None
    assert len(squares) == len(skeleton.layers)
    assert expected is None or all(float(s) == pytest.approx(1, abs=0.2) for s in squares)


def network_of(name):
    return random_network(
        SKELETONS[name], replicas=4, inputs_shape=(2, *GRID), seed=0, classes=3, zero_head=False
    )


@every_skeleton
def test_a_network_can_be_trained(name):
    network = network_of(name)
    network(images(4)).logsumexp(dim=1).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters())


@pytest.mark.full
@every_skeleton
def test_a_network_can_be_exported_for_batches_of_any_size(name):
    network = network_of(name)
    count = torch.export.Dim("count", min=2, max=64)
    exported = torch.export.export(network, (images(4),), dynamic_shapes=({0: count},))
    assert torch.allclose(exported.module()(images(9)), network(images(9)), atol=1e-5)


@every_skeleton
def test_landmarks_everywhere_give_the_kernel_itself(name):
    skeleton, x = SKELETONS[name], images(12)
    exact = dual_kernel(skeleton, x, dtype=torch.float64)
    found = nystrom_features(skeleton, x, landmarks=12, seed=0, dtype=torch.float64)
    assert torch.allclose(found @ found.T, exact, atol=1e-9)


def test_more_landmarks_are_never_worse_and_the_rest_is_positive():
    x = torch.randn(60, 10, dtype=torch.float64)
    skeleton = Skeleton.fully_connected(2, RELU)
    exact = dual_kernel(skeleton, x, dtype=torch.float64)
    left = []
    for landmarks in (5, 20, 50):
        found = nystrom_features(skeleton, x, landmarks=landmarks, seed=1, dtype=torch.float64)
        assert found.shape == (60, landmarks)
        rest = exact - found @ found.T
        assert float(torch.linalg.eigvalsh(rest)[0]) > -1e-9
        left.append(float(rest.trace()))
    assert left == sorted(left, reverse=True)


def test_repeated_inputs_make_no_singular_landmarks():
    x = torch.randn(5, 10).repeat(4, 1)
    found = nystrom_map(Skeleton.fully_connected(1, RELU), x, landmarks=20, seed=0)
    assert found.root.shape[1] == 5
    kernel = dual_kernel(Skeleton.fully_connected(1, RELU), x)
    assert torch.allclose(found.features(x) @ found.features(x).T, kernel, atol=1e-3)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda s, x: features(s, x, replicas=0), "replicas: got 0"),
        (lambda s, x: features(s, x, replicas=2, chunk=0), "chunk: got 0"),
        (lambda s, x: features(s, 0 * x, replicas=2), "zero norm"),
        (lambda s, x: nystrom_map(s, x, landmarks=6, seed=0), "landmarks: got 6, expected 1 to 5"),
        (lambda s, x: nystrom_map(s, x, landmarks=0, seed=0), "landmarks: got 0"),
        (lambda s, x: forecast(s, 0, dimension=40), "got 0 and 0 inputs"),
        (
            lambda s, x: random_network(s, replicas=2, inputs_shape=(2, *GRID), seed=0, classes=0),
            "classes: got 0",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(ask, message):
    with pytest.raises((DataError, ParameterError)) as refused:
        ask(SKELETONS["chain"], images())
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_kernel_too_large_for_memory_is_refused_with_the_roads_that_fit():
    found = forecast(SKELETONS["chain"], 50_000, 10_000, dimension=3072, limit=8_000_000_000)
    assert found.fitting == ("nystrom", "random_features")
    with pytest.raises(ParameterError) as refused:
        found.require("exact")
    assert "exact needs 43" in str(refused.value)
    assert "nystrom (" in str(refused.value)
    assert "cholesky (" not in str(refused.value)
    found.require("nystrom")
    with pytest.raises(ParameterError, match="did you mean exact"):
        found.require("exct")
    nothing = forecast(SKELETONS["chain"], 50_000, dimension=3072, limit=1000)
    with pytest.raises(ParameterError, match="expected fewer inputs"):
        nothing.require("nystrom")


def test_a_kernel_is_not_even_begun_where_it_does_not_fit(monkeypatch):
    monkeypatch.setattr(kernel_memory, "free_memory", lambda: 2_000_000_000)
    many = torch.ones(1, 3).expand(60_000, 3)
    with pytest.raises(ParameterError) as refused:
        dual_kernel(SKELETONS["chain"], many)
    assert "60000 x 60000 values need 14.7 GB, 1.8 GB may be used" in str(refused.value)
    assert "nystrom (" in str(refused.value)


def test_what_may_be_used_follows_the_machine(monkeypatch):
    monkeypatch.setattr(kernel_memory, "free_memory", lambda: 10_000)
    assert forecast(SKELETONS["chain"], 5, dimension=3).limit == 9_000
    monkeypatch.undo()
    assert free_memory() > 1 << 20


def test_forecasts_do_not_depend_on_the_number_of_streamed_inputs_but_on_all_else():
    skeleton = SKELETONS["conv"]
    plain = stream_bytes(skeleton, dimension=40, replicas=256, batch=100)
    assert stream_bytes(skeleton, dimension=40, replicas=512, batch=100) > plain
    assert stream_bytes(skeleton, dimension=40, replicas=256, batch=200) > plain
    assert stream_bytes(skeleton, dimension=40, replicas=256, batch=100, chunk=512) > plain
    few, many = (
        forecast(skeleton, n, dimension=40, stream=StreamSizes(replicas=16))
        for n in (1000, 100_000)
    )
    assert few.bytes["random_features"] == many.bytes["random_features"]
    wide = forecast(skeleton, 1000, dimension=40, dtype=torch.float64)
    assert wide.bytes["exact"] > few.bytes["exact"]
    assert few.kernel_values == 1000 * 1001 // 2 * skeleton.size
