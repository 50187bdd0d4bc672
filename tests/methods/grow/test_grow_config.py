"""What the parameters of growing refuse, and what they mean."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from tiny_grow import base_config, tiny_config

from relearn.methods.grow.growing import spec_of


def test_parameters_reach_the_library_as_they_are_set():
    depth = {**tiny_config().growth.depth.model_dump(), "layers": {"hidden": 2, "auto": 1, "x": 0}}
    config = tiny_config(
        growth__width__groups={"hidden.*": 3.0}, growth__depth=depth, growth__copies__noise=0.2
    )

    spec = spec_of(config)

    assert (spec.width, dict(spec.groups), spec.noise) == (2.0, {"hidden.*": 3.0}, 0.2)
    places = [(d.place, d.path, d.layers, d.kind) for d in spec.depth]
    assert places == [("append", "hidden", 2, "residual"), ("auto", "", 1, "residual")]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"growth__width__factor": 0.5}, "factor"),
        ({"growth__width__groups": {"hidden": 0.9}}, "groups"),
        ({"growth__width__factor": 1.0}, "width.factor"),
        ({"growth__copies__symmetry": "odd"}, "symmetry"),
        ({"train__epochs": 0}, "train.epochs"),
        ({"teacher__train__epochs": 0}, "teacher.train.epochs"),
        ({"arms__random_layers": True}, "arms.random_layers"),
        (
            {"samples": {"train_images": 9, "validation_images": 0, "test_images": 0}},
            "validation_images",
        ),
        ({"teacher__train__optimizer": "sgd"}, "growth.keep_moments"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(changes, named):
    with pytest.raises(ValidationError) as caught:
        tiny_config(**changes)
    assert named in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"teacher__width": 4}, "teacher.width"),
        ({"growth__keep_moments": True}, "growth.keep_moments"),
        ({"growth__trigger__when": "plateau"}, "growth.trigger.when"),
        (
            {"samples": {"train_images": 9, "validation_images": 9, "test_images": 0}},
            "samples.train_images",
        ),
    ],
)
def test_a_teacher_that_is_given_cannot_be_trained_otherwise(changes, named):
    with pytest.raises(ValidationError) as caught:
        base_config(**changes)
    assert named in str(caught.value)
