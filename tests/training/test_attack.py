import copy
import itertools

import pytest
import torch
from torch import nn

from relearn.data.ball import Ball
from relearn.data.randomness import generator_of
from relearn.errors import DataError, ParameterError
from relearn.models.checkpoint import Architecture, build_fresh
from relearn.models.normalised import NormalisedNet
from relearn.training.attack import Attack, cross_entropy_of_each, held_still, perturb
from relearn.training.device import PLAIN_CPU, Device, open_device

LINF = Attack(Ball("linf", 0.1), 0.03, 5)
ATTACKS = [
    Attack(Ball(norm, radius), radius / 3, 4, restarts, batch_norm=statistics)
    for norm, radius, restarts, statistics in itertools.product(
        ("linf", "l2"), (0.02, 0.4), (1, 2), ("batch", "running")
    )
]


@pytest.fixture
def net():
    """A small residual net with running statistics that are not the defaults."""
    model = build_fresh(Architecture("preact_resnet", 3, 8, 5, {"width": 4, "depth": 8}), seed=0)
    draw = generator_of(0, "test.statistics")
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.randn(module.num_features, generator=draw))
            module.running_var.copy_(torch.rand(module.num_features, generator=draw) + 0.5)
            module.num_batches_tracked.fill_(7)
    return NormalisedNet(model, (0.4, 0.5, 0.6), (0.2, 0.2, 0.2)).train()


@pytest.fixture
def batch():
    draw = generator_of(1, "test.batch")
    return torch.rand(6, 3, 8, 8, generator=draw), torch.arange(6) % 5


def attacked(model, batch, attack=LINF, seed=0, **options):
    chosen = {"device": PLAIN_CPU} | options
    return perturb(model, *batch, attack, generator=generator_of(seed, "test.attack"), **chosen)


def trace(model):
    """Everything that an attack must leave alone."""
    modes = [(m.training, getattr(m, "track_running_stats", None)) for m in model.modules()]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    return modes, [p.requires_grad for p in model.parameters()], gradients, state


def assert_same_trace(one, other):
    assert one[:2] == other[:2]
    for a, b in zip(one[2], other[2], strict=True):
        assert (a is None and b is None) or torch.equal(a, b)
    for name, value in one[3].items():
        assert torch.equal(value, other[3][name])


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_the_net_is_as_before_and_the_points_lie_in_the_ball(net, batch, attack):
    next(net.parameters()).requires_grad_(False)
    net.model.norm.eval()
    before = trace(net)
    points = attacked(net, batch, attack)
    assert_same_trace(before, trace(net))
    order = float("inf") if attack.ball.norm == "linf" else 2
    away = torch.linalg.vector_norm((points - batch[0]).flatten(1), order, dim=1)
    assert away.max() <= attack.ball.epsilon * (1 + 1e-5)
    assert points.min() >= 0
    assert points.max() <= 1
    assert not points.requires_grad


def test_no_parameter_gets_a_gradient_and_present_ones_stay(net, batch):
    attacked(net, batch)
    assert all(p.grad is None for p in net.parameters())
    cross_entropy_of_each(net(batch[0]), batch[1]).sum().backward()
    before = trace(net)
    attacked(net, batch)
    assert_same_trace(before, trace(net))


@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_the_net_is_as_before_when_the_attack_raises(net, batch, statistics):
    def broken(logits, labels):
        raise KeyError("on purpose")

    before = trace(net)
    with pytest.raises(KeyError, match="on purpose"):
        attacked(
            net, batch, Attack(Ball("l2", 0.1), 0.1, 1, batch_norm=statistics), objective=broken
        )
    assert_same_trace(before, trace(net))


@pytest.mark.parametrize("statistics", ["batch", "running"])
def test_one_step_follows_the_gradient_of_plain_autograd(net, batch, statistics):
    """The second road: parameters not frozen, the mode set by hand, backward on everything."""
    twin, (pixels, labels) = copy.deepcopy(net).train(statistics == "batch"), batch
    image = pixels.clone().requires_grad_()
    nn.functional.cross_entropy(twin(image), labels, reduction="sum").backward()
    seen = []

    class Watched(Ball):
        def ascend(self, points, pixels, gradient, step_size):
            seen.append(gradient)
            return super().ascend(points, pixels, gradient, step_size)

    attack = Attack(Watched("linf", 0.5), 0.01, 1, random_start=False, batch_norm=statistics)
    found = attacked(net, batch, attack)
    torch.testing.assert_close(seen[0], image.grad)
    by_hand = (pixels + 0.01 * image.grad.sign()).clamp(0, 1)
    clear = image.grad.abs() > 1e-5 * image.grad.abs().max()
    torch.testing.assert_close(found[clear], by_hand[clear])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_against_a_linear_net_the_attack_finds_the_closed_form(norm):
    """Two classes: the margin is linear, so that the worst point is known."""
    linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).requires_grad_(True)
    pixels, labels = torch.full((4, 3, 2, 2), 0.5), torch.tensor([0, 1, 0, 1])
    weight = linear[1].weight.detach()
    direction = (weight[1 - labels] - weight[labels]).view(4, 3, 2, 2)
    unit = direction / direction.flatten(1).norm(dim=1).view(4, 1, 1, 1)
    expected = pixels + 0.1 * (direction.sign() if norm == "linf" else unit)
    # the last steps of the Euclidean walk turn towards the pole slowly
    attack = Attack(Ball(norm, 0.1), 0.1, 10 if norm == "linf" else 60)
    torch.testing.assert_close(
        attacked(linear, (pixels, labels), attack), expected, atol=1e-4, rtol=0
    )


def test_more_steps_raise_the_loss_on_average(net, batch):
    net.eval()
    found = []
    for steps in (1, 3, 10):
        attack = Attack(Ball("linf", 0.1), 0.02, steps, batch_norm="running")
        losses = [
            cross_entropy_of_each(net(attacked(net, batch, attack, seed)), batch[1]).mean().item()
            for seed in range(4)
        ]
        found.append(sum(losses))
    assert found == sorted(found)
    assert found[0] < 0.9 * found[-1]


def test_restarts_keep_the_worst_of_each_image(net, batch):
    net.eval()
    attack = Attack(Ball("linf", 0.05), 0.01, 1, 3, batch_norm="running")
    draw, single = (
        generator_of(0, "test.attack"),
        Attack(Ball("linf", 0.05), 0.01, 1, 1, True, "running"),
    )
    attempts = [perturb(net, *batch, single, generator=draw, device=PLAIN_CPU) for _ in range(3)]
    losses = torch.stack([cross_entropy_of_each(net(a), batch[1]) for a in attempts])
    kept = cross_entropy_of_each(net(attacked(net, batch, attack)), batch[1])
    torch.testing.assert_close(kept, losses.max(0).values)


def test_one_restart_makes_exactly_one_forward_a_step(net, batch):
    passes = []
    net.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    attacked(net, batch)
    assert passes == [True] * LINF.steps


def test_the_noise_is_a_function_of_the_generator_and_of_nothing_else(net, batch):
    first = attacked(net, batch)
    torch.rand(3)
    with torch.no_grad():
        assert torch.equal(first, attacked(net, batch))
    assert not torch.equal(first, attacked(net, batch, seed=1))


def test_dropout_is_off_in_an_attack(batch):
    leaky = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(192, 5)).train()
    before = torch.random.get_rng_state()
    assert torch.equal(attacked(leaky, batch), attacked(leaky, batch))
    assert torch.equal(before, torch.random.get_rng_state())
    assert leaky[1].training


def test_an_objective_of_ones_own_is_what_grows(net, batch):
    net.eval()
    attack = Attack(Ball("linf", 0.1), 0.02, 5, batch_norm="running")
    kinder = attacked(net, batch, attack, objective=lambda z, y: -cross_entropy_of_each(z, y))
    at_home = cross_entropy_of_each(net(batch[0]), batch[1])
    assert (cross_entropy_of_each(net(kinder), batch[1]) < at_home).all()


def test_layout_and_precision_of_the_device_are_used(net, batch):
    last = Device("cpu", "fp32", channels_last=True)
    plain = attacked(net, batch)
    placed = attacked(last.place(net), batch, device=last)
    assert placed.is_contiguous(memory_format=torch.channels_last)
    assert (placed - plain).abs().max() <= 2 * LINF.ball.epsilon
    seen = []
    net.model.head.register_forward_hook(lambda _m, _i, output: seen.append(output.dtype))
    attacked(net, batch, device=open_device("cpu", "bf16"))
    assert set(seen) == {torch.bfloat16}


def test_one_image_alone_has_no_batch_statistics(net, batch):
    alone = (batch[0][:1], batch[1][:1])
    before = trace(net)
    with pytest.raises(ParameterError, match=r"^forget_relearn\.train\.batch_size: .* batch of 1"):
        attacked(net, alone)
    assert_same_trace(before, trace(net))
    attacked(net, alone, Attack(Ball("linf", 0.1), 0.1, 1, batch_norm="running"))


def test_normalised_images_are_refused(net, batch):
    with pytest.raises(DataError, match="NormalisedNet"):
        attacked(net, (batch[0] - 0.5, batch[1]))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("steps", {"steps": 0}),
        ("restarts", {"restarts": 0}),
        ("restarts", {"restarts": 2, "random_start": False}),
        ("step_size", {"step_size": 0.0}),
        ("batch_norm", {"batch_norm": "eval"}),
    ],
)
def test_unusable_attacks_name_the_parameter(name, changes):
    given = {"ball": Ball("l2", 1.0), "step_size": 0.1, "steps": 3} | changes
    with pytest.raises(ParameterError, match=rf"^forget_relearn\.attack\.{name}: "):
        Attack(**given)


def test_passes_held_still_can_give_parameters_their_gradients(net, batch):
    before = trace(net)
    with held_still(net, "batch", images=6, freeze=False):
        loss = cross_entropy_of_each(net(batch[0]), batch[1]).sum()
    assert torch.autograd.grad(loss, net.model.head.weight)[0].any()
    assert_same_trace(before, trace(net))
