"""Training on from a grown net: resume points, giving up, moments, plateau, distillation."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import pytest
import torch
from tiny_grow import (
    architecture,
    curve,
    opened,
    plain,
    run,
    taught,
    tiny_base,
    tiny_config,
    tiny_stream,
    value,
)

from relearn.errors import DataError, ParameterError
from relearn.methods.grow.arms import arm_named
from relearn.methods.grow.faults import FunctionChangedError
from relearn.methods.grow.growing import faults_of, grow_teacher, require_open
from relearn.methods.grow.headroom import advise, probe
from relearn.methods.grow.judge import flips
from relearn.methods.grow.ledger import verify
from relearn.methods.grow.pair import samples_of, teach
from relearn.methods.grow.record import GrowthRecord
from relearn.methods.grow.siblings import sibling_cosine
from relearn.methods.grow.start import start_of
from relearn.methods.grow.stopping import Abort, Plateau
from relearn.methods.grow.teacher import Teacher
from relearn.methods.grow.train import run_arm, score_settings, with_rate
from relearn.models.checkpoint import build, build_fresh, load_checkpoint, save_checkpoint
from relearn.training.device import PLAIN_CPU
from relearn.training.resume import ResumePoint


class Stop(Exception):
    """Stands for a kill."""


def test_a_training_that_was_cut_off_ends_where_an_uninterrupted_one_ends(tmp_path):
    resume = ResumePoint(tmp_path / "resume.safetensors")

    def killed(step, values):
        if step >= 7 and "validation_loss" in values:
            raise Stop

    with pytest.raises(Stop):
        run_arm(
            taught(), tiny_stream(), tiny_config(), arm="grown", seed=0, resume=resume, log=killed
        )
    assert resume.path.exists()
    found = run_arm(taught(), tiny_stream(), tiny_config(), arm="grown", seed=0, resume=resume)

    whole = plain("grown")
    assert found.records == whole.records
    assert found.checkpoint.digest == whole.checkpoint.digest
    assert found.order_digest == whole.order_digest


def test_a_grown_net_that_stays_worse_is_given_up_for_its_teacher():
    abort = {"enabled": True, "evaluations": 1, "tolerance": 0.0, "grace_steps": 0}
    found = run("grown", growth__abort=abort, rates__grown=3000.0)

    assert value(found, "abort", "aborted") == 1
    kinds = [entry.kind for entry in found.interventions]
    assert kinds == ["widen", "return_to_teacher"]
    teacher = taught().checkpoint
    assert found.checkpoint.architecture == teacher.architecture
    assert all(torch.equal(v, teacher.weights[n]) for n, v in found.checkpoint.weights.items())
    assert value(found, "validation", "accuracy") == value(found, "start", "teacher_accuracy")
    assert all(
        verify(entry, found.checkpoint.architecture, teacher=teacher)
        for entry in found.interventions
    )


def test_controls_are_never_given_up():
    abort = {"enabled": True, "evaluations": 1, "tolerance": 0.0, "grace_steps": 0}
    assert [e.kind for e in run("random_pad", growth__abort=abort).interventions] == ["random_pad"]


def test_the_abort_counts_evaluations_in_a_row_after_the_grace():
    abort = Abort(1.0, patience=2, tolerance=0.1, grace_steps=10)
    told = [(5, 9.0), (15, 1.2), (20, 1.05), (25, 1.2), (30, 1.2)]
    assert [abort.due(loss, step) for step, loss in told] == [False, False, False, False, True]


def test_a_plateau_is_patience_without_gain():
    plateau = Plateau(patience=2, smallest_gain=0.01)
    found = [plateau.stands_still(v, n) for n, v in enumerate([0.5, 0.505, 0.52, 0.52, 0.525])]
    assert found == [False, False, False, False, True]
    assert plateau.reached == 4


def test_a_teacher_that_stands_still_is_grown_early_and_others_get_its_true_budget():
    trigger = {"when": "plateau", "plateau": {"patience": 1, "smallest_gain": 0.9}}
    trigger["first_share"] = 0.5
    config = tiny_config(growth__trigger=trigger, teacher__train__epochs=6)
    early = teach(tiny_base(), tiny_stream(), config, seed=0)
    assert early.told["plateau_epoch"] == early.told["epochs"] == 2
    assert (
        early.told["flops"] * 3
        == teach(tiny_base(), tiny_stream(), tiny_config(teacher__train__epochs=6), seed=0).told[
            "flops"
        ]
    )


def test_more_data_means_that_the_teacher_saw_a_share_of_every_class():
    trigger = {"when": "more_data", "plateau": {"patience": 1, "smallest_gain": 0.0}}
    config = tiny_config(growth__trigger={**trigger, "first_share": 0.25})
    samples = samples_of(tiny_stream(), config, seed=0)
    counts = [torch.bincount(part.labels).tolist() for part in (samples.train, samples.first)]
    assert [round(0.25 * n) for n in counts[0]] == counts[1]
    rows = {bytes(image.numpy().tobytes()) for image in samples.train.images}
    assert all(bytes(image.numpy().tobytes()) in rows for image in samples.first.images)


def test_only_so_many_test_images_are_read_and_they_are_no_training_images():
    given = {"train_images": 60, "validation_images": 18, "test_images": 10}
    few = samples_of(tiny_stream(), tiny_config(samples=given), seed=0)
    all_of = samples_of(tiny_stream(), tiny_config(), seed=0)
    assert (len(few.test), len(all_of.test)) == (10, 30)
    rows = {bytes(image.numpy().tobytes()) for image in all_of.test.images}
    assert all(bytes(image.numpy().tobytes()) in rows for image in few.test.images)


def test_kept_moments_reach_the_grown_net_and_the_continued_teacher():
    for arm in ("grown", "teacher_continued"):
        for keep in (True, False):
            config = tiny_config(growth__keep_moments=keep)
            start = start_of(
                arm_named(config, arm),
                taught(),
                opened(growth__keep_moments=keep).grown,
                config,
                seed=0,
                device=PLAIN_CPU,
            )
            assert bool(start.optimizer.state) == keep
            assert start.optimizer.param_groups[0]["lr"] == pytest.approx(0.003)


def test_copies_have_equal_inputs_at_first_and_part_in_training():
    pair = opened()
    first = sibling_cosine(pair.grown.student, pair.grown.record)
    assert first["sibling_cosine"] == pytest.approx(1.0)
    parted = run("grown", rates__grown=10.0, train__optimizer="adam")
    assert value(parted, "unit_usage", "sibling_cosine") < 1 - 1e-6


def test_a_grown_checkpoint_is_made_again_from_its_file(tmp_path):
    result = plain("grown")
    save_checkpoint(result.checkpoint, tmp_path / "net.safetensors")
    loaded = load_checkpoint(tmp_path / "net.safetensors")
    images = torch.rand(4, 1, 8, 8)
    assert loaded.digest == result.checkpoint.digest
    assert torch.equal(build(loaded)(images), build(result.checkpoint)(images))
    assert loaded.architecture.options["width"] == 6
    assert build(loaded).hidden[0].out_features == 12


def test_scratch_arms_are_made_by_their_own_class_in_the_student_width():
    shape = plain("scratch").checkpoint.architecture
    assert (shape.options["width"], dict(shape.growth)) == (12, {})


def test_a_ledger_row_that_was_changed_does_not_verify():
    result = plain("grown")
    [entry], shape = result.interventions, result.checkpoint.architecture
    teacher = taught().checkpoint
    assert verify(entry, shape, teacher=teacher)
    details = json.loads(json.dumps(entry.details))
    assert verify(replace(entry, details=details), shape)
    details["record"]["maps"][0]["shares"][0][0] += 1e-6
    assert not verify(replace(entry, details=details), shape)
    assert not verify(replace(entry, draw_seed=entry.draw_seed + 1), shape)
    assert not verify(entry, shape, teacher=taught(1).checkpoint)
    assert not verify(entry, architecture(width=7, depth=2))


def test_the_gate_names_what_is_too_large():
    report, gate = opened().grown.report, tiny_config().growth.gate
    assert faults_of(report, gate, exact=True) == []
    bad = replace(report, relative_float64=float("nan"), rounding_ratio=9.0, first_bad_layer="a.b")
    assert len(faults_of(bad, gate, exact=True)) == 2
    with pytest.raises(FunctionChangedError, match=r"grow.growth.gate.*first at a\.b"):
        require_open(bad, gate, exact=True, seed=0)


def test_a_failed_gate_changes_nothing_and_trains_nothing(monkeypatch):
    from relearn.methods.grow import growing

    def broken(net, planned, **given):
        student, record = apply(net, planned, **given)
        with torch.no_grad():
            student.hidden[0].weight[-1].mul_(1.001)
        return student, record

    apply = growing.apply
    monkeypatch.setattr(growing, "apply", broken)
    teacher, config = taught().checkpoint, tiny_config()
    before = teacher.digest
    samples = samples_of(tiny_stream(), config, seed=0)
    with pytest.raises(FunctionChangedError, match="nothing was trained"):
        grow_teacher(teacher, samples, config, seed=0)
    assert replace(teacher).digest == before


def test_noise_is_held_to_its_budget_instead():
    pair = opened(growth__copies__symmetry="noise", growth__copies__noise=0.001)
    assert not pair.grown.record.exact
    assert 0 < pair.grown.report.relative_float64 < 0.05
    with pytest.raises(FunctionChangedError, match="float64 difference"):
        opened(
            growth__copies__symmetry="noise",
            growth__copies__noise=1.0,
            growth__gate__noise_budget=1e-4,
        )


@pytest.mark.parametrize(
    ("kind", "factor", "named"),
    [("residual", 2.0, "widen_and_deepen"), ("identity", 1.0, "deepen")],
)
def test_new_layers_keep_the_function_are_booked_and_trained(kind, factor, named):
    depth = {**tiny_config().growth.depth.model_dump(), "layers": {"hidden.1": 1}}
    changes = {
        "growth__depth": {**depth, "place": "after", "kind": kind, "norm": False},
        "growth__width__factor": factor,
        "arms__random_layers": True,
    }
    found, control = run("grown", **changes), run("random_layers", **changes)
    teacher = taught().checkpoint
    assert value(found, "start", "drift") == 0
    assert value(found, "gate", "relative_float64") <= 1e-12
    assert [e.kind for e in found.interventions] == [named]
    assert [e.kind for e in control.interventions] == ["random_layers"]
    for result in (found, control):
        [entry] = result.interventions
        assert verify(entry, result.checkpoint.architecture, teacher=teacher)
        assert build(result.checkpoint)(torch.rand(2, 1, 8, 8)).shape == (2, 3)
    assert "hidden.1.1.body.0.weight" in found.checkpoint.weights or kind == "identity"


@cache
def deeper(kind="identity"):
    depth = {**tiny_config().growth.depth.model_dump(), "layers": {"hidden.1": 2}}
    depth |= {"place": "after", "kind": kind, "norm": True}
    return run("grown", growth__depth=depth, growth__width__factor=1.0)


def changed(entry, place, value):
    """Return a row whose record was changed and given the digest that it has now."""
    details = json.loads(json.dumps(entry.details))
    *path, last = place
    block = details["record"]
    for name in path:
        block = block[name]
    block[last] = value(block[last])
    digest = GrowthRecord.of(details["record"]).digest
    return replace(entry, details={**details, "record_digest": digest})


@pytest.mark.parametrize("kind", ["identity", "residual"])
def test_new_layers_are_calibrated_and_made_again_from_the_row_and_the_teacher(kind):
    found, teacher = deeper(kind), taught().checkpoint
    assert value(found, "start", "drift") == 0
    [entry] = found.interventions
    told = json.loads(json.dumps(entry.details))
    assert told["record"]["certificate"]["worst_layer_error"] <= 1e-12
    assert [len(d["calibrated"]) for d in told["record"]["depth"]] == [2 * (kind == "identity")]
    assert verify(replace(entry, details=told), found.checkpoint.architecture, teacher=teacher)
    other = replace(entry, after_digest="0" * 64)
    assert not verify(other, found.checkpoint.architecture, teacher=teacher)


@pytest.mark.parametrize(
    ("kind", "place", "value"),
    [
        ("identity", ("depth", 0, "calibrated", 0, "gain", 0), lambda v: v * (1 + 1e-5)),
        ("identity", ("depth", 0, "calibrated", 1, "eps"), lambda v: v * 1.37),
        ("identity", ("depth", 0, "kind"), lambda _: "residual"),
        ("residual", ("depth", 0, "kind"), lambda _: "identity"),
        ("residual", ("depth", 0, "path"), lambda _: "hidden.0"),
        ("residual", ("depth",), lambda _: []),
        ("residual", ("plan", "depth", 0, "layers"), lambda _: 1),
    ],
)
def test_a_row_whose_layers_were_changed_does_not_verify(kind, place, value):
    found = deeper(kind)
    [entry], shape = found.interventions, found.checkpoint.architecture
    assert verify(entry, shape)
    assert not verify(changed(entry, place, value), shape)


def test_a_calibration_that_was_not_the_runs_is_found_with_the_teacher():
    found = deeper()
    [entry], shape = found.interventions, found.checkpoint.architecture
    moved = changed(entry, ("depth", 0, "calibrated", 0, "mean", 0), lambda v: v + 0.5)
    assert verify(moved, shape)  # any mean is an identity
    assert not verify(moved, shape, teacher=taught().checkpoint)


def test_a_rate_is_tried_for_one_arm_alone():
    config = with_rate(tiny_config(), arm="grown", factor=3.0)
    assert (config.rates.grown, config.rates.scratch) == (3.0, 1.0)
    score, seconds = score_settings(taught(), tiny_stream(), config, arm="grown", seed=0)
    assert 0 <= score <= 1
    assert seconds["train"] > 0


def test_a_distilled_net_hears_its_teacher():
    with_teacher, alone = (
        run("distilled", distillation={"temperature": 4.0, "weight": w}) for w in (0.9, 1e-9)
    )
    assert curve(with_teacher, "validation_loss") != curve(alone, "validation_loss")
    assert with_teacher.checkpoint.architecture.options["width"] == 12
    assert not any("teacher" in name for name in with_teacher.checkpoint.weights)


def test_flips_tell_both_ways():
    before = torch.eye(3)[[0, 1, 2, 0]]
    after = torch.eye(3)[[0, 1, 0, 1]]
    found = flips(after, before, torch.tensor([0, 1, 2, 1]), classes=3)
    assert (found["negative_flips_share"], found["positive_flips_share"]) == (0.25, 0.25)
    assert found["agreement_share"] == 0.5
    assert found["worst_class_fall"] == 1.0


@pytest.mark.parametrize(
    ("train", "validation", "gain", "grow"),
    [
        (0.9, 0.7, None, True),
        (0.9, 0.7, 0.1, True),
        (0.9, 0.7, 0.0, False),
        (1.0, 0.7, None, False),
        (0.99, 0.99, None, False),
    ],
)
def test_growing_is_advised_against_where_it_cannot_help(train, validation, gain, grow):
    told = [{"train_accuracy": train, "validation_accuracy": validation}]
    advice = advise(told, tiny_config().growth.headroom, gain=gain)
    assert advice.grow == grow
    assert advice.reasons


def test_the_probe_trains_fresh_nets_of_both_sizes():
    headroom = {**tiny_config().growth.headroom.model_dump(), "probe_epochs": 2}
    config = tiny_config(growth__headroom=headroom)
    first, second = probe(opened(), config), probe(opened(), config)
    assert first == second
    assert -1 <= first <= 1


def test_a_net_without_a_width_has_none_to_set():
    base = replace(tiny_base(), architecture=replace(architecture(), options={}))
    with pytest.raises(ParameterError, match=r"grow\.teacher\.width"):
        teach(base, tiny_stream(), tiny_config(), seed=0)


def test_too_few_images_are_refused_by_name():
    config = tiny_config(samples={"train_images": 500, "validation_images": 18, "test_images": 0})
    with pytest.raises(DataError, match=r"grow\.samples\.train_images"):
        teach(tiny_base(), tiny_stream(), config, seed=0)


def test_a_teacher_is_equal_for_equal_seeds_and_keeps_its_optimizer():
    again = teach(tiny_base(), tiny_stream(), tiny_config(), seed=0)
    assert isinstance(again, Teacher)
    assert again.checkpoint.digest == taught().checkpoint.digest
    assert set(again.optimizer) == set(taught().optimizer) != set()


def test_growth_in_an_architecture_leaves_the_number_of_classes_open():
    shape = plain("grown").checkpoint.architecture.with_classes(5)
    assert build_fresh(shape, seed=0).head.weight.shape == (5, 12)
