"""The ledger: a row proves what was done, and a row that was tampered with does not."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tiny_zap import tiny_architecture, tiny_config

from relearn.evaluation.records import Intervention
from relearn.methods.zap.arms import Arm
from relearn.methods.zap.config import Initialisation, ShamConfig
from relearn.methods.zap.ledger import Changer, verify
from relearn.methods.zap.policy import Due
from relearn.models.checkpoint import build_fresh
from relearn.models.heads import find_head
from relearn.provenance import digest_tensors

KINDS = Initialisation.__args__  # type: ignore[attr-defined]


class Bench:
    """A net that has trained a little, its optimizer, and the changer of one arm."""

    def __init__(self, change: str = "zap", *, shrink: float = 0.4, perturb: float = 0.1, **knobs):
        config = tiny_config(**knobs)
        self.architecture = tiny_architecture()
        self.model = build_fresh(self.architecture, seed=5)
        self.head = find_head(self.model)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        for _ in range(2):
            self.optimizer.zero_grad()
            self.model(torch.randn(4, 1, 8, 8)).square().mean().backward()
            self.optimizer.step()
        self.arm = Arm(f"iid_{change}", "iid", change, config.policy, config.reset)
        self.changer = Changer(
            self.arm,
            seed=7,
            architecture=self.architecture,
            sham=ShamConfig(shrink=shrink, perturb=perturb),
        )

    def change(self, *, share: float = 1.0, step: int = 10, sampled: int | None = None):
        due = Due("every 1 epochs", share)
        return self.changer.change(
            self.model, self.head, self.optimizer, due=due, step=step, epoch=1, sampled=sampled
        )

    def verified(self) -> list[bool]:
        return [verify(entry, self.architecture) for entry in self.changer.interventions]


@pytest.mark.parametrize("initialisation", KINDS)
@pytest.mark.parametrize("share", [1.0, 0.5])
def test_the_row_of_a_reset_verifies(initialisation, share):
    bench = Bench(reset__initialisation=initialisation)
    before = bench.head.module.weight.detach().clone()
    rows = bench.change(share=share)
    (entry,) = bench.changer.interventions
    after = bench.head.module.weight.detach()
    assert bench.verified() == [True]
    assert entry.rows == len(rows) == round(6 * share)
    assert entry.before_digest == digest_tensors({"rows": before[rows]})
    assert entry.after_digest == digest_tensors({"rows": after[rows]})
    assert entry.before_norm == pytest.approx(float(before[rows].norm()))
    assert entry.after_norm == pytest.approx(float(after[rows].norm()))
    assert (entry.method, entry.kind, entry.target) == ("zap", "reset_last_layer", "head.weight")
    assert (entry.seed, entry.step, entry.epoch) == (7, 10, 1)
    assert entry.details["rows"] == ("all" if share == 1 else rows.tolist())


def test_a_row_verifies_after_a_journey_through_json():
    import json

    bench = Bench(reset__initialisation="match_row_norm", reset__reset_moments=True)
    bench.change(share=0.5)
    for entry in bench.changer.interventions:
        again = Intervention(**json.loads(json.dumps(entry.as_row())))
        assert again == entry
        assert verify(again, bench.architecture)


@pytest.mark.parametrize("initialisation", [k for k in KINDS if k != "zeros"])
@pytest.mark.parametrize(
    "tampering",
    [
        {"after_digest": "0" * 64, "after_norm": 123.0},
        {"rows": 5},
        {"details": {"features": 15}},
    ],
    ids=["result", "rows", "shape"],
)
def test_a_tampered_row_of_a_reset_does_not_verify(initialisation, tampering):
    bench = Bench(reset__initialisation=initialisation)
    bench.change(share=0.5)
    (entry,) = bench.changer.interventions
    if "details" in tampering:
        tampering = {"details": {**entry.details, **tampering["details"]}}
    changed = dataclasses.replace(entry, **tampering)
    assert not verify(changed, bench.architecture)


@pytest.mark.parametrize("initialisation", [k for k in KINDS if k != "zeros"])
def test_another_seed_does_not_verify(initialisation):
    bench = Bench(reset__initialisation=initialisation)
    bench.change()
    (entry,) = bench.changer.interventions
    assert not verify(dataclasses.replace(entry, draw_seed=entry.draw_seed + 1), bench.architecture)


def test_an_unknown_kind_of_row_does_not_verify():
    bench = Bench()
    bench.change()
    (entry,) = bench.changer.interventions
    assert not verify(dataclasses.replace(entry, kind="hand edited"), bench.architecture)


def test_moments_are_cleared_for_the_rows_alone_and_only_when_asked():
    for asked in (False, True):
        bench = Bench(reset__reset_moments=asked)
        weight = bench.head.module.weight
        before = bench.optimizer.state[weight]["exp_avg"].clone()
        rows = bench.change(share=0.5)
        after = bench.optimizer.state[weight]["exp_avg"]
        others = torch.tensor([r for r in range(6) if r not in rows.tolist()])
        assert torch.equal(after[others], before[others])
        assert bool(after[rows].any()) is not asked
        kinds = [entry.kind for entry in bench.changer.interventions]
        assert kinds == ["reset_last_layer"] + ["clear_moments"] * asked
        assert all(bench.verified())
    entry = bench.changer.interventions[1]
    assert not verify(dataclasses.replace(entry, after_digest="0" * 64), bench.architecture)


def test_the_moments_sham_leaves_every_weight():
    bench = Bench("moments")
    before = {n: t.clone() for n, t in bench.model.state_dict().items()}
    bench.change()
    assert all(torch.equal(before[n], t) for n, t in bench.model.state_dict().items())
    assert not bool(bench.optimizer.state[bench.head.module.weight]["exp_avg_sq"].any())
    assert bool(bench.optimizer.state[next(bench.model.parameters())]["exp_avg_sq"].any())
    assert bench.changer.interventions[0].before_norm > 0
    assert bench.verified() == [True]


def test_shrink_and_perturb_is_shrink_times_old_plus_perturb_times_fresh():
    bench = Bench("shrink_and_perturb", shrink=0.6, perturb=0.25)
    before = {n: p.detach().clone() for n, p in bench.model.named_parameters()}
    bench.change()
    (entry,) = bench.changer.interventions
    fresh = dict(build_fresh(bench.architecture, seed=entry.draw_seed).named_parameters())
    for name, parameter in bench.model.named_parameters():
        assert torch.allclose(parameter, 0.6 * before[name] + 0.25 * fresh[name], atol=1e-7)
    assert entry.details == {"shrink": 0.6, "perturb": 0.25}
    assert bench.verified() == [True]
    assert not verify(dataclasses.replace(entry, draw_seed=1), bench.architecture)


def test_each_change_draws_anew_and_equal_seeds_draw_equally():
    one, two = Bench(), Bench()
    one.change(step=10)
    first = one.head.module.weight.detach().clone()
    one.change(step=20)
    assert not torch.equal(one.head.module.weight, first)
    two.change(step=10)
    assert torch.equal(two.head.module.weight, first)
    assert one.changer.last_step == 20


def test_the_sampled_class_alone_is_reset():
    bench = Bench(
        policy__rows="all", episode_policy__rows="sampled_class", reset__initialisation="zeros"
    )
    arm = dataclasses.replace(bench.arm, policy=tiny_config().episode_policy)
    bench.changer.arm = arm
    before = bench.head.module.weight.detach().clone()
    assert bench.change(sampled=4).tolist() == [4]
    after = bench.head.module.weight
    assert not bool(after[4].any())
    assert torch.equal(after[:4], before[:4])
