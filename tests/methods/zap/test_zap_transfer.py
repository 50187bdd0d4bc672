"""The judge: what is chosen where, and what is reported where."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from tiny_zap import tiny_base, tiny_config, tiny_stream

from relearn.evaluation import continual
from relearn.evaluation.records import Recorder
from relearn.methods.zap.few_shot import few_shot_transfer
from relearn.methods.zap.sequential import Setting, sequential_transfer
from relearn.methods.zap.transfer import Judge, best_head
from relearn.methods.zap.transfer_task import TransferHead, draw_transfer_task
from relearn.models.checkpoint import build
from relearn.training.choice import Choice

GRID = {"centre": 0.01, "factor": 3.0, "points": 3, "widenings": 1}


def judge_of(*, stream=None, seed: int = 0, **changes) -> Judge:
    return Judge(
        build(tiny_base()),
        tiny_base().architecture,
        stream or tiny_stream(),
        tiny_config(**changes).transfer,
        seed=seed,
    )


def judged(judge: Judge):
    recorder = Recorder("zap", "iid", judge.seed)
    tensors = judge.judge(recorder)
    return {(r.task, r.step, r.metric): r.value for r in recorder.records}, tensors


def blanked(prefix: str):
    """Return the stream with the images of one pool turned black."""
    stream = tiny_stream()
    splits = {
        name: dataclasses.replace(s, images=torch.zeros_like(s.images))
        if name.startswith(prefix)
        else s
        for name, s in stream.splits.items()
    }
    return dataclasses.replace(stream, splits=splits)


CHANGES = {
    "transfer__few_shot__rate": GRID,
    "transfer__continual__rate": GRID,
    "transfer__few_shot__heads": {"zero": True, "kaiming": True, "ridge": True},
    "transfer__continual__heads": {"zero": True, "kaiming": True, "ridge": False},
}


def choices(judge: Judge):
    few = {k: (c.rate, c.score) for k, c in judge.choose_few_shot().items()}
    return few, {k: (c.rate, c.score) for k, c in judge.choose_continual().items()}, judge.penalty


def test_choices_on_validation_never_look_at_the_transfer_classes():
    assert choices(judge_of(**CHANGES)) == choices(judge_of(stream=blanked("transfer"), **CHANGES))
    assert choices(judge_of(**CHANGES)) != choices(judge_of(stream=blanked("selection"), **CHANGES))


def test_choices_on_test_look_at_the_transfer_classes_alone():
    parity = {**CHANGES, "transfer__select_on": "test"}
    assert choices(judge_of(**parity)) == choices(judge_of(stream=blanked("selection"), **parity))
    assert choices(judge_of(**parity)) != choices(judge_of(stream=blanked("transfer"), **parity))


def test_reports_are_of_the_transfer_classes():
    one = {"transfer__few_shot__heads": {"zero": True, "kaiming": False, "ridge": False}}
    seen, _ = judged(judge_of(**one))
    blind, _ = judged(judge_of(stream=blanked("transfer"), **one))
    assert seen["few_shot", 2, "accuracy"] > blind["few_shot", 2, "accuracy"]
    assert blind["few_shot", 2, "accuracy"] == pytest.approx(1 / 3)
    assert blind["continual", 3, "accuracy"] == pytest.approx(1 / 3)
    assert blind["ridge", 0, "accuracy"] == pytest.approx(1 / 3)


def test_the_reported_curve_is_that_of_the_chosen_head_and_rate():
    judge = judge_of(**CHANGES)
    rows, tensors = judged(judge)
    found = judge.choose_few_shot()
    start = best_head(found)
    task = draw_transfer_task(
        tiny_stream(),
        pool="transfer",
        classes=3,
        seed=0,
        name="few_shot",
        mean=(0.5,),
        std=(0.3,),
    )
    penalty = judge.penalty[0] if start == "ridge" else 1.0
    curve = few_shot_transfer(
        judge.model,
        task,
        TransferHead(start, penalty=penalty),
        rate=found[start].rate,
        seed=0,
        batch_size=6,
        evaluate_every=1,
    )
    for step, value in zip(curve.steps, curve.accuracy, strict=True):
        assert rows["few_shot", step, "accuracy"] == value
    last = curve.steps[-1]
    assert rows["few_shot", last, f"accuracy_{start}_head"] == curve.final
    assert rows["few_shot", last, "area_under_curve"] == pytest.approx(curve.area())
    assert rows["few_shot", last, "steps_to_target"] == curve.steps_to(0.9)
    assert torch.equal(tensors["few_shot.predicted"], curve.predicted)
    assert torch.equal(tensors["few_shot.label"], task.query_labels)
    told = {k[2]: v for k, v in rows.items() if k[0] == "few_shot_choice" and "chosen" in k[2]}
    assert told == {f"chosen_{h}_head": float(h == start) for h in ("zero", "kaiming", "ridge")}


def test_the_continual_records_are_read_off_the_matrix():
    judge = judge_of(**CHANGES)
    rows, tensors = judged(judge)
    matrix, learnt = tensors["continual.matrix"], tensors["continual.learnt"].tolist()
    assert learnt == [1, 2, 3]
    assert matrix.shape == (3, 3)
    seen = continual.seen_accuracy(matrix, learnt)
    for number, count in enumerate(learnt):
        assert rows["continual", count, "accuracy"] == pytest.approx(float(matrix[number].mean()))
        assert rows["continual", count, "seen_accuracy"] == pytest.approx(float(seen[number]))
    assert rows["continual", 3, "forgetting"] == continual.forgetting(matrix, learnt)
    assert rows["continual", 3, "backward_transfer"] == continual.backward_transfer(matrix, learnt)


def test_each_continual_rate_is_scored_as_if_it_ran_alone():
    judge = judge_of(**CHANGES)
    task = judge.task("continual", 3, choosing=True)
    for start, choice in judge.choose_continual().items():
        for rate, score in choice.tried.items():
            setting = Setting(TransferHead(start), rate)
            (found,) = sequential_transfer(judge.model, task, [setting], seed=0)
            assert score == continual.average_accuracy(found.matrix)


def test_judging_keeps_the_net_and_gives_equal_answers_twice():
    judge = judge_of(**CHANGES)
    before = {n: t.clone() for n, t in judge.model.state_dict().items()}
    first, _ = judged(judge)
    assert all(torch.equal(before[n], t) for n, t in judge.model.state_dict().items())
    assert judged(judge_of(**CHANGES))[0] == first
    assert all(math.isfinite(v) for v in first.values())


def test_another_seed_meets_other_classes():
    one, two = judge_of(), judge_of(seed=1)
    assert not torch.equal(one.few_shot_tasks[1].support, two.few_shot_tasks[1].support)


def test_the_penalty_with_the_best_selection_score_is_taken():
    judge = judge_of(transfer__ridge={"lowest": 1e-4, "highest": 1.0, "points": 3})
    penalty, score = judge.penalty
    tried = {p: judge.ridge_score(judge.few_shot_tasks[0], p) for p in (1e-4, 1e-2, 1.0)}
    assert score == max(tried.values())
    assert penalty == pytest.approx(max(p for p, s in tried.items() if s == score))


def test_of_equally_good_penalties_the_largest_is_taken():
    knobs = {"lowest": 1e-3, "highest": 1.0, "points": 3}
    blind = judge_of(stream=blanked("selection"), transfer__ridge=knobs)
    assert blind.penalty == (1.0, pytest.approx(1 / 3))


def test_the_selection_score_is_the_best_over_heads():
    judge = judge_of(**CHANGES)
    found = [c.score for c in judge.choose_few_shot().values()]
    assert judge.selection_score() == max(found)


def test_the_first_of_equal_heads_wins():
    def choice(score: float) -> Choice:
        return Choice(0.1, score, at_border=False, tried={0.1: score})

    assert best_head({"zero": choice(0.5), "kaiming": choice(0.5)}) == "zero"
    assert best_head({"zero": choice(0.4), "kaiming": choice(0.5)}) == "kaiming"


def test_a_wide_transfer_head_is_the_parity_switch():
    judge = judge_of()
    wide = dataclasses.replace(judge, outputs=1000)
    _, tensors = judged(wide)
    assert int(tensors["few_shot.predicted"].max()) < 1000
    net_head = wide._head("kaiming", alone=False)
    assert net_head.outputs == 1000
