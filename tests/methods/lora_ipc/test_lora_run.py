"""The course of a stream: orders, rivals, going on after a kill, and learning more months later."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from tiny_lora_ipc import (
    delivered,
    learn,
    learnt,
    tiny_base,
    tiny_config,
    tiny_stream,
)

from relearn.errors import ParameterError
from relearn.methods.lora_ipc import ledger
from relearn.methods.lora_ipc.arm_result import deliver
from relearn.methods.lora_ipc.arms import training_named
from relearn.methods.lora_ipc.run import StartFrom, train_tasks
from relearn.methods.lora_ipc.samples import draw_tasks
from relearn.methods.lora_ipc.state import restore_state
from relearn.methods.lora_ipc.train import score_settings, train_baseline
from relearn.methods.lora_ipc.trained import Trained
from relearn.models.checkpoint import build
from relearn.training.resume import ResumePoint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

BOOKS = ("accuracy", "matrices", "interventions", "orders", "validation", "class_numbers")


class KilledError(Exception):
    """Stands for the end of the process."""


def killed_after(tasks: int, path: Path) -> Any:
    """Return a resume point that ends the process once so many tasks have been kept."""

    class Killing(ResumePoint):
        def save(self, state: Mapping[str, Any]) -> None:
            super().save(state)
            if len(state["tasks"]) == tasks:
                raise KilledError

    return Killing(path, "key")


def assert_same(one: Trained, other: Trained) -> None:
    for name in BOOKS:
        assert getattr(one, name) == getattr(other, name), name
    assert all(torch.equal(tensor, other.net[name]) for name, tensor in one.net.items())


@pytest.mark.parametrize(
    "training", ["lorac_ipc", "lorac_ipc_rehearsal", "shared_lora", "ewc", "lwf"]
)
def test_a_killed_training_goes_on_bit_for_bit(training: str, tmp_path: Path):
    path = tmp_path / "resume.safetensors"
    with pytest.raises(KilledError):
        learn(training, resume=killed_after(2, path))
    again = learn(training, resume=ResumePoint(path, "key"))
    assert_same(again, learnt(training))


def test_a_task_that_is_killed_leaves_the_model_after_the_task_before(tmp_path: Path):
    path = tmp_path / "resume.safetensors"
    with pytest.raises(KilledError):
        learn("lorac_ipc", resume=killed_after(2, path))
    kept = ResumePoint(path, "key").load()
    assert kept is not None
    two = learn("lorac_ipc", tasks__learn=2)
    assert kept["accuracy"] == two.accuracy
    stored, wanted = kept["body"]["tensors"], two.body["tensors"]
    assert all(torch.equal(tensor, stored[name]) for name, tensor in wanted.items())


def test_further_tasks_learnt_later_are_those_learnt_at_once():
    two = learn("lorac_ipc", tasks__learn=2)
    before = two.plain()
    three = learn("lorac_ipc", resume=StartFrom(two))
    assert_same(three, learnt("lorac_ipc"))
    assert two.plain()[0] == before[0]


@pytest.mark.parametrize("training", ["lorac_ipc", "shared_lora", "ewc"])
def test_classes_that_nobody_planned_get_fresh_outputs(training: str):
    early = learn(training, tasks__learn=2)
    config = tiny_config(tasks__outputs=9, tasks__planned=5)
    tasks = draw_tasks(tiny_stream(), config.tasks, config.samples, seed=0)
    chosen = training_named(config, training)
    later = train_tasks(tiny_base(), tasks, config, training=chosen, trained=early)
    assert later.accuracy[training][:2] == early.accuracy[training][:2]
    assert len(later.tasks) == 3
    assert later.heads["plain"]["weight"].shape == (9, 16)
    if training == "lorac_ipc":
        kept = early.heads["plain"]["weight"][:4]
        assert torch.equal(later.heads["plain"]["weight"][:4], kept)
    result = deliver(later, config, arm=training)
    assert result.checkpoint.architecture.classes == 9


def test_what_a_training_comes_to_survives_as_plain_data():
    trained = learnt("lorac_ipc")
    again = Trained.from_plain(*trained.plain())
    one, other = (deliver(each, tiny_config(), arm="lorac_ipc_tii") for each in (trained, again))
    assert one.records == other.records
    assert one.checkpoint.digest == other.checkpoint.digest


def test_drift_by_differences_is_drift_by_the_modules():
    trained = learnt("lorac_ipc")
    body = trained.body
    adapters = restore_state(build(tiny_base()), body["tensors"], body["header"], where="test")
    for task, row in enumerate(trained.matrices["drift"]):
        assert ledger.drift(adapters, task) == pytest.approx(row, rel=1e-6)


def test_all_arms_of_a_seed_see_the_same_batches_but_joint_and_rehearsal():
    same = ("lorac", "lorac_ipc", "lorac_ipc_hard", "shared_lora", "sequential_full", "ewc", "lwf")
    assert len({delivered(arm).order_digest for arm in same}) == 1
    others = {delivered(arm).order_digest for arm in ("joint", "lorac_ipc_rehearsal", "lorac")}
    assert len(others) == 3


def test_arms_of_a_seed_agree_on_the_first_task_unless_they_train_otherwise():
    # nothing is frozen, weighted or held before the first task has ended; but where importance is
    # watched the gradients are computed in another order
    first = learnt("lorac").matrices["drift"][0]
    for arm in ("lorac_ipc_random", "lorac_no_omega"):
        assert learnt(arm).matrices["drift"][0] == first
    for arm in ("lorac_ipc", "lorac_ipc_rehearsal"):
        assert learnt(arm).matrices["drift"][0] == pytest.approx(first, rel=1e-4)


def test_soft_orthogonality_brings_modules_closer_to_it_and_hard_reaches_it():
    far, near, exact = (
        learnt(arm).matrices["distance"][-1]
        for arm in ("lorac_ipc_no_ortho", "lorac_ipc", "lorac_ipc_hard")
    )
    assert sum(near.values()) < sum(far.values())
    assert max(exact.values()) < 1e-5


def test_omega_moves_only_where_it_is_trained():
    def omegas(training: str) -> torch.Tensor:
        tensors = learnt(training).body["tensors"]
        return torch.cat([t for name, t in tensors.items() if name.endswith(".omega")])

    assert bool((omegas("lorac_no_omega") == 1).all())
    assert not bool((omegas("lorac") == 1).all())


def test_weight_decay_leaves_the_rows_of_earlier_classes_alone():
    def rows(tasks: int) -> torch.Tensor:
        trained = learn("lorac", train__weight_decay=0.1, tasks__learn=tasks)
        return trained.heads["plain"]["weight"][:2]

    assert torch.equal(rows(1), rows(3))


def test_what_holds_a_net_to_its_past_keeps_it_nearer():
    def drift(training: str, **changes: Any) -> float:
        trained = learn(training, rivals__full_rate=1.0, rivals__full_loss="local", **changes)
        return sum(row["mean_drift"] for row in trained.curves[1:])

    free = drift("sequential_full")
    assert drift("ewc", rivals__ewc_weight=1e6) < free
    assert drift("lwf") != free
    assert drift("lwf", rivals__lwf_temperature=1.0) != drift("lwf")


@pytest.mark.parametrize(
    ("training", "knob"), [("sequential_full", "full_loss"), ("ewc", "held_loss")]
)
def test_whole_nets_learn_among_the_classes_they_are_told(training, knob):
    def rows(loss: str, tasks: int = 2) -> torch.Tensor:
        trained = learn(training, tasks__learn=tasks, **{f"rivals__{knob}": loss})
        return trained.heads["plain"]["weight"][:2]

    first = rows("local", tasks=1)
    assert torch.equal(rows("local"), first)
    assert not torch.equal(rows("seen"), first)


def test_rehearsal_keeps_so_many_images_of_each_class_and_no_other_arm_any():
    trained = learnt("lorac_ipc_rehearsal")
    assert torch.bincount(trained.memory["labels"]).tolist() == [2] * 6
    assert learnt("lorac_ipc").memory == {}


def test_joint_training_learns_all_classes_in_one_task():
    trained = learnt("joint")
    assert trained.tasks == [list(range(6))]
    assert [len(row) for row in trained.accuracy["joint"]] == [3]
    metrics = {r.metric for r in delivered("joint").records if r.task == "test"}
    assert "forgetting" not in metrics


def test_more_training_learns_the_classes():
    trained = learn("joint_full", train__epochs=25, rivals__full_rate=0.2)
    own = trained.accuracy["joint_full"][-1]
    assert sum(own) / len(own) > 0.6


def test_an_arm_is_only_read_from_its_own_training():
    with pytest.raises(ParameterError, match="delivered by lorac_ipc"):
        deliver(learnt("lorac"), tiny_config(), arm="lorac_ipc_tii")


def test_settings_are_scored_on_validation_images_alone():
    config, base, stream = tiny_config(), tiny_base(), tiny_stream()
    score, seconds = score_settings(base, stream, config, training="lorac", seed=0)
    own = learnt("lorac").validation["lorac"]
    assert score == pytest.approx(sum(own) / len(own))
    assert seconds["learn_seconds"] > 0
    none = {"samples__validation_share": 0.0, "trainings__ranpac": False}
    with pytest.raises(ParameterError, match="validation_share"):
        score_settings(base, stream, tiny_config(**none), training="lorac", seed=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora__rank": 6}, "18 orthogonal columns"),
        ({"tasks__planned": 9}, "18 orthogonal columns"),
        ({"tasks__outputs": 3}, "outputs"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_trained(
    changes: dict[str, Any], message: str
):
    with pytest.raises(ParameterError, match=message):
        learn("lorac", **changes)


def test_a_backbone_without_attention_is_refused():
    base = delivered("raw_ncm").checkpoint
    with pytest.raises(ParameterError, match="no attention"):
        train_baseline(base, tiny_stream(), tiny_config(), arm="lorac", seed=0)


def test_curves_are_logged_while_tasks_are_learnt():
    seen: dict[int, set[str]] = {}

    def log(step: int, values: Mapping[str, float]) -> None:
        seen.setdefault(step, set()).update(values)

    train_baseline(
        tiny_base(), tiny_stream(), tiny_config(tasks__learn=2), arm="lorac", seed=0, log=log
    )
    assert list(seen) == [2, 4, 6, 8]
    assert {"epoch_loss", "learning_rate"} <= seen[2]
    assert {"seen_accuracy.lorac_tii", "mean_drift", "test_forgetting"} <= seen[8]
