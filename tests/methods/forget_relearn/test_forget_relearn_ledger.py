"""Every row of the ledger can be made again, and one that was tampered with cannot."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tiny_forget_relearn import plain, run

from relearn.evaluation.records import Intervention
from relearn.methods.forget_relearn.ledger import is_proven_by_mask_alone, redraw_values, verify


def rows_of(training: str) -> tuple[list[Intervention], object]:
    found = plain(training)
    return found.interventions, found.architecture


def detailed(row: Intervention, **changes) -> Intervention:
    return replace(row, details={**row.details, **changes})


@pytest.mark.parametrize("training", ["forget_relearn", "share_zero", "forget_early"])
def test_every_row_verifies_after_a_journey_through_json(training):
    rows, architecture = rows_of(training)
    assert len(rows) > 1
    for row in rows:
        again = Intervention(**json.loads(json.dumps(row.as_row())))
        assert again == row
        assert verify(again, architecture)


@pytest.mark.parametrize("mask", ["exact", "bernoulli"])
@pytest.mark.parametrize("kind", ["fresh", "rewind", "zero", "stable"])
def test_rows_of_every_mask_and_source_verify(mask, kind):
    changes = {"forget__mask": mask, "forget__initialisation": kind, "forget__include_bias": True}
    found = run("forget_relearn", train__epochs=4, **changes)
    assert {row.details["initialisation"] for row in found.interventions} == {kind}
    assert all(verify(row, found.architecture) for row in found.interventions)


def test_values_that_were_rewound_to_a_checkpoint_are_proven_by_their_mask_alone():
    found = run(
        "forget_relearn", train__epochs=4, start_from="base", forget__initialisation="rewind"
    )
    row = found.interventions[0]
    assert row.details["origin_seed"] == -1
    assert verify(row, found.architecture)
    assert not verify(replace(row, draw_seed=row.draw_seed + 1), found.architecture)


@pytest.mark.parametrize("start", ["initialisation", "base"])
@pytest.mark.parametrize("kind", ["fresh", "rewind", "zero", "stable"])
def test_a_row_says_whether_its_values_are_proven_or_its_mask_alone(kind, start):
    changes = {"start_from": start, "forget__initialisation": kind}
    found = run("forget_relearn", train__epochs=4, **changes)
    for row in found.interventions:
        unknown = redraw_values(row, found.architecture) is None
        assert is_proven_by_mask_alone(row) is unknown
        assert unknown is (kind == "stable" or (kind == "rewind" and start == "base"))
        assert verify(replace(row, after_digest="0" * 64), found.architecture) is unknown


def tampered(row: Intervention) -> dict[str, Intervention]:
    shape = list(row.details["shape"])
    return {
        "share": detailed(row, share=row.details["share"] + 0.2),
        "no share": detailed(row, share=1.5),
        "mask": detailed(row, mask="bernoulli"),
        "no mask": detailed(row, mask="block"),
        "mask digest": detailed(row, mask_digest="0" * 64),
        "shape": detailed(row, shape=[*shape[:-1], shape[-1] + 1]),
        "transposed": detailed(row, shape=[*shape[:-2], shape[-1], shape[-2] + 1]),
        "initialisation": detailed(row, initialisation="zero"),
        "seed": replace(row, draw_seed=row.draw_seed + 1),
        "count": replace(row, rows=row.rows + 1),
        "digest": replace(row, after_digest=row.before_digest),
        "target": replace(row, target="blocks.9.weight"),
        "kind": replace(row, kind="reset_last_layer"),
    }


@pytest.mark.parametrize("training", ["forget_relearn", "forget_early"])
def test_a_row_that_was_tampered_with_does_not_verify(training):
    rows, architecture = rows_of(training)
    for row in rows:
        believed = [what for what, fake in tampered(row).items() if verify(fake, architecture)]
        assert believed == []


def test_a_sham_row_says_that_nothing_changed_and_cannot_hide_a_change():
    rows, architecture = rows_of("share_zero")
    for row in rows:
        assert row.rows == 0
        assert row.before_digest == row.after_digest
        assert row.before_norm == row.after_norm
        assert not verify(replace(row, after_digest="0" * 64), architecture)


def test_each_forgetting_draws_its_own_mask():
    rows, _ = rows_of("forget_relearn")
    masks = {(row.epoch, row.target): row.details["mask_digest"] for row in rows}
    assert len(set(masks.values())) == len(rows)
    assert len({row.draw_seed for row in rows}) == len({row.epoch for row in rows})
