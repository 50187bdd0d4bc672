"""The normalised draw: mean squares of 1 in any net, and what had to be measured is named."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from tiny_bodies import images_for, tiny_architecture, tiny_body
from torch import Tensor, nn
from torch.nn import functional

from relearn.errors import DataError, HeadNotFoundError, ParameterError, TrainingError
from relearn.methods.last_layer_probe.activations import activation_of
from relearn.methods.last_layer_probe.init_report import unclassified
from relearn.methods.last_layer_probe.init_table import SCHEMES, init_sensitivity, init_table
from relearn.methods.last_layer_probe.normalised_init import normalised_init_
from relearn.models.architectures import Architecture, build_fresh
from relearn.provenance import digest_tensors

SAMPLES = torch.randn(256, 40, generator=torch.Generator().manual_seed(0))
ACTIVATIONS = {
    "relu": nn.ReLU(),
    "tanh": nn.Tanh(),
    "gelu": nn.GELU(),
    "sigmoid": nn.Sigmoid(),
    "silu": nn.SiLU(),
    "elu": nn.ELU(),
    "softplus": nn.Softplus(),
    "leaky_relu": nn.LeakyReLU(0.1),
}


def chain(activation: nn.Module, *, width: int = 256, depth: int = 3) -> nn.Sequential:
    """Return a perceptron on 40 numbers."""
    layers: list[nn.Module] = [nn.Linear(40, width)]
    for _ in range(depth - 1):
        layers += [activation, nn.Linear(width, width)]
    return nn.Sequential(*layers, activation, nn.Linear(width, 5))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_layer_gives_mean_square_one_whatever_the_activation(name: str) -> None:
    rows = normalised_init_(chain(ACTIVATIONS[name]), SAMPLES, seed=1)

    settings = {"negative_slope": 0.1} if name == "leaky_relu" else {}
    assert all(row.within for row in rows)
    assert all(abs(row.fed_after - 1) <= 3 / math.sqrt(40) + row.tolerance for row in rows)
    assert [row.fed_by for row in rows] == ["input", name, name, name]
    assert rows[1].moment == pytest.approx(activation_of(name, **settings).second_moment)
    assert unclassified(rows) == []


@pytest.mark.parametrize("seed", range(3))
def test_a_layer_gives_mean_square_one_within_three_standard_errors_of_its_width(seed) -> None:
    # over units j, z_j^2 of one sample is chi-square: 256 samples in 40 dimensions only help
    net = nn.Sequential(nn.Linear(40, 2000), nn.ReLU(), nn.Linear(2000, 2000), nn.Linear(2000, 3))

    rows = normalised_init_(net, SAMPLES, seed=seed)

    assert abs(rows[0].given_after - 1) < 3 * math.sqrt(2 / 2000)
    own = rows[1].given_after / rows[1].fed_after
    assert abs(own - 1) < 3 * math.sqrt(2 / 2000)


@pytest.mark.parametrize(
    ("module", "exact"),
    [
        (nn.Hardtanh(-0.5, 1.0), False),
        (nn.GELU(approximate="tanh"), False),
        (nn.ELU(0.5), False),
        (nn.SELU(), False),
        (nn.Mish(), False),
        (nn.ReLU6(), False),
        (nn.ReLU(inplace=True), True),
        (nn.Softplus(2.0), False),
    ],
    ids=str,
)
def test_the_moment_of_an_activation_with_other_settings_agrees_with_drawing(module, exact) -> None:
    row = normalised_init_(chain(module, width=8), SAMPLES)[1]

    drawn = torch.randn(400_000, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert row.moment == pytest.approx(float(module(drawn).square().mean()), rel=0.02)
    assert row.source == ("closed form" if exact else "quadrature")


def test_relu_gives_the_draw_of_he_and_a_linear_layer_that_of_lecun() -> None:
    net = nn.Sequential(nn.Linear(40, 300), nn.ReLU(), nn.Linear(300, 200), nn.Linear(200, 3))

    rows = normalised_init_(net, SAMPLES / SAMPLES.square().mean().sqrt(), zero_head=False)

    deviations = [row.deviation for row in rows]
    assert deviations == pytest.approx([40**-0.5, (2 / 300) ** 0.5, 200**-0.5])
    assert float(net[2].weight.detach().std()) == pytest.approx((2 / 300) ** 0.5, rel=0.02)


@pytest.mark.parametrize("name", ["convnet3", "convnet5", "preact_resnet", "vision_transformer"])
@pytest.mark.parametrize("training", [False, True])
def test_any_of_our_nets_comes_out_normalised_and_otherwise_as_it_was(name, training) -> None:
    architecture = tiny_architecture(name)
    net = build_fresh(architecture, seed=0).train(training)
    images = torch.randn(64, 1, architecture.image_size, architecture.image_size)
    buffers, state = digest_tensors(dict(net.named_buffers())), torch.random.get_rng_state()

    rows = normalised_init_(net, images, beta=0.1, seed=2)

    assert all(row.within for row in rows)
    assert digest_tensors(dict(net.named_buffers())) == buffers
    assert torch.equal(torch.random.get_rng_state(), state)
    assert net.training == training
    weighted = {n for n, p in net.named_parameters() if p.ndim > 1}
    assert {row.name for row in rows} == weighted
    assert torch.equal(net(images), torch.zeros(64, 3))


def test_padding_is_not_counted_among_the_inputs() -> None:
    images = torch.randn(128, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(nn.Conv2d(8, 400, 3, padding=1), nn.Flatten(), nn.Linear(6400, 2))

    row = normalised_init_(net, images)[0]

    # of 9 taps a corner has 4, an edge 6, the inside 9: (4*4 + 8*6 + 4*9) / 16
    assert row.fan_in == pytest.approx(8 * 100 / 16)
    assert abs(row.given_after - 1) < 3 * math.sqrt(2 / 400)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 64, 3, stride=2, padding=1, groups=4),
        nn.Conv2d(8, 64, 3, dilation=2, padding="same"),
        nn.Conv2d(8, 64, 3, padding=1, padding_mode="circular"),
        nn.ConvTranspose2d(8, 64, 3, stride=2, padding=1),
    ],
    ids=["groups", "dilation", "circular", "transposed"],
)
def test_convolutions_of_all_kinds_give_mean_square_one(layer: nn.Module) -> None:
    images = torch.randn(64, 8, 9, 9, generator=torch.Generator().manual_seed(0))
    net = nn.Sequential(layer, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2))

    rows = normalised_init_(net, images, seed=5)

    assert abs(rows[0].given_after - 1) < 3 * math.sqrt(2 / 64)
    assert rows[1].fed_by.startswith("adaptive_avg_pool2d")


class Strange(nn.Module):
    """Plain functions, a residual sum, a product, a join, a lookup and weights nobody knows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.branch = nn.Linear(40, 300), nn.Linear(300, 300, bias=False)
        self.after, self.gated, self.joined = (nn.Linear(n, 300) for n in (300, 300, 600))
        self.table = nn.Parameter(torch.ones(40, 300))
        self.head = nn.Linear(300, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return two logits."""
        first = self.first(x)
        total = first + self.branch(functional.relu(first))
        after = self.after(functional.relu(total))
        gated = self.gated(after * torch.sigmoid(after))
        joined = self.joined(torch.cat([0.5 * gated, functional.tanh(gated)], 1))
        logits: Tensor = self.head(joined + x @ self.table)
        return logits


def test_a_net_of_plain_functions_is_followed_and_what_is_not_understood_is_named() -> None:
    rows = {row.name: row for row in normalised_init_(Strange(), SAMPLES, beta=0.2)}

    assert rows["branch.weight"].fed_by == "relu"
    assert rows["branch.weight"].bias_share == 0.0  # it has none
    assert rows["after.weight"].bias_share == 0.2
    # behind the sum of two independent layers of mean square 1: relu of variance 2
    assert (rows["after.weight"].moment, rows["after.weight"].source) == (1.0, "closed form")
    assert rows["gated.weight"].source == "measured"
    tanh = activation_of("tanh").second_moment
    assert rows["joined.weight"].moment == pytest.approx((0.25 + tanh) / 2)
    assert all(row.within for row in rows.values())
    told = unclassified(list(rows.values()))
    assert [line.split(":")[0] for line in told] == ["gated.weight", "head.weight", "table"]
    assert "fed by mul, whose moment" in told[0]
    assert "left as it is (used by matmul)" in told[2]


def test_a_tensor_added_to_what_is_made_of_it_is_measured_and_not_guessed() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(40, 200), nn.Linear(200, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x)
            logits: Tensor = self.second(y + y.view_as(y))
            return logits

    row = normalised_init_(Twice(), SAMPLES, zero_head=False)[1]

    assert row.source == "measured"
    assert row.moment == pytest.approx(4.0, rel=0.3)


def test_shared_weights_are_drawn_once() -> None:
    shared = nn.Linear(40, 40)
    net = nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(40, 2))

    rows = normalised_init_(net, SAMPLES)

    assert [row.name for row in rows] == ["0.weight", "3.weight"]


def test_the_draw_is_a_function_of_the_seed_and_the_layer() -> None:
    def drawn(seed: int, head: bool = True) -> dict[str, Tensor]:
        net = chain(nn.ReLU(), width=16)
        normalised_init_(net, SAMPLES, seed=seed, zero_head=head)
        return net.state_dict()

    one = drawn(0)
    assert all(torch.equal(value, drawn(0)[name]) for name, value in one.items())
    assert all(
        torch.equal(value, drawn(0, head=False)[n]) for n, value in one.items() if n[0] < "6"
    )
    assert not torch.equal(one["0.weight"], drawn(1)["0.weight"])


def test_the_gain_scales_the_weights_and_shows_in_the_report() -> None:
    one, two = chain(nn.Tanh(), width=64), chain(nn.Tanh(), width=64)

    normalised_init_(one, SAMPLES)
    rows = normalised_init_(two, SAMPLES, gain=2.0)

    assert torch.equal(two[2].weight, 2 * one[2].weight)
    assert not rows[0].within
    assert rows[0].given_after == pytest.approx(4, rel=0.3)


def test_only_our_draw_keeps_the_mean_square_in_depth() -> None:
    net = chain(nn.ReLU(), width=400, depth=7)

    table = {(row.scheme, row.depth): row for row in init_table(net, SAMPLES)}

    assert {scheme for scheme, _ in table} == set(SCHEMES)
    for depth in range(1, 8):
        width = 3 * math.sqrt(depth * 5 / 400)
        assert abs(table["normalised", depth].given - 1) < width
        # He counts on a ReLU before the first layer too; Xavier loses half a layer behind a ReLU
        assert abs(table["he", depth].given / 2 - 1) < width
        first = table["xavier", 1].given
        assert abs(table["xavier", depth].given / (first * 0.5 ** (depth - 1)) - 1) < width
    # uniform of variance 1/(3 fan_in) behind a ReLU: a sixth, until the biases are all there is
    default = [table["torch_default", depth].given for depth in (1, 2, 3)]
    assert default[1] / default[0] == pytest.approx(1 / 6, rel=0.15)
    # and correlations rise as the dual of ReLU says: 0, .318, .494
    assert table["normalised", 2].correlation == pytest.approx(0.318, abs=0.03)
    assert table["normalised", 3].correlation == pytest.approx(0.494, abs=0.04)


def test_a_wrong_gain_compounds_with_depth_and_biases_make_samples_alike() -> None:
    net = chain(nn.ReLU(), width=200, depth=4)
    before = copy.deepcopy(net.state_dict())

    rows = {
        (row.gain, row.beta, row.depth): row
        for row in init_sensitivity(net, SAMPLES, gains=(0.5, 1.0, 2.0), betas=(0.0, 0.3))
    }

    for depth in (1, 2, 3, 4):
        ratio = rows[2.0, 0.0, depth].given / rows[1.0, 0.0, depth].given
        assert ratio == pytest.approx(4.0**depth, rel=1e-3)  # ReLU is homogeneous
        assert rows[0.5, 0.3, depth].correlation > rows[1.0, 0.3, depth].correlation - 1e-9
    assert rows[1.0, 0.3, 4].correlation > rows[1.0, 0.0, 4].correlation + 0.05
    assert all(torch.equal(value, net.state_dict()[name]) for name, value in before.items())


def test_a_frozen_random_body_read_afterwards_keeps_its_draw() -> None:
    body = tiny_body("convnet5")
    normalised_init_(body.net.eval(), body.feed(images_for("convnet5", 32)), seed=4)
    again = build_fresh(tiny_architecture("convnet5"), seed=9).eval()
    normalised_init_(again, body.feed(images_for("convnet5", 32)), seed=4)

    # measured moments pass through pixels; all else is drawn from the seed alone
    for one, two in zip(body.net.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta": 1.0}, r"init\.beta: got 1.0, expected 0 to below 1"),
        ({"beta": -0.1}, r"init\.beta"),
        ({"gain": 0.0}, r"init\.gain: got 0.0, expected above 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message) -> None:
    with pytest.raises(ParameterError, match=message):
        normalised_init_(chain(nn.ReLU(), width=4), SAMPLES, **settings)


def test_other_bad_input_is_refused() -> None:
    net = chain(nn.ReLU(), width=4)

    with pytest.raises(DataError, match=r"torch\.uint8"):
        normalised_init_(net, torch.zeros(3, 40, dtype=torch.uint8))
    with pytest.raises(TrainingError, match=r"0\.weight is fed only zeros by input"):
        normalised_init_(net, torch.zeros(3, 40))
    with pytest.raises(TrainingError, match="NaN or infinite"):
        normalised_init_(net, torch.full((3, 40), float("nan")))
    with pytest.raises(HeadNotFoundError):
        normalised_init_(nn.Sequential(nn.Linear(40, 4), nn.LayerNorm(4)), SAMPLES)
    with pytest.raises(ParameterError, match=r"'hee' is not known, did you mean he\?"):
        init_table(net, SAMPLES, schemes=("hee",))


def test_a_net_without_a_plain_head_can_be_drawn_whole() -> None:
    net = nn.Sequential(nn.Linear(40, 64), nn.LayerNorm(64))

    [row] = normalised_init_(net, SAMPLES, zero_head=False)

    assert row.within


def test_the_report_can_be_put_in_a_table() -> None:
    architecture = Architecture("mlp", 1, 8, 2, {"width": 8, "depth": 1})
    net = build_fresh(architecture, seed=0)

    rows = [r.as_row() for r in normalised_init_(net, torch.randn(32, 1, 8, 8))]

    assert rows[1]["gain"] == pytest.approx(2**0.5)
    assert rows[1]["expected"] == 0.0
    assert rows[0]["within"]
