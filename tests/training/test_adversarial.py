import copy

import pytest
import torch
from torch import nn
from torch.nn import functional

from relearn.data.ball import Ball
from relearn.data.batches import Batches
from relearn.data.randomness import generator_of
from relearn.errors import DataError, ParameterError
from relearn.models.checkpoint import Architecture, build_fresh
from relearn.models.normalised import NormalisedNet
from relearn.training.adversarial import (
    AdversarialBatches,
    AdversarialLoss,
    divergence_of_each,
)
from relearn.training.attack import Attack, cross_entropy_of_each, held_still, perturb
from relearn.training.device import PLAIN_CPU
from relearn.training.loop import Windows, fit
from relearn.training.single_step import catastrophic_overfitting
from relearn.training.weight_perturbation import WeightPerturbation

ATTACK = Attack(Ball("linf", 0.1), 0.04, 3)
LOSSES = [AdversarialLoss("pgd_at"), AdversarialLoss("trades"), AdversarialLoss("fgsm_rs")]


@pytest.fixture
def net():
    model = build_fresh(Architecture("preact_resnet", 1, 24, 4, {"width": 4, "depth": 8}), seed=0)
    return NormalisedNet(model, (0.4,), (0.3,))


@pytest.fixture
def pixels(split):
    """Make the inner batches: plain pixels in 0..1."""

    def make(**changes):
        options = {"batch_size": 13, "seed": 3, "mean": (0.0,), "std": (1.0,)} | changes
        return Batches(split.images, split.labels, **options)

    return make


def batches_of(inner, net, loss=LOSSES[0], **options):
    return AdversarialBatches(inner, net, attack=ATTACK, loss=loss, device=PLAIN_CPU, **options)


def trained(net, inner, loss, *, epochs=1, rate=0.05, **options):
    source = batches_of(inner, net, loss, **options)
    optimizer = torch.optim.SGD(net.parameters(), lr=rate, momentum=0.9)
    fit(
        net,
        source,
        loss,
        optimizer,
        epochs=epochs,
        windows=Windows(after_backward=source.after_backward),
    )
    return source


def equal_weights(one, other):
    return all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_batches_are_those_of_the_attack_with_noise_from_the_named_door(net, pixels):
    net.train()
    noise = generator_of(3, "train.attack.2")
    pairs = zip(batches_of(pixels(), net).epoch(2), pixels().epoch(2), strict=True)
    for (images, labels), (clean, same) in pairs:
        assert torch.equal(labels, same)
        expected = perturb(net, clean, labels, ATTACK, generator=noise, device=PLAIN_CPU)
        assert torch.equal(images, expected)
        assert not torch.equal(images, clean)


def test_each_batch_is_attacked_against_the_present_weights(net, pixels):
    net.train()
    still = [images for images, _ in batches_of(pixels(), net).epoch(0)]
    moving = []
    for images, _ in batches_of(pixels(), net).epoch(0):
        moving.append(images)
        nn.init.normal_(net.model.stem.weight, generator=generator_of(0, str(len(moving))))
    assert torch.equal(still[0], moving[0])
    assert not torch.equal(still[1], moving[1])


def test_what_the_loop_asks_of_batches_is_that_of_the_inner_ones(net, pixels):
    inner, twin = pixels(), pixels()
    source = batches_of(inner, net)
    assert (source.seed, source.name, source.steps_per_epoch) == (3, "train", 4)
    for _ in source.epoch(0):
        pass
    twin.replay(0)
    assert source.order_digest == twin.order_digest
    source.replay(1)
    twin.replay(1)
    assert source.order_digest == twin.order_digest


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_training_lowers_the_loss_of_attacked_images(net, pixels, loss):
    def attacked_loss():
        net.eval()
        images, labels = pixels().whole()
        attack = Attack(Ball("linf", 0.1), 0.03, 10, batch_norm="running")
        draw = generator_of(0, "test.attack")
        worst = perturb(net, images, labels, attack, generator=draw, device=PLAIN_CPU)
        return cross_entropy_of_each(net(worst), labels).mean().item()

    before = attacked_loss()
    trained(net, pixels(), loss, epochs=15)
    assert attacked_loss() < 0.8 * before


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_equal_seeds_give_equal_weights(net, pixels, loss):
    twin = copy.deepcopy(net)
    trained(net, pixels(), loss)
    torch.rand(5)
    trained(twin, pixels(), loss)
    assert equal_weights(net, twin)


def test_plain_adversarial_training_is_the_loop_written_by_hand(net, pixels):
    """The second road: no wrapper, no fit."""
    twin = copy.deepcopy(net).train()
    trained(net, pixels(), LOSSES[0])
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.05, momentum=0.9)
    noise = generator_of(3, "train.attack.0")
    for clean, labels in pixels().epoch(0):
        worst = perturb(twin, clean, labels, ATTACK, generator=noise, device=PLAIN_CPU)
        optimizer.zero_grad()
        functional.cross_entropy(twin(worst), labels).backward()
        optimizer.step()
    assert equal_weights(net, twin)


def test_the_attack_moves_no_running_statistics_and_the_step_moves_them_once(net, pixels):
    trained(net, pixels(), LOSSES[0], rate=0.0, weights=WeightPerturbation(0.01))
    assert int(net.model.norm.num_batches_tracked) == pixels().steps_per_epoch


def test_trades_is_equation_five():
    draw = generator_of(0, "test.logits")
    clean, moved = (torch.randn(6, 4, generator=draw) for _ in range(2))
    labels = torch.arange(6) % 4
    p, q = clean.softmax(1), moved.softmax(1)
    by_hand = -p[range(6), labels].log().mean() + 6 * (p * (p.log() - q.log())).sum(1).mean()
    loss = AdversarialLoss("trades", trades_beta=6.0)
    both = torch.cat([clean, moved])
    torch.testing.assert_close(loss(both, labels), by_hand)
    assert torch.equal(loss.of_perturbed(both), moved)
    torch.testing.assert_close(loss(torch.cat([clean, clean]), labels), LOSSES[0](clean, labels))
    assert torch.equal(LOSSES[0].of_perturbed(clean), clean)


def test_the_trades_attack_raises_the_divergence_and_hands_out_both_halves(net, pixels):
    net.train()
    clean, labels = next(pixels().epoch(0))
    images, same = next(batches_of(pixels(), net, LOSSES[1]).epoch(0))
    assert torch.equal(labels, same)
    assert torch.equal(images[:13], clean)
    started = ATTACK.ball.random_start(clean, generator_of(3, "train.attack.0"))
    with torch.no_grad(), held_still(net, "batch", images=13):
        expected, there, start = net(clean), net(images[13:]), net(started)
    assert divergence_of_each(expected, there).mean() > divergence_of_each(expected, start).mean()


def test_fgsm_rs_takes_one_long_step_from_a_random_start():
    found = LOSSES[2].attack_of(Attack(Ball("linf", 0.08), 0.01, 10, 3, batch_norm="running"))
    assert found == Attack(Ball("linf", 0.08), 0.1, 1, 1, random_start=True, batch_norm="running")
    assert LOSSES[0].attack_of(ATTACK) is ATTACK


def test_the_hook_sees_clean_and_perturbed_pixels_of_each_batch(net, pixels):
    seen = []
    source = batches_of(pixels(), net, after_attack=lambda *each: seen.append(each))
    handed = list(source.epoch(0))
    clean = list(pixels().epoch(0))
    assert len(seen) == len(handed) == 4
    for (before, moved, labels), (images, same), (plain, _) in zip(
        seen, handed, clean, strict=True
    ):
        assert moved is images
        assert labels is same
        assert torch.equal(before, plain)


@pytest.mark.parametrize("loss", LOSSES[:2], ids=lambda loss: loss.name)
def test_weight_perturbation_takes_the_gradient_there_and_steps_from_here(net, pixels, loss):
    twin, alone = copy.deepcopy(net).train(), pixels(batch_size=41)
    trained(net, alone, loss, weights=WeightPerturbation(0.02))
    images, labels = next(batches_of(pixels(batch_size=41), twin, loss).epoch(0))
    here = {name: p.detach().clone() for name, p in twin.named_parameters()}
    with held_still(twin, "batch", images=41, freeze=False):
        uphill = torch.autograd.grad(loss(twin(images), labels), list(twin.parameters()))
    with torch.no_grad():
        for weight, g in zip(twin.parameters(), uphill, strict=True):
            if weight.ndim > 1:
                weight.add_(0.02 * weight.norm() * g / g.norm())
    gradients = torch.autograd.grad(loss(twin(images), labels), list(twin.parameters()))
    for (name, found), gradient in zip(net.named_parameters(), gradients, strict=True):
        torch.testing.assert_close(found, here[name] - 0.05 * gradient)


def test_weight_perturbation_waits_for_its_epoch_and_puts_back_what_an_error_left(net, pixels):
    before = copy.deepcopy(net.state_dict())
    weights = WeightPerturbation(0.1, from_epoch=1)
    source = batches_of(pixels(), net, weights=weights)
    next(source.epoch(0))
    assert not weights.active
    epoch = source.epoch(1)
    next(epoch)
    assert weights.active
    epoch.close()
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_a_forgotten_window_is_not_papered_over(net, pixels):
    source = batches_of(pixels(), net, weights=WeightPerturbation(0.1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with pytest.raises(RuntimeError, match=r"after_backward .* window of fit"):
        fit(net, source, LOSSES[0], optimizer, epochs=1)


def test_normalised_batches_and_a_single_last_image_are_refused(net, pixels):
    with pytest.raises(DataError, match="NormalisedNet"):
        next(batches_of(pixels(mean=(0.5,)), net).epoch(0))
    with pytest.raises(ParameterError, match=r"^forget_relearn\.train\.batch_size: "):
        list(batches_of(pixels(batch_size=40), net).epoch(0))


def test_unusable_recipes_name_the_parameter():
    with pytest.raises(
        ParameterError, match=r"^forget_relearn\.loss\.name: .* did you mean trades"
    ):
        AdversarialLoss("trade")
    for name in ("trades_beta", "fgsm_step_factor"):
        with pytest.raises(ParameterError, match=rf"^forget_relearn\.loss\.{name}: got 0"):
            AdversarialLoss("trades", **{name: 0})
    with pytest.raises(ParameterError, match=r"^forget_relearn\.attack\.random_start: got false"):
        LOSSES[1].attack_of(Attack(Ball("l2", 1.0), 0.1, 3, random_start=False))


@pytest.mark.parametrize(
    ("single_step", "pgd", "alarm"),
    [
        ([0.4, 0.5, 0.6], [0.3, 0.4, 0.5], False),  # both learn
        ([0.4, 0.5, 0.9], [0.3, 0.4, 0.0], True),  # the collapse
        ([0.4, 0.5, 0.9, 0.6], [0.3, 0.4, 0.0, 0.45], False),  # recovered
        ([0.4, 0.5, 0.1], [0.3, 0.4, 0.1], False),  # both fell, as after a reset
        ([0.4, 0.5, 0.6], [0.3, 0.4, 0.3], False),  # within the tolerance
        ([0.9], [0.1], False),  # a gap, but nothing has fallen
    ],
)
def test_the_alarm_tells_a_collapse_from_everything_else(single_step, pgd, alarm):
    assert catastrophic_overfitting(single_step, pgd, fall=0.2) is alarm


def test_the_alarm_refuses_what_it_cannot_judge():
    with pytest.raises(ParameterError, match=r"^forget_relearn\.loss\.alarm_fall: got 1"):
        catastrophic_overfitting([0.5], [0.5], fall=1)
    for sequences in (([], []), ([0.5], [0.5, 0.5])):
        with pytest.raises(ValueError, match="equally many"):
            catastrophic_overfitting(*sequences, fall=0.2)
