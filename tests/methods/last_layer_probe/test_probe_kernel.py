"""The dual kernel: a slow second road, symmetries, limits, gradients, and what it refuses."""

from __future__ import annotations

import itertools

import pytest
import torch

from relearn.errors import DataError, ParameterError
from relearn.methods.last_layer_probe import kernel as kernel_module
from relearn.methods.last_layer_probe.activations import activation_of
from relearn.methods.last_layer_probe.input_norm import default_norm, embed
from relearn.methods.last_layer_probe.kernel import dual_kernel, kernel_diagonal
from relearn.methods.last_layer_probe.skeleton import ConvLayer, Layer, Pool, Skeleton
from relearn.methods.last_layer_probe.skeleton_graph import INPUT, spans

RELU, GELU, ERF = activation_of("relu"), activation_of("gelu"), activation_of("erf")
GRID = (6, 5)
NORMS = ("global", "patch", "pair", "none")


def layer(name, *inputs, activation=RELU, **options):
    return Layer(name=name, inputs=inputs or (INPUT,), activation=activation, **options)


def conv(window=3, activation=RELU, **options):
    return ConvLayer(window=window, activation=activation, **options)


SKELETONS = {
    "chain": Skeleton.fully_connected(2, GELU, 0.2),
    "conv": Skeleton.convolutional(
        [conv(), conv(activation=ERF, stride=2)],
        GRID,
        pool=Pool(window=2, stride=1),
        dense=1,
        beta=0.1,
    ),
    "zeros": Skeleton.convolutional([conv(padding="zeros"), conv(2, padding="valid")], GRID),
    "graph": Skeleton(
        (
            layer("a", activation=GELU, window=(3, 2)),
            layer("b", "a", INPUT, window=(1, 1)),
            layer("same", "a", activation=activation_of("abs"), window=(1, 1)),
            layer("c", "a", "b", "same", window=(2, 3), stride=(2, 2), beta=0.3),
            layer("d", "c", "a", activation=activation_of("square")),
            layer("e", activation=activation_of("sign"), positions=((0, 0), (3, 4))),
            layer("f", "d", "e"),
        ),
        GRID,
    ),
}


def images(n=5, seed=0):
    return torch.rand(
        n, 2, *GRID, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )


def seen_by(each, position, grids):
    """Yield (layer, position, whole number) of all nodes that one node sees, one by one."""
    for below in each.inputs:
        grid = grids[below]
        if each.window is None:
            places = each.positions or itertools.product(range(grid[0]), range(grid[1]))
            yield from ((below, place) for place in places)
            continue
        rows, columns = spans(each, grid)
        found = itertools.product(rows.seen(position[0]), columns.seen(position[1]))
        yield from ((below, place) for place in found)


def node_by_node(skeleton, left, right):
    """Return the kernel of two inputs by the recursion over single nodes."""
    grids = skeleton.layout.grids
    cross, one, other = {}, {}, {}
    for place in itertools.product(range(grids[INPUT][0]), range(grids[INPUT][1])):
        cross[INPUT, place] = left[place] @ right[place]
        one[INPUT, place] = left[place] @ left[place]
        other[INPUT, place] = right[place] @ right[place]
    for each in skeleton.layers:
        height, width = grids[each.name]
        for place in itertools.product(range(height), range(width)):
            below = list(seen_by(each, place, grids))
            whole = len(below)
            if each.padding == "zeros" and each.window:
                whole = each.window[0] * each.window[1] * len(each.inputs)
            a, b, d = (
                each.beta + (1 - each.beta) * sum(known[node] for node in below) / whole
                for known in (one, cross, other)
            )
            moment, general = each.activation.second_moment, each.activation.general
            one[each.name, place] = general(a, a, a) / moment
            other[each.name, place] = general(d, d, d) / moment
            cross[each.name, place] = general(a, b, d) / moment
    sink = skeleton.layout.sink
    return torch.stack([value for (name, _), value in cross.items() if name == sink]).mean()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", SKELETONS)
def test_the_kernel_is_that_of_the_recursion_over_single_nodes(name, norm):
    skeleton, x = SKELETONS[name], images(3)
    vectors = embed(x, skeleton, norm).vectors
    expected = node_by_node(skeleton, vectors[:, :, 0], vectors[:, :, 2])

    whole = dual_kernel(skeleton, x, input_norm=norm, dtype=torch.float64)
    single = dual_kernel(skeleton, x, input_norm=norm)

    assert torch.allclose(whole[0, 2], expected, rtol=1e-10)
    assert torch.allclose(single.double(), whole, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", SKELETONS)
def test_the_kernel_is_symmetric_positive_and_has_the_exact_diagonal(name, norm):
    skeleton, x = SKELETONS[name], images(20)
    found = dual_kernel(skeleton, x, input_norm=norm, block=7)

    assert torch.equal(found, found.T)
    assert torch.equal(found.diagonal(), kernel_diagonal(skeleton, x, input_norm=norm))
    lowest = torch.linalg.eigvalsh(found.double())[0]
    assert float(lowest) > -1e-6 * len(x) * float(found.diagonal().max())
    if norm in ("patch", "pair") and name != "zeros":
        assert torch.equal(found.diagonal(), torch.ones(20))


@pytest.mark.parametrize("name", SKELETONS)
def test_blocks_and_halves_change_nothing(name, monkeypatch):
    skeleton, x = SKELETONS[name], images(11)
    whole = dual_kernel(skeleton, x, dtype=torch.float64)
    monkeypatch.setattr(kernel_module, "TILE_NUMBERS", 200)
    for block in (1, 3, 4, 64):
        cut = dual_kernel(skeleton, x, block=block, dtype=torch.float64)
        assert torch.allclose(cut, whole, rtol=1e-12)
        part = dual_kernel(skeleton, x[:6], x[6:], block=block, dtype=torch.float64)
        assert torch.allclose(part, whole[:6, 6:], rtol=1e-12)


def test_inputs_keep_every_bit():
    x = images(4)
    before = x.clone()
    for norm, skeleton in itertools.product(NORMS, SKELETONS.values()):
        dual_kernel(skeleton, x, input_norm=norm, dtype=torch.float64)
    assert torch.equal(x, before)


@pytest.mark.parametrize("activation", ["relu", "gelu", "sign"])
def test_a_whole_share_of_bias_makes_the_kernel_constant(activation):
    skeleton = Skeleton.fully_connected(2, activation_of(activation), 1.0)
    assert torch.allclose(dual_kernel(skeleton, images(6)), torch.ones(6, 6), atol=1e-5)


def test_a_chain_composes_the_dual_with_itself():
    x = images(6).flatten(1)
    rho = torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(x).T
    found = dual_kernel(Skeleton.fully_connected(3, RELU, 0.1), x, dtype=torch.float64)
    for _ in range(3):
        rho = RELU.dual(0.1 + 0.9 * rho)
    assert torch.allclose(found, rho, rtol=1e-10)


def test_moving_all_pixels_alike_leaves_a_chain_as_it_is_and_changes_convolutions():
    x = images(6)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    moved = x.flatten(2)[:, :, order].view_as(x)
    chain = Skeleton.fully_connected(2, RELU)
    grid = Skeleton.convolutional([conv(), conv()], GRID)

    assert (dual_kernel(chain, x) - dual_kernel(chain, moved)).abs().max() < 1e-6
    assert (dual_kernel(grid, x) - dual_kernel(grid, moved)).abs().max() > 1e-3


def test_a_window_over_everything_is_a_fully_connected_node():
    x = images(5)
    window = Skeleton((layer("a", window=GRID, padding="valid"),), GRID)
    whole = Skeleton((layer("a"),), GRID)
    assert torch.allclose(dual_kernel(window, x), dual_kernel(whole, x), rtol=1e-5)


@pytest.mark.parametrize("norm", ["patch", "none"])
@pytest.mark.parametrize("name", SKELETONS)
def test_gradients_are_those_of_finite_differences(name, norm):
    skeleton = SKELETONS[name]
    x, y = images(2).requires_grad_(), images(2, seed=1)

    def function(inputs):
        return dual_kernel(skeleton, inputs, y, input_norm=norm, dtype=torch.float64)

    assert torch.autograd.gradcheck(function, (x,), fast_mode=True)


@pytest.mark.parametrize("norm", ["patch", "none"])
def test_gradients_are_finite_where_inputs_coincide_or_windows_are_black(norm):
    for name in ("chain", "conv", "zeros"):
        x = images(3)
        x[1] = x[0]
        x[:, :, :4] = 0  # whole windows without any light
        x.requires_grad_()
        found = dual_kernel(SKELETONS[name], x, x.detach(), input_norm=norm, dtype=torch.float64)
        (gradient,) = torch.autograd.grad(found.sum(), x)
        assert torch.isfinite(found).all()
        assert torch.isfinite(gradient).all()
        own = dual_kernel(SKELETONS[name], x, input_norm=norm, dtype=torch.float64)
        plain = dual_kernel(SKELETONS[name], x.detach(), input_norm=norm, dtype=torch.float64)
        assert torch.allclose(own, plain, rtol=1e-10)


def test_the_default_places_inputs_by_the_skeleton():
    assert default_norm(SKELETONS["chain"]) == "global"
    assert default_norm(Skeleton.convolutional([conv()], GRID)) == "none"
    assert default_norm(Skeleton.convolutional([conv()], GRID, beta=0.1)) == "patch"
    assert default_norm(Skeleton.convolutional([conv(activation=ERF)], GRID)) == "patch"


def test_a_patch_is_what_lies_around_a_pixel_and_keeps_its_contrast():
    x = images(2)
    skeleton = Skeleton.convolutional([conv()], GRID)
    vectors = embed(x, skeleton, "patch", patch=3).vectors
    raw = torch.cat([x[1, :, 1:4, 2:5].flatten(), torch.ones(1)])
    assert torch.allclose(vectors[2, 3, 1], raw / raw.norm())
    faint = embed(x / 10, skeleton, "patch", patch=3).vectors
    assert (vectors - faint).abs().max() > 0.1


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (torch.zeros(2, 2, *GRID), {"input_norm": "none"}, "2 inputs have zero norm (index 0, 1)"),
        (torch.zeros(2, 2, *GRID), {"input_norm": "global"}, "patch or pair"),
        (torch.full((2, 2, *GRID), torch.nan), {}, "NaN, infinite"),
        (torch.ones(2, 2, 4, 4), {}, "expected (n, channels, 6, 5)"),
        (torch.ones(0, 2, *GRID), {}, "got inputs of shape (0, 2, 6, 5)"),
        (torch.full((2, 2, *GRID), 3.0), {"input_norm": "pair"}, "values from 0 to 1"),
        (torch.ones(2, 2, *GRID), {"input_norm": "paire"}, "did you mean pair?"),
        (torch.ones(2, 2, *GRID), {"input_norm": "patch", "patch": 2}, "odd number"),
        (torch.ones(2, 2, *GRID), {"block": 0}, "kernel.block: got 0"),
        (torch.ones(2, 2, *GRID), {"dtype": torch.float16}, "kernel.dtype"),
        (torch.ones(2, 2, *GRID), {"y": torch.ones(2, 1, *GRID)}, "differ in number only"),
    ],
)
def test_what_has_no_kernel_is_refused_in_one_line(x, options, message):
    with pytest.raises((DataError, ParameterError)) as refused:
        dual_kernel(SKELETONS["conv"], x, **options)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_bytes_are_refused_because_they_have_no_scale():
    with pytest.raises(DataError, match="divide bytes by 255"):
        embed(torch.ones(2, 3, dtype=torch.uint8), SKELETONS["chain"], "global")
