"""The benchmark of adversarial training runs on tiny batches and prints what is kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def modules(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import adversarial_work
    import bench_adversarial

    # not in the tests' process
    monkeypatch.setattr(adversarial_work, "keep_freed_memory", lambda: True)
    return bench_adversarial, adversarial_work


def test_the_net_has_the_size_of_the_papers_net(modules):
    from relearn.models.checkpoint import build_fresh

    net = build_fresh(modules[1].architecture(), seed=0)
    assert sum(p.numel() for p in net.parameters()) == 11_172_170  # counted in the official code


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_is_done_again_and_again_and_counted(modules, precision):
    repetition = modules[1].step(batch_size=2, steps=1, precision=precision)
    assert [repetition(), repetition()] == [1.0, 1.0]


def test_short_trainings_return_a_robust_accuracy(modules):
    found = modules[1].trained(precision="fp32", epochs=1, seeds=1)()
    assert 0 <= found <= 1


def test_every_row_names_work_that_exists_and_says_what_the_other_code_does_besides(modules):
    bench, work = modules
    rows = [
        row for threads in (1, 2) for row in bench.rows(bench.WHOLE, "somewhere", threads=threads)
    ]
    assert len({row.name for row in rows}) == len(rows) == 4
    assert all(hasattr(work, row.ours.maker) for row in rows)
    assert {row.goal for row in rows} == {6.0, 1.7}
    assert all("the official code also computes" in row.conditions for row in rows)


def test_the_products_of_a_step_are_those_of_every_convolution(modules):
    import adversarial_products

    from relearn.models.checkpoint import build_fresh

    net = build_fresh(modules[1].architecture(), seed=0)
    found = list(adversarial_products._products(2, torch.float32))
    assert len(found) == sum(isinstance(m, torch.nn.Conv2d) for m in net.modules())
    for layer, images, weight, gradient in found:
        made = torch.conv2d(images, weight, None, layer.stride, layer.padding)
        assert made.shape == gradient.shape
    assert adversarial_products.step(batch_size=2, steps=1, precision="bf16")() == 1.0
    rows = list(modules[0].bound_rows(modules[0].WHOLE, "somewhere"))
    assert {row.ours.maker for row in rows} == {"step"}
    assert {row.goal for row in rows} == {None}


def test_what_the_method_costs_is_a_training_over_a_training_of_the_same_size(modules):
    rows = list(modules[0].method_rows(modules[0].WHOLE))
    assert [row.name.partition("overhead")[2] for row in rows] == ["", "_pilot", "_pilot_monitored"]
    for row in rows:
        assert row.ours.options == {**row.peer.options, "name": "forget_relearn"}
        assert row.peer.options["name"] == "pgd_at"


def test_the_judge_attacks_the_same_images_on_the_folded_net_and_on_the_net(modules, monkeypatch):
    import adversarial_method

    from relearn.evaluation.attacks import scoring

    monkeypatch.setattr(adversarial_method, "keep_freed_memory", lambda: True)
    asked = []
    folded = scoring.folded
    monkeypatch.setattr(scoring, "folded", lambda net: asked.append(net) or folded(net))
    for row in modules[0].judging_rows(modules[0].WHOLE):
        assert row.ours.options == {**row.peer.options, "folded": True}
    assert adversarial_method.judging(images=4, steps=2, folded=True)() == 4.0
    assert len(asked) == 1
    assert adversarial_method.judging(images=4, steps=2, folded=False)() == 4.0
    assert len(asked) == 1


def test_a_checkout_that_is_none_is_refused_in_one_line(modules, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        modules[0].main(["--peer", str(tmp_path)])
    assert ended.value.code != 0
    assert "no train_cifar.py" in capsys.readouterr().err


@pytest.mark.full
def test_the_last_line_is_one_json_object_with_a_row_for_each_claim():
    done = subprocess.run(
        [sys.executable, str(FOLDER / "bench_adversarial.py"), "--quick", "--threads", "1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert {row["name"] for row in result["rows"]} == {
        "adversarial.step_bf16",
        "adversarial.step_fp32",
        "adversarial.same_result_bf16",
        "adversarial.forget_relearn_overhead_pilot",
        "adversarial.forget_relearn_overhead_pilot_monitored",
        "adversarial.bound_bf16",
        "adversarial.bound_fp32",
        "adversarial.judging_256_images",
        "adversarial.judging_50_images",
    }
    assert all(row["ours"] >= 0 for row in result["rows"])


def made_up(name, **changes):
    row = {
        "name": name,
        "ours": 2.0,
        "peer": 1.0,
        "ratio": 2.0,
        "ratio_range": [1.9, 2.1],
        "ratio_by_the_clock": 2.0,
        "goal": 6.0,
        "unit": "steps/CPU-s",
        "precision": "bf16",
        "megabytes": [700, 900],
        "against": "official code",
        "conditions": "batch 128",
    }
    return row | changes


def test_the_page_tells_ratios_memory_missed_goals_and_whether_results_are_the_same(modules):
    import speed_page

    same = {"name": "same", "ours": 0.5, "peer": 0.6, "margin": 0.04, "within_margin": False}
    same |= {"precision": "bf16", "against": "ours in fp32", "conditions": "3 seeds"}
    costs = made_up("cost", ratio=0.97, goal=0.952, against="plain adversarial training")
    machine = {"machine": "m", "torch": "2", "repetitions": 3, "date": "d", "load": 0.1}
    rows = [made_up("step"), same, costs]
    text = speed_page.adversarial_page({**machine, "commit": "c", "rows": rows})
    assert "Below its goal: `step` (2.00 of 6)." in text
    assert "Largest memory in `step`: 700 MB and 900 MB (ours, theirs)." in text
    assert "0.600 for ours in fp32: NOT within the margin of 0.04" in text
    assert "**0.97**" in text
    assert "Every goal is met." in text
