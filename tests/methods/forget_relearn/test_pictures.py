"""Before and after pictures of a forgetting: coordinates, predictions, likeness, on a tiny net."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from relearn.data.ball import Ball
from relearn.evaluation.attacks.pgd import Pgd
from relearn.evaluation.attacks.scoring import attacked_pixels, correct_mask, robust_mask
from relearn.methods.forget_relearn.pictures import MOMENTS, Pictures
from relearn.models.normalised import NormalisedNet
from relearn.training.resume import pack, unpack

CLASSES, COUNT = 3, 24
BALL, ATTACK = Ball("linf", 0.05), Pgd(step_size=0.02, steps=3)


def data() -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(5)
    labels = torch.arange(COUNT) % CLASSES
    levels = 60 * labels[:, None, None, None] + 40
    noise = torch.randint(-30, 30, (COUNT, 1, 4, 4), generator=draw)
    return (levels + noise).clamp(0, 255).byte(), labels


def net(seed: int = 0) -> NormalisedNet:
    """Return a net with randomised batch-norm statistics: defaults hide forgotten copies."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(24, CLASSES)
        )
        model[1].running_mean.uniform_(-0.3, 0.3)
        model[1].running_var.uniform_(0.5, 2.0)
    return NormalisedNet(model.train(), (0.4,), (0.3,))


def pictures(seed: int = 0) -> Pictures:
    return Pictures(*data(), attack=ATTACK, ball=BALL, seed=seed)


def changed(wrapped: NormalisedNet, size: float) -> NormalisedNet:
    other = copy.deepcopy(wrapped)
    draw = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=size)
    return other


def take(album: Pictures, wrapped: NormalisedNet, cycle: int, moment: str, step: int | None = None):
    return album.take(wrapped, wrapped.model, cycle=cycle, moment=moment, step=step)


@pytest.mark.parametrize(("step", "looks"), [(7, 3), (8, 4), (None, 4)])
def test_the_end_of_a_relearning_is_the_picture_before_the_next_forgetting_at_that_step(
    step, looks, monkeypatch
):
    seen = []
    look = Pictures._look
    monkeypatch.setattr(Pictures, "_look", lambda *rest: seen.append(1) or look(*rest))
    wrapped, album, anew = net(), pictures(), pictures()

    told = {}
    for one, at in ((album, step), (anew, None)):
        seen.clear()
        take(one, wrapped, 1, "before", 1)
        take(one, changed(wrapped, 0.5), 1, "forgotten", 1)
        take(one, changed(wrapped, 0.2), 1, "relearnt", 7)
        told[one] = take(one, changed(wrapped, 0.2), 2, "before", at)
        assert len(seen) == (looks if one is album else 4)

    for name, value in told[album].items():
        assert torch.equal(value.nan_to_num(), told[anew][name].nan_to_num()), name


def test_a_picture_leaves_the_net_and_the_global_numbers_as_they_were():
    wrapped, album = net(), pictures()
    weights = copy.deepcopy(wrapped.state_dict())
    numbers = torch.random.get_rng_state()

    take(album, wrapped, 1, "before")

    after = wrapped.state_dict()
    assert all(torch.equal(after[name], value) for name, value in weights.items())
    assert wrapped.model.training
    assert all(p.requires_grad and p.grad is None for p in wrapped.parameters())
    assert torch.equal(torch.random.get_rng_state(), numbers)


def test_coordinates_are_the_principal_components_of_the_first_features():
    wrapped, album = net(), pictures()

    found = take(album, wrapped, 1, "before")["cycle1.before.coordinates"]

    images, _ = data()
    with torch.no_grad():
        body = wrapped.model.eval()[:-1]
        values = body((images.float() / 255 - 0.4) / 0.3).double()
    _, _, axes = torch.pca_lowrank(values, q=2, niter=20)
    expected = (values - values.mean(0)) @ axes
    assert found.dtype == torch.float32
    assert torch.allclose(found.double().abs(), expected.abs(), atol=1e-4)


def test_axes_are_fixed_at_the_first_picture_for_all_that_follow():
    wrapped, album = net(), pictures()
    first = take(album, wrapped, 1, "before")
    take(album, changed(wrapped, 0.5), 1, "forgotten")
    take(album, changed(wrapped, 0.2), 1, "relearnt")

    again = take(album, wrapped, 2, "before")

    assert torch.equal(again["cycle2.before.coordinates"], first["cycle1.before.coordinates"])
    assert torch.equal(again["axes_share"], first["axes_share"])


def test_predictions_are_those_of_the_evaluation():
    wrapped, album = net(), pictures()
    images, labels = data()

    found = take(album, wrapped, 1, "before")

    right = found["cycle1.before.clean_predicted"] == labels
    assert torch.equal(right, correct_mask(wrapped, images, labels))
    robust = right & (found["cycle1.before.attacked_predicted"] == labels)
    points = attacked_pixels(wrapped, images, labels, attack=ATTACK, ball=BALL, seed=0)
    assert float((points - images.float() / 255).abs().max()) <= BALL.epsilon + 1e-6
    # robust_mask attacks fewer images, so that its random starts differ
    assert (
        abs(
            int(robust.sum())
            - int(robust_mask(wrapped, images, labels, attack=ATTACK, ball=BALL, seed=0).sum())
        )
        <= 2
    )


def test_a_net_that_came_back_is_alike_and_a_changed_one_less_so():
    wrapped, album = net(), pictures()
    take(album, wrapped, 1, "before")
    take(album, changed(wrapped, 1.0), 1, "forgotten")
    last = take(album, wrapped, 1, "relearnt")

    told = album.records(1)
    assert told["cka_after_relearning"] == pytest.approx(1.0)
    assert 0 <= told["cka_after_forgetting"] < 0.99
    assert (told["newly_wrong"], told["newly_right"]) == (0.0, 0.0)
    assert last["cka"].tolist() == [
        pytest.approx([told["cka_after_forgetting"], told["cka_after_relearning"]])
    ]


def test_newly_wrong_and_newly_right_count_attacked_images():
    wrapped, album = net(), pictures()
    _, labels = data()
    first = take(album, wrapped, 1, "before")
    last = take(album, changed(wrapped, 1.0), 1, "relearnt")

    was = first["cycle1.before.attacked_predicted"] == labels
    now = last["cycle1.relearnt.attacked_predicted"] == labels
    told = album.records(1)
    assert told["newly_right"] - told["newly_wrong"] == float(now.sum() - was.sum())
    assert told["newly_wrong"] == float((was & ~now).sum())


def test_features_that_were_all_forgotten_are_not_alike():
    wrapped, album = net(), pictures()
    take(album, wrapped, 1, "before")
    with torch.no_grad():
        for parameter in wrapped.model[:2].parameters():
            parameter.zero_()

    take(album, wrapped, 1, "forgotten")

    assert album.records(1)["cka_after_forgetting"] == 0.0


def test_a_resumed_album_goes_on_as_if_nothing_had_happened():
    wrapped, whole, cut = net(), pictures(), pictures()
    for album in (whole, cut):
        take(album, wrapped, 1, "before")
        take(album, changed(wrapped, 0.5), 1, "forgotten")
    plain, tensors = pack(cut.state())
    resumed = pictures()
    resumed.restore(unpack(plain, tensors))

    one, two = (take(album, changed(wrapped, 0.1), 1, "relearnt") for album in (whole, resumed))

    assert one.keys() == two.keys()
    assert all(torch.equal(one[name].nan_to_num(), two[name].nan_to_num()) for name in one)
    assert whole.records(1) == resumed.records(1)


def test_an_album_that_has_taken_nothing_can_be_kept():
    album = pictures()
    album.restore(pictures().state())
    assert album.records(1) == {}


@pytest.mark.parametrize("moment", [*MOMENTS[1:], "after"])
def test_a_picture_out_of_turn_is_refused(moment):
    with pytest.raises(ValueError, match="out of turn"):
        take(pictures(), net(), 1, moment)
