"""Adding classes: what stays, what is measured, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from pydantic import ValidationError
from tiny_extend import tiny_images, tiny_settings, tiny_start, trained
from tiny_zap import tiny_architecture, tiny_stream

from relearn.data.batches import to_float
from relearn.data.images import LabelledImages, Stream
from relearn.errors import (
    CheckpointError,
    DataError,
    ParameterError,
    StaleInputError,
    TrainingError,
)
from relearn.methods.zap.extend import (
    divide_new_classes,
    extend_classes,
    old_classes,
    require_accepted,
    verify_extension,
)
from relearn.methods.zap.extend_learn import class_weights
from relearn.methods.zap.extend_rows import Rows
from relearn.methods.zap.inference import inference_module
from relearn.models.checkpoint import Architecture, Checkpoint, build
from relearn.models.heads import find_head

STARTS = ("zero", "kaiming", "ridge")


def divided(images=None, old=None, **changes):
    settings = {"support_share": 0.5, "support_per_class": 0, "seed": 0} | changes
    old = old or old_classes(tiny_start(), tiny_stream())
    return divide_new_classes(images or tiny_images(), old, **settings)


def extended(start=None, **changes):
    start = start or tiny_start()
    old = old_classes(start, tiny_stream())
    return extend_classes(start, divided(old=old), old, tiny_settings(**changes))


def rows_of(checkpoint):
    return find_head(build(checkpoint)).module.weight.detach()


def renamed(checkpoint, **told):
    return Checkpoint(
        checkpoint.architecture, checkpoint.weights, dict(checkpoint.provenance) | told
    )


def test_the_tiny_net_has_something_to_lose():
    assert extended(epochs=0).report["old_accuracy_before"] > 0.8


@pytest.mark.parametrize("start", STARTS)
def test_old_rows_keep_every_bit_when_the_head_grows(start):
    result = extended(epochs=0, initialisation=start)
    assert torch.equal(rows_of(result.checkpoint)[:6], rows_of(tiny_start()))
    assert result.checkpoint.architecture.classes == 11
    rest = [
        n for n in tiny_start().weights if not n.startswith(find_head(build(tiny_start())).name)
    ]
    assert rest
    for name in rest:
        assert torch.equal(result.checkpoint.weights[name], tiny_start().weights[name])


def test_new_rows_start_as_asked():
    assert not rows_of(extended(epochs=0, initialisation="zero").checkpoint)[6:].any()
    drawn = rows_of(extended(epochs=0, initialisation="kaiming").checkpoint)[6:]
    assert float(drawn.std()) == pytest.approx((2 / drawn.shape[1]) ** 0.5, rel=0.3)


def test_ridge_rows_know_new_classes_before_any_step():
    with_ridge = extended(epochs=0, initialisation="ridge").report
    with_zero = extended(epochs=0, initialisation="zero").report
    assert with_ridge["new_accuracy"] > 0.25 > with_zero["new_accuracy"]


def test_ridge_rows_speak_in_the_scale_of_the_old_ones():
    stream, start = tiny_stream(), tiny_start()
    old, new, shape = old_classes(start, stream), divided(), start.architecture
    net = build(extended(epochs=0, initialisation="ridge").checkpoint)
    with torch.no_grad():
        on_new = net(to_float(new.support.images, shape.mean, shape.std))
        on_old = net(to_float(old.train.images, shape.mean, shape.std))
    own_new = on_new[torch.arange(len(new.support)), new.support.labels + 6]
    own_old = on_old[torch.arange(len(old.train)), old.train.labels]
    wrong = torch.ones(len(old.train), 6, dtype=torch.bool)
    wrong[torch.arange(len(old.train)), old.train.labels] = False
    wrong = on_old[:, :6][wrong].view(len(old.train), 5)
    lead = (own_old - wrong.amax(1)).mean()
    assert own_new.mean() == pytest.approx(float(on_new[:, :6].amax(1).mean() + lead), rel=1e-3)
    assert on_old[:, 6:].mean() == pytest.approx(float(wrong.mean()), rel=1e-3)


@pytest.mark.parametrize("start", STARTS)
def test_training_new_rows_alone_leaves_all_else_bit_equal(start):
    before = extended(epochs=0, initialisation=start).checkpoint
    after = extended(epochs=4, initialisation=start, train="new_rows").checkpoint
    head = find_head(build(before)).name
    for name, value in before.weights.items():
        old = slice(0, 6) if name.startswith(head) else slice(None)
        assert torch.equal(after.weights[name][old], value[old]), name
    assert not torch.equal(rows_of(after)[6:], rows_of(before)[6:])


@pytest.mark.parametrize(("train", "backbone_moves"), [("head", False), ("all", True)])
def test_only_what_may_change_changes(train, backbone_moves):
    after = extended(epochs=2, train=train).checkpoint
    head = find_head(build(after)).name
    same = [
        torch.equal(after.weights[name], value)
        for name, value in tiny_start().weights.items()
        if not name.startswith(head)
    ]
    assert any(same) != backbone_moves
    assert not torch.equal(rows_of(after)[:6], rows_of(tiny_start()))


def test_old_numbers_stay_and_new_names_follow_in_order():
    digest = tiny_start().digest
    result = extended(epochs=1)
    told, parent = result.checkpoint.provenance, tiny_start().provenance
    assert told["class_names"] == [*parent["class_names"], *(f"new {i}" for i in range(5))]
    assert told["class_numbers"] == [*parent["class_numbers"], -1, -1, -1, -1, -1]
    assert told["parent"] == digest == tiny_start().digest
    assert told["steps_since_intervention"] == result.report["steps"] > 0
    assert told["steps"] == parent["steps"] + result.report["steps"]
    assert told["interventions"] == parent["interventions"] + 1


def test_the_exported_net_gives_the_reported_accuracies():
    result = extended(epochs=3, train="all", replay_share=0.0)
    stream, classes = tiny_stream(), torch.tensor(tiny_start().provenance["class_numbers"])
    held_out = stream.split("validation").of_classes(classes)
    new = divided()

    def correct(checkpoint, images, labels):
        with torch.no_grad():
            guesses = inference_module(checkpoint)(images).argmax(1)
        return float((guesses == labels).double().mean())

    before = correct(tiny_start(), held_out.images, held_out.labels)
    after = correct(result.checkpoint, held_out.images, held_out.labels)
    report = result.report
    assert report["regression"] == pytest.approx(before - after)
    assert report["old_accuracy_after"] == pytest.approx(after)
    found = correct(result.checkpoint, new.query.images, new.query.labels + 6)
    assert report["new_accuracy"] == pytest.approx(found)
    low, high = report["regression_interval"]
    assert low <= report["regression"] <= high


def test_drops_and_confusions_add_up():
    report = extended(epochs=6, train="all", learning_rate=0.01, replay_share=0.0).report
    lost = sum(row["drop"] * row["images"] for row in report["worst_drops"])
    assert report["regression"] > 0
    assert lost / report["old_images"] == pytest.approx(report["regression"])  # none gained
    assert report["largest_class_drop"] == report["worst_drops"][0]["drop"]
    for kind in ("old", "new"):
        assert sum(report["confusion"][kind].values()) == pytest.approx(1)
    crossed = sum(row["images"] for row in report["crossings"])
    shares = report["confusion"]
    expected = shares["old"]["a_new"] * report["old_images"]
    expected += shares["new"]["an_old"] * report["new_images"]
    assert crossed == pytest.approx(expected)


def test_a_net_that_forgets_is_refused_with_numbers_and_remedies():
    result = extended(epochs=20, train="all", learning_rate=0.03, replay_share=0.0)
    assert not result.accepted
    assert result.report["regression"] > 0.3
    with pytest.raises(TrainingError) as caught:
        require_accepted(result.report)
    line = str(caught.value)
    assert "add_classes.largest_regression" in line
    assert "replay_share" in line
    assert "new_rows" in line
    assert "\n" not in line
    allowed = extended(
        epochs=20, train="all", learning_rate=0.03, replay_share=0.0, largest_regression=1.0
    )
    require_accepted(allowed.report)


def test_replay_keeps_what_training_without_it_loses():
    knobs = {"epochs": 10, "train": "all", "learning_rate": 0.01}
    kept = extended(replay_share=0.5, **knobs).report["regression"]
    lost = extended(replay_share=0.0, **knobs).report["regression"]
    assert kept < lost


@pytest.mark.parametrize("start", STARTS)
def test_the_row_of_an_extension_verifies_with_its_checkpoint(start):
    (entry,) = extended(epochs=2, initialisation=start).interventions
    assert entry.kind == "extend_head"
    assert entry.rows == 5
    assert entry.step == tiny_start().provenance["steps"]
    assert verify_extension(entry)
    assert verify_extension(entry, tiny_start())
    assert not verify_extension(entry, trained(tiny_architecture(), steps=3))


@pytest.mark.parametrize("start", ["zero", "kaiming"])
def test_a_row_that_was_tampered_with_does_not_verify(start):
    (entry,) = extended(epochs=0, initialisation=start).interventions
    moved = {**entry.details, "old_rows_after": "0" * 64}
    assert not verify_extension(dataclasses.replace(entry, details=moved))
    other = {**entry.details, "new_rows": "0" * 64}
    assert not verify_extension(dataclasses.replace(entry, details=other))
    whole = dataclasses.replace(entry, after_digest="0" * 64)
    assert not verify_extension(whole, tiny_start())


def test_kaiming_rows_come_from_the_seed():
    (entry,) = extended(epochs=0, initialisation="kaiming").interventions
    assert not verify_extension(dataclasses.replace(entry, draw_seed=entry.draw_seed + 1))


@pytest.mark.parametrize(("names", "outputs"), [(6, 6), (4, 7), (4, 12)])
def test_outputs_that_stand_for_nothing_are_used_first(names, outputs):
    padded = trained(tiny_architecture(outputs), steps=2)
    start = renamed(padded, class_names=list(padded.provenance["class_names"])[:names])
    result = extended(start, epochs=0, initialisation="zero")
    assert result.checkpoint.architecture.classes == max(outputs, names + 5)
    rows = rows_of(result.checkpoint)
    assert torch.equal(rows[:names], rows_of(start)[:names])
    assert not rows[names : names + 5].any()
    assert torch.equal(rows[names + 5 :], rows_of(start)[names + 5 :])
    assert verify_extension(result.interventions[0], start)


def test_a_checkpoint_can_be_extended_again():
    first = extended(epochs=1).checkpoint
    images = dataclasses.replace(tiny_images(), class_names=tuple(f"later {i}" for i in range(5)))
    old = old_classes(first, tiny_stream())
    assert old.unchecked == tuple(f"new {i}" for i in range(5))
    second = extend_classes(first, divided(images, old), old, tiny_settings(epochs=1))
    assert second.checkpoint.architecture.classes == 16
    assert second.checkpoint.provenance["class_names"][:11] == first.provenance["class_names"]
    assert second.report["unchecked_classes"] == list(old.unchecked)


class Spy:
    """Notes the labels of every step."""

    def __init__(self, monkeypatch):
        self.steps = []
        real = torch.nn.functional.cross_entropy

        def noted(logits, labels, **how):
            self.steps.append(labels.tolist())
            return real(logits, labels, **how)

        monkeypatch.setattr(torch.nn.functional, "cross_entropy", noted)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8])
@pytest.mark.parametrize("protocol", ["batches", "sequential"])
def test_the_share_of_replayed_images_is_as_asked(monkeypatch, share, protocol):
    start = tiny_start()
    spy = Spy(monkeypatch)
    extended(start, replay_share=share, protocol=protocol)
    labels = [label for step in spy.steps for label in step]
    old = sum(label < 6 for label in labels)
    assert old / len(labels) == pytest.approx(share, abs=0.02)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_with_balance_every_class_weighs_the_same(monkeypatch, share):
    start = tiny_start()
    spy = Spy(monkeypatch)
    extended(start, replay_share=share, balance=True)
    labels = torch.tensor([label for step in spy.steps for label in step])
    weights = class_weights(labels, Rows(6, 5), share)
    assert float(weights[labels >= 6].sum() / weights.sum()) == pytest.approx(5 / 11, abs=0.02)
    assert float(weights.mean()) == pytest.approx(1, abs=0.05)  # the rate means what it meant


def test_of_twins_the_old_class_keeps_its_half_with_balance():
    old = old_classes(tiny_start(), tiny_stream())
    first = old.train.images[old.train.labels == 0]
    twins = first ^ 1  # the same to the eye and to the net, but no copies
    labels = torch.zeros(len(twins), dtype=torch.int64)
    new = divided(LabelledImages(twins, labels, ("twin",), labels), old)

    def taken_for_the_twin(balance):
        config = tiny_settings(
            balance=balance, replay_share=0.2, epochs=40, initialisation="zero", learning_rate=0.01
        )
        made = extend_classes(tiny_start(), new, old, config).checkpoint
        with torch.no_grad():
            return float(inference_module(made)(first)[:, 6].mean())

    assert taken_for_the_twin(True) == pytest.approx(0.5, abs=0.2)
    assert taken_for_the_twin(False) > 0.8


def test_sequential_learns_one_new_image_a_step_class_after_class(monkeypatch):
    start = tiny_start()
    spy = Spy(monkeypatch)
    extended(start, protocol="sequential", replay_share=0.0, epochs=9)
    assert spy.steps == [[6 + label] for label in divided().support.labels.tolist()]


def test_equal_seeds_give_equal_nets_and_others_do_not():
    first = extended(epochs=2, initialisation="kaiming", train="all")
    again = extended(epochs=2, initialisation="kaiming", train="all")
    other = extended(epochs=2, initialisation="kaiming", train="all", seed=1)
    assert first.checkpoint.digest == again.checkpoint.digest
    assert first.records == again.records
    assert not torch.equal(rows_of(first.checkpoint), rows_of(other.checkpoint))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("convnet3", {"width": 4}),
        ("preact_resnet", {"width": 4, "depth": 10}),
        (
            "vision_transformer",
            {
                "width": 16,
                "depth": 1,
                "heads": 2,
                "mlp_ratio": 2.0,
                "patch_size": 8,
                "stem": "patch",
                "dropout": 0.1,
            },
        ),
    ],
)
def test_every_kind_of_net_is_extended(name, options):
    start = trained(Architecture(name, 1, 24, 6, options, (0.5,), (0.3,)), steps=2, size=24)
    stream = tiny_stream(24)
    old = old_classes(start, stream)
    new = divided(tiny_images(24), old)
    result = extend_classes(start, new, old, tiny_settings(epochs=1, train="new_rows"))
    assert verify_extension(result.interventions[0], start)
    head = find_head(build(start)).name
    for key, value in start.weights.items():
        kept = result.checkpoint.weights[key]
        assert torch.equal(kept[:6] if key.startswith(head) else kept, value), key


def test_new_images_are_divided_without_overlap():
    new = divided(support_share=0.75)
    assert new.names == tuple(f"new {i}" for i in range(5))
    assert torch.bincount(new.support.labels).tolist() == [6] * 5
    assert torch.bincount(new.query.labels).tolist() == [2] * 5
    both = torch.cat([new.support.images, new.query.images]).flatten(1)
    assert len(torch.unique(both, dim=0)) == 40
    assert torch.equal(new.support.labels, new.support.labels.sort().values)


def test_one_class_does_not_move_the_division_of_another():
    whole = tiny_images()
    keep = whole.labels != 4
    part = LabelledImages(
        whole.images[keep], whole.labels[keep], whole.class_names[:4], whole.part[keep]
    )
    few, all_ = divided(part), divided()
    assert torch.equal(few.support.images, all_.support.images[all_.support.labels != 4])


def test_copies_and_pictures_of_old_classes_are_left_out():
    whole, old = tiny_images(), old_classes(tiny_start(), tiny_stream())
    pixels = torch.cat([whole.images, whole.images[:1], old.train.images[:1]])
    labels = torch.cat([whole.labels, whole.labels[:1], whole.labels[:1]])
    more = LabelledImages(pixels, labels, whole.class_names, torch.zeros_like(labels))
    new = divided(more)
    assert new.dropped == 2
    assert torch.equal(new.support.images, divided().support.images)


def test_a_class_with_one_image_cannot_be_scored():
    whole = tiny_images()
    keep = (whole.labels != 2) | (torch.arange(len(whole.labels)) == 8)
    part = LabelledImages(
        whole.images[keep], whole.labels[keep], whole.class_names, whole.part[keep]
    )
    with pytest.raises(DataError, match="'new 2' has 1 distinct image that"):
        divided(part)


def test_support_that_leaves_nothing_to_score_is_refused():
    assert len(divided(support_per_class=7).query) == 5
    with pytest.raises(ParameterError, match=r"add_classes\.support_per_class"):
        divided(support_per_class=8)


def test_a_class_that_exists_is_refused():
    known = tiny_start().provenance["class_names"][0]
    names = (known, *tiny_images().class_names[1:])
    with pytest.raises(DataError, match=f"add_classes.source_path: .* knows {known} already"):
        divided(dataclasses.replace(tiny_images(), class_names=names))


def test_images_of_another_shape_are_refused():
    with pytest.raises(DataError, match="16x16 grey, the checkpoint reads 8x8 grey"):
        divided(tiny_images(16))


@pytest.mark.parametrize("stranger", [[], ["a class from elsewhere"]])
def test_old_images_bear_the_numbers_of_the_checkpoint_not_of_the_stream(stranger):
    known = list(reversed(tiny_start().provenance["class_names"]))[: 6 - len(stranger)]
    names = [*stranger, *known]
    old = old_classes(renamed(tiny_start(), class_names=names), tiny_stream())
    assert old.unchecked == tuple(stranger)
    for row, name in list(enumerate(names))[len(stranger) :]:
        number = tiny_stream().class_names.index(name)
        mine = old.train.images[old.train.labels == row]
        split = tiny_stream().split("train")
        assert torch.equal(mine, split.images[split.labels == number])


def test_old_classes_that_cannot_be_checked_are_refused():
    stream, start = tiny_stream(), tiny_start()
    with pytest.raises(CheckpointError, match="names 0 classes"):
        old_classes(renamed(start, class_names=[]), stream)
    with pytest.raises(StaleInputError, match="trains none of its classes"):
        old_classes(renamed(start, class_names=list("abcdef")), stream)
    with pytest.raises(StaleInputError, match="8x8 grey images, the stream has 16x16 grey"):
        old_classes(start, tiny_stream(16))
    blind = {name: split for name, split in stream.splits.items() if name != "validation"}
    with pytest.raises(DataError, match=r"data\.split\.validation_share"):
        old_classes(start, Stream(blind, stream.class_names, stream.task_of_class))


def test_a_loss_that_is_not_finite_ends_in_one_line():
    sick = dict(tiny_start().weights)
    sick[next(iter(sick))] = torch.full_like(sick[next(iter(sick))], float("nan"))
    start = Checkpoint(tiny_start().architecture, sick, tiny_start().provenance)
    with pytest.raises(TrainingError, match="loss became nan at step 1"):
        extended(start, initialisation="zero")


def test_a_batch_without_place_for_new_images_is_refused():
    with pytest.raises(ValidationError, match="leaves no place for a new image"):
        tiny_settings(batch_size=2, replay_share=0.9)
    tiny_settings(batch_size=2, replay_share=0.9, protocol="sequential")
