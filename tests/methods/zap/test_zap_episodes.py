"""ASB and meta-ASB against loops written by hand."""

from __future__ import annotations

import copy

import pytest
import torch
from tiny_zap import tiny_base, tiny_config, tiny_stream
from torch.func import functional_call

from relearn.data.randomness import generator_of
from relearn.data.tasks import draw_episode
from relearn.errors import TrainingError
from relearn.evaluation.records import no_log
from relearn.methods.zap.arms import arm_named
from relearn.methods.zap.episodes import _EpisodeRun, pretrain_episodes
from relearn.methods.zap.session import Session
from relearn.training.device import PLAIN_CPU

cross_entropy = torch.nn.functional.cross_entropy


def session_of(arm: str, *, seed: int = 0, **changes) -> Session:
    config = tiny_config(**changes)
    return Session(
        tiny_base(),
        tiny_stream(),
        config,
        arm=arm_named(config, arm),
        seed=seed,
        device=PLAIN_CPU,
        log=no_log,
    )


def episode_of(session: Session, number: int, block):
    return draw_episode(
        session.pixels,
        generator=generator_of(session.seed, f"episode.{number}"),
        sequence_length=block.sequence_length,
        remember=block.remember,
        sampling=block.sample,
    )


def plain_loop(session: Session, block, *, inner: bool) -> torch.nn.Module:
    """Return the net after ASB as the paper tells it: SGD on one image, then Adam on a batch."""
    net = copy.deepcopy(session.model).train()
    adam = torch.optim.Adam(net.parameters(), lr=block.outer_learning_rate)
    for number in range(block.episodes):
        drawn = episode_of(session, number, block)
        if inner:
            sgd = torch.optim.SGD(net.parameters(), lr=block.inner_learning_rate)
            for row in drawn.sequence:
                x, y = session.batch(row.unsqueeze(0))
                sgd.zero_grad()
                cross_entropy(net(x), y).backward()
                sgd.step()
        x, y = session.batch(drawn.remember if block.remember_only else drawn.batch)
        adam.zero_grad()
        cross_entropy(net(x), y).backward()
        adam.step()
    return net


def weights_of(net: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in net.parameters()])


@pytest.mark.parametrize(
    "changes",
    [{}, {"asb__remember_only": True}, {"asb__sample": "uniform"}],
    ids=["asb", "remember_only", "uniform"],
)
def test_asb_is_sgd_on_single_images_then_adam_on_the_batch(changes):
    session = session_of("asb", **changes)
    expected = plain_loop(session, session.config.asb, inner=True)
    pretrain_episodes(session, resume=None)
    assert torch.allclose(weights_of(session.model), weights_of(expected), atol=1e-6)


def test_asb_without_inner_rate_is_plain_training_on_the_same_batches():
    session = session_of("asb", asb__inner_learning_rate=0.0)
    expected = plain_loop(session, session.config.asb, inner=False)
    pretrain_episodes(session, resume=None)
    assert torch.allclose(weights_of(session.model), weights_of(expected), atol=1e-6)


def test_the_batch_gradient_is_clipped_when_asked():
    free = session_of("asb", asb__max_gradient_norm=0.0)
    wide = session_of("asb", asb__max_gradient_norm=1e6)
    tight = session_of("asb", asb__max_gradient_norm=1e-4)
    for session in (free, wide, tight):
        pretrain_episodes(session, resume=None)
    assert torch.equal(weights_of(free.model), weights_of(wide.model))
    assert not torch.equal(weights_of(free.model), weights_of(tight.model))

    def largest(session: Session) -> float:
        return max(r.value for r in session.recorder.records if r.metric == "backbone_norm")

    assert largest(tight) <= 1e-4 < largest(free)


class Meta:
    """A meta session in float64 and the gradient it leaves."""

    def __init__(self, **changes) -> None:
        self.session = session_of("meta", **changes)
        self.session.model.double()
        self.run = _EpisodeRun(self.session, self.session.config.meta)
        self.block = self.session.config.meta
        drawn = episode_of(self.session, 0, self.block)
        self.x, self.y = self._double(drawn.sequence)
        self.batch_x, self.batch_y = self._double(drawn.batch)

    def _double(self, rows):
        x, y = self.session.batch(rows)
        return x.double(), y

    def gradient(self) -> dict[str, torch.Tensor]:
        self.session.model.zero_grad(set_to_none=True)
        self.run._meta_gradient(
            self.x, self.y, batch_x=self.batch_x, batch_y=self.batch_y, config=self.block
        )
        return {n: p.grad.clone() for n, p in self.session.model.named_parameters()}

    def adapted(self, weights):
        """Return the weights after the sequence, by hand."""
        net, head = self.session.model, "head."
        for x, y in zip(self.x.split(1), self.y.split(1), strict=True):
            leaves = {n: w.detach().requires_grad_() for n, w in weights.items()}
            cross_entropy(functional_call(net, leaves, (x,)), y).backward()
            free = {n for n in leaves if self.block.inner_parameters == "all" or head in n}
            weights = {
                n: w.detach() - self.block.inner_learning_rate * w.grad if n in free else w.detach()
                for n, w in leaves.items()
            }
        return weights

    def outer_loss(self, weights) -> float:
        with torch.no_grad():
            logits = functional_call(
                self.session.model, self.adapted_no_grad(weights), (self.batch_x,)
            )
            return float(cross_entropy(logits, self.batch_y))

    def adapted_no_grad(self, weights):
        with torch.enable_grad():
            return self.adapted(weights)


@pytest.mark.parametrize("inner_parameters", ["all", "head"])
def test_the_meta_gradient_agrees_with_finite_differences(inner_parameters):
    meta = Meta(meta__inner_parameters=inner_parameters, meta__inner_learning_rate=0.3)
    found = meta.gradient()
    weights = {n: p.detach().clone() for n, p in meta.session.model.named_parameters()}
    draw = torch.Generator().manual_seed(0)
    for _ in range(4):
        along = {
            n: torch.randn(w.shape, generator=draw, dtype=torch.float64) for n, w in weights.items()
        }
        step = 1e-6
        ends = [
            meta.outer_loss({n: w + sign * step * along[n] for n, w in weights.items()})
            for sign in (1, -1)
        ]
        slope = sum(float((found[n] * along[n]).sum()) for n in weights)
        assert slope == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-4, abs=1e-7)


def test_the_first_order_gradient_is_the_batch_gradient_at_the_adapted_weights():
    meta = Meta(meta__first_order=True, meta__inner_learning_rate=0.3)
    found = meta.gradient()
    weights = {n: p.detach().clone() for n, p in meta.session.model.named_parameters()}
    there = {n: w.requires_grad_() for n, w in meta.adapted(weights).items()}
    logits = functional_call(meta.session.model, there, (meta.batch_x,))
    cross_entropy(logits, meta.batch_y).backward()
    assert all(torch.allclose(found[n], there[n].grad, atol=1e-7) for n in found)
    exact = Meta(meta__first_order=False, meta__inner_learning_rate=0.3).gradient()
    assert any(not torch.allclose(found[n], exact[n], atol=1e-4) for n in found)


@pytest.mark.parametrize("first_order", [True, False])
def test_meta_without_inner_rate_is_the_plain_gradient(first_order):
    meta = Meta(meta__inner_learning_rate=0.0, meta__first_order=first_order)
    found = meta.gradient()
    net = copy.deepcopy(meta.session.model)
    net.zero_grad()
    cross_entropy(net(meta.batch_x), meta.batch_y).backward()
    assert all(torch.allclose(found[n], p.grad, atol=1e-12) for n, p in net.named_parameters())


def test_meta_discards_the_adapted_weights():
    session = session_of("meta", meta__episodes=1, meta__inner_learning_rate=0.3)
    before = weights_of(session.model)
    pretrain_episodes(session, resume=None)
    # Adam's first step moves no weight further than its rate, however far the sequence went
    moved = (weights_of(session.model) - before).abs().max()
    assert 0 < float(moved) <= session.config.meta.outer_learning_rate * 1.001


def test_zap_resets_the_row_of_the_episodes_class_before_each_episode_but_the_first():
    session = session_of("asb_zap")
    pretrain_episodes(session, resume=None)
    block = session.config.asb
    drawn = [episode_of(session, n, block).class_number for n in range(block.episodes)]
    ledger = session.changer.interventions
    assert [entry.details["rows"] for entry in ledger] == [[c] for c in drawn[1:]]
    assert [entry.epoch for entry in ledger] == [1, 2, 3]
    assert [entry.step for entry in ledger] == [4, 8, 12]


def test_arms_of_one_seed_see_the_same_episodes_whatever_their_scheme():
    def order_of(arm: str, seed: int = 0) -> str:
        session = session_of(arm, seed=seed)
        pretrain_episodes(session, resume=None)
        return session.order_digest

    orders = {order_of(arm) for arm in ("asb", "asb_zap", "meta", "meta_zap")}
    assert len(orders) == 1
    assert order_of("asb", seed=1) not in orders


def test_a_plateau_is_judged_episode_by_episode():
    session = session_of(
        "asb_zap",
        asb__episodes=60,
        asb__outer_learning_rate=1e-6,
        asb__inner_learning_rate=0.0,
        episode_policy__trigger="plateau",
        episode_policy__plateau={"patience": 5, "smallest_gain": 0.9},
    )
    pretrain_episodes(session, resume=None)
    when = [entry.epoch for entry in session.changer.interventions]
    # the first episode sets the level, five without gain follow, then the count starts afresh
    assert when[:3] == [6, 12, 18]


def test_a_loss_that_is_not_finite_names_arm_seed_and_episode():
    session = session_of("asb", seed=4, asb__inner_learning_rate=1e30)
    with pytest.raises(TrainingError, match=r"arm asb, seed 4: loss is .* in episode \d"):
        pretrain_episodes(session, resume=None)


def test_resets_can_be_counted_in_steps():
    session = session_of(
        "asb_zap",
        episode_policy__unit="steps",
        episode_policy__every=8,
        episode_policy__rows="all",
    )
    pretrain_episodes(session, resume=None)
    assert [entry.step for entry in session.changer.interventions] == [8]
